"""Baselines: what can be had without a deep model, or without pixels.

Each returns class probabilities, so that one call scores them all. A claim
of skill has to beat them. Used in chapters 04, 06 and 07.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from geotree import splits
from geotree.shards import Batch
from geotree.variables import VARIABLES, check_images, ndvi, reflectance

_CHUNK = 4096  # query rows voted on at once


def majority(labels: np.ndarray, n: int, k: int) -> np.ndarray:
    """The frequencies of the training labels, for every sample: (n, k)."""
    share = np.bincount(_checked(labels, k), minlength=k) / len(labels)
    return np.tile(share.astype(np.float32), (n, 1))


def location_knn(train: pd.DataFrame, labels: np.ndarray,
                 test: pd.DataFrame, classes: int, *,
                 neighbours: int = 25) -> np.ndarray:
    """Vote of the nearest training records on the globe; no pixel read.

    Parameters
    ----------
    train, test : DataFrame
        Occurrence tables of N and M rows; only places are used.
    labels : (N,) int
        Classes of the training rows.
    classes : int
        K.
    neighbours : int
        A neighbour at d km votes with weight 1 / d.

    Returns
    -------
    (M, K) float32
        Rows sum to one.
    """
    from sklearn.neighbors import BallTree

    labels = _checked(labels, classes)
    if len(labels) != len(train):
        raise ValueError(f"{len(labels)} labels for {len(train)} training "
                         "rows, expected one each.")
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}, expected 1 or more.")
    tree = BallTree(splits.places(train), metric="haversine")
    places = splits.places(test)
    votes = np.empty((len(test), classes), np.float32)
    for start in range(0, len(test), _CHUNK):
        part = slice(start, start + _CHUNK)
        distance, index = tree.query(places[part],
                                     k=min(neighbours, len(train)))
        weight = 1 / np.maximum(distance * splits.EARTH, 1e-3)  # ≥ 1 m
        cell = (np.arange(len(index))[:, None] * classes + labels[index])
        sums = np.bincount(cell.ravel(), weight.ravel(),
                           len(index) * classes).reshape(-1, classes)
        votes[part] = sums / sums.sum(axis=1, keepdims=True)
    return votes


def folds(table: pd.DataFrame, *, degrees: float | None = None,
          number: int = 5, seed: int = 0) -> np.ndarray:
    """Fold of each row, for a cross-validation.

    Parameters
    ----------
    degrees : float, optional
        Keep latitude–longitude blocks of this side whole and deal them out
        in seeded order. Default: rows by themselves.

    Returns
    -------
    (N,) int64
        0 to ``number`` - 1.

    Notes
    -----
    Large blocks are few and uneven: with 5° the accuracy of the nearest
    neighbours differs by some 0.7 points (one standard deviation) between
    seeds, on the release's table of 90 species.
    """
    unit = (np.arange(len(table)) if degrees is None
            else splits.blocks(table, degrees))
    units = int(unit.max(initial=-1)) + 1
    if not 2 <= number <= units:
        raise ValueError(f"number is {number}, expected 2 to {units}, the "
                         "count of rows or blocks to deal out.")
    return np.random.default_rng(seed).permutation(units)[unit] % number


def location_knn_folds(table: pd.DataFrame, labels: np.ndarray,
                       classes: int, fold: np.ndarray, *,
                       neighbours: int = 25) -> np.ndarray:
    """:func:`location_knn` of each fold from the other folds: (N, K).

    Examples
    --------
    >>> fold = folds(table, degrees=1)
    >>> votes = location_knn_folds(table, labels, k, fold)
    """
    votes = np.empty((len(table), classes), np.float32)
    for number in np.unique(fold):
        test = fold == number
        votes[test] = location_knn(table[~test], labels[~test],
                                   table[test], classes,
                                   neighbours=neighbours)
    return votes


def statistics(batch: Batch) -> np.ndarray:
    """The 27 variables, and a year of the inner 3×3 pixels in numbers.

    Returns
    -------
    (N, 27 + 12 + 30) float32
        Variables; monthly NDVI; the median, minimum and maximum over the
        months of each band. NaN where missing.
    """
    check_images(batch.images)
    inner = batch.images[..., 1:4, 1:4]
    with warnings.catch_warnings():  # a month without any pixel is NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        green = np.nanmean(ndvi(inner), axis=(-2, -1))  # (N, T)
        value = np.nanmean(reflectance(inner), axis=(-2, -1))  # (N, T, C)
        year = [f(value, axis=1) for f in (np.nanmedian, np.nanmin,
                                           np.nanmax)]
    return np.concatenate([batch.environment, green, *year], axis=1)


def random_forest(train: Batch, test: Batch, classes: int, *,
                  trees: int = 150, seed: int = 0,
                  pixels: bool = True) -> np.ndarray:
    """A random forest on variables and monthly statistics.

    Parameters
    ----------
    classes : int
        K; classes that ``train`` lacks get probability zero.
    pixels : bool
        False: the 27 variables alone, to see what pixels add.

    Returns
    -------
    (M, K) float32
        Rows sum to one.
    """
    from sklearn.ensemble import RandomForestClassifier

    labels = _checked(train.labels, classes)
    x, y = (np.nan_to_num(statistics(batch), nan=-9999)
            for batch in (train, test))
    if not pixels:
        x, y = x[:, :len(VARIABLES)], y[:, :len(VARIABLES)]
    forest = RandomForestClassifier(
        trees, min_samples_leaf=2, max_features="sqrt", n_jobs=-1,
        random_state=seed)
    forest.fit(x, labels)
    votes = np.zeros((len(y), classes), np.float32)
    votes[:, forest.classes_] = forest.predict_proba(y)
    return votes


def _checked(labels, k: int) -> np.ndarray:
    labels = np.asarray(labels)
    if not labels.size:
        raise ValueError("no training labels: nothing to learn from.")
    if labels.min() < 0 or labels.max() >= k:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()},"
                         f" expected 0 to {k - 1}. Were they made with "
                         "another class table?")
    return labels
