"""Which taxa a map of embeddings shows, as GlobalGeoTree's JSON files say.

Five families, five genera of one of them, five species of one of those:
few enough to tell by colour. Chapter 08.
"""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import checks, files

# Of each rank: where its taxa stand, and those that they must be within.
_LEVELS = {
    "family": ("selected_families", {}),
    "genus": ("selected_genera",
              {"family": "source_family_from_initial_selection"}),
    "species": ("selected_species",
                {"family": "source_family",
                 "genus": "source_genus_from_selected_genera"})}
RANKS = tuple(_LEVELS)


def draw(table: pd.DataFrame, *, n: int = 5, least: int = 1,
         seed: int = 42) -> dict:
    """Choose taxa at random; the same for the same seed.

    Parameters
    ----------
    table : DataFrame
        With ``family``, ``genus``, ``species`` and, if known, ``rarity``.
    n : int
        Taxa of each rank, at most.
    least : int
        Records that a species needs to be looked at.
    seed : int

    Returns
    -------
    dict
        The content of a file of selections. The family with most species
        is always there, and so is its genus with most: of these are the
        genera and the species.
    """
    records = table.groupby("species")["species"].transform("size")
    table = table[records >= least]
    if not len(table) or n < 1:
        raise ValueError(
            f"{len(table)} records of species with {least} or more, and "
            f"n={n}: nothing to choose from, or nothing to choose.")
    rng = checks.rng(seed)

    def some(names, first: str | None = None) -> list[str]:
        """``first`` and others at random, ``n`` in all."""
        others = sorted(set(names) - {first})
        count = min(n - (first is not None), len(others))
        drawn = rng.choice(others, count, replace=False).tolist()
        return sorted([first, *drawn] if first is not None else drawn)

    family = table.groupby("family")["species"].nunique().idxmax()
    within = table[table["family"] == family]
    genus = within.groupby("genus")["species"].nunique().idxmax()
    families = some(table["family"], family)
    genera = some(within["genus"], genus)
    species = some(within.loc[within["genus"] == genus, "species"])
    rarity = (table.groupby("family")["rarity"].agg(
        lambda column: column.mode().iloc[0]) if "rarity" in table
        else pd.Series("", families))
    return {
        "seed": seed,
        "family_level": {"selected_families": [
            {"name": name, "category": str(rarity[name])}
            for name in families]},
        "genus_level": {"source_family_from_initial_selection": family,
                        "selected_genera": genera},
        "species_level": {"source_family": family,
                          "source_genus_from_selected_genera": genus,
                          "selected_species": species}}


def read(path: str | os.PathLike) -> dict:
    """Read a file of selections, and see that each rank can be used."""
    selections = files.read_json(path, what="file of selections")
    try:
        for rank in RANKS:
            names(selections, rank)
    except ValueError as error:
        raise ValueError(f"'{path}' is no file of selections: {error}. "
                         "selections.write makes one.") from error
    return selections


def write(selections: dict, path: str | os.PathLike) -> Path:
    """Write a file of selections that the release's scripts read."""
    return files.write(path, json.dumps(selections, indent=4,
                                        ensure_ascii=False))


def names(selections: dict, rank: str) -> list[str]:
    """The chosen taxa of a rank."""
    return _level(selections, rank)[0]


def rows(table: pd.DataFrame, selections: dict, rank: str) -> np.ndarray:
    """Which records of a table are shown at a rank: (N,) bool."""
    chosen, within = _level(selections, rank)
    keep = table[rank].isin(chosen)
    for column, value in within.items():
        keep &= table[column] == value
    if not keep.any():
        raise ValueError(f"none of {len(table)} records is of "
                         f"{', '.join(chosen[:5])}. Draw selections from "
                         "this table.")
    return keep.to_numpy()


def _level(selections: dict, rank: str) -> tuple[list[str], dict[str, str]]:
    """Taxa of a rank, and the taxa that they must be within."""
    chosen, within = _LEVELS[checks.one_of(rank, RANKS, name="rank")]
    try:
        level = selections[f"{rank}_level"]
        found = [taxon["name"] if rank == "family" else taxon
                 for taxon in level[chosen]]
        within = {column: level[name] for column, name in within.items()}
    except (KeyError, TypeError) as error:
        raise ValueError(f"selections of rank {rank!r} lack {error}"
                         ) from error
    if not found:
        raise ValueError(f"selections of rank {rank!r} are empty")
    return found, within
