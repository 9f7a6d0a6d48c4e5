"""Presence scored: are sites with a species above those without it?

For surveys that looked for every species at every site. Models of presence
are in :mod:`geotree.presence`; explained in chapter 04.
"""

import numpy as np
import pandas as pd

from geotree import checks
from geotree.evaluation import bootstrap


def score(suitability: np.ndarray, present, *, blocks=None,
          draws: int = 200, seed: int = 0) -> pd.DataFrame:
    """How well each species is told from its absence.

    Parameters
    ----------
    suitability : (N, S) float
        Higher is likelier; only the order of sites counts.
    present : (N, S) 0/1 or bool, DataFrame or array
        What the survey found. Names of columns are those of the species.
    blocks : (N,) int, optional
        Units of the bootstrap, e.g. :func:`squares`; default: sites.
    draws : int

    Returns
    -------
    DataFrame
        A row for each species and one for their ``mean``: ``auc`` with its
        95 % interval ``low, high``, ``average_precision`` (of a guess:
        ``prevalence``), ``boyce`` (-1 to 1, see :func:`boyce`),
        ``prevalence``, ``n``. Species that are at every site or at none
        are left out; ``attrs["left_out"]`` names them.
    """
    from sklearn.metrics import average_precision_score

    values, truth, names, left = _checked(suitability, present)
    aucs, ends = _aucs([values], truth, blocks, draws, seed)
    pairs = list(zip(values.T, truth.T, strict=True))
    table = pd.DataFrame({
        "auc": aucs[0], "low": ends[0, :-1], "high": ends[1, :-1],
        "average_precision": [average_precision_score(y, s)
                              for s, y in pairs],
        "boyce": [boyce(s, y) for s, y in pairs],
        "prevalence": truth.mean(axis=0)}, index=names)
    table.loc["mean"] = table.mean()
    table.loc["mean", ["low", "high"]] = ends[:, -1]
    table["n"] = len(truth)
    table.attrs["left_out"] = left
    return table.rename_axis("species")


def compare(first: np.ndarray, second: np.ndarray, present, *,
            blocks=None, draws: int = 200, seed: int = 0) -> pd.Series:
    """Paired difference of two models in mean AUC, first − second.

    Returns
    -------
    Series
        ``difference``, ``low``, ``high`` (95 %), ``species``, ``n``.
    """
    one, truth, names, _ = _checked(first, present)
    other, *_ = _checked(second, present)
    aucs, ends = _aucs([one, other], truth, blocks, draws, seed)
    return pd.Series({"difference": (aucs[0] - aucs[1]).mean(),
                      "low": ends[0, -1], "high": ends[1, -1],
                      "species": len(names), "n": len(truth)})


def boyce(suitability: np.ndarray, present: np.ndarray) -> float:
    """Whether presences grow steadily more frequent with suitability.

    Rank correlation between suitability and the share of presences, in
    windows that hold a tenth of the sites each; NaN where all windows hold
    the same share.

    Notes
    -----
    Hirzel et al. (2006), with windows of equal size instead of equal width,
    so that the scale of the suitability has no influence.
    """
    from scipy.stats import rankdata, spearmanr

    present = checks.one_each(present, np.size(present), where="present")
    if not present.size or not np.isin(present, (0, 1)).all():
        raise ValueError("present is empty, or neither 0 nor 1 somewhere.")
    suitability = checks.one_each(suitability, present.size,
                                  where="suitability")
    # Sites of one suitability have no order, whatever row each is in.
    shares = pd.Series(present.astype(float)).groupby(suitability)
    ordered = shares.transform("mean").to_numpy()[np.argsort(suitability)]
    total = np.append(0, ordered.cumsum())
    width = max(1, len(ordered) // 10)
    starts = np.unique(np.linspace(0, len(ordered) - width, 101).astype(int))
    share = (total[starts + width] - total[starts]).round(9)
    if np.ptp(share) == 0:
        return float("nan")
    return float(spearmanr(rankdata(starts), share).statistic)


def squares(x, y, *, side: float) -> np.ndarray:
    """Number of the square of each site on a flat map: (N,) int64.

    Parameters
    ----------
    x, y : (N,) float
        In the unit of ``side``, e.g. metres. For degrees see
        ``evaluation.spatial_blocks``.
    """
    checks.number(side, name="side", low=1e-9)
    x = checks.plain(x, "x")
    cells = np.floor(np.column_stack([
        checks.one_each(one, x.size, where="x or y") for one in (x, y)
    ]).astype(float) / side)
    return np.unique(cells, axis=0, return_inverse=True)[1].ravel()


def _checked(suitability, present):
    values = checks.plain(suitability, "suitability").astype(float)
    truth = checks.plain(present, "present")
    if values.ndim != 2 or values.shape != truth.shape:
        raise ValueError(f"suitability has shape {values.shape} and present "
                         f"{truth.shape}, expected (sites, species) for both.")
    names = np.asarray(getattr(present, "columns", range(truth.shape[1])))
    if list(getattr(suitability, "columns", names)) != list(names):
        raise ValueError("suitability and present have other columns, or "
                         "the same in another order.")
    if isinstance(present, pd.DataFrame):
        checks.aligned(suitability, present.index, where="suitability")
    bad = ~np.isfinite(values).all(axis=1) | ~np.isin(truth, (0, 1)).all(
        axis=1)
    checks.refuse(bad, "sites have a suitability that is no number, or a "
                  "presence that is neither 0 nor 1")
    some = np.ptp(truth.astype(np.int8), axis=0) > 0
    if not some.any():
        raise ValueError(f"none of the {len(names)} species has both "
                         "presences and absences: nothing to score.")
    return (values[:, some], truth[:, some].astype(bool), names[some],
            names[~some].tolist())


def _aucs(models, truth, blocks, draws, seed):
    """AUC of each model and species, and 95 % intervals of the last
    difference (or value): by species, then of their mean."""
    unit = bootstrap.units(blocks, len(truth))
    number = np.bincount(unit)
    found = []  # (models, 1 + draws, species)
    for values in models:
        weights = bootstrap.weights(len(number), draws, seed, cells=5_000_000
                                    * len(number) // len(truth))
        found.append(np.concatenate([np.column_stack([
            _auc(s, y, weight[:, unit]) for s, y in zip(
                values.T, truth.T, strict=True)]) for weight in weights]))
    gap = found[0] if len(found) == 1 else found[0] - found[1]
    with np.errstate(invalid="ignore"):
        gap = np.column_stack([gap, np.nanmean(gap, axis=1)])
    effective = number.sum() ** 2 / (number ** 2).sum()
    ends = bootstrap.interval(gap, np.full(gap.shape[1], effective),
                              limits=(1 - len(found), 1))
    return [one[0] for one in found], ends


def _auc(score, present, weight) -> np.ndarray:
    """Area under the ROC curve of each draw: (draws,); ties count half."""
    order = np.argsort(score)
    score, present = score[order], present[order]
    weight = weight[:, order]  # (draws, N)
    below = np.pad((weight * ~present).cumsum(axis=1), ((0, 0), (1, 0)))
    first, last = (np.searchsorted(score, score[present], side=side)
                   for side in ("left", "right"))
    with np.errstate(invalid="ignore", divide="ignore"):
        beaten = (below[:, first] + below[:, last]) / 2  # (draws, presences)
        mass = weight[:, present]
        return (mass * beaten).sum(axis=1) / (mass.sum(axis=1) * below[:, -1])
