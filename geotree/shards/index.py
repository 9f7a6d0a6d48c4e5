"""The index beside shards: what is in which tar, and how to tell damage.

``index.json`` lists tars, hashes and classes; ``records.npy`` says where
each record of a packed tar lies; ``samples.parquet`` is the occurrence
table in the order of the samples. Counting and splitting need no tar, and
opening takes as long for ten million samples as for ten. Chapter 03.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import occurrences, taxonomy
from geotree.shards.packed import RECORD, Shard, ShardError
from geotree.variables import BAND_NAMES, VARIABLE_NAMES

INDEX, RECORDS, TABLE = "index.json", "records.npy", "samples.parquet"
SCHEMA = 2
LAYOUTS = ("packed", "release")


def find(paths: list[Path]) -> tuple[list[Path], dict[Path, dict]]:
    """The tars of folders and files, and the index of each folder with one.
    """
    tars: list[Path] = []
    found = {}
    for path in paths:
        if path.is_dir() and (path / INDEX).exists():
            found[path] = load(path)
            tars += [path / name for name in found[path]["shards"]]
        elif path.is_dir():
            tars += sorted(path.glob("*.tar"))
        else:
            tars.append(path)
    if not tars:
        told = ", ".join(f"'{path}'" for path in paths[:3]) or "an empty list"
        raise FileNotFoundError(
            f"{told}: neither {INDEX} nor tar files. Write shards with "
            "shards.write, or give the folder that holds them.")
    for folder in {path.parent for path in tars} - set(found):
        if (folder / INDEX).exists():
            found[folder] = load(folder)
    return tars, found


def load(folder: Path) -> dict:
    """The index of a folder, checked; its tars by name, as entries."""
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        found = (index["schema"], tuple(index["bands"]),
                 tuple(index["variables"]), index["layout"] in LAYOUTS)
        expected = (SCHEMA, BAND_NAMES, VARIABLE_NAMES, True)
        for name, was, must in zip(("schema", "bands", "variables", "layout"),
                                   found, expected, strict=True):
            if was != must:
                raise ValueError(f"its {name} is {was}, expected {must}")
        index["shards"] = _shards(folder, index)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ShardError(path, "the index", f"no index of shards ({error!r})"
                         ) from error
    return index


def _shards(folder: Path, index: dict) -> dict[str, Shard]:
    """The tars of an index, each with its part of the records."""
    packed = index["layout"] == "packed"
    records = None
    if packed:
        records = np.load(folder / RECORDS, mmap_mode="r")
        if records.dtype != RECORD or len(records) != sum(
                entry["records"] for entry in index["shards"]):
            raise ValueError(f"{RECORDS} does not fit it")
    shards, first, start = {}, 0, 0
    for entry in index["shards"]:
        stop = start + entry["records"] if packed else 0
        shards[entry["name"]] = Shard(
            folder / entry["name"], entry["samples"], first, entry["sha256"],
            records[start:stop] if packed else None)
        first, start = first + entry["samples"], stop
    return shards


class Index:
    """What the ``index.json`` of one or more folders says."""

    faults: tuple = ()

    def __init__(self, tars: list[Path], found: dict[Path, dict]):
        first, *others = found.values()
        self._classes, self.layout = first["classes"], first["layout"]
        self.provenance = first["provenance"]
        self.left_out = sum(index["left_out"] for index in found.values())
        for index in others:
            taxonomy.same_classes(self.classes,
                                  pd.DataFrame(index["classes"]))
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
        return pd.DataFrame(self._classes)

    @cached_property
    def table(self) -> pd.DataFrame:
        folders = {file.path.parent for file in self.files}
        tables = {folder: occurrences.read(folder / TABLE)
                  for folder in folders}
        parts = [tables[file.path.parent]
                 .iloc[file.first:file.first + file.samples]
                 for file in self.files]
        table = pd.concat(parts, ignore_index=True)
        table.attrs = tables[self.files[0].path.parent].attrs
        return table
