"""The occurrence table: its checks, its file, and those of the release."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import checks, files, globe
from geotree.occurrences import columns, names, reading
from geotree.occurrences.columns import COLUMNS, column, count

# Column of the release -> column here, in the release's order.
RELEASE = {
    "sample_id": "gbifID", "country_code": "countryCode",
    "level0": "leafType", "level1_family": "family",
    "level2_genus": "genus", "level3_species": "species",
    "location": "country", "source": "datasetName",
    "species_key": "taxonKey", "year": "year",
    "longitude": "decimalLongitude", "latitude": "decimalLatitude",
    "Category": "rarity",
}


def validate(table: pd.DataFrame, *, named: bool = True) -> pd.DataFrame:
    """Check an occurrence table and give its columns their kinds.

    Parameters
    ----------
    table : DataFrame
        With the columns of ``COLUMNS``, those of ``OPTIONAL`` where there
        are any; of any index and of any of pandas' types; not modified.
    named : bool
        Whether each row needs its names and year. Pixels can be fetched for
        places of which nobody knows the tree.

    Returns
    -------
    DataFrame
        A copy with index 0 … N-1: the columns of ``COLUMNS`` first, others
        as they came, ``attrs`` kept. What had to be understood is counted
        in ``attrs["report"]`` and told in a warning: numbers and words that
        stand for "unknown" (0, -1, -9999, 999999, "NA"), longitudes beyond
        180, dates in place of years, names in another form (as they came in
        a column ``verbatimIdentification``), words that GBIF does not use.

    Raises
    ------
    ValueError
        A column is missing or there twice, the table is empty, a coordinate
        is missing or impossible, a year is not from 1600 to next year, a
        ``gbifID`` occurs twice, or a value has another type.
    """
    optional = (*columns.OPTIONAL, *(() if named else columns.NAMES))
    where = "occurrence table"
    if "sample_id" in getattr(table, "columns", ()):
        where = "table of the release (read it with read_release)"
    checks.columns(table, [name for name in COLUMNS if name not in optional],
                   where=where)
    if table.empty:
        raise ValueError("occurrence table is empty: it has columns, but no "
                         "rows. Did a filter remove every record?")
    came, report = columns.simple(table), {}
    result = pd.DataFrame({
        name: column(came, name, report) if name in came
        else pd.Series(np.nan, came.index, "str") for name in COLUMNS}
        | {name: column(came, name, report) if name in columns.POSITIVE
           else came[name] for name in came if name not in COLUMNS})
    # The release's tars tell no year: all unknown is known to be unknown.
    undated = ({"year": "Int64"} if not named or result["year"].isna().all()
               else {})
    for name in COLUMNS:
        if name not in (*optional, *undated):
            _refuse(result, result[name].isna(), f"{name} is missing",
                    f"Drop them with table.dropna(subset='{name}').")
    result = result.astype(COLUMNS | undated)
    _refuse(result, result["gbifID"].duplicated(keep=False),
            "gbifID must be unique, but is there again",
            "Drop the repeats with table.drop_duplicates('gbifID').")
    _check_ranges(result, report)
    _check_words(came, result, report)
    for name, bad in columns.absent(came).items():
        count(report, f"{name}: no tree was found, it says; counts as one",
              bad)
    result.attrs = dict(table.attrs)
    told = result.attrs.get("report", {})
    new = {what: rows for what, rows in report.items() if what not in told}
    if new:
        result.attrs["report"] = told | new
        warnings.warn("occurrence table: " + "; ".join(
            f"{what}: {rows} rows" for what, rows in new.items()),
            stacklevel=2)
    return result


def read(path: str | os.PathLike) -> pd.DataFrame:
    """Read and check an occurrence table.

    Parameters
    ----------
    path : path
        Written by :func:`write`, or another table with these columns, such
        as a download of GBIF's (CSV). There, rows of absence or without
        coordinates, year or species are left out, which ``attrs["left
        out"]`` counts, and ``leafType`` is "Unknown" if it is not there.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file, or it holds no occurrence table.
    """
    table = reading.frame(path)
    table.attrs.pop("file", None)  # where it lies is no part of it
    if "speciesKey" in table and "leafType" not in table:
        table["taxonKey"] = table["speciesKey"].fillna("0")
        table["leafType"] = "Unknown"
        for name in ("decimalLatitude", "decimalLongitude", "year", "species"):
            if name in table:
                table = leave(table, table[name].isna(), f"no {name}")
        table = leave(table, columns.absent(table).any(axis=1),
                      "no tree was found, says the record")
    try:
        return validate(table)
    except ValueError as error:
        raise ValueError(f"'{path}': {error}") from error


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
    with files.whole(path) as part:
        checked.to_parquet(part, index=False)
    return files.named(path)


def read_release(csv: str | os.PathLike) -> pd.DataFrame:
    """Read a table of the GlobalGeoTree release.

    The release threw away GBIF's record number, dataset key, licence and
    coordinate uncertainty. ``gbifID`` holds its ``sample_id`` (a row number
    of its own), the other three are unknown. ``location`` becomes the extra
    column ``country``, ``source`` becomes ``datasetName``, ``Category``
    becomes ``rarity``; the latter three may be absent.

    Returns
    -------
    DataFrame
        A checked occurrence table; ``attrs`` names the file and its
        SHA-256.
    """
    table, path = reading.frame(csv), files.named(csv)
    checks.columns(table, [name for name in RELEASE if name not in (
        "location", "source", "Category")], where=f"'{path}'")
    table = table.rename(columns=RELEASE)
    table["taxonKey"] = table["taxonKey"].fillna("0")
    for name in ("coordinateUncertaintyInMeters", "datasetKey", "license"):
        table[name] = np.nan
    table.attrs = {"source": f"GlobalGeoTree release, {path.name}",
                   "sha256": files.sha256(path)}
    return validate(table)


def write_release(table: pd.DataFrame, csv: str | os.PathLike) -> Path:
    """Write an occurrence table with the columns of the release.

    A table that came from :func:`read_release` is written as it was, to the
    byte. Columns that the release does not have are left out; ``location``,
    ``source`` and ``Category`` are left out where the table lacks them.
    """
    checked = validate(table)
    columns = {theirs: checked[ours] for theirs, ours in RELEASE.items()
               if ours in checked}
    if "verbatimIdentification" in checked:
        columns["level3_species"] = checked["verbatimIdentification"]
    columns["species_key"] = checked["taxonKey"].astype("float64").where(
        checked["taxonKey"] != 0)  # the release writes keys as 2777855.0
    frame = pd.DataFrame(columns)
    with files.whole(csv) as part:
        frame.to_csv(part, index=False, lineterminator="\r\n",
                     encoding="utf-8")
    return files.named(csv)


def leave(table: pd.DataFrame, gone, why: str) -> pd.DataFrame:
    """Leave rows out, index 0 … N-1; ``attrs["left out"]`` counts them."""
    gone = np.asarray(gone, dtype=bool)
    result = table[~gone].reset_index(drop=True)
    result.attrs = dict(table.attrs)
    if gone.any():
        before = result.attrs.get("left out", {})
        result.attrs["left out"] = before | {
            why: before.get(why, 0) + int(gone.sum())}
    return result


def _check_ranges(table: pd.DataFrame, report: dict) -> None:
    lon = table["decimalLongitude"]
    east = (lon > 180) & (lon <= 360)
    count(report, "decimalLongitude was 180 to 360", east)
    table["decimalLongitude"] = lon.where(~east, lon - 360)
    last = columns.last_year()
    for name, low, high in (("decimalLatitude", -90, 90),
                            ("decimalLongitude", -180, 180),
                            ("year", columns.FIRST_YEAR, last)):
        bad = ~table[name].between(low, high).fillna(True).astype(bool)
        swapped = (high == 90 and table["decimalLongitude"][bad].abs().le(
            90).all() and table[name][bad].abs().le(180).all())
        _refuse(table, bad, f"{name} is out of {low} … {high}",
                ("Are latitude and longitude swapped? " if swapped else "")
                + "Correct these rows or drop them.", name)


def _check_words(came: pd.DataFrame, table: pd.DataFrame,
                 report: dict) -> None:
    """Countries in capitals, names in one form, words that GBIF uses."""
    code, odd = globe.read_codes(table["countryCode"])
    count(report, "countryCode: no code of ISO 3166, taken for unknown", odd)
    table["countryCode"] = code.mask(odd)
    form = {names.as_word(word): word for word in names.TERMS["leafType"]}
    table["leafType"] = table["leafType"].map({
        word: form.get(names.as_word(word), word)
        for word in table["leafType"].dropna().unique()})
    radius = table["coordinateUncertaintyInMeters"]
    count(report, "coordinateUncertaintyInMeters: all below 1 m. Kilometres?",
          radius.notna() & (radius.max() < 1))
    if "species" in came:
        other = table["species"].notna() & (
            table["species"] != came["species"].astype("str"))
        count(report, "species: written in another form", other)
        if other.any() and "verbatimIdentification" not in table:
            table["verbatimIdentification"] = came["species"].astype("str")
    for name in names.TERMS:
        if name in table:
            for word, rows in names.strange(table[name], name).items():
                report[f"{name}: unknown word {word!r}"] = int(rows)


def _refuse(table: pd.DataFrame, bad, what: str, remedy: str,
            shown: str = "gbifID") -> None:
    """Name the first three of some wrong rows, and the first's value."""
    if bad.any():
        first = ", ".join(str(one).removesuffix(".0")
                          for one in table.loc[bad, "gbifID"].iloc[:3])
        value = (f"{table.loc[bad, shown].iloc[0]:g} in "
                 if shown != "gbifID" else "")
        raise ValueError(f"{what} in {int(bad.sum())} of {len(table)} rows, "
                         f"first {value}gbifID {first}. {remedy}")
