"""Flag first, then filter: which records can be trusted?"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from geotree import checks, world
from geotree.occurrences import vocabulary
from geotree.occurrences.auditing import marked
from geotree.occurrences.record_rules import grid_cells
from geotree.occurrences.reference import cell_diagonal, metres_to
from geotree.occurrences.table import leave, validate

UNCERTAINTY = 30.0  # m; more leaves the 50 m patch
DECIMALS = 4  # of a degree, about 11 m
CENTRE = 2_000.0  # m from a country's centre, a capital or a garden
DEFAULTS = (301, 999, 3036, 9999)  # m, written when nothing was measured
# Audit rules about the taxon rather than about a place or a source.
TAXON_RULES = ("higher_rank_key", "unresolved_name", "not_a_plant",
               "herb_or_vine")

# GBIF's own doubts about a place or a name.
ISSUES = ("ZERO_COORDINATE", "COORDINATE_INVALID", "COORDINATE_OUT_OF_RANGE",
          "COUNTRY_COORDINATE_MISMATCH", "PRESUMED_SWAPPED_COORDINATE",
          "TAXON_MATCH_HIGHERRANK", "TAXON_MATCH_FUZZY")
ABROAD = {"establishmentMeans": ("introduced", "managed"),
          "degreeOfEstablishment": ("managed", "unestablished", "established",
                                    "invasive")}
# Neither an observation nor a human one.
SPECIMENS = ("machine observation", "preserved specimen", "fossil specimen",
             "living specimen", "material sample", "material citation",
             "material entity", "literature", "occurrence")
# What records say that were moved or widened on purpose; the second is how
# iNaturalist says it.
BLURRED = "(?i)obscur|generali|uncertainty increased"
INATURALIST = "50c9509d-22c7-4a22-a47d-8c48425ef4a7"  # its datasetKey
# What each flag says; the order is that of removal.
FLAGS: dict[str, str] = {
    "flagZero": "within 0.5° of latitude 0, longitude 0",
    "flagEqual": "latitude equals longitude, up to the sign",
    "flagSea": "over 25 km from land; small islands are not known",
    "flagAbsent": "looked for and not found, says the record",
    "flagIssue": "GBIF doubts the place or the name",
    "flagPrecision": f"both coordinates have under {DECIMALS} decimals",
    "flagObscured": "the place was blurred to protect it",
    "flagUncertainty": f"uncertainty over {UNCERTAINTY:.0f} m, or a default "
                       "value",
    "flagNoUncertainty": "uncertainty unknown",
    "flagCentroid": f"within {CENTRE / 1000:.0f} km of the centre of a "
                    "country; provinces are not known",
    "flagCapital": f"within {CENTRE / 1000:.0f} km of the middle of a capital",
    "flagGarden": f"within {CENTRE / 1000:.0f} km of a botanic garden",
    "flagBasis": "not a human observation",
    "flagTaxon": "the name is wrong or is that of no tree",
    "flagNotTree": "not on the list of trees, or of another growth form",
    "flagAbroad": "introduced or kept by people, says the record",
    "flagMachine": "named by a machine",
    "flagPlanted": "planted",
    "flagStray": "over 1,000 km from all others of its species",
    "flagSharedPoint": "several species at the very same coordinates",
    "flagDuplicate": "not the first of its species in a cell of 10 m",
}
# A column that a rule needs and that not every table has.
NEEDS = {"flagIssue": "issue",
         "flagUncertainty": "coordinateUncertaintyInMeters",
         "flagBasis": "basisOfRecord", "flagNotTree": "growthForm",
         "flagAbroad": "establishmentMeans", "flagMachine": "datasetName",
         "flagPlanted": "datasetName"}
# A column without which a rule sees less, and what it then goes by.
HELPS = {
    "flagObscured": ("informationWithheld",
                     "iNaturalist's large radii"),
    "flagCentroid": ("distanceFromCentroidInMeters", "one centre a country")}
# Rules that :func:`keep` removes by unless told otherwise. Unknown
# uncertainty is left to the caller: the release's tables know none.
REMOVE = ("flagZero", "flagEqual", "flagAbsent", "flagIssue", "flagPrecision",
          "flagObscured", "flagUncertainty", "flagCentroid", "flagBasis",
          "flagTaxon", "flagNotTree", "flagSharedPoint", "flagDuplicate")


def flag(table: pd.DataFrame, *, trees: Iterable[str] | None = None,
         gardens="garden") -> pd.DataFrame:
    """Add one boolean column per quality rule; remove nothing.

    Parameters
    ----------
    table : DataFrame
        Occurrence table. The columns ``basisOfRecord``, ``issue``,
        ``coordinatePrecision``, ``establishmentMeans``,
        ``distanceFromCentroidInMeters`` and ``informationWithheld`` of
        GBIF and a column ``growthForm`` are used where they are present.
    trees : iterable of str, optional
        Species that are trees, such as those of BGCI's GlobalTreeSearch;
        all others are flagged. No such list may be passed on with this
        code.
    gardens : (G, 2) float, optional
        Latitude and longitude of botanic gardens; default: those of the
        reference points.

    Returns
    -------
    DataFrame
        A copy with the columns of ``FLAGS``, True where suspect.
        ``attrs["unchecked"]`` lists the rules whose column of ``NEEDS`` is
        not there; they flag nothing. ``attrs["in part"]`` lists those
        that a column of ``HELPS`` would have told more.

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
    lat, lon = result["decimalLatitude"], result["decimalLongitude"]
    radius = result["coordinateUncertaintyInMeters"]
    columns = {
        "flagZero": marked(result, rules=["zero_coordinates"]),
        "flagEqual": lat.abs() == lon.abs(),
        "flagSea": _is_sea(lat, lon),
        "flagAbsent": _says(result, "occurrenceStatus", ["absent"]),
        "flagIssue": _has_issue(_text(result, "issue")),
        "flagPrecision": (_is_short(lat) & _is_short(lon)
                          | (_number(result, "coordinatePrecision") >= 0.01)),
        "flagObscured": _is_blurred(result),
        "flagUncertainty": (radius > UNCERTAINTY) | radius.isin(DEFAULTS),
        "flagNoUncertainty": radius.isna(),
        "flagCentroid": (
            (_number(result, "distanceFromCentroidInMeters") < CENTRE)
            | (metres_to(result, "country") < CENTRE)),
        "flagCapital": metres_to(result, "capital") < CENTRE,
        "flagGarden": metres_to(result, gardens) < CENTRE,
        "flagBasis": _says(result, "basisOfRecord", SPECIMENS),
        "flagTaxon": marked(result, rules=TAXON_RULES),
        "flagNotTree": (
            ~_text(result, "growthForm").str.lower().isin(("tree", ""))
            | (False if trees is None
               else ~result["species"].isin(set(trees)))),
        "flagAbroad": np.logical_or.reduce([
            _says(result, name, words) for name, words in ABROAD.items()]),
        "flagMachine": marked(result, rules=["machine_identified"]),
        "flagPlanted": marked(result, rules=["planted"]),
        "flagStray": marked(result, rules=["stray_record"]),
        "flagSharedPoint": marked(result, rules=["shared_point"]),
        "flagDuplicate": marked(result, rules=["spatial_duplicate"]),
    }
    result = result.assign(**columns)
    result.attrs["unchecked"] = [
        rule for rule, name in NEEDS.items()
        if (name not in table or (rule == "flagUncertainty"
                                  and radius.isna().all()))
        and not (rule == "flagNotTree" and trees is not None)]
    result.attrs["in part"] = [rule for rule, (name, _) in HELPS.items()
                               if name not in table]
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
    rules = _rules(table, rules)
    bad = table[rules].any(axis=1)
    if bad.all():
        counts = ", ".join(f"{name} {int(table[name].sum())}"
                           for name in rules if table[name].any())
        raise ValueError(
            f"these rules leave none of {len(table)} records ({counts}). "
            "Leave out the rule that flags them all.")
    kept = table
    for name in rules:
        kept = leave(kept, kept[name], FLAGS.get(name, name))
    return kept


def removed(table: pd.DataFrame, *,
            rules: Iterable[str] = REMOVE) -> pd.DataFrame:
    """Count what each rule flags and removes, in the order of the rules.

    Returns
    -------
    DataFrame
        One row per rule: ``rule, meaning, flagged`` (rows with the flag),
        ``removed`` (those not removed by a rule above), ``left``. A rule
        that was not checked says so and counts nothing; one that was
        checked in part says by what.
    """
    rules = _rules(table, rules)
    left = np.ones(len(table), dtype=bool)
    counts = []
    for name in rules:
        meaning = FLAGS.get(name, name)
        if name in table.attrs.get("unchecked", ()):
            counts.append((name, f"not checked, no {NEEDS[name]}: {meaning}",
                           pd.NA, pd.NA, int(left.sum())))
            continue
        if name in table.attrs.get("in part", ()):
            column, by = HELPS[name]
            meaning = f"in part, by {by}, no {column}: {meaning}"
        bad = table[name].to_numpy(dtype=bool)
        gone = int((left & bad).sum())
        left &= ~bad
        counts.append((name, meaning, int(bad.sum()), gone,
                       int(left.sum())))
    return pd.DataFrame(counts, columns=["rule", "meaning", "flagged",
                                         "removed", "left"]).astype(
        {"flagged": "Int64", "removed": "Int64"})


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
    checks.number(metres, name="metres", low=1e-3)
    table = validate(table)
    order = _cells(table, metres).assign(
        id=table["gbifID"], radius=table["coordinateUncertaintyInMeters"]
        ).sort_values(["radius", "id"], na_position="last")
    again = order.duplicated(["species", "row", "column"]).sort_index()
    return leave(table, again, f"another of its species is in the cell of "
                 f"{metres:g} m")


def cap(table: pd.DataFrame, *, per_species: int | None = None,
        per_cell: int | None = None, metres: float = 10_000.0,
        seed: int = 0) -> pd.DataFrame:
    """Keep at most so many records of a species, in all and in a cell.

    Parameters
    ----------
    per_species, per_cell : int, optional
        Which records stay is drawn at random.
    metres : float
        Side of a cell.

    Returns
    -------
    DataFrame
        In the table's order, index 0 … N-1.
    """
    table = validate(table)
    order = np.random.default_rng(seed).permutation(len(table))
    frame = _cells(table, metres).iloc[order]
    for most, names in ((per_cell, ["species", "row", "column"]),
                        (per_species, ["species"])):
        if most is not None:
            frame = frame[frame.groupby(names).cumcount() < most]
    return leave(table, ~table.index.isin(frame.index),
                 "beyond the cap of a species or cell")


def _cells(table: pd.DataFrame, metres: float) -> pd.DataFrame:
    """Species, row and column of the grid of each record."""
    cells = grid_cells(table, metres=metres)
    return pd.DataFrame({"species": table["species"], "row": cells[:, 0],
                         "column": cells[:, 1]})


def _text(table: pd.DataFrame, name: str) -> pd.Series:
    """A column as text, "" where it is missing."""
    if name not in table:
        return pd.Series("", index=table.index, dtype="str")
    return table[name].fillna("").astype("str")


def _says(table: pd.DataFrame, name: str, words) -> np.ndarray:
    """Which rows say one of some words, or what is under it."""
    return (vocabulary.under(table[name], name, words) if name in table
            else np.zeros(len(table), bool))


def _has_issue(text: pd.Series) -> pd.Series:
    known = set(map(vocabulary.plain, ISSUES))
    bad = [one for one in text.unique() if known & set(map(
        vocabulary.plain, re.split("[;,| ]+", one)))]
    return text.isin(bad)


def _number(table: pd.DataFrame, name: str) -> pd.Series:
    return pd.to_numeric(table[name] if name in table else
                         pd.Series(np.nan, index=table.index))


def _is_sea(lat: pd.Series, lon: pd.Series) -> np.ndarray:
    land = np.zeros(len(lat), dtype=bool)
    for north in (-0.25, 0, 0.25):
        for east in (-0.25, 0, 0.25):
            land |= world.is_land(lat=(lat + north).clip(-90, 90),
                                  lon=(lon + east + 180) % 360 - 180)
    return ~land


def _is_blurred(table: pd.DataFrame) -> pd.Series:
    """Said so, or of iNaturalist and as uncertain as what it blurs."""
    theirs = ((_text(table, "datasetKey") == INATURALIST)
              | (_text(table, "institutionCode") == "iNaturalist"))
    least = 0.98 * cell_diagonal(table["decimalLatitude"])
    return (_text(table, "informationWithheld").str.contains(BLURRED)
            | theirs & (table["coordinateUncertaintyInMeters"] >= least))


def _is_short(degrees: pd.Series) -> pd.Series:
    """Fewer than ``DECIMALS`` decimals."""
    return (degrees - degrees.round(DECIMALS - 1)).abs() < 1e-9


def _rules(table: pd.DataFrame, rules: Iterable[str]) -> list[str]:
    rules = list(rules)
    absent = [name for name in rules if name not in table.columns]
    if absent:
        raise ValueError(
            f"table has no column {', '.join(absent)}. Flag it first: "
            "occurrences.flag(table).")
    return rules
