"""The release's recipe of training, faults included, to compare with.

``training.Settings(**training.RELEASE)`` asks for it. Batch B, classes K.
Chapter 09.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from geotree.training import losses

_WARM_UP, _CYCLE = 5, 10  # epochs of the release's schedule
_TEXT, _LOWEST = 0.1, 0.01  # shares of the learning rate


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


def _warm_restarts(settings, epoch: float, groups, steps: int
                   ) -> list[float]:
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

    def forward(self, image_features: Tensor, text_features: Tensor
                ) -> Tensor:
        """Symmetric InfoNCE of two (B, D) of any length: a scalar."""
        image, text = (F.normalize(x.float(), dim=-1)
                       for x in (image_features, text_features))
        return losses.contrastive_loss(image, text,
                                       logit_scale=1 / self.temperature)
