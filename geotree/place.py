"""Place alone: what can be told of a tree from where it stands.

Models that read latitude and longitude and nothing else. As a baseline
they are what pixels have to beat; as a prior they know the ranges. Each is
made from records and then asked about places. Explained in chapter 04.
"""

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

from geotree import checks, files, globe, splits, taxonomy
from geotree.occurrences.columns import refuse_absent
from geotree.occurrences.names import tell_alike

_CELLS = 20_000_000  # probabilities held at once
_ROWS = 4096  # places whose neighbours are held at once
_STEPS, _BATCH = 1000, 256  # least that a network is trained; records a step
_EPOCHS = 40  # passes over the records, where that is more


def _vectors(where: pd.DataFrame | np.ndarray) -> np.ndarray:
    """Unit vectors (N, 3) of a table, or of (N, 2) degrees."""
    if isinstance(where, pd.DataFrame):
        return globe.vectors_of(where)
    places = checks.plain(where, "places")
    if places.shape[1:] != (2,):
        raise ValueError(f"places have shape {places.shape}, expected a table "
                         "or (N, 2) latitudes and longitudes.")
    lat, lon = checks.places(lat=places[:, 0], lon=places[:, 1])
    return globe.unit_vectors(lat=lat, lon=lon)


class PlaceModel:
    """What models of place share; made from an occurrence table each."""

    def __init__(self, table: pd.DataFrame) -> None:
        needed = ["species", *globe.PLACE]
        records = checks.columns(table, needed)[needed]
        if records.empty:
            raise ValueError("table is empty: no record to learn from.")
        refuse_absent(table, "table")
        tell_alike(records[["species"]])
        codes, names = pd.factorize(checks.one_each(
            records["species"], len(table), where="species"), sort=True)
        self.labels, self.species = codes, pd.Index(names)
        self.frequency = np.bincount(codes) / len(codes)
        self.records = files.fingerprint(records)

    def predict(self, where: pd.DataFrame | np.ndarray,
                classes: pd.DataFrame) -> np.ndarray:
        """Probability of each class at each place.

        Parameters
        ----------
        where : DataFrame or (N, 2) array
            An occurrence table, or latitudes and longitudes in degrees.
        classes : DataFrame of K rows
            Species without a record get probability zero.

        Returns
        -------
        (N, K) float32
            Rows sum to one. A place that says nothing of these classes
            gets their frequencies.
        """
        column = taxonomy.find(self.species, classes)
        known = column >= 0
        if not known.any():
            raise ValueError(f"none of the {len(classes)} classes has a "
                             "record to learn from: no range is known.")
        points = _vectors(where)
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

    Records nearer than ``apart_km`` do not vote. Asked about its own
    records, the model then answers as if each had been left out, and all
    that is near to it.
    """

    def __init__(self, table: pd.DataFrame, *, neighbours: int = 25,
                 apart_km: float = 0.0) -> None:
        from scipy.spatial import KDTree

        super().__init__(table)
        checks.number(neighbours, name="neighbours", low=1, whole=True)
        checks.number(apart_km, name="apart_km", low=0)
        self.tree = KDTree(_vectors(table))
        self.neighbours = min(neighbours, len(table))
        self.chord = float(globe.chord(apart_km))

    def weight(self, km):
        """Votes at distances in km: (N, neighbours) each."""
        return 1 / np.maximum(km, 1e-3)

    def odds(self, points):
        skip = (self.tree.query_ball_point(
            points, self.chord * (1 - 1e-9), return_length=True)
            if self.chord else np.zeros(len(points), int))
        checks.refuse(skip == self.tree.n, "places have no record that is "
                      f"{globe.arc_km(self.chord):.0f} km or more away",
                      "Use a smaller apart_km.")
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

    At ``km`` a record counts for 1 / e; further away than the nearest 500
    for nothing.
    """

    def __init__(self, table: pd.DataFrame, *, km: float = 50.0) -> None:
        checks.number(km, name="km", low=1e-6)
        super().__init__(table, neighbours=500)
        self.km = km

    def weight(self, km):
        # Beside the nearest record, so that no place is too far for a vote.
        return np.exp((km[:, :1] - km) / self.km)


class Trees(PlaceModel):
    """Extra trees on copies of the sphere that are turned at random, so
    that they cut in any direction and not along its axes alone.
    """

    def __init__(self, table: pd.DataFrame, *, trees: int = 200) -> None:
        from scipy.spatial.transform import Rotation
        from sklearn.ensemble import ExtraTreesClassifier

        super().__init__(table)
        checks.number(trees, name="trees", low=1, high=9999, whole=True)
        turned = Rotation.random(6, random_state=0).as_matrix()
        self.turn = np.concatenate([np.eye(3)[None], turned]).reshape(-1, 3)
        self.forest = ExtraTreesClassifier(
            trees, min_samples_leaf=3, n_jobs=-1, random_state=0)
        self.forest.fit(_vectors(table) @ self.turn.T, self.labels)

    def odds(self, points):
        return self.forest.predict_proba(points @ self.turn.T)


class Network(PlaceModel):
    """A network on sines and cosines, scaled to the region of the records.

    It is trained for 40 passes over the records, and 1,000 steps at least.
    One that has learnt no more than the frequencies comes with a warning.
    After SINR (Cole et al. 2023), which answers "present here?" for each
    species; a softmax answers "which one?", the question of this benchmark.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        import torch

        super().__init__(table)
        points = _vectors(table)
        raw = self._angles(points)
        self.centre, self.spread = raw.mean(0), raw.std(0) + 1e-6
        x = torch.as_tensor((raw - self.centre) / self.spread,
                            dtype=torch.float32)
        y = torch.as_tensor(self.labels)
        steps = max(_EPOCHS * -(-len(x) // _BATCH), _STEPS)

        def loss(net):
            rows = torch.randint(len(x), (min(_BATCH, len(x)),))
            return torch.nn.functional.cross_entropy(
                net(x[rows]), y[rows], label_smoothing=0.05)

        self.answer = learn(6, len(self.species), loss, steps=steps, seed=0)
        labels = self.labels[:10_000]
        odds = self.odds(points[:10_000])[np.arange(len(labels)), labels]
        gain = np.log(odds).mean() - np.log(self.frequency[labels]).mean()
        if len(self.species) > 1 and gain < 0.01:
            warnings.warn(
                f"after {steps} steps the network knows no more of the "
                f"{len(x)} records than how frequent each of the "
                f"{len(self.species)} species is: it is undertrained, or "
                "their places tell nothing.", stacklevel=2)

    @staticmethod
    def _angles(points) -> np.ndarray:
        """Sines and cosines of longitude, latitude and its double: (N, 6)."""
        lat = np.arcsin(points[:, 2].clip(-1, 1))
        lon = np.arctan2(points[:, 1], points[:, 0])
        return np.stack([f(angle) for angle in (lon, 2 * lat, lat)
                         for f in (np.sin, np.cos)], axis=1)

    def odds(self, points):
        from scipy.special import softmax

        inputs = (self._angles(points) - self.centre) / self.spread
        return softmax(self.answer(inputs), axis=1)


MODELS = {"nearest places": Nearest, "kernel of places": Kernel,
          "trees of places": Trees, "network of places": Network}


def learn(inputs: int, outputs: int, loss: Callable, *, steps: int, seed: int):
    """Train a network of two hidden layers; torch's random state stays.

    ``loss`` is from the network to the loss of a new batch. Returns a
    function from (N, inputs) to (N, outputs) logits, both arrays.
    """
    import torch
    from threadpoolctl import threadpool_limits
    from torch import nn, optim

    with torch.random.fork_rng(devices=[]), threadpool_limits(
            1, "openmp"):  # threads would wait for each other
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(inputs, 128), nn.GELU(), nn.Dropout(0.2),
            nn.Linear(128, 128), nn.GELU(), nn.Dropout(0.2),
            nn.Linear(128, outputs))
        adam = optim.AdamW(net.parameters(), weight_decay=0.01, fused=True)
        schedule = optim.lr_scheduler.OneCycleLR(adam, 3e-3, total_steps=steps)
        for _ in range(steps):
            adam.zero_grad()
            loss(net).backward()
            adam.step()
            schedule.step()
    net.eval()

    def answer(values):
        with torch.no_grad():
            return net(torch.as_tensor(values, dtype=torch.float32)
                       ).float().numpy()

    return answer


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
    """
    checks.instance(make, Callable, name="make", see="what makes a model of "
                    "a table, as place.Nearest")
    taxonomy.check(classes)
    lost = splits.untrained(table, fold)
    if len(lost):
        warnings.warn(
            f"{lost.sum()} rows of {len(lost)} species have no row in "
            f"another fold to learn from: {checks.few(lost.index)}. Leave "
            "them out of the score; see splits.untrained.", stacklevel=2)
    answer = np.empty((len(table), len(classes)), np.float32)
    fold = checks.plain(fold)
    for number in np.unique(fold):
        test = fold == number
        answer[test] = make(table[~test]).predict(table[test], classes)
    return answer
