"""Open STAC catalogues as a source: real pixels, no account.

One search a tile and year says which scenes there are; from the least
cloudy scenes of a month, windows of 5 × 5 pixels are read straight from the
files. Good for up to some thousand samples: each tile takes hundreds of
small reads. Explained in chapter 02.
"""

import json
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import checks, files
from geotree.network import ServiceError, is_here, redact
from geotree.sources import BYTES, Pixels, Plan, layers, scenes
from geotree.sources.grid import PIXEL, Imagery
from geotree.sources.scenes import EARTH_SEARCH
from geotree.variables import BAND_NAMES, MONTHS, NODATA, PATCH

# Scene classification: dark, vegetation, bare, water, unclassified, snow.
CLEAR = (2, 4, 5, 6, 7, 11)


class Stac(Imagery):
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
        Year of the imagery, or that of each row of a table.
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
        checks.number(looks, name="looks", low=1, whole=True)
        checks.number(cloudy, name="cloudy", low=0, high=100)
        super().__init__(year=year, workers=workers, wait=wait)
        self.cache, self.url, self.sign = files.named(cache), url, sign
        self.collection, self.tile = collection, tile
        self.looks, self.cloudy = looks, cloudy
        self.left_out: dict[str, str] = {}
        self._rasters, self._searching = rasters or {}, threading.Lock()
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
        return self._attrs(
            product="Sentinel-2 L2A, "
            f"{self.collection or 'collection by year'}, {redact(self.url)}",
            mask="scene classification "
            f"{', '.join(map(str, CLEAR))} kept",
            scenes=f"cloud cover < {self.cloudy:g} %, at most {self.looks} "
            "clear a month", title="Sentinel-2 from an open catalogue",
            **{name: redact(path) for name, path in self.rasters.items()})

    def plan(self, table: pd.DataFrame) -> Plan:
        """Searches and reads, about two a file and sample's tile."""
        reads = MONTHS * ((self.looks + 1) + self.looks * len(BAND_NAMES))
        # A search has some pages.
        requests = len(self._groups(table)) * (5 + 2 * reads)
        rasters = layers.files_of(self.rasters, lat=table["decimalLatitude"],
                                  lon=table["decimalLongitude"])
        requests += 3 * sum(len(parts) for parts in rasters.values())
        return Plan(len(table), requests, len(table) * BYTES,
                    requests * 0.1 / self.workers)

    def fetch(self, table: pd.DataFrame) -> Pixels:
        """Pixels and variables of each row of a table.

        Raises
        ------
        ServiceError
            Rasters cannot be read. Of scenes, it is their samples that
            fail.
        """
        images, environment, patch, failed = self._blank(table)
        environment[:, 2:] = layers.patiently(lambda: layers.sample(
            self.rasters, lat=table["decimalLatitude"],
            lon=table["decimalLongitude"]), wait=self.wait)
        before, tasks = set(self.left_out), []
        groups = self._groups(table)
        searches = self._pool.map(self._search, [one[:2] for one in groups])
        for (tile, year, rows), (found, told) in zip(groups, searches,
                                                     strict=True):
            failed |= dict.fromkeys(rows.tolist(), told) if told else {}
            tasks += [(found, f"{tile} {year}-{month + 1:02d}", month, patch,
                       rows, images) for month in range(MONTHS)]
        for told in self._pool.map(self._month, tasks):
            failed |= told
        new = set(self.left_out) - before
        if new:
            one = min(new)
            warnings.warn(
                f"{len(new)} scenes are left out, for example '{one}': it "
                f"{self.left_out[one]}. All are in Stac.left_out",
                stacklevel=2)
        for (_, _, rows), (found, _) in zip(groups, searches, strict=True):
            if any(scene["id"] in self.left_out for scene in found):
                dark = (images[rows] == NODATA).all(axis=(1, 2, 3, 4))
                failed = dict.fromkeys(
                    rows[dark].tolist(),
                    "all files that may show it are gone") | failed
        return self._answer(images, environment, failed)

    # Scenes -----------------------------------------------------------------

    def _search(self, tile, year) -> tuple[list[dict], str]:
        try:
            return self.scenes(tile, year), ""
        except ServiceError as error:
            return [], f"{tile} {year}: {error.strerror}"

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

    def _month(self, found, name, month, patch, rows, images):
        """Fill a month of some rows; returns those that fail, and why."""
        looks = {row: {} for row in rows.tolist()}
        for scene in found:
            if scene["month"] != month + 1 or scene["id"] in self.left_out:
                continue
            try:
                self._look(scene, patch, looks)
            except layers.Unusable as error:
                self.left_out[scene["id"]] = str(error)
            except ServiceError as error:
                return dict.fromkeys(looks, f"{name}: {error.strerror}")
        for row, seen in looks.items():
            if seen:
                images[row, month] = median(np.array(list(seen.values())))
        return {}

    def _look(self, scene, patch, looks) -> None:
        """Add a scene to the rows that it shows and that want more.

        An overflight counts once, however often it was processed and into
        how many files a tile of it was cut.
        """
        wanted = [row for row, seen in looks.items()
                  if len(seen) < self.looks and scene["pass"] not in seen]
        masks = {row: np.isin(values, CLEAR) for row, values in self._read(
            *scene["bands"]["SCL"], patch, wanted).items()}
        clear = [row for row, mask in masks.items() if mask.any()]
        bands = [self._read(*scene["bands"][band], patch, clear)
                 for band in BAND_NAMES]
        for row in clear:
            values = np.where(masks[row], [band[row] for band in bands],
                              NODATA)  # (C, H, W)
            if (values != NODATA).any():
                looks[row][scene["pass"]] = values

    def _read(self, address, gain, shift, missing, patch, rows):
        """Digital numbers of some rows in a file, NODATA where it has none.

        Returns
        -------
        dict
            Row -> (H, W) int.
        """
        if not rows:
            return {}
        if self.sign:
            address = self.sign(address)
        raw = layers.patiently(lambda: _windows(address, patch, rows),
                               wait=self.wait)
        return {row: np.where(
            np.isin(values, (0, missing)), NODATA,
            np.rint(values * gain + shift).clip(0, NODATA - 1)).astype(int)
            for row, values in raw.items()}


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

    middle = (np.arange(PATCH) + 0.5) * PIXEL
    found = {row: np.zeros((PATCH, PATCH), int) for row in rows}
    with rasterio.open(address) as data:
        if data.crs is None:
            raise rasterio.RasterioIOError(f"'{address}' came torn")
        if np.dtype(data.dtypes[0]).kind not in "iu":
            raise layers.Unusable(
                f"has a file of {data.dtypes[0]}, not of whole numbers")
        at, code = data.transform, data.crs.to_epsg()
        if {at.a, -at.e} not in ({10}, {20}) or code not in patch.epsg[rows]:
            raise layers.Unusable(f"has pixels of {at.a:g} by {at.e:g} m in "
                                  f"EPSG:{code}, not of 10 or 20, north up, "
                                  f"in EPSG:{patch.epsg[rows[0]]}")
        for row in rows:
            columns = np.floor((patch.x[row] + middle - at.c)
                               / at.a).astype(int)
            lines = np.floor((at.f - patch.y[row] + middle)
                             / at.a).astype(int)
            if (code == patch.epsg[row] and min(columns[0], lines[0]) >= 0
                    and columns[-1] < data.width
                    and lines[-1] < data.height):
                found[row] = layers.cut(data, lines, columns)
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
