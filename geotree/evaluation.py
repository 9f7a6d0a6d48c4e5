"""Evaluation: scores by rank with intervals, few shots, calibration.

Every sample is scored, alone: no result depends on the batch it came in.
Intervals come from resampling blocks of the globe, because neighbours are
no independent witnesses. Explained in chapters 06 and 07.
"""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd

from geotree import splits, taxonomy
from geotree.shards import Batch, Shards
from geotree.taxonomy import RANKS, Rank


def _batches(data: Shards | Batch, size: int):
    if isinstance(data, Shards):
        yield from data.batches(size)
        return
    for start in range(0, len(data.labels), size):
        yield Batch(*(part[start:start + size] for part in data))


def embed(model, data: Shards | Batch, *,
          batch_size: int = 512) -> np.ndarray:
    """Image features of samples: (N, D) float32, of length 1."""
    import torch

    model.eval()
    with torch.inference_mode():
        parts = [model.encode_images(batch.images, batch.environment)
                 .float().cpu().numpy()
                 for batch in _batches(data, batch_size)]
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
        Of no influence on the result.

    Returns
    -------
    (N, K) float32
        Rows sum to one.
    """
    import torch

    features = embed(model, data, batch_size=batch_size)
    with torch.inference_mode():
        text_features = model.encode_taxa(classes)
        logits = model.scale() * torch.as_tensor(
            features, device=text_features.device) @ text_features.T
        return logits.softmax(dim=1).cpu().numpy()


def check(probabilities: np.ndarray, labels: np.ndarray,
          classes: pd.DataFrame) -> None:
    """Raise ``ValueError`` unless scores, labels and classes fit."""
    shape = np.shape(probabilities)
    if shape != (len(labels), len(classes)):
        raise ValueError(
            f"probabilities have shape {shape}, expected ({len(labels)} "
            f"labels, {len(classes)} classes).")
    total = np.asarray(probabilities).sum(axis=1, dtype=np.float64)
    bad = np.flatnonzero(~(np.abs(total - 1) < 1e-3))
    if len(bad):
        raise ValueError(
            f"{len(bad)} rows do not sum to one, the first is row {bad[0]}: "
            f"{total[bad[0]]:.4f}. Apply a softmax to logits.")


def hits(probabilities: np.ndarray, labels: np.ndarray, k: int = 1
         ) -> np.ndarray:
    """Whether the right class is among the ``k`` best: (N,) bool.

    Classes of equal probability share a rank in order of their number.
    """
    rows = np.arange(len(labels))
    right = probabilities[rows, labels][:, None]
    ahead = (probabilities > right).sum(axis=1)
    number = np.arange(probabilities.shape[1])
    ties = ((probabilities == right)
            & (number < np.asarray(labels)[:, None])).sum(axis=1)
    return ahead + ties < k


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
        Units of the bootstrap, e.g. ``splits.blocks(table, 5)``; default:
        rows, which is too narrow where records are clustered.
    draws : int
        Bootstrap samples.

    Returns
    -------
    DataFrame
        One row per rank, metric (``top1``, ``top5``, ``macro_top1``) and
        group: ``value``, ``low``, ``high`` (shares), ``n``.
    """
    labels = np.asarray(labels)
    check(probabilities, labels, classes)
    if not len(labels):
        raise ValueError("no samples to score.")
    weights = _bootstrap(len(labels), blocks, draws, seed)
    subsets = [("all", np.ones(len(labels), bool))]
    if groups is not None:
        groups = np.asarray(groups)
        subsets += [(str(name), groups == name)
                    for name in pd.unique(groups)]
    rows = []
    for rank in ranks:
        summed, _ = taxonomy.roll_up(probabilities, classes, rank)
        target = taxonomy.roll_up_labels(labels, classes, rank)
        measured = {"top1": hits(summed, target),
                    "top5": hits(summed, target, 5)}
        for name, chosen in subsets:
            for metric, value in measured.items():
                rows.append(_row(rank, metric, name, value[chosen],
                                 weights[:, chosen]))
            rows.append(_row(rank, "macro_top1", name,
                             measured["top1"][chosen], weights[:, chosen],
                             target[chosen]))
    return pd.DataFrame(rows)


def _bootstrap(n: int, blocks, draws: int, seed: int) -> np.ndarray:
    """How often each row is drawn: (1 + draws, N), the first row ones."""
    rng = np.random.default_rng(seed)
    unit = np.arange(n) if blocks is None else np.unique(
        blocks, return_inverse=True)[1]
    number = unit.max() + 1
    times = rng.multinomial(number, np.full(number, 1 / number), size=draws)
    return np.concatenate([np.ones((1, n)), times[:, unit]])


def _row(rank, metric, group, right, weights, target=None) -> dict:
    if target is None:
        with np.errstate(invalid="ignore"):
            values = (weights @ right) / weights.sum(axis=1)
    else:
        values = _macro(right, weights, target)
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return {"rank": str(rank), "metric": metric, "group": group,
            "value": float(values[0]), "low": float(low),
            "high": float(high), "n": len(right)}


def _macro(right, weights, target) -> np.ndarray:
    """Mean over the classes that were drawn: (1 + draws,)."""
    one_hot = target[:, None] == np.unique(target)
    number = weights @ one_hot
    correct = weights @ (one_hot & right[:, None])
    with np.errstate(invalid="ignore"):
        return np.nanmean(correct / np.where(number > 0, number, np.nan),
                          axis=1)


def compare(first: np.ndarray, second: np.ndarray, labels: np.ndarray, *,
            blocks=None, draws: int = 1000, seed: int = 0) -> pd.Series:
    """Paired difference in top-1, first − second, with its 95 % interval.

    Parameters
    ----------
    first, second : (N, K) float
        Probabilities of two models for the same samples.
    """
    difference = (hits(first, labels).astype(float) - hits(second, labels))
    weights = _bootstrap(len(labels), blocks, draws, seed)
    values = (weights @ difference) / weights.sum(axis=1)
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return pd.Series({"difference": values[0], "low": low, "high": high,
                      "n": len(labels)})


# Few shots -----------------------------------------------------------------

def class_means(features: np.ndarray, labels: np.ndarray,
                k: int) -> np.ndarray:
    """Mean feature of each class, of length 1: (K, D); K = ``k``."""
    sums = np.zeros((k, features.shape[1]))
    np.add.at(sums, labels, features)
    if (np.bincount(labels, minlength=k) == 0).any():
        raise ValueError("a class has no support sample: leave it out of "
                         "the class table.")
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def nearest_mean(features: np.ndarray, means: np.ndarray, *,
                 scale: float = 20.0) -> np.ndarray:
    """Probabilities from the cosine to each class mean: (N, K)."""
    logits = scale * features @ means.T
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def fine_tune(model, support: Batch, classes: pd.DataFrame, *,
              steps: int = 40, learning_rate: float = 3e-4, seed: int = 0):
    """Train a copy of a model on a few labelled samples.

    Parameters
    ----------
    support : Batch
        A few samples per class, all of them in each step.
    classes : DataFrame
        Class table of ``support.labels``.

    Returns
    -------
    CompactClip
        A copy; the given model is not touched.
    """
    import torch

    from geotree.training import class_loss

    tuned = copy.deepcopy(model)
    torch.manual_seed(seed)
    tuned.train()
    optimizer = torch.optim.AdamW(tuned.parameters(), lr=learning_rate,
                                  weight_decay=0.01)
    labels = torch.as_tensor(support.labels, device=tuned.device)
    for _ in range(steps):
        logits = tuned(support.images, support.environment, classes)
        loss = class_loss(logits, labels, smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
        optimizer.step()
    return tuned.eval()


# Calibration ---------------------------------------------------------------

def calibration(probabilities: np.ndarray, labels: np.ndarray, *,
                bins: int = 10) -> pd.DataFrame:
    """Confidence against accuracy in bins of equal size.

    Returns
    -------
    DataFrame
        One row per bin: mean ``confidence``, ``accuracy``, binomial 95 %
        ``error`` of the accuracy, ``n``.
    """
    confidence = probabilities.max(axis=1)
    right = hits(probabilities, labels)
    order = np.argsort(confidence, kind="stable")
    rows = []
    for part in np.array_split(order, min(bins, len(order))):
        accuracy = right[part].mean()
        rows.append({
            "confidence": confidence[part].mean(), "accuracy": accuracy,
            "error": 1.96 * np.sqrt(max(accuracy * (1 - accuracy),
                                        1 / len(part)) / len(part)),
            "n": len(part)})
    return pd.DataFrame(rows)


def expected_calibration_error(table: pd.DataFrame) -> float:
    """Mean |confidence − accuracy| over the bins of :func:`calibration`."""
    gap = (table["confidence"] - table["accuracy"]).abs()
    return float((gap * table["n"]).sum() / table["n"].sum())


def spatial_blocks(table: pd.DataFrame, degrees: float = 5.0) -> np.ndarray:
    """Units of the bootstrap; see :func:`geotree.splits.blocks`."""
    return splits.blocks(table, degrees)


__all__ = ["Rank", "calibration", "check", "class_means", "compare",
           "embed", "expected_calibration_error", "fine_tune", "hits",
           "nearest_mean", "predict", "score", "spatial_blocks"]
