"""Few shots: what one or three records of a new species can teach.

The mean of the support records is a prototype. Gradient steps on them are
the alternative: ``training.fit``, as for many. Explained in chapter 07.
"""

from __future__ import annotations

import numpy as np

from geotree import checks


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
    features, labels = np.asarray(features), checks.labels(labels, k)
    if features.ndim != 2 or len(features) != len(labels):
        raise ValueError(f"features have shape {features.shape}, expected "
                         f"one row for each of the {len(labels)} labels.")
    sums = np.zeros((k, features.shape[1]))
    np.add.at(sums, labels, features)
    if names is not None:
        sums += np.asarray(names)
    elif (empty := np.flatnonzero(np.bincount(labels, minlength=k) == 0)
          ).size:
        raise ValueError(
            f"{empty.size} of {k} classes have no support sample, the first "
            f"is class {empty[0]}. Leave them out of the class table, or "
            "give the features of their names.")
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def nearest_mean(features: np.ndarray, means: np.ndarray, *,
                 scale: float = 20.0) -> np.ndarray:
    """Probabilities from the cosine to each prototype.

    Parameters
    ----------
    features : (N, D) float, of length 1
    means : (K, D) float, of length 1
        From :func:`class_means`.
    scale : float
        Factor of the cosines; sets the confidence, never the order.

    Returns
    -------
    (N, K) float
        Rows sum to one.
    """
    from scipy.special import softmax

    logits = scale * np.asarray(features) @ np.asarray(means).T
    return softmax(logits, axis=1)
