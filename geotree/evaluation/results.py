"""Results that the book keeps: one row for each number.

A number without its split, its seed, its interval and its commit cannot be
compared. The pages draw their tables from such files, which the studies
make. Used in chapters 04, 06 and 07.
"""

from pathlib import Path

import pandas as pd

from geotree import checks, files

KEY = ["data", "task", "split", "model", "rank", "metric", "by", "group",
       "seed"]
COLUMNS = [*KEY, "value", "low", "high", "n", "excluded", "settings",
           "data_hash", "commit", "device"]
_ROOT = Path(__file__).resolve().parents[2]


def folder() -> Path:
    """Where the book keeps its results.

    ``results/`` of the checkout, or else the copy that is installed.
    """
    if (_ROOT / "pyproject.toml").exists():
        return _ROOT / "results"
    return _ROOT / "geotree/data/results"


def check(frame: pd.DataFrame) -> pd.DataFrame:
    """Raise ``ValueError`` unless a table of results can be one."""
    checks.columns(frame, COLUMNS, where="results")
    checks.refuse(frame.duplicated(KEY), "results have a name that is taken")
    turned = frame["low"] > frame["high"]
    if turned.any() or frame["value"].isna().any():
        raise ValueError(f"{int(turned.sum())} intervals end before they "
                         f"begin, {int(frame['value'].isna().sum())} values "
                         "are missing.")
    return frame


def read(name: str | Path) -> pd.DataFrame:
    """Read results: a path, or the name of a file that the book keeps."""
    path = files.named(name)
    if not path.suffix:
        path = folder() / f"{name}.csv"
    if not path.exists():
        names = sorted(file.stem for file in folder().glob("*.csv"))
        raise FileNotFoundError(f"no results at '{path}'; the book keeps "
                                f"{', '.join(names) or 'none'}.")
    return check(pd.read_csv(path, keep_default_na=False,
                             na_values={"low": [""], "high": [""]}))
