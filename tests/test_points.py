"""Own places: one row for each row, and each says what is wrong with it."""

import gzip

import numpy as np
import pandas as pd
import pytest

from geotree import occurrences

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
                                      "latin-1"])
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


def test_places_without_names_are_a_table_for_pixels_only():
    points = occurrences.from_points(pd.DataFrame(
        {"lat": [48.1, np.nan, 48.2], "lon": [11.5, 11.6, 371.6]}), year=2021)
    good = points[points["status"] == "ok"]
    checked = occurrences.validate(good, named=False)
    assert len(checked) == 1 and checked["species"].isna().all()
    with pytest.raises(ValueError, match="no column species"):
        occurrences.validate(good)
