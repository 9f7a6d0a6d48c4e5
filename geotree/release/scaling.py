"""Inputs of the release's model: values, what is valid, and their scale.

The release scales by the extremes of the batch, to −1 … 1; what is missing
becomes 0. Batch B, months T, bands C, variables V. Chapter 09.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geotree import checks
from geotree import variables as v

_TINY = 1e-6


def pixels(images, mask, device) -> tuple[Tensor, Tensor]:
    """Values with gaps as zero, and what is valid: (B, T, C, H, W) twice.

    Parameters
    ----------
    images : (B, T, C, H, W)
        Digital numbers: integers, 65535 missing, as they are stored here;
        or floats, NaN missing, as the release's loader yields them.
    mask : (B, T) bool, or None
        Months present.

    Raises
    ------
    ValueError
        Another shape; floats that are reflectance, infinite, below zero or
        have a number for missing.
    """
    if isinstance(images, np.ndarray):
        images = np.ascontiguousarray(images)  # torch has no backward steps
    images = torch.as_tensor(images)
    floats = images.is_floating_point()
    missing = images.isnan() if floats else images == v.NODATA
    if floats:  # the same lock as for whole numbers, and three more
        seen = images[~missing]
        high = float(seen.max()) if len(seen) else 0.0
        if high and not 2.0 < high < v.NODATA or (seen < 0).any():
            raise ValueError(
                f"images are floats from {float(seen.min()):g} to {high:g}, "
                f"expected digital numbers, 0 to {v.NODATA - 1}, and NaN "
                "where missing. Multiply reflectance by 10,000; turn the "
                "sign for missing into NaN.")
    checks.images(images.nan_to_num(v.NODATA).to(torch.int32)
                  if floats else images)
    # Numbers become float32 before they move: some devices have no more.
    valid = ~missing.to(device)
    if mask is not None:
        mask = _mask(mask, valid.shape[:2], "image_mask", device)
        valid &= mask[:, :, None, None, None]
    values = images.to(torch.float32).to(device)
    return values.masked_fill(~valid, 0.0), valid


def auxiliary(data, mask, device) -> tuple[Tensor, Tensor]:
    """Values with gaps as zero, and what is valid: (B, V) twice."""
    if not isinstance(data, np.ndarray | Tensor):
        data = _numbers(data)
    checks.environment(data, where="auxiliary_data")
    values = torch.as_tensor(data).to(torch.float32).to(device)
    valid = values.isfinite()
    if mask is not None:
        valid &= _mask(mask, valid.shape, "aux_mask", device)
    return values.masked_fill(~valid, 0.0), valid


def _numbers(data: Sequence[dict]) -> np.ndarray:
    """The variables of each sample by name: (B, V) float32."""
    frame = pd.DataFrame.from_records(list(data))
    missing = [name for name in v.VARIABLE_NAMES if name not in frame]
    if missing:
        raise ValueError(f"auxiliary_data lacks {', '.join(missing[:5])}; "
                         "each sample needs the 27 variables by name.")
    return frame[list(v.VARIABLE_NAMES)].to_numpy(
        np.float32, copy=True, na_value=np.nan)


def _mask(mask, shape, name: str, device) -> Tensor:
    mask = torch.as_tensor(mask).to(device, torch.bool)
    if mask.shape != shape:
        raise ValueError(f"{name} has shape {tuple(mask.shape)}, expected "
                         f"{tuple(shape)}.")
    return mask


def band_range(values: Tensor) -> Tensor:
    """Low and high of each band, gaps as zero, as published: (2, C)."""
    axes = (0, 1, 3, 4)
    return torch.stack([values.amin(dim=axes), values.amax(dim=axes)])


def variable_range(values: Tensor, valid: Tensor) -> Tensor:
    """Low and high of each variable over what is valid: (2, V)."""
    low = values.masked_fill(~valid, math.inf).amin(dim=0)
    high = values.masked_fill(~valid, -math.inf).amax(dim=0)
    none = ~valid.any(dim=0)
    low, high = low.masked_fill(none, 0.0), high.masked_fill(none, 1.0)
    high = torch.where(high - low < _TINY, low + 1.0, high)
    return torch.stack([low, high])


def scaled(values: Tensor, valid: Tensor, low: Tensor, high: Tensor
           ) -> Tensor:
    """From ``low`` … ``high`` to −1 … 1; gaps become 0."""
    values = 2.0 * ((values - low) / (high - low + _TINY)) - 1.0
    return values.masked_fill(~valid, 0.0)
