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
