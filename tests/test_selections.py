"""Selections of taxa: the release's file, both ways."""

import json

import numpy as np
import pandas as pd
import pytest

from geotree.release import selections

RELEASE = {
    "seed": 42,
    "family_level": {"selected_families": [
        {"name": "Rosaceae", "category": "Rare"},
        {"name": "Fagaceae", "category": "Common"}]},
    "genus_level": {"source_family_from_initial_selection": "Rosaceae",
                    "selected_genera": ["Prunus", "Pyrus"]},
    "species_level": {"source_family": "Rosaceae",
                      "source_genus_from_selected_genera": "Prunus",
                      "selected_species": ["Prunus avium"]}}


@pytest.fixture
def table():
    rows = [("Rosaceae", "Prunus", "Prunus avium", "Frequent"),
            ("Rosaceae", "Prunus", "Prunus avium", "Frequent"),
            ("Rosaceae", "Prunus", "Prunus padus", "Rare"),
            ("Rosaceae", "Pyrus", "Pyrus communis", "Rare"),
            ("Rosaceae", "Malus", "Malus sylvestris", "Rare"),
            ("Fagaceae", "Quercus", "Quercus robur", "Common"),
            ("Pinaceae", "Pinus", "Pinus nigra", "Common"),
            ("Elsewhere", "Prunus", "Prunus falsa", "Common")]
    return pd.DataFrame(rows, columns=["family", "genus", "species",
                                       "rarity"])


def test_a_file_of_the_release_selects_rows(table, tmp_path):
    path = tmp_path / "tsne_selections.json"
    path.write_text(json.dumps(RELEASE))
    found = selections.read(path)
    for rank, numbers in (("family", [0, 1, 2, 3, 4, 5]),
                          ("genus", [0, 1, 2, 3]), ("species", [0, 1])):
        keep = selections.rows(table, found, rank)
        assert np.flatnonzero(keep).tolist() == numbers
    assert selections.write(found, tmp_path / "a/b.json").exists()
    assert selections.read(tmp_path / "a/b.json") == RELEASE


def test_what_is_drawn_has_the_form_of_the_release(table, tmp_path):
    found = selections.draw(table, n=3, seed=1)
    assert found == selections.draw(table, n=3, seed=1)
    assert found.keys() == RELEASE.keys()
    for rank in selections.RANKS:
        assert found[f"{rank}_level"].keys() == RELEASE[
            f"{rank}_level"].keys()
        assert len(selections.names(found, rank)) <= 3
        assert set(table.loc[selections.rows(table, found, rank), rank]
                   ) == set(selections.names(found, rank))
    drawn = [selections.names(selections.draw(table, n=2, seed=s), "family")
             for s in range(20)]
    assert len(set(map(tuple, drawn))) > 2
    assert all("Rosaceae" in names for names in drawn)
    whole = selections.draw(table, n=9)
    assert whole["genus_level"]["source_family_from_initial_selection"
                                ] == "Rosaceae"
    assert selections.names(whole, "species") == ["Prunus avium",
                                                  "Prunus padus"]
    often = selections.draw(table, n=9, least=2)
    assert selections.names(often, "family") == ["Rosaceae"]
    assert selections.names(often, "species") == ["Prunus avium"]
    categories = {row["name"]: row["category"] for row
                  in whole["family_level"]["selected_families"]}
    assert categories["Pinaceae"] == "Common"


@pytest.mark.parametrize(("change", "message"), [
    (lambda s: s.pop("genus_level"), "lack 'genus_level'"),
    (lambda s: s["species_level"].pop("source_family"), "'source_family'"),
    (lambda s: s["family_level"].update(selected_families=[]), "are empty"),
    (lambda s: s["family_level"].update(selected_families=["Rosaceae"]),
     "rank 'family' lack")])
def test_another_file_is_refused(tmp_path, change, message):
    content = json.loads(json.dumps(RELEASE))
    change(content)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"x.json' is no.*{message}"):
        selections.read(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="no file of selections"):
        selections.read(path)


def test_nothing_to_show_is_an_error(table):
    with pytest.raises(ValueError, match="none of 1 records"):
        selections.rows(table.iloc[[6]], RELEASE, "genus")
    with pytest.raises(ValueError, match="expected one of"):
        selections.rows(table, RELEASE, "order")
    with pytest.raises(ValueError, match="nothing to choose"):
        selections.draw(table.iloc[:0])
