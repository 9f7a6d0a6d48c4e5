"""Range maps: how likely a tree of a species is, cell by cell.

Each cell is asked at several places. The mean is the map, their spread its
uncertainty. A map of names has the likeliest of each rank instead.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import xarray as xr

from geotree import checks, globe, taxonomy, world
from geotree.explore.answers import NO_TREE, STATUS, ask, warn_of_failed
from geotree.explore.judging import judge, loaded
from geotree.sources import FAILED

DEGREES, EQUAL_AREA = "EPSG:4326", "EPSG:6933"  # EASE-Grid 2.0, metres
WORLD = (-180.0, -56.0, 180.0, 72.0)  # west, south, east, north
# What is known of a cell, by its number in the file.
CELLS = ("not asked", STATUS[1], NO_TREE, STATUS[2], STATUS[3])


def range_maps(model, source, classes: pd.DataFrame, species, *,
               region: tuple[float, float, float, float] = WORLD,
               step: float = 2.0, equal_area: bool = False,
               samples: int = 4, batch: int = 2048, seed: int = 0,
               **asking) -> xr.Dataset:
    """Map the probability of some species over a region.

    Parameters
    ----------
    model, source, classes
        As in :func:`geotree.explore.ask`.
    species : str or list of str
        Names of ``classes``.
    region : (west, south, east, north)
        Degrees; default: where trees grow.
    step : float
        Side of a cell in degrees; of an equal-area map, of a cell as large
        as one at the equator.
    equal_area : bool
        Cells of equal area (EPSG:6933) instead of equal degrees.
    samples : int
        Places asked in each cell, at least 2.
    batch : int
        Places asked at a time, so that memory stays flat.
    seed : int
        Of the places within the cells.
    **asking
        ``year``, ``place``, ``weight``, ``temperature`` of
        :func:`geotree.explore.ask`.

    Returns
    -------
    Dataset
        ``probability`` and ``uncertainty`` (species, y, x) float32, both
        from 0 to 1; NaN at sea and where no tree was seen.

    Raises
    ------
    ValueError
        A species is not among the classes, or the region is empty.
    """
    wanted = [species] if isinstance(species, str) else list(species)
    columns = pd.Index(classes["species"]).get_indexer(wanted)
    if (columns < 0).any():
        unknown = wanted[int((columns < 0).argmax())]
        raise ValueError(f"{unknown!r} is not among the {len(classes)} "
                         "classes. Which names there are is in "
                         "classes['species'].")
    checks.number(samples, name="samples", low=2, whole=True)
    grid = _Grid(region, step, equal_area, samples, seed)
    found = np.full((*grid.shape, len(wanted)), np.nan)
    for rows, odds in grid.asked(model, source, batch, classes=classes,
                                 **asking):
        found.reshape(-1, len(wanted))[rows] = odds[:, columns]
    return _ranges(found, grid, wanted, source)


def name_map(model, source, *, region: tuple[float, float, float, float],
             step: float, equal_area: bool = False, samples: int = 1,
             batch: int = 2048, seed: int = 0, year: int = 2020,
             device: str = "auto", **judging) -> xr.Dataset:
    """Map the likeliest name at each rank, and how sure it is.

    Parameters
    ----------
    model : path, hub id or model
    source, region, step, equal_area, batch, seed, year
        As in :func:`range_maps`.
    samples : int
        Places asked in each cell; their probabilities are averaged.
    device : str
    **judging
        ``prior``, ``checklist``, ``country`` of
        :func:`geotree.explore.predict`.

    Returns
    -------
    Dataset
        For each rank its name's number (y, x) uint16, whose names are in
        the attribute ``names`` (0: no answer), and ``<rank>_confidence``
        (y, x) float32, 0 to 1; ``status`` as in :func:`range_maps`.
    """
    checks.number(samples, name="samples", low=1, whole=True)
    judged, _ = judge(loaded(model, device), **judging)
    grid = _Grid(region, step, equal_area, samples, seed)
    groups = {rank: taxonomy.members(judged.classes, rank)
              for rank in taxonomy.RANKS}
    cells = grid.shape[0] * grid.shape[1]
    best = {rank: np.full(cells, -1) for rank in groups}
    sure = {rank: np.full(cells, np.nan, np.float32) for rank in groups}
    asking = {name: value for name, value in vars(judged).items()
              if name != "model"}
    for rows, odds in grid.asked(judged.model, source, batch, year=year,
                                 **asking):
        cell, of = np.unique(rows // samples, return_inverse=True)
        mean = taxonomy.sum_groups(odds.T, of).T  # (cells, K)
        mean /= mean.sum(axis=1, keepdims=True)
        for rank, (_, group) in groups.items():
            summed = taxonomy.sum_groups(mean, group)
            best[rank][cell] = summed.argmax(axis=1)
            sure[rank][cell] = summed.max(axis=1)
    data = {}
    for rank, (names, _) in groups.items():
        here = np.unique(best[rank][best[rank] >= 0])
        code = np.searchsorted(here, best[rank]) + 1
        data[str(rank)] = grid.layer(
            np.where(best[rank] < 0, 0, code).astype(np.uint16),
            long_name=f"likeliest {rank}", names=names[here].tolist())
        data[f"{rank}_confidence"] = grid.layer(
            sure[rank], long_name=f"probability of the likeliest {rank}",
            units="1")
    return grid.dataset(data, source)


class _Grid:
    """Cells of a map, places in them, and what became of each."""

    def __init__(self, region, step, equal_area, samples, seed):
        self.crs = EQUAL_AREA if equal_area else DEGREES
        self.x, self.y, self.step = _axes(region, step, equal_area)
        self.shape = len(self.y), len(self.x), samples
        self.rng = np.random.default_rng(seed)
        offset = self.rng.random((len(self.y) * len(self.x), samples, 2))
        here = np.stack(np.meshgrid(self.x, self.y), -1).reshape(-1, 1, 2)
        here = here + self.step * (offset - 0.5)
        self.lat, self.lon = _degrees(here.reshape(-1, 2), equal_area)
        self.status = np.full(len(self.lat), CELLS[0], object)

    def asked(self, model, source, batch: int, **asking):
        """Ask about the land: (rows, (rows, K) probabilities), in parts.

        A cell is never in two parts. Where a service fails for a whole
        part, nothing more is asked of it.
        """
        size = max(batch // self.shape[2], 1)
        land = world.is_land(lat=self.lat, lon=self.lon)
        self._check(source, land, **asking)
        reason = np.full(len(self.lat), "", object)
        of_cell = np.arange(len(land)).reshape(-1, self.shape[2])
        of_cell = of_cell[land[of_cell].any(axis=1)]
        for start in range(0, len(of_cell), size):
            rows = of_cell[start:start + size].ravel()
            rows = rows[land[rows]]
            with warnings.catch_warnings():  # counted once, in the end
                warnings.filterwarnings(
                    "ignore", ".*(could not be fetched|samples failed)")
                answers = ask(model, source, lat=self.lat[rows],
                              lon=self.lon[rows], rng=self.rng, **asking)
            self.status[rows], reason[rows] = answers.status, answers.reason
            if (answers.status == STATUS[FAILED]).all():
                rest = of_cell[start:].ravel()
                rest = rest[land[rest]]
                self.status[rest] = STATUS[FAILED]
                reason[rest] = answers.reason[0]
                break
            if len(answers):
                yield rows[answers.row], answers.prior
        warn_of_failed(self.status[land], reason[land])

    def _check(self, source, land, year=2020, **asking) -> None:
        """The plan for all places together must be within the budget."""
        source.plan(pd.DataFrame({
            "gbifID": np.flatnonzero(land), "decimalLatitude": self.lat[land],
            "decimalLongitude": self.lon[land], "year": year})).check()

    def layer(self, values, **about) -> tuple:
        """Values of the cells as a variable of a dataset."""
        return (("y", "x"), values.reshape(self.shape[:2]),
                about | {"grid_mapping": "crs"})

    def dataset(self, data: dict, source) -> xr.Dataset:
        """Variables with axes, grid and the state of each cell."""
        from rasterio.crs import CRS

        code = pd.Index(CELLS).get_indexer(self.status)
        code = code.reshape(-1, self.shape[2])
        some = (code == 1).any(axis=1)  # an answer outweighs what failed
        data["status"] = self.layer(
            np.where(some, 1, code.max(axis=1)).astype(np.uint8),
            long_name="what is known of the cell",
            flag_values=list(range(len(CELLS))),
            flag_meanings=" ".join(x.replace(" ", "_") for x in CELLS))
        data["crs"] = ((), 0, {"crs_wkt": CRS.from_string(self.crs).to_wkt(),
                               "spatial_ref": self.crs})
        unit = "degrees_" if self.crs == DEGREES else "m"
        axes = {"x": ("x", self.x, {"units": unit + "east" * (unit != "m")}),
                "y": ("y", self.y, {"units": unit + "north" * (unit != "m")})}
        return xr.Dataset(data, axes, {
            **source.attrs(), "samples_per_cell": self.shape[2],
            "step": self.step, "Conventions": "CF-1.8"})


def _axes(region, step: float, equal_area: bool):
    """Centres of columns and rows (north first), and a cell's side."""
    west, south, east, north = region
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90
            and step > 0):
        raise ValueError(f"region is {region} with a step of {step}, "
                         "expected (west, south, east, north) in degrees, "
                         "within the globe, and a step above 0.")
    if equal_area:
        from rasterio.warp import transform

        (west, east), (south, north) = transform(
            DEGREES, EQUAL_AREA, [west, east], [south, north])
        step *= globe.METRES
    wide = max(round((east - west) / step), 1)
    tall = max(round((north - south) / step), 1)
    x = west + step * (np.arange(wide) + 0.5)
    return x, north - step * (np.arange(tall) + 0.5), step


def _degrees(points: np.ndarray, equal_area: bool):
    """Latitude and longitude of (N, 2) x, y, kept on the globe."""
    lon, lat = points.T
    if equal_area:
        from rasterio.warp import transform

        lon, lat = map(np.array, transform(EQUAL_AREA, DEGREES, lon, lat))
    return np.clip(lat, -90, 90), np.clip(lon, -180, 180)


def _ranges(found, grid: _Grid, species, source) -> xr.Dataset:
    """Mean and spread of (rows, columns, samples, species), with units."""
    seen = np.isfinite(found).sum(axis=2)
    total = np.nansum(found, axis=2)
    mean = np.divide(total, seen, where=seen > 0,
                     out=np.full_like(total, np.nan))
    square = np.nansum((found - mean[:, :, None]) ** 2, axis=2)
    spread = np.sqrt(np.divide(square, seen - 1, where=seen > 1,
                               out=np.full_like(total, np.nan)))
    data = {}
    for name, values, title in (
            ("probability", mean, "probability that a tree seen in the cell "
             "is of the species"),
            ("uncertainty", spread, "standard deviation of the probability "
             "among the places asked in the cell")):
        data[name] = (("species", "y", "x"),
                      np.moveaxis(values, -1, 0).astype(np.float32),
                      {"long_name": title, "units": "1",
                       "grid_mapping": "crs"})
    return grid.dataset(data, source).assign_coords(
        species=np.array(species, dtype=object))
