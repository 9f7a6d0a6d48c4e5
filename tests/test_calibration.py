"""Confidence against hand-computed values and against a known truth."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from geotree.evaluation import calibration

K = 7


def honest(n: int, *, seed: int = 0, concentration: float = 0.5):
    """Probabilities, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(K, concentration), n)
    draw = rng.random((n, 1))
    return probabilities, (probabilities.cumsum(1) > draw).argmax(1)


# Reliability -----------------------------------------------------------------

def test_an_honest_model_lies_on_the_diagonal():
    probabilities, labels = honest(20_000)
    table = calibration.reliability(probabilities, labels)
    assert table["n"].tolist() == [2000] * 10
    gap = (table["confidence"] - table["accuracy"]).abs()
    assert (gap < 1.6 * table["error"]).all()
    assert calibration.expected_calibration_error(table) < 0.015
    order = np.random.default_rng(1).permutation(20_000)
    pd.testing.assert_frame_equal(table, calibration.reliability(
        probabilities[order], labels[order]))


def test_reliability_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6],
                              [0.6, 0.4]])
    labels = np.array([0, 1, 1, 1])
    table = calibration.reliability(probabilities, labels, bins=2)
    np.testing.assert_allclose(table["confidence"], [0.6, 0.9])
    np.testing.assert_allclose(table["accuracy"], [0.5, 0.5])
    assert calibration.expected_calibration_error(table) == pytest.approx(
        (0.1 * 2 + 0.4 * 2) / 4)


def test_equal_confidence_shares_a_bin():
    flat = np.tile([0.7, 0.3], (50, 1))
    table = calibration.reliability(flat, np.arange(50) % 2)
    assert len(table) == 1 and table["n"].item() == 50


def test_errors_of_single_rows_by_hand():
    probabilities = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    labels = np.array([1, 2])
    np.testing.assert_allclose(calibration.brier(probabilities, labels),
                               [0.25 + 0.49 + 0.04, 2.0])
    np.testing.assert_allclose(
        calibration.log_loss(probabilities, labels),
        [-math.log(0.3), -math.log(1e-12)])
    report = calibration.summary(probabilities, labels)
    assert report["brier"] == pytest.approx(1.39) and report["n"] == 2


def test_chance_alone_makes_an_error_that_is_said():
    """Few honest answers look miscalibrated, as much as chance says."""
    found = pd.DataFrame([calibration.ece(*honest(200, seed=seed))
                          for seed in range(40)])
    assert found["ece"].mean() > 0.04
    assert found["ece"].mean() == pytest.approx(
        found["ece_chance"].mean(), rel=0.1)
    assert (found["ece"] > found["ece_chance_95"]).mean() < 0.15
    probabilities, labels = honest(200)
    sure = calibration.soften(probabilities, 0.3)
    wrong = calibration.ece(sure, labels)
    assert wrong["ece"] > wrong["ece_chance_95"]
    assert calibration.ece(*honest(20_000))["ece_chance_95"] < 0.02


# Temperature -----------------------------------------------------------------

@pytest.mark.parametrize("planted", [0.4, 1.0, 3.0])
def test_a_planted_temperature_is_found(planted):
    probabilities, labels = honest(20_000)
    distorted = calibration.soften(probabilities, 1 / planted)
    found = calibration.temperature(distorted, labels)
    assert found == pytest.approx(planted, rel=0.04)
    mended = calibration.soften(distorted, found)
    np.testing.assert_array_equal(mended.argmax(1), probabilities.argmax(1))
    assert (calibration.log_loss(mended, labels).mean()
            <= calibration.log_loss(distorted, labels).mean())
    np.testing.assert_allclose(mended, probabilities, atol=0.02)


@pytest.mark.parametrize("spoil", [
    lambda p, y: (p, p.argmax(1)),  # all right
    lambda p, y: (calibration.soften(p, 0.3), p.argmin(1))])  # all wrong
def test_a_temperature_at_its_bound_is_said(spoil):
    with pytest.warns(UserWarning, match="ran into its bound"):
        calibration.temperature(*spoil(*honest(300)))


def test_softening_equals_dividing_logits():
    logits = np.random.default_rng(0).normal(0, 3, (20, K)).astype("float32")

    def softmax(x):
        odds = np.exp(x - x.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    found = calibration.soften(softmax(logits), 2.5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, softmax(logits / 2.5), rtol=1e-4)
    np.testing.assert_allclose(calibration.soften(found, 1.0), found,
                               rtol=1e-5)
    with pytest.raises(ValueError, match="temperature is 0"):
        calibration.soften(found, 0)


# Sets ------------------------------------------------------------------------

@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_sets_hold_the_truth_as_often_as_promised(coverage):
    """Even for a model that is far too sure: the promise asks for no trust."""
    probabilities, labels = honest(8000)
    distorted = calibration.soften(probabilities, 0.3)
    half = slice(0, 4000), slice(4000, 8000)
    least = calibration.conformal(distorted[half[0]], labels[half[0]],
                                  coverage=coverage)
    sets = calibration.prediction_sets(distorted[half[1]], least)
    table = calibration.coverage_table(sets, labels[half[1]])
    assert table.loc["all", "coverage"] == pytest.approx(coverage, abs=0.02)
    assert 1 < table.loc["all", "size"] < K


def test_the_quantile_by_hand():
    right = np.array([0.9, 0.5, 0.7, 0.2])
    probabilities = np.column_stack([right, 1 - right])
    least = calibration.conformal(probabilities, np.zeros(4, int),
                                  coverage=0.6)
    np.testing.assert_allclose(least, 0.5)  # 2nd smallest: floor(5 · 0.4)
    least = calibration.conformal(probabilities, np.zeros(4, int),
                                  coverage=0.9)
    assert (least == 0).all()  # four samples cannot promise 90 %


def test_a_promise_to_each_class_is_kept_for_a_class_that_is_hard():
    rng = np.random.default_rng(0)
    n = 6000
    labels = rng.integers(0, K, n)
    logits = rng.normal(0, 1, (n, K))
    logits[np.arange(n), labels] += np.where(labels == 3, 0.0, 4.0)
    odds = np.exp(logits)
    probabilities = odds / odds.sum(1, keepdims=True)
    cover = {}
    for name, groups in {"all": None, "each": np.arange(K)}.items():
        least = calibration.conformal(probabilities[:3000], labels[:3000],
                                      coverage=0.9, groups=groups)
        sets = calibration.prediction_sets(probabilities[3000:], least)
        cover[name] = calibration.coverage_table(sets, labels[3000:],
                                                 labels[3000:])
    assert cover["all"].loc["all", "coverage"] == pytest.approx(0.9, abs=0.02)
    assert cover["all"].loc["3", "coverage"] < 0.6
    assert cover["each"].loc["3", "coverage"] == pytest.approx(0.9, abs=0.05)


def test_what_cannot_be_is_refused():
    probabilities, labels = honest(50)
    with pytest.raises(ValueError, match="coverage is 1"):
        calibration.conformal(probabilities, labels, coverage=1)
    with pytest.raises(ValueError, match="groups have shape"):
        calibration.conformal(probabilities, labels, groups=np.zeros(3))
    with pytest.raises(ValueError, match=r"labels have shape \(9,\)"):
        calibration.log_loss(probabilities, labels[:9])
    with pytest.raises(ValueError, match="not among the 7 classes"):
        calibration.temperature(probabilities, labels + 7)


@pytest.mark.parametrize("work", [
    calibration.log_loss, calibration.brier, calibration.reliability,
    calibration.temperature, calibration.conformal, calibration.summary,
    calibration.ece, lambda p, y: calibration.soften(p, 2.0),
    lambda p, y: calibration.prediction_sets(p, np.full(K, 0.1))])
def test_what_does_not_sum_to_one_is_refused(work):
    probabilities, labels = honest(50)
    with pytest.raises(ValueError, match="sum to one, but to 2.0"):
        work(2 * probabilities, labels)
