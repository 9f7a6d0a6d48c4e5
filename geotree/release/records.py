"""One sample of a tar of the release: checked, read as data.

Three members a sample: ``{key}.images.pth`` (float64 tensor, months ×
bands × 5 × 5, reflectance × 10,000, NaN = missing), ``{key}.text.json``
(four names) and ``{key}.auxiliary.json`` (``sample_id`` and 27 variables).
Tensors are read with weights-only loading: a pickle is data, never code.
``strict`` readings refuse what the release's own loader lets pass.
Chapters 03 and 09.
"""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from geotree.release.tar_members import MEMBERS, Sample
from geotree.shards.batch import ShardError
from geotree.shards.records import COLUMNS
from geotree.variables import NODATA, VARIABLE_NAMES

LEVELS = {"level0": "leafType", "level1_family": "family",
          "level2_genus": "genus", "level3_species": "species"}
_SHAPE = COLUMNS["images"][1]
_FREE = ("data/0", ".data/serialization_id")  # of a .pth: what may differ
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
    """Reads tensor files, fast where they are of a form seen before.

    ``torch.save`` writes an uncompressed zip: a small pickle that describes
    the tensor, and the raw numbers. Files of one shape differ in nothing but
    these numbers and their checksums. So the first file of a form is read
    with PyTorch's weights-only loader, and a later one straight from its
    bytes, if all its other bytes are those of the first.
    """

    def __init__(self) -> None:
        self._forms: dict[int, _Form] = {}

    def read(self, data: bytes) -> np.ndarray:
        """The dense tensor that ``torch.save`` wrote, read-only if fast.

        Raises
        ------
        ValueError, TypeError, …
            It is no tensor, or a checksum is wrong.
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

    from geotree.release import checkpoint

    tensor = checkpoint.load_tensors(io.BytesIO(data))
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
    fixed = [slice(*pair) for pair in zip(ends[::2], ends[1::2], strict=True)]
    return _Form(data, fixed, numbers, checksum, values)


_READER = TensorReader()  # knows the form of files from one to the next


class Absent(ValueError):
    """A part of a sample is not there, which the release passes over."""


class Passed(ShardError):
    """A sample that lacks a part: the release passes over it."""


def attempt(read: Callable, sample: Sample | ShardError):
    """What a function makes of a sample, or what is wrong with it."""
    if isinstance(sample, ShardError):
        return sample
    try:
        if sample.faults:
            raise ValueError("; ".join(sample.faults))
        missing = [one for one in MEMBERS if one not in sample.parts]
        if missing:
            raise Absent(f"it lacks {', '.join(missing)}")
        return read(sample)
    except ValueError as error:
        kind = Passed if isinstance(error, Absent) else ShardError
        return kind(sample.path, f"record {sample.key}", str(error))


def _dictionary(sample: Sample, name: str, strict: bool) -> dict:
    """JSON of one dictionary; the release sometimes wraps it in a list."""
    try:
        content = json.loads(sample.parts[name])
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply") from error
    if isinstance(content, list) and (len(content) == 1 or content
                                      and not strict):
        content = content[0]
    if not isinstance(content, dict):
        raise Absent(f"{name} holds a {type(content).__name__}, expected "
                     "one dictionary")
    return content


def levels(sample: Sample, *, strict: bool = True) -> dict:
    """``text.json``: the four names of a sample, under the release's."""
    found = _dictionary(sample, "text.json", strict)
    missing = [name for name in LEVELS if not found.get(name)]
    if missing and strict:
        raise ValueError(f"text.json lacks {', '.join(missing)}")
    return found


def auxiliary(sample: Sample, *, strict: bool = True
              ) -> tuple[dict, np.ndarray]:
    """``auxiliary.json`` and its variables: (V,) float64, NaN = missing.

    Read strictly, ``sample_id`` is there and a whole number, and each
    variable is there, if only as null.
    """
    content = _dictionary(sample, "auxiliary.json", strict)
    needed = ("sample_id", *VARIABLE_NAMES) if strict else ()
    missing = [name for name in needed if name not in content]
    missing += [name for name in ("longitude", "latitude")
                if content.get(name) is None and name not in missing]
    if missing:
        raise Absent(f"auxiliary.json lacks {', '.join(missing[:5])}")
    try:
        if strict:
            number = content["sample_id"]
            if isinstance(number, float) and not number.is_integer():
                raise ValueError(f"sample_id {number} is no whole number")
            np.int64(number := int(number))
            content = content | {"sample_id": number}
        values = np.array([content.get(name) for name in VARIABLE_NAMES],
                          dtype=np.float64)
        if strict and np.isinf(values.astype(np.float32)).any():
            raise ValueError("a variable is infinite")
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"auxiliary.json: {error}") from error
    return content, values


def reflectance(sample: Sample) -> np.ndarray:
    """The tensor as it is: (T, C, H, W) of any type, NaN = missing."""
    try:
        values = _READER.read(sample.parts["images.pth"])
    except Exception as error:  # whatever damage makes of a zip or a pickle
        raise ValueError(f"images.pth is no plain tensor: {error}") from error
    if values.shape != _SHAPE or values.dtype.kind not in "fiu":
        raise ValueError(
            f"images.pth has shape {values.shape} of {values.dtype}, expected "
            f"{_SHAPE}: 12 months of 10 bands of 5 × 5 pixels")
    return values


def decode(sample: Sample) -> tuple[np.ndarray, np.ndarray, int, dict]:
    """A sample as it is packed, read strictly.

    Returns
    -------
    Pixels (T, C, H, W) uint16, variables (V,) float32, ``sample_id``, and
    the four names under our column names.
    """
    found = levels(sample)
    names = {ours: str(found[theirs]) for theirs, ours in LEVELS.items()}
    content, environment = auxiliary(sample)
    values = reflectance(sample)
    known = np.isfinite(values)
    if not known.any():
        raise ValueError("images.pth has no valid pixel")
    images = np.where(known, values, 0)
    if images.max() <= 1:
        raise ValueError("images.pth has no number above 1, expected digital "
                         "numbers: reflectance × 10,000")
    np.rint(images, out=images, casting="unsafe")
    images = images.clip(0, NODATA - 1).astype(np.uint16)
    images[~known] = NODATA
    return (images, environment.astype(np.float32), content["sample_id"],
            names)


def as_released(sample: Sample, *, strict: bool) -> tuple:
    """A sample as the release hands it on."""
    names = levels(sample, strict=strict)
    content, values = auxiliary(sample, strict=strict)
    images = reflectance(sample).astype(np.float32)
    valid = np.isfinite(images)                           # (T, C, H, W)
    months = valid.reshape(len(images), -1).any(axis=1)   # (T,)
    if strict and not months.any():
        raise ValueError("images.pth has no valid pixel")
    images[~valid] = np.nan if months.any() else 0
    known = np.isfinite(values)                           # (V,)
    variables = {"sample_id": None} | content | dict(zip(
        VARIABLE_NAMES, np.where(known, values, 0.0).tolist(), strict=True))
    return images, names, variables, months, known
