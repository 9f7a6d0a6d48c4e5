"""Each planted fault is found, and nothing else is accused."""

import numpy as np
import pandas as pd
import pytest

from geotree import globe, occurrences

GOOD = [
    ("Betula pendula", "Betulaceae", "Deciduous Broadleaf", 5331916, 61, 25),
    ("Eucalyptus regnans", "Myrtaceae", "Evergreen Broadleaf", 3176100,
     -37, 146),
    ("Larix decidua", "Pinaceae", "Deciduous Needleleaf", 2686212, 46, 10),
    ("Pinus sylvestris", "Pinaceae", "Evergreen Needleleaf", 5285637,
     58, 15),
    ("Sorbus aria", "Rosaceae", "Deciduous Broadleaf", 3012680, 47, 8),
]
EACH = 20  # records of a species


def good_table(seed=0):
    """A hundred plausible records of five species, some km apart."""
    rng = np.random.default_rng(seed)
    rows = []
    for name, family, leaf, key, lat, lon in GOOD:
        for _ in range(EACH):
            rows.append({
                "gbifID": 4_000_000_000 + len(rows),
                "decimalLatitude": lat + rng.uniform(-2, 2),
                "decimalLongitude": lon + rng.uniform(-2, 2),
                "coordinateUncertaintyInMeters": 8.0,
                "countryCode": "DE", "year": 2021, "datasetKey": "d",
                "datasetName": "Citizen observations",
                "license": "CC0_1_0", "taxonKey": key, "species": name,
                "genus": name.split()[0], "family": family,
                "leafType": leaf})
    return pd.DataFrame(rows)


def change(rows, **values):
    """A good table of which some rows are spoiled."""
    table = good_table()
    for name, value in values.items():
        table.loc[table.index[rows], name] = value
    return table


def test_a_good_table_has_no_findings():
    found = occurrences.audit(good_table())
    assert found.empty, found
    assert found.columns.tolist() == [
        "rule", "species", "rows", "evidence", "severity"]
    assert found.attrs["skipped"] == ["not_a_tree", "equal_pixels",
                                      "no_tree_by_kin"]


FAULTS = {
    "higher_rank_key": (slice(80, 100), {"taxonKey": 5015}),
    "rounded_key": (slice(0, 20), {"taxonKey": 10_700_000}),
    "shared_key": (slice(20, 40), {"taxonKey": 5331916}),
    "unresolved_name": (slice(3, 8), {"species": "Betula spec"}),
    "genus_mismatch": (slice(45, 48), {"genus": "Pseudolarix"}),
    "not_a_plant": (slice(0, 20), {
        "species": "Dryocopus martius", "genus": "Dryocopus",
        "family": "Picidae"}),
    "herb_or_vine": (slice(0, 20), {
        "species": "Sonchus asper", "genus": "Sonchus",
        "family": "Asteraceae"}),
    "low_growth": (slice(0, 20), {
        "species": "Vaccinium myrtillus", "genus": "Vaccinium",
        "family": "Ericaceae"}),
    "leaf_type": (slice(40, 60), {"leafType": "Evergreen Needleleaf"}),
    "lineage_conflict": (slice(0, 4), {"leafType": "Evergreen Broadleaf"}),
    "machine_identified": (slice(60, 67), {
        "datasetName": "Pl@ntNet automatically identified occurrences"}),
    "planted": (slice(60, 62), {"datasetName": "Tree planting occurrences"}),
    "zero_coordinates": (slice(60, 63), {
        "decimalLatitude": 0.0, "decimalLongitude": 0.0}),
    "stray_record": (slice(7, 8), {"decimalLongitude": -70.0}),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(rule):
    rows, values = FAULTS[rule]
    table = change(rows, **values)
    before = table.copy()
    found = occurrences.audit(table)
    count = len(range(*rows.indices(len(table))))
    if rule == "shared_key":  # accuses both names
        assert set(found["species"]) == {"Betula pendula",
                                         "Eucalyptus regnans"}
        count *= 2
    assert set(found["rule"]) == {rule}, found
    assert found["rows"].sum() == count
    expected = np.zeros(len(table), bool)
    expected[rows] = True
    if rule != "shared_key":
        np.testing.assert_array_equal(
            occurrences.marked(table, rules=[rule]), expected)
    pd.testing.assert_frame_equal(table, before)


def test_every_rule_has_its_planted_fault():
    elsewhere = {"spatial_duplicate", "shared_point", "wide_range",
                 "not_a_tree", "equal_pixels", "no_tree_by_kin"}
    assert set(occurrences.AUDIT) == set(FAULTS) | elsewhere
    for rule in occurrences.AUDIT.values():
        assert rule.find.__doc__ and rule.severity in ("drop", "look")


def test_evidence_names_the_key_and_its_rank():
    found = occurrences.audit(change(slice(80, 100), taxonKey=5015))
    assert found["evidence"].tolist() == [
        "taxonKey 5015 is the family Rosaceae"]
    found = occurrences.audit(change(slice(80, 100), taxonKey=7707728))
    assert "Tracheophyta" in found["evidence"][0]
    found = occurrences.audit(change(slice(80, 100), taxonKey=8800))
    assert "key below 1,000,000" in found["evidence"][0]


def test_an_unknown_key_is_no_finding():
    assert occurrences.audit(change(slice(0, 100), taxonKey=0)).empty


@pytest.mark.parametrize("name", [
    "Asimina spec", "Quercus sp.", "Quercus", "quercus robur",
    "Quercus cf. robur", "Unknown", "", "Salix indet"])
def test_unresolved_names(name):
    found = occurrences.audit(change(slice(0, 20), species=name),
                           rules=["unresolved_name"])
    assert found["rows"].tolist() == [20]


@pytest.mark.parametrize("name", [
    "Quercus robur", "Populus × canadensis", "Platanus x hispanica",
    "Arctostaphylos uva-ursi", "Hippophaë rhamnoides",
    "Betula pubescens var. pumila", "Quercus hybrida", "Aloe spectabilis"])
def test_resolved_names(name):
    assert occurrences.audit(change(slice(0, 20), species=name),
                          rules=["unresolved_name"]).empty


@pytest.mark.parametrize("species, family, wrong", [
    ("Colotis danae", "Fabaceae", True),  # the family it was matched to
    ("Semnopithecus entellus", "Cercopithecidae", True),
    ("Thyridia psidii", "Nymphalidae", True),  # known by its family alone
    ("Morus alba", "Moraceae", False),  # a gannet is a Morus, too
    ("Acacia dealbata", "Leguminosae", False),
])
def test_animals_are_told_from_their_namesakes(species, family, wrong):
    table = change(slice(0, 20), species=species, family=family,
                   genus=species.split()[0])
    assert len(occurrences.audit(table, rules=["not_a_plant"])) == wrong


def test_repeats_in_a_cell_are_counted_once_less():
    table = good_table()
    place = ["decimalLatitude", "decimalLongitude"]
    for row in (1, 2):
        table.loc[row, place] = table.loc[0, place].to_numpy()
    found = occurrences.audit(table)
    assert found["rule"].tolist() == ["spatial_duplicate"]
    assert found["rows"].tolist() == [2]
    marked = occurrences.marked(table, rules=["spatial_duplicate"])
    assert np.flatnonzero(marked).tolist() == [1, 2]


def test_species_on_one_point_are_accused_together():
    table = good_table()
    place = ["decimalLatitude", "decimalLongitude"]
    table.loc[90, place] = table.loc[0, place].to_numpy()
    found = occurrences.audit(table, rules=["shared_point"])
    assert found["species"].tolist() == ["Betula pendula", "Sorbus aria"]


def test_a_wide_range_is_to_be_looked_at():
    table = good_table()
    table.loc[[0, 1, 2, 3], "decimalLatitude"] = [-41.1, -41.2, -41.3, -41.4]
    table.loc[[0, 1, 2, 3], "decimalLongitude"] = 174.5
    found = occurrences.audit(table)
    assert found["rule"].tolist() == ["wide_range"]
    assert found["severity"].tolist() == ["look"]
    assert "over 17,054 km apart" in found["evidence"][0]


def test_range_crosses_the_antimeridian_without_harm():
    table = good_table()
    lon = np.linspace(175, 185, EACH)
    table.loc[:EACH - 1, "decimalLongitude"] = (lon + 180) % 360 - 180
    assert occurrences.audit(table).empty


def test_faults_at_zero_do_not_accuse_the_range():
    table = change(slice(0, 3), decimalLatitude=0.0, decimalLongitude=0.0)
    assert set(occurrences.audit(table)["rule"]) == {"zero_coordinates"}


def test_rules_without_their_columns_are_named_not_forgotten():
    table = good_table()[["species", "genus", "family"]]
    found = occurrences.audit(table)
    assert "wide_range" in found.attrs["skipped"]
    assert "genus_mismatch" not in found.attrs["skipped"]
    assert not occurrences.marked(table, rules=["higher_rank_key"]).any()


def test_audit_says_what_it_cannot_use():
    with pytest.raises(ValueError, match="no audit rule wide; there are"):
        occurrences.audit(good_table(), rules=["wide"])
    with pytest.raises(ValueError, match="empty"):
        occurrences.audit(good_table().iloc[:0])
    with pytest.raises(ValueError, match="read_release"):
        occurrences.audit(pd.DataFrame({"level3_species": ["Acer rubrum"]}))


def test_index_of_the_table_does_not_matter():
    table = change(slice(7, 8), decimalLongitude=-70.0)
    other = table.set_index(table["gbifID"].to_numpy()[::-1])
    pd.testing.assert_frame_equal(occurrences.audit(other),
                                  occurrences.audit(table))


def test_cells_are_as_wide_as_they_are_high():
    for lat in (0.0, 50.0, -65.0):
        step = 100 / (globe.METRES * np.cos(np.radians(lat)))
        lon = 20 + np.arange(50) * step  # a point every 100 m eastwards
        cells = globe.cells(pd.DataFrame({
            "decimalLatitude": lat, "decimalLongitude": lon}), metres=100)
        assert len(set(cells[:, 0])) == 1
        assert 49 <= len(set(cells[:, 1])) <= 50


# ---- a list of trees is asked first ----

CHECKLIST = pd.DataFrame([
    # name as such lists write it, family, growth form
    ("Betula pendula Roth", "Betulaceae", "tree"),
    ("Eucalyptus regnans F.Muell.", "Myrtaceae", "Tree"),
    ("Sonchus asper (L.) Hill", "Asteraceae", "annual herb"),
    ("Sonchus arboreus DC.", "Asteraceae", "shrub or tree"),
    ("Lactuca sativa", "Asteraceae", "herb"),
    ("Lactuca virosa", "Asteraceae", "herb"),
    ("Lactuca serriola", "Asteraceae", "herb"),
    ("Sorbus aria", "Rosaceae", "shrub"),
    ("Sorbus aria (L.) Crantz", "Rosaceae", "tree"),
    ("Sorbus", "Rosaceae", "tree"), ("Acer rubrum", "Sapindaceae", None),
], columns=["taxon_name", "family", "lifeform_description"])


def named(species, family, rows=slice(0, 20)):
    return change(rows, species=species, genus=species.split()[0],
                  family=family)


def findings(table, **how):
    found = occurrences.audit(table, **how)
    return found[["rule", "species", "severity"]].to_numpy().tolist()


def test_a_list_that_knows_a_tree_overrules_the_short_lists():
    table = named("Sonchus arboreus", "Asteraceae")
    table.loc[20:39, ["species", "genus"]] = ["Sambucus ebulus", "Sambucus"]
    assert findings(table, rules=["herb_or_vine"]) == [
        ["herb_or_vine", "Sambucus ebulus", "drop"]]
    wild = pd.DataFrame({"species": ["Sambucus ebulus"], "habit": ["Baum"]})
    assert findings(table, rules=["herb_or_vine"], trees=wild) == []
    kept = occurrences.flag(table.assign(taxonKey=0), trees=wild)
    assert not kept["flagTaxon"].any()


def test_a_checklist_tells_herbs_and_judges_the_rest_by_their_kin():
    table = named("Sonchus asper", "Asteraceae")
    table.loc[20:39, ["species", "genus", "family"]] = [
        "Lactuca perennis", "Lactuca", "Asteraceae"]
    table.loc[40:49, ["species", "genus", "family"]] = [
        "Crepis alpina", "Crepis", "Asteraceae"]
    found = occurrences.audit(table, trees=CHECKLIST, rules=[
        "not_a_tree", "no_tree_by_kin"])
    assert found[["rule", "species", "rows", "evidence"]].to_numpy(
    ).tolist() == [
        ["not_a_tree", "Sonchus asper", 20, "the list says annual herb"],
        ["no_tree_by_kin", "Lactuca perennis", 20,
         "0% of its kin on the list are trees"],
        ["no_tree_by_kin", "Crepis alpina", 10,
         "20% of its kin on the list are trees"]]
    assert found.attrs["skipped"] == []
    flagged = occurrences.flag(table, trees=CHECKLIST)["flagNotTree"]
    assert flagged.tolist() == [True] * 20 + [False] * 80


def test_kin_is_measured_on_the_list_each_name_left_out():
    """By hand: each Lactuca has two herbs of its genus beside it, each
    Sonchus one of the other kind, the others nobody."""
    told = occurrences.audit(good_table(), trees=CHECKLIST).attrs["measured"]
    kin = told["no_tree_by_kin"]
    assert (kin["accused"], kin["right"], kin["no tree"]) == (4, 3, 4)
    assert (kin["precision"], kin["recall"]) == (0.75, 0.75)
    assert told["herb_or_vine"]["accused"] == 1  # Sonchus asper
    assert told["herb_or_vine"]["recall"] == 0.25


@pytest.mark.parametrize("make", ["csv", "frame", "names"])
def test_a_list_of_all_trees_leaves_the_others_out(tmp_path, make):
    """As BGCI's GlobalTreeSearch has it: names, authors, nothing else."""
    trees = pd.DataFrame({"TaxonName": [
        "Betula pendula", "Betula nana", "Eucalyptus regnans",
        "Larix decidua", "Pinus sylvestris", "not a name"], "Author": "L."})
    if make == "csv":
        path = tmp_path / "trees.csv"
        trees.to_csv(path, index=False, encoding="latin-1")
        trees = path
    elif make == "names":
        trees = trees["TaxonName"].tolist()
    found = occurrences.audit(change(slice(0, 5), species="Betula foetida",
                                     taxonKey=0), trees=trees)
    assert found[["species", "evidence"]].to_numpy().tolist() == [
        ["Sorbus aria",
         "not on the list of trees, which has 0 of its genus"],
        ["Betula foetida",
         "not on the list of trees, which has 2 of its genus"]]
    assert set(found["severity"]) == {"drop"}
    assert found.attrs["measured"] == {}  # of trees alone nothing is learnt
    known = occurrences.read_trees(trees)
    assert len(known) == 5 and known.attrs["left out"] == 1


@pytest.mark.parametrize(("trees", "words"), [
    ([], "no name of a species in its 0 rows"), (["sp.", "x"], "2 rows"),
    (pd.DataFrame({"a": [1]}), "no column that looks like names"),
    (pd.DataFrame({"species": ["Acer rubrum"], "habit": [None]}),
     "with a growth form in its 1 rows"),
    (pd.DataFrame({"species": ["Acer rubrum"], "habit": ["tree"],
                   "growth form": ["tree"]}), "several columns"),
])
def test_what_is_no_list_of_trees_says_so(trees, words):
    with pytest.raises(ValueError, match=words):
        occurrences.audit(good_table(), trees=trees)


# ---- one patch, several names ----

def patches(n=100):
    return np.random.default_rng(0).integers(
        0, 9000, (n, 2, 10, 5, 5)).astype("uint16")


def test_equal_pixels_under_several_species_are_found():
    table, images = good_table(), patches()
    images[[30, 55, 90]] = images[3]  # one patch of four species
    images[11] = images[10]  # of one species: a place asked twice
    images[[20, 40, 60]] = 65535  # nothing is seen: no witness
    found = occurrences.audit(table, pixels=images)
    assert set(found["rule"]) == {"equal_pixels"} and len(found) == 4
    assert found["rows"].tolist() == [1] * 4
    floats = np.where(images == 65535, np.nan, images / 1e4)
    pd.testing.assert_frame_equal(occurrences.audit(table, pixels=floats),
                                  found)
    alone = occurrences.audit(table[["species"]], pixels=images)
    assert alone["rule"].tolist() == ["equal_pixels"] * 4
    images[90, 1, 9, 4, 4] += 1
    assert len(occurrences.audit(table, pixels=images)) == 3
    with pytest.raises(ValueError, match="99 rows of pixels, 100 rows"):
        occurrences.audit(table, pixels=images[:-1])


def test_pixels_of_a_cube_are_told_by_their_id(tmp_path):
    from geotree import pixels
    from geotree.planet.source import Planet

    planet = Planet()
    table = planet.occurrences(12, seed=1)
    pixels.download(table, planet, tmp_path / "c.zarr", progress=False)
    cube = pixels.open(tmp_path / "c.zarr").load()
    one, other = 0, int((table["species"] != table["species"][0]).argmax())
    cube["reflectance"][other] = cube["reflectance"][one].to_numpy()
    mixed = table.iloc[::-1].drop(index=5)
    found = occurrences.audit(mixed, rules=["equal_pixels"], pixels=cube)
    assert sorted(found["species"]) == sorted(
        table["species"][[one, other]])
    for moved in (table.assign(decimalLatitude=table["decimalLatitude"][::-1]
                               .to_numpy()), table.assign(gbifID=-1 - one)):
        with pytest.raises(ValueError, match="pixels are of other places"):
            occurrences.audit(moved, rules=["equal_pixels"], pixels=cube)
    for other in (tmp_path / "c.zarr", 3, [True] * 12, cube[["status"]]):
        with pytest.raises(ValueError, match=r"expected pixels.open\(…\)"):
            occurrences.audit(table, pixels=other)


def test_planet_is_clean_until_faults_are_planted():
    from geotree.planet.source import Planet

    planet = Planet(seed=0)
    clean = occurrences.audit(planet.occurrences(1500))
    assert clean[clean["severity"] == "drop"].empty
    table = planet.occurrences(1500, faults=0.1)
    rules = {"higherRank": "higher_rank_key", "animal": "not_a_plant",
             "unresolved": "unresolved_name", "genus": "genus_mismatch",
             "duplicate": "spatial_duplicate", "zero": "zero_coordinates",
             "machine": "machine_identified"}
    for kind, rule in rules.items():
        planted = table["gbifID"].isin(table.attrs["faults"][kind])
        marked = occurrences.marked(table, rules=[rule])
        if kind == "duplicate":  # the original may be the later row
            assert marked.sum() >= planted.sum()
        else:
            np.testing.assert_array_equal(marked, planted)
    flagged = occurrences.flag(table).set_index("gbifID")
    for kind, flag in (("obscured", "flagUncertainty"),
                       ("rounded", "flagPrecision")):
        assert flagged.loc[table.attrs["faults"][kind], flag].all()


def test_real_table_shows_what_is_known_of_it(real_table):
    table = occurrences.read_release(real_table)
    found = occurrences.audit(table)
    rows = found.set_index(["rule", "species"])["rows"]
    assert rows["higher_rank_key"].to_dict() == {"Sorbus aria": 181}
    assert rows["rounded_key"].to_dict() == {"Psoralea congesta": 40}
    assert rows["genus_mismatch"].to_dict() == {"Capparis indica": 181}
    assert rows["machine_identified"].sum() == 581
    assert {"Sonchus asper", "Medicago lupulina", "Sambucus ebulus"} <= set(
        rows["herb_or_vine"].index)
    assert {"Vaccinium myrtillus", "Vaccinium oxycoccos"} <= set(
        rows["low_growth"].index)
    assert {"Sorbus aria", "Ardisia paniculata"} <= set(
        rows["wide_range"].index)
    assert "not_a_plant" not in rows and "unresolved_name" not in rows
    trees = {"Abies religiosa", "Thuja plicata", "Platanus occidentalis",
             "Acer glabrum", "Fraxinus nigra", "Juniperus ashei",
             "Smallanthus pyramidalis", "Aloe africana"}
    wrong = found[found["severity"] == "drop"]
    taxon = wrong[wrong["rule"] != "spatial_duplicate"]
    assert not trees & set(taxon["species"])
