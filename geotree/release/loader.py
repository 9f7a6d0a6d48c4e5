"""GGTDataset: the release's own way to its shards, without its traps.

The arguments and the five parts of a batch are those of GlobalGeoTree's
README. By default every sample comes exactly once, in the order of the
files, and then the loader ends. Batch B, months T, bands C, variables V.
Chapter 09.
"""

from __future__ import annotations

import json
import math
import os
import tarfile
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from geotree.release import records as release_records
from geotree.release.records import Sample
from geotree.release.tensor_files import TensorReader
from geotree.shards import index
from geotree.shards.packed import ShardError
from geotree.variables import VARIABLE_NAMES


class GGTDataset:
    """Shards of the release as batches for :class:`~geotree.GeoTreeClip`.

    Parameters
    ----------
    shards_path : path or list of paths
        Tars of the release, or a folder of them. Files of the hub are
        fetched by :mod:`geotree.release.hub` first.
    batch_size : int
        The last batch may be smaller; nothing is dropped.
    num_workers : int
        Processes that decode; of no influence on what comes, or its order.
    shuffle : int
        Samples in the buffer that they are drawn from; 0 keeps the order.
    shardshuffle : bool
        Another order of the files in each pass.
    resampled : bool
        Never end: begin the next pass when one is over.
    world_size, rank : int, optional
        Of several processes, each gets an equal share of the samples.
    shard_counts_json_path : path, optional
        Samples of each tar by file name. Where neither this nor an
        ``index.json`` beside the tar says so, headers are counted when a
        number is first needed.
    seed : int
        Of the order.
    on_error : "raise" or "skip"
        What a damaged sample does: stop with a
        :class:`~geotree.shards.ShardError`, or be left out and counted in
        ``skipped``.
    """

    def __init__(self, shards_path, batch_size: int = 32,
                 num_workers: int = 0, shuffle: int = 0,
                 shardshuffle: bool = False, resampled: bool = False,
                 world_size: int | None = None, rank: int | None = None,
                 shard_counts_json_path: str | Path | None = None, *,
                 seed: int = 0, on_error: str = "raise") -> None:
        self.files, index = _files(shards_path)
        self.batch_size, self.num_workers = batch_size, num_workers
        self.shuffle, self.shardshuffle = int(shuffle), shardshuffle
        self.resampled, self.seed, self.on_error = resampled, seed, on_error
        self.world_size, self.rank = world_size or 1, rank or 0
        if batch_size < 1 or num_workers < 0 or self.shuffle < 0:
            raise ValueError(
                f"batch_size is {batch_size}, num_workers {num_workers}, "
                f"shuffle {shuffle}; expected at least 1, 0 and 0.")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank is {rank} of world_size {world_size}; "
                             "ranks count from 0.")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error is {on_error!r}, expected 'raise' or "
                             "'skip'.")
        self._known = _known_counts(self.files, index,
                                    shard_counts_json_path)
        self._skipped = torch.zeros(1, dtype=torch.int64).share_memory_()
        self.epoch = 0

    @property
    def counts(self) -> list[int]:
        """Samples of each file."""
        for path in self.files:
            if path not in self._known:
                self._known[path] = self._count(path)
        return [self._known[path] for path in self.files]

    def __len__(self) -> int:
        return sum(self.counts)

    def _count(self, path: Path) -> int:
        number = 0
        try:
            for _ in release_records.samples(path):
                number += 1
        except tarfile.TarError as error:
            if self.on_error == "raise":
                raise ShardError(path, f"after sample {number}", "the tar is "
                                 f"damaged here ({error})") from error
        return number

    @property
    def share(self) -> range:
        """Which samples are this rank's: numbers in the order of files."""
        return range(len(self) * self.rank // self.world_size,
                     len(self) * (self.rank + 1) // self.world_size)

    @property
    def skipped(self) -> int:
        """Samples left out since the last pass began."""
        return int(self._skipped)

    def get_dataloader(self) -> DataLoader:
        """Batches ``(images, text_data, auxiliary_data, image_mask,
        aux_mask)``.

        ``images`` (B, T, C, 5, 5) float32 with NaN = missing; two lists of
        B dictionaries, variables that are missing are 0; ``image_mask``
        (B, T) and ``aux_mask`` (B, V) bool. The loader's length is its
        batches a pass; each pass has an order of its own if shuffled.
        """
        return _Loader(_Stream(self), batch_size=None,
                       num_workers=self.num_workers)

    # -- reading ---------------------------------------------------------

    def _walk(self, order) -> Iterator[Sample | ShardError]:
        """Samples of this rank, as they lie in the files; none decoded."""
        whole, starts = self.world_size == 1, None
        if not whole:
            starts, share = np.cumsum([0, *self.counts]), self.share
        for number in order:
            path, wanted, found = self.files[number], None, 0
            if not whole:
                low, high = starts[number], starts[number + 1]
                wanted = range(max(share.start - low, 0),
                               min(share.stop, high) - low)
                if not len(wanted):
                    continue
            try:
                for found, sample in enumerate(
                        release_records.samples(path), 1):
                    if wanted is None or found - 1 in wanted:
                        yield sample
                    elif found > wanted.stop:
                        break
            except tarfile.TarError as error:
                end = wanted.stop if wanted else self._known.get(path, 0)
                lost = max(end - found, 1)
                yield ShardError(path, f"after sample {found}",
                                 f"the tar is damaged here ({error})", lost)

    def _drawn(self, epoch: int) -> Iterator[Sample | ShardError]:
        """One pass in its order: files, then a buffer of samples."""
        rng = np.random.default_rng([self.seed, epoch])
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

    def batches(self, worker: int = 0, workers: int = 1) -> Iterator[tuple]:
        """Every ``workers``-th batch; all workers draw the same order."""
        first = epoch = self.epoch
        reader = TensorReader()
        while epoch == first or self.resampled:
            drawn, number = self._drawn(epoch), 0
            while chunk := list(islice(drawn, self.batch_size)):
                if number % workers == worker:
                    decoded = [self._decoded(x, reader) for x in chunk]
                    whole = [x for x in decoded if x is not None]
                    if whole:
                        yield _collated(whole)
                number += 1
            if not number:
                raise ValueError(f"no sample in {len(self.files)} files, the "
                                 f"first is '{self.files[0]}'.")
            epoch += 1

    def _decoded(self, sample: Sample | ShardError,
                 reader: TensorReader) -> tuple | None:
        error = sample
        if isinstance(sample, Sample):
            try:
                return _decode(sample, reader)
            except ValueError as reason:
                error = ShardError(sample.path, f"record {sample.key}",
                                   str(reason))
        if self.on_error == "raise":
            raise error
        self._skipped += error.samples
        warnings.warn(f"skipped {error.samples} samples: {error}",
                      stacklevel=2)
        return None


class _Stream(IterableDataset):
    """What each worker process of the loader runs."""

    def __init__(self, data: GGTDataset) -> None:
        self.data = data

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        try:
            yield from self.data.batches(
                *((info.id, info.num_workers) if info else (0, 1)))
        except ShardError as error:  # raised in a worker, it would lose
            yield error  # its type: the loader raises it


class _Loader(DataLoader):
    """A loader whose length is its batches, and whose passes count up."""

    def __len__(self) -> int:
        data = self.dataset.data
        return math.ceil(len(data.share) / data.batch_size)

    length = property(__len__)  # the release's name for it

    def __iter__(self):
        data = self.dataset.data
        data._skipped.zero_()
        for batch in super().__iter__():
            if isinstance(batch, ShardError):
                raise batch
            yield batch
        data.epoch += 1


def _decode(sample: Sample, reader: TensorReader) -> tuple:
    """A sample as the release hands it on."""
    levels = release_records.levels(sample)
    number, values = release_records.auxiliary(sample)
    images = release_records.reflectance(sample, reader).astype(np.float32)
    known = np.isfinite(values)
    auxiliary = {"sample_id": number} | dict(zip(
        VARIABLE_NAMES, np.where(known, values, 0.0).tolist(), strict=True))
    return (images, levels, auxiliary,
            np.isfinite(images).reshape(len(images), -1).any(axis=1), known)


def _collated(samples: list[tuple]) -> tuple:
    images, text, auxiliary, months, known = zip(*samples, strict=True)
    return (torch.from_numpy(np.stack(images)), list(text), list(auxiliary),
            torch.from_numpy(np.stack(months)),
            torch.from_numpy(np.stack(known)))


def _files(paths) -> tuple[list[Path], dict[Path, dict]]:
    """The tars, and indices by folder; addresses, commands are refused."""
    single = isinstance(paths, str | os.PathLike)
    names = [os.fspath(path) for path in ([paths] if single else paths)]
    for name in names:
        if "://" in name or name.startswith("pipe:"):
            raise ValueError(
                f"'{name}' is an address or a command, expected a file. "
                "Fetch it first: hub.fetch(…) checks what arrives.")
    files, found = index.find([Path(name) for name in names])
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f"no shard '{path}'. Check the path.")
        if path.parent in found and found[path.parent][
                "layout"] != "release":
            raise ValueError(f"'{path}' is a packed shard. Open it with "
                             "shards.open, or write layout='release'.")
    return files, found


def _known_counts(files: list[Path], indices: dict[Path, dict], counts
                  ) -> dict[Path, int]:
    """Samples of each file that an index or a JSON file tells."""
    told: dict[str, int] = {}
    if counts is not None:
        try:
            content = json.loads(Path(counts).read_text("utf-8"))
            told = {os.path.basename(name): int(count)
                    for name, count in content.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"'{counts}' does not hold counts by file name "
                             f"as JSON ({error}).") from error
    known = {path: told[path.name] for path in files if path.name in told}
    for found in indices.values():
        known |= {shard.path: shard.samples
                  for shard in found["shards"].values()}
    return known
