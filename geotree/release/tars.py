"""Shards as GlobalGeoTree publishes them: one sample a record.

What :mod:`geotree.shards` asks of a layout: to write records, to decode
them, and to find them where no index tells. What a record holds is said in
:mod:`geotree.release.records`. Chapters 03 and 09.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from geotree import taxonomy
from geotree.release import hub, records as release_records
from geotree.release.records import LEVELS, attempt
from geotree.release.tar_members import BLOCK, MEMBERS, Sample, samples, walk
from geotree.shards import index
from geotree.shards.batch import Batch, ShardError
from geotree.shards.index import RECORD, Listed, Shard
from geotree.shards.records import add
from geotree.variables import NODATA, VARIABLE_NAMES


def find(paths) -> tuple[list[Path | hub.Tar], dict[Path, Shard]]:
    """The tars of paths and addresses; what an index tells of some.

    Raises
    ------
    FileNotFoundError, ServiceError
        Nothing is there.
    ValueError
        A tar is packed, or there twice; an address is none of the hub.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    paths = [os.fspath(path) for path in paths]
    far = hub.tars(path for path in paths if "://" in path)
    near = [path for path in paths if "://" not in path] + [
        tar for tar in far if isinstance(tar, Path)]
    streams = [tar for tar in far if isinstance(tar, hub.Tar)]
    if len({*streams}) < len(streams):
        raise ValueError("a tar of the hub is given twice: its samples would "
                         "count twice. Give it once.")
    tars, found = index.find(near) if near or not far else ([], {})
    if any(one["layout"] != "release" for one in found.values()):
        raise ValueError(f"'{tars[0]}' is a packed shard. Open it with "
                         "shards.open, or write layout='release'.")
    return tars + streams, {shard.path: shard for one in found.values()
                  for shard in one["shards"].values()}


def put(tar: tarfile.TarFile, batch: Batch, classes: pd.DataFrame, *,
        pack: int, first: int) -> Iterator[int]:
    """Append each sample as a record; yield the samples of each: 1."""
    import torch

    names = classes[list(LEVELS.values())].to_numpy()
    for image, environment, label, key in zip(*batch, strict=True):
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
        yield 1


def decode(data: np.ndarray, species: pd.Index) -> Batch:
    """The sample of a record, as a batch of one."""
    file = io.BytesIO(data.tobytes() + bytes(BLOCK))  # the end mark of a tar
    try:
        sample, = samples(file, Path())
    except tarfile.TarError as error:
        raise ValueError(f"the tar is damaged here ({error})") from error
    found = attempt(release_records.decode, sample)
    if isinstance(found, ShardError):
        raise ValueError(found.reason)
    image, environment, number, names = found
    if names["species"] not in species:
        raise ValueError(f"species {names['species']!r} is not among the "
                         f"{len(species)} classes")
    return Batch(image[None], environment[None],
                 np.array([species.get_loc(names["species"])], np.int64),
                 np.array([number], np.int64))


def scan(paths: list[Path], *, on_error: str,
         classes: pd.DataFrame | None = None) -> Listed:
    """What an index would tell of tars: their ids, places and names."""
    files, rows, faults = [], [], []
    for path in tqdm(paths, "scan", unit="tar", disable=len(paths) < 2):
        records, keys, first = [], [], len(rows)
        for found in (attempt(_row, one) for one in walk(path)):
            if isinstance(found, ShardError):
                if on_error == "raise":
                    raise found
                faults.append(found)
                continue
            row, record, key = found
            rows.append(row)
            records.append(record)
            keys.append(key)
        files.append(Shard(path, len(keys), first, np.array(
            records, RECORD), keys=tuple(keys)))
    if not rows:
        raise ShardError(
            paths[0], "any record", f"no sample in {len(paths)} tar files. "
            "Packed shards are opened by their folder, which holds "
            "index.json", len(faults))
    table = pd.DataFrame(rows)
    _once(files, table["gbifID"])
    return Listed("release", tuple(files), table, faults=tuple(faults),
                  classes=(taxonomy.class_table(table) if classes is None
                           else classes))


def _row(sample: Sample) -> tuple[dict, tuple, str]:
    """What a table says of a sample, where it lies, and its key."""
    names = release_records.levels(sample)
    content, values = release_records.auxiliary(sample)
    row = {"gbifID": content["sample_id"], "decimalLatitude": float(values[1]),
           "decimalLongitude": float(values[0]),
           **{ours: str(names[theirs]) for theirs, ours in LEVELS.items()}}
    return row, (sample.start, sample.stop - sample.start, 1, 0), sample.key


def _once(files: list[Shard], ids: pd.Series) -> None:
    """Refuse a sample that several tars hold."""
    twice = np.flatnonzero(ids.duplicated())
    if len(twice):
        owner = np.repeat([str(file.path) for file in files],
                          [file.samples for file in files])
        first = int(np.argmax(ids == ids[twice[0]]))
        raise ShardError(
            owner[twice[0]], f"sample_id {ids[twice[0]]}", f"'{owner[first]}' "
            f"holds it too, as {len(twice)} samples are there twice: is one "
            "a copy of the other?", len(twice))
