"""Maps: how likely a species is, cell by cell, or which name is likeliest.

Each cell is asked at several places. Of a range the mean is the map, their
spread its uncertainty; a map of names has the likeliest of each rank.
"""

import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from geotree import checks, files, taxonomy
from geotree.evaluation.predictions import expect
from geotree.explore import seeing, tiles
from geotree.explore.judging import Judge, judge, loaded
from geotree.explore.tiles import CELLS, Asked, Grid

WORLD = (-180.0, -56.0, 180.0, 72.0)  # west, south, east, north


def range_maps(model, source, classes: pd.DataFrame, species, *,
               region: tuple[float, float, float, float] = WORLD,
               step: float = 2.0, equal_area: bool = False,
               samples: int = 4, batch: int = 2048, year: int | None = None,
               cache: str | Path | None = None, workers=1, **judging
               ) -> xr.Dataset:
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
        as one at the equator. The region is rounded to whole cells.
    equal_area : bool
        Cells of equal area (EPSG:6933) instead of equal degrees.
    samples : int
        Places asked in each cell, at least 2.
    batch : int
        Places asked at a time: those of a tile, the unit of work.
    year : int, optional
        Of the pixels; default: the source's, else 2020.
    cache : path, optional
        Folder that keeps finished tiles, not their pixels: a map that was
        stopped goes on there. Default: memory alone.
    workers : int, str or dask.distributed.Client
        Who asks; see :func:`geotree.engine.open`. The bytes of the map do
        not depend on it.
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
    expect(model)
    wanted = [species] if isinstance(species, str) else species
    columns = taxonomy.find(wanted, classes)
    if (columns < 0).any() or not len(columns):
        unknown = [*wanted][columns.argmin()] if len(columns) else species
        raise ValueError(f"{unknown!r} is not among the {len(classes)} "
                         "classes. Which names there are is in "
                         "classes['species'].")
    checks.number(samples, name="samples", low=2, whole=True)
    grid = Grid(region, step, equal_area, samples, batch)
    about = {"probability": "probability that a tree seen in the cell is of "
             "the species", "uncertainty": "standard deviation of the "
             "probability among the places asked in the cell"}
    found = tiles.fill(Asked(
        grid, Judge(model, classes, **judging), source, seeing.year_of(
            source, year) or seeing.YEAR, partial(_ranges, columns),
        dict.fromkeys(about, ("float32", np.nan, (len(columns),)))),
        cache=cache, workers=workers)
    return _dataset(grid, source, {
        name: (("species", "y", "x"), found[name],
               {"long_name": title, "units": "1"})
        for name, title in about.items()}, found["status"]).assign_coords(
            species=np.array([*wanted], dtype=object))


def _ranges(columns, odds, at, n: int, samples: int) -> dict:
    """Mean and spread of some classes: (S, cells) each."""
    some = np.full((len(columns), n), np.nan)
    some[:, at] = odds[:, columns].T
    some = some.reshape(len(columns), -1, samples)
    with warnings.catch_warnings():  # of cells without an answer
        warnings.simplefilter("ignore", RuntimeWarning)
        return {"probability": np.nanmean(some, axis=-1),
                "uncertainty": np.nanstd(some, axis=-1, ddof=1)}


def name_map(model, source, *, region: tuple[float, float, float, float],
             step: float, equal_area: bool = False, samples: int = 1,
             batch: int = 2048, year: int | None = None,
             device: str = "auto", cache: str | Path | None = None,
             workers=1, progress: bool = False, **judging) -> xr.Dataset:
    """Map the likeliest name at each rank, and how sure it is.

    Parameters
    ----------
    model : path, hub id or model
    source, region, step, equal_area, batch, year, workers
        As in :func:`range_maps`.
    samples : int
        Places asked in each cell; their probabilities are averaged.
    device : str
        "auto", "cpu", "cuda" or "mps".
    cache : path, optional
        As in :func:`range_maps`; default ``GEOTREE_CACHE`` or
        ~/.cache/geotree.
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
    judged, _ = judge(loaded(model, device), **judging)
    grid = Grid(region, step, equal_area, samples, batch)
    groups = {str(rank): taxonomy.members(judged.classes, rank)
              for rank in taxonomy.RANKS}
    found = tiles.fill(Asked(
        grid, judged, source, seeing.year_of(source, year) or seeing.YEAR,
        partial(_likeliest, {rank: of for rank, (_, of) in groups.items()}),
        {name: about for rank in groups for name, about in (
            (rank, ("uint16", 0, ())),
            (f"{rank}_confidence", ("float32", np.nan, ())))}),
        cache=files.cache_folder(cache), workers=workers, progress=progress)
    data = {}
    for rank, (names, _) in groups.items():
        here, code = np.unique(found[rank], return_inverse=True)
        shift, here = int(here[0] > 0), here[here > 0]
        data[rank] = (("y", "x"), (code + shift).astype(np.uint16).reshape(
            found[rank].shape), {"long_name": f"likeliest {rank}",
                                 "names": names[here - 1].tolist()})
        data[f"{rank}_confidence"] = (
            ("y", "x"), found[f"{rank}_confidence"], {
                "long_name": f"probability of the likeliest {rank}",
                "units": "1"})
    return _dataset(grid, source, data, found["status"])


def _likeliest(groups: dict, odds, at, n: int, samples: int) -> dict:
    """Number from 1 and probability of each rank's likeliest: (cells,)."""
    cell, of = np.unique(at // samples, return_inverse=True)
    mean = taxonomy.sum_groups(odds.T, of).T  # (cells with an answer, K)
    mean /= mean.sum(axis=1, keepdims=True)
    layers = {}
    for rank, group in groups.items():
        best = layers[rank] = np.zeros(n // samples, np.uint16)
        sure = layers[f"{rank}_confidence"] = np.full(len(best), np.nan)
        if len(cell):
            summed = taxonomy.sum_groups(mean, group)
            best[cell] = summed.argmax(axis=1) + 1
            sure[cell] = summed.max(axis=1)
    return layers


def _dataset(grid: Grid, source, data: dict, status) -> xr.Dataset:
    """Layers with axes, grid and the state of each cell."""
    from rasterio.crs import CRS

    data["status"] = (("y", "x"), status, {
        "long_name": "what is known of the cell",
        "flag_values": list(range(len(CELLS))),
        "flag_meanings": " ".join(x.replace(" ", "_") for x in CELLS)})
    for *_, about in data.values():
        about["grid_mapping"] = "crs"
    data["crs"] = ((), 0, {"crs_wkt": CRS.from_string(grid.crs).to_wkt(),
                           "spatial_ref": grid.crs})
    unit = "degrees_" if grid.crs == tiles.DEGREES else "m"
    axes = {"x": ("x", grid.x, {"units": unit + "east" * (unit != "m")}),
            "y": ("y", grid.y, {"units": unit + "north" * (unit != "m")})}
    return xr.Dataset(data, axes, {
        **source.attrs(), "samples_per_cell": grid.samples,
        "step": grid.step, "Conventions": "CF-1.8"})
