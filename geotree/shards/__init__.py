"""Shards: a cube as tar files that any machine reads at full speed.

*Packed* (default): one record holds 256 samples as ``.npy`` columns
(:mod:`geotree.shards.packed`). *Release*: one sample a record, as
GlobalGeoTree publishes them (:mod:`geotree.release.tars`). Both are
shuffled when written and lie beside an index with counts, hashes and the
class table: nothing is scanned, and no pickle is executed. Chapter 03.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import deque
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import files, pixels, taxonomy
from geotree.release import tars as release
from geotree.shards import packed, writing
from geotree.shards.index import INDEX, LAYOUTS, TABLE, Index, find
from geotree.shards.packed import Batch, Shard, ShardError, join, take

__all__ = ["INDEX", "LAYOUTS", "TABLE", "Batch", "ShardError", "Shards",
           "open", "write"]
_MIXED = 2048  # samples, or a batch where it is larger, when shuffling


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
        The cube is of another grid, table or class table, ``out`` holds
        something else than shards, or nothing is left to write.
    OSError
        The disk is full or the folder cannot be written.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}, expected 'packed' (fast) "
                         "or 'release' (as GlobalGeoTree publishes).")
    if pack < 1 or packs_per_shard < 1:
        raise ValueError(f"pack is {pack} and packs_per_shard "
                         f"{packs_per_shard}, expected 1 or more.")
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
        The index cannot be read.
    ValueError
        The shards carry another class table.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error is {on_error!r}, expected 'raise' or "
                         "'skip'.")
    single = isinstance(paths, str | os.PathLike)
    tars, found = find([Path(path) for path in
                        ([paths] if single else paths)])
    indexed = [path.parent in found for path in tars]
    if any(indexed) and not all(indexed):
        raise ValueError(
            f"{sum(indexed)} of {len(tars)} tar files have an {INDEX} beside "
            "them, the others do not. Open the two kinds by themselves.")
    if not all(indexed):
        return Shards(release.Scan(tars, on_error=on_error, classes=classes),
                      on_error)
    source = Index(tars, found)
    if classes is not None:
        taxonomy.same_classes(classes, source.classes)
    return Shards(source, on_error)


class Shards:
    """Samples in tar files, or a selection of them; see :func:`open`.

    Attributes
    ----------
    files : tuple of Shard
        Path, samples and SHA-256 of each tar.
    classes : DataFrame
        The class table that ``labels`` point into.
    layout : "packed" or "release"
    left_out : int
        Samples of the cube that had no imagery.
    """

    def __init__(self, source, on_error: str = "raise",
                 rows: np.ndarray | None = None):
        self._source, self.on_error = source, on_error
        self._rows = rows  # selection, sorted; None = all
        self._skipped: dict[tuple, int] = {}

    def __repr__(self) -> str:
        return (f"<Shards: {len(self):,} samples of {len(self.classes)} "
                f"classes in {len(self.files)} {self.layout} tar files>")

    def __len__(self) -> int:
        if self._rows is not None:
            return len(self._rows)
        return sum(file.samples for file in self.files)

    @property
    def files(self) -> tuple[Shard, ...]:
        return self._source.files

    @property
    def classes(self) -> pd.DataFrame:
        return self._source.classes

    @property
    def layout(self) -> str:
        return self._source.layout

    @property
    def left_out(self) -> int:
        return self._source.left_out

    @property
    def provenance(self) -> dict[str, str]:
        """Where the pixels come from: the attributes of the cube."""
        return self._source.provenance

    @property
    def skipped(self) -> int:
        """Damaged samples that were left out since opening."""
        return (sum(fault.samples for fault in self._source.faults)
                + sum(self._skipped.values()))

    @cached_property
    def table(self) -> pd.DataFrame:
        """Occurrence table of these samples, in their order."""
        table = self._source.table
        if self._rows is not None:
            table = table.iloc[self._rows].reset_index(drop=True)
        return table

    @cached_property
    def labels(self) -> np.ndarray:
        """Class number of each sample, in order: (N,) int64."""
        return taxonomy.labels(self.table, self.classes)

    def select(self, rows) -> Shards:
        """A view of some samples; they keep the order of the shards.

        Parameters
        ----------
        rows : (N,) bool, or integers
            Which of these samples; a row named twice is there once.
        """
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise ValueError(f"mask has shape {rows.shape}, expected "
                                 f"({len(self)},): one value a sample.")
            rows = np.flatnonzero(rows)
        rows = np.unique(rows).astype(np.int64)
        if len(rows) and not (0 <= rows[0] and rows[-1] < len(self)):
            raise ValueError(f"rows run from {rows[0]} to {rows[-1]}, "
                             f"expected 0 to {len(self) - 1}.")
        if self._rows is not None:
            rows = self._rows[rows]
        return Shards(self._source, self.on_error, rows)

    def batches(self, batch_size: int, *, shuffle: bool = False,
                seed: int = 0, epoch: int = 0,
                drop_last: bool = False) -> Iterator[Batch]:
        """Yield every sample once, in batches.

        Parameters
        ----------
        batch_size : int
        shuffle : bool
            Another order for each ``(seed, epoch)``, the same each time:
            tars, records, then samples within a block of 2,048. False:
            the order of ``table``.
        drop_last : bool
            Leave out the last batch when it is not full.

        Yields
        ------
        Batch
            The last may be smaller.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected ≥ 1.")
        rng = np.random.default_rng([seed, epoch]) if shuffle else None
        batches = max(1, _MIXED // batch_size) if shuffle else 1
        ring = deque([np.empty(0, np.uint8)] * (packed.AHEAD + 2))
        for block in packed.gather(self._read(rng, ring),
                                   batches * batch_size, rng):
            for start in range(0, len(block.ids), batch_size):
                batch = take(block, slice(start, start + batch_size))
                if not drop_last or len(batch.ids) == batch_size:
                    yield batch

    def load(self) -> Batch:
        """All samples at once, in the order of ``table``."""
        parts = list(self._read(None))
        if not parts:
            raise ValueError("no samples to load: the selection is empty, or "
                             f"all are damaged ({self.skipped} skipped).")
        return join(parts)

    def verify(self) -> None:
        """Compare each tar with its SHA-256.

        Raises
        ------
        ShardError
            A file differs, or there is no index to compare with.
        """
        for file in self.files:
            if file.sha256 is None:
                raise ShardError(file.path, "the tar", f"no {INDEX} beside "
                                 "it says what its SHA-256 should be")
            with file.path.open("rb") as tar:
                found = hashlib.file_digest(tar, "sha256").hexdigest()
            if found != file.sha256:
                raise ShardError(
                    file.path, "the tar", f"SHA-256 is {found[:12]}…, the "
                    f"index says {file.sha256[:12]}…: damaged or replaced",
                    file.samples)

    def _read(self, rng, ring=None) -> Iterator[Batch]:
        """Whole or part records, tar after tar."""
        starts = np.cumsum([0, *(file.samples for file in self.files)])
        numbers = np.arange(len(self.files))
        species = pd.Index(self.classes["species"])
        for number in numbers if rng is None else rng.permutation(numbers):
            file, wanted = self.files[number], None
            if self._rows is not None:
                low, high = np.searchsorted(self._rows,
                                            starts[number:number + 2])
                wanted = self._rows[low:high] - starts[number]
                if not len(wanted):
                    continue
            if not file.path.is_file():
                raise FileNotFoundError(
                    f"'{file.path}' is in the index but not on disk. Fetch "
                    "it, or write the shards again.")
            found = (packed.read(file, wanted, len(species), rng, ring)
                     if self.layout == "packed"
                     else release.read(file, wanted, species))
            for part in found:
                if isinstance(part, ShardError):
                    self._damaged(part)
                else:
                    yield part

    def _damaged(self, error: ShardError) -> None:
        if self.on_error == "raise":
            raise error
        key = (error.path, error.record)
        if key not in self._skipped:
            self._skipped[key] = error.samples
            warnings.warn(f"skipped {error.samples} samples: {error}",
                          stacklevel=4)
