"""Open STAC catalogues as a source: real pixels, no account.

One search a tile and year says which scenes there are; from the least
cloudy scenes of a month, windows of 5 × 5 pixels are read straight from the
files. Good for up to some thousand samples: each tile takes hundreds of
small reads. Explained in chapter 02.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from geotree.network import ServiceError, Unsteady, is_here, patient
from geotree.occurrences.table import replace
from geotree.sources import (
    FAILED,
    NO_IMAGERY,
    OK,
    Pixels,
    Plan,
    layers,
    scenes,
)
from geotree.sources import grid as grids
from geotree.sources.scenes import EARTH_SEARCH, OFFSET_FROM
from geotree.variables import BAND_NAMES, MONTHS, NODATA, PATCH

# Scene classification: dark, vegetation, bare, water, unclassified, snow.
CLEAR = (2, 4, 5, 6, 7, 11)
OFFSET = 1000  # digital numbers
_GDAL = {"AWS_NO_SIGN_REQUEST": "YES",
         "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
         "GDAL_HTTP_MULTIPLEX": "YES", "GDAL_HTTP_TIMEOUT": "60",
         "CPL_VSIL_CURL_CHUNK_SIZE": "32768",
         "GDAL_HTTP_MAX_RETRY": "5", "GDAL_HTTP_RETRY_CODES": "ALL"}


class Stac:
    """Pixels from a STAC API of Sentinel-2 L2A, variables from rasters.

    Parameters
    ----------
    cache : path
        Folder for what searches found; searched once a tile and year.
    url : str
        A STAC API with item search.
    collection : str, optional
        Default: on Earth Search the one that is sound for the year.
    year : int or "own"
        Year of the imagery, or that of each occurrence.
    rasters : mapping or path, optional
        For :func:`geotree.sources.layers.read`, once they are needed. A
        variable that is not given is missing.
    looks : int
        Clear scenes a month that the median is taken of.
    cloudy : float
        Scenes with more clouds than this (%) are left out.
    tile : str
        Property that names a scene's tile.
    sign : callable, optional
        Turns an address into one that may be read, for catalogues that
        want it, such as ``planetary_computer.sign``.
    workers : int
        Months read at a time.
    wait : float
        Upper limit of the first pause after a failure in seconds.

    Notes
    -----
    Digital numbers of processing baseline 04.00 and later are shifted by
    1,000 unless the catalogue took that back. Earth Search's
    ``sentinel-2-l2a`` did so for some scenes and its note of it is not to
    be trusted, so scenes of a later baseline are left out there.
    """

    name = "stac"

    def __init__(self, cache: str | Path, *, url: str = EARTH_SEARCH,
                 collection: str | None = None, year: int | str = 2020,
                 rasters: Mapping | str | Path | None = None, looks: int = 3,
                 cloudy: float = 80.0, tile: str = "grid:code",
                 sign: Callable[[str], str] | None = None,
                 workers: int = 12, wait: float = 1.0):
        if year != "own" and not isinstance(year, int):
            raise ValueError(f"year is {year!r}, expected a year or 'own'.")
        self.cache, self.url, self.year = Path(cache), url, year
        self.collection, self.tile, self.sign = collection, tile, sign
        self._rasters = rasters or {}
        self.looks, self.cloudy = looks, cloudy
        self.workers, self.wait = workers, wait
        self._pool = ThreadPoolExecutor(workers)
        self._searching = threading.Lock()

    @property
    def origin(self) -> str:
        """See :class:`geotree.sources.Source`."""
        return ("come from a catalogue on this machine" if is_here(self.url)
                else f"are real ({self.url})")

    @cached_property
    def rasters(self) -> dict[str, str]:
        """Variable -> path."""
        return layers.read(self._rasters)

    def attrs(self) -> dict[str, str | int | float]:
        """Provenance for the cube."""
        return {"source": self.name, "product": "Sentinel-2 L2A, "
                f"{self.collection or 'collection by year'}, {self.url}",
                "mask": "scene classification "
                        f"{', '.join(map(str, CLEAR))} kept",
                "scenes": f"cloud cover < {self.cloudy:g} %, at most "
                          f"{self.looks} clear a month",
                "composite": "median of each calendar month",
                "imagery_year": self.year, "grid": "utm",
                **{name: str(path) for name, path in self.rasters.items()},
                "title": "Sentinel-2 from an open catalogue"}

    def plan(self, table: pd.DataFrame) -> Plan:
        """Searches and reads, about two a file and sample's tile."""
        groups = len(pd.DataFrame(dict(zip(
            ("tile", "year"), self._keys(table), strict=True))
            ).query("tile != ''").drop_duplicates())
        files = MONTHS * ((self.looks + 1) + self.looks * len(BAND_NAMES))
        requests = groups * (5 + 2 * files)  # a search has some pages
        rasters = layers.files(self.rasters, lat=table["decimalLatitude"],
                               lon=table["decimalLongitude"])
        requests += 3 * sum(len(parts) for parts in rasters.values())
        size = MONTHS * len(BAND_NAMES) * PATCH**2 * 2 + 27 * 4 + 1
        return Plan(len(table), requests, len(table) * size,
                    requests * 0.1 / self.workers)

    def fetch(self, table: pd.DataFrame) -> Pixels:
        """Pixels and variables of each row of a table."""
        import rasterio

        n = len(table)
        place = {"lat": table["decimalLatitude"].to_numpy(float),
                 "lon": table["decimalLongitude"].to_numpy(float)}
        images = np.full((n, MONTHS, len(BAND_NAMES), PATCH, PATCH), NODATA,
                         np.uint16)
        patch = grids.patches(**place)
        with rasterio.Env(**_GDAL, GDAL_HTTP_RETRY_DELAY=str(self.wait)):
            values = self._patiently(
                lambda: layers.sample(self.rasters, **place))
        jobs = [(rows, self._pool.submit(
                    self._month, patch, rows, tile, year, month, images))
                for rows, tile, year in self._groups(table)
                for month in range(MONTHS)]
        failed: dict[int, str] = {}
        try:
            for rows, job in jobs:
                told = job.result()
                failed |= dict.fromkeys(rows.tolist(), told) if told else {}
        finally:
            for _, job in jobs:
                job.cancel()
        seen = (images != NODATA).any(axis=(1, 2, 3, 4))
        status = np.where(seen, OK, NO_IMAGERY).astype(np.uint8)
        status[sorted(failed)] = FAILED
        environment = np.column_stack([place["lon"], place["lat"], values])
        return Pixels(images, environment.astype(np.float32), status,
                      tuple(failed[row] for row in sorted(failed)))

    def _keys(self, table):
        tiles = grids.tiles(lat=table["decimalLatitude"],
                            lon=table["decimalLongitude"])
        return tiles, (table["year"].to_numpy(int) if self.year == "own"
                       else np.full(len(table), self.year))

    def _groups(self, table):
        rows = pd.Series(np.arange(len(table)))
        for (tile, year), members in rows.groupby([*self._keys(table)]):
            if tile:  # Sentinel-2 sees nothing where UTM ends
                yield members.to_numpy(), tile, int(year)

    # Scenes -----------------------------------------------------------------

    def scenes(self, tile: str, year: int) -> list[dict]:
        """STAC items of a tile and year, the least cloudy first."""
        note = self.cache / f"{tile}-{year}.json"
        with self._searching:
            if not note.exists():
                found = patient(lambda: scenes.find(
                    self.url, tile, year, collection=self.collection,
                    label=self.tile, cloudy=self.cloudy, wait=self.wait),
                    wait=self.wait)
                replace(note, lambda file: file.write_text(
                    json.dumps(found)))
        return json.loads(note.read_text())

    # Pixels -----------------------------------------------------------------

    def _month(self, patch, rows, tile, year, month, images) -> str:
        """Fill a month of some rows; returns why it failed, if it did."""
        import rasterio

        looks = {row: [] for row in rows.tolist()}
        try:
            with rasterio.Env(**_GDAL, GDAL_HTTP_RETRY_DELAY=str(self.wait)):
                for item in self.scenes(tile, year):
                    if int(item["properties"]["datetime"][5:7]) == month + 1:
                        self._patiently(
                            lambda item=item: self._look(item, patch, looks))
        except ServiceError as error:
            return f"{tile} {year}-{month + 1:02d}: {error.strerror}"
        for row, seen in looks.items():
            if seen:
                images[row, month] = median(np.array(seen))
        return ""

    def _look(self, item, patch, looks):
        """Add a scene to the rows that it shows and that want more."""
        wanted = [row for row, seen in looks.items()
                  if len(seen) < self.looks]
        if not wanted:
            return
        masks = self._read(item, "SCL", patch, wanted)
        clear = [row for row in wanted if np.isin(masks[row], CLEAR).any()]
        bands = [self._read(item, band, patch, clear) if clear else {}
                 for band in BAND_NAMES]
        shift = OFFSET if scenes.baseline(item) >= OFFSET_FROM else 0
        for row in clear:
            values = np.stack([band[row] for band in bands]).astype(int)
            gone = (values == 0) | ~np.isin(masks[row], CLEAR)
            values = np.where(gone, NODATA, (values - shift).clip(0))
            if not gone.all():
                looks[row].append(values)

    def _read(self, item, name, patch, rows) -> dict[int, np.ndarray]:
        """The 5 × 5 values of some rows in a file; 0 where it has none."""
        import rasterio
        from rasterio.windows import Window

        address = item["assets"][name]
        if self.sign:
            address = self.sign(address)
        middle = (np.arange(PATCH) + 0.5) * patch.scale
        found = {}
        with rasterio.open(address) as data:
            if data.crs is None:
                raise rasterio.RasterioIOError(f"'{address}' came torn")
            for row in rows:
                columns = np.floor((patch.x[row] + middle - data.transform.c)
                                   / data.res[0]).astype(int)
                lines = np.floor((data.transform.f - patch.y[row] + middle)
                                 / data.res[1]).astype(int)
                found[row] = np.zeros((PATCH, PATCH), int)
                if (data.crs.to_epsg() != patch.epsg[row]
                        or columns[0] < 0 or columns[-1] >= data.width
                        or lines[0] < 0 or lines[-1] >= data.height):
                    continue
                part = data.read(1, window=Window(
                    columns[0], lines[0], columns[-1] - columns[0] + 1,
                    lines[-1] - lines[0] + 1))
                found[row] = part[np.ix_(lines - lines[0],
                                         columns - columns[0])]
        return found

    def _patiently(self, read):
        import rasterio

        forget = {}

        def once():
            try:
                with rasterio.Env(**forget):
                    return read()
            except rasterio.errors.RasterioError as error:
                # GDAL remembers what it got, errors and torn blocks too.
                forget["CPL_VSIL_CURL_NON_CACHED"] = "/vsicurl/"
                raise Unsteady(f"cannot read ({error!s:.200})") from error

        return patient(once, wait=self.wait)


def median(looks: np.ndarray) -> np.ndarray:
    """Median of the clear looks at each pixel.

    Parameters
    ----------
    looks : (L, C, H, W) int
        ``NODATA`` where a look shows nothing.

    Returns
    -------
    (C, H, W) uint16
    """
    values = np.ma.masked_equal(looks, NODATA)
    return np.ma.median(values, axis=0).round().filled(NODATA).astype(
        np.uint16)
