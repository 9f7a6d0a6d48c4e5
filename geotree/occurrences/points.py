"""Your own places: any table with a latitude and a longitude in each row."""

import hashlib
import os
import warnings

import numpy as np
import pandas as pd

from geotree import checks, globe
from geotree.data import load
from geotree.occurrences import columns, names, reading
from geotree.occurrences.columns import COLUMNS, FIRST_YEAR, OPTIONAL

_WORDS = load("words.json")
_SIDES = _WORDS["sides"]  # words of north and south, east and west


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
    sides = {what: _side(came, what) for what in _SIDES}
    off = _place(new, marks, _located(came, meant, sides), _grid(marks, came))
    meant |= sides
    _swapped(*new[columns.PLACE].to_numpy().T, came.get("countryCode"), off)
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


def places(table: pd.DataFrame, north: str, east: str) -> tuple:
    """Degrees of two columns, read as :func:`from_points` does: (N,) each."""
    came, new = columns.simple(table), pd.DataFrame(index=range(len(table)))
    _place(new, [], _located(came, {"lat": north, "lon": east}, {
        what: _side(came, what) for what in _SIDES}), _grid([], came))
    return tuple(new[name].to_numpy() for name in columns.PLACE)


def _side(table: pd.DataFrame, what: str) -> str | None:
    """The column that says on which side of zero each row is, if any."""
    plus, minus = map(set, _SIDES[what])
    name = reading.meant(table, what, None, "table")
    words = {one: {names.as_word(word) for word in table[one].iloc[
        :1000].tolist() if isinstance(word, str)}
        for one in table.select_dtypes(["object", "str"])}
    if words.get(name, set()) & (plus | minus):
        return name
    if name and 0 < table[name].nunique() <= 2:  # or serial numbers
        warnings.warn(f"column {name!r} was not read: expected {what} in words"
                      " or letters.", stacklevel=3)
    if likely := [one for one, found in words.items()
                  if found & minus and found <= {"", *plus, *minus}]:
        warnings.warn(
            f"column {likely[0]!r} holds nothing but {what}, and was taken "
            f"for no side of the globe. If it is, name it '{what}'.",
            stacklevel=3)
    return None


def _located(came: pd.DataFrame, meant: dict, sides: dict) -> list[tuple]:
    """Degrees of latitude and longitude, each with what was written."""
    found = []
    for name, (what, side) in zip((meant["lat"], meant["lon"]),
                                  sides.items(), strict=True):
        degrees, text = checks.degrees(came[name]), _words(came[name])
        if side is not None:
            word = came[side].map(names.as_word, na_action="ignore").fillna("")
            plus, minus = map(word.isin, _SIDES[what])
            degrees = np.where(minus, -np.abs(degrees), np.where(
                (word == "") | plus & (degrees >= 0), degrees, np.nan))
            text += " " + came[side].astype("str").fillna("")
        found.append((degrees, text))
    return found


def _place(new: pd.DataFrame, marks: list, located: list[tuple],
           other: np.ndarray) -> int:
    """Places and what is wrong with them; how many would be if exchanged."""
    (north, lat), (east, lon) = located
    blank = (north == 0) & (east == 0)  # (N,)
    good = checks.on_globe(lat=north, lon=east) & ~blank & ~other
    new[columns.PLACE] = np.nan
    new.loc[good, columns.PLACE] = np.column_stack(checks.places(
        lat=north[good], lon=east[good]))
    if len({*north[good]}) > 2 and (
            np.abs(north[good]).max() < np.pi / 2
            and np.abs(east[good]).max() < np.pi):
        warnings.warn(
            f"all {good.sum()} places lie in the sea where 0° crosses 0°. "
            "Are they radians? Expected are degrees.", stacklevel=3)
    raw = "latitude " + lat + ", longitude " + lon
    exchanged = ~good & checks.on_globe(lat=east, lon=north)
    marks += [
        (np.isnan(north) | np.isnan(east), "no number",
         raw + ": expected two numbers in degrees"),
        (blank, "no number", raw + ": zeros that stand for no place"),
        (exchanged, "not on the globe", raw + ": swapped?"),
        (~good, "not on the globe",
         raw + ": expected -90 to 90 and -180 to 360 degrees")]
    return int((exchanged & ~checks.on_globe(lat=north, lon=east)).sum())


def _swapped(lat, lon, codes, off: int) -> None:
    n = globe.swapped(lat=lat, lon=lon, codes=codes).sum() + off
    if n > max(2, (np.isfinite(lat).sum() + off) / 2):
        warnings.warn(
            f"{n} of {len(lat)} places could be with latitude and longitude "
            "exchanged alone. Are they swapped?", stacklevel=3)


def _grid(marks: list, came: pd.DataFrame) -> np.ndarray:
    """Which rows say that they are of another grid or datum: (N,) bool."""
    other = np.zeros(len(came), dtype=bool)
    for name in came.columns:
        if names.as_word(name) in _WORDS["grid columns"]:
            bad = ~came[name].map(_is_wgs, na_action="ignore").fillna(
                True).to_numpy(bool)
            marks.append((bad, "not WGS 84", name + " is " + _words(
                came[name]) + ": give degrees of WGS 84"))
            other |= bad
    return other


def _is_wgs(grid) -> bool:
    text = names.as_word(grid)
    return text in _WORDS["unknown"] or any(
        one in text for one in _WORDS["grids within metres of WGS 84"])


def _date(new: pd.DataFrame, marks: list, came: pd.Series) -> None:
    new["year"] = columns.known_years(came)
    marks.append((new["year"].isna() & came.notna(), "no year",
                  _words(came) + " is no year or date of a tree"))


def _name(new: pd.DataFrame, marks: list, came: pd.Series,
          table: pd.DataFrame) -> None:
    name = names.normals(came)
    known = name.map(names.is_species).astype(bool)
    marks.append((~known, "no name", _words(came) + " is no species"))
    unknown = pd.Series("Unknown", table.index)
    for rank, usual in (("species", name), ("genus", names.genus(name)),
                        ("family", unknown), ("leafType", unknown)):
        if rank in table and rank != "species":
            usual = table[rank].fillna(usual)
        new[rank] = usual.where(known)


def _found(marks: list, came: pd.DataFrame) -> None:
    """What columns say of a tree that was looked for and is not there."""
    for name, bad in columns.absent(came).items():
        text = came[name]
        marks.append((bad, "absent", name + " is " + _words(text)))
        odd = names.strange(text[np.isnan(checks.degrees(text))],
                            "occurrenceStatus").index
        if len(odd):
            warnings.warn(f"{name} is {checks.few(odd)}: taken for present, "
                          "expected present, absent or a number", stacklevel=3)


def _words(column: pd.Series) -> pd.Series:
    """Cells as one reads them."""
    return column.astype("str").fillna("missing")


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
