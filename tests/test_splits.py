"""Splits: sizes, distances, exact shots, and leaks that are found."""

import numpy as np
import pandas as pd
import pytest
from fake_source import occurrence_table

from geotree import evaluation, occurrences, place, splits
from geotree.splits import draws


def world(n=3000, *, species=12, seed=0):
    """Clustered records of species of very different abundance."""
    rng = np.random.default_rng(seed)
    table = occurrence_table(n)
    centre = rng.uniform((-50, -170), (60, 170), (60, 2))
    place = centre[rng.integers(0, 60, n)] + rng.normal(0, 0.8, (n, 2))
    number = np.minimum(rng.geometric(0.25, n) - 1, species - 1)
    table["decimalLatitude"], table["decimalLongitude"] = place.T
    table["species"] = [f"Genus{k // 2} epithet{k}" for k in number]
    table["genus"] = [f"Genus{k // 2}" for k in number]
    table["family"] = [f"Family{k // 6}" for k in number]
    return table


# Distance ---------------------------------------------------------------


def test_distances_worked_out_by_hand():
    quarter = np.pi / 2 * 6371.0088
    assert splits.distance_km(0, 0, 90, 37) == pytest.approx(quarter)
    assert splits.distance_km(0, 0, 0, 90) == pytest.approx(quarter)
    assert splits.distance_km(0, 0, 0, 180) == pytest.approx(2 * quarter)
    # One degree of longitude at 60° is half of one at the equator.
    assert splits.distance_km(60, 10, 60, 11) == pytest.approx(55.6, abs=0.1)
    assert splits.distance_km(10, 60, 11, 60) == pytest.approx(111.2, abs=0.1)
    # Berlin to Sydney, and over the date line.
    assert splits.distance_km(52.52, 13.405, -33.87, 151.21) == (
        pytest.approx(16_090, rel=0.01))
    assert splits.distance_km(0, 179.5, 0, -179.5) == pytest.approx(
        111.2, abs=0.1)


def test_distances_broadcast():
    found = splits.distance_km(np.zeros((3, 1)), 0, np.zeros(4), np.arange(4))
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found[1], 111.195 * np.arange(4), rtol=1e-4)


def test_nearest_is_the_smallest_of_all_distances():
    table = world(200)
    one, other = table[:80], table[80:]
    all_pairs = splits.distance_km(
        one["decimalLatitude"].to_numpy()[:, None],
        one["decimalLongitude"].to_numpy()[:, None],
        other["decimalLatitude"].to_numpy(),
        other["decimalLongitude"].to_numpy())
    np.testing.assert_allclose(splits.nearest_km(one, other),
                               all_pairs.min(axis=1))


# Blocks and splits ------------------------------------------------------


def test_blocks_are_cells_of_latitude_and_longitude():
    table = pd.DataFrame({
        "decimalLatitude": [0.1, 0.9, -0.1, 0.1, 0.1, 0.1, 1.0],
        "decimalLongitude": [5.1, 5.9, 5.1, 6.1, 180.0, -180.0, 5.1]})
    number = evaluation.spatial_blocks(table, 1.0)
    assert number[0] == number[1]
    assert number[4] == number[5]  # the date line is one line
    assert len(set(number)) == 5
    assert len(set(evaluation.spatial_blocks(table, 90.0))) == 3
    with pytest.raises(ValueError, match="degrees"):
        evaluation.spatial_blocks(table, 0)


def test_a_split_has_the_shares_asked_for():
    table = world()
    parts = splits.split(table, test=0.2, validation=0.1)
    share = parts.value_counts(normalize=True)
    assert share["test"] == pytest.approx(0.2, abs=0.02)
    assert share["validation"] == pytest.approx(0.1, abs=0.02)
    assert parts.index.equals(table.index)
    exact = splits.split(table, kind="random", test=0.25, validation=0.15)
    assert exact.value_counts().to_dict() == {
        "train": 1800, "test": 750, "validation": 450}
    none = splits.split(table, validation=0.0)
    assert set(none) == {"train", "test"}


@pytest.mark.parametrize("kind", ["blocks", "random"])
def test_a_split_depends_on_the_seed_alone(kind):
    table = world(600)
    before = table.copy()
    one = splits.split(table, kind=kind, seed=3)
    assert one.equals(splits.split(table, kind=kind, seed=3))
    assert not one.equals(splits.split(table, kind=kind, seed=4))
    pd.testing.assert_frame_equal(table, before)
    moved = table.set_axis(np.arange(600) * 7 + 5)
    assert splits.split(moved, kind=kind, seed=3).index.equals(moved.index)


def test_no_block_is_cut():
    table = world()
    parts = splits.split(table, block_degrees=2.0)
    found = parts.groupby(evaluation.spatial_blocks(table, 2.0)).nunique()
    assert (found == 1).all() and len(found) > 100


def test_large_blocks_are_tested_too():
    """The largest blocks must not always fall to training."""
    table = world()
    block = pd.Series(evaluation.spatial_blocks(table, 2.0))
    size = block.map(block.value_counts()).to_numpy()
    tested = [size[splits.split(table, block_degrees=2.0, seed=seed)
                   == "test"].max() for seed in range(10)]
    assert max(tested) >= np.quantile(size, 0.9)


@pytest.mark.parametrize("kind", ["blocks", "random"])
def test_every_species_keeps_something_to_train_on(kind):
    table = world(400, species=30)
    rare = table["species"].value_counts()
    assert (rare == 1).any()
    for seed in range(20):
        parts = splits.split(table, kind=kind, test=0.5, validation=0.2,
                             block_degrees=3.0, seed=seed)
        assert (set(table["species"][parts == "train"])
                == set(table["species"]))


def test_a_buffer_keeps_training_away():
    table = world()
    parts = splits.split(table, buffer_km=40.0)
    train = table[parts == "train"]
    for name in ("test", "validation"):
        assert splits.nearest_km(table[parts == name], train).min() >= 40
    plain = splits.split(table)
    for name in ("test", "validation"):
        assert ((parts == name) == (plain == name)).all()
    taken = table[parts == "buffer"]
    others = table[parts.isin(["test", "validation"])]
    assert len(taken) and (splits.nearest_km(taken, others) < 40).all()


@pytest.mark.parametrize("kind", ["blocks", "random"])
@pytest.mark.parametrize("km", [1, 10, 50, 200])
def test_a_buffer_holds_across_the_date_line_and_the_pole(kind, km):
    table, rng = world(900), np.random.default_rng(1)
    table["decimalLongitude"] = (rng.normal(180, 8, 900) + 180) % 360 - 180
    table["decimalLatitude"] = np.where(
        np.arange(900) < 300, rng.uniform(84, 90, 900),
        rng.uniform(-20, 20, 900))
    parts = splits.split(table, kind=kind, buffer_km=km)
    lat, lon = table[["decimalLatitude", "decimalLongitude"]].to_numpy().T
    apart = splits.distance_km(lat[:, None], lon[:, None], lat, lon)
    train = (parts == "train").to_numpy()
    scored = parts.isin(["test", "validation"]).to_numpy()
    assert apart[train][:, scored].min() >= km
    assert scored.sum() > 200
    splits.check_leakage(table, parts, km=km)


@pytest.mark.parametrize(("options", "message"), [
    ({"kind": "states"}, "expected one of .blocks., .random., .country"),
    ({"kind": "random", "leave": ["DE"]}, "kind is 'random'"),
    ({"kind": "country", "leave": ["AQ"]}, "no row is of country AQ"),
    ({"test": 0.0}, "test is 0.0"),
    ({"test": 0.7, "validation": 0.3}, "leave something to train on"),
    ({"block_degrees": -1}, "degrees"),
    ({"buffer_km": 30_000}, "no row for train"),
])
def test_a_split_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        splits.split(world(300).assign(countryCode="DE"), **options)


@pytest.mark.parametrize(("kind", "column"), [("country", "countryCode"),
                                              ("year", "year")])
def test_countries_and_years_stay_whole(kind, column):
    table = world(2000)
    rng = np.random.default_rng(1)
    table["countryCode"] = rng.choice(
        ["AT", "BE", "CH", "DE", "ES", "FR", "GB", "HU", "IT", "JP"], 2000)
    table["year"] = rng.integers(2015, 2025, 2000)
    parts = splits.split(table, kind=kind)
    assert (parts.groupby(table[column]).nunique() == 1).all()
    assert set(parts) == {"train", "validation", "test"}
    left = list(table[column].unique()[:2])
    parts = splits.split(table, kind=kind, leave=left)
    assert set(table[column][parts == "test"]) == set(left)
    assert not set(table[column][parts != "test"]) & set(left)
    assert (parts == "validation").mean() == pytest.approx(0.1, abs=0.06)
    gap = table.assign(**{column: table[column].where(parts != "test")})
    with pytest.raises(ValueError, match="rows have no"):
        splits.split(gap, kind=kind)


@pytest.mark.parametrize(("kind", "column", "values"), [
    ("country", "countryCode", ["DE", "DE ", " de", "de\u00a0"]),
    ("year", "year", [2020, "2020", "2020-05-01", "2020.0"])])
def test_a_unit_is_one_however_it_is_written(kind, column, values):
    table = occurrence_table(4).assign(**{
        column: pd.Series(values, dtype=object)})
    assert splits.units(table, kind).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("kind", "column", "values"), [
    ("country", "countryCode", ["DE", "unknown"]),
    ("country", "countryCode", ["DE", "ZZ"]),
    ("country", "countryCode", ["DE", ""]), ("year", "year", [2020, -9999]),
    ("year", "year", [2020, 2020.5]), ("year", "year", [2020, 20])])
def test_what_is_no_country_or_year_is_no_unit(kind, column, values):
    table = occurrence_table(2).assign(**{column: values})
    with pytest.raises(ValueError, match=f"1 of 2 rows have no {column}"):
        splits.units(table, kind)


def test_a_country_that_is_no_code_is_told():
    table = occurrence_table(2).assign(countryCode=["DE", "Germany"])
    with (pytest.warns(UserWarning, match="GERMANY are no codes"),
          pytest.raises(ValueError, match="no countryCode")):
        splits.units(table, "country")


@pytest.mark.parametrize("draw", [
    splits.rarity, splits.hold_out, place.Nearest])
def test_a_species_written_in_two_ways_is_told(draw):
    table = world(300)
    table["species"] = table["species"].where(
        np.arange(300) % 2 == 0, table["species"].str.upper())
    with pytest.warns(UserWarning) as told:
        draw(table)
    assert len(told) == 1
    assert "are one species written in 2 ways" in str(told[0].message)


def test_species_without_training_rows_are_named_and_not_tested():
    table = world(800)
    table["countryCode"] = np.where(np.arange(800) % 4, "DE", "FR")
    only = table["species"] == table["species"].value_counts().index[3]
    table.loc[only, "countryCode"] = "FR"
    parts = splits.split(table, kind="country", leave=["FR"],
                         validation=0.0)
    assert (parts[only] == "untrained").all()
    assert not (parts[~only] == "untrained").any()
    told = splits.describe(table, parts)
    assert told.attrs["untrained"] == [table["species"][only].iloc[0]]
    assert told.loc["untrained", "rows"] == only.sum()
    km = splits.nearest_km(table[parts == "test"], table[parts == "train"])
    assert told.loc["test", "median_km"] == pytest.approx(np.median(km))
    assert np.isnan(told.loc["train", "median_km"])


def test_folds_keep_units_whole():
    table = world(500)
    fold = splits.folds(table, "blocks", degrees=2, seed=3)
    assert sorted(np.unique(fold)) == [0, 1, 2, 3, 4]
    block = evaluation.spatial_blocks(table, 2)
    frame = pd.DataFrame({"block": block, "fold": fold})
    assert (frame.groupby("block")["fold"].nunique() == 1).all()
    np.testing.assert_array_equal(
        fold, splits.folds(table, "blocks", degrees=2, seed=3))
    rows = splits.folds(table, number=4)
    assert np.bincount(rows).tolist() == [125] * 4
    with pytest.raises(ValueError, match="500 random units .*at most 500"):
        splits.folds(table, number=501)


def test_species_of_a_single_fold_are_named_and_counted():
    table = pd.DataFrame({"species": ["b", "a", "c", "a", "b", "c"]},
                         index=[5, 4, 3, 2, 1, 0])
    lost = splits.untrained(table, np.array([0, 1, 2, 1, 2, 2]))
    assert lost.to_dict() == {"a": 2, "c": 2}
    assert splits.untrained(table, np.arange(6)).empty


def test_one_block_cannot_be_split():
    table = world(50).assign(decimalLatitude=10.5, decimalLongitude=20.5)
    with pytest.raises(ValueError, match="no row for validation, test .*1 "
                                         "blocks.*smaller blocks"):
        splits.split(table)


# Leakage ----------------------------------------------------------------


def test_a_clean_split_passes_every_check():
    table = world()
    unseen = splits.hold_out(table)
    parts = splits.split(table, buffer_km=25)
    held = table["species"].isin(unseen).to_numpy()
    parts[held] = np.where(parts[held] == "test", "test", "buffer")
    parts[(parts == "test") & ~held] = "other"
    splits.check_leakage(table, parts, km=25, species=True)


def test_a_record_on_both_sides_is_found():
    table = world(300)
    parts = splits.split(table, kind="random")
    train, test = np.flatnonzero(parts == "train"), np.flatnonzero(
        parts == "test")
    key = int(table["gbifID"].iloc[train[4]])
    table.loc[table.index[test[2]], "gbifID"] = key
    with pytest.raises(splits.LeakageError,
                       match=f"1 records are both in train and in test: "
                             f"{key}"):
        splits.check_leakage(table, parts)


@pytest.mark.parametrize("deal", [splits.folds, splits.split])
def test_a_record_that_is_dealt_out_twice_is_refused(deal):
    table = world(300)
    twice = pd.concat([table, table[40:80]], ignore_index=True)
    with pytest.raises(splits.LeakageError,
                       match=r"twice in the table.*gbifID \d+.*Keep one"):
        deal(twice, kind="random")
    deal(twice, kind="blocks")  # both in one block: no leak


def test_a_place_on_both_sides_is_found_and_rows_are_counted():
    table = occurrence_table(6)
    # 1.11 km per hundredth of a degree along the equator.
    table["decimalLatitude"] = 0.0
    table["decimalLongitude"] = [0, 0.01, 0.05, 20.0, 20.02, 40.0]
    parts = pd.Series(["train", "test", "train", "train", "test", "test"])
    with pytest.raises(splits.LeakageError) as found:
        splits.check_leakage(table, parts, km=5)
    told = str(found.value)
    assert "2 of 3 test rows" in told
    assert "1.112 km" in told
    for row in (0, 1):
        assert str(table["gbifID"][row]) in told
    splits.check_leakage(table, parts, km=1)
    parts[1], parts[5] = "validation", "validation"
    with pytest.raises(splits.LeakageError, match="validation row"):
        splits.check_leakage(table, parts, km=2)


def test_a_species_on_both_sides_is_found():
    table = world(300)
    parts = splits.split(table)
    splits.check_leakage(table, parts)
    with pytest.raises(splits.LeakageError, match="species are both in"):
        splits.check_leakage(table, parts, species=True)
    held = table["species"].isin(splits.hold_out(table))
    table.loc[held, "species"] = "Pinus nigra"
    parts = parts.mask(held, "test").mask(~held, "train")
    splits.check_leakage(table, parts, species=True)
    table.loc[parts[parts == "train"].index[0], "species"] = (
        " PINUS  NIGRA J.F.Arnold")
    with pytest.raises(splits.LeakageError, match="1 species are both in"):
        splits.check_leakage(table, parts, species=True)


def test_nothing_to_compare_is_no_success():
    table = world(30)
    with pytest.raises(splits.LeakageError, match="no rows"):
        splits.check_leakage(table, pd.Series(["train"] * 30))
    with pytest.raises(ValueError, match="one for each of the 30 samples"):
        splits.check_leakage(table, pd.Series(["train"] * 29))


# Species held out -------------------------------------------------------


def test_a_held_out_species_leaves_a_relative():
    table = world(species=30)
    unseen = splits.hold_out(table, fraction=0.2, seed=5)
    every = table.drop_duplicates("species")
    assert len(unseen) == round(0.2 * len(every))
    assert unseen == sorted(unseen)
    assert unseen == splits.hold_out(table[::-1], fraction=0.2, seed=5)
    left = every[~every["species"].isin(unseen)]
    gone = every[every["species"].isin(unseen)]
    assert set(gone["genus"]) <= set(left["genus"])


def test_a_held_out_genus_leaves_a_relative():
    table = world(species=30)
    unseen = splits.hold_out(table, fraction=0.3, rank="genus")
    every = table.drop_duplicates("species")
    left = every[~every["species"].isin(unseen)]
    gone = every[every["species"].isin(unseen)]
    assert len(gone) and not set(gone["genus"]) & set(left["genus"])
    assert set(gone["family"]) <= set(left["family"])


def test_species_without_relatives_cannot_be_held_out():
    table = occurrence_table(20).assign(genus=lambda t: t["species"])
    with pytest.raises(ValueError, match="each genus of the table has only"):
        splits.hold_out(table)
    with pytest.raises(ValueError, match="family"):
        splits.hold_out(table, rank="family")


# The release's recipe ---------------------------------------------------


def test_rarity_by_the_limits_of_the_release():
    sizes = {"a": 100, "b": 101, "c": 1499, "d": 1500}
    table = pd.DataFrame({"species": np.repeat(list(sizes),
                                               list(sizes.values()))})
    found = splits.rarity(table).groupby(table["species"]).first()
    assert found.to_dict() == {"a": "Rare", "b": "Common", "c": "Common",
                               "d": "Frequent"}


def big_world():
    sizes = np.repeat([60, 400, 1600], 40)
    names = [f"Genus{k} epithet" for k in range(len(sizes))]
    table = occurrence_table(int(sizes.sum()))
    table["species"] = np.repeat(names, sizes)
    table["rarity"] = splits.rarity(table)
    return table.sample(frac=1, random_state=0)


def test_a_benchmark_has_the_quota_of_the_release():
    table = big_world()
    drawn = splits.benchmark(table, species=90, total=10_000)
    counts = drawn.groupby(["rarity", "species"]).size()
    for category, rows in (("Rare", 40), ("Common", 110), ("Frequent", 181)):
        assert counts[category].tolist() == [rows] * 30
    assert len(drawn) == 9930  # as the release's table
    assert drawn["gbifID"].is_unique
    position = pd.Index(table["gbifID"]).get_indexer(drawn["gbifID"])
    assert (np.diff(position) > 0).all()


@pytest.mark.parametrize(("species", "quota"), [
    (90, (40, 110, 181)), (300, (12, 33, 55)), (900, (4, 11, 19))])
def test_the_three_quotas_of_the_release(species, quota):
    number = species // 3
    table = pd.DataFrame({"rarity": np.repeat(draws.CATEGORIES,
                                              np.array(quota) * number)})
    table["species"] = np.concatenate([
        np.repeat([f"{name}{k}" for k in range(number)], rows)
        for name, rows in zip(draws.CATEGORIES, quota, strict=True)])
    drawn = splits.benchmark(table, species=species)
    pd.testing.assert_frame_equal(drawn, table)  # it needs every row


def test_a_benchmark_depends_on_the_seed_alone():
    table = big_world()
    one = splits.benchmark(table, species=9, total=500, seed=1)
    pd.testing.assert_frame_equal(
        one, splits.benchmark(table, species=9, total=500, seed=1))
    other = splits.benchmark(table, species=9, total=500, seed=2)
    assert set(one["species"]) != set(other["species"])


@pytest.mark.parametrize(("options", "message"), [
    ({"species": 150}, "Rare: 40 of 40 species .* expected 50"),
    ({"total": 20_000}, "Rare: 0 of 40 species have the 80 rows"),
    ({"species": 91}, "multiple of 3"),
    ({"total": 10}, "Rare: 40 of 40 species have the 0 rows"),
])
def test_a_benchmark_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        splits.benchmark(big_world(), **options)


def test_the_real_table_is_its_own_benchmark(real_table):
    table = occurrences.read_release(real_table)
    drawn = splits.benchmark(table)
    assert (drawn["gbifID"].to_numpy() == table["gbifID"].to_numpy()).all()
    close = splits.split(table, kind="random")
    with pytest.raises(splits.LeakageError, match="within 1 km"):
        splits.check_leakage(table, close, km=1)
    apart = splits.split(table, buffer_km=10)
    splits.check_leakage(table, apart, km=10)


# Shots ------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
def test_shots_are_exact_and_disjoint(k):
    labels = np.repeat([7, 2, 30], [k + 1, 20, 9])
    labels = np.random.default_rng(0).permutation(labels)
    support, query = splits.k_shot(labels, k, seed=4)
    names, counts = np.unique(labels[support], return_counts=True)
    assert names.tolist() == [2, 7, 30] and counts.tolist() == [k] * 3
    together = np.concatenate([support, query])
    assert sorted(together) == list(range(len(labels)))
    again = splits.k_shot(labels, k, seed=4)
    np.testing.assert_array_equal(again[0], support)


def test_every_row_is_drawn_as_often_as_the_others():
    labels = np.repeat([0, 1], [4, 6])
    times = np.zeros(10)
    for seed in range(600):
        times[splits.k_shot(labels, 1, seed=seed)[0]] += 1
    np.testing.assert_allclose(times[:4], 150, atol=45)
    np.testing.assert_allclose(times[4:], 100, atol=40)


def test_too_few_rows_for_the_shots_are_named():
    labels = np.repeat([4, 5, 6], [3, 9, 2])
    with pytest.raises(ValueError, match=r"2 classes .*: class \(rows\) "
                                         r"4 \(3\), 6 \(2\)"):
        splits.k_shot(labels, 3)
    with pytest.raises(ValueError, match="k is 0"):
        splits.k_shot(labels, 0)
    with pytest.raises(ValueError, match="expected one class number"):
        splits.k_shot(np.array([], dtype=int), 1)


def test_years_that_hold_species_of_their_own_are_tested_all_the_same():
    """Three years, each with a species that no other has."""
    table = world(600, species=4)
    table["year"] = 2018 + np.arange(600) % 3
    for year in (2018, 2019, 2020):
        row = table.index[table["year"] == year][year - 2010]
        table.loc[row, "species"] = f"Solus annus{year}"
    parts = splits.split(table, kind="year", test=0.2, validation=0.0)
    assert (parts == "test").any() and (parts == "train").any()
    assert table["year"].groupby(parts.to_numpy()).nunique().max() < 3
    told = splits.describe(table, parts)
    assert len(told.attrs["untrained"]) == (parts == "untrained").sum() > 0


def test_a_test_far_smaller_than_asked_for_is_said():
    table = world(600, species=4)
    table["countryCode"] = np.where(np.arange(600) < 590, "DE", "FR")
    with pytest.warns(UserWarning, match="20% of the rows were to be the "
                                         "test, and 1.7% are"):
        parts = splits.split(table, kind="country", validation=0.0)
    assert (parts == "test").sum() == 10
