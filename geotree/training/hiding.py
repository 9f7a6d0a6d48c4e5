"""What a step does not get to see: turned, and with parts hidden.

A model that has seen a tree with half of its pixels, months and variables
leans on none of them. All that is drawn here is drawn for the whole batch,
so that it does not depend on the number of processes.
"""

from __future__ import annotations

import math

import torch

from geotree.shards import Batch
from geotree.variables import GROUPS, NODATA, PATCH

_SQUARE = torch.arange(PATCH * PATCH).view(PATCH, PATCH)
# Pixel that comes to each place, for the eight ways to turn a square.
_TURNS = torch.stack([torch.rot90(side, k).flatten() for k in range(4)
                      for side in (_SQUARE, _SQUARE.flip(1))])  # (8, 25)


def hide(batch: Batch, settings) -> Batch:
    """A batch as training sees it, drawn from torch's random state.

    Parameters
    ----------
    batch : Batch of B samples
        Arrays or tensors; left as they are.
    settings : Settings
        ``flips`` and the four ``…_dropout``.

    Returns
    -------
    Batch
        ``images`` (int32) and ``environment`` as tensors.
    """
    # torch can do little with unsigned 16 bits.
    images = torch.as_tensor(batch.images).to(torch.int32)
    environment = torch.as_tensor(batch.environment)
    device, n = images.device, len(images)
    pixels = images.flatten(3)  # (B, T, C, 25)
    if settings.flips:
        turn = torch.randint(len(_TURNS), (n,), device=device)
        order = _TURNS.to(device)[turn][:, None, None]  # (B, 1, 1, 25)
        pixels = pixels.gather(3, order.expand_as(pixels))

    def gone(chance: float, *shape: int):
        return torch.rand(n, *shape, device=device) < chance

    months, size = pixels.shape[1], pixels.shape[3]
    if settings.month_dropout or settings.pixel_dropout:
        lost = (gone(settings.month_dropout, months, 1)
                | gone(settings.pixel_dropout, months, size))  # (B, T, 25)
        pixels = pixels.masked_fill(lost[:, :, None], NODATA)
    if settings.group_dropout or settings.location_dropout:
        lost = torch.zeros(environment.shape, dtype=torch.bool,
                           device=device)  # (B, V)
        for name, columns in GROUPS.items():
            lost[:, columns] = gone(
                settings.location_dropout if name == "location"
                else settings.group_dropout, 1)
        environment = environment.masked_fill(lost, math.nan)
    return batch._replace(images=pixels.view(images.shape),
                          environment=environment)
