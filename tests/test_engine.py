"""Maps, answers and cubes on workers of Dask that die, lie or are gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from compass import Compass, Everywhere
from fake_source import FakeSource, occurrence_table

from geotree import engine, explore, pixels, sources
from geotree.planet.source import Planet

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
HERE = Path(__file__).parent
EUROPE = (5.0, 45.0, 11.0, 49.0)


@pytest.fixture(scope="module")
def cluster():
    """Two workers, each a process of its own that comes back when killed."""
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(HERE), os.environ.get("PYTHONPATH", "")])
    with engine.open(2) as client:
        allow(client, 30)
        yield client


def allow(client, deaths):
    """How many workers a chunk may take with it."""
    client.run_on_scheduler(lambda dask_scheduler: setattr(
        dask_scheduler, "allowed_failures", deaths))


def named(cache, workers=1, *, model=None, source=None, step=0.25):
    return explore.name_map(model or Compass(), source or Planet(),
                            region=EUROPE, step=step, batch=16, cache=cache,
                            workers=workers)


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes()
            for path in Path(folder).rglob("*")
            if path.is_file() and "c" in path.parts}


def done(folder):
    return len(list(folder.rglob("status/c/*/*")))


class Slow(Planet):
    """Leaves time to be killed in."""

    def fetch(self, table):
        time.sleep(0.1)
        return super().fetch(table)


def test_workers_that_are_killed_change_no_byte(cluster, tmp_path):
    named(tmp_path / "here")
    over, moment = threading.Event(), np.random.default_rng()
    known = threading.Event()

    def kill():
        for _ in range(3):
            # Asked now: the answer may take longer than the rest of the work.
            pids = cluster.run(os.getpid, on_error="ignore").values()
            known.set()
            until = done(tmp_path / "there") + moment.integers(1, 6)
            while done(tmp_path / "there") < until:
                if over.wait(0.01):
                    return
            time.sleep(moment.uniform(0, 0.3))
            if pids:  # else both are being started
                os.kill(moment.choice([*pids]), signal.SIGKILL)
                killed.append(1)

    killed = []
    thread = threading.Thread(target=kill)
    thread.start()
    try:
        assert known.wait(60)
        named(tmp_path / "there", cluster, source=Slow())
    finally:
        over.set()
        thread.join()
    assert killed
    assert bytes_of(tmp_path / "there") and bytes_of(
        tmp_path / "there") == bytes_of(tmp_path / "here")


def test_a_cube_and_answers_are_those_of_one_process(cluster, tmp_path):
    table = occurrence_table(60)
    for workers, name in ((1, "here"), (cluster, "there")):
        pixels.download(table, FakeSource(), tmp_path / name, chunk=8,
                        workers=workers, progress=False)
    assert bytes_of(tmp_path / "there") == bytes_of(tmp_path / "here")
    points = pd.DataFrame({"lat": np.linspace(-50, 70, 40), "lon": 8.0})
    here, there = (explore.predict(
        points, model=Compass(), source=Everywhere(), cache=tmp_path / name,
        batch=8, workers=workers, progress=False)
        for workers, name in ((1, "a"), (cluster, "b")))
    pd.testing.assert_frame_equal(here, there)


class Frugal(Everywhere):
    """A service that allows three requests at a time."""

    workers = 3

    def share(self, among):
        part = Frugal()
        part.workers = max(self.workers // among, 1)
        return part

    def fetch(self, table):
        assert self.workers == 1, "two workers have three requests"
        return super().fetch(table)


def test_workers_keep_the_memory_that_they_free(cluster):
    for name, size in engine.MEMORY.items():
        assert set(cluster.run(os.environ.get, name).values()) == {str(size)}


def test_a_quota_is_that_of_all_workers(cluster, tmp_path):
    pixels.download(occurrence_table(24).assign(decimalLatitude=5.0),
                    Frugal(), tmp_path / "cube", chunk=4, workers=cluster,
                    progress=False)
    earth = sources.by_name("earthengine")(project="p", workers=32)
    parts, most = sources.among(earth, 5)
    assert most * parts.workers <= 32 and parts._pool.workers == 6
    assert earth.workers == 32
    assert sources.among(earth, 99)[1] == 32


class Deadly(Everywhere):
    """Some chunk needs more memory than there is."""

    def fetch(self, table):
        if (table["decimalLatitude"] > 48.5).any():
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does
        return super().fetch(table)


def other_version():
    """A worker that has another GeoTree."""
    import geotree

    geotree.__version__ = "0.0.9"
    engine.versions.cache_clear()


def test_a_chunk_that_kills_and_another_version(cluster, tmp_path):
    allow(cluster, 0)
    with pytest.raises(OSError, match="too little memory.*kept"):
        named(tmp_path, cluster, source=Deadly(), step=0.5)
    maps = named(tmp_path, source=Everywhere(), step=0.5)
    assert (maps["status"] == 1).all()
    cluster.wait_for_workers(1)
    cluster.run(other_version)
    with pytest.raises(ValueError, match="another version.*0.0.9"):
        named(tmp_path, cluster)


CLUSTER = """
import sys, time
from dask.distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(n_workers=1, threads_per_worker=1,
                           dashboard_address="127.0.0.1:0")
    print(cluster.scheduler_address, flush=True)
    time.sleep(600)
"""


def test_a_scheduler_that_is_gone(tmp_path):
    with subprocess.Popen([sys.executable, "-c", CLUSTER], text=True,
                          stdout=subprocess.PIPE) as process:
        address = process.stdout.readline().strip()

        def kill():
            while not done(tmp_path):
                time.sleep(0.05)
            process.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(OSError, match="scheduler of Dask is gone.*kept"):
            named(tmp_path, address, source=Slow())
        thread.join()
    assert 0 < done(tmp_path) < 24
    again = named(tmp_path, source=Slow())
    assert again.identical(named(tmp_path / "whole", source=Slow()))
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), \
            pytest.raises(OSError, match="no scheduler of Dask answers"):
        named(tmp_path, address)


def test_who_works_has_to_be_said_well():
    with pytest.raises(ValueError, match="client of Dask"), engine.open(0):
        pass
