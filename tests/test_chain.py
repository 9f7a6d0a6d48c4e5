"""The chain: settings read once, each step made if it is missing."""

from dataclasses import replace

import numpy as np
import pytest

from geotree import chain, occurrences


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A planet run of a few hundred records in an empty folder."""
    monkeypatch.setenv("GEOTREE_DATA", str(tmp_path))
    monkeypatch.delenv("GEOTREE_TABLE", raising=False)
    monkeypatch.delenv("GEOTREE_RUN", raising=False)
    run = replace(chain.Run(), records=900, epochs=1, block_degrees=5.0)
    monkeypatch.setattr(chain, "settings", lambda: run)
    return tmp_path


def test_unknown_run_is_an_error(monkeypatch):
    monkeypatch.setenv("GEOTREE_RUN", "huge")
    with pytest.raises(ValueError, match="'sample' or 'full'"):
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


def test_tables_have_folders_of_their_own(small, monkeypatch):
    planet = chain.folder()
    path = occurrences.write_release(chain.occurrences(), small / "t.csv")
    monkeypatch.setenv("GEOTREE_TABLE", str(path))
    assert chain.folder() != planet
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
    from loopback import earthengine as engine
    from loopback import gbif

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


def test_from_an_empty_folder_to_a_model(small):
    model = chain.model()
    parts = chain.parts()
    assert set(parts) == {"train", "validation", "test", "held out"}
    seen = set(parts["train"].table["species"])
    assert not seen & set(parts["held out"].table["species"])
    assert sum(map(len, parts.values())) == len(chain.shards())
    best = chain.optimum(parts["test"].load(), chain.shards().classes)
    np.testing.assert_allclose(best.sum(axis=1), 1)
    made = sorted(path.name for path in chain.folder().iterdir())
    again = chain.model()  # nothing is made twice
    assert sorted(p.name for p in chain.folder().iterdir()) == made
    assert all((a == b).all() for a, b in zip(
        model.parameters(), again.parameters(), strict=True))
