"""Splits: which records train, which test, and how far apart they are.

A random split of clustered records measures memory, not skill: more than a
third of the rows of the release's table have another row within 1 km.
Explained in chapter 04.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from geotree.distance import (
    EARTH,
    PARTS,
    LeakageError,
    check_leakage,
    distance_km,
    nearest_km,
    places,
)

__all__ = ["EARTH", "PARTS", "LeakageError", "benchmark", "blocks",
           "check_leakage", "distance_km", "hold_out", "k_shot",
           "nearest_km", "places", "rarity", "split"]
CATEGORIES = ("Rare", "Common", "Frequent")
_SHARES = {"Rare": 12, "Common": 33, "Frequent": 54}  # % of the rows


def rarity(table: pd.DataFrame, *, rare: int = 100,
           frequent: int = 1500) -> pd.Series:
    """Category of each row by the records of its species.

    Up to ``rare`` records "Rare", from ``frequent`` on "Frequent", between
    them "Common". The release's limits are the defaults; they suit millions
    of records.
    """
    records = table.groupby("species")["species"].transform("size")
    values = np.select([records <= rare, records < frequent],
                       CATEGORIES[:2], CATEGORIES[2])
    return pd.Series(values, index=table.index, name="rarity")


def blocks(table: pd.DataFrame, degrees: float) -> np.ndarray:
    """Number of the latitude–longitude block of each row: (N,) int64."""
    if not degrees > 0:
        raise ValueError(f"degrees is {degrees}, expected more than 0.")
    lon = (table["decimalLongitude"].to_numpy(float) + 180) % 360 - 180
    row = np.floor(table["decimalLatitude"].to_numpy(float) / degrees)
    cell = row.astype(np.int64) * 10**9 + np.floor(lon / degrees).astype(
        np.int64)
    return np.unique(cell, return_inverse=True)[1]


def split(table: pd.DataFrame, *, kind: str = "blocks", test: float = 0.2,
          validation: float = 0.1, block_degrees: float = 1.0,
          buffer_km: float = 0.0, seed: int = 0) -> pd.Series:
    """Divide a table into train, validation and test.

    Parameters
    ----------
    kind : "blocks" or "random"
        Whole blocks of the globe, or single rows.
    test, validation : float
        Shares of the rows.
    block_degrees : float
        Side of a block.
    buffer_km : float
        Training rows nearer than this to a row of validation or test
        become ``buffer`` and are used by nobody.
    seed : int

    Returns
    -------
    Series of str
        ``train``, ``validation``, ``test`` or ``buffer``, indexed like
        ``table``. Each species keeps a block (or row) to train on; a
        buffer may take it away again.

    Raises
    ------
    ValueError
        Shares or kind out of range, or a part that would be empty.
    """
    if kind not in ("blocks", "random"):
        raise ValueError(f"kind is {kind!r}, expected 'blocks' or 'random'.")
    if not (0 < test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise ValueError(
            f"test is {test} and validation {validation}, expected shares "
            "above 0 (validation: or 0) that leave something to train on.")
    unit = (blocks(table, block_degrees) if kind == "blocks"
            else np.arange(len(table)))
    rng = np.random.default_rng(seed)
    part = _assign(unit, _kept(unit, table["species"], rng),
                   np.array([1 - test - validation, validation, test]), rng)
    parts = pd.Series(np.array(PARTS, dtype=object)[part[unit]],
                      index=table.index, name="split", dtype="str")
    if buffer_km > 0:
        training = (parts == "train").to_numpy()
        if training.any() and not training.all():
            near = np.flatnonzero(training)[
                nearest_km(table[training], table[~training]) < buffer_km]
            parts.iloc[near] = "buffer"
    lacking = [name for name, share in zip(PARTS, (1, validation, 1),
                                           strict=True)
               if share and not (parts == name).any()]
    if lacking:
        raise ValueError(
            f"the split leaves no row for {', '.join(lacking)} ({len(table)} "
            f"rows of {table['species'].nunique()} species in "
            f"{len(part)} blocks, buffer {buffer_km} km). Use smaller "
            "blocks, a smaller buffer or more rows.")
    return parts


def _kept(unit, species, rng) -> np.ndarray:
    """Units that must train: one of each species, as few as possible."""
    pairs = pd.DataFrame({"unit": unit, "species": species.to_numpy()}
                         ).drop_duplicates()
    pairs = pairs.iloc[rng.permutation(len(pairs))]
    units = pairs.groupby("species", sort=True)["unit"].agg(list)
    kept: set[int] = set()
    for choice in sorted(units, key=len):  # those with least choice first
        if kept.isdisjoint(choice):
            kept.add(choice[0])
    return np.array(sorted(kept), dtype=np.int64)


def _assign(unit, kept, shares, rng) -> np.ndarray:
    """Part of each unit: 0 train, 1 validation, 2 test.

    In random order, each unit goes where the largest share is still open,
    so that large and small blocks fall to all parts alike.
    """
    sizes = np.bincount(unit)
    part = np.full(len(sizes), -1)
    part[kept] = 0
    order = rng.permutation(np.flatnonzero(part < 0))
    if sizes.max() == 1:  # single rows: no block to weigh
        ends = np.cumsum(np.rint(shares[:0:-1] * len(sizes)).astype(int))
        part[order] = np.array([2, 1, 0])[
            np.searchsorted(ends, np.arange(len(order)), side="right")]
        return part
    target = shares * sizes.sum()
    scale = np.where(target > 0, target, 1)
    filled = np.array([float(sizes[kept].sum()), 0.0, 0.0])
    for number in order.tolist():
        # A block that overshoots by more than half goes to training.
        fits = filled + sizes[number] / 2 <= target
        fits[0] = True
        best = int(np.where(fits, 1 - filled / scale, -np.inf).argmax())
        part[number] = best
        filled[best] += sizes[number]
    return part


def hold_out(table: pd.DataFrame, *, fraction: float = 0.15,
             rank: str = "species", seed: int = 0) -> list[str]:
    """Choose species that training will never see, each with a relative.

    Parameters
    ----------
    fraction : float
        Share of the species wanted; fewer come when relatives are few.
    rank : "species" or "genus"
        ``species``: another species of the genus stays. ``genus``: whole
        genera go, another genus of the family stays.
    seed : int

    Returns
    -------
    list of str
        Sorted species names.

    Raises
    ------
    ValueError
        No species has a relative that could stay.
    """
    above = {"species": "genus", "genus": "family"}
    if rank not in above:
        raise ValueError(f"rank is {rank!r}, expected 'species' or 'genus'.")
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}, expected 0 to 1.")
    lineage = table[["species", "genus", "family"]].drop_duplicates(
        "species").sort_values("species")
    parent = lineage.drop_duplicates(rank).set_index(rank)[above[rank]]
    left = parent.value_counts().to_dict()
    members = lineage.groupby(rank)["species"].agg(list)
    wanted = max(round(fraction * len(lineage)), 1)
    chosen: list[str] = []
    for name in np.random.default_rng(seed).permutation(members.index):
        fits = len(chosen) + len(members[name]) <= wanted or not chosen
        if fits and left[parent[name]] > 1:
            left[parent[name]] -= 1
            chosen += members[name]
    if not chosen:
        raise ValueError(
            f"no {rank} can be held out: each {above[rank]} of the table has "
            f"only one, {len(lineage)} species in all. Use a table with "
            "relatives.")
    return sorted(chosen)


def benchmark(table: pd.DataFrame, *, species: int = 90,
              total: int = 10_000, seed: int = 0,
              rarity: str = "rarity") -> pd.DataFrame:
    """Draw an evaluation set by the release's recipe, at any size.

    N = ``species`` / 3 species of each category; of each, ``int(0.12 total
    / N)`` Rare, ``int(0.33 total / N)`` Common and ``int(0.54 total / N) +
    1`` Frequent rows. 90, 300 and 900 species of 10,000 rows are the
    release's three sets.

    Parameters
    ----------
    table : DataFrame
        With a column of categories (:func:`rarity`).
    species, total : int
    seed : int
    rarity : str
        Name of that column.

    Returns
    -------
    DataFrame
        Rows of ``table``, in their order.

    Raises
    ------
    ValueError
        A category has too few species with enough rows.
    """
    if rarity not in table.columns:
        raise ValueError(f"table has no column {rarity!r}. Add it: "
                         "table['rarity'] = splits.rarity(table).")
    if species < 3 or species % 3:
        raise ValueError(f"species is {species}, expected a multiple of 3: "
                         "as many of each category.")
    number = species // 3
    rng = np.random.default_rng(seed)
    order = pd.Series(rng.permutation(len(table)))  # position in the table
    drawn: list[np.ndarray] = []
    for category, share in _SHARES.items():
        quota = total * share // (100 * number) + (category == "Frequent")
        rows = order[(table[rarity] == category).to_numpy()[order]]
        names = table["species"].to_numpy()[rows]
        sizes = pd.Series(names).value_counts()
        able = sorted(sizes[sizes >= quota].index)
        if len(able) < number or quota < 1:
            raise ValueError(
                f"{category}: {len(able)} of {len(sizes)} species have the "
                f"{quota} rows that are needed, expected {number} species. "
                "Ask for fewer species, another total, or other limits of "
                "rarity.")
        chosen = rng.choice(np.array(able, dtype=object), number,
                            replace=False)
        rank = rows.groupby(names).cumcount()
        take = (rank < quota).to_numpy() & np.isin(names, chosen)
        drawn.append(rows.to_numpy()[take])
    return table.iloc[np.sort(np.concatenate(drawn))]


def k_shot(labels, k: int, *, seed: int = 0
           ) -> tuple[np.ndarray, np.ndarray]:
    """Exactly ``k`` support rows per class; every other row is a query.

    Parameters
    ----------
    labels : (N,) int
    k : int
    seed : int

    Returns
    -------
    support, query : int64 arrays
        Row numbers, sorted, disjoint; together all rows.

    Raises
    ------
    ValueError
        A class has no more than ``k`` rows.
    """
    labels = np.asarray(labels)
    if k < 1:
        raise ValueError(f"k is {k}, expected one shot or more.")
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"labels have shape {labels.shape}, expected one "
                         "class number a row.")
    names, sizes = np.unique(labels, return_counts=True)
    if (sizes <= k).any():
        small = [f"{name} ({size})" for name, size in
                 zip(names[sizes <= k], sizes[sizes <= k], strict=True)]
        more = ", …" if len(small) > 5 else ""
        raise ValueError(
            f"{len(small)} classes have fewer than {k + 1} rows, too few "
            f"for {k} shots and a query: class (rows) "
            f"{', '.join(small[:5])}{more}. Leave them out or use a smaller "
            "k.")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    first = np.concatenate([[0], sizes.cumsum()[:-1]])
    support = np.sort(by_class[(first[:, None] + np.arange(k)).ravel()])
    return support, np.setdiff1d(np.arange(len(labels)), support)
