"""Flag first, then filter: which records can be trusted?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from geotree.audit import grid_cells, marked
from geotree.occurrences.table import validate

UNCERTAINTY = 30.0  # m; more leaves the 50 m patch
DECIMALS = 4  # of a degree, about 11 m
CENTROID = 2_000.0  # m from the centre of a country or province
DEFAULTS = (301, 999, 3036, 9999)  # m, written when nothing was measured
# Audit rules about the taxon rather than about a place or a source.
TAXON_RULES = ("higher_rank_key", "unresolved_name", "not_a_plant",
               "herb_or_vine")

# What each flag says; the order is that of removal.
FLAGS: dict[str, str] = {
    "flagZero": "within 0.5° of latitude 0, longitude 0",
    "flagEqual": "latitude equals longitude, up to the sign",
    "flagPrecision": f"both coordinates have under {DECIMALS} decimals",
    "flagUncertainty": f"uncertainty over {UNCERTAINTY:.0f} m, or a default "
                       "value",
    "flagNoUncertainty": "uncertainty unknown",
    "flagCentroid": f"within {CENTROID / 1000:.0f} km of the centre of a "
                    "country or province",
    "flagBasis": "not a human observation",
    "flagTaxon": "the name is wrong or is that of no tree",
    "flagMachine": "named by a machine",
    "flagPlanted": "planted",
    "flagStray": "over 1,000 km from all others of its species",
    "flagSharedPoint": "several species at the very same coordinates",
    "flagDuplicate": "not the first of its species in a cell of 10 m",
}
# Rules that :func:`keep` removes by unless told otherwise. Unknown
# uncertainty is left to the caller: the release's tables know none.
REMOVE = ("flagZero", "flagEqual", "flagPrecision", "flagUncertainty",
          "flagCentroid", "flagBasis", "flagTaxon", "flagSharedPoint",
          "flagDuplicate")


def flag(table: pd.DataFrame) -> pd.DataFrame:
    """Add one boolean column per quality rule; remove nothing.

    Parameters
    ----------
    table : DataFrame
        Occurrence table. The columns ``basisOfRecord`` and
        ``distanceFromCentroidInMeters`` of GBIF downloads are used where
        they are present.

    Returns
    -------
    DataFrame
        A copy with the columns of ``FLAGS``, True where suspect.

    Notes
    -----
    The rules follow GBIF's filtering guide and CoordinateCleaner (Zizka et
    al., Methods in Ecology and Evolution 10, 2019), made stricter where a
    patch of 50 m asks for it. A coordinate such as 12.3400 looks shorter
    than it was written, so both have to be short to be flagged.
    """
    result = validate(table)
    lat, lon = result["decimalLatitude"], result["decimalLongitude"]
    radius = result["coordinateUncertaintyInMeters"]
    columns = {
        "flagZero": marked(result, rules=["zero_coordinates"]),
        "flagEqual": lat.abs() == lon.abs(),
        "flagPrecision": _is_short(lat) & _is_short(lon),
        "flagUncertainty": (radius > UNCERTAINTY) | radius.isin(DEFAULTS),
        "flagNoUncertainty": radius.isna(),
        "flagCentroid": (
            result["distanceFromCentroidInMeters"] < CENTROID
            if "distanceFromCentroidInMeters" in result else False),
        "flagBasis": (
            ~result["basisOfRecord"].isin(
                ("HUMAN_OBSERVATION", "OBSERVATION"))
            if "basisOfRecord" in result else False),
        "flagTaxon": marked(result, rules=TAXON_RULES),
        "flagMachine": marked(result, rules=["machine_identified"]),
        "flagPlanted": marked(result, rules=["planted"]),
        "flagStray": marked(result, rules=["stray_record"]),
        "flagSharedPoint": marked(result, rules=["shared_point"]),
        "flagDuplicate": marked(result, rules=["spatial_duplicate"]),
    }
    return result.assign(**columns)


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
        Index 0 … N-1, flags and ``attrs`` kept.

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
    return table[~bad].reset_index(drop=True)


def removed(table: pd.DataFrame, *,
            rules: Iterable[str] = REMOVE) -> pd.DataFrame:
    """Count what each rule flags and removes, in the order of the rules.

    Returns
    -------
    DataFrame
        One row per rule: ``rule, meaning, flagged`` (rows with the flag),
        ``removed`` (those not removed by a rule above), ``left``.
    """
    rules = _rules(table, rules)
    left = np.ones(len(table), dtype=bool)
    counts = []
    for name in rules:
        bad = table[name].to_numpy(dtype=bool)
        gone = int((left & bad).sum())
        left &= ~bad
        counts.append((name, FLAGS.get(name, name), int(bad.sum()), gone,
                       int(left.sum())))
    return pd.DataFrame(counts, columns=["rule", "meaning", "flagged",
                                         "removed", "left"])


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
    """
    if not metres > 0:
        raise ValueError(f"metres is {metres}, expected more than 0.")
    cells = grid_cells(lat=table["decimalLatitude"],
                       lon=table["decimalLongitude"], metres=metres)
    order = pd.DataFrame({
        "species": table["species"].to_numpy(), "row": cells[:, 0],
        "column": cells[:, 1], "id": table["gbifID"].to_numpy(),
        "radius": table["coordinateUncertaintyInMeters"].to_numpy(),
    }).sort_values(["radius", "id"], na_position="last")
    first = ~order.duplicated(["species", "row", "column"])
    return table.iloc[np.sort(order.index[first])].reset_index(drop=True)


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
