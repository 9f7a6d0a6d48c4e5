"""Packed shards: 256 samples a record, read with one copy and no parsing.

A record is four members of a tar, ``.images.npy .environment.npy
.label.npy .id.npy``; any WebDataset reader decodes them. Chapter 03.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pandas as pd

from geotree import checks
from geotree.shards.batch import Batch, take

COLUMNS = {"images": "<u2", "environment": "<f4", "label": "<i8",
           "id": "<i8"}  # members of a record, and the numbers they hold
_BLOCK = 512  # bytes; a tar is made of these


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
        for (name, kind), values in zip(COLUMNS.items(), part, strict=True):
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(values, kind),
                    allow_pickle=False)
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
    for name, kind in COLUMNS.items():
        header = bytes(data[at:at + _BLOCK])
        member = header[:100].rstrip(b"\0").decode("utf-8", "replace")
        if (len(header) < _BLOCK or header[156:157] != tarfile.REGTYPE
                or not member.endswith(f".{name}.npy")):
            raise ValueError(f"member {member!r}, expected .{name}.npy")
        size, at = int(header[124:135], 8), at + _BLOCK
        values = _array(data[at:at + size], member)
        if values.dtype != np.dtype(kind):
            raise ValueError(f"member {member!r} holds {values.dtype}, "
                             f"expected {np.dtype(kind)}")
        columns.append(values)
        at += -(-size // _BLOCK) * _BLOCK
    checks.labels(columns[2], len(species))
    return Batch(*columns)


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
