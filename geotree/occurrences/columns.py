"""The columns of an occurrence table: what each holds, and in what kind."""

from __future__ import annotations

import unicodedata

import pandas as pd

from geotree.occurrences import names

# name -> dtype; NaN stands for "unknown" in the columns of OPTIONAL only.
COLUMNS = {
    "gbifID": "int64",  # unique within a table
    "decimalLatitude": "float64",  # °, WGS 84, -90 to 90
    "decimalLongitude": "float64",  # °, WGS 84, -180 to 180
    "coordinateUncertaintyInMeters": "float64",  # m, radius
    "countryCode": "str",  # ISO 3166-1 alpha-2; NA is Namibia
    "year": "int64",  # Int64 and missing in a table that knows no year
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
FIRST_YEAR = 1600
# Column -> largest plausible value; 0 and less, and nines, are "unknown".
POSITIVE = {"coordinateUncertaintyInMeters": 20_040_000.0,
             "coordinatePrecision": 180.0}
_NINES = (99_999, 999_999, 9_999_999, 99_999_999)


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """A table in numpy's types and ``str``, index 0 … N-1."""
    def one(column):
        kind = column.dtype
        if isinstance(kind, pd.CategoricalDtype):
            return column.astype(kind.categories.dtype)
        if pd.api.types.is_string_dtype(kind) and kind.kind != "O" or (
                isinstance(kind, pd.StringDtype)):
            return column.astype("str")
        numpy = getattr(kind, "numpy_dtype", None)
        if numpy is None:
            return column
        if numpy.kind in "iub" and column.isna().any():
            return column.astype("boolean" if numpy.kind == "b" else "Int64")
        return column.astype(numpy)

    table = table.reset_index(drop=True)
    return pd.DataFrame({name: one(table[name]) for name in table})


def years(column: pd.Series) -> pd.Series:
    """Years of numbers, dates, or text that begins or ends with one.

    Returns
    -------
    (N,) float64
        NaN where it is neither.
    """
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return column.dt.year.astype("float64")
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.astype("Float64").astype("float64")
    text = column.astype("str").str.strip()
    found = text.str.extract(r"^([+-]?\d+)(?:\.0*)?$|^(\d{4})[-/T ].*$|"
                             r"^\d\d?[./-]\d\d?[./-](\d{4})$")
    found = found[0].fillna(found[1]).fillna(found[2])
    return pd.to_numeric(found).astype("float64")


def column(table: pd.DataFrame, name: str, report: dict) -> pd.Series:
    """A column of ``COLUMNS``, or a number that must be above zero."""
    came, kind = table[name], COLUMNS.get(name, "float64")
    if name == "species":
        return names.normals(came).replace("", None)
    if kind == "str":
        # The same letter may be written in two ways.
        known = {one: unicodedata.normalize("NFC", " ".join(str(one).split()))
                 for one in came.dropna().unique()}
        return came.map(known).astype("str").replace("", None)
    if name == "year":
        values = years(came)
        if not pd.api.types.is_numeric_dtype(came.dtype):
            text = came.astype("str")
            _refuse(came, values.isna() & (text.fillna("") != ""), name)
            count(report, "year was a date",
                  values.notna() & ~text.str.fullmatch(r"[+-]?\d+(\.0*)?"))
        values = values.mask(values.isin((0, -1, -99, -999, -9999, *_NINES)))
        _check_whole(values, name)
        return values
    values = _number(came, name)
    if name in POSITIVE:
        unknown = (values <= 0) | values.isin(_NINES) | (
            values > POSITIVE[name])
        count(report, f"{name}: no such value, taken for unknown", unknown)
        return values.mask(unknown)
    if name == "taxonKey":
        unknown = values.isna() | (values < 0)
        count(report, "taxonKey is unknown", unknown)
        values = values.mask(unknown, 0)
    if kind == "int64":
        _check_whole(values, name)
    return values


def _number(column: pd.Series, name: str) -> pd.Series:
    if pd.api.types.is_bool_dtype(column.dtype):
        _refuse(column, column.notna(), name)
    there = column.notna() & (column.astype("str").str.strip() != "")
    values = pd.to_numeric(column[there], errors="coerce")
    _refuse(column[there], values.isna(), name)
    if not there.all():
        values = values.reindex(column.index)
    return values.astype(getattr(values.dtype, "numpy_dtype", values.dtype)
                         if there.all() else "float64")


def _refuse(column: pd.Series, bad: pd.Series, name: str) -> None:
    if bad.any():
        raise ValueError(
            f"{name} must be numbers; {int(bad.sum())} rows are not, first "
            f"{column[bad].iloc[0]!r}. Decimals need a point.")


def _check_whole(values: pd.Series, name: str) -> None:
    """Floats hold whole numbers up to 2^53, int64 up to 2^63."""
    limit = 2**53 if values.dtype.kind == "f" else 2**63 - 1
    bad = values.notna() & ((values % 1 != 0) | (values.abs() > limit))
    if bad.any():
        raise ValueError(
            f"{name} must be whole numbers up to 2^53 as floats, 2^63 as "
            f"integers or text; {int(bad.sum())} rows are not, first "
            f"{values[bad].iloc[0]}.")


def count(report: dict, what: str, rows: pd.Series) -> None:
    """Put a number of rows into a report, unless it is none."""
    if rows.any():
        report[what] = int(rows.sum())
