"""Rules on single records: where they lie and who named them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from geotree import globe
from geotree.occurrences.taxon_rules import few

PIXEL = 10.0  # m; two records of a species in one such cell are duplicates
WIDE = 10_000.0  # km, a quarter of the way round the Earth
ALONE = 1_000.0  # km to the next record of the species
BLANK = 0.5  # ° around latitude 0, longitude 0
MACHINE = (r"(?i)automatically identified|machine[- ]identified|"
           r"image recognition|computer vision")
PLANTED = (r"(?i)\bplantad[oa]s\b|tree planting|\bplantations?\b|"
           r"arboret|botanic(?:al)? garden|jard[ií]n bot[aá]nico")
_PLACE = ["decimalLatitude", "decimalLongitude"]


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
    cells = grid_cells(table, metres=PIXEL)
    again = pd.DataFrame(cells).assign(
        species=_codes(table["species"])).duplicated().to_numpy()
    return again & _is_placed(table), lambda rows: (
        f"{len(rows)} rows repeat a cell of {PIXEL:.0f} m that has a record")


def shared_point(table: pd.DataFrame):
    """Several species at the very same coordinates.

    Two trees never stand on one point: it is the centre of a plot, a town
    or a grid cell.
    """
    point = _codes(table[_PLACE[0]] + 1j * table[_PLACE[1]])  # (N,)
    species = _codes(table["species"])
    order = np.lexsort((species, point))
    first = np.r_[True, np.diff(point[order]) != 0]  # of a point
    other = np.r_[False, np.diff(species[order]) != 0] & ~first
    crowded = np.zeros(point.max() + 1, bool)
    crowded[point[order][other]] = True
    return crowded[point] & _is_placed(table), lambda rows: (
        f"{len(rows)} rows share their coordinates with other species")


def wide_range(table: pd.DataFrame):
    """One pair of records in twenty lies over 10,000 km apart.

    Three kinds of species do: those planted or naturalised abroad, weeds,
    and several species under one name. Only the last is wrong.
    """
    points, placed = globe.vectors_of(table), _is_placed(table)
    limit = 1 - globe.chord(WIDE) ** 2 / 2  # cosine of the angle
    wrong, spans = np.zeros(len(table), bool), {}
    for rows in _groups(table, placed, least=10):
        some = points[rows[np.linspace(
            0, len(rows) - 1, min(len(rows), 500), dtype=int)]]  # (S, 3)
        # If one pair in twenty were that far apart, the mean cosine of all
        # pairs could not be higher than this.
        count = len(some)
        mean = (np.square(some.sum(axis=0)).sum() - count) / (
            count * (count - 1))
        if mean > 0.95 + 0.05 * limit + 1e-3:
            continue
        cosine = (some @ some.T)[np.triu_indices(count, 1)]
        low = np.quantile(cosine, 0.05)
        if low < limit:
            wrong[rows] = True
            spans[rows[0]] = globe.EARTH * np.arccos(max(low, -1.0))

    def tell(rows):
        here = table.iloc[rows]
        lat = here["decimalLatitude"]
        return (f"one pair of records in twenty is over {spans[rows[0]]:,.0f}"
                f" km apart, from {_latitude(lat.min())} to "
                f"{_latitude(lat.max())}; countries: "
                f"{here['countryCode'].nunique()}")

    return wrong, tell


def stray_record(table: pd.DataFrame):
    """A record far from all others of a species that has seven or more.

    Far is more than 1,000 km and ten times the gap that three in four of
    the records keep. Two strays near each other hide each other.
    """
    from scipy.spatial import cKDTree

    points, placed = globe.vectors_of(table), _is_placed(table)
    # In a cube of this side no two records are that far apart: only those
    # alone in theirs can be strays.
    side = globe.chord(ALONE) / np.sqrt(3)
    cube = np.floor(np.nan_to_num(points) / side).astype(np.int64) + 64
    alone = ~pd.Series(_codes(table["species"]) * 128**3
                       + cube @ [1, 128, 128**2]).where(
        placed).duplicated(keep=False).to_numpy() & placed
    suspect = table["species"].isin(table["species"].to_numpy()[alone])
    wrong, away = np.zeros(len(table), bool), np.zeros(len(table))
    for rows in _groups(table, placed & suspect.to_numpy(), least=7):
        chord = cKDTree(points[rows]).query(points[rows], k=2)[0][:, 1]
        away[rows] = globe.arc_km(chord)
        usual = np.quantile(away[rows], 0.75, method="lower")
        wrong[rows] = away[rows] > max(ALONE, 10 * usual)

    def tell(rows):
        worst = rows[away[rows].argmax()]
        where = table.iloc[worst]
        return (f"gbifID {where['gbifID']} in {where['countryCode']} is "
                f"{away[worst]:,.0f} km from the next record")

    return wrong, tell


def grid_cells(table: pd.DataFrame, *, metres: float) -> np.ndarray:
    """Number the cell of an equal-area grid that each record lies in.

    Parameters
    ----------
    metres : float
        Side of a cell. Columns get fewer towards the poles, so that a cell
        is as wide as it is high.

    Returns
    -------
    (N, 2) int64
        Row from the south pole, column from the antimeridian.
    """
    lat, lon = np.nan_to_num(table[_PLACE].to_numpy(float)).T
    per_degree = globe.METRES / metres
    row = np.floor((lat + 90) * per_degree)
    centre = np.radians((row + 0.5) / per_degree - 90)
    column = np.floor((lon + 180) % 360 * per_degree * np.cos(centre))
    return np.stack([row, column], axis=1).astype(np.int64)


def _groups(table, mask, *, least):
    """Positions of the marked rows of each species that has enough."""
    rows = np.flatnonzero(mask)
    codes = _codes(table["species"].iloc[rows])
    order = np.argsort(codes, kind="stable")
    cuts = np.flatnonzero(np.diff(codes[order])) + 1
    for part in np.split(rows[order], cuts):
        if len(part) >= least:
            yield part


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
    return np.hypot(*table[_PLACE].to_numpy(float).T)


def _latitude(degrees: float) -> str:
    return f"{abs(degrees):.0f}° {'N' if degrees >= 0 else 'S'}"
