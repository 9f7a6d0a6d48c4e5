"""The study of place alone, on a small table of the planet."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from geotree import splits
from geotree.evaluation import results, studies
from geotree.sources.planet import Planet


@pytest.fixture(scope="module")
def table():
    table = Planet().occurrences(900)
    return table.assign(rarity=splits.rarity(table, rare=4, frequent=20))


@pytest.fixture(scope="module")
def found(table):
    places = {name: studies.PLACES[name] for name in
              ("nearest 10", "nearest 25", "kernel 50 km")}
    return studies.real(table, "toy", places=places, seeds=2, draws=2)


def test_every_task_and_split_is_there(found, table, tmp_path):
    assert set(found["task"]) == set(results.TASKS)
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
    top1 = found[(found["metric"] == "top1") & (found["rank"] == "species")
                 & (found["split"] == studies.HARD)
                 & (found["by"] == "all")].groupby("model")["value"].mean()
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


def test_far_from_all_records_less_is_known(found):
    apart = found[(found["split"].str.contains("apart"))
                  & (found["metric"] == "top1")
                  & (found["rank"] == "species")].set_index("split")["value"]
    assert apart["0 km apart"] > apart["200 km apart"]
