"""Records: how 256 samples lie in a tar, and how they are read unharmed.

A *packed* record is four members of a tar, ``.images.npy
.environment.npy .label.npy .id.npy``; any WebDataset reader decodes them.
A record, of this layout or the release's, is used once its bytes have the
checksum that the index tells and its samples are those that the table lists
there. No thread and no process is started here. Chapter 03.
"""

import io
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import checks, taxonomy
from geotree.network import ServiceError
from geotree.shards.batch import Batch, ShardError, take
from geotree.shards.far import Ranges
from geotree.shards.index import TABLE, Shard, layout
from geotree.variables import BAND_NAMES, MONTHS, PATCH, VARIABLE_NAMES

# Members of a packed record: numbers, and shape of a sample, by column.
COLUMNS = {"images": ("<u2", (MONTHS, len(BAND_NAMES), PATCH, PATCH)),
           "environment": ("<f4", (len(VARIABLE_NAMES),)),
           "label": ("<i8", ()), "id": ("<i8", ())}
_NPY = re.compile(rb"\x93NUMPY\x01\x00..\{'descr': '(<..)', 'fortran_order': "
                  rb"False, 'shape': \(([\d, ]+)\), \} *\n", re.DOTALL)
_BLOCK = 512  # bytes; a tar is made of these
_SMALL = 1 << 16  # bytes; of such records it reads ahead unasked


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a member whose bytes depend on nothing but name and data."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def put(tar: tarfile.TarFile, samples: Batch, classes: pd.DataFrame, *,
        pack: int, first: int) -> Iterator[int]:
    """Append records of ``pack``, numbered from ``first``; yield sizes."""
    for start in range(0, len(samples.ids), pack):
        part = take(samples, slice(start, start + pack))
        for (name, (kind, _)), values in zip(COLUMNS.items(), part,
                                             strict=True):
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(values, kind))
            add(tar, f"{first + start // pack:08d}.{name}.npy",
                buffer.getvalue())
        yield len(part.ids)


def decode(data: np.ndarray, species: pd.Index) -> Batch:
    """Four ``.npy`` members as arrays over the bytes; no copy, no pickle.

    Raises
    ------
    ValueError
        Another member, type or form than :func:`put` writes, or a label
        that is no class.
    """
    data, columns, at = memoryview(data), [], 0
    for name, (kind, _) in COLUMNS.items():
        header = bytes(data[at:at + _BLOCK])
        member = header[:100].rstrip(b"\0").decode("utf-8", "replace")
        if (len(header) < _BLOCK or header[156:157] != tarfile.REGTYPE
                or not member.endswith(f".{name}.npy")):
            raise ValueError(f"member {member!r}, expected .{name}.npy")
        size, at = int(header[124:135], 8), at + _BLOCK
        columns.append(_array(data[at:at + size], kind))
        at += -(-size // _BLOCK) * _BLOCK
    checks.labels(columns[2], len(species))
    return Batch(*columns)


def _array(data: memoryview, kind: str) -> np.ndarray:
    """The array of a ``.npy`` member as numpy writes it, not parsed."""
    found = _NPY.match(data)
    if found is None or found[1].decode() != kind:
        raise ValueError(f"a member is no .npy of {kind} in C order")
    shape = [int(size) for size in found[2].split(b",") if size.strip()]
    return np.frombuffer(data, kind, offset=found.end()).reshape(shape)


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
    starts : (F + 1,) int, row of the first sample of each tar, and the end
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
        return [file.records["samples"].cumsum() for file in self.source.files]

    @cached_property
    def labels(self) -> np.ndarray:
        """Class number of every sample: (N,) int64."""
        source = self.source
        return taxonomy.labels(source.table(["species"]), source.classes)

    @cached_property
    def _species(self) -> pd.Index:
        return pd.Index(self.source.classes["species"])

    def read(self, number: int, wanted: np.ndarray | None, rng, *,
             lanes: int = 1, labels: np.ndarray | None = None
             ) -> Iterator[tuple[Batch | ShardError, int]]:
        """Read a tar, record by record.

        Parameters
        ----------
        number : int, of the tar
        wanted : (N,) int, sorted, or None
            Rows of the tar; default: all. Records without any are not read.
        rng : Generator, optional
            Packed records come in an order drawn from it.
        lanes : int
            How many read ahead at the same time.
        labels : (N,) int64, optional
            Of all samples: nothing is read, all but these is missing.

        Yields
        ------
        Batch or ShardError
            The wanted samples of a record, gone when the next is asked
            for; or what is wrong with it.
        int, how many samples are wanted of it
        """
        file, ends = self.source.files[number], self.ends[number]
        starts, order = ends - file.records["samples"], np.arange(len(ends))
        if rng is not None and self.source.layout == "packed":
            rng.shuffle(order)
        if wanted is not None:
            low, high = wanted.searchsorted((starts, ends))
            order = order[(high > low)[order]]
        if labels is not None:
            for record in order:
                rows = self.starts[number] + (
                    np.arange(starts[record], ends[record]) if wanted is None
                    else wanted[low[record]:high[record]])
                part = Batch.unread(labels[rows], self.source.ids[rows])
                yield part, len(rows)
            return
        places = file.records[["offset", "length"]].tolist()
        with closing(_open(file)) as tar:
            ahead = max(1, tar.ahead // lanes)
            for record in order[:ahead]:
                tar.announce(*places[record])
            for at, record in enumerate(order):
                for later in order[at + ahead:at + ahead + 1]:
                    tar.announce(*places[later])
                found = self._checked(number, record, tar)
                if wanted is None:
                    yield found, ends[record] - starts[record]
                    continue
                rows = wanted[low[record]:high[record]] - starts[record]
                yield (take(found, rows) if isinstance(found, Batch)
                       else found), len(rows)

    def sample(self, row: int) -> Batch:
        """One sample; its record is checked when it is first touched."""
        number = int(self.starts.searchsorted(row, side="right")) - 1
        row -= self.starts[number]
        file, ends = self.source.files[number], self.ends[number]
        record = int(ends.searchsorted(row, "right"))
        batch = self._seen.get((number, record))
        if batch is None:
            with closing(_open(file)) as tar:
                batch = self._checked(number, record, tar)
            if isinstance(batch, ShardError):
                raise batch
            if self.source.layout == "packed" and isinstance(file.path, Path):
                if number not in self._maps:  # views of the file
                    self._maps[number] = np.memmap(file.path, np.uint8, "r")
                offset, length, *_ = file.records[record].tolist()
                batch = decode(self._maps[number][offset:offset + length],
                               self._species)
                self._seen[number, record] = batch
        images, environment, label, key = take(batch, int(
            row - ends[record] + len(batch.ids)))
        return Batch(images.copy(), environment.copy(), label, key)

    def _checked(self, number: int, record: int, tar) -> Batch | ShardError:
        """Read a record and decode it, if it is as it should be."""
        file = self.source.files[number]
        offset, length, samples, told = file.records[record].tolist()
        row = int(self.starts[number] + self.ends[number][record])
        ids = self.source.ids[row - samples:row]
        try:
            for anew in (False, True):  # the way here may be at fault
                data = tar.read(offset, length, anew=anew)
                damage = _damage(data, length, told, file)
                if not damage:
                    break
            else:
                raise ValueError(damage)
            batch = layout(self.source.layout).decode(data, self._species)
            shapes = [column.shape for column in batch]
            if shapes != [(samples, *x) for _, x in COLUMNS.values()]:
                raise ValueError(f"its columns have the shapes {shapes}")
            if (batch.ids != ids).any():
                raise ValueError(f"its ids are not those of {TABLE}")
            return batch
        except (ServiceError, FileNotFoundError):
            raise  # the way there is at fault, or all of the tar is gone
        except (ValueError, OSError) as error:
            name = (f"record {record} of {len(file.records)}"
                    if file.keys is None else f"record {file.keys[record]}")
            reason = (f"the disk cannot read it ({error.strerror or error})"
                      if isinstance(error, OSError) else str(error))
            return ShardError(file.path, name, reason, samples)


def _damage(data: np.ndarray, length: int, told: int, file: Shard) -> str:
    """What tells bytes from those that the index tells of, if anything."""
    if len(data) < length:
        return (f"the file is cut off, {length - len(data):,} of {length:,} "
                "bytes are missing")
    if file.sha256 is not None and (found := checksum(data)) != told:
        return f"its checksum is {found:08x}, the index says {told:08x}"
    return ""


def _open(file: Shard):
    if not isinstance(file.path, Path):
        return Ranges(file.path, file.sha256)
    try:
        return _Here(file.path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"'{file.path}' is in the index but not on disk. Fetch it, or "
            "write the shards again.") from error


class _Here:
    """A tar on this disk; as :class:`~geotree.shards.far.Ranges` are far away.
    """

    ahead = 4  # records that are announced before they are read

    def __init__(self, path: Path):
        self._file = path.open("rb", buffering=0)
        self._memory = np.empty(0, np.uint8)
        self.close = self._file.close

    def announce(self, offset: int, length: int) -> None:
        """Let the disk fetch a record while others are used."""
        if length > _SMALL and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), offset, length,
                             os.POSIX_FADV_WILLNEED)

    def read(self, offset: int, length: int, *, anew: bool = False
             ) -> np.ndarray:
        """Bytes of a record, gone when the next is read."""
        if len(self._memory) < length:
            self._memory = np.empty(length, np.uint8)
        self._file.seek(offset)
        return self._memory[:self._file.readinto(self._memory[:length])]
