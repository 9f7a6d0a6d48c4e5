"""Calibration: whether a confidence can be taken at its word.

Errors of confidence, a temperature that mends them, and sets of names that
hold the right one as often as promised. What is fitted here is fitted on a
part of its own, never on the samples that are scored. Explained in chapter
06.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from geotree.evaluation.metrics import check_labels, check_sums, hits

FLOOR = 1e-12  # a probability of zero costs this much: 27.6 nats


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Negative log probability of each right class: (N,) nats.

    A right class of probability zero counts as ``FLOOR``: one certain
    mistake must not hide all else behind an infinity.
    """
    return -np.log(np.maximum(_right(probabilities, labels), FLOOR))


def brier(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distance to the truth of each row: (N,), 0 to 2."""
    values = np.asarray(probabilities, np.float64)
    return (np.square(values).sum(axis=1)
            - 2 * _right(probabilities, labels) + 1)


def reliability(probabilities: np.ndarray, labels: np.ndarray, *,
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
    probabilities = check_sums(probabilities)
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
    """Mean gap of confidence and accuracy in :func:`reliability`'s bins."""
    gap = (table["confidence"] - table["accuracy"]).abs()
    return float((gap * table["n"]).sum() / table["n"].sum())


def summary(probabilities: np.ndarray, labels: np.ndarray) -> pd.Series:
    """The four numbers of a calibration report: one row of a table.

    ``ece`` (bins of equal size), ``brier``, ``log_loss`` (nats), ``n``.
    """
    table = reliability(probabilities, labels)
    return pd.Series({
        "ece": expected_calibration_error(table),
        "brier": brier(probabilities, labels).mean(),
        "log_loss": log_loss(probabilities, labels).mean(),
        "n": len(labels)})


# Temperature ---------------------------------------------------------------

def temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that makes the right classes most likely.

    Parameters
    ----------
    probabilities : (N, K) float
        Of a validation part; rows sum to one.
    labels : (N,) int

    Returns
    -------
    float
        From 0.05 to 20; above 1 the model was too sure of itself.

    Notes
    -----
    Guo et al. (2017): one number, found by the smallest mean log loss. The
    order of the classes never changes, so neither does the accuracy.
    """
    from scipy.optimize import minimize_scalar

    labels = check_labels(labels, np.shape(probabilities)[1])
    logs = np.log(np.maximum(check_sums(probabilities), FLOOR),
                  dtype=np.float64)
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        scaled = logs * math.exp(-log_t)
        highest = scaled.max(axis=1)
        total = np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
        return float((total + highest - scaled[rows, labels]).mean())

    ends = math.log(0.05), math.log(20)
    found = minimize_scalar(loss, bounds=ends, method="bounded",
                            options={"xatol": 1e-4})
    return math.exp(found.x)


def soften(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities at a temperature: (N, K) of the same dtype.

    ``p ** (1 / temperature)``, made to sum to one again: what dividing the
    logits does, without need of them.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, expected more than "
                         "0.")
    values = check_sums(probabilities)
    logs = np.log(np.maximum(values, FLOOR), dtype=np.float64) / temperature
    odds = np.exp(logs - logs.max(axis=1, keepdims=True))
    return (odds / odds.sum(axis=1, keepdims=True)).astype(values.dtype)


# Sets ----------------------------------------------------------------------

def conformal(probabilities: np.ndarray, labels: np.ndarray, *,
              coverage: float = 0.9, groups: np.ndarray | None = None
              ) -> np.ndarray:
    """Least probability at which a class enters a prediction set: (K,).

    Parameters
    ----------
    probabilities : (N, K) float
        Of a calibration part that the model was not fitted on.
    labels : (N,) int
    coverage : float
        Promised share of new samples whose set holds the right class,
        provided that they come from where these came from.
    groups : (K,) array, optional
        Keep the promise in each group of classes: ``np.arange(K)`` for
        each class, or rarities. Default: on average only, which frequent
        species may pay for rare ones.

    Returns
    -------
    (K,) float64
        Zero where a group has too few samples to promise anything: its
        classes are in every set.

    Notes
    -----
    Split conformal prediction (Vovk et al. 2005), by groups of labels.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage}, expected 0 to 1.")
    k = np.shape(probabilities)[1]
    groups = np.zeros(k, int) if groups is None else np.asarray(groups)
    if groups.shape != (k,):
        raise ValueError(f"groups have shape {groups.shape}, expected one "
                         f"for each of the {k} classes.")
    right = _right(probabilities, labels)
    group_of_row = groups[labels]
    least = np.zeros(k)
    for group in np.unique(groups):
        values = np.sort(right[group_of_row == group])
        # The largest value that enough of n + 1 samples reach.
        position = math.floor((len(values) + 1) * (1 - coverage) + 1e-9)
        if position >= 1:
            least[groups == group] = values[position - 1]
    return least


def prediction_sets(probabilities: np.ndarray, least: np.ndarray
                    ) -> np.ndarray:
    """Which classes are in the set of each sample: (N, K) bool.

    May be empty: then the sample looks like nothing of the calibration
    part.
    """
    return np.asarray(probabilities) >= least


def coverage_table(sets: np.ndarray, labels: np.ndarray,
                   groups: np.ndarray | None = None) -> pd.DataFrame:
    """Kept promises and size of sets, overall and by group of samples.

    Returns
    -------
    DataFrame
        Rows ``all`` and each of ``groups`` (N,); columns ``coverage``,
        mean ``size``, share ``empty``, ``n``.
    """
    labels = check_labels(labels, sets.shape[1])
    size = sets.sum(axis=1)
    rows = pd.DataFrame({"coverage": sets[np.arange(len(labels)), labels],
                         "size": size, "empty": size == 0}).astype(float)
    parts = {"all": rows}
    if groups is not None:
        parts |= {name: part for name, part
                  in rows.groupby(np.asarray(groups).astype(str))}
    return pd.DataFrame({name: part.mean() for name, part in parts.items()}
                        ).T.assign(n=[len(part) for part in parts.values()])


def _right(probabilities, labels) -> np.ndarray:
    values = check_sums(probabilities)
    labels = check_labels(labels, values.shape[1])
    if len(values) != len(labels):
        raise ValueError(f"{len(values)} rows of probabilities, but "
                         f"{len(labels)} labels.")
    return values[np.arange(len(labels)), labels].astype(np.float64)
