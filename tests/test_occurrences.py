"""The occurrence table: checks, files, flags and thinning."""

import errno
import gzip
import warnings

import numpy as np
import pandas as pd
import pytest

from geotree import occurrences
from geotree.occurrences.columns import OPTIONAL

RELEASE_CSV = "\r\n".join((
    "sample_id,country_code,level0,level1_family,level2_genus,"
    "level3_species,location,source,species_key,year,longitude,latitude,"
    "Category",
    "76400,ZA,Evergreen Broadleaf,Asphodelaceae,Aloe,Aloe africana,"
    "South Africa,iNaturalist,2777855.0,2021,25.43549275153964,"
    "-33.71219074447846,Rare",
    '5,KR,Deciduous Broadleaf,Rosaceae,Neillia,Neillia incisa,"Korea, '
    'Republic of","Says ""trees""",3853033.0,2024,127.1,37.4,Common',
    "6262869,NA,Deciduous Broadleaf,Fabaceae,Senna,Senna ×alata,Namibia,"
    "Línea Bello,10700000.0,2015,-1.2345678e-05,1e-05,Frequent",
    "7,,Evergreen Needleleaf,Pinaceae,Abies,Abies religiosa,,"
    "naturgucker,,2016,-99.0,19.0,Common",
)) + "\r\n"


def table(n=6):
    """Plausible records; latitudes, longitudes and ids all differ."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "gbifID": 4_000_000_000 + np.arange(n)[::-1],
        "decimalLatitude": 47 + rng.random(n),
        "decimalLongitude": 8 + rng.random(n),
        "coordinateUncertaintyInMeters": [5.0, np.nan, *[12.0] * (n - 2)],
        "countryCode": "CH", "year": 2021, "datasetKey": "d",
        "datasetName": "Citizen observations", "license": "CC0_1_0",
        "taxonKey": 5331916, "species": "Betula pendula", "genus": "Betula",
        "family": "Betulaceae", "leafType": "Deciduous Broadleaf"})


# ---- validate ----

def test_validate_gives_types_and_leaves_the_input_alone():
    came = table().astype({"year": float, "species": "category",
                           "decimalLatitude": str, "gbifID": object})
    came["note"] = range(6)
    came.index = list("fedcba")
    came.attrs = {"source": "here"}
    before = came.copy()
    result = occurrences.validate(came)
    assert {name: str(result[name].dtype) for name in occurrences.COLUMNS
            } == occurrences.COLUMNS
    assert result.index.tolist() == list(range(6))
    assert result.columns.tolist()[:13] == list(occurrences.COLUMNS)
    assert result["note"].tolist() == list(range(6))
    assert result.attrs == {"source": "here"}
    np.testing.assert_array_equal(result["decimalLatitude"],
                                  table()["decimalLatitude"])
    pd.testing.assert_frame_equal(came, before)


def test_unknown_is_nan_whatever_it_was():
    came = table()
    came["license"] = ["", None, np.nan, pd.NA, "CC_BY_4_0", "nan"]
    came["countryCode"] = ["NA", "CH", None, "CH", "", "CH"]
    result = occurrences.validate(came)
    assert result["license"].isna().tolist() == [True] * 4 + [False, True]
    assert result["countryCode"][0] == "NA"
    assert result["countryCode"].isna().sum() == 2


def spoiled(**columns):
    came = table()
    for name, values in columns.items():
        came[name] = values
    return came


@pytest.mark.parametrize("came, words", [
    (table().drop(columns=["decimalLatitude", "decimalLongitude"]),
     r"lacks the columns decimalLatitude, decimalLongitude; it has gbifID"),
    (pd.DataFrame({"sample_id": [1], "latitude": [2]}), "read_release"),
    (table().iloc[:0], "is empty"),
    (spoiled(decimalLatitude=[47, 91, 47, 47, -95, 47]),
     r"decimalLatitude is out of -90 … 90 in 2 of 6 rows, first 91 in "
     r"gbifID 4000000004, 4000000001\. Are .* swapped"),
    (spoiled(decimalLatitude=91.0, decimalLongitude=170.0),
     "4000000003. Correct these rows"),
    (spoiled(decimalLongitude=[8, 8, 8, 360.5, 8, 8]), "decimalLongitude is"),
    (spoiled(decimalLatitude=[47, np.nan, 47, 47, 47, 47]),
     "decimalLatitude is missing in 1 of 6 rows, first gbifID 4000000004"),
    (spoiled(decimalLatitude=np.inf), "out of -90"),
    (spoiled(decimalLatitude="47,5"), "must be numbers, with a point .*47,5"),
    (spoiled(gbifID=[1, 2, 3, 2, 1, 4]), "must be unique.* 4 of 6 .* 1, 2, 2"),
    (spoiled(gbifID=1.5), "whole numbers"),
    (spoiled(year=[2020, 2021, None, 2021, 2021, 2021]), "year is missing"),
    (spoiled(species=""), "species is missing in 6 of 6"),
])
def test_validate_says_what_is_wrong(came, words):
    with pytest.raises(ValueError, match=words):
        occurrences.validate(came)


@pytest.mark.parametrize(("name", "value"), [
    ("coordinateUncertaintyInMeters", 0),
    ("coordinateUncertaintyInMeters", -1),
    ("coordinateUncertaintyInMeters", -9999),
    ("coordinateUncertaintyInMeters", "999999"),
    ("coordinateUncertaintyInMeters", np.inf),
    ("coordinatePrecision", -1)])
def test_what_stands_for_unknown_is_unknown_and_counted(name, value):
    came = table().astype({"coordinateUncertaintyInMeters": object})
    came[name] = [5.0, value, value, 7, 8, 9]
    with pytest.warns(UserWarning, match=f"{name}.*unknown: 2 rows"):
        result = occurrences.validate(came)
    assert result[name].isna().tolist() == [False, True, True] + [False] * 3
    [(what, count)] = result.attrs["report"].items()
    assert what.startswith(name) and count == 2
    with pytest.warns(UserWarning):
        thinned = occurrences.thin(came.assign(
            decimalLatitude=47.5, decimalLongitude=8.5,
            coordinateUncertaintyInMeters=[-9999, 50, 40, 9999, 0, -1]))
    assert thinned["coordinateUncertaintyInMeters"].tolist() == [40]


@pytest.mark.parametrize("name", ["individualCount", "organismQuantity",
                                  "abundance", "number_of_individuals"])
@pytest.mark.parametrize("counts", [
    [0, 1, None, -1, 2, 30], ["0", "1", "", "some", "2", "30"],
    ["0,0", "1,5", "", "some", "2", "30"]])
def test_a_count_of_none_is_an_absence(name, counts):
    with pytest.warns(UserWarning, match=f"{name}: no tree was found, it s"):
        flagged = occurrences.flag(spoiled(**{name: counts}))
    assert flagged["flagAbsent"].tolist() == [True] + [False] * 5


@pytest.mark.parametrize("value", [0, -9999, 999999, None])
def test_a_year_that_is_no_year_is_refused(value):
    came = spoiled(year=[2020, value, 2021, 2021, 2021, 2021])
    with pytest.raises(ValueError, match="year is missing in 1 of 6"):
        occurrences.validate(came)


@pytest.mark.parametrize("value", [1599, 20200503, 2020.5, 3000, "spring"])
def test_a_year_out_of_its_range_is_named(value):
    with pytest.raises(ValueError, match="year .*first"):
        occurrences.validate(spoiled(year=[2020] * 5 + [value]))


@pytest.mark.parametrize("value", [
    pd.Timestamp("2020-05-03"), "2020-05-03", "2020-05-03T10:00:00Z", 2020.0,
    "2020", "03.05.2020", "2020/05/03", np.datetime64("2020-05-03"),
    "2020-05-03/2020-06-01", "2020-05-03/06-01"])
def test_years_of_dates_are_years(value):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = occurrences.validate(spoiled(year=[value] * 6))
    assert result["year"].tolist() == [2020] * 6


def test_frames_of_all_kinds_are_the_same_table():
    came = table().assign(note=[1, 2, None, 4, 5, 6], own=True)
    plain = occurrences.validate(came.convert_dtypes())
    arrow = came.convert_dtypes(dtype_backend="pyarrow")
    pd.testing.assert_frame_equal(occurrences.validate(arrow), plain)
    words = came.astype(dict.fromkeys(
        ["species", "countryCode", "year", "family"], "category"))
    words.index = pd.MultiIndex.from_product([["a", "b"], [1, 1, 2]])
    same = occurrences.validate(words)
    pd.testing.assert_frame_equal(same, occurrences.validate(came))
    for one in (arrow, words):
        flagged = occurrences.flag(one)
        pd.testing.assert_frame_equal(
            flagged[list(occurrences.FLAGS)],
            occurrences.flag(came)[list(occurrences.FLAGS)])
        assert len(occurrences.thin(one)) == len(occurrences.thin(came))
        pd.testing.assert_frame_equal(occurrences.audit(one),
                                      occurrences.audit(came))


def test_long_ids_stay_whole():
    ids = [2**53 + 1, 2**53 + 2, 2**62, 7, 8, 9]
    for kind in (object, "str", "int64", "Int64", "int64[pyarrow]"):
        came = table()
        came["gbifID"] = pd.Series(list(map(str, ids)) if kind == "str"
                                   else ids, dtype=kind)
        assert occurrences.validate(came)["gbifID"].tolist() == ids
    with pytest.raises(ValueError, match="whole numbers up to 2.53 as float"):
        occurrences.validate(spoiled(gbifID=[float(one) for one in ids]))


def test_a_column_given_twice_is_named():
    came = pd.concat([table(), table()[["year"]]], axis=1)
    for ask in (occurrences.validate, occurrences.audit,
                occurrences.from_points):
        with pytest.raises(ValueError, match="year more than once"):
            ask(came)


def test_what_a_table_need_not_say_is_unknown():
    came = table().drop(columns=list(OPTIONAL))
    result = occurrences.validate(came)
    assert result[list(OPTIONAL)].isna().all(axis=None)
    assert len(occurrences.keep(occurrences.flag(came))) == 6


@pytest.mark.parametrize(("name", "word", "abroad"), [
    ("establishmentMeans", "introducedAssistedColonisation", True),
    ("establishmentMeans", "INTRODUCED", True),
    ("establishmentMeans", "Introduced Assisted colonisation", True),
    ("establishmentMeans", "native_reintroduced", False),
    ("establishmentMeans", "vagrant", False),
    ("degreeOfEstablishment", "widespreadInvasive", True),
    ("degreeOfEstablishment", "Cultivated", True),
    ("degreeOfEstablishment", "native", False),
])
def test_children_go_with_their_parents(name, word, abroad):
    flagged = occurrences.flag(spoiled(**{name: word}))
    assert flagged["flagAbroad"].tolist() == [abroad] * 6


def test_words_are_compared_as_words_and_unknown_ones_reported():
    came = spoiled(basisOfRecord=[
        "humanObservation", "HUMAN OBSERVATION", "Preserved-Specimen",
        "a guess", "", "unknown"],
        occurrenceStatus=["Present", "ABSENT", "", None, "present", "maybe"],
        issue=["COORDINATE_ROUNDED;zeroCoordinate", "", "coordinate rounded",
               "ZERO_COORDINATE", "PRESUMED_SWAPPED_COORDINATE,X", "X"])
    with pytest.warns(UserWarning, match="unknown word 'a guess': 1 rows"):
        flagged = occurrences.flag(came)
    assert flagged["flagBasis"].tolist() == [False, False, True] + [False] * 3
    assert flagged["flagAbsent"].tolist() == [False, True] + [False] * 4
    assert flagged["flagIssue"].tolist() == [True, False, False, True, True,
                                             False]
    assert flagged.attrs["report"] == {
        "basisOfRecord: unknown word 'a guess'": 1,
        "occurrenceStatus: unknown word 'maybe'": 1,
        "occurrenceStatus: no tree was found, it says; counts as one": 1}


def test_words_in_lists_are_read_and_numbers_are_none():
    came = table().assign(basisOfRecord=[["FOSSIL_SPECIMEN"], [], 5] * 2)
    with pytest.warns(UserWarning, match="unknown word '5': 2 rows"):
        flagged = occurrences.flag(came)
    assert flagged["flagBasis"].tolist() == [True, False, False] * 2


def test_degrees_of_half_the_digits_are_as_short_as_they_were_written():
    came = table().assign(decimalLatitude=[47.1, 47.12345] * 3,
                          decimalLongitude=[8.1, 8.12345] * 3)
    flagged = occurrences.flag(came.astype(
        {"decimalLatitude": "float32", "decimalLongitude": "float32"}))
    assert flagged["flagPrecision"].tolist() == [True, False] * 3


def test_a_flag_or_distance_that_cannot_be_read_is_named():
    flagged = occurrences.flag(table())
    with pytest.raises(ValueError, match="flagSea more than once"):
        occurrences.keep(pd.concat([flagged, flagged[["flagSea"]]], axis=1))
    with pytest.raises(ValueError, match="distanceFromCentroidInMeters must "
                       "be numbers"):
        occurrences.flag(table().assign(distanceFromCentroidInMeters="ten"))


def test_names_are_written_in_one_form_and_kept_as_they_came():
    came = spoiled(species=["Betula pendula", "Betula  pendula\u00a0",
                            "Betula pendula Roth", "BETULA PENDULA",
                            "Betula x aurata", "Betula pendula subsp. alba"])
    with pytest.warns(UserWarning, match="another form: 5 rows"):
        result = occurrences.validate(came)
    assert result["species"].tolist() == ["Betula pendula"] * 4 + [
        "Betula × aurata", "Betula pendula"]
    assert result["verbatimIdentification"].tolist() == came[
        "species"].tolist()
    with pytest.raises(ValueError, match="species is missing in 1 of 6"):
        occurrences.validate(spoiled(species=["Betula nana"] * 5 + ["indet."]))


def test_longitudes_beyond_180_are_turned():
    with pytest.warns(UserWarning, match="180 to 360: 1 rows"):
        result = occurrences.validate(
            spoiled(decimalLongitude=[8, 9, 350, 180, -180, 7]))
    assert result["decimalLongitude"].tolist() == [8, 9, -10, 180, -180, 7]


def test_a_csv_of_gbif_is_read_as_it_is(tmp_path):
    came = table().rename(columns={"leafType": "note"}).assign(
        speciesKey="5331916", taxonKey="77", note='a "half quote')
    came["species"] = came["species"].where(came.index != 3)
    came["decimalLatitude"] = came["decimalLatitude"].where(came.index != 4)
    came["occurrenceStatus"] = ["PRESENT"] * 5 + ["ABSENT"]
    path = tmp_path / "0001.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write("\t".join(came) + "\n")
        for row in came.astype("str").fillna("").to_numpy():
            file.write("\t".join(row) + "\n")
    result = occurrences.read(path)
    assert result["taxonKey"].tolist() == [5331916] * 3
    assert result["note"].tolist() == ['a "half quote'] * 3
    assert result.attrs["left out"] == {"no species": 1,
                                        "no decimalLatitude": 1,
                                        "no tree was found, says the record":
                                        1}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("zipped", [False, True])
def test_release_tables_of_all_encodings(tmp_path, release, encoding, zipped):
    path = tmp_path / "other.csv"
    data = RELEASE_CSV.encode(encoding)
    path.write_bytes(gzip.compress(data) if zipped else data)
    one, other = (occurrences.read_release(name) for name in (path, release))
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize("data", [
    b"", b"\n\n", b"\x00" * 50, b"\x89PNG\r\n\x1a\n\x00\x00", b"PAR1", b"a",
    b"PAR1" + b"\x00" * 50 + b"PAR1",
    gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-9],  # the same in each worker
    b"\x1f\x8b", gzip.compress(b"", mtime=0), b"a,b\n1,2,3\n", b"a,a\n1,2\n",
    b'a,b\n"1,2\n', b"\xff\xfea"])
def test_damaged_files_are_named(tmp_path, data):
    path = tmp_path / "own table.csv"
    path.write_bytes(data)
    for ask in (occurrences.read, occurrences.read_release,
                occurrences.from_points):
        with pytest.raises(ValueError, match="own table.csv"):
            ask(path)


def test_a_release_table_keeps_its_own_rarity(release, tmp_path):
    read = occurrences.read_release(release)
    assert read["rarity"].tolist() == ["Rare", "Common", "Frequent", "Common"]
    path = occurrences.write(read, tmp_path / "t.parquet")
    assert occurrences.thin(occurrences.read(path))["rarity"].tolist() == [
        "Rare", "Common", "Frequent", "Common"]


# ---- Parquet ----

def test_damaged_notes_of_pandas_in_parquet_are_a_named_error(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    whole = pyarrow.Table.from_pandas(pd.DataFrame({"species": ["Abies"]}))
    notes = whole.schema.metadata[b"pandas"]
    pyarrow.parquet.write_table(whole.replace_schema_metadata(
        {"pandas": notes.replace(b'numpy_type": "', b'numpy_type": "q')}),
        path)
    with pytest.raises(ValueError, match=r"a\.parquet' is no table"):
        occurrences.read(path)


def test_parquet_round_trip_keeps_values_types_and_provenance(tmp_path):
    came = spoiled(countryCode=["NA", "CH", "CH", "CH", "CH", None])
    came["flagOwn"] = [True, False] * 3
    came.attrs = {"source": "simulated planet, seed 0",
                  "faults": {"animal": [1, 2]}}
    path = occurrences.write(came, tmp_path / "new" / "table.parquet")
    back = occurrences.read(path)
    pd.testing.assert_frame_equal(back, occurrences.validate(came))
    assert back.attrs == came.attrs
    assert back["flagOwn"].dtype == bool
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    path = occurrences.write(table(), tmp_path / "table.parquet")
    before = path.read_bytes()

    def full(self, file, **options):
        file.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OSError, match="table.parquet.*No space.*is kept"
                       ) as error:
        occurrences.write(table(3), path)
    assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="could not write .*file/table"):
        occurrences.write(table(), tmp_path / "file" / "table.parquet")


def test_an_invalid_table_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="out of"):
        occurrences.write(spoiled(decimalLatitude=91.0), tmp_path / "t")
    odd = table()
    odd.attrs = {"seed": np.int64(3)}
    with pytest.raises(ValueError, match="must be JSON"):
        occurrences.write(odd, tmp_path / "t")
    assert not list(tmp_path.iterdir())


def test_read_says_what_it_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="no table at"):
        occurrences.read(tmp_path / "nothing.parquet")
    csv = tmp_path / "table.csv"
    csv.write_text(RELEASE_CSV, newline="")
    with pytest.raises(ValueError, match="read_release"):
        occurrences.read(csv)


# ---- the release's tables ----

@pytest.fixture
def release(tmp_path):
    path = tmp_path / "GlobalGeoTree-tiny.csv"
    path.write_bytes(RELEASE_CSV.encode())
    return path


def test_release_columns_find_their_place(release):
    read = occurrences.read_release(release)
    first = read.iloc[0]
    assert (first["gbifID"], first["taxonKey"]) == (76400, 2777855)
    assert first["decimalLatitude"] == -33.71219074447846
    assert first["decimalLongitude"] == 25.43549275153964
    assert first[["species", "genus", "family", "leafType", "country",
                  "datasetName", "rarity"]].tolist() == [
        "Aloe africana", "Aloe", "Asphodelaceae", "Evergreen Broadleaf",
        "South Africa", "iNaturalist", "Rare"]
    assert read["coordinateUncertaintyInMeters"].isna().all()
    assert read["license"].isna().all()
    assert read["taxonKey"].tolist()[-1] == 0  # unknown
    assert "GlobalGeoTree-tiny.csv" in read.attrs["source"]
    assert len(read.attrs["sha256"]) == 64


def test_namibia_is_a_country(release):
    read = occurrences.read_release(release)
    assert read["countryCode"][2] == "NA"
    assert read["countryCode"].isna().tolist() == [False, False, False, True]


def test_release_round_trip_is_equal_to_the_byte(release, tmp_path):
    read = occurrences.read_release(release)
    there = occurrences.write(read, tmp_path / "table.parquet")
    back = occurrences.write_release(occurrences.read(there),
                                     tmp_path / "again.csv")
    assert back.read_bytes().decode() == RELEASE_CSV


def test_own_tables_can_be_written_for_the_release(tmp_path):
    path = occurrences.write_release(table(), tmp_path / "own.csv")
    header = path.read_text().splitlines()[0]
    assert "Category" not in header and "location" not in header
    pd.testing.assert_frame_equal(
        occurrences.read_release(path)[["gbifID", "species"]],
        table()[["gbifID", "species"]])


def test_release_table_without_its_columns_is_refused(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("sample_id,latitude\n1,2\n")
    with pytest.raises(ValueError, match="lacks the columns country_code"):
        occurrences.read_release(path)
    path.write_text(RELEASE_CSV.replace("-33.7", "-133.7"), newline="")
    with pytest.raises(ValueError, match="gbifID 76400"):
        occurrences.read_release(path)
    with pytest.raises(FileNotFoundError, match="no table at"):
        occurrences.read_release(tmp_path / "none.csv")


def test_real_table_round_trip_is_equal_to_the_byte(real_table, tmp_path):
    read = occurrences.read_release(real_table)
    assert len(read) == 9930
    path = occurrences.write_release(read, tmp_path / "again.csv")
    assert path.read_bytes() == real_table.read_bytes()
    flagged = occurrences.flag(read)
    kept = occurrences.keep(flagged)
    assert 7000 < len(kept) < 9000
    assert kept["species"].nunique() > 70
    counts = occurrences.removed(flagged).set_index("rule")
    assert counts["left"].iloc[-1] == len(kept)
    assert counts["flagged"]["flagDuplicate"] > 100


# ---- flag, keep, removed, thin ----

FAULTS = {
    "flagZero": {"decimalLatitude": 0.00123, "decimalLongitude": 0.12345},
    "flagEqual": {"decimalLatitude": -8.12345, "decimalLongitude": 8.12345},
    "flagPrecision": {"decimalLatitude": 47.12, "decimalLongitude": 8.123},
    "flagUncertainty": {"coordinateUncertaintyInMeters": 28_000.0},
    "flagCentroid": {"distanceFromCentroidInMeters": 500.0},
    "flagSea": {"decimalLatitude": 43.12345, "decimalLongitude": -25.54321},
    "flagIssue": {"issue": "COORDINATE_ROUNDED;PRESUMED_SWAPPED_COORDINATE"},
    "flagObscured": {"informationWithheld": "Coordinate uncertainty increased"
                     " to 29039m at the request of the observer"},
    "flagCapital": {"decimalLatitude": -1.28912, "decimalLongitude":
                    36.82134},
    "flagGarden": {"decimalLatitude": 51.4791, "decimalLongitude": -0.2991},
    "flagNotTree": {"growthForm": "Herb"},
    "flagAbroad": {"establishmentMeans": "introduced"},
    "flagBasis": {"basisOfRecord": "FOSSIL_SPECIMEN"},
    "flagTaxon": {"taxonKey": 5015},
    "flagMachine": {
        "datasetName": "Pl@ntNet automatically identified occurrences"},
    "flagPlanted": {"datasetName": "Tree planting occurrences"},
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_flag_marks_its_fault_alone(name):
    came = table(12).assign(distanceFromCentroidInMeters=np.nan,
                            basisOfRecord="HUMAN_OBSERVATION")
    came["coordinateUncertaintyInMeters"] = 5.0
    for column, value in FAULTS[name].items():
        came.loc[3, column] = value
    flagged = occurrences.flag(came)
    marked = flagged[list(occurrences.FLAGS)]
    assert all(marked[column].dtype == bool for column in marked)
    # A place of its own may lie far from the others, or at sea.
    marked = marked.drop(columns={"flagStray", "flagSea"} - {name})
    assert marked.columns[marked.any()].tolist() == [name]
    assert np.flatnonzero(marked[name]).tolist() == [3]


def test_a_coarse_precision_is_one_too():
    flagged = occurrences.flag(table().assign(
        coordinatePrecision=[0.1, 0.01, 0.001, 1e-5, np.nan, np.nan]))
    assert flagged["flagPrecision"].tolist() == [True] * 2 + [False] * 4


def test_a_list_of_trees_keeps_herbs_out():
    came = table()
    came.loc[2, "species"] = "Betula nana"
    flagged = occurrences.flag(came, trees=["Betula pendula"])
    assert np.flatnonzero(flagged["flagNotTree"]).tolist() == [2]
    assert not occurrences.flag(came)["flagNotTree"].any()
    forms = ["Tree", "shrub or tree", "Baum", "treeless", "herb", ""]
    assert occurrences.flag(came.assign(growthForm=forms))[
        "flagNotTree"].tolist() == [False] * 3 + [True] * 2 + [False]
    assert "Betula nana" not in set(occurrences.keep(flagged)["species"])


def test_sea_is_far_from_every_land():
    came = table().assign(
        decimalLatitude=[0.1, 50.0, 43.3, -16.8, 89.9, -45.0],
        decimalLongitude=[-140.0, -40.0, 5.3, 179.9, 0.0, 179.9])
    assert occurrences.flag(came)["flagSea"].tolist() == [
        True, True, False, False, True, True]


def test_places_are_compared_with_those_of_other_records():
    came = table(12)
    place = ["decimalLatitude", "decimalLongitude"]
    came.loc[5, place] = came.loc[2, place].to_numpy()
    came.loc[8, place] = came.loc[7, place].to_numpy()
    came.loc[8, "species"] = "Betula pubescens"
    came.loc[10, place] = [47.12345, -120.54321]
    flagged = occurrences.flag(came)

    def rows(name):
        return np.flatnonzero(flagged[name]).tolist()

    assert rows("flagDuplicate") == [5]
    assert rows("flagSharedPoint") == [7, 8]
    assert rows("flagStray") == [10]


def test_nothing_is_flagged_for_lack_of_a_column():
    flagged = occurrences.flag(table())
    assert not flagged["flagBasis"].any()
    assert not flagged["flagCentroid"].any()


def test_a_centre_is_known_without_gbif_and_gbif_knows_more():
    centre = {"decimalLatitude": 51.0, "decimalLongitude": 9.0}  # Germany
    east = 1 / 111.195 / np.cos(np.radians(51))  # degrees for a kilometre
    came = spoiled(**centre)
    came["decimalLongitude"] += np.array([0, 1.9, 2.1, -1.9, -2.1, 0]) * east
    came.loc[5, "decimalLatitude"] = 52.0
    flagged = occurrences.flag(came)
    assert flagged["flagCentroid"].tolist() == [
        True, True, False, True, False, False]
    told = came.assign(distanceFromCentroidInMeters=[
        10.0, 4_000.0, 10.0, np.nan, np.nan, 1_999.0])
    assert occurrences.flag(told)["flagCentroid"].tolist() == [
        True, True, True, True, False, True]
    assert "flagCapital" not in occurrences.REMOVE


@pytest.mark.parametrize("text, blurred", [
    ("Coordinate uncertainty increased to 27661m to protect threatened taxon",
     True),
    ("Coordinates obscured by observer", True),
    ("Location generalised to 10 km", True),
    ("none", False), ("Libre acceso", False),
    ("Name of the collector withheld", False)])
def test_what_publishers_write_of_a_blurred_place(text, blurred):
    flagged = occurrences.flag(table().assign(informationWithheld=text))
    assert (flagged["flagObscured"] == blurred).all()


def test_unknown_uncertainty_is_reported_but_kept_by_default():
    flagged = occurrences.flag(
        spoiled(coordinateUncertaintyInMeters=np.nan))
    assert flagged["flagNoUncertainty"].all()
    assert len(occurrences.keep(flagged)) == len(flagged)
    with pytest.raises(ValueError, match="none of 6 .*flagNoUncertainty 6"):
        occurrences.keep(flagged, rules=["flagNoUncertainty"])


def test_keep_removes_by_the_rules_it_is_given():
    came = spoiled(coordinateUncertaintyInMeters=[5, 301, 31, 30, None, 9])
    came.attrs = {"source": "here"}
    flagged = occurrences.flag(came)
    kept = occurrences.keep(flagged, rules=["flagUncertainty"])
    assert kept["gbifID"].tolist() == came["gbifID"][[0, 3, 4, 5]].tolist()
    assert kept.index.tolist() == [0, 1, 2, 3]
    assert kept.attrs == {**flagged.attrs, "left out": {
        occurrences.FLAGS["flagUncertainty"]: 2}}
    own = flagged.assign(flagOwn=[True, *[False] * 5])
    assert len(occurrences.keep(own, rules=["flagOwn"])) == 5
    assert len(occurrences.keep(flagged, rules=[])) == 6


def test_keep_needs_flags():
    with pytest.raises(ValueError, match=r"Flag it first: occurrences.flag"):
        occurrences.keep(table())
    with pytest.raises(ValueError, match="flagZero"):
        occurrences.removed(table())


def test_a_rule_without_its_column_says_that_it_was_not_checked():
    flagged = occurrences.flag(table().drop(columns="datasetName"))
    counts = occurrences.removed(flagged, rules=occurrences.FLAGS).set_index(
        "rule")
    told = counts["meaning"].str.startswith("not checked, no ")
    assert (told == counts["flagged"].isna()).all()
    assert set(counts.index[told]) == {
        "flagIssue", "flagObscured", "flagBasis", "flagNotTree",
        "flagAbroad", "flagMachine", "flagPlanted"}
    blind = table().assign(coordinateUncertaintyInMeters=np.nan)
    flagged = occurrences.flag(blind, trees=["Betula pendula"])
    assert "flagUncertainty" in flagged.attrs["unchecked"]
    assert "flagNotTree" not in flagged.attrs["unchecked"]
    assert occurrences.keep(flagged).attrs == flagged.attrs


def test_removed_counts_every_row_once():
    came = table(12)
    came.loc[[1, 2], "coordinateUncertaintyInMeters"] = 500.0
    came.loc[[2, 3, 4], "taxonKey"] = 5015
    flagged = occurrences.flag(came)
    counts = occurrences.removed(
        flagged, rules=["flagUncertainty", "flagTaxon"])
    assert counts["flagged"].tolist() == [2, 3]
    assert counts["removed"].tolist() == [2, 2]
    assert counts["left"].tolist() == [10, 8]
    assert counts["left"].iloc[-1] == len(occurrences.keep(
        flagged, rules=["flagUncertainty", "flagTaxon"]))


def test_thin_keeps_the_best_record_of_a_cell():
    came = table(5)
    came["decimalLatitude"] = [47.00010, 47.00011, 47.00012, 47.00013, 47.1]
    came["decimalLongitude"] = 8.00025
    came["coordinateUncertaintyInMeters"] = [np.nan, 20, 5, 5, 5]
    came.loc[0, "species"] = "Betula pubescens"
    thinned = occurrences.thin(came, metres=100)
    # Its own species, the smaller gbifID of the two best, another place.
    assert thinned["gbifID"].tolist() == came["gbifID"][[0, 3, 4]].tolist()
    assert len(occurrences.thin(came, metres=0.5)) == 5
    assert len(occurrences.thin(came, metres=1e6)) == 2
    assert occurrences.thin(came, metres=1e6).attrs["left out"] == {
        "another of its species is in the cell of 1e+06 m": 3}
    with pytest.raises(ValueError, match="metres is 0, expected"):
        occurrences.thin(came, metres=0)


def test_the_sea_goes_on_across_the_antimeridian():
    came = spoiled(decimalLatitude=[66.5, 67.0, 30.0, 31.0, 40.0, 41.0],
                   decimalLongitude=[-179.9, 180, 180, -180, 179.9, -179.9])
    assert occurrences.flag(came)["flagSea"].tolist() == [
        False, False, True, True, True, True]
