"""Baselines: what can be had without a deep model, or without pixels.

Each gives class probabilities, so that one call scores them all, and says
what it reads: nothing, place, environment or pixels. A claim of skill from
pixels has to beat all those that read none. Used in chapters 04.1 and 06.
"""

import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd

from geotree import checks, globe, place
from geotree.evaluation import metrics, predictions
from geotree.shards import Batch, Shards
from geotree.splits import check_shared
from geotree.variables import VARIABLE_NAMES, ndvi, reflectance

_PLACE = [VARIABLE_NAMES.index(name) for name in ("longitude", "latitude")]
# Name of each baseline: what it reads. The order is that of the tables.
READS = {
    "most frequent": (), "frequency by country": ("place",),
    "nearest places": ("place",), "kernel of places": ("place",),
    "trees of places": ("place",), "network of places": ("place",),
    "forest, environment": ("environment",),
    "forest, place + environment": ("place", "environment"),
    "forest, pixels": ("pixels",),
    "forest, all": ("place", "environment", "pixels"),
    "boosting, place + environment": ("place", "environment"),
    "boosting, pixels": ("pixels",),
    "boosting, all": ("place", "environment", "pixels"),
    "CLIP": ("pixels",), "RemoteCLIP": ("pixels",),
}
_WEIGHTS = ("CLIP", "RemoteCLIP")  # models that someone else has trained
_SMALL = 20_000  # samples: threads would wait for each other longer than work
TRAINED = tuple(name for name in READS if name not in _WEIGHTS)


def majority(labels: np.ndarray, n: int, k: int) -> np.ndarray:
    """The frequencies of the training labels, for every sample: (n, k)."""
    labels = checks.labels(labels, k)
    checks.number(n, name="n", low=0, high=10**10 // k, whole=True)
    share = np.bincount(labels, minlength=k) / len(labels)
    return np.tile(share.astype(np.float32), (n, 1))


def by_country(train: pd.DataFrame, test: pd.DataFrame,
               classes: pd.DataFrame) -> np.ndarray:
    """Frequency of each species in the country of each test record.

    Each country is given one record's worth of the frequencies of the whole
    table; one without records has nothing else.

    Parameters
    ----------
    train, test : DataFrame
        Occurrence tables of N and M rows.
    classes : DataFrame of K rows

    Returns
    -------
    (M, K) float32
    """
    checks.columns(train, ["species", "countryCode"], where="train")
    checks.columns(test, ["countryCode"], where="test")
    checks.columns(classes, ["species"], where="class table")
    counts = pd.crosstab(globe.codes(train["countryCode"], "train"),
                         train["species"].to_numpy()).reindex(
        index=globe.codes(test["countryCode"], "test"),
        columns=classes["species"], fill_value=0).to_numpy(np.float64)
    usual = train["species"].value_counts(normalize=True).reindex(
        classes["species"], fill_value=0).to_numpy()
    if not usual.any():
        raise ValueError("none of the training records is of a species of "
                         "the class table.")
    counts = counts + usual
    return (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)


def statistics(batch: Batch) -> np.ndarray:
    """A year of the inner 3×3 pixels in numbers.

    Returns
    -------
    (N, 12 + 30) float32
        Monthly NDVI; the median, minimum and maximum over the months of
        each band. NaN where missing.
    """
    predictions.expect_data(batch, Batch, name="batch")
    checks.images(batch.images)
    inner = batch.images[..., 1:4, 1:4]
    with warnings.catch_warnings():  # a month without any pixel is NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        green = np.nanmean(ndvi(inner), axis=(-2, -1))  # (N, T)
        value = np.nanmean(reflectance(inner), axis=(-2, -1))  # (N, T, C)
        year = [f(value, axis=1) for f in (np.nanmedian, np.nanmin, np.nanmax)]
    return np.concatenate([green, *year], axis=1)


def features(batch: Batch, inputs: Iterable[str]) -> np.ndarray:
    """Columns for a tabular model: any of place, environment, pixels.

    Place is longitude and latitude, environment the other 25 variables,
    pixels are :func:`statistics`. Missing values become -9999.
    """
    inputs = set(inputs)
    unknown = inputs - {"place", "environment", "pixels"}
    if unknown or not inputs:
        raise ValueError(f"inputs are {sorted(inputs)}, expected some of "
                         "place, environment and pixels.")
    columns = []
    if "place" in inputs:
        columns.append(batch.environment[:, _PLACE])
    if "environment" in inputs:
        columns.append(np.delete(batch.environment, _PLACE, axis=1))
    if "pixels" in inputs:
        columns.append(statistics(batch))
    return np.nan_to_num(np.concatenate(columns, axis=1), nan=-9999)


def tabular(train: Batch, test: Batch, classes: int, *,
            inputs: Iterable[str] = ("place", "environment", "pixels"),
            boosting: bool = False, size: int | None = None,
            seed: int = 0) -> np.ndarray:
    """A forest of extra trees, or gradient boosting, on :func:`features`.

    Parameters
    ----------
    classes : int
        K; classes that ``train`` lacks get probability zero.
    size : int
        Trees of the forest (default 100), or rounds of boosting (20).

    Returns
    -------
    (M, K) float32
        Rows sum to one.
    """
    from sklearn import ensemble
    from threadpoolctl import threadpool_limits

    for name, batch in (("train", train), ("test", test)):
        predictions.expect_data(batch, Batch, name=name)
    labels = checks.labels(train.labels, classes)
    if boosting:
        # Without the penalty rare classes blow up: worse than guessing.
        model = ensemble.HistGradientBoostingClassifier(
            max_iter=size or 20, max_leaf_nodes=8, learning_rate=0.2,
            l2_regularization=10.0, max_bins=64, early_stopping=False,
            random_state=seed)
    else:
        # As good as a random forest, surer with many columns, a third of it.
        model = ensemble.ExtraTreesClassifier(
            size or 100, min_samples_leaf=3, max_features=0.5,
            n_jobs=-1, random_state=seed)
    with threadpool_limits(1 if boosting and len(labels) < _SMALL else None,
                           "openmp"):
        model.fit(features(train, inputs), labels)
    votes = np.zeros((len(test.labels), classes), np.float32)
    votes[:, model.classes_] = model.predict_proba(features(test, inputs))
    return votes


def answers(train: Shards, test: Shards, classes: pd.DataFrame, *,
            names: Iterable[str] = TRAINED, weights: dict | None = None
            ) -> dict[str, np.ndarray]:
    """All baselines in one call.

    Parameters
    ----------
    train, test : Shards
        Of species that are among ``classes``.
    classes : DataFrame of K rows
        Class table to answer in, which may be another than the shards'.
    names : iterable of str
        Keys of ``READS``; default ``TRAINED``, all that need no weights.
    weights : dict, optional
        Where ``"CLIP"`` and ``"RemoteCLIP"`` lie: a folder or hub id of
        transformers, a file of open_clip, or a model made from either; see
        ``models.clip.load``. They take minutes and join ``names``.

    Returns
    -------
    dict of (M, K) float32
        By name, in the order of ``READS``. See :func:`left_out`.
    """
    from geotree import evaluation, taxonomy

    weights = {name: source for name, source in (weights or {}).items()
               if source}
    names = {*names, *weights}
    if names - set(READS):
        raise ValueError(f"no baseline {', '.join(names - set(READS))}; "
                         f"there are {', '.join(READS)}.")
    lacking = [name for name in _WEIGHTS if name in names - set(weights)]
    if lacking:
        raise ValueError(f"{' and '.join(lacking)} need weights: give "
                         f"weights={{{lacking[0]!r}: a folder, a file or a "
                         "hub id}.")
    taxonomy.check(classes)
    for name, data in (("train", train), ("test", test)):
        predictions.expect_data(data, Shards, name=name)
    rows, asked, k = train.table, test.table, len(classes)
    check_shared(rows, asked, "train", "test")
    pixels = any(READS[name] and READS[name] != ("place",) for name in names)
    one, other = (data.load()._replace(
        labels=taxonomy.labels(data.table, classes))
        if pixels else None for data in (train, test))
    found = {}
    for name in [name for name in READS if name in names]:
        if name == "most frequent":
            labels = taxonomy.labels(rows, classes)
            found[name] = majority(labels, len(asked), k)
        elif name == "frequency by country":
            found[name] = by_country(rows, asked, classes)
        elif name in place.MODELS:
            found[name] = place.MODELS[name](rows).predict(asked, classes)
        elif name in weights:
            from geotree.release import clip

            found[name] = evaluation.predict(clip.load(weights[name]), other,
                                             classes)
        else:
            found[name] = tabular(
                one, other, k, inputs=READS[name],
                boosting=name.startswith("boosting"))
    return found


def left_out(answers: dict[str, np.ndarray]) -> dict[str, str]:
    """Baselines that are not among ``answers``, and why: to be said."""
    return {name: "no weights at hand" if name in _WEIGHTS
            else "not asked for" for name in READS if name not in answers}


def best_without_pixels(answers: dict[str, np.ndarray],
                        labels: np.ndarray) -> str:
    """The baseline of the highest top-1 among those that read no pixel.

    Chosen on the scored samples themselves, in favour of the baselines:
    what pixels are said to add is then said with caution.
    """
    able = [name for name in checks.by_name(answers, "answers")
            if name in READS and "pixels" not in READS[name]]
    if not able:
        raise ValueError("no baseline without pixels among "
                         f"{', '.join(answers)}: see baselines.answers.")
    return max(able, key=lambda name: metrics.hits(answers[name],
                                                   labels).mean())
