"""GGTDataset: everything once, in order, for any workers and ranks."""

import io
import json
import os
import pickle
import tarfile
from itertools import islice

import numpy as np
import pytest
import torch
from fake_source import FakeSource, occurrence_table, pixels_of, variables_of

from geotree import GGTDataset, pixels, shards
from geotree.release import records as release_records, tar_members
from geotree.variables import NODATA, VARIABLE_NAMES


@pytest.fixture(scope="module")
def table():
    return occurrence_table(120)


@pytest.fixture(scope="module")
def written(table, tmp_path_factory):
    """Release-layout shards of 48, 48 and the rest, with their index."""
    folder = tmp_path_factory.mktemp("release")
    cube = pixels.download(table, FakeSource(), folder / "cube.zarr",
                           progress=False)
    return shards.write(cube, table, folder / "shards", layout="release",
                        pack=16, packs_per_shard=3, progress=False)


@pytest.fixture
def bare(written, tmp_path):
    """The tars alone, as they come from the hub."""
    for file in written.files:
        (tmp_path / file.path.name).write_bytes(file.path.read_bytes())
    return tmp_path


def ids(data):
    return [row["sample_id"] for batch in data.get_dataloader()
            for row in batch[2]]


def test_the_five_parts_are_those_of_the_release(written, table, bare):
    whole = written.load()
    data = GGTDataset(bare, batch_size=50)
    assert len(data) == len(whole.ids)
    loader = data.get_dataloader()
    assert len(loader) == loader.length == 3
    start = 0
    for images, text, auxiliary, image_mask, aux_mask in loader:
        rows = slice(start, start + len(images))
        start += len(images)
        assert images.dtype == torch.float32
        assert image_mask.dtype == aux_mask.dtype == torch.bool
        gone = torch.from_numpy(whole.images[rows] == NODATA)
        assert torch.equal(images.isnan(), gone)
        assert torch.equal(image_mask, ~gone.flatten(2).all(dim=2))
        stored = torch.from_numpy(whole.images[rows].astype(np.float32))
        assert torch.equal(images[~gone], stored[~gone])
        environment = whole.environment[rows]
        assert np.array_equal(aux_mask.numpy(), ~np.isnan(environment))
        values = np.array([[row[name] for name in VARIABLE_NAMES]
                           for row in auxiliary], np.float32)
        np.testing.assert_array_equal(values, np.nan_to_num(environment))
        names = written.classes["species"][whole.labels[rows]]
        assert [row["level3_species"] for row in text] == list(names)
        assert [row["sample_id"] for row in auxiliary] == list(
            whole.ids[rows])
    assert start == len(whole.ids)
    assert (images[0].nan_to_num(NODATA).numpy()
            == pixels_of(whole.ids[-len(images)])).all()
    assert not np.isnan(variables_of(table)).all()


@pytest.mark.parametrize(("workers", "size"), [
    (0, 1), (0, 500), (1, 17), (2, 7), (2, 500)])
def test_every_sample_once_in_order(written, bare, workers, size):
    data = GGTDataset(bare, batch_size=size, num_workers=workers)
    assert ids(data) == list(written.load().ids)
    assert sum(1 for _ in data.get_dataloader()) == len(data.get_dataloader())


def test_a_shuffle_is_the_same_for_any_workers_and_new_each_pass(written,
                                                                 bare):
    def passes(workers):
        data = GGTDataset(bare, batch_size=7, num_workers=workers,
                          shuffle=40, shardshuffle=True, seed=3)
        loader = data.get_dataloader()
        return [[row["sample_id"] for batch in loader for row in batch[2]]
                for _ in range(2)]

    first, second = passes(0)
    assert passes(2) == [first, second]
    assert first != second
    assert sorted(first) == sorted(second) == sorted(written.load().ids)


def test_resampled_never_ends(written, bare):
    data = GGTDataset(bare, batch_size=16, resampled=True, shuffle=10)
    batches = list(islice(data.get_dataloader(), 24))
    seen = [row["sample_id"] for batch in batches for row in batch[2]]
    counts = np.unique(seen, return_counts=True)[1]
    assert len(counts) == len(written) and counts.min() >= 2


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("counted", [True, False])
def test_ranks_share_the_samples_exactly(written, bare, tmp_path, world,
                                         counted):
    counts = tmp_path / "counts.json"
    counts.write_text(json.dumps({f"/far/away/{f.path.name}": f.samples
                                  for f in written.files}))
    parts = [GGTDataset(bare, 10, world_size=world, rank=rank,
                        shard_counts_json_path=counts if counted else None)
             for rank in range(world)]
    found = [ids(part) for part in parts]
    assert sum(found, []) == list(written.load().ids)
    sizes = [len(part) for part in found]
    assert max(sizes) - min(sizes) <= 1
    assert [sum(map(len, part.share.values())) for part in parts] == sizes


def test_nothing_is_scanned_at_start(written, bare, tmp_path, monkeypatch):
    counts = tmp_path / "counts.json"
    counts.write_text(json.dumps({f.path.name: f.samples
                                  for f in written.files}))
    samples = tar_members.samples
    monkeypatch.setattr(tar_members, "samples", None)
    assert len(GGTDataset(written.files[0].path.parent)) == len(written)
    known = GGTDataset(bare, shard_counts_json_path=counts, world_size=2,
                       rank=1)
    assert len(known.get_dataloader()) == 2
    unknown = GGTDataset(bare)
    monkeypatch.setattr(tar_members, "samples", samples)
    first = next(iter(unknown.get_dataloader()))
    assert len(first[0]) == 32 and not unknown._known


# Damage --------------------------------------------------------------------


def rewritten(path, number, member, data):
    """The tar with one member of one sample changed; None drops it."""
    with tarfile.open(path) as tar:
        parts = [(m.name, tar.extractfile(m).read()) for m in tar]
    at = [i for i, (name, _) in enumerate(parts)
          if name.endswith(member)][number]
    parts[at] = (parts[at][0], data)
    with tarfile.open(path, "w") as tar:
        for name, content in parts:
            if content is not None:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


class Trap:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return io.open, (self.path, "w")


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["pickle", "zip"])
def test_a_pickle_is_never_run_in_any_process(bare, tmp_path, workers, kind):
    trap = Trap(tmp_path / "trapped")
    content = pickle.dumps(trap) if kind == "pickle" else saved(trap)
    rewritten(bare / "shard-000001.tar", 5, "images.pth", content)
    data = GGTDataset(bare, batch_size=16, num_workers=workers)
    with pytest.raises(shards.ShardError,
                       match=r"shard-000001\.tar', record .* plain tensor"):
        ids(data)
    assert not (tmp_path / "trapped").exists()


@pytest.mark.filterwarnings("ignore:skipped")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("member", "content"), [
    ("images.pth", None), ("text.json", b"[]"),
    ("images.pth", saved(torch.ones(12, 9, 5, 5))),
    ("images.pth", saved(torch.full((12, 10, 5, 5), float("nan"))))])
def test_damage_is_named_or_skipped_and_counted(written, bare, workers,
                                                member, content):
    rewritten(bare / "shard-000000.tar", 3, member, content)
    with pytest.raises(shards.ShardError, match="000000.tar', record"):
        ids(GGTDataset(bare, num_workers=workers, strict=True))
    data = GGTDataset(bare, num_workers=workers, on_error="skip",
                      strict=True)
    left = np.delete(written.load().ids, 3)
    for _ in range(2):
        assert ids(data) == list(left) and data.skipped == 1


@pytest.mark.filterwarnings("ignore:skipped")
def test_a_truncated_tar_is_named_or_skipped_and_counted(written, bare):
    path = bare / "shard-000000.tar"
    os.truncate(path, path.stat().st_size // 2 // 512 * 512)
    with pytest.raises(shards.ShardError, match="damaged here"):
        ids(GGTDataset(bare))
    with pytest.raises(shards.ShardError, match="damaged here"):
        len(GGTDataset(bare))
    counts = bare / "counts.json"
    counts.write_text(json.dumps({f.path.name: f.samples
                                  for f in written.files}))
    data = GGTDataset(bare, on_error="skip", shard_counts_json_path=counts)
    found = ids(data)
    assert len(found) + data.skipped == len(written)
    assert found[-10:] == list(written.load().ids[-10:])


def test_a_header_of_ten_gigabytes_is_refused_unread(bare):
    path = bare / "shard-000000.tar"
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.XHDTYPE, 10 << 30
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(info.size + 4096)  # a sparse file: it takes no disk
    with pytest.raises(shards.ShardError, match="over 8 GB"):
        ids(GGTDataset(path))
    with pytest.raises(shards.ShardError, match="over 8 GB"):
        shards.open(path).load()


def test_a_sample_of_a_million_members_is_refused(bare, written):
    path = bare / "shard-000000.tar"
    with tarfile.open(path, "w") as tar:
        for i in range(500):
            tar.addfile(tarfile.TarInfo(f"1.{i}"))
    with path.open("rb") as file:
        first = next(tar_members.samples(file, path))
    assert len(first.parts) < 20
    with pytest.raises(shards.ShardError, match="record 1: it lacks"):
        ids(GGTDataset(path, strict=True))


# What the release lets pass ------------------------------------------------


ODD = {  # kind: does the release's loader yield it?
    "all missing": True, "null": True, "absent": True, "list": True,
    "list of two": True, "whole numbers": True, "text as a list": True,
    "whole pixels": True, "no id": True, "an id of letters": True,
    "more fields": True, "bfloat16": True, "an empty level": True,
    "no auxiliary": False, "no place": False}


def odd(kind, key):
    """The members of a sample with one oddity."""
    images = torch.arange(3000.).double().reshape(12, 10, 5, 5) + key
    images[2] = torch.nan
    auxiliary = {"sample_id": key} | {
        name: 1.5 + i for i, name in enumerate(VARIABLE_NAMES)}
    text = dict(zip(release_records.LEVELS, ("Evergreen Needleleaf",
                "Pinaceae", "Pinus", "Pinus nigra"), strict=True))
    if kind == "all missing":
        images[:] = torch.nan
    elif kind == "whole pixels":
        images = images.nan_to_num(7).int()
    elif kind == "null":
        auxiliary["bio07"] = None
    elif kind == "absent":
        del auxiliary["bio07"]
    elif kind == "no place":
        auxiliary["longitude"] = None
    elif kind == "bfloat16":
        images = images.bfloat16()
    elif kind == "an id of letters":
        auxiliary["sample_id"] = "x"
    elif kind == "more fields":
        auxiliary["landcover"] = 3
    elif kind == "no id":
        del auxiliary["sample_id"]
    elif kind == "whole numbers":
        auxiliary["bio12"] = 812
    elif kind == "an empty level":
        text["level0"] = ""
    lists = {"list": [auxiliary], "list of two": [auxiliary, {}]}
    parts = [(f"{key}.images.pth", saved(images)),
             (f"{key}.text.json", json.dumps(
                 [text] if kind == "text as a list" else text).encode()),
             (f"{key}.auxiliary.json", json.dumps(
                 lists.get(kind, auxiliary)).encode())]
    return images, text, auxiliary, parts[:2 if kind == "no auxiliary" else 3]


@pytest.mark.parametrize("workers", [0, 2])
def test_odd_samples_are_read_as_the_release_reads_them(tmp_path, workers):
    """What the release's loader yields of them, and the same values."""
    samples = [odd(kind, 100 + i) for i, kind in enumerate(ODD)]
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in [part for one in samples for part in one[3]]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    data = GGTDataset(path, batch_size=5, num_workers=workers)
    with pytest.warns(UserWarning, match="skipped 2 samples, the first: .*"
                      "odd.tar', record 113: it lacks auxiliary") as told:
        batches = list(data.get_dataloader())
    assert len(told) == 1 and data.skipped == 2
    found = [row for batch in batches for row in zip(*batch, strict=True)]
    expected = [one for one, kind in zip(samples, ODD, strict=True)
                if ODD[kind]]
    assert len(found) == len(expected) == 13
    for (images, text, auxiliary, months, known), (
            pixel_values, names, values, _), kind in zip(
                found, expected, ODD, strict=False):
        gone = pixel_values.double().isnan()
        assert torch.equal(months, ~gone.flatten(1).all(dim=1))
        if kind == "all missing":
            assert (images == 0).all() and not months.any()
        else:
            assert torch.equal(images.isnan(), gone)
            assert torch.equal(images[~gone], pixel_values[~gone].float())
        assert text == names
        assert auxiliary == {"sample_id": None} | values | {
            name: values.get(name) or 0 for name in VARIABLE_NAMES}
        assert known.tolist() == [values.get(name) is not None
                                  for name in VARIABLE_NAMES]
    with pytest.raises(shards.ShardError, match="record 100: .*no valid"):
        ids(GGTDataset(path, strict=True))
    with pytest.warns(UserWarning, match="skipped 8 samples"):
        strict = ids(GGTDataset(path, strict=True, on_error="skip",
                                num_workers=workers))
    assert strict == [101, 103, 105, 106, 107, 110, 111]


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_may_share_whole_files(written, bare, world):
    parts = [GGTDataset(bare, 10, world_size=world, rank=rank,
                        use_sample_filtering=False) for rank in range(world)]
    found = [ids(part) for part in parts]
    assert sorted(sum(found, [])) == sorted(written.load().ids)
    whole = [list(shards.open(f.path).load().ids) for f in written.files]
    assert all(len(rows) == sum(len(one) for one in whole
                                if set(one) <= set(rows)) for rows in found)
    assert [len(part.get_dataloader()) for part in parts] == [
        -(-len(rows) // 10) for rows in found]


def test_a_number_that_is_told_is_not_counted(written, bare, monkeypatch):
    data = GGTDataset(bare, num_samples=len(written))
    assert data.num_samples == len(data) == len(written)
    assert not data._known
    assert ids(data) == list(written.load().ids)
    assert GGTDataset(bare).num_samples == len(written)
    wrong = GGTDataset(bare, num_samples=7, world_size=2, rank=0)
    with pytest.raises(ValueError, match="num_samples is 7, but .* 113"):
        ids(wrong)


# Options --------------------------------------------------------------------


@pytest.mark.parametrize("path", ["pipe:rm -rf x", "https://host/a.tar",
                                  ["hf://datasets/a/b.tar"]])
def test_addresses_and_commands_are_refused(path):
    with pytest.raises(ValueError, match="is a command|address or a command"):
        GGTDataset(path)


@pytest.mark.parametrize("options", [
    {"batch_size": 0}, {"num_workers": -1}, {"shuffle": -1},
    {"world_size": 2, "rank": 2}, {"rank": -1}, {"on_error": "print"}])
def test_options_that_cannot_be_are_refused(bare, options):
    with pytest.raises(ValueError, match="expected|count from 0"):
        GGTDataset(bare, **options)


def test_files_that_cannot_be_are_refused(bare, written, table, tmp_path):
    with pytest.raises(FileNotFoundError, match="no tar file"):
        GGTDataset(tmp_path / "nowhere.tar")
    counts = tmp_path / "counts.json"
    counts.write_text("[1, 2]")
    with pytest.raises(ValueError, match="counts by file name"):
        GGTDataset(bare, shard_counts_json_path=counts)
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(ValueError, match="no sample in 1 files"):
        ids(GGTDataset(tmp_path / "empty.tar"))
    cube = pixels.open(written.files[0].path.parents[1] / "cube.zarr")
    shards.write(cube, table, tmp_path / "packed", progress=False)
    with pytest.raises(ValueError, match="packed shard"):
        GGTDataset(tmp_path / "packed")
