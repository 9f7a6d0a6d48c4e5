"""Splits: which records train, which test, and how far apart they are.

A random split of clustered records measures memory, not skill: more than a
third of the rows of the release's table have another row within 1 km.
Explained in chapter 04.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

EARTH = 6371.0088  # km, mean radius
PARTS = ("train", "validation", "test")
CATEGORIES = ("Rare", "Common", "Frequent")


class LeakageError(ValueError):
    """Test records share something with training records."""


def distance_km(lat1, lon1, lat2, lon2) -> np.ndarray:
    """Great-circle distance in km of places in degrees, broadcast."""
    a, b, c, d = map(np.radians, (lat1, lon1, lat2, lon2))
    half = (np.sin((c - a) / 2) ** 2
            + np.cos(a) * np.cos(c) * np.sin((d - b) / 2) ** 2)
    return 2 * EARTH * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def places(table: pd.DataFrame) -> np.ndarray:
    """Latitude and longitude in radians: (N, 2), as BallTree wants them."""
    return np.radians(table[["decimalLatitude", "decimalLongitude"]]
                      .to_numpy(float))


def nearest_km(table: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    """Distance in km from each row to the nearest row of ``others``."""
    from sklearn.neighbors import BallTree

    tree = BallTree(places(others), metric="haversine")
    distance, _ = tree.query(places(table), k=1)
    return distance[:, 0] * EARTH


def rarity(table: pd.DataFrame, *, rare: int = 100,
           frequent: int = 1500) -> pd.Series:
    """Category of each row by the records of its species.

    The release's limits are the defaults; they suit millions of records.
    """
    records = table.groupby("species")["species"].transform("size")
    values = np.select([records <= rare, records < frequent],
                       CATEGORIES[:2], CATEGORIES[2])
    return pd.Series(values, index=table.index, name="rarity")


def blocks(table: pd.DataFrame, degrees: float) -> np.ndarray:
    """Number of the latitude–longitude block of each row: (N,) int64."""
    if degrees <= 0:
        raise ValueError(f"degrees is {degrees}, expected more than 0.")
    row = np.floor(table["decimalLatitude"].to_numpy(float) / degrees)
    column = np.floor(table["decimalLongitude"].to_numpy(float) / degrees)
    _, number = np.unique(row * 1_000_000 + column, return_inverse=True)
    return number


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

    Returns
    -------
    Series of str
        ``train``, ``validation``, ``test`` or ``buffer``, indexed like
        ``table``.

    Raises
    ------
    ValueError
        Shares or kind out of range, or a part that would be empty.
    """
    if kind not in ("blocks", "random"):
        raise ValueError(f"kind is {kind!r}, expected 'blocks' or 'random'.")
    if not (0 < test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise ValueError(f"test {test} and validation {validation} must be "
                         "shares that leave something to train on.")
    n = len(table)
    unit = (blocks(table, block_degrees) if kind == "blocks"
            else np.arange(n))
    sizes = np.bincount(unit)
    order = np.random.default_rng(seed).permutation(len(sizes))
    before = np.concatenate([[0], sizes[order].cumsum()[:-1]])
    part_of = np.empty(len(sizes), dtype=object)
    part_of[order] = np.select(
        [before < test * n, before < (test + validation) * n],
        ["test", "validation"], "train")
    parts = pd.Series(part_of[unit], index=table.index, name="split")
    if buffer_km > 0:
        training = (parts == "train").to_numpy()
        near = nearest_km(table[training], table[~training]) < buffer_km
        parts[table.index[training][near]] = "buffer"
    lacking = [name for name in PARTS if not (parts == name).any()
               and not (name == "validation" and validation == 0)]
    if lacking:
        raise ValueError(
            f"the split leaves no row for {', '.join(lacking)} ({n} rows, "
            f"{len(sizes)} blocks, buffer {buffer_km} km). Use smaller "
            "blocks or a smaller buffer.")
    return parts


def hold_out(table: pd.DataFrame, *, fraction: float = 0.15,
             rank: str = "species", seed: int = 0) -> list[str]:
    """Choose species that training will never see.

    Parameters
    ----------
    fraction : float
        Share of the species.
    rank : "species" or "genus"
        ``species``: another species of the genus stays. ``genus``: whole
        genera go, another genus of the family stays.

    Returns
    -------
    list of str
        Sorted species names.
    """
    above = {"species": "genus", "genus": "family"}
    if rank not in above:
        raise ValueError(f"rank is {rank!r}, expected 'species' or 'genus'.")
    lineage = table[["species", "genus", "family"]].drop_duplicates("species")
    left = lineage.groupby(above[rank])[rank].nunique().to_dict()
    parent = lineage.drop_duplicates(rank).set_index(rank)[above[rank]]
    members = lineage.groupby(rank)["species"].agg(list).to_dict()
    wanted = round(fraction * len(lineage))
    chosen: list[str] = []
    names = sorted(members)
    for number in np.random.default_rng(seed).permutation(len(names)):
        name = names[number]
        if len(chosen) >= wanted:
            break
        if left[parent[name]] > 1:
            left[parent[name]] -= 1
            chosen += members[name]
    if not chosen:
        raise ValueError(
            f"no {rank} can be held out: each {above[rank]} has only one. "
            "Use a table with relatives, or a larger fraction.")
    return sorted(chosen)


def benchmark(table: pd.DataFrame, *, species: int = 90,
              total: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Draw an evaluation set by the release's recipe, at any size.

    A third of the species from each rarity category; per species
    ``int(0.12 total / N)`` Rare, ``int(0.33 total / N)`` Common and
    ``int(0.54 total / N) + 1`` Frequent rows, N species a category.

    Parameters
    ----------
    table : DataFrame
        With a column ``rarity`` (:func:`rarity`).

    Returns
    -------
    DataFrame
        Rows of ``table``, in their order.
    """
    if "rarity" not in table.columns:
        raise ValueError("table has no column 'rarity'. Add it: "
                         "table['rarity'] = splits.rarity(table).")
    number = species // 3
    quota = {"Rare": int(total * 0.12 / number),
             "Common": int(total * 0.33 / number),
             "Frequent": int(total * 0.54 / number) + 1}
    rng = np.random.default_rng(seed)
    rows: list[np.ndarray] = []
    for category, size in quota.items():
        sizes = table[table["rarity"] == category].groupby("species").size()
        able = sorted(sizes[sizes >= size].index)
        if len(able) < number or size < 1:
            raise ValueError(
                f"{category}: {len(able)} species have the {size} rows that "
                f"are needed, expected {number} species. Ask for fewer "
                "species, a smaller total, or other limits of rarity.")
        for name in rng.choice(able, number, replace=False):
            index = np.flatnonzero((table["species"] == name).to_numpy())
            rows.append(rng.choice(index, size, replace=False))
    return table.iloc[np.sort(np.concatenate(rows))]


def k_shot(labels, k: int, *, seed: int = 0
           ) -> tuple[np.ndarray, np.ndarray]:
    """Exactly ``k`` support rows per class; every other row is a query.

    Returns
    -------
    support, query : int64 arrays
        Row numbers, sorted, disjoint.
    """
    labels = np.asarray(labels)
    if k < 1:
        raise ValueError(f"k is {k}, expected one shot or more.")
    names, sizes = np.unique(labels, return_counts=True)
    if (sizes <= k).any():
        small = names[sizes <= k]
        raise ValueError(
            f"{len(small)} classes have fewer than {k + 1} rows, too few "
            f"for {k} shots and a query, e.g. class {small[0]} with "
            f"{sizes[sizes <= k][0]}. Leave them out or use a smaller k.")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    first = np.concatenate([[0], sizes.cumsum()[:-1]])
    support = by_class[(first[:, None] + np.arange(k)).ravel()]
    query = np.setdiff1d(np.arange(len(labels)), support)
    return np.sort(support), query


def check_leakage(table: pd.DataFrame, parts: pd.Series, *,
                  km: float = 0.0, species: bool = False) -> None:
    """Raise :class:`LeakageError` if train and test share something.

    Parameters
    ----------
    km : float
        No test row may be nearer than this to a training row.
    species : bool
        No test species may be trained on (held-out species).
    """
    train, test = table[parts == "train"], table[parts == "test"]
    if train.empty or test.empty:
        raise LeakageError("train or test has no rows: nothing to compare.")
    both = set(train["gbifID"]) & set(test["gbifID"])
    if both:
        raise LeakageError(f"{len(both)} records are in train and in test, "
                           f"e.g. gbifID {min(both)}.")
    if species:
        seen = set(train["species"]) & set(test["species"])
        if seen:
            raise LeakageError(f"{len(seen)} test species are trained on, "
                               f"e.g. {min(seen)}.")
    if km > 0:
        distance = nearest_km(test, train)
        near = int((distance < km).sum())
        if near:
            raise LeakageError(
                f"{near} of {len(test)} test rows lie within {km} km of a "
                f"training row, the nearest at {distance.min():.3f} km. "
                "Split with buffer_km.")
