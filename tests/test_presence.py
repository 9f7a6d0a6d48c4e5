"""Presence: scores against hand-computed values, models on known niches."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from geotree import place, presence
from geotree.evaluation import presence as scores
from studies import survey as study

SWISS = Path(__file__).parents[2] / "shared/data/swiss"  # beside the checkout
VARIABLES = ["warm", "wet", "soil"]
METRES = ("x", "y")


# Scores ----------------------------------------------------------------------

@pytest.fixture(scope="module")
def survey():
    """Suitability of three species at 300 sites in 20 blocks, with ties."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 3)).round(1)
    chance = 1 / (1 + np.exp(-values * [2.0, 1.0, 0.0] + [0, 1, 2]))
    return values, rng.random((300, 3)) < chance, rng.integers(0, 20, 300)


def test_areas_are_those_of_scikit_learn(survey):
    values, present, blocks = survey
    table = scores.score(values, pd.DataFrame(present, columns=list("abc")),
                         blocks=blocks)
    assert table.index.tolist() == ["a", "b", "c", "mean"]
    by_hand = [roc_auc_score(present[:, i], values[:, i]) for i in range(3)]
    np.testing.assert_allclose(table["auc"], [*by_hand, np.mean(by_hand)])
    np.testing.assert_allclose(table["prevalence"].iloc[:3],
                               present.mean(axis=0))
    assert (table["low"] < table["auc"]).all()
    assert (table["auc"] < table["high"]).all()
    assert table.loc["a", "boyce"] > 0.9 > abs(table.loc["c", "boyce"])
    # The order of sites counts, not the scale.
    other = scores.score(np.exp(values), present, blocks=blocks)
    np.testing.assert_allclose(table.iloc[:, :5], other.iloc[:, :5])


def test_draws_are_those_of_resampled_sites(survey):
    values, present, blocks = survey
    weight = np.random.default_rng(1).integers(0, 3, (4, 300))
    found = scores._auc(values[:, 0], present[:, 0], weight.astype(float))
    for row, auc in zip(weight, found, strict=True):
        rows = np.repeat(np.arange(300), row)
        assert auc == pytest.approx(roc_auc_score(present[rows, 0],
                                                  values[rows, 0]))


def test_a_pair_is_compared_site_by_site(survey):
    values, present, blocks = survey
    same = scores.compare(values, values, present, blocks=blocks)
    assert same["difference"] == same["low"] == same["high"] == 0
    noisy = values + np.random.default_rng(2).normal(0, 0.2, values.shape)
    gain = scores.compare(values, noisy, present, blocks=blocks)
    alone = scores.score(values, present, blocks=blocks).loc["mean"]
    assert gain["high"] - gain["low"] < 0.5 * (alone["high"] - alone["low"])


def test_species_that_are_everywhere_or_nowhere_are_named(survey):
    values, present, _ = survey
    frame = pd.DataFrame(present, columns=list("abc")).assign(b=True)
    table = scores.score(values, frame)
    assert table.index.tolist() == ["a", "c", "mean"]
    assert table.attrs["left_out"] == ["b"]
    with pytest.raises(ValueError, match="none of the 3 species has both"):
        scores.score(values, frame.assign(a=False, c=True))


@pytest.mark.parametrize(("change", "message"), [
    (lambda v, p: (v[:, :2], p), r"shape \(300, 2\) and present \(300, 3\)"),
    (lambda v, p: (np.where(v == v[7, 1], np.nan, v), p), "is no number"),
    (lambda v, p: (v, p * 2), "neither 0 nor 1"),
])
def test_what_is_no_survey_is_refused(survey, change, message):
    with pytest.raises(ValueError, match=message):
        scores.score(*change(*survey[:2]))


def test_boyce_by_hand():
    present = np.repeat(np.arange(10) / 10, 100) > np.tile(
        np.arange(100) / 100, 10)
    assert scores.boyce(np.arange(1000.0), present) > 0.99
    assert scores.boyce(-np.arange(1000.0), present) < -0.99
    assert np.isnan(scores.boyce(np.arange(50), np.ones(50)))


def test_squares_are_counted_on_a_flat_map():
    found = scores.squares([0, 9, 10, -1], [0, 9, 0, 0], side=10)
    assert found[0] == found[1] and len(set(found)) == 3


# Models ----------------------------------------------------------------------

def land(n: int, rng) -> pd.DataFrame:
    """Sites of a square of 200 km: warm in the south, soils in patches."""
    x, y = rng.uniform(0, 200_000, (2, n))
    return pd.DataFrame({
        "x": x, "y": y, "warm": 20 - y / 20_000 + rng.normal(0, 1, n),
        "wet": rng.normal(0, 1, n) + np.sin(x / 30_000),
        "soil": np.where(np.sin(x / 9e3) * np.cos(y / 9e3) > 0, "lime",
                         "sand")})


def chance(sites: pd.DataFrame) -> np.ndarray:
    """True chance of six species: niches in warmth and wet, one on lime."""
    best = np.linspace(10, 20, 6)
    z = -((sites["warm"].to_numpy()[:, None] - best) / 2) ** 2
    z -= ((sites["wet"].to_numpy()[:, None] - np.linspace(-1, 1, 6)) / 1) ** 2
    z[:, 2] -= 3 * (sites["soil"] == "sand")
    return 0.9 * np.exp(z)


@pytest.fixture(scope="module")
def region():
    """Records by observers who seldom leave the west, and a survey."""
    rng = np.random.default_rng(0)
    sites = land(900, rng)
    sites = sites[rng.random(900) < np.exp(-sites["x"] / 60_000)]
    row, species = np.nonzero(rng.random((len(sites), 6)) < chance(sites))
    records = sites.iloc[row].assign(species=[f"s{i}" for i in species])
    survey = land(1500, rng)
    truth = rng.random((1500, 6)) < chance(survey)
    return records.reset_index(drop=True), land(2000, rng), survey, truth


def auc(found, truth) -> float:
    return np.mean([roc_auc_score(truth[:, i], found[:, i])
                    for i in range(truth.shape[1])])


@pytest.mark.parametrize("name", list(presence.MODELS))
def test_each_model_learns_where_species_grow(region, name):
    records, background, survey, truth = region
    before = records.copy()
    model = presence.fit(records, background, variables=pd.Index(VARIABLES),
                         coordinates=METRES, model=name)
    assert model.species == [f"s{i}" for i in range(6)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # nothing is odd here
        found = model.predict(survey)
    assert found.shape == (1500, 6) and found.dtype == np.float32
    best = auc(chance(survey), truth)
    assert auc(found, truth) > (0.6 if "places" in name else best - 0.1)
    # A site's answer does not depend on who else is asked about.
    np.testing.assert_allclose(model.predict(survey[:7]), found[:7],
                               rtol=1e-4, atol=1e-5)
    pd.testing.assert_frame_equal(records, before)


@pytest.mark.parametrize("name", ["logistic", "down-sampled forest",
                                  "boosting", "network", "forest of sites"])
def test_random_background_is_the_other_way(region, name):
    records, background, survey, truth = region
    found = presence.fit(records, background, variables=VARIABLES,
                         coordinates=None, model=name, against="random"
                         ).predict(survey)
    assert auc(found, truth) > 0.75


def test_background_of_thousands_does_not_stop_the_regression():
    """One variable, weights of 1 to 1,000: the slope must be found."""
    rng = np.random.default_rng(0)
    background = pd.DataFrame({"v": rng.normal(0, 1, 20_000)})
    some = pd.DataFrame({"v": rng.normal(1.5, 0.5, 20), "species": "a"})
    model = presence.fit(some, background, variables=["v"],
                         coordinates=None, model="logistic",
                         against="random")
    at = model.predict(pd.DataFrame({"v": [-1.5, 0.0, 1.5]}))[:, 0]
    assert at[0] < at[1] - 1 < at[2] - 2


def test_the_region_is_visited_where_records_are():
    rng = np.random.default_rng(0)
    area = rng.uniform(0, 1, (4000, 2)).astype(np.float32)
    y = np.ones((1000, 1), bool)

    def share(x):
        return presence.visited(presence.Data(x, y[:len(x)], area, 0))

    assert share(area[:3000]) > 0.98
    assert share(area[:3000][area[:3000, 0] < 0.5]) == pytest.approx(
        0.5, abs=0.02)
    assert share(area[:20]) < 0.1


def test_missing_values_and_degrees_are_taken(region):
    records, background, survey, truth = region
    frames = []
    for frame in (records, background, survey):
        frame = frame.assign(decimalLatitude=46 + frame["y"] / 111_000,
                             decimalLongitude=8 + frame["x"] / 77_000)
        frame.loc[frame.index[::9], "wet"] = np.nan
        frame.loc[frame.index[::11], "soil"] = None
        frames.append(frame)
    records, background, survey = frames
    for name in ("forest of sites", "kernel of places"):
        model = presence.fit(records, background, variables=VARIABLES,
                             model=name)
        assert auc(model.predict(survey), truth) > 0.6


@pytest.mark.parametrize(("change", "message"), [
    ({"model": "maxent"}, "expected one of 'nearest places'"),
    ({"against": "absence"}, "expected one of 'target group', 'random'"),
    ({"variables": ["cold"]}, "presence lacks the columns cold"),
    ({"variables": 3}, "presence lacks the columns 3"),
    ({"coordinates": None, "model": "kernel of places"}, "give coordinates"),
])
def test_what_cannot_be_fitted_is_refused(region, change, message):
    records, background, *_ = region
    with pytest.raises(ValueError, match=message):
        presence.fit(records, background, **{
            "variables": VARIABLES, "coordinates": METRES, **change})


@pytest.mark.parametrize("fill", [-999, -2147483648, -3.4e38, 9.96921e36])
def test_a_sign_for_missing_is_no_value(region, fill):
    records, background, survey, _ = region
    model = presence.fit(records, background, variables=VARIABLES,
                         coordinates=None, model="logistic")
    with pytest.raises(ValueError, match="sign for missing|a value beyond"):
        model.predict(survey.assign(wet=[fill, *survey["wet"][1:]]))


@pytest.mark.parametrize("unit", [" m", "mm", "%", " °C"])
def test_numbers_with_a_unit_are_no_categories(region, unit):
    records, background, *_ = region
    for some, words in (([f"{one}{unit}" for one in (5, "7.5", -12)],
                         f"wet holds numbers as text, as '5{unit}'"),
                        (["1a", "2b", "3c"], None)):
        wet = {"wet": np.resize(some, len(records))}
        ground = background.assign(wet=np.resize(some, len(background)))
        with (pytest.raises(ValueError, match=words) if words
              else nullcontext()):
            presence.fit(records.assign(**wet), ground, variables=VARIABLES,
                         coordinates=None, model="logistic")


@pytest.mark.parametrize("fill", [9999, 32767, 65535])
def test_a_highest_value_far_above_is_told_of(region, fill):
    records, background, survey, _ = region
    model = presence.fit(records, background, variables=VARIABLES,
                         coordinates=None, model="logistic")
    with pytest.warns(UserWarning, match=f"wet is {fill} in 1 rows"):
        model.predict(survey.assign(wet=[fill, *survey["wet"][1:]]))


@pytest.mark.parametrize(("name", "words"), [
    ("occurrenceStatus", ["ABSENT", "present"]), ("individualCount", [0, 3]),
    ("organismQuantity", ["0", "3"]), ("detected", [False, True])])
@pytest.mark.parametrize("learn", [
    lambda records, background: presence.fit(
        records, background, variables=VARIABLES, coordinates=METRES),
    lambda records, background: place.Nearest(records.assign(
        decimalLatitude=47.0, decimalLongitude=8.0))])
def test_a_tree_that_was_not_found_is_no_presence(region, name, words, learn):
    records, background, *_ = region
    records = records.assign(**{name: words[1]})
    records[name] = [words[0], *records[name][1:]]
    with pytest.raises(ValueError, match=f"1 of .* was found \\({name}\\)"):
        learn(records, background)


def test_a_row_without_a_place_is_named(region):
    records, background, survey, _ = region
    broken = records.copy()
    broken.loc[3, "x"] = np.nan
    with pytest.raises(ValueError, match="1 of .* presence .* row 3"):
        presence.fit(broken, background, variables=VARIABLES,
                     coordinates=METRES)
    model = presence.fit(records, background, variables=VARIABLES,
                         coordinates=METRES, model="forest of sites")
    with pytest.raises(ValueError, match="sites lacks the columns wet"):
        model.predict(survey.drop(columns="wet"))


# Real trees ------------------------------------------------------------------

def test_the_study_judges_a_region_and_its_small_parts(region, monkeypatch):
    records, background, survey, truth = region
    tables = {
        "presence": records.assign(siteid=records["x"]),
        "background": background,
        "survey": survey.join(pd.DataFrame(
            truth, columns=[f"s{i}" for i in range(6)]).astype(int))}
    tables = {name: table.drop(columns="soil")
              for name, table in tables.items()}
    monkeypatch.setattr(presence, "DEFAULT", "logistic")
    ways = {name: study.WAYS[name] for name in ("logistic",
                                                "kernel of places")}
    whole = study.judge(tables, ways, draws=20).set_index(
        ["metric", "model"])["value"]
    assert 0.7 < whole["auc", "logistic"] < 1
    assert whole["auc_gain_of_default", "kernel of places"] == pytest.approx(
        whole["auc", "logistic"] - whole["auc", "kernel of places"])
    monkeypatch.setattr(study, "SITES", 10)
    monkeypatch.setattr(study, "LEAST", 2)
    small = list(study.parts(tables))
    assert len(small) > 1
    for part in small:
        assert part["presence"]["siteid"].nunique() <= 10
        assert all(np.ptp(table["x"]) <= study.PART
                   for table in part.values())
    mean = study.over([study.judge(part, ways, draws=0) for part in small]
                      ).set_index(["metric", "model"])
    one = mean.loc["auc", "logistic"]
    assert one["low"] < one["value"] < one["high"]
    assert one["n"] == sum(len(part["survey"]) for part in small)


@pytest.mark.skipif(not SWISS.is_dir(), reason="the Swiss survey of Elith et "
                    "al. 2020 is not at hand: it is no part of the project")
def test_the_default_leads_on_thirty_swiss_trees(monkeypatch):
    """Ahead of all that it averages, which are fitted but once, and more."""
    tables, found = study.read(SWISS), {}

    def noted(maker):
        def learn(data, against):
            answer = maker(data, against)

            def ask(sites):
                told = found[maker.__name__, against] = answer(sites)
                return told
            return ask
        return learn

    for name in ("_TARGET", "_RANDOM"):
        monkeypatch.setattr(presence, name, tuple(map(noted, getattr(
            presence, name))))
    ways = {name: study.WAYS[name] for name in (
        "logistic", "nearest places", "kernel of places")}
    for name, species, answer in study.answers(tables, ways):
        found[name], truth = answer, tables["survey"][species]
    variables = [name for name in tables["background"]
                 if name not in ("siteid", *METRES)]
    model = presence.fit(tables["presence"], tables["background"],
                         variables=variables, coordinates=METRES)
    best = model.predict(tables["survey"])
    blocks = scores.squares(*tables["survey"][["x", "y"]].to_numpy().T,
                            side=study.BLOCK)
    auc = scores.score(best, truth, blocks=blocks, draws=0)
    assert len(found) == 7
    for name, other in found.items():
        gain = scores.compare(best, other, truth, blocks=blocks, draws=100)
        assert gain["low"] > 0, f"{name}: {gain.to_dict()}"
    assert auc.loc["mean", "auc"] > 0.858
