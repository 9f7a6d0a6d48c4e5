"""Several processes that train as one: ``torchrun`` or ``accelerate``.

Every process walks through the same batches in the same order and keeps
its own rows of each; of large sets it reads no others. The gradient is that
of the whole batch, so the loss of N processes is the loss of one. Chapter 05.
"""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from geotree.shards import Batch, take

_PATIENCE = timedelta(minutes=10)  # for a process that does not answer
# How the back ends report a process that is gone.
_GONE = ("onnection closed", "onnection reset", "imed out", "roken pipe",
         "emote process has", "NCCL")


class LostProcessError(RuntimeError):
    """Another process of the run ended, so this one cannot go on."""


@dataclass(frozen=True)
class World:
    """Which of how many processes this one is."""

    rank: int = 0
    size: int = 1

    def mine(self, batch: Batch) -> Batch:
        """This process's rows of a batch; none, where it is too small."""
        return take(batch, slice(self.rank, None, self.size))

    def share(self, batch: Batch) -> float:
        """Factor that turns a mean over ``mine`` into its part of the mean
        over ``batch``, once gradients are averaged over processes.
        """
        rows = len(batch.ids)
        return len(range(self.rank, rows, self.size)) * self.size / rows

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over all processes."""
        if self.size == 1:
            return model
        unused = any(getattr(part, "has_unused", False)
                     for part in model.modules())
        return nn.parallel.DistributedDataParallel(
            model, find_unused_parameters=unused)

    def total(self, *values: float | torch.Tensor,
              device: torch.device) -> list[float]:
        """Sum each value over all processes."""
        if self.size == 1:
            return [float(value) for value in values]
        # 32 bits: Apple's GPUs have no float64.
        sums = torch.stack([torch.as_tensor(value, dtype=torch.float32,
                                            device=device)
                            for value in values])
        dist.all_reduce(sums)
        return sums.tolist()


def join(device: torch.device) -> World:
    """Join the processes that the launcher started, if it did.

    Reads what ``torchrun`` and ``accelerate`` set: ``RANK``,
    ``WORLD_SIZE``, ``MASTER_ADDR``, ``MASTER_PORT``.
    """
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return World()
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo",
                                timeout=_PATIENCE)
        atexit.register(dist.destroy_process_group)
    return World(dist.get_rank(), dist.get_world_size())


@contextmanager
def together(world: World, *, kept: Callable[[], str]) -> Iterator[None]:
    """Say plainly when another process is lost, and what is kept."""
    try:
        yield
    except RuntimeError as error:
        if world.size == 1 or not any(word in str(error) for word in _GONE):
            raise
        raise LostProcessError(
            f"process {world.rank} of {world.size} has lost another one "
            f"({str(error).splitlines()[0][:120]}). {kept()} Start the same "
            "command again, with any number of processes."
        ) from error
