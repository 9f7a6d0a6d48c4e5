"""Calibration: whether a confidence can be taken at its word.

Errors of confidence, a temperature that mends them, and sets of names that
hold the right one as often as promised. What is fitted here is fitted on a
part of its own, never on the samples that are scored. Explained in chapter
06.2.
"""

import math
import warnings

import numpy as np
import pandas as pd

from geotree import checks
from geotree.evaluation.metrics import hits

FLOOR = 1e-12  # a probability of zero costs this much: 27.6 nats
_ENDS = 0.05, 20.0  # of the temperature


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Negative log probability of each right class: (N,) nats.

    A right class of probability zero counts as ``FLOOR``: one certain
    mistake must not hide all else behind an infinity.
    """
    return -np.log(np.maximum(_right(probabilities, labels), FLOOR))


def brier(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distance to the truth of each row: (N,), 0 to 2."""
    values, labels = _fitting(probabilities, labels)
    return (np.square(values, dtype=np.float64).sum(axis=1)
            - 2 * _right(values, labels) + 1)


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
    checks.number(bins, name="bins", low=1, high=10_000, whole=True)
    probabilities = checks.probabilities(probabilities)
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
    checks.columns(table, ["confidence", "accuracy", "n"])
    gap = (table["confidence"] - table["accuracy"]).abs()
    return float((gap * table["n"]).sum() / table["n"].sum())


def ece(probabilities: np.ndarray, labels: np.ndarray) -> pd.Series:
    """Expected calibration error, beside what chance makes of it.

    A model whose confidence is right to the last digit has an error too:
    few samples are never right exactly as often as they should be. So right
    and wrong are drawn by the confidences 200 times, to see the error of a
    perfectly calibrated model on as many samples.

    Returns
    -------
    Series
        ``ece``; ``ece_chance`` and ``ece_chance_95``, the mean and the
        95 % quantile of a perfect model. Below the latter nothing is
        proved.
    """
    table = reliability(probabilities, labels)
    sure = np.sort(checks.plain(probabilities).max(axis=1))  # as bins lie
    starts = np.append(0, table["n"].cumsum()[:-1])
    rng = checks.rng(0)
    drawn = [expected_calibration_error(table.assign(
        accuracy=np.add.reduceat(rng.random(len(sure)) < sure, starts,
                                 dtype=float) / table["n"]))
             for _ in range(200)]
    return pd.Series({"ece": expected_calibration_error(table),
                      "ece_chance": np.mean(drawn),
                      "ece_chance_95": np.quantile(drawn, 0.95)})


def summary(probabilities: np.ndarray, labels: np.ndarray) -> pd.Series:
    """The numbers of a calibration report: one row of a table.

    Those of :func:`ece`, ``brier``, ``log_loss`` (nats), ``n``.
    """
    return pd.concat([ece(probabilities, labels), pd.Series({
        "brier": brier(probabilities, labels).mean(),
        "log_loss": log_loss(probabilities, labels).mean(),
        "n": len(labels)})])


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
        From 0.05 to 20; above 1 the model was too sure of itself. One
        that runs into either bound comes with a warning.

    Notes
    -----
    Guo et al. (2017): one number, found by the smallest mean log loss. The
    order of the classes never changes, so neither does the accuracy.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    probabilities, labels = _fitting(probabilities, labels)
    logs = np.log(np.maximum(probabilities, FLOOR), dtype=np.float64)
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        scaled = logs * math.exp(-log_t)
        return float((logsumexp(scaled, axis=1) - scaled[rows, labels]).mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(_ENDS)),
                            method="bounded", options={"xatol": 1e-4})
    found = math.exp(found.x)
    if min(abs(math.log(found / end)) for end in _ENDS) < 0.01:
        warnings.warn(
            f"the temperature ran into its bound of {found:.3g} on these "
            f"{len(labels)} samples. " + (
                "Do answers and labels belong together?" if found > 1 else
                "All are right: calibrate on others, and on more of them."),
            stacklevel=2)
    return found


def soften(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities at a temperature: (N, K) of the same dtype.

    ``p ** (1 / temperature)``, made to sum to one again: what dividing the
    logits does, without need of them.
    """
    from scipy.special import softmax

    checks.number(temperature, name="temperature", low=1e-6)
    values = checks.probabilities(probabilities)
    logs = np.log(np.maximum(values, FLOOR), dtype=np.float64) / temperature
    return softmax(logs, axis=1).astype(values.dtype, copy=False)


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
    checks.number(coverage, name="coverage", low=1e-6, high=1 - 1e-6)
    probabilities, labels = _fitting(probabilities, labels)
    right, k = _right(probabilities, labels), probabilities.shape[1]
    groups = np.zeros(k, int) if groups is None else checks.one_each(
        groups, k, where="groups")
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

    Parameters
    ----------
    probabilities : (N, K) float
        Made as those that ``least`` comes from: same model, same
        temperature.
    least : (K,) float
        From :func:`conformal`.

    A set may be empty: then the sample looks like nothing of the
    calibration part.
    """
    values = checks.probabilities(probabilities)
    least = checks.shares(checks.aligned(least, where="least")[None],
                          where="least", k=values.shape[1])
    checks.number(least.max(), name="the largest of least", high=1.001)
    return values >= least


def coverage_table(sets: np.ndarray, labels: np.ndarray,
                   groups: np.ndarray | None = None) -> pd.DataFrame:
    """Kept promises and size of sets, overall and by group of samples.

    Returns
    -------
    DataFrame
        Rows ``all`` and each of ``groups`` (N,); columns ``coverage``,
        mean ``size``, share ``empty``, ``n``.
    """
    sets = checks.plain(sets, "sets")
    if sets.ndim != 2 or sets.dtype != bool:
        raise ValueError(f"sets are {sets.dtype} of shape {sets.shape}, "
                         "expected bool of (samples, classes): see "
                         "prediction_sets.")
    labels = checks.one_each(checks.labels(labels, sets.shape[1]),
                             len(sets), where="labels")
    size = sets.sum(axis=1)
    rows = pd.DataFrame({"coverage": sets[np.arange(len(labels)), labels],
                         "size": size, "empty": size == 0}).astype(float)
    parts = {"all": rows}
    if groups is not None:
        parts |= {name: part for name, part
                  in rows.groupby(checks.one_each(
                      pd.Series(groups).fillna("unknown"), len(rows),
                      where="groups").astype(str))}
    return pd.DataFrame({name: part.mean() for name, part in parts.items()}
                        ).T.assign(n=[len(part) for part in parts.values()])


def _fitting(probabilities, labels) -> tuple[np.ndarray, np.ndarray]:
    checks.one_order(probabilities=probabilities, labels=labels)
    values = checks.probabilities(probabilities)
    return values, checks.one_each(checks.labels(
        labels, values.shape[1]), len(values), where="labels")


def _right(probabilities, labels) -> np.ndarray:
    values, labels = _fitting(probabilities, labels)
    return values[np.arange(len(labels)), labels].astype(np.float64)
