"""All samples in the memory of the device that trains on them.

6.3 million samples are 38 GB as 16-bit integers: they fit a large GPU. An
epoch is then a random permutation and a gather, with no file, no copy from
the host and no wait in between. Used by :mod:`geotree.training`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from geotree.shards import Batch, Shards, take

_SAMPLE = 12 * 10 * 25 * 2 + 27 * 4 + 16  # bytes
_SHARE = 0.7  # of the free memory that samples may take
_READ = 8192  # samples copied at a time


def fits(data: Shards, device: torch.device) -> bool:
    """Whether the samples fit the free memory of a GPU."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return len(data) * _SAMPLE < _SHARE * free


class Resident:
    """Shards whose samples lie on a device, read like :class:`Shards`.

    Parameters
    ----------
    data : Shards
        Read once, here.
    device : torch.device
    """

    def __init__(self, data: Shards, device: torch.device):
        self.device = device
        parts = [Batch(*(torch.from_numpy(column).to(device)
                         for column in batch))
                 for batch in data.batches(_READ)]
        self._samples = Batch(*(torch.cat(columns) for columns
                                in zip(*parts, strict=True)))

    def __len__(self) -> int:
        return len(self._samples.ids)

    def batches(self, batch_size: int, *, shuffle: bool = False,
                seed: int = 0, epoch: int = 0,
                drop_last: bool = False) -> Iterator[Batch]:
        """Yield every sample once, as tensors on the device.

        Shuffled, the order is a permutation of all samples that depends on
        ``(seed, epoch)`` alone; the last batch may be smaller, or is left
        out with ``drop_last``.
        """
        order = None
        if shuffle:
            rng = torch.Generator(self.device)
            rng.manual_seed((seed << 20) + epoch)
            order = torch.randperm(len(self), generator=rng,
                                   device=self.device)
        stop = len(self) - (len(self) % batch_size if drop_last else 0)
        for start in range(0, stop, batch_size):
            rows = slice(start, start + batch_size)
            yield take(self._samples, rows if order is None else order[rows])
