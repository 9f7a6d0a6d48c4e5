"""One sample of a tar of the release: found, checked, read as data.

Three members a sample: ``{key}.images.pth`` (float64 tensor, months ×
bands × 5 × 5, reflectance × 10,000, NaN = missing), ``{key}.text.json``
(four names) and ``{key}.auxiliary.json`` (``sample_id`` and 27 variables).
Tensors are read with weights-only loading: a pickle is data, never code.
Chapters 03 and 09.
"""

from __future__ import annotations

import json
import pickle
import posixpath
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from geotree.release.tar_members import Member, members
from geotree.release.tensor_files import TensorReader
from geotree.variables import MONTHS, PATCH, VARIABLE_NAMES

LEVELS = {"level0": "leafType", "level1_family": "family",
          "level2_genus": "genus", "level3_species": "species"}
MEMBERS = ("images.pth", "text.json", "auxiliary.json")
_SHAPE = (MONTHS, 10, PATCH, PATCH)
_LARGEST = 1 << 20  # bytes a member may have; a sample needs 31 kB
_MOST = 16  # members of a sample that are looked at


class Sample(NamedTuple):
    """A sample of a tar: where its members lie; nothing is read yet."""

    path: Path
    file: BinaryIO  # the tar, open while it is walked
    key: str
    members: dict[str, Member]
    faults: list[str]

    def get(self, suffix: str) -> bytes:
        """The bytes of a member, once the record is known to be whole."""
        if self.faults:
            raise ValueError("; ".join(self.faults))
        if suffix not in self.members:
            missing = [name for name in MEMBERS if name not in self.members]
            raise ValueError(f"it lacks {', '.join(missing)}")
        member = self.members[suffix]
        with (self.path.open("rb") if self.file.closed
              else nullcontext(self.file)) as file:
            file.seek(member.offset)
            data = file.read(member.size)
        if len(data) < member.size:
            raise ValueError(f"the tar ends within {suffix}")
        return data


def samples(path: Path) -> Iterator[Sample]:
    """Walk a tar; raises ``tarfile.TarError`` where it breaks off."""
    sample = None
    with path.open("rb") as file:
        try:
            for member in members(file):
                if member.kind == "folder":
                    continue
                folder, _, name = member.name.rpartition("/")
                name, _, suffix = name.partition(".")
                key = f"{folder}/{name}" if folder else name
                if sample is None or key != sample.key:
                    if sample is not None:
                        yield sample
                    sample = Sample(path, file, key, {}, [])
                if len(sample.members) < _MOST:
                    sample.members[suffix] = member
                    sample.faults.extend(_faults(member))
        except tarfile.TarError:
            if sample is not None and sample.members.keys() >= set(MEMBERS):
                yield sample  # it is whole: the fault comes after it
            raise
        if sample is not None:
            yield sample


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


def _dictionary(data: bytes, name: str) -> dict:
    """JSON of one dictionary; the release sometimes wraps it in a list."""
    try:
        content = json.loads(data)
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply") from error
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if not isinstance(content, dict):
        raise ValueError(f"{name} holds a {type(content).__name__}, expected "
                         "one dictionary")
    return content


def levels(sample: Sample) -> dict:
    """``text.json``: the four names of a sample, under the release's."""
    found = _dictionary(sample.get("text.json"), "text.json")
    missing = [name for name in LEVELS if not found.get(name)]
    if missing:
        raise ValueError(f"text.json lacks {', '.join(missing)}")
    return found


def text(sample: Sample) -> dict[str, str]:
    """The four names of a sample, under our column names."""
    found = levels(sample)
    return {ours: str(found[theirs]) for theirs, ours in LEVELS.items()}


def auxiliary(sample: Sample) -> tuple[int, np.ndarray]:
    """``sample_id`` and the variables: (V,) float64, NaN = missing."""
    content = _dictionary(sample.get("auxiliary.json"), "auxiliary.json")
    missing = [name for name in ("sample_id", *VARIABLE_NAMES)
               if name not in content]
    if missing:
        raise ValueError(f"auxiliary.json lacks {', '.join(missing[:5])}")
    try:
        number = int(content["sample_id"])
        np.int64(number)
        values = np.array([content[name] for name in VARIABLE_NAMES],
                          dtype=np.float64)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"auxiliary.json: {error}") from error
    return number, values


def reflectance(sample: Sample, reader: TensorReader) -> np.ndarray:
    """The tensor as it is: (T, C, H, W) float64, NaN = missing.

    ``reader`` remembers the form of such files from one to the next.
    """
    data = sample.get("images.pth")
    try:
        values = reader.read(data).astype(np.float64)
    except (ValueError, RuntimeError, TypeError, EOFError, KeyError,
            AttributeError, pickle.UnpicklingError,
            zipfile.BadZipFile) as error:
        # PyTorch's own words would advise to switch the protection off.
        reason = ("it is damaged or would run code, which is refused"
                  if isinstance(error, pickle.UnpicklingError)
                  else str(error).partition("\n")[0])
        raise ValueError(f"images.pth is no plain tensor: {reason}"
                         ) from error
    if values.shape != _SHAPE:
        raise ValueError(
            f"images.pth has shape {values.shape}, expected {_SHAPE}: 12 "
            "months of 10 bands of 5 × 5 pixels")
    if not np.isfinite(values).any():
        raise ValueError("images.pth has no valid pixel")
    return values
