"""Scores against hand-computed values; nothing depends on the batch."""

from __future__ import annotations

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

from geotree import checks, evaluation, taxonomy
from geotree.evaluation import bootstrap, metrics
from geotree.shards import Batch

CLASSES = pd.DataFrame({
    "species": ["Betula pendula", "Fagus sylvatica", "Picea abies",
                "Pinus mugo", "Pinus sylvestris", "Quercus ilex",
                "Quercus robur"],
    "genus": ["Betula", "Fagus", "Picea", "Pinus", "Pinus", "Quercus",
              "Quercus"],
    "family": ["Betulaceae", "Fagaceae", "Pinaceae", "Pinaceae", "Pinaceae",
               "Fagaceae", "Fagaceae"],
    "leafType": ["Deciduous Broadleaf", "Deciduous Broadleaf",
                 "Evergreen Needleleaf", "Evergreen Needleleaf",
                 "Evergreen Needleleaf", "Evergreen Broadleaf",
                 "Deciduous Broadleaf"],
})
K = len(CLASSES)


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(K, 0.4), size=400)
    labels = np.where(rng.random(400) < 0.6, probabilities.argmax(1),
                      rng.integers(0, K, 400))
    return probabilities, labels


def value(table, rank, metric="top1", group="all", column="value"):
    row = table[(table["rank"] == rank) & (table["metric"] == metric)
                & (table["group"] == group)]
    assert len(row) == 1
    return row[column].item()


# Hits ------------------------------------------------------------------------

def test_hits_by_hand():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3],
                              [0.1, 0.2, 0.7]])
    labels = np.array([1, 1, 0])
    assert evaluation.hits(probabilities, labels).tolist() == [
        False, True, False]
    assert evaluation.hits(probabilities, labels, 2).tolist() == [
        True, True, False]


def test_ties_rank_by_class_number():
    flat = np.full((7, 7), 1 / 7)
    labels = np.arange(7)
    assert evaluation.hits(flat, labels).tolist() == [True] + 6 * [False]
    assert evaluation.hits(flat, labels, 5).sum() == 5


def test_ties_do_not_ask_for_the_alphabet():
    """A class table in another order: a score is the mean of the hits."""
    turned = CLASSES[::-1].reset_index(drop=True)
    flat, labels = np.full((K, K), 1 / K), np.arange(K) % 3
    np.testing.assert_array_equal(
        taxonomy.roll_up(flat * np.arange(K), turned, "species")[0],
        flat * np.arange(K))
    scores = evaluation.score(flat, labels, turned, draws=0)
    for metric, k in (("top1", 1), ("top5", 5)):
        assert value(scores, "species", metric) == evaluation.hits(
            flat, labels, k).mean()


def test_probability_zero_is_never_right():
    sure = np.tile([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0], (2, 1))
    assert evaluation.hits(sure, np.array([0, 2]), 5).tolist() == [
        False, True]


def test_logits_are_no_probabilities():
    logits, labels = np.eye(3) - 0.5, np.arange(3)
    with pytest.raises(ValueError, match="run from -0.5 .* softmax"):
        evaluation.hits(logits, labels)
    right = np.eye(3)
    for work in (lambda: evaluation.compare(right, 2 * right, labels),
                 lambda: metrics.risk_coverage(2 * right, labels)):
        with pytest.raises(ValueError, match="sum to one, but to 2.0"):
            work()


# Scores ----------------------------------------------------------------------

def test_coarser_ranks_are_summed_not_read_off():
    """Birch leads the species, but the two oaks are likelier together."""
    probabilities = np.array([[0.4, 0.0, 0.0, 0.0, 0.0, 0.3, 0.3]])
    scores = evaluation.score(probabilities, np.array([6]), CLASSES)
    assert value(scores, "species") == 0
    assert value(scores, "genus") == 1
    assert value(scores, "family") == 1
    assert value(scores, "leafType") == 1  # 0.4 + 0.3 deciduous broadleaf


def test_scores_against_loops(answers):
    probabilities, labels = answers
    groups = np.where(labels % 2, "odd", "even")
    scores = evaluation.score(probabilities, labels, CLASSES, groups=groups,
                              draws=20)
    for rank in taxonomy.RANKS:
        names, index = taxonomy.members(CLASSES, rank)
        summed = np.stack([probabilities[:, index == i].sum(1)
                           for i in range(len(names))], 1)
        target = index[labels]
        right = summed.argmax(1) == target
        macro = np.mean([right[target == i].mean()
                         for i in np.unique(target)])
        assert value(scores, rank) == pytest.approx(right.mean())
        assert value(scores, rank, "macro_top1") == pytest.approx(macro)
        odd = groups == "odd"
        assert value(scores, rank, group="odd") == pytest.approx(
            right[odd].mean())
        assert value(scores, rank, group="odd", column="n") == odd.sum()
    top5 = np.mean([label in np.argsort(-row)[:5] for row, label
                    in zip(probabilities, labels, strict=True)])
    assert value(scores, "species", "top5") == pytest.approx(top5)
    few = scores[scores["rank"] == "leafType"]["metric"]  # 3 names
    assert "top5" not in set(few)


def test_macro_counts_only_classes_that_occur():
    labels = np.array([0, 0, 0, 1])
    probabilities = np.eye(K)[[0, 0, 2, 1]]
    scores = evaluation.score(probabilities, labels, CLASSES, draws=0)
    assert value(scores, "species", "macro_top1") == pytest.approx(
        (2 / 3 + 1) / 2)


def test_reciprocal_rank_by_hand():
    """Ties stand in order of their number; probability zero has no rank."""
    probabilities = np.array([[0.5, 0.5, 0, 0, 0, 0, 0]] * 3
                             + [[0.1, 0.2, 0.7, 0, 0, 0, 0]])
    labels = np.array([0, 1, 2, 0])  # ranks 1, 2, none, 3
    scores = evaluation.score(probabilities, labels, CLASSES, draws=0)
    assert value(scores, "species", "mrr") == pytest.approx(
        (1 + 1 / 2 + 0 + 1 / 3) / 4)
    # Summed to families: birch ½, beech ½, none for Pinaceae; 0.1 is third.
    assert value(scores, "family", "mrr") == pytest.approx(
        (1 + 1 / 2 + 0 + 1 / 3) / 4)


def test_each_column_is_a_way_to_group(answers):
    probabilities, labels = answers
    groups = pd.DataFrame({"rarity": np.where(labels > 3, "Rare", "Common"),
                           "year": 2015 + labels % 3})
    scores = evaluation.score(probabilities, labels, CLASSES, groups=groups,
                              draws=0, ranks=["genus"])
    assert set(zip(scores["by"], scores["group"], strict=True)) == {
        ("all", "all"), ("rarity", "Rare"), ("rarity", "Common"),
        ("year", "2015"), ("year", "2016"), ("year", "2017")}
    rare = evaluation.score(probabilities[labels > 3], labels[labels > 3],
                            CLASSES, draws=0, ranks=["genus"])
    for metric in ("top1", "mrr", "macro_f1"):
        assert value(scores, "genus", metric, "Rare") == pytest.approx(
            value(rare, "genus", metric))


def test_order_is_of_no_influence(answers):
    probabilities, labels = answers
    blocks = np.arange(len(labels)) // 20
    order = np.random.default_rng(1).permutation(len(labels))
    whole = evaluation.score(probabilities, labels, CLASSES, blocks=blocks)
    mixed = evaluation.score(probabilities[order], labels[order], CLASSES,
                             blocks=blocks[order])
    pd.testing.assert_frame_equal(whole, mixed)


def test_perfect_and_chance():
    labels = np.tile(np.arange(K), 100)
    scores = evaluation.score(np.eye(K)[labels], labels, CLASSES)
    assert (scores["value"] == 1).all() and (scores["low"] > 0.99).all()
    random = np.random.default_rng(0).dirichlet(np.ones(K), len(labels))
    scores = evaluation.score(random, labels, CLASSES)
    assert value(scores, "species", column="low") < 1 / K < value(
        scores, "species", column="high")


def test_inputs_stay_as_they_are(answers):
    probabilities, labels = (x.copy() for x in answers)
    evaluation.score(probabilities, labels, CLASSES)
    np.testing.assert_array_equal(probabilities, answers[0])
    np.testing.assert_array_equal(labels, answers[1])


@pytest.mark.parametrize(("change", "message"), [
    (lambda p, y: (2 * p, y), "do not sum to one, but to 2"),
    (lambda p, y: (np.where(p == p[3, 2], np.nan, p), y), "first is row 3"),
    (lambda p, y: (p + np.eye(K)[0] - np.eye(K)[1], y), "run from -"),
    (lambda p, y: (p[:, :-1], y), r"shape \(400, 6\), expected \(400"),
    (lambda p, y: (p, y[:-1]), r"expected \(399"),
    (lambda p, y: (p, np.where(y == y[5], K, y)), "not among the 7 classes"),
    (lambda p, y: (p, np.where(y == 0, -1, y)), "the first is -1"),
    (lambda p, y: (p, y.astype(float)), "labels are float64"),
    (lambda p, y: (p[:0], y[:0]), "no samples"),
])
def test_wrong_answers_are_refused(answers, change, message):
    with pytest.raises(ValueError, match=message):
        evaluation.score(*change(*answers), CLASSES)


def test_wrong_columns_are_refused(answers):
    with pytest.raises(ValueError, match="groups have shape"):
        evaluation.score(*answers, CLASSES, groups=["a"] * 3)
    with pytest.raises(ValueError, match="blocks have shape"):
        evaluation.score(*answers, CLASSES, blocks=np.arange(3))


# Intervals -------------------------------------------------------------------

def test_interval_of_rows_is_the_binomial_one():
    rng = np.random.default_rng(0)
    right = rng.random(2000) < 0.7
    labels = rng.integers(0, K, 2000)
    answer = np.where(right, labels, (labels + 1) % K)
    scores = evaluation.score(np.eye(K)[answer], labels, CLASSES,
                              ranks=["species"], draws=2000)
    half = 1.96 * math.sqrt(0.7 * 0.3 / 2000)
    width = value(scores, "species", column="high") - value(
        scores, "species", column="low")
    assert width == pytest.approx(2 * half, rel=0.1)


def test_blocks_widen_the_interval_where_rows_repeat():
    """Ten copies of each record are no ten witnesses."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, K, 100)
    answer = np.where(rng.random(100) < 0.5, labels, (labels + 1) % K)
    labels, answer = np.repeat(labels, 10), np.repeat(answer, 10)
    blocks = np.repeat(np.arange(100), 10)
    width = {}
    for name, units in {"rows": None, "blocks": blocks}.items():
        scores = evaluation.score(np.eye(K)[answer], labels, CLASSES,
                                  ranks=["species"], blocks=units,
                                  draws=1000)
        width[name] = (value(scores, "species", column="high")
                       - value(scores, "species", column="low"))
    assert width["blocks"] / width["rows"] == pytest.approx(
        math.sqrt(10), rel=0.15)


def test_bootstrap_equals_resampled_rows(answers):
    """The matrix product gives what copying rows would give."""
    probabilities, labels = answers
    units = np.random.default_rng(3).integers(0, 30, len(labels))
    right = evaluation.hits(probabilities, labels)
    answer = probabilities.argmax(1)
    sums = bootstrap.Sums({"top1": right}, labels, answer, units, 30)
    first, rest = bootstrap.weights(30, 5, seed=7)
    assert (first == 1).all()
    for weight, found in zip(rest, sums.values(rest), strict=True):
        rows = np.repeat(np.arange(len(labels)),
                         weight[units].astype(int))
        by_class = [right[rows][labels[rows] == i].mean()
                    for i in np.unique(labels[rows])]
        f1 = f1_score(labels[rows], answer[rows], average="macro",
                      labels=np.unique(labels[rows]))
        np.testing.assert_allclose(found, [right[rows].mean(),
                                           np.mean(by_class), f1])


@pytest.mark.parametrize("number", [8, 30])
def test_ninety_five_of_a_hundred_intervals_hold_the_truth(number):
    """Blocks of very uneven size, each of its own difficulty."""
    inside, runs = 0, 500
    for run in range(runs):
        rng = np.random.default_rng(run)
        sizes = np.maximum(1, rng.lognormal(2, 1, number)).astype(int)
        block = np.repeat(np.arange(number), sizes)
        right = rng.random(len(block)) < rng.beta(2, 2, number)[block]
        sums = bootstrap.Sums({"top1": right}, block * 0, block * 0, block,
                              number)
        values = np.concatenate([sums.values(weight)[:, :1] for weight
                                 in bootstrap.weights(number, 400, run)])
        low, high = bootstrap.interval(values, np.array([sums.effective]))
        inside += low[0] <= 0.5 <= high[0]
    assert 0.93 < inside / runs < 0.985


@pytest.mark.parametrize(("number", "least"), [(5, 0.91), (30, 0.93)])
def test_macro_intervals_hold_with_few_blocks_and_names_of_few(number, least):
    """Equal blocks, and names of which each lives in two of them.

    Without what the draws cannot show it is 0.87 of a hundred.
    """
    inside, runs = 0, 200
    for run in range(runs):
        rng = np.random.default_rng(run)
        block = np.repeat(np.arange(number), 20)
        home = np.stack([rng.choice(number, 2, replace=False)
                         for _ in range(10)])  # (names, 2)
        able = [np.flatnonzero((home == one).any(1)) for one in
                range(number)]
        name = np.array([rng.choice(able[one]) if len(able[one]) else 0
                         for one in block])
        right = rng.random(len(block)) < rng.beta(2, 2, number)[block]
        sums = bootstrap.Sums({"top1": right}, name, name, block, number)
        values = np.concatenate([sums.values(weight)[:, 1:2] for weight
                                 in bootstrap.weights(number, 200, run)])
        low, high = bootstrap.interval(values, np.array([sums.effective]),
                                       np.array([sums.missed]))
        inside += low[0] <= 0.5 <= high[0]
    assert least < inside / runs < 0.99


def test_units_of_uneven_size_count_for_fewer():
    zero = np.zeros(6, int)
    even, uneven, one = (
        bootstrap.Sums({"top1": zero}, zero, zero, np.array(unit), 7).effective
        for unit in ([0, 0, 1, 1, 6, 6], [0, 0, 0, 0, 1, 2], [3] * 6))
    assert (even, uneven, one) == (3, 2, 1)


def test_chunks_of_draws_change_nothing(monkeypatch):
    whole = np.concatenate(list(bootstrap.weights(50, 40, seed=1)))
    monkeypatch.setattr(bootstrap, "_CELLS", 350)
    parts = list(bootstrap.weights(50, 40, seed=1))
    assert len(parts) == 7  # ones, then 7 draws at a time
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("n", [2, 9, 60])
def test_all_right_is_not_known_for_sure(n, right):
    """Draws of equal rows show no spread: as wide as the exact interval."""
    from scipy.stats import binomtest

    labels = np.arange(n) % K
    answer = np.eye(K)[labels if right else (labels + 1) % K]
    exact = binomtest(n * right, n).proportion_ci()
    top1 = evaluation.score(answer, labels, CLASSES, ranks=["species"],
                            blocks=np.arange(n)).iloc[0]
    assert tuple(top1[["low", "high"]]) == pytest.approx(tuple(exact))
    gain = evaluation.compare(answer, answer, labels, blocks=np.arange(n))
    assert (gain["low"], gain["high"]) == (0, 0)  # they are the same model


def test_one_block_has_no_interval(answers):
    scores = evaluation.score(*answers, CLASSES, ranks=["species"],
                              blocks=np.zeros(400))
    assert scores["value"].notna().all()
    assert scores[["low", "high"]].isna().all(axis=None)


def test_comparison_is_paired(answers):
    probabilities, labels = answers
    worse = probabilities.copy()
    flip = np.arange(0, 400, 8)
    worse[flip] = np.roll(worse[flip], 1, axis=1)
    gain = evaluation.compare(probabilities, worse, labels)
    by_hand = (evaluation.hits(probabilities, labels).mean()
               - evaluation.hits(worse, labels).mean())
    assert gain["difference"] == pytest.approx(by_hand)
    assert gain["low"] > 0  # though each interval alone overlaps
    alone = [evaluation.score(p, labels, CLASSES, ranks=["species"]).iloc[0]
             for p in (probabilities, worse)]
    assert alone[0]["low"] < alone[1]["high"]
    same = evaluation.compare(worse, worse, labels)
    assert same["low"] == same["difference"] == same["high"] == 0
    with pytest.raises(ValueError, match="two answers of shapes"):
        evaluation.compare(probabilities, worse[:9], labels)


def test_the_table_of_models_by_hand(answers):
    probabilities, labels = answers
    best, chance = np.eye(K)[labels], np.full((400, K), 1 / K)
    blocks = np.arange(400) // 20
    board = evaluation.leaderboard(
        {"chance": chance, "model": probabilities}, labels, CLASSES,
        reference="chance", blocks=blocks, optimum=best).set_index("model")
    gain = evaluation.compare(probabilities, chance, labels, blocks=blocks,
                              draws=500)
    assert board.loc["model", ["adds", "adds_low", "adds_high"]].tolist() == (
        gain[["difference", "low", "high"]].tolist())
    assert board.loc["chance", "adds"] == 0
    top1 = evaluation.hits(probabilities, labels).mean()
    assert board.loc["model", "of_optimum"] == pytest.approx(top1)
    half = np.where(np.arange(400)[:, None] % 2, best, np.roll(best, 1, 1))
    share = evaluation.leaderboard(
        {"model": probabilities}, labels, CLASSES, reference="model",
        optimum=half, rank="genus")["of_optimum"].item()
    genus = [taxonomy.roll_up(p, CLASSES, "genus")[0]
             for p in (probabilities, half)]
    target = taxonomy.roll_up_labels(labels, CLASSES, "genus")
    by_hand = [evaluation.hits(p, target).mean() for p in genus]
    assert share == pytest.approx(by_hand[0] / by_hand[1]) and by_hand[1] < 1
    with pytest.raises(ValueError, match="reference is 'x', expected one of '"
                                         "model"):
        evaluation.leaderboard({"model": probabilities}, labels, CLASSES,
                               reference="x")


# Models ----------------------------------------------------------------------

@pytest.fixture(scope="module")
def model():
    import torch

    from geotree.models.compact import CompactClip, CompactConfig

    torch.manual_seed(0)
    return CompactClip(CompactConfig(width=32, depth=1, heads=2,
                                     embedding=16, buckets=64))


def make_batch(n: int, seed: int = 0) -> Batch:
    """Samples whose brightness gives away the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % K
    images = rng.integers(200, 400, (n, 12, 10, 5, 5))
    images += (labels * 600)[:, None, None, None, None]
    images[rng.random((n, 12)) < 0.2] = 65535
    environment = np.zeros((n, 27), np.float32)
    environment[:, 5:8] = np.nan
    return Batch(images.astype(np.uint16), environment, labels,
                 np.arange(n) + 100)


def test_predictions_do_not_depend_on_the_batch(model):
    batch = make_batch(23)
    model.fit_normalisation(batch)
    model.train()
    whole = evaluation.predict(model, batch, CLASSES)
    assert model.training  # as it was
    assert whole.shape == (23, K) and whole.dtype == np.float32
    np.testing.assert_allclose(whole.sum(1), 1, atol=1e-5)
    single = evaluation.predict(model, batch, CLASSES, batch_size=1)
    np.testing.assert_allclose(single, whole, atol=1e-5)
    order = np.random.default_rng(0).permutation(23)
    mixed = evaluation.predict(model, Batch(*(x[order] for x in batch)),
                               CLASSES, batch_size=5)
    np.testing.assert_allclose(mixed, whole[order], atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        rough = evaluation.predict(model, batch, CLASSES)
    assert rough.dtype == np.float32
    np.testing.assert_allclose(rough, whole, atol=0.05)
    features = evaluation.embed(model, batch, batch_size=4)
    assert features.shape == (23, 16)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1,
                               rtol=1e-4)
    for one in (copy.deepcopy(model).double(), copy.deepcopy(model).half()):
        again = evaluation.predict(one, features, CLASSES)
        np.testing.assert_allclose(again, whole, atol=1e-2)


def test_no_samples_are_refused(model):
    empty = Batch(*(x[:0] for x in make_batch(2)))
    with pytest.raises(ValueError, match="no samples"):
        evaluation.predict(model, empty, CLASSES)
    with pytest.raises(ValueError, match="no samples"):
        evaluation.embed(model, empty)
    with pytest.raises(ValueError, match="batch_size is 0"):
        evaluation.embed(model, make_batch(2), batch_size=0)


def test_a_year_without_any_pixel_is_answered_and_named(model):
    batch = make_batch(9)
    model.fit_normalisation(batch)
    whole = evaluation.predict(model, batch, CLASSES)
    batch.images[[2, 7]] = 65535
    batch.environment[7] = np.nan  # nothing is known of this one
    with pytest.warns(UserWarning, match="2 samples have no pixel in any "
                                         "month: 102, 107. They"):
        answer = evaluation.predict(model, batch, CLASSES, batch_size=4)
    checks.probabilities(answer, k=K, n=len(batch.labels))
    others = np.delete(np.arange(9), [2, 7])
    np.testing.assert_allclose(answer[others], whole[others], atol=1e-5)


def test_the_likeliest_are_those_of_the_whole_answer(model, monkeypatch):
    monkeypatch.setattr(metrics, "_CELLS", 3 * K)
    batch = make_batch(23)
    model.fit_normalisation(batch)
    whole = evaluation.predict(model, batch, CLASSES)
    index, odds = evaluation.likeliest(model, batch, CLASSES, 3,
                                       batch_size=4)
    assert index.shape == odds.shape == (23, 3)
    np.testing.assert_array_equal(index[:, 0], whole.argmax(1))
    np.testing.assert_allclose(odds, -np.sort(-whole, axis=1)[:, :3],
                               rtol=1e-4)
    with pytest.raises(ValueError, match="k is 8, expected .* at most 7"):
        evaluation.likeliest(model, batch, CLASSES, 8)


def test_many_classes_come_in_few_rows(model, monkeypatch):
    batch = make_batch(23)
    model.fit_normalisation(batch)
    whole = evaluation.predict(model, batch, CLASSES)
    monkeypatch.setattr(metrics, "_CELLS", 4 * K)
    parts = list(evaluation.predict_batches(model, batch, CLASSES))
    assert [len(part) for part in parts] == [4] * 5 + [3]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


def test_batches_are_scored_as_they_come(answers, monkeypatch):
    """However the rows are cut, and however few are worked on at once."""
    probabilities, labels = answers
    blocks = np.arange(400) // 20
    whole = evaluation.score(probabilities, labels, CLASSES, blocks=blocks)
    for size in (1, 7, 400):
        parts = (probabilities[i:i + size] for i in range(0, 400, size))
        pd.testing.assert_frame_equal(whole, evaluation.score(
            parts, labels, CLASSES, blocks=blocks))
    monkeypatch.setattr(metrics, "_CELLS", 10 * K)
    pd.testing.assert_frame_equal(whole, evaluation.score(
        probabilities, labels, CLASSES, blocks=blocks))
    with pytest.raises(ValueError, match="of 399 samples, but 400 labels"):
        evaluation.score(iter([probabilities[:-1]]), labels, CLASSES)
    with pytest.raises(ValueError, match="no samples to score"):
        evaluation.score(iter([]), labels[:0], CLASSES)
    with pytest.raises(ValueError, match="first is row 203"):
        spoilt = probabilities.copy()
        spoilt[203] *= 2
        evaluation.score(iter(np.split(spoilt, 4)), labels, CLASSES)


# Exact as the model is sure -------------------------------------------------

def test_the_deepest_name_by_hand():
    sure = np.array([[0.4, 0.0, 0.0, 0.0, 0.0, 0.3, 0.3],
                     [0.0, 0.0, 0.9, 0.1, 0.0, 0.0, 0.0],
                     [0.3, 0.0, 0.3, 0.2, 0.2, 0.0, 0.0]])
    found = metrics.deepest(sure, CLASSES, confidence=0.6)
    assert found["rank"].tolist() == ["genus", "species", "family"]
    assert found["name"].tolist() == ["Quercus", "Picea abies", "Pinaceae"]
    np.testing.assert_allclose(found["confidence"], [0.6, 0.9, 0.7])
    none = metrics.deepest(sure, CLASSES, confidence=0.95)
    assert none["rank"].isna().tolist() == [True, False, True]
    assert none["rank"][1] == "family"  # a spruce or a pine, surely
    with pytest.raises(ValueError, match="confidence is 1.5"):
        metrics.deepest(sure, CLASSES, confidence=1.5)


def test_accuracy_and_coverage_by_hand():
    sure = np.array([[0.4, 0.0, 0.0, 0.0, 0.0, 0.3, 0.3],
                     [0.0, 0.0, 0.9, 0.1, 0.0, 0.0, 0.0],
                     [0.3, 0.0, 0.3, 0.2, 0.2, 0.0, 0.0]])
    labels = np.array([6, 3, 4])  # an oak, two pines
    table = metrics.accuracy_coverage(sure, labels, CLASSES,
                                      thresholds=[0, 0.6, 0.95, 1])
    np.testing.assert_allclose(table["coverage"], [1, 1, 1 / 3, 1 / 3])
    # Species alone; oak and Pinaceae right, spruce wrong; Pinaceae right.
    np.testing.assert_allclose(table["accuracy"], [0, 2 / 3, 1, 1])
    np.testing.assert_allclose(table["species"], [1, 1 / 3, 0, 0])
    np.testing.assert_allclose(table["family"], [0, 1 / 3, 1 / 3, 1 / 3])
    with pytest.raises(ValueError, match="do not sum to one"):
        metrics.accuracy_coverage(2 * sure, labels, CLASSES)


def test_risk_and_coverage_by_hand():
    sure = np.eye(K)[[0, 1, 2, 3]] * 0.5 + 0.5 / K
    sure[3] = [0.05, 0.05, 0.05, 0.7, 0.05, 0.05, 0.05]
    labels = np.array([0, 1, 6, 3])  # the third is wrong
    table = metrics.risk_coverage(sure, labels)
    np.testing.assert_allclose(table["coverage"], [1 / 4, 1])  # a tie of 3
    np.testing.assert_allclose(table["risk"], [0, 1 / 4])
    assert table.attrs["area"] == pytest.approx(3 / 4 * 1 / 4)


# Few shots -------------------------------------------------------------------

def test_class_means_by_hand():
    features = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    means = evaluation.class_means(features, np.array([0, 0, 1]), 2)
    np.testing.assert_allclose(means[0], np.array([1.6, 0.8])
                               / math.hypot(1.6, 0.8))
    np.testing.assert_allclose(means[1], [0, 1])
    answer = evaluation.nearest_mean(features, means)
    np.testing.assert_allclose(answer.sum(1), 1)
    assert answer.argmax(1).tolist() == [0, 0, 1]


def test_names_count_as_one_record():
    names = np.array([[0.0, 1.0], [1.0, 0.0]])
    means = evaluation.class_means(np.array([[1.0, 0.0]]), np.array([0]), 2,
                                   names=names)
    np.testing.assert_allclose(means, [[0.5 ** 0.5] * 2, [1, 0]])


def test_class_means_refuse_what_they_cannot_use():
    features = np.eye(3)
    with pytest.raises(ValueError, match="1 of 3 classes have no support"):
        evaluation.class_means(features, np.array([0, 0, 2]), 3)
    with pytest.raises(ValueError, match="not among the 3 classes 0 to 2"):
        evaluation.class_means(features, np.array([0, 1, 3]), 3)
    with pytest.raises(ValueError, match="one row for each"):
        evaluation.class_means(features, np.array([0, 1]), 3)


def test_between_batches_the_caller_s_own_mode_holds(model):
    """A generator that waits must not switch gradients off for others."""
    import torch

    batch = make_batch(6)
    model.fit_normalisation(batch)
    batches = evaluation.predict_batches(model, batch, CLASSES, batch_size=2)
    model.train()
    next(batches)
    assert torch.is_grad_enabled() and model.training


def test_the_mean_of_anything_has_the_interval_of_what_it_is():
    """Of hits it is that of top-1; of clustered rows it is wider."""
    rng = np.random.default_rng(5)
    block = np.repeat(np.arange(40), 10)
    right = rng.random(400) < rng.random(40)[block]
    pair = pd.DataFrame({"species": ["a", "b"], "genus": ["a", "b"],
                         "family": ["a", "b"], "leafType": "any"})
    scored = evaluation.score(
        np.column_stack([right, ~right]).astype(float), 0 * block, pair,
        ranks=["species"], blocks=block, draws=1000).iloc[0]
    found = evaluation.mean(right, blocks=block)
    assert found.tolist() == scored[["value", "low", "high", "n"]].tolist()
    narrow = evaluation.mean(right)
    assert found["high"] - found["low"] > narrow["high"] - narrow["low"]
    loss = rng.exponential(size=400) - 1
    free = evaluation.mean(loss, blocks=block, limits=(-np.inf, np.inf))
    assert free["low"] < free["value"] < free["high"]


@pytest.mark.parametrize(("values", "what"), [
    ([], "0 of type"), ([0.5, np.nan], "1 of 2 values are missing"),
    ([0.5, 1.5], "1 of 2 values are not from 0 to 1"),
    (["a", "b"], "2 of type")])
def test_a_mean_needs_numbers_within_limits(values, what):
    with pytest.raises(ValueError, match=what):
        evaluation.mean(values)
