"""Lanes: one order of samples that several processes read by parts.

A large set is cut in eight stretches of equal length, each mixed by itself,
and row i of a batch is of lane i modulo 8. A process that needs each second
row needs four of the lanes, and reads those alone. Chapter 05.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from geotree import checks
from geotree.shards.batch import Batch

_LANES, _LONG = 8, 20  # of a large set, and records in each of them


def order(data) -> str:
    """How samples are shuffled, in "blocks", or in "lanes" where two of them
    share little of so large a set.
    """
    return "lanes" if (
        data.layout == "packed" and data.on_error == "raise"
        and len(data) >= _LONG * _LANES * max(
            file.records["samples"].max() for file in data.files)
    ) else "blocks"


def batches(read: Callable, samples: int, size: int, seed: tuple,
            part: tuple[int, int], records) -> Iterator[Batch]:
    """Batches of which the rows of one process are read.

    Parameters
    ----------
    read : callable
        Parts of a stretch, given a generator, the slice and how.
    samples, size : int, of the set, and of a batch
    seed : tuple of int, the order depends on it, not on the processes
    part : (rank, processes), whose rows are ``rank::processes``
    records : Records, whose labels are known without reading
    """
    (rank, processes), lanes = part, math.gcd(size, _LANES)
    ends = np.cumsum([0, *(len(range(lane, samples, lanes))
                           for lane in range(lanes))])
    rngs = [checks.rng(*seed, lane) for lane in range(lanes)]
    streams = [read(rngs[lane], slice(*ends[lane:lane + 2]), lanes=lanes,
                    labels=records.labels if (lane - rank) % math.gcd(
                        lanes, processes) else None) for lane in range(lanes)]
    held = [(None, np.empty(0, int))] * lanes  # and its rows to come
    for start in range(0, samples, size):
        batch, n = None, min(size, samples - start)
        for lane, rng in enumerate(rngs):
            at = lane  # row of the batch that is filled next
            while at < n:
                some, order = held[lane]
                if not len(order):
                    some = next(streams[lane])
                    order = rng.permutation(len(some.ids))
                if batch is None:
                    batch = some.like(n)
                rows = order[:len(range(at, n, lanes))]
                held[lane] = some, order[len(rows):]
                for column, values in zip(batch, some, strict=True):
                    column[at:n:lanes][:len(rows)] = values[rows]
                at += len(rows) * lanes
        yield batch
