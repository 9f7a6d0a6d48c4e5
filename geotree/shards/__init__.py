"""Shards: a cube as tar files that any machine reads at full speed.

*Packed* (default): one record holds 256 samples as ``.npy`` columns
(:mod:`geotree.shards.packed`). *Release*: one sample a record, as
GlobalGeoTree publishes them (:mod:`geotree.release.tars`). Both are
shuffled when written and lie beside an index with counts, hashes and the
class table: nothing is scanned, and no pickle is executed. Chapter 03.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from geotree import checks, files, pixels, taxonomy
from geotree.shards import writing
from geotree.shards.batch import Batch, ShardError, join, take
from geotree.shards.index import (
    INDEX,
    LAYOUTS,
    TABLE,
    Index,
    Shard,
    find,
    layout,
)
from geotree.shards.reading import Shards
from geotree.shards.records import Records

__all__ = ["INDEX", "LAYOUTS", "TABLE", "Batch", "Shard", "ShardError",
           "Shards", "join", "open", "take", "write"]


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
    checks.one_of(layout, LAYOUTS, name="layout")
    for name, value in (("pack", pack), ("packs_per_shard", packs_per_shard)):
        checks.number(value, name=name, low=1, whole=True)
    pixels.check(cube, where="cube")
    out = Path(out).absolute()
    if out.is_dir() and any(out.iterdir()) and not (out / INDEX).exists():
        raise ValueError(f"folder '{out}' holds other files than shards (no "
                         f"{INDEX}). Choose another folder, or empty it.")
    with files.lock(out):
        writing.write(
            cube, table, out, layout=layout, classes=classes, seed=seed,
            pack=pack, packs_per_shard=packs_per_shard, progress=progress)
    return open(out)


def open(paths, *, on_error: str = "raise",
         classes: pd.DataFrame | None = None) -> Shards:
    """Open shards; nothing is read but their index.

    Parameters
    ----------
    paths : path or list of paths
        A folder of shards, some of its tars, or tars of the release. Tars
        without an index are scanned for names and ids when these are first
        asked for.
    on_error : "raise" or "skip"
        What a damaged record does: stop with a :class:`ShardError` that
        names file and record, or be left out, warned of and counted in
        ``Shards.skipped``.
    classes : DataFrame, optional
        Class table that labels must follow, e.g. a model's. Shards with an
        index must carry the same one; in tars without, a species that it
        lacks is an error.

    Returns
    -------
    Shards

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    ShardError
        The index cannot be read, or something beside it is damaged.
    ValueError
        The shards carry another class table, or a tar is given twice.
    """
    checks.one_of(on_error, ("raise", "skip"), name="on_error")
    tars, found = find(paths)
    indexed = [path.parent in found for path in tars]
    if not any(indexed):
        source = layout("release").Scan(tars, on_error=on_error,
                                        classes=classes)
        return Shards(Records(source), on_error)
    if not all(indexed):
        raise ValueError(
            f"{sum(indexed)} of {len(tars)} tar files have an {INDEX} beside "
            "them, the others do not. Open the two kinds by themselves.")
    source = Index(tars, found)
    if classes is not None:
        taxonomy.same_classes(classes, source.classes)
    return Shards(Records(source), on_error)
