"""Models of place: on the globe, by name, and the range prior."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from geotree import place, prior, splits
from geotree.evaluation import calibration, metrics

SPECIES = ["Betula pendula", "Picea abies", "Pinus mugo", "Quercus robur"]
CLASSES = pd.DataFrame({"species": SPECIES})


def table(lat, lon, species) -> pd.DataFrame:
    return pd.DataFrame({
        "decimalLatitude": np.asarray(lat, float),
        "decimalLongitude": np.asarray(lon, float),
        "species": np.asarray(SPECIES)[np.asarray(species)]})


def quarters(n: int, seed: int = 0) -> pd.DataFrame:
    """Each species in a quarter of the sphere, across 180° and the pole."""
    rng = np.random.default_rng(seed)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    lon = rng.uniform(-180, 180, n)
    number = 2 * (np.cos(np.radians(lon)) < 0) + (lat > 0)
    return table(lat, lon, number)


MODELS = {
    "nearest": place.Nearest, "kernel": lambda t: place.Kernel(t, km=300),
    "trees": lambda t: place.Trees(t, trees=40),
    "network": place.Network}


@pytest.mark.parametrize("name", MODELS)
def test_each_model_learns_where_species_are(name):
    train, test = quarters(600), quarters(300, seed=1)
    model = MODELS[name](train)
    labels = pd.Index(SPECIES).get_indexer(test["species"])
    answer = model.predict(test, CLASSES)
    assert answer.shape == (300, 4) and answer.dtype == np.float32
    np.testing.assert_allclose(answer.sum(1), 1, rtol=1e-5)
    assert metrics.hits(answer, labels).mean() > 0.9
    # Latitude first, degrees; and one row does not depend on another.
    bare = test[["decimalLatitude", "decimalLongitude"]].to_numpy()
    np.testing.assert_allclose(model.predict(bare[7:8], CLASSES),
                               answer[7:8], atol=1e-5)


def test_columns_follow_the_class_table():
    train = table([0, 10, 20], [0, 0, 0], [0, 1, 3])
    model = place.Nearest(train, neighbours=1)
    turned = pd.DataFrame({"species": ["Quercus robur", "Abies alba",
                                       "Picea abies"]})
    answer = model.predict(np.array([[19.0, 0], [11, 0]]), turned)
    assert answer.argmax(1).tolist() == [0, 2]
    assert (answer[:, 1] == 0).all()
    # The nearest is a birch, which is no choice: the frequencies.
    np.testing.assert_allclose(
        model.predict(np.array([[0.0, 0]]), turned), [[0.5, 0, 0.5]])
    with pytest.raises(ValueError, match="none of the 1 classes"):
        model.predict(np.zeros((1, 2)), turned[1:2])


def test_records_that_are_too_near_do_not_vote():
    train = table([0, 1, 5], [0, 0, 0], [0, 1, 2])
    near = place.Nearest(train, neighbours=1)
    assert near.predict(train, CLASSES).argmax(1).tolist() == [0, 1, 2]
    far = place.Nearest(train, neighbours=1, apart_km=300)
    assert far.predict(train, CLASSES).argmax(1).tolist() == [2, 2, 1]
    rng = np.random.default_rng(0)
    many = table(rng.uniform(40, 50, 200), rng.uniform(0, 10, 200),
                 rng.integers(0, 4, 200))
    answer = place.Nearest(many, neighbours=5, apart_km=150).predict(
        many, CLASSES)
    lat, lon = many[["decimalLatitude", "decimalLongitude"]].to_numpy().T
    km = splits.distance_km(lat[:, None], lon[:, None], lat, lon)
    labels = pd.Index(SPECIES).get_indexer(many["species"])
    for row in range(0, 200, 17):
        allowed = np.flatnonzero(km[row] >= 150)
        five = allowed[np.argsort(km[row, allowed])[:5]]
        votes = np.bincount(labels[five], 1 / km[row, five], 4)
        np.testing.assert_allclose(answer[row], votes / votes.sum(),
                                   rtol=1e-4)
    with pytest.raises(ValueError, match="no record that is 20000"):
        place.Nearest(many, apart_km=20_000).predict(many, CLASSES)


def test_neighbours_across_the_date_line_and_the_poles():
    rng = np.random.default_rng(0)
    lat = np.concatenate([rng.uniform(-70, 70, 300), rng.uniform(85, 90, 60),
                          rng.uniform(-90, -85, 60)])
    lon = np.concatenate([(rng.normal(180, 4, 300) + 180) % 360 - 180,
                          rng.uniform(-180, 180, 120)])
    rows = table(lat, lon, rng.integers(0, 4, 420))
    where = np.array([[10, 180], [10, -180], [-3, 179.99], [90, 12],
                      [89.5, -100], [-89, 170]], float)
    km = splits.distance_km(where[:, :1], where[:, 1:], lat, lon)
    labels = pd.Index(SPECIES).get_indexer(rows["species"])
    answer = place.Nearest(rows, neighbours=9).predict(where, CLASSES)
    for row, found in enumerate(answer):
        nine = np.argsort(km[row])[:9]
        votes = np.bincount(labels[nine], 1 / km[row, nine], 4)
        np.testing.assert_allclose(found, votes / votes.sum(), rtol=1e-4)
    np.testing.assert_allclose(answer[0], answer[1], rtol=1e-5)


def test_chunks_change_nothing(monkeypatch):
    train = quarters(200)
    whole = place.Nearest(train).predict(train, CLASSES)
    monkeypatch.setattr(place, "_CELLS", 90)
    np.testing.assert_allclose(place.Nearest(train).predict(train, CLASSES),
                               whole, rtol=1e-6)


@pytest.mark.parametrize(("where", "message"), [
    (np.zeros((3, 3)), r"shape \(3, 3\)"),
    (np.array([[100, 5]]), "1 of 1 places are not on the globe"),
    (np.array([[np.nan, 5]]), "1 of 1 places are not on the globe")])
def test_places_off_the_globe_are_refused(where, message):
    with pytest.raises(ValueError, match=message):
        place.Nearest(quarters(20)).predict(where, CLASSES)


def test_models_refuse_what_they_cannot_learn_from():
    with pytest.raises(ValueError, match="table is empty"):
        place.Nearest(quarters(20)[:0])
    with pytest.raises(ValueError, match="km is 0"):
        place.Kernel(quarters(20), km=0)


def test_a_network_learns_a_region_of_a_hundred_kilometres():
    """Few records of a small region: scaled inputs, and enough steps."""
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(47, 48, 600), rng.uniform(8, 9, 600)
    number = (lat - 47 > lon - 8).astype(int)
    rows = table(lat, lon, number)
    found = place.Network(rows[:400]).predict(rows[400:], CLASSES)
    assert metrics.hits(found, number[400:]).mean() > 0.95


def test_a_network_that_learnt_nothing_says_so():
    rows = quarters(200)
    rows[["decimalLatitude", "decimalLongitude"]] = 10.0
    with pytest.warns(UserWarning, match="no more of the 200 records"):
        place.Network(rows)


def test_species_of_a_single_fold_are_named():
    rows = quarters(80)
    fold = np.where(rows["species"] == "Pinus mugo", 1, np.arange(80) % 2)
    number = (rows["species"] == "Pinus mugo").sum()
    with pytest.warns(UserWarning, match=f"{number} rows of 1 species have "
                                         "no row in another fold to learn "
                                         "from: Pinus mugo"):
        answer = place.cross_validate(place.Nearest, rows, CLASSES, fold)
    lost = rows["species"] == "Pinus mugo"
    assert (answer[lost, SPECIES.index("Pinus mugo")] == 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        place.cross_validate(place.Nearest, rows, CLASSES, np.arange(80) % 2)


# The range prior -------------------------------------------------------------

def two_witnesses(n=4000, seed=0):
    """Pixels tell leaf type, the place tells the continent."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)

    def witness(code):
        logits = rng.normal(0, 1, (n, 2))
        logits[np.arange(n), code] += 1.5
        logits -= logits.max(1, keepdims=True)
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    leaf, continent = witness(labels % 2), witness(labels // 2)
    pixels = np.tile(leaf, (1, 2)) / 2
    where = np.repeat(continent, 2, axis=1) / 2
    return pixels, where, labels


def test_the_prior_helps_where_it_knows_and_is_dropped_where_it_does_not():
    pixels, where, labels = two_witnesses()
    weight = prior.fit_weight(pixels, where, labels)
    assert weight == pytest.approx(1.5, abs=0.4)
    both = prior.combine(pixels, where, weight)
    np.testing.assert_allclose(both.sum(1), 1)
    assert (metrics.hits(both, labels).mean()
            > metrics.hits(pixels, labels).mean() + 0.2)
    wrong = where[np.random.default_rng(0).permutation(len(where))]
    assert prior.fit_weight(pixels, wrong, labels) < 0.05
    assert prior.fit_weight(pixels, where[:, ::-1], labels) == 0


def test_combining_by_hand():
    pixels, where = np.array([[0.6, 0.4]]), np.array([[0.2, 0.8]])
    np.testing.assert_array_equal(prior.combine(pixels, where, 0), pixels)
    odds = np.array([0.6, 0.4]) * np.sqrt([0.999 * 0.2 + 0.0005,
                                           0.999 * 0.8 + 0.0005])
    np.testing.assert_allclose(
        prior.combine(pixels, where, 0.5)[0], odds / odds.sum())
    sure = prior.combine(pixels, np.array([[1.0, 0.0]]), 1.0)
    assert sure[0, 1] > 0  # no record nearby is no proof of absence
    with pytest.raises(ValueError, match="p_place have shape"):
        prior.combine(pixels, where[:, :1], 1)
    with pytest.raises(ValueError, match="weight is -1"):
        prior.combine(pixels, where, -1)


def test_adjusting_for_frequency_undoes_a_planted_one():
    rng = np.random.default_rng(0)
    even = rng.dirichlet(np.ones(4), 50)
    share = np.array([0.7, 0.2, 0.1, 0.0])
    counted = even * np.maximum(share, 0.1)
    counted /= counted.sum(1, keepdims=True)
    np.testing.assert_allclose(prior.adjust(counted, share), even)
    np.testing.assert_allclose(prior.adjust(counted, share, tau=0), counted)
    with pytest.raises(ValueError, match="frequency have shape"):
        prior.adjust(even, share[:3])


def test_checklists_restrict():
    rows = table([0] * 4, [0] * 4, [0, 1, 1, 3]).assign(
        countryCode=["DE", "DE", "FR", "FR"])
    allowed = prior.checklist(rows, CLASSES, ["FR", "DE", "XX"])
    assert allowed.tolist() == [[False, True, False, True],
                                [True, True, False, False], [True] * 4]
    answer = np.array([[0.4, 0.3, 0.2, 0.1]] * 3)
    found = prior.restrict(answer, allowed)
    np.testing.assert_allclose(found[0], [0, 0.75, 0, 0.25])
    np.testing.assert_allclose(found[2], answer[2])
    mine = prior.restrict(answer, np.array([False, False, True, True]))
    np.testing.assert_allclose(mine[1], [0, 0, 2 / 3, 1 / 3])
    with pytest.raises(ValueError, match="3 of 3 samples have no allowed"):
        prior.restrict(answer, np.zeros(4, bool))
    with pytest.raises(ValueError, match="expected bool"):
        prior.restrict(answer, np.ones(4))


def test_the_best_prior_is_the_one_that_adds_most():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400)
    pixels = rng.dirichlet(np.ones(4), 400)
    right = np.where(np.eye(4)[labels] > 0, 0.7, 0.1)
    name, weight = prior.best(
        pixels, {"noise": rng.dirichlet(np.ones(4), 400), "right": right,
                 "even": np.full((400, 4), 0.25)}, labels)
    assert name == "right"
    assert weight == prior.fit_weight(pixels, right, labels)


def test_the_prior_of_an_honest_model_is_honest():
    train, test = quarters(800), quarters(800, seed=2)
    labels = pd.Index(SPECIES).get_indexer(test["species"])
    answer = place.Trees(train, trees=60).predict(test, CLASSES)
    table = calibration.reliability(answer, labels)
    assert calibration.expected_calibration_error(table) < 0.15


@pytest.mark.parametrize("work", [
    lambda p: prior.combine(p, p / 2, 1.0),
    lambda p: prior.combine(p / 2, p, 1.0),
    lambda p: prior.adjust(p, np.ones(4) / 4),
    lambda p: prior.restrict(p, np.ones(4, bool))])
def test_a_prior_of_no_probabilities_is_refused(work):
    with pytest.raises(ValueError, match="sum to one, but to 2.0"):
        work(np.full((5, 4), 0.5))
