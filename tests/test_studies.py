"""The study of place alone, on a small table of the planet."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from geotree import splits
from geotree.planet.source import Planet
from studies import patches, results, studies


@pytest.fixture(scope="module")
def table():
    table = Planet().occurrences(900)
    return table.assign(rarity=splits.rarity(table, rare=4, frequent=20))


@pytest.fixture(scope="module")
def found(table):
    places = {name: studies.PLACES[name] for name in
              ("nearest 10", "nearest 25", "kernel 50 km")}
    return studies.real(table, "toy", places=places, seeds=2, draws=2,
                        many=3)


def test_every_task_and_split_is_there(found, table, tmp_path):
    assert set(found["task"]) == {*results.TASKS} - {"presence",
                                                    "real patches"}
    seen = found[found["task"] == "seen species"]
    assert set(seen["split"]) == {*studies.SPLITS, *(
        f"{km} km apart" for km in studies.APART)}
    assert set(found[found["task"] == "k-shot"]["split"]) == {
        f"{shots} shots" for shots in (1, 3, 5, 10)}
    assert set(found["data_hash"]) == {results.table_hash(table)}
    back = results.read(results.write(found, tmp_path / "a.csv"))
    assert len(back) == len(found)


def test_the_best_of_the_neighbours_is_challenged(found):
    gains = found[found["metric"] == "top1_gain"].set_index("model")
    assert {"mixture", "product"} < set(gains.index)
    against, = {json.loads(text)["against"] for text in gains["settings"]}
    assert against.startswith("nearest")
    assert (gains.loc[against, ["value", "low", "high"]] == 0).all()
    rows = found[(found["metric"] == "top1") & (found["rank"] == "species")
                 & (found["split"] == studies.HARD) & (found["by"] == "all")]
    top1 = rows.groupby("model")["value"].mean()
    # Only rows that a fold could learn, each seed by its own number of them.
    both = rows.assign(right=rows["value"] * rows["n"]).groupby("model")[
        ["right", "n"]].sum()
    share = both["right"] / both["n"]
    assert gains.loc["mixture", "value"] == pytest.approx(
        share["mixture"] - share[against])
    assert gains.loc["mixture", ["n", "excluded"]].sum() == 900
    assert top1.filter(like="nearest").idxmax() == against


def test_species_that_no_other_fold_holds_are_counted_not_scored(found,
                                                                 table):
    one = found[(found["split"] == "by country")
                & (found["model"] == "nearest 25") & (found["by"] == "all")
                & (found["metric"] == "mrr")].iloc[0]
    fold = splits.folds(table, "country")
    alone = pd.Series(fold).groupby(table["species"].to_numpy()).transform(
        "nunique") == 1
    assert one["excluded"] == alone.sum() > 0
    assert one["n"] == len(table) - alone.sum()
    named = found[(found["metric"] == "excluded")
                  & (found["split"] == "by country")]
    assert set(named["group"]) == set(table["species"][alone])
    assert named["value"].sum() == one["excluded"]


def test_the_mean_over_draws_says_what_it_is_divided_by(found, table):
    shots = found[(found["split"] == "3 shots") & (found["rank"] == "species")
                  ].set_index(["metric", "seed"])
    mean = shots.loc[("top1_mean", -1)]
    of_all = shots.loc[("top1_mean_of_all", -1)]
    told = json.loads(mean["settings"])
    assert told["draws"] == 3 and mean["low"] < mean["value"] < mean["high"]
    drawn = shots.loc["top1", "value"]
    assert drawn.between(told["lowest"] - 1e-5, told["highest"] + 1e-5).all()
    assert len(drawn) == 2
    count = table["species"].value_counts()
    named = found[(found["metric"] == "excluded")
                  & (found["split"] == "3 shots")]
    assert set(named["group"]) == set(count.index[count <= 3])
    able = count[count > 3]
    assert of_all["n"] == able.sum() == mean["n"] + 3 * len(able)
    assert of_all["value"] * of_all["n"] == pytest.approx(
        mean["value"] * mean["n"])


def test_far_from_all_records_less_is_known(found):
    apart = found[(found["split"].str.contains("apart"))
                  & (found["metric"] == "top1")
                  & (found["rank"] == "species")].set_index("split")["value"]
    assert apart["0 km apart"] > apart["200 km apart"]


def test_relatives_stand_in_for_species_never_seen():
    seen = pd.DataFrame({
        "species": ["Acer a", "Pinus a", "Pinus b"],
        "genus": ["Acer", "Pinus", "Pinus"],
        "family": ["Sapindaceae", "Pinaceae", "Pinaceae"],
        "leafType": ["Deciduous Broadleaf", "Evergreen Needleleaf",
                     "Evergreen Needleleaf"]})
    new = pd.DataFrame({
        "species": ["Acer z", "Fagus z", "Pinus z"],
        "genus": ["Acer", "Fagus", "Pinus"],
        "family": ["Sapindaceae", "Fagaceae", "Pinaceae"],
        "leafType": ["Deciduous Broadleaf", "Deciduous Broadleaf",
                     "Evergreen Needleleaf"]})
    here = np.array([[0.8, 0.1, 0.1], [0.0, 0.5, 0.5]])
    answer = studies.relatives(here, seen, new,
                               frequency=np.array([0.5, 0.25, 0.25]))
    np.testing.assert_allclose(answer.sum(1), 1)
    assert answer[0, 0] > answer[0, 2] and answer[1].argmax() == 2
    # Half of all records are maples, here 0.8: they are 1.6 times as usual.
    assert answer[0, 0] / answer[0, 2] == pytest.approx(1.6 / 0.4, rel=0.05)


def test_an_audit_gains_by_fewer_classes_and_by_cleaner_labels(table):
    drop = (table["species"] == table["species"].value_counts().index[0])
    found = studies.audit_gain(table, drop.to_numpy(), "toy", draws=3)
    assert set(found["split"]) == {"random rows", "5° blocks"}
    value = found.pivot(index="split", columns="group", values="value")
    np.testing.assert_allclose(
        value["all"], value["fewer classes"] + value["which classes go"])
    told = json.loads(found["settings"].iloc[0])
    assert told["species left out"] == 1 and told["draws"] == 3


def test_patches_without_a_place_are_learnt_alone_and_after_the_planet(
        tmp_path):
    table = Planet().occurrences(2000)
    often = table["species"].value_counts().index[:3]
    table = table[table["species"].isin(often)].head(250)
    months = np.array(patches.MONTHS) - 1
    images = Planet().fetch(table).reflectance[:, months]
    table = table[clear := (images != 65535).all(axis=(1, 2, 3, 4))]
    images = images[clear]
    seen = images != 65535
    images[seen] += patches.OFFSET  # as they came
    np.savez(tmp_path / "real.npz", images=images,
             species=table["species"].to_numpy(str))
    real = patches.read(tmp_path / "real.npz")
    assert (real.load().images[:, months][seen]
            == images[seen] - patches.OFFSET).all()
    found = patches.everything(tmp_path / "real.npz", "toy", records=256,
                               seeds=1, draws=2, epochs=1)
    assert set(found["split"]) == {"5 folds", "1 shots", "3 shots",
                                   "10 shots", "100 rows"}
    of = found.set_index(["split", "model", "metric"])["value"]
    gain = of["5 folds", "compact", "top1_gain"]
    assert gain == pytest.approx(of["5 folds", "compact", "top1"]
                                 - of["5 folds", patches.FOREST, "top1"])
    for split, base in (("10 shots", "bare bands"),
                        ("100 rows", "from scratch")):
        assert of[split, base, "gain"] == 0
        other = {*of[split].index.get_level_values("model")} - {base}
        for name in other:
            assert of[split, name, "gain"] == pytest.approx(
                of[split, name, "accuracy"] - of[split, base, "accuracy"])
    assert results.read(results.write(found, tmp_path / "a.csv")).shape == (
        found.shape)
