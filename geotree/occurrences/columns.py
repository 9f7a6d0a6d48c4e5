"""The columns of an occurrence table: what each holds, and in what kind."""

import numbers
import unicodedata
import warnings

import pandas as pd

from geotree import checks, globe
from geotree.data import load
from geotree.occurrences import names, reading

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
PLACE = [*globe.PLACE]
FIRST_YEAR = 1600
# Column -> largest plausible value; 0 and less, and nines, are "unknown".
POSITIVE = {"coordinateUncertaintyInMeters": 20_040_000.0,
            "coordinatePrecision": 180.0}
SIGNS = (-999, -9999, -99_999, -32_768, -2**31)  # that rasters write, too
NINES = (99_999, 999_999, 9_999_999, 99_999_999)
_FIRST_YEARS = (1899, 1900)  # Excel's day 0 and day 1
_NO_DATE = (  # what Excel, databases and clocks make of nothing, or none
    r"(?:1899-12-3[01]|(?:1601|1753|1900|1904|1970)-01-0[01])(?:[T ].*)?$|"
    r"0?[01][./-]0?[01][./-](?:1601|1753|1900|1904|1970)$|"
    r"(?:3[01][./-]12|12[./-]3[01])[./-]1899$|"
    # Neither is a day, or neither a month.
    r"(?:\d{4}[/-])?(?:(?:3[2-9]|[4-9]\d)[./-]\d\d?|\d\d?[./-](?:3[2-9]|"
    r"[4-9]\d)|(?:1[3-9]|[23]\d)[./-](?:1[3-9]|[23]\d))(?!\d)")


def last_year() -> int:
    """Of a record: next year, for clocks and time zones differ."""
    return pd.Timestamp.now().year + 1


def simple(table: pd.DataFrame) -> pd.DataFrame:
    """A table in numpy's types and ``str``, index 0 … N-1."""
    def one(column):
        kind = column.dtype
        if isinstance(kind, pd.CategoricalDtype):
            exact = kind.categories.dtype.kind in "iub" and column.isna().any()
            return one(column.astype(object if exact
                                     else kind.categories.dtype))
        if isinstance(kind, pd.StringDtype) or (
                kind.kind != "O" and pd.api.types.is_string_dtype(kind)):
            return column.astype("str")
        numpy = getattr(kind, "numpy_dtype", None)
        if numpy is None:
            return column
        if numpy.kind in "iub" and column.isna().any():
            return column.astype("boolean" if numpy.kind == "b" else "Int64")
        return column.astype(numpy)

    table = table.reset_index(drop=True)
    return pd.DataFrame({name: one(table[name]) for name in table})


def words(column: pd.Series) -> pd.Series:
    """Cells as one reads them."""
    return column.astype("str").fillna("missing")


def years(column: pd.Series) -> pd.Series:
    """Years of numbers, dates, or text that begins or ends with one.

    Returns
    -------
    (N,) float64
        NaN where it is neither, a time from one year to another, or the
        day that a program counts from.
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        return _told(column.astype("Float64").astype("float64"))
    text = column.astype("str").str.strip()
    found = text.str.extract(  # "2019-2021" is of two years, and so of none
        r"^([+-]?\d{1,9})(?:\.0*)?$|^(\d{4})"
        r"[-/T ](?!\D*\d{4}$|1[3-9]$|[2-9]\d$).*$|"
        r"^\d\d?[./-]\d\d?[./-](\d{4})$")
    found = found[0].fillna(found[1]).fillna(found[2])
    until = text.str.extract(
        r"(?:/| (?:-|–|to|bis|until) )(\d{4})(?:-[^/]*)?$")[0]
    found = found.where((until.isna() | (until == found))
                        & ~text.str.match(_NO_DATE).fillna(False))
    return _told(pd.to_numeric(found, errors="coerce").astype("float64"))


def _told(values: pd.Series) -> pd.Series:
    zero = values.isin(_FIRST_YEARS).sum()
    if zero > max(2, values.notna().sum() / 2):
        warnings.warn(
            f"{zero} of {len(values)} years are 1899 or 1900, from which "
            "spreadsheets count. Were these cells empty?", stacklevel=4)
    return values


def known_years(column: pd.Series) -> pd.Series:
    """Whole years a record can have, as Int64; missing where it is none."""
    when = years(column)
    return when.where((when % 1 == 0) & when.between(
        FIRST_YEAR, last_year())).astype("Int64")


def absent(table: pd.DataFrame) -> pd.DataFrame:
    """Where each column says that no tree was found: (N, columns) bool."""
    table = table.reset_index(drop=True)
    found = {name: names.under(table[name], "occurrenceStatus", ["absent"])
             | (checks.degrees(table[name]) == 0)
             for name in reading.usual(table, "status")}
    for name in table:  # of whatever else: there, "a" and 0 mean nothing
        if names.as_word(name) == "status":
            found[name] = names.under(table[name].where(table[name].astype(
                "str").str.len() > 5), "occurrenceStatus", ["absent"])
    return pd.DataFrame(found, table.index)


def refuse_absent(table: pd.DataFrame, where: str) -> None:
    """Raise ``ValueError`` where a record says that no tree was found."""
    for name, bad in absent(table).items():
        checks.refuse(bad, f"rows of {where} say that no tree was found "
                      f"({name})", "Leave them out: they would count as "
                      "records of one.")


def column(table: pd.DataFrame, name: str, report: dict) -> pd.Series:
    """A column of ``COLUMNS``, or a number that must be above zero."""
    came, kind = table[name], COLUMNS.get(name, "float64")
    if came.dtype == object:
        _refuse(came, ~came.map(pd.api.types.is_hashable).astype(bool),
                "numbers or text")
    if name == "species":
        return names.normals(came).replace("", None)
    if kind == "str":
        # The same letter may be written in two ways.
        known = {one: unicodedata.normalize("NFC", " ".join(str(one).split()))
                 for one in came.dropna().unique()}
        text = came.map(known).astype("str").replace("", None)
        unknown = _is_blank(text) & (text != "Unknown") & (
            name != "countryCode")
        count(report, f"{name}: no such value, taken for unknown", unknown)
        return text.mask(unknown)
    if name == "year":
        values = _year(came, report)
    else:
        values = _number(came)
    if name in POSITIVE:
        unknown = (values <= 0) | values.isin(NINES) | (
            values > POSITIVE[name])
        count(report, f"{name}: no such value, taken for unknown", unknown)
        count(report, f"{name}: three digits after every point, read as "
              "decimals. Are they thousands?", _dotted(came))
        return values.mask(unknown)
    if name == "taxonKey":
        unknown = values.isna() | (values < 0)
        count(report, "taxonKey is unknown", unknown)
        values = values.mask(unknown, 0)
    if kind == "int64":
        # Floats hold whole numbers up to 2^53, int64 up to 2^63.
        limit = 2**53 if values.dtype.kind == "f" else 2**63 - 1
        _refuse(values, values.notna() & (
            (values % 1 != 0) | (values.abs() > limit)),
            "whole numbers up to 2^53 as floats, 2^63 as integers or text")
    return values


def _year(came: pd.Series, report: dict) -> pd.Series:
    values = years(came)
    if not pd.api.types.is_numeric_dtype(came.dtype):
        blank = came.isna() | _is_blank(came)
        _refuse(came, values.isna() & ~blank, "years or dates, and not the "
                "day that a program counts from")
        count(report, "year was a date", values.notna() & ~came.astype(
            "str").str.fullmatch(r"\s*[+-]?\d+(\.0*)?\s*").fillna(False))
    return values.mask(values.isin((0, -1, -99, *SIGNS, *NINES)))


def _number(column: pd.Series) -> pd.Series:
    """Numbers of numbers and text; whole ones stay whole beyond 2^53."""
    there = column.notna() & ~_is_blank(column)
    some = column[there]
    if some.dtype.kind not in "iuf":
        _refuse(some, ~some.astype(object).map(
            lambda one: isinstance(one, str | numbers.Real)
            and not isinstance(one, bool)).astype(bool), "numbers")
        some = pd.to_numeric(some, errors="coerce")
        _refuse(column[there], some.isna(),
                "numbers, with a point before the decimals")
    if some.dtype == "float32":  # 12.3 is 12.3, and not 12.300000191
        some = some.astype("str").astype("float64")
    if there.all():
        return some.astype(getattr(some.dtype, "numpy_dtype", some.dtype))
    return some.reindex(column.index).astype("float64")


def _dotted(column: pd.Series) -> pd.Series:
    """Which texts have a point, if all could be thousands: "1.000", "30"."""
    text = pd.Series([one.strip() for one in column if isinstance(one, str)],
                     dtype="str")
    dots = text.str.contains(".", regex=False)
    every = text.str.fullmatch(r"[1-9]\d{0,2}(\.\d{3})?|0").all()
    return dots & every


def _is_blank(column: pd.Series) -> pd.Series:
    """Which texts stand for nothing: "", "NA", "null" and their like."""
    if column.dtype.kind != "O":
        return pd.Series(False, column.index)
    return column.isin([
        one for one in column.unique() if isinstance(one, str)
        and one.strip().casefold() in load("words.json")["unknown"]])


def _refuse(column: pd.Series, bad: pd.Series, expected: str) -> None:
    if bad.any():
        raise ValueError(
            f"{column.name} must be {expected}; {int(bad.sum())} rows are "
            f"not, first {checks.shown(column[bad].iloc[0])}.")


def count(report: dict, what: str, rows: pd.Series) -> None:
    """Put a number of rows into a report, unless it is none."""
    if rows.any():
        report[what] = int(rows.sum())
