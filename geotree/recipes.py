"""Recipes of training: what a step learns from, and how fast.

``mended`` (default): a softmax over the class table, so that two records of
one species are never negatives of each other; every parameter is trained.
``release``: as GlobalGeoTree trained, faults included, for those who must
compare. Batch B, features D, classes K. Chapters 05 and 09.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_WARM_UP, _CYCLE = 5, 10  # epochs of the release's schedule
_TEXT, _LOWEST = 0.1, 0.01  # shares of the learning rate


class Recipe(NamedTuple):
    """How one way of training differs from another."""

    groups: Callable  # (model, settings) → groups of the optimiser
    rates: Callable  # (settings, epoch, groups, steps) → rate of each
    loss: Callable  # (model, batch, labels, classes, ranks, settings)
    drop_last: bool  # whether the last batch is left out if not full


def get(name: str) -> Recipe:
    """The recipe of a name."""
    if name not in _RECIPES:
        raise ValueError(f"recipe is {name!r}, expected "
                         f"{' or '.join(map(repr, _RECIPES))}.")
    return _RECIPES[name]


# Mended ----------------------------------------------------------------------


def _all_parameters(model, settings) -> list[dict]:
    """Every parameter, decay on matrices only."""
    decay = [p for p in model.parameters() if p.ndim > 1]
    other = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decay, "weight_decay": settings.weight_decay},
            {"params": other, "weight_decay": 0.0}]


def _one_cosine(settings, epoch: float, groups, steps: int) -> list[float]:
    """Linear warm-up, then a cosine to zero; the same for each group."""
    step = round(epoch * steps / settings.epochs)
    warm = max(round(settings.warmup * steps), 1)
    if step < warm:
        share = (step + 1) / warm
    else:
        part = (step - warm) / max(steps - warm, 1)
        share = 0.5 * (1 + math.cos(math.pi * part))
    return [settings.learning_rate * share] * len(groups)


def _over_classes(model, batch, labels, classes, ranks, settings) -> Tensor:
    logits = model(batch.images, batch.environment, classes)
    if not len(labels):  # a process without a row of the last batch
        return logits.sum()
    return class_loss(logits, labels, ranks,
                      smoothing=settings.label_smoothing)


# Release ---------------------------------------------------------------------


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


def _over_pairs(model, batch, labels, classes, ranks, settings) -> Tensor:
    """Each record against the texts of its batch; see contrastive_loss."""
    rows, place = labels.unique(return_inverse=True)
    logits = model(batch.images, batch.environment,
                   classes.iloc[rows.tolist()])
    own = getattr(model, "module", model)  # within several processes
    cosines = logits.float() / own.scale()
    return _symmetric(cosines[:, place] / settings.temperature)


_RECIPES = {
    "mended": Recipe(_all_parameters, _one_cosine, _over_classes, False),
    "release": Recipe(_published_parameters, _warm_restarts, _over_pairs,
                      True)}


# Losses ----------------------------------------------------------------------


def class_loss(logits: Tensor, labels: Tensor,
               groups: list[tuple[float, Tensor]] = (), *,
               smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over the class table, plus that of coarser ranks.

    Parameters
    ----------
    logits : (B, K) float
    labels : (B,) int64
    groups : list of (weight, (K,) int64)
        Group number of each class and the weight of its loss: the negative
        log of the summed probability of the right group.
    smoothing : float
        Label smoothing at species level.

    Returns
    -------
    scalar Tensor
    """
    logits = logits.float()
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    log_probability = logits.log_softmax(dim=1)  # (B, K)
    for weight, group in groups:
        same = group[labels][:, None] == group  # (B, K)
        inside = log_probability.masked_fill(~same, -math.inf)
        loss = loss - weight * inside.logsumexp(dim=1).mean()
    return loss


def contrastive_loss(image_features: Tensor, text_features: Tensor, *,
                     logit_scale: float | Tensor,
                     labels: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE over a batch, as CLIP trains.

    Parameters
    ----------
    image_features, text_features : (B, D), of length 1
    logit_scale : float
    labels : (B,) int64, optional
        With labels, all pairs of one class count as matches. Without, as
        in the release, another record of the same species is a negative.

    Returns
    -------
    scalar Tensor
    """
    return _symmetric(logit_scale * image_features @ text_features.T, labels)


def _symmetric(logits: Tensor, labels: Tensor | None = None) -> Tensor:
    """InfoNCE of (B, B) pairs, from image to text and back."""
    if labels is None:
        labels = torch.arange(len(logits), device=logits.device)
    match = (labels[:, None] == labels).float()
    target = match / match.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target)
            + F.cross_entropy(logits.T, target)) / 2
