"""Baselines find what is planted, each in what it reads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geotree import baselines, checks, evaluation, splits, taxonomy
from geotree.shards import Batch
from geotree.variables import NODATA


def test_majority_is_the_frequency():
    answer = baselines.majority(np.array([2, 2, 0]), 4, 3)
    assert answer.shape == (4, 3) and answer.dtype == np.float32
    np.testing.assert_allclose(answer[3], [1 / 3, 0, 2 / 3], rtol=1e-6)


def test_frequency_by_country_by_hand():
    classes = pd.DataFrame({"species": ["a", "b", "c"]})
    train = pd.DataFrame({"countryCode": ["DE", "DE", "FR", "FR"],
                          "species": ["a", "a", "b", "a"]})
    test = pd.DataFrame({"countryCode": ["FR", "DE", "XX"]})
    answer = baselines.by_country(train, test, classes)
    np.testing.assert_allclose(answer, [
        [1.75 / 3, 1.25 / 3, 0], [2.75 / 3, 0.25 / 3, 0],
        [0.75, 0.25, 0]], rtol=1e-6)


@pytest.mark.parametrize(("labels", "message"), [
    (np.array([], int), "no samples"), ([0, 9], "not among the 3 classes")])
def test_wrong_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        baselines.majority(np.array(labels, int), 2, 3)


# Forest ----------------------------------------------------------------------

def make_batch(n: int, *, planted: bool, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    images = rng.integers(300, 3000, (n, 12, 10, 5, 5))
    if planted:  # the class is in the near infrared
        images[:, :, 3] = 500 + 1500 * labels[:, None, None, None]
    images[rng.random((n, 12)) < 0.3] = NODATA
    environment = rng.normal(size=(n, 27)).astype(np.float32)
    environment[0] = np.nan
    return Batch(images.astype(np.uint16), environment, labels,
                 np.arange(n))


def test_statistics_by_hand():
    batch = make_batch(4, planted=False, seed=0)
    batch.images[1] = NODATA
    batch.images[2, :, :, 1:4, 1:4] = np.arange(100, 1300, 100)[
        :, None, None, None]
    batch.images[2, 0, :, 0, 0] = 9000  # the rim is not read
    found = baselines.statistics(batch)
    assert found.shape == (4, 12 + 30)
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[2, :12], 0)  # equal bands: NDVI 0
    np.testing.assert_allclose(found[2, 12:22], 0.065, rtol=1e-6)  # median
    np.testing.assert_allclose(found[2, 22:32], 0.01, rtol=1e-6)
    np.testing.assert_allclose(found[2, 32:], 0.12, rtol=1e-6)


def test_inputs_are_columns_of_their_own():
    batch = make_batch(5, planted=False, seed=0)
    place = baselines.features(batch, ["place"])
    np.testing.assert_array_equal(place[1:], batch.environment[1:, :2])
    rest = baselines.features(batch, ["environment"])
    np.testing.assert_array_equal(rest[1:], batch.environment[1:, 2:])
    assert (rest[0] == -9999).all()
    both = baselines.features(batch, ["environment", "pixels"])
    assert both.shape == (5, 25 + 42) and np.isfinite(both).all()
    with pytest.raises(ValueError, match="expected some of place"):
        baselines.features(batch, ["text"])


def test_forest_finds_what_is_planted_and_nothing_else():
    train, test = (make_batch(n, planted=True, seed=n) for n in (300, 200))
    answer = baselines.tabular(train, test, 4, size=40)
    assert answer.shape == (200, 4) and answer.dtype == np.float32
    np.testing.assert_allclose(answer.sum(1), 1, rtol=1e-5)
    assert (answer[:, 3] == 0).all()  # a class that training lacks
    assert evaluation.hits(answer, test.labels).mean() > 0.97
    boosted = baselines.tabular(train, test, 4, size=8, boosting=True)
    assert (boosted[:, 3] == 0).all()
    assert evaluation.hits(boosted, test.labels).mean() > 0.95
    blind = baselines.tabular(train, test, 4, size=40,
                              inputs=["place", "environment"])
    assert evaluation.hits(blind, test.labels).mean() < 0.45
    noise = [make_batch(n, planted=False, seed=n) for n in (300, 200)]
    chance = baselines.tabular(*noise, 4, size=40)
    assert evaluation.hits(chance, noise[1].labels).mean() < 0.45


def test_boosting_survives_rare_classes():
    """A long tail of classes, all told by one variable."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, 41) ** 1.5
    both = []
    for n in (900, 400):
        batch = make_batch(n, planted=False, seed=n)
        labels = rng.choice(40, n, p=share / share.sum())
        batch.environment[:] = rng.normal(size=(n, 27))
        batch.environment[:, 7] = labels + rng.normal(0, 0.3, n)
        both.append(batch._replace(labels=labels))
    answer = baselines.tabular(*both, 40, inputs=["environment"],
                               boosting=True)
    usual = (both[1].labels == 0).mean()
    assert evaluation.hits(answer, both[1].labels).mean() > usual + 0.2


def test_forest_repeats_and_leaves_its_input():
    train, test = (make_batch(60, planted=True, seed=i) for i in (1, 2))
    before = [x.copy() for x in (*train, *test)]
    first = baselines.tabular(train, test, 3, size=10, seed=4)
    np.testing.assert_array_equal(
        baselines.tabular(train, test, 3, size=10, seed=4), first)
    for left, right in zip((*train, *test), before, strict=True):
        np.testing.assert_array_equal(left, right)


# All of them ---------------------------------------------------------------

def test_classes_of_one_record_or_none_are_answered_all_the_same(
        planet_halves):
    train, test = planet_halves
    classes = train.classes
    number = np.bincount(taxonomy.labels(train.table, classes),
                         minlength=len(classes))
    assert (number == 1).sum() > 5 and (number == 0).sum() > 5
    answers = baselines.answers(train, test, classes)
    assert list(answers) == [name for name in baselines.READS
                             if "CLIP" not in name]
    labels = taxonomy.labels(test.table, classes)
    for name, answer in answers.items():
        checks.probabilities(answer, k=len(classes), n=len(labels))
        lost = number[labels] == 0  # nobody could learn these
        assert lost.any(), name
        assert not evaluation.hits(answer[lost], labels[lost], 5).any(), name


def test_the_best_without_pixels_reads_none():
    right, wrong = np.eye(2)[[0, 1, 0]], np.eye(2)[[1, 0, 1]]
    half = np.eye(2)[[0, 1, 1]]
    answers = {"most frequent": wrong, "nearest places": half,
               "forest, pixels": right, "compact model": right}
    labels = np.array([0, 1, 0])
    assert baselines.best_without_pixels(answers, labels) == "nearest places"
    with pytest.raises(ValueError, match="no baseline without pixels among "
                                         "forest, pixels"):
        baselines.best_without_pixels({"forest, pixels": right}, labels)


def test_a_record_in_training_and_test_is_refused(planet_halves):
    train, _ = planet_halves
    again = train.select([3, 5])
    with pytest.raises(splits.LeakageError,
                       match="2 records are both in train and in test"):
        baselines.answers(train, again, train.classes)
