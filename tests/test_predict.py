"""A table of places in, the same table with answers out."""

from __future__ import annotations

import decimal
import gzip
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from compass import CLASSES, Compass, Everywhere

from geotree import evaluation, explore, occurrences, pixels, taxonomy
from geotree.planet.source import Planet
from geotree.shards import Batch
from geotree.sources import OK, Pixels

MESSY = pd.DataFrame({  # index and names are the user's own
    "where": ["a", "b", "c", "d", "e", "f", "g", "h"],
    "lat": ["50", "10", "95", "", "85", "-70", "10", "50,5"],
    "lon": ["20", "-20", "0", "5", "10", "30", "340", "20"],
    "year": [2020, 2021, 2020, 2020, 2020, 2020, 2021, "soon"]},
    index=list("zyxwvuts"))
STATUS = ["ok", "ok", "not on the globe", "no number", "no imagery",
          "failed", "ok", "no year"]


@pytest.fixture
def ask(tmp_path):
    def asked(points=MESSY, model=None, source=None, **how):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return explore.predict(
                points, model=model or Compass(), cache=tmp_path / "cache",
                source=source or Everywhere(), progress=False, **how)
    return asked


@pytest.mark.parametrize("source", ["planet", Planet, object()])
def test_what_is_no_source_is_named_at_each_door(ask, tmp_path, source):
    places = pd.DataFrame({"lat": [50.0], "lon": [20.0]})
    for asked in (
            lambda: ask(places, source=source),
            lambda: explore.ask(Compass(), source, CLASSES, lat=50, lon=20),
            lambda: pixels.download(places, source, tmp_path / "a.zarr"),
            lambda: explore.name_map(Compass(), source, step=1,
                                     region=(5, 45, 6, 46))):
        with pytest.raises(TypeError, match="expected an object that has"):
            asked()


# --- rows -----------------------------------------------------------------

def test_one_row_out_for_each_row_in_with_a_reason(ask):
    before = MESSY.copy()
    found = ask()
    pd.testing.assert_frame_equal(MESSY, before)
    pd.testing.assert_frame_equal(found[list(MESSY)], MESSY)
    assert found["status"].tolist() == STATUS
    told = found["reason"].tolist()
    assert told[0] == told[4] == "" and told[5] == "timed out at -70"
    assert "95" in told[2] and "two numbers" in told[3] and told[7]
    assert found["predicted_genus"].tolist()[:2] == ["Acer", "Pinus"]
    assert found["predicted_genus"][2:6].isna().all()
    assert found["months"].tolist()[:2] == [11, 11]
    assert found["months"].iloc[4] == 0 and pd.isna(found["months"].iloc[5])


def test_a_longitude_of_340_is_20_west_and_fetched_once(ask):
    source = Everywhere()
    found = ask(source=source)
    answers = found.drop(columns=[*MESSY, "reason"])
    pd.testing.assert_series_equal(answers.iloc[1], answers.iloc[6],
                                   check_names=False)
    places = source.tables[0][["decimalLatitude", "decimalLongitude"]]
    assert sum(len(table) for table in source.tables) == 4
    assert places["decimalLongitude"].max() == 30


def test_a_file_is_read_as_the_frame_is(ask, tmp_path):
    path = tmp_path / "punkte.csv.gz"
    text = MESSY.rename(columns={"lat": "Breite", "lon": "Länge"}).to_csv(
        sep=";", index=False)
    path.write_bytes(gzip.compress(text.encode("utf-8-sig")))
    found = ask(path)
    assert list(found.columns[:4]) == ["where", "Breite", "Länge", "year"]
    assert found["status"].tolist() == STATUS
    assert found["Breite"].tolist()[7] == "50,5"


def test_own_columns_of_the_same_name_stay(ask):
    found = ask(MESSY.assign(status="mine", set=1))
    assert (found["status"] == "mine").all() and (found["set"] == 1).all()
    assert found["geotree_status"].tolist() == STATUS
    assert found["geotree_set"].iloc[1] == "Pinus nigra; Acer saccharum"


def test_an_empty_or_placeless_table_says_so(ask):
    with pytest.raises(ValueError, match="no rows"):
        ask(MESSY[:0])
    with pytest.raises(ValueError, match="looks like lat"):
        ask(MESSY.drop(columns="lat"))
    assert ask(MESSY[2:4])["status"].tolist() == STATUS[2:4]


def test_a_source_of_one_year_asks_no_row_for_its_own(ask):
    source = Everywhere()
    source.year = 2021
    found = ask(source=source)
    assert found["status"].tolist() == [*STATUS[:7], "ok"]
    assert set(pd.concat(source.tables)["year"]) == {2021}


def test_an_index_that_repeats_and_answers_as_input_do_no_harm(ask):
    first = ask(MESSY.set_axis([0, 0, 1, 1, 2, 2, 3, 3]))
    again = ask(ask(first))
    assert again.columns.is_unique and len(again) == len(MESSY)
    assert again.index.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


# --- answers --------------------------------------------------------------

def test_answers_are_those_of_the_whole_matrix(ask):
    found = ask(MESSY[:2], top=2, threshold=0.9).reset_index(drop=True)
    seen = Everywhere().fetch(pd.DataFrame({
        "decimalLatitude": [50, 10], "decimalLongitude": [20, -20]}))
    odds = evaluation.predict(Compass(), Batch(
        *seen[:2], np.zeros(2, int), np.zeros(2, int)), CLASSES)
    for rank in taxonomy.RANKS:
        summed, names = taxonomy.roll_up(odds, CLASSES, rank)
        assert found[f"predicted_{rank}"].tolist() == names[
            summed.argmax(axis=1)].tolist()
        np.testing.assert_allclose(found[f"predicted_{rank}_probability"],
                                   summed.max(axis=1), rtol=1e-5)
    assert found.loc[0, ["species_1", "species_2"]].tolist() == [
        "Acer rubrum", "Acer saccharum"]
    np.testing.assert_allclose(found["species_2_probability"],
                               np.sort(odds)[:, 1], rtol=1e-5)
    assert "species_3" not in found
    deep = evaluation.metrics.deepest(odds, CLASSES, confidence=0.9)
    assert deep["rank"][0] == "genus" and pd.isna(deep["rank"][1])
    for name in ("rank", "name"):
        assert found[f"sure_{name}"].fillna("").tolist() == deep[
            name].fillna("").tolist()
    assert found["set"][0] == "Acer rubrum; Acer saccharum"
    assert found["set_size"].tolist() == (odds >= 0.2).sum(axis=1).tolist()


def test_a_temperature_makes_it_modest_and_an_unknown_coverage_is_refused(
        ask):
    model = Compass()
    plain = ask(MESSY[:1])["predicted_species_probability"].item()
    model.temperature = 3.0
    calm = ask(MESSY[:1], model)["predicted_species_probability"].item()
    assert calm < plain
    with pytest.raises(ValueError, match="expected one of 0.9"):
        ask(coverage=0.5)
    model.thresholds = {}
    assert ask(MESSY[:1], model)["set_size"].item() == 3, "no promise"


def test_a_coarser_rank_ends_there(ask):
    found = ask(MESSY[:2], rank="genus", top=9)
    assert found["genus_1"].tolist() == ["Acer", "Pinus"]
    assert "genus_3" not in found, "there are two"
    assert not any("species" in name for name in found)
    assert found["set"].tolist() == ["Acer", "Pinus; Acer"]
    assert found["sure_rank"].iloc[0] == "genus"


def test_records_nearby_count_unless_they_are_to_be_left_out(ask):
    model = Compass()
    model.prior = pd.DataFrame({
        "decimalLatitude": [50.0, 51.0], "decimalLongitude": [20.0, 21.0],
        "species": "Pinus nigra"})
    model.card["prior_weight"] = 3.0
    with_place = ask(MESSY[:1], model)["predicted_species"].item()
    model.card, card = None, model.card
    assert ask(MESSY[:1], model)["status"].item() == "ok"
    model.card = card
    without = ask(MESSY[:1], model, prior=False)["predicted_species"].item()
    assert (with_place, without) == ("Pinus nigra", "Acer rubrum")
    at_home = ask(MESSY[:1], model, prior=False, country="pl")
    assert at_home["predicted_species"].item() == "Pinus nigra"
    with pytest.raises(ValueError, match="with training records: .*PL"):
        ask(model=model, country="Polen")
    with pytest.raises(ValueError, match="has no records"):
        ask(country="PL")


def test_the_prior_of_the_training_places_goes_with_the_model(
        planet_halves, tmp_path):
    from geotree import prior, training
    from geotree.models.compact import CompactClip, CompactConfig

    train, test = planet_halves
    model = CompactClip(CompactConfig(width=16, depth=1, heads=2,
                                      embedding=16, buckets=64), seed=0)
    training.fit(model, train, test, out=tmp_path / "run", progress=False,
                 settings=training.Settings(epochs=1, batch_size=64))
    weight = prior.attach(model, train)
    assert weight > 0.1, "an untrained model needs the place"
    model.save_pretrained(tmp_path / "model")
    points = test.table[["decimalLatitude", "decimalLongitude", "species"]]
    how = {"model": tmp_path / "model", "source": Planet(), "batch": 64,
           "cache": tmp_path, "progress": False, "year": 2020,
           "coverage": 0.6}  # of an untrained model, larger sets are cut
    found = explore.predict(points, **how)
    alone = explore.predict(points, prior=False, **how)
    right = [(one["predicted_species"] == points["species"]).mean()
             for one in (found, alone)]
    assert right[0] > right[1]
    assert explore.score_answers(found, "species").loc[
        "in set", "value"] > 0.5, "fitted on the very samples"


@pytest.mark.parametrize("text", [
    "Pinus nigra\nACER  saccharum Marshall\nQuercus alba\n",
    "common;Species\npine;Pinus nigra\nmaple;Acer ×saccharum\n"
    "oak;Quercus alba\n"])
def test_a_checklist_keeps_to_its_names_and_reports_the_others(
        tmp_path, text):
    path = tmp_path / "names.csv"
    path.write_text(text, "utf-8-sig")
    with pytest.warns(UserWarning, match="1 of 3 names .*Quercus alba"):
        found = explore.predict(
            MESSY[:2], model=Compass(), source=Everywhere(), checklist=path,
            cache=tmp_path, progress=False)
    assert found["predicted_species"].tolist() == ["Acer saccharum",
                                                   "Pinus nigra"]
    assert found["species_3_probability"].tolist() == [0, 0]
    assert found.attrs["unmatched"] == ["Quercus alba"]


@pytest.mark.parametrize("names", [[], ["Quercus alba", "oak"]])
def test_a_checklist_of_other_trees_is_an_error(ask, names):
    with pytest.raises(ValueError, match="none of the .* names"):
        ask(checklist=names)


# --- fetching -------------------------------------------------------------

def test_a_second_call_asks_for_what_failed_and_nothing_else(ask):
    source = Everywhere()
    first = ask(source=source)
    done = len(source.tables)
    again = ask(source=source)
    assert [table["decimalLatitude"].tolist()
            for table in source.tables[done:]] == [[-70.0]]
    pd.testing.assert_frame_equal(first, again)
    more = pd.DataFrame({"lat": [1.0, 10], "lon": [2.0, -20],
                         "year": [2020, 2021]})
    assert ask(more, source=source)["status"].tolist() == ["ok", "ok"]
    assert source.tables[-1]["decimalLatitude"].tolist() == [1.0]


def test_a_service_that_is_gone_is_no_missing_tree(tmp_path):
    how = {"model": Compass(), "source": Everywhere(broken=1),
           "cache": tmp_path, "progress": False}
    with pytest.warns(UserWarning, match="5 of 8 places could not be fetched"
                                         ".*nobody is there"):
        found = explore.predict(MESSY, **how)
    gone = [0, 1, 4, 5, 6]
    assert set(found["status"].iloc[gone]) == {"failed"}
    assert set(found["reason"].iloc[gone]) == {"nobody is there"}
    with pytest.warns(UserWarning, match="1 of 8 places"):
        assert explore.predict(MESSY, **how)["status"].tolist() == STATUS


def test_a_plan_beyond_the_budget_stops_before_the_first_request(ask):
    source = Everywhere()
    source.budget = 3
    for call in (lambda: ask(source=source),
                 lambda: explore.ask(Compass(), source, lat=[1, 2, 3, 4],
                                     lon=[1, 2, 3, 4]),
                 lambda: explore.range_maps(
                     Compass(), source, CLASSES, "Pinus nigra", step=1.0,
                     region=(0, 45, 10, 50), batch=2, samples=2)):
        with pytest.raises(ValueError, match="the budget is 3"):
            call()
    assert source.tables == []


def test_the_planet_renders_what_is_named_and_its_likeliest_elsewhere(ask):
    points = pd.DataFrame({"lat": [47, 47, 0], "lon": [8, 8, -30],
                           "species": ["Pinus nigra", None, None]})
    named = explore.places(Planet(), lat=[47, 47], lon=[8, 8],
                           species=["Pinus nigra", ""])
    assert named["species"].tolist()[0] == "Pinus nigra"
    assert named["family"].tolist()[0] == "Pinaceae"
    assert named["gbifID"].is_unique
    found = ask(points, source=Planet())
    assert found["status"].tolist() == ["ok", "ok", "no tree"]


MANY = """
import resource, sys, warnings
import numpy as np
import pandas as pd
import torch
from compass import Compass, Everywhere
from geotree import explore

warnings.simplefilter("ignore")
k = 21_001

class Many(Compass):
    genus = np.arange(k) // 8
    classes = pd.DataFrame({
        "species": [f"G{g} s{i}" for i, g in enumerate(genus)],
        "genus": [f"G{g}" for g in genus],
        "family": [f"F{g // 10}" for g in genus], "leafType": "L"})
    thresholds = {0.9: 0.0}

    def encode_taxa(self, classes):
        return torch.randn(k, 3, generator=torch.manual_seed(0))

rng = np.random.default_rng(0)
for n in (200, 2500):
    points = pd.DataFrame({"lat": rng.uniform(-50, 70, n),
                           "lon": rng.uniform(-180, 180, n)})
    found = explore.predict(points, model=Many(), source=Everywhere(),
                            cache=sys.argv[1], progress=False)
    assert (found["status"] == "ok").all()
    assert (found["set_size"] == k).all()
    assert found["set"].str.count(";").max() == 25, "a long set is cut"
    print("KB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_places_times_species(tmp_path):
    """The whole matrix would take 210 MB, and a scattered heap more."""
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path)], capture_output=True,
        text=True, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    few, many = (int(line.split()[1]) / 1e3 for line in
                 done.stdout.splitlines() if line.startswith("KB"))
    assert many - few < 130, f"{few:.0f} MB, then {many:.0f} MB"


@pytest.mark.parametrize(("year", "fixed", "words"), [
    (None, None, [2020, 2021, 2020, "no year"]),
    (2019, None, [2019] * 4), ("own", None, [2020, 2021, 2020, "no year"]),
    ("when", None, [1999, "no year", "no year", 2001]),
    (None, 2018, [2018] * 4), (2018, 2018, [2018] * 4),
    ("own", 2018, "looks at 2018 alone"), (2019, 2018, "looks at 2018"),
    ("month", None, "no column 'month' for year")])
def test_the_year_of_the_pixels_is_what_was_said(year, fixed, words):
    points = pd.DataFrame({"lat": [1, 2, 3, 4], "lon": 5,
                           "year": [2020, 2021, 2020, None],
                           "when": ["1999-05-01", None, "soon", "2001"]})
    source = Everywhere()
    if fixed:
        source.year = fixed
    if isinstance(words, str):
        with pytest.raises(ValueError, match=words):
            explore.dated(points, source, year)
        return
    found = explore.dated(points, source, year)
    assert [status if status != "ok" else when for status, when in zip(
        found["status"], found["year"], strict=True)] == words


def test_own_years_need_a_column(ask):
    points = MESSY.drop(columns="year")
    assert ask(points)["status"].tolist() == [*STATUS[:7], "ok"]
    with pytest.raises(ValueError, match="looks like a year"):
        ask(points, year="own")


def test_sets_are_fitted_anew_for_a_list(tmp_path):
    """By hand: the right one's share among the two that are listed."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 3)).astype(np.float32) * 8
    label = rng.integers(0, 3, 60)
    model, two = Compass(), ["Acer rubrum", "Pinus nigra"]
    model.temperature = 4.0
    model.held = pd.DataFrame({
        "species": CLASSES["species"].to_numpy()[label],
        "decimalLatitude": 50.0, "decimalLongitude": 20.0,
        "features": list(features)})
    points = pd.DataFrame({"lat": rng.uniform(-55, 75, 300),
                           "lon": rng.uniform(-180, 180, 300)})
    how = {"source": Everywhere(), "cache": tmp_path, "progress": False,
           "coverage": 0.75, "model": model}
    with pytest.warns(UserWarning, match="anew for the 2 .* on 39 valid"):
        found = explore.predict(points, checklist=two, **how)
    odds = np.exp(features[:, [0, 2]] / 4)
    odds /= odds.sum(axis=1, keepdims=True)
    mine = label != 1
    right = odds[np.arange(60), label // 2][mine]
    least = np.sort(right)[int((len(right) + 1) * 0.25) - 1]
    listed = found[["species_1_probability", "species_2_probability"]]
    size = (listed >= least).sum(axis=1).clip(lower=1)
    assert found["set_size"].tolist() == size.tolist()
    assert 0 < (size == 1).sum() < 300
    assert found["species_3"].isna().all(), "what is not listed has no name"
    # A handful of samples rules out nothing, of the list and no more.
    model.held = model.held[model.held["species"].isin(two)].head(2)
    with pytest.warns(UserWarning, match="each set is the whole list"):
        found = explore.predict(points[:5], checklist=two, **how)
    assert (found["set_size"] == 2).all()
    assert not found["set"].str.contains("saccharum").any()


def test_a_source_that_is_gone_is_given_up(ask):
    points = pd.DataFrame({"lat": np.linspace(-61, -80, 1500), "lon": 5.0})
    source = Everywhere()
    found = ask(points, source=source, batch=100)
    assert (found["status"] == "failed").all() and found["reason"].all()
    assert sum(len(table) for table in source.tables) <= 1100


# --- files and scores -----------------------------------------------------

@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.parquet",
                                  "a.geoparquet"])
def test_answers_come_back_from_their_file(ask, tmp_path, name):
    found = ask()
    path = explore.write_answers(found, tmp_path / "out" / name)
    assert [one.name for one in path.parent.iterdir()] == [name]
    again = (pd.read_parquet(path) if "parquet" in name else
             pd.read_csv(path, sep="\t" if "tsv" in name else ","))
    assert len(again) == len(found)
    assert again["status"].tolist() == STATUS
    np.testing.assert_allclose(
        again["predicted_family_probability"].astype(float),
        found["predicted_family_probability"], rtol=1e-6)


@pytest.mark.parametrize("ending", [".csv", ".tsv.gz", ".parquet",
                                    ".geoparquet"])
def test_columns_of_any_kind_come_along(ask, tmp_path, ending):
    points = pd.DataFrame({
        "lat": [decimal.Decimal("50"), "10", None], "lon": ["20", -20, 0],
        "list": [[1], None, "a"], "bytes": [b"a", None, b""],
        "complex": [1j, 2, 3], "huge": [10**30, 1, None],
        "sparse": pd.arrays.SparseArray([0, 1, 0]), 7: [object(), 1, "a"],
        "zone": pd.to_datetime(["2020-01-01", None, "2021-01-01"], utc=True),
        "kind": pd.Categorical(["a", None, "b"]), "set": [{1}, {2}, None],
        "period": pd.period_range("2020", periods=3, freq="Y")})
    found = ask(points)
    pd.testing.assert_frame_equal(found[list(points)], points)
    path = explore.write_answers(found, tmp_path / f"a{ending}")
    again = (pd.read_parquet(path) if "parquet" in ending else pd.read_csv(
        path, sep="\t" if "tsv" in ending else ","))
    assert again["status"].tolist() == ["ok", "ok", "no number"]
    assert again.columns[:12].tolist() == [str(name) for name in points]


def test_geoparquet_has_points_and_says_so(ask, tmp_path):
    path = explore.write_answers(ask(), tmp_path / "a.geoparquet")
    about = json.loads(pyarrow.parquet.read_schema(path).metadata[b"geo"])
    assert about["columns"][about["primary_column"]]["encoding"] == "WKB"
    points = pd.read_parquet(path)["geometry"]
    assert points[2] is None, "not on the globe"
    assert np.frombuffer(points[1], "<f8", 2, 5).tolist() == [-20, 10]
    places = pd.DataFrame({"y": [50.0, 10], "x": [20.0, -20]})
    path = explore.write_answers(ask(places), tmp_path / "b.geoparquet")
    assert ask(path)["geotree_status"].tolist() == ["ok", "ok"]


def test_an_unknown_suffix_is_refused_and_nothing_replaced(ask, tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.csv"):
        explore.write_answers(ask(), tmp_path / "a.xlsx")
    assert not (tmp_path / "a.xlsx").exists()


def test_answers_are_scored_where_the_truth_is_known(ask):
    found = ask(MESSY.assign(tree=["Acer saccharum", "Pinus nigra", "", None,
                                   "Pinus nigra", "Pinus nigra",
                                   "Acer rubrum", None]), species="tree",
                threshold=0.7)
    score = explore.score_answers(found, "tree")
    assert score["value"].round(3).to_dict() == {
        "answered": 0.6, "likeliest": 0.333, "listed": 1.0,
        "in set": 0.667, "sure": 1.0, "sure and right": 0.333}
    assert score["n"].tolist() == [5, 3, 3, 3, 3, 3]
    with pytest.raises(ValueError, match="lacks the columns baum"):
        explore.score_answers(found, "baum")


def test_a_set_that_is_cut_is_not_scored(ask):
    found = ask(MESSY.assign(tree="Pinus nigra"))
    found["set"] = found["set"].mask(found["set"].notna(), "Acer rubrum; …")
    score = explore.score_answers(ask(found), "tree")
    assert score.loc["in set", "n"] == 3
    score = explore.score_answers(found, "tree")
    assert score.loc["in set", "n"] == 0
    assert score.loc["listed", "value"] == 1


@pytest.mark.parametrize("comma", [False, True])
def test_places_that_the_model_learned_from_are_told_of(ask, tmp_path, comma):
    """Also of a file whose numbers a spreadsheet wrote its own way."""
    model = Compass()
    model.prior = pd.DataFrame({
        "decimalLatitude": [50.0, 10.0004], "decimalLongitude": [20.0, -20],
        "species": "Pinus nigra"})
    found = ask(MESSY.assign(tree="Pinus nigra"), model, prior=False)
    assert found["trained_km"].isna().tolist() == [
        one in ("not on the globe", "no number", "no year") for one in STATUS]
    assert found["trained_km"].iloc[1] == pytest.approx(0.0445, rel=0.01)
    found.to_csv(tmp_path / "a.csv", index=False, sep=";" if comma else ",",
                 decimal="," if comma else ".")
    again = occurrences.reading.frame(tmp_path / "a.csv")
    with pytest.warns(UserWarning, match="3 of 5 places lie within 50 "
                      "m of one that the model was trained on"):
        score = explore.score_answers(again, "tree")
    assert score.loc["trained on", ["value", "n"]].tolist() == [0.6, 5]


# --- ask ------------------------------------------------------------------

def test_ask_keeps_duplicates_years_and_reasons():
    source = Everywhere()
    with pytest.warns(UserWarning, match="1 of 5 places could not"):
        found = explore.ask(
            Compass(), source, lat=[37, 37, 85, -70, 37],
            lon=[280, -80, 0, 0, -80], year=[2020, 2020, 2020, 2020, 2021])
    assert found.row.tolist() == [0, 1, 4]
    np.testing.assert_array_equal(found.lon, [-80, -80, -80])
    np.testing.assert_array_equal(found.seen[0], found.seen[1])
    assert found.status.tolist() == ["ok", "ok", "no imagery", "failed",
                                     "ok"]
    assert found.reason[3] == "timed out at -70"
    assert sorted(source.tables[0]["year"]) == [2020, 2020, 2020, 2021]


def test_ask_says_that_a_service_failed():
    with pytest.warns(UserWarning, match="2 of 2 places .*nobody is there"):
        found = explore.ask(Compass(), Everywhere(broken=1), lat=[1, 2],
                            lon=[3, 4])
    assert len(found) == 0 and found.status.tolist() == ["failed"] * 2


def test_a_source_is_held_to_its_word():
    class Elsewhere(Everywhere):
        def fetch(self, table):
            seen = super().fetch(table)
            return Pixels(seen.reflectance, seen.environment[::-1],
                          np.full(len(table), OK, np.uint8))

    with pytest.raises(ValueError, match="another place"):
        explore.ask(Compass(), Elsewhere(), lat=[1, 2], lon=[3, 4])


# --- maps -----------------------------------------------------------------

@pytest.mark.parametrize(("region", "word", "asked"), [
    ((0, 45, 4, 49), "ok", 2), ((-40, 81, -36, 82.5), "no imagery", 1),
    ((20, -76, 24, -72), "failed", 2), ((-40, 20, -36, 24), "not asked", 0)])
def test_a_map_tells_apart_what_is_not_known(region, word, asked):
    from geotree.explore.tiles import CELLS

    source = Everywhere()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        maps = explore.name_map(Compass(), source, region=region, step=1.0,
                                batch=8)
    assert {CELLS[code] for code in np.unique(maps["status"])} == {word}
    assert (maps["species"] > 0).to_numpy().all() == (word == "ok")
    assert len(source.tables) == asked
    failed = [str(one.message) for one in told
              if "could not be fetched" in str(one.message)]
    assert len(failed) == (word == "failed")


@pytest.mark.parametrize("lost", ["zarr.json", "species/zarr.json", "done"])
@pytest.mark.parametrize("how", ["gone", "empty", "cut", "a file"])
def test_tiles_that_are_damaged_are_told_of(tmp_path, lost, how):
    def ask():
        return explore.name_map(Compass(), Everywhere(), step=1.0, batch=8,
                                region=(0, 45, 4, 49), cache=tmp_path)

    ask()
    store = next((tmp_path / "maps").glob("[!.]*"))
    path = store / lost
    path = path / "zarr.json" if path.is_dir() else path
    if how == "a file":
        shutil.rmtree(store)
        store.touch()
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:9 * (how == "cut")])
    with pytest.raises(ValueError, match=f"'{store}' is damaged .*delete it"):
        ask()
