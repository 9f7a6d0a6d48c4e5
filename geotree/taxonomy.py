"""From species to genus to family to leaf type: the names a model predicts.

A *class table* says which number stands for which species: a DataFrame
with columns ``species, genus, family, leafType``, sorted by species, whose
row numbers 0 … K-1 are the class numbers. Shards, weights and scores all
carry one. Used from chapter 01 on, explained in chapters 01 and 06.
"""

import warnings

import numpy as np
import pandas as pd

from geotree import checks
from geotree.checks import few


def __getattr__(name: str):
    """``audit`` looks at occurrence tables and lives with them."""
    if name != "audit":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from geotree.occurrences import audit

    return audit


RANKS = ("leafType", "family", "genus", "species")  # coarse to fine
CLASS_COLUMNS = RANKS[::-1]  # fine to coarse
_NO_NAME = "", "nan", "none", "null", "<na>"  # what others write of nothing


def class_table(table: pd.DataFrame) -> pd.DataFrame:
    """Give every species of an occurrence table a class number.

    Parameters
    ----------
    table : DataFrame
        With columns ``species, genus, family, leafType``; one row per
        occurrence, or one per species.

    Returns
    -------
    DataFrame
        One row per species, sorted by name; the index 0 … K-1 is the
        class number. Where the rows of a species disagree about its
        genus, family and leaf type, the most frequent combination is
        taken (the alphabetically first among equals). A name that is
        written in several ways is several names, and a warning says so.

    Raises
    ------
    ValueError
        A column is missing, a name is missing, or the table is empty.
    """
    columns = list(CLASS_COLUMNS)
    checks.columns(table, columns, where="table of classes (read a table of "
                   "the release with occurrences.read_release)")
    if table.empty:
        raise ValueError("table is empty: no species to number.")
    lineages = table[columns].astype("string")
    blank = table[columns].apply(_nameless)
    checks.refuse(blank.any(axis=1), "rows lack a name "
                  f"({', '.join(blank.columns[blank.any()])})",
                  "Drop them, or fill in the names.")
    ways = lineages.drop_duplicates()["species"]
    if several := sorted({*ways[ways.duplicated()]}):
        warnings.warn(
            f"{len(several)} species have rows that disagree about genus, "
            f"family or leaf type: {few(several)}. What most rows say counts.",
            stacklevel=2)
    counts = lineages.value_counts(sort=False).rename("rows").reset_index()
    counts = counts.sort_values(["rows", *columns],
                                ascending=[False, True, True, True, True])
    classes = counts.drop_duplicates("species").sort_values("species")
    from geotree.occurrences.names import genus, is_species, tell_alike

    if odd := [name for name in classes["species"] if not is_species(name)]:
        warnings.warn(f"{len(odd)} names read as no species, or not in their "
                      "one form, and count as one each: "
                      f"{few(map(repr, odd))}.", stacklevel=2)
    name = classes["genus"].str.lstrip("× ")
    other = (genus(classes["species"]) != name) & (name != "Unknown")
    if other.sum() > max(2, len(classes) / 2):
        warnings.warn(
            f"{other.sum()} of {len(classes)} species are not named after "
            f"their genus, the first is {name[other].iloc[0]!r}. Were "
            "columns exchanged?", stacklevel=2)
    tell_alike(classes[columns])
    return classes[columns].astype(str).reset_index(drop=True)


def complete(table: pd.DataFrame, classes: pd.DataFrame) -> pd.DataFrame:
    """Fill in ranks that are "Unknown" by a class table.

    From the same species, else another of its genus, else of its family:
    a leaf type by relatives is a good guess, not a fact.

    Returns
    -------
    DataFrame
        A copy; what no class tells stays "Unknown".
    """
    result, classes = map(_told, (table, classes))
    if not (result[list(CLASS_COLUMNS)] == "Unknown").any(axis=None):
        return result
    for by in CLASS_COLUMNS[:-1]:  # fine to coarse: the nearest relative
        known = classes[classes[by] != "Unknown"].groupby(by)
        for rank in CLASS_COLUMNS[CLASS_COLUMNS.index(by) + 1:]:
            usual = known[rank].agg(lambda names: names.mode().iat[0])
            value = result[by].map(usual)
            result[rank] = result[rank].mask(
                (result[rank] == "Unknown") & value.notna(), value)
    return result


def _told(table: pd.DataFrame) -> pd.DataFrame:
    """A copy whose ranks above species are "Unknown" where nothing is told."""
    checks.columns(table, CLASS_COLUMNS)
    return table.assign(**{rank: table[rank].astype("str").mask(
        _nameless(table[rank]) | (table[rank] == "unknown"), "Unknown")
        for rank in CLASS_COLUMNS[1:]})


def find(species, classes: pd.DataFrame) -> np.ndarray:
    """Class number of each name: (N,) int64, -1 where no class has it.

    ``species`` are N names in their order, or one name.
    """
    check(classes, "species")
    names = checks.plain([species] if isinstance(species, str) else species)
    if names.ndim != 1:
        raise ValueError(f"species is {checks.shown(species)}, expected a "
                         "list of names.")
    return pd.Index(classes["species"].astype("str")).get_indexer(
        pd.Series(names).astype("str")).astype(np.int64)


def labels(table: pd.DataFrame, classes: pd.DataFrame) -> np.ndarray:
    """Number the rows of an occurrence table by a class table.

    Returns
    -------
    (N,) int64
        Class number of each row's species.

    Raises
    ------
    ValueError
        The table holds species that the class table lacks.
    """
    numbers = find(checks.columns(table, ["species"])["species"], classes)
    unknown = table["species"][numbers < 0]
    if len(unknown):
        raise ValueError(
            f"{len(unknown)} rows of {unknown.nunique()} species are not "
            f"among the {len(classes)} classes: {few(unknown.unique())}. "
            "Select the rows of known species, or make a new class table.")
    return numbers


def prompts(classes: pd.DataFrame) -> list[str]:
    """Each class as the release's text encoder reads it: K texts,
    ``"{leafType} / {family} / {genus} / {species}"``.
    """
    check(classes, *RANKS, once=False)
    columns = (classes[rank] for rank in RANKS)
    return [" / ".join(names) for names in zip(*columns, strict=True)]


def same_classes(a: pd.DataFrame, b: pd.DataFrame) -> None:
    """Raise ``ValueError`` unless two class tables are equal, saying how.

    A score, a checkpoint and a shard fit together only if a class number
    means the same species in each of them.
    """
    first, second = prompts(a), prompts(b)
    if first == second:
        return
    alone = [few(sorted({*one} - {*other})) for one, other in (
        (first, second), (second, first))]
    how = (f"only in the first: {alone[0]}; only in the second: {alone[1]}"
           if set(first) != set(second)
           else "the same species in another order")
    raise ValueError(f"two class tables differ, {len(first)} and "
                     f"{len(second)} species: {how}. Use data and weights "
                     "made for one class table.")


def check(classes: pd.DataFrame, *ranks: str, once: bool = True) -> None:
    """Raise ``ValueError`` where a name is missing, or a species twice."""
    checks.columns(classes, ["species", *ranks], where="class table")
    for rank in ranks:
        checks.refuse(_nameless(classes[rank]), "rows of the class table have "
                      f"no {rank}", "Write 'Unknown', or fill it in.")
    twice = classes["species"][classes["species"].duplicated() & once]
    if len(twice):
        raise ValueError(f"class table has twice: {few(twice.unique())}. "
                         "taxonomy.class_table makes one of any table.")
    if (once and classes.index.inferred_type == "integer"
            and not classes.index.is_monotonic_increasing):
        warnings.warn("class table: rows were moved. Call .sort_index(), or "
                      ".reset_index(drop=True) if it is meant.", stacklevel=3)


def _nameless(column: pd.Series) -> pd.Series:
    """Which rows hold no name, or none as text: (N,) bool."""
    cells = column.astype(object)
    if pd.api.types.infer_dtype(cells) != "string":
        cells = cells.where(cells.map(type).eq(str))
    return cells.isna() | cells.isin([
        one for one in cells.unique() if isinstance(one, str)
        and one.strip().casefold() in _NO_NAME])


def members(classes: pd.DataFrame, rank: str) -> tuple[np.ndarray, np.ndarray]:
    """Say which group of a rank each class belongs to.

    Returns
    -------
    names : (G,) object
        The groups of that rank, sorted; species as the table has them. A
        genus whose name stands in two families is two genera: the family
        follows in brackets.
    index : (K,) int64
        Position in ``names`` of each class.
    """
    checks.one_of(rank, RANKS, name="rank")
    check(classes, rank, *["family"] * (rank == "genus"))
    column = classes[rank].astype("str").reset_index(drop=True)
    if rank == "genus":
        family = classes["family"].astype("str").to_numpy()
        families = pd.Series(family).groupby(column).transform("nunique")
        column = column.where(families == 1, column + " (" + family + ")")
    codes, names = pd.factorize(column, sort=rank != "species")
    return np.asarray(names, dtype=object), codes.astype(np.int64)


def roll_up(probabilities: np.ndarray, classes: pd.DataFrame, rank: str
            ) -> tuple[np.ndarray, np.ndarray]:
    """Sum species probabilities to a coarser rank.

    The genus of the likeliest species need not be the likeliest genus:
    with 0.4 for one birch and 0.3 for each of two oaks the answer is oak.

    Parameters
    ----------
    probabilities : (N, K) float
        One column per class.
    classes : DataFrame
        Class table of K rows.
    rank : str
        ``"genus"``, ``"family"``, ``"leafType"``; ``"species"`` returns
        the values as they are.

    Returns
    -------
    summed : (N, G) of the same dtype
        Probability of each group; accumulated in double precision.
    names : (G,) object
        See :func:`members`.
    """
    names, index = members(classes, rank)
    values = checks.shares(probabilities, k=len(classes))
    return sum_groups(values, index), names


def sum_groups(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Sum columns (N, K) by group, in double precision: (N, G).

    ``index`` (K,) is the group of each column, 0 to G - 1, none empty.
    """
    kind = values.dtype if values.dtype.kind == "f" else np.float64
    order = np.argsort(index, kind="stable")
    if (np.diff(order) != 1).any():
        values = values[:, order]
    starts = np.flatnonzero(np.diff(index[order], prepend=-1))
    if len(index) != values.shape[1] or (
            index[order[starts]] != np.arange(len(starts))).any():
        raise ValueError(f"index is {few(index)}, expected a group for each "
                         f"of the {values.shape[1]} columns, 0 to G - 1, "
                         "none empty.")
    if len(starts) == len(index):  # groups of one: nothing to sum
        return values.astype(kind, copy=False)
    return np.add.reduceat(values, starts, axis=1,
                           dtype=np.float64).astype(kind)


def roll_up_labels(labels: np.ndarray, classes: pd.DataFrame, rank: str
                   ) -> np.ndarray:
    """Turn class numbers into group numbers of a coarser rank.

    Returns
    -------
    (N,) int64
        Column of :func:`roll_up`'s result that each label falls in.
    """
    index = members(classes, rank)[1]
    return index[checks.labels(labels, len(classes))]
