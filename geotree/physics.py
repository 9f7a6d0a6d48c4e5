"""Physics: what holds at every place, whatever the unit it should be in.

No value alone tells that a column is in another unit, or that bands are in
another order; together they contradict each other. Only asked where arrays
enter, by :mod:`geotree.checks`, and never more than a warning.
"""

import math
import warnings

import numpy as np

from geotree.data import load
from geotree.values import few
from geotree.variables import BAND_NAMES, BANDS, NODATA, VARIABLE_NAMES

# What holds wherever the variables are true: factors of names, of products
# ("×"), of "|latitude|" and of constants, whose sum is not below zero.
RELATIONS = load("variables.json")["relations"]
# What a dozen values above 0 go beyond: radians, and percent of water, of
# which sand, the driest soil, holds 9.1 at 33 kPa (Rawls et al. 1982).
_SMALL = load("variables.json")["too small"]
_DOZEN = 12  # samples that tell more than chance


def check_relations(environment: np.ndarray, where: str = "environment"
                    ) -> None:
    """Warn where most of a dozen samples or more contradict ``RELATIONS``.

    By a twentieth and a unit; or are too small, all of them: a column is in
    another unit, or of another variable.

    Parameters
    ----------
    environment : (N, V) float, NaN where missing
    """
    known = dict(zip(VARIABLE_NAMES, environment.T.astype(float),
                     strict=True))
    known["|latitude|"] = np.abs(known["latitude"])
    broken = [f"{name} above {least:g}" for name, least in _SMALL.items()
              if (known[name] > 0).sum() >= _DOZEN
              and not (known[name] > least).any()]
    for relation in RELATIONS:
        parts = np.stack([factor * np.broadcast_to(
            float(name) if name.isdecimal() else
            np.prod([known[one] for one in name.split(" × ")], axis=0),
            len(environment)) for name, factor in relation.items()])
        slack = np.abs([*relation.values()]).sum()
        gap = parts.sum(axis=0) + 0.05 * np.abs(parts).sum(axis=0) + slack
        gap = gap[np.isfinite(gap)]
        if len(gap) >= _DOZEN and (gap < 0).mean() > 0.5:
            broken.append(_written(relation))
    if broken:
        warnings.warn(
            f"{where}: expected {few(broken)}, but most samples are not so. "
            "Is a column in another unit, or of another variable? Stored "
            "units are in variables.VARIABLES.", stacklevel=3)


def _written(relation: dict) -> str:
    """A relation as one writes it: "bio12 ≥ bio16 + 3 bio17"."""
    sides = ([f"{abs(factor):g} {name}".removeprefix("1 ")
              for name, factor in relation.items() if factor * sign > 0]
             for sign in (1, -1))
    return " ≥ ".join(map(" + ".join, sides))


def check_order(images: np.ndarray, where: str = "images") -> None:
    """Warn where B8 and B8A are alike in another order of bands, not in ours.

    842 and 865 nm lie on one plateau of leaves, and what is no leaf is as
    smooth there: the median of real patches is 4 % off at most. What is
    dark there tells nothing.

    Parameters
    ----------
    images : (N, T, C, H, W) whole numbers
    """
    part = images[::-(-len(images) // 512)].astype(np.float32)
    seen = (part != NODATA).all(axis=2, keepdims=True)  # in all bands
    mean = np.where(seen, part, 0).sum(axis=(1, 3, 4)) / np.maximum(
        seen.sum(axis=(1, 3, 4)), 1)  # (n, C)
    names, pair = [*BAND_NAMES], ("B8", "B8A")
    bright = mean[mean[:, [*map(names.index, pair)]].max(axis=1) > 1000]

    def apart(order):
        one, other = bright[:, [*map(order.index, pair)]].T
        return abs(math.log(np.median((one + 1) / (other + 1))))

    if len(bright) < 12 or apart(names) < math.log(1.25):
        return
    waves = [band.name for band in sorted(BANDS, key=lambda band:
                                          band.wavelength)]
    for order in (names[::-1], waves, sorted(names)):
        if apart(order) < math.log(1.1):
            warnings.warn(
                f"{where}: B8 and B8A are far apart in most samples, and "
                f"alike if the bands are {', '.join(order)}. Expected "
                f"{', '.join(names)}.", stacklevel=3)
            return
