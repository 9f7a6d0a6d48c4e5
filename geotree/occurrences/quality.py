"""Flag first, then filter: which records can be trusted?

What each flag says, needs and goes by is in ``geotree/data/flags.json``, in
the order of removal.
"""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from geotree import checks, globe
from geotree.data import load
from geotree.occurrences import columns, names
from geotree.occurrences.auditing import marked
from geotree.occurrences.columns import PLACE
from geotree.occurrences.table import leave, validate
from geotree.sources.grid import tiles

DECIMALS = 4  # of a degree, about 11 m
# What records say that were moved or widened on purpose.
BLURRED = "(?i)obscur|generali|uncertainty increased"
_RULES = load("flags.json")
FLAGS = {name: rule["meaning"] for name, rule in _RULES.items()}
# Rules that :func:`keep` removes by unless told otherwise. Unknown
# uncertainty is left to the caller: the release's tables know none.
REMOVE = tuple(name for name, rule in _RULES.items() if "remove" in rule)


def flag(table: pd.DataFrame, *, trees=None) -> pd.DataFrame:
    """Add one boolean column per quality rule; remove nothing.

    Parameters
    ----------
    table : DataFrame
        Occurrence table. The columns ``basisOfRecord``, ``issue``,
        ``coordinatePrecision``, ``establishmentMeans``,
        ``distanceFromCentroidInMeters`` and ``informationWithheld`` of
        GBIF and a column ``growthForm`` are used where they are present.
    trees : optional
        List of trees as :func:`geotree.occurrences.audit` takes it.

    Returns
    -------
    DataFrame
        A copy with the columns of ``FLAGS``, True where suspect.
        ``attrs["unchecked"]`` lists the rules whose column is not there;
        they flag nothing.

    Notes
    -----
    The rules follow GBIF's filtering guide and CoordinateCleaner (Zizka et
    al., Methods in Ecology and Evolution 10, 2019), made stricter where a
    patch of 50 m asks for it. A coordinate such as 12.3400 looks shorter
    than it was written, so both have to be short to be flagged. Trees of a
    capital are real, so ``REMOVE`` lets them be. In a country of a few km²
    the centre is near everything: leave out ``flagCentroid`` there.
    """
    result = validate(table)
    trees = None if trees is None else names.read_trees(trees)
    found = {name: _told(result, rule, trees) for name, rule in _RULES.items()}
    lat, lon = (result[name] for name in PLACE)
    radius = result["coordinateUncertaintyInMeters"]
    found["flagAbsent"] |= columns.absent(result).any(axis=1)
    found["flagEqual"] |= lat.abs() == lon.abs()
    found["flagSea"] |= (globe.country_code(
        lat=lat, lon=lon, coast=True) == "")
    found["flagPrecision"] |= _is_short(lat) & _is_short(lon)
    found["flagObscured"] |= _text(
        result, "informationWithheld").str.contains(BLURRED)
    found["flagNoUncertainty"] |= radius.isna()
    form = _text(result, "growthForm")
    found["flagNotTree"] |= ~form.str.contains(names.TREE) & (form != "")
    result = result.assign(**found)
    result.attrs["unchecked"] = [
        name for name, rule in _RULES.items() if "needs" in rule
        and (rule["needs"] not in table or (name == "flagUncertainty"
                                            and radius.isna().all()))
        and not (name == "flagNotTree" and trees is not None)]
    return result


def keep(table: pd.DataFrame, *,
         rules: Iterable[str] = REMOVE) -> pd.DataFrame:
    """Keep the rows that none of the given rules has flagged.

    Parameters
    ----------
    table : DataFrame
        From :func:`flag`.
    rules : iterable of str
        Names of flag columns, your own included.

    Returns
    -------
    DataFrame
        Index 0 … N-1, flags and ``attrs`` kept; ``attrs["left out"]`` says
        how many rows each rule removed.

    Raises
    ------
    ValueError
        A flag is missing, or nothing would be left.
    """
    rules = _chosen(table, rules)
    if table[rules].any(axis=1).all():
        counts = ", ".join(f"{name} {int(table[name].sum())}"
                           for name in rules if table[name].any())
        raise ValueError(
            f"these rules leave none of {len(table)} records ({counts}). "
            "Leave out the rule that flags them all.")
    for name in rules:
        table = leave(table, table[name], FLAGS.get(name, name))
    return table


def removed(table: pd.DataFrame, *,
            rules: Iterable[str] = REMOVE) -> pd.DataFrame:
    """Count what each rule flags and removes, in the order of the rules.

    Returns
    -------
    DataFrame
        One row per rule: ``rule, meaning, flagged`` (rows with the flag),
        ``removed`` (those not removed by a rule above), ``left``. A rule
        that was not checked says so and counts nothing.
    """
    rules = _chosen(table, rules)
    left, counts = np.ones(len(table), dtype=bool), []
    for name in rules:
        rule, meaning = _RULES.get(name, {}), FLAGS.get(name, name)
        bad = table[name].to_numpy(dtype=bool)
        told = int(bad.sum()), int((left & bad).sum())
        if name in table.attrs.get("unchecked", ()):
            meaning = f"not checked, no {rule['needs']}: {meaning}"
            told = pd.NA, pd.NA
        left &= ~bad
        counts.append((name, meaning, *told, int(left.sum())))
    return pd.DataFrame(counts, columns=["rule", "meaning", "flagged",
                                         "removed", "left"]).astype(
        {"flagged": "Int64", "removed": "Int64"})


def _told(table: pd.DataFrame, rule: dict, trees) -> np.ndarray:
    """What a rule's words, numbers, places and audit rules mark: (N,)."""
    bad = marked(table, rules=rule.get("audit", ()), trees=trees)
    for name, words in rule.get("says", {}).items():
        if name in table:
            bad |= names.under(table[name], name, words)
    for name, words in rule.get("lists", {}).items():
        known = set(map(names.as_word, words))
        text = _text(table, name)
        bad |= text.isin([one for one in text.unique() if known & set(
            map(names.as_word, re.split("[;,|\t]+", one)
                + re.split("[;,|\\s]+", one)))]).to_numpy()
    for name, (low, high) in rule.get("outside", {}).items():
        if name in table:
            values = columns.column(table, name, {})
            bad |= ((values < low) | (values > high)).to_numpy()
    for name, some in rule.get("among", {}).items():
        if name in table:
            bad |= table[name].isin(some).to_numpy()
    for kind, metres in rule.get("near", {}).items():
        bad |= _metres_to(table, kind) < metres
    return bad


def _metres_to(table: pd.DataFrame, kind: str) -> np.ndarray:
    """Distance (m) of N records from the nearest stand-in of a kind: (N,).

    Centres of countries, capitals and gardens stand in for places that
    nobody noted; ``geotree/data/README.md`` says whose they are.
    """
    points = load("reference_points.csv")
    points = points[points["kind"] == kind].rename(columns={
        "latitude": PLACE[0], "longitude": PLACE[1]})
    return 1000 * globe.nearest_km(table, points)


def _text(table: pd.DataFrame, name: str) -> pd.Series:
    """A column as text, "" where it is missing."""
    if name not in table:
        return pd.Series("", index=table.index, dtype="str")
    return table[name].fillna("").astype("str")


def _is_short(degrees: pd.Series) -> pd.Series:
    """Fewer than ``DECIMALS`` decimals."""
    return (degrees - degrees.round(DECIMALS - 1)).abs() < 1e-9


def _chosen(table: pd.DataFrame, rules: Iterable[str]) -> list[str]:
    rules = [rules] if isinstance(rules, str) else list(rules)
    absent = [name for name in rules if name not in checks.columns(table, [])]
    if absent:
        raise ValueError(
            f"table has no column {', '.join(absent)}. Flag it first: "
            "occurrences.flag(table).")
    odd = [name for name in rules if table[name].dtype != bool]
    if odd:
        raise ValueError(f"{', '.join(odd)}: expected True or False in each "
                         "row, of numpy's bool.")
    return rules


# Order and density ----------------------------------------------------------


def by_tile(table: pd.DataFrame) -> pd.DataFrame:
    """Put the records of a Sentinel-2 tile together, index 0 … N-1.

    Sources of real pixels serve neighbours with one request.
    """
    lat, lon = globe.places_of(checks.columns(table, ["gbifID"]))
    tile = tiles(lat=lat, lon=lon)
    # Codes sort many times faster than text.
    order = np.lexsort((table["gbifID"], pd.factorize(tile, sort=True)[0]))
    result = table.iloc[order].reset_index(drop=True)
    result.attrs = dict(table.attrs)
    return result


def thin(table: pd.DataFrame, *, metres: float = 100.0) -> pd.DataFrame:
    """Keep one record per species and grid cell: the best located.

    Parameters
    ----------
    table : DataFrame
        Occurrence table.
    metres : float
        Side of a cell. Records on either side of a border may be nearer to
        each other than this.

    Returns
    -------
    DataFrame
        In the table's order, index 0 … N-1. Of several records the one of
        the smallest known uncertainty stays, then of the smallest gbifID.
        ``attrs["left out"]`` counts the others.
    """
    table = validate(table)
    order = pd.DataFrame(globe.cells(table, metres=metres)).assign(
        species=table["species"], id=table["gbifID"],
        radius=table["coordinateUncertaintyInMeters"]).sort_values(
        ["radius", "id"], na_position="last")
    again = order.duplicated(["species", 0, 1]).sort_index()
    return leave(table, again, f"another of its species is in the cell of "
                 f"{metres:g} m")
