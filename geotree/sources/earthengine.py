"""Google Earth Engine as a source: real pixels, few requests.

One expression holds twelve monthly medians of ten bands; a month without a
clear look stays empty without being asked for first. Samples of one
Sentinel-2 tile share a request, lonely ones have their own, and the looked
up variables of up to a thousand samples come in one. Explained in chapter
02; limits are those of developers.google.com/earth-engine/guides/usage.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from geotree.service import ServiceError, Unsteady, patient
from geotree.sources import FAILED, NO_IMAGERY, OK, Pixels, Plan
from geotree.sources import grid as grids
from geotree.sources.expressions import (
    CLIMATE,
    CLOUD_SCORE,
    DEM,
    SENTINEL2,
    SOIL,
    STACK,
    composite,
    lookup,
)
from geotree.variables import BAND_NAMES, MONTHS, NODATA, PATCH, VARIABLE_NAMES

HIGH_VOLUME = "https://earthengine-highvolume.googleapis.com"
TIERS = {"community": 150, "contributor": 1_000, "partner": 100_000}
LOOKUP = 1_000  # samples of variables in a request; a page of answers
_SECONDS = 2.0, 1.0  # of a request, and of each sample in it; estimates
_LARGE = ("too large", "memory", "payload size", "size limit",
          "too many pixels", "computation timed out")
_ACCOUNT = ("credential", "authenticat", "authoriz", "permission",
            "not registered", "not signed up", "has not been used")
_BUSY = ("too many", "timed out", "rate limit", "try again",
         "internal error", "unavailable", "capacity")

# numpy parses a header with ast, which Python 3.11 may lose count of when
# several threads do so.
_PARSING = threading.Lock()


class EarthEngine:
    """Pixels and variables from Google Earth Engine.

    Parameters
    ----------
    project : str, optional
        Cloud project; default ``EE_PROJECT_ID``. Log in with the client's
        own ``earthengine authenticate``. A client that is initialised
        already is used as it is.
    year : int or "own"
        Year of the imagery, or that of each occurrence.
    cloud_score : float or None
        Pixels below this Cloud Score+ (``cs_cdf``) are masked; None masks
        none.
    cloudy : float
        Scenes with more clouds than this (%) are left out.
    grid : str
        ``utm`` or ``release``, see :func:`geotree.sources.grid.patches`.
    tier, share : str, float
        Your EECU tier and the part of its month that a run may plan for.
    eecu_seconds : float
        EECU-seconds a sample. The default is a guess: measure a few hundred
        samples first, under the workload tag ``tag`` in Cloud Monitoring.
    workers : int
        Requests at a time; the quota is 40 a project.
    points : int
        Samples of a tile in one request.
    chunk : int
        As given to :func:`geotree.pixels.download`, for the plan.
    wait : float
        Upper limit of the first pause after a failure in seconds.

    Notes
    -----
    A release patch, a fixed 2020 and scenes below 30 % cloud without a
    pixel mask (``grid="release", year=2020, cloud_score=None, cloudy=30``)
    are what the release did.
    """

    name = "earthengine"

    def __init__(self, project: str | None = None, *,
                 year: int | str = 2020, cloud_score: float | None = 0.6,
                 cloudy: float = 80.0, grid: str = "utm",
                 tier: str = "community", share: float = 0.8,
                 eecu_seconds: float = 5.0, workers: int = 32,
                 points: int = 25, chunk: int = 256, tag: str = "geotree",
                 wait: float = 1.0):
        if tier not in TIERS or not 0 < share <= 1:
            raise ValueError(f"tier is {tier!r}, share {share}; expected "
                             f"{', '.join(TIERS)} and 0 to 1.")
        if year != "own" and not isinstance(year, int):
            raise ValueError(f"year is {year!r}, expected a year or 'own'.")
        grids.patches(lat=0, lon=0, grid=grid)  # names a wrong grid
        self.project = project or os.environ.get("EE_PROJECT_ID")
        self.year, self.grid, self.chunk = year, grid, chunk
        self.cloud_score, self.cloudy = cloud_score, cloudy
        self.budget = share * TIERS[tier]
        self.eecu_seconds, self.workers = eecu_seconds, workers
        self.points, self.tag, self.wait = points, tag, wait
        self._pool = ThreadPoolExecutor(workers)
        self._starting = threading.Lock()

    def attrs(self) -> dict[str, str | int | float]:
        """Provenance for the cube."""
        mask = ("none" if self.cloud_score is None else
                f"{CLOUD_SCORE} cs_cdf ≥ {self.cloud_score}")
        return {"source": self.name, "product": SENTINEL2, "mask": mask,
                "scenes": f"cloudy pixels < {self.cloudy:g} %",
                "composite": "median of each calendar month",
                "imagery_year": self.year, "grid": self.grid,
                "elevation": DEM, "soil": SOIL, "climate": CLIMATE,
                "title": "Sentinel-2 by Google Earth Engine"}

    # Cost -------------------------------------------------------------------

    def plan(self, table: pd.DataFrame) -> Plan:
        """Requests, EECU-hours and time for a table in its order."""
        n = len(table)
        chunk = np.arange(n) // self.chunk
        requests = int((-(-np.bincount(chunk) // LOOKUP)).sum()) if n else 0
        tiles, names = pd.factorize(self._tiles(table))
        if self.grid == "release":
            requests += n
        else:
            keys = pd.DataFrame({"chunk": chunk, "tile": tiles,
                                 "year": self._years(table)})
            seen = np.append(names != "", False)[tiles]  # not at the poles
            sizes = keys[seen].groupby(["chunk", "tile", "year"]).size()
            requests += int((-(-sizes // self.points)).sum())
        size = MONTHS * len(BAND_NAMES) * PATCH**2 * 2 + 27 * 4 + 1
        seconds = requests * _SECONDS[0] + n * _SECONDS[1]
        return Plan(n, requests, n * size, seconds / self.workers,
                    n * self.eecu_seconds / 3600, self.budget)

    # Pixels -----------------------------------------------------------------

    def fetch(self, table: pd.DataFrame) -> Pixels:
        """Pixels and variables of each row of a table.

        Raises
        ------
        ServiceError
            The log-in has expired, the quota is used up, or the service
            fails for long.
        """
        self._start()
        n = len(table)
        found = Pixels(
            np.full((n, MONTHS, len(BAND_NAMES), PATCH, PATCH), NODATA,
                    np.uint16),
            np.full((n, len(VARIABLE_NAMES)), np.nan, np.float32),
            np.full(n, NO_IMAGERY, np.uint8))
        place = {"lat": table["decimalLatitude"].to_numpy(float),
                 "lon": table["decimalLongitude"].to_numpy(float)}
        found.environment[:, 0] = place["lon"]
        found.environment[:, 1] = place["lat"]
        patch = grids.patches(**place, grid=self.grid)
        jobs = [self._pool.submit(self._look_up, place, rows, found)
                for rows in np.split(np.arange(n), range(LOOKUP, n, LOOKUP))]
        jobs += [self._pool.submit(self._image, patch, place, *group, found)
                 for group in self._groups(table)]
        failed: dict[int, str] = {}
        try:
            for job in jobs:
                failed |= job.result()
        finally:
            for job in jobs:
                job.cancel()
        found.status[sorted(failed)] = FAILED
        return found._replace(messages=tuple(
            failed[row] for row in sorted(failed)))

    def _tiles(self, table):
        return grids.tiles(lat=table["decimalLatitude"],
                           lon=table["decimalLongitude"])

    def _years(self, table):
        return (table["year"].to_numpy(int) if self.year == "own"
                else np.full(len(table), self.year))

    def _groups(self, table):
        """Rows that share a request, with their tile and year."""
        tiles, years = self._tiles(table), self._years(table)
        rows = pd.Series(np.arange(len(table)))
        size = 1 if self.grid == "release" else self.points
        for (tile, year), members in rows.groupby([tiles, years]):
            # Sentinel-2 sees nothing where UTM ends.
            for start in range(0, len(members) if tile else 0, size):
                yield members.to_numpy()[start:start + size], tile, year

    def _image(self, patch, place, rows, tile, year, found):
        """Fill the pixels of some rows; returns those that fail."""
        names = grids.names(tile) if self.grid == "utm" else None
        failed = self._split(rows, lambda part: self._read(
            patch, place, part, names, year, found))
        empty = [row for row in rows if row not in failed and
                 (found.reflectance[row, :, 0] == NODATA).all()]
        if names and empty:  # slivers of zones have no tile of their own
            failed |= self._split(empty, lambda part: self._read(
                patch, place, part, None, year, found))
        return failed

    def _read(self, patch, place, rows, names, year, found):
        import ee

        where = ee.Geometry.MultiPoint(
            [[float(place["lon"][row]), float(place["lat"][row])]
             for row in rows])
        image = composite(year, names, where, cloud_score=self.cloud_score,
                          cloudy=self.cloudy)
        crs = f"EPSG:{patch.epsg[rows[0]]}"
        if len(rows) == 1:
            values = self._window(image, crs, patch, rows[0])[None]
        else:
            values = self._sample(image, crs, patch, rows)
        values = values.reshape(-1, MONTHS, len(BAND_NAMES), PATCH, PATCH)
        found.reflectance[rows] = values
        seen = (values != NODATA).any(axis=(1, 2, 3, 4))
        found.status[rows] = np.where(seen, OK, NO_IMAGERY)

    def _window(self, image, crs, patch, row):
        """One patch: (120, 5, 5)."""
        from numpy.lib.recfunctions import structured_to_unstructured

        array = self._call(_array, {
            "expression": image, "fileFormat": "NPY", "grid": {
                "dimensions": {"width": PATCH, "height": PATCH},
                "crsCode": crs, "affineTransform": {
                    "scaleX": patch.scale, "shearX": 0,
                    "translateX": float(patch.x[row]), "shearY": 0,
                    "scaleY": -patch.scale,
                    "translateY": float(patch.y[row])}}})
        if array.shape != (PATCH, PATCH) or list(array.dtype.names) != STACK:
            raise _Refused("Earth Engine sent another patch than asked for")
        return structured_to_unstructured(array).transpose(2, 0, 1)

    def _sample(self, image, crs, patch, rows):
        """Patches of one zone by their middle pixels: (N, 120, 5, 5)."""
        import ee

        half = patch.scale * PATCH / 2
        points = ee.FeatureCollection([ee.Feature(ee.Geometry.Point(
            [float(patch.x[row]) + half, float(patch.y[row]) - half],
            ee.Projection(crs)), {"sid": int(row)}) for row in rows])
        near = image.neighborhoodToArray(ee.Kernel.square(PATCH // 2,
                                                          "pixels"), NODATA)
        table = self._rows(near.sampleRegions(
            collection=points, projection=ee.Projection(
                crs, [patch.scale, 0, 0, 0, -patch.scale, 0])))
        lost = [row for row in rows if row not in table]
        if lost:
            raise _Refused(f"Earth Engine left out {len(lost)} of "
                           f"{len(rows)} samples")
        return np.array([[table[row][name] for name in STACK]
                         for row in rows]).astype(np.uint16)

    # Variables --------------------------------------------------------------

    def _look_up(self, place, rows, found):
        def read(part):
            import ee

            table = self._rows(lookup(ee.FeatureCollection([
                ee.Feature(ee.Geometry.Point(
                    [float(place["lon"][row]), float(place["lat"][row])]),
                    {"sid": int(row)}) for row in part])))
            for row in part:
                about = table.get(row, {})
                values = [about.get(name) for name in VARIABLE_NAMES[2:]]
                found.environment[row, 2:] = np.array(values, float)

        return self._split(rows, read) if len(rows) else {}

    # Requests ---------------------------------------------------------------

    def _split(self, rows, read) -> dict[int, str]:
        """Read rows, in halves where they are too many for a request."""
        try:
            read(rows)
        except _TooLarge as error:
            if len(rows) == 1:
                return {int(rows[0]): str(error)}
            half = len(rows) // 2
            return (self._split(rows[:half], read)
                    | self._split(rows[half:], read))
        except _Refused as error:
            return dict.fromkeys(map(int, rows), str(error))
        return {}

    def _rows(self, collection) -> dict[int, dict]:
        """Properties of each feature by its ``sid``, page by page."""
        import ee

        features, token = [], None
        while True:
            page = self._call(ee.data.computeFeatures, {
                "expression": collection, "pageSize": LOOKUP,
                **({"pageToken": token} if token else {})})
            features += page.get("features", [])
            token = page.get("nextPageToken")
            if not token:
                return {one["properties"]["sid"]: one["properties"]
                        for one in features}

    def _call(self, method, params):
        return patient(lambda: _once(method, {**params, "workloadTag":
                                              self.tag}), wait=self.wait)

    def _start(self):
        """Log in as the client does, unless somebody has."""
        import ee
        import requests

        with self._starting:
            if not ee.data.is_initialized():
                try:
                    ee.Initialize(project=self.project, opt_url=HIGH_VOLUME)
                except Exception as error:
                    raise _refusal(error) from error
            # The client keeps ten connections; a pool of 32 would open the
            # others anew each time.
            session = getattr(ee.data._get_state(), "requests_session", None)
            if session is not None:
                adapter = session.get_adapter("https://")
                if adapter._pool_maxsize < self.workers:
                    session.mount("https://", requests.adapters.HTTPAdapter(
                        pool_maxsize=self.workers))


class _TooLarge(Exception):
    """Fewer samples in a request would pass."""


class _Refused(Exception):
    """These samples fail, others may not."""


def _array(params):
    """Pixels as a structured array: (rows, columns)."""
    import ee

    data = ee.data.computePixels(params)
    with _PARSING:
        return np.load(io.BytesIO(data), allow_pickle=False)


def _once(method, params):
    """One call; says with its exception what to do next."""
    import ee
    from google.auth.exceptions import GoogleAuthError, TransportError

    try:
        return method(params)
    except ee.EEException as error:
        raise _meaning(error) from error
    except (ConnectionError, TimeoutError, TransportError) as error:
        raise Unsteady(f"no answer from Earth Engine ({error!s:.150})"
                       ) from error
    except GoogleAuthError as error:
        raise _refusal(error) from error
    except (ValueError, EOFError) as error:  # no JSON, or no array
        raise Unsteady("Earth Engine's answer is garbled") from error


def _meaning(error) -> Exception:
    """Read the status and the words of an error of the client."""
    response = getattr(error.__context__, "resp", None)
    status = int(getattr(response, "status", 0) or 0)
    text = str(error).lower()
    if any(word in text for word in _LARGE) or status == 413:
        return _TooLarge(str(error))
    if "eecu" in text:
        return ServiceError(
            errno.EDQUOT, f"Earth Engine's quota is used up ({error}). It "
            "is renewed each month. Finished chunks are kept: call again "
            "then, or ask for a higher tier")
    if status in (401, 403) or any(word in text for word in _ACCOUNT):
        return _refusal(error)
    if status == 429 or status >= 500 or any(
            word in text for word in _BUSY):
        return Unsteady(f"Earth Engine is busy ({error})")
    return _Refused(f"Earth Engine: {error}")


def _refusal(error) -> ServiceError:
    return ServiceError(
        errno.EACCES, f"Earth Engine does not let you in ({error!s:.300}). "
        "Log in with 'earthengine authenticate' and name a registered Cloud "
        "project in EE_PROJECT_ID; then call again")
