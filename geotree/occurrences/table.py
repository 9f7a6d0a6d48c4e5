"""The occurrence table: its columns, its checks, its Parquet file."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

# name -> dtype; NaN stands for "unknown" in the columns of OPTIONAL only.
COLUMNS = {
    "gbifID": "int64",  # unique within a table
    "decimalLatitude": "float64",  # °, WGS 84, -90 to 90
    "decimalLongitude": "float64",  # °, WGS 84, -180 to 180
    "coordinateUncertaintyInMeters": "float64",  # m, radius
    "countryCode": "str",  # ISO 3166-1 alpha-2; NA is Namibia
    "year": "int64",
    "datasetKey": "str",  # GBIF's key of the source
    "license": "str",
    "taxonKey": "int64",  # GBIF Backbone; 0 unknown
    "species": "str",
    "genus": "str",
    "family": "str",
    "leafType": "str",  # Evergreen Broadleaf, Deciduous Needleleaf, …
}
OPTIONAL = ("coordinateUncertaintyInMeters", "countryCode", "datasetKey",
            "license")
NAMES = ("species", "genus", "family", "leafType")


def validate(table: pd.DataFrame, *, named: bool = True) -> pd.DataFrame:
    """Check an occurrence table and give its columns their types.

    Parameters
    ----------
    table : DataFrame
        With the columns of ``COLUMNS``, those of ``OPTIONAL`` where there
        are any; not modified.
    named : bool
        Whether each row needs its names. Pixels can be fetched for places
        of which nobody knows the tree.

    Returns
    -------
    DataFrame
        A copy with index 0 … N-1: the columns of ``COLUMNS`` first, others
        as they came, ``attrs`` kept.

    Raises
    ------
    ValueError
        A column is missing, the table is empty, a coordinate is missing or
        impossible, a ``gbifID`` occurs twice, or a value has another type.
    """
    optional = OPTIONAL if named else (*OPTIONAL, *NAMES)
    absent = [name for name in COLUMNS
              if name not in table.columns and name not in optional]
    if absent:
        release = "sample_id" in table.columns
        raise ValueError(
            f"occurrence table has no column {', '.join(absent)}; it has "
            f"{', '.join(map(str, table.columns[:6]))}, … "
            + ("This is a table of the release: read it with "
               "occurrences.read_release." if release else
               "Rename or add them; occurrences.COLUMNS lists all."))
    if table.empty:
        raise ValueError("occurrence table is empty: it has columns, but no "
                         "rows. Did a filter remove every record?")
    extra = [name for name in table.columns if name not in COLUMNS]
    result = pd.DataFrame(
        {name: _cast(table, name, kind, optional)
         if name in table else pd.Series(np.nan, table.index, kind)
         for name, kind in COLUMNS.items()}
        | {name: table[name] for name in extra}).reset_index(drop=True)
    result.attrs = dict(table.attrs)
    again = result["gbifID"].duplicated(keep=False)
    if again.any():
        raise ValueError(
            f"gbifID must be unique: {int(again.sum())} rows share theirs "
            f"with another, first {_ids(result, again)}. Drop the repeats "
            "with table.drop_duplicates('gbifID').")
    _check_coordinates(result)
    return result


def read(path: str | os.PathLike) -> pd.DataFrame:
    """Read and check an occurrence table written by :func:`write`."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"no occurrence table at '{path}'. Chapter 01 writes one.")
    try:
        table = pd.read_parquet(path)
    except ValueError as error:
        raise ValueError(
            f"'{path}' is no Parquet file ({error}). Tables of the release "
            "are read with occurrences.read_release.") from error
    return validate(table)


def write(table: pd.DataFrame, path: str | os.PathLike) -> Path:
    """Check an occurrence table and write it as Parquet, whole or not.

    ``table.attrs``, the provenance, goes into the file's metadata and comes
    back with :func:`read`.

    Raises
    ------
    ValueError
        As :func:`validate`; nothing is written.
    OSError
        The folder is read-only or the disk is full; a file that was there
        before is kept.
    """
    checked = validate(table)
    try:
        json.dumps(checked.attrs)
    except TypeError as error:
        raise ValueError(
            f"table.attrs, the provenance, must be JSON ({error}): use "
            "text, numbers, lists and dictionaries.") from error
    return replace(path, lambda file: checked.to_parquet(file, index=False))


def replace(path: str | os.PathLike, fill: Callable[[Path], object]) -> Path:
    """Let ``fill`` write beside ``path``, then move the file into place."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fill(part)
        os.replace(part, path)
    except OSError as error:
        raise OSError(
            error.errno or errno.EIO,
            f"could not write '{path}' ({error.strerror or error}). What "
            "was there before is kept. Free some space or choose a folder "
            "that can be written") from error
    finally:
        _remove(part)
    return path


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # its folder cannot be written: nothing was
        return


def _cast(table: pd.DataFrame, name: str, kind: str, optional
          ) -> pd.Series:
    column = table[name]
    if kind == "str":
        values = column.astype("str").where(column.notna())
        values = values.mask(values == "")
    else:
        values = _number(column, name)
    if name not in optional and values.isna().any():
        gone = values.isna()
        raise ValueError(
            f"{name} is missing in {int(gone.sum())} of {len(table)} rows, "
            f"first {_ids(table, gone)}. Drop them with "
            f"table.dropna(subset='{name}').")
    if kind == "int64" and (values % 1 != 0).any():
        odd = values % 1 != 0
        raise ValueError(
            f"{name} must be whole numbers; {int(odd.sum())} rows are not, "
            f"first {values[odd].iloc[0]}.")
    return values.astype(kind)


def _number(column: pd.Series, name: str) -> pd.Series:
    values = pd.to_numeric(column, errors="coerce")
    text = values.isna() & column.notna() & (column.astype("str") != "")
    if text.any():
        raise ValueError(
            f"{name} must be numbers; {int(text.sum())} rows are not, first "
            f"{column[text].iloc[0]!r}. Decimals need a point.")
    return values


def _check_coordinates(table: pd.DataFrame) -> None:
    for name, limit in (("decimalLatitude", 90), ("decimalLongitude", 180)):
        bad = ~table[name].abs().le(limit)
        if bad.any():
            swapped = (limit == 90 and table.loc[
                bad, "decimalLongitude"].abs().le(90).all())
            raise ValueError(
                f"{name} is out of -{limit} … {limit} in {int(bad.sum())} "
                f"of {len(table)} rows, first "
                f"{table.loc[bad, name].iloc[0]:g} in {_ids(table, bad)}. "
                + ("Are latitude and longitude swapped? " if swapped else "")
                + "Correct these rows or drop them.")


def _ids(table: pd.DataFrame, mask) -> str:
    """Name the first three marked rows."""
    first = table.loc[mask, "gbifID"].iloc[:3]
    return "gbifID " + ", ".join(map(str, first))
