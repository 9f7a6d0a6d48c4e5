"""Faults of real occurrence tables, planted on purpose for the audit.

Each is of a kind found in published tables: see the page "What changed
since the release".
"""

from __future__ import annotations

import numpy as np
import pandas as pd

KINDS = ("obscured", "rounded", "higherRank", "animal", "unresolved",
         "genus", "duplicate", "machine", "zero")


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
    rows = rng.permutation(len(table))[:max(round(share * len(table)),
                                            len(KINDS))]
    planted = {}
    for number, kind in enumerate(KINDS):
        chosen = table.index[rows[number::len(KINDS)]]
        _PLANT[kind](table, chosen, rng)
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


def _higher_rank(table, rows, rng):
    table.loc[rows, "taxonKey"] = 5015  # the family Rosaceae
    table.loc[rows, ["species", "genus", "family", "leafType"]] = [
        "Sorbus aria", "Sorbus", "Rosaceae", "Deciduous Broadleaf"]


def _animal(table, rows, rng):
    table.loc[rows, ["species", "genus", "family", "leafType"]] = [
        "Dryocopus martius", "Dryocopus", "Picidae", "Deciduous Broadleaf"]
    table.loc[rows, "taxonKey"] = 2478523


def _unresolved(table, rows, rng):
    table.loc[rows, "species"] = table.loc[rows, "genus"] + " spec"


def _genus(table, rows, rng):
    table.loc[rows, "genus"] = "Amelanchier"


def _duplicate(table, rows, rng):
    others = table.index.difference(rows)
    source = table.loc[others[:len(rows)]]
    for name in table.columns.drop("gbifID"):
        table.loc[rows, name] = source[name].to_numpy()


def _machine(table, rows, rng):
    table.loc[rows, "datasetName"] = (
        "Pl@ntNet automatically identified occurrences")


def _zero(table, rows, rng):
    for name in ("decimalLatitude", "decimalLongitude"):
        table.loc[rows, name] = 0.0


_PLANT = {
    "obscured": _obscured, "rounded": _rounded, "higherRank": _higher_rank,
    "animal": _animal, "unresolved": _unresolved, "genus": _genus,
    "duplicate": _duplicate, "machine": _machine, "zero": _zero,
}
