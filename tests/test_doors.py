"""Every door has the same lock: a list of doors, walked with bad values.

A public function that takes pixels, variables, probabilities, labels or
places is a door. One that is new and neither checks what enters nor says
here why it need not makes this test fail.
"""

import importlib
import inspect
import pkgutil

import numpy as np
import pandas as pd
import pytest

import geotree
from geotree import evaluation, plots, prior, splits, taxonomy
from geotree.evaluation import calibration
from geotree.planet.source import Planet

N, K = 4, 5


def _valid():
    """One valid value for each name of a parameter."""
    rng = np.random.default_rng(0)
    planet = Planet()
    table = planet.occurrences(N, seed=3)
    found = planet.fetch(table)
    classes = taxonomy.class_table(planet.classes.head(K))
    odds = rng.dirichlet(np.ones(K), N)
    from geotree.models.compact import CompactClip

    return {
        "images": found.reflectance, "environment": found.environment,
        "probabilities": odds, "p_seen": odds, "p_place": odds[::-1],
        "first": odds, "second": odds[::-1], "labels": np.arange(N),
        "lat": table["decimalLatitude"].to_numpy(),
        "lon": table["decimalLongitude"].to_numpy(),
        "classes": classes, "seen": classes, "new": classes,
        "rank": "genus", "confidence": 0.5, "k": 1, "temperature": 2.0,
        "least": 0.1, "weight": 0.5, "degrees": 1.0, "table": table,
        "frequency": np.full(K, 1 / K), "allowed": np.ones((N, K), bool),
        "reference": "a", "answers": {"a": odds}, "features": odds,
        "sets": odds > 0.2, "lists": pd.DataFrame(
            {"species": classes["species"], "countryCode": "DE"}),
        "planet": planet, "model": CompactClip().eval(),
    }


VALID = _valid()


def _spoiled(value, row, bad):
    value = np.array(value, copy=True)
    value[row] = bad
    return value


_odds, _images = VALID["probabilities"], VALID["images"]
_logits = np.log(_odds) * 3 + 1
_floats = np.where(_images == 65535, np.nan, _images.astype("float32"))
BAD = {
    "images": {"floats with NaN": _floats,
               "reflectance": (_images / 1e4).astype("float32"),
               "int16": _images.astype("int16"),
               "a band short": _images[:, :, :9]},
    "environment": {"a variable short": VALID["environment"][:, :26],
                    "whole numbers": np.zeros((N, 27), int),
                    "infinite": _spoiled(VALID["environment"], (2, 9),
                                         np.inf)},
    "probabilities": {"logits": _logits,
                      "NaN": _spoiled(_odds, (2, 1), np.nan)},
    "labels": {"beyond the classes": np.arange(N) + 90_000,
               "negative": np.arange(N) - 2,
               "floats": np.arange(N) + 0.5},
    "lat": {"beyond the pole": _spoiled(VALID["lat"], 1, 91.0),
            "no number": _spoiled(VALID["lat"], 1, np.nan),
            "sentinel": _spoiled(VALID["lat"], 1, -9999.0)},
    "lon": {"no number": _spoiled(VALID["lon"], 1, np.nan),
            "sentinel": _spoiled(VALID["lon"], 1, -9999.0)},
}
_classes = VALID["classes"]
CLASSES = {"a list": list(_classes["species"]),
           "without names": _classes.drop(columns="species"),
           "one twice": _classes.assign(species=_classes["species"].iloc[0])}
for _name in ("p_seen", "p_place", "first", "second"):
    BAD[_name] = BAD["probabilities"]


# Rooms and doors that need no lock of their own, and why.
INSIDE = {
    "checks": "the locks themselves",
    "cli": "words of a command line, read by the doors behind it",
    "occurrences.located": "names of columns, not places",
    "planet.climate": "asked by the planet, about its own places",
    "planet.traits": "asked by the planet, about its own places",
    "planet.patch": "asked by the planet, about its own pixels",
    "planet.spectra": "asked by the planet, about its own pixels",
    "evaluation.bootstrap": "asked by scores, about what it has checked",
    "sources.layers": "asked by sources, about a validated table",
    "shards.records": "a row number, not probabilities",
    "evaluation.metrics.rows_at_once": "asked by metrics, about columns",
    "release": "floats and their masks are the release's own form",
    "training.losses": "asked by fit, of batches that shards have checked",
}
OPEN = {
    "globe.unit_vectors": "geometry; what is no place stays no place",
    "globe.swapped": "what is no place lies on no land",
    "plots.maps.equal_earth": "geometry; what is no place is not drawn",
    "plots.maps.cover": "draws what equal_earth leaves",
    "plots.pixels.true_color": "any number of bands, of checked numbers",
    "variables.check_units": "asked by checks.environment",
    "variables.agree": "asked about attributes, not pixels",
    "physics.check_relations": "asked by checks.environment",
    "physics.check_order": "asked by checks.images",
    "variables.reflectance": "any number of bands, of checked numbers",
    "explore.packing.atlas": "any number of bands, of checked numbers",
    "explore.widgets.Explorer.ask": "hands on to explore.ask",
    "splits.leakage.check_shared": "two tables of occurrences",
    "occurrences.points.from_points": "names of columns, not places",
    "shards.memory.from_arrays": "turns other forms into digital numbers",
    "evaluation.presence.compare": "scores of any scale",
    "explore.predicting.ask": "a place that is none is answered in its row",
    "explore.judging.Judge.answers": "asked by predict, of checked places",
    "splits.draws.k_shot": "numbers of any classes",
    "baselines.majority": "tested with its table",
    "baselines.best_without_pixels": "tested with its answers",
}


def _ask(lat, lon):
    from geotree import explore

    return explore.places(VALID["planet"], lat=lat, lon=lon)


def _phenology(images):
    from geotree import plots

    return plots.phenology(images, VALID["table"]["leafType"],
                           VALID["lat"])


def _patch_strip(images):
    from geotree import plots

    return plots.patch_strip(images, list("abcd"))


# Doors whose other arguments have to be made.
MADE = {
    "evaluation.calibration.prediction_sets": lambda probabilities: (
        calibration.prediction_sets(probabilities, np.full(K, 0.1))),
    "evaluation.predictions.class_means": lambda labels: (
        evaluation.class_means(VALID["probabilities"], labels, N)),
    "evaluation.leaderboard": lambda labels: evaluation.leaderboard(
        VALID["answers"], labels, VALID["classes"], reference="a"),
    "explore.seeing.places": _ask,
    "models.compact.CompactClip.tokens": VALID["model"].tokens,
    "models.compact.CompactClip.encode_images":
        VALID["model"].encode_images,
    "models.compact.CompactClip.forward": lambda images, environment: (
        VALID["model"](images, environment, VALID["classes"])),
    "planet.source.Planet.prior": VALID["planet"].prior,
    "planet.source.Planet.presence": VALID["planet"].presence,
    "prior.best": lambda p_seen, labels: prior.best(
        p_seen, VALID["answers"], labels),
    "planet.source.Planet.posterior": VALID["planet"].posterior,
    "plots.pixels.patch_strip": _patch_strip,
    "plots.pixels.phenology": _phenology,
    "plots.maps.error_map": lambda lat, lon: plots.error_map(
        lat, lon, np.ones(N, bool)),
    "plots.taxonomy.mistakes": lambda labels: plots.mistakes(
        {"a": np.arange(N)}, labels, VALID["classes"]),
}


# Numbers are tried with other arguments than VALID's, which are few.
_WOOD = VALID["planet"].occurrences(1500)
_WOOD["rarity"] = splits.rarity(_WOOD, rare=5, frequent=20)
OWN = {
    "evaluation.calibration.prediction_sets": {"least": np.full(K, 0.1)},
    "evaluation.predictions.class_means": {"k": N},
    "splits.draws.benchmark": {"table": _WOOD, "species": 3, "total": 9},
    "splits.draws.k_shot": {"labels": np.repeat(np.arange(3), 4)},
    "splits.parts.folds": {"table": _WOOD},
    "splits.parts.split": {"table": _WOOD},
    "splits.draws.divide": {"table": _WOOD},
    "splits.draws.hold_out": {"table": _WOOD},
}


def _public():
    """Name and function of each public callable of the house."""
    for module in pkgutil.walk_packages(geotree.__path__, "geotree."):
        short = module.name.removeprefix("geotree.")
        if "__main__" in short or any(
                short == room or short.startswith(f"{room}.")
                for room in INSIDE):
            continue
        room = importlib.import_module(module.name)
        for name, one in vars(room).items():
            if (name.startswith("_")
                    or getattr(one, "__module__", None) != module.name):
                continue
            if inspect.isfunction(one):
                yield f"{short}.{name}", one
            elif inspect.isclass(one):
                yield from ((f"{short}.{name}.{key}", method)
                            for key, method in vars(one).items()
                            if inspect.isfunction(method)
                            and not key.startswith("_"))


def _doors():
    """Name, call, guarded names and valid arguments of each door."""
    for name, one in _public():
        about = inspect.signature(one).parameters
        guarded = [key for key in about if key in BAD]
        if not guarded or name in OPEN:
            continue
        if name in MADE:
            wanted = inspect.signature(MADE[name]).parameters
            guarded = [key for key in wanted if key in BAD]
            yield name, MADE[name], guarded, {
                key: VALID[key] for key in guarded}
            continue
        needed = [key for key, way in about.items()
                  if way.default is way.empty]
        yield name, one, guarded, {
            key: VALID[key] for key in {*needed, *guarded} if key in VALID}


def _numbers():
    """Doors with a number, whose other arguments are at hand."""
    for name, one in _public():
        about = inspect.signature(one).parameters
        needed = [key for key, way in about.items()
                  if way.default is way.empty]
        if not needed or not {*needed} <= {*VALID}:
            continue
        given = {key: VALID[key] for key in needed} | OWN.get(name, {})
        for key, way in about.items():
            value = given.get(key, way.default)
            if isinstance(value, int | float) and not isinstance(
                    value, bool) and name != "evaluation.metrics.rows_at_once":
                yield name, one, key, given


DOORS = {name: door for name, *door in _doors()}
NUMBERS = {(name, key): (one, arguments)
           for name, one, key, arguments in _numbers()}
CASES = [(name, key, what) for name, (_, guarded, _) in DOORS.items()
         for key in guarded for what in BAD[key]]
CLASSED = [name for name, (*_, given) in DOORS.items() if "classes" in given]


@pytest.mark.parametrize("what", CLASSES)
@pytest.mark.parametrize("name", CLASSED)
def test_a_class_table_is_one(name, what):
    call, _, arguments = DOORS[name]
    with pytest.raises(ValueError):
        call(**arguments | {"classes": CLASSES[what]})


@pytest.mark.parametrize("name", DOORS)
def test_a_door_lets_pass_what_is_valid(name):
    """Or the test below would prove nothing."""
    call, _, arguments = DOORS[name]
    call(**arguments)


@pytest.mark.parametrize(("name", "key", "what"), CASES)
def test_a_door_is_locked(name, key, what):
    call, _, arguments = DOORS[name]
    with pytest.raises(ValueError):
        call(**arguments | {key: BAD[key][what]})


@pytest.mark.parametrize(("name", "key"), NUMBERS)
def test_no_number_is_no_number(name, key):
    one, arguments = NUMBERS[name, key]
    one(**arguments)  # or the lines below would prove nothing
    for bad in (np.nan, "x"):
        with pytest.raises(ValueError):
            one(**arguments | {key: bad})
