"""Your own places: any table with a latitude and a longitude in each row."""

from __future__ import annotations

import hashlib
import os
import re

import numpy as np
import pandas as pd

from geotree import checks
from geotree.occurrences import names, reading
from geotree.occurrences.columns import (
    COLUMNS,
    FIRST_YEAR,
    OPTIONAL,
    plain,
    years,
)

# Usual names of columns, without case and separators. Where a column of an
# earlier group is there, those of later groups are not looked at.
_USUAL = {
    "lat": ("lat latitude decimallatitude y latdd latdeg gpslat gpslatitude "
            "wgs84lat latwgs84 latitudewgs84 latitud breite breitengrad "
            "geographischebreite ycoord ycoordinate",),
    "lon": ("lon long lng longitude decimallongitude x londd londeg gpslon "
            "gpslong gpslongitude wgs84lon lonwgs84 longitudewgs84 longitud "
            "länge laenge längengrad laengengrad geographischelänge "
            "geographischelaenge xcoord xcoordinate",),
    "species": ("species", "scientificname speciesname latinname taxon "
                "taxonname binomial level3species art baumart treespecies "
                "especie espèce nomscientifique", "name"),
    "id": ("gbifid", "sampleid", "occurrenceid", "id pointid plotid treeid"),
    "year": ("year jahr année annee año ano", "eventdate date datum fecha",
             "observedon"),
}


def from_points(table: pd.DataFrame | str | os.PathLike, *,
                lat: str | None = None, lon: str | None = None,
                species: str | None = None, id: str | None = None,
                year: str | int | None = None) -> pd.DataFrame:
    """A table of own places as an occurrence table, row for row.

    Nothing is left out and nothing is invented: a row that cannot be used
    says why.

    Parameters
    ----------
    table : DataFrame or path
        Any table of places. Of files: CSV (comma, semicolon, tab or bar;
        decimal point or comma; UTF-8, UTF-16, Latin-1; gzip), Parquet and
        GeoParquet.
    lat, lon, species, id, year : str, optional
        Names of columns; default: guessed from usual names (``lat``,
        ``decimalLatitude``, ``y``, ``Breite``, …). A ``year`` that is a
        number holds for all rows; a column of dates gives their year.

    Returns
    -------
    DataFrame
        One row for each row that came, in its order, index 0 … N-1. First
        the columns that came, untouched (one whose name is needed below and
        whose values differ goes on as ``NAME (yours)``), then

        - ``gbifID`` int64: the column ``id`` if it holds distinct whole
          numbers, else a number made from the place, name, year and ``id``
          of the row: it stays when rows are added, dropped or sorted;
        - ``decimalLatitude``, ``decimalLongitude`` float64 (°, longitude
          from -180 to 180), NaN where the place cannot be used;
        - ``year`` Int64, missing where unknown;
        - ``species``, only where names are given: in one form, missing
          where it is no name of a species; then also ``genus``, ``family``
          and ``leafType``, "Unknown" where the table does not say;
        - ``status``: ``ok``; ``no number`` or ``not on the globe`` for a
          row without a usable place; ``no year`` or ``no name`` for a row
          that has a place, but a date or name that cannot be read: it can
          be answered, not learned from;
        - ``reason``: the same in words, "" where all is well;
        - all other columns of ``occurrences.COLUMNS``, unknown.

        ``attrs["columns"]`` says which column was taken for what, and
        ``attrs["report"]`` counts each status.

    Raises
    ------
    ValueError
        No column or several could be meant, a column is not there or there
        twice, or the table has no rows.
    FileNotFoundError
        No such file.

    Examples
    --------
    >>> points = occurrences.from_points("trees.csv")
    >>> points[points["status"] == "ok"]
    """
    where = "table"
    if not isinstance(table, pd.DataFrame):
        where, table = f"'{os.fspath(table)}'", reading.frame(table)
    checks.columns(table, [], where=where)
    if table.empty:
        raise ValueError(f"{where} has no rows, expected one for each place.")
    table = table.rename(columns=str).reset_index(drop=True)
    own, table = table, plain(table)
    given = {"lat": lat, "lon": lon, "species": species, "id": id,
             "year": year if isinstance(year, str) else None}
    meant = {what: _column(table, what, name, where)
             for what, name in given.items()
             if what != "year" or not isinstance(year, int)}
    said = {what: name for what, name in meant.items() if name is not None}

    north, east = (_number(table[meant[one]]) for one in ("lat", "lon"))
    good = checks.on_globe(lat=north, lon=east)  # (N,)
    new = pd.DataFrame({
        "decimalLatitude": np.where(good, north, np.nan),
        "decimalLongitude": np.where(good, (east + 180) % 360 - 180,
                                     np.nan)}, index=table.index)
    status = pd.Series("ok", table.index)
    reason = pd.Series("", table.index)

    def mark(rows, word, text):
        rows = np.asarray(rows, bool) & (status == "ok").to_numpy()
        status[rows] = word
        reason[rows] = text[rows] if isinstance(text, pd.Series) else text

    raw = ("latitude " + table[meant["lat"]].astype("str").fillna("missing")
           + ", longitude "
           + table[meant["lon"]].astype("str").fillna("missing"))
    mark(np.isnan(north) | np.isnan(east), "no number",
         raw + ": expected two numbers in degrees")
    swapped = checks.on_globe(lat=east, lon=north)
    mark(~good & swapped, "not on the globe", raw + ": swapped?")
    mark(~good, "not on the globe", raw + ": expected -90 to 90 and -180 to "
         "360 degrees")
    if isinstance(year, int):
        checks.number(year, name="year", low=FIRST_YEAR, whole=True)
        new["year"] = pd.array([year] * len(table), dtype="Int64")
    else:
        came = (table[meant["year"]] if meant["year"]
                else pd.Series(np.nan, table.index))
        when = years(came)
        new["year"] = when.where(when.between(
            FIRST_YEAR, pd.Timestamp.now().year + 1) & (when % 1 == 0)
            ).astype("Int64")
        if meant["year"]:
            mark(new["year"].isna() & came.notna(), "no year",
                 came.astype("str") + " is no year or date")
    if meant["species"]:
        came = table[meant["species"]]
        name = names.normals(came)
        known = name.map(names.is_species)
        mark(~known, "no name",
             came.astype("str").fillna("missing") + " is no species")
        new["species"] = name.where(known)
        genus = name.str.removeprefix("×").str.split().str[0].where(known)
        new["genus"] = (table["genus"] if "genus" in table
                        else genus).where(known)
        for column in ("family", "leafType"):
            new[column] = (table[column].fillna("Unknown") if column in table
                           else pd.Series("Unknown", table.index)
                           ).where(known)
    new.insert(0, "gbifID", _ids(
        new, table[meant["id"]] if meant["id"] else None))
    new["status"], new["reason"] = status, reason
    for column in OPTIONAL:
        new[column] = (table[column] if column in table else
                       pd.Series(np.nan, table.index, COLUMNS[column]))
    new["taxonKey"] = (table["taxonKey"] if "taxonKey" in table
                       else np.int64(0))
    result = pd.concat([_beside(own, new), new], axis=1)
    result.attrs = {"source": where.strip("'"), "columns": said,
                    "report": status.value_counts().to_dict()}
    return result


def _column(table: pd.DataFrame, what: str, name: str | None, where: str
            ) -> str | None:
    """The column that is meant: the named one, or the one of a usual name."""
    have = ", ".join(table.columns[:20])
    if name is not None:
        if name not in table:
            raise ValueError(f"{where} has no column {name!r} for {what}; "
                             f"it has {have}.")
        return name
    plain = {one: re.sub(r"[\W_]", "", one.casefold())
             for one in table.columns}
    for group in _USUAL[what]:
        found = [one for one, word in plain.items() if word in group.split()]
        if len(found) > 1:
            raise ValueError(
                f"{where} has several columns that could be {what}: "
                f"{', '.join(found)}. Say which: {what}={found[0]!r}.")
        if found:
            return found[0]
    if what in ("lat", "lon"):
        raise ValueError(f"{where} has no column that looks like {what}; it "
                         f"has {have}. Say which: {what}='…'.")
    return None


def _number(column: pd.Series) -> np.ndarray:
    """Degrees of any spelling: (N,) float64, NaN where it is no number."""
    if not pd.api.types.is_numeric_dtype(column.dtype):
        text = column.astype("str").str.strip().str.rstrip("°")
        text = text.str.replace("\u2212", "-").str.replace(
            r"^([+-]?\d+),(\d+)$", r"\1.\2", regex=True)
        column = pd.to_numeric(text, errors="coerce")
    values = column.to_numpy("float64", na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _ids(new: pd.DataFrame, own: pd.Series | None) -> pd.Series:
    """Own whole numbers if they are distinct, or numbers made of the row."""
    if own is not None:
        number = pd.to_numeric(own.astype("str"), errors="coerce")
        if (number.notna().all() and (number % 1 == 0).all()
                and number.abs().lt(2**53).all() and number.is_unique):
            return number.astype("int64")
    parts = [new["decimalLatitude"].round(7), new["decimalLongitude"].round(7),
             new["year"], new.get("species", pd.Series("", new.index)),
             pd.Series("", new.index) if own is None else own]
    key = parts[0].astype("str").fillna("")
    for part in parts[1:]:
        key = key + "|" + part.astype("str").fillna("")
    # Equal rows are told apart by their number.
    key = key + "|" + key.groupby(key).cumcount().astype("str")
    return key.map(lambda text: int.from_bytes(hashlib.sha256(
        text.encode()).digest()[:8], "big") >> 1).astype("int64")


def _beside(table: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The columns that came, without those that stand in the new ones."""
    drop, other = [], {}
    for name in table.columns.intersection(new.columns):
        one, two = (values[name].astype("str") for values in (table, new))
        same = ((one == two) | (one.isna() & two.isna())).all()
        if same:
            drop.append(name)
        else:
            other[name] = f"{name} (yours)"
    return table.drop(columns=drop).rename(columns=other)
