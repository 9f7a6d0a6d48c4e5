"""Which names and records of an occurrence table deserve no trust?

Each rule is a small function that sees the table alone and marks what it
finds. A rule of severity ``drop`` says that the label is wrong or the row
worthless; ``look`` asks a person to judge. Used in chapter 01.

The audit works offline, so it cannot know what only a name service or a
botanist knows: whether a key of ordinary size belongs to a genus instead of
a species, whether a name is a synonym or a mistake. Whether a species is a
tree a list of yours says first; the short lists that come along know common
cases only. A table without findings is not proven right.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from geotree import checks, globe
from geotree.occurrences import names, record_rules, rules as taxon_rules
from geotree.occurrences.columns import PLACE, column, simple
from geotree.occurrences.record_rules import by_species
from geotree.variables import NODATA


class Rule(NamedTuple):
    """How far a finding goes, and the columns needed to look for it."""

    severity: str  # "drop" or "look"
    find: Callable
    of_taxa: bool  # sees each taxon once, or each record
    needs: list[str]


_ROOMS = {"taxa": taxon_rules, "records": record_rules}
RULES = {name: Rule(severity, getattr(_ROOMS[of], name), of == "taxa", needs)
         for name, (severity, of, *needs) in taxon_rules.LISTS[
             "rules"].items()}
_NUMBERS = ("taxonKey", *PLACE)
_TEXT = ("species", "genus", "family", "leafType", "datasetName")
_NEAR = 0.1  # km, between a record and its pixels
_LISTED = ("listed", "why", "kin")  # what a list of trees tells of a taxon


def audit(table: pd.DataFrame, *, rules: Iterable[str] | None = None,
          trees=None, pixels=None) -> pd.DataFrame:
    """List what is suspect in an occurrence table.

    Parameters
    ----------
    table : DataFrame
        Occurrence table; not modified.
    rules : iterable of str, optional
        Names from ``AUDIT``; default all.
    trees : path, DataFrame or iterable of str, optional
        List of trees, as :func:`geotree.occurrences.read_trees` takes it.
        What it knows as a tree, no other rule calls a herb. No such list
        may be passed on with this code.
    pixels : cube, or array of N rows, optional
        Pixels of the table's records: from ``pixels.open``, or row for row.

    Returns
    -------
    DataFrame
        One row per finding: ``rule, species, rows`` (how many are
        concerned), ``evidence, severity`` (``drop`` or ``look``), in the
        order of the rules, the most rows first. ``attrs["skipped"]`` names
        the rules for which the table lacks columns, or you a list or
        pixels. ``attrs["measured"]`` holds, by rule, how often those that
        know no tree by its kin are right (``precision``) and how many they
        find (``recall``), measured on your list, each name left out.

    Raises
    ------
    ValueError
        An unknown rule, an empty table, or one without species.
    """
    if trees is not None:
        trees = names.read_trees(trees)
    table, chosen, skipped = _choose(table, rules, trees, pixels)
    each, _ = _taxa(table, trees)
    found = []
    for name, rule in chosen.items():
        frame = each if rule.of_taxa else table
        mask, tell = rule.find(frame)
        sizes = frame["rows"] if rule.of_taxa else pd.Series(1, frame.index)
        found += sorted(
            ((name, species, sizes.iloc[rows].sum(), tell(rows),
              rule.severity) for species, rows in by_species(frame, mask)),
            key=lambda one: (-one[2], one[1]))
    result = pd.DataFrame(found, columns=[
        "rule", "species", "rows", "evidence", "severity"]).astype(
        {"rows": np.int64})
    result.attrs = {"skipped": skipped,
                    "measured": {} if trees is None else _measured(trees)}
    return result


def marked(table: pd.DataFrame, *, rules: Iterable[str],
           trees=None) -> np.ndarray:
    """Mark the rows that any of some rules finds.

    Returns
    -------
    (N,) bool
        Rules whose columns the table lacks mark nothing.
    """
    table, chosen, _ = _choose(table, rules, trees)
    each, of = _taxa(table, trees)
    mask = np.zeros(len(table), dtype=bool)
    for rule in chosen.values():
        found = np.asarray(rule.find(each if rule.of_taxa else table)[0])
        mask |= found[of] if rule.of_taxa else found
    return mask


def _measured(trees: pd.DataFrame) -> dict:
    """Precision and recall of the rules that judge by genus and family."""
    if trees["tree"].all():  # of a list of trees alone nothing can be learnt
        return {}
    taxon = trees.reset_index()
    unseen = taxon[["species", "genus", "family"]].assign(
        listed=None, why="", kin=names.kin(trees, taxon))
    return measured(trees, {
        name: RULES[name].find(unseen)[0]
        for name in ("no_tree_by_kin", "herb_or_vine", "low_growth")
    }).to_dict("index")


def measured(known: pd.DataFrame, rules: dict) -> pd.DataFrame:
    """How well rules find what the list knows to be no tree.

    Parameters
    ----------
    known : DataFrame
        From :func:`read_trees`.
    rules : dict of (M,) bool
        What each rule says of the names of the list, by its name.

    Returns
    -------
    DataFrame
        By rule: ``accused``, ``right``, ``no tree``, ``precision`` (of
        those that it accuses, the share that is no tree) and ``recall`` (of
        those that are no tree, the share that it accuses).
    """
    bad = ~known["tree"].to_numpy(bool)
    found = pd.DataFrame({name: {
        "accused": accused.sum(), "right": (accused & bad).sum(),
        "no tree": bad.sum()} for name, accused in rules.items()}).T
    return found.assign(precision=found["right"] / found["accused"],
                        recall=found["right"] / found["no tree"])


def _taxa(table: pd.DataFrame, trees) -> tuple[pd.DataFrame, np.ndarray]:
    """Each combination of names once, and that of each record, (N,) int."""
    columns = [name for name in ("species", "genus", "family", "leafType",
                                 "taxonKey") if name in table]
    of = table.groupby(columns, sort=False, dropna=False, observed=True
                       ).ngroup().to_numpy()
    _, first = np.unique(of, return_index=True)
    each = table[columns].iloc[first].reset_index(drop=True)
    each["rows"] = np.bincount(of)
    return each if trees is None else each.join(names.judge_trees(
        each, trees)), of


def _hashes(pixels, table: pd.DataFrame) -> pd.Series:
    """What stands for the pixels of each row; none where none is clear."""
    cube = "reflectance" in getattr(pixels, "data_vars", ())
    images = pixels["reflectance"] if cube else pixels
    if not getattr(images, "shape", ())[1:]:
        raise ValueError(f"pixels is {checks.shown(pixels)}, expected "
                         "pixels.open(…), or an array, a row each record.")
    found = []
    for start in range(0, len(images), 256):
        for one in np.asarray(images[start:start + 256]):
            blank = ((one == NODATA) | (one != one)).all()
            found.append(None if blank else hashlib.sha256(
                one.tobytes()).hexdigest())
    found = pd.Series(found, dtype=object)
    if cube:
        found.index = pixels["sample"].to_numpy()
        at = found.index.get_indexer(table["gbifID"])
        away = at < 0
        if {*PLACE} <= {*table}:
            km = globe.distance_km(*(table[one] for one in PLACE), *(
                pixels[one].to_numpy()[at] for one in (
                    "latitude", "longitude")))
            away |= km > _NEAR
        if away.all() or (away & (at >= 0)).any():
            raise ValueError(
                f"the pixels are of other places: of {len(at)} records, "
                f"{(at >= 0).sum()} are in the cube by their gbifID, and "
                f"{(~away).sum()} by their place, too. Give the cube that "
                "was fetched for this table.")
        return found.reindex(table["gbifID"])
    checks.rows(pixels=found, records=table)
    return found


def _choose(table, rules, trees=None, pixels=None):
    wanted = list(RULES if rules is None else rules)
    unknown = [name for name in wanted if name not in RULES]
    if unknown:
        raise ValueError(f"no audit rule {', '.join(unknown)}; there are "
                         f"{', '.join(RULES)}.")
    where = "table"
    if "level3_species" in getattr(table, "columns", ()):
        where = "table of the release (read it with read_release)"
    checks.columns(table, ["species"], where=where)
    if table.empty:
        raise ValueError("table is empty: nothing to audit.")
    table = simple(table)
    for name in table.columns.intersection(_NUMBERS):
        table[name] = column(table, name, {})
    for name in table.columns.intersection(_TEXT):
        table[name] = table[name].astype("str")
    if pixels is not None:
        table["pixels"] = _hashes(pixels, table).to_numpy()
    have = {*table.columns, *(_LISTED if trees is not None else ())}
    lacking = [name for name in wanted if not have >= {*RULES[name].needs}]
    return table, {name: RULES[name] for name in wanted
                   if name not in lacking}, lacking
