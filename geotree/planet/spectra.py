"""Reflectance of a tree through the year: linear mixing, ten bands.

A pixel is leaf, wood, ground and snow in shares that follow the climate.
What varies from tree to tree enters to first order, as Gaussian factors, so
that the likelihood of an image is exact (:func:`log_likelihood`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from geotree.planet.climate import Climate
from geotree.variables import MONTHS, PATCH

# Reflectance in the order of BANDS: B2 B3 B4 B8 B5 B6 B7 B8A B11 B12.
# Shapes after typical library spectra, rounded.
LEAF = np.array([.022, .048, .026, .40, .085, .27, .36, .41, .19, .085])
WOOD = np.array([.055, .070, .085, .17, .10, .13, .15, .18, .25, .19])
GRASS = np.array([.035, .070, .045, .36, .11, .25, .32, .37, .25, .14])
SOIL = np.array([.080, .11, .15, .24, .18, .20, .22, .25, .33, .29])
SNOW = np.array([.82, .84, .83, .76, .83, .81, .79, .74, .11, .08])
# d ln(reflectance) of a leaf for one unit of ln chlorophyll, ln water.
_CHLOROPHYLL = np.array([-.25, -.55, -.40, 0, -.65, -.22, -.04, 0, 0, 0])
_WATER = np.array([0, 0, 0, -.01, 0, 0, 0, -.02, -.22, -.42])
_PLATEAU = np.array([0, 0, 0, 1, .15, .65, .92, 1, .45, .25])

# Spread of what varies from tree to tree, one factor each.
FACTORS = {
    "season": 1.8,  # °C, how warm the year was
    "cover": 0.12,  # crown share of the ground
    "chlorophyll": 0.30,  # ln
    "water": 0.30,  # ln
    "near_infrared": 0.12,  # relative
    "brightness": 0.08,  # relative, view and sun
}
# Standard deviation per band: between dates of one crown; of one pixel.
DATE_NOISE = 0.20 * np.array(
    [.03, .04, .04, .16, .06, .12, .15, .16, .11, .07])
PIXEL_NOISE = 0.06 * np.array(
    [.03, .05, .05, .25, .08, .18, .22, .25, .16, .10])
GROUND_SPREAD = 0.10  # share of ground seen, from pixel to pixel

# How much of each pixel belongs to the tree in the centre: (H, W).
_DISTANCE = np.maximum(*np.abs(np.mgrid[:PATCH, :PATCH] - PATCH // 2))
CROWN = np.array([0.95, 0.75, 0.45])[_DISTANCE]


class Scene(NamedTuple):
    """What the climate alone decides at N places."""

    temperature: np.ndarray  # (N, T) °C
    rain: np.ndarray  # (N, T) mm
    ground: np.ndarray  # (N, T, C) grass and soil
    snow: np.ndarray  # (N, T) share where nothing stands
    background: np.ndarray  # (N, T, C) vegetation around the tree
    contrast: np.ndarray  # (N, T, C) ground − background


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
    green = 0.25 + 0.75 * grass
    trees = _mix(green, 0.95 * LEAF, WOOD)
    bare = 0.65 * trees + 0.35 * ground
    background = _mix(0.6 * snow, SNOW, bare)
    return Scene(temperature, rain, ground, snow, background,
                 _mix(snow, SNOW, ground) - background)


def leaf(traits: pd.DataFrame) -> np.ndarray:
    """Leaf reflectance of K species: (K, C)."""
    chlorophyll = traits["chlorophyll"].to_numpy()[:, None] - np.log(40)
    water = traits["water"].to_numpy()[:, None] - np.log(0.0135)
    plateau = np.log(traits["near_infrared"].to_numpy()[:, None] / 0.40)
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
        Reflectance of a pixel that is all crown, before noise.
    loadings : (P, F, T, C) float64
        Change for one standard deviation of each of ``FACTORS``.
    """
    mean, parts = _mean(traits, view, view.temperature)
    warmer, _ = _mean(traits, view, view.temperature + FACTORS["season"])
    colder, _ = _mean(traits, view, view.temperature - FACTORS["season"])
    crown, leaves, bare, foliage = parts
    lit = bare[..., None]  # (P, T, 1) free of snow
    shown = lit * leaves[..., None] * foliage[:, None]
    loadings = np.stack([
        (warmer - colder) / 2,
        FACTORS["cover"] * lit * (crown - view.ground),
        FACTORS["chlorophyll"] * shown * _CHLOROPHYLL,
        FACTORS["water"] * shown * _WATER,
        FACTORS["near_infrared"] * shown * _PLATEAU,
        FACTORS["brightness"] * mean,
    ], axis=1)
    return mean, loadings


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
    return (_mix(bare, land, SNOW),
            (crown, cover * fraction, bare, foliage))


def log_likelihood(images, missing, traits: pd.DataFrame, view: Scene,
                   place: np.ndarray) -> np.ndarray:
    """Log density of images under species, up to a constant of the image.

    Parameters
    ----------
    images : (N, T, C, H, W) float64
        Reflectance; the values of missing months do not matter.
    missing : (N, T) bool
    traits : DataFrame, P rows
        One row for each pair of an image and a species in question.
    view : Scene of N places
    place : (P,) int
        The image of each pair.

    Returns
    -------
    (P,) float64

    Notes
    -----
    An image is crown × tree + (1 − crown) × background + ground seen by
    each pixel + noise. Only the tree depends on the species, always through
    the weights ``CROWN``, so the weighted mean of the pixels is sufficient.
    Its covariance is diagonal plus a few factors; Woodbury inverts it.
    """
    weight = (CROWN**2).sum()
    around = (1 - CROWN) * view.background[..., None, None]
    tree = ((images - around) * CROWN).sum(axis=(-2, -1)) / weight
    variance = DATE_NOISE**2 + PIXEL_NOISE**2 / weight  # (C,)
    precision = (~missing)[..., None] / variance  # (N, T, C)
    local = Scene(*(part[place] for part in view))
    mean, loadings = signal(traits, local)
    seen = GROUND_SPREAD * local.contrast / np.sqrt(weight)
    loadings = np.concatenate([loadings, seen[:, None]], axis=1)
    pairs = len(place)
    scale = np.sqrt(precision[place]).reshape(pairs, -1)
    residual = (tree[place] - mean).reshape(pairs, -1) * scale
    loadings = loadings.reshape(pairs, loadings.shape[1], -1)
    loadings = loadings * scale[:, None]
    inner = loadings @ loadings.transpose(0, 2, 1)
    inner[:, range(inner.shape[1]), range(inner.shape[1])] += 1
    projected = (loadings @ residual[..., None])[..., 0]
    solved = np.linalg.solve(inner, projected[..., None])[..., 0]
    return -0.5 * ((residual**2).sum(axis=1) - (projected * solved).sum(axis=1)
                   + np.linalg.slogdet(inner)[1])


def cloud_probability(view: Scene, lat) -> np.ndarray:
    """Chance that a month has no clear observation: (N, T)."""
    wet = 0.04 + 0.5 * (1 - np.exp(-view.rain / 190))
    month = np.arange(MONTHS)
    season = -np.cos(2 * np.pi * (month - 0.5) / 12)
    height = 90 - np.abs(np.asarray(lat)[:, None]
                         - 23.4 * season)  # of the sun at noon, degrees
    return np.maximum(wet, _sigmoid((9 - height) / 2))

