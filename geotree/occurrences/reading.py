"""Tables of all kinds from files: whatever a spreadsheet or GBIF writes."""

import csv
import gzip
import json
import os
import re
import warnings
import zlib
from codecs import getincrementaldecoder
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import files
from geotree.data import load

_SEPARATORS = "\t;,|"
_MINUTES = re.compile(r"(?i)(lat|lon|lng|breite|l(ä|ae)nge).*[\W_](m|min)")
_HEAD = 1 << 16  # bytes to guess an encoding and a separator from


def frame(path: str | os.PathLike) -> pd.DataFrame:
    """Read a table as it stands: text stays text, empty cells are missing.

    Parameters
    ----------
    path : path
        Parquet or GeoParquet, or text with a line of names: comma,
        semicolon, bar or tab (where quotes are nothing special, as GBIF
        writes), in UTF-8, UTF-16 or Latin-1, with or without gzip. The
        kind is told by the bytes, not by the name.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        No table, or a damaged one; the message names the file.
    """
    path = files.named(path)
    if path.is_dir() or not path.exists():
        raise FileNotFoundError(f"no table at '{path}'"
                                + ", but a folder" * path.is_dir() + ".")
    with files.regular(path).open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"PK" or magic == b"\xd0\xcf\x11\xe0":
        raise ValueError(f"'{path}' is a workbook or a zip archive: save it "
                         "as CSV, or unpack it.")
    try:
        table = (_parquet if magic == b"PAR1" else _text)(path)
        table.attrs["file"] = os.fspath(path)
        return table
    except EOFError as error:
        raise ValueError(f"'{path}' is cut short ({error}). Fetch or copy "
                         "it again.") from error
    except (ValueError, OverflowError, OSError, csv.Error, zlib.error,
            pd.errors.ParserWarning,
            # what pandas' own notes in a damaged Parquet file can raise
            TypeError, KeyError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(
            f"'{path}' is no table: {' '.join(str(error).split())} Expected "
            "Parquet, or text with a line of column names.") from error


def usual(table: pd.DataFrame, what: str) -> list:
    """Columns whose names usually mean something, such as ``lat``.

    Compared without case and separators. The groups of names are in
    ``geotree/data/words.json``; the first that is there counts.
    """
    words = {one: re.sub(r"[\W_]", "", str(one).casefold())
             for one in table.columns}
    groups = ([one for one, word in words.items() if word in group]
              for group in load("words.json")["usual columns"][what])
    return next(filter(None, groups), [])


def meant(table: pd.DataFrame, what: str, name: str | None, where: str
          ) -> str | None:
    """The column that is meant: the named one, or the one of a usual name."""
    have = ", ".join(map(str, table.columns[:20]))
    if name is not None and (name := str(name)) not in table:
        raise ValueError(f"{where} has no column {name!r} for {what}; "
                         f"it has {have}.")
    found = usual(table, what) if name is None else [name]
    if len(found) > 1:
        raise ValueError(
            f"{where} has several columns that could be {what}: "
            f"{', '.join(found)}. Say which: {what}={found[0]!r}.")
    if not found and what in ("lat", "lon"):
        raise ValueError(f"{where} has no column that looks like {what}; it "
                         f"has {have}. Say which: {what}='…'.")
    parts = [one for one in table if _MINUTES.match(str(one))]
    if what == "lat" and parts and (
            pd.to_numeric(table[found[0]], errors="coerce") % 1 == 0).all():
        warnings.warn(f"{found[0]!r} holds whole degrees, and {parts[0]!r} was"
                      " not read. Are these its minutes? Expected are degrees "
                      "with decimals.", stacklevel=4)
    return found[0] if found else None


def _text(path: Path) -> pd.DataFrame:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with (gzip.open if zipped else open)(path, "rb") as file:
        head = file.read(_HEAD)
    encoding = _encoding(path, head, zipped)
    # A letter may be cut where the head ends.
    first = head.decode(encoding, errors="ignore").lstrip("\ufeff\r\n")
    if first.lstrip()[:1] in ("{", "[", "<"):
        raise ValueError("it is JSON, HTML or XML: save what it shows as "
                         "CSV (ogr2ogr does, of GeoJSON).")
    first, *rest = re.split(r"\r\n?|\n", first, maxsplit=2)
    told = re.fullmatch("sep=(.)", first)  # Excel's own line
    if told:
        first = rest[0] if rest else ""
    if not first.strip() or "\0" in first:
        raise ValueError("it is empty." if not head.strip()
                         else "its first line names no columns.")
    separator = told[1] if told else max(_SEPARATORS, key=first.count)
    options = {"sep": separator, "encoding": encoding, "dtype": "str",
               "skiprows": int(bool(told)),
               "keep_default_na": False, "na_values": [""],
               "compression": "gzip" if zipped else None,
               "quoting": csv.QUOTE_NONE if separator == "\t"
               else csv.QUOTE_MINIMAL, "index_col": False}
    names = next(csv.reader(
        [first], delimiter=separator, quoting=options["quoting"]))
    double = sorted({one for one in names if names.count(one) > 1})
    if double == [""]:
        raise ValueError("its first line names not all columns: cells that "
                         "were merged? Give each a name, in one line.")
    if double:
        raise ValueError(f"it has the columns {', '.join(double)} more than "
                         "once. Rename or drop one of each.")
    with warnings.catch_warnings():
        # Else pandas would drop what a row has beyond the names.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        table = pd.read_csv(path, **options)
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2))
        end = file.read().strip(b"\0")[-1:]
    if not zipped and end not in b"\r\n" + separator.encode() and pd.isna(
            table.iloc[-1:, -1:]).any(axis=None):
        warnings.warn(f"'{path}' ends in the middle of a line: was it cut "
                      "short? Its last row may be wrong.", stacklevel=4)
    return table


def _encoding(path: Path, head: bytes, zipped: bool) -> str:
    decoder, size, found = getincrementaldecoder("utf-8")(), 0, "utf-8-sig"
    with (gzip.open if zipped else open)(path, "rb") as file:
        for part in chain(iter(lambda: file.read(1 << 22), b""), [b""]):
            # What it unpacks to is known before it is held.
            files.fits(size := size + len(part), "its text")
            try:
                decoder.decode(part, final=not part)
            except UnicodeDecodeError:
                found = "cp1252"  # what Windows takes for Latin-1
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    for order in (0, 1):  # UTF-16 without its mark: every other byte is 0
        if head[order:64:2] and not any(head[order:64:2]):
            return ("utf-16-be", "utf-16-le")[order]
    return found


def _parquet(path: Path) -> pd.DataFrame:
    import pyarrow.parquet

    about = pyarrow.parquet.read_metadata(path)
    files.fits(max(sum(about.row_group(one).total_byte_size for one in range(
        about.num_row_groups)), 8 * about.num_rows * about.num_columns),
        "its table")
    table = pd.read_parquet(path)
    geo = json.loads((about.metadata or {}).get(b"geo", b"{}"))
    column = geo.get("primary_column")
    about = geo.get("columns", {}).get(column, {})
    if column in table and about.get("encoding") in ("WKB", "point"):
        crs = about.get("crs", {"id": {"code": "CRS84"}}) or {}
        if str((crs.get("id") or {}).get("code")) not in ("4326", "CRS84"):
            if usual(table, "lat"):
                return table
            raise ValueError(
                f"its points are in {crs.get('name', 'no known system')}, "
                "expected degrees of WGS 84 (EPSG:4326): reproject them.")
        lat, lon = _points(table[column])
        table = table.assign(**{
            name: values for name, values in (
                ("latitude", lat), ("longitude", lon))
            if name not in table and not _is_there(table, values)})
    return table


def _is_there(table: pd.DataFrame, values: np.ndarray) -> bool:
    """Whether a column of numbers says the same as the points do."""
    gaps = [(column - values).abs() for _, column in table.select_dtypes(
        "number").astype("float64").items()]
    return any(gap.notna().any() and gap.max() < 1e-9 for gap in gaps)


def _points(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude of points in WKB; NaN where it is no point."""
    places = np.full((len(column), 2), np.nan)
    for row, one in enumerate(column):
        if isinstance(one, dict):  # GeoArrow
            places[row] = one["x"], one["y"]
        elif isinstance(one, bytes) and len(one) >= 21:
            order = "<" if one[0] == 1 else ">"
            kind = int(np.frombuffer(one, f"{order}u4", 1, 1)[0])
            if kind % 1000 == 1 or kind & 0x0FFFFFFF == 1:
                at = 9 if kind & 0x20000000 else 5  # after a reference
                places[row] = np.frombuffer(one, f"{order}f8", 2, at)
    return places[:, 1], places[:, 0]
