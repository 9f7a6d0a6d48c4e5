"""Maps: how likely a species is, cell by cell, or which name is likeliest.

Each cell is asked at several places. Of a range the mean is the map, their
spread its uncertainty; a map of names has the likeliest of each rank.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from geotree import checks, files, globe, taxonomy, world
from geotree.explore import seeing
from geotree.explore.judging import Judge, judge, loaded
from geotree.explore.seeing import NO_TREE, STATUS, Seen

DEGREES, EQUAL_AREA = "EPSG:4326", "EPSG:6933"  # EASE-Grid 2.0, metres
WORLD = (-180.0, -56.0, 180.0, 72.0)  # west, south, east, north
# What is known of a cell, by its number in the file.
CELLS = ("not asked", STATUS[1], NO_TREE, STATUS[2], STATUS[3])


def range_maps(model, source, classes: pd.DataFrame, species, *,
               region: tuple[float, float, float, float] = WORLD,
               step: float = 2.0, equal_area: bool = False,
               samples: int = 4, batch: int = 2048, seed: int = 0,
               year: int | None = None, **judging) -> xr.Dataset:
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
    year : int, optional
        Of the pixels; default: the source's, else 2020.
    **judging
        ``place``, ``weight``, ``temperature`` of
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
    found = np.full((len(wanted), *grid.shape), np.nan)
    for rows, odds in grid.asked(Judge(model, classes, **judging), source,
                                 batch=batch, year=year):
        found.reshape(len(wanted), -1)[:, rows] = odds[:, columns].T
    data = {}
    with warnings.catch_warnings():  # of cells without an answer
        warnings.simplefilter("ignore", RuntimeWarning)
        for name, values, title in (
                ("probability", np.nanmean(found, axis=-1), "probability "
                 "that a tree seen in the cell is of the species"),
                ("uncertainty", np.nanstd(found, axis=-1, ddof=1),
                 "standard deviation of the probability among the places "
                 "asked in the cell")):
            data[name] = grid.layer(values.astype(np.float32), "species",
                                    long_name=title, units="1")
    return grid.dataset(data, source).assign_coords(
        species=np.array(wanted, dtype=object))


def name_map(model, source, *, region: tuple[float, float, float, float],
             step: float, equal_area: bool = False, samples: int = 1,
             batch: int = 2048, seed: int = 0, year: int | None = None,
             device: str = "auto", cache: str | Path | None = None,
             progress: bool = False, **judging) -> xr.Dataset:
    """Map the likeliest name at each rank, and how sure it is.

    Parameters
    ----------
    model : path, hub id or model
    source, region, step, equal_area, batch, seed, year
        As in :func:`range_maps`.
    samples : int
        Places asked in each cell; their probabilities are averaged.
    device : str
    cache, progress
        As in :func:`geotree.explore.predict`: a map that was stopped goes
        on.
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
    for rows, odds in grid.asked(
            judged, source, batch=batch, year=year, progress=progress,
            cache=files.cache_folder(cache)):
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

    def asked(self, judge, source, *, batch: int, year, **how):
        """Ask about the land: (rows, (rows, K) probabilities), in parts.

        A cell is never in two parts.
        """
        land = np.flatnonzero(world.is_land(lat=self.lat, lon=self.lon))
        seen = Seen(source, lat=self.lat[land], lon=self.lon[land],
                    year=seeing.year_of(source, year) or seeing.YEAR,
                    rng=self.rng, batch=batch, **how)
        of = np.zeros(len(seen.table) + 1, int)  # the last: no tree
        of[seen.back[::-1]] = np.arange(len(land))[::-1]
        row = land[of[:-1]]
        first = np.flatnonzero(np.diff(row // self.shape[2], prepend=-1))
        size = max(batch - self.shape[2] + 1, 1)
        edges = first[np.diff(first // size, prepend=-1) > 0]
        for rows, images, environment in seen.blocks(edges):
            yield row[rows], np.concatenate([joined for _, joined in (
                judge.answers(images, environment))])
        self.status[land] = seen.status
        seeing.warn_of_failed(seen.status, seen.reason)

    def layer(self, values, *leading: str, **about) -> tuple:
        """Values of the cells as a variable of a dataset."""
        shape = *values.shape[:len(leading)], *self.shape[:2]
        return ((*leading, "y", "x"), values.reshape(shape),
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
