"""Rules of the audit on single records: where they lie, who named them."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from geotree import globe
from geotree.checks import few
from geotree.occurrences.columns import PLACE

PIXEL = 10.0  # m; two records of a species in one such cell are duplicates
WIDE = 10_000.0  # km, a quarter of the way round the Earth
ALONE = 1_000.0  # km to the next record of the species
BLANK = 0.5  # ° around latitude 0, longitude 0
MACHINE = (r"(?i)automatically identified|machine[- ]identified|"
           r"image recognition|computer vision")
PLANTED = (r"(?i)\bplantad[oa]s\b|tree planting|\bplantations?\b|"
           r"arboret|botanic(?:al)? garden|jard[ií]n bot[aá]nico")


def machine_identified(table: pd.DataFrame):
    """The source names its pictures by machine; nobody has looked."""
    return _by_source(table, MACHINE)


def planted(table: pd.DataFrame):
    """The source records planted trees: saplings, or far from their home."""
    return _by_source(table, PLANTED)


def zero_coordinates(table: pd.DataFrame):
    """Within half a degree of latitude 0, longitude 0: a blank cell.

    The other rules on places leave these rows out.
    """
    return _from_zero(table) < BLANK, lambda rows: "at latitude 0, longitude 0"


def spatial_duplicate(table: pd.DataFrame):
    """A record of the species lies in the same cell of 10 m already."""
    cells = globe.cells(table, metres=PIXEL)
    again = pd.DataFrame(cells).assign(
        species=_codes(table["species"])).duplicated().to_numpy()
    return again & _is_placed(table), lambda rows: (
        f"{len(rows)} rows repeat a cell of {PIXEL:.0f} m that has a record")


def shared_point(table: pd.DataFrame):
    """Several species at the very same coordinates.

    It is the centre of a plot, a town or a grid cell.
    """
    point = _codes(table[PLACE[0]] + 1j * table[PLACE[1]])
    return _is_mixed(table, point) & _is_placed(table), lambda rows: (
        f"{len(rows)} rows share their coordinates with other species")


def equal_pixels(table: pd.DataFrame):
    """Pixels that are equal to the last bit, under several species.

    No two places look alike in every band and month: one patch was given
    two names.
    """
    same = _codes(table["pixels"])
    return _is_mixed(table, same) & table["pixels"].notna().to_numpy(), (
        lambda rows: f"{len(rows)} rows have the very pixels of another "
        "species")


def wide_range(table: pd.DataFrame):
    """One pair of records in twenty lies over 10,000 km apart.

    Three kinds of species do: those planted or naturalised abroad, weeds,
    and several species under one name. Only the last is wrong.
    """
    points, spans = globe.vectors_of(table), np.zeros(len(table))
    for _, rows in by_species(table, _is_placed(table)):
        if len(rows) < 10:
            continue
        some = points[rows[np.linspace(0, len(rows) - 1, min(
            len(rows), 200), dtype=int)]]  # (S, 3)
        cosine = (some @ some.T)[np.triu_indices(len(some), 1)]
        low = np.quantile(cosine, 0.05).clip(-1, 1)
        spans[rows] = globe.EARTH * np.arccos(low)  # km
    return spans > WIDE, lambda rows: (
        f"one pair of records in twenty is over {spans[rows[0]]:,.0f} km "
        f"apart; countries: {table['countryCode'].iloc[rows].nunique()}")


def stray_record(table: pd.DataFrame):
    """A record far from all others of a species that has seven or more.

    Far is more than 1,000 km and ten times the gap that three in four of
    the records keep. Two strays near each other hide each other.
    """
    from scipy.spatial import cKDTree

    rows = np.flatnonzero(_is_placed(table))
    species = pd.Series(_codes(table["species"].iloc[rows]))
    # No chord is longer than 2: another species is never the nearest.
    points = np.column_stack([globe.vectors_of(table)[rows], 4.0 * species])
    away = pd.Series(globe.arc_km(cKDTree(points).query(points, k=2)[0][:, 1])
                     if len(rows) else [], dtype=float)
    some = away.groupby(species)
    usual = some.quantile(0.75, interpolation="lower").reindex(species)
    far = (some.transform("size") >= 7) & (away > np.maximum(
        ALONE, 10 * usual.to_numpy()))
    wrong, gap = np.zeros(len(table), bool), np.zeros(len(table))
    wrong[rows], gap[rows] = far, away

    def tell(rows):
        worst = rows[gap[rows].argmax()]
        where = table.iloc[worst]
        return (f"gbifID {where['gbifID']} in {where['countryCode']} is "
                f"{gap[worst]:,.0f} km from the next record")

    return wrong, tell


def by_species(table: pd.DataFrame, mask) -> Iterator[tuple[str, np.ndarray]]:
    """Positions of the marked rows, one species at a time."""
    rows = np.flatnonzero(np.asarray(mask))
    for name, at in table["species"].iloc[rows].groupby(
            table["species"].iloc[rows].to_numpy()).indices.items():
        yield name, rows[at]


def _is_mixed(table, code) -> np.ndarray:
    """Which rows share their code with another species: (N,) bool."""
    species = _codes(table["species"])
    order = np.lexsort((species, code))
    first = np.r_[True, np.diff(code[order]) != 0]  # of a code
    other = np.r_[False, np.diff(species[order]) != 0] & ~first
    mixed = np.zeros(code.max() + 1, bool)
    mixed[code[order][other]] = True
    return mixed[code]


def _codes(column) -> np.ndarray:
    """Equal numbers for equal values: (N,) int64."""
    return pd.factorize(column, use_na_sentinel=False)[0].astype(np.int64)


def _by_source(table, pattern):
    source = table["datasetName"]
    known = pd.Series(source.dropna().unique(), dtype="str")
    theirs = source.isin(known[known.str.contains(pattern)]).to_numpy()

    def tell(rows):
        return "from " + few([
            name if len(name) <= 60 else f"{name[:59]}…"
            for name in sorted(source.iloc[rows].unique())])

    return theirs, tell


def _is_placed(table) -> np.ndarray:
    return _from_zero(table) >= BLANK


def _from_zero(table) -> np.ndarray:
    """Degrees from latitude 0, longitude 0; NaN of an unknown place."""
    return np.hypot(*table[PLACE].to_numpy(float).T)
