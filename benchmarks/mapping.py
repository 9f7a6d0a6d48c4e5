"""A map on a cluster: who is killed, what it costs, what the scheduler holds.

The scheduler and the workers are processes of their own. The same map of the
planet's land is made by two workers, and by two of which one is killed now
and then: both have to end with the same bytes. How fast one worker alone is
shows a map of a tenth of the cells.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from geotree import engine, explore
from geotree.models.compact import CompactClip
from geotree.planet.source import Planet

KILLS = 5
LAND = (-180.0, -56.0, 180.0, 78.0)  # west, south, east, north


def measure(folder: Path, cells: int, *, kills: int = KILLS, batch: int = 2048
            ) -> list[dict]:
    """Make one map of all land twice, and a coarser one with one worker.

    Returns
    -------
    list of dict
        One row a run: seconds, answers a second, processor seconds of the
        workers, memory of the scheduler (MB) after a tenth of the tiles
        and in the end, and the share that each worker had of what one
        alone did. Runs whose bytes differ are an error.
    """
    model, rows, marks = CompactClip(seed=0), [], set()
    model.classes = Planet().classes
    west, south, east, north = LAND
    for workers, killed, n in ((1, 0, cells / 10), (2, 0, cells),
                               (2, kills, cells)):
        step = ((east - west) * (north - south) / n) ** 0.5
        cache = folder / f"map-{workers}-{killed}"
        shutil.rmtree(cache, ignore_errors=True)
        with _cluster(folder, workers) as client, _watched(
                client, killed, cache, n / batch) as seen:
            started = time.perf_counter()
            maps = explore.name_map(
                model, Planet(), region=LAND, step=step, batch=batch,
                cache=cache, workers=client, prior=False)
            seconds = time.perf_counter() - started
        answers = int((maps["status"] == 1).sum())
        rows.append({
            "run": f"{workers} workers, {killed} killed", "workers": workers,
            "killed": len(seen["killed"]), "cells": maps["status"].size,
            "answers": answers, "seconds": seconds, "rate": answers / seconds,
            "share": answers / seconds / workers / rows[0]["rate"]
            if rows else 1.0, "worker_cpu_seconds": seen["cpu"],
            "scheduler_mb_at_a_tenth": seen["memory"][
                len(seen["memory"]) // 10],
            "scheduler_mb_in_the_end": seen["memory"][-1],
            "load": os.getloadavg()[0]})
        if n == cells:
            marks.add(_mark(cache))
        shutil.rmtree(cache)
    if len(marks) > 1:
        raise AssertionError("the maps differ")
    return rows


@contextmanager
def _cluster(folder: Path, workers: int) -> Iterator:
    """A scheduler and workers as 'dask scheduler' and 'dask worker' do it."""
    address = folder / "scheduler.json"
    address.unlink(missing_ok=True)
    running = [subprocess.Popen(
        [sys.executable, "-m", "dask", *words, "--scheduler-file", address],
        stderr=subprocess.DEVNULL, env=os.environ | {
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "20"} | {
            name: str(value) for name, value in engine.MEMORY.items()})
        for words in (["scheduler", "--port", "0", "--no-dashboard"],
                      ["worker", "--nworkers", str(workers), "--nthreads",
                       "1", "--no-dashboard", "--local-directory",
                       str(folder)])]
    try:
        from dask.distributed import Client

        with Client(scheduler_file=str(address), timeout=300,
                    set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=300)
            client.run(engine.versions)  # imports done before the clock
            yield client
    finally:
        for process in running[::-1]:
            process.terminate()
            process.wait(30)


@contextmanager
def _watched(client, kills: int, cache: Path, tiles: float) -> Iterator[dict]:
    """Kill workers at random moments, and note what the others need."""
    seen, over = {"memory": [], "killed": [], "cpu": None}, threading.Event()
    after = sorted(random.uniform(0.05, 0.8) * tiles for _ in range(kills))

    def memory() -> float:
        return psutil.Process().memory_info().rss / 1e6

    def watch() -> None:
        while not over.wait(1):
            seen["memory"].append(client.run_on_scheduler(memory))
            # Tiles of the sea are done too.
            done = sum(len(os.listdir(row)) for row in
                       cache.glob("maps/*/status/c/*"))
            if after and done >= after[0]:
                pids = [*client.run(os.getpid, on_error="ignore").values()]
                if pids:  # else both are being started
                    after.pop(0)
                    os.kill(random.choice(pids), signal.SIGKILL)
                    seen["killed"].append(done)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
    seen["memory"].append(client.run_on_scheduler(memory))
    if not kills:  # what the dead have used nobody knows
        seen["cpu"] = sum(client.run(time.process_time).values())


def _mark(folder: Path) -> str:
    """What all files of a map hold."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*/c/**/*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
