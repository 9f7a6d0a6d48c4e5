"""Shards that are open: batches in order or mixed, single samples, views.

A record is used once its bytes have the checksum that the index tells and
its samples are those that the table lists there. No thread and no process
is started here. Chapter 03.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pandas as pd

from geotree import checks, taxonomy
from geotree.files import sha256
from geotree.shards.batch import Batch, ShardError, gather, take
from geotree.shards.index import INDEX, TABLE, Shard, layout
from geotree.variables import BAND_NAMES, MONTHS, PATCH, VARIABLE_NAMES

_MIXED = 2048  # samples, or a batch where it is larger, when shuffling
_AHEAD = 4  # records that the disk is told of before they are read
_SHAPES = (MONTHS, len(BAND_NAMES), PATCH, PATCH), (len(VARIABLE_NAMES),), ()


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


def _announce(tar, offset: int, length: int) -> None:
    """Let the disk fetch a record while others are used."""
    if length > 1 << 16 and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(tar.fileno(), offset, length,
                         os.POSIX_FADV_WILLNEED)


class Shards:
    """Samples in tar files, or a selection of them; see
    :func:`geotree.shards.open`.

    ``shards[i]`` is a sample, so that ``torch.utils.data.DataLoader`` takes
    this as it is: random access, in any number of worker processes.

    Attributes
    ----------
    files : tuple of Shard
        Path, samples and SHA-256 of each tar.
    classes : DataFrame
        The class table that ``labels`` point into.
    layout : "packed" or "release"
    left_out : int
        Samples of the cube that had no imagery.
    provenance : dict of str
        Where the pixels come from: the attributes of the cube.
    """

    def __init__(self, source, on_error: str = "raise",
                 rows: np.ndarray | None = None):
        self._source, self.on_error = source, on_error
        self._rows = rows  # selection, sorted; None = all
        self._skipped: dict[tuple, int] = {}
        self._maps: dict[int, np.ndarray] = {}  # tars, for single samples
        self._seen: dict[tuple, Batch] = {}  # records of them, checked

    def __getattr__(self, name: str):
        if name in ("files", "classes", "layout", "left_out", "provenance"):
            return getattr(self._source, name)
        raise AttributeError(f"Shards have no attribute {name!r}")

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_maps": {}, "_seen": {}}

    def __repr__(self) -> str:
        return (f"<Shards: {len(self):,} samples of {len(self.classes)} "
                f"classes in {len(self.files)} {self.layout} tar files>")

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._rows is None else len(
            self._rows)

    @cached_property
    def _starts(self) -> np.ndarray:
        """Row of the first sample of each tar, and of the end: (F + 1,)."""
        return np.cumsum([0, *(file.samples for file in self.files)])

    @property
    def skipped(self) -> int:
        """Damaged samples that were left out since opening."""
        return (sum(fault.samples for fault in self._source.faults)
                + sum(self._skipped.values()))

    @cached_property
    def table(self) -> pd.DataFrame:
        """Occurrence table of these samples, in their order."""
        return self.columns()

    def columns(self, *names: str) -> pd.DataFrame:
        """Some columns of ``table``, without reading the others."""
        table = self._source.table(list(names) or None)
        if self._rows is not None:
            table = table.iloc[self._rows].reset_index(drop=True)
        return table

    @cached_property
    def labels(self) -> np.ndarray:
        """Class number of each sample, in order: (N,) int64."""
        return taxonomy.labels(self.columns("species"), self.classes)

    def select(self, rows) -> Shards:
        """A view of some samples; they keep the order of the shards.

        Parameters
        ----------
        rows : (N,) bool, or integers
            Which of these samples; a row named twice is there once.
        """
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise ValueError(f"mask has shape {rows.shape}, expected "
                                 f"({len(self)},): one value a sample.")
            rows = np.flatnonzero(rows)
        rows = np.unique(rows).astype(np.int64)
        if len(rows) and not (0 <= rows[0] and rows[-1] < len(self)):
            raise ValueError(f"rows run from {rows[0]} to {rows[-1]}, "
                             f"expected 0 to {len(self) - 1}.")
        if self._rows is not None:
            rows = self._rows[rows]
        return Shards(self._source, self.on_error, rows)

    def sample(self, size: int, *, seed: int = 0) -> Shards:
        """A view of about ``size`` samples, whole records drawn at random.

        Samples lie in random order, so records are as good as samples, and
        little is read: 80 of 24,600 records hold 20,000 of 6.3 million.
        """
        checks.number(size, name="size", low=1, whole=True)
        rows = np.arange(len(self)) if self._rows is None else self._rows
        ends = np.concatenate([file.records["samples"]
                               for file in self.files]).cumsum()
        record = np.searchsorted(ends, rows, side="right")
        numbers, counts = np.unique(record, return_counts=True)
        order = np.random.default_rng(seed).permutation(len(numbers))
        enough = np.searchsorted(counts[order].cumsum(), size) + 1
        return self.select(np.isin(record, numbers[order[:enough]]))

    def batches(self, batch_size: int, *, shuffle: bool = False,
                seed: int = 0, epoch: int = 0,
                drop_last: bool = False) -> Iterator[Batch]:
        """Yield every sample once, in batches.

        Parameters
        ----------
        batch_size : int
        shuffle : bool
            Another order for each ``(seed, epoch)``, the same each time:
            tars, records, then samples within a block of 2,048. False:
            the order of ``table``.
        drop_last : bool
            Leave out the last batch when it is not full.

        Yields
        ------
        Batch
            The last may be smaller.
        """
        checks.number(batch_size, name="batch_size", low=1, whole=True)
        rng = np.random.default_rng([seed, epoch]) if shuffle else None
        size = (max(1, _MIXED // batch_size) * batch_size if shuffle
                else min(batch_size, max(1, len(self))))
        for block in gather(self._read(rng), size, rng):
            for start in range(0, len(block.ids), batch_size):
                batch = take(block, slice(start, start + batch_size))
                if not drop_last or len(batch.ids) == batch_size:
                    yield batch

    def load(self) -> Batch:
        """All samples at once, in the order of ``table``."""
        whole = next(gather(self._read(None), max(1, len(self))), None)
        if whole is None:
            raise ValueError("no samples to load: the selection is empty, or "
                             f"all are damaged ({self.skipped} skipped).")
        return whole

    def __getitem__(self, row: int) -> Batch:
        """One sample: arrays without the first axis.

        Raises
        ------
        ShardError
            Its record is damaged, whatever ``on_error`` says.
        """
        return self.__getitems__([row])[0]

    def __getitems__(self, rows) -> list[Batch]:
        """Samples at any rows, in the order given; torch asks this way.

        A record is checked when it is first touched.
        """
        found, n = [], len(self)
        for row in rows:
            if not -n <= row < n:
                raise IndexError(f"row {row} of {n} samples.")
            row = row % n if self._rows is None else self._rows[row]
            number = int(self._starts.searchsorted(row, side="right")) - 1
            row = int(row - self._starts[number])
            ends = self._ends[number]
            record = int(ends.searchsorted(row, side="right"))
            batch = self._seen.get((number, record))
            if batch is None:
                batch = self._checked(number, record,
                                      self._map(number, record))
                if isinstance(batch, ShardError):
                    raise batch
                if self.layout == "packed":  # views of the file, no memory
                    self._seen[number, record] = batch
            images, environment, labels, ids = take(
                batch, row - int(ends[record]) + len(batch.ids))
            found.append(Batch(images.copy(), environment.copy(), labels,
                               ids))
        return found

    def _map(self, number: int, record: int) -> np.ndarray:
        """The bytes of a record as they lie in the file: (L,) uint8."""
        if number not in self._maps:
            with self._open(self.files[number]) as tar:
                empty = not os.fstat(tar.fileno()).st_size
                self._maps[number] = (np.empty(0, np.uint8) if empty else
                                      np.memmap(tar, np.uint8, "r"))
        offset, length, *_ = self.files[number].records[record].tolist()
        return self._maps[number][offset:offset + length]

    @cached_property
    def _ends(self) -> list[np.ndarray]:
        """Row of each tar after each of its records."""
        return [file.records["samples"].cumsum() for file in self.files]

    def verify(self) -> None:
        """Compare each tar with its SHA-256, and the table with its own.

        Raises
        ------
        ShardError
            A file differs, or there is no index to compare with.
        """
        for file in self.files:
            if file.sha256 is None:
                raise ShardError(file.path, "the tar", f"no {INDEX} beside "
                                 "it says what its SHA-256 should be")
            found = sha256(file.path)
            if found != file.sha256:
                raise ShardError(
                    file.path, "the tar", f"SHA-256 is {found[:12]}…, the "
                    f"index says {file.sha256[:12]}…: damaged or replaced",
                    file.samples)
        self._source.table(["gbifID"])

    def _open(self, file: Shard):
        try:
            return file.path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"'{file.path}' is in the index but not on disk. Fetch it, "
                "or write the shards again.") from error

    def _read(self, rng) -> Iterator[Batch]:
        """Whole or part records; each is gone when the next is asked for."""
        numbers = np.arange(len(self.files))
        for number in numbers if rng is None else rng.permutation(numbers):
            wanted = None
            if self._rows is not None:
                low, high = np.searchsorted(self._rows,
                                            self._starts[number:number + 2])
                wanted = self._rows[low:high] - self._starts[number]
                if not len(wanted):
                    continue
            yield from self._read_tar(number, wanted, rng)

    def _read_tar(self, number: int, wanted, rng) -> Iterator[Batch]:
        """Records of a tar that hold wanted rows of it; None: all."""
        file, ends = self.files[number], self._ends[number]
        starts = ends - file.records["samples"]
        order = np.arange(len(ends))
        if rng is not None and self.layout == "packed":
            rng.shuffle(order)
        if wanted is not None:
            low, high = wanted.searchsorted((starts, ends))
            order = order[(high > low)[order]]
        memory = np.empty(file.records["length"].max(initial=0), np.uint8)
        with self._open(file) as tar:
            for at, record in enumerate(order):
                for later in order[at + _AHEAD:at + _AHEAD + 1]:
                    _announce(tar, *file.records[later].tolist()[:2])
                offset, length, *_ = file.records[record].tolist()
                tar.seek(offset)
                data = memory[:tar.readinto(memory[:length])]
                part = self._checked(number, record, data)
                rows = (slice(None) if wanted is None else
                        wanted[low[record]:high[record]] - starts[record])
                if isinstance(part, Batch):
                    yield take(part, rows)
                else:
                    self._damaged(part, ends[record] - starts[record] if
                                  wanted is None else len(rows))

    def _checked(self, number: int, record: int, data: np.ndarray
                 ) -> Batch | ShardError:
        """Decode the bytes of a record once they are what the index says."""
        file = self.files[number]
        _, length, samples, told = file.records[record].tolist()
        row = int(self._starts[number] + self._ends[number][record])
        try:
            if len(data) < length:
                raise ValueError(
                    f"the file is cut off, {length - len(data):,} of "
                    f"{length:,} bytes are missing")
            if file.sha256 is not None and checksum(data) != told:
                raise ValueError(f"its checksum is {checksum(data):08x}, the "
                                 f"index says {told:08x}")
            batch = layout(self.layout).decode(data, self._species)
            shapes = [column.shape for column in batch]
            if shapes != [(samples, *shape) for shape in (*_SHAPES, ())]:
                raise ValueError(f"its columns have the shapes {shapes}")
            if (batch.ids != self._source.ids[row - samples:row]).any():
                raise ValueError(f"its ids are not those of {TABLE}")
            return batch
        except ValueError as error:
            name = (f"record {record} of {len(file.records)}"
                    if file.keys is None else f"record {file.keys[record]}")
            return ShardError(file.path, name, str(error), samples)

    @cached_property
    def _species(self) -> pd.Index:
        return pd.Index(self.classes["species"])

    def _damaged(self, error: ShardError, samples: int) -> None:
        if self.on_error == "raise":
            raise error
        key = (error.path, error.record)
        if key not in self._skipped:
            self._skipped[key] = samples
            warnings.warn(f"skipped {samples} samples: {error}",
                          stacklevel=4)
