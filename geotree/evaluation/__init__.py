"""Evaluation: predictions, and scores by rank with intervals.

Every sample is scored, alone: no result depends on the batch it came in.
Intervals come from resampling blocks of the globe, because neighbours are
no independent witnesses. Explained in chapters 06 and 07.
"""

import numpy as np
import pandas as pd

from geotree import checks, globe, taxonomy
from geotree.evaluation import bootstrap, metrics
from geotree.evaluation.metrics import hits
from geotree.evaluation.predictions import (
    class_means,
    embed,
    likeliest,
    nearest_mean,
    predict,
    predict_batches,
)
from geotree.taxonomy import RANKS

__all__ = ["class_means", "compare", "embed", "hits", "leaderboard",
           "likeliest", "mean", "nearest_mean", "predict",
           "predict_batches", "score", "spatial_blocks"]


def score(probabilities, labels: np.ndarray, classes: pd.DataFrame, *,
          ranks=RANKS, groups=None, blocks=None, draws: int = 500,
          seed: int = 0) -> pd.DataFrame:
    """Scores at each rank, with 95 % intervals.

    Parameters
    ----------
    probabilities : (N, K) float, or an iterable of batches of it
        Rows sum to one; coarser ranks are summed, never read off species.
    groups : (N,) str or DataFrame of N rows, optional
        Score each group too, e.g. rarity; each column is a way to group.
    blocks : (N,) int, optional
        Units of the bootstrap, e.g. :func:`spatial_blocks`; default: rows,
        which is too narrow where records are clustered.

    Returns
    -------
    DataFrame
        One row per rank, group and metric: ``value``, ``low``, ``high``
        (shares), ``n``; ``by`` names the way of grouping. Metrics: ``top1``,
        ``top5`` of more than five names, ``mrr`` (mean of 1 / position),
        ``macro_top1`` and ``macro_f1``, means over the names that occur. No
        interval (NaN) where all records lie in one block.
    """
    checks.one_order(probabilities=probabilities, labels=labels,
                     groups=groups, blocks=blocks)
    taxonomy.check(classes)
    labels = checks.labels(labels, len(classes))
    ranks = [ranks] if isinstance(ranks, str) else ranks
    outcomes = _outcomes(probabilities, labels, classes, ranks)
    subsets = _subsets(groups, len(labels))
    units = bootstrap.units(blocks, len(labels))
    parts, found = [], []
    for rank, (target, answer, position) in outcomes.items():
        value = {"top1": position <= 1, "top5": position <= 5,
                 "mrr": 1 / position}
        if classes[str(rank)].nunique() <= 5:
            del value["top5"]
        for (by, name), rows in subsets.items():
            part = bootstrap.Sums(
                {metric: column[rows] for metric, column in value.items()},
                target[rows], answer[rows], units[rows], units.max() + 1)
            found += [(str(rank), metric, by, name, int(rows.sum()),
                       part.effective, part.missed * (metric not in value))
                      for metric in (*value, "macro_top1", "macro_f1")]
            parts.append(part)
    values = np.concatenate([
        np.column_stack([part.values(weight) for part in parts])
        for weight in bootstrap.weights(units.max() + 1, draws, seed)])
    columns = ["rank", "metric", "by", "group", "value", "low", "high", "n"]
    table = pd.DataFrame(found, columns=[*columns[:4], "n", "effective",
                                         "missed"]).assign(value=values[0])
    table["low"], table["high"] = bootstrap.interval(
        values, *table[["effective", "missed"]].to_numpy().T)
    return table[columns]


def _outcomes(probabilities, labels, classes, ranks) -> dict:
    """Right name, likeliest name and place of the right one at each rank.

    Of all samples, from one array or batches; a place is infinite where the
    right name has a probability of zero.
    """
    n, done = len(labels), 0
    groups = {rank: taxonomy.members(classes, rank)[1] for rank in ranks}
    if not groups:
        raise ValueError(f"no rank to score: name some of {', '.join(RANKS)}.")
    # Filled in place: small arrays kept one by one would scatter the heap.
    found = {rank: (group[labels], np.empty(n, np.int64), np.empty(n))
             for rank, group in groups.items()}
    # Whole lineages are summed first: they are far fewer than species.
    above = [rank for rank in groups if rank != RANKS[-1]]
    if above:
        lines, line = np.unique([groups[rank] for rank in above], axis=1,
                                return_inverse=True)
        groups |= zip(above, lines, strict=True)
    if hasattr(probabilities, "shape") or not np.iterable(probabilities):
        whole = checks.probabilities(probabilities, k=len(classes), n=n)
        size = metrics.rows_at_once(len(classes))
        probabilities = (whole[start:start + size]
                         for start in range(0, n, size))
    for batch in probabilities:
        batch = checks.probabilities(batch, k=len(classes), first=done)
        rows = slice(done, done := done + len(batch))
        if done > n:
            break
        lineages = taxonomy.sum_groups(batch, line) if above else None
        for rank, (target, answer, position) in found.items():
            summed = taxonomy.sum_groups(lineages if rank in above else batch,
                                         groups[rank])
            answer[rows] = summed.argmax(axis=1)
            position[rows] = metrics.positions(summed, target[rows])
    if done != n:
        more = "or more " if done > n else ""
        raise ValueError(f"probabilities of {done} {more}samples, but {n} "
                         "labels.")
    return found


def _subsets(groups, n: int) -> dict:
    """Rows of each (way of grouping, group), all rows first."""
    subsets = {("all", "all"): np.ones(n, bool)}
    if groups is None:
        return subsets
    if not isinstance(groups, pd.DataFrame):
        groups = {getattr(groups, "name", None) or "group": groups}
    for by, column in groups.items():
        column = checks.one_each(pd.Series(column).fillna("unknown"), n,
                                 where="groups").astype(str)
        subsets |= {(by, name): column == name for name in np.unique(column)}
    return subsets


def compare(first: np.ndarray, second: np.ndarray, labels: np.ndarray, *,
            blocks=None, draws: int = 1000, seed: int = 0) -> pd.Series:
    """Paired difference of two models in top-1, first − second.

    Parameters
    ----------
    first, second : (N, K) float
        Probabilities of two models for the same samples; roll both up for
        a coarser rank.
    blocks : (N,) int, optional
        As in :func:`score`.

    Returns
    -------
    Series
        ``difference``, ``low``, ``high`` (95 %), ``n``.
    """
    if np.shape(first) != np.shape(second):
        raise ValueError(f"two answers of shapes {np.shape(first)} and "
                         f"{np.shape(second)}: score both on the same "
                         "samples and classes.")
    checks.one_order(first=first, second=second, labels=labels, blocks=blocks)
    labels = checks.plain(labels, "labels")
    difference, other = (
        metrics.hits(checks.probabilities(one), labels).astype(float)
        for one in (first, second))
    found = mean(difference - other, blocks=blocks, limits=(-1, 1),
                 draws=draws, seed=seed)
    return found.rename({"value": "difference"})


def mean(values: np.ndarray, *, blocks=None,
         limits: tuple[float, float] = (0, 1), draws: int = 1000,
         seed: int = 0) -> pd.Series:
    """The mean of any number of each record, with its interval.

    Parameters
    ----------
    values : (N,) float or bool
        E.g. what was right, was kept, or the difference of two log losses.
    blocks : (N,) int, optional
        As in :func:`score`.
    limits : (lowest, highest)
        Values that there can be: infinite, where there are no bounds.

    Returns
    -------
    Series
        ``value``, ``low``, ``high`` (95 %), ``n``; a ``ValueError`` where a
        value is missing, or none is given.
    """
    checks.one_order(values=values, blocks=blocks)
    values = checks.one_each(values, np.size(values), where="values")
    if not values.size or values.dtype.kind not in "biuf":
        raise ValueError(f"values are {values.size} of type {values.dtype}, "
                         "expected a number for each record.")
    low, high = limits
    checks.refuse(~((low <= values) & (values <= high)),
                  f"values are not from {low} to {high}", "Give limits=…")
    units = bootstrap.units(blocks, len(values))
    none = np.zeros(len(values), int)
    sums = bootstrap.Sums({"mean": values}, none, none, units,
                          units.max() + 1)
    drawn = np.concatenate([sums.values(weight)[:, 0] for weight in
                            bootstrap.weights(sums.size, draws, seed)])
    low, high = bootstrap.interval(drawn[:, None], np.array([sums.effective]),
                                   limits=limits)[:, 0]
    return pd.Series({"value": drawn[0], "low": low, "high": high,
                      "n": len(values)})


def leaderboard(answers: dict[str, np.ndarray], labels: np.ndarray,
                classes: pd.DataFrame, *, reference: str,
                blocks=None, optimum: np.ndarray | None = None,
                rank: str = "species", draws: int = 500) -> pd.DataFrame:
    """All models in one table, each beside what it has to beat.

    Parameters
    ----------
    answers : dict of (N, K) float
        Probabilities by the name of the model.
    reference : str
        The model to beat, e.g. ``baselines.best_without_pixels(…)``.
    optimum : (N, K) float, optional
        The Bayes posterior, where it is known.

    Returns
    -------
    DataFrame
        One row per model: ``model, value, low, high`` (top-1), ``top5,
        macro_top1, macro_f1, mrr, adds, adds_low, adds_high`` (paired
        difference to the reference), ``of_optimum`` (share of its top-1),
        ``n``.
    """
    checks.one_of(reference, checks.by_name(answers, "answers"),
                  name="reference")
    target = taxonomy.roll_up_labels(labels, classes, rank)
    rolled = {name: taxonomy.roll_up(answer, classes, rank)[0]
              for name, answer in answers.items()}
    best = np.nan if optimum is None else metrics.hits(
        taxonomy.roll_up(optimum, classes, rank)[0], target).mean()
    rows = []
    for name, answer in answers.items():
        table = score(answer, labels, classes, ranks=[rank], blocks=blocks,
                      draws=draws).set_index("metric")
        gain = compare(rolled[name], rolled[reference], target,
                       blocks=blocks, draws=draws)
        rows.append({
            "model": name, **table.loc["top1", ["value", "low", "high"]],
            **table["value"].drop("top1"), "adds": gain["difference"],
            "adds_low": gain["low"], "adds_high": gain["high"],
            "of_optimum": table.loc["top1", "value"] / best,
            "n": len(labels)})
    return pd.DataFrame(rows)


def spatial_blocks(table: pd.DataFrame, degrees: float = 5.0) -> np.ndarray:
    """Units of the bootstrap: blocks of the globe, (N,) int64."""
    lat, lon = globe.places_of(table)
    return globe.blocks(lat=lat, lon=lon, degrees=degrees)
