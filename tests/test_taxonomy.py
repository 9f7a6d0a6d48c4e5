"""Class tables, labels and the roll-up of probabilities."""

import numpy as np
import pandas as pd
import pytest

from geotree import taxonomy

LINEAGES = [  # not in alphabetical order, on purpose
    ("Quercus robur", "Quercus", "Fagaceae", "Deciduous Broadleaf"),
    ("Betula pendula", "Betula", "Betulaceae", "Deciduous Broadleaf"),
    ("Quercus ilex", "Quercus", "Fagaceae", "Evergreen Broadleaf"),
    ("Fagus sylvatica", "Fagus", "Fagaceae", "Deciduous Broadleaf"),
    ("Larix decidua", "Larix", "Pinaceae", "Deciduous Needleleaf"),
]


def species_table(rows=LINEAGES):
    return pd.DataFrame(
        rows, columns=["species", "genus", "family", "leafType"])


@pytest.fixture
def classes():
    return taxonomy.class_table(species_table())


def test_ranks_are_columns_from_coarse_to_fine(classes):
    assert taxonomy.RANKS == ("leafType", "family", "genus", "species")
    assert set(taxonomy.RANKS) == set(classes.columns)


def test_class_numbers_follow_the_alphabet(classes):
    assert classes["species"].tolist() == sorted(
        row[0] for row in LINEAGES)
    assert classes.index.tolist() == [0, 1, 2, 3, 4]
    assert classes.columns.tolist() == [
        "species", "genus", "family", "leafType"]


def test_class_table_does_not_depend_on_the_order_of_rows(classes):
    shuffled = species_table().sample(frac=1, random_state=1)
    again = taxonomy.class_table(pd.concat([shuffled, shuffled]))
    pd.testing.assert_frame_equal(again, classes)
    pd.testing.assert_frame_equal(taxonomy.class_table(classes), classes)


def test_majority_decides_where_rows_disagree():
    wrong = ("Quercus ilex", "Amelanchier", "Rosaceae",
             "Deciduous Broadleaf")
    table = species_table([wrong, *LINEAGES, *LINEAGES])
    before = table.copy()
    row = taxonomy.class_table(table).set_index("species").loc[
        "Quercus ilex"]
    assert row.tolist() == ["Quercus", "Fagaceae", "Evergreen Broadleaf"]
    pd.testing.assert_frame_equal(table, before)


def test_ties_go_to_the_first_name():
    rows = [("A a", "Z", "F", "D"), ("A a", "B", "G", "D")]
    assert taxonomy.class_table(species_table(rows))["genus"][0] == "B"
    assert taxonomy.class_table(species_table(rows[::-1]))["genus"][0] == "B"


@pytest.mark.parametrize("table, words", [
    (species_table().drop(columns="family"), "lacks the columns family"),
    (species_table().iloc[:0], "empty"),
    (species_table([("A a", None, "F", "D")]), "lack a name"),
    (species_table([("A a", "", "F", "D")]), "genus"),
])
def test_class_table_says_what_is_wrong(table, words):
    with pytest.raises(ValueError, match=words):
        taxonomy.class_table(table)


def test_labels_are_row_numbers_of_the_class_table(classes):
    table = species_table().iloc[[4, 0, 0, 1]]
    labels = taxonomy.labels(table, classes)
    assert labels.dtype == np.int64
    assert labels.tolist() == [2, 4, 4, 0]
    assert (classes["species"].to_numpy()[labels]
            == table["species"].to_numpy()).all()


def test_unknown_species_are_named_and_counted(classes):
    names = [f"Xus y{letter}" for letter in "abcdefg"]
    table = pd.DataFrame({"species": [*names, names[0], "Quercus ilex"]})
    with pytest.raises(ValueError, match="8 rows of 7 species") as error:
        taxonomy.labels(table, classes)
    assert "Xus yc and 4 more" in str(error.value)


def test_prompts_read_from_coarse_to_fine(classes):
    assert taxonomy.prompts(classes)[0] == (
        "Deciduous Broadleaf / Betulaceae / Betula / Betula pendula")
    assert len(taxonomy.prompts(classes)) == len(classes)


def test_same_classes_accepts_equal_tables(classes):
    taxonomy.same_classes(classes, classes.astype(object))


def test_same_classes_says_how_tables_differ(classes):
    with pytest.raises(ValueError, match="only in the first: .*Quercus robur"):
        taxonomy.same_classes(classes, classes.iloc[:4])
    with pytest.raises(ValueError, match="another order"):
        taxonomy.same_classes(classes, classes.iloc[::-1])
    other = classes.copy()
    other.loc[2, "family"] = "Rosaceae"
    with pytest.raises(ValueError, match="second: .*Rosaceae / Larix / L"):
        taxonomy.same_classes(classes, other)


def test_roll_up_sums_the_members_of_each_group(classes):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), size=7)  # (7, 5)
    before = probabilities.copy()
    for rank in taxonomy.RANKS:
        summed, names = taxonomy.roll_up(probabilities, classes, rank)
        assert list(names) == sorted(set(classes[rank]))
        for column, name in enumerate(names):
            by_hand = probabilities[:, classes[rank] == name].sum(axis=1)
            np.testing.assert_allclose(summed[:, column], by_hand)
    np.testing.assert_array_equal(probabilities, before)
    np.testing.assert_array_equal(
        taxonomy.roll_up(probabilities, classes, "species")[0],
        probabilities)


def test_genus_of_the_best_species_is_not_the_best_genus(classes):
    # Betula 0.4 leads the species, Quercus 0.3 + 0.3 leads the genera.
    probabilities = np.array([[0.4, 0, 0, 0.3, 0.3]], dtype=np.float32)
    assert classes["species"][3:].tolist() == [
        "Quercus ilex", "Quercus robur"]
    read_off = classes["genus"][probabilities.argmax()]
    summed, names = taxonomy.roll_up(probabilities, classes, "genus")
    assert read_off == "Betula"
    assert names[summed.argmax()] == "Quercus"
    assert summed.dtype == np.float32


def test_labels_roll_up_to_the_same_columns(classes):
    labels = np.array([4, 3, 0, 0, 1])
    for rank in taxonomy.RANKS:
        certain = np.eye(5)[labels]  # all probability on the label
        summed, _ = taxonomy.roll_up(certain, classes, rank)
        np.testing.assert_array_equal(
            summed.argmax(axis=1),
            taxonomy.roll_up_labels(labels, classes, rank))


def test_roll_up_of_no_samples_is_empty(classes):
    summed, names = taxonomy.roll_up(np.zeros((0, 5)), classes, "family")
    assert summed.shape == (0, 3) == (0, len(names))


def test_roll_up_refuses_what_does_not_fit(classes):
    with pytest.raises(ValueError, match=r"\(2, 4\).*5"):
        taxonomy.roll_up(np.zeros((2, 4)), classes, "genus")
    with pytest.raises(ValueError, match="'order', expected one of 'leaf"):
        taxonomy.roll_up(np.zeros((2, 5)), classes, "order")
    with pytest.raises(ValueError, match="classes 0 to 4"):
        taxonomy.roll_up_labels([5], classes, "genus")


def test_many_classes_roll_up_exactly():
    count = 3000
    table = species_table([
        (f"G{number % 37:02d} s{number:04d}", f"G{number % 37:02d}",
         f"F{number % 5}", "Deciduous Broadleaf")
        for number in range(count)])
    classes = taxonomy.class_table(table)
    uniform = np.full((2, count), 1 / count, dtype=np.float32)
    summed, names = taxonomy.roll_up(uniform, classes, "leafType")
    assert names.tolist() == ["Deciduous Broadleaf"]
    np.testing.assert_allclose(summed, 1, atol=1e-6)


def test_one_genus_name_in_two_families_is_two_genera():
    """A homonym: an animal's, or a mistake, is no relative."""
    classes = pd.DataFrame({
        "species": ["Prunus avium", "Prunus falsa", "Rosa canina"],
        "genus": ["Prunus", "Prunus", "Rosa"],
        "family": ["Rosaceae", "Fabaceae", "Rosaceae"],
        "leafType": "Deciduous Broadleaf"})
    summed, names = taxonomy.roll_up(np.array([[0.5, 0.2, 0.3]]), classes,
                                     "genus")
    assert names.tolist() == ["Prunus (Fabaceae)", "Prunus (Rosaceae)",
                              "Rosa"]
    np.testing.assert_allclose(summed, [[0.2, 0.5, 0.3]])
    assert taxonomy.roll_up_labels([0, 1, 2], classes, "genus").tolist() == [
        1, 0, 2]
