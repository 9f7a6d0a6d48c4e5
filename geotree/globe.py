"""The globe: distances and neighbours on a sphere, its land and countries.

Used wherever a place is near another one; explained in chapter 04. Land and
countries are those of Natural Earth at 1:110 million: enough to draw an
outline and to know sea from land, far too coarse for borders. See
``geotree/data/README.md`` for the source.
"""

import warnings
from functools import cache

import numpy as np
import pandas as pd

from geotree import checks
from geotree.data import load

EARTH = 6371.0088  # km, mean radius
PLACE = "decimalLatitude", "decimalLongitude"  # columns of a table
METRES = 1000 * EARTH * np.pi / 180  # per degree of latitude
_NOWHERE = ["", "XX", "XZ", "ZZ"]  # what GBIF writes of no country
_STEP = 0.25  # degrees, cell of the raster
_AROUND = [(north, east) for north in (-1, 0, 1) for east in (-1, 0, 1)
           if north or east]


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

    if checks.columns(table, PLACE).empty:
        raise ValueError("a table of no rows: nothing is near.")
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
    lat, lon = places_of(checks.columns(table, PLACE)[[*PLACE]].fillna(0))
    per_degree = METRES / metres
    row = np.floor((lat + 90) * per_degree)
    centre = np.radians((row + 0.5) / per_degree - 90)
    column = np.floor((lon + 180) % 360 * per_degree * np.cos(centre))
    return np.stack([row, column], axis=1).astype(np.int64)


# Land and countries -------------------------------------------------------

@cache
def land() -> tuple[np.ndarray, ...]:
    """Outline of the land: rings, each (n, 2) float64 of lon, lat.

    A ring that crosses 180° reaches beyond it, and comes once for either
    edge of the map: draw with ``xlim`` set.
    """
    return tuple(np.cumsum(ring, axis=0) / 1e5 for ring in load("land.json"))


@cache
def _country_raster() -> tuple[np.ndarray, np.ndarray]:
    """Country number of each cell of 0.25°, 0 = sea, and the codes."""
    file = load("countries.json")
    grid = np.repeat(np.array(file["numbers"], np.int16), file["runs"])
    return (grid.reshape(round(180 / _STEP), -1),
            np.array(["", *file["codes"].split()]))


def _lookup(lat, lon) -> np.ndarray:
    """Country number of places: of the shape of ``lat`` and ``lon``."""
    checks.one_order(lat=lat, lon=lon)
    lat, lon = np.broadcast_arrays(*map(checks.degrees, (lat, lon)))
    shape = lat.shape
    lat, lon = checks.places(lat=lat.ravel(), lon=lon.ravel())
    grid, _ = _country_raster()
    row = np.floor((90 - lat) / _STEP).astype(int)
    column = np.floor((lon + 180) / _STEP).astype(int)
    column %= grid.shape[1]
    return grid[row.clip(0, len(grid) - 1), column].reshape(shape)


def is_land(*, lat, lon) -> np.ndarray:
    """Whether N places lie on land, to about 25 km: (N,) bool."""
    return _lookup(lat, lon) > 0


def country_code(*, lat, lon, coast: bool = False) -> np.ndarray:
    """ISO alpha-2 code of N places, "" at sea: (N,) str.

    With ``coast`` a place in a cell of sea has the country of the land next
    to it, up to 0.25° away: shores and rounded places are not lost.
    """
    checks.one_order(lat=lat, lon=lon)
    lat, lon = checks.one_shape(lat=checks.degrees(lat),
                                lon=checks.degrees(lon))
    number, (_, codes) = _lookup(lat, lon), _country_raster()
    for step in (_STEP / 2, _STEP) if coast else ():
        for north, east in _AROUND:
            sea = number == 0
            number[sea] = _lookup(
                (lat[sea] + step * north).clip(-90, 90),
                (lon[sea] + step * east + 180) % 360 - 180)
    return codes[number]


def swapped(*, lat, lon, codes=None) -> np.ndarray:
    """Which of N places are on land with lat and lon exchanged alone: (N,).

    bool, False for no place. ``codes``, (N,) str, are the countries that
    they shall lie in instead of any, where they are known.
    """
    code = read_codes(pd.Series(codes, range(len(lat))))[0].fillna("")

    def fits(lat, lon):
        good = np.abs(lat) <= 90  # of no place neither is a number
        there = country_code(lat=np.where(good, lat, 0),
                             lon=np.where(good, lon, 0), coast=True)
        return good & np.where(code == "", there != "", there == code)

    return fits(lon, lat) & ~fits(lat, lon)


@cache
def _known() -> set[str]:
    """The codes of all countries, and of Antarctica."""
    return {*_country_raster()[1], *" ".join(load(
        "continents.json").values()).split(), "AQ"} - {""}


def codes(values, where: str = "countries") -> np.ndarray:
    """Countries as ISO alpha-2 codes in capitals: (N,) object, None unknown.

    A word that is no such code is unknown, and a warning says so.
    """
    code, odd = read_codes(pd.Series(checks.plain(values, where)))
    if odd.any():
        warnings.warn(
            f"{where}: {checks.few(sorted({*code[odd]}))} are no codes of "
            "ISO 3166 of two letters, as DE: taken for unknown.",
            stacklevel=3)
    return code.mask(odd).astype(object).to_numpy()


def read_codes(values: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Countries in capitals, NaN unknown, and which are no code: (N,) each."""
    code = values.astype("str").str.strip().str.upper().replace(_NOWHERE, None)
    return code, code.notna() & ~code.isin(_known())


def continent(codes) -> np.ndarray:
    """Continent of N countries by ISO alpha-2 code: (N,) str.

    ``""`` for codes that belong to none: Antarctica, the sea, mistakes.
    """
    of = {code: name for name, some in load("continents.json").items()
          for code in some.split()}
    return read_codes(pd.Series(codes, dtype=object))[0].map(of).fillna(
        "").to_numpy(str)
