"""Several processes: the same batches, the same curve, one may be killed."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from killing import crew, port

from geotree import pixels, shards, training
from geotree.models.compact import CompactClip
from geotree.planet.source import Planet
from geotree.shards import Batch
from geotree.training.loop import Run
from geotree.training.processes import World

ROOT = Path(__file__).resolve().parents[1]
TRAINING = 443  # a prime number: no batch size and no world divides it
PROGRAM = f"""
import json, os, sys, numpy, torch
from geotree import shards, training
from geotree.models.compact import CompactClip, CompactConfig

folder, out, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = shards.open(folder)
torch.manual_seed(int(os.environ.get("RANK", "0")))  # the first one's count
model = CompactClip(CompactConfig(
    width=32, depth=1, heads=2, embedding=32, buckets=512,))
rows = numpy.arange(len(data))
history = training.fit(
    model, data.select(rows[:{TRAINING}]), data.select(rows[{TRAINING}:]),
    out=out, progress=False,
    settings=training.Settings(epochs=epochs, batch_size=64))
rank = os.environ.get("RANK", "0")
torch.save(model.state_dict(), f"{{out}}/weights-{{rank}}.pt")
with open(f"{{out}}/history-{{rank}}.json", "w") as file:
    json.dump(history.to_dict(orient="list"), file)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One tar of 600 samples and a program that trains on it."""
    where = tmp_path_factory.mktemp("planet")
    planet = Planet()
    table = planet.occurrences(600)
    cube = pixels.download(table, planet, where / "cube.zarr",
                           progress=False)
    shards.write(cube, table, where / "shards", pack=64, progress=False)
    (where / "train.py").write_text(PROGRAM)
    return where


def start(folder, out, *, processes=1, epochs=2):
    """The processes, started by hand."""
    out.mkdir(exist_ok=True)
    return crew(processes, PROGRAM, folder / "shards", out, epochs)


def launch(folder, out, *, processes, epochs=2):
    """The same by ``torchrun``."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone",
         f"--nproc-per-node={processes}", folder / "train.py",
         folder / "shards", out, str(epochs)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1"})


def run(folder, out, **options):
    for process in start(folder, out, **options):
        process.finish(240)
    return histories(out)


def histories(out):
    return [json.loads(path.read_text())
            for path in sorted(out.glob("history-*.json"))]


def load(out, rank=0):
    return torch.load(out / f"weights-{rank}.pt", weights_only=True)


def same(one, other, tolerance):
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=tolerance,
                                   atol=tolerance, msg=name)


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    return run(folder, out)[0], out


@pytest.mark.parametrize("processes", [2, 3])
def test_curve_is_that_of_one_process(folder, alone, tmp_path, processes):
    """Two by ``torchrun``, three started by hand."""
    expected, one = alone
    if processes == 2:
        launched = launch(folder, tmp_path, processes=2)
        said, _ = launched.communicate(timeout=240)
        assert launched.returncode == 0, said
    else:
        run(folder, tmp_path, processes=processes)
    found = histories(tmp_path)
    assert len(found) == processes
    for rank, history in enumerate(found):
        assert history["step"] == expected["step"]
        for name in ("loss", "validation_loss", "validation_top1"):
            np.testing.assert_allclose(history[name], expected[name],
                                       rtol=2e-4)
        same(load(tmp_path, rank), load(one), 2e-3)
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(log) == 2, "one line an epoch, whatever the processes"


def test_goes_on_with_another_number_of_processes(folder, alone, tmp_path):
    _, one = alone
    whole = tmp_path / "whole"
    run(folder, whole, epochs=3)
    parts = tmp_path / "parts"
    parts.mkdir()
    both = start(folder, parts, processes=2, epochs=3)
    wait_for(parts / "checkpoint.pt", both[0].is_alive)
    for one in both:
        one.process.terminate()
    for one in both:
        one.process.join(60)
    assert not (parts / "history-0.json").exists()
    run(folder, parts, epochs=3)
    same(load(parts), load(whole), 2e-3)


def wait_for(path, alive):
    for _ in range(6000):
        if path.exists():
            return
        assert alive(), f"ended before {path.name} came"
        time.sleep(0.02)
    raise AssertionError(f"{path.name} never came")


def test_a_killed_process_ends_the_run_and_keeps_the_checkpoint(folder,
                                                                tmp_path):
    """Started by hand, so that no launcher ends the other one first."""
    out = tmp_path / "out"
    first, other = start(folder, out, processes=2, epochs=500)
    wait_for(out / "checkpoint.pt", first.is_alive)
    other.kill()
    good, said = first.end(120)
    assert not good
    assert "process 0 of 2 has lost another one" in said
    assert "checkpoint.pt" in said
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    assert state["epoch"] >= 1


def test_parts_of_a_batch_are_the_batch():
    batch = Batch(*(np.arange(7) for _ in range(4)))
    for size in (1, 2, 3, 9):
        worlds = [World(rank, size) for rank in range(size)]
        parts = [world.mine(batch).ids for world in worlds]
        assert sorted(np.concatenate(parts)) == list(range(7))
        for world, part in zip(worlds, parts, strict=True):
            assert world.share(batch) == pytest.approx(
                len(part) * size / 7)


def bytes_read():
    """What this process has asked the kernel for so far."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("rchar"):
            return int(line.split()[1])


@pytest.fixture(scope="module")
def many(folder, tmp_path_factory):
    """The same samples in so many records that they are read in lanes."""
    where = tmp_path_factory.mktemp("many")
    shards.write(pixels.open(folder / "cube.zarr"),
                 shards.open(folder / "shards").table, where, pack=2,
                 packs_per_shard=70, progress=False)
    return where


@pytest.mark.parametrize("size", [2, 3, 4, 6, 8, 16])
@pytest.mark.parametrize("chosen", [600, TRAINING])
def test_each_process_reads_its_part_of_one_order(many, size, chosen):
    """All see the same batches, full ones with as many rows for each."""
    data = shards.open(many)
    if chosen < len(data):
        data = data.select(np.random.default_rng(0).permutation(600)[:chosen])
    settings = {"shuffle": True, "seed": 3, "epoch": 1}
    data.labels, before = data.labels, bytes_read()
    whole = list(data.batches(64, **settings))
    all_bytes = bytes_read() - before
    ids = np.concatenate([batch.ids for batch in whole])
    assert sorted(ids) == sorted(data.table["gbifID"])
    assert abs(np.corrcoef(np.argsort(ids), np.arange(chosen))[0, 1]) < 0.3
    for rank in range(size):
        world, before = World(rank, size), bytes_read()
        parts = list(data.batches(64, **settings, part=(rank, size)))
        part = (bytes_read() - before) / all_bytes
        assert part < 1.05 / math.gcd(size, 8) + 0.02, (rank, part)
        for batch, mine in zip(whole, parts, strict=True):
            np.testing.assert_array_equal(mine.ids, batch.ids)
            np.testing.assert_array_equal(mine.labels, batch.labels)
            for one, other in zip(world.mine(mine), world.mine(batch),
                                  strict=True):
                np.testing.assert_array_equal(one, other)


def test_lanes_train_as_one(many, folder, tmp_path):
    """Two processes, each with half of the bytes, are one with all."""
    for processes in (1, 2):
        out = tmp_path / str(processes)
        out.mkdir()
        for process in crew(processes, PROGRAM, many, out, 1):
            process.finish(240)
    same(load(tmp_path / "1"), load(tmp_path / "2"), 2e-4)
    (one,), two = map(histories, (tmp_path / "1", tmp_path / "2"))
    for name in ("loss", "validation_loss", "validation_top1"):
        assert two[0][name] == pytest.approx(one[name], rel=1e-4)


def test_lanes_of_another_epoch_and_of_odd_batches(many):
    data = shards.open(many)
    first, again, other = (
        np.concatenate([batch.ids for batch in data.batches(
            50, shuffle=True, epoch=epoch)]) for epoch in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    for size in (1, 7, 599, 5_000):
        batches = list(data.batches(size, shuffle=True, drop_last=True))
        assert [len(batch.ids) for batch in batches] == [size] * (600 // size)
        assert len(np.unique([key for batch in batches for key in batch.ids])
                   ) == 600 // size * size


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_an_epoch_that_goes_on_in_another_order_is_told(many, on_error,
                                                        tmp_path):
    """Of what is read in lanes, and by blocks where damage is skipped."""
    model, learn = CompactClip(), Run.learn
    how = {"out": tmp_path, "progress": False,
           "settings": training.Settings(epochs=1, batch_size=64)}

    def stop(run, batch):
        if run.step == 5:
            raise KeyboardInterrupt
        learn(run, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "learn", stop)
        with pytest.raises(KeyboardInterrupt):
            training.fit(model, shards.open(many), **how)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        history = training.fit(model, shards.open(many, on_error=on_error),
                               **how)
    assert history["step"].item() == 10
    assert [("shuffled by lanes, here by blocks" in str(one.message),
             one.filename) for one in said
            ] == [(True, __file__)] * (on_error == "skip")


def test_where_damage_is_skipped_all_processes_see_it(many, tmp_path):
    """Else one would go on with fewer batches than the others."""
    copy = tmp_path / "shards"
    shutil.copytree(many, copy)
    tar = next(copy.glob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[2_000] ^= 1
    tar.write_bytes(data)
    damaged = shards.open(copy, on_error="skip")
    with pytest.warns(UserWarning, match="skipped 2 samples"):
        alone = [batch.ids for batch in damaged.batches(64, shuffle=True)]
    for rank in range(2):
        for batch, ids in zip(damaged.batches(
                64, shuffle=True, part=(rank, 2)), alone, strict=True):
            np.testing.assert_array_equal(batch.ids, ids)
            assert (batch.images != 65535).any(axis=(1, 2, 3, 4)).all()


def test_a_notebook_starts_processes_itself(tmp_path):
    """``accelerate.notebook_launcher``, as chapter 05 says."""
    program = tmp_path / "launch.py"
    program.write_text("""
import torch
from geotree.training import processes

def work():
    world = processes.join(torch.device("cpu"))
    total = world.total(world.rank + 1, device=torch.device("cpu"))
    print(f"{world.rank} of {world.size}: {total}\\n", flush=True)

if __name__ == "__main__":
    from accelerate import notebook_launcher
    notebook_launcher(work, num_processes=2, use_port="PORT")
""".replace("PORT", str(port())))
    done = subprocess.run([sys.executable, str(program)], cwd=ROOT, text=True,
                          capture_output=True, timeout=120)
    assert "0 of 2: [3.0]" in done.stdout, done.stderr
    assert "1 of 2: [3.0]" in done.stdout
