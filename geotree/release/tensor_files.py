"""Numbers out of a ``.pth`` file without opening its pickle.

``torch.save`` writes an uncompressed zip: a small pickle that describes the
tensor, and the raw numbers. Files of one shape differ in nothing but these
numbers and their checksums. So the first file of a form is read with
PyTorch's weights-only loader, and a later one straight from its bytes, if
all its other bytes are those of the first. Chapter 09.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

_FREE = ("data/0", ".data/serialization_id")  # members that may differ
_KNOWN = 8  # forms remembered
_SMALL = 1 << 20  # bytes of a tensor that a file of any size may hold


class _Form(NamedTuple):
    """A file whose tensor was read the careful way."""

    data: bytes
    fixed: list[slice]  # where others may not differ from it
    numbers: slice  # bytes of the tensor
    checksum: int  # where its CRC-32 stands
    values: np.ndarray


class TensorReader:
    """Reads tensor files, fast where they are of a form seen before."""

    def __init__(self) -> None:
        self._forms: dict[int, _Form] = {}

    def read(self, data: bytes) -> np.ndarray:
        """The tensor in a file.

        Parameters
        ----------
        data : bytes
            What ``torch.save`` wrote: one dense tensor.

        Returns
        -------
        ndarray
            Read-only where it was read straight from ``data``.

        Raises
        ------
        ValueError, RuntimeError, pickle.UnpicklingError, …
            Whatever weights-only loading raises; a checksum is wrong, or
            it is no tensor.
        """
        form = self._forms.get(len(data))
        if form and all(data[x] == form.data[x] for x in form.fixed):
            told, = struct.unpack_from("<I", data, form.checksum)
            if zlib.crc32(memoryview(data)[form.numbers]) != told:
                raise ValueError("a checksum does not match")
            return np.frombuffer(
                data, form.values.dtype, form.values.size,
                form.numbers.start).reshape(form.values.shape)
        values = _careful(data)
        if form is None and len(self._forms) < _KNOWN:
            form = _form(data, values)
            if form is not None:
                self._forms[len(data)] = form
        return values


def _careful(data: bytes) -> np.ndarray:
    """Weights-only loading: a pickle that wants more is refused."""
    import torch

    file = io.BytesIO(data)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            size = sum(info.file_size for info in archive.infolist())
            if size > 4 * len(data):
                raise ValueError(f"it unpacks to {size:,} bytes")
            if archive.testzip():
                raise ValueError("a checksum does not match")
    file.seek(0)
    tensor = torch.load(file, weights_only=True, map_location="cpu")
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"it holds a {type(tensor).__name__}")
    if tensor.nbytes > max(4 * len(data), _SMALL):
        raise ValueError(f"its shape {tuple(tensor.shape)} is "
                         f"{tensor.nbytes:,} bytes")
    return (tensor.float() if tensor.dtype == torch.bfloat16
            else tensor).detach().numpy()


def _form(data: bytes, values: np.ndarray) -> _Form | None:
    """The form of a file, if its numbers lie in it as they are."""
    free, numbers, checksum = [], None, 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        at = archive.start_dir
        for info in archive.infolist():
            name, extra = struct.unpack_from("<HH", data,
                                             info.header_offset + 26)
            start = info.header_offset + 30 + name + extra
            stop = start + info.file_size
            if info.compress_type or info.compress_size != info.file_size:
                return None
            if info.filename.endswith(_FREE):
                told = struct.pack("<I", info.CRC)
                free += [(start, stop), (at + 16, at + 20)]
                free += [(place, place + 4) for place in (  # in headers
                    info.header_offset + 14, stop, stop + 4)
                    if data[place:place + 4] == told]
            if info.filename.endswith(_FREE[0]):
                numbers, checksum = slice(start, stop), at + 16
            at += 46 + sum(struct.unpack_from("<HHH", data, at + 28))
    if numbers is None or data[numbers] != values.tobytes():
        return None  # another order of the axes, or a part of a storage
    ends = [0, *(end for part in sorted(free) for end in part), len(data)]
    fixed = [slice(*pair) for pair in zip(ends[::2], ends[1::2],
                                          strict=True)]
    return _Form(data, fixed, numbers, checksum, values)
