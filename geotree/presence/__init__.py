"""Presence: where each species grows, told from records without absences.

"Which species is this tree?" and "does this species grow here?" are two
questions. The second has no answer from presences alone: it takes
*background*, sites where one knows only what the environment is. Two kinds
are used, random sites of the region, and the *target group*: sites where
anyone recorded any of the species, which share the habits of the observers.
Explained in chapter 04; scored by ``evaluation.presence``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geotree import checks, place
from geotree.occurrences.columns import refuse_absent
from geotree.occurrences.names import tell_alike
from geotree.presence.sites import DEGREES, Data, Features, checked, visited

__all__ = ["DEFAULT", "MODELS", "Data", "Model", "fit", "visited"]
DEFAULT = "average"
_DIGITS = 9  # threads add up in any order: ties stay ties without the last bit


@dataclass
class Model:
    """What :func:`fit` learnt; ask it with :meth:`predict`."""

    species: list[str]
    table: Features
    answer: Callable  # from a frame of sites to (N, S)

    def predict(self, sites: pd.DataFrame) -> np.ndarray:
        """Suitability of each site for each species: (N, S) float32.

        Higher is likelier. The order of sites within a species has a
        meaning; a value alone is no probability, as nobody knows how often
        present trees go unrecorded.
        """
        checked(sites, self.table, "sites")
        return np.asarray(self.answer(sites), np.float32)


def fit(presence: pd.DataFrame, background: pd.DataFrame, *,
        variables: Sequence[str], coordinates: Sequence[str] | None = DEGREES,
        model: str = DEFAULT, against: str = "target group",
        seed: int = 0) -> Model:
    """Learn where species grow from presences and background.

    Parameters
    ----------
    presence : DataFrame
        A row for each record: ``species``, the variables and coordinates.
    background : DataFrame
        Sites drawn from the region at random, with the same columns.
    variables : list of str
        Columns of the environment; text and booleans are categories.
    coordinates : (str, str), optional
        Columns of x and y: longitude and latitude in degrees by default,
        any other pair is taken for metres of a map. None: not used.
    model : str
        One of ``MODELS``. ``"average"``, the default, averages the ranks
        of several; see :func:`visited`.
    against : "target group" or "random"
        The background of a single model; the average has both.

    Raises
    ------
    ValueError
        A column or value is missing, or the model is unknown.
    """
    checks.one_of(model, MODELS, name="model")
    checks.rng(seed)
    checks.one_of(against, ("target group", "random"), name="against")
    table = Features.of(variables, coordinates)
    checks.columns(presence, ["species"], where="presence")
    for frame, where in ((presence, "presence"), (background, "background")):
        checked(frame, table, where)
    refuse_absent(presence, "presence")
    table.tell_beyond(presence, background, "presence")
    table.learn(pd.concat([presence, background], ignore_index=True))
    tell_alike(presence[["species"]])
    code, species = pd.factorize(presence["species"].astype("str"), sort=True)
    if model in place.MODELS:
        return Model(list(species), table,
                     _of_places(model, presence, table, seed))
    x, rows = np.unique(table.features(presence), axis=0, return_inverse=True)
    y = np.zeros((len(x), len(species)), bool)
    y[rows.ravel(), code] = True
    data = Data(x, y, table.features(background), seed)
    learnt = MODELS[model](data, against)
    return Model(list(species), table, lambda sites: learnt(
        table.features(sites)))


# Models: from data and a background to a function of features ---------------

def forest_of_sites(data: Data, against: str):
    """One forest for all species: who of them was seen at a site."""
    from sklearn.ensemble import RandomForestRegressor

    x, y, _ = data.rows(against)
    forest = RandomForestRegressor(
        200, min_samples_leaf=10, max_features=0.33, n_jobs=-1,
        random_state=data.seed).fit(x, y.astype(np.float32))
    return lambda new: forest.predict(new).reshape(len(new), -1)


def forest_over_species(data: Data, against: str):
    """A forest that names the species of a record; no background."""
    from sklearn.ensemble import RandomForestClassifier

    rows, species = np.nonzero(data.y)
    forest = RandomForestClassifier(
        200, min_samples_leaf=5, n_jobs=-1, random_state=data.seed)
    return forest.fit(data.x[rows], species).predict_proba


def down_sampled_forest(data: Data, against: str):
    """A forest for each species; every tree sees as many without it."""
    from sklearn import config_context
    from sklearn.tree import DecisionTreeClassifier
    from sklearn.utils.parallel import Parallel, delayed

    rng = checks.rng(data.seed)

    def one(x, y, _):
        some, none = np.flatnonzero(y), np.flatnonzero(~y)
        size, truth = min(len(some), len(none)), y.astype(float)
        drawn = [np.concatenate([rng.choice(some, size),
                                 rng.choice(none, size)]) for _ in range(100)]
        # Small trees: to check all that is given takes longer than they do.
        with config_context(skip_parameter_validation=True):
            trees = Parallel(n_jobs=-1, prefer="threads")(delayed(
                DecisionTreeClassifier(
                    max_features="sqrt", random_state=number).fit)(
                        x[rows], truth[rows], check_input=False)
                for number, rows in enumerate(drawn))
        return lambda new: np.mean([tree.predict_proba(
            new, check_input=False)[:, 1] for tree in trees], axis=0)

    return _each(data, against, one)


def boosting(data: Data, against: str):
    """Boosted trees for each species, presences and absences weighed."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    def one(x, y, weight):
        model = HistGradientBoostingClassifier(
            max_iter=100, learning_rate=0.05, max_leaf_nodes=8,
            l2_regularization=5.0, random_state=data.seed)
        return model.fit(x, y, weight).decision_function

    return _each(data, against, one)


def logistic(data: Data, against: str):
    """Quadratic logistic regression for each species, weighed."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    def one(x, y, weight):
        # Weights of mean one: with sums of thousands the solver stops at
        # its first step.
        model = make_pipeline(PolynomialFeatures(2, include_bias=False),
                              StandardScaler(),
                              LogisticRegression(C=0.1, max_iter=500))
        return model.fit(x, y, logisticregression__sample_weight=weight
                         ).decision_function

    return _each(data, against, one)


def network(data: Data, against: str):
    """Three small networks for all species at once, their logits' mean."""
    import torch

    from geotree.place import learn

    x, y, weight = data.rows(against)
    sites, rest = len(data.x), len(x) - len(data.x)
    if rest:  # half of a batch is background: weigh presence as much
        weight = weight * np.where(y, sites / data.y.sum(axis=0), 1.0)
    x, y, weight = (torch.as_tensor(part, dtype=torch.float32)
                    for part in (x, y, weight))
    size = int(np.clip(sites // 40, 32, 256))
    steps = int(np.clip(60 * sites // size, 300, 3000))

    def loss(net):
        rows = torch.randint(sites, (size,))
        if rest:
            rows = torch.cat([rows[:size // 2], sites + torch.randint(
                rest, (size // 2,))])
        noisy = x[rows] + 0.1 * torch.randn(len(rows), x.shape[1])
        return torch.nn.functional.binary_cross_entropy_with_logits(
            net(noisy), y[rows], weight[rows])

    nets = [learn(x.shape[1], y.shape[1], loss, steps=steps,
                  seed=data.seed + one) for one in range(3)]
    return lambda new: sum(net(new) for net in nets) / 3


def average(data: Data, against: str):
    """Ranks of several models, both backgrounds, weighed by a look at
    where observers went."""
    share = visited(data)
    members = [(maker, kind, weight / len(makers)) for kind, weight, makers
               in (("target group", share, _TARGET),
                   ("random", 1 - share, _RANDOM))
               for maker in makers if weight > 0.02]
    reference = np.concatenate([data.x, data.background])
    steps = np.linspace(0, 1, 1001)
    learnt = []
    for maker, kind, weight in members:
        answer = maker(data, kind)
        learnt.append((answer, weight, np.quantile(
            answer(reference).round(_DIGITS), steps, axis=0)))

    def ranks(new):
        total = np.zeros((len(new), data.y.shape[1]))
        for answer, weight, marks in learnt:
            found = answer(new).round(_DIGITS)
            for column in range(total.shape[1]):
                total[:, column] += weight * np.interp(
                    found[:, column], marks[:, column], steps)
        return total / sum(weight for _, weight, _ in learnt)

    return ranks


_TARGET = (forest_of_sites, network, down_sampled_forest)
_RANDOM = (down_sampled_forest,)
MODELS = {**place.MODELS, "forest over species": forest_over_species,
          "forest of sites": forest_of_sites, "network": network,
          "down-sampled forest": down_sampled_forest, "boosting": boosting,
          "logistic": logistic, "average": average}


def _each(data: Data, against: str, one: Callable):
    """One model a species: from its rows to a column of answers."""
    from threadpoolctl import threadpool_limits

    learnt = []
    for species in range(data.y.shape[1]):
        x, y, weight = data.rows(against, species)
        use = weight > 0
        x, y = x[use], y[use]
        if y.all():
            raise ValueError("a species was seen at every visited site: "
                             "there is no site without it to compare with. "
                             "Use against='random'.")
        half = np.where(y, 0.5 / y.mean(), 0.5 / (~y).mean())
        with threadpool_limits(1, "openmp"):  # else they wait for each other
            learnt.append(one(x, y, half))
    return lambda new: np.column_stack([ask(new) for ask in learnt])


def _of_places(name: str, presence, table: Features, seed: int):
    if table.place is None:
        raise ValueError(f"'{name}' reads nothing but places: give "
                         "coordinates.")
    rows = table.degrees(presence).assign(
        species=presence["species"].to_numpy())
    model = place.MODELS[name](rows)
    classes = pd.DataFrame({"species": model.species})
    return lambda sites: model.predict(table.degrees(sites), classes)
