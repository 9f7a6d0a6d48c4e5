"""Results as data: one row for each number, with what made it.

A number without its split, its seed, its interval and its commit cannot be
compared. The pages draw their tables from such files. Used in chapters 04,
06 and 07, and made by the scripts in ``studies/``; two files are compared by

    python -m studies compare one.csv other.csv
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

KEY = ["data", "task", "split", "model", "rank", "metric", "by", "group",
       "seed"]
COLUMNS = [*KEY, "value", "low", "high", "n", "excluded", "settings",
           "data_hash", "commit", "device"]
TASKS = ("seen species", "held-out species", "k-shot")
_ROOT = Path(__file__).resolve().parents[2]


def folder() -> Path:
    """Where the book keeps its results.

    ``results/`` of the checkout, or else the copy that is installed.
    """
    if (_ROOT / "pyproject.toml").exists():
        return _ROOT / "results"
    return _ROOT / "geotree/data/results"


@cache
def commit() -> str:
    """Commit of this checkout, ``+`` if changed since; else the version.

    Asked once: a study that runs for an hour is of the code it began with.
    """
    git = ["git", "-C", str(_ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"],
                              capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "geotree"],
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


def table_hash(table: pd.DataFrame) -> str:
    """Twelve digits that change with any place or name of a table."""
    columns = ["gbifID", "species", "decimalLatitude", "decimalLongitude"]
    rows = pd.util.hash_pandas_object(table[columns], index=False)
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


def check(frame: pd.DataFrame) -> pd.DataFrame:
    """Raise ``ValueError`` unless a table of results can be one."""
    checks.columns(frame, COLUMNS, where="results")
    twice = frame.duplicated(KEY)
    if twice.any():
        raise ValueError(
            f"{int(twice.sum())} results have a name that is taken, the "
            f"first: {frame.loc[twice, KEY].iloc[0].to_dict()}.")
    turned = frame["low"] > frame["high"]
    if turned.any() or frame["value"].isna().any():
        raise ValueError(f"{int(turned.sum())} intervals end before they "
                         f"begin, {int(frame['value'].isna().sum())} values "
                         "are missing.")
    return frame


def write(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write results as CSV, sorted, with five digits; the folder is made."""
    ordered = check(frame)[COLUMNS].sort_values(KEY)
    return files.write(path, ordered.to_csv(
        index=False, float_format="%.5f", lineterminator="\n"))


def read(name: str | Path) -> pd.DataFrame:
    """Read results: a path, or the name of a file that the book keeps."""
    path = Path(name)
    if not path.suffix:
        path = folder() / f"{name}.csv"
    if not path.exists():
        names = sorted(file.stem for file in folder().glob("*.csv"))
        raise FileNotFoundError(f"no results at '{path}'; the book keeps "
                                f"{', '.join(names) or 'none'}.")
    return check(pd.read_csv(path, keep_default_na=False,
                             na_values={"low": [""], "high": [""]}))


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

