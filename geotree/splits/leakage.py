"""Leakage: no record, place or species on both sides of a split."""

import warnings

import numpy as np
import pandas as pd

from geotree import checks, globe
from geotree.occurrences.names import alike

PARTS = ("train", "validation", "test")
UNUSED = ("buffer", "untrained", "held out")


class LeakageError(ValueError):
    """Test records share something with training records."""


def check_leakage(table: pd.DataFrame, parts: pd.Series, *,
                  km: float = 0.0, species: bool = False) -> None:
    """Raise :class:`LeakageError` if train and test share something.

    By record always: no ``gbifID`` in two of train, validation and test.

    Parameters
    ----------
    table : DataFrame
        Occurrence table.
    parts : Series
        From :func:`split`, row by row.
    km : float
        No row of test or validation may be nearer than this to a training
        row; 0: not checked.
    species : bool
        No test species may be in train or validation (held-out species).
    """
    checks.number(km, name="km", low=0)
    checks.columns(table, ["gbifID"])
    column = checks.one_each(parts, len(table), where="parts",
                             rows=table.index)
    rows = {name: table[column == name] for name in PARTS}
    if (odd := ~np.isin(column, [*PARTS, *UNUSED])).any():
        warnings.warn(f"{odd.sum()} rows are in parts that were not compared: "
                      f"{checks.few(pd.unique(column[odd]))}. Expected are "
                      f"{', '.join(PARTS)}.", stacklevel=2)
    if rows["train"].empty or rows["test"].empty:
        raise LeakageError("train or test has no rows: nothing to compare.")
    for one, other in (("train", "test"), ("train", "validation"),
                       ("validation", "test")):
        check_shared(rows[one], rows[other], one, other)
        if species and other == "test":
            check_shared(rows[one], rows[other], one, other,
                         column="species", what="species")
    for name in ("test", "validation"):
        if km > 0 and len(rows[name]):
            _check_near(rows["train"], rows[name], name, km)


def check_shared(first: pd.DataFrame, second: pd.DataFrame, one: str,
                 other: str, *, column: str = "gbifID",
                 what: str = "records") -> None:
    """Raise ``LeakageError`` if two tables share a record, or a species.

    ``one`` and ``other`` are their names, for the message.
    """
    one_is, other_is = (pd.api.types.is_string_dtype(checks.columns(
        table, [column])[column]) for table in (first, second))
    if one_is != other_is:
        raise ValueError(f"{column} is text in one of {one} and {other}, and "
                         "numbers in the other: none would be the same.")
    same = alike if column == "species" else lambda value: value
    one_has, other_has = ({*map(same, table[column])}
                          for table in (first, second))
    shared = sorted((one_has & other_has) - {""})
    if shared:
        raise LeakageError(
            f"{len(shared)} {what} are both in {one} and in {other}: "
            f"{checks.few(shared)}. Take them out of one of the two.")


def check_once(table: pd.DataFrame, parts) -> None:
    """Raise ``LeakageError`` if a ``gbifID`` is in two parts."""
    if "gbifID" not in table:
        return
    rows = pd.DataFrame({"gbifID": table["gbifID"].to_numpy(),
                         "part": np.asarray(parts)}).dropna(
                             subset="gbifID").drop_duplicates()
    twice = rows["gbifID"][rows["gbifID"].duplicated()]
    if len(twice):
        raise LeakageError(
            f"{twice.nunique()} records are twice in the table and in two "
            f"parts of it: gbifID {checks.few(twice)}. Keep one of each: "
            "table.drop_duplicates('gbifID').")


def _check_near(train, others, name, km) -> None:
    chord, index = globe.tree(train).query(globe.vectors_of(others))
    # The last bit: a row at exactly that distance is far enough.
    near = chord < globe.chord(km) * (1 - 1e-9)
    if near.any():
        row = int(chord.argmin())
        raise LeakageError(
            f"{near.sum()} of {len(others)} {name} rows lie within {km} km "
            f"of a training row; the closest, {globe.arc_km(chord[row]):.3f} "
            f"km apart, are gbifID {others['gbifID'].iloc[row]} and "
            f"{train['gbifID'].iloc[index[row]]}. Split with "
            f"buffer_km={km} or more.")
