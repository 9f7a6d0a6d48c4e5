"""One sample of a tar of the release: found, checked, read as data.

Three members a sample: ``{key}.images.pth`` (float64 tensor, months ×
bands × 5 × 5, reflectance × 10,000, NaN = missing), ``{key}.text.json``
(four names) and ``{key}.auxiliary.json`` (``sample_id`` and 27 variables).
Tensors are read with weights-only loading: a pickle is data, never code.
``strict`` readings refuse what the release's own loader lets pass.
Chapters 03 and 09.
"""

from __future__ import annotations

import json
import pickle
import posixpath
import tarfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from geotree.release.tar_members import BLOCK, Member, members
from geotree.release.tensor_files import TensorReader
from geotree.shards.batch import ShardError
from geotree.shards.records import checksum
from geotree.variables import (
    BAND_NAMES,
    MONTHS,
    NODATA,
    PATCH,
    VARIABLE_NAMES,
)

LEVELS = {"level0": "leafType", "level1_family": "family",
          "level2_genus": "genus", "level3_species": "species"}
MEMBERS = ("images.pth", "text.json", "auxiliary.json")
_SHAPE = (MONTHS, len(BAND_NAMES), PATCH, PATCH)
_LARGEST = 1 << 20  # bytes a member may have; a sample needs 31 kB
_MOST = 16  # members of a sample that are looked at
_READER = TensorReader()  # knows the form of files from one to the next


class Absent(ValueError):
    """A part of a sample is not there, which the release passes over."""


class Passed(ShardError):
    """A sample that lacks a part: the release passes over it."""


@dataclass
class Sample:
    """Where the members of a sample lie in a tar; nothing is read yet."""

    path: Path
    file: BinaryIO  # the tar, open while it is walked
    key: str
    start: int  # bytes of its record, with headers
    stop: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    checksum: int | None = None  # of the record, where an index tells

    def get(self, name: str) -> bytes:
        """The bytes of a member, once the record is known to be whole."""
        if self.faults:
            raise ValueError("; ".join(self.faults))
        missing = [one for one in MEMBERS if one not in self.members]
        if missing:
            raise Absent(f"it lacks {', '.join(missing)}")
        if self.checksum is not None:
            record = self._bytes(self.start, self.stop - self.start)
            if checksum(np.frombuffer(record, np.uint8)) != self.checksum:
                raise ValueError("its checksum is not that of the index")
            self.checksum = None
        return self._bytes(self.members[name].offset, self.members[name].size)

    def _bytes(self, offset: int, size: int) -> bytes:
        with (self.path.open("rb") if self.file.closed
              else nullcontext(self.file)) as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise ValueError("the tar ends within it")
        return data


def attempt(read: Callable, sample: Sample | ShardError):
    """What a function makes of a sample, or what is wrong with it."""
    if isinstance(sample, ShardError):
        return sample
    try:
        return read(sample)
    except ValueError as error:
        kind = Passed if isinstance(error, Absent) else ShardError
        return kind(sample.path, f"record {sample.key}", str(error))


def samples(file: BinaryIO, path: Path) -> Iterator[Sample]:
    """Group the members of a tar; raises ``TarError`` where it breaks off.

    Files that macOS adds (``._x``) are left out, with a warning.
    """
    sample, end, macs = None, 0, 0
    try:
        for member in members(file):
            start, end = end, member.offset + -(-member.size // BLOCK) * BLOCK
            folder, _, name = member.name.rpartition("/")
            if (name.startswith(("._", ".DS_Store"))
                    or "__MACOSX" in folder.split("/")):
                macs += 1
                continue
            if member.kind == "folder":
                continue
            name, _, suffix = name.partition(".")
            key = f"{folder}/{name}" if folder else name
            if sample is None or key != sample.key:
                if sample is not None:
                    yield sample
                sample = Sample(path, file, key, start)
            sample.stop = end
            if len(sample.members) + len(sample.faults) < _MOST:
                sample.faults.extend(_faults(member))
                if suffix in sample.members:
                    sample.faults.append(f"member {member.name!r} is in the "
                                         "tar twice")
                sample.members[suffix] = member
    except tarfile.TarError:
        if sample is not None and sample.members.keys() >= set(MEMBERS):
            yield sample  # it is whole: the fault comes after it
        raise
    if sample is not None:
        yield sample
    if macs:
        warnings.warn(f"left out {macs} members of '{path}' that macOS put "
                      "there ('._…')", stacklevel=2)


def _faults(member: Member) -> Iterator[str]:
    """Why a member is refused, if it is."""
    parts = posixpath.normpath(member.name).split("/")
    if member.name.startswith("/") or ".." in parts:
        yield f"member {member.name!r} leads out of the archive: refused"
    if member.kind != "file":
        yield f"member {member.name!r} is no regular file: refused"
    if member.size > _LARGEST:
        yield (f"member {member.name!r} has {member.size:,} bytes, at most "
               f"{_LARGEST:,} are expected")


def _dictionary(sample: Sample, name: str, strict: bool) -> dict:
    """JSON of one dictionary; the release sometimes wraps it in a list."""
    try:
        content = json.loads(sample.get(name))
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
              ) -> tuple[int | None, np.ndarray]:
    """``sample_id`` and the variables: (V,) float64, NaN = missing.

    Read strictly, there is an id, and each variable, if only as null.
    """
    content = _dictionary(sample, "auxiliary.json", strict)
    needed = ("sample_id", *VARIABLE_NAMES) if strict else ()
    missing = [name for name in needed if name not in content]
    missing += [name for name in ("longitude", "latitude")
                if content.get(name) is None and name not in missing]
    if missing:
        raise Absent(f"auxiliary.json lacks {', '.join(missing[:5])}")
    try:
        number = content.get("sample_id")
        if number is not None or strict:
            if isinstance(number, float) and not number.is_integer():
                raise ValueError(f"sample_id {number} is no whole number")
            np.int64(number := int(number))
        values = np.array([content.get(name) for name in VARIABLE_NAMES],
                          dtype=np.float64)
        if strict and np.isinf(values.astype(np.float32)).any():
            raise ValueError("a variable is infinite")
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"auxiliary.json: {error}") from error
    return number, values


def reflectance(sample: Sample, *, strict: bool = True) -> np.ndarray:
    """The tensor as it is: (T, C, H, W) float64, NaN = missing."""
    data = sample.get("images.pth")
    try:
        values = _READER.read(data)
    except Exception as error:  # whatever damage makes of a zip or a pickle
        # PyTorch's own words would advise to switch the protection off.
        reason = ("it is damaged or would run code, which is refused"
                  if isinstance(error, pickle.UnpicklingError)
                  else str(error).partition("\n")[0])
        raise ValueError(f"images.pth is no plain tensor: {reason}"
                         ) from error
    if values.shape != _SHAPE or values.dtype.kind not in "fiu":
        raise ValueError(
            f"images.pth has shape {values.shape} of {values.dtype}, expected "
            f"{_SHAPE}: 12 months of 10 bands of 5 × 5 pixels")
    values = values.astype(np.float64)
    if strict and not np.isfinite(values).any():
        raise ValueError("images.pth has no valid pixel")
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
    number, environment = auxiliary(sample)
    values = reflectance(sample)
    known = np.isfinite(values)
    if values.max(where=known, initial=0) <= 1:
        raise ValueError("images.pth has no number above 1, expected digital "
                         "numbers: reflectance × 10,000")
    images = np.where(known, np.rint(values).clip(0, NODATA - 1), NODATA)
    return (images.astype(np.uint16), environment.astype(np.float32), number,
            names)
