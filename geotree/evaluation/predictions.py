"""Predictions: what a model says of samples, a chunk of them at a time.

Names are encoded once and each chunk is one matrix product. What is held
never grows with samples × classes, unless :func:`predict` is asked for
just that. Used in chapters 06 and 07.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd

from geotree.evaluation.metrics import rows_at_once
from geotree.shards import Batch, Shards, take
from geotree.variables import NODATA

_ROWS, _TILE = 512, 4096  # samples and classes of one product


def _batches(data: Shards | Batch, size: int):
    if size < 1:
        raise ValueError(f"batch_size is {size}, expected 1 or more.")
    if isinstance(data, Shards):
        yield from data.batches(size)
        return
    for start in range(0, len(data.labels), size):
        yield take(data, slice(start, start + size))


@contextmanager
def _asked(model):
    """The model as it answers; its mode is put back."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        model.train(training)


def _features(model, data, size: int):
    """Image features batch by batch; says which samples show nothing."""
    blank: list = []
    for batch in _batches(data, size):
        blank += _blank(batch)
        with _asked(model):
            features = model.encode_images(batch.images, batch.environment)
        yield features.float()
    if blank:
        more = ", …" if len(blank) > 5 else ""
        warnings.warn(
            f"{len(blank)} samples have no pixel in any month: "
            f"{', '.join(map(str, blank[:5]))}{more}. They are answered "
            "from what else is known of them.", stacklevel=3)


def _blank(batch) -> list:
    """Ids of samples of which every month is missing."""
    import torch

    missing = (batch.images == NODATA).reshape(len(batch.images), -1).all(1)
    return np.asarray(batch.ids)[
        torch.as_tensor(missing).cpu().numpy()].tolist()


def _logits(model, data, classes, size: int):
    """Scores of all classes, by few enough rows to be quick."""
    text, rows = _text(model, classes), rows_at_once(len(classes))
    for features in _features(model, data, size):
        for part in features.split(rows):
            yield part @ text.T


def _text(model, classes):
    """Features of the names, times the factor of the cosines: (K, D)."""
    with _asked(model):
        return (model.scale() * model.encode_taxa(classes)).float()


def embed(model, data: Shards | Batch, *,
          batch_size: int = 512) -> np.ndarray:
    """Image features of samples: (N, D) float32, of length 1."""
    parts = [part.cpu().numpy()
             for part in _features(model, data, batch_size)]
    if not parts:
        raise ValueError("data has no samples: nothing to embed.")
    return np.concatenate(parts)


def predict_batches(model, data: Shards | Batch, classes: pd.DataFrame, *,
                    batch_size: int = 512) -> Iterator[np.ndarray]:
    """:func:`predict`, some rows at a time: many samples, many classes.

    ``evaluation.score`` takes them as they come, so that ten thousand
    samples and twenty thousand classes fit in any memory.

    Yields
    ------
    (B, K) float32
        B is ``batch_size`` at most, less where the classes are many.
    """
    for logits in _logits(model, data, classes, batch_size):
        yield logits.softmax(dim=1).cpu().numpy()


def predict(model, data: Shards | Batch, classes: pd.DataFrame, *,
            batch_size: int = 512) -> np.ndarray:
    """Probability of each class for each sample.

    Parameters
    ----------
    model : CompactClip
        Or any with its ``encode_images``, ``encode_taxa`` and ``scale``.
    data : Shards or Batch of N samples
    classes : DataFrame of K rows
        Class table; its species need not have been trained on.
    batch_size : int
        Of no influence on the result beyond rounding.

    Returns
    -------
    (N, K) float32
        Rows sum to one.
    """
    parts = list(predict_batches(model, data, classes,
                                 batch_size=batch_size))
    if not parts:
        raise ValueError("data has no samples: nothing to predict.")
    return np.concatenate(parts)


def likeliest(model, data: Shards | Batch, classes: pd.DataFrame,
              k: int = 5, *, batch_size: int = 512
              ) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` likeliest classes of each sample, best first.

    Returns
    -------
    (N, k) int64, (N, k) float32
        Rows of the class table, and their probabilities among all.
    """
    if not 1 <= k <= len(classes):
        raise ValueError(f"k is {k}, expected 1 to {len(classes)}, the "
                         "number of classes.")
    n = len(data) if isinstance(data, Shards) else len(data.labels)
    if not n:
        raise ValueError("data has no samples: nothing to predict.")
    # Filled in place: small arrays kept one by one would scatter the heap.
    index, odds = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
    done, text = 0, _text(model, classes)
    for features in _features(model, data, batch_size):
        for part in features.split(_ROWS):
            rows = slice(done, done := done + len(part))
            index[rows], odds[rows] = _best(part, text, k)
    return index[:done], odds[:done]


def _best(features, text, k: int):
    """The ``k`` best classes, tile by tile: a tile stays in the cache."""
    import torch

    found, columns, totals = [], [], []
    for start in range(0, len(text), _TILE):
        logits = features @ text[start:start + _TILE].T
        best, column = logits.topk(min(k, logits.shape[1]), dim=1)
        found.append(best)
        columns.append(start + column)
        peak = best[:, :1]
        totals.append(peak + logits.sub_(peak).exp_().sum(
            dim=1, keepdim=True).log_())
    best, order = torch.cat(found, dim=1).topk(k, dim=1)
    total = torch.cat(totals, dim=1).logsumexp(dim=1, keepdim=True)
    return (torch.cat(columns, dim=1).gather(1, order).cpu(),
            (best - total).exp_().cpu())
