"""Open STAC catalogues as a source: real pixels, no account.

One search a tile and year says which scenes there are; from the least
cloudy scenes of a month, windows of 5 × 5 pixels are read straight from the
files. Good for up to some thousand samples: each tile takes hundreds of
small reads. Explained in chapter 02.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import files
from geotree.network import (
    TRIES,
    Pool,
    ServiceError,
    Unsteady,
    is_here,
    patient,
    redact,
)
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
from geotree.sources.scenes import EARTH_SEARCH
from geotree.variables import BAND_NAMES, MONTHS, NODATA, PATCH

# Scene classification: dark, vegetation, bare, water, unclassified, snow.
CLEAR = (2, 4, 5, 6, 7, 11)
# GDAL asks again where a request fails, we where its answer is torn.
_GDAL = {"AWS_NO_SIGN_REQUEST": "YES",
         "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
         "GDAL_HTTP_MULTIPLEX": "YES", "GDAL_HTTP_TIMEOUT": "60",
         "CPL_VSIL_CURL_CHUNK_SIZE": "32768",
         "GDAL_HTTP_MAX_RETRY": str(TRIES - 1),
         "GDAL_HTTP_RETRY_CODES": "429,500,502,503,504"}


class Gone(Exception):
    """A file that is not there, and will not be."""


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
    Digital numbers are shifted by 1,000 where the catalogue says that this
    was added and not taken off again (:func:`geotree.sources.scenes.unit`).
    A scene that does not say it, or whose files are gone, is left out, told
    of in a warning and kept in ``left_out`` (id -> why). On Earth Search,
    ``sentinel-2-l2a`` is known to say it wrongly, so scenes of baseline
    04.00 and later are left out there.
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
        self.left_out: dict[str, str] = {}
        self._gone: set[tuple] = set()  # tiles and years that lack files
        self._pool, self._searching = Pool(workers), threading.Lock()
        self._found: dict[tuple, tuple[list, dict]] = {}

    @property
    def origin(self) -> str:
        """See :class:`geotree.sources.Source`."""
        return ("come from a catalogue on this machine" if is_here(self.url)
                else f"are real ({redact(self.url)})")

    @cached_property
    def rasters(self) -> dict[str, str]:
        """Variable -> path."""
        return layers.read(self._rasters)

    def attrs(self) -> dict[str, str | int | float]:
        """Provenance for the cube."""
        return {"source": self.name, "product": "Sentinel-2 L2A, "
                f"{self.collection or 'collection by year'}, "
                f"{redact(self.url)}",
                "mask": "scene classification "
                        f"{', '.join(map(str, CLEAR))} kept",
                "scenes": f"cloud cover < {self.cloudy:g} %, at most "
                          f"{self.looks} clear a month",
                "composite": "median of each calendar month",
                "imagery_year": self.year, "grid": "utm",
                **{name: redact(path) for name, path in
                   self.rasters.items()},
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
        groups = [(rows, tile, year, self._pool.submit(
                      self.scenes, tile, year))
                  for rows, tile, year in self._groups(table)]
        jobs = [(rows, self._pool.submit(
                    self._month, patch, rows, tile, year, month, search,
                    images))
                for rows, tile, year, search in groups
                for month in range(MONTHS)]
        before, failed = set(self.left_out), {}
        try:
            for rows, job in jobs:
                told = job.result()
                failed |= dict.fromkeys(rows.tolist(), told) if told else {}
        finally:
            for _, job in jobs:
                job.cancel()
        self._say(set(self.left_out) - before)
        seen = (images != NODATA).any(axis=(1, 2, 3, 4))
        for rows, tile, year, _ in groups:
            if (tile, year) in self._gone:  # files may have shown them
                failed |= {row: "all files that may show it are gone"
                           for row in rows.tolist()
                           if not seen[row] and row not in failed}
        status = np.where(seen, OK, NO_IMAGERY).astype(np.uint8)
        status[sorted(failed)] = FAILED
        environment = np.column_stack([place["lon"], place["lat"], values])
        return Pixels(images, environment.astype(np.float32), status,
                      tuple(failed[row] for row in sorted(failed)))

    def _say(self, new) -> None:
        if new:
            one = min(new)
            warnings.warn(
                f"{len(new)} scenes are left out, for example '{one}': it "
                f"{self.left_out[one]}. All are in Stac.left_out",
                stacklevel=3)

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
        """Scenes of a tile and year, the least cloudy first.

        Kept in the cache under all that was asked, unless there were none,
        or their addresses hold what may be secret.
        """
        asked = {"collection": self.collection, "label": self.tile,
                 "cloudy": self.cloudy}
        mark = files.fingerprint(redact(self.url), asked, scenes.ASSETS)
        note = self.cache / f"{tile}-{year}-{mark}.json"
        with self._searching:
            if (tile, year) not in self._found:
                found = _kept(note)
                if found is None:
                    found = scenes.find(self.url, tile, year, **asked,
                                        wait=self.wait)
                    text = json.dumps([files.fingerprint(found), found])
                    if found[0] and redact(text) == text:
                        files.write(note, text)
                self._found[tile, year] = found
                self.left_out |= found[1]
            return self._found[tile, year][0]

    # Pixels -----------------------------------------------------------------

    def _month(self, patch, rows, tile, year, month, search, images) -> str:
        """Fill a month of some rows; returns why it failed, if it did."""
        import rasterio

        looks = {row: {} for row in rows.tolist()}
        try:
            with rasterio.Env(**_GDAL, GDAL_HTTP_RETRY_DELAY=str(self.wait)):
                for scene in search.result():
                    if scene["month"] == month + 1:
                        try:
                            self._look(scene, patch, looks)
                        except Gone as error:
                            self.left_out[scene["id"]] = str(error)
                            self._gone.add((tile, year))
        except ServiceError as error:
            return f"{tile} {year}-{month + 1:02d}: {error.strerror}"
        for row, seen in looks.items():
            if seen:
                images[row, month] = median(np.array(list(seen.values())))
        return ""

    def _look(self, scene, patch, looks) -> None:
        """Add a scene to the rows that it shows and that want more.

        An overflight counts once, however often it was processed and into
        how many files a tile of it was cut.
        """
        wanted = [row for row, seen in looks.items()
                  if len(seen) < self.looks and scene["pass"] not in seen]
        if not wanted:
            return
        masks = self._read(scene, "SCL", patch, wanted)
        clear = [row for row in wanted if np.isin(masks[row], CLEAR).any()]
        bands = [self._read(scene, band, patch, clear) if clear else {}
                 for band in BAND_NAMES]
        for row in clear:
            values = np.stack([band[row] for band in bands])  # (C, H, W)
            values[:, ~np.isin(masks[row], CLEAR)] = NODATA
            if (values != NODATA).any():
                looks[row][scene["pass"]] = values

    def _read(self, scene, name, patch, rows) -> dict[int, np.ndarray]:
        """Digital numbers of some rows in a file, NODATA where it has none.

        Of the mask, the classes: 0 where it has none.
        """
        address, gain, shift, missing = scene["bands"][name]
        if self.sign:
            address = self.sign(address)
        raw = self._patiently(lambda: _windows(address, patch, rows))
        if name == "SCL":
            return raw
        return {row: np.where(
            np.isin(values, (0, missing)), NODATA,
            np.rint(values * gain + shift).clip(0, NODATA - 1)).astype(int)
            for row, values in raw.items()}

    def _patiently(self, read):
        import rasterio

        forget = {}

        def once():
            try:
                with rasterio.Env(**forget):
                    return read()
            except rasterio.errors.RasterioError as error:
                text = f"{error} {error.__cause__ or ''}"
                # GDAL remembers what it got, errors and torn blocks too.
                forget["CPL_VSIL_CURL_NON_CACHED"] = "/vsicurl/"
            if any(word in text for word in (
                    "code: 404", "code: 410", "No such file")):
                raise Gone(f"has a file that is not there ({text:.150})")
            if "HTTP response code" in text or "CURL error" in text:
                raise ServiceError(5, f"cannot read ({text:.200}); tried "
                                   f"{TRIES} times where that may help")
            raise Unsteady(f"cannot read ({text:.200})")

        return patient(once, wait=self.wait)


def _kept(note: Path):
    """What an earlier search found, or None: nothing, or damaged."""
    try:
        mark, found = json.loads(note.read_text("utf-8"))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return found if files.fingerprint(found) == mark else None


def _windows(address, patch, rows) -> dict[int, np.ndarray]:
    """The 5 × 5 values of some rows in a file; 0 where it has none."""
    import rasterio
    from rasterio.windows import Window

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
            found[row] = part[np.ix_(lines - lines[0], columns - columns[0])]
    return found


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
