"""From cube to tars: one pass over the cube, in a seeded random order.

The cube is read once from front to back into a scratch file, from which
each tar picks its samples. Memory stays flat at any size. Chapter 03.
"""

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from geotree import checks, files, occurrences, pixels, taxonomy
from geotree.pixels.cube import ROWS, match, rows_of
from geotree.shards import index
from geotree.shards.batch import Batch
from geotree.shards.index import INDEX, RECORD, RECORDS, TABLE
from geotree.shards.reading import Shards, open
from geotree.shards.records import checksum
from geotree.sources import OK
from geotree.variables import BAND_NAMES, MONTHS, PATCH, VARIABLE_NAMES

_READ = 8192  # samples of the cube in memory
SAMPLE = np.dtype([  # as scratch files hold it
    ("images", "<u2", (MONTHS, len(BAND_NAMES), PATCH, PATCH)),
    ("environment", "<f4", (len(VARIABLE_NAMES),)),
])


def write(cube, table: pd.DataFrame, out: str | Path, *,
          layout: str = "packed", classes: pd.DataFrame | None = None,
          seed: int = 0, pack: int = 256, packs_per_shard: int = 64,
          progress: bool = True) -> Shards:
    """Write a cube as shards.

    Parameters
    ----------
    cube : xarray.Dataset
        From :func:`geotree.pixels.open`.
    table : DataFrame
        Occurrence table with every ``gbifID`` of the cube.
    out : path
        Folder. It appears when all is written; shards that were there are
        replaced then, and kept if something fails.
    layout : "packed" or "release"
    classes : DataFrame, optional
        Class table; default: that of ``table``.
    seed : int
        Of the order of samples. The same input gives the same bytes.
    pack : int
        Samples a record.
    packs_per_shard : int
        Records a tar; 64 of 256 samples are 100 MB.

    Returns
    -------
    Shards
        Samples without imagery are left out; ``left_out`` counts them.

    Raises
    ------
    ValueError
        The cube is of another grid, unit, table or class table, ``out``
        holds something else than shards, or nothing is left to write.
    OSError
        The disk is full or the folder cannot be written.
    """
    checks.one_of(layout, index.LAYOUTS, name="layout")
    for name, value in (("pack", pack), ("packs_per_shard", packs_per_shard)):
        checks.number(value, name=name, low=1, whole=True)
    pixels.check(cube, where="cube")
    out = target(out)
    table = occurrences.validate(table)
    known = {name: cube[name].to_numpy() for name in ROWS if name in cube}
    if len(known) == len(ROWS):
        checks.refuse(match(rows_of(table), known, cube.attrs)[1], "records "
                      "of the table have another place or year in the cube",
                      "Download them again.")
    usable = np.flatnonzero(cube["status"].to_numpy() == OK)
    if not len(usable):
        raise ValueError(f"none of the {cube.sizes['sample']} samples of the "
                         "cube has imagery: nothing to write.")
    order = checks.rng(seed).permutation(usable)
    with files.lock(out):
        finish(
            _matching(table, cube["sample"].to_numpy()[order]),
            lambda part: _copied(cube, order, part / "samples.scratch",
                                 progress),
            out, layout=layout, pack=pack, size=pack * packs_per_shard,
            classes=classes, progress=progress, about={
                "seed": seed, "provenance": cube.attrs,
                "left_out": int(cube.sizes["sample"] - len(order))},
            kept="The cube is untouched, and so are")
    return open(out)


def target(out: str | Path) -> Path:
    """The folder for shards, unless more than shards would be replaced."""
    return files.only(out, INDEX, RECORDS, TABLE, "shard-*.tar",
                      what="shards").absolute()


def finish(table: pd.DataFrame, fill: Callable, out: Path, *, layout: str,
           classes: pd.DataFrame | None, pack: int, size: int,
           progress: bool,
           about: dict, kept: str) -> None:
    """Write tars and index beside ``out``, then put them in its place.

    Parameters
    ----------
    table : DataFrame
        Occurrence table of the samples, in their order.
    fill : callable
        Given a folder for scratch, returns a function of the rows of a tar
        in ``table``, which returns their samples as an array of
        :data:`SAMPLE`.
    classes : DataFrame or None
        Class table; None: that of ``table``.
    size : int
        Samples a tar.
    about : dict
        ``seed``, ``left_out`` and ``provenance`` of the index.
    kept : str
        What an error may promise, before "shards written there before".
    """
    classes = taxonomy.class_table(table) if classes is None else classes
    taxonomy.check(classes, *taxonomy.CLASS_COLUMNS)
    labels = taxonomy.labels(table, classes)
    try:
        with files.whole(out) as part:
            part.mkdir()
            samples_of = fill(part)
            entries, records = [], []
            for start in tqdm(range(0, len(table), size), "shards",
                              unit="tar", disable=not progress):
                rows = slice(start, start + size)
                samples = samples_of(rows)
                entry, found = _tar(
                    part / f"shard-{start // size:06d}.tar", Batch(
                        samples["images"], samples["environment"],
                        labels[rows], table["gbifID"].to_numpy()[rows]),
                    classes, layout=layout, pack=pack, first=start // pack)
                entries.append(entry)
                records.append(found)
            for scratch in part.glob("*.scratch"):
                scratch.unlink()
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


def _copied(cube, order: np.ndarray, path: Path, progress: bool
            ) -> Callable[[slice], np.ndarray]:
    """Copy a cube to a file; returns what picks rows of an order from it.
    """
    total = cube.sizes["sample"]
    with path.open("wb") as file, tqdm(total=total, desc="cube",
                                       unit="sample",
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
            file.write(samples.tobytes())
            bar.update(len(samples))
    return gathered([path], order)


def gathered(paths: list[Path], order: np.ndarray
             ) -> Callable[[slice], np.ndarray]:
    """What returns the samples of a part of an order over several files."""
    ends = np.cumsum([path.stat().st_size // SAMPLE.itemsize
                      for path in paths])

    def samples_of(rows: slice) -> np.ndarray:
        wanted = order[rows]
        owner = ends.searchsorted(wanted, side="right")
        samples = np.empty(len(wanted), SAMPLE)
        for number in np.unique(owner):
            stored = np.memmap(paths[number], SAMPLE, "r")
            mine = owner == number
            samples[mine] = stored[wanted[mine] - ends[number]]
        return samples

    return samples_of


def _tar(path: Path, samples: Batch, classes, *, layout: str, pack: int,
         first: int) -> tuple[dict, np.ndarray]:
    """Write one tar; return its entry of the index, and its records."""
    ends, counts = [0], []
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
