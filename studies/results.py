"""Results made: rows with what made them, written, and compared.

They are read by ``geotree.evaluation.results``.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

import geotree
from geotree import checks, files
from geotree.evaluation.results import COLUMNS, KEY, check, folder, read

__all__ = ["COLUMNS", "KEY", "TASKS", "check", "commit", "compare", "device",
           "excluded", "folder", "mean", "read", "rows", "table_hash", "write"]
TASKS = ("seen species", "held-out species", "k-shot", "presence",
         "real patches")
_ROOT = Path(__file__).resolve().parents[1]


@cache
def commit() -> str:
    """Commit of this checkout, ``+`` if changed since; else the version.

    Asked once: a study that runs for an hour is of the code it began with.
    """
    git = ["git", "-C", str(_ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"],
                              capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "geotree",
                                  "studies"],
                                 capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return f"v{geotree.__version__}"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def device() -> str:
    """The machine, in words: system, cores, graphics card if in use."""
    import torch

    card = (torch.cuda.get_device_name() if torch.cuda.is_available()
            else "no GPU")
    return f"{platform.machine()}, {os.cpu_count()} cores, {card}"


def table_hash(table: pd.DataFrame, columns=(
        "gbifID", "species", "decimalLatitude", "decimalLongitude")) -> str:
    """Twelve digits that change with any place or name of a table."""
    rows = pd.util.hash_pandas_object(table[list(columns)], index=False)
    return hashlib.sha256(np.sort(rows.to_numpy()).tobytes()).hexdigest()[:12]


def rows(scores: pd.DataFrame, *, data: str, task: str, split: str,
         model: str, seed: int, data_hash: str, excluded: int = 0,
         settings: dict | None = None) -> pd.DataFrame:
    """Give scores their task, split, model and provenance.

    Parameters
    ----------
    scores : DataFrame
        From ``evaluation.score``, or any table with ``metric, value`` and
        maybe ``rank, by, group, low, high, n``.
    data : str
        Name of the table of records.
    task : str
        One of ``TASKS``.
    seed : int
        Of the folds, the draw or the weights, as ``settings`` says; -1:
        all seeds together.
    excluded : int
        Rows that belong in no score, e.g. of untrained species.
    settings : dict
        What else the number depends on; written as JSON.
    """
    checks.one_of(task, TASKS, name="task")
    usual = {"rank": "species", "by": "all", "group": "all", "low": np.nan,
             "high": np.nan, "n": 0}
    frame = scores.assign(
        **{name: value for name, value in usual.items()
           if name not in scores},
        data=data, task=task, split=split, model=model, seed=seed,
        excluded=excluded, data_hash=data_hash, commit=commit(),
        device=device(), settings=json.dumps(settings or {}, sort_keys=True))
    return check(frame[COLUMNS])


def excluded(lost: pd.Series, **names) -> pd.DataFrame:
    """Name the species behind ``excluded``: a row each, its records as value.

    Parameters
    ----------
    lost : Series of int
        Records by species; see ``splits.untrained``.
    names
        As for :func:`rows`, but for the model: it is any.
    """
    return rows(pd.DataFrame({
        "metric": "excluded", "by": "species", "group": lost.index,
        "value": lost.to_numpy(), "n": lost.to_numpy()}),
        model="any", **names)


def mean(values, *, errors: float = 1.96) -> dict:
    """``value, low, high`` of the mean over draws, so many errors away."""
    middle = np.mean(values)
    reach = errors * np.std(values, ddof=1) / np.sqrt(len(values))
    return {"value": middle, "low": middle - reach, "high": middle + reach}


def write(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write results as CSV, sorted, with five digits; the folder is made."""
    ordered = check(frame)[COLUMNS].sort_values(KEY)
    return files.write(path, ordered.to_csv(
        index=False, float_format="%.5f", lineterminator="\n"))


def compare(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The results that two files share, side by side.

    Returns
    -------
    DataFrame
        The key, both values, ``change`` (second − first) and ``apart``:
        whether the two intervals have nothing in common. Largest changes
        first. ``attrs`` counts the results that only one of them has, and
        says whether data and commit agree.
    """
    both = check(first).merge(check(second), on=KEY, how="outer",
                              suffixes=("_1", "_2"), indicator="in")
    shared = both[both["in"] == "both"].copy()
    shared["change"] = shared["value_2"] - shared["value_1"]
    shared["apart"] = (shared["low_2"] > shared["high_1"]) | (
        shared["high_2"] < shared["low_1"])
    order = shared["change"].abs().sort_values(ascending=False).index
    table = shared.loc[order, [*KEY, "value_1", "value_2", "change",
                               "apart"]].reset_index(drop=True)
    table.attrs = {
        "only_first": int((both["in"] == "left_only").sum()),
        "only_second": int((both["in"] == "right_only").sum()),
        "same_data": bool((shared["data_hash_1"]
                           == shared["data_hash_2"]).all())}
    return table
