"""Recipes of training: what a step sees, what it learns from, how fast.

``mended`` (default): a softmax over the class table, so that two records of
one species are never negatives of each other; every parameter is trained.
Others are named by where they are, ``"package.module:NAME"``. All that is
drawn here is drawn for the whole batch, so that it does not depend on the
number of processes. Batch B, features D, classes K. Chapter 05.
"""

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from geotree import taxonomy
from geotree.shards import Batch
from geotree.variables import GROUPS, NODATA, PATCH

# Where recipes with a short name are.
NAMES = {"mended": "geotree.training.losses:MENDED",
         "release": "geotree.release.published:RECIPE"}
_SQUARE = torch.arange(PATCH * PATCH).view(PATCH, PATCH)
# Pixel that comes to each place, for the eight ways to turn a square.
_TURNS = torch.stack([torch.rot90(side, k).flatten() for k in range(4)
                      for side in (_SQUARE, _SQUARE.flip(1))])  # (8, 25)


class Choice(NamedTuple):
    """What a step chooses among."""

    classes: pd.DataFrame  # K rows
    ranks: Sequence[tuple[float, Tensor]] = ()  # weight, (K,) group of each
    counts: Tensor | None = None  # (K,) classes each stands for; None: 1
    often: Tensor | None = None  # rows that each step compares with


def choose(classes: pd.DataFrame, settings, labels=()) -> Choice:
    """All classes, the ranks above, and half of ``negatives`` as the often.

    ``labels`` are those of all of training, on the device of the steps.
    """
    labels = torch.as_tensor(labels, dtype=torch.int64)
    records = torch.bincount(labels, minlength=len(classes))
    return Choice(
        classes,
        [(settings.rank_weight, torch.as_tensor(
            taxonomy.members(classes, rank)[1], device=labels.device))
         for rank in ("genus", "family")],
        often=records.argsort(descending=True, stable=True)[
            :(settings.negatives or 0) // 2])


def draw(choice: Choice, labels: Tensor, n: int) -> tuple[Choice, Tensor]:
    """The classes of a batch and about ``n`` others, drawn for one step.

    Those that are met often are always among the others, for they are what
    a sample is mistaken for; the rest is drawn. Each that was drawn stands
    for as many as it was drawn from, so that the sums over classes that a
    loss needs are right on average: the logQ correction of sampled softmax
    (Bengio & Senécal 2008), for which all others have chance 1.

    Returns
    -------
    Choice
        Of the classes of the batch and the frequent ones, in order, and
        then the others.
    (B,) int64
        The labels, as rows of it.
    """
    frequent = labels[:0] if choice.often is None else choice.often
    own, place = torch.cat([labels, frequent]).unique(return_inverse=True)
    left = torch.ones(len(choice.classes), device=labels.device)
    left = left.index_fill(0, own, 0).nonzero().squeeze(1)
    drawn = left[torch.randperm(len(left), device=labels.device)[
        :n - len(frequent)]]
    rows = torch.cat([own, drawn])
    counts = torch.ones(len(rows), device=labels.device)
    counts[len(own):] = len(left) / max(len(drawn), 1)
    return Choice(choice.classes.iloc[rows.tolist()],
                  [(weight, group[rows]) for weight, group in choice.ranks],
                  counts), place[:len(labels)]


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
    loss: Callable  # (scores, batch, choice, settings); labels are rows of
    # choice.classes
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


def over_classes(scores, batch: Batch, choice: Choice, settings) -> Tensor:
    """Softmax of each sample over the classes of the step."""
    logits = scores(batch.images, batch.environment, choice.classes)
    if not len(batch.labels):  # a process without a row of the last batch
        return logits.sum()
    return class_loss(logits, batch.labels, choice.ranks,
                      smoothing=settings.label_smoothing,
                      counts=choice.counts)


MENDED = Recipe(all_parameters, one_cosine, over_classes, False)


def class_loss(logits: Tensor, labels: Tensor,
               groups: Sequence[tuple[float, Tensor]] = (), *,
               smoothing: float = 0.0,
               counts: Tensor | None = None) -> Tensor:
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
    counts : (K,) float, optional
        How many classes each stands for, where the K were drawn from more;
        see :func:`draw`.

    Returns
    -------
    scalar Tensor
    """
    logits = logits.float()
    counts = torch.ones_like(logits[0]) if counts is None else counts
    total = (logits + counts.log()).logsumexp(dim=1, keepdim=True)
    log_odds = logits - total  # (B, K)
    right = log_odds.gather(1, labels[:, None])
    spread = log_odds @ (counts / counts.sum())
    loss = -(1 - smoothing) * right.mean() - smoothing * spread.mean()
    for weight, group in groups:
        same = group[labels][:, None] == group  # (B, K)
        inside = (log_odds + counts.log()).masked_fill(~same, -math.inf)
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
