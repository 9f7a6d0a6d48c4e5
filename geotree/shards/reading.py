"""Shards that are open: batches, single samples, views. Chapter 03."""

import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import checks, taxonomy
from geotree.files import sha256
from geotree.shards import lanes
from geotree.shards.batch import Batch, ShardError, gather, take
from geotree.shards.index import INDEX, TABLE, Index, find, layout
from geotree.shards.records import Records

_MIXED = 2048  # samples, or a batch where it is larger, when shuffling


def open(paths, *, on_error: str = "raise",
         classes: pd.DataFrame | None = None, **far) -> "Shards":
    """Open shards, here or far away, by their index where there is one.

    Parameters
    ----------
    paths : path, address or list of them
        A folder of shards, some of its tars, or tars of the release. Tars
        without an index are scanned for names and ids. Addresses
        (``s3://``, ``hf://datasets/``, ``https://``) need one.
    on_error : "raise" or "skip"
        A damaged record stops with its file and number, or is left out,
        warned of and counted in ``Shards.skipped``.
    classes : DataFrame, optional
        Class table that labels must follow, e.g. a model's. Shards with an
        index must carry the same; elsewhere all species must be of it.
    far
        ``cache``, ``cache_gb`` and ``storage_options`` of addresses; see
        :func:`geotree.shards.far.at`.

    Returns
    -------
    Shards

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    ShardError
        The index cannot be read, or something beside it is damaged.
    ServiceError
        There is no right to an address, or it does not answer.
    ValueError
        The shards carry another class table, or a tar is given twice.
    """
    checks.one_of(on_error, ("raise", "skip"), name="on_error")
    tars, found = find(paths, **far)
    indexed = [path.parent in found for path in tars]
    if not any(indexed):
        source = layout("release").scan(tars, on_error=on_error,
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


class Shards:
    """Samples in tar files, or a selection of them; see
    :func:`geotree.shards.open`.

    ``shards[i]`` is a sample, so that ``torch.utils.data.DataLoader`` takes
    this as it is: random access, in any number of worker processes.

    Attributes
    ----------
    files : tuple of Shard
        Path, samples and SHA-256 of each tar.
    classes : DataFrame, the class table that ``labels`` point into
    layout : "packed" or "release"
    left_out : int, samples of the cube that had no imagery
    provenance : dict of str, the attributes of the cube
    """

    order = property(lanes.order)

    def __init__(self, records: Records, on_error: str = "raise",
                 rows: np.ndarray | None = None):
        self._records, self.on_error = records, on_error
        self._rows = rows  # selection, sorted; None = all
        self._skipped: dict[tuple, int] = {}

    def __getattr__(self, name: str):
        if name in ("files", "classes", "layout", "left_out", "provenance"):
            return getattr(self._records.source, name)
        raise AttributeError(f"Shards have no attribute {name!r}")

    def __repr__(self) -> str:
        return (f"<Shards: {len(self):,} samples of {len(self.classes)} "
                f"classes, {self.layout}, {len(self.files)} files>")

    def __len__(self) -> int:
        return int(self._records.starts[-1]) if self._rows is None else len(
            self._rows)

    @property
    def skipped(self) -> int:
        """Damaged samples that were left out since opening."""
        return (sum(fault.samples for fault in self._records.source.faults)
                + sum(self._skipped.values()))

    @cached_property
    def table(self) -> pd.DataFrame:
        """Occurrence table of these samples, in their order."""
        return self.columns()

    def columns(self, *names: str) -> pd.DataFrame:
        """Some columns of ``table``, without reading the others."""
        table = self._records.source.table(list(names) or None)
        return table if self._rows is None else table.iloc[
            self._rows].reset_index(drop=True)

    @cached_property
    def labels(self) -> np.ndarray:
        """Class number of each sample, in order, (N,) int64."""
        every = self._records.labels
        return every if self._rows is None else every[self._rows]

    def select(self, rows) -> "Shards":
        """A view of some samples; they keep the order of the shards.

        Parameters
        ----------
        rows : (N,) bool, or integers
            Which of these samples; a row named twice is there once.
        """
        rows = (checks.aligned(rows, range(len(self)), where="rows")
                if pd.api.types.is_bool_dtype(rows)
                else checks.plain(rows, "rows"))
        if rows.size and rows.dtype.kind not in "biu":
            raise ValueError(f"rows are {rows.dtype}, expected bool or whole "
                             "numbers.")
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
        return Shards(self._records, self.on_error, rows)

    def sample(self, size: int, *, seed: int = 0) -> "Shards":
        """A view of about ``size`` samples, whole records drawn at random.

        Samples lie in random order, so records are as good as samples: 80
        of 24,600 hold 20,000 of 6.3 million.
        """
        checks.number(size, name="size", low=1, whole=True)
        rows = np.arange(len(self)) if self._rows is None else self._rows
        ends = np.concatenate([file.records["samples"]
                               for file in self.files]).cumsum()
        record = ends.searchsorted(rows, side="right")
        numbers, counts = np.unique(record, return_counts=True)
        order = checks.rng(seed).permutation(len(numbers))
        enough = counts[order].cumsum().searchsorted(size) + 1
        return self.select(np.isin(record, numbers[order[:enough]]))

    def batches(self, batch_size: int, *, shuffle: bool = False,
                seed: int = 0, epoch: int = 0, drop_last: bool = False,
                part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Yield every sample once, in batches.

        Parameters
        ----------
        batch_size : int
        shuffle : bool
            Another order for each ``(seed, epoch)``, the same each time:
            tars, records, then samples within a block of 2,048; from 160
            records on eight lanes, each a stretch of the set, by turns.
            False: the order of ``table``.
        drop_last : bool, whether the last batch is left out if not full
        part : (rank, processes)
            Only rows ``rank::processes`` of each batch are needed here: of
            lanes without any, label and id are given and nothing is read.

        Yields
        ------
        Batch; the last may be smaller
        """
        checks.number(batch_size, name="batch_size", low=1, whole=True)
        rng = checks.rng(seed, epoch) if shuffle else None
        size = (max(1, _MIXED // batch_size) * batch_size if shuffle
                else batch_size)
        size = min(size, max(len(self), _MIXED if shuffle else 1))
        dealt = shuffle and self.order == "lanes"
        for block in gather(self._read(rng), size, rng) if not dealt else (
                lanes.batches(self._read, len(self), batch_size,
                              (seed, epoch), part, self._records)):
            for start in range(0, len(block.ids), batch_size):
                batch = take(block, slice(start, start + batch_size))
                if not drop_last or len(batch.ids) == batch_size:
                    yield batch

    def load(self) -> Batch:
        """All samples at once, in the order of ``table``."""
        whole = next(gather(self._read(None), max(1, len(self))), None)
        if whole is None:
            raise ValueError("no samples to load: the selection is empty, or "
                             f"all are damaged ({self.skipped} skipped).")
        return whole

    def __getitem__(self, row: int) -> Batch:
        """One sample: arrays without the first axis.

        Raises
        ------
        ShardError
            Its record is damaged, whatever ``on_error`` says.
        """
        row = checks.number(row, name="row (see .select)", whole=True)
        n = len(self)
        if not -n <= row < n:
            raise IndexError(f"row {row} of {n} samples.")
        return self._records.sample(
            row % n if self._rows is None else self._rows[row])

    def verify(self, table: pd.DataFrame | None = None) -> None:
        """Compare files with their SHA-256, labels with the species.

        Parameters
        ----------
        table : DataFrame, optional
            An occurrence table whose species the labels must be, too.

        Raises
        ------
        ShardError
            A file or label differs, or no index says what it should be.
        """
        for file in self.files:
            if file.sha256 is None:
                raise ShardError(file.path, "the tar", f"no {INDEX} beside "
                                 "it says what its SHA-256 should be")
            found = (sha256(file.path) if isinstance(file.path, Path)
                     else file.path.sha256())
            if found != file.sha256:
                raise ShardError(
                    file.path, "the tar", f"SHA-256 is {found[:12]}…, the "
                    f"index says {file.sha256[:12]}…: damaged or replaced",
                    file.samples)
        species = self.classes["species"].to_numpy()
        told = {TABLE: self.columns("gbifID", "species")}
        if table is not None:
            told["the given table"] = table
        for batch in self.batches(4096):
            labels = species[batch.labels]
            for name, one in told.items():
                known = one.set_index("gbifID")["species"].reindex(
                    batch.ids).to_numpy(object)
                wrong = np.flatnonzero(known != labels)
                if len(wrong):
                    row = wrong[0]
                    raise ShardError(
                        self.files[0].path.parent,
                        f"gbifID {batch.ids[row]}", "the label is "
                        f"{labels[row]!r}, {name} says {known[row]!r}",
                        len(wrong))

    def _read(self, rng, span: slice | None = None, **how) -> Iterator[Batch]:
        """Whole or part records; each is gone when the next is asked for."""
        numbers, starts = np.arange(len(self.files)), self._records.starts
        rows = range(len(self)) if self._rows is None else self._rows
        for number in numbers if rng is None else rng.permutation(numbers):
            ends = starts[number:number + 2]
            low, high = (ends if self._rows is None
                         else self._rows.searchsorted(ends))
            if span is not None:
                low, high = max(low, span.start), min(high, span.stop)
            if low >= high:
                continue
            wanted = (None if self._rows is None and [low, high] == [*ends]
                      else np.asarray(rows[low:high]) - starts[number])
            for part, n in self._records.read(number, wanted, rng, **how):
                if isinstance(part, Batch):
                    yield part
                elif self.on_error == "raise":
                    raise part
                elif (part.path, part.record) not in self._skipped:
                    self._skipped[part.path, part.record] = int(n)
                    warnings.warn(f"skipped {n} samples: {part}", stacklevel=4)
