"""What goes through the house: samples as arrays, and what is wrong.

A :class:`Batch` is handed from shards to models; a :class:`ShardError`
says which file and record cannot be one. Chapter 03.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geotree import checks
from geotree.variables import BAND_NAMES, MONTHS, NODATA, PATCH, VARIABLE_NAMES


class Batch(NamedTuple):
    """Samples as arrays, the first axis their number."""

    images: np.ndarray  # (B, T, C, H, W) uint16, 65535 = missing
    environment: np.ndarray  # (B, V) float32, NaN = missing
    labels: np.ndarray  # (B,) int64, row of the class table
    ids: np.ndarray  # (B,) int64, gbifID

    def like(self, n: int) -> "Batch":
        """Memory for n samples such as these."""
        return Batch(*(np.empty((n, *column.shape[1:]), column.dtype)
                       for column in self))

    @staticmethod
    def unread(labels: np.ndarray, ids: np.ndarray) -> "Batch":
        """Samples of which label and id are known; all else is missing."""
        n = len(ids)
        return Batch(
            np.broadcast_to(np.uint16(NODATA), (
                n, MONTHS, len(BAND_NAMES), PATCH, PATCH)),
            np.broadcast_to(np.float32("nan"), (n, len(VARIABLE_NAMES))),
            labels, ids)


class ShardError(ValueError):
    """A shard is damaged, or holds something else than expected.

    ``path`` and ``record`` say where, ``samples`` how many it concerns.
    """

    def __init__(self, path: Path, record: str, reason: str, samples: int = 1):
        self.path, self.record, self.samples = path, record, samples
        self.reason = reason
        super().__init__(
            f"'{path}', {record}: {reason}. Fetch or write the file again, "
            "or open it with on_error='skip'.")

    def __reduce__(self):  # so that it crosses from worker processes
        return type(self), (self.path, self.record, self.reason, self.samples)


def take(batch: Batch, rows) -> Batch:
    """Rows of a batch, each array indexed alike."""
    checks.instance(batch, Batch, name="batch", see="a shards.Batch")
    try:
        return Batch(*(column[rows] for column in batch))
    except IndexError as error:
        raise ValueError(
            f"rows are {checks.shown(rows)}, expected a slice, a mask, or "
            f"numbers of the {len(batch.ids)} samples.") from error


def join(batches: list[Batch]) -> Batch:
    """Batches one after the other; one batch is returned as it is."""
    if not batches:
        raise ValueError("no batches, expected one or more to join.")
    if len(batches) == 1:
        return batches[0]
    return Batch(*map(np.concatenate, zip(*batches, strict=True)))


def gather(parts: Iterable[Batch], size: int,
           rng: np.random.Generator | None = None) -> Iterator[Batch]:
    """Blocks of ``size`` samples, mixed if there is a generator.

    Each sample is copied once, into memory that is the block's own. The
    last block may be smaller.
    """
    filled = 0
    for part in parts:
        while len(part.ids):
            if not filled:
                block = part.like(size)
                places = None if rng is None else rng.permutation(size)
            fit = min(len(part.ids), size - filled)
            into = slice(filled, filled + fit)
            for column, values in zip(block, part, strict=True):
                column[into if places is None else places[into]] = values[:fit]
            filled = (filled + fit) % size
            if not filled:
                yield block
            part = take(part, slice(fit, None))
    if filled:
        yield take(block, slice(filled) if places is None
                   else np.sort(places[:filled]))
