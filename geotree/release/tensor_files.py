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

    frame: np.ndarray  # (n,) uint8, 0 where files may differ
    fixed: np.ndarray  # (n,) uint8, 255 where they may not
    numbers: slice  # bytes of the tensor
    checksum: int  # where its CRC-32 stands
    dtype: np.dtype
    shape: tuple[int, ...]


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
        if form is not None:
            raw = np.frombuffer(data, np.uint8)
            if np.array_equal(raw & form.fixed, form.frame):
                return _numbers(data, form)
        values = _careful(data)
        if form is None and len(self._forms) < _KNOWN:
            found = _form(data, values)
            if found is not None:
                self._forms[len(data)] = found
        return values


def _numbers(data: bytes, form: _Form) -> np.ndarray:
    told, = struct.unpack_from("<I", data, form.checksum)
    if zlib.crc32(memoryview(data)[form.numbers]) != told:
        raise ValueError("a checksum does not match")
    return np.frombuffer(data, form.dtype, int(np.prod(form.shape)),
                         form.numbers.start).reshape(form.shape)


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
    fixed = np.full(len(data), 255, np.uint8)
    numbers = checksum = None
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
                fixed[start:stop] = 0
                fixed[at + 16:at + 20] = 0  # CRC in the directory,
                for place in (info.header_offset + 14, stop, stop + 4):
                    if data[place:place + 4] == told:  # and in headers
                        fixed[place:place + 4] = 0
            if info.filename.endswith(_FREE[0]):
                numbers, checksum = slice(start, stop), at + 16
            at += 46 + sum(struct.unpack_from("<HHH", data, at + 28))
    if numbers is None or data[numbers] != values.tobytes():
        return None  # another order of the axes, or a part of a storage
    return _Form(np.frombuffer(data, np.uint8) & fixed, fixed, numbers,
                 checksum, values.dtype, values.shape)
