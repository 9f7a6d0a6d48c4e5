"""Shards: both layouts, damage of every kind, and no scan at start-up."""

import builtins
import io
import json
import os
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from fake_source import (
    FakeSource,
    occurrence_table,
    pixels_of,
    variables_of,
)
from killing import Run

from geotree import pixels, shards, taxonomy
from geotree.release.tar_members import MEMBERS
from geotree.shards.index import SCHEMA
from geotree.shards.records import checksum
from geotree.sources import OK
from geotree.variables import BAND_NAMES, NODATA, VARIABLE_NAMES

N = 200  # 12 of them without imagery
SMALL = {"pack": 16, "packs_per_shard": 4, "progress": False}


@pytest.fixture(scope="module")
def table():
    return occurrence_table(N)


@pytest.fixture(scope="module")
def cube(table, tmp_path_factory):
    store = tmp_path_factory.mktemp("cube") / "cube.zarr"
    return pixels.download(table, FakeSource(), store, chunk=32,
                           progress=False)


@pytest.fixture
def packed(cube, table, tmp_path):
    return shards.write(cube, table, tmp_path / "packed", **SMALL)


@pytest.fixture
def release(cube, table, tmp_path):
    return shards.write(cube, table, tmp_path / "release", layout="release",
                        **SMALL)


def check_batch(batch, table, classes):
    """Every value of a batch follows from its ids."""
    rows = table.set_index("gbifID").loc[batch.ids].reset_index()
    np.testing.assert_array_equal(batch.images, pixels_of(batch.ids))
    np.testing.assert_array_equal(batch.environment, variables_of(rows))
    names = classes["species"].to_numpy()[batch.labels]
    assert (names == rows["species"].to_numpy()).all()
    assert batch.images.dtype == np.uint16
    assert batch.environment.dtype == np.float32
    assert batch.labels.dtype == batch.ids.dtype == np.int64


def equal(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


# Round trips ------------------------------------------------------------


@pytest.mark.parametrize("layout", shards.LAYOUTS)
def test_both_layouts_give_back_every_sample(cube, table, tmp_path, layout):
    data = shards.write(cube, table, tmp_path / "out", layout=layout, **SMALL)
    usable = int((cube["status"] == OK).sum())
    assert len(data) == usable < N
    assert data.left_out == N - usable
    assert [file.samples for file in data.files] == [64, 64, usable - 128]
    batch = data.load()
    check_batch(batch, table, data.classes)
    assert (batch.images == NODATA).any()
    assert np.isnan(batch.environment).any()
    assert (batch.ids == data.table["gbifID"]).all()
    assert (batch.labels == data.labels).all()
    assert sorted(batch.ids) == sorted(
        cube["sample"].values[cube["status"].values == OK])
    data.verify()


def test_the_layouts_are_equal_to_each_other(packed, release):
    equal(packed.load(), release.load())
    taxonomy.same_classes(packed.classes, release.classes)
    assert packed.table.equals(release.table)


def test_the_order_is_shuffled_over_the_whole_set(packed, cube, table,
                                                  tmp_path):
    position = pd.Index(table["gbifID"]).get_indexer(packed.load().ids)
    assert abs(np.corrcoef(position, np.arange(len(position)))[0, 1]) < 0.2
    first = position[:64]
    assert first.min() < 30 and first.max() > N - 30
    other = shards.write(cube, table, tmp_path / "other", seed=1, **SMALL)
    assert set(other.load().ids) == set(packed.load().ids)
    assert (other.load().ids != packed.load().ids).mean() > 0.9


@pytest.mark.parametrize("layout", shards.LAYOUTS)
def test_the_same_input_gives_the_same_bytes(cube, table, tmp_path, layout):
    def content(name):
        shards.write(cube, table, tmp_path / name, layout=layout, seed=7,
                     **SMALL)
        return {path.name: path.read_bytes()
                for path in (tmp_path / name).iterdir()}

    one, other = content("one"), content("other")
    assert one.keys() == other.keys() and len(one) >= 5
    for name in one:
        assert one[name] == other[name], name


def test_many_reads_of_the_cube_give_the_same_shards(
        packed, cube, table, tmp_path, monkeypatch):
    monkeypatch.setattr("geotree.shards.writing._READ", 17)
    again = shards.write(cube, table, tmp_path / "again", **SMALL)
    assert [f.sha256 for f in again.files] == [f.sha256 for f in packed.files]


def test_inputs_are_left_as_they_were(cube, table, tmp_path):
    before, pixels_before = table.copy(), cube.load().copy(deep=True)
    shards.write(cube, table, tmp_path / "out", **SMALL)
    pd.testing.assert_frame_equal(table, before)
    xr.testing.assert_identical(cube, pixels_before)


def test_a_class_table_of_more_species_is_kept(cube, table, tmp_path):
    more = pd.concat([table, table.head(1).assign(
        species="Abies alba", genus="Abies")])
    classes = taxonomy.class_table(more)
    data = shards.write(cube, table, tmp_path / "out", classes=classes,
                        **SMALL)
    taxonomy.same_classes(data.classes, classes)
    check_batch(data.load(), table, classes)


# What is in the files ---------------------------------------------------


def test_the_index_says_what_is_where(packed):
    folder = packed.files[0].path.parent
    index = json.loads((folder / "index.json").read_text())
    assert index["schema"] == SCHEMA and index["layout"] == "packed"
    assert tuple(index["bands"]) == BAND_NAMES
    assert tuple(index["variables"]) == VARIABLE_NAMES
    assert index["classes"]["species"] == sorted(index["classes"]["species"])
    assert index["provenance"]["source"] == "fake"
    for entry in index["shards"]:
        path = folder / entry["name"]
        assert entry["bytes"] == path.stat().st_size
        assert entry["samples"] == next(
            file.records["samples"].sum() for file in packed.files
            if file.path == path)
    assert sorted(p.name for p in folder.iterdir()) == [
        "index.json", "records.npy", "samples.parquet", "shard-000000.tar",
        "shard-000001.tar", "shard-000002.tar"]


def test_members_have_the_names_of_the_layouts(packed, release):
    with tarfile.open(packed.files[1].path) as tar:
        members = tar.getmembers()
    assert [m.name for m in members[:4]] == [
        "00000004.images.npy", "00000004.environment.npy",
        "00000004.label.npy", "00000004.id.npy"]
    assert all(m.mtime == 0 and m.isreg() for m in members)
    with tarfile.open(release.files[0].path) as tar:
        names = tar.getnames()
    key = release.load().ids[0]
    assert names[:3] == [f"{key}.{name}" for name in MEMBERS]


def test_a_packed_sample_takes_little_more_than_its_numbers(
        cube, table, tmp_path):
    data = shards.write(cube, table, tmp_path / "out", progress=False)
    size = data.files[0].path.stat().st_size / len(data)
    assert 6000 + 108 + 16 < size < 6250


def test_webdataset_reads_both(packed, release):
    import webdataset

    files = [str(file.path) for file in packed.files]
    seen = []
    for record in webdataset.WebDataset(files, shardshuffle=False).decode():
        assert record["images.npy"].shape[1:] == (12, 10, 5, 5)
        assert record["environment.npy"].shape[1:] == (27,)
        seen.append((record["id.npy"], record["label.npy"],
                     record["images.npy"]))
    ids, labels, images = map(np.concatenate, zip(*seen, strict=True))
    batch = packed.load()
    assert (ids == batch.ids).all() and (labels == batch.labels).all()
    assert (images == batch.images).all()

    def tensor(data):
        return torch.load(io.BytesIO(data), weights_only=True)

    plain = webdataset.WebDataset(
        [str(file.path) for file in release.files], shardshuffle=False)
    record = next(iter(plain))
    found = tensor(record["images.pth"])
    assert found.dtype == torch.float64 and found.shape == (12, 10, 5, 5)
    auxiliary = json.loads(record["auxiliary.json"])
    assert list(auxiliary) == ["sample_id", *VARIABLE_NAMES]
    stored = pixels_of(auxiliary["sample_id"])[0]
    expected = np.where(stored == NODATA, np.nan, stored)
    np.testing.assert_array_equal(found, expected)
    assert set(json.loads(record["text.json"])) == {
        "level0", "level1_family", "level2_genus", "level3_species"}


# Reading ----------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 16, 40, 1000])
def test_batches_hold_every_sample_once_in_order(packed, size):
    batches = list(packed.batches(size))
    assert all(len(b.ids) == size for b in batches[:-1])
    assert 0 < len(batches[-1].ids) <= size
    equal(shards.join(batches), packed.load())


@pytest.mark.parametrize("layout", shards.LAYOUTS)
@pytest.mark.parametrize("size", [1, 24, 1000])
def test_shuffled_batches_hold_every_sample_once(packed, release, size, table,
                                                 layout):
    data = packed if layout == "packed" else release
    order = shards.join(list(data.batches(size, shuffle=True)))
    check_batch(order, table, data.classes)
    assert sorted(order.ids) == sorted(data.load().ids)
    assert (order.ids != data.load().ids).mean() > 0.9


def test_a_shuffle_depends_on_seed_and_epoch_alone(packed):
    def ids(**options):
        return np.concatenate([b.ids for b in packed.batches(
            20, shuffle=True, **options)])

    assert (ids(seed=1, epoch=2) == ids(seed=1, epoch=2)).all()
    assert (ids(seed=1, epoch=2) != ids(seed=1, epoch=3)).mean() > 0.9
    assert (ids(seed=1, epoch=2) != ids(seed=2, epoch=2)).mean() > 0.9


def test_the_last_batch_may_be_dropped(packed):
    n = len(packed)
    assert n % 50
    kept = list(packed.batches(50, drop_last=True))
    assert [len(b.ids) for b in kept] == [50] * (n // 50)
    assert not list(packed.batches(1000, drop_last=True))
    with pytest.raises(ValueError, match="batch_size is 0"):
        next(packed.batches(0))


def test_batches_belong_to_the_caller(packed):
    """Changing one in place changes neither the file nor another batch."""
    before = packed.load()
    for batch in packed.batches(10):
        for column in batch:
            column[...] = 0
    equal(packed.load(), before)


@pytest.mark.parametrize("layout", shards.LAYOUTS)
def test_a_selection_is_a_view(packed, release, layout):
    data = packed if layout == "packed" else release
    whole = data.load()
    mask = whole.labels == 2
    part = data.select(mask)
    assert len(part) == mask.sum()
    equal(part.load(), shards.take(whole, mask))
    assert (part.table["gbifID"] == whole.ids[mask]).all()
    assert (part.labels == 2).all()
    rows = np.flatnonzero(mask)[[5, 1, 3]]
    nested = part.select([5, 1, 3])
    equal(nested.load(), shards.take(whole, np.sort(rows)))
    mixed = np.concatenate([b.ids for b in part.batches(9, shuffle=True)])
    assert sorted(mixed) == sorted(whole.ids[mask])
    assert len(data.select(range(0, 12, 4))) == 3


@pytest.mark.parametrize(("rows", "message"), [
    ([-1, 3], "-1 to 3"), ([0, N], f"0 to {N}"),
    (np.ones(3, bool), r"shape \(3,\)")])
def test_a_selection_that_cannot_be_is_refused(packed, rows, message):
    with pytest.raises(ValueError, match=message):
        packed.select(rows)


def test_an_empty_selection_has_nothing_to_load(packed):
    none = packed.select([])
    assert len(none) == 0 and list(none.batches(8)) == []
    with pytest.raises(ValueError, match="empty"):
        none.load()


def test_opening_reads_no_tar(packed, table):
    """Counts, classes, labels and table come from the index alone."""
    for file in packed.files:
        file.path.unlink()
    data = shards.open(packed.files[0].path.parent)
    assert len(data) == len(packed)
    assert len(data.classes) == 5
    assert len(data.labels) == len(data.table) == len(data)
    assert data.table.attrs["source"] == "by hand"
    with pytest.raises(FileNotFoundError, match="shard-000000.tar"):
        data.load()


def test_a_selection_opens_only_its_tars(packed, monkeypatch):
    real, opened = Path.open, []

    def count(self, *args, **options):
        opened.append(self.name)
        return real(self, *args, **options)

    part = packed.select(np.arange(70, 90))
    monkeypatch.setattr(Path, "open", count)
    part.load()
    assert opened == ["shard-000001.tar", "samples.parquet"]


def test_some_tars_of_a_folder_are_a_data_set(packed):
    data = shards.open([packed.files[2].path, packed.files[0].path])
    rows = np.concatenate([np.arange(128, len(packed)), np.arange(64)])
    equal(data.load(), shards.take(packed.load(), rows))
    assert (data.table["gbifID"] == data.load().ids).all()


def test_two_folders_of_one_class_table_are_a_data_set(
        packed, cube, table, tmp_path):
    classes = packed.classes
    other = shards.write(cube.isel(sample=slice(0, 40)), table,
                         tmp_path / "other", classes=classes, **SMALL)
    both = shards.open([tmp_path / "packed", tmp_path / "other"])
    equal(both.load(), shards.join([packed.load(), other.load()]))
    assert (both.table["gbifID"] == both.load().ids).all()


# Single samples, and a few of them --------------------------------------


@pytest.mark.parametrize("layout", shards.LAYOUTS)
def test_any_sample_can_be_asked_for(packed, release, layout):
    data = packed if layout == "packed" else release
    whole = data.load()
    for row in (0, 17, 64, len(data) - 1, -1):
        equal(data[row], shards.take(whole, row))
    part = data.select(whole.labels == 1)
    equal(part[3], shards.take(part.load(), 3))
    for row in (len(data), -len(data) - 1):
        with pytest.raises(IndexError, match=f"{row} of {len(data)}"):
            data[row]
    data[5].images[...] = 0  # the caller's own
    equal(data[5], shards.take(whole, 5))


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_reads_it_as_a_data_set_of_samples(packed, workers):
    rows = torch.utils.data.DataLoader(
        packed, batch_size=50, shuffle=True, num_workers=workers,
        generator=torch.Generator().manual_seed(0))
    batches = list(rows)
    assert [len(batch.ids) for batch in batches] == [50, 50, 50, 39]
    mixed = shards.join([shards.Batch(*(column.numpy() for column in batch))
                         for batch in batches])
    order = np.argsort(mixed.ids)
    whole = packed.load()
    equal(shards.take(mixed, order), shards.take(whole, np.argsort(whole.ids)))
    assert (mixed.ids != whole.ids).mean() > 0.9


@pytest.mark.parametrize("kind", ["flipped", "empty", "short"])
def test_a_sample_of_a_damaged_record_is_refused(packed, kind):
    file = packed.files[1]
    if kind == "flipped":
        damage(file, file.records["offset"][2] + 5000, b"\x5a")
    else:
        os.truncate(file.path, 0 if kind == "empty" else 5000)
    data = shards.open(file.path.parent, on_error="skip")
    data[0], data[len(data) - 1]
    with pytest.raises(shards.ShardError, match="record 2 of 4"):
        data[64 + 2 * 16 + 3]


@pytest.mark.parametrize("layout", shards.LAYOUTS)
def test_a_few_records_are_a_sample(packed, release, layout):
    data = packed if layout == "packed" else release
    some = data.sample(40, seed=1)
    ids = some.load().ids
    assert 40 <= len(ids) < 40 + (16 if layout == "packed" else 1)
    assert set(ids) <= set(data.load().ids)
    assert set(data.sample(40, seed=2).load().ids) != set(ids)
    part = data.select(data.labels == 0)
    assert (part.sample(10).labels == 0).all()
    assert len(part.sample(10 ** 6)) == len(part)
    if layout == "packed":  # whole records, and few of them
        rows = np.flatnonzero(np.isin(data.load().ids, ids))
        assert len(np.unique(rows // 16)) <= 3
    with pytest.raises(ValueError, match="size"):
        data.sample(0)


def test_columns_are_those_of_the_table(packed):
    part = packed.select(range(5, 50))
    found = part.columns("gbifID", "species")
    pd.testing.assert_frame_equal(found, part.table[["gbifID", "species"]],
                                  check_like=False)


# Damage -----------------------------------------------------------------


def damage(file, offset, data=b"\xff\x00\xff"):
    with file.path.open("r+b") as tar:
        tar.seek(offset)
        tar.write(data)


def skipping(folder, **options):
    """Read with ``on_error="skip"``: samples, data set, warnings."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        data = shards.open(folder, on_error="skip", **options)
        first = data.load()
        again = data.load()
    equal(first, again)
    return first, data, [str(w.message) for w in told]


def test_a_flipped_bit_in_a_pixel_is_found(packed, table):
    whole = packed.load()
    file = packed.files[1]
    damage(file, file.records["offset"][2] + 5000, b"\x5a")
    with pytest.raises(shards.ShardError,
                       match="shard-000001.tar', record 2 of 4: its checksum"):
        packed.load()
    with pytest.raises(shards.ShardError, match="SHA-256"):
        packed.verify()
    left, data, told = skipping(file.path.parent)
    rows = np.r_[0:64 + 32, 64 + 48:len(whole.ids)]
    equal(left, shards.take(whole, rows))
    assert data.skipped == 16  # once, though read twice
    assert len(told) == 1 and "skipped 16 samples" in told[0]


def test_the_checksum_sees_any_small_damage():
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, 512 * 200, dtype=np.uint8)
    told, seen = checksum(data), set()
    for at in rng.integers(0, len(data), 300):
        other = data.copy()
        other[at] ^= 1 << rng.integers(8)  # a bit
        seen.add(checksum(other))
    for first in range(0, len(data) - 8192, 4096):  # a page
        other = data.copy()
        other[first:first + 4096] = 0
        seen.add(checksum(other))
        other = data.copy()  # two pages that changed places
        other[first:first + 8192] = np.roll(data[first:first + 8192], 4096)
        seen.add(checksum(other))
    assert told not in seen
    assert len(seen) > 340  # nearly each damage has its own


def test_a_truncated_shard_is_found(packed):
    whole = packed.load()
    file = packed.files[2]
    os.truncate(file.path, file.records["offset"][1] + 700)
    with pytest.raises(shards.ShardError,
                       match="shard-000002.tar', record 1 of 4: the file is "
                             "cut off"):
        list(packed.batches(30))
    left, data, told = skipping(file.path.parent)
    equal(left, shards.take(whole, slice(0, 128 + 16)))
    assert data.skipped == len(whole.ids) - 144
    assert len(told) == 3


def test_an_empty_shard_is_found(packed):
    packed.files[0].path.write_bytes(b"")
    with pytest.raises(shards.ShardError, match="record 0 of 4.*cut off"):
        packed.load()
    left, data, _ = skipping(packed.files[0].path.parent)
    assert data.skipped == 64 and len(left.ids) == len(packed) - 64


def test_a_shuffled_reader_finds_damage_too(packed):
    file = packed.files[0]
    damage(file, file.records["offset"][0] + 600)
    with pytest.raises(shards.ShardError, match="record 0 of 4"):
        list(packed.batches(8, shuffle=True))


def test_damage_is_told_across_processes(packed):
    damage(packed.files[0], 600)
    with pytest.raises(shards.ShardError) as found:
        packed.load()
    error = pickle.loads(pickle.dumps(found.value))
    assert str(error) == str(found.value) and error.samples == 16


def test_two_shards_that_changed_places_are_found(packed):
    one, other = packed.files[0].path, packed.files[1].path
    one.rename(one.with_suffix(".old"))
    other.rename(one)
    one.with_suffix(".old").rename(other)
    with pytest.raises(shards.ShardError, match="checksum"):
        packed.load()


@pytest.mark.parametrize(("change", "message"), [
    ({"schema": 9}, f"schema is 9, expected {SCHEMA}"),
    ({"bands": ["B2"]}, "bands"),
    ({"layout": "other"}, "layout"),
    ({"shards": []}, "its contents do not have the SHA-256"),
    ({"classes": {}}, "its contents do not have the SHA-256"),
])
def test_an_index_of_something_else_is_refused(packed, change, message):
    path = packed.files[0].path.parent / "index.json"
    index = json.loads(path.read_text()) | change
    path.write_text(json.dumps(index))
    with pytest.raises(shards.ShardError, match=f"index.json.*{message}"):
        shards.open(path.parent).load()
    path.write_text("{")
    with pytest.raises(shards.ShardError, match="no index of shards"):
        shards.open(path.parent)


def test_packed_tars_without_their_index_say_so(packed):
    folder = packed.files[0].path.parent
    (folder / "index.json").unlink()
    with pytest.raises(shards.ShardError):
        len(shards.open(folder))


def test_nothing_to_open_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither index.json nor tar"):
        shards.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="empty list"):
        shards.open([])
    with pytest.raises(FileNotFoundError, match="missing.tar"):
        len(shards.open(tmp_path / "missing.tar"))
    with pytest.raises(ValueError, match="on_error"):
        shards.open(tmp_path, on_error="ignore")


def test_shards_of_another_class_table_are_refused(packed):
    folder = packed.files[0].path.parent
    shards.open(folder, classes=packed.classes)
    with pytest.raises(ValueError, match="class tables differ"):
        shards.open(folder, classes=packed.classes.head(3))


# Writing what cannot be written -----------------------------------------


@pytest.mark.parametrize(("change", "message"), [
    (lambda c, t: (c.isel(band=slice(0, 9)), t), "'band': 9.*'band': 10"),
    (lambda c, t: (c.pad(x=1, y=1, constant_values=0), t), "'x': 7.*'x': 5"),
    (lambda c, t: (c.isel(band=slice(None, None, -1)), t), "B12, B11"),
    (lambda c, t: (c.assign(status=c["status"] * 0), t), "nothing to write"),
    (lambda c, t: (c, t.iloc[5:]), "not in the table, e.g. gbifID 1000000"),
    (lambda c, t: (c, t.head(0)), "empty"),
])
def test_input_that_does_not_fit_is_refused(cube, table, tmp_path, change,
                                            message):
    other, rows = change(cube, table)
    with pytest.raises(ValueError, match=message):
        shards.write(other, rows, tmp_path / "out", **SMALL)
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".lock"]


@pytest.mark.parametrize("change", [
    lambda values: values.where(values != NODATA),
    lambda values: values.astype("int16"), lambda values: values / 10_000])
def test_pixels_of_another_kind_are_refused(cube, table, tmp_path, change):
    other = cube.assign(reflectance=change(cube["reflectance"]))
    with pytest.raises(ValueError, match="variables.digital_numbers"):
        shards.write(other, table, tmp_path / "out", **SMALL)
    assert not (tmp_path / "out").exists()


def test_an_unknown_species_is_refused(cube, table, tmp_path):
    classes = taxonomy.class_table(table).drop(index=2).reset_index(drop=True)
    with pytest.raises(ValueError, match="Larix decidua"):
        shards.write(cube, table, tmp_path / "out", classes=classes, **SMALL)


@pytest.mark.parametrize("options", [
    {"layout": "zip"}, {"pack": 0}, {"packs_per_shard": 0}])
def test_options_that_cannot_be_are_refused(cube, table, tmp_path, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        shards.write(cube, table, tmp_path / "out", **options)


def test_a_folder_of_other_files_is_left_alone(cube, table, tmp_path):
    (tmp_path / "letter.txt").write_text("hello")
    with pytest.raises(ValueError, match="holds other files"):
        shards.write(cube, table, tmp_path, **SMALL)
    assert (tmp_path / "letter.txt").read_text() == "hello"


def test_what_lies_beside_shards_is_not_lost(cube, table, tmp_path):
    shards.write(cube, table, tmp_path / "out", **SMALL)
    (tmp_path / "out/letter.txt").write_text("hello")
    with pytest.raises(ValueError, match="would be lost: letter.txt"):
        shards.write(cube, table, tmp_path / "out", **SMALL)
    assert (tmp_path / "out/letter.txt").read_text() == "hello"


@pytest.mark.parametrize("place", ["file/out", "/proc/out"])
def test_a_folder_that_cannot_be_written_is_named(cube, table, tmp_path,
                                                  place):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="cannot write beside"):
        shards.write(cube, table, tmp_path / place, **SMALL)


FULL = """
import sys
from fake_source import occurrence_table
from geotree import pixels, shards
cube = pixels.open(sys.argv[1])
fill_disk()
try:
    shards.write(cube, occurrence_table(200), sys.argv[2], progress=False)
except OSError as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk_leaves_the_shards_that_were_there(
        packed, cube, tmp_path):
    before = packed.load()
    store = cube.encoding["source"]
    said = Run(FULL, store, tmp_path / "packed", full=100_000).finish()
    assert "cannot write shards to" in said
    assert "File too large" in said and "untouched" in said
    equal(shards.open(tmp_path / "packed").load(), before)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".packed.lock", "packed"]


def test_writing_again_replaces_whole(packed, cube, table, tmp_path):
    fewer = cube.isel(sample=slice(0, 30))
    data = shards.write(fewer, table, tmp_path / "packed", **SMALL)
    assert len(data) < 30 and len(data.files) == 1
    assert len(list((tmp_path / "packed").glob("*.tar"))) == 1


# The release's own tars -------------------------------------------------


def members(release, number=0):
    """Name and bytes of the members of a sample."""
    with tarfile.open(release.files[0].path) as tar:
        found = tar.getmembers()[3 * number:3 * number + 3]
        return [(m.name, tar.extractfile(m).read()) for m in found]


def make_tar(path, files):
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            if data is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(member)
                continue
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def pth(values):
    return saved(torch.as_tensor(values))


def bomb():
    """A small ``.pth`` that unpacks to 64 MB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(64 << 20))
    return buffer.getvalue()


def test_tars_without_an_index_are_scanned_when_asked(release, tmp_path,
                                                      table):
    whole = release.load()
    folder = release.files[0].path.parent
    for name in ("index.json", "samples.parquet"):
        (folder / name).unlink()
    for paths in (folder, sorted(folder.glob("*.tar"))):
        data = shards.open(paths)
        assert len(data) == len(release)
        taxonomy.same_classes(data.classes, release.classes)
        equal(data.load(), whole)
        assert (data.table["gbifID"] == whole.ids).all()
        assert (data.labels == whole.labels).all()
        part = data.select(np.arange(60, 70))
        equal(part.load(), shards.take(whole, slice(60, 70)))
    with pytest.raises(shards.ShardError, match="SHA-256 should be"):
        data.verify()


def test_json_in_a_list_nulls_and_strings_are_understood(release, tmp_path):
    (image, pixel_data), (text, names), (extra, auxiliary) = members(release)
    names, auxiliary = json.loads(names), json.loads(auxiliary)
    key = auxiliary["sample_id"]
    auxiliary |= {"sample_id": str(key), "bio07": None, "slope": 3}
    path = make_tar(tmp_path / "own.tar", [
        ("a/b/" + image, pixel_data),
        ("a/b/" + text, json.dumps([names]).encode()),
        ("a/b/" + extra, json.dumps([auxiliary]).encode())])
    batch = shards.open(path).load()
    assert batch.ids.tolist() == [key]
    np.testing.assert_array_equal(batch.images, pixels_of(key))
    row = dict(zip(VARIABLE_NAMES, batch.environment[0], strict=True))
    assert np.isnan(row["bio07"]) and row["slope"] == 3


def test_a_tensor_becomes_digital_numbers(release, tmp_path):
    values = np.full((12, 10, 5, 5), np.nan)
    values[3, 2, 1, 4] = 1234.6
    values[3, 2, 4, 1] = -7.0
    values[4] = 70_000.0
    values[5, 0, 0, 0] = np.inf
    (image, _), *others = members(release)
    path = make_tar(tmp_path / "own.tar", [(image, pth(values)), *others])
    found = shards.open(path).load().images[0]
    assert found[3, 2, 1, 4] == 1235 and found[3, 2, 4, 1] == 0
    assert (found[4] == NODATA - 1).all()
    assert found[5, 0, 0, 0] == NODATA and (found[0] == NODATA).all()


class Trap:
    """Unpickling this would create a file."""

    def __reduce__(self):
        return builtins.open, ("trapped", "w")


def flipped(data):
    """One bit of a pixel changed inside a ``.pth``."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 16]) + data[at + 1:]


def faulty(kind, good):
    """The members of a sample with one thing wrong."""
    (image, data), (text, names), (extra, auxiliary) = good
    parts = {image: data, text: names, extra: auxiliary}
    shape = np.ones((12, 10, 5, 5))
    change = {
        "no image": {image: ...},
        "no text": {text: ...},
        "no auxiliary": {extra: ...},
        "9 bands": {image: pth(shape[:, :9])},
        "7 pixels": {image: pth(np.ones((12, 10, 7, 7)))},
        "all missing": {image: pth(shape * np.nan)},
        "a trap": {image: pickle.dumps(Trap(), 2)},
        "a trap in a zip": {image: saved(Trap())},
        "a dictionary": {image: saved({"images": shape})},
        "noise": {image: b"\x01" * 500},
        "a flipped bit": {image: flipped(data)},
        "half a tensor": {image: data[:9000]},
        "half a text": {text: names[:20]},
        "a text of nothing": {text: b"[]"},
        "a missing level": {text: names.replace(b"level3", b"level9")},
        "deep text": {text: b"[" * 100_000},
        "no variables": {extra: b'{"sample_id": 3}'},
        "words for numbers": {extra: auxiliary.replace(
            b'"bio01": ', b'"bio01": "warm", "x": ')},
        "a huge id": {extra: auxiliary.replace(
            b'"sample_id": ', b'"sample_id": 99999999999')},
    }[kind]
    parts |= change
    return [(name, data) for name, data in parts.items() if data is not ...]


KINDS = {
    "no image": "lacks images.pth", "no text": "lacks text.json",
    "no auxiliary": "lacks auxiliary.json", "9 bands": "12 months of 10 ba",
    "7 pixels": "5 × 5 pixels", "all missing": "no valid pixel",
    "a trap": "no plain tensor", "a trap in a zip": "no plain tensor",
    "a dictionary": "no plain tensor",
    "noise": "no plain tensor", "a flipped bit": "no plain tensor",
    "half a tensor": "no plain tensor", "half a text": "",
    "a text of nothing": "holds a list", "a missing level": "lacks level3",
    "deep text": "nested too deeply", "no variables": "lacks longitude",
    "words for numbers": "could not convert", "a huge id": "auxiliary.json",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_faulty_sample_is_named_or_counted(release, tmp_path, kind,
                                             monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, good, after = (members(release, row) for row in range(3))
    key = good[0][0].split(".")[0]
    path = make_tar(tmp_path / "own.tar", [
        *before, *faulty(kind, good), *after])
    with pytest.raises(shards.ShardError,
                       match=f"own.tar', record {key}: .*{KINDS[kind]}"):
        shards.open(path).load()
    left, data, _ = skipping(path, classes=release.classes)
    assert len(left.ids) == 2 and data.skipped == 1
    equal(left, shards.take(release.load(), [0, 2]))
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(("name", "message"), [
    ("/etc/{}", "leads out of the archive"),
    ("../../{}", "leads out of the archive"),
    ("a/../../{}", "leads out of the archive"),
])
def test_names_that_lead_out_of_the_archive_are_refused(
        release, tmp_path, name, message):
    good, bad = members(release, 0), members(release, 1)
    path = make_tar(tmp_path / "own.tar", [
        *good, *((name.format(member), data) for member, data in bad)])
    with pytest.raises(shards.ShardError, match=message):
        shards.open(path).load()
    left, data, _ = skipping(path)
    assert len(left.ids) == 1 and data.skipped == 1


def test_links_and_giants_are_refused(release, tmp_path):
    (image, data), text, extra = members(release)
    link = make_tar(tmp_path / "link.tar", [(image, None), text, extra])
    with pytest.raises(shards.ShardError, match="no regular file"):
        shards.open(link).load()
    giant = make_tar(tmp_path / "giant.tar", [
        (image, data + bytes(2 << 20)), text, extra])
    with pytest.raises(shards.ShardError, match="at most 1,048,576"):
        shards.open(giant).load()
    small = make_tar(tmp_path / "small.tar", [(image, bomb()), text, extra])
    assert small.stat().st_size < 200_000
    with pytest.raises(shards.ShardError, match="is compressed"):
        shards.open(small).load()


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("where", ["inside", "between"])
def test_a_truncated_release_tar_is_found(release, indexed, where):
    file = release.files[0]
    whole = release.load()
    with tarfile.open(file.path) as tar:
        member = tar.getmembers()[30]  # the first of the 11th sample
    os.truncate(file.path, member.offset + (900 if where == "inside" else 0))
    folder = file.path.parent
    if not indexed:
        (folder / "index.json").unlink()
    with pytest.raises(shards.ShardError, match="shard-000000.tar', " + (
            "record 10 of 64: the file is cut off" if indexed
            else "after record")):
        shards.open(folder).load()
    left, data, told = skipping(folder)
    equal(left, shards.take(whole, np.r_[0:10, 64:len(whole.ids)]))
    assert data.skipped == (54 if indexed else 1)


def test_a_damaged_header_does_not_end_a_tar_in_silence(release):
    file = release.files[1]
    with tarfile.open(file.path) as tar:
        member = tar.getmembers()[9]
    damage(file, member.offset, b"\xff" * 200)
    (file.path.parent / "index.json").unlink()
    with pytest.raises(shards.ShardError, match="shard-000001.tar', after"):
        shards.open(file.path.parent).load()


def test_a_species_outside_the_class_table_is_named_or_counted(release):
    folder = release.files[0].path.parent
    whole = release.load()
    (folder / "index.json").unlink()
    few = release.classes.drop(index=1).reset_index(drop=True)
    with pytest.raises(shards.ShardError,
                       match="'Acer saccharum' is not among the 4 classes"):
        shards.open(folder, classes=few).load()
    left, data, _ = skipping(folder, classes=few)
    assert data.skipped == (whole.labels == 1).sum()
    equal(left[:2], shards.take(whole, whole.labels != 1)[:2])
    assert (few["species"].to_numpy()[left.labels]
            == release.classes["species"].to_numpy()[
                whole.labels[whole.labels != 1]]).all()


def test_tars_with_and_without_an_index_are_not_mixed(release, tmp_path):
    lone = make_tar(tmp_path / "lone.tar", members(release))
    with pytest.raises(ValueError, match="1 of 2 tar files have an index"):
        shards.open([release.files[0].path, lone])


def test_a_batch_stays_as_it_is_while_others_are_read(packed):
    """What somebody holds is never written to again."""
    kept, copies = [], []
    for batch in packed.batches(7, shuffle=True):
        kept.append(batch.images[1:3])
        copies.append(kept[-1].copy())
        del batch
    assert len(kept) > 20
    for one, other in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(one, other)
    for size in (7, 64):
        whole = [batch.ids for batch in packed.batches(size)]
        np.testing.assert_array_equal(np.concatenate(whole),
                                      packed.load().ids)


def test_shards_stay_open_wherever_one_goes(tmp_path, monkeypatch):
    """As in a notebook that changes its folder."""
    table = occurrence_table(24)
    cube = pixels.download(table, FakeSource(), tmp_path / "c.zarr",
                           progress=False)
    shards.write(cube, table, tmp_path / "s", progress=False)
    monkeypatch.chdir(tmp_path)
    data = shards.open("s")
    monkeypatch.chdir("/")
    assert len(data.load().ids) == len(data.table) > 0
    data.verify()
