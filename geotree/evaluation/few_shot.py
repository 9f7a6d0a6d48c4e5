"""Few shots: what one or three records of a new species can teach.

The mean of the support records is a prototype; gradient steps on them are
the alternative. Explained in chapter 07.
"""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd

from geotree import checks
from geotree.shards import Batch


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


def fine_tune(model, support: Batch, classes: pd.DataFrame, *,
              steps: int = 40, learning_rate: float = 3e-4, seed: int = 0):
    """Train a copy of a model on a few labelled samples.

    It starts from what the model knows of each name. Every step sees all
    of the support.

    Parameters
    ----------
    support : Batch
        A few samples per class.
    classes : DataFrame
        Class table of ``support.labels``.
    seed : int
        Of dropout; the caller's random state is left alone.

    Returns
    -------
    CompactClip
        A copy in eval mode; the given model is not touched.
    """
    import torch
    import torch.nn.functional as F

    labels = checks.labels(support.labels, len(classes),
                           where="labels of the support")
    tuned = copy.deepcopy(model).train()
    optimizer = torch.optim.AdamW(tuned.parameters(), lr=learning_rate,
                                  weight_decay=0.01)
    target = torch.as_tensor(labels, device=tuned.device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for _ in range(steps):
            logits = tuned(support.images, support.environment, classes)
            loss = F.cross_entropy(logits.float(), target,
                                   label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
            optimizer.step()
    return tuned.eval()
