"""Which names and records of an occurrence table deserve no trust?

Each rule is a small function that sees the table alone and yields what it
finds: a species, the rows concerned and the evidence. A rule of severity
``drop`` says that the label is wrong or the row worthless; ``look`` asks a
person to judge. Used in chapter 01.

The audit works offline, so it cannot know what only a name service or a
botanist knows: whether a key of ordinary size belongs to a genus instead of
a species, whether a name is a synonym or a mistake, whether a species that
is on none of the short lists of :mod:`geotree.audit.names` is a tree. A
table without findings is not proven right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from geotree.audit import names, records
from geotree.audit.rows import METRES_PER_DEGREE, Found, grid_cells

__all__ = ["METRES_PER_DEGREE", "RULES", "Rule", "audit", "grid_cells",
           "marked"]


class Rule(NamedTuple):
    """How far a finding goes, and the columns needed to look for it."""

    severity: str  # "drop" or "look"
    find: Callable[[pd.DataFrame], Found]
    needs: tuple[str, ...] = ()


_PLACE = ("decimalLatitude", "decimalLongitude")
_LINEAGE = ("genus", "family")
RULES = {rule.find.__name__: rule for rule in (
    Rule("drop", names.higher_rank_key, ("taxonKey",)),
    Rule("drop", names.unresolved_name),
    Rule("drop", names.not_a_plant, _LINEAGE),
    Rule("drop", names.herb_or_vine, ("family",)),
    Rule("drop", records.zero_coordinates, _PLACE),
    Rule("drop", records.spatial_duplicate, _PLACE),
    Rule("drop", records.shared_point, _PLACE),
    Rule("look", names.low_growth),
    Rule("look", names.leaf_type, (*_LINEAGE, "leafType")),
    Rule("look", names.genus_mismatch, ("genus",)),
    Rule("look", names.lineage_conflict, ("family", "leafType")),
    Rule("look", names.shared_key, ("taxonKey",)),
    Rule("look", names.rounded_key, ("taxonKey",)),
    Rule("look", records.machine_identified, ("datasetName",)),
    Rule("look", records.planted, ("datasetName",)),
    Rule("look", records.wide_range, (*_PLACE, "countryCode")),
    Rule("look", records.stray_record, (*_PLACE, "countryCode", "gbifID")),
)}


def audit(table: pd.DataFrame, *,
          rules: Iterable[str] | None = None) -> pd.DataFrame:
    """List what is suspect in an occurrence table.

    Parameters
    ----------
    table : DataFrame
        Occurrence table; not modified.
    rules : iterable of str, optional
        Names from ``RULES``; default all.

    Returns
    -------
    DataFrame
        One row per finding: ``rule, species, rows`` (how many are
        concerned), ``evidence, severity`` (``drop`` or ``look``), in the
        order of the rules, the most rows first. ``attrs["skipped"]`` names
        the rules whose columns the table lacks.

    Raises
    ------
    ValueError
        An unknown rule, an empty table, or one without species.
    """
    chosen, skipped = _choose(table, rules)
    found = [
        (name, species, len(rows), evidence, rule.severity)
        for name, rule in chosen.items()
        for species, rows, evidence in sorted(
            rule.find(table), key=lambda one: (-len(one[1]), one[0]))]
    result = pd.DataFrame(found, columns=["rule", "species", "rows",
                                          "evidence", "severity"])
    result.attrs = {"skipped": skipped}
    return result.astype({"rows": np.int64})


def marked(table: pd.DataFrame, *, rules: Iterable[str]) -> np.ndarray:
    """Mark the rows that any of some rules finds.

    Returns
    -------
    (N,) bool
        Rules whose columns the table lacks mark nothing.
    """
    mask = np.zeros(len(table), dtype=bool)
    for rule in _choose(table, rules)[0].values():
        for _, rows, _ in rule.find(table):
            mask[rows] = True
    return mask


def _choose(table, rules):
    wanted = list(RULES) if rules is None else list(rules)
    unknown = [name for name in wanted if name not in RULES]
    if unknown:
        raise ValueError(f"no audit rule {', '.join(unknown)}; there are "
                         f"{', '.join(RULES)}.")
    if table.empty:
        raise ValueError("table is empty: nothing to audit.")
    if "species" not in table:
        raise ValueError(
            "table has no column species. Read the release's tables with "
            "occurrences.read_release.")
    lacking = [name for name in wanted
               if not set(RULES[name].needs) <= set(table.columns)]
    return ({name: RULES[name] for name in wanted if name not in lacking},
            lacking)
