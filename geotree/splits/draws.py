"""Drawing evaluation sets: species held out, exact shots, the release's
recipe. Explained in chapters 04 and 07.
"""

import numpy as np
import pandas as pd

from geotree import checks, taxonomy
from geotree.occurrences.names import tell_alike
from geotree.splits.parts import split

CATEGORIES = ("Rare", "Common", "Frequent")
_SHARES = {"Rare": 12, "Common": 33, "Frequent": 54}  # % of the rows


def rarity(table: pd.DataFrame, *, rare: int = 100,
           frequent: int = 1500) -> pd.Series:
    """Category of each row by the records of its species.

    Up to ``rare`` records "Rare", from ``frequent`` on "Frequent", between
    them "Common". The release's limits are the defaults; they suit millions
    of records.
    """
    checks.number(rare, name="rare", low=0)
    checks.number(frequent, name="frequent", low=rare)
    species = pd.Series(checks.one_each(checks.columns(
        table, ["species"])["species"], len(table), where="species"))
    tell_alike(table[["species"]])
    records = species.map(species.value_counts())
    values = np.select([records <= rare, records < frequent],
                       CATEGORIES[:2], CATEGORIES[2])
    return pd.Series(values, index=table.index, name="rarity")


def benchmark(table: pd.DataFrame, *, species: int = 90,
              total: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Draw an evaluation set by the release's recipe, at any size.

    N = ``species`` / 3 species of each category; of each, ``int(0.12 total
    / N)`` Rare, ``int(0.33 total / N)`` Common and ``int(0.54 total / N) +
    1`` Frequent rows. 90, 300 and 900 species of 10,000 rows are the
    release's three sets.

    Parameters
    ----------
    table : DataFrame
        With a column of categories, ``rarity``; see :func:`rarity`.

    Returns
    -------
    DataFrame
        Rows of ``table``, in their order; a ``ValueError`` where a category
        has too few species with enough rows.
    """
    if "rarity" not in table.columns:
        raise ValueError("table has no column 'rarity'. Add it: "
                         "table['rarity'] = splits.rarity(table).")
    for name, value in (("species", species), ("total", total)):
        checks.number(value, name=name, low=3, whole=True)
    if species % 3:
        raise ValueError(f"species is {species}, expected a multiple of 3: "
                         "as many of each category.")
    number = species // 3
    rng = checks.rng(seed)
    order = pd.Series(rng.permutation(len(table)))  # position in the table
    drawn: list[np.ndarray] = []
    for category, share in _SHARES.items():
        quota = total * share // (100 * number) + (category == "Frequent")
        rows = order[(table["rarity"] == category).to_numpy()[order]]
        names = table["species"].to_numpy()[rows]
        sizes = pd.Series(names).value_counts()
        able = sorted(sizes[sizes >= quota].index)
        if len(able) < number or quota < 1:
            raise ValueError(
                f"{category}: {len(able)} of {len(sizes)} species have the "
                f"{quota} rows that are needed, expected {number}. Ask for "
                "fewer species, another total, or other limits of rarity.")
        chosen = rng.choice(np.array(able, dtype=object), number,
                            replace=False)
        rank = rows.groupby(names).cumcount()
        take = (rank < quota).to_numpy() & np.isin(names, chosen)
        drawn.append(rows.to_numpy()[take])
    return table.iloc[np.sort(np.concatenate(drawn))]


def k_shot(labels, k: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
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
    labels = checks.plain(labels, "labels")
    labels = checks.one_each(labels, labels.size, where="labels")
    checks.number(k, name="k", low=1, whole=True)
    if labels.dtype.kind == "i":
        checks.refuse(labels < 0, "labels are of no class", "Leave out what "
                      "taxonomy.find did not find.")
    if not len(labels):
        raise ValueError("labels are empty, expected one class number a row.")
    names, sizes = np.unique(labels, return_counts=True)
    small = [f"{name} ({size})" for name, size in zip(names, sizes,
                                                      strict=True)
             if size <= k]
    if small:
        raise ValueError(
            f"{len(small)} classes have fewer than {k + 1} rows, too few "
            f"for {k} shots and a query: class (rows) {checks.few(small)}. "
            "Leave them out or use a smaller k.")
    shuffled = checks.rng(seed).permutation(len(labels))
    number = pd.Series(shuffled).groupby(labels[shuffled]).cumcount()
    support = np.sort(shuffled[number < k])
    return support, np.setdiff1d(np.arange(len(labels)), support)


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

    Returns
    -------
    list of str
        Sorted species names; a ``ValueError`` where none has a relative.
    """
    above = {"species": "genus", "genus": "family"}
    checks.one_of(rank, above, name="rank")
    checks.number(fraction, name="fraction", low=1e-9, high=1 - 1e-9)
    needed = ["species", "genus", "family"]
    lineage = checks.columns(table, needed)[needed].astype("str").reset_index(
        drop=True).drop_duplicates("species").sort_values(
            "species", ignore_index=True)
    tell_alike(lineage[["species"]])
    taxonomy.check(lineage, *needed)
    parent = lineage.drop_duplicates(rank).set_index(rank)[above[rank]]
    left = parent.value_counts().to_dict()
    members = lineage.groupby(rank)["species"].agg(list)
    wanted = max(round(fraction * len(lineage)), 1)
    chosen: list[str] = []
    for name in checks.rng(seed).permutation(members.index):
        if left[parent[name]] > 1 and (
                not chosen or len(chosen) + len(members[name]) <= wanted):
            left[parent[name]] -= 1
            chosen += members[name]
    if not chosen:
        raise ValueError(
            f"no {rank} can be held out: each {above[rank]} of the table has "
            f"only one, {len(lineage)} species in all. Use a table with "
            "relatives.")
    return sorted(chosen)


def divide(table: pd.DataFrame, *, block_degrees: float = 1.0,
           held_out: float = 0.12, seed: int = 0) -> pd.Series:
    """Divide a table as this book does: :func:`split`, and species held out.

    ``held out`` marks all records of the species that training never sees,
    a share of ``held_out``: one half lost their genus too, the other has a
    relative in it. There are none where a table has few species, or none
    with a relative.
    """
    checks.number(held_out, name="held_out", low=0, high=1 - 1e-9)
    column = split(table, block_degrees=block_degrees, seed=seed)
    share, rest = held_out / 2, table
    for rank in ("genus", "species"):
        if round(share * table["species"].nunique()) < 1:
            break  # too few species to do without one
        try:
            unseen = hold_out(rest, fraction=share, rank=rank, seed=seed)
        except ValueError:  # none has a relative
            continue
        column[table["species"].isin(unseen)] = "held out"
        rest = rest[~rest["species"].isin(unseen)]
    return column
