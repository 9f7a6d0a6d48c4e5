"""Rules on single records: where they lie and who named them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from geotree.audit.rows import (
    EARTH_RADIUS,
    Found,
    by_species,
    few,
    grid_cells,
    match,
    unit_vectors,
)

PIXEL = 10.0  # m; two records of a species in one such cell are duplicates
WIDE = 10_000.0  # km, a quarter of the way round the Earth
ALONE = 1_000.0  # km to the next record of the species
BLANK = 0.5  # ° around latitude 0, longitude 0
MACHINE = (r"(?i)automatically identified|machine[- ]identified|"
           r"image recognition|computer vision")
PLANTED = (r"(?i)\bplantad[oa]s\b|tree planting|\bplantations?\b|"
           r"arboret|botanic(?:al)? garden|jard[ií]n bot[aá]nico")


def machine_identified(table: pd.DataFrame) -> Found:
    """The source names its pictures by machine; nobody has looked."""
    yield from _by_source(table, MACHINE)


def planted(table: pd.DataFrame) -> Found:
    """The source records planted trees: saplings, or far from their home."""
    yield from _by_source(table, PLANTED)


def zero_coordinates(table: pd.DataFrame) -> Found:
    """Within half a degree of latitude 0, longitude 0: a blank cell.

    The other rules on places leave these rows out.
    """
    for species, rows in by_species(table, ~_is_placed(table)):
        yield species, rows, "at latitude 0, longitude 0"


def spatial_duplicate(table: pd.DataFrame) -> Found:
    """A record of the species lies in the same cell of 10 m already."""
    cells = grid_cells(lat=table["decimalLatitude"],
                       lon=table["decimalLongitude"], metres=PIXEL)
    frame = pd.DataFrame(cells, index=table.index).assign(
        species=table["species"])
    again = frame.duplicated() & _is_placed(table)
    for species, rows in by_species(table, again):
        yield (species, rows, f"{len(rows)} rows repeat a cell of "
                              f"{PIXEL:.0f} m that has a record")


def shared_point(table: pd.DataFrame) -> Found:
    """Several species at the very same coordinates.

    Two trees never stand on one point: it is the centre of a plot, a town
    or a grid cell.
    """
    place = ["decimalLatitude", "decimalLongitude"]
    pairs = table[[*place, "species"]].drop_duplicates()
    crowded = pairs[pairs.duplicated(place, keep=False)]
    points = pd.MultiIndex.from_frame(crowded[place].drop_duplicates())
    here = pd.MultiIndex.from_frame(table[place]).isin(points)
    for species, rows in by_species(table, here & _is_placed(table)):
        yield species, rows, (
            f"{len(rows)} rows share their coordinates with other species")


def wide_range(table: pd.DataFrame) -> Found:
    """One pair of records in twenty lies over 10,000 km apart.

    Three kinds of species do: those planted or naturalised abroad, weeds,
    and several species under one name. Only the last is wrong.
    """
    for species, rows in by_species(table, _is_placed(table), least=10):
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), 500),
                                dtype=int)]
        points = unit_vectors(table.iloc[some])
        chord = np.clip(points @ points.T, -1, 1)
        span = EARTH_RADIUS * np.arccos(np.quantile(
            chord[np.triu_indices(len(some), 1)], 0.05))
        if span > WIDE:
            here = table.iloc[rows]
            lat = here["decimalLatitude"]
            yield species, rows, (
                f"one pair of records in twenty is over {span:,.0f} km "
                f"apart, from {_latitude(lat.min())} to "
                f"{_latitude(lat.max())}; countries: "
                f"{here['countryCode'].nunique()}")


def stray_record(table: pd.DataFrame) -> Found:
    """A record far from all others of a species that has seven or more.

    Far is more than 1,000 km and ten times the gap that three in four of
    the records keep. Two strays near each other hide each other.
    """
    from scipy.spatial import cKDTree

    for species, rows in by_species(table, _is_placed(table), least=7):
        points = unit_vectors(table.iloc[rows])
        chord = cKDTree(points).query(points, k=2)[0][:, 1]
        away = 2 * EARTH_RADIUS * np.arcsin(np.minimum(chord / 2, 1))
        usual = np.quantile(away, 0.75, method="lower")
        far = away > max(ALONE, 10 * usual)
        if far.any():
            worst = int(away.argmax())
            where = table.iloc[rows[worst]]
            yield species, rows[far], (
                f"gbifID {where['gbifID']} in {where['countryCode']} is "
                f"{away[worst]:,.0f} km from the next record")


def _by_source(table, pattern):
    source = table["datasetName"]
    for species, rows in by_species(table, match(source, pattern, False)):
        names = [name if len(name) <= 60 else f"{name[:59]}…"
                 for name in sorted(source.iloc[rows].unique())]
        yield species, rows, f"from {few(names)}"


def _is_placed(table) -> np.ndarray:
    return np.hypot(table["decimalLatitude"],
                    table["decimalLongitude"]).to_numpy() >= BLANK


def _latitude(degrees: float) -> str:
    return f"{abs(degrees):.0f}° {'N' if degrees >= 0 else 'S'}"
