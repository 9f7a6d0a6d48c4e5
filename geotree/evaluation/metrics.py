"""What is measured on each sample, before anything is averaged.

Every row is measured by itself, so no number depends on the batch or the
order. Used by ``evaluation`` and ``calibration``, explained in chapter 06.
"""

import numpy as np
import pandas as pd

from geotree import checks, taxonomy

_CELLS = 2_700_000  # probabilities at once: few enough for the cache


def positions(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Place of the right class in the order of the answer: (N,) float.

    1 is the best. Classes of equal probability stand in order of their
    number; a class of probability zero has no place, but infinity.
    """
    checks.one_order(probabilities=probabilities, labels=labels)
    values = checks.shares(probabilities)
    labels = checks.labels(labels, values.shape[1])
    checks.one_each(labels, len(values), where="labels")
    right = values[np.arange(len(labels)), labels][:, None]
    number = np.arange(values.shape[1])
    ahead = (values > right).sum(axis=1) + (
        (values == right) & (number < labels[:, None])).sum(axis=1)
    return np.where(right[:, 0] > 0, ahead + 1.0, np.inf)


def hits(probabilities: np.ndarray, labels: np.ndarray, k: int = 1
         ) -> np.ndarray:
    """Whether the right class is among the ``k`` best: (N,) bool.

    Equal probabilities and probability zero: see :func:`positions`. Rows
    need not sum to one; logits, which may be negative, are refused.
    """
    checks.number(k, name="k", low=1, whole=True)
    return positions(probabilities, labels) <= k


def rows_at_once(k: int) -> int:
    """How many rows of ``k`` classes make a chunk of work."""
    return max(1, int(_CELLS // max(k, 1)))


def deepest(probabilities: np.ndarray, classes: pd.DataFrame, *,
            confidence: float) -> pd.DataFrame:
    """The most exact name that a model is sure enough of.

    Species first, then genus, family and leaf type: the first rank whose
    likeliest name reaches the confidence. Where none does, no answer.

    Parameters
    ----------
    probabilities : (N, K) float
    confidence : float
        Least probability of an answer, 0 to 1.

    Returns
    -------
    DataFrame of N rows
        ``rank`` and ``name`` (missing: no answer), ``confidence``.
    """
    checks.number(confidence, name="confidence", low=0, high=1)
    values = checks.probabilities(probabilities, k=len(classes))
    n = len(values)
    ranks, found = np.full(n, None, object), np.full(n, None, object)
    sure = np.full(n, np.nan)
    for rank in reversed(taxonomy.RANKS):
        summed, names = taxonomy.roll_up(values, classes, rank)
        best = summed.argmax(axis=1)
        highest = summed[np.arange(n), best]
        take = pd.isna(ranks) & (highest >= confidence)
        ranks[take], found[take] = str(rank), names[best[take]]
        sure[take] = highest[take]
    return pd.DataFrame({"rank": ranks, "name": found, "confidence": sure})


def accuracy_coverage(probabilities: np.ndarray, labels: np.ndarray,
                      classes: pd.DataFrame, *,
                      thresholds=None) -> pd.DataFrame:
    """How often :func:`deepest` answers, and is right, by threshold.

    Parameters
    ----------
    thresholds : sequence of float, optional
        Default: 0 to 0.95 in steps of 0.05.

    Returns
    -------
    DataFrame
        One row per threshold: ``coverage`` (share answered), ``accuracy``
        of the answers, and the share answered at each rank.
    """
    labels = checks.labels(labels, len(classes))
    checks.probabilities(probabilities, k=len(classes), n=len(labels))
    truth = {}
    for rank in taxonomy.RANKS:
        names, group = taxonomy.members(classes, rank)
        truth[rank] = names[group[labels]]
    rows = []
    for threshold in np.atleast_1d(np.arange(20) / 20 if thresholds is None
                                   else thresholds):
        answer = deepest(probabilities, classes, confidence=threshold)
        right = np.zeros(len(labels), bool)
        share = {}
        for rank in taxonomy.RANKS:
            at = (answer["rank"] == rank).to_numpy()
            share[str(rank)] = at.mean()
            right[at] = (answer["name"] == truth[rank])[at]
        given = answer["rank"].notna().to_numpy()
        rows.append({"threshold": threshold, "coverage": given.mean(),
                     "accuracy": right[given].mean() if given.any()
                     else np.nan, **share, "n": len(labels)})
    return pd.DataFrame(rows)


def risk_coverage(probabilities: np.ndarray, labels: np.ndarray
                  ) -> pd.DataFrame:
    """The error among the surest samples, as more of them are answered.

    Returns
    -------
    DataFrame
        ``coverage`` (share answered, surest first), ``risk`` (share wrong
        of those) and the ``score``, the highest probability, of the last.
        Equal scores are answered together. ``attrs["area"]``: mean risk over
        all coverages.
    """
    values = checks.probabilities(probabilities)
    wrong = ~hits(values, labels)
    score = values.max(axis=1)
    order = np.argsort(-score, kind="stable")
    count = np.arange(1, len(order) + 1)
    risk = wrong[order].cumsum() / count
    last = np.append(np.diff(score[order]) != 0, True)
    table = pd.DataFrame({"coverage": (count / len(order))[last],
                          "risk": risk[last], "score": score[order][last]})
    widths = np.diff(table["coverage"], prepend=0)
    table.attrs["area"] = float((table["risk"] * widths).sum())
    return table
