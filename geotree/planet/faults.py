"""Faults of real occurrence tables, planted on purpose for the audit.

Each is of a kind found in published tables: see the page "What changed
since the release".
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from geotree.planet.tables import TABLES


def plant(table: pd.DataFrame, *, share: float,
          rng: np.random.Generator) -> pd.DataFrame:
    """Spoil a share of the rows; ``attrs["faults"]`` tells which.

    Parameters
    ----------
    table : DataFrame
        Occurrence table; not modified.
    share : float
        0 to 1, over all kinds together.
    rng : numpy Generator

    Returns
    -------
    DataFrame
        The same rows in the same order; ``attrs["faults"]`` maps each kind
        to the list of ``gbifID`` it was planted in.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"faults is {share}, expected 0 to 0.5.")
    table = table.copy()
    rows = rng.permutation(len(table))
    rows = rows[:max(round(share * len(table)), len(_PLANT))]
    planted = {}
    for number, (kind, spoil) in enumerate(_PLANT.items()):
        chosen = table.index[rows[number::len(_PLANT)]]
        spoil(table, chosen, rng)
        planted[kind] = table.loc[chosen, "gbifID"].tolist()
    table.attrs = {**table.attrs, "faults": planted}
    return table


def _obscured(table, rows, rng):
    shift = rng.uniform(-0.1, 0.1, (2, len(rows)))
    table.loc[rows, "decimalLatitude"] += shift[0]
    table.loc[rows, "decimalLongitude"] += shift[1]
    table.loc[rows, "coordinateUncertaintyInMeters"] = 28_000.0


def _rounded(table, rows, rng):
    for name in ("decimalLatitude", "decimalLongitude"):
        table.loc[rows, name] = table.loc[rows, name].round(1)


def _unresolved(table, rows, rng):
    table.loc[rows, "species"] = table.loc[rows, "genus"] + " spec"


def _duplicate(table, rows, rng):
    others = table.index.difference(rows)
    source = table.loc[others[:len(rows)]]
    for name in table.columns.drop("gbifID"):
        table.loc[rows, name] = source[name].to_numpy()


def _set(values, table, rows, rng):
    for name, value in values.items():
        table.loc[rows, name] = value


_PLANT = {"obscured": _obscured, "rounded": _rounded,
          "unresolved": _unresolved, "duplicate": _duplicate,
          **{kind: partial(_set, values)
             for kind, values in TABLES["faults"].items()}}
