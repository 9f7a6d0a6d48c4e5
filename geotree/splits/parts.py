"""Dividing a table: units kept whole, folds, splits, species held out."""

import math
import warnings

import numpy as np
import pandas as pd

from geotree import checks, globe
from geotree.occurrences import columns
from geotree.splits.leakage import PARTS, check_once

KINDS = {"blocks": ["decimalLatitude", "decimalLongitude"], "random": [],
         "country": ["countryCode"], "year": ["year"]}  # what each reads


def units(table: pd.DataFrame, kind: str = "blocks", *,
          degrees: float = 1.0) -> np.ndarray:
    """What a split deals out whole: (N,) int64 from 0.

    Parameters
    ----------
    kind : "blocks", "random", "country" or "year"
        Blocks of the globe of a side of ``degrees``, single rows, or the
        rows of one ``countryCode`` or ``year``.
    """
    checks.number(degrees, name="degrees", low=1e-6)
    checks.columns(table, KINDS[checks.one_of(kind, KINDS, name="kind")])
    if kind == "random":
        return np.arange(len(table))
    if kind == "blocks":
        lat, lon = globe.places_of(table)
        return globe.blocks(lat=lat, lon=lon, degrees=degrees)
    column = _column(table, kind)
    checks.refuse(column.isna(), f"rows have no {column.name}",
                  "Leave them out first.")
    return pd.factorize(column, sort=True)[0].astype(np.int64)


def _column(table, kind: str) -> pd.Series:
    """The year of each row, or its country as a code; missing if unknown."""
    column = table[KINDS[kind][0]]
    return columns.known_years(column) if kind == "year" else pd.Series(
        globe.codes(column, "table"), name=column.name)


def folds(table: pd.DataFrame, kind: str = "random", *,
          degrees: float = 1.0, number: int = 5, seed: int = 0
          ) -> np.ndarray:
    """Fold of each row, for a cross-validation: (N,) 0 to ``number`` - 1.

    :func:`units` are kept whole and dealt out in seeded order. A record that
    comes out in two folds is a ``LeakageError``.

    Notes
    -----
    Large blocks are few and uneven: with 5° the accuracy of the nearest
    neighbours differs by some 0.7 points (one standard deviation) between
    seeds, on the release's table of 90 species.
    """
    unit = units(table, kind, degrees=degrees)
    count = int(unit.max(initial=-1)) + 1
    checks.number(number, name=f"number ({count} {kind} units can be dealt "
                  "out)", low=2, high=count, whole=True)
    fold = checks.rng(seed).permutation(count)[unit] % number
    check_once(table, fold)
    return fold


def untrained(table: pd.DataFrame, fold: np.ndarray) -> pd.Series:
    """Species that lie in one fold whole: nobody could learn them there.

    Returns
    -------
    Series of int
        Their number of rows, by name. Report both, and score the others:
        ``~table["species"].isin(untrained(table, fold).index)``.
    """
    checks.columns(table, ["species"])
    one = pd.Series(checks.one_each(
        fold, len(table), where="fold", rows=table.index)).groupby(
        table["species"].to_numpy()).agg(["nunique", "size"])
    return one.loc[one["nunique"] == 1, "size"].rename_axis(
        "species").rename("rows")


def split(table: pd.DataFrame, *, kind: str = "blocks", test: float = 0.2,
          validation: float = 0.1, block_degrees: float = 1.0,
          buffer_km: float = 0.0, leave=None, seed: int = 0) -> pd.Series:
    """Divide a table into train, validation and test.

    Parameters
    ----------
    kind : "blocks", "random", "country" or "year"
        What stays whole; see :func:`units`.
    test, validation : float
        Shares of the rows.
    block_degrees : float
        Side of a block.
    buffer_km : float
        Training rows nearer than this to a row of validation or test
        become ``buffer`` and are used by nobody.
    leave : list, optional
        Countries or years that are the test, instead of a share.

    Returns
    -------
    Series of str
        ``train``, ``validation``, ``test`` or ``buffer``, indexed like
        ``table``. Each species keeps a unit to train on; where a buffer,
        ``leave`` or too few countries or years take the last one away, its
        rows are ``untrained`` and belong in no score. See :func:`describe`.

    A part that would be empty is a ``ValueError``, a record that came out
    in two parts a ``LeakageError``; a test of less than half or more than
    twice what was asked for comes with a warning.
    """
    checks.number(test, name="test", low=1e-9, high=1 - 1e-9)
    checks.number(validation, name="validation", low=0, high=1 - 1e-9)
    checks.number(buffer_km, name="buffer_km", low=0)
    if not test + validation < 1:
        raise ValueError(f"test is {test} and validation {validation}: they "
                         "have to leave something to train on.")
    checks.one_each(checks.columns(table, ["species"])["species"], len(table),
                    where="species")
    unit = units(table, kind, degrees=block_degrees)
    left, rng = _left(table, kind, leave), checks.rng(seed)
    test = 0 if left.any() else test
    shares = np.array([1 - test - validation, validation, test])
    kept = _kept(unit[~left], table["species"][~left], rng)
    if kind in ("country", "year"):
        kept = _freed(kept, unit, table["species"], 1 - shares[0])
    part = _assign(unit, kept, np.unique(unit[left]), shares, rng)
    parts = pd.Series(np.array(PARTS, dtype=object)[part[unit]],
                      index=table.index, name="split", dtype="str")
    training = (parts == "train").to_numpy()
    if buffer_km > 0 and training.any() and not training.all():
        km = globe.nearest_km(table[training], table[~training])
        parts.iloc[np.flatnonzero(training)[km < buffer_km]] = "buffer"
    known = table["species"].isin(table["species"][parts == "train"])
    if known.any():
        parts[parts.isin(["validation", "test"]) & ~known] = "untrained"
    _said(table, parts, shares,
          f"{len(part)} {kind} units, buffer {buffer_km} km")
    check_once(table, parts)
    return parts


def _said(table, parts, shares, how: str) -> None:
    """Refuse a split with an empty part; say if it is far from its shares."""
    rows, asked = parts.value_counts(), dict(zip(PARTS, shares, strict=True))
    lacking = [name for name in PARTS if name not in rows
               and (asked[name] or name == "test")]
    if lacking:
        raise ValueError(
            f"the split leaves no row for {', '.join(lacking)} ({len(table)} "
            f"rows of {table['species'].nunique()} species in {how}). Use "
            "smaller blocks, a smaller buffer or more rows.")
    held = rows["test"] / len(table)
    if asked["test"] and not 0.5 <= held / asked["test"] <= 2:
        warnings.warn(
            f"{asked['test']:.0%} of the rows were to be the test, and "
            f"{held:.1%} are ({rows['test']} of {len(table)}; untrained: "
            f"{rows.get('untrained', 0)}): units are kept whole, and there "
            f"are {how}.", stacklevel=3)


def describe(table: pd.DataFrame, parts: pd.Series) -> pd.DataFrame:
    """What a split came to: the lines that belong beside any score.

    Returns
    -------
    DataFrame
        A row for each part: ``rows``, their ``share``, ``species``,
        ``median_km`` to the nearest training row. ``attrs["untrained"]``
        names the species that lost their last training row.
    """
    checks.columns(table, ["species"])
    column = checks.one_each(parts, len(table), where="parts",
                             rows=table.index)
    train, rows = table[column == "train"], {}
    for name in pd.unique(column):
        some = table[column == name]
        far = (np.nan if name == "train" or train.empty
               else np.median(globe.nearest_km(some, train)))
        rows[name] = {"rows": len(some), "share": len(some) / len(table),
                      "species": some["species"].nunique(), "median_km": far}
    frame = pd.DataFrame.from_dict(rows, orient="index").sort_values(
        "rows", ascending=False)
    frame.attrs["untrained"] = sorted(
        table["species"][column == "untrained"].unique())
    return frame


def _left(table, kind, leave) -> np.ndarray:
    """Rows of the countries or years that are left out: (N,) bool."""
    if leave is None:
        return np.zeros(len(table), bool)
    checks.one_of(kind, ("country", "year"), name="leave names some; kind")
    column, leave = _column(table, kind), np.atleast_1d(leave)
    unknown = sorted({*leave.tolist()} - set(column))
    if unknown or not leave.size:
        raise ValueError(
            f"no row is of {kind} {checks.few(unknown)}; the "
            f"table has {checks.few(map(repr, {*column.tolist()}), 20)}.")
    return column.isin(leave).to_numpy()


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


def _freed(kept, unit, species, share) -> np.ndarray:
    """Fewer units that must train, where else too little could be tested.

    Few countries or years may hold a species each that is nowhere else. The
    units that cost the fewest such species are given up first.
    """
    one = pd.Series(unit).groupby(species.to_numpy()).agg(["nunique", "max"])
    alone = one.loc[one["nunique"] == 1, "max"].value_counts()
    sizes = np.bincount(unit)
    order = sorted(kept.tolist(), key=lambda number: alone.get(number, 0))
    while len(order) > 1 and sizes.sum() - sizes[order].sum() < (
            share * sizes.sum() / 2):
        order.pop(0)
    return np.array(sorted(order), dtype=np.int64)


def _assign(unit, kept, left, shares, rng) -> np.ndarray:
    """Part of each unit: 0 train, 1 validation, 2 test.

    In random order, each unit goes where the largest share is still open,
    so that large and small blocks fall to all parts alike. A block that
    overshoots by more than half goes to training.
    """
    sizes = np.bincount(unit)
    part = np.full(len(sizes), -1)
    part[kept] = 0
    part[left] = 2
    target = (shares * sizes.sum()).tolist()
    filled = [float(sizes[kept].sum()), 0.0, 0.0]
    for number in rng.permutation(np.flatnonzero(part < 0)).tolist():
        size = int(sizes[number])
        still = [1 - done / goal if goal and (done + size / 2 <= goal
                                              or not one) else -math.inf
                 for one, (done, goal) in enumerate(zip(filled, target,
                                                        strict=True))]
        best = still.index(max(still))
        part[number] = best
        filled[best] += size
    return part
