"""Evaluation: scores by rank with intervals, few shots, calibration.

Every sample is scored, alone: no result depends on the batch it came in.
Intervals come from resampling blocks of the globe, because neighbours are
no independent witnesses. Explained in chapters 06 and 07.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from geotree import bootstrap, splits, taxonomy
from geotree.few_shot import class_means, fine_tune, nearest_mean
from geotree.shards import Batch, Shards
from geotree.taxonomy import RANKS

__all__ = ["calibration", "check", "class_means", "compare", "embed",
           "expected_calibration_error", "fine_tune", "hits",
           "nearest_mean", "predict", "score", "spatial_blocks"]


# Predictions ---------------------------------------------------------------

def _batches(data: Shards | Batch, size: int):
    if size < 1:
        raise ValueError(f"batch_size is {size}, expected 1 or more.")
    if isinstance(data, Shards):
        yield from data.batches(size)
        return
    for start in range(0, len(data.labels), size):
        yield Batch(*(part[start:start + size] for part in data))


def _features(model, data, size: int):
    """Image features batch by batch; the model's mode is put back."""
    import torch

    training = model.training
    model.eval()
    try:
        for batch in _batches(data, size):
            with torch.no_grad():
                yield model.encode_images(batch.images,
                                          batch.environment).float()
    finally:
        model.train(training)


def embed(model, data: Shards | Batch, *,
          batch_size: int = 512) -> np.ndarray:
    """Image features of samples: (N, D) float32, of length 1."""
    parts = [part.cpu().numpy()
             for part in _features(model, data, batch_size)]
    if not parts:
        raise ValueError("data has no samples: nothing to embed.")
    return np.concatenate(parts)


def predict(model, data: Shards | Batch, classes: pd.DataFrame, *,
            batch_size: int = 512) -> np.ndarray:
    """Probability of each class for each sample.

    Parameters
    ----------
    model : CompactClip
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
    import torch

    training = model.training
    model.eval()
    with torch.no_grad():
        text = (model.scale() * model.encode_taxa(classes)).float()
    model.train(training)
    parts = [(features @ text.T).softmax(dim=1).cpu().numpy()
             for features in _features(model, data, batch_size)]
    if not parts:
        raise ValueError("data has no samples: nothing to predict.")
    return np.concatenate(parts)


# Scores --------------------------------------------------------------------

def check(probabilities: np.ndarray, labels: np.ndarray,
          classes: pd.DataFrame) -> None:
    """Raise ``ValueError`` unless scores, labels and classes fit."""
    shape = np.shape(probabilities)
    if shape != (len(labels), len(classes)):
        raise ValueError(
            f"probabilities have shape {shape}, expected ({len(labels)} "
            f"labels, {len(classes)} classes).")
    _check_labels(labels, len(classes))
    values = np.asarray(probabilities)
    total = values.sum(axis=1, dtype=np.float64)
    bad = np.flatnonzero(~(np.abs(total - 1) < 1e-3)
                         | (values.min(axis=1) < -1e-6))
    if len(bad):
        row = bad[0]
        raise ValueError(
            f"{len(bad)} of {len(total)} rows are no probabilities, the "
            f"first is row {row}: they run from {values[row].min():.4g} to "
            f"{values[row].max():.4g} and do not sum to one, but to "
            f"{total[row]:.4f}. Apply a softmax to logits.")


def _check_labels(labels, k: int) -> None:
    labels = np.asarray(labels)
    if not labels.size:
        raise ValueError("no samples to score.")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels are {labels.dtype} of shape "
                         f"{labels.shape}, expected whole numbers, one per "
                         "sample. See taxonomy.labels.")
    bad = np.flatnonzero((labels < 0) | (labels >= k))
    if len(bad):
        raise ValueError(
            f"{len(bad)} labels are not among the {k} classes 0 to {k - 1}, "
            f"the first is {labels[bad[0]]} in row {bad[0]}. Were they made "
            "with another class table?")


def hits(probabilities: np.ndarray, labels: np.ndarray, k: int = 1
         ) -> np.ndarray:
    """Whether the right class is among the ``k`` best: (N,) bool.

    Classes of equal probability rank in order of their number; a class of
    probability zero is never right.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if len(probabilities) != len(labels):
        raise ValueError(f"{len(probabilities)} rows of probabilities, but "
                         f"{len(labels)} labels.")
    _check_labels(labels, probabilities.shape[1])
    right = probabilities[np.arange(len(labels)), labels][:, None]
    number = np.arange(probabilities.shape[1])
    ahead = (probabilities > right).sum(axis=1) + (
        (probabilities == right) & (number < labels[:, None])).sum(axis=1)
    return (ahead < k) & (right[:, 0] > 0)


def score(probabilities: np.ndarray, labels: np.ndarray,
          classes: pd.DataFrame, *, ranks=RANKS, groups=None, blocks=None,
          draws: int = 500, seed: int = 0) -> pd.DataFrame:
    """Accuracy at each rank, with 95 % intervals.

    Parameters
    ----------
    probabilities : (N, K) float
        Rows sum to one; coarser ranks are summed, never read off species.
    labels : (N,) int
    classes : DataFrame of K rows
    groups : (N,) str, optional
        Score each group too, e.g. rarity.
    blocks : (N,) int, optional
        Units of the bootstrap, e.g. :func:`spatial_blocks`; default: rows,
        which is too narrow where records are clustered.
    draws : int
        Bootstrap samples.

    Returns
    -------
    DataFrame
        One row per rank, group and metric: ``value``, ``low``, ``high``
        (shares), ``n``. Metrics: ``top1``; ``top5`` where there are more
        than five names; ``macro_top1``, the mean over the names that
        occur. No interval (NaN) where all records lie in one block.
    """
    labels = np.asarray(labels)
    check(probabilities, labels, classes)
    subsets = {"all": np.ones(len(labels), bool)}
    if groups is not None:
        groups = bootstrap.column(groups, len(labels), "groups").astype(str)
        subsets |= {name: groups == name for name in pd.unique(groups)}
    units = bootstrap.units(blocks, len(labels))
    parts, found = [], []
    for rank in ranks:
        summed, names = taxonomy.roll_up(probabilities, classes, rank)
        target = taxonomy.roll_up_labels(labels, classes, rank)
        right = {"top1": hits(summed, target)}
        if len(names) > 5:
            right["top5"] = hits(summed, target, 5)
        for name, rows in subsets.items():
            enough = len(np.unique(units[rows])) > 1
            found += [(str(rank), metric, name, int(rows.sum()), enough)
                      for metric in (*right, "macro_top1")]
            parts.append(bootstrap.Accuracy(
                {metric: value[rows] for metric, value in right.items()},
                target[rows], units[rows], units.max() + 1))
    values = np.concatenate([
        np.column_stack([part.values(weight) for part in parts])
        for weight in bootstrap.weights(units.max() + 1, draws, seed)])
    table = pd.DataFrame(found, columns=["rank", "metric", "group", "n",
                                         "enough"])
    table["value"] = values[0]
    table["low"], table["high"] = bootstrap.interval(values[1:])
    table.loc[~table.pop("enough"), ["low", "high"]] = np.nan
    return table[["rank", "metric", "group", "value", "low", "high", "n"]]


def compare(first: np.ndarray, second: np.ndarray, labels: np.ndarray, *,
            blocks=None, draws: int = 1000, seed: int = 0) -> pd.Series:
    """Paired difference in top-1, first − second, with its 95 % interval.

    Parameters
    ----------
    first, second : (N, K) float
        Probabilities of two models for the same samples; roll both up for
        a coarser rank.
    blocks : (N,) int, optional
        As in :func:`score`.
    """
    if np.shape(first) != np.shape(second):
        raise ValueError(f"two answers of shapes {np.shape(first)} and "
                         f"{np.shape(second)}: score both on the same "
                         "samples and classes.")
    difference = hits(first, labels).astype(float) - hits(second, labels)
    units = bootstrap.units(blocks, len(labels))
    number = np.bincount(units)
    total = np.bincount(units, weights=difference)
    values = np.concatenate([(w @ total) / (w @ number) for w in
                             bootstrap.weights(len(number), draws, seed)])
    low, high = (bootstrap.interval(values[1:, None])[:, 0]
                 if len(number) > 1 else (np.nan, np.nan))
    return pd.Series({"difference": values[0], "low": low, "high": high,
                      "n": len(labels)})


def spatial_blocks(table: pd.DataFrame, degrees: float = 5.0) -> np.ndarray:
    """Units of the bootstrap; see :func:`geotree.splits.blocks`."""
    return splits.blocks(table, degrees)


# Calibration ---------------------------------------------------------------

def calibration(probabilities: np.ndarray, labels: np.ndarray, *,
                bins: int = 10) -> pd.DataFrame:
    """Confidence against accuracy in bins of equal size.

    Samples of equal confidence share a bin, so that the order of the
    samples is of no influence; bins may be fewer and uneven for it.

    Returns
    -------
    DataFrame
        One row per bin: mean ``confidence``, ``accuracy``, binomial 95 %
        ``error`` of the accuracy, ``n``.
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected 1 or more.")
    probabilities = np.asarray(probabilities)
    right = hits(probabilities, labels)
    confidence = probabilities.max(axis=1)
    edges = np.quantile(confidence, np.arange(1, bins) / bins)
    rows = pd.DataFrame({"confidence": confidence, "accuracy": right})
    grouped = rows.astype(float).groupby(
        np.searchsorted(edges, confidence, side="right"))
    table = grouped.mean().assign(n=grouped.size())
    spread = (table["accuracy"] * (1 - table["accuracy"])).clip(
        lower=1 / table["n"])  # none right of 50 is no proof of never
    table["error"] = 1.96 * np.sqrt(spread / table["n"])
    return table[["confidence", "accuracy", "error", "n"]].reset_index(
        drop=True)


def expected_calibration_error(table: pd.DataFrame) -> float:
    """Mean gap of confidence and accuracy in :func:`calibration`'s bins."""
    gap = (table["confidence"] - table["accuracy"]).abs()
    return float((gap * table["n"]).sum() / table["n"].sum())
