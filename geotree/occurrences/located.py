"""Where each row of a table of own places lies, and what speaks against it."""

import warnings

import numpy as np
import pandas as pd

from geotree import checks, globe
from geotree.data import load
from geotree.occurrences import columns, names, reading

_WORDS = load("words.json")
_SIDES = _WORDS["sides"]  # words of north and south, east and west
# Whoever writes one number for both means no place; all lie in the sea.
_NOWHERE = (0, -1, -9)


def place(new: pd.DataFrame, marks: list, came: pd.DataFrame, lat: str,
          lon: str) -> dict:
    """Put the places into ``new``, what is wrong into ``marks``.

    Returns
    -------
    dict
        The columns that say on which side of zero a row is, or None.
    """
    sides = {what: _side(came, what) for what in _SIDES}
    off = _place(new, marks, _located(came, (lat, lon), sides),
                 _grid(marks, came))
    _swapped(*new[columns.PLACE].to_numpy().T, came.get("countryCode"), off)
    return sides


def tell_plot(new: pd.DataFrame, lat: str, lon: str) -> None:
    """Warn where x and y, which no one called degrees, may be metres."""
    some = new[columns.PLACE].dropna().to_numpy()  # (N, 2)
    if (names.as_word(lat), names.as_word(lon)) == ("y", "x") and len(
            some) > 2 and (np.abs(some - some.round(2)) < 1e-9).all():
        warnings.warn(
            f"{lon!r} and {lat!r} were read as degrees of longitude and "
            "latitude, and none has more than two decimals. Are they metres "
            f"in a plot? If not, say lat={lat!r}, lon={lon!r}.", stacklevel=3)


def places(table: pd.DataFrame, north: str, east: str) -> tuple:
    """Degrees of two columns, read as ``from_points`` does: (N,) each."""
    new = pd.DataFrame(index=range(len(table)))
    place(new, [], columns.simple(table), north, east)
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
                      " or letters.", stacklevel=4)
    if likely := [one for one, found in words.items()
                  if found & minus and found <= {"", *plus, *minus}]:
        warnings.warn(
            f"column {likely[0]!r} holds nothing but {what}, and was taken "
            f"for no side of the globe. If it is, name it '{what}'.",
            stacklevel=4)
    return None


def _located(came: pd.DataFrame, degrees_of: tuple, sides: dict
             ) -> list[tuple]:
    """Degrees of latitude and longitude, each with what was written."""
    found = []
    for name, (what, side) in zip(degrees_of, sides.items(), strict=True):
        degrees, text = checks.degrees(came[name]), columns.words(came[name])
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
    blank = (north == east) & np.isin(north, _NOWHERE)  # (N,)
    good = checks.on_globe(lat=north, lon=east) & ~blank & ~other
    new[columns.PLACE] = np.nan
    new.loc[good, columns.PLACE] = np.column_stack(checks.places(
        lat=north[good], lon=east[good]))
    if len({*north[good]}) > 2 and (
            np.abs(north[good]).max() < np.pi / 2
            and np.abs(east[good]).max() < np.pi):
        warnings.warn(
            f"all {good.sum()} places lie in the sea where 0° crosses 0°. "
            "Are they radians? Expected are degrees.", stacklevel=4)
    raw = "latitude " + lat + ", longitude " + lon
    exchanged = ~good & checks.on_globe(lat=east, lon=north)
    marks += [
        (np.isnan(north) | np.isnan(east), "no number",
         raw + ": expected two numbers in degrees (48°30' N is 48.5)"),
        (blank, "no number", raw + ": a sign for no place"),
        (exchanged, "not on the globe", raw + ": swapped?"),
        (~good, "not on the globe",
         raw + ": expected -90 to 90 and -180 to 360 degrees. Of metres of a "
         "grid, as UTM's, make degrees of WGS 84 first")]
    return int((exchanged & ~checks.on_globe(lat=north, lon=east)).sum())


def _swapped(lat, lon, codes, off: int) -> None:
    n = globe.swapped(lat=lat, lon=lon, codes=codes).sum() + off
    if n > max(2, (np.isfinite(lat).sum() + off) / 2):
        warnings.warn(
            f"{n} of {len(lat)} places could be with latitude and longitude "
            "exchanged alone. Are they swapped?", stacklevel=4)


def _grid(marks: list, came: pd.DataFrame) -> np.ndarray:
    """Which rows say that they are of another grid or datum: (N,) bool."""
    other = np.zeros(len(came), dtype=bool)
    for name in came.columns:
        if names.as_word(name) in _WORDS["grid columns"]:
            bad = ~came[name].map(_is_wgs, na_action="ignore").fillna(
                True).to_numpy(bool)
            marks.append((bad, "not WGS 84", name + " is " + columns.words(
                came[name]) + ": give degrees of WGS 84"))
            other |= bad
    return other


def _is_wgs(grid) -> bool:
    text = names.as_word(grid)
    return text in _WORDS["unknown"] or any(
        one in text for one in _WORDS["grids within metres of WGS 84"])
