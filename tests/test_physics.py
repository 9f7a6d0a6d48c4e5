"""Columns and bands that contradict each other, at the door they enter by."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from geotree import checks
from geotree.planet.source import Planet
from geotree.variables import BAND_NAMES, NODATA, VARIABLE_NAMES

REAL = Path(__file__).parents[2] / "shared/data/patches"
ORDERS = {"reversed": BAND_NAMES[::-1], "alphabet": sorted(BAND_NAMES),
          "wavelength": "B2 B3 B4 B5 B6 B7 B8 B8A B11 B12".split()}
LAND = {  # reflectance in % of what is no leaf; bands as ours
    "snow": [90, 90, 90, 86, 88, 87, 86, 84, 9, 7],
    "old snow": [60, 58, 55, 44, 52, 50, 47, 40, 5, 4],
    "water": [8, 7, 4, 2, 3, 2, 2, 2, 1, 1],
    "muddy water": [12, 15, 17, 12, 16, 14, 13, 12, 2, 1],
    "desert": [12, 20, 30, 38, 33, 35, 37, 39, 48, 42],
    "salt": [45, 50, 53, 56, 54, 55, 56, 56, 45, 35],
    "ash": [11] * 10, "cloud": [55] * 10}


@pytest.fixture(scope="module", params=[0, 1, 2])
def found(request):
    planet = Planet(seed=request.param)
    return planet.fetch(planet.occurrences(200, seed=request.param))


def quiet(check, values, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(values, **how)


def moved(images, order):
    return images[:, :, [BAND_NAMES.index(name) for name in order]]


@pytest.mark.parametrize("order", ORDERS)
def test_bands_in_another_order_are_told(found, order):
    quiet(checks.images, found.reflectance)
    with pytest.warns(UserWarning, match=f"are {', '.join(ORDERS[order])}"):
        checks.images(moved(found.reflectance, ORDERS[order]))


@pytest.mark.parametrize("what", LAND)
def test_what_is_no_wood_has_its_bands_in_order(what):
    rng = np.random.default_rng(0)
    noise = rng.lognormal(0, 0.2, (40, 12, 10, 5, 5))
    images = np.array(LAND[what])[:, None, None] * 100 * noise
    images[rng.random((40, 12)) < 0.4] = NODATA
    quiet(checks.images, images.astype(np.uint16))


@pytest.mark.skipif(not REAL.exists(), reason="real patches are not here")
@pytest.mark.parametrize("name", ["labelled", "unlabelled"])
@pytest.mark.parametrize("season", [0, 1, 2])
def test_real_patches_are_told_apart(name, season):
    images = np.load(REAL / f"{name}.npz")["images"][:, [season]]
    images = np.maximum(images, 1)
    for offset in (0, 1000):  # not harmonised, and harmonised
        harmonised = np.maximum(images, offset + 1) - np.uint16(offset)
        quiet(checks.images, harmonised, months=1)
        for order in ORDERS.values():
            with pytest.warns(UserWarning, match="far apart"):
                checks.images(moved(harmonised, order), months=1)


def kelvin(values):
    return values / 10 + 273


UNITS = {  # columns, what another unit makes of them, what is told
    "year's rain in cm": ("bio12", 0.1, "bio12 ≥ bio16 \\+ 3 bio17"),
    "year's rain in inches": ("bio12", 1 / 25.4, "bio12 ≥ bio16"),
    "a month's rain in cm": ("bio13", 0.1, "3 bio13 ≥ bio16"),
    "a quarter's rain in cm": ("bio18", 0.1, "bio18 ≥ bio17"),
    "variation as a share": ("bio15", 0.01, "bio12 × bio15"),
    "isothermality as a share": ("bio03", 0.01, "bio03 × bio07 ≥ 70 bio02"),
    "a daily range in degrees": ("bio02", 0.1, "bio02 ≥ bio03 × bio07"),
    "a summer in degrees": ("bio05", 0.1, "bio05 ≥ bio10"),
    "deviation of degrees": ("bio04", 0.01, "bio04 \\+ 20 bio11 ≥ 20 bio10"),
    "a year in kelvin": ("bio01", kelvin, "3 bio10 \\+ bio11 ≥ 4 bio01"),
    "all in kelvin": ("bio01 bio05 bio06 bio08 bio09 bio10 bio11", kelvin,
                      "bio05 ≥ bio06 \\+ bio07"),
    "a layer in percent": ("soil_moisture_0_5cm", 0.1, "5 soil_moisture_0"),
    "soils in percent": (
        "soil_moisture_0_5cm soil_moisture_5_15cm soil_moisture_15_30cm", 0.1,
        "soil_moisture_0_5cm above 70"),
    "radians": ("aspect", np.pi / 180, "aspect above 6.2832")}


@pytest.mark.parametrize("what", UNITS)
def test_a_column_in_another_unit_is_told(found, what):
    names, change, words = UNITS[what]
    values = found.environment.copy()
    for column in map(VARIABLE_NAMES.index, names.split()):
        values[:, column] = (change(values[:, column]) if callable(change)
                             else values[:, column] * change)
    with pytest.warns(UserWarning, match=words):
        checks.environment(values)


def test_climates_of_the_planet_contradict_nothing(found):
    """Nor do its dry, cold and hot ones, a few at a time."""
    quiet(checks.environment, found.environment)
    for name in ("bio12", "bio01"):
        order = np.argsort(found.environment[:, VARIABLE_NAMES.index(name)])
        for rows in (order[:12], order[-12:]):
            quiet(checks.environment, found.environment[rows])
