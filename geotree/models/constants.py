"""Constants of a normalisation: worked out once, kept with the weights."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geotree.variables import PATCH

_AWAY = (torch.arange(PATCH) - PATCH // 2).abs()
# Means of the tree's own pixel, of the 8 around it, of the 16 around those.
RINGS = F.normalize(F.one_hot(torch.maximum(
    _AWAY[:, None], _AWAY).flatten()).float(), p=1, dim=0)  # (25, R)
_FLOOR = 1e-4  # least variance of a ring that is taken for more than noise


def moments(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column over its valid rows.

    With NumPy: Apple's GPUs have no float64.
    """
    device = values.device
    values, valid = values.cpu().numpy(), valid.cpu().numpy()
    count = valid.sum(0).clip(min=1)
    values = values.astype(np.float64) * valid
    mean = values.sum(0) / count
    std = np.sqrt((((values - mean) * valid) ** 2).sum(0) / count)
    # A column that is constant or all missing carries nothing: leave it.
    std = np.where(std > 1e-6, std, 1.0)
    return tuple(torch.from_numpy(x.astype(np.float32)).to(device)
                 for x in (mean, std))


def whitening(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and symmetric matrix (F, F) that decorrelate (N, F) rows.

    The covariance is shrunk, the more the fewer rows there are (Ledoit &
    Wolf 2004).
    """
    from sklearn.covariance import ledoit_wolf

    values = rows.cpu().numpy().astype(np.float64)
    mean = values.mean(axis=0)
    spread, axes = np.linalg.eigh(ledoit_wolf(values)[0])
    root = axes / np.sqrt(spread + _FLOOR) @ axes.T
    return tuple(torch.from_numpy(x.astype(np.float32)).to(rows.device)
                 for x in (mean, root))
