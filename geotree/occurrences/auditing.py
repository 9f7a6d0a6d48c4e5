"""Which names and records of an occurrence table deserve no trust?

Each rule is a small function that sees the table alone and marks what it
finds. A rule of severity ``drop`` says that the label is wrong or the row
worthless; ``look`` asks a person to judge. Used in chapter 01.

The audit works offline, so it cannot know what only a name service or a
botanist knows: whether a key of ordinary size belongs to a genus instead of
a species, whether a name is a synonym or a mistake. Whether a species is a
tree it knows from short lists only; give it a list of all trees, such as
BGCI's GlobalTreeSearch. A table without findings is not proven right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from geotree import checks
from geotree.occurrences import record_rules as records
from geotree.occurrences import taxon_rules as taxa
from geotree.occurrences.columns import plain


class Rule(NamedTuple):
    """How far a finding goes, and the columns needed to look for it."""

    severity: str  # "drop" or "look"
    find: taxa.Find
    needs: tuple[str, ...] = ()
    of_taxa: bool = True  # sees each taxon once, or each record


_PLACE = ("decimalLatitude", "decimalLongitude")
_LINEAGE = ("genus", "family")
RULES = {rule.find.__name__: rule for rule in (
    Rule("drop", taxa.higher_rank_key, ("taxonKey",)),
    Rule("drop", taxa.unresolved_name),
    Rule("drop", taxa.not_a_plant, _LINEAGE),
    Rule("drop", taxa.herb_or_vine, ("family",)),
    Rule("drop", records.zero_coordinates, _PLACE, False),
    Rule("drop", records.spatial_duplicate, _PLACE, False),
    Rule("drop", records.shared_point, _PLACE, False),
    Rule("look", taxa.low_growth),
    Rule("look", taxa.leaf_type, (*_LINEAGE, "leafType")),
    Rule("look", taxa.genus_mismatch, ("genus",)),
    Rule("look", taxa.lineage_conflict, ("family", "leafType")),
    Rule("look", taxa.shared_key, ("taxonKey",)),
    Rule("look", taxa.rounded_key, ("taxonKey",)),
    Rule("look", records.machine_identified, ("datasetName",), False),
    Rule("look", records.planted, ("datasetName",), False),
    Rule("look", records.wide_range, (*_PLACE, "countryCode"), False),
    Rule("look", records.stray_record, (*_PLACE, "countryCode", "gbifID"),
         False),
)}


def audit(table: pd.DataFrame, *,
          rules: Iterable[str] | None = None) -> pd.DataFrame:
    """List what is suspect in an occurrence table.

    Parameters
    ----------
    table : DataFrame
        Occurrence table; not modified.
    rules : iterable of str, optional
        Names from ``AUDIT``; default all.

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
    table, chosen, skipped = _choose(table, rules)
    each, _ = _taxa(table)
    found = []
    for name, rule in chosen.items():
        frame = each if rule.of_taxa else table
        mask, tell = rule.find(frame)
        for species, rows in by_species(frame, mask):
            size = each["rows"].iloc[rows].sum() if rule.of_taxa else len(rows)
            found.append((name, species, size, tell(rows), rule.severity))
    result = pd.DataFrame(found, columns=["rule", "species", "rows",
                                          "evidence", "severity"])
    order = result["rule"].map(list(chosen).index)
    result = result.assign(order=order).sort_values(
        ["order", "rows", "species"], ascending=[True, False, True],
        ignore_index=True).drop(columns="order")
    result.attrs = {"skipped": skipped}
    return result.astype({"rows": np.int64})


def marked(table: pd.DataFrame, *, rules: Iterable[str]) -> np.ndarray:
    """Mark the rows that any of some rules finds.

    Returns
    -------
    (N,) bool
        Rules whose columns the table lacks mark nothing.
    """
    table, chosen, _ = _choose(table, rules)
    mask = np.zeros(len(table), dtype=bool)
    each, of = _taxa(table)
    for rule in chosen.values():
        if rule.of_taxa:
            mask |= np.asarray(rule.find(each)[0])[of]
        else:
            mask |= np.asarray(rule.find(table)[0])
    return mask


def by_species(table: pd.DataFrame, mask
               ) -> Iterator[tuple[str, np.ndarray]]:
    """Positions of the marked rows, one species at a time."""
    rows = np.flatnonzero(np.asarray(mask))
    codes, names = pd.factorize(table["species"].iloc[rows], sort=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(names) + 1))
    for number, name in enumerate(names):
        yield name, rows[order[starts[number]:starts[number + 1]]]


def _taxa(table: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Each combination of names once, and that of each record, (N,) int."""
    columns = [name for name in ("species", *_LINEAGE, "leafType", "taxonKey")
               if name in table]
    of = table.groupby(columns, sort=False, dropna=False, observed=True
                       ).ngroup().to_numpy()
    _, first = np.unique(of, return_index=True)
    each = table[columns].iloc[first].reset_index(drop=True)
    each["rows"] = np.bincount(of)
    return each, of


def _choose(table, rules):
    wanted = list(RULES) if rules is None else list(rules)
    unknown = [name for name in wanted if name not in RULES]
    if unknown:
        raise ValueError(f"no audit rule {', '.join(unknown)}; there are "
                         f"{', '.join(RULES)}.")
    if "species" not in table:
        raise ValueError(
            "table has no column species. Read the release's tables with "
            "occurrences.read_release.")
    if table.empty:
        raise ValueError("table is empty: nothing to audit.")
    lacking = [name for name in wanted
               if not set(RULES[name].needs) <= set(table.columns)]
    checks.columns(table, ["species"])
    chosen = {name: RULES[name] for name in wanted if name not in lacking}
    return plain(table), chosen, lacking
