"""Names never seen: what is known of a species besides its name.

A flora says in which countries a species is native and what leaves it has,
long before anyone has labelled a pixel of it. Held together with how
strange a sample looks, that makes an answer among seen and unseen species.
Explained in chapter 06.1.
"""

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist
from scipy.special import log_softmax

from geotree import checks, globe, taxonomy
from geotree.evaluation.predictions import _text, embed
from geotree.variables import VARIABLE_NAMES

_DOUBT = 0.01  # a country list that lacks it, a leaf type that is wrong
_WEIGHTS = np.linspace(-5, 4, 37)  # log weight of the unseen
_TURNS = (0.0, 0.5, 1.0, 2.0, 4.0)  # how much strangeness counts
_LAT, _LON = map(VARIABLE_NAMES.index, ("latitude", "longitude"))


def native(lists: pd.DataFrame, classes: pd.DataFrame, environment
           ) -> np.ndarray:
    """Which classes are native to the country of each sample: (N, K) bool.

    Parameters
    ----------
    lists : DataFrame
        Columns ``species`` and ``countryCode`` (ISO alpha-2), one row for
        each country of a species.
    classes : DataFrame of K rows
        A species without any row may grow everywhere: nothing is known.
    environment : (N, V) float
        Longitude and latitude are read; a sample without them, or far at
        sea, allows all.
    """
    checks.columns(lists, ("species", "countryCode"), where="lists")
    taxonomy.check(classes, "species")
    environment = checks.plain(checks.environment(environment))
    lat, lon = environment[:, _LAT], environment[:, _LON]
    code = np.full(len(lat), "", object)
    placed = checks.on_globe(lat=lat, lon=lon)
    code[placed] = globe.country_code(
        lat=lat[placed], lon=lon[placed], coast=True)
    grows = pd.crosstab(globe.codes(lists["countryCode"], "lists"),
                        lists["species"].to_numpy()) > 0
    unknown = ~classes["species"].isin(grows.columns).to_numpy()
    if len(lists) and unknown.all():
        raise ValueError(
            f"lists names none of the {len(classes)} classes, such as "
            f"{checks.few(classes['species'])}. Write names alike.")
    grows = grows.reindex(columns=classes["species"], fill_value=False)
    countries, row = np.unique(code.astype(str), return_inverse=True)
    allowed = grows.reindex(countries, fill_value=False).to_numpy(copy=True)
    allowed[countries == ""] = True
    return (allowed | unknown)[row]


class Known:
    """A model, and what is known of the species that it never saw.

    Parameters
    ----------
    model : CompactClip
        Or any with its ``encode_images``, ``encode_taxa`` and ``scale``.
    train, validation : Shards or Batch
        Labels point into ``seen``.
    seen, new : DataFrame of K and J rows
        Class tables: trained species, and species without any record.
    lists : DataFrame
        See :func:`native`.

    Attributes
    ----------
    classes : DataFrame of K + J rows
    weight, turn : float
        Logarithm of the weight of the unseen, and how much strangeness
        adds to it. Chosen on validation, where groups of trained species
        take the part of the unseen; no sample of a new species is used.

    Notes
    -----
    Strangeness is the Mahalanobis distance of the features to the nearest
    class mean (Lee et al. 2018). The choice is that of the best harmonic
    mean of the accuracy on either kind (Xian et al. 2019).
    """

    def __init__(self, model, train, validation, *, seen: pd.DataFrame,
                 new: pd.DataFrame, lists: pd.DataFrame, seed: int = 0):
        self.model, self.seen, self.lists = model, seen, lists
        self.classes = pd.concat([seen, new], ignore_index=True)
        taxonomy.check(self.classes)
        train = train if hasattr(train, "images") else train.load()
        labels = checks.labels(train.labels, len(seen))
        features = embed(model, train)  # (N, D)
        count = np.bincount(labels, minlength=len(seen))
        checks.refuse(count == 0, "seen classes have no training record: "
                      f"{checks.few(seen['species'][count == 0])}",
                      "They belong into new.")
        means = np.zeros((len(seen), features.shape[1]))
        np.add.at(means, labels, features)
        means /= count[:, None]
        covariance = np.cov((features - means[labels]).T)
        covariance += 1e-4 * np.eye(len(covariance))
        # Distances in whitened features are Mahalanobis distances.
        self._whiten = np.linalg.cholesky(np.linalg.inv(covariance))
        self._means = means @ self._whiten
        self._choose(validation, len(new), seed)

    def _evidence(self, data):
        """Log odds (N, K), what is allowed (N, K + J), distances (N, K)."""
        data = data if hasattr(data, "images") else data.load()
        features = embed(self.model, data)
        text = _text(self.model, self.seen).cpu().numpy()  # (K, D)
        logs = log_softmax(features @ text.T, axis=1)
        allowed = native(self.lists, self.classes, data.environment)
        distance = cdist(features @ self._whiten, self._means)
        return data, logs, np.log(np.maximum(allowed, _DOUBT)), distance

    def _scores(self, logs, allowed, distance, is_new):
        """Log scores (N, M) of the first M classes, and strangeness (N,).

        Seen classes compete by their odds, unseen ones (``is_new``) by
        what is known of them: country and leaf type.
        """
        old = np.flatnonzero(~is_new)
        kinds = self.classes["leafType"].to_numpy()[:len(is_new)]
        scores = allowed[:, :len(is_new)].copy()  # (N, M)
        scores[:, old] = log_softmax(scores[:, old] + logs[:, old], axis=1)
        share, names = taxonomy.roll_up(
            np.exp(log_softmax(logs[:, old], axis=1)),
            self.seen.iloc[old], "leafType")  # (N, leaf types)
        column = pd.Index(names).get_indexer(kinds[is_new])
        share = np.where(column >= 0, share[:, column], 0)
        scores[:, is_new] += np.log(share + _DOUBT)
        return scores, np.log(distance[:, old].min(axis=1))

    def _choose(self, validation, j: int, seed: int) -> None:
        """Weight and turn, with groups of seen classes as the unseen."""
        data, logs, allowed, distance = self._evidence(validation)
        k, labels = len(self.seen), checks.labels(data.labels, len(self.seen))
        number = max(2, round(k / max(j, 1)))
        group = checks.rng(seed).permutation(k) % number
        told = []
        for one in range(number):
            is_new = group == one  # (K,)
            scores, strange = self._scores(logs, allowed, distance, is_new)
            new, old = scores[:, is_new], scores[:, ~is_new]
            told.append(pd.DataFrame({
                "strange": strange, "new": is_new[labels],
                "gap": old.max(axis=1) - new.max(axis=1),
                "as_new": np.flatnonzero(is_new)[new.argmax(1)] == labels,
                "as_old": np.flatnonzero(~is_new)[old.argmax(1)] == labels}))
        told = pd.concat(told)
        self._centre = told["strange"].mean()
        self._spread = told["strange"].std()
        told["strange"] = (told["strange"] - self._centre) / self._spread
        _, self.weight, self.turn = max(
            (_harmonic(told, weight, turn), weight, turn)
            for weight in _WEIGHTS for turn in _TURNS)

    def predict(self, data) -> np.ndarray:
        """Probability of each of ``classes``, seen or not: (N, K + J)."""
        _, logs, allowed, distance = self._evidence(data)
        is_new = np.arange(len(self.classes)) >= len(self.seen)
        scores, strange = self._scores(logs, allowed, distance, is_new)
        strange = (strange - self._centre) / self._spread
        scores[:, is_new] += (self.weight + self.turn * strange)[:, None]
        return np.exp(log_softmax(scores, axis=1))


def _harmonic(told: pd.DataFrame, weight: float, turn: float) -> float:
    """Harmonic mean of the accuracy on seen and on unseen species."""
    called_new = weight + turn * told["strange"] > told["gap"]
    right = np.where(called_new, told["as_new"], told["as_old"])
    seen, unseen = right[~told["new"]].mean(), right[told["new"]].mean()
    return 2 * seen * unseen / max(seen + unseen, 1e-12)
