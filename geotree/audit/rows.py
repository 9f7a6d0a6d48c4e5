"""What the audit's rules share: rows by species, patterns, the sphere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

EARTH_RADIUS = 6371.0  # km
METRES_PER_DEGREE = 111_195.0  # of latitude, on that sphere

Found = Iterator[tuple[str, np.ndarray, str]]  # species, positions, evidence


def by_species(table, mask, *, least: int = 1):
    """Positions of the marked rows, one species at a time."""
    rows = np.flatnonzero(np.asarray(mask))
    codes, names = pd.factorize(table["species"].iloc[rows], sort=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(names)))
    parts = np.split(rows[order], starts[1:]) if len(names) else []
    for name, part in zip(names, parts, strict=True):
        if len(part) >= least:
            yield name, part


def match(column, pattern, whole=True) -> pd.Series:
    """Match a pattern on the distinct values of a long column."""
    distinct = pd.Series(column.dropna().unique(), dtype="str")
    find = distinct.str.fullmatch if whole else distinct.str.contains
    return column.isin(distinct[find(pattern)])


def few(names) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(str, names[:3])) + more


def grid_cells(*, lat, lon, metres: float) -> np.ndarray:
    """Number the cell of an equal-area grid that each place lies in.

    Parameters
    ----------
    lat, lon : (N,) float
        Degrees.
    metres : float
        Side of a cell. Columns get fewer towards the poles, so that a cell
        is as wide as it is high.

    Returns
    -------
    (N, 2) int64
        Row from the south pole, column from the antimeridian.
    """
    rows_per_degree = METRES_PER_DEGREE / metres
    row = np.floor((np.asarray(lat, float) + 90) * rows_per_degree)
    centre = np.radians((row + 0.5) / rows_per_degree - 90)
    column = np.floor((np.asarray(lon, float) + 180) % 360
                      * rows_per_degree * np.cos(centre))
    return np.stack([row, column], axis=1).astype(np.int64)


def unit_vectors(table) -> np.ndarray:
    lat = np.radians(table["decimalLatitude"].to_numpy())
    lon = np.radians(table["decimalLongitude"].to_numpy())
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon),
                     np.sin(lat)], axis=1)  # (N, 3)
