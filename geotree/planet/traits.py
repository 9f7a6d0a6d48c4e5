"""Traits of any tree species, drawn down the taxonomy so relatives agree.

A trait is the mean of the leaf type plus an effect of the family, of the
genus and of the species. Each effect depends only on the planet's seed and
the name, so a species that the planet does not know gets traits too.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from geotree import taxonomy
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


def of_rows(table: pd.DataFrame, classes: pd.DataFrame, *,
            seed: int) -> pd.DataFrame:
    """Traits of each row of an occurrence table: (N, 9).

    ``classes`` are those of the planet; another species has what its genus
    and family suggest.
    """
    names = taxonomy.complete(
        table[["species", "genus", "family", "leafType"]], classes)
    names["leafType"] = names["leafType"].replace(
        "Unknown", classes["leafType"].mode().iat[0])
    unique = names.drop_duplicates(ignore_index=True)
    rows = pd.MultiIndex.from_frame(unique).get_indexer(
        pd.MultiIndex.from_frame(names))
    return draw(unique, seed=seed).iloc[rows]


def season(table: pd.DataFrame, seed: int) -> np.ndarray:
    """How warm the year of a row was in its part of the world: (N,), s.d. 1.
    """
    lat = np.floor(table["decimalLatitude"] / 10).astype(int)
    lon = np.floor(table["decimalLongitude"] / 10).astype(int)
    year = table["year"].fillna(0).astype(int)
    places = list(zip(year, lat, lon, strict=True))
    known = {place: np.random.default_rng(
        stable_hash(seed, "year", *place)).normal() for place in set(places)}
    return np.array([known[place] for place in places])
