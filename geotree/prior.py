"""The range prior: what a place allows, kept apart from what is seen there.

What is seen are pixels, climate, soil and terrain. A model that reads the
place, too, cannot say which convinced it. Two models and one number can:
``log p = log p_seen + a · log p_place``. Explained in chapter 06.
"""

import warnings

import numpy as np
import pandas as pd

from geotree import checks, evaluation, globe, place, taxonomy
from geotree.evaluation import calibration, predictions
from geotree.evaluation.calibration import FLOOR, log_loss
from geotree.shards import Shards

# Of place.MODELS, those that are made anew from any number of records.
QUICK = ("nearest places", "kernel of places")
_MOST = 2  # that a place weighs, against what is seen
_DOUBT = 1e-3  # share of the records that stand outside any known range


def combine(p_seen: np.ndarray, p_place: np.ndarray, weight: float
            ) -> np.ndarray:
    """Weigh what is seen by what the place allows.

    A small even chance is mixed into ``p_place``, so that no species is
    impossible for having no record nearby.

    Parameters
    ----------
    p_seen, p_place : (N, K) float
        Probabilities of one class table; rows sum to one.
    weight : float
        ``a``, 0 or more; 0 gives ``p_seen`` back. See
        :func:`fit_weight`.

    Returns
    -------
    (N, K) of the dtype of ``p_seen``
        Rows sum to one.
    """
    seen = checks.probabilities(p_seen)
    allowed = (1 - _DOUBT) * checks.probabilities(
        p_place, n=len(seen), k=seen.shape[1], where="p_place").astype(float)
    checks.number(weight, name="weight", low=0)
    if weight == 0:
        return seen.copy()
    allowed += _DOUBT / seen.shape[1]
    return _normalised(np.log(np.maximum(seen, FLOOR))
                       + weight * np.log(allowed), seen.dtype)


def fit_weight(p_seen: np.ndarray, p_place: np.ndarray,
               labels: np.ndarray) -> float:
    """The weight of the place that suits a validation part best.

    Parameters
    ----------
    p_seen, p_place : (N, K) float
    labels : (N,) int

    Returns
    -------
    float
        0 to 2, by the smallest mean log loss; 0 where the place does not
        help. One that runs into 2 comes with a warning.
    """
    from scipy.optimize import minimize_scalar

    def loss(weight: float) -> float:
        mixed = combine(p_seen, p_place, weight)
        return float(log_loss(mixed, labels).mean())

    found = minimize_scalar(loss, bounds=(0, _MOST), method="bounded",
                            options={"xatol": 1e-3})
    if found.x > _MOST - 0.01:
        warnings.warn(
            f"the weight of the place ran into its bound of {_MOST} on these "
            f"{len(p_seen)} samples. Was the place learnt from them, or the "
            "model of pixels from none?", stacklevel=2)
    return float(found.x) if found.fun < loss(0.0) else 0.0


def best(p_seen: np.ndarray, p_places: dict[str, np.ndarray],
         labels: np.ndarray) -> tuple[str, float]:
    """Which of several range priors suits a validation part best.

    Parameters
    ----------
    p_seen : (N, K) float
    p_places : dict of (N, K) float
        By name, what each model says of the place.
    labels : (N,) int

    Returns
    -------
    str, float
        Its name, and its weight: the smallest mean log loss when combined.
    """
    if not checks.by_name(p_places, "p_places"):
        raise ValueError("p_places is empty: no range prior to choose.")
    found = {}
    for name, p_place in p_places.items():
        weight = fit_weight(p_seen, p_place, labels)
        loss = log_loss(combine(p_seen, p_place, weight), labels).mean()
        found[name] = loss, weight
    name = min(found, key=found.get)
    return name, found[name][1]


def attach(model, train) -> float:
    """Give a model the range prior of its training records.

    Parameters
    ----------
    model
        Trained by ``training.fit`` with validation samples. Gets
        ``prior``, the places of the training records, and in its card the
        model and weight of the place.
    train : Shards
        As it was trained.

    Returns
    -------
    float
        The weight; see :func:`fit_weight`.
    """
    predictions.expect(model)
    predictions.expect_data(train, Shards, name="train")
    if model.held is None:
        raise ValueError("the model has no validation samples to weigh the "
                         "place by: give training.fit some.")
    odds = calibration.soften(evaluation.predict(
        model, np.stack(model.held["features"]), model.classes),
        model.temperature)
    where = {name: place.MODELS[name](train.table).predict(
        model.held, model.classes) for name in QUICK}
    name, weight = best(odds, where, taxonomy.labels(model.held,
                                                     model.classes))
    model.prior = train.table[["species", "decimalLatitude",
                               "decimalLongitude"]]
    model.card = {**model.card, "prior_model": name, "prior_weight": weight}
    return weight


def adjust(probabilities: np.ndarray, frequency: np.ndarray, *,
           tau: float = 1.0) -> np.ndarray:
    """Take the frequency of the classes out of an answer.

    Divides by ``frequency ** tau``. Frequent species are then no longer
    the better guess for being frequent: accuracy falls, its mean over
    species rises.

    Parameters
    ----------
    probabilities : (N, K) float
    frequency : (K,) float
        Share of the training records; a class without any counts as one
        with the smallest share.
    tau : float
        0: as it is; 1: as if all species were equally frequent.

    Notes
    -----
    Menon et al. (2021), post-hoc logit adjustment.
    """
    values = checks.probabilities(probabilities)
    checks.number(tau, name="tau")
    share = checks.shares(checks.aligned(frequency, where="frequency")[None],
                          where="frequency", k=values.shape[1])[0]
    if not share.any():
        raise ValueError("frequency is 0 for all classes.")
    share = np.maximum(share, share[share > 0].min())
    return _normalised(np.log(np.maximum(values, FLOOR))
                       - tau * np.log(share), values.dtype)


def checklist(table: pd.DataFrame, classes: pd.DataFrame,
              countries: pd.Series | np.ndarray) -> np.ndarray:
    """Which classes have a record in the country of each sample.

    Parameters
    ----------
    table : DataFrame
        Records that make the list, the training part.
    classes : DataFrame of K rows
    countries : (N,) str
        Of the samples to answer for. One without any record allows all
        classes: nothing is known.

    Returns
    -------
    (N, K) bool
    """
    checks.columns(table, ["species", "countryCode"])
    known = table[taxonomy.find(table["species"], classes) >= 0]
    if known.empty:
        raise ValueError(f"none of the {len(table)} records is of a species "
                         "of the class table: a list of nothing.")
    lists = pd.crosstab(globe.codes(known["countryCode"], "table"),
                        known["species"].to_numpy()).reindex(
        columns=classes["species"], fill_value=0) > 0
    return lists.reindex(globe.codes(countries), fill_value=True
                         ).to_numpy(bool)


def restrict(probabilities: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Keep to a list of species; the rest of the probability is shared out.

    Parameters
    ----------
    probabilities : (N, K) float
    allowed : (K,) or (N, K) bool
        From :func:`checklist`, or one list for all samples.

    Raises
    ------
    ValueError
        A list allows nothing that its sample has a probability for.
    """
    values = checks.probabilities(probabilities)
    allowed = checks.aligned(allowed, where="allowed")
    if allowed.dtype != bool or allowed.shape not in (
            values.shape, values.shape[1:]):
        raise ValueError(f"allowed is {allowed.dtype} of shape "
                         f"{allowed.shape}, expected bool of shape "
                         f"{values.shape[1:]} or {values.shape}.")
    kept = values * allowed
    total = kept.sum(axis=1, keepdims=True)
    checks.refuse(total[:, 0] <= 0, "samples have no allowed species of any "
                  "probability", "Is the list of another class table?")
    return kept / total


def _normalised(logs: np.ndarray, dtype) -> np.ndarray:
    from scipy.special import softmax

    return softmax(logs, axis=1).astype(dtype, copy=False)
