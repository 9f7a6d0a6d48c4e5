"""Google Earth Engine as a source: real pixels, few requests.

One expression holds twelve monthly medians of ten bands; a month without a
clear look stays empty without being asked for first. Samples of one
Sentinel-2 tile share a request, lonely ones have their own, and the looked
up variables of up to a thousand samples come in one. Explained in chapter
02; limits are those of developers.google.com/earth-engine/guides/usage.
"""

import os
from functools import partial

import numpy as np
import pandas as pd

from geotree import checks
from geotree.network import patient
from geotree.sources import BYTES, SEEN, Pixels, Plan, calls, grid
from geotree.sources.grid import PIXEL, Imagery
from geotree.variables import NODATA, PATCH, VARIABLE_NAMES

TIERS = {"community": 150, "contributor": 1_000, "partner": 100_000}
LOOKUP = 1_000  # samples of variables in a request; a page of answers
_SECONDS = 2.0, 1.0  # of a request, and of each sample in it; estimates


class EarthEngine(Imagery):
    """Pixels and variables from Google Earth Engine.

    Parameters
    ----------
    project : str, optional
        Cloud project; default ``EE_PROJECT_ID``. Log in with the client's
        own ``earthengine authenticate``. A client that is initialised
        already is used as it is.
    year : int or "own"
        Year of the imagery, or that of each row of a table.
    cloud_score : float or None
        Pixels below this Cloud Score+ (``cs_cdf``) are masked; None masks
        none.
    cloudy : float
        Scenes with more clouds than this (%) are left out.
    tier, share : str, float
        Your EECU tier and the part of its month that a run may plan for.
    eecu_seconds : float
        EECU-seconds a sample. The default is a guess: measure a few hundred
        samples first, under the workload tag ``geotree`` in Cloud
        Monitoring.
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
    A fixed 2020 and scenes below 30 % cloud without a pixel mask
    (``year=2020, cloud_score=None, cloudy=30``) are what the release did;
    its patches lie on a grid of degrees, which become ever narrower towards
    the poles.
    """

    name = "earthengine"
    origin = "are real (Google Earth Engine)"

    def __init__(self, project: str | None = None, *,
                 year: int | str = 2020, cloud_score: float | None = 0.6,
                 cloudy: float = 80.0, tier: str = "community",
                 share: float = 0.8, eecu_seconds: float = 5.0,
                 workers: int = 32, points: int = 25, chunk: int = 256,
                 wait: float = 1.0):
        checks.one_of(tier, TIERS, name="tier")
        for name, value, limits in (
                ("share", share, {"low": 0, "high": 1}),
                ("cloud_score", cloud_score or 0, {"low": 0, "high": 1}),
                ("cloudy", cloudy, {"low": 0, "high": 100}),
                ("eecu_seconds", eecu_seconds, {"low": 0}),
                ("points", points, {"low": 1, "whole": True}),
                ("chunk", chunk, {"low": 1, "whole": True})):
            checks.number(value, name=name, **limits)
        super().__init__(year=year, workers=workers, wait=wait)
        self.project = project or os.environ.get("EE_PROJECT_ID")
        self.cloud_score, self.cloudy = cloud_score, cloudy
        self.budget = share * TIERS[tier]
        self.eecu_seconds, self.chunk = eecu_seconds, chunk
        self.points = points

    def attrs(self) -> dict[str, str | int | float]:
        """Provenance for the cube."""
        return self._attrs(
            product=calls.SENTINEL2,
            mask="none" if self.cloud_score is None else
            f"{calls.CLOUD_SCORE} cs_cdf ≥ {self.cloud_score}",
            scenes=f"cloudy pixels < {self.cloudy:g} %",
            elevation=calls.DEM, soil=calls.SOIL,
            climate=calls.CLIMATE,
            title="Sentinel-2 by Google Earth Engine")

    def plan(self, table: pd.DataFrame) -> Plan:
        """Requests, EECU-hours and time for a table in its order.

        Samples that show nothing all year cost a second look each.
        """
        n = len(table)
        where = self._where(table).assign(
            chunk=np.arange(n) // self.chunk).query(SEEN)
        shared = where.groupby(["chunk", "tile", "year"]).size()
        requests = int((-(-shared // self.points)).sum())
        chunks = np.bincount(np.arange(n) // self.chunk)
        requests += int((-(-chunks // LOOKUP)).sum())
        seconds = requests * _SECONDS[0] + n * _SECONDS[1]
        return Plan(n, requests, n * BYTES, seconds / self.workers,
                    n * self.eecu_seconds / 3600, self.budget)

    def fetch(self, table: pd.DataFrame) -> Pixels:
        """Pixels and variables of each row of a table.

        Raises
        ------
        ServiceError
            The log-in has expired, the quota is used up, or the service
            fails for long.
        """
        import ee

        images, environment, patch, failed = self._blank(table)
        place = np.column_stack([table["decimalLongitude"],
                                 table["decimalLatitude"]]).astype(float)
        groups = self._groups(table)

        def look_up(rows):
            found = self._rows(rows, calls.lookup(_points(place, rows)))
            environment[rows, 2:] = _numbers(found, VARIABLE_NAMES[2:])

        def picture(year, names, rows):
            image = calls.composite(year, names, ee.Geometry.MultiPoint(
                place[rows].tolist()), cloud_score=self.cloud_score,
                cloudy=self.cloudy)
            images[rows] = self._sample(image, patch, rows).reshape(
                -1, *images.shape[1:])

        def pictures(wanted, names):
            return [(partial(picture, year, names(tile)), part)
                    for tile, year, rows in groups
                    for part in _parts(rows[wanted[rows]], self.points)]

        def fail(tasks):
            for told in self._pool.map(self._split, tasks):
                failed.update(told)

        calls.start(self.project, self.workers)
        rows = np.arange(len(table))
        fail([*((look_up, part) for part in _parts(rows, LOOKUP)),
              *pictures(rows >= 0, grid.names)])
        # At the borders of UTM zones, slivers of squares belong to a
        # tile beside them.
        dark = (images == NODATA).all(axis=(1, 2, 3, 4))
        dark[list(failed)] = False
        fail(pictures(dark, lambda tile: None))
        return self._answer(images, environment, failed)

    # Requests ---------------------------------------------------------------

    def _split(self, read, rows) -> dict[int, str]:
        """Read rows, in halves where they are too many for a request.

        Returns those that fail, and why.
        """
        try:
            read(rows)
        except calls.TooLarge as error:
            if len(rows) == 1:
                return {int(rows[0]): str(error)}
            half = len(rows) // 2
            return self._split(read, rows[:half]) | self._split(
                read, rows[half:])
        except calls.Refused as error:
            return dict.fromkeys(rows.tolist(), str(error))
        return {}

    def _sample(self, image, patch, rows):
        """Patches of one zone by their middle pixels: (N, 120, 5, 5)."""
        import ee

        crs, half = f"EPSG:{patch.epsg[rows[0]]}", PIXEL * PATCH / 2
        middle = np.stack([patch.x + half, patch.y - half], axis=1)
        near = image.neighborhoodToArray(ee.Kernel.square(PATCH // 2,
                                                          "pixels"), NODATA)
        table = self._rows(rows, near.sampleRegions(
            collection=_points(middle, rows, ee.Projection(crs)),
            projection=ee.Projection(
                crs, [PIXEL, 0, 0, 0, -PIXEL, 0])))
        found = _numbers(table, calls.STACK, PATCH, PATCH)
        if (found != found.round().clip(0, NODATA)).any():  # NaN is not NaN
            raise calls.Refused("Earth Engine sent pixels that are no whole "
                                f"numbers from 0 to {NODATA}")
        return found.astype(np.uint16)

    def _rows(self, rows, collection) -> list[dict]:
        """Properties of the feature of each row, page by page."""
        table, token = {}, {}
        while token is not None:
            asked = {"expression": collection, "pageSize": LOOKUP,
                     "workloadTag": "geotree", **token}
            page, after = patient(partial(calls.page, asked), wait=self.wait)
            if page.keys() & table.keys():
                raise calls.Refused("Earth Engine sent samples twice")
            table |= page
            token = {"pageToken": after} if after else None
        lost = len(set(rows.tolist()) - set(table))
        if lost:
            raise calls.Refused(f"Earth Engine left out {lost} of "
                                f"{len(rows)} samples")
        return [table[row] for row in rows.tolist()]


def _numbers(rows: list[dict], names, *shape: int) -> np.ndarray:
    """Values of some names: (N, names, …) float, NaN where there is none."""
    try:
        return np.array([[one.get(name) for name in names] for one in rows],
                        float).reshape(len(rows), len(names), *shape)
    except (TypeError, ValueError) as error:
        raise calls.Refused("Earth Engine sent other values than numbers of "
                            f"shape {shape} ({error!s:.100})") from error


def _parts(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[at:at + size] for at in range(0, len(rows), size)]


def _points(place, rows, *projection):
    """Features at the places of rows, each with its number as ``sid``."""
    import ee

    return ee.FeatureCollection([ee.Feature(
        ee.Geometry.Point(place[row].tolist(), *projection), {"sid": row})
        for row in rows.tolist()])
