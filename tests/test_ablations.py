"""Each arm of the ablations differs in what its name says, and learns."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from geotree import chain, evaluation
from geotree.shards import Batch
from studies import ablations

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
    environment = rng.uniform(2, 80, (n, 27)).astype(np.float32)
    return Batch(images.astype(np.uint16), environment, labels, np.arange(n))


@pytest.mark.parametrize("name", ablations.ARMS)
def test_each_arm_learns_what_is_planted(name):
    arm = ablations.ARMS[name]
    arm = ablations.Arm(arm.config | SMALL, arm.settings, arm.by_batch)
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

    arm = ablations.Arm(SMALL, {"rates": {"project": 0}})
    model = ablations.fit(arm, make_batch(64), CLASSES, epochs=1)
    drawn = CompactClip(CompactConfig(**ablations.SIZE | SMALL), seed=0)
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


# Whole studies, small --------------------------------------------------------

@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The chain on a planet of a few hundred records."""
    folder = tmp_path_factory.mktemp("chain")
    yield chain.use(data=str(folder), records=900, block_degrees=5.0)
    chain.use()


def test_the_studies_run_and_say_what_made_them(small):
    arms = {name: ablations.ARMS[name] for name in
            (ablations.FULL, "place always hidden")}
    curve = ablations.learning_curve(records=(2,), seeds=1, least_steps=4)
    parts = ablations.ablations(seeds=2, epochs=1, arms=arms)
    assert set(curve["model"]) == {
        f"{name} | 2 records" for name in (ablations.FULL, "forest, all",
                                           "nearest places")}
    passes = [json.loads(text)["epochs"] for text in curve["settings"]]
    assert set(passes) == {10}  # as fit by itself, however few are asked
    gains = parts[parts["metric"] == "top1_gain"].set_index("model")
    assert gains.loc[ablations.FULL, "value"] == 0
    assert gains.loc["place always hidden", "seed"] == -1
    assert set(parts["task"]) == {"seen species", "held-out species"}
    optimum = json.loads(parts["settings"].iloc[0])["optimum"]
    assert 0.4 < optimum < 1
    held = parts[parts["task"] == "held-out species"]["settings"]
    among, = {json.loads(text)["optimum"] for text in held}
    assert optimum != among > 0.4


def test_the_truth_for_both_halves_is_the_optimum(small):
    found = ablations.halves(seeds=1, epochs=1)
    top1 = found[(found["metric"] == "top1") & (found["rank"] == "species")
                 & (found["by"] == "all")].set_index("model")["value"]
    optimum = json.loads(found["settings"].iloc[0])["optimum"]
    assert len(top1) == 5 and (top1 <= optimum + 0.1).all()
    assert top1["half | place learnt, pixels true"] > top1[
        "half | place learnt, no pixels"]


def test_shots_of_a_study_are_exact(small):
    from geotree.models.compact import CompactClip, CompactConfig

    parts = chain.parts()
    model = CompactClip(CompactConfig(**SMALL)).eval()
    model.fit_normalisation(parts["train"].load())
    found = ablations.few_shots(shots=(1, 2), draws=3, steps=1, model=model)
    lost = found["metric"] == "excluded"
    lost, found = found[lost], found[~lost]
    assert len(found) == 2 * 3 * 3 and found["value"].between(0, 1).all()
    names = parts["held out"].table["species"]
    count = names.map(names.value_counts())
    kept = (count > 2).sum()
    assert (found["excluded"] == len(names) - kept).all()
    species = names[count > 2].nunique()
    one = found[found["split"] == "1 shots"]
    assert (one["n"] == kept - species).all()  # all but the support
    assert one.groupby("model")["seed"].nunique().eq(3).all()
    told = json.loads(one["settings"].iloc[0])
    assert set(lost["group"]) == set(names[count <= 2])
    assert (lost.groupby("split")["value"].sum() == (count <= 2).sum()).all()
    assert 1 / species < told["optimum"] <= 1
