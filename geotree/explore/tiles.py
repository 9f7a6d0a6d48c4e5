"""Tiles: a map is asked for piece by piece, and kept piece by piece.

A tile is some cells that lie together. Which places are asked in a cell
follows from the cell's number, so that tiles of any size make one map,
whoever works on them, in any order.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import reduce
from itertools import takewhile
from math import isqrt
from operator import add

import numpy as np
import pandas as pd
from tqdm import tqdm

from geotree import checks, engine, files, globe, sources
from geotree.explore import seeing
from geotree.explore.judging import Judge
from geotree.explore.seeing import NO_TREE, STATUS, Seen
from geotree.pixels import hopeless

DEGREES, EQUAL_AREA = "EPSG:4326", "EPSG:6933"  # EASE-Grid 2.0, metres
# What is known of a cell, by its number in the file.
CELLS = ("not asked", STATUS[1], NO_TREE, STATUS[2], STATUS[3])
FAILED = len(CELLS) - 1
_MOST = 10**9  # cells of a map, of which all layers are held


class Grid:
    """The cells of a map, cut into tiles, and the places in them.

    Parameters
    ----------
    region, step, equal_area, samples
        As in :func:`geotree.explore.range_maps`.
    batch : int
        Most places in a tile, of at least one cell.
    """

    def __init__(self, region, step, equal_area, samples, batch):
        checks.one_of(equal_area, (True, False), name="equal_area")
        self.crs = EQUAL_AREA if equal_area else DEGREES
        self.x, self.y, self.step = _axes(region, step, equal_area)
        checks.number(samples, name="samples", low=1, high=10_000, whole=True)
        checks.number(batch, name="batch", low=1, whole=True)
        self.samples, cells = int(samples), max(int(batch) // int(samples), 1)
        tall = min(isqrt(cells), len(self.y))
        self.tile = tall, min(cells // tall, len(self.x))
        self.tiles = tuple(-(-len(axis) // side) for axis, side in zip(
            (self.y, self.x), self.tile, strict=True))

    def window(self, tile: int) -> tuple[slice, slice]:
        """Rows and columns of a tile."""
        return tuple(slice(n * side, min((n + 1) * side, len(axis)))
                     for n, side, axis in zip(
                         np.unravel_index(tile, self.tiles), self.tile,
                         (self.y, self.x), strict=True))

    def places(self, tile: int):
        """Latitude, longitude and a random number of a tile's places.

        Returns
        -------
        lat, lon, level : (cells · samples,) float
        """
        rows, columns = self.window(tile)
        x, y = self.x[columns], self.y[rows]
        draw = np.empty((len(y), len(x), self.samples, 3))
        for number, part in enumerate(draw, rows.start):
            first = number * len(self.x) + columns.start  # the row's cell
            bits = np.random.PCG64(0).advance(int(first) * self.samples * 3)
            part[:] = np.random.Generator(bits).random(part.shape)
        here = np.stack(np.meshgrid(x, y), -1)[:, :, None]  # (y, x, 1, 2)
        here = here + self.step * (draw[..., :2] - 0.5)
        lat, lon = _degrees(here.reshape(-1, 2), self.crs == EQUAL_AREA)
        return lat, lon, draw[..., 2].ravel()


@dataclass(frozen=True)
class Asked:
    """What is asked in all tiles of a map.

    ``summary`` makes layers of a tile's probabilities: (A, K), the place of
    each row, and ``Grid.samples`` → name: (…, cells); a ``partial`` with
    what it depends on as its arguments. ``layers``: name →
    (type, what stands where nothing is known, leading sizes).
    """

    grid: Grid
    judge: Judge
    source: sources.Source
    year: int
    summary: Callable
    layers: dict[str, tuple]

    def tile(self, number: int) -> dict:
        """Layers and ``status`` of a tile, and what failed in it."""
        lat, lon, level = self.grid.places(number)
        land = np.flatnonzero(globe.is_land(lat=lat, lon=lon))
        seen = Seen(self.source, lat=lat[land], lon=lon[land],
                    year=self.year, level=level[land])
        rows, *_, odds = self.judge.of(seen)
        at = pd.Index(rows).get_indexer(seen.back)
        layers = self.summary(odds[at[at >= 0]], land[at >= 0], len(lat),
                              self.grid.samples)
        code = np.zeros(len(lat), int)
        code[land] = pd.Index(CELLS).get_indexer(seen.status)
        failed = seen.reason[code[land] == FAILED]
        code = code.reshape(-1, self.grid.samples)
        # An answer outweighs what failed beside it.
        layers["status"] = np.where((code == 1).any(axis=1), 1,
                                    code.max(axis=1))
        return {"layers": layers, "asked": len(land), "gone": seen.gone,
                "failed": len(failed), "why": [*failed[:1]]}

    def plan(self, number: int) -> sources.Plan:
        """What a tile costs, its sea left out."""
        lat, lon, _ = self.grid.places(number)
        land = globe.is_land(lat=lat, lon=lon)
        return self.source.plan(pd.DataFrame({
            "gbifID": np.arange(land.sum()), "decimalLatitude": lat[land],
            "decimalLongitude": lon[land], "year": self.year}))


def fill(asked: Asked, *, cache=None, workers=1, progress: bool = False
         ) -> dict[str, np.ndarray]:
    """All tiles of a map: what is kept of them, and the others asked for.

    Parameters
    ----------
    cache : path, optional
        Folder in which finished tiles are kept, in one Zarr store a map;
        default: memory alone.
    workers
        See :func:`geotree.engine.open`.

    Returns
    -------
    dict
        Each layer and ``status``: (…, y, x). Tiles in which a place failed
        are asked for again by the next call.

    Raises
    ------
    ValueError
        The plan is beyond the budget, or the store is damaged.
    OSError
        The cache cannot be written, or the cluster is gone. What is
        finished is kept.
    """
    layers = asked.layers | {"status": ("uint8", FAILED, ())}
    with ExitStack() as stack:
        workers = stack.enter_context(engine.open(workers))
        store = None
        if cache is not None:
            store = files.cache_folder(cache) / "maps" / _mark(asked)
            stack.enter_context(files.lock(store))
        group, done = _opened(store, asked.grid, layers)
        _ask(asked, group, done, workers, progress)
        return {name: group[name][:] for name in layers}


def _ask(asked: Asked, group, done, workers, progress: bool) -> None:
    """Ask for the tiles that are not done, until too many places fail."""
    todo = np.flatnonzero(~done).tolist()
    plan = reduce(add, map(asked.plan, todo), sources.Plan(0, 0, 0, 0.0))
    plan.check()
    source, most = sources.among(asked.source, engine.slots(workers))
    n, failed, why, gone = 0, 0, [], False
    kept = dict(group.arrays())  # once: each opening reads its file
    tasks = ((tile,) for tile in takewhile(lambda _: not gone and not hopeless(
        failed, n, plan.samples, seeing.HOPELESS), todo))
    for (tile,), found in tqdm(engine.each(
            Asked.tile, tasks, shared=(replace(asked, source=source),),
            workers=workers, most=most), desc="map", unit="tile",
            total=len(todo), disable=not progress):
        window = asked.grid.window(tile)
        shape = [one.stop - one.start for one in window]
        for name, values in found["layers"].items():
            kept[name][(..., *window)] = values.reshape(
                *values.shape[:-1], *shape).astype(kept[name].dtype)
        # Last: it says that the rest is there.
        done.flat[tile] = not found["failed"]
        kept["done"][:] = done
        n, failed = n + found["asked"], failed + found["failed"]
        why, gone = why or found["why"], gone or found["gone"]
    status = kept["status"][:]
    seeing.tell_failed(int((status == FAILED).sum()), int((status > 0).sum()),
                       *why)


# Where tiles are kept -------------------------------------------------------


def _mark(asked: Asked) -> str:
    """The name of a store: equal for equal questions only."""
    grid, judge, said = asked.grid, asked.judge, None
    if judge.place is not None:  # its records, and what it makes of them
        where = np.column_stack(grid.places(0)[:2])
        said = judge.place.records, judge.place.predict(where, judge.classes)
    state = getattr(judge.model, "state_dict", lambda: vars(judge.model))()
    return files.fingerprint(
        vars(grid), said, replace(judge, model=None, place=None),
        type(judge.model).__qualname__, type(judge.place).__qualname__,
        [(name, one.cpu().numpy() if hasattr(one, "cpu") else one)
         for name, one in state.items()],
        asked.source.attrs(), asked.year, asked.summary.func.__qualname__,
        asked.summary.args, asked.layers)


def _opened(store, grid: Grid, layers: dict):
    """The Zarr group of a map, made if need be, and which tiles are done."""
    import zarr

    if store is None:
        group = _made(zarr.storage.MemoryStore(), grid, layers)
        return group, group["done"][:]
    if not store.exists():
        with files.whole(store) as part:
            _made(part, grid, layers)
    try:
        group = zarr.open_group(store, mode="r+", zarr_format=3)
        done = group["done"][:]
        lost = [path for path in (
            store.joinpath(name, "c", *"0" * len(leading), *map(str, tile))
            for name, (*_, leading) in layers.items()
            for tile in np.argwhere(done)) if not path.exists()]
        for name in layers:
            group[name][:]
    except (ValueError, KeyError, FileNotFoundError, FileExistsError) as error:
        lost = [error]
    if lost:
        raise ValueError(f"'{store}' is damaged ({lost[0]}): delete it, and "
                         "call again.")
    return group, done


def _made(store, grid: Grid, layers: dict):
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    group, shape = zarr.open_group(store, mode="w", zarr_format=3), (
        len(grid.y), len(grid.x))
    for name, (dtype, fill, leading) in layers.items():
        group.create_array(
            name, shape=(*leading, *shape), chunks=(*leading, *grid.tile),
            dtype=dtype, fill_value=fill, config={"write_empty_chunks": True},
            compressors=[ZstdCodec(level=1), Crc32cCodec()])
    group.create_array("done", shape=grid.tiles, chunks=grid.tiles,
                       dtype="bool", compressors=[Crc32cCodec()])
    return group


# Where cells lie ------------------------------------------------------------


def _axes(region, step: float, equal_area: bool):
    """Centres of columns and rows (north first), and a cell's side."""
    checks.number(step, name="step")
    sides = checks.plain(region, "region")
    west, south, east, north = (sides if sides.shape == (4,) and
                                sides.dtype.kind in "iuf" else [np.nan] * 4)
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90
            and 0 < step <= 360):
        raise ValueError(f"region is {region} with a step of {step}, "
                         "expected (west, south, east, north) in degrees, "
                         "within the globe, and a step above 0. Of a box over "
                         "the date line make two maps, to 180 and from -180.")
    x, y, side = [west, east, 180], [south, north, -90], step
    if equal_area:
        from rasterio.warp import transform

        x, y = transform(DEGREES, EQUAL_AREA, x, y)
        side *= globe.METRES
    (west, east, right), (south, north, bottom) = x, y
    wide, tall = (  # whole cells of the globe, and none beyond
        min(round(length / side), int(most / side + 1e-9)) for length, most in
        ((east - west, right - west), (north - south, north - bottom)))
    if not 0 < wide * tall <= _MOST:
        raise ValueError(f"the map has {wide * tall:,} cells, expected 1 at "
                         f"least, {_MOST:,} at most: take another step.")
    x = west + side * (np.arange(wide) + 0.5)
    return x, north - side * (np.arange(tall) + 0.5), side


def _degrees(points: np.ndarray, equal_area: bool):
    """Latitude and longitude of (N, 2) x, y, kept on the globe."""
    lon, lat = points.T
    if equal_area:
        from rasterio.warp import transform

        lon, lat = map(np.array, transform(EQUAL_AREA, DEGREES, lon, lat))
    return np.clip(lat, -90, 90), np.clip(lon, -180, 180)
