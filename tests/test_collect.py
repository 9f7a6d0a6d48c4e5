"""Collecting from a GBIF on this machine: one table by three routes."""

import os
import signal
import threading
import time

import numpy as np
import pandas as pd
import pytest
import requests
from killing import Run, kills
from loopback import gbif
from loopback.server import DROP, GARBLE, TRUNCATE, certificate, without_end

from geotree import network, occurrences
from geotree.files import BusyError
from geotree.network import ServiceError
from geotree.occurrences import matching

NAMES = pd.DataFrame({
    "species": ["Acer rubrum", "Betula verrucosa", "Betula pendula",
                "Larix decidua"],
    "leafType": ["Deciduous Broadleaf"] * 3 + ["Deciduous Needleleaf"]})


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def service(tls):
    with gbif.Gbif(tls=tls) as running:
        yield running


@pytest.fixture
def account(monkeypatch):
    monkeypatch.setenv("GBIF_USER", gbif.USER)
    monkeypatch.setenv("GBIF_PWD", gbif.PASSWORD)


@pytest.fixture
def client(service, tls):
    return occurrences.Client(service.url, wait=0.002, verify=str(tls))


@pytest.fixture
def taxa(client, tmp_path):
    return occurrences.match(NAMES, cache=tmp_path / "names.jsonl",
                             client=client)


def same(one, other):
    pd.testing.assert_frame_equal(
        one.sort_index(axis=1), other.sort_index(axis=1),
        check_dtype=False)


# Names ----------------------------------------------------------------------


def test_only_species_of_plants_enter_a_request(client, service, tmp_path):
    names = [*gbif.TREES, *gbif.STRANGE, "Nomen nescio"]
    found = occurrences.match(names, cache=tmp_path / "c", client=client)
    verdict = found.set_index("asked")["verdict"]
    assert (verdict[list(gbif.TREES)] == "use").all()
    assert (verdict[["Sorbus aria", "Quercus", "Dryocopus martius",
                     "Nomen nescio"]] == "reject").all()
    assert (verdict[["Pinus silvestris", "Abies alba"]] == "review").all()
    assert found.set_index("asked")["reason"]["Quercus"] == "matches a genus"
    with pytest.warns(UserWarning, match="left out: .*matches a genus"):
        table = occurrences.collect(found, route="search", client=client,
                                    folder=tmp_path / "s")
    assert sum(table.attrs["left out"].values()) == (
        verdict != "use").sum() == 6
    asked = {key for call in service.calls("search")
             for key in call["query"]["taxonKey"]}
    assert asked == {str(key) for key, *_ in gbif.TREES.values()}


def test_a_verdict_alone_does_not_let_a_genus_in(client, tmp_path):
    found = occurrences.match(["Quercus", "Dryocopus martius"],
                              cache=tmp_path / "c", client=client)
    with pytest.raises(ValueError, match="none of 2 names may be used"):
        matching.usable(found.assign(verdict="use", taxonKey=2877951))


def test_a_species_of_no_family_is_for_review():
    """Its records would be refused as incomplete after the download."""
    answer = {"usage": {"key": "7", "rank": "SPECIES", "canonicalName": "A b",
                        "status": "ACCEPTED"},
              "classification": [{"rank": "KINGDOM", "name": "Plantae"},
                                 {"rank": "GENUS", "name": "A"}],
              "diagnostics": {"matchType": "EXACT", "confidence": 99}}
    assert matching.judge(answer)["verdict"] == "review"
    answer["classification"].append({"rank": "FAMILY", "name": "Aceae"})
    assert matching.judge(answer)["verdict"] == "use"


def test_synonyms_are_one_species(taxa):
    assert taxa["species"].tolist()[1:3] == ["Betula pendula"] * 2
    assert len(matching.usable(taxa)) == 3


def test_answers_are_kept_even_when_a_line_is_torn(client, service, tmp_path):
    cache = tmp_path / "names.jsonl"
    occurrences.match(NAMES, cache=cache, client=client)
    cache.write_text(cache.read_text()[:-20])
    before = len(service.log)
    again = occurrences.match(NAMES, cache=cache, client=client)
    assert len(service.log) == before + 1
    assert (again["verdict"] == "use").all()
    occurrences.match(NAMES, cache=cache, client=client)
    assert len(service.log) == before + 1


@pytest.mark.parametrize("column", ["family", "leafType"])
def test_rows_that_disagree_about_a_name_are_told_of(client, tmp_path,
                                                     column):
    table = pd.DataFrame({"species": ["Acer rubrum", "Larix decidua"] * 3,
                          column: ["b", None, "c", "a", "c", None]})
    with pytest.warns(UserWarning, match="of 1 names or keys disagree about "
                      f"{column}: Acer rubrum"):
        found = occurrences.match(table, cache=tmp_path / "c", client=client)
    if column == "leafType":
        assert found[column].tolist() == ["c", "a"]
    assert len(found) == 2


def test_a_synonym_may_tell_the_leaf_type(client, taxa):
    told = matching.usable(taxa.assign(leafType=["a", "b", "Unknown", "c"]))
    assert told.set_index("species")["leafType"].to_dict() == {
        "Acer rubrum": "a", "Betula pendula": "b", "Larix decidua": "c"}
    with pytest.warns(UserWarning, match="disagree about leafType: 5331916"):
        matching.usable(taxa.assign(leafType=["a", "b", "x", "c"]))


@pytest.mark.parametrize("names", [
    None, 5, [5], b"Acer rubrum", [b"Acer rubrum"], ["Acer rubrum", None],
    [" "], [], [["Acer rubrum"]], ["Acer \ud800"],
    np.ma.masked_array(["Acer rubrum", "x"], [False, True]),
    pd.DataFrame({"name": ["Acer rubrum"]}),
    pd.DataFrame([["a", "b"]], columns=["species", "species"])])
def test_what_is_no_name_is_not_asked(client, service, tmp_path, names):
    with pytest.raises(ValueError, match="are empty or no text|nothing to "
                       "ask|lacks the columns species|more than once"):
        occurrences.match(names, cache=tmp_path / "c", client=client)
    assert not service.log


def test_a_file_of_something_else_is_no_cache(client, tmp_path):
    table = tmp_path / "names.csv"
    table.write_text("species\nAcer rubrum\n")
    with pytest.raises(ValueError, match="names.csv' holds something else"):
        occurrences.match(["Acer rubrum"], cache=table, client=client)
    assert table.read_text() == "species\nAcer rubrum\n"


@pytest.mark.parametrize("line", [
    '["Acer rubrum", "", {"a": 1}]', '["Acer rubrum", "", null]', "[]",
    '[["Acer rubrum"], "", {}]', "[" * 10_000, "[1, \udcff",
    '["Acer rubrum", "", {"diagnostics": {"confidence": 1e400}}]'])
def test_a_kept_answer_that_is_none_is_asked_again(client, tmp_path, line):
    cache = tmp_path / "c"
    cache.write_text(line, errors="surrogateescape")
    found = occurrences.match(["Acer rubrum"], cache=cache, client=client)
    assert found["verdict"].tolist() == ["use"]


def test_another_service_is_asked_again(client, tls, tmp_path):
    occurrences.match(NAMES, cache=tmp_path / "c", client=client)
    with gbif.Gbif(tls=tls) as other:
        for _ in range(2):
            occurrences.match(NAMES, cache=tmp_path / "c",
                              client=occurrences.Client(
                                  other.url, wait=0.002, verify=str(tls)))
        assert len(other.log) == len(NAMES)


@pytest.mark.parametrize("ask", [
    lambda: occurrences.Client(None), lambda: occurrences.Client("gbif.org"),
    lambda: occurrences.Client(wait=np.nan), lambda: occurrences.judge([]),
    lambda: occurrences.judge({"usageKey": 5}),
    lambda: occurrences.requests_needed(5, route="mail"),
    lambda: occurrences.requests_needed(-5, route="search"),
    lambda: occurrences.cite(pd.DataFrame()),
    lambda: occurrences.name_datasets(pd.DataFrame(), cache="nowhere")])
def test_what_cannot_be_asked_is_refused(ask):
    with pytest.raises(ValueError, match="expected|lacks"):
        ask()


# Routes ---------------------------------------------------------------------


@pytest.mark.parametrize("change", [
    {"taxonKey": lambda key: key.astype(float)},
    {"taxonKey": lambda key: key.astype(str)},
    {"taxonKey": lambda key: key.astype("Int64")}])
def test_keys_of_any_type_are_asked_for(client, service, taxa, tmp_path,
                                        change):
    table = occurrences.collect(taxa.transform(change).combine_first(taxa),
                                route="search", limit=50, client=client,
                                folder=tmp_path / "s")
    assert set(table["taxonKey"]) == set(taxa["taxonKey"])


@pytest.mark.parametrize("change", [
    {"verdict": "yes"}, {"verdict": True}, {"verdict": "Use"},
    {"taxonKey": 1.5}, {"taxonKey": True}, {"genus": None}])
def test_taxa_that_no_request_can_hold_are_refused(client, service, taxa,
                                                   tmp_path, change):
    before = len(service.log)
    with pytest.raises(ValueError, match=f"{next(iter(change))}.* (are|must)|"
                       "to use have no species, genus or family"):
        occurrences.collect(taxa.assign(**change), route="search",
                            folder=tmp_path / "s", client=client)
    assert len(service.log) == before


@pytest.mark.parametrize("years", [
    (2018, 2019, 2020), range(2018, 2021), (2022, 2018), 2020, (2020,),
    "2020", ("2018", "2020"), (2018.5, 2020), None, (np.nan, 2020)])
def test_years_are_a_first_and_a_last(client, taxa, tmp_path, years):
    """The middle one of three was the last."""
    with pytest.raises(ValueError, match="of years.* expected a whole number"):
        occurrences.collect(taxa, route="search", years=years, client=client,
                            folder=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_three_routes_give_the_same_table(client, service, taxa, account,
                                          tmp_path):
    options = {"client": client, "poll": 0.0, "years": (2015, 2022)}
    search = occurrences.collect(taxa, route="search", limit=100_000,
                                 folder=tmp_path / "s", **options)
    download = occurrences.collect(taxa, route="download",
                                   folder=tmp_path / "d", **options)
    place = gbif.snapshot(tmp_path, service.frame)
    local = occurrences.collect(taxa, route="snapshot", snapshot=str(place),
                                folder=tmp_path / "p", **options)
    more = ["distanceFromCentroidInMeters", "informationWithheld"]
    assert (search[more].notna().sum() > 10).all()
    same(search.drop(columns=more), download)
    same(download, local)
    assert 300 < len(search) < len(service.frame)
    assert search["year"].between(2015, 2022).all()
    by_hand = service.select(["5331916"], 2015, 2022, None)
    birch = search[search["species"] == "Betula pendula"]
    assert set(birch["gbifID"]) == set(by_hand["gbifid"])
    assert set(search["leafType"]) == {"Deciduous Broadleaf",
                                       "Deciduous Needleleaf"}
    assert set(search["license"]) == {"CC_BY_4_0", "CC0_1_0"}
    pd.testing.assert_frame_equal(
        occurrences.read(occurrences.write(search, tmp_path / "t.parquet")),
        search)


def test_cleaning_keeps_the_same_records_by_all_routes(
        client, service, taxa, account, tmp_path):
    """But for what GBIF tells in a search alone."""
    place = gbif.snapshot(tmp_path, service.frame)
    flagged = [occurrences.flag(occurrences.collect(
        taxa, route=route, folder=tmp_path / route, client=client, poll=0.0,
        limit=100_000, snapshot=str(place)))
        for route in ("search", "download", "snapshot")]
    search, download, snapshot = flagged
    assert search["gbifID"].tolist() == download["gbifID"].tolist()
    flags = [name for name in search if name.startswith("flag")]
    same(download, snapshot)
    there = [search["decimalLatitude"].between(lat - 0.01, lat + 0.01)
             & search["decimalLongitude"].between(lon - 0.02, lon + 0.02)
             for lat, lon in (gbif.CENTRE, gbif.OTHER_CENTRE, gbif.CAPITAL)]
    said = search["informationWithheld"].fillna("").str.contains
    blurred, elsewhere = said("increased to"), said("Obscured by")
    assert all(rows.sum() > 9 for rows in (*there, blurred, elsewhere))
    alone = {"flagCentroid": there[1], "flagObscured": blurred | elsewhere}
    for name in flags:
        told = search[name] != download[name]
        expected = alone.get(name, False) & search[name] & ~download[name]
        assert (told == expected).all(), name
    assert download["flagCentroid"].tolist() == there[0].tolist()
    assert download["flagCapital"].tolist() == there[2].tolist()
    assert "flagObscured" in download.attrs["unchecked"]
    assert download["flagUncertainty"][blurred].all()
    kept = [occurrences.keep(table) for table in flagged]
    lost = set(kept[1]["gbifID"]) - set(kept[0]["gbifID"])
    assert lost == set(search["gbifID"][(there[1] | elsewhere)
                                        & ~download[list(
                                            occurrences.REMOVE)].any(axis=1)])
    both = kept[1][~kept[1]["gbifID"].isin(lost)].reset_index(drop=True)
    same(kept[0].drop(columns=["distanceFromCentroidInMeters",
                               "informationWithheld"]), both)
    assert len(both) > 300


def test_a_search_of_a_thousand_is_four_requests(client, service, taxa,
                                                 tmp_path):
    table = occurrences.collect(taxa, route="search", limit=1000,
                                folder=tmp_path / "s", client=client)
    assert len(table) == 1000
    pages = service.calls("search")
    assert len(pages) == occurrences.requests_needed(
        1000, route="search") == 4
    assert max(int(call["query"]["limit"][0]) for call in pages) == 300


@pytest.mark.parametrize(("species", "limit"), [
    (120, 1000), (250, 1000), (700, 1000), (1_000, 1000), (1_000, 3_000),
    (2_500, 1000)])
def test_a_search_of_many_species_is_as_few_and_leaves_none_out(
        client, service, tmp_path, species, limit):
    keys = np.arange(8_000_000, 8_000_000 + species)
    rows = np.arange(12_000) % species
    service.frame = gbif.records(12_000).assign(
        specieskey=keys[rows].astype(str), year=2020,
        decimallatitude=50.5, decimallongitude=9.5,
        occurrencestatus="PRESENT")
    taxa = pd.DataFrame({
        "asked": "tree", "taxonKey": keys, "species": keys.astype(str),
        "genus": "g", "family": "f", "leafType": "l", "rank": "SPECIES",
        "kingdom": "Plantae", "verdict": "use", "reason": ""})
    table = occurrences.collect(taxa, route="search", limit=limit,
                                folder=tmp_path / "s", client=client)
    assert len(table) == limit
    pages = service.calls("search")
    assert len(pages) == occurrences.requests_needed(
        limit, route="search", taxa=species)
    assert len(pages) <= max(4 * limit / 1000, species / 300 + 1)
    asked = [int(key) for call in pages for key in call["query"]["taxonKey"]]
    assert set(asked) == set(keys.tolist())


def test_one_download_for_21_001_species_and_its_doi_stays(
        client, service, account, taxa, tmp_path):
    many = pd.concat([taxa] + [taxa.iloc[:1]] * 20_998).assign(
        taxonKey=[*taxa["taxonKey"], *range(8_000_000, 8_020_998)])
    table = occurrences.collect(many, route="download", poll=0.0,
                                folder=tmp_path / "d", client=client)
    [order] = [call for call in service.log if call["method"] == "POST"]
    rule = order["body"]["predicate"]["predicates"][0]
    assert rule["type"] == "in" and len(rule["values"]) == 21_001
    assert order["size"] < 1_000_000
    assert set(table["species"]) == set(taxa["species"])
    assert table.attrs["doi"].startswith("https://doi.org/10.15468/dl.")
    assert table.attrs["doi"] in occurrences.cite(table)
    path = occurrences.write(table, tmp_path / "t.parquet")
    assert occurrences.read(path).attrs["doi"] == table.attrs["doi"]


def test_titles_of_datasets_cost_one_request_each(client, service, taxa,
                                                  tmp_path):
    table = occurrences.collect(taxa, route="search", limit=900,
                                folder=tmp_path / "s", client=client)
    before = occurrences.flag(table)
    assert "flagMachine" in before.attrs["unchecked"]
    for _ in range(2):
        named = occurrences.name_datasets(
            table, cache=tmp_path / "c", client=client)
    assert len(service.calls("/dataset/")) == 2
    flagged = occurrences.flag(named)
    machine = table["datasetKey"] == "d596fccb"
    assert (flagged["flagMachine"] == machine).all() and machine.any()
    assert flagged["flagCentroid"].any() and flagged["flagObscured"].any()
    assert flagged.attrs["unchecked"] == ["flagNotTree"]
    path = occurrences.write(flagged, tmp_path / "t.parquet")
    assert occurrences.read(path).attrs == flagged.attrs


def test_a_table_without_doi_says_how_to_get_one(client, taxa, tmp_path):
    table = occurrences.collect(taxa, route="search", limit=50,
                                folder=tmp_path / "s", client=client)
    assert "derived dataset" in occurrences.cite(table)
    assert "2 datasets" in occurrences.cite(table)


def test_pygbif_stays_as_it_is_for_others(client, service):
    import logging

    before = logging.getLogger().handlers[:]
    client.match("Quercus", "", matching.judge)
    assert logging.getLogger().handlers == before
    [call] = service.calls("/match")
    assert "pygbif" in call["headers"]["user-agent"]


def test_pygbif_would_send_the_password_in_the_open():
    """The reason why downloads do not go through it."""
    from pygbif.occurrences.download import GbifDownload

    assert GbifDownload("user", "user@example.org").url.startswith("http:")


# Refusals -------------------------------------------------------------------


@pytest.mark.parametrize(("options", "words"), [
    ({"route": "mail"}, "'search', 'download', 'snapshot'"),
    ({"route": "search", "limit": 100_001}, "Take route='download'"),
    *(({"route": "search", "limit": limit}, "limit is .* whole number")
      for limit in (0, True, "10", 10.5, None)),
    ({"route": "search", "years": (1990, 1991)}, "no record of these 3"),
])
def test_bad_requests_say_why(client, taxa, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        occurrences.collect(taxa, folder=tmp_path / "s", client=client,
                            **options)


def test_names_have_to_be_matched_first(tmp_path):
    with pytest.raises(ValueError, match=r"occurrences\.match"):
        occurrences.collect(NAMES, route="search", folder=tmp_path)


def test_a_folder_belongs_to_one_request(client, taxa, tmp_path):
    options = {"route": "search", "folder": tmp_path / "s",
               "client": client}
    occurrences.collect(taxa, limit=50, **options)
    with pytest.raises(ValueError, match="another request: limit, years"):
        occurrences.collect(taxa, limit=60, years=(2018, 2020), **options)


def test_a_second_run_on_one_folder_is_refused(client, taxa, tmp_path):
    from geotree.files import lock

    with lock(tmp_path / "s"), pytest.raises(BusyError,
                                             match="another process"):
        occurrences.collect(taxa, route="search", folder=tmp_path / "s",
                            client=client)


def test_an_empty_snapshot_is_named(taxa, tmp_path):
    with pytest.raises(FileNotFoundError, match="no Parquet file at"):
        occurrences.collect(taxa, route="snapshot", folder=tmp_path / "p",
                            snapshot=str(tmp_path / "nothing"))


def test_names_of_folders_are_no_patterns(service, taxa, tmp_path):
    (tmp_path / "records [1] *").mkdir()
    place = gbif.snapshot(tmp_path / "records [1] *", service.frame)
    table = occurrences.collect(taxa, route="snapshot", snapshot=str(place),
                                folder=tmp_path / "p [2]")
    assert len(table) > 300


def test_issues_may_be_a_list_or_a_text(service, taxa, tmp_path):
    frame = service.frame.copy()
    frame["issue"] = [["A", "B"] if row % 2 else [] for row in frame.index]
    text = frame.assign(issue=frame["issue"].map(";".join))
    tables = [occurrences.collect(
        taxa, route="snapshot", folder=tmp_path / name / "p",
        snapshot=str(gbif.snapshot(tmp_path / name, one)))
        for name, one in (("list", frame), ("text", text))]
    same(*tables)
    assert set(tables[0]["issue"].fillna("")) == {"A;B", ""}


def test_a_torn_file_is_named_and_the_others_are_kept(
        service, taxa, tmp_path, monkeypatch):
    monkeypatch.setattr("geotree.occurrences.gbif.FILES", 1)
    place = gbif.snapshot(tmp_path, service.frame, files=3)
    torn, asked = place / "000001", {
        "route": "snapshot", "snapshot": str(place), "folder": tmp_path / "p"}
    whole = torn.read_bytes()
    torn.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ServiceError, match="cannot read .*000001.*are kept:"):
        occurrences.collect(taxa, **asked)
    assert [part.stem for part in (tmp_path / "p" / "parts").iterdir()] == [
        "000000"]
    torn.write_bytes(whole)
    assert len(occurrences.collect(taxa, **asked)) > 300


def test_a_store_out_of_reach_says_what_to_do(taxa, tmp_path, monkeypatch):
    """DuckDB without its extension, as on a machine without a network."""
    monkeypatch.setattr("geotree.occurrences.gbif._SETTINGS",
                        "LOAD '/nowhere/httpfs.duckdb_extension'; -- {}")
    with pytest.raises(ServiceError, match="cannot list 's3://gbif-.*httpfs"
                       ".*copy the files and give their folder"):
        occurrences.collect(taxa, route="snapshot", folder=tmp_path / "p")


# Credentials ----------------------------------------------------------------


def test_the_password_never_leaves_over_http(taxa, account, tmp_path, tls):
    with gbif.Gbif() as plain:
        client = occurrences.Client(plain.url, wait=0.002)
        with pytest.raises(ServiceError, match="not https"):
            occurrences.collect(taxa, route="download", client=client,
                                folder=tmp_path / "d")
        assert not plain.log

        class Turncoat(gbif.Gbif):
            def order(self, call):
                raise gbif.Answer(307, {}, Location=plain.url
                                  + "/v1/occurrence/download/request")

        with Turncoat(tls=tls) as crooked:
            client = occurrences.Client(crooked.url, wait=0.002,
                                        verify=str(tls))
            with pytest.raises(ServiceError, match="answers 307"):
                occurrences.collect(taxa, route="download", client=client,
                                    folder=tmp_path / "e")
        assert not plain.log


def test_the_password_goes_to_downloads_alone_and_into_no_file(
        client, service, taxa, account, tmp_path, capfd, caplog,
        monkeypatch):
    caplog.set_level("DEBUG")
    (tmp_path / "netrc").write_text(
        "machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    occurrences.collect(taxa, route="search", folder=tmp_path / "s",
                        client=client, limit=10)
    table = occurrences.collect(taxa, route="download", poll=0.0,
                                folder=tmp_path / "d", client=client)
    occurrences.write(table, tmp_path / "t.parquet")
    sent = [call for call in service.log if "authorization" in call[
        "headers"]]
    assert [call["path"] for call in sent] == [
        "/v1/occurrence/download/request"]
    secrets = (gbif.PASSWORD, sent[0]["headers"]["authorization"][6:])
    told = "".join([*capfd.readouterr(), caplog.text, repr(vars(client))])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    for secret in secrets:
        assert secret not in told
        assert not any(secret.encode() in path.read_bytes()
                       for path in files)


@pytest.mark.parametrize("password", [None, "expired"])
def test_a_refused_account_says_what_to_set(client, service, taxa, account,
                                            tmp_path, monkeypatch, password):
    if password:
        monkeypatch.setenv("GBIF_PWD", password)
    else:
        monkeypatch.delenv("GBIF_PWD")
    with pytest.raises(ServiceError, match="GBIF_USER .*GBIF_PWD") as error:
        occurrences.collect(taxa, route="download", client=client,
                            folder=tmp_path / "d")
    assert "expired" not in str(error.value)
    monkeypatch.setenv("GBIF_PWD", gbif.PASSWORD)
    assert len(occurrences.collect(taxa, route="download", client=client,
                                   poll=0.0, folder=tmp_path / "d"))


# Under fire -----------------------------------------------------------------

STORM = [429, 500, DROP, TRUNCATE, GARBLE, None, 503, 502, 429, DROP, None]


@pytest.mark.parametrize("route", ["search", "download"])
def test_a_storm_is_sat_out(client, service, taxa, account, tmp_path, route):
    calm = occurrences.collect(taxa, route=route, poll=0.0, client=client,
                               folder=tmp_path / "calm")
    service.faults[:] = STORM
    rough = occurrences.collect(taxa, route=route, poll=0.0, client=client,
                                folder=tmp_path / "rough")
    assert not service.faults
    same(calm, rough)


@pytest.mark.parametrize("wrong", [None, "a text", {
    "results": None, "endOfRecords": True, "diagnostics": [], "status": 1}])
@pytest.mark.parametrize("verb", ["match", "search", "look"])
def test_json_that_is_no_answer_is_asked_for_again_and_never_kept(
        client, service, taxa, account, tmp_path, monkeypatch, verb, wrong):
    real, left = getattr(service, verb), [3]

    def odd(query):
        left[0] -= 1
        return real(query) if left[0] < 0 else (
            f'"{wrong}"'.encode() if isinstance(wrong, str) else wrong)

    monkeypatch.setattr(service, verb, odd)
    route = "search" if verb == "search" else "download"
    again = occurrences.match(NAMES, cache=tmp_path / "again.jsonl",
                              client=client)
    table = occurrences.collect(again, route=route, client=client, poll=0.0,
                                folder=tmp_path / "g")
    assert left[0] < 0 and len(table) > 300
    pd.testing.assert_frame_equal(again, taxa)


def test_json_that_stays_wrong_ends_in_words(client, service, taxa,
                                             tmp_path, monkeypatch):
    monkeypatch.setattr(service, "search", lambda query: {"message": "hm"})
    with pytest.raises(ServiceError, match="no whole answer.*tried 6 "
                       "times.*call again"):
        occurrences.collect(taxa, route="search", client=client,
                            folder=tmp_path / "g")
    monkeypatch.undo()
    assert len(occurrences.collect(taxa, route="search", client=client,
                                   folder=tmp_path / "g")) > 300


def test_a_download_that_breaks_off_goes_on_in_the_middle(
        client, service, taxa, account, tmp_path, monkeypatch):
    monkeypatch.setattr("geotree.occurrences.gbif.BLOCK", 20_000)
    service.faults[:] = [None, None, None, None, TRUNCATE]  # the second part
    occurrences.collect(taxa, route="download", poll=0.0, client=client,
                        folder=tmp_path / "d")
    asked = [call["headers"]["range"]
             for call in service.calls(".zip", done=False)]
    assert asked[:3] == ["bytes=0-19999"] + ["bytes=20000-39999"] * 2
    assert all(call["status"] == 206 for call in service.calls(".zip"))


def test_a_storm_without_end_ends_in_words(client, service, taxa, tmp_path):
    folder = tmp_path / "s"
    service.faults[:] = [None, None] + [429] * 6
    with pytest.raises(ServiceError, match="answers 429 .*tried 6 times.*"
                       "call again later"):
        occurrences.collect(taxa, route="search", folder=folder,
                            client=client)
    assert len(list(folder.glob("page-*"))) == 2
    before = len(service.log)
    table = occurrences.collect(taxa, route="search", folder=folder,
                                client=client)
    assert len(service.log) == before + 2 and len(table) == 1000


def test_the_service_says_how_long_to_wait(client, service, monkeypatch):
    slept = []
    monkeypatch.setattr("geotree.network.time.sleep", slept.append)
    real, states = service.search, [429]

    def search(query):
        if states:
            raise gbif.Answer(states.pop(), {}, Retry_After="17")
        return real(query)

    monkeypatch.setattr(service, "search", search)
    service.seconds = 0
    client.search(taxonKey="1", year="2017,2018", offset=0, limit=1)
    assert 17.0 in slept


def test_a_request_has_one_owner_of_its_retries(client, service, taxa,
                                                tmp_path):
    for ask in (lambda: client.match("Quercus", "", matching.judge),
                lambda: client.title("50c9509d"),
                lambda: client.search(taxonKey="1", year="2017,2018",
                                      offset=0, limit=1)):
        service.log.clear()
        service.faults[:] = [503] * 60
        with pytest.raises(ServiceError, match="answers 503 .*tried 6 times"):
            ask()
        assert len(service.log) == network.TRIES == 6


@pytest.mark.parametrize("wait", ["99999999", "Fri, 01 Jan 2100 00:00:00 GMT",
                                  "9" * 400])
def test_who_is_to_wait_for_long_is_told_until_when(client, service,
                                                    monkeypatch, wait):
    def search(query):
        raise gbif.Answer(429, {}, Retry_After=wait)

    monkeypatch.setattr(service, "search", search)
    start = time.monotonic()
    with pytest.raises(ServiceError, match="come back after 2[01].* UTC"):
        client.search(taxonKey="1", year="2017,2018", offset=0, limit=1)
    assert len(service.log) == 1 and time.monotonic() - start < 2


@pytest.fixture
def endless():
    with without_end() as url:
        yield url


@pytest.mark.parametrize(("kind", "error", "words"), [
    ("drip", network.Unsteady, "not send all of its answer in 1 s"),
    ("fast", ServiceError, "more than 1,000,000 bytes"),
    ("bomb", ServiceError, "more than 1,000,000 bytes")])
def test_a_body_has_an_end(endless, kind, error, words):
    start = time.monotonic()
    with pytest.raises(error, match=words):
        network.body(requests.get(f"{endless}/{kind}", stream=True,
                                  timeout=5), seconds=1.0, size=10**6)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("kind", ["fast", "bomb"])
def test_gbif_without_end_is_refused(endless, kind):
    client = occurrences.Client(f"{endless}/{kind}", wait=0.01)
    for ask in (lambda: client.match("Quercus", "", matching.judge),
                lambda: client.title("a")):
        with pytest.raises(ServiceError, match="no answer to what was asked"):
            ask()


def test_an_interrupt_is_heard_at_once(service, client, tmp_path):
    service.seconds = 20.0
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        occurrences.match(NAMES, cache=tmp_path / "c", client=client)
    assert time.monotonic() - start < 2.5


def test_a_record_without_its_species_is_left_out_and_counted(
        client, service, taxa, tmp_path, monkeypatch):
    real = service.search

    def search(query):
        answer = real(query)
        for one in answer["results"][:3]:
            del one["speciesKey"]
        return answer

    monkeypatch.setattr(service, "search", search)
    for _ in range(2):  # the second run reads what the first one has kept
        with pytest.warns(UserWarning, match="left out: .*no speciesKey"):
            table = occurrences.collect(taxa, route="search", limit=300,
                                        folder=tmp_path / "s", client=client)
        assert len(table) == 297
        assert table.attrs["left out"] == {"no speciesKey": 3}


def short(answer):
    answer["results"] = answer["results"][:20]


@pytest.mark.parametrize("change", [
    short, lambda answer: answer["results"].pop(0),
    lambda answer: answer.update(endOfRecords=True),
    lambda answer: answer.update(results=[], endOfRecords=True)],
    ids=["a smaller page", "a record less", "an early end", "no records"])
def test_fewer_records_than_gbif_counts_are_no_answer(
        client, service, taxa, tmp_path, monkeypatch, change):
    real = service.search

    def search(query):
        answer = real(query)
        change(answer)
        return answer

    monkeypatch.setattr(service, "search", search)
    with pytest.raises(ServiceError, match="no whole answer"):
        occurrences.collect(taxa, route="search", client=client,
                            folder=tmp_path / "s")
    assert not [*(tmp_path / "s").glob("page*")]


def test_a_record_of_another_year_is_left_out_and_counted(
        client, service, taxa, tmp_path, monkeypatch):
    real = service.search

    def search(query):
        answer = real(query)
        answer["results"][5]["year"] = 1850
        return answer

    monkeypatch.setattr(service, "search", search)
    with pytest.warns(UserWarning, match="a year that was not asked for"):
        table = occurrences.collect(taxa, route="search", limit=300,
                                    folder=tmp_path / "s", client=client)
    assert len(table) == 299 and table["year"].min() >= 2017


def test_parts_without_a_record_are_no_fault(service, taxa, tmp_path):
    place = gbif.snapshot(tmp_path, service.frame)
    asked = {"route": "snapshot", "snapshot": str(place)}
    before = occurrences.collect(taxa, folder=tmp_path / "a", **asked)
    (place / "000003").write_bytes(b"")
    service.frame.iloc[:0].to_parquet(place / "000004")
    pd.DataFrame({name: pd.Series([], dtype=object)
                  for name in service.frame}).to_parquet(place / "000005")
    same(before, occurrences.collect(taxa, folder=tmp_path / "b", **asked))


def test_a_family_that_is_not_known_is_not_asked_for(client, service,
                                                     tmp_path):
    names = pd.DataFrame({"species": ["Acer rubrum", "Betula pendula"],
                          "family": [np.nan, "Betulaceae"],
                          "leafType": [None, "Deciduous Broadleaf"]})
    found = occurrences.match(names, cache=tmp_path / "c", client=client)
    asked = {call["query"]["scientificName"][0]: call["query"].get("family")
             for call in service.calls("match")}
    assert asked == {"Acer rubrum": None, "Betula pendula": ["Betulaceae"]}
    assert found["leafType"].tolist() == ["Unknown", "Deciduous Broadleaf"]


@pytest.mark.parametrize("state", ["KILLED", "FAILED", "CANCELLED"])
def test_a_download_that_gbif_ends_is_asked_anew(
        client, service, taxa, account, tmp_path, state):
    service.end = state
    with pytest.raises(ServiceError, match=f"with {state}.*call again"):
        occurrences.collect(taxa, route="download", poll=0.0, client=client,
                            folder=tmp_path / "d")
    service.end = "SUCCEEDED"
    assert len(occurrences.collect(taxa, route="download", poll=0.0,
                                   client=client, folder=tmp_path / "d"))
    assert len(service.downloads) == 2


def test_a_finished_download_asks_nothing_even_when_gbif_has_erased_it(
        client, service, taxa, account, tmp_path):
    asked = {"route": "download", "poll": 0.0, "client": client,
             "folder": tmp_path / "d"}
    table = occurrences.collect(taxa, **asked)
    service.log.clear()
    service.end = "FILE_ERASED"
    again = occurrences.collect(taxa, **asked)
    assert not service.log
    same(table, again)
    assert again.attrs == table.attrs and again.attrs["doi"]


def test_half_of_an_erased_file_does_not_enter_the_next(
        client, service, taxa, account, tmp_path, monkeypatch):
    monkeypatch.setattr("geotree.occurrences.gbif.BLOCK", 20_000)
    asked = {"route": "download", "poll": 0.0, "client": client,
             "folder": tmp_path / "d"}
    service.faults[:] = [None] * 4 + [TRUNCATE] + [500] * 5
    with pytest.raises(ServiceError, match="tried 6 times"):
        occurrences.collect(taxa, **asked)
    assert (tmp_path / "d" / ".download.zip.part").stat().st_size > 1000
    service.end = "FILE_ERASED"
    with pytest.raises(ServiceError, match="FILE_ERASED.*call again"):
        occurrences.collect(taxa, **asked)
    service.end = "SUCCEEDED"
    service.frame = service.frame.iloc[::-1]  # another file
    assert len(occurrences.collect(taxa, **asked)) > 300
    again = [call["headers"]["range"] for call in service.calls(".zip")]
    assert again.count("bytes=0-19999") == 2


RUN = """
import sys
from pathlib import Path
from geotree import occurrences
from geotree.occurrences import gbif
url, tls, folder, route = sys.argv[1:]
gbif.FILES = 1
client = occurrences.Client(url, wait=0.01, verify=tls)
names = ["Acer rubrum", "Betula pendula", "Larix decidua"]
taxa = occurrences.match(names, cache=Path(folder, "names.jsonl"),
                         client=client)
if full:
    fill_disk()
try:
    table = occurrences.collect(
        taxa, route=route, folder=Path(folder, "g"), client=client,
        limit=9000, poll=0.02, years=(2010, 2026),
        snapshot=str(Path(folder).parent / "occurrence"))
    occurrences.write(table, Path(folder, "table.parquet"))
except OSError as error:
    if not full:
        raise
    print(error)
"""


@pytest.fixture
def large(tls):
    with gbif.Gbif(gbif.records(12_000), tls=tls) as running:
        yield running


def runs(service, tls, folder, route):
    """How to start a run in a folder."""
    folder.mkdir()
    return lambda **more: Run(RUN, service.url, tls, folder, route, **more)


def alike(tmp_path):
    one, other = (occurrences.read(tmp_path / name / "table.parquet")
                  for name in ("torn", "whole"))
    same(one, other)
    assert len(one) > 5000


def test_a_search_that_is_killed_asks_for_no_page_twice(large, tls, tmp_path):
    large.seconds = 0.02
    runs(large, tls, tmp_path / "whole", "search")().finish()
    total, torn = len(large.calls("search")), tmp_path / "torn"
    assert total > 25
    large.log.clear()
    start, done = runs(large, tls, torn, "search"), set()

    def repeated():
        """Requests of this run for what was finished before it."""
        return [call["path"] for call in large.log
                if call["query"].get("offset", call["query"].get(
                    "scientificName"))[0] in done]

    for _ in kills(start, lambda: len(large.calls("search")), total):
        assert not repeated()
        large.log.clear()
        done = {str(int(page.stem[-6:]))
                for page in torn.glob("g/page-*.json")}
        names = torn / "names.jsonl"
        done |= ({"Acer rubrum", "Betula pendula", "Larix decidua"}
                 if names.exists() else set())
    assert len(done) > 5
    start().finish()
    assert not repeated()
    assert len(large.calls("search")) == total + 3 - len(done)
    alike(tmp_path)


@pytest.mark.parametrize("spoilt", [TRUNCATE, GARBLE])
def test_an_order_whose_answer_was_lost_is_not_sent_again(
        client, service, taxa, account, tmp_path, spoilt):
    service.faults[:] = [spoilt]
    occurrences.collect(taxa, route="download", poll=0.0, client=client,
                        folder=tmp_path / "d")
    assert len(service.downloads) == 1
    occurrences.collect(taxa, route="download", poll=0.0, client=client,
                        folder=tmp_path / "e", years=(2018, 2020))
    assert len(service.downloads) == 2


def test_killed_between_an_order_and_its_key_it_orders_once(
        service, tls, account, tmp_path):
    service.slow = 30.0
    start = runs(service, tls, tmp_path / "torn", "download")
    run = start()
    while not service.downloads and run.is_alive():
        time.sleep(0.002)
    run.kill()
    note = (tmp_path / "torn" / "g" / "download.json").read_text()
    assert "key" not in note
    service.slow = 0.0
    start().finish()
    assert len(service.downloads) == 1
    assert len(service.calls("download/user")) == 1
    sent = [call["path"] for call in service.log
            if "authorization" in call["headers"]]
    assert all("/download/" in path for path in sent)


def test_a_download_that_is_killed_is_ordered_and_fetched_once(
        large, tls, account, tmp_path):
    large.seconds, large.slow, large.polls = 0.02, 0.1, 30
    runs(large, tls, tmp_path / "whole", "download")().finish()
    total, torn = len(large.log), tmp_path / "torn"
    large.downloads.clear()
    start = runs(large, tls, torn, "download")
    for _ in kills(start, lambda: len(large.log), total):
        assert len(large.downloads) <= 1
    start().finish()
    assert len(large.downloads) == 1
    assert len(large.calls(".zip")) <= 3  # the whole run's, and parts
    alike(tmp_path)


def test_a_snapshot_that_is_killed_keeps_its_parts(large, tls, tmp_path):
    gbif.snapshot(tmp_path, large.frame, files=40)
    runs(large, tls, tmp_path / "whole", "snapshot")().finish()
    torn = tmp_path / "torn"
    start, done = runs(large, tls, torn, "snapshot"), {}

    def parts():
        return {part.name: part.stat().st_mtime_ns
                for part in torn.glob("g/parts/*.parquet")}

    for _ in kills(start, lambda: len(parts()), 40):
        assert done.items() <= parts().items()
        done = parts()
    assert len(done) >= 5
    start().finish()
    assert done.items() <= parts().items()
    alike(tmp_path)


@pytest.mark.parametrize(("route", "size"), [
    ("search", 150_000), ("download", 20_000), ("snapshot", 3_000)])
def test_a_full_disk_is_named_and_what_has_come_is_kept(
        large, tls, account, tmp_path, route, size):
    gbif.snapshot(tmp_path, large.frame, files=3)
    folder = tmp_path / "torn"
    start = runs(large, tls, folder, route)
    out = start(full=size).finish()
    assert "File too large" in out, out
    assert "kept" in out and str(folder) in out
    start().finish()
    runs(large, tls, tmp_path / "whole", route)().finish()
    assert len(large.downloads) <= 2
    alike(tmp_path)
