"""How cost grows: each stage at 10³, 10⁴, … samples, and what follows.

Time and bytes of every stage are measured; the exponent is that of a
straight line through the logarithms. From it the plan for the release's
6.3 million samples, and for ten times as many.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import evaluation, occurrences, pixels, shards, training
from geotree.models.compact import CompactClip
from geotree.planet.source import Planet

PLANS = (6_300_000, 63_000_000)  # samples
_MOST = 120.0  # s, of one stage


def measure(folder: Path, sizes: tuple[int, ...]) -> pd.DataFrame:
    """Seconds and bytes of every stage at every size.

    A size ends before the stage that would take over two minutes, going
    by the size before.

    Returns
    -------
    DataFrame
        ``stage, samples, seconds, bytes``; one row a stage and size.
    """
    rows, last = [], []
    for size in sizes:
        here = folder / f"growth-{size}"
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir(parents=True)
        expected = [row["seconds"] * size / row["samples"] for row in last]
        last = []
        for stage, seconds, stored in _stages(here, size):
            last.append({"stage": stage, "samples": size,
                         "seconds": seconds, "bytes": stored})
            coming = expected[len(last):len(last) + 1]
            if expected and not (coming and coming[0] <= _MOST):
                break
        rows += last
        shutil.rmtree(here)
    return pd.DataFrame(rows)


def _stages(folder: Path, size: int) -> Iterator[tuple[str, float, int]]:
    planet = Planet()
    planet.fetch(planet.occurrences(64))  # its maps are drawn once
    table, seconds = _timed(lambda: planet.occurrences(size))
    path = folder / "occurrences.parquet"
    _, more = _timed(lambda: occurrences.write(table, path))
    yield "occurrences", seconds + more, _bytes(path)
    _, seconds = _timed(lambda: occurrences.keep(occurrences.flag(table)))
    yield "flags and filters", seconds, 0
    cube, seconds = _timed(lambda: pixels.download(
        table, planet, folder / "cube.zarr", chunk=1024, progress=False))
    yield "pixels of the planet", seconds, _bytes(folder / "cube.zarr")
    data, seconds = _timed(lambda: shards.write(
        cube, table, folder / "shards", progress=False))
    yield "shards", seconds, _bytes(folder / "shards")
    model = CompactClip()
    rows = np.arange(len(data))
    few = data.select(rows[:256])
    _, seconds = _timed(lambda: training.fit(
        model, data, few, out=folder / "training", progress=False,
        settings=training.Settings(epochs=1)))
    yield "training, one epoch", seconds, 0  # its checkpoint does not grow
    _, seconds = _timed(lambda: evaluation.embed(model, data))
    yield "features", seconds, 0


def _timed(work: Callable):
    started = time.perf_counter()
    found = work()
    return found, time.perf_counter() - started


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(os.path.getsize(Path(folder) / name)
               for folder, _, names in os.walk(path) for name in names)


def plan(costs: pd.DataFrame, sizes: tuple[int, ...] = PLANS
         ) -> pd.DataFrame:
    """Exponent of every stage, and its cost at larger sizes.

    Parameters
    ----------
    costs : DataFrame
        From :func:`measure`.

    Returns
    -------
    DataFrame
        One row a stage: ``exponent`` of the time between the two largest
        sizes, then hours and GB at each of ``sizes``, drawn on from the
        largest measured size with that exponent (bytes: in proportion).
    """
    rows = []
    for stage, part in costs.groupby("stage", sort=False):
        part = part.sort_values("samples").tail(2)
        last = part.iloc[-1]
        exponent = (np.diff(np.log(part["seconds"]))
                    / np.diff(np.log(part["samples"]))).item()
        row = {"stage": stage, "exponent": exponent}
        for size in sizes:
            times = size / last["samples"]
            row[f"hours at {size:,}"] = (
                last["seconds"] * times ** max(exponent, 1) / 3600)
            row[f"GB at {size:,}"] = last["bytes"] * times / 1e9
        rows.append(row)
    return pd.DataFrame(rows)
