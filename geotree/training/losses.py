"""Recipes of training: what a step learns from, and how fast.

``mended`` (default): a softmax over the class table, so that two records of
one species are never negatives of each other; every parameter is trained.
Others are named by where they are, ``"package.module:NAME"``. Batch
B, features D, classes K. Chapter 05.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Where recipes with a short name are.
NAMES = {"mended": "geotree.training.losses:MENDED",
         "release": "geotree.release.recipe:RECIPE"}


class Scores(torch.nn.Module):
    """Logits of any model of the protocol, as one module."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images, environment, classes) -> Tensor:
        """Logits (B, K) over the rows of ``classes``."""
        features = self.model.encode_images(images, environment)
        return (self.model.scale() * features
                @ self.model.encode_taxa(classes).T)


class Recipe(NamedTuple):
    """How one way of training differs from another."""

    groups: Callable  # (model, settings) → groups of the optimiser
    rates: Callable  # (settings, epoch, groups, steps) → rate of each
    loss: Callable  # (scores, batch, labels, classes, ranks, settings)
    drop_last: bool  # whether the last batch is left out if not full


def get(name: str) -> Recipe:
    """The recipe of a name."""
    where = NAMES.get(name, name)
    if ":" not in where:
        raise ValueError(f"recipe is {name!r}, expected "
                         f"{' or '.join(map(repr, NAMES))}, or "
                         "'package.module:NAME'.")
    module, _, attribute = where.partition(":")
    return getattr(import_module(module), attribute)


def all_parameters(model, settings) -> list[dict]:
    """Every parameter, decay on matrices only, each at its share."""
    shares = settings.rates or {}
    unknown = [part for part in shares
               if not any(name.startswith(part)
                          for name, _ in model.named_parameters())]
    if unknown:
        raise ValueError(f"rates names {', '.join(unknown)}, expected parts "
                         "of the model: "
                         f"{', '.join(n for n, _ in model.named_children())}.")
    groups: dict[tuple, list] = {}
    for name, value in model.named_parameters():
        parts = [part for part in shares if name.startswith(part)]
        share = shares[max(parts, key=len)] if parts else 1.0
        if share:
            groups.setdefault((share, value.ndim > 1), []).append(value)
    return [{"params": some, "share": share,
             "weight_decay": settings.weight_decay * decay}
            for (share, decay), some in groups.items()]


def one_cosine(settings, epoch: float, groups, steps: int) -> list[float]:
    """Linear warm-up, then a cosine to zero, times each group's share."""
    step = round(epoch * steps / settings.epochs)
    warm = max(round(settings.warmup * steps), 1)
    if step < warm:
        height = (step + 1) / warm
    else:
        part = (step - warm) / max(steps - warm, 1)
        height = 0.5 * (1 + math.cos(math.pi * part))
    return [settings.learning_rate * height * group.get("share", 1.0)
            for group in groups]


def over_classes(scores, batch, labels, classes, ranks, settings) -> Tensor:
    """Softmax of each sample over the class table."""
    logits = scores(batch.images, batch.environment, classes)
    if not len(labels):  # a process without a row of the last batch
        return logits.sum()
    return class_loss(logits, labels, ranks,
                      smoothing=settings.label_smoothing)


MENDED = Recipe(all_parameters, one_cosine, over_classes, False)


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
    return symmetric(logit_scale * image_features @ text_features.T, labels)


def symmetric(logits: Tensor, labels: Tensor | None = None) -> Tensor:
    """InfoNCE of (B, B) pairs, from image to text and back."""
    if labels is None:
        labels = torch.arange(len(logits), device=logits.device)
    match = (labels[:, None] == labels).float()
    target = match / match.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target)
            + F.cross_entropy(logits.T, target)) / 2
