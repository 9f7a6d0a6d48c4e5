"""Shards as GlobalGeoTree publishes them: one sample a record.

Three members a sample: ``{key}.images.pth`` (float64 tensor, months ×
bands × 5 × 5, reflectance × 10,000, NaN = missing), ``{key}.text.json``
(four names) and ``{key}.auxiliary.json`` (``sample_id`` and 27 variables).
Tensors are read with weights-only loading: a pickle is data, never code.
Chapters 03 and 09.
"""

from __future__ import annotations

import io
import json
import pickle
import posixpath
import tarfile
import zipfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from geotree import taxonomy
from geotree.packed_shards import Batch, Shard, ShardError, add
from geotree.variables import MONTHS, NODATA, PATCH, VARIABLE_NAMES

LEVELS = {"level0": "leafType", "level1_family": "family",
          "level2_genus": "genus", "level3_species": "species"}
MEMBERS = ("images.pth", "text.json", "auxiliary.json")
_SHAPE = (MONTHS, 10, PATCH, PATCH)
_LARGEST = 1 << 20  # bytes a member may have; a sample needs 31 kB
_GROUP = 256  # samples handed on together


def put(tar: tarfile.TarFile, samples: Batch, classes: pd.DataFrame) -> None:
    """Append samples to a tar in the layout of the release."""
    import torch

    names = classes[list(LEVELS.values())].to_numpy()
    for image, environment, label, key in zip(*samples, strict=True):
        values = image.astype(np.float64)
        values[image == NODATA] = np.nan
        buffer = io.BytesIO()
        torch.save(torch.from_numpy(values), buffer)
        text = dict(zip(LEVELS, names[label], strict=True))
        auxiliary = {"sample_id": int(key)} | {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(VARIABLE_NAMES, environment, strict=True)}
        for member, data in zip(MEMBERS, (
                buffer.getvalue(), json.dumps(text).encode(),
                json.dumps(auxiliary).encode()), strict=True):
            add(tar, f"{key}.{member}", data)


class _Sample(NamedTuple):
    """A record of a tar, not read yet."""

    key: str
    tar: tarfile.TarFile
    members: dict[str, tarfile.TarInfo]
    faults: list[str]

    def get(self, suffix: str) -> bytes:
        """The bytes of a member, once the record is known to be whole."""
        if self.faults:
            raise ValueError("; ".join(self.faults))
        if suffix not in self.members:
            missing = [name for name in MEMBERS if name not in self.members]
            raise ValueError(f"it lacks {', '.join(missing)}")
        return self.tar.extractfile(self.members[suffix]).read()


def _samples(path: Path) -> Iterator[_Sample]:
    """Walk a tar; raises ``tarfile.TarError`` where it breaks off."""
    sample = None
    with tarfile.open(path, "r:") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # else memory grows with the file
            if member.isdir():
                continue
            folder, _, name = member.name.rpartition("/")
            name, _, suffix = name.partition(".")
            key = f"{folder}/{name}" if folder else name
            if sample is None or key != sample.key:
                if sample is not None:
                    yield sample
                sample = _Sample(key, tar, {}, [])
            fault = _fault(member)
            if fault:
                sample.faults.append(fault)
            sample.members[suffix] = member
        if sample is not None:
            yield sample
        # tarfile takes a broken header, or none, for the end of the tar.
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(512) != bytes(512):
            raise tarfile.ReadError("no end mark where the records stop")


def _fault(member: tarfile.TarInfo) -> str:
    """Why a member is refused, or nothing."""
    parts = posixpath.normpath(member.name).split("/")
    if member.name.startswith("/") or ".." in parts:
        return f"member {member.name!r} leads out of the archive: refused"
    if not member.isreg():
        return f"member {member.name!r} is no regular file: refused"
    if member.size > _LARGEST:
        return (f"member {member.name!r} has {member.size:,} bytes, at most "
                f"{_LARGEST:,} are expected")
    return ""


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


def _text(sample: _Sample) -> dict[str, str]:
    """The four names of a sample, under our column names."""
    levels = _dictionary(sample.get("text.json"), "text.json")
    missing = [name for name in LEVELS if not levels.get(name)]
    if missing:
        raise ValueError(f"text.json lacks {', '.join(missing)}")
    return {ours: str(levels[theirs]) for theirs, ours in LEVELS.items()}


def _auxiliary(sample: _Sample) -> tuple[int, np.ndarray]:
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


def _images(sample: _Sample) -> np.ndarray:
    """The tensor as digital numbers: (T, C, H, W) uint16."""
    import torch

    data = io.BytesIO(sample.get("images.pth"))
    try:
        if zipfile.is_zipfile(data):
            with zipfile.ZipFile(data) as archive:
                size = sum(info.file_size for info in archive.infolist())
                if size > _LARGEST:
                    raise ValueError(f"it unpacks to {size:,} bytes")
                if archive.testzip():
                    raise ValueError("a checksum does not match")
        data.seek(0)
        tensor = torch.load(data, weights_only=True, map_location="cpu")
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"it holds a {type(tensor).__name__}")
        values = tensor.detach().to(torch.float64).numpy()
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
    known = np.isfinite(values)
    if not known.any():
        raise ValueError("images.pth has no valid pixel")
    values = np.where(known, np.rint(values).clip(0, NODATA - 1), NODATA)
    return values.astype(np.uint16)


def read(shard: Shard, wanted: np.ndarray | None, species: pd.Index
         ) -> Iterator[Batch | ShardError]:
    """Read a tar of the release, in its order.

    Parameters
    ----------
    shard : Shard
    wanted : (N,) int, sorted, or None
        Which of the readable samples; default: all.
    species : Index
        Names of the classes, in their order.

    Yields
    ------
    Batch or ShardError
        Up to 256 samples, or what is wrong with one.
    """
    rows = np.arange(shard.samples) if wanted is None else wanted
    if shard.readable is not None:
        rows = shard.readable[rows]
    left = set(rows.tolist())
    waiting: list[tuple] = []
    key = "the first"
    try:
        for number, sample in enumerate(_samples(shard.path)):
            if not left:
                break
            if number not in left:
                continue
            left.remove(number)
            key = sample.key
            try:
                waiting.append(_decode(sample, species))
            except ValueError as error:
                yield ShardError(shard.path, f"record {key}", str(error))
            if len(waiting) == _GROUP:
                yield _batch(waiting)
                waiting = []
        reason = "samples that the index lists are not in the file"
    except tarfile.TarError as error:
        reason = f"the tar is damaged here ({error})"
    if waiting:
        yield _batch(waiting)
    if left:
        yield ShardError(shard.path, f"after record {key}", reason,
                         len(left))


def _decode(sample: _Sample, species: pd.Index) -> tuple:
    name = _text(sample)["species"]
    if name not in species:
        raise ValueError(f"species {name!r} is not among the {len(species)} "
                         "classes")
    number, environment = _auxiliary(sample)
    return (_images(sample), environment.astype(np.float32),
            species.get_loc(name), number)


def _batch(samples: list[tuple]) -> Batch:
    images, environment, labels, ids = zip(*samples, strict=True)
    return Batch(np.stack(images), np.stack(environment),
                 np.array(labels, np.int64), np.array(ids, np.int64))


class Scan:
    """Tars without an index; their names are read once, when needed.

    Has what an index has: ``files``, ``classes``, ``table``; the faults
    found on the way are in ``faults``.
    """

    layout, left_out, provenance = "release", 0, {}

    def __init__(self, paths: list[Path], *, on_error: str,
                 classes: pd.DataFrame | None = None):
        absent = [path for path in paths if not path.is_file()]
        if absent:
            raise FileNotFoundError(
                f"{len(absent)} of {len(paths)} tar files do not exist, the "
                f"first is '{absent[0]}'. Check the path.")
        self._paths, self._on_error, self._classes = paths, on_error, classes

    @property
    def files(self) -> tuple[Shard, ...]:
        return self._found[0]

    @property
    def table(self) -> pd.DataFrame:
        """What the tars say of each sample: id, place and names."""
        return self._found[1]

    @property
    def faults(self) -> list[ShardError]:
        return self._found[2]

    @cached_property
    def classes(self) -> pd.DataFrame:
        if self._classes is not None:
            return self._classes
        return taxonomy.class_table(self.table)

    @cached_property
    def _found(self):
        files, rows, faults = [], [], []
        for path in tqdm(self._paths, "scan", unit="tar",
                         disable=len(self._paths) < 2):
            first, readable = len(rows), []
            for number, found in enumerate(_scan(path)):
                if isinstance(found, dict):
                    readable.append(number)
                    rows.append(found)
                elif self._on_error == "raise":
                    raise found
                else:
                    faults.append(found)
            files.append(Shard(path, len(readable), first,
                               readable=np.array(readable, np.int64)))
        if not rows:
            raise ShardError(
                self._paths[0], "any record",
                f"no sample in {len(self._paths)} tar files. Packed shards "
                "are opened by their folder, which holds index.json",
                len(faults))
        return tuple(files), pd.DataFrame(rows), faults


def _scan(path: Path) -> Iterator[dict | ShardError]:
    key = "the first"
    try:
        for sample in _samples(path):
            key = sample.key
            try:
                number, values = _auxiliary(sample)
                missing = [m for m in MEMBERS if m not in sample.members]
                if missing:
                    raise ValueError(f"it lacks {', '.join(missing)}")
                yield {"gbifID": number,
                       "decimalLatitude": float(values[1]),
                       "decimalLongitude": float(values[0]),
                       **_text(sample)}
            except ValueError as error:
                yield ShardError(path, f"record {key}", str(error))
    except tarfile.TarError as error:
        yield ShardError(path, f"after record {key}",
                         f"the tar is damaged here ({error})")
