"""The planet's species and coastlines are sound, row by row."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pandas as pd
import pytest
from matplotlib.path import Path
from natural_earth import MAP, rings_of

COLUMNS = ["species", "genus", "family", "leafType", "commonName",
           "nativeRange", "elevationMin", "elevationMax", "abundance"]
LEAF_TYPES = {"Deciduous Broadleaf", "Evergreen Broadleaf",
              "Evergreen Needleleaf", "Deciduous Needleleaf"}
# Rough boxes: south, north, west, east. Drawn so that none overlap.
CONTINENTS = {
    "Europe": (37.5, 72, -12, 45),
    "Africa": (-36, 37.5, -20, 52),
    "Asia": (5, 75, 60, 165),
    "North America": (7, 75, -170, -50),
    "South America": (-57, 7, -85, -33),
    "Oceania": (-50, 0, 112, 180),
}


def _open(name: str):
    return (resources.files("geotree.data") / name).open(encoding="utf-8")


@pytest.fixture(scope="module")
def species() -> pd.DataFrame:
    with _open("species.csv") as file:
        return pd.read_csv(file, keep_default_na=False)


@pytest.fixture(scope="module")
def boxes(species) -> pd.DataFrame:
    """One row per range box: species, south, north, west, east."""
    rows = [[name, *map(float, box.split(":"))]
            for name, text in zip(species.species, species.nativeRange,
                                  strict=True)
            for box in text.split("|")]
    return pd.DataFrame(
        rows, columns=["species", "south", "north", "west", "east"])


@pytest.fixture(scope="module")
def land():
    """Function: is (longitude, latitude) inside land, by even-odd rule?"""
    paths = [Path(ring) for ring in rings_of(MAP["objects"]["land"])]

    def contains(points: np.ndarray) -> np.ndarray:
        inside = [path.contains_points(points) for path in paths]
        return np.sum(inside, axis=0) % 2 == 1

    return contains


def _on_continents(boxes: pd.DataFrame) -> dict[str, set[str]]:
    lat = (boxes.south + boxes.north) / 2
    lon = (boxes.west + boxes.east) / 2
    return {name: set(boxes.species[lat.between(south, north)
                                    & lon.between(west, east)])
            for name, (south, north, west, east) in CONTINENTS.items()}


# Species -----------------------------------------------------------------

def test_species_have_the_stated_columns_and_no_empty_cell(species):
    assert list(species.columns) == COLUMNS
    assert not (species.astype(str) == "").any(axis=None)
    for column in ["elevationMin", "elevationMax", "abundance"]:
        assert pd.api.types.is_integer_dtype(species[column])


def test_species_are_unique_and_sorted(species):
    assert species.species.is_unique
    assert species.species.is_monotonic_increasing


def test_there_are_many_species_of_many_families(species):
    assert len(species) >= 150
    assert species.family.nunique() >= 50
    assert set(species.leafType) == LEAF_TYPES


def test_names_are_binomials_that_agree_with_genus_and_family(species):
    assert species.species.str.fullmatch(r"[A-Z][a-z]+ [a-z-]+").all()
    assert (species.species.str.split().str[0] == species.genus).all()
    assert (species.groupby("genus").family.nunique() == 1).all()
    assert species.family.str.fullmatch(r"[A-Z][a-z]+aceae").all()


def test_conifers_and_only_conifers_have_needles(species):
    conifers = {"Pinaceae", "Cupressaceae", "Podocarpaceae", "Araucariaceae"}
    needles = species.leafType.str.endswith("Needleleaf")
    assert set(species.family[needles]) == conifers
    assert needles[species.family.isin(conifers)].all()


def test_there_are_relatives_to_learn_from(species):
    assert (species.genus.value_counts() >= 3).sum() >= 8
    assert (species.groupby("family").genus.nunique() >= 2).sum() >= 10


def test_range_boxes_are_well_formed(species, boxes):
    assert boxes.groupby("species").size().between(1, 4).all()
    assert set(boxes.species) == set(species.species)
    assert (boxes.south < boxes.north).all()
    assert (boxes.west < boxes.east).all()
    assert boxes[["south", "north"]].abs().max(axis=None) <= 90
    assert boxes[["west", "east"]].abs().max(axis=None) <= 180
    halves = boxes[["south", "north", "west", "east"]] * 2
    assert (halves == halves.round()).all(axis=None)


def test_every_continent_has_its_species(boxes):
    found = {name: len(members)
             for name, members in _on_continents(boxes).items()}
    assert min(found.values()) >= 10, found


def test_a_few_species_grow_where_they_do(boxes):
    found = _on_continents(boxes)
    home = {"Fagus sylvatica": "Europe", "Adansonia digitata": "Africa",
            "Cryptomeria japonica": "Asia", "Acer rubrum": "North America",
            "Araucaria araucana": "South America",
            "Eucalyptus regnans": "Oceania"}
    for name, continent in home.items():
        assert [c for c in found if name in found[c]] == [continent]


def test_range_boxes_lie_mostly_on_land(boxes, land):
    random = np.random.default_rng(0)
    draw = random.uniform(size=(len(boxes), 100, 2))
    low = boxes[["west", "south"]].to_numpy()[:, None]
    high = boxes[["east", "north"]].to_numpy()[:, None]
    points = (low + draw * (high - low)).reshape(-1, 2)
    share = land(points).reshape(len(boxes), 100).mean(axis=1)
    assert share.mean() > 0.75
    assert share.min() > 0.3, boxes.iloc[share.argmin()].to_dict()


def test_elevations_are_ordered_and_on_earth(species):
    assert (species.elevationMin < species.elevationMax).all()
    assert species.elevationMin.min() >= 0
    assert species.elevationMax.max() <= 5200


def test_abundance_is_long_tailed(species):
    weight = species.abundance.sort_values(ascending=False)
    assert weight.between(1, 100).all()
    top = weight.head(len(weight) // 10).sum()
    assert top / weight.sum() > 0.35
    assert (weight <= 5).sum() >= 30


# Countries and land ------------------------------------------------------

def test_every_country_has_an_iso_code():
    countries = MAP["objects"]["countries"]["geometries"]
    codes = {c["properties"]["name"]: c["properties"]["iso_a2"]
             for c in countries}
    assert len(codes) == len(countries) == 177
    assert all(len(c) == 2 and c.isascii() and c.isupper()
               for c in codes.values())
    known = {"France": "FR", "Kenya": "KE", "Norway": "NO", "Namibia": "NA",
             "Kosovo": "XK", "N. Cyprus": "CY", "Somaliland": "SO"}
    assert {name: codes[name] for name in known} == known


@pytest.mark.parametrize("layer", ["countries", "land"])
def test_world_decodes_to_closed_rings_on_the_globe(layer):
    rings = rings_of(MAP["objects"][layer])
    assert len(rings) > 100
    for ring in rings:
        assert len(ring) >= 4
        np.testing.assert_allclose(ring[0], ring[-1])
    points = np.concatenate(rings)
    assert np.abs(points[:, 0]).max() <= 180 + 1e-6
    assert np.abs(points[:, 1]).max() <= 90


def test_land_is_land_and_sea_is_sea(land):
    cities = {"Paris": (2.35, 48.86), "Nairobi": (36.82, -1.29),
              "Manaus": (-60.02, -3.12), "Sydney": (150.9, -33.8)}
    seas = {"mid-Atlantic": (-30, 0), "mid-Pacific": (-140, 10),
            "Indian Ocean": (80, -30), "Caspian": (50.5, 42)}
    np.testing.assert_array_equal(land(np.array([*cities.values()])), True)
    np.testing.assert_array_equal(land(np.array([*seas.values()])), False)


def test_country_of_a_city_is_found():
    cities = {"FR": (2.35, 48.86), "KE": (36.82, -1.29), "AU": (150.9, -33.8)}
    for country in MAP["objects"]["countries"]["geometries"]:
        inside = np.sum([Path(ring).contains_points([*cities.values()])
                         for ring in rings_of(country)], axis=0) % 2 == 1
        expected = [code == country["properties"]["iso_a2"]
                    for code in cities]
        np.testing.assert_array_equal(inside, expected)


def test_the_outline_is_small():
    path = resources.files("geotree.data") / "land.json"
    assert len(path.read_bytes()) < 120_000


def test_reference_points_lie_where_their_names_do():
    """Hand-looked-up places, and each point in or beside its land."""
    from geotree import globe
    from geotree.data import load

    points = load("reference_points.csv")
    assert points["kind"].unique().tolist() == ["country", "capital",
                                                "garden"]
    assert not points.duplicated(["kind", "name"]).any()
    assert points["latitude"].between(-90, 90).all()
    assert points["longitude"].between(-180, 180).all()
    where = points.set_index(["kind", "name"]).to_numpy().round(1).tolist()
    told = dict(zip(points.set_index(["kind", "name"]).index, where,
                    strict=True))
    assert told["country", "Germany"] == [51.0, 9.0]
    assert told["country", "Brazil"] == [-10.0, -55.0]
    assert told["capital", "Canberra"] == [-35.3, 149.1]
    assert told["capital", "Washington, D.C."] == [38.9, -77.0]
    assert told["garden", "Kew"] == [51.5, -0.3]
    capitals = points[points["kind"] == "capital"]
    land = np.zeros(len(capitals), bool)
    for north in (-1, 0, 1):
        for east in (-1, 0, 1):
            land |= globe.is_land(lat=capitals["latitude"] + north / 2,
                                  lon=capitals["longitude"] + east / 2)
    assert land.mean() > 0.85  # the others are on islands too small to draw
