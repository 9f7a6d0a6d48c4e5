"""Models of place, and their cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

from geotree import checks, files, globe, splits

_CELLS = 20_000_000  # probabilities held at once
_ROWS = 4096  # places whose neighbours are held at once


def vectors(where: pd.DataFrame | np.ndarray) -> np.ndarray:
    """Unit vectors of places: (N, 3) float64.

    Parameters
    ----------
    where : DataFrame or (N, 2) array
        An occurrence table, or latitudes and longitudes in degrees.
    """
    if isinstance(where, pd.DataFrame):
        where = where[["decimalLatitude", "decimalLongitude"]]
    places = np.asarray(where, np.float64)
    if places.shape[1:] != (2,):
        raise ValueError(f"places have shape {places.shape}, expected an "
                         "occurrence table or (N, 2) latitudes and "
                         "longitudes.")
    lat, lon = checks.places(lat=places[:, 0], lon=places[:, 1])
    return globe.unit_vectors(lat=lat, lon=lon)


class PlaceModel:
    """What all models of place share; see the subclasses.

    Parameters
    ----------
    table : DataFrame
        Occurrence table of the records to learn from.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        checks.columns(table, ["species", "decimalLatitude",
                               "decimalLongitude"])
        if table.empty:
            raise ValueError("table is empty: no record to learn from.")
        codes, names = pd.factorize(table["species"], sort=True)
        self.labels, self.species = codes, pd.Index(names)
        self.frequency = np.bincount(codes) / len(codes)
        self.records = files.fingerprint(table[[
            "species", "decimalLatitude", "decimalLongitude"]])

    def predict(self, where: pd.DataFrame | np.ndarray,
                classes: pd.DataFrame) -> np.ndarray:
        """Probability of each class at each place.

        Parameters
        ----------
        where : DataFrame or (N, 2) array
            An occurrence table, or latitudes and longitudes in degrees.
        classes : DataFrame of K rows
            Class table. Species without a record get probability zero.

        Returns
        -------
        (N, K) float32
            Rows sum to one. A place that says nothing of these classes
            gets their frequencies.
        """
        column = pd.Index(classes["species"]).get_indexer(self.species)
        known = column >= 0
        if not known.any():
            raise ValueError(
                f"none of the {len(classes)} classes has a record to learn "
                "from: their ranges are unknown.")
        points = vectors(where)
        answer = np.zeros((len(points), len(classes)), np.float32)
        usual = self.frequency[known] / self.frequency[known].sum()
        chunk = max(1, _CELLS // len(self.species))
        for start in range(0, len(points), chunk):
            part = slice(start, start + chunk)
            odds = self.odds(points[part])[:, known]
            total = odds.sum(axis=1, keepdims=True)
            answer[part, column[known]] = np.where(
                total > 0, odds / np.where(total > 0, total, 1), usual)
        return answer

    def odds(self, points: np.ndarray) -> np.ndarray:
        """Unnormalised weight of each species at unit vectors: (N, S)."""
        raise TypeError("PlaceModel is a pattern: make a Nearest, a "
                        "Kernel, a Trees or a Network.")


class Nearest(PlaceModel):
    """Vote of the nearest records on the sphere, the near ones louder.

    Parameters
    ----------
    table : DataFrame
    neighbours : int
        How many vote.
    apart_km : float
        Records nearer than this do not vote. Asked about its own records,
        the model then answers as if each had been left out, and all that
        is near to it.

    Notes
    -----
    A k-d tree of unit vectors: the nearest by chord are the nearest by
    great circle, over the poles and across 180°. Ten thousand questions to
    six million records take seconds.
    """

    def __init__(self, table: pd.DataFrame, *, neighbours: int = 25,
                 apart_km: float = 0.0) -> None:
        from scipy.spatial import KDTree

        super().__init__(table)
        checks.number(neighbours, name="neighbours", low=1, whole=True)
        checks.number(apart_km, name="apart_km", low=0)
        self.tree = KDTree(vectors(table))
        self.neighbours = min(neighbours, len(table))
        self.chord = float(globe.chord(apart_km))

    def weight(self, km):
        """Votes at distances in km: (N, neighbours) each."""
        return 1 / np.maximum(km, 1e-3)

    def odds(self, points):
        skip = (self.tree.query_ball_point(
            points, self.chord * (1 - 1e-9), return_length=True)
            if self.chord else np.zeros(len(points), int))
        if (skip == self.tree.n).any():
            km = globe.arc_km(self.chord)
            raise ValueError(f"no record is {km:.0f} km or more away from "
                             f"{int((skip == self.tree.n).sum())} of the "
                             "places. Use a smaller apart_km.")
        # Those with as many to skip are asked about together.
        order, votes = np.argsort(skip), np.zeros((len(points),
                                                   len(self.species)))
        for rows in np.array_split(order, -(-len(order) // _ROWS) or 1):
            votes[rows] = self._votes(points[rows], skip[rows])
        return votes

    def _votes(self, points, skip):
        k = min(int(skip.max(initial=0)) + self.neighbours, self.tree.n)
        chord, index = self.tree.query(points, k=np.arange(1, k + 1))
        take = np.arange(self.neighbours) + skip[:, None]  # (N, neighbours)
        some, take = take < k, np.minimum(take, k - 1)
        km = globe.arc_km(np.take_along_axis(chord, take, 1))
        label = self.labels[np.take_along_axis(index, take, 1)]
        votes = np.zeros((len(points), len(self.species)))
        np.add.at(votes, (np.arange(len(points))[:, None], label),
                  self.weight(km) * some)
        return votes


class Kernel(Nearest):
    """Density of the records of each species, exponential in the distance.

    Parameters
    ----------
    table : DataFrame
    km : float
        Distance at which a record counts for 1 / e.
    neighbours : int
        Records further away than these count for nothing.
    """

    def __init__(self, table: pd.DataFrame, *, km: float = 50.0,
                 neighbours: int = 500) -> None:
        checks.number(km, name="km", low=1e-6)
        super().__init__(table, neighbours=neighbours)
        self.km = km

    def weight(self, km):
        # Beside the nearest record, so that no place is too far for a vote.
        return np.exp((km[:, :1] - km) / self.km)


class Trees(PlaceModel):
    """Extra trees on coordinates that are turned at random.

    A tree cuts along its axes; turned copies of the sphere let it cut in
    any direction.
    """

    def __init__(self, table: pd.DataFrame, *, turns: int = 6,
                 trees: int = 200, leaf: int = 3, seed: int = 0) -> None:
        from scipy.spatial.transform import Rotation
        from sklearn.ensemble import ExtraTreesClassifier

        super().__init__(table)
        turned = Rotation.random(turns, random_state=seed).as_matrix()
        self.turn = np.concatenate([np.eye(3)[None], turned]).reshape(-1, 3)
        self.forest = ExtraTreesClassifier(
            trees, min_samples_leaf=leaf, n_jobs=-1, random_state=seed)
        self.forest.fit(vectors(table) @ self.turn.T, self.labels)

    def odds(self, points):
        return self.forest.predict_proba(points @ self.turn.T)


def cross_validate(make: Callable[[pd.DataFrame], PlaceModel],
                   table: pd.DataFrame, classes: pd.DataFrame,
                   fold: np.ndarray) -> np.ndarray:
    """Answers for each fold by a model made from the other folds: (N, K).

    Parameters
    ----------
    make : callable
        From an occurrence table to a model, e.g. ``place.Nearest``.
    fold : (N,) int
        From ``splits.folds``. Rows of species that no other fold holds get
        probability zero for the right class, and a warning that names some
        of the species: they belong in no score, see ``splits.untrained``.

    Examples
    --------
    >>> fold = splits.folds(table, "blocks", degrees=5)
    >>> votes = place.cross_validate(place.Nearest, table, classes, fold)
    """
    lost = splits.untrained(table, fold)
    if len(lost):
        warnings.warn(
            f"{lost.sum()} rows of {len(lost)} species have no row in "
            f"another fold to learn from: {checks.few(lost.index)}. Leave "
            "them out of the score; see splits.untrained.", stacklevel=2)
    answer = np.empty((len(table), len(classes)), np.float32)
    for number in np.unique(fold):
        test = fold == number
        answer[test] = make(table[~test]).predict(table[test], classes)
    return answer
