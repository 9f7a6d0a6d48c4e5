"""Packed shards: 256 samples a record, read with one copy and no parsing.

A record is four members of a tar, ``.images.npy .environment.npy
.label.npy .id.npy``; any WebDataset reader decodes them. The index beside
the tar says where each record starts and what its checksum is, so that a
record is fetched by itself and damage never passes for data. Chapter 03.
"""

from __future__ import annotations

import io
import sys
import tarfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from geotree.variables import check_environment, check_images

COLUMNS = ("images", "environment", "label", "id")  # members of a record
_TYPES = ("<u2", "<f4", "<i8", "<i8")
AHEAD = 4  # records fetched before they are asked for
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


# Where a record lies in its tar: bytes with headers, and their checksum.
RECORD = np.dtype([("offset", "<i8"), ("length", "<i8"), ("samples", "<i4"),
                   ("checksum", "<u4")])


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


def gather(parts: Iterable[Batch], size: int,
           rng: np.random.Generator | None = None) -> Iterator[Batch]:
    """Blocks of ``size`` samples, mixed if there is a generator.

    Each sample is copied once, so that the memory of ``parts`` may be used
    again. The last block may be smaller.
    """
    blocks: deque[Batch] = deque(maxlen=2)
    filled = 0
    for part in parts:
        while len(part.ids):
            if not filled:
                block = _unused(blocks, size, part)
                places = (np.arange(size) if rng is None
                          else rng.permutation(size))
            fit = min(len(part.ids), size - filled)
            into = places[filled:filled + fit]
            for column, values in zip(block, part, strict=True):
                column[into] = values[:fit]
            filled = (filled + fit) % size
            if not filled:
                yield block
            part = take(part, slice(fit, None))
    if filled:
        yield take(block, np.sort(places[:filled]))


def _unused(blocks: deque[Batch], size: int, like: Batch) -> Batch:
    """A block that nobody else holds, or a new one.

    Fresh memory costs more than what is copied into it, so a block is
    filled again once no batch of it is referred to any more.
    """
    for block in blocks:
        # by the block, by the loop, by the call
        if all(sys.getrefcount(column) == 3 for column in block):
            return block
    blocks.append(Batch(*(np.empty((size, *column.shape[1:]), column.dtype)
                          for column in like)))
    return blocks[-1]


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
            data = np.frombuffer(file.read(stop - start), np.uint8)
            samples = len(_decode(memoryview(data)).ids)
            found.append((start, len(data), samples, checksum(data)))
    return np.array(found, RECORD)


def checksum(data: np.ndarray) -> int:
    """CRC-32 of the sums of a record's 64 rows and of their columns.

    The rows are words of 8 bytes, summed modulo 2⁶⁴. Damage shorter than a
    row (24 kB) changes some column's sum; for any other to go unseen rows
    and columns must cancel. Takes a fifth of the time of a CRC-32 of all
    bytes, which was a third of reading.

    Parameters
    ----------
    data : (L,) uint8
        L is a multiple of 512, as of any part of a tar.
    """
    rows = data.view("<u8").reshape(64, -1)
    return zlib.crc32(rows.sum(axis=1), zlib.crc32(rows.sum(axis=0)))


def read(shard: Shard, wanted: np.ndarray | None, classes: int,
         rng: np.random.Generator | None = None, ring: deque | None = None
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
    ring : deque of arrays, optional
        Memory to use in turn: a batch stays as it is while ``len(ring) -
        AHEAD - 1`` more are read. Default: each batch has its own.

    Yields
    ------
    Batch or ShardError
        The wanted samples of a record, or what is wrong with it.
    """
    records = shard.records
    numbers = np.arange(len(records))
    if rng is not None:
        rng.shuffle(numbers)
    starts = np.cumsum([0, *records["samples"]])
    cuts = starts if wanted is None else np.searchsorted(wanted, starts)
    counts = np.diff(cuts)

    def fetch(number, data):
        record = records[number]
        try:
            with turn:  # a file has one position
                file.seek(record["offset"])
                got = file.readinto(data)
            batch = _checked(data, got, record["checksum"], classes)
        except (ValueError, tarfile.TarError, OSError) as error:
            return ShardError(
                shard.path, f"record {number} of {len(records)}", str(error),
                int(counts[number]))
        if counts[number] == len(batch.ids):
            return batch
        return take(batch, wanted[cuts[number]:cuts[number + 1]]
                    - starts[number])

    # Threads fetch records while others are used. Their memory is taken
    # here: the allocator of the calling thread is the quicker one.
    begun, turn, threads = deque(), Lock(), ThreadPoolExecutor(2)
    with shard.path.open("rb", buffering=0) as file:
        try:
            for number in numbers[counts[numbers] > 0]:
                begun.append(threads.submit(fetch, number, _memory(
                    ring, records[number]["length"])))
                if len(begun) > AHEAD:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)


def _memory(ring: deque | None, length: int) -> np.ndarray:
    """Bytes to read into: the oldest of a ring, grown where too short."""
    if ring is None:
        return np.empty(length, np.uint8)
    oldest = ring.popleft()
    ring.append(oldest if len(oldest) >= length
                else np.empty(length, np.uint8))
    return ring[-1][:length]


def _checked(data: np.ndarray, got: int, told: int, classes: int) -> Batch:
    """Decode the bytes of a record once they are what the index says."""
    if got < len(data):
        raise ValueError(f"the file is cut off, {len(data) - got:,} of "
                         f"{len(data):,} bytes are missing")
    found = checksum(data)
    if found != told:
        raise ValueError(f"its checksum is {found:08x}, the index says "
                         f"{told:08x}")
    batch = _decode(memoryview(data))
    if not (batch.labels.min() >= 0 and batch.labels.max() < classes):
        raise ValueError(
            f"its labels run from {batch.labels.min()} to "
            f"{batch.labels.max()}, expected 0 to {classes - 1}: it belongs "
            "to another class table")
    return batch


def _decode(data: memoryview) -> Batch:
    """Four ``.npy`` members as arrays over ``data``; no copy, no pickle."""
    columns, at = [], 0
    for name, kind in zip(COLUMNS, _TYPES, strict=True):
        member, size = _member(bytes(data[at:at + _BLOCK]))
        if not member.endswith(f".{name}.npy"):
            raise ValueError(f"member {member!r}, expected .{name}.npy")
        at += _BLOCK
        values = _array(data[at:at + size], member)
        if values.dtype != np.dtype(kind):
            raise ValueError(f"member {member!r} holds {values.dtype}, "
                             f"expected {np.dtype(kind)}")
        columns.append(values)
        at += -(-size // _BLOCK) * _BLOCK
    batch = Batch(*columns)
    check_images(batch.images)
    check_environment(batch.environment)
    sizes = [column.shape[0] for column in columns]
    if len(set(sizes)) > 1 or batch.labels.ndim + batch.ids.ndim > 2:
        raise ValueError(f"its columns differ in length: {sizes}")
    return batch


def _member(header: bytes) -> tuple[str, int]:
    """Name and size of a plain file from its header in a tar."""
    name = header[:100].rstrip(b"\0").decode("utf-8", "replace")
    if len(header) < _BLOCK or header[156:157] != tarfile.REGTYPE:
        raise ValueError(f"member {name!r} is no plain file")
    return name, int(header[124:135], 8)


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
