"""Tables of every make: what is let in is whole, what is not is said.

Each value of a table either comes through as it was, or is unknown and
counted, or the table is refused with a ``ValueError``.
"""

import csv
import gzip
import math
import tempfile
import warnings
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from geotree import occurrences
from geotree.occurrences import reading
from geotree.occurrences.columns import FIRST_YEAR

SENTINELS = [0, -1, -9999, 999999, "0", "-9999", "999999", "NA", "NaN",
             "null", "None", "", " ", "-", None, np.nan, pd.NA, pd.NaT]
ODD = [True, False, b"7", [1], (2, 3), {"a": 1}, {4}, 1j, object,
       Decimal("48.25"), Fraction(1, 2), np.float32(2.5), np.int8(-3),
       np.inf, -np.inf, "inf", "1e400", "48,5", "1_000", "0x10", "\u0664",
       "12°", "−5", "1e3", " 7 ", "7.0", "abc", pd.Timestamp("2020-05-03"),
       date(2021, 1, 2), pd.Timedelta("1D"), pd.Interval(0, 1),
       np.datetime64("2019-01-01")]
CELLS = st.one_of(
    st.sampled_from(SENTINELS), st.sampled_from(ODD), st.floats(),
    st.integers(-2**70, 2**70), st.integers(2**53 - 2, 2**53 + 9).map(str),
    st.text(max_size=6), st.floats(-90, 90), st.integers(1500, 2100),
    st.integers(1500, 2100).map("{}-05-03".format))
SPOILT = ["gbifID", "decimalLatitude", "decimalLongitude", "year",
          "coordinateUncertaintyInMeters", "coordinatePrecision", "taxonKey",
          "species", "family", "countryCode", "basisOfRecord", "issue",
          "growthForm", "note"]
MAKES = ["as it is", "nullable", "pyarrow", "category", "object", "text"]


def table(n):
    return pd.DataFrame({
        "gbifID": 2**53 + 1 + np.arange(n), "decimalLatitude": 47 +
        np.arange(n) / 7, "decimalLongitude": 8 + np.arange(n) / 7,
        "year": 2021, "taxonKey": 5331916, "species": "Betula pendula",
        "genus": "Betula", "family": "Betulaceae",
        "leafType": "Deciduous Broadleaf"})


def made(came, make):
    """The same table in another of pandas' makes, where it can be one."""
    if make == "nullable":
        return came.convert_dtypes()
    if make == "pyarrow":
        return came.convert_dtypes(dtype_backend="pyarrow")
    kind = {"category": "category", "object": object, "text": "str"}.get(make)
    return came if kind is None else came.astype(kind)


INDEX = [lambda n: list(range(n)), lambda n: [7] * n, lambda n: [
    None] * n, lambda n: pd.MultiIndex.from_product([["a"], range(n)]),
    lambda n: pd.date_range("2020", periods=n)]


@st.composite
def frames(draw):
    n = draw(st.integers(1, 5))
    came = table(n)
    for name in draw(st.sets(st.sampled_from(SPOILT), max_size=3)):
        cells = came[name].tolist() if name in came else [None] * n
        for row in draw(st.sets(st.integers(0, n - 1), min_size=1)):
            cells[row] = draw(CELLS)
        came[name] = pd.Series(cells, dtype=object)
    try:
        came = made(came, draw(st.sampled_from(MAKES)))
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        pass  # pandas has no such table
    came.index = draw(st.sampled_from(INDEX))(n)
    if draw(st.booleans()):
        came = came[draw(st.permutations(list(came)))]
    return came


def many(count):
    return settings(max_examples=count, deadline=None, derandomize=True,
                    phases=(Phase.explicit, Phase.generate),
                    suppress_health_check=list(HealthCheck))


def number(cell):
    """What a person reads in a cell, exactly; None for no number."""
    if isinstance(cell, bool | np.bool_):
        return None
    try:
        if isinstance(cell, str):
            cell = cell.strip()
            return Fraction(int(cell)) if cell.lstrip("+-").isascii(
                ) and cell.lstrip("+-").isdigit() else Fraction(float(cell))
        return Fraction(cell)
    except (TypeError, ValueError, OverflowError):
        return None


def no_more_than_it_was(came, result, name):
    """Whole numbers to the last digit, others as floats; or unknown."""
    for cell, found in zip(came[name].tolist(), result[name], strict=True):
        if pd.isna(found) or (name == "taxonKey" and found == 0):
            continue
        seen = number(cell)
        assert seen is not None, (name, cell, found)
        assert (int(found) == seen if isinstance(found, int | np.integer)
                else math.isclose(found, seen, rel_tol=1e-12)), (
                    name, cell, found)


@many(100)
@given(frames())
def test_a_table_is_whole_or_refused(came):
    before = came.copy(deep=True)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            result = occurrences.validate(came)
    except ValueError as error:
        assert len(str(error)) > 20
        return
    finally:
        assert came.equals(before) or came.astype(str).equals(
            before.astype(str))
    assert len(result) == len(came)
    assert result.index.tolist() == list(range(len(came)))
    assert {name: str(result[name].dtype) for name in occurrences.COLUMNS
            } == occurrences.COLUMNS | (
                {"year": "Int64"} if result["year"].isna().all() else {})
    needed = ["gbifID", "decimalLatitude", "decimalLongitude", "species",
              "genus", "family", "leafType"]
    assert result[needed].notna().all(axis=None)
    assert result["gbifID"].is_unique
    assert result["decimalLatitude"].between(-90, 90).all()
    assert result["decimalLongitude"].between(-180, 180).all()
    assert result["year"].dropna().between(
        FIRST_YEAR, pd.Timestamp.now().year + 1).all()
    radius = result["coordinateUncertaintyInMeters"].dropna()
    assert ((radius > 0) & np.isfinite(radius)).all()
    for name in ("gbifID", "decimalLatitude", "taxonKey",
                 "coordinateUncertaintyInMeters", "coordinatePrecision"):
        if name in came:
            no_more_than_it_was(came, result, name)
    report = result.attrs.get("report", {})
    for name in ("coordinateUncertaintyInMeters", "coordinatePrecision",
                 "family"):
        if name in came:
            lost = int((came[name].notna().to_numpy()
                        & result[name].isna()).sum())
            blank = sum(isinstance(cell, str) and cell.strip().casefold() in (
                "", "-", "?", "na", "nan", "null", "none")
                for cell in came[name])
            counted = sum(rows for what, rows in report.items()
                          if what.startswith(f"{name}: no such"))
            assert lost - blank <= counted
    assert bool(report) == any("occurrence table" in str(one.message)
                               for one in told)
    pd.testing.assert_frame_equal(occurrences.validate(result), result)


@many(25)
@given(frames())
def test_flags_and_the_audit_refuse_in_words_too(came):
    for ask in (occurrences.flag, occurrences.audit, occurrences.thin):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ask(came)
        except ValueError as error:
            assert len(str(error)) > 20


@many(100)
@given(frames())
def test_points_come_back_row_for_row(came):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = occurrences.from_points(came)
    assert len(table) == len(came) and table["gbifID"].is_unique
    assert sum(table.attrs["report"].values()) == len(came)
    assert ((table["reason"] == "") == (table["status"] == "ok")).all()
    ids = came["gbifID"].tolist()
    if all(type(one) is int and abs(one) < 2**63 for one in ids) and len(
            {*ids}) == len(ids):
        assert table["gbifID"].tolist() == ids
    own = {"coordinateUncertaintyInMeters", "coordinatePrecision", "taxonKey"}
    good = table[table["status"] == "ok"].dropna(subset="year")
    if len(good) and not own & {*came}:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert len(occurrences.validate(good)) == len(good)


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("ask", [occurrences.validate,
                                 occurrences.from_points, occurrences.audit])
def test_a_column_that_is_there_twice_is_named(make, ask):
    came = made(table(3), make)
    came = pd.concat([came, came[["year"]]], axis=1)
    with pytest.raises(ValueError, match="year more than once"):
        ask(came)


TEXT = st.text("ab,;|\"' é×ü\n7NA", max_size=6).map(str.strip)


@many(60)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5),
       st.sampled_from(",;|\t"), st.booleans(), st.sampled_from(
           ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252"]))
def test_text_comes_as_it_was_written(rows, separator, zipped, encoding):
    """GBIF's tables with tabs know no quotes, and have none around cells."""
    came = pd.DataFrame(rows, columns=["lat", "note"])
    if separator == "\t":
        came = came.map(lambda cell: cell.replace("\n", " ").strip('" '))
    # A line that says nothing at all is no row.
    came["lon"] = "1.5"
    text = came.to_csv(sep=separator, index=False, quoting=(
        csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL))
    data = text.encode(encoding)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.dat"
        path.write_bytes(gzip.compress(data) if zipped else data)
        found = reading.frame(path)
    pd.testing.assert_frame_equal(found.fillna("").astype(object),
                                  came.astype(object))
