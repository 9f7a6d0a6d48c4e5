"""Reflectance of a tree through the year: ten bands, in logarithms.

A crown is leaf, wood, ground and snow in shares that follow the climate.
What varies from tree to tree and from place to place enters the logarithm
to first order, as Gaussian factors: reflectance stays positive, its spread
grows with its level, as it does in nature, and the likelihood of an image
is exact (:mod:`geotree.planet.patch`).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from geotree.planet.climate import TABLES, Climate
from geotree.variables import MONTHS

# Reflectance in the order of BANDS, after typical library spectra.
LEAF, WOOD, GRASS, SOIL, SNOW = map(np.array, TABLES["reflectance"].values())
# d ln(reflectance) of a leaf for one unit of ln chlorophyll, ln water, and
# ln of the near-infrared plateau.
_CHLOROPHYLL, _WATER, _PLATEAU = map(np.array, TABLES["leaf"].values())

# Spread of what varies from tree to tree, one factor each.
FACTORS = TABLES["tree"]
# What the whole patch shares, in ln reflectance: all year long, and for one
# date. Spectra after what differs between real patches.
LASTING, PASSING = (np.array(list(TABLES[name].values()))[:, None]
                    for name in ("lasting", "passing"))  # (L, 1, C)
_CLOSED = .40  # of "open" in the near infrared, where leaves are out
# A crown differs from its surroundings on each date, too: so much more in the
# spectra that pass, and in each band by itself.
OWN, DATE_NOISE = 2.5, 0.05


class Scene(NamedTuple):
    """What the climate alone decides at N places."""

    temperature: np.ndarray  # (N, T) °C
    rain: np.ndarray  # (N, T) mm
    ground: np.ndarray  # (N, T, C) grass and soil
    snow: np.ndarray  # (N, T) share where nothing stands
    around: np.ndarray  # (N, T, C) ln, vegetation around the tree
    lasting: np.ndarray  # (N, L, T, C) ln, one s.d. of each of LASTING
    passing: np.ndarray  # (N, M, T, C) ln, one s.d. of each of PASSING


def _sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def _mix(share, one, other):
    """share × one + (1 − share) × other along a new band axis."""
    return share[..., None] * one + (1 - share)[..., None] * other


def scene(state: Climate) -> Scene:
    """Light everything at N places that is not the tree itself."""
    temperature, rain = state.temperature, state.rain
    grass = _sigmoid((temperature - 5) / 2.5) * _sigmoid((rain - 28) / 12)
    bright = 1.25 - 0.9 * state.soil_water[:, :1]  # wet soil is darker
    soil = (bright[..., None] * SOIL) * np.ones((1, MONTHS, 1))
    ground = grass[..., None] * GRASS + (1 - grass)[..., None] * soil
    snow = 0.85 * _sigmoid(-(temperature + 1.5) / 1.2)
    green = 0.25 + 0.75 * grass * _sigmoid((temperature - 11) / 1.5)
    trees = _mix(green, 0.95 * LEAF, WOOD)
    around = _mix(0.6 * snow, SNOW, 0.65 * trees + 0.35 * ground)
    free = (1 - snow)[:, None, :, None]
    lasting, passing = free * LASTING, free * PASSING
    lasting[:, 0] *= 0.45 + 0.6 * green[..., None]
    lasting[:, 0] -= free[:, 0] * _CLOSED * green[..., None] * _PLATEAU
    return Scene(temperature, rain, ground, snow, np.log(around), lasting,
                 passing)


def leaf(traits: pd.DataFrame) -> np.ndarray:
    """Leaf reflectance of K species: (K, C)."""
    chlorophyll = traits["chlorophyll"].to_numpy()[:, None] - np.log(40)
    water = traits["water"].to_numpy()[:, None] - np.log(0.0135)
    plateau = np.log(traits["near_infrared"].to_numpy()[:, None] / 0.33)
    return LEAF * np.exp(_CHLOROPHYLL * chlorophyll + _WATER * water
                         + _PLATEAU * plateau)


def leaf_fraction(traits: pd.DataFrame, temperature, rain) -> np.ndarray:
    """Share of leaves that are out, 0 to 1: (P, T) for P trait rows."""
    column = {name: traits[name].to_numpy()[:, None] for name in traits}
    warm = _sigmoid((temperature - column["green_up"]) / 1.6)
    moist = _sigmoid((rain - column["drought"]) / 6)
    least = column["leafless"]
    return least + (0.96 - least).clip(0) * warm * (0.25 + 0.75 * moist)


def signal(traits: pd.DataFrame, view: Scene) -> tuple[np.ndarray, ...]:
    """Mean and factor loadings of P trees, each at its own place.

    Parameters
    ----------
    traits : DataFrame, P rows
    view : Scene of P places

    Returns
    -------
    mean : (P, T, C) float64
        ln reflectance of a pixel that is all crown, before noise.
    loadings : (P, F, T, C) float64
        Change for one standard deviation of each of ``FACTORS``.
    """
    mean, parts = _mean(traits, view, view.temperature)
    warmer, _ = _mean(traits, view, view.temperature + FACTORS["season"])
    colder, _ = _mean(traits, view, view.temperature - FACTORS["season"])
    crown, leaves, bare, foliage = parts
    lit = bare[..., None] / mean  # (P, T, C) free of snow
    shown = lit * leaves[..., None] * foliage[:, None]
    loadings = np.stack([
        np.log(warmer / colder) / 2,
        FACTORS["cover"] * lit * (crown - view.ground),
        FACTORS["chlorophyll"] * shown * _CHLOROPHYLL,
        FACTORS["water"] * shown * _WATER,
        FACTORS["near_infrared"] * shown * _PLATEAU,
        FACTORS["brightness"] * np.ones_like(mean),
    ], axis=1)
    return np.log(mean), loadings


def _mean(traits, view, temperature):
    """Mean of a pure pixel and the parts that the loadings need."""
    cover = traits["cover"].to_numpy()[:, None]
    bark = traits["bark"].to_numpy()[:, None, None]
    foliage = leaf(traits)  # (P, C)
    fraction = leaf_fraction(traits, temperature, view.rain)
    crown = (fraction[..., None] * foliage[:, None]
             + (1 - fraction)[..., None] * bark * WOOD)
    bare = 1 - view.snow * (1 - 0.85 * cover * fraction)
    land = cover[..., None] * crown + (1 - cover)[..., None] * view.ground
    return (_mix(bare, land, SNOW), (crown, cover * fraction, bare, foliage))


def cloud_probability(view: Scene, lat) -> tuple[np.ndarray, np.ndarray]:
    """Chance of a month without a clear observation, and of a cloud missed.

    Returns
    -------
    (N, T), (N, T)
        Masks miss clouds under a low sun.
    """
    wet = 0.04 + 0.5 * (1 - np.exp(-view.rain / 190))
    season = -np.cos(2 * np.pi * (np.arange(MONTHS) + 0.83) / 12)
    height = 90 - np.abs(np.asarray(lat)[:, None]
                         - 23.4 * season)  # of the sun at noon, degrees
    missed = 0.015 * _sigmoid((34 - height) / 1.5)
    return np.maximum(wet, _sigmoid((9 - height) / 2)), missed
