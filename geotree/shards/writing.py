"""From cube to tars: one pass over the cube, in a seeded random order.

A sample's place in the shuffled order is known beforehand, so the cube is
read once from front to back and each sample is dropped into the scratch
file of its shard. Memory stays flat at any size. Chapter 03.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from geotree import checks, files, occurrences, taxonomy
from geotree.shards import index
from geotree.shards.batch import Batch
from geotree.shards.index import RECORD, RECORDS, TABLE
from geotree.shards.reading import checksum
from geotree.sources import OK
from geotree.variables import BAND_NAMES, MONTHS, PATCH, VARIABLE_NAMES

_READ = 8192  # samples of the cube in memory
SAMPLE = np.dtype([  # as scratch files hold it
    ("images", "<u2", (MONTHS, len(BAND_NAMES), PATCH, PATCH)),
    ("environment", "<f4", (len(VARIABLE_NAMES),)),
])


def write(cube, table: pd.DataFrame, out: Path, *, layout: str,
          classes: pd.DataFrame | None, seed: int, pack: int,
          packs_per_shard: int, progress: bool) -> None:
    """Write the folder ``out``; see :func:`geotree.shards.write`."""
    table = occurrences.validate(table)
    classes = taxonomy.class_table(table) if classes is None else classes
    usable = np.flatnonzero(cube["status"].to_numpy() == OK)
    if not len(usable):
        raise ValueError(f"none of the {cube.sizes['sample']} samples of the "
                         "cube has imagery: nothing to write.")
    order = np.random.default_rng(seed).permutation(usable)
    table = _matching(table, cube["sample"].to_numpy()[order])
    size = pack * packs_per_shard

    def fill(part: Path):
        _scatter(cube, order, size, part, progress)
        return lambda number, rows: _gather(part, number)

    finish(table, fill, out, layout=layout, classes=classes, pack=pack,
           size=size, progress=progress, about={
               "seed": seed, "provenance": cube.attrs,
               "left_out": int(cube.sizes["sample"] - len(order))},
           kept="The cube is untouched, and so are")


def finish(table: pd.DataFrame, fill: Callable, out: Path, *, layout: str,
           classes: pd.DataFrame, pack: int, size: int, progress: bool,
           about: dict, kept: str) -> None:
    """Write tars and index beside ``out``, then put them in its place.

    Parameters
    ----------
    table : DataFrame
        Occurrence table of the samples, in their order.
    fill : callable
        Given the folder of parts, returns a function of the number of a
        tar and its rows of ``table``, which returns its samples as an
        array of :data:`SAMPLE`.
    size : int
        Samples a tar.
    about : dict
        ``seed``, ``left_out`` and ``provenance`` of the index.
    kept : str
        What an error may promise, before "shards written there before".
    """
    labels = taxonomy.labels(table, classes)
    try:
        with files.whole(out) as part:
            part.mkdir()
            samples_of = fill(part)
            entries, records = [], []
            for number in tqdm(range(-(-len(table) // size)), "shards",
                               unit="tar", disable=not progress):
                rows = slice(number * size, (number + 1) * size)
                samples = samples_of(number, rows)
                entry, found = _tar(part, number, Batch(
                    samples["images"], samples["environment"], labels[rows],
                    table["gbifID"].to_numpy()[rows]), classes,
                    layout=layout, pack=pack, first=rows.start // pack)
                entries.append(entry)
                records.append(found)
            np.save(part / RECORDS, np.concatenate(records))
            occurrences.write(table, part / TABLE)
            index.save(part, {
                "layout": layout, "pack": pack, "samples": len(table),
                "classes": classes.astype(str).to_dict(orient="list"),
                **about, "provenance": {name: str(value) for name, value
                                        in about["provenance"].items()},
                "shards": entries})
    except OSError as error:
        raise OSError(
            error.errno or 0, f"cannot write shards to '{out}' "
            f"({error.strerror or error}). {kept} shards written there "
            "before; free space or choose another folder, then write again"
            ) from error


def _matching(table: pd.DataFrame, ids: np.ndarray) -> pd.DataFrame:
    """Rows of ``table`` in the order of ``ids``."""
    position = pd.Index(table["gbifID"]).get_indexer(ids)
    if (position < 0).any():
        raise ValueError(
            f"{int((position < 0).sum())} of {len(ids)} samples of the cube "
            f"are not in the table, e.g. gbifID {ids[position < 0][0]}. Was "
            "the cube made from another table?")
    return table.iloc[position].reset_index(drop=True)


def _scatter(cube, order, size, folder, progress) -> None:
    """Drop every sample at its place in the scratch file of its shard."""
    total = cube.sizes["sample"]
    target = np.full(total, -1)  # place of each cube row in the new order
    target[order] = np.arange(len(order))
    with tqdm(total=total, desc="cube", unit="sample",
              disable=not progress) as bar:
        for start in range(0, total, _READ):
            rows = slice(start, min(start + _READ, total))
            samples = np.empty(rows.stop - start, SAMPLE)
            for name, source, check in (
                    ("images", "reflectance", checks.images),
                    ("environment", "environment", checks.environment)):
                samples[name] = check(
                    cube[source].isel(sample=rows).to_numpy(),
                    where=f"{source} of the cube, from sample {start} on")
            place = target[rows]
            for number in np.unique(place[place >= 0] // size):
                mine = np.flatnonzero((place >= 0) & (place // size == number))
                _drop(_scratch(folder, number), place[mine] % size,
                      samples[mine])
            bar.update(len(samples))


def _drop(path: Path, places, samples) -> None:
    path.touch()
    with path.open("r+b") as file:
        for place, sample in zip(places.tolist(), samples, strict=True):
            file.seek(place * SAMPLE.itemsize)
            file.write(sample.tobytes())


def _scratch(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.scratch"


def _gather(folder: Path, number: int) -> np.ndarray:
    """The samples of a tar in their order; the scratch file goes."""
    path = _scratch(folder, number)
    samples = np.fromfile(path, SAMPLE)
    path.unlink()
    return samples


def _tar(folder: Path, number: int, samples: Batch, classes, *, layout: str,
         pack: int, first: int) -> tuple[dict, np.ndarray]:
    """Write one tar; return its entry of the index, and its records."""
    path, ends, counts = folder / f"shard-{number:06d}.tar", [0], []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for count in index.layout(layout).put(tar, samples, classes,
                                              pack=pack, first=first):
            ends.append(tar.offset)
            counts.append(count)
    records = np.zeros(len(counts), RECORD)
    records["offset"], records["samples"] = ends[:-1], counts
    records["length"] = np.diff(ends)
    with path.open("rb") as file:
        records["checksum"] = [
            checksum(np.fromfile(file, np.uint8, length))
            for length in records["length"]]
    return {"name": path.name, "samples": len(samples.ids),
            "bytes": path.stat().st_size, "sha256": files.sha256(path),
            "records": len(records)}, records
