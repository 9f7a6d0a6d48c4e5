"""Own places: one row for each row, and each says what is wrong with it."""

import gzip
import json
import struct
import unicodedata
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from geotree import checks, explore, occurrences
from geotree.occurrences import columns, names

GERMAN = ("Art;Breite;Länge;Jahr;Notiz\n"
          "Quercus robur L.;48,13;11,5;2020;007\n"
          "Tilia x europaea;95;11;2021;b\n"
          "sp.;48,2;371;2021;\n"
          "×Cuprocyparis leylandii;48;350;03.05.2020;c\n"
          "Acer;1;190;x;d\n")


def test_a_spreadsheet_with_decimal_commas_is_read_row_for_row(tmp_path):
    path = tmp_path / "trees.csv"
    path.write_text(GERMAN, encoding="utf-8-sig")
    table = occurrences.from_points(path)
    assert table["Notiz"].fillna("").tolist() == ["007", "b", "", "c", "d"]
    assert table["Breite"].tolist() == ["48,13", "95", "48,2", "48", "1"]
    assert table["status"].tolist() == [
        "ok", "not on the globe", "not on the globe", "ok", "no year"]
    np.testing.assert_allclose(table["decimalLatitude"],
                               [48.13, np.nan, np.nan, 48, 1])
    np.testing.assert_allclose(table["decimalLongitude"],
                               [11.5, np.nan, np.nan, -10, -170])
    assert table["species"].fillna("").tolist() == [
        "Quercus robur", "Tilia × europaea", "", "×Cuprocyparis leylandii",
        ""]
    assert table["year"].fillna(0).tolist() == [2020, 2021, 2021, 2020, 0]
    assert table["gbifID"].dtype == "int64" and table["gbifID"].is_unique
    assert table.attrs["columns"] == {"lat": "Breite", "lon": "Länge",
                                      "species": "Art", "year": "Jahr"}
    assert "swapped?" in table["reason"][1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le",
                                      "latin-1", "cp1252"])
@pytest.mark.parametrize("zipped", [False, True])
def test_encodings_and_gzip_are_told_by_the_bytes(tmp_path, encoding, zipped):
    path = tmp_path / "trees.txt"
    text = "latitude\tlongitude\tspecies\n1.5\t2.5\tAcer \"é\" rubrum\n"
    data = text.replace(' "é"', "").encode(encoding) if (
        encoding == "utf-8") else text.encode(encoding)
    path.write_bytes(gzip.compress(data) if zipped else data)
    table = occurrences.from_points(path)
    assert table[["decimalLatitude", "decimalLongitude"]].to_numpy(
    ).tolist() == [[1.5, 2.5]]


def test_ids_stay_when_rows_come_and_go():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"lat": rng.uniform(-80, 80, 50),
                          "lon": rng.uniform(-180, 180, 50)})
    ids = occurrences.from_points(table).set_index(
        table["lat"])["gbifID"].to_dict()
    other = table.iloc[::-3]
    assert occurrences.from_points(other)["gbifID"].tolist() == [
        ids[lat] for lat in other["lat"]]
    own = occurrences.from_points(table.assign(id=range(50)))
    assert own["gbifID"].tolist() == list(range(50))
    twice = pd.concat([table, table])
    assert occurrences.from_points(twice)["gbifID"].is_unique


@pytest.mark.parametrize(("columns", "words"), [
    ({"lat": [1], "y": [1], "lon": [2]}, "could be lat: lat, y"),
    ({"lat": [1]}, "no column that looks like lon; it has lat"),
    ({"lat": [], "lon": []}, "no rows"),
])
def test_what_cannot_be_meant_is_asked_back(columns, words):
    with pytest.raises(ValueError, match=words):
        occurrences.from_points(pd.DataFrame(columns))


@pytest.mark.parametrize(("column", "words", "status"), [
    ("occurrenceStatus", ["ABSENT", "present", None], "absent"),
    ("individualCount", ["0", "3", ""], "absent"),
    ("organismQuantity", ["0", "3", ""], "absent"),
    ("present", ["N", "Y", None], "absent"),
    ("presence", ["absence", "presence", ""], "absent"),
    ("geodeticDatum", ["NAD27", "WGS 84", "unknown"], "not WGS 84"),
    ("crs", ["EPSG:2056", "EPSG:4326", None], "not WGS 84"),
    ("epsg", [31467.0, 4326.0, np.nan], "not WGS 84")])
def test_what_a_row_says_against_itself_is_heard(column, words, status):
    table = occurrences.from_points(pd.DataFrame({
        "species": "Abies alba", "lat": 47.0, "lon": 8.0, column: words}))
    assert table["status"].tolist() == [status, "ok", "ok"]
    assert f"{column} is {words[0]}" in table["reason"][0]
    here = table["decimalLatitude"].notna().tolist()
    assert here == [status == "absent", True, True]


def test_a_time_of_two_years_is_of_none():
    table = occurrences.from_points(pd.DataFrame({
        "lat": 1.0, "lon": 2.0, "eventDate": [
            "2019/2021", "2019-12-30/2020-01-02", "2019-01-02/2019-12-30"]}))
    assert table["status"].tolist() == ["no year", "no year", "ok"]


def test_zeros_are_no_place():
    table = occurrences.from_points(pd.DataFrame({
        "lat": [0, 0.0, 5, -9, 9], "lon": [0, 5, 0, -9, 9]}))
    assert table["status"].tolist() == ["no number", "ok", "ok", "no number",
                                        "ok"]


@pytest.mark.parametrize(("table", "words"), [
    ({"x": [12.3, 45.1, 7.25], "y": [3.0, 4.5, 9.0]}, "metres in a plot"),
    ({"lat": 47.0, "lon": 8.0, "year": [1900, 1900, 1900, 2020]},
     "3 of 4 years are 1899 or 1900"),
    ({"lat": 47.0, "lon": 8.0, "year": ["1900", "1900", "1900", "2020"]},
     "3 of 4 years are 1899 or 1900"),
    ({"lat": 47.0, "lon": 8.0, "species": [
        "Pino silvestre", "Abete rosso", "Rotbuche gemein", "Abies alba"]},
     "3 of 4 names look like common ones, as 'Pino"),
    ({"lat": 47.0, "lon": 8.0, "species": ["Abies alba", "Qercus robur"]},
     "'Qercus robur' is nearly 'Quercus robur': misspelt")])
def test_what_is_likely_meant_otherwise_is_told(table, words):
    with pytest.warns(UserWarning, match=words):
        occurrences.from_points(pd.DataFrame(table))


def test_what_is_no_day_is_of_no_year():
    days = ["2020-13-45", "45.13.2020", "13/13/2020", "2020-1-32",
            "2020-12-31", "2020-31-12", "31.12.2020", "12/31/2020",
            "2020-00-00", "2020-05-06T12:50:00"]
    table = occurrences.from_points(pd.DataFrame({
        "lat": 47.0, "lon": 8.0, "year": days}))
    assert table["status"].tolist() == ["no year"] * 4 + ["ok"] * 6


@pytest.mark.parametrize("table", [
    {"x": [12.34567, 45.1, 7.25], "y": [3.0, 4.5, 9.0]},
    {"lat": 47.0, "lon": 8.0, "year": [1900, 1901, 2000, 2020]},
    {"lat": 47.0, "lon": 8.0, "species": ["Durio zibethinus", "Phoebe nanmu",
                                          "Hopea odorata", "Shorea robusta"]}])
def test_what_may_be_as_it_is_written_is_not_told_of(table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        occurrences.from_points(pd.DataFrame(table))


@pytest.mark.parametrize(("lat", "lon", "hint"), [
    ("48°51'24\"N", "2°21'03\"E", "48°30' N is 48.5"),
    (5_400_000.0, 500_000.0, "Of metres of a grid, as UTM's, make degrees")])
def test_what_are_no_degrees_are_told_to_be_made_some(lat, lon, hint):
    table = occurrences.from_points(pd.DataFrame({"lat": [lat], "lon": [lon]}))
    assert hint in table["reason"].item()
    with pytest.raises(ValueError, match="48.5 for 48°30' N; of metres"):
        checks.places(lat=[lat], lon=[lon])


def test_a_status_in_words_of_ones_own_is_heard():
    table = occurrences.from_points(pd.DataFrame({
        "lat": 47.0, "lon": 8.0, "species": "Abies alba", "year": 2020,
        "status": ["absent", "Not found", "alive", "A"]}))
    assert table["status"].tolist() == ["absent", "absent", "ok", "ok"]


@pytest.mark.parametrize(("text", "words"), [
    ('{"type": "FeatureCollection", "features": []}', "it is JSON, HTML"),
    ("<!DOCTYPE html>\n<table><tr><td>lat</td></tr></table>", "it is JSON"),
    (",Place,,Tree\nid,lat,lon,species\n", "cells that were merged")])
def test_a_file_of_another_kind_is_named(tmp_path, text, words):
    (tmp_path / "trees.csv").write_text(text)
    with pytest.raises(ValueError, match=f"trees.csv.*{words}"):
        occurrences.from_points(tmp_path / "trees.csv")


@pytest.mark.parametrize(("north", "east"), [
    ("N/S", "E/W"), ("latDir", "lonDir"), ("GPSLatitudeRef",
                                           "GPSLongitudeRef")])
def test_the_side_of_zero_that_a_column_says_counts(north, east, tmp_path):
    table = pd.DataFrame({
        "lat": [33.5, 33.5, -33.5, -33.5, 33.5, 1],
        north: ["S", "north", "s.", "N", None, "Q"],
        "lon": [70, "70,5", -70, 70, 70, 1],
        east: ["W", "E", "West", "E", "e", "E"]})
    found = occurrences.from_points(table)
    np.testing.assert_array_equal(
        found["decimalLatitude"], [-33.5, 33.5, -33.5, np.nan, 33.5, np.nan])
    np.testing.assert_array_equal(
        found["decimalLongitude"], [-70, 70.5, -70, np.nan, 70, np.nan])
    assert found["reason"][3] == ("latitude -33.5 N, longitude 70 E: expected "
                                  "two numbers in degrees (48°30' N is 48.5)")
    assert found.attrs["columns"]["north or south"] == north
    table.attrs = {"lat": "lat", "lon": "lon"}
    explore.write_answers(table, tmp_path / "a.geoparquet")
    written = pd.read_parquet(tmp_path / "a.geoparquet")["geometry"]
    assert np.frombuffer(written[0], "<f8", 2, 5).tolist() == [-70, -33.5]


def test_what_may_be_a_side_of_zero_is_told_of():
    table = pd.DataFrame({"lat": [1.5, 2], "lon": [2, 3], "SN": ["S12", "N7"],
                          "slope": ["S", "N"]})
    with pytest.warns(UserWarning, match="'slope' holds nothing but north or "
                      "south, and was taken for no side"):
        found = occurrences.from_points(table)
    assert found["decimalLatitude"].tolist() == [1.5, 2]


def test_places_without_names_are_a_table_for_pixels_only():
    points = occurrences.from_points(pd.DataFrame(
        {"lat": [48.1, np.nan, 48.2], "lon": [11.5, 11.6, 371.6]}), year=2021)
    good = points[points["status"] == "ok"]
    checked = occurrences.validate(good, named=False)
    assert len(checked) == 1 and checked["species"].isna().all()
    with pytest.raises(ValueError, match="lacks the columns species"):
        occurrences.validate(good)


# ---- any table at all ----

CELLS = st.one_of(
    st.floats(), st.integers(), st.text(max_size=8), st.none(), st.booleans(),
    st.floats(-90, 90), st.floats(-180, 360).map(str), st.datetimes(),
    st.sampled_from(["48,5", "-7.25°", "\u22128", " 9 ", "1e400", "1,234.5"]))
NAMES = st.one_of(st.text(max_size=20), st.none(), st.integers(),
                  st.sampled_from(["Acer rubrum L.", "x Cupressocyparis sp",
                                   "Tilia ×europaea", "unknown", "Quercus"]))


def no_more():
    return settings(max_examples=40, deadline=None, derandomize=True,
                    suppress_health_check=list(HealthCheck))


@no_more()
@given(st.lists(st.tuples(CELLS, CELLS, CELLS, NAMES, CELLS), min_size=1,
                max_size=8))
def test_any_row_comes_back_with_a_status(rows):
    came = pd.DataFrame(rows, columns=["lat", "lon", "year", "species", "id"],
                        dtype=object)
    before = came.copy()
    table = occurrences.from_points(came)
    pd.testing.assert_frame_equal(came, before)
    assert len(table) == len(came) and table["gbifID"].is_unique
    own = [table.get(f"{name} (yours)", table[name]) if name in table
           else table[f"{name} (yours)"] for name in came]
    for name, column in zip(came, own, strict=True):
        assert (column.isna() == came[name].isna()).all()
        seen = came[name].notna()
        assert column[seen].astype(str).tolist() == came[name][
            seen].astype(str).tolist()
    placed = table["status"].isin(["ok", "no name", "no year"])
    assert (placed == table["decimalLatitude"].notna()).all()
    assert (placed == table["decimalLongitude"].notna()).all()
    assert ((table["reason"] == "") == (table["status"] == "ok")).all()
    assert table["decimalLatitude"].dropna().between(-90, 90).all()
    assert table["decimalLongitude"].dropna().between(-180, 180).all()
    assert table["species"].dropna().map(names.is_species).all()
    good = table[(table["status"] == "ok") & table["year"].notna()]
    if len(good):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(occurrences.validate(good)) == len(good)


@no_more()
@given(st.text(max_size=30) | st.sampled_from(
    ["×Cuprocyparis leylandii", "Quercus x rosacea", "Hippophaë rhamnoides",
     "Crataegus ×media Bechst.", "Salix 'Chrysocoma'"]))
def test_a_normal_name_is_normal(name):
    once = names.normal(name)
    assert names.normal(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == " ".join(once.split())
    spaced = "\u2003" + name.replace(" ", " \u00a0\t") + "\ufeff"
    assert names.normal(spaced) == once
    assert names.normal(unicodedata.normalize("NFD", name)) == once


@pytest.mark.parametrize(("came", "normal"), [
    ("Quercus robur", "Quercus robur"),
    ("Quercus robur L.", "Quercus robur"),
    ("Quercus robur subsp. pedunculiflora (K.Koch) Menitsky",
     "Quercus robur"),
    ("Picea abies (L.) H.Karst.", "Picea abies"),
    ("quercus robur", "Quercus robur"), ("QUERCUS ROBUR", "Quercus robur"),
    ("Quercus_robur", "Quercus robur"),
    ("×Cuprocyparis leylandii", "×Cuprocyparis leylandii"),
    ("× Cuprocyparis leylandii (A.B.Jacks. & Dallim.) Farjon",
     "×Cuprocyparis leylandii"),
    ("x Cuprocyparis leylandii", "×Cuprocyparis leylandii"),
    ("X Cuprocyparis leylandii", "×Cuprocyparis leylandii"),
    ("Tilia x europaea", "Tilia × europaea"),
    ("Tilia ×europaea L.", "Tilia × europaea"),
    ("Tilia X europaea", "Tilia × europaea"),
    ("Arctostaphylos uva-ursi (L.) Spreng.", "Arctostaphylos uva-ursi"),
    ("Xanthoceras sorbifolium", "Xanthoceras sorbifolium"),
    ("Ilex xanthina", "Ilex xanthina"),
    ("Tilia×europaea", "Tilia × europaea"),
    ("xCuprocyparis leylandii", "×Cuprocyparis leylandii"),
    ("Quercus robur L. & Mill.", "Quercus robur"),
    ("Acer negundo Linnaeus sensu lato", "Acer negundo"),
    ("Larix decidua Miller, Gard. Dict. ed. 8", "Larix decidua"),
    ("Alnus glutinosa Gaertner var. vulgaris Spach", "Alnus glutinosa"),
    ("Hippophae\u0308 rhamnoides", "Hippophaë rhamnoides"),
    ("pinus strobus, eastern white pine", "Pinus strobus"),
    ("picea abies - norway spruce", "Picea abies"),
    ("Abies firma Siebold & Zuccarini", "Abies firma"),
    ("Quercus robur subsp. robur", "Quercus robur"),
    ("Pinus sylvestris\nL.", "Pinus sylvestris"),
    ("Quercus robur, young", "Quercus robur"),
])
def test_names_of_all_spellings(came, normal):
    assert names.normal(came) == normal
    assert names.is_species(normal)
    assert names.alike(came) == names.alike(normal)


@pytest.mark.parametrize("name", [
    "", " ", "unknown", "Undetermined", "sp.", "indet.", "Quercus sp.",
    "Quercus", "Quercus cf. robur", "Quercus spec", "Salix aff. alba", "12",
    "Unknown tree", "n/a", "Quercus ?", None, float("nan"), 5,
    "Betula pendula × pubescens", "Betula pendula x Betula pubescens",
    "Acer rubrum/nigrum", "Acer rubrum; Acer nigrum", "Acer rubrum?",
    "Acer rubrum or A. nigrum", "Acer rubrum, Fagus sylvatica",
    "Acer rubrum & A. nigrum", "Acer rubrum L., Fagus sylvatica L.",
    "Acer rubrum not found", "Acer rubrum absent",
    "Crataegus sect. Coccineae", "Dead tree",
    "Acer rubrum & nigrum", "Acer rubrum et nigrum", "dead acer rubrum",
    "vacant site", "Other hardwood", "Quaking aspen", "Tree of heaven",
    "Acer seedlings", "Robinia pseudo acacia", "no data",
    "acer rubrum, fagus sylvatica", "ACER RUBRUM L., FAGUS SYLVATICA",
    "acer rubrum, a. nigrum", "Acer rubrum, nigrum", "acer rubrum acer nigrum",
    "acer rubrum - fagus sylvatica", "Acer rubrum (Acer nigrum)",
    "Acer rubrum\nfagus sylvatica", "acer rubrum > nigrum",
    "Chêne pédonculé", "Haya común",
    "Not identified", "Silver birch", "Fagus sylv\u0430tica", "Acer rubrum2"])
def test_what_is_no_name(name):
    assert not names.is_species(names.normal(name))


def test_words_of_presence_that_are_not_known_are_told():
    with pytest.warns(UserWarning, match="present is perhaps: taken for pres"):
        occurrences.from_points(pd.DataFrame({
            "lat": [47.0, 48.0], "lon": 8.0, "species": "Abies alba",
            "present": ["perhaps", "yes"]}))


@pytest.mark.parametrize("name", ["lat_min", "Lat_Minutes", "lat m"])
def test_minutes_in_a_column_of_their_own_are_told(name):
    table = pd.DataFrame({"lat": [47, 48], "lon": [8, 9], name: [12, 30]})
    with pytest.warns(UserWarning, match="holds whole degrees, and .* minut"):
        occurrences.from_points(table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        occurrences.from_points(table.assign(lat=[47.2, 48.5]))


@pytest.mark.parametrize("date", [
    "1998-99", "2020/21", "2020-05-03 - 2021-06-01",
    "2020-12-31 to 2021-01-01"])
def test_a_winter_or_two_dates_are_of_no_year(date):
    no_year(date)


@pytest.mark.parametrize("date", [
    "1900-01-00", "1899-12-30", "1899-12-31 00:00:00", "1904-01-01",
    "1/0/1900", "00.01.1900", "30.12.1899", "12/30/1899",
    "1970-01-01T00:00:00Z", "1900-01-01", "0000-00-00",
    pd.Timestamp("1970-01-01")])
def test_the_date_of_an_empty_cell_is_of_no_year(date):
    no_year(date)


@pytest.mark.parametrize("date", [
    "1970-01-02", "1970-01-01/1970-12-31", "1904", "1970-01", "30.12.1898",
    pd.Timestamp("1900-02-01")])
def test_an_old_date_is_one(date):
    assert columns.years(pd.Series([date, date]))[0] in (
        1970, 1904, 1898, 1900)


def no_year(date):
    table = occurrences.from_points(pd.DataFrame({
        "lat": [47.0, 48.0], "lon": 8.0, "date": [date, type(date)(
            "2020-05")]}))
    assert table["status"].tolist() == ["no year", "ok"]


# ---- GeoParquet ----

def wkb(lon, lat, *, big=False, z=False, srid=False):
    """A point as PostGIS and GeoPandas write it."""
    order = ">" if big else "<"
    kind = 1 + 1000 * z + 0x20000000 * srid
    return (bytes([0 if big else 1]) + struct.pack(f"{order}I", kind)
            + (struct.pack(f"{order}I", 4326) if srid else b"")
            + struct.pack(f"{order}{3 if z else 2}d", lon, lat, *[7.0] * z))


def geoparquet(path, column, *, crs=..., encoding="WKB", **columns):
    about = {"encoding": encoding, "geometry_types": ["Point"]}
    if crs is not ...:
        about["crs"] = crs
    geo = {"version": "1.1.0", "primary_column": "geom",
           "columns": {"geom": about}}
    table = pa.table({"geom": column, **columns})
    pq.write_table(table.replace_schema_metadata(
        {"geo": json.dumps(geo)}), path)
    return path


WGS84 = {"name": "WGS 84", "id": {"authority": "EPSG", "code": 4326}}
PROJECTED = {"name": "CH1903+ / LV95", "id": {"authority": "EPSG",
                                              "code": 2056}}


@pytest.mark.parametrize("form", [
    {}, {"big": True}, {"z": True}, {"srid": True}, "GeoArrow"])
@pytest.mark.parametrize("crs", [..., WGS84])
def test_geoparquet_gives_its_points(tmp_path, form, crs):
    places, encoding = [(8.5, 47.25), (-70.0, -33.5)], "WKB"
    if form == "GeoArrow":
        encoding = "point"
        column = pa.array([{"x": lon, "y": lat} for lon, lat in places])
    else:
        column = pa.array([wkb(*one, **form) for one in places])
    path = geoparquet(tmp_path / "t.geoparquet", column, crs=crs,
                      encoding=encoding, species=["Acer rubrum", "Acer"])
    table = occurrences.from_points(path)
    assert table[["decimalLongitude", "decimalLatitude"]].to_numpy(
    ).tolist() == [list(one) for one in places]
    assert table["status"].tolist() == ["ok", "no name"]


def test_geoparquet_of_another_grid_is_refused_unless_degrees_are_there(
        tmp_path):
    column = pa.array([wkb(2_600_000.0, 1_200_000.0), wkb(20.0, 10.0)])
    path = geoparquet(tmp_path / "t.parquet", column, crs=PROJECTED)
    with pytest.raises(ValueError, match="t.parquet.*LV95.*reproject"):
        occurrences.from_points(path)
    with pytest.raises(ValueError, match="no known system"):
        occurrences.from_points(geoparquet(tmp_path / "u", column, crs=None))
    table = occurrences.from_points(geoparquet(
        path, column, crs=PROJECTED, lat=[46.9, 46.8], lon=[7.4, 7.5]))
    assert table["decimalLatitude"].tolist() == [46.9, 46.8]


def test_what_is_no_point_is_a_row_without_a_place(tmp_path):
    line = b"\x01\x02\x00\x00\x00\x00\x00\x00\x00"
    path = geoparquet(tmp_path / "t", pa.array([
        wkb(8.5, 47.25), line, None, b"\x01", b"torn" * 9]))
    assert occurrences.from_points(path)["status"].tolist() == [
        "ok"] + ["no number"] * 4


def test_places_off_the_globe_speak_for_the_others():
    """Three of five lie there; the others would be taken as they are."""
    table = pd.DataFrame({"lat": [-110.0, -120, 100, 12, 9],
                          "lon": [50.0, 52, 30, 48, 47]})
    with pytest.warns(UserWarning, match="of 5 places .* Are they swapped"):
        found = occurrences.from_points(table)
    assert found["status"].tolist() == ["not on the globe"] * 3 + ["ok"] * 2
