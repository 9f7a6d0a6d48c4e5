"""The index beside shards: what is in which tar, and how to tell damage.

``index.json`` lists tars, hashes and classes, and carries its own hash;
``records.npy`` says where each record of a tar lies and what its checksum
is; ``samples.parquet`` is the occurrence table in the order of the
samples. Counting and splitting need no tar, and opening takes as long for
ten million samples as for ten. Chapter 03.
"""

import hashlib
import io
import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from geotree import checks, files, occurrences, taxonomy
from geotree.network import ServiceError
from geotree.shards import far
from geotree.shards.batch import ShardError
from geotree.variables import BAND_NAMES, VARIABLE_NAMES

INDEX, RECORDS, TABLE = "index.json", "records.npy", "samples.parquet"
SCHEMA = 3
LAYOUTS = {"packed": "geotree.shards.records",
           "release": "geotree.release.tars"}  # where each is read, written
_SEAL = b'{"sha256": "'  # how an index begins; 64 letters follow
_START = 1 << 12  # bytes that tell a tar from another of its size

# Where a record lies in its tar: bytes with headers, and their checksum.
RECORD = np.dtype([("offset", "<i8"), ("length", "<i8"), ("samples", "<i4"),
                   ("checksum", "<u4")])


class Shard(NamedTuple):
    """One tar file of a data set."""

    path: Path
    samples: int
    first: int  # row of its first sample in the folder's table
    records: np.ndarray  # (R,) RECORD
    sha256: str | None = None  # None: scanned, so no checksum is known
    keys: tuple[str, ...] | None = None  # names of records, if scanned


def layout(name: str):
    """The module that reads and writes a layout."""
    return import_module(LAYOUTS[name])


def find(paths, **options) -> tuple[list[Path], dict[Path, dict]]:
    """The tars of folders and files, and the index of each folder with one.

    ``options`` are those of :func:`geotree.shards.far.at`.

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    ValueError
        A tar is there twice, or a command is given.
    """
    if isinstance(paths, str) or not isinstance(paths, Iterable):
        paths = [paths]
    tars, found = [], {}
    for name in [os.fspath(one) for one in paths if files.named(one)]:
        if name.startswith("pipe:"):
            raise ValueError(f"'{name}' is a command, expected a file, a "
                             "folder or an address.")
        away = "://" in name
        path = far.at(name, **options) if away else files.named(name)
        if not away:  # whatever folder one works in later
            path = path.absolute()
        folder = path if path.is_dir() else path.parent
        if folder not in found and (away or (folder / INDEX).exists()):
            found[folder] = load(folder)
        if not path.is_dir():
            tars.append(path)
        elif folder in found:
            tars += [folder / name for name in found[folder]["shards"]]
            if not away:
                _left_out(set(_tars(folder)) - set(tars),
                          f"not in its {INDEX}")
        else:
            tars += _tars(folder)
    if not tars:
        raise FileNotFoundError(
            f"{', '.join(map(repr, map(str, paths[:3]))) or 'an empty list'}"
            f": neither {INDEX} nor tar files. Write shards with "
            "shards.write, or give the folder that holds them.")
    _once(tars, found)
    return tars, found


def _tars(folder: Path) -> list[Path]:
    """Tar files by name; macOS' ``._x`` beside them are none."""
    names = [path for path in sorted(folder.iterdir())
             if path.name.endswith((".tar", ".tar.gz", ".tgz"))]
    macs = [path for path in names if path.name.startswith("._")]
    _left_out(macs, "files of macOS")
    return [path for path in names if path not in macs]


def _left_out(paths, why: str) -> None:
    if paths:
        warnings.warn(f"left out {len(paths)} tar files that are {why}, the "
                      f"first is '{min(paths)}'", stacklevel=4)


def _once(tars: list[Path], found: dict[Path, dict]) -> None:
    """Refuse a tar that is given twice, also as a copy."""
    seen: dict = {}
    for path in tars:
        told = found.get(path.parent, {"shards": {}})["shards"]
        if path.name in told:
            mark = told[path.name].sha256
        elif path.is_file():
            with path.open("rb") as file:
                mark = path.stat().st_size, file.read(_START)
        else:
            raise FileNotFoundError(f"no tar file '{path}'. Check the path.")
        if mark in seen:
            raise ValueError(f"'{path}' holds the same as '{seen[mark]}': "
                             "its samples would count twice. Give it once.")
        seen[mark] = path


def save(folder: Path, content: dict) -> None:
    """Write an index, with the hashes of what lies beside it and its own.

    ``content`` has ``layout``, ``samples``, ``classes``, ``provenance``,
    ``left_out`` and ``shards``, the entries of the tars.
    """
    text = json.dumps({
        "schema": SCHEMA, **content, "bands": BAND_NAMES,
        "variables": VARIABLE_NAMES,
        "files": {name: files.sha256(folder / name)
                  for name in (RECORDS, TABLE)}}, ensure_ascii=False)
    body = f'", {text[1:]}'.encode()
    files.write(folder / INDEX, _SEAL + _hash(body) + body)


def _hash(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def load(folder: Path) -> dict:
    """The index of a folder, checked; its tars by name, as :class:`Shard`.

    Raises
    ------
    ShardError
        It is damaged, or of other bands, variables or another version.
    """
    path = folder / INDEX
    try:
        here = path if isinstance(path, far.Far) else files.regular(path)
        index = json.loads(raw := here.read_bytes())
        for name, must in (("schema", SCHEMA), ("bands", [*BAND_NAMES]),
                           ("variables", [*VARIABLE_NAMES])):
            if index[name] != must:
                raise ValueError(f"its {name} is {index[name]}, expected "
                                 f"{must}")
        checks.one_of(index["layout"], LAYOUTS, name="its layout")
        end = len(_SEAL) + 64
        if raw[:end] != _SEAL + _hash(raw[end:]):
            raise ValueError("its contents do not have the SHA-256 that it "
                             "begins with: damaged or changed")
        return index | {"shards": _listed(folder, index)}
    except (ServiceError, FileNotFoundError, ShardError):
        raise  # the way there is at fault, or nothing is there
    except (KeyError, TypeError, AttributeError, ValueError, OSError,
            OverflowError, RecursionError) as error:
        raise ShardError(path, "the index", f"no index of shards ({error!r})"
                         ) from error


def _listed(folder: Path, index: dict) -> dict[str, Shard]:
    """The tars that an index lists, and what else its readers need of it."""
    classes = pd.DataFrame(index["classes"])
    taxonomy.check(classes, *taxonomy.CLASS_COLUMNS)
    index["left_out"], index["provenance"]  # noqa: B018
    for one in (*index["shards"], {"sha256": index["files"][TABLE]}):
        bytes.fromhex(one["sha256"])
    records = side(folder, index, RECORDS, lambda file: np.load(
        io.BytesIO(file.read_bytes()), allow_pickle=False))
    shards, row, start = {}, 0, 0
    for entry in index["shards"]:
        stop = start + entry["records"]
        shards[entry["name"]] = Shard(
            folder / entry["name"], entry["samples"], row,
            records[start:stop], entry["sha256"])
        row, start = row + entry["samples"], stop
        sizes = shards[entry["name"]].records
        if sizes["samples"].sum() != entry["samples"] or not (
                0 < sizes["length"].min() <= sizes["length"].max()
                <= entry["bytes"]):
            raise ValueError(f"{entry['name']} and {RECORDS} do not agree")
    return shards


def side(folder: Path, index: dict, name: str, read: Callable):
    """Read a file beside an index, once its hash is what the index says."""
    path, told = folder / name, index["files"][name]
    try:
        here = path.copy(told) if isinstance(path, far.Far) else path
        found = files.sha256(here)
    except ServiceError:
        raise
    except OSError as error:
        raise ShardError(path, "beside the index",
                         f"cannot be read ({error.strerror})") from error
    if found != told:
        raise ShardError(path, "beside the index", "SHA-256 is "
                         f"{found[:12]}…, the index says {told[:12]}…: "
                         "damaged or replaced")
    try:
        return read(here)
    except Exception as error:  # whatever another writer made of it
        raise ShardError(path, "beside the index",
                         f"cannot be read ({error!s:.150})") from error


@dataclass
class Listed:
    """What an index says, of samples that have none: it was looked up."""

    layout: str
    files: tuple[Shard, ...]
    rows: pd.DataFrame  # occurrence table
    classes: pd.DataFrame
    faults: Sequence[ShardError] = ()  # met on the way
    left_out = 0
    provenance = {}

    @property
    def ids(self) -> np.ndarray:
        return self.rows["gbifID"].to_numpy()

    def table(self, columns: list[str] | None = None) -> pd.DataFrame:
        columns = columns or [*self.rows]
        return checks.columns(self.rows, columns)[columns]


class Index:
    """What the ``index.json`` of one or more folders says."""

    faults: tuple = ()

    def __init__(self, tars: list[Path], found: dict[Path, dict]):
        first, *others = found.values()
        self._found = found
        self.layout, self.provenance = first["layout"], first["provenance"]
        self.left_out = sum(index["left_out"] for index in found.values())
        for index in others:
            taxonomy.same_classes(self.classes, pd.DataFrame(index["classes"]))
            if index["layout"] != self.layout:
                raise ValueError("the folders hold shards of both layouts. "
                                 "Open them one by one.")
        unknown = [path for path in tars
                   if path.name not in found[path.parent]["shards"]]
        if unknown:
            raise ShardError(unknown[0], "the index", "the index beside it "
                             "does not list this file")
        self.files = tuple(found[path.parent]["shards"][path.name]
                           for path in tars)

    @cached_property
    def classes(self) -> pd.DataFrame:
        return pd.DataFrame(next(iter(self._found.values()))["classes"])

    @cached_property
    def ids(self) -> np.ndarray:
        """``gbifID`` of each sample, in order: (N,) int64."""
        return self.table(["gbifID"])["gbifID"].to_numpy()

    def table(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Occurrence table of the samples, or some of its columns."""
        read = (occurrences.read if columns is None else
                lambda path: pd.read_parquet(path, columns=columns))
        tables = {folder: side(folder, index, TABLE, read)
                  for folder, index in self._found.items()}
        first = tables[self.files[0].path.parent]
        starts = np.cumsum([0, *(file.samples for file in self.files)])
        if [*starts] == [*(file.first for file in self.files), len(first)]:
            return first  # one folder, all of it: no copy
        table = pd.concat([tables[file.path.parent].iloc[
            file.first:file.first + file.samples]
            for file in self.files], ignore_index=True)
        table.attrs = first.attrs
        return table
