"""Land and countries of the world, from Natural Earth at 1:110 million.

Enough to draw an outline and to know sea from land; far too coarse for
borders. See ``geotree/data/README.md`` for the source.
"""

import warnings
from functools import cache

import numpy as np
import pandas as pd

from geotree import checks
from geotree.data import load

_NOWHERE = ["", "XX", "XZ", "ZZ"]  # what GBIF writes of no country
_STEP = 0.25  # degrees, cell of the raster
_AROUND = [(north, east) for north in (-1, 0, 1) for east in (-1, 0, 1)
           if north or east]


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
    lat, lon = np.broadcast_arrays(*map(checks.degrees, (lat, lon)))
    number, (_, codes) = _lookup(lat, lon), _country_raster()
    for step in (_STEP / 2, _STEP) if coast else ():
        for north, east in _AROUND:
            sea = number == 0
            number[sea] = _lookup(
                (lat[sea] + step * north).clip(-90, 90),
                (lon[sea] + step * east + 180) % 360 - 180)
    return codes[number]


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
    return np.array([of.get(code, "") for code in np.asarray(codes)],
                    dtype=str)
