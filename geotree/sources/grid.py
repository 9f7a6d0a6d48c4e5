"""The grid of Sentinel-2, and what sources of its images share.

UTM zones, MGRS tiles and patches of 10 m pixels; years and statuses.

A tile's origin is a multiple of 10 m, so a patch whose corners are
multiples of 10 m is read without resampling. Explained in chapter 02.
"""

import copy
from typing import NamedTuple

import numpy as np
import pandas as pd

from geotree import checks
from geotree.network import Pool
from geotree.sources import FAILED, FIRST, NO_IMAGERY, OK, SEEN, SHAPE, Pixels
from geotree.variables import NODATA, PATCH, VARIABLE_NAMES

PIXEL = 10  # m
SOUTH, NORTH = -80.0, 84.0  # °, where UTM ends
_BANDS = "CDEFGHJKLMNPQRSTUVWX"  # 8° of latitude each, X has 12
_COLUMNS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_A, _F = 6_378_137.0, 1 / 298.257223563  # WGS 84


class Patch(NamedTuple):
    """Upper left corners of N patches, in metres of their zones."""

    epsg: np.ndarray  # (N,) int; 0 beyond the reach of UTM
    x: np.ndarray  # (N,) float, west edge
    y: np.ndarray  # (N,) float, north edge


def zones(*, lat, lon) -> np.ndarray:
    """UTM zone of N places: (N,) int, 0 towards the poles.

    Norway's south-west belongs to zone 32 (32V), Svalbard to the odd zones
    31 to 37; 180° east is 180° west, zone 1.
    """
    lat, lon = checks.places(lat=lat, lon=lon)
    zone = np.floor((lon + 180) / 6).astype(int) + 1
    zone[(lat >= 56) & (lat < 64) & (lon >= 3) & (lon < 12)] = 32
    svalbard = (lat >= 72) & (lon >= 0) & (lon < 42)
    zone[svalbard] = 31 + 2 * np.digitize(lon[svalbard], [9, 21, 33])
    zone[(lat < SOUTH) | (lat > NORTH)] = 0
    return zone


def utm(*, lat, lon) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Project N places to their UTM zones.

    Returns
    -------
    epsg, easting, northing : (N,)
        EPSG 326xx north and 327xx south of the equator, 0 towards the
        poles; metres.

    Notes
    -----
    Krüger's series to the fourth order, good to well under a millimetre
    (Karney, Journal of Geodesy 85, 2011).
    """
    lat, lon = checks.places(lat=lat, lon=lon)
    zone, south = zones(lat=lat, lon=lon), lat < 0
    lam = np.radians((lon - (6 * zone - 183) + 180) % 360 - 180)
    n = _F / (2 - _F)
    radius = _A / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    series = (n / 2 - 2 * n**2 / 3 + 5 * n**3 / 16 + 41 * n**4 / 180,
              13 * n**2 / 48 - 3 * n**3 / 5 + 557 * n**4 / 1440,
              61 * n**3 / 240 - 103 * n**4 / 140,
              49561 * n**4 / 161280)
    e = 2 * np.sqrt(n) / (1 + n)
    # The conformal latitude goes to infinity at the poles; zone 0 is there.
    sine = np.sin(np.clip(np.radians(lat), -1.5, 1.5))
    t = np.sinh(np.arctanh(sine) - e * np.arctanh(e * sine))
    sphere = (np.arctan2(t, np.cos(lam))  # north, and east as imaginary
              + 1j * np.arctanh(np.sin(lam) / np.sqrt(1 + t**2)))
    turn = np.exp(2j * sphere)
    twice, one, two = turn + 1 / turn, 0, 0
    for part in reversed(series):  # the sum of part * sin(2 * order * sphere)
        one, two = part + twice * one - two, one
    metres = 0.9996 * radius * (sphere + (turn - 1 / turn) / 2j * one)
    epsg = np.where(zone == 0, 0, np.where(south, 32700, 32600) + zone)
    return epsg, 500_000 + metres.imag, metres.real + 10_000_000 * south


def tiles(*, lat, lon) -> np.ndarray:
    """MGRS square of 100 km, such as ``32UPU``; "" towards the poles."""
    lat, lon = checks.places(lat=lat, lon=lon)
    epsg, east, north = utm(lat=lat, lon=lon)
    zone = epsg % 100
    band = ((lat - SOUTH) // 8).astype(int).clip(0, len(_BANDS) - 1)
    column = (8 * ((zone - 1) % 3) + (east // 100_000).astype(int) - 1) % 24
    row = ((north // 100_000).astype(int) + np.where(zone % 2, 0, 5)) % 20
    # Few squares are distinct, so only those are spelt.
    shape = (61, len(_BANDS), len(_COLUMNS), len(_ROWS))
    index, code = pd.factorize(np.ravel_multi_index(
        (zone, band, column, row), shape))
    names = [f"{z:02d}{_BANDS[b]}{_COLUMNS[c]}{_ROWS[r]}" if z else ""
             for z, b, c, r in zip(*np.unravel_index(code, shape),
                                   strict=True)]
    return np.array(names, object)[index]


def names(tile: str) -> list[str]:
    """What Sentinel-2 may call a square that lies across two bands.

    A tile has the letter of one band only, also where the square reaches
    into the next. No letter pair comes twice within three bands.
    """
    at = _BANDS.index(tile[2])
    return [tile[:2] + band + tile[3:]
            for band in _BANDS[max(at - 1, 0):at + 2]]


def patches(*, lat, lon) -> Patch:
    """Place a patch of 5 × 5 pixels around each of N places.

    Pixels are of 10 m, the place lies in the middle one.
    """
    epsg, east, north = utm(lat=lat, lon=lon)
    half = PATCH // 2 * PIXEL
    return Patch(epsg, np.floor(east / PIXEL) * PIXEL - half,
                 np.floor(north / PIXEL) * PIXEL + PIXEL + half)


class Imagery:
    """A source of Sentinel-2 images, of one year or of each row's own.

    Parameters
    ----------
    year : int or "own"
        Year of the imagery, or that of each row of a table.
    workers : int
        Requests at a time.
    wait : float
        Upper limit of the first pause after a failure in seconds.
    """

    def __init__(self, *, year: int | str, workers: int, wait: float):
        if year != "own":
            year = checks.number(
                year, name="year ('own': of each row)", low=FIRST,
                high=pd.Timestamp.now().year, whole=True)
        checks.number(workers, name="workers", low=1, whole=True)
        checks.number(wait, name="wait", low=0)
        self.year, self.workers, self.wait = year, workers, wait
        self._pool = Pool(workers)

    def share(self, among: int) -> "Imagery":
        """This source for one of some workers: the quota is theirs all."""
        part = copy.copy(self)
        part.workers = max(self.workers // among, 1)
        part._pool = Pool(part.workers)
        return part

    def _attrs(self, **more) -> dict[str, str | int | float]:
        return {"source": self.name, "imagery_year": self.year,
                "composite": "median of each calendar month",
                "grid": "utm", **more}

    def _where(self, table) -> pd.DataFrame:
        """Tile and year of each row ("" and 0: unknown), row by row."""
        years = (pd.to_numeric(table["year"], errors="coerce").fillna(0)
                 if self.year == "own" else self.year)
        return pd.DataFrame({"tile": tiles(**_places(table)),
                             "year": np.asarray(years, int)})

    def _groups(self, table) -> list[tuple[str, int, np.ndarray]]:
        """Rows that one scene may show: tile, year and their numbers.

        Rows that Sentinel-2 never saw are in none.
        """
        where = self._where(table).query(SEEN)
        return [(tile, int(year), rows.index.to_numpy()) for (tile, year),
                rows in where.groupby(["tile", "year"])]

    def _blank(self, table):
        """Pixels and variables to fill, patches, and rows that fail."""
        place, n = _places(table), len(table)
        environment = np.full((n, len(VARIABLE_NAMES)), np.nan, np.float32)
        environment[:, 0], environment[:, 1] = place["lon"], place["lat"]
        undated = np.flatnonzero(self._where(table)["year"] == 0)
        return (np.full((n, *SHAPE), NODATA, np.uint16), environment,
                patches(**place), dict.fromkeys(
                    undated.tolist(), "the row has no year, and the source "
                    "takes that of each row"))

    @staticmethod
    def _answer(images, environment, failed: dict[int, str]) -> Pixels:
        status = np.where((images != NODATA).any(axis=(1, 2, 3, 4)), OK,
                          NO_IMAGERY).astype(np.uint8)
        rows = sorted(failed)
        status[rows] = FAILED
        return Pixels(images, environment, status,
                      tuple(failed[row] for row in rows))


def _places(table) -> dict[str, np.ndarray]:
    return {"lat": table["decimalLatitude"].to_numpy(float),
            "lon": table["decimalLongitude"].to_numpy(float)}
