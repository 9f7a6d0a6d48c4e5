"""Google Earth Engine as a source: real pixels, few requests.

One expression holds twelve monthly medians of ten bands; a month without a
clear look stays empty without being asked for first. Samples of one
Sentinel-2 tile share a request, lonely ones have their own, and the looked
up variables of up to a thousand samples come in one. Explained in chapter
02; limits are those of developers.google.com/earth-engine/guides/usage.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import wait

import numpy as np
import pandas as pd

from geotree.network import Pool, patient
from geotree.sources import FAILED, NO_IMAGERY, OK, Pixels, Plan, calls
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

TIERS = {"community": 150, "contributor": 1_000, "partner": 100_000}
LOOKUP = 1_000  # samples of variables in a request; a page of answers
_SECONDS = 2.0, 1.0  # of a request, and of each sample in it; estimates


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
    origin = "are real (Google Earth Engine)"

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
        self._pool = Pool(workers)

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
        """Requests, EECU-hours and time for a table in its order.

        Samples that show nothing all year cost a second look each.
        """
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
        named = self.grid == "utm"

        def images(rows, named):
            return [(self._image, patch, place, named, *group, found)
                    for group in self._groups(table, rows)]

        with calls.asking(self.project, self.workers):
            failed = self._all([
                *((self._look_up, place, rows, found)
                  for rows in np.split(np.arange(n), range(LOOKUP, n, LOOKUP))
                  ), *images(np.arange(n), named)])
            if named:
                # At the borders of UTM zones, slivers of squares belong to
                # a tile beside them.
                dark = found.status == NO_IMAGERY
                dark[sorted(failed)] = False
                failed |= self._all(images(np.flatnonzero(dark), False))
        found.status[sorted(failed)] = FAILED
        return found._replace(messages=tuple(
            failed[row] for row in sorted(failed)))

    def _all(self, tasks) -> dict[int, str]:
        """Do tasks side by side; returns the rows that fail."""
        stop = threading.Event()

        def work(method, *args):
            try:
                return {} if stop.is_set() else method(*args)
            except BaseException:
                stop.set()
                raise

        jobs = [self._pool.submit(work, *task) for task in tasks]
        failed: dict[int, str] = {}
        try:
            for job in jobs:
                failed |= job.result()
        except BaseException:
            stop.set()
            wait([job for job in jobs if not job.cancel()], 1)
            raise
        return failed

    def _tiles(self, table):
        return grids.tiles(lat=table["decimalLatitude"],
                           lon=table["decimalLongitude"])

    def _years(self, table):
        return (table["year"].to_numpy(int) if self.year == "own"
                else np.full(len(table), self.year))

    def _groups(self, table, rows):
        """Of these rows those that share a request, with tile and year."""
        tiles, years = self._tiles(table)[rows], self._years(table)[rows]
        size = 1 if self.grid == "release" else self.points
        for (tile, year), members in pd.Series(rows).groupby([tiles, years]):
            # Sentinel-2 sees nothing where UTM ends.
            for start in range(0, len(members) if tile else 0, size):
                yield members.to_numpy()[start:start + size], tile, year

    def _image(self, patch, place, named, rows, tile, year, found):
        """Fill the pixels of some rows; returns those that fail."""
        names = grids.names(tile) if named else None
        return self._split(rows, lambda part: self._read(
            patch, place, part, names, year, found))

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

        array = self._call(calls.array, {
            "expression": image, "fileFormat": "NPY", "grid": {
                "dimensions": {"width": PATCH, "height": PATCH},
                "crsCode": crs, "affineTransform": {
                    "scaleX": patch.scale, "shearX": 0,
                    "translateX": float(patch.x[row]), "shearY": 0,
                    "scaleY": -patch.scale,
                    "translateY": float(patch.y[row])}}})
        if array.shape != (PATCH, PATCH) or list(array.dtype.names) != STACK:
            raise calls.Refused("Earth Engine sent another patch than asked "
                                "for")
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
        table = self._rows(rows, near.sampleRegions(
            collection=points, projection=ee.Projection(
                crs, [patch.scale, 0, 0, 0, -patch.scale, 0])))
        return np.array([[table[row][name] for name in STACK]
                         for row in rows]).astype(np.uint16)

    # Variables --------------------------------------------------------------

    def _look_up(self, place, rows, found):
        def read(part):
            import ee

            table = self._rows(part, lookup(ee.FeatureCollection([
                ee.Feature(ee.Geometry.Point(
                    [float(place["lon"][row]), float(place["lat"][row])]),
                    {"sid": int(row)}) for row in part])))
            for row in part:
                values = [table[row].get(name)
                          for name in VARIABLE_NAMES[2:]]
                found.environment[row, 2:] = np.array(values, float)

        return self._split(rows, read) if len(rows) else {}

    # Requests ---------------------------------------------------------------

    def _split(self, rows, read) -> dict[int, str]:
        """Read rows, in halves where they are too many for a request."""
        try:
            read(rows)
        except calls.TooLarge as error:
            if len(rows) == 1:
                return {int(rows[0]): str(error)}
            half = len(rows) // 2
            return (self._split(rows[:half], read)
                    | self._split(rows[half:], read))
        except calls.Refused as error:
            return dict.fromkeys(map(int, rows), str(error))
        return {}

    def _rows(self, rows, collection) -> dict[int, dict]:
        """Properties of the feature of each row, page by page."""
        table, token = {}, None
        while True:
            page, token = self._call(calls.page, {
                "expression": collection, "pageSize": LOOKUP,
                **({"pageToken": token} if token else {})})
            table |= page
            if not token:
                break
        lost = [row for row in rows if row not in table]
        if lost:
            raise calls.Refused(f"Earth Engine left out {len(lost)} of "
                                f"{len(rows)} samples")
        return table

    def _call(self, method, params):
        tagged = {**params, "workloadTag": self.tag}
        return patient(lambda: calls.once(method, tagged), wait=self.wait)
