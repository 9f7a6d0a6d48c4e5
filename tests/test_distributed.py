"""Several processes: the same batches, the same curve, one may be killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from killing import crew, port

from geotree import pixels, shards
from geotree.planet.source import Planet
from geotree.shards import Batch
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
