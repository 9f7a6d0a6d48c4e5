"""The chain: settings read once, each step opened, or made if it must be."""

import shutil

import numpy as np
import pandas as pd
import pytest

from geotree import chain, occurrences, shards
from geotree.planet.climate import TABLES
from geotree.planet.source import Planet


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """A planet run of a few hundred records in an empty folder."""
    monkeypatch.setenv("GEOTREE_DATA", str(tmp_path))
    yield tmp_path
    chain.use()


def tiny(**changes) -> chain.Run:
    return chain.use(**{"records": 900, "epochs": 1,
                        "block_degrees": 5.0} | changes)


def test_unknown_run_is_an_error(monkeypatch):
    monkeypatch.setenv("GEOTREE_RUN", "huge")
    with pytest.raises(ValueError, match="expected one of 'sample', 'full'"):
        chain.settings()


def test_full_run_is_larger(monkeypatch):
    monkeypatch.setenv("GEOTREE_RUN", "sample")
    sample = chain.settings()
    monkeypatch.setenv("GEOTREE_RUN", "full")
    assert chain.settings().records > 10 * sample.records


def test_missing_table_is_an_error(monkeypatch):
    monkeypatch.setenv("GEOTREE_TABLE", "nowhere.csv")
    with pytest.raises(FileNotFoundError, match="nowhere.csv"):
        chain.real_table()


def test_settings_can_be_passed_or_come_from_the_environment(monkeypatch):
    assert tiny(source="stac", options={"url": "http://127.0.0.1:9"}
                ).records == 900
    assert chain.source().url == "http://127.0.0.1:9"
    chain.use(chain.Run(seed=3))
    assert chain.planet().seed == 3 and chain.simulated()
    chain.use()
    assert chain.settings() == chain.Run()
    monkeypatch.setenv("GEOTREE_STAC_URL", "http://127.0.0.1:8")
    monkeypatch.setenv("GEOTREE_SOURCE", "stac")
    assert chain.use(records=7).records == 7
    assert chain.source().url == "http://127.0.0.1:8"


def test_tables_have_folders_of_their_own(small, monkeypatch):
    tiny()
    planet = chain.folder()
    path = occurrences.write_release(chain.occurrences(), small / "t.csv")
    seen = {planet}
    for name in ("A", "B"):
        (small / name).mkdir()
        other = small / name / "t.csv"
        other.write_bytes(path.read_bytes())
        tiny(table=str(other))
        seen.add(chain.folder())
    assert len(seen) == 3
    assert "Real occurrences" in chain.provenance()
    assert chain.optimum(None, None) is None


@pytest.mark.parametrize("name", ["GEOTREE_SOURCE", "GEOTREE_ROUTE"])
def test_an_unknown_source_or_route_is_an_error(monkeypatch, name):
    monkeypatch.setenv(name, "moon")
    with pytest.raises(ValueError, match=f"{name} is 'moon', expected one"):
        chain.folder()


def test_sources_and_routes_have_folders_of_their_own(small, monkeypatch):
    seen = {chain.folder()}
    for source in ("earthengine", "stac"):
        monkeypatch.setenv("GEOTREE_SOURCE", source)
        assert chain.source().name == source
        assert chain.source().origin in chain.provenance()
        assert "pixels are real" in chain.provenance()
        assert chain.optimum(None, None) is None
        for way in ("", "search"):
            monkeypatch.setenv("GEOTREE_ROUTE", way)
            seen.add(chain.folder())
    assert len(seen) == 5
    monkeypatch.setenv("GEOTREE_STAC_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GEOTREE_STAC_RASTERS", "http://127.0.0.1:1/a.json")
    assert "catalogue on this machine" in chain.provenance()
    monkeypatch.setenv("GEOTREE_YEAR", "own")
    assert chain.source().year == "own"


def test_the_same_chain_on_the_real_services(small, monkeypatch):
    """From GBIF to a cube of Earth Engine, by settings alone."""
    import ee
    from fake_source import FakeSource
    from loopback import earthengine as engine, gbif

    with gbif.Gbif() as service:
        names = small / "trees.csv"
        names.write_text("species,leafType\n"
                         "Betula pendula,Deciduous Broadleaf\n"
                         "Larix decidua,Deciduous Needleleaf\n")
        for name, value in {
                "ROUTE": "search", "SOURCE": "earthengine",
                "GBIF_URL": service.url, "TAXA": str(names)}.items():
            monkeypatch.setenv(f"GEOTREE_{name}", value)
        table = chain.occurrences()
    assert set(table["species"]) == {"Betula pendula", "Larix decidua"}
    assert (table["coordinateUncertaintyInMeters"].fillna(0) <= 30).all()
    with engine.EarthEngine(table, FakeSource()) as service:
        engine.install(service.url)
        cube = chain.cube()
        ee.Reset()
    np.testing.assert_array_equal(
        cube["reflectance"], FakeSource().fetch(table).reflectance)
    assert cube.attrs["product"] == "COPERNICUS/S2_SR_HARMONIZED"
    assert "GBIF occurrence search" in cube.attrs["table_source"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with all files of a small run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOTREE_DATA", str(tmp_path_factory.mktemp("whole")))
        tiny()
        chain.model()
        chain.baselines("test")
        yield chain.folder()


@pytest.fixture
def made(whole, small):
    """A copy of it, as this test's own."""
    tiny()
    chain.folder().parent.mkdir()
    shutil.copytree(whole, chain.folder())
    return chain.folder()


def ages(folder) -> dict:
    return {name: (folder / path).stat().st_mtime_ns
            for name, path in chain.FILES.items()}


def test_from_an_empty_folder_to_a_model(made):
    before, model, parts = ages(made), chain.model(), chain.parts()
    assert ages(made) == before, "nothing is made twice"
    assert set(parts) == {"train", "validation", "test", "held out"}
    seen = set(parts["train"].table["species"])
    assert not seen & set(parts["held out"].table["species"])
    assert sum(map(len, parts.values())) == len(chain.shards())
    best = chain.optimum(parts["test"].load(), chain.shards().classes)
    np.testing.assert_allclose(best.sum(axis=1), 1)
    again = chain.model()
    assert all((a == b).all() for a, b in zip(
        model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(("change", "stays"), [
    ({"epochs": 2}, {"occurrences", "cube", "shards", "split", "baselines"}),
    ({"held_out": 0.3}, {"occurrences", "cube", "shards"}),
    ({"records": 700}, set()),
    ({"seed": 1}, set())])
def test_what_was_made_from_something_else_is_made_again(made, change,
                                                         stays):
    before = ages(made)
    tiny(**change)
    chain.splits()
    after = ages(made)
    kept = {name for name in after if after[name] == before[name]}
    assert kept == stays | {"baselines", "model"}
    if "shards" in stays:
        chain.baselines("validation")
        if change == {"epochs": 2}:
            chain.model()
        again = {name for name, age in ages(made).items()
                 if age != after[name]}
        assert again == {"model" if "baselines" in stays else "baselines"}


def test_what_another_planet_made_is_made_again(made, monkeypatch):
    before = ages(made)
    monkeypatch.setitem(TABLES, "crowds", TABLES["crowds"][1:])
    chain.splits()
    after = ages(made)
    assert {name for name in after if after[name] == before[name]} == {
        "baselines", "model"}


def test_a_table_put_in_the_folder_is_used_and_noticed(made):
    own = Planet(seed=5).occurrences(300)
    occurrences.write(own, made / "occurrences.parquet")
    data = chain.shards()
    assert set(data.table["gbifID"]) == set(own["gbifID"])
    assert set(chain.cube()["sample"].to_numpy()) == set(own["gbifID"])
    assert sum(map(len, chain.parts().values())) == len(own)
    pd.testing.assert_series_equal(chain.occurrences()["species"],
                                   own["species"])
    assert "your 'occurrences.parquet'" in chain.provenance()
    assert chain.optimum(None, None) is None, "its truth is not known"
    chain.use_planet()  # for a page that has to be of another table
    assert chain.simulated() and chain.folder().is_relative_to(made)
    assert chain.folder() != made and (made / "occurrences.parquet").exists()


@pytest.mark.parametrize("name", ["shards", "split", "model"])
def test_a_file_that_nobody_knows_is_refused_by_name(made, name):
    path = made / chain.FILES[name]
    if path.is_dir():
        path = next(path.glob("*.json"))
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(FileExistsError, match=chain.FILES[name]):
        chain.model()
    assert path.exists()


def test_a_chapter_makes_a_file_by_hand(small):
    tiny()
    table = Planet().occurrences(400)
    with chain.making("occurrences") as path:
        occurrences.write(table, path)
    assert len(chain.occurrences()) == 400 and chain.simulated()
    with pytest.raises(KeyError), chain.making("shards") as path:
        shards.write(chain.cube(), table, path)
        raise KeyError("a fault of the chapter")
    with pytest.raises(FileExistsError, match="shards"):
        chain.shards()


def test_a_table_of_eight_species_without_relatives_or_countries(small):
    """And without a rarity of its own, in a column of latitudes."""
    rng = np.random.default_rng(0)
    names = ["Acer rubrum", "Pinus nigra", "Quercus alba", "Fagus sylvatica",
             "Betula pendula", "Tilia cordata", "Ulmus glabra",
             "Larix decidua"]
    rows = pd.DataFrame({"species": np.repeat(names, 25),
                         "lat": rng.uniform(45, 52, 200),
                         "lon": rng.uniform(5, 15, 200)})
    rows.to_csv(small / "mine.csv", index=False)
    tiny(table=str(small / "mine.csv"), block_degrees=1.0)
    parts = chain.parts()
    assert len(parts["held out"]) == 0 and len(parts["test"]) > 0
    assert sum(map(len, parts.values())) == 200
    assert len(chain.seen_classes()) == 8
    assert chain.optimum(None, None) is None


def test_a_table_keeps_its_own_rarity(small):
    table = Planet().occurrences(600).assign(rarity="Frequent")
    path = occurrences.write_release(table, small / "t.csv")
    tiny(table=str(path))
    assert set(chain.occurrences()["rarity"]) == {"Frequent"}
