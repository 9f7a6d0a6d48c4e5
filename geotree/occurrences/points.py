"""Your own places: any table with a latitude and a longitude in each row."""

import hashlib
import os
import warnings

import numpy as np
import pandas as pd

from geotree import checks
from geotree.occurrences import columns, located, names, reading
from geotree.occurrences.columns import COLUMNS, FIRST_YEAR, OPTIONAL


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
        ``decimalLatitude``, ``y``, ``Breite``, …), as is a column that says
        on which side of zero a place is (``N/S``, ``E/W``). A ``year`` that
        is a number holds for all rows; a column of dates gives their year.

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
        - ``status``: ``ok``; ``no number``, ``not on the globe`` or
          ``not WGS 84`` for a row without a usable place; ``no year``,
          ``no name`` or ``absent`` for a row that has a place, but a date
          or name that cannot be read, or a tree that was not found
          (``occurrenceStatus``, ``present``, ``individualCount``): it can
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
    if not isinstance(table, pd.DataFrame):
        table = reading.frame(table)
    year = int(year) if isinstance(year, np.integer) else year
    file = table.attrs.get("file")
    where = f"'{file}'" if file else "table"
    checks.columns(table, [], where=where)
    if table.empty:
        raise ValueError(f"{where} has no rows, expected one for each place.")
    own = table.rename(columns=str).reset_index(drop=True)
    checks.columns(own, [], where=where)
    came = columns.simple(own)
    given = {"lat": lat, "lon": lon, "species": species, "id": id,
             "year": None if isinstance(year, int) else year}
    meant = {what: reading.meant(came, what, name, where)
             for what, name in given.items()
             if what != "year" or not isinstance(year, int)}
    if meant["lat"] == meant["lon"]:
        raise ValueError(f"lat and lon are both {meant['lat']!r}: name two "
                         "columns.")
    new, marks = pd.DataFrame(index=came.index), []
    sides = located.place(new, marks, came, meant["lat"], meant["lon"])
    if lat is lon is None:
        located.tell_plot(new, meant["lat"], meant["lon"])
    meant |= sides
    if isinstance(year, int):
        checks.number(year, name="year", low=FIRST_YEAR,
                      high=columns.last_year(), whole=True)
        new["year"] = pd.array([year] * len(came), dtype="Int64")
    else:
        _date(new, marks, came[meant["year"]] if meant["year"]
              else pd.Series(np.nan, came.index))
    if meant["species"]:
        _name(new, marks, came[meant["species"]], came)
        _found(marks, came)
    new.insert(0, "gbifID", _ids(
        new, came[meant["id"]] if meant["id"] else None))
    new["status"], new["reason"] = "ok", ""
    for bad, word, text in reversed(marks):  # the first that fits counts
        new.loc[bad, "status"] = word
        new.loc[bad, "reason"] = text[bad]
    for name in OPTIONAL:
        new[name] = (came[name] if name in came else
                     pd.Series(np.nan, came.index, COLUMNS[name]))
    new["taxonKey"] = came["taxonKey"] if "taxonKey" in came else np.int64(0)
    result = pd.concat([_beside(own, new), new], axis=1)
    result.attrs = {"source": where.strip("'"),
                    "columns": {what: name for what, name in meant.items()
                                if name is not None},
                    "report": new["status"].value_counts().to_dict()}
    return result


def _date(new: pd.DataFrame, marks: list, came: pd.Series) -> None:
    new["year"] = columns.known_years(came)
    marks.append((new["year"].isna() & came.notna(), "no year",
                  columns.words(came) + " is no year or date of a tree"))


def _name(new: pd.DataFrame, marks: list, came: pd.Series,
          table: pd.DataFrame) -> None:
    name = names.normals(came)
    known = name.map(names.is_species).astype(bool)
    marks.append((~known, "no name", columns.words(came) + " is no species:"
                  " expected a scientific name, as Quercus robur"))
    unknown = pd.Series("Unknown", table.index)
    for rank, usual in (("species", name), ("genus", names.genus(name)),
                        ("family", unknown), ("leafType", unknown)):
        if rank in table and rank != "species":
            usual = table[rank].fillna(usual)
        new[rank] = usual.where(known)
    names.tell_alike(new[["species"]])


def _found(marks: list, came: pd.DataFrame) -> None:
    """What columns say of a tree that was looked for and is not there."""
    for name, bad in columns.absent(came).items():
        text = came[name]
        marks.append((bad, "absent", name + " is " + columns.words(text)))
        odd = names.strange(text[np.isnan(checks.degrees(text))],
                            "occurrenceStatus").index
        if len(odd) and names.as_word(name) != "status":
            warnings.warn(f"{name} is {checks.few(odd)}: taken for present, "
                          "expected present, absent or a number", stacklevel=3)


def _ids(new: pd.DataFrame, own: pd.Series | None) -> pd.Series:
    """Own whole numbers if they are distinct, or numbers made of the row."""
    if own is not None:
        try:
            number = columns.column(own.to_frame("gbifID"), "gbifID", {})
            if number.notna().all() and number.is_unique:
                return number.astype("int64")
        except (TypeError, ValueError):
            pass  # they are no numbers
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
