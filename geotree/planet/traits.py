"""Traits of any tree species, drawn down the taxonomy so relatives agree.

A trait is the mean of the leaf type plus an effect of the family, of the
genus and of the species. Each effect depends only on the planet's seed and
the name, so a species that the planet does not know gets traits too.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from geotree.planet.tables import TABLES

LEAF_TYPES, TRAITS = TABLES["leaf types"], TABLES["traits"]
# Shares of the variance at family, genus and species level.
_SHARES = {"family": 0.50, "genus": 0.35, "species": 0.15}


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
    means, spread, limits = (
        np.array([TRAITS[name][part] for name in names], float)
        for part in ("means", "spread", "limits"))
    values = means[:, kind].T
    for rank, share in _SHARES.items():
        effect = {
            name: np.random.default_rng(
                stable_hash(seed, rank, name)).normal(size=len(names))
            for name in classes[rank].unique()
        }
        values += np.sqrt(share) * spread * np.stack(
            [effect[name] for name in classes[rank]])
    values = np.fmax(np.fmin(values, limits[:, 1]), limits[:, 0])
    return pd.DataFrame(values, columns=names, index=classes.index)
