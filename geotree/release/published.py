"""What the release does in its own way: its scale of inputs, its recipe.

It scales by the extremes of the batch, to −1 … 1; what is missing becomes 0.
Its recipe of training, faults included, is there to compare with:
``training.Settings(**training.RELEASE)`` asks for it. Batch B, months T,
bands C, variables V, classes K. Chapter 09.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geotree import checks, variables as v
from geotree.training import losses

_TINY = 1e-6
_WARM_UP, _CYCLE = 5, 10  # epochs of the release's schedule
_TEXT, _LOWEST = 0.1, 0.01  # shares of the learning rate


# Inputs: values, and what is valid ----------------------------------------

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


def scaled(values: Tensor, valid: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """From ``low`` … ``high`` to −1 … 1; gaps become 0."""
    values = 2.0 * ((values - low) / (high - low + _TINY)) - 1.0
    return values.masked_fill(~valid, 0.0)


# Training -----------------------------------------------------------------

def _published_parameters(model, settings) -> list[dict]:
    """The encoders; both projections and the fusion are left out.

    Gradients of what is left out are never set to zero, so that they pile
    up and rule the clipping: as published.
    """
    if not hasattr(model, "temporal_extractor"):
        raise ValueError("recipe 'release' is of GeoTreeClip; this is a "
                         f"{type(model).__name__}. Take recipe='mended'.")
    parts = {"temporal_extractor": 1.0, "auxiliary_encoder": 1.0,
             "text_encoder": _TEXT}
    return [{"params": list(getattr(model, name).parameters()),
             "weight_decay": settings.weight_decay, "share": share}
            for name, share in parts.items()]


def _warm_restarts(settings, epoch: float, groups, steps: int) -> list[float]:
    """Five epochs of warm-up, the same for all; then cosines of 10, 20, …

    The rate changes between epochs; a restart doubles the length.
    """
    epoch, top = math.floor(epoch), settings.learning_rate
    if epoch < _WARM_UP:
        return [top * (epoch + 1) / _WARM_UP] * len(groups)
    length = _CYCLE
    while epoch >= length:
        epoch, length = epoch - length, 2 * length
    part = 0.5 * (1 + math.cos(math.pi * epoch / length))
    low = top * _LOWEST
    return [low + (top * group["share"] - low) * part for group in groups]


def _over_pairs(scores, batch, choice, settings) -> Tensor:
    """Each record against the texts of its batch; see contrastive_loss."""
    rows, place = batch.labels.unique(return_inverse=True)
    logits = scores(batch.images, batch.environment,
                    choice.classes.iloc[rows.tolist()])
    own = getattr(scores, "module", scores)  # in several processes
    cosines = logits.float() / getattr(own, "model", own).scale()
    return losses.symmetric(cosines[:, place] / settings.temperature)


RECIPE = losses.Recipe(_published_parameters, _warm_restarts, _over_pairs,
                       True)


class CLIPContrastiveLoss(nn.Module):
    """The loss of the release's scripts, under its name and its arguments.

    Another record of the same species is a negative, as published.
    """

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """Symmetric InfoNCE of two (B, D) of any length: a scalar."""
        image, text = (F.normalize(x.float(), dim=-1)
                       for x in (image_features, text_features))
        return losses.contrastive_loss(image, text,
                                       logit_scale=1 / self.temperature)
