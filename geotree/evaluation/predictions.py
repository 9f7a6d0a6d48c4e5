"""Predictions: what a model says of samples, a chunk of them at a time.

Names are encoded once and each chunk is one matrix product. What is held
never grows with samples × classes, unless :func:`predict` is asked for
just that. Of new species, the mean of a few records is a prototype; gradient
steps on them are ``training.fit``, as on many. Used in chapters 06 and 07.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd

from geotree import checks, taxonomy
from geotree.evaluation.metrics import rows_at_once
from geotree.shards import Batch, Shards, take
from geotree.variables import NODATA


def expect(model) -> None:
    """Raise ``TypeError`` for what is no model: a class, a path, nothing."""
    if isinstance(model, type):
        raise TypeError(f"model is the class {model.__name__}, expected one "
                        f"that was made of it: {model.__name__}(…), or "
                        "models.load.")
    if not hasattr(model, "encode_images"):
        raise TypeError(f"model is {checks.shown(model)}, expected one that "
                        "has encode_images, such as models.load gives.")


def expect_data(data, *kinds: type, name: str = "data") -> None:
    """Raise ``ValueError`` for what are no samples of these classes."""
    checks.instance(data, *kinds, name=name, see=" or ".join(
        one.__name__ for one in kinds) + ": see shards.open and "
        "shards.from_arrays")


@contextmanager
def asked(model):
    """The model as it answers; its mode is put back."""
    import torch

    expect(model)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        model.train(training)


def _features(model, data, size: int):
    """Image features batch by batch; says which samples show nothing."""
    import torch

    if isinstance(data, np.ndarray):  # worked out before
        _finite(data)
        yield torch.as_tensor(data, device=model.scale().device,
                              dtype=torch.float32)
        return
    checks.number(size, name="batch_size", low=1, whole=True)
    expect_data(data, Shards, Batch)
    if not isinstance(data, Shards):
        checks.rows(**data._asdict())
    blank: list = []
    for batch in data.batches(size) if isinstance(data, Shards) else (
            take(data, slice(start, start + size))
            for start in range(0, len(data.labels), size)):
        with asked(model):
            features = model.encode_images(batch.images, batch.environment)
        missing = (batch.images == NODATA).reshape(len(batch.ids), -1).all(1)
        blank += np.asarray(batch.ids)[
            torch.as_tensor(missing).cpu().numpy()].tolist()
        yield features.float()
    if blank:
        warnings.warn(
            f"{len(blank)} samples have no pixel in any month: "
            f"{checks.few(blank)}. They are answered from what else is "
            "known of them.", stacklevel=3)


def _text(model, classes):
    """Features of the names, times the factor of the cosines: (K, D)."""
    taxonomy.check(classes)
    with asked(model):
        return (model.scale() * model.encode_taxa(classes)).float()


def embed(model, data: Shards | Batch, *, batch_size: int = 512) -> np.ndarray:
    """Image features of samples: (N, D) float32, of length 1."""
    parts = [part.cpu().numpy() for part in _features(model, data, batch_size)]
    if not parts:
        raise ValueError("data has no samples: nothing to embed.")
    return np.concatenate(parts)


def predict_batches(model, data: Shards | Batch, classes: pd.DataFrame, *,
                    batch_size: int = 512) -> Iterator[np.ndarray]:
    """:func:`predict`, some rows at a time: many samples, many classes.

    ``data`` may be features that :func:`embed` gave.

    ``evaluation.score`` takes them as they come, so that ten thousand
    samples and twenty thousand classes fit in any memory.

    Yields
    ------
    (B, K) float32
        B is ``batch_size`` at most, less where the classes are many.
    """
    text, rows = _text(model, classes), rows_at_once(len(classes))
    _same_order(getattr(data, "classes", None), classes)
    for features in _features(model, data, batch_size):
        if features.shape[1:] != text.shape[1:]:
            raise ValueError(f"features have {features.shape[1]} columns, "
                             f"this model's {text.shape[1]}: they are of "
                             "another one.")
        for part in features.split(rows):
            yield (part @ text.T).float().softmax(dim=1).cpu().numpy()


def _same_order(own, classes) -> None:
    """Warn where the labels of samples count the same species otherwise."""
    if own is not None and len(own) == len(classes):
        one, other = own["species"].tolist(), classes["species"].tolist()
        if one != other and {*one} == {*other}:
            warnings.warn(
                "classes are those of the samples in another order: their "
                "labels do not fit the columns of the answer. Pass "
                "data.classes, or number anew with taxonomy.labels.",
                stacklevel=4)


def predict(model, data: Shards | Batch, classes: pd.DataFrame, *,
            batch_size: int = 512) -> np.ndarray:
    """Probability of each class for each sample.

    Parameters
    ----------
    model : CompactClip
        Or any with its ``encode_images``, ``encode_taxa`` and ``scale``.
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
    parts = list(predict_batches(model, data, classes, batch_size=batch_size))
    if not parts:
        raise ValueError("data has no samples: nothing to predict.")
    return np.concatenate(parts)


def likeliest(model, data: Shards | Batch, classes: pd.DataFrame,
              k: int = 5, *, batch_size: int = 512
              ) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` likeliest classes of each sample, best first.

    Returns
    -------
    (N, k) int64, (N, k) float32
        Rows of the class table, and their probabilities among all.
    """
    import torch

    taxonomy.check(classes)
    checks.number(k, name="k", low=1, high=len(classes), whole=True)
    expect_data(data, Shards, Batch)
    n = len(data) if isinstance(data, Shards) else len(data.labels)
    if not n:
        raise ValueError("data has no samples: nothing to predict.")
    # Filled in place: small arrays kept one by one would scatter the heap.
    index, odds = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
    done = 0
    for part in predict_batches(model, data, classes, batch_size=batch_size):
        rows = slice(done, done := done + len(part))
        odds[rows], index[rows] = torch.from_numpy(part).topk(k, dim=1)
    return index, odds


# Few shots -----------------------------------------------------------------

def class_means(features: np.ndarray, labels: np.ndarray, k: int, *,
                names: np.ndarray | None = None) -> np.ndarray:
    """Prototype of each class: the mean of its support features.

    Parameters
    ----------
    features : (N, D) float
        Of the support records, of length 1; see ``evaluation.embed``.
    labels : (N,) int
    k : int
        Number of classes, K.
    names : (K, D) float, optional
        Features of the names (``model.encode_taxa``). A name then counts
        as one more record of its class, and classes without any record
        stand on their name alone.

    Returns
    -------
    (K, D) float64, of length 1
    """
    features, labels = _finite(features), checks.labels(labels, k)
    k = int(k)
    if len(features) != len(labels):
        raise ValueError(f"features have shape {features.shape}, expected "
                         f"one row for each of the {len(labels)} labels.")
    sums = np.zeros((k, features.shape[1]))
    np.add.at(sums, labels, features)
    if names is not None:
        sums += _finite(names, shape=sums.shape)
    else:
        checks.refuse(np.bincount(labels, minlength=k) == 0,
                      "classes have no support sample", "Leave them out of "
                      "the class table, or give the features of their names.")
    return _unit(sums)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The directions of some vectors, each of length 1: (N, D)."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1,
                                               keepdims=True), 1e-12)


def _finite(features, shape: tuple | None = None) -> np.ndarray:
    """Features as an array of finite numbers: (N, D)."""
    features = checks.plain(features, "features")
    if (shape or features.shape) != features.shape or features.ndim != 2 or (
            features.dtype.kind not in "fiu"
            or not np.isfinite(features).all()):
        raise ValueError(f"features have shape {features.shape} or are not "
                         f"finite, expected {shape or 'rows of numbers'}.")
    return features


def nearest_mean(features: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Probabilities from the cosine to each prototype.

    Parameters
    ----------
    features : (N, D) float
    means : (K, D) float
        From :func:`class_means`.

    Returns
    -------
    (N, K) float
        Rows sum to one.
    """
    from scipy.special import softmax

    means = _finite(means)
    features = _finite(features, (*np.shape(features)[:1], means.shape[1]))
    if not len(means):
        raise ValueError("means has no rows, expected one for each class.")
    # The factor sets the confidence, never the order.
    return softmax(20.0 * _unit(features) @ _unit(means).T, axis=1)
