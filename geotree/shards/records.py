"""From the bytes of a tar to samples: nothing passes that is not whole.

A record is used once its bytes have the checksum that the index tells and
its samples are those that the table lists there. No thread and no process
is started here. Chapter 03.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pandas as pd

from geotree.shards.batch import Batch, ShardError, take
from geotree.shards.index import TABLE, Shard, layout
from geotree.variables import BAND_NAMES, MONTHS, PATCH, VARIABLE_NAMES

_AHEAD = 4  # records that the disk is told of before they are read
_SMALL = 1 << 16  # bytes; of such records it reads ahead unasked
_SHAPES = ((MONTHS, len(BAND_NAMES), PATCH, PATCH), (len(VARIABLE_NAMES),),
           (), ())  # of a sample, by column


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


class Records:
    """The records of all tars of an index, or of a scan.

    Attributes
    ----------
    source : Index or Scan
    starts : (F + 1,) int
        Row of the first sample of each tar, and of the end.
    ends : list of (R,) int
        Rows of each tar up to the end of each of its records.
    """

    def __init__(self, source):
        self.source = source
        self._maps: dict[int, np.ndarray] = {}  # tars, for single samples
        self._seen: dict[tuple, Batch] = {}  # records of them, checked

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_maps": {}, "_seen": {}}

    @cached_property
    def starts(self) -> np.ndarray:
        return np.cumsum([0, *(file.samples for file in self.source.files)])

    @cached_property
    def ends(self) -> list[np.ndarray]:
        return [file.records["samples"].cumsum()
                for file in self.source.files]

    @cached_property
    def _species(self) -> pd.Index:
        return pd.Index(self.source.classes["species"])

    def read(self, number: int, wanted: np.ndarray | None, rng
             ) -> Iterator[tuple[Batch | ShardError, int]]:
        """Read a tar, record by record.

        Parameters
        ----------
        number : int
            Of the tar.
        wanted : (N,) int, sorted, or None
            Rows of the tar; default: all. Records without any are not read.
        rng : Generator, optional
            Packed records come in an order drawn from it.

        Yields
        ------
        Batch or ShardError
            The wanted samples of a record, gone when the next is asked
            for; or what is wrong with it.
        int
            How many samples are wanted of it.
        """
        file, ends = self.source.files[number], self.ends[number]
        starts, order = ends - file.records["samples"], np.arange(len(ends))
        if rng is not None and self.source.layout == "packed":
            rng.shuffle(order)
        if wanted is not None:
            low, high = wanted.searchsorted((starts, ends))
            order = order[(high > low)[order]]
        places = file.records[["offset", "length"]].tolist()
        memory = np.empty(file.records["length"].max(initial=0), np.uint8)
        with _open(file) as tar:
            for at, record in enumerate(order):
                for later in order[at + _AHEAD:at + _AHEAD + 1]:
                    _announce(tar, *places[later])
                offset, length = places[record]
                tar.seek(offset)
                data = memory[:tar.readinto(memory[:length])]
                found = self._checked(number, record, data)
                if wanted is None:
                    yield found, ends[record] - starts[record]
                    continue
                rows = wanted[low[record]:high[record]] - starts[record]
                yield (take(found, rows) if isinstance(found, Batch)
                       else found), len(rows)

    def sample(self, row: int) -> Batch:
        """One sample; its record is checked when it is first touched."""
        number = int(self.starts.searchsorted(row, side="right")) - 1
        ends = self.ends[number]
        record = int(ends.searchsorted(row - self.starts[number], "right"))
        batch = self._seen.get((number, record))
        if batch is None:
            batch = self._checked(number, record, self._map(number, record))
            if isinstance(batch, ShardError):
                raise batch
            if self.source.layout == "packed":  # views of the file
                self._seen[number, record] = batch
        images, environment, label, key = take(batch, int(
            row - self.starts[number] - ends[record] + len(batch.ids)))
        return Batch(images.copy(), environment.copy(), label, key)

    def _map(self, number: int, record: int) -> np.ndarray:
        """The bytes of a record as they lie in the file: (L,) uint8."""
        file = self.source.files[number]
        if number not in self._maps:
            with _open(file) as tar:
                empty = not os.fstat(tar.fileno()).st_size
                self._maps[number] = (np.empty(0, np.uint8) if empty else
                                      np.memmap(tar, np.uint8, "r"))
        offset, length, *_ = file.records[record].tolist()
        return self._maps[number][offset:offset + length]

    def _checked(self, number: int, record: int, data: np.ndarray
                 ) -> Batch | ShardError:
        """Decode the bytes of a record once they are what the index says."""
        file = self.source.files[number]
        _, length, samples, told = file.records[record].tolist()
        row = int(self.starts[number] + self.ends[number][record])
        try:
            if len(data) < length:
                raise ValueError(
                    f"the file is cut off, {length - len(data):,} of "
                    f"{length:,} bytes are missing")
            if file.sha256 is not None and checksum(data) != told:
                raise ValueError(f"its checksum is {checksum(data):08x}, the "
                                 f"index says {told:08x}")
            batch = layout(self.source.layout).decode(data, self._species)
            shapes = [column.shape for column in batch]
            if shapes != [(samples, *shape) for shape in _SHAPES]:
                raise ValueError(f"its columns have the shapes {shapes}")
            if (batch.ids != self.source.ids[row - samples:row]).any():
                raise ValueError(f"its ids are not those of {TABLE}")
            return batch
        except ValueError as error:
            name = (f"record {record} of {len(file.records)}"
                    if file.keys is None else f"record {file.keys[record]}")
            return ShardError(file.path, name, str(error), samples)


def _open(file: Shard):
    try:
        return file.path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"'{file.path}' is in the index but not on disk. Fetch it, or "
            "write the shards again.") from error


def _announce(tar, offset: int, length: int) -> None:
    """Let the disk fetch a record while others are used."""
    if length > _SMALL and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(tar.fileno(), offset, length,
                         os.POSIX_FADV_WILLNEED)
