"""GGTDataset: the release's own way to its shards, without its traps.

The arguments and the five parts of a batch are those of its README. By
default every sample comes once, in the order of the files, and then the
loader ends. Batch B, months T, bands C, variables V. Chapter 09.
"""

import math
import os
import warnings
from collections.abc import Iterator
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from geotree import checks, files
from geotree.release.hub import Tar
from geotree.release.records import Passed, as_released, attempt
from geotree.release.tar_members import Sample, walk
from geotree.release.tars import find
from geotree.shards.batch import ShardError

_EACH = 31_240  # bytes a sample, as the release writes them


class GGTDataset(IterableDataset):
    """Shards of the release as batches for :class:`~geotree.GeoTreeClip`.

    Parameters
    ----------
    shards_path : path, address or list of them
        Tars of the release, or a folder of them. Those at addresses of the
        hub (``hf://datasets/yann111/GlobalGeoTree/GlobalGeoTree-6M``, or
        what ``huggingface_hub.hf_hub_url`` gives) are read while they
        arrive, and nothing is kept; see :func:`geotree.release.hub.tars`.
    batch_size : int
        The last batch may be smaller; nothing is dropped.
    num_workers : int
        Processes that decode; of no influence on what comes, or its order.
        What streams is read by one of them.
    shuffle : int
        Samples in the buffer that they are drawn from; 0 keeps the order.
    shardshuffle : bool
        Another order of the files in each pass.
    resampled : bool
        Never end: begin the next pass when one is over.
    world_size, rank : int, optional
        Of several processes, each gets a share of the samples.
    shard_counts_json_path : path, optional
        Samples of each tar by file name. Where neither this nor an
        ``index.json`` beside the tar says so, headers are counted when a
        number is first needed; of what streams, it is told from the size.
    num_samples : int, optional
        Samples of all files together, where they are known: then a single
        process counts nothing.
    use_sample_filtering : bool
        Each rank gets an equal share of the samples. False, and of what
        streams without counts: whole files, the largest first, each to the
        rank that has the fewest samples.
    seed : int
        Of the order.
    on_error : "raise" or "skip"
        What a damaged sample does: stop with a
        :class:`~geotree.shards.ShardError`, or be left out and counted in
        ``skipped``.
    strict : bool
        Read as :func:`geotree.shards.open` does: a missing file, name or
        variable and an image without a valid pixel are damage. By default
        it is as in the release: a sample that lacks a file, or its place,
        is left out and counted, a variable that is missing is 0 and masked,
        and so is an image without a valid pixel.
    """

    def __init__(self, shards_path, batch_size: int = 32,
                 num_workers: int = 0, shuffle: int = 0,
                 shardshuffle: bool = False, *, resampled: bool = False,
                 world_size: int | None = None, rank: int | None = None,
                 shard_counts_json_path: str | Path | None = None,
                 num_samples: int | None = None,
                 use_sample_filtering: bool = True, seed: int = 0,
                 on_error: str = "raise", strict: bool = False) -> None:
        for name, value, least in (
                ("batch_size", batch_size, 1), ("num_workers", num_workers, 0),
                ("shuffle", int(shuffle), 0), ("rank", rank or 0, 0),
                ("world_size", world_size or 1, (rank or 0) + 1)):
            checks.number(value, name=name, low=least, whole=True)
        checks.one_of(on_error, ("raise", "skip"), name="on_error")
        self.batch_size, self.num_workers = batch_size, num_workers
        self.shuffle, self.shardshuffle = int(shuffle), shardshuffle
        self.resampled, self.seed = resampled, seed
        self.on_error, self.strict = on_error, strict
        self.world_size, self.rank = world_size or 1, rank or 0
        self.files, self._listed = find(shards_path)
        self._known = _known(self.files, shard_counts_json_path) | {
            path: one.samples for path, one in self._listed.items()}
        self.guessed = [tar for tar in self.files if isinstance(tar, Tar)
                        and tar not in self._known]
        self.use_sample_filtering = use_sample_filtering and not self.guessed
        self._told = num_samples
        self.skipped = 0  # samples left out since the last pass began
        self.epoch = 0

    @cached_property
    def counts(self) -> list[int]:
        """Samples of each file; of ``guessed`` ones about as many."""
        if self.guessed:
            warnings.warn(
                f"the samples of {len(self.guessed)} tars are told from "
                "their size, as nothing says how many they hold: give "
                "shard_counts_json_path for exact numbers", stacklevel=3)
        counts = [self._count(tar) for tar in self.files]
        if self._told not in (None, sum(counts)) and not self.guessed:
            raise ValueError(f"num_samples is {self._told}, but the files "
                             f"hold {sum(counts)} samples.")
        return counts

    @property
    def num_samples(self) -> int:
        """Samples of all files together."""
        return sum(self.counts) if self._told is None else self._told

    def __len__(self) -> int:
        return self.num_samples

    def _count(self, tar) -> int:
        if tar in self.guessed:
            return round(tar.size / _EACH)
        if tar not in self._known:
            self._known[tar] = 0
            for sample in walk(tar):
                if isinstance(sample, Sample):
                    self._known[tar] += 1
                elif self.on_error == "raise":
                    del self._known[tar]
                    raise sample
        return self._known[tar]

    @cached_property
    def share(self) -> dict[int, range]:
        """Which samples of which files are this rank's."""
        counts = self.counts
        if self.use_sample_filtering:
            low, high = (sum(counts) * (self.rank + more) // self.world_size
                         for more in (0, 1))
            starts = np.cumsum([0, *counts]).tolist()
            mine = {number: range(max(low - start, 0),
                                  min(high - start, count))
                    for number, (start, count)
                    in enumerate(zip(starts, counts, strict=False))}
            return {number: rows for number, rows in mine.items() if rows}
        filled, mine = [0] * self.world_size, {}
        for number in sorted(range(len(counts)), key=lambda i: -counts[i]):
            rank = filled.index(min(filled))
            filled[rank] += counts[number]
            if rank == self.rank:
                mine[number] = range(counts[number])
        return dict(sorted(mine.items()))

    def get_dataloader(self) -> DataLoader:
        """Batches ``(images, text_data, auxiliary_data, image_mask,
        aux_mask)``.

        ``images`` (B, T, C, 5, 5) float32 with NaN = missing; two lists of
        B dictionaries, variables that are missing are 0; ``image_mask``
        (B, T) and ``aux_mask`` (B, V) bool. The loader's length is its
        batches a pass; each pass has an order of its own if shuffled.
        """
        streams = any(isinstance(tar, Tar) for tar in self.files)
        # tuple: no look into each dictionary, which takes a third of time.
        return _Loader(self, batch_size=None, collate_fn=tuple,
                       num_workers=(min(self.num_workers, 1) if streams
                                    else self.num_workers))

    def _walk(self, order) -> Iterator[Sample | ShardError]:
        """Samples of this rank, as they lie in the files; none decoded."""
        for number in order:
            tar = self.files[number]
            wanted = range(1 << 62)
            if self.world_size > 1:
                if number not in self.share:
                    continue
                if self.use_sample_filtering:
                    wanted = self.share[number]
            listed = self._listed.get(tar)
            for row, sample in enumerate(walk(
                    tar, listed and listed.records, self._known.get(tar))):
                if isinstance(sample, Sample):
                    if row in wanted:
                        yield sample
                elif lost := len(range(max(row, wanted.start),
                                       min(row + sample.samples,
                                           wanted.stop))):
                    yield ShardError(sample.path, sample.record,
                                     sample.reason, lost)
                if row >= wanted.stop:
                    break

    def _drawn(self, epoch: int) -> Iterator[Sample | ShardError]:
        """One pass in its order: files, then a buffer of samples."""
        rng = checks.rng(self.seed, epoch)
        order = range(len(self.files))
        walk = self._walk(rng.permutation(order) if self.shardshuffle
                          else order)
        buffer = list(islice(walk, self.shuffle))
        for sample in walk if buffer else ():
            place = rng.integers(len(buffer))
            yield buffer[place]
            buffer[place] = sample
        yield from (buffer[i] for i in rng.permutation(len(buffer)))
        yield from walk  # all of it, where there is no buffer

    def __iter__(self):
        """What each worker process of the loader runs."""
        info = torch.utils.data.get_worker_info()
        return self.batches(*((info.id, info.num_workers) if info else ()))

    def batches(self, worker: int = 0, workers: int = 1
                ) -> Iterator[tuple[tuple | None, list[ShardError]]]:
        """Every ``workers``-th batch, and the faults met on the way.

        All workers draw the same order. A batch of nothing but faults is
        None, so that batches can be dealt in turn.
        """
        first = epoch = self.epoch
        decode = partial(as_released, strict=self.strict)
        while epoch == first or self.resampled:
            drawn, number = self._drawn(epoch), 0
            while chunk := list(islice(drawn, self.batch_size)):
                if number % workers == worker:
                    found = [attempt(decode, sample) for sample in chunk]
                    whole = [one for one in found if isinstance(one, tuple)]
                    yield (_collated(whole) if whole else None,
                           [one for one in found
                            if isinstance(one, ShardError)])
                number += 1
            if not number and self.world_size == 1:
                raise ValueError(f"no sample in {len(self.files)} files, the "
                                 f"first is '{self.files[0]}'.")
            if not number:  # more ranks than files or samples
                return
            epoch += 1


class _Loader(DataLoader):
    """A loader whose length is its batches, and whose passes count up."""

    def __len__(self) -> int:
        data = self.dataset
        mine = (len(data) if data.world_size == 1
                else sum(map(len, data.share.values())))
        return math.ceil(mine / data.batch_size)

    length = property(__len__)  # the release's name for it

    def __iter__(self):
        data, first = self.dataset, None
        data.skipped = 0
        try:
            for batch, faults in super().__iter__():
                for error in faults:
                    passed = isinstance(error, Passed) and not data.strict
                    if data.on_error == "raise" and not passed:
                        raise error
                    data.skipped += error.samples
                    first = first or error
                if batch is not None:
                    yield batch
            data.epoch += 1
        finally:
            if first is not None:
                warnings.warn(f"skipped {data.skipped} samples, the first: "
                              f"{first}", stacklevel=2)


def _collated(samples: list[tuple]) -> tuple:
    images, text, auxiliary, months, known = zip(*samples, strict=True)
    return (torch.from_numpy(np.stack(images)), list(text), list(auxiliary),
            torch.from_numpy(np.stack(months)),
            torch.from_numpy(np.stack(known)))


def _known(tars: list, counts) -> dict:
    """Samples of each file that a JSON file tells, if it is there."""
    if counts is None:
        return {}
    if not os.path.exists(counts):  # as in the release
        warnings.warn(f"no counts at '{counts}': samples are counted when "
                      "their number is first needed", stacklevel=3)
        return {}
    told = files.read_json(counts, what="JSON of counts by file name")
    told = {os.path.basename(name): checks.number(
        count, name=f"count of {name!r} in '{counts}'", low=0, whole=True)
        for name, count in told.items()}
    return {tar: told[tar.name] for tar in tars if tar.name in told}
