"""Reading the same samples in order, with other people's readers.

Each reader gets a sample as raw numbers, the least that it can be asked to
decode, and gives batches of 512 as arrays. litdata is measured where it is
installed; MosaicML's streaming needs torchvision, which this project does
not install.
"""

from __future__ import annotations

import io
import statistics
import tarfile
from collections.abc import Iterable
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.data import Samples
from benchmarks.timing import Result, rates
from geotree import files
from geotree.variables import PATCH, VARIABLE_NAMES

_BATCH, _PASSES = 512, 4
_SAMPLE = np.dtype([("images", "<u2", (12, 10, PATCH, PATCH)),
                    ("environment", "<f4", (len(VARIABLE_NAMES),)),
                    ("label", "<i4"), ("id", "<i8")])


def read(samples: Samples, runs: int) -> Result:
    """Packed shards in order, against other readers of the same samples."""
    rows, folder = _rows(samples), samples.folder / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "rows.npy", rows)
    ways = {"ours": lambda: sum(
        len(batch.ids) for _ in range(_PASSES)
        for batch in samples.packed.batches(_BATCH))}
    for name, (write, read_in) in _PEERS.items():
        if find_spec(name):
            path = folder / name
            if not path.exists():
                with files.whole(path) as part:
                    write(rows, part)
            ways[name] = lambda read_in=read_in, path=path: sum(
                len(batch) for batch in _batches(read_in(path)))
    ways["limit"] = lambda: sum(
        len(np.array(_mapped(folder)[at:at + _BATCH])) for _ in
        range(_PASSES) for at in range(0, len(rows), _BATCH))
    found = rates(ways, runs=runs)
    middle = {name: statistics.median(x) for name, x in found.items()}
    peers = {name: middle[name] for name in _PEERS if name in middle}
    best = middle["ours"] / max(peers.values())
    return Result(
        "read packed shards, other readers", "samples/s", "≥ 1 × the best",
        ours=middle["ours"], limit=middle["limit"],
        limit_is="a memory map of the numbers, batch by batch", runs=found,
        note=f"{best:.3g} × the best of " + ", ".join(
            f"{name} {rate:,.0f}" for name, rate in peers.items()))


def _rows(samples: Samples) -> np.ndarray:
    """The samples as one record array: (N,)."""
    batch = samples.batch
    rows = np.zeros(len(batch.ids), _SAMPLE)
    for name, part in zip(_SAMPLE.names, (
            batch.images, batch.environment, batch.labels, batch.ids),
            strict=True):
        rows[name] = part
    return rows


def _mapped(folder: Path) -> np.ndarray:
    return np.load(folder / "rows.npy", mmap_mode="r")


def _batches(rows: Iterable) -> Iterable[np.ndarray]:
    """Arrays of up to 512 rows from single ones."""
    rows = iter(rows)
    while part := list(islice(rows, _BATCH)):
        yield np.stack(part)


def _parse(data: bytes) -> np.ndarray:
    return np.frombuffer(data, _SAMPLE)[0]


def _write_tar(rows: np.ndarray, path: Path) -> None:
    """A member of raw bytes for each sample."""
    with tarfile.open(path, "w") as tar:
        for row in rows:
            data = row.tobytes()
            member = tarfile.TarInfo(f"{row['id']}.bin")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _read_tar(path: Path) -> Iterable[np.ndarray]:
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            yield _parse(tar.extractfile(member).read())


def _read_webdataset(path: Path) -> Iterable[np.ndarray]:
    import webdataset

    for record in webdataset.WebDataset(str(path), shardshuffle=False):
        yield _parse(record["bin"])


def _write_litdata(rows: np.ndarray, folder: Path) -> None:
    """Chunks of 64 MB, its default; a sample is its raw bytes."""
    from litdata.streaming.writer import BinaryWriter

    folder.mkdir()
    writer = BinaryWriter(str(folder), chunk_bytes="64MB")
    for number, row in enumerate(rows):
        writer[number] = row.tobytes()
    writer.done()
    writer.merge()


def _read_litdata(folder: Path) -> Iterable[np.ndarray]:
    import litdata

    yield from map(_parse, litdata.StreamingDataset(str(folder)))


_PEERS = {"tarfile": (_write_tar, _read_tar),
          "webdataset": (_write_tar, _read_webdataset),
          "litdata": (_write_litdata, _read_litdata)}
