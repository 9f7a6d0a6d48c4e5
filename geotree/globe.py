"""The globe: one sphere, distances and neighbours on it, blocks of degrees.

Used wherever a place is near another one; explained in chapter 04.
"""

import numpy as np

from geotree import checks

EARTH = 6371.0088  # km, mean radius
PLACE = "decimalLatitude", "decimalLongitude"  # columns of a table
METRES = 1000 * EARTH * np.pi / 180  # per degree of latitude


def unit_vectors(*, lat, lon) -> np.ndarray:
    """Places in degrees as points of the unit sphere: (N, 3) float64."""
    phi, lam = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam),
                     np.sin(phi)], axis=-1)


def chord(km):
    """Straight line between points of the unit sphere ``km`` apart."""
    return 2 * np.sin(np.minimum(np.asarray(km) / EARTH, np.pi) / 2)


def arc_km(chord):
    """Great-circle distance in km of points a chord apart."""
    return 2 * EARTH * np.arcsin(np.clip(np.asarray(chord) / 2, 0, 1))


def distance_km(lat1, lon1, lat2, lon2) -> np.ndarray:
    """Great-circle distance in km of places in degrees, broadcast."""
    a, b, c, d = map(np.radians, map(checks.degrees, (lat1, lon1, lat2, lon2)))
    for phi in (a, c):
        if (np.abs(phi) > np.pi / 2).any():
            raise ValueError(
                f"a latitude is {np.degrees(np.abs(phi).max()):g}°, expected "
                "-90 to 90. The order is lat1, lon1, lat2, lon2.")
    half = (np.sin((c - a) / 2) ** 2
            + np.cos(a) * np.cos(c) * np.sin((d - b) / 2) ** 2)
    return 2 * EARTH * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def tree(table):
    """A k-d tree of the places of a table; distances in it are chords."""
    from scipy.spatial import cKDTree

    return cKDTree(vectors_of(table))


def places_of(table, where: str = "table") -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude of an occurrence table, in degrees: (N,) each."""
    lat, lon = (checks.columns(table, PLACE)[name] for name in PLACE)
    return checks.places(lat=lat, lon=lon, where=where)


def vectors_of(table) -> np.ndarray:
    """:func:`unit_vectors` of an occurrence table: (N, 3)."""
    lat, lon = places_of(table)
    return unit_vectors(lat=lat, lon=lon)


def nearest_km(table, others) -> np.ndarray:
    """Distance in km from each row to the nearest row of ``others``."""
    return arc_km(tree(others).query(vectors_of(table))[0])


def blocks(*, lat, lon, degrees: float) -> np.ndarray:
    """Number of the latitude–longitude block of each place: (N,) int64."""
    checks.number(degrees, name="degrees", low=1e-6)
    lat, lon = checks.places(lat=lat, lon=lon)
    cell = (np.floor(lat / degrees).astype(np.int64) * 10**9
            + np.floor(lon / degrees).astype(np.int64))
    return np.unique(cell, return_inverse=True)[1]


def cells(table, *, metres: float) -> np.ndarray:
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
    checks.number(metres, name="metres", low=1e-3)
    lat, lon = places_of(table[[*PLACE]].fillna(0))
    per_degree = METRES / metres
    row = np.floor((lat + 90) * per_degree)
    centre = np.radians((row + 0.5) / per_degree - 90)
    column = np.floor((lon + 180) % 360 * per_degree * np.cos(centre))
    return np.stack([row, column], axis=1).astype(np.int64)
