"""Shards as GlobalGeoTree publishes them: one sample a record.

Three members a sample: ``{key}.images.pth`` (a float64 tensor),
``{key}.text.json`` (four names), ``{key}.auxiliary.json`` (27 variables).
Tensors are read with weights-only loading: a pickle in a file is data,
never code. Chapter 09.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd

from geotree.variables import (
    NODATA,
    VARIABLE_NAMES,
    check_images,
    reflectance,
)

LEVELS = {"level0": "leafType", "level1_family": "family",
          "level2_genus": "genus", "level3_species": "species"}
_MEMBERS = ("images.pth", "text.json", "auxiliary.json")
_LARGEST = 1 << 20  # bytes a member may have; a sample needs 25 kB


def put(tar: tarfile.TarFile, part, table: pd.DataFrame) -> None:
    """Append samples to a tar in the layout of the release."""
    import torch

    from geotree.shards import add

    values = reflectance(part.images).astype(np.float64) * 1e4
    names = table[list(LEVELS.values())].to_numpy()
    for row, key in enumerate(part.ids):
        buffer = io.BytesIO()
        torch.save(torch.from_numpy(values[row].round()), buffer)
        text = dict(zip(LEVELS, names[row], strict=True))
        auxiliary = {"sample_id": int(key)} | {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(VARIABLE_NAMES, part.environment[row],
                                   strict=True)}
        for member, data in zip(_MEMBERS, (
                buffer.getvalue(), json.dumps(text).encode(),
                json.dumps(auxiliary).encode()), strict=True):
            add(tar, f"{key}.{member}", data)


def records(path: Path):
    """Yield (key, members or error) for each sample of a tar, in order.

    Members are the raw bytes by suffix. A name that leads out of the
    archive, an oversized member or a broken tar yields an error text.
    """
    key, parts = None, {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name, _, suffix = Path(member.name).name.partition(".")
                if name != key:
                    if key is not None:
                        yield key, _complete(parts)
                    key, parts = name, {}
                if not member.isfile() or ".." in member.name or \
                        member.name.startswith("/"):
                    parts["error"] = f"member {member.name!r} is refused"
                elif member.size > _LARGEST:
                    parts["error"] = (f"member {member.name!r} has "
                                      f"{member.size:,} bytes")
                else:
                    parts[suffix] = tar.extractfile(member).read()
    except FileNotFoundError:
        raise
    except (tarfile.TarError, EOFError, OSError) as error:
        yield key or "0", f"the tar is damaged here ({error})"
        return
    if key is not None:
        yield key, _complete(parts)


def _complete(parts: dict):
    if "error" in parts:
        return parts["error"]
    missing = [name for name in _MEMBERS if name not in parts]
    return f"it lacks {', '.join(missing)}" if missing else parts


def text_levels(data: bytes) -> dict[str, str]:
    """The four names of a sample, under our column names."""
    levels = _only(json.loads(data))
    missing = [name for name in LEVELS if not levels.get(name)]
    if missing:
        raise ValueError(f"text.json lacks {', '.join(missing)}")
    return {ours: str(levels[theirs]) for theirs, ours in LEVELS.items()}


def _only(content) -> dict:
    """The release sometimes wraps the dictionary in a list of one."""
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if not isinstance(content, dict):
        raise ValueError(f"JSON holds a {type(content).__name__}, expected "
                         "one dictionary")
    return content


def decode(parts: dict) -> tuple[np.ndarray, np.ndarray, dict, int]:
    """One sample: images (T, C, H, W) uint16, variables (V,), names, id."""
    import torch

    try:
        tensor = torch.load(io.BytesIO(parts["images.pth"]),
                            weights_only=True)
    except Exception as error:  # torch raises many kinds, none is run
        raise ValueError(f"images.pth is no plain tensor "
                         f"({type(error).__name__})") from error
    values = np.asarray(tensor)
    check_images(values[None], where="images.pth")
    known = np.isfinite(values)
    images = np.where(known, np.rint(values).clip(0, NODATA - 1), NODATA)
    auxiliary = _only(json.loads(parts["auxiliary.json"]))
    missing = [n for n in VARIABLE_NAMES if n not in auxiliary]
    if missing:
        raise ValueError(f"auxiliary.json lacks {', '.join(missing[:5])}")
    variables = np.array([np.nan if auxiliary[name] is None
                          else float(auxiliary[name])
                          for name in VARIABLE_NAMES], np.float32)
    return (images.astype(np.uint16), variables,
            text_levels(parts["text.json"]), int(auxiliary["sample_id"]))


def read(shards, shard):
    """Yield (Batch of up to 256 samples, samples) of a release tar."""
    from geotree.shards import Batch

    number = pd.Index(shards.classes["species"])
    waiting: list[tuple] = []
    for key, parts in records(shard.path):
        try:
            if isinstance(parts, str):
                raise ValueError(parts)
            images, variables, names, sample = decode(parts)
            if names["species"] not in number:
                raise ValueError(f"species {names['species']!r} is not "
                                 "among the classes")
        except ValueError as error:
            if waiting:
                yield _batch(Batch, waiting), len(waiting)
                waiting = []
            shards.damaged(shard.path, key, str(error), 1)
            yield None, 1
            continue
        waiting.append((images, variables,
                        number.get_loc(names["species"]), sample))
        if len(waiting) == 256:
            yield _batch(Batch, waiting), len(waiting)
            waiting = []
    if waiting:
        yield _batch(Batch, waiting), len(waiting)


def _batch(kind, waiting):
    images, variables, label, sample = zip(*waiting, strict=True)
    return kind(np.stack(images), np.stack(variables),
                np.array(label, np.int64), np.array(sample, np.int64))


def scan(paths: list[Path], on_error: str):
    """Open tars that have no index: read their names once."""
    from geotree import taxonomy
    from geotree.shards import Shard, ShardError, Shards

    names, files = [], []
    for path in paths:
        count = 0
        for key, parts in records(path):
            count += 1
            try:
                if isinstance(parts, str):
                    raise ValueError(parts)
                names.append(text_levels(parts["text.json"]))
            except ValueError as error:
                if on_error == "raise":
                    raise ShardError(f"'{path}', record {key}: {error}. "
                                     "Fetch the file again, or open with "
                                     "on_error='skip'.") from error
        files.append(Shard(path, count, None))
    if not names:
        raise ShardError(f"no sample in {len(paths)} tar files, the first "
                         f"is '{paths[0]}'.")
    classes = taxonomy.class_table(pd.DataFrame(names))
    return Shards(tuple(files), classes, "release", on_error)
