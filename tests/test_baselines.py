"""Baselines on toy places, and the reference numbers of the real table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geotree import baselines, evaluation, splits, taxonomy
from geotree.shards import Batch
from geotree.variables import NODATA


def table(lat, lon) -> pd.DataFrame:
    return pd.DataFrame({"decimalLatitude": np.asarray(lat, float),
                         "decimalLongitude": np.asarray(lon, float)})


def test_majority_is_the_frequency():
    answer = baselines.majority(np.array([2, 2, 0]), 4, 3)
    assert answer.shape == (4, 3) and answer.dtype == np.float32
    np.testing.assert_allclose(answer[3], [1 / 3, 0, 2 / 3], rtol=1e-6)


# Place -----------------------------------------------------------------------

def test_votes_weigh_by_distance():
    """Two records at 2° and one at 1°: the votes are equal."""
    train = table([0, 0, 0], [-2, 2.0, 1])
    votes = baselines.location_knn(train, np.array([0, 0, 1]),
                                   table([0], [0]), 3)
    np.testing.assert_allclose(votes, [[0.5, 0.5, 0]], atol=1e-6)


def test_nearest_is_on_the_globe_not_on_the_map():
    """Across 180°, and at 80° N, where a degree of longitude is short."""
    train = table([10, 10, 80, 70], [179.5, 150, 100, 70])
    votes = baselines.location_knn(
        train, np.array([0, 1, 2, 3]), table([10, 80], [-179.5, 70]), 4,
        neighbours=1)
    assert votes.argmax(1).tolist() == [0, 2]


def test_rows_sum_to_one_for_any_number_of_neighbours():
    rng = np.random.default_rng(0)
    train = table(rng.uniform(-60, 70, 12), rng.uniform(-180, 180, 12))
    for neighbours in (1, 5, 25):
        votes = baselines.location_knn(train, np.arange(12) % 5, train, 7,
                                       neighbours=neighbours)
        assert votes.shape == (12, 7) and votes.dtype == np.float32
        np.testing.assert_allclose(votes.sum(1), 1, rtol=1e-5)
        assert (votes[:, 5:] == 0).all()
    # A record at the very place outvotes all others.
    assert (votes.argmax(1) == np.arange(12) % 5).all()


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    train = table(rng.uniform(40, 50, 90), rng.uniform(0, 10, 90))
    labels = rng.integers(0, 4, 90)
    whole = baselines.location_knn(train, labels, train, 4)
    monkeypatch.setattr(baselines, "_CHUNK", 7)
    np.testing.assert_array_equal(
        baselines.location_knn(train, labels, train, 4), whole)


def test_folds_keep_blocks_whole():
    rng = np.random.default_rng(0)
    places = table(rng.uniform(40, 50, 500), rng.uniform(-5, 5, 500))
    fold = baselines.folds(places, degrees=1, seed=3)
    assert sorted(np.unique(fold)) == [0, 1, 2, 3, 4]
    frame = pd.DataFrame({"block": splits.blocks(places, 1), "fold": fold})
    assert (frame.groupby("block")["fold"].nunique() == 1).all()
    np.testing.assert_array_equal(
        fold, baselines.folds(places, degrees=1, seed=3))
    rows = baselines.folds(places, number=4)
    assert np.bincount(rows).tolist() == [125] * 4
    with pytest.raises(ValueError, match="expected 2 to 500"):
        baselines.folds(places, number=501)


def test_folds_never_answer_from_themselves():
    """Twins share a fold, so that none finds the other."""
    lat = np.repeat(np.arange(30.0), 2)
    places = table(lat, np.zeros(60))
    labels = np.repeat(np.arange(30), 2)
    fold = np.repeat(np.arange(30) % 3, 2)
    votes = baselines.location_knn_folds(places, labels, 30, fold,
                                         neighbours=1)
    assert not evaluation.hits(votes, labels).any()


@pytest.mark.parametrize(("labels", "message"), [
    ([], "no training labels"), ([0, 9], "from 0 to 9, expected 0 to 2"),
    ([0, 1, 1], "3 labels for 2 training rows"),
])
def test_wrong_labels_are_refused(labels, message):
    train = table([0, 1], [0, 1])
    with pytest.raises(ValueError, match=message):
        baselines.location_knn(train, np.array(labels, int), train, 3)
    with pytest.raises(ValueError, match="neighbours is 0"):
        baselines.location_knn(train, np.array([0, 1]), train, 3,
                               neighbours=0)


# The release's table of 90 species: places and labels alone ------------------

@pytest.fixture(scope="module")
def real(real_table):
    from geotree import occurrences

    rows = occurrences.read_release(real_table)
    classes = taxonomy.class_table(rows)
    return rows, taxonomy.labels(rows, classes), len(classes)


@pytest.mark.parametrize(("degrees", "top1", "top5"), [
    (None, 58.2, 91.2), (1, 44.5, 83.2), (5, 30.4, 68.5)])
def test_reference_of_the_real_table(real, degrees, top1, top5):
    """25 neighbours, weight 1/d, five folds: within 1.5 points."""
    rows, labels, k = real
    assert len(rows) == 9930 and k == 90
    fold = baselines.folds(rows, degrees=degrees)
    votes = baselines.location_knn_folds(rows, labels, k, fold)
    found = [100 * evaluation.hits(votes, labels, n).mean() for n in (1, 5)]
    assert found == pytest.approx([top1, top5], abs=1.5)


@pytest.mark.parametrize(("shots", "mean", "spread"), [(1, 32.6, 1.7),
                                                       (3, 37.7, 1.2)])
def test_few_shots_of_the_real_table(real, shots, mean, spread):
    rows, labels, k = real
    found = []
    for draw in range(10):
        support, query = splits.k_shot(labels, shots, seed=draw)
        votes = baselines.location_knn(
            rows.iloc[support], labels[support], rows.iloc[query], k,
            neighbours=1)
        found.append(100 * evaluation.hits(votes, labels[query]).mean())
    assert np.mean(found) == pytest.approx(mean, abs=1.5)
    assert np.std(found) < 2 * spread


def test_majority_of_the_real_table(real):
    _, labels, k = real
    answer = baselines.majority(labels, len(labels), k)
    assert 100 * evaluation.hits(answer, labels).mean() == pytest.approx(
        1.8, abs=0.1)


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
    assert found.shape == (4, 27 + 12 + 30)
    np.testing.assert_array_equal(found[:, :27], batch.environment)
    assert np.isnan(found[1, 27:]).all()
    np.testing.assert_allclose(found[2, 27:39], 0)  # equal bands: NDVI 0
    np.testing.assert_allclose(found[2, 39:49], 0.065, rtol=1e-6)  # median
    np.testing.assert_allclose(found[2, 49:59], 0.01, rtol=1e-6)
    np.testing.assert_allclose(found[2, 59:], 0.12, rtol=1e-6)


def test_forest_finds_what_is_planted_and_nothing_else():
    train, test = (make_batch(n, planted=True, seed=n) for n in (300, 200))
    answer = baselines.random_forest(train, test, 4, trees=40)
    assert answer.shape == (200, 4) and answer.dtype == np.float32
    np.testing.assert_allclose(answer.sum(1), 1, rtol=1e-5)
    assert (answer[:, 3] == 0).all()  # a class that training lacks
    assert evaluation.hits(answer, test.labels).mean() > 0.97
    blind = baselines.random_forest(train, test, 4, trees=40, pixels=False)
    assert evaluation.hits(blind, test.labels).mean() < 0.45
    noise = [make_batch(n, planted=False, seed=n) for n in (300, 200)]
    chance = baselines.random_forest(*noise, 4, trees=40)
    assert evaluation.hits(chance, noise[1].labels).mean() < 0.45


def test_forest_repeats_and_leaves_its_input():
    train, test = (make_batch(60, planted=True, seed=i) for i in (1, 2))
    before = [x.copy() for x in (*train, *test)]
    first = baselines.random_forest(train, test, 3, trees=10, seed=4)
    np.testing.assert_array_equal(
        baselines.random_forest(train, test, 3, trees=10, seed=4), first)
    for left, right in zip((*train, *test), before, strict=True):
        np.testing.assert_array_equal(left, right)
