"""The index beside shards: what is in which tar, and how to tell damage.

``index.json`` lists tars, records, hashes and classes; ``samples.parquet``
is the occurrence table in the order of the samples. With the two, counting
and splitting need no tar at all. Chapter 03.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import pandas as pd

from geotree import occurrences, taxonomy
from geotree.packed_shards import Record, Shard, ShardError
from geotree.variables import BAND_NAMES, VARIABLE_NAMES

INDEX, TABLE = "index.json", "samples.parquet"
SCHEMA = 1
LAYOUTS = ("packed", "release")


def find(paths: list[Path]) -> list[Path]:
    """The tars of folders and files: by index, else by name."""
    tars: list[Path] = []
    for path in paths:
        if path.is_dir() and (path / INDEX).exists():
            tars += [path / entry["name"] for entry in load(path)["shards"]]
        elif path.is_dir():
            tars += sorted(path.glob("*.tar"))
        else:
            tars.append(path)
    if not tars:
        told = ", ".join(f"'{path}'" for path in paths[:3]) or "an empty list"
        raise FileNotFoundError(
            f"{told}: neither {INDEX} nor tar files. Write shards with "
            "shards.write, or give the folder that holds them.")
    return tars


def load(folder: Path) -> dict:
    """The index of a folder, checked; records and classes as objects."""
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
        index["classes"] = pd.DataFrame(index["classes"])
        first = 0
        for entry in index["shards"]:
            entry["records"] = tuple(
                Record(*values) for values in entry.get("records", ()))
            entry["first"] = first
            first += entry["samples"]
    except (KeyError, TypeError, ValueError) as error:
        raise ShardError(path, "the index", f"no index of shards ({error!r})"
                         ) from error
    return index


class Index:
    """What the ``index.json`` of one or more folders says."""

    faults: tuple = ()

    def __init__(self, tars: list[Path]):
        found = {path.parent: load(path.parent) for path in tars}
        first = next(iter(found.values()))
        self.classes, self.layout = first["classes"], first["layout"]
        self.provenance = first["provenance"]
        self.left_out = sum(index["left_out"] for index in found.values())
        for index in found.values():
            taxonomy.same_classes(self.classes, index["classes"])
            if index["layout"] != self.layout:
                raise ValueError("the folders hold shards of both layouts. "
                                 "Open them one by one.")
        self.files = tuple(self._shard(path, found[path.parent])
                           for path in tars)

    @staticmethod
    def _shard(path: Path, index: dict) -> Shard:
        for entry in index["shards"]:
            if entry["name"] == path.name:
                return Shard(path, entry["samples"], entry["first"],
                             entry["sha256"], entry["records"])
        raise ShardError(path, "the index", "the index beside it does not "
                         "list this file")

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
