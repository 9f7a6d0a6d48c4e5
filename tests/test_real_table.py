"""The release's table of 90 species: what places and labels alone give.

These are the reference numbers that any claim about satellites has to beat.
Skips where the table is not at hand.
"""

from __future__ import annotations

import numpy as np
import pytest

from geotree import baselines, evaluation, occurrences, place, splits, taxonomy
from studies import results


@pytest.fixture(scope="module")
def real(real_table):
    rows = occurrences.read_release(real_table)
    classes = taxonomy.class_table(rows)
    return rows, taxonomy.labels(rows, classes), classes


@pytest.mark.parametrize(("degrees", "top1", "top5"), [
    (None, 58.2, 91.2), (1, 44.5, 83.2), (5, 30.4, 68.5)])
def test_the_nearest_places(real, degrees, top1, top5):
    """25 neighbours, weight 1/d, five folds: within 1.5 points."""
    rows, labels, classes = real
    assert len(rows) == 9930 and len(classes) == 90
    kind = "blocks" if degrees else "random"
    fold = splits.folds(rows, kind, degrees=degrees or 1)
    votes = place.cross_validate(place.Nearest, rows, classes, fold)
    found = [100 * evaluation.hits(votes, labels, n).mean() for n in (1, 5)]
    assert found == pytest.approx([top1, top5], abs=1.5)


@pytest.mark.parametrize(("shots", "mean", "of_all", "spread"), [
    (1, 32.6, 32.3, 1.7), (3, 39.1, 38.0, 1.3)])
def test_few_shots(real, shots, mean, of_all, spread):
    """By queries; and by all rows, as if the support were answered wrongly.

    Within three standard errors of a mean of forty draws.
    """
    rows, labels, classes = real
    found = []
    for draw in range(40):
        support, query = splits.k_shot(labels, shots, seed=draw)
        votes = place.Nearest(rows.iloc[support], neighbours=1).predict(
            rows.iloc[query], classes)
        found.append(100 * evaluation.hits(votes, labels[query]).mean())
    found = np.array(found)
    near = 3 * spread / np.sqrt(40)
    assert found.mean() == pytest.approx(mean, abs=near)
    share = len(query) / len(labels)
    assert found.mean() * share == pytest.approx(of_all, abs=near)
    assert found.std() == pytest.approx(spread, rel=0.5)


def test_the_most_frequent(real):
    _, labels, classes = real
    answer = baselines.majority(labels, len(labels), len(classes))
    assert 100 * evaluation.hits(answer, labels).mean() == pytest.approx(
        1.8, abs=0.1)


def test_the_kept_results_are_of_this_table(real):
    kept = results.read("real-90")
    of_all = kept[kept["data"] == "10kEval-90"]
    assert set(of_all["data_hash"]) == {results.table_hash(real[0])}
