"""Shards as GlobalGeoTree publishes them: one sample a record.

What a record holds, and how it is read without running it, is said in
:mod:`geotree.release.records`. Chapters 03 and 09.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from geotree import taxonomy
from geotree.release import records as release_records
from geotree.release.records import LEVELS, MEMBERS, Sample
from geotree.release.tensor_files import TensorReader
from geotree.shards.packed import Batch, Shard, ShardError, add
from geotree.variables import NODATA, VARIABLE_NAMES

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


def _images(sample: Sample, reader: TensorReader) -> np.ndarray:
    """The tensor as digital numbers: (T, C, H, W) uint16."""
    values = release_records.reflectance(sample, reader)
    known = np.isfinite(values)
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
    reader = TensorReader()
    key = "the first"
    try:
        for number, sample in enumerate(
                release_records.samples(shard.path)):
            if not left:
                break
            if number not in left:
                continue
            left.remove(number)
            key = sample.key
            try:
                waiting.append(_decode(sample, species, reader))
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


def _decode(sample: Sample, species: pd.Index,
            reader: TensorReader) -> tuple:
    name = release_records.text(sample)["species"]
    if name not in species:
        raise ValueError(f"species {name!r} is not among the {len(species)} "
                         "classes")
    number, environment = release_records.auxiliary(sample)
    return (_images(sample, reader), environment.astype(np.float32),
            species.get_loc(name), number)


def walk(path: Path) -> Iterator[tuple | ShardError]:
    """Read every sample of a tar, whatever its species.

    Yields
    ------
    tuple or ShardError
        Pixels (T, C, H, W) uint16, variables (V,) float32, ``sample_id``
        and the four names; or what is wrong with a sample.
    """
    reader, key = TensorReader(), "the first"
    try:
        for sample in release_records.samples(path):
            key = sample.key
            try:
                number, environment = release_records.auxiliary(sample)
                yield (_images(sample, reader),
                       environment.astype(np.float32), number,
                       release_records.text(sample))
            except ValueError as error:
                yield ShardError(path, f"record {key}", str(error))
    except tarfile.TarError as error:
        yield ShardError(path, f"after record {key}",
                         f"the tar is damaged here ({error})")


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
        for sample in release_records.samples(path):
            key = sample.key
            try:
                number, values = release_records.auxiliary(sample)
                missing = [m for m in MEMBERS if m not in sample.members]
                if missing:
                    raise ValueError(f"it lacks {', '.join(missing)}")
                yield {"gbifID": number,
                       "decimalLatitude": float(values[1]),
                       "decimalLongitude": float(values[0]),
                       **release_records.text(sample)}
            except ValueError as error:
                yield ShardError(path, f"record {key}", str(error))
    except tarfile.TarError as error:
        yield ShardError(path, f"after record {key}",
                         f"the tar is damaged here ({error})")
