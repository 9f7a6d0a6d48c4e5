"""Packed shards: 256 samples a record, read with one copy and no parsing.

A record is four members of a tar, ``.images.npy .environment.npy
.label.npy .id.npy``; any WebDataset reader decodes them. The index beside
the tar says where each record starts and what its checksum is, so that a
record is fetched by itself and damage never passes for data. Chapter 03.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geotree.variables import check_environment, check_images

COLUMNS = ("images", "environment", "label", "id")  # members of a record
_TYPES = ("<u2", "<f4", "<i8", "<i8")
_BLOCK = 512  # bytes; a tar is made of these


class Batch(NamedTuple):
    """Samples as arrays, the first axis their number."""

    images: np.ndarray  # (B, T, C, H, W) uint16, 65535 = missing
    environment: np.ndarray  # (B, V) float32, NaN = missing
    labels: np.ndarray  # (B,) int64, row of the class table
    ids: np.ndarray  # (B,) int64, gbifID


class ShardError(ValueError):
    """A shard is damaged, or holds something else than expected.

    ``path`` and ``record`` say where, ``samples`` how many it concerns.
    """

    def __init__(self, path: Path, record: str, reason: str,
                 samples: int = 1):
        self.path, self.record, self.samples = path, record, samples
        self._reason = reason
        super().__init__(
            f"'{path}', {record}: {reason}. Fetch or write the file again, "
            "or open it with on_error='skip'.")

    def __reduce__(self):  # so that it crosses from worker processes
        return type(self), (self.path, self.record, self._reason,
                            self.samples)


class Record(NamedTuple):
    """Where a record lies in its tar."""

    offset: int  # bytes
    length: int  # bytes, headers included
    samples: int
    crc32: int  # of these bytes


RECORD = np.dtype([("offset", "<i8"), ("length", "<i8"), ("samples", "<i4"),
                   ("crc32", "<u4")])  # of a Record on disk


class Shard(NamedTuple):
    """One tar file of a data set."""

    path: Path
    samples: int
    first: int = 0  # row of its first sample in the folder's table
    sha256: str | None = None
    records: np.ndarray | None = None  # (R,) RECORD, packed layout
    readable: np.ndarray | None = None  # numbers of good records, if scanned


def take(batch: Batch, rows) -> Batch:
    """Rows of a batch, each array indexed alike."""
    return Batch(*(column[rows] for column in batch))


def join(batches: list[Batch]) -> Batch:
    """Batches one after the other; one batch is returned as it is."""
    if len(batches) == 1:
        return batches[0]
    return Batch(*map(np.concatenate, zip(*batches, strict=True)))


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a member whose bytes depend on nothing but name and data."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def put(tar: tarfile.TarFile, samples: Batch, *, pack: int,
        first: int) -> None:
    """Append samples as records of ``pack``, numbered from ``first``."""
    for start in range(0, len(samples.ids), pack):
        columns = take(samples, slice(start, start + pack))
        for name, kind, values in zip(COLUMNS, _TYPES, columns, strict=True):
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(values, kind),
                    allow_pickle=False)
            add(tar, f"{first + start // pack:08d}.{name}.npy",
                buffer.getvalue())


def locate(path: Path) -> np.ndarray:
    """Offset, length, samples and checksum of each record: (R,) RECORD."""
    with tarfile.open(path, "r:") as tar:
        members = tar.getmembers()
        end = tar.offset
    starts = [member.offset for member in members[::len(COLUMNS)]] + [end]
    found = []
    with path.open("rb") as file:
        for start, stop in zip(starts, starts[1:], strict=False):
            file.seek(start)
            data = bytearray(file.read(stop - start))
            found.append(Record(start, len(data), len(_decode(data).ids),
                                zlib.crc32(data)))
    return np.array(found, RECORD)


def read(shard: Shard, wanted: np.ndarray | None, classes: int,
         rng: np.random.Generator | None = None
         ) -> Iterator[Batch | ShardError]:
    """Read a packed tar, record by record.

    Parameters
    ----------
    shard : Shard
        Entry of the index.
    wanted : (N,) int, sorted, or None
        Rows of the tar; default: all. Records without any are not read.
    classes : int
        Number of classes, K.
    rng : Generator, optional
        Records in an order drawn from it; default: as written.

    Yields
    ------
    Batch or ShardError
        The wanted samples of a record, or what is wrong with it. The
        arrays are the caller's own.
    """
    bounds = np.cumsum([0, *shard.records["samples"]])
    numbers = np.arange(len(shard.records))
    with shard.path.open("rb") as file:
        for number in numbers if rng is None else rng.permutation(numbers):
            record = Record._make(shard.records[number].item())
            rows, count = slice(None), record.samples
            if wanted is not None:
                low, high = np.searchsorted(wanted, bounds[number:number + 2])
                rows, count = wanted[low:high] - bounds[number], high - low
            if not count:
                continue
            try:
                batch = _fetch(file, record, classes)
            except (ValueError, tarfile.TarError, OSError) as error:
                yield ShardError(
                    shard.path, f"record {number} of {len(numbers)}",
                    str(error), int(count))
                continue
            yield batch if count == record.samples else take(batch, rows)


def _fetch(file, record: Record, classes: int) -> Batch:
    """Read, check and decode one record."""
    file.seek(record.offset)
    data = bytearray(record.length)
    got = file.readinto(data)
    if got < record.length:
        raise ValueError(f"the file is cut off, {record.length - got:,} of "
                         f"{record.length:,} bytes are missing")
    found = zlib.crc32(data)
    if found != record.crc32:
        raise ValueError(f"its CRC-32 is {found:08x}, the index says "
                         f"{record.crc32:08x}")
    batch = _decode(data)
    if not (batch.labels.min() >= 0 and batch.labels.max() < classes):
        raise ValueError(
            f"its labels run from {batch.labels.min()} to "
            f"{batch.labels.max()}, expected 0 to {classes - 1}: it belongs "
            "to another class table")
    return batch


def _decode(data: bytearray) -> Batch:
    """Four ``.npy`` members as arrays over ``data``; no copy, no pickle."""
    columns, at = [], 0
    for name, kind in zip(COLUMNS, _TYPES, strict=True):
        member = tarfile.TarInfo.frombuf(data[at:at + _BLOCK], "utf-8",
                                         "surrogateescape")
        if not (member.isreg() and member.name.endswith(f".{name}.npy")):
            raise ValueError(f"member {member.name!r}, expected .{name}.npy")
        at += _BLOCK
        values = _array(memoryview(data)[at:at + member.size], member.name)
        if values.dtype != np.dtype(kind):
            raise ValueError(f"member {member.name!r} holds {values.dtype}, "
                             f"expected {np.dtype(kind)}")
        columns.append(values)
        at += -(-member.size // _BLOCK) * _BLOCK
    batch = Batch(*columns)
    check_images(batch.images)
    check_environment(batch.environment)
    sizes = [column.shape[0] for column in columns]
    if len(set(sizes)) > 1 or batch.labels.ndim + batch.ids.ndim > 2:
        raise ValueError(f"its columns differ in length: {sizes}")
    return batch


def _array(data: memoryview, name: str) -> np.ndarray:
    if len(data) < 10:
        raise ValueError(f"member {name!r} is cut off")
    start = 10 + int.from_bytes(data[8:10], "little")
    shape, dtype = _header(bytes(data[:start]))
    values = np.frombuffer(data, dtype, offset=start)
    if values.size != np.prod(shape):
        raise ValueError(f"member {name!r} holds {values.size} values, its "
                         f"header says {shape}")
    return values.reshape(shape)


@lru_cache(maxsize=64)
def _header(data: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type from the header of a ``.npy`` file of version 1."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f".npy of version {version}, expected (1, 0)")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject or fortran:
        raise ValueError(f".npy holds {dtype} (Fortran order: {fortran}), "
                         "expected plain numbers")
    return shape, dtype
