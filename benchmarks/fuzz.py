"""Broken files for every reader: ``python -m benchmarks.fuzz``.

Each reader gets files that a fuzzer changes, starting from a sound one.
What it raises must be documented: a ``ValueError`` (a ``ShardError`` is
one) or an ``OSError``. With `atheris <https://github.com/google/atheris>`_
installed, changes that reach new code are changed further; without, they
are random. Both start from one seed, and what is found is written with its
input to the folder.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch

try:
    import atheris

    watched = atheris.instrument_imports(include=["geotree"])
except ImportError:
    atheris, watched = None, nullcontext()
with watched:
    from geotree import files, occurrences, pixels, shards
    from geotree.models.compact import CompactClip, CompactConfig
    from geotree.planet.source import Planet
    from geotree.shards import index, records
    from geotree.training import checkpoints

DOCUMENTED = (ValueError, OSError)
_SEED = 0


def seeds(folder: Path) -> dict[str, Path]:
    """A sound file for each reader."""
    planet = Planet()
    table = planet.occurrences(8)
    cube = pixels.download(table, planet, folder / "cube.zarr",
                           progress=False)
    packed = shards.write(cube, table, folder / "packed", pack=2,
                          progress=False)
    release = shards.write(cube, table, folder / "release", progress=False,
                           layout="release")
    tar, place = packed.files[0].path, packed.files[0].records[0]
    (folder / "record").write_bytes(tar.read_bytes()[
        :int(place["offset"] + place["length"])])
    occurrences.write(table, folder / "table.parquet")
    table.to_csv(folder / "table.csv", index=False)
    checkpoints.write(folder / "checkpoint", {"step": 1,
                                              "x": torch.ones(3)})
    torch.save(torch.full((12, 10, 5, 5), 1000.0), folder / "tensor")
    CompactClip(CompactConfig(8, 1, 1, 1, 8, 16)).save_pretrained(
        folder / "model")
    return {"record": folder / "record", "tar": release.files[0].path,
            "index": folder / "packed" / index.INDEX,
            "places": folder / "packed" / index.RECORDS,
            "samples": folder / "packed" / index.TABLE,
            "parquet": folder / "table.parquet", "csv": folder / "table.csv",
            "checkpoint": folder / "checkpoint", "tensor": folder / "tensor",
            "card": folder / "model" / "card.json",
            "weights": folder / "model" / "model.safetensors",
            "json": folder / "model" / "card.json"}


def readers(folder: Path) -> dict[str, Callable[[bytes], object]]:
    """What reads the bytes of each, as a file where it takes one."""
    species = pd.Index(shards.open(folder / "packed").classes["species"])
    with tarfile.open(next((folder / "release").glob("*.tar"))) as tar:
        parts = [(one.name, tar.extractfile(one).read())
                 for one in tar.getmembers()[:3]]

    def at(path: Path, read: Callable) -> Callable[[bytes], object]:
        def write_and_read(data: bytes):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            return read(path)
        return write_and_read

    model = at(folder / "model" / "card.json",
               lambda path: CompactClip.from_pretrained(path.parent))
    packed = {name: at(folder / "packed" / name, lambda path: shards.open(
        path.parent).load())
        for name in (index.INDEX, index.RECORDS, index.TABLE)}
    lone = folder / "lone"

    def tensor(data: bytes):
        lone.mkdir(exist_ok=True)
        with tarfile.open(lone / "t.tar", "w") as tar:
            records.add(tar, parts[0][0], data)
            for part in parts[1:]:
                records.add(tar, *part)
        return shards.open(lone / "t.tar").load()

    return {
        "record": lambda data: records.decode(
            np.frombuffer(data, np.uint8), species),
        "tar": at(lone / "a.tar", lambda path: shards.open(path).load()),
        "index": packed[index.INDEX], "places": packed[index.RECORDS],
        "samples": packed[index.TABLE],
        "parquet": at(lone / "a.parquet", occurrences.read),
        "csv": at(lone / "a.csv", occurrences.from_points),
        "checkpoint": at(lone / "c", lambda path: checkpoints.read(
            path, torch.device("cpu"))),
        "tensor": tensor,
        "card": model,
        "weights": at(folder / "model" / "model.safetensors",
                      lambda path: CompactClip.from_pretrained(path.parent)),
        "json": at(lone / "a.json", files.read_json)}


def fuzz(name: str, folder: Path, seconds: float) -> None:
    """Read changed files for a while; write down what is not documented."""
    warnings.simplefilter("ignore")
    seed = seeds(folder)[name].read_bytes()
    read, found, count = readers(folder)[name], {}, 0

    def once(data: bytes) -> None:
        nonlocal count
        count += 1
        try:
            read(bytes(data))
        except DOCUMENTED:
            pass
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            key = type(error).__name__, last.filename, last.lineno
            if key not in found:
                found[key] = error
                (folder / f"found-{name}-{len(found)}").write_bytes(data)
                print(f"{name}: {key}: {error}", flush=True)
        if not count % 100:
            (folder / f"count-{name}").write_text(str(count))

    if atheris is None:
        _random(seed, once, seconds)
        return
    corpus = folder / f"corpus-{name}"
    corpus.mkdir(exist_ok=True)
    (corpus / "seed").write_bytes(seed)
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds:.0f}",
                   f"-seed={_SEED + 1}", "-rss_limit_mb=4096",
                   f"-max_len={2 * len(seed) + 4096}", "-verbosity=0",
                   str(corpus)], once)
    atheris.Fuzz()


def _random(seed: bytes, once: Callable, seconds: float) -> None:
    rng, end = np.random.default_rng(_SEED), time.monotonic() + seconds
    while time.monotonic() < end:
        data = io.BytesIO(seed)
        for place in rng.integers(len(seed), size=rng.integers(1, 6)):
            data.seek(place)
            data.write(rng.bytes(int(rng.integers(1, 9))))
        value = data.getvalue()
        once(value[:rng.integers(len(value))] if rng.random() < 0.2
             else value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if len(options.names) == 1:
            (folder / options.names[0]).mkdir(parents=True)
            fuzz(options.names[0], folder / options.names[0],
                 options.seconds)
            return
        names = options.names or [
            "record", "tar", "index", "places", "samples", "parquet", "csv",
            "checkpoint", "tensor", "card", "weights", "json"]
        for name in names:  # a process each: a fuzzer ends its own
            subprocess.run([sys.executable, "-m", "benchmarks.fuzz", name,
                            "--seconds", str(options.seconds), "--folder",
                            str(folder)], check=False)
            done = folder / name / f"count-{name}"
            print(f"{name}: {done.read_text() if done.exists() else 0} "
                  "files read", flush=True)


if __name__ == "__main__":
    main()
