"""Baselines: what can be had without a deep model, or without pixels.

Each returns class probabilities, so that one call scores them all. A claim
of skill has to beat them. Used in chapter 06.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from geotree import splits
from geotree.shards import Batch
from geotree.variables import BAND_NAMES, check_images, ndvi, reflectance


def majority(labels: np.ndarray, n: int, k: int) -> np.ndarray:
    """The frequencies of the training labels, for every sample: (n, k)."""
    share = np.bincount(labels, minlength=k) / len(labels)
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

    tree = BallTree(splits.places(train), metric="haversine")
    distance, index = tree.query(splits.places(test),
                                 k=min(neighbours, len(train)))
    weight = 1 / np.maximum(distance * splits.EARTH, 1e-3)  # 1 m at least
    votes = np.zeros((len(test), classes))
    rows = np.repeat(np.arange(len(test)), index.shape[1])
    np.add.at(votes, (rows, np.asarray(labels)[index].ravel()),
              weight.ravel())
    return (votes / votes.sum(axis=1, keepdims=True)).astype(np.float32)


def statistics(batch: Batch) -> np.ndarray:
    """The 27 variables and what a year looks like in the centre pixel.

    Returns
    -------
    (N, 27 + 12 + 30) float32
        Variables, monthly NDVI, and for each band the median, minimum and
        maximum over the months; NaN where missing.
    """
    check_images(batch.images)
    centre = batch.images[..., 1:4, 1:4]
    with np.errstate(all="ignore"):
        green = np.nanmean(ndvi(centre), axis=(-2, -1))  # (N, T)
        value = np.nanmean(reflectance(centre), axis=(-2, -1))  # (N, T, C)
        year = [f(value, axis=1) for f in (np.nanmedian, np.nanmin,
                                           np.nanmax)]
    return np.concatenate([batch.environment, green, *year], axis=1)


def random_forest(train: Batch, test: Batch, classes: int, *,
                  trees: int = 150, seed: int = 0,
                  pixels: bool = True) -> np.ndarray:
    """A random forest on variables and monthly statistics.

    Parameters
    ----------
    pixels : bool
        False: the 27 variables alone, to see what pixels add.

    Returns
    -------
    (M, K) float32
        Rows sum to one.
    """
    from sklearn.ensemble import RandomForestClassifier

    with np.errstate(all="ignore"):
        wide = 27 + (12 + 3 * len(BAND_NAMES) if pixels else 0)
        x, y = (_quiet(batch)[:, :wide] for batch in (train, test))
    forest = RandomForestClassifier(
        trees, min_samples_leaf=2, max_features="sqrt", n_jobs=-1,
        random_state=seed)
    forest.fit(np.nan_to_num(x, nan=-9999), train.labels)
    votes = np.zeros((len(y), classes), np.float32)
    votes[:, forest.classes_] = forest.predict_proba(
        np.nan_to_num(y, nan=-9999))
    return votes


def _quiet(batch):
    import warnings

    with warnings.catch_warnings():  # a pixel without any month is NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        return statistics(batch)
