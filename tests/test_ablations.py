"""Each arm of the ablations differs in what its name says, and learns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geotree import evaluation
from geotree.evaluation import ablations
from geotree.shards import Batch

K = 4
CLASSES = pd.DataFrame({
    "species": ["Betula pendula", "Fagus sylvatica", "Picea abies",
                "Quercus robur"],
    "genus": ["Betula", "Fagus", "Picea", "Quercus"],
    "family": ["Betulaceae", "Fagaceae", "Pinaceae", "Fagaceae"],
    "leafType": ["Deciduous Broadleaf"] * 2 + ["Evergreen Needleleaf",
                                               "Deciduous Broadleaf"]})
SMALL = {"width": 32, "depth": 1, "heads": 2, "embedding": 16,
         "buckets": 64}


def make_batch(n: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, n)
    images = rng.integers(200, 400, (n, 12, 10, 5, 5))
    images[:, :, 3] += (labels * 900)[:, None, None, None]
    images[rng.random((n, 12)) < 0.2] = 65535
    environment = rng.normal(0, 1, (n, 27)).astype(np.float32)
    return Batch(images.astype(np.uint16), environment, labels, np.arange(n))


@pytest.mark.parametrize("name", ablations.ARMS)
def test_each_arm_learns_what_is_planted(name):
    arm = ablations.ARMS[name]
    arm = ablations.Arm(arm.config | SMALL, arm.targets, arm.frozen,
                        arm.by_batch)
    model = ablations.fit(arm, make_batch(256), CLASSES, epochs=8,
                          batch_size=32, learning_rate=5e-3)
    assert not model.training
    test = make_batch(200, seed=1)
    answer = ablations.answer(model, arm, test, CLASSES)
    np.testing.assert_allclose(answer.sum(1), 1, rtol=1e-4)
    assert evaluation.hits(answer, test.labels).mean() > 0.5


def test_frozen_parts_stay_as_they_were_drawn():
    import torch

    from geotree.models.compact import CompactClip, CompactConfig

    arm = ablations.Arm(SMALL, frozen=("project",))
    model = ablations.fit(arm, make_batch(64), CLASSES, epochs=1)
    torch.manual_seed(0)
    drawn = CompactClip(CompactConfig(**ablations.SIZE | SMALL))
    assert torch.equal(model.project.weight, drawn.project.weight)
    assert not torch.equal(model.month.weight, drawn.month.weight)


def test_only_an_arm_by_batch_depends_on_its_batch():
    train, test = make_batch(64), make_batch(40, seed=1)
    few = Batch(*(x[:10] for x in test))
    for by_batch in (False, True):
        arm = ablations.Arm(SMALL, by_batch=by_batch)
        model = ablations.fit(arm, train, CLASSES, epochs=1)
        whole = ablations.answer(model, arm, test, CLASSES)[:10]
        alone = ablations.answer(model, arm, few, CLASSES)
        assert np.allclose(whole, alone, atol=1e-5) != by_batch


def test_at_most_so_many_records_of_a_class():
    labels = np.repeat([0, 1, 2], [50, 3, 10])
    rows = ablations._at_most(labels, 5, seed=1)
    assert np.bincount(labels[rows]).tolist() == [5, 3, 5]
    assert (np.diff(rows) > 0).all()
    assert set(rows) != set(ablations._at_most(labels, 5, seed=2))
