"""Traits of any tree species, drawn down the taxonomy so relatives agree.

A trait is the mean of the leaf type plus an effect of the family, of the
genus and of the species. Each effect depends only on the planet's seed and
the name, so a species that the planet does not know gets traits too.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

# name: (deciduous broadleaf, evergreen broadleaf, evergreen needleleaf,
#        deciduous needleleaf), spread between species
TRAITS = {
    "chlorophyll": ((3.6, 3.8, 3.7, 3.55), 0.26),  # ln µg/cm²
    "water": ((-4.4, -4.2, -4.0, -4.25), 0.26),  # ln g/cm²
    "near_infrared": ((0.44, 0.40, 0.27, 0.31), 0.032),  # plateau
    "cover": ((0.82, 0.78, 0.70, 0.66), 0.08),  # crown share of the ground
    "leafless": ((0.04, 0.90, 0.88, 0.06), 0.02),  # least leaf fraction
    "green_up": ((8.0, 2.0, 1.0, 7.0), 1.7),  # °C, half of the leaves out
    "drought": ((22.0, 12.0, 10.0, 18.0), 6.0),  # mm a month, half shed
    "bark": ((1.0, 1.0, 0.85, 0.9), 0.18),  # brightness of wood and litter
    "habitat": ((0.0, 0.0, 0.0, 0.0), 1.0),  # dry (−) or moist (+) soil
}
LEAF_TYPES = ("Deciduous Broadleaf", "Evergreen Broadleaf",
              "Evergreen Needleleaf", "Deciduous Needleleaf")
_LIMITS = {"near_infrared": (0.18, 0.60), "cover": (0.45, 0.97),
           "leafless": (0.02, 0.97), "drought": (3.0, 60.0),
           "bark": (0.5, 1.6)}
# Shares of the variance at family, genus and species level.
_SHARES = {"family": 0.45, "genus": 0.30, "species": 0.25}


def stable_hash(*parts: object) -> int:
    """A 63-bit number that depends only on ``parts``, on any machine."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(),
                          "little") >> 1


def draw(classes: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Draw the traits of each species of a class table.

    Parameters
    ----------
    classes : DataFrame, K rows
        Columns ``species``, ``genus``, ``family``, ``leafType``.
    seed : int
        The planet's seed.

    Returns
    -------
    DataFrame, (K, 9) float64
        Columns of ``TRAITS``, in its units.

    Raises
    ------
    ValueError
        For a leaf type that the planet does not know.
    """
    unknown = sorted(set(classes["leafType"]) - set(LEAF_TYPES))
    if unknown:
        raise ValueError(
            f"leafType {unknown[0]!r} is not one of {', '.join(LEAF_TYPES)}. "
            "Correct the column 'leafType' of the table.")
    names = list(TRAITS)
    kind = classes["leafType"].map(LEAF_TYPES.index).to_numpy()
    mean = np.array([TRAITS[name][0] for name in names])[:, kind].T
    spread = np.array([TRAITS[name][1] for name in names])
    values = mean.astype(float)
    for rank, share in _SHARES.items():
        effect = {
            name: np.random.default_rng(
                stable_hash(seed, rank, name)).normal(size=len(names))
            for name in classes[rank].unique()
        }
        values += np.sqrt(share) * spread * np.stack(
            [effect[name] for name in classes[rank]])
    traits = pd.DataFrame(values, columns=names, index=classes.index)
    for name, (low, high) in _LIMITS.items():
        traits[name] = traits[name].clip(low, high)
    return traits
