"""What once passed without a word: refused now, or told of.

Each line was tried as a user would; what a fuzzer found is at the end.
"""

import hashlib
import json
import os
import re
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from compass import CLASSES as COMPASS, Compass
from fake_source import FakeSource, occurrence_table

from geotree import (
    baselines,
    checks,
    evaluation,
    explore,
    globe,
    models,
    network,
    occurrences,
    pixels,
    place,
    plots,
    presence as wood,
    prior,
    run,
    shards,
    sources,
    splits,
    taxonomy,
    training,
    variables,
)
from geotree.evaluation import calibration, presence, results, unseen
from geotree.explore.sheet import Sheet
from geotree.explore.tiles import Grid
from geotree.models import store
from geotree.models.compact import CompactClip, CompactConfig
from geotree.occurrences.columns import PLACE
from geotree.planet.source import Planet
from geotree.release import checkpoint
from geotree.shards import index
from geotree.sources import scenes
from geotree.training import checkpoints

N, K = 24, 4
TABLE = occurrence_table(N)
FOUND = FakeSource().fetch(TABLE)
CLASSES = taxonomy.class_table(TABLE)
RNG = np.random.default_rng(0)
ODDS = RNG.dirichlet(np.ones(len(CLASSES)), N)
LABELS = taxonomy.labels(TABLE, CLASSES)
NAN = np.full(N, np.nan)
WOOD = TABLE.assign(year=np.arange(N) % 7)  # sites, and when
CELSIUS = np.full((3, 27), np.nan, np.float32)
CELSIUS[:, [12, 14]] = 24.5, 31.0  # bio05 and bio07 of WorldClim 2


CUBE = xr.DataArray(FOUND.reflectance, {
    "month": range(1, 13), "band": [*variables.BAND_NAMES]}, (
        "sample", "month", "band", "y", "x"))


def _strict(ask):
    """A warning says it, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            ask()
        except UserWarning as told:
            raise ValueError(told) from told


def score(**changed):
    given = {"probabilities": ODDS, "labels": LABELS, "classes": CLASSES,
             "draws": 5} | changed
    return evaluation.score(**given)


def answered():
    sheet = Sheet(CLASSES, rank="species", top=1, threshold=0.5, least=0.2)
    return sheet.frame(sheet.noted(ODDS.astype(np.float32)) | {
        "months": np.ones((N, 1))}).assign(status="ok")


def patches(**changed):
    given = {"species": TABLE["species"][:3]} | changed
    return shards.from_arrays(FOUND.reflectance[:3], **given)


REFUSED = {
    **{f"{name} of a table without names": lambda ask=ask: ask(
        TABLE.drop(columns="species")) for name, ask in (
            ("split", splits.split), ("rarity", splits.rarity),
            ("hold out", splits.hold_out),
            ("ranks", lambda one: taxonomy.complete(one, CLASSES)),
            ("labels", lambda one: taxonomy.labels(one, CLASSES)))},
    "blocks without a number": lambda: score(blocks=NAN),
    "a species twice": lambda: score(
        classes=CLASSES.assign(species=CLASSES["species"].iloc[0])),
    "a class without a genus": lambda: score(
        classes=CLASSES.assign(genus=None)),
    "no number as seed": lambda: score(seed=np.nan),
    "a text as draws": lambda: score(draws="x"),
    "sets that are numbers": lambda: calibration.coverage_table(ODDS, LABELS),
    "features that are NaN": lambda: evaluation.nearest_mean(
        ODDS * np.nan, ODDS),
    "names of one class for all": lambda: evaluation.class_means(
        ODDS, LABELS, len(CLASSES), names=ODDS[:1]),
    "columns in another order": lambda: presence.score(
        pd.DataFrame(ODDS[:, :2], columns=["a", "b"]),
        pd.DataFrame(ODDS[:, :2] > 0.5, columns=["b", "a"])),
    "suitability that is NaN": lambda: presence.boyce(NAN, LABELS > 0),
    "squares of no place": lambda: presence.squares(NAN, NAN, side=1),
    "frequencies that are NaN": lambda: prior.adjust(
        ODDS, np.full(len(CLASSES), np.nan)),
    "no record of any class": lambda: baselines.by_country(
        TABLE.assign(species="Nix nix"), TABLE, CLASSES),
    "a buffer of no width": lambda: splits.split(TABLE, buffer_km=np.nan),
    "true or false as places": lambda: checks.places(lat=[True], lon=[False]),
    "complex places": lambda: checks.places(lat=[47 + 1j], lon=[8]),
    "masked places": lambda: checks.places(
        lat=np.ma.masked_array([47.0], [True]), lon=[8.0]),
    "lat and lon from one column": lambda: occurrences.from_points(
        pd.DataFrame({"a": [47.0]}), lat="a", lon="a"),
    "a table that is a list": lambda: occurrences.validate([1]),
    "training without names": lambda: training.fit(
        CompactClip(), shards.from_arrays(FOUND.reflectance)),
    "a region as text": lambda: Grid("5,45,6,46", 0.5, False, 4, 64),
    "a year that is none": lambda: explore.places(
        FakeSource(), lat=[47], lon=[8], year=np.nan),
    "half a year": lambda: explore.places(
        FakeSource(), lat=[47], lon=[8], year=2020.5),
    "degrees for tenths of them": lambda: checks.environment(CELSIUS),
    "an id twice": lambda: patches(ids=[1, 1, 2]),
    "ids cut to whole numbers": lambda: patches(ids=[1.5, 2.5, 3.5]),
    "no name as name": lambda: patches(species=[np.nan] * 3),
    "fewer variables than images": lambda: CompactClip().eval().encode_images(
        FOUND.reflectance, FOUND.environment[:5]),
    "fewer labels than images": lambda: evaluation.predict(
        CompactClip(), shards.Batch(FOUND.reflectance, FOUND.environment,
                                    LABELS[:5], LABELS), CLASSES),
    **{f"a model of {one}": lambda one=one: CompactClip().to(
        one).eval().encode_images(FOUND.reflectance, FOUND.environment)
        for one in (torch.float16, torch.bfloat16, torch.float64)},
    "a fresh model of half precision": lambda: training.fit(
        CompactClip().half(), patches(), progress=False),
    "features of another model": lambda: evaluation.predict(
        CompactClip(), np.ones((3, 5), np.float32), CLASSES),
    "a scale below zero": lambda: scenes.unit(
        {}, {"raster:bands": [{"scale": -1e-4, "offset": -0.1}]}, 5),
    "an unknown device": lambda: training.pick_device("gpu"),
    "a device that holds nothing": lambda: training.pick_device("meta"),
    "a cache of no size": lambda: shards.open("file:///a", cache_gb=np.nan),
    "an unknown protocol": lambda: shards.open("foo://a/b"),
    "percent for shares": lambda: calibration.prediction_sets(
        ODDS, np.full(len(CLASSES), 10)),
    "columns with names": lambda: score(probabilities=pd.DataFrame(
        ODDS, columns=CLASSES["species"][::-1])),
    "numbers of classes as names": lambda: patches(species=[0, 1, 2]),
    "what catalogues add, where it is taken off": lambda:
        shards.from_arrays(FOUND.reflectance, offset=-1000),
    "variables of other places": lambda: shards.from_arrays(
        FOUND.reflectance, TABLE, environment=FOUND.environment[::-1]),
    "a fold that is NaN": lambda: place.cross_validate(
        place.Nearest, TABLE, CLASSES, np.where(LABELS > 0, LABELS, np.nan)),
    "shots of no class": lambda: splits.k_shot(np.where(
        LABELS > 0, LABELS, np.nan), 1),
    "blocks of two types": lambda: score(
        blocks=np.array(["a", 1] * (N // 2), object)),
    "records without a name": lambda: place.Nearest(
        TABLE.assign(species=None)),
    "relatives of no genus": lambda: splits.hold_out(
        TABLE.assign(genus=[None, *TABLE["genus"][1:]])),
    "ids as text and as numbers": lambda: splits.check_shared(
        TABLE, TABLE.astype({"gbifID": "str"}), "one", "other"),
    "a distance from beyond the pole": lambda: splits.distance_km(
        120, 30, 0, 0),
    "neighbours of no place": lambda: splits.nearest_km(
        TABLE, TABLE.assign(decimalLatitude=-9999.0)),
    "none left out": lambda: splits.split(TABLE, kind="country", leave=[]),
    "a species as seen and as new": lambda: unseen.Known(
        CompactClip(), FOUND, FOUND, seen=CLASSES, new=CLASSES, lists=TABLE),
    "a list of other names": lambda: unseen.native(
        TABLE.assign(species="Nix nix"), CLASSES, FOUND.environment),
    "a flag in words": lambda: occurrences.keep(
        TABLE.assign(mine="no"), rules="mine"),
    "a half seed": lambda: Planet(seed=0.5),
    "a seed below zero": lambda: CompactClip(seed=-1),
    "no as text": lambda: training.Settings(flips="no"),
    "a table of no kind": lambda: occurrences.from_points([1]),
    **{f"{name} of an answer as its truth": lambda name=name:
        explore.score_answers(answered(), name) for name in (
            "predicted_species", "predicted_genus", "species_1", "set",
            "sure_name", "status")},
    "an answer before this one as the truth": lambda: explore.score_answers(
        pd.concat([answered(), answered().add_prefix("geotree_")], axis=1),
        "predicted_species"),
    "answers that failed and have a name": lambda: explore.score_answers(
        answered().assign(true=TABLE["species"], status="failed"), "true"),
    **{f"answers {name}": lambda change=change: _strict(
        lambda: explore.score_answers(change(answered().assign(
            true=TABLE["species"], id=range(N))), "true"))
        for name, change in {
            "without a name": lambda one: one.assign(predicted_species=None),
            "of a set with commas": lambda one: one.assign(
                set=one["set"].str.replace(";", ",")),
            "of a set cut at its first name": lambda one: one.assign(
                set=one["set"].str.partition(";")[0]),
            "of sorted sets": lambda one: one.assign(
                set=sorted(one["set"])),
            "that were sorted alone": lambda one: one.assign(
                predicted_species=sorted(one["predicted_species"])),
            "whose likeliest were sorted alone": lambda one: one.assign(
                species_1=sorted(one["species_1"])),
            "of columns from A to Z": lambda one: one[sorted(one)],
            "that a join doubled": lambda one: pd.concat([one, one.head(2)]),
            "that a join left without": lambda one: one.mask(
                one["id"] == 1).assign(true=TABLE["species"]),
            "by other names": lambda one: one.assign(
                true="Acer saccharophorum"),
            "far from no number": lambda one: one.assign(trained_km="far"),
        }.items()},
    "parts of the same rows in another order": lambda: splits.check_leakage(
        TABLE, pd.Series(["train", "test"] * (N // 2), TABLE.index[::-1])),
    "folds of the same rows in another order": lambda: splits.untrained(
        TABLE, pd.Series(LABELS, TABLE.index[::-1])),
    "frequencies by name": lambda: prior.adjust(
        ODDS, TABLE["species"].value_counts()),
    "a list by name": lambda: prior.restrict(
        ODDS, CLASSES.set_index("species")["genus"] == "Acer"),
    "limits of sets by name": lambda: calibration.prediction_sets(
        ODDS, pd.Series(0.1, CLASSES["species"])),
    "counts by name in another order": lambda: plots.icicle(
        CLASSES, TABLE["species"].value_counts().sort_index()[::-1]),
    "counts below zero": lambda: plots.icicle(CLASSES, -np.ones(5)),
    "a distance that is no number": lambda: splits.check_leakage(
        TABLE, ["train", "test"] * (N // 2), km=np.nan),
    "nearest of no rows": lambda: splits.nearest_km(TABLE, TABLE.head(0)),
    "ids beyond 63 bits": lambda: patches(ids=np.arange(
        3, dtype=np.uint64) + 2**63),
    "right as numbers": lambda: plots.error_map([1], [2], [7]),
    "scores of no model": lambda: plots.score_bars(score()),
    "bins of another table": lambda:
        calibration.expected_calibration_error(TABLE),
    "a column that samples lack": lambda: patches(
        ids=[1, 2, 3]).columns("nothing"),
    "sides of the globe by sign": lambda: _strict(lambda:
        occurrences.from_points(pd.DataFrame(
            {"lat": [47.0, 48], "lon": [8.0, 9], "N/S": [1, -1]}))),
    "squares without end": lambda: presence.squares(
        [1, np.inf], [1, 2], side=1),
    "blocks without end": lambda: score(blocks=np.full(N, np.inf)),
    "presence that is unknown": lambda: presence.boyce(
        ODDS[:, 0], pd.array([True, None] * (N // 2), "boolean")),
    "shots of what was not found": lambda: splits.k_shot(
        np.where(LABELS == 0, -1, LABELS), 1),
    "groups with a hole": lambda: taxonomy.sum_groups(
        ODDS, 2 * np.arange(len(CLASSES))),
    "a group short": lambda: taxonomy.sum_groups(ODDS, np.zeros(2, int)),
    "equal area as text": lambda: Grid((5, 45, 6, 46), 0.5, "no", 4, 64),
    "pixels of nobody": lambda: run.Run(source="mars"),
    "a table and a route": lambda: run.Run(table="a.csv", route="search"),
    **{f"{name} in another order": lambda given=given: shards.from_arrays(
        **{"images": FOUND.reflectance} | given) for name, given in {
            "months": {"images": CUBE[:, ::-1]},
            "bands": {"images": CUBE[:, :, ::-1]},
            "rows and columns": {"images": CUBE.transpose(
                "sample", "month", "band", "x", "y")},
            "dates": {"images": CUBE[:, ::-1].rename(month="time"
                ).assign_coords(time=pd.date_range(
                    "2020-01-15", periods=12, freq="MS")[::-1])},
            "bands of another name": {"images": CUBE[:, :, ::-1].rename(
                band="bands")},
            "rows and columns of dates": {"images": CUBE.rename(
                month="time").transpose("sample", "time", "band", "x", "y")},
            "variables": {"environment": xr.DataArray(
                np.full((N, 27), np.nan), {"variable": [
                    *variables.VARIABLE_NAMES][::-1]}, ("n", "variable"))},
            }.items()},
    **{f"a model of {name}={value!r}": lambda name=name, value=value:
        CompactClip(CompactConfig(**{name: value})) for name, value in (
            ("width", 30), ("heads", 0), ("depth", 2.5), ("embedding", -3),
            ("rank_dropout", 2), ("month_code", 1))},
    "a card that is a list": lambda: CompactClip().save_pretrained(
        "nowhere", card=["a"]),
    **{f"{name} of a list": ask for name, ask in {
        "priors": lambda: prior.best(ODDS, [ODDS], LABELS),
        "answers": lambda: evaluation.leaderboard(
            [ODDS], LABELS, CLASSES, reference="a"),
        "baselines": lambda: baselines.best_without_pixels([ODDS], LABELS),
        "gbif": lambda: run.Run(gbif=["url"]),
        "options": lambda: run.Run(options=["year"])}.items()},
    "an option that the planet lacks": lambda: run.Run(options={"year": 1}),
    "an option that STAC lacks": lambda: run.Run(
        source="stac", options={"colection": "a"}),
    "several rows": lambda: patches()[0:2],
    "yes as a row": lambda: patches()[True],
    "samples as images": lambda: shards.from_arrays(patches()),
    "names without an order": lambda: taxonomy.find({"Abies alba"}, CLASSES),
    "no names": lambda: taxonomy.find(None, CLASSES),
    "names of two columns": lambda: taxonomy.find(CLASSES, CLASSES),
    "names one by one": lambda: patches(species=iter(TABLE["species"])),
    "one limit for all sets": lambda: calibration.prediction_sets(ODDS, 0.1),
    "a step as text": lambda: Grid((5, 45, 6, 46), "1", False, 4, 64),
    "sides as text": lambda: Grid((*"5", "45", "6", "46"), 1, False, 4, 64),
    **{f"{name} as a variable": lambda values=values: wood.fit(
        WOOD.assign(a=values), WOOD, variables=["a"], model="logistic")
        for name, values in {"dates": pd.date_range("2020", periods=N),
                             "complex": np.arange(N) * 1j}.items()},
    "a model without names": lambda: explore.ask(
        CompactClip(), FakeSource(), lat=[47], lon=[8]),
    **{f"{name}={value!r}": lambda name=name, value=value: training.Settings(
        **{name: value}) for name, value in (
            ("warmup", 2), ("clip", 0), ("temperature", -1),
            ("rank_weight", -5), ("label_smoothing", 1),
            ("save_every", np.nan), ("least_steps", np.nan),
            ("rates", {"names": -1}), ("seed", 2**63))},
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused(what):
    with pytest.raises(ValueError, match="[a-z]{2}.* .*"):
        REFUSED[what]()


@pytest.mark.parametrize("ask", [
    lambda: evaluation.predict(CompactClip, patches(), CLASSES),
    lambda: evaluation.embed(CompactClip, patches()),
    lambda: evaluation.embed("model", patches()),
    lambda: explore.ask("model", FakeSource(), lat=[47], lon=[8]),
    lambda: explore.predict(TABLE, model=CompactClip, source=FakeSource()),
    lambda: explore.predict(TABLE, model=None, source=FakeSource()),
    lambda: training.fit(CompactClip, patches()),
    lambda: CompactClip({"width": 64}), lambda: run.use({"records": 5})])
def test_what_is_of_another_type_is_named(ask):
    with pytest.raises(TypeError, match="is the class CompactClip, expected|"
                       "expected one that has encode_images|made, not its "
                       "class|"
                       "expected CompactConfig|is {'records': 5}, expected"):
        ask()


ODD = pd.DataFrame({"q": [1.0, 2.0], "r": ["a", "b"]})


@pytest.mark.parametrize("odd", [None, [], ODD, 3], ids=str)
@pytest.mark.parametrize(("name", "ask", "words"), [
    ("data", lambda odd: training.calibrate(
        CompactClip(), odd, classes=CLASSES), "expected Shards"),
    ("class table", lambda odd: training.calibrate(
        CompactClip(), patches(), classes=odd), "DataFrame|lacks"),
    ("train", lambda odd: prior.attach(CompactClip(), odd), "Shards"),
    ("data", lambda odd: training.fit(CompactClip(), odd), "Shards"),
    ("data", lambda odd: evaluation.likeliest(CompactClip(), odd, CLASSES),
     "Shards or Batch"),
    ("test", lambda odd: baselines.answers(patches(), odd, CLASSES),
     "Shards"),
    ("train", lambda odd: baselines.tabular(odd, odd, 3), "Batch"),
    ("batch", baselines.statistics, "Batch"),
    ("batch", lambda odd: shards.take(odd, slice(3)), "Batch"),
    ("class table", lambda odd: taxonomy.roll_up(ODDS, odd, "genus"), ""),
    ("class table", lambda odd: taxonomy.roll_up_labels(LABELS, odd, "genus"),
     ""), ("class table", lambda odd: evaluation.score(ODDS, LABELS, odd), ""),
    ("class table", lambda odd: plots.icicle(odd, [1, 2]), ""),
    ("class table", lambda odd: baselines.by_country(TABLE, TABLE, odd), ""),
    ("table", lambda odd: splits.untrained(odd, [0, 1]), ""),
    ("table", lambda odd: splits.describe(odd, ["a", "b"]), ""),
    ("table", lambda odd: splits.check_leakage(odd, ["a", "b"]), ""),
    ("table", explore.checklists, "DataFrame|lacks"),
    ("table", occurrences.validate, ""), ("table", taxonomy.audit, ""),
    ("table", lambda odd: globe.cells(odd, metres=9), ""),
    ("table", lambda odd: globe.nearest_km(TABLE, odd), ""),
    ("table", lambda odd: sources.fetch(odd, FakeSource()), ""),
    ("cube", pixels.counts, "pixels.open"), ("cube", pixels.check, "open"),
    ("maps", lambda odd: explore.write_geotiff(odd, "a.tif"), "name_map")])
def test_what_is_of_another_kind_is_named(name, ask, words, odd):
    if odd is None and ask is explore.checklists:
        return  # of a model without records
    with pytest.raises(ValueError, match=f"{name}.*(expected|lacks).*"
                       ) as told:
        ask(odd)
    assert re.search(words, str(told.value))


@pytest.mark.parametrize(("ask", "words"), [
    (lambda: explore.ask(Compass(), FakeSource(), COMPASS, lat=[47, 48],
                         lon=[8]), r"lat has shape \(2,\), lon has shape"),
    (lambda: explore.ask(Compass(), FakeSource(), COMPASS, lat=[47], lon=[8],
                         year=[2020, 2021]), "year has shape"),
    (lambda: explore.places(FakeSource(), lat=[47, 48], lon=[8, 9],
                            species=["a"]), "species has shape"),
    (lambda: globe.country_code(lat=[47, 48], lon=[8, 9, 10]), "lon has"),
    *((lambda odd=odd: explore.ask(
        Compass(), FakeSource(), COMPASS, lat=47, lon=8, place=odd),
       "place is .*, expected a model of place")
      for odd in (TABLE, "nearest places", place.Nearest)),
    (lambda: explore.range_maps(Compass(), FakeSource(), COMPASS, None),
     "species is None, expected a list of names"),
    (lambda: place.cross_validate(None, TABLE, CLASSES, np.arange(N) % 2),
     "make is None"),
    (lambda: explore.predict(TABLE, model=Compass(), source=FakeSource(),
                             checklist=3), "checklist is 3"),
    (lambda: occurrences.read_trees(None), "trees is None"),
    (lambda: training.calibrate(CompactClip(), patches(), classes=CLASSES[
        :0]), "none of the 3 samples .* of the 0 classes"),
    (lambda: taxonomy.members(CLASSES, ODD), "rank is .*expected one of"),
    (lambda: shards.join([]), "no batches"),
    (lambda: explore.dated(TABLE, FakeSource(), [2020]), "year is .2020."),
    (lambda: explore.places(FakeSource(), lat=47, lon=8, year={}), "year is"),
    (lambda: occurrences.removed(3), "table is 3, expected a DataFrame"),
    *((lambda odd=odd: shards.take(patches().load(), odd), "rows are .*of the "
       "3 samples") for odd in ([1.5], [99], ["a"], "a", [True, False]))])
def test_what_cannot_be_is_told_at_the_door(ask, words):
    with pytest.raises(ValueError, match=words):
        ask()


def test_no_rows_have_no_features():
    found = CompactClip().encode_images(FOUND.reflectance[:0],
                                        FOUND.environment[:0])
    assert found.shape == (0, 128)


def test_a_number_of_classes_may_be_a_float():
    np.testing.assert_array_equal(*(evaluation.class_means(
        ODDS[:len(CLASSES)], np.arange(len(CLASSES)), kind(len(CLASSES)))
        for kind in (int, float)))


def test_rows_that_disagree_about_a_species_are_told_of():
    table = pd.concat([CLASSES, CLASSES, CLASSES.head(2).assign(
        family="Nixaceae")])
    with pytest.warns(UserWarning, match="2 species have rows that disagree "
                      f".* leaf type: {CLASSES['species'][0]}, "):
        found = taxonomy.class_table(table)
    pd.testing.assert_frame_equal(found, CLASSES)


SPELT = ["Abies alba", "Abies alba Mill.", "Abies  alba", "ABIES ALBA",
         "Abies_alba", "Abies alba\u200b", "Abies alba subsp. alba"]


def test_a_species_of_many_spellings_is_one_class():
    with pytest.warns(UserWarning, match="6 names of species .*, the first: "
                      "'Abies alba Mill.' is 'Abies alba'"):
        own = shards.from_arrays(FOUND.reflectance[:7], SPELT)
    assert own.classes["species"].tolist() == ["Abies alba"]
    assert own.table["species"].eq("Abies alba").all()
    with pytest.warns(UserWarning, match="one species written in 7 ways, and "
                      "count as 7"):
        taxonomy.class_table(TABLE.head(7).assign(species=SPELT))
    with pytest.warns(UserWarning, match="are one genus written in 2 ways"):
        taxonomy.class_table(TABLE.head(2).assign(
            species=["Abies alba", "Abies nordmanniana"],
            genus=["Abies", "Abies "]))


@pytest.mark.parametrize(("rank", "true"), [
    ("species", SPELT), ("genus", ["abies", "Abies ", "Abies alba"]),
    ("family", ["pinaceae", " Pinaceae"]),
    ("leafType", ["evergreen needleleaf", "Evergreen_Needleleaf"])])
def test_the_truth_may_be_spelt_otherwise(rank, true):
    """Right is right, and what is no name is left out and told of."""
    classes = CLASSES.head(1).assign(
        species="Abies alba", genus="Abies", family="Pinaceae",
        leafType="Evergreen Needleleaf")
    sheet = Sheet(classes, rank=rank, top=1, threshold=0.5, least=0.5)
    count = [1] * len(true) + [1, 0]
    true = [*true, "unknown", "Picea omorika"]  # and that was not found
    kept = sheet.noted(np.ones((len(true), 1), np.float32))
    answers = sheet.frame(kept | {"months": np.ones((len(true), 1))}).assign(
        status="ok", true=true, individualCount=count, id=range(len(true)))
    answers[f"{rank}_1"] = answers[f"{rank}_1"].str.upper() + " "
    answers["set"] = answers["set"].str.lower()
    with pytest.warns(UserWarning, match=f"unknown in column 'true' are no "
                      f"names of rank {rank}"):
        found = explore.score_answers(answers, "true", rank=rank)
    assert (found["value"] == 1).all() and (found["n"] == len(true) - 2).all()


def test_a_set_may_lack_the_likeliest_genus():
    """No species of it reaches what the set asks, but all together do."""
    classes = pd.DataFrame({
        "species": ["Acer rubrum", "Pinus nigra", "Pinus mugo"],
        "genus": ["Acer", "Pinus", "Pinus"], "family": "a", "leafType": "b"})
    sheet = Sheet(classes, rank="genus", top=1, threshold=0.9, least=0.35)
    answers = sheet.frame(sheet.noted(np.array([[0.4, 0.3, 0.3]], "f4")) | {
        "months": np.ones((1, 1))}).assign(status="ok", true="Pinus nigra")
    found = explore.score_answers(answers, "true", rank="genus")["value"]
    assert found[["likeliest", "in set"]].tolist() == [1, 0]


ROWS = {  # what goes in, and what is asked of it
    "scores": (ODDS, lambda one: score(probabilities=one)),
    "labels": (LABELS, lambda one: score(labels=one)),
    "blocks": (LABELS, lambda one: score(blocks=one)),
    "calibration": (ODDS, lambda one: calibration.summary(one, LABELS)),
    "temperature": (ODDS, lambda one: calibration.temperature(one, LABELS)),
    "labels of sets": (LABELS, lambda one: calibration.conformal(ODDS, one)),
    "features": (ODDS, lambda one: evaluation.nearest_mean(one, ODDS)),
    "suitability": (ODDS[:, 0], lambda one: presence.boyce(one, LABELS > 0)),
    "squares": (ODDS[:, 0], lambda one: presence.squares(one, one,
                                                         side=0.1)),
    "reflectance": (FOUND.reflectance.astype(np.int32),
                    variables.reflectance),
    "shots": (np.arange(N) % 4, lambda one: splits.k_shot(one, 1)[0]),
    "rows": (np.arange(9), lambda one: shards.from_arrays(
        FOUND.reflectance, TABLE).select(one).load().ids),
    "years": (np.full(N, 2020), lambda one: explore.places(
        FakeSource(), lat=TABLE["decimalLatitude"].to_numpy(),
        lon=TABLE["decimalLongitude"].to_numpy(), year=one)["gbifID"]),
    "places": (np.column_stack([TABLE[one] for one in PLACE]),
               lambda one: place.Nearest(TABLE).predict(one, CLASSES)),
}


@pytest.mark.parametrize("ask", [
    lambda sure: calibration.soften(sure, 2), lambda sure: prior.combine(
        sure, ODDS, 0.5), lambda sure: prior.adjust(sure, ODDS[0])])
def test_whole_numbers_are_not_what_comes_out(ask):
    """One for the right class and zero for others, as many give the truth."""
    sure = np.eye(len(CLASSES), dtype=int)[LABELS]
    np.testing.assert_array_equal(ask(sure), ask(sure.astype(float)))


MOVED = {  # a column that was sorted, beside one that was not
    "labels": lambda one: score(probabilities=pd.DataFrame(ODDS),
                                labels=pd.Series(LABELS).loc[one]),
    "groups": lambda one: score(labels=pd.Series(LABELS),
                                groups=TABLE["species"].loc[one]),
    "hits": lambda one: evaluation.hits(
        pd.DataFrame(ODDS), pd.Series(LABELS).loc[one]),
    "calibration": lambda one: calibration.log_loss(
        pd.DataFrame(ODDS).loc[one], pd.Series(LABELS)),
    "blocks": lambda one: explore.score_answers(answered().assign(
        true=TABLE["species"]), "true", blocks=pd.Series(LABELS).loc[one]),
    "models": lambda one: evaluation.compare(
        pd.DataFrame(ODDS), pd.DataFrame(ODDS).loc[one], LABELS),
    "places": lambda one: globe.blocks(
        lat=TABLE[PLACE[0]], lon=TABLE[PLACE[1]].loc[one], degrees=1),
    "years": lambda one: explore.places(
        FakeSource(), lat=TABLE[PLACE[0]], lon=TABLE[PLACE[1]],
        year=TABLE["year"].loc[one]),
    "years that are asked": lambda one: explore.ask(
        Compass(), FakeSource(), COMPASS, lat=TABLE[PLACE[0]],
        lon=TABLE[PLACE[1]], year=TABLE["year"].loc[one]),
    "a mask": lambda one: shards.from_arrays(
        FOUND.reflectance, TABLE).select(
            (TABLE["species"] == TABLE["species"][0]).loc[one]),
    "land": lambda one: globe.is_land(
        lat=TABLE[PLACE[0]], lon=TABLE[PLACE[1]].loc[one]),
    "own patches": lambda one: shards.from_arrays(
        FOUND.reflectance, TABLE, environment=pd.DataFrame(
            FOUND.environment, columns=variables.VARIABLE_NAMES).loc[one])}


@pytest.mark.parametrize("what", MOVED)
def test_rows_are_not_joined_by_chance(what):
    MOVED[what](range(N))
    with pytest.raises(ValueError, match="rows in another order"):
        MOVED[what]([*range(1, N), 0])


@pytest.mark.parametrize("half", [
    lambda one: np.asarray(one, np.float16),
    lambda one: torch.tensor(np.asarray(one)).bfloat16()])
def test_places_in_half_precision_are_kilometres_away(half):
    with pytest.raises(ValueError, match="half precision"):
        explore.places(FakeSource(), lat=half(TABLE[PLACE[0]]),
                       lon=TABLE[PLACE[1]])


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_sites_of_one_suitability_have_no_order(order):
    """Or the order of the rows would be the index of Boyce."""
    present = np.arange(N) < N // 2
    assert np.isnan(presence.boyce(np.ones(N), present[order]))
    ties = np.arange(N) // 8
    assert presence.boyce(ties[order], present[order]) == presence.boyce(
        ties, present) < 0


def test_one_place_is_not_that_of_all_images():
    planet = Planet()
    found = planet.fetch(planet.occurrences(3))
    with pytest.raises(ValueError, match="3 rows of images, 1 rows"):
        planet.posterior(found.reflectance, found.environment[:1])
    np.testing.assert_array_equal(
        *(planet.posterior(found.reflectance, one) for one in (
            found.environment, torch.from_numpy(found.environment))))


@pytest.mark.parametrize("ask", [
    lambda: score(probabilities=0.5),
    lambda: CompactClip().eval().encode_images(3, 4.0),
    lambda: CompactClip().eval().encode_images(iter(FOUND.reflectance),
                                        FOUND.environment),
    lambda: evaluation.metrics.accuracy_coverage(ODDS, 3, CLASSES)])
def test_one_number_is_no_array(ask):
    with pytest.raises(ValueError, match="expected"):
        ask()


def test_labels_may_be_a_tuple():
    pd.testing.assert_frame_equal(*(
        evaluation.metrics.accuracy_coverage(ODDS, one, CLASSES)
        for one in (LABELS, tuple(LABELS.tolist()))))


TOLD = {  # what is left out, or taken for something, and how it is told
    "parts of other names": (lambda: splits.check_leakage(
        TABLE, ["train", "test", "val"] * (N // 3)), "8 rows are in parts"),
    "countries in words": (lambda: baselines.by_country(
        TABLE.assign(countryCode="Germany"), TABLE, CLASSES),
        "GERMANY are no codes"),
    "a letter of another script": (lambda: taxonomy.class_table(TABLE.assign(
        species="Fagus sylv\u0430tica")), "1 names read as no species"),
    "a space that is another": (lambda: taxonomy.class_table(TABLE.assign(
        species="Fagus\u00a0sylvatica")), "1 names .* not in their one form"),
    "radians": (lambda: occurrences.from_points(
        np.radians(TABLE[PLACE])), "Are they radians"),
    "latitude for longitude": (lambda: occurrences.from_points(pd.DataFrame({
        "lat": [8.1, 8.2, 8.3, 80, 170, 170, 170],
        "lon": [47.1, 47.2, 47.3, 170, 0, 0, 0],
        "countryCode": "CH"})), "6 of 7 places .* Are they swapped"),
    "sea for land": (lambda: occurrences.from_points(pd.DataFrame({
        "lat": [-63.1, -63.2, -63.3], "lon": [45.1, 45.2, 45.3]})),
        "3 of 3 places .* Are they swapped"),
    "a weight at its bound": (lambda: prior.fit_weight(
        np.full_like(ODDS, 1 / ODDS.shape[1]), 0.9 * np.eye(len(CLASSES))[
            LABELS] + 0.1 / len(CLASSES), LABELS), "its bound of 2"),
    "genus for family": (lambda: taxonomy.class_table(TABLE.rename(
        columns={"genus": "family", "family": "genus"})),
        "5 of 5 species .* first is 'Sapindaceae'. Were columns"),
    "a variable without a value": (lambda: wood.fit(
        WOOD.assign(nothing=np.nan), WOOD.assign(nothing=np.nan),
        variables=["year", "nothing"], model="logistic"),
        "nothing have no value in any row"),
    "sites in other units": (lambda: wood.fit(
        WOOD, WOOD, variables=["year"], model="logistic").predict(
            WOOD.assign(year=10 * WOOD["year"])),
        "sites: in 20 of 24 rows year is beyond"),
    "a background in other units": (lambda: wood.fit(
        WOOD, WOOD.assign(year=9 + WOOD["year"]), variables=["year"],
        model="logistic"), "presence: in 24 of 24 rows year is beyond"),
    "categories in other letters": (lambda: wood.fit(
        WOOD, WOOD, variables=["leafType"], model="logistic").predict(
            WOOD.assign(leafType=WOOD["leafType"].str.upper())),
        "24 of 24 rows leafType is beyond"),
    "kilometres": (lambda: occurrences.validate(TABLE.assign(
        coordinateUncertaintyInMeters=0.01)), "below 1 m. Kilometres"),
    "dots between thousands": (lambda: occurrences.validate(TABLE.assign(
        coordinateUncertaintyInMeters=["1.000", "30"] * (N // 2))),
        "decimals. Are they thousands.: 12 rows"),
    "class numbers that were moved": (lambda: score(
        classes=CLASSES.iloc[::-1]), "rows were moved"),
    "names in another order than the labels": (lambda: evaluation.predict(
        CompactClip(), shards.from_arrays(FOUND.reflectance, TABLE),
        CLASSES.iloc[::-1].reset_index(drop=True)), "labels do not fit")}


@pytest.mark.parametrize("what", TOLD)
def test_it_is_told(what):
    ask, words = TOLD[what]
    with pytest.warns(UserWarning, match=words):
        ask()


@pytest.mark.parametrize("text", [
    ["1000", "30"], ["1.000", "2000"], ["0.001", "1.000"], ["1.000", "2.5"]])
def test_decimals_are_no_thousands(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        occurrences.validate(TABLE.assign(
            coordinateUncertaintyInMeters=text * (N // 2)))


@pytest.mark.parametrize("odds", [
    pd.DataFrame(ODDS).iloc[:, ::-1],
    xr.DataArray(ODDS, {"species": [*CLASSES["species"]]}, ("n", "species"))],
    ids=["moved columns", "xarray"])
def test_columns_with_names_are_not_taken_for_the_order_of_classes(odds):
    with pytest.raises(ValueError, match="names of columns"):
        score(probabilities=odds)


def test_a_setting_that_nobody_reads_is_told(monkeypatch):
    monkeypatch.setenv("GEOTREE_RUNN", "full")
    with pytest.warns(UserWarning, match="GEOTREE_RUNN .*Is GEOTREE_RUN me"):
        run.settings()


PATHS = {  # doors that take the name of a file or folder
    "a cube": pixels.open, "its damage": pixels.verify,
    "samples": shards.open,
    "a model": models.load, "results": results.read,
    "what is written": lambda path: occurrences.write(TABLE, path),
    "answers": lambda path: explore.write_answers(TABLE, path),
    "pixels": lambda path: pixels.download(TABLE, FakeSource(), path),
    "a checkpoint": checkpoint.read}


@pytest.mark.parametrize("what", PATHS)
@pytest.mark.parametrize("path", [None, 3, "", "/"])
def test_a_path_is_one(what, path):
    with pytest.raises(ValueError, match="path is .*, expected the name"):
        PATHS[what](path)


@pytest.mark.parametrize("what", PATHS)
def test_a_link_that_leads_to_itself_is_named(what, tmp_path):
    (path := tmp_path / "a.csv").symlink_to("a.csv")
    with pytest.raises(ValueError, match="leads back to itself"):
        PATHS[what](path)


def test_home_is_spelt_out(tmp_path, monkeypatch):
    """Or the table lands in a folder of the name ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert occurrences.write(TABLE, "~/a.parquet") == tmp_path / "a.parquet"
    assert len(occurrences.from_points("~/a.parquet")) == N
    monkeypatch.setenv("GEOTREE_DATA", "~/data")
    assert run.folder().is_relative_to(tmp_path)


def test_a_last_row_that_was_cut_is_told_of(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("name,lat,lon,note\na,47.5,8.5,\nb,47.25,8.25,")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an empty cell is not cut
        occurrences.from_points(path)
    path.write_text(path.read_text()[:-3])
    with pytest.warns(UserWarning, match="a.csv' ends in the middle of a l"):
        occurrences.from_points(path)


@pytest.mark.parametrize("given", [
    {"occurrenceStatus": [False, True, False]}, {"presence": [0, 1, 0.0]},
    {"Present": ["no", "yes", "0"]}, {"individualCount": ["0", "1", "0"]}])
def test_a_tree_that_was_not_found_is_none(given):
    found = occurrences.from_points(TABLE.head(3).assign(**given))
    assert found["status"].tolist() == ["absent", "ok", "absent"]


def test_a_country_has_a_continent_in_any_case():
    assert globe.continent(["de", "DE ", "XX", None]).tolist() == [
        "Europe", "Europe", "", ""]


def test_a_number_is_shown_as_one_writes_it():
    for value, text in ((np.int64(3), "3"), ([np.float32(-0.5)], "[-0.5]"),
                        (np.str_("a b"), "'a b'"),
                        (np.True_, "True")):
        with pytest.raises(ValueError) as told:
            checks.number(value, name="it", low=9)
        assert f"it is {text}, expected" in str(told.value)


def test_what_another_names_counts_by_its_name():
    """Columns in another order, no rank told, features of any length."""
    frame = pd.DataFrame(FOUND.environment,
                         columns=variables.VARIABLE_NAMES).iloc[:, ::-1]
    one = shards.from_arrays(FOUND.reflectance, environment=frame).load()
    np.testing.assert_array_equal(one.environment, FOUND.environment)
    for nothing in (None, "", "unknown"):
        pd.testing.assert_series_equal(taxonomy.complete(
            TABLE.assign(family=nothing), CLASSES)["family"],
            TABLE["family"], check_dtype=False)
    np.testing.assert_allclose(evaluation.nearest_mean(7 * ODDS, ODDS),
                               evaluation.nearest_mean(ODDS, 3 * ODDS))
    lower = TABLE.assign(leafType=TABLE["leafType"].str.lower())
    assert occurrences.validate(lower)["leafType"].equals(TABLE["leafType"])


def dressed(values):
    """The same numbers as others hold them."""
    tensor = torch.tensor(values)
    yield tensor.requires_grad_() if tensor.is_floating_point() else tensor
    yield values.astype(values.dtype.newbyteorder(">"))
    if values.ndim == 1:
        yield pd.Series(values, np.arange(len(values))[::-1])
        yield pd.Series(values).convert_dtypes(dtype_backend="pyarrow")


@pytest.mark.parametrize("what", ROWS)
def test_numbers_count_the_same_in_any_dress(what):
    """And what is masked is not read as what lies under the mask."""
    values, ask = ROWS[what]
    expected = ask(values)
    for one in dressed(values):
        np.testing.assert_array_equal(ask(one), expected)
    hidden = np.ma.masked_array(values, np.arange(values.size).reshape(
        values.shape) == 3)
    with pytest.raises(ValueError, match="1 values are masked"):
        ask(hidden)


def test_masked_pixels_are_missing():
    images = np.ma.masked_equal(np.array([[0, 4000, 65535]], np.uint16), 0)
    assert variables.digital_numbers(images).tolist() == [[65535, 4000,
                                                           65535]]


def test_true_and_false_as_objects_are_no_row_numbers():
    data = shards.from_arrays(FOUND.reflectance, TABLE)
    for rows in (np.array([True, False] * 12, object), [0.5, 1.5]):
        with pytest.raises(ValueError, match="expected bool or whole"):
            data.select(rows)


@pytest.mark.parametrize("dress", [
    lambda table: table.astype(object), lambda table: table.convert_dtypes(
        dtype_backend="pyarrow"),
    lambda table: table.assign(species=pd.Categorical(
        table["species"], [*sorted({*table["species"]})[::-1], "Nix nix"])),
    lambda table: table.set_axis([7] * N).rename_axis("species")],
    ids=["objects", "arrow", "categories", "an index"])
def test_a_table_counts_the_same_in_any_dress(dress):
    table = dress(TABLE)
    for ask in (splits.hold_out, lambda one: splits.rarity(
            one, rare=2, frequent=5).tolist(), lambda one: taxonomy.members(
                one.drop_duplicates("species"), "genus")[0].tolist()):
        assert ask(table) == ask(TABLE)
    fitted = [wood.fit(one, TABLE, variables=["year"], model="logistic")
              for one in (TABLE, table.set_axis(TABLE.index))]
    assert fitted[0].species == fitted[1].species
    np.testing.assert_array_equal(*(one.predict(TABLE) for one in fitted))


def test_a_year_may_be_numpys():
    found = occurrences.from_points(TABLE[PLACE], year=TABLE["year"].max())
    assert (found["year"] == TABLE["year"].max()).all()


def test_a_record_without_a_name_is_not_frequent():
    with pytest.raises(ValueError, match="species are missing, the first"):
        splits.rarity(TABLE.assign(species=TABLE["species"].where(
            TABLE.index != 3)))


def test_what_is_unknown_is_a_group_of_its_own():
    """Records without a country are no reason to score none."""
    found = score(groups=pd.Series(["DE", None] * (N // 2)))
    assert {"DE", "unknown"} <= {*found["group"]}


def test_colder_than_any_wood_may_be_asked():
    """Ice has no warm month, but a wide range; islands the other way."""
    for warm, span in ((-80, 300), (160, 60)):
        ice = CELSIUS.copy()
        ice[:, [12, 14]] = warm, span
        variables.check_units(ice)


@pytest.mark.parametrize("text", [
    "sep=;\nlat;lon\n47,5;8,5\n", "lat,lon\r47.5,8.5\r",
    "sep=,\r\nlat,lon\r\n47.5,8.5\r\n"])
def test_what_excel_writes_is_read(text, tmp_path):
    (tmp_path / "trees.csv").write_bytes(text.encode())
    found = occurrences.from_points(tmp_path / "trees.csv")
    assert found[["decimalLatitude", "decimalLongitude"]].to_numpy(
        ).tolist() == [[47.5, 8.5]]


@pytest.mark.parametrize("magic", [b"PK\3\4", b"\xd0\xcf\x11\xe0"])
def test_a_workbook_is_named(magic, tmp_path):
    (tmp_path / "trees.xlsx").write_bytes(magic + bytes(99))
    with pytest.raises(ValueError, match="a workbook .*save it as CSV"):
        occurrences.from_points(tmp_path / "trees.xlsx")


def test_training_goes_on_only_as_it_began(tmp_path):
    """Neither with another trained model or seed, nor with other pixels."""
    how = {"settings": training.Settings(epochs=1, batch_size=32),
           "progress": False}
    one = shards.from_arrays(FOUND.reflectance, TABLE)
    model = CompactClip()
    with pytest.warns(UserWarning, match="24 of 24 validation samples are"):
        training.fit(model, one, one, out=tmp_path, **how)
    training.fit(model, one, out=tmp_path / "b", **how)
    with pytest.raises(ValueError, match="of another run: first weights"):
        training.fit(model, one, one, out=tmp_path, **how)
    for seed in (None, np.int64(1)):
        training.fit(CompactClip(seed=seed), one, out=tmp_path / f"{seed}",
                     **how)
        training.fit(CompactClip(), one, out=tmp_path / f"{seed}", **how)
        with pytest.raises(ValueError, match="seed of the model is"):
            training.fit(CompactClip(seed=2), one, out=tmp_path / f"{seed}",
                         **how)
    other = shards.from_arrays(FOUND.reflectance + np.uint16(
        FOUND.reflectance < 60_000), TABLE)
    with pytest.raises(ValueError, match="training samples"):
        training.fit(CompactClip(), other, one, out=tmp_path, **how)


# Found by fuzzing ------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    cube = pixels.download(TABLE, FakeSource(), folder / "cube.zarr",
                           progress=False)
    shards.write(cube, TABLE, folder / "shards", pack=8, progress=False)
    return folder / "shards"


INDEXES = {"records": 0, "classes": {"species": [{}]}, "shards": [1],
           "left_out": None, "files": [], "provenance": None}


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_that_another_wrote_is_named(folder, name):
    path, old = folder / "index.json", (folder / "index.json").read_bytes()
    about = json.loads(old)
    del about["sha256"]
    if name == "records":
        about["shards"][0]["records"] = INDEXES[name]
    elif INDEXES[name] is None:
        del about[name]
    else:
        about[name] = INDEXES[name]
    body = f'", {json.dumps(about)[1:]}'.encode()
    path.write_bytes(index._SEAL + index._hash(body) + body)
    try:
        with pytest.raises(shards.ShardError, match="the index"):
            shards.open(folder).load()
    finally:
        path.write_bytes(old)


@pytest.mark.parametrize("change", [
    {"thresholds": 1.5}, {"model": []}, {"config": {"width": -256}},
    {"classes": {name: [[]] for name in taxonomy.RANKS}}])
def test_a_card_that_another_wrote_is_named(change, tmp_path):
    CompactClip().save_pretrained(tmp_path)
    card = store.read_card(tmp_path) | change
    card["sha256"] = store._digest(card)
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=str(tmp_path)):
        models.load(tmp_path)


def test_a_checkpoint_that_another_wrote_is_named(tmp_path):
    path, data = tmp_path / "checkpoint.pt", b"PK" + bytes(50)
    path.write_bytes(data + hashlib.sha256(data).digest())
    with pytest.raises(ValueError, match="is no checkpoint"):
        checkpoints.read(path, "cpu")


ENDLESS = {  # what is read, and by whom
    "a.csv": occurrences.from_points, "b.parquet": occurrences.read_trees,
    "zarr.json": lambda path: pixels.open(path.parent),
    "index.json": lambda path: shards.open(path.parent),
    "c.pth": checkpoint.load_tensors}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("make", [
    os.mkfifo, lambda path: os.symlink("/dev/zero", path)],
    ids=["pipe", "device"])
def test_what_has_no_end_is_not_read(name, make, tmp_path):
    make(tmp_path / name)
    with pytest.raises(ValueError, match="is a folder, a pipe or a device"):
        ENDLESS[name](tmp_path / name)


LARGE = {
    "means of more classes than plants": lambda path:
        evaluation.class_means(ODDS, LABELS, 10**9),
    "records of the next draw": lambda path: Planet().occurrences(10**12),
    "frequencies for all places": lambda path: baselines.majority(
        LABELS, 10**12, len(CLASSES)),
    "trees without end": lambda path: place.Trees(TABLE, trees=10**9),
    "a chunk of all memory": lambda path: pixels.download(
        TABLE, FakeSource(), path, chunk=10**6),
    "a map of more cells than anyone has memory": lambda path: Grid(
        (-180, -90, 180, 90), 1e-6, False, 4, 64),
    "a place that is asked for ever": lambda path: Grid(
        (5, 45, 6, 46), 0.5, False, 10**9, 64),
    "more bins than samples": lambda path: calibration.reliability(
        ODDS, LABELS, bins=10**9),
    "draws without end": lambda path: evaluation.compare(
        ODDS, ODDS, LABELS, draws=10**9),
    "more workers than any machine has": lambda path: pixels.download(
        TABLE, FakeSource(), path, workers=10**6)}


@pytest.mark.parametrize("what", LARGE)
def test_what_no_memory_holds_is_refused_at_once(what, tmp_path):
    with pytest.raises(ValueError, match="at most"):
        LARGE[what](tmp_path / "x")


def test_long_text_takes_no_time():
    """Lengths that took minutes where each start was looked at to the end."""
    start = time.perf_counter()
    network.redact("a://" * 50_000)
    assert time.perf_counter() - start < 2
    found = occurrences.from_points(pd.DataFrame({
        "lat": [1.0], "lon": [2.0], "year": ["9" * 10**5]}))
    assert found["status"].tolist() == ["no year"]


def test_an_endless_number_of_a_service_is_no_answer():
    with pytest.raises(network.Unsteady, match="no whole answer"), \
            network.in_words("https://service.example"):
        int(json.loads("Infinity"))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_what_no_memory_holds_is_told_before_it_is_read(name, tmp_path,
                                                        monkeypatch):
    explore.write_answers(TABLE, path := tmp_path / name)
    monkeypatch.setattr(os, "sysconf", lambda _: 10)
    with pytest.raises(ValueError, match=f"{name}.*GB of memory or more"):
        occurrences.from_points(path)


@pytest.mark.parametrize(("change", "words"), [
    (lambda cube, table: (cube.isel(month=[*range(6, 12), *range(6)]), table),
     "has the months 7, 8"),
    (lambda cube, table: (cube, table.assign(
        decimalLatitude=-table["decimalLatitude"])), "have another place"),
    (lambda cube, table: (cube, table.assign(year=2000)), "place or year")])
def test_shards_are_of_the_table_of_the_cube(folder, change, words):
    cube, table = change(pixels.open(folder.parent / "cube.zarr"), TABLE)
    with pytest.raises(ValueError, match=words):
        shards.write(cube, table, folder.parent / "other", progress=False)
