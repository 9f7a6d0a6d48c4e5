"""Damage of every kind: found, or without effect; never another error."""

import errno
import gc
import gzip
import io
import json
import os
import shutil
import tarfile
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from fake_source import FakeSource, occurrence_table

from geotree import GGTDataset, pixels, shards
from geotree.shards import index, records

FLIPS = 1000  # of each kind of file


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A few samples in both layouts."""
    folder = tmp_path_factory.mktemp("damage")
    table = occurrence_table(16)
    cube = pixels.download(table, FakeSource(), folder / "cube.zarr",
                           progress=False)
    for layout, pack in (("packed", 4), ("release", 1)):
        shards.write(cube, table, folder / layout, layout=layout, pack=pack,
                     packs_per_shard=8 // pack, progress=False)
    return folder


@pytest.fixture(params=["packed", "release"])
def folder(made, tmp_path, request):
    return shutil.copytree(made / request.param, tmp_path / request.param)


@pytest.fixture
def release(made, tmp_path):
    return shutil.copytree(made / "release", tmp_path / "tars")


def bare(folder):
    """The tars alone, as they come from the hub."""
    for name in ("index.json", "records.npy", "samples.parquet"):
        (folder / name).unlink()
    return sorted(folder.glob("*.tar"))


def flips(path, seed=0, n=FLIPS, low=0, high=None):
    """A file with one random bit changed, again and again."""
    rng = np.random.default_rng(seed)
    data = path.read_bytes()
    for place in rng.integers(low, high or len(data), n).tolist():
        byte = data[place] ^ (1 << int(rng.integers(8)))
        with path.open("r+b") as file:
            file.seek(place)
            file.write(bytes([byte]))
            file.flush()
            yield place
            file.seek(place)
            file.write(data[place:place + 1])


def equal(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_flipped_bit_of_a_tar_is_silent(folder):
    """Found as a ShardError, or what is read is what was written."""
    data, found = shards.open(folder), 0
    truth = data.load()
    path = data.files[0].path
    for _ in flips(path):
        try:
            equal(data.load(), truth)
        except shards.ShardError:
            found += 1
    assert found > FLIPS * 0.9
    equal(data.load(), truth)


@pytest.mark.parametrize("name", ["index.json", "records.npy",
                                  "samples.parquet"])
def test_no_flipped_bit_beside_the_tars_is_silent(folder, name):
    found = 0
    for _ in flips(folder / name):
        with pytest.raises(shards.ShardError, match=name):
            shards.open(folder).labels  # noqa: B018
        found += 1
    assert found == FLIPS
    shards.open(folder).verify()


def read(data):
    """What a GGTDataset yields, or raises, as arrays and dictionaries."""
    found = []
    for batch, faults in data.batches():
        if faults:
            raise faults[0]
        found.append(batch)
    return found


def test_no_flipped_bit_is_silent_in_the_loader_of_the_release(release):
    path = sorted(release.glob("*.tar"))[0]
    data, found = GGTDataset(path), 0
    truth, = read(data)
    for _ in flips(path, seed=1):
        try:
            (images, *text, months, known), = read(data)
        except shards.ShardError:
            found += 1
            continue
        assert torch.equal(images.nan_to_num(-1), truth[0].nan_to_num(-1))
        assert text == list(truth[1:3])
        assert torch.equal(months, truth[3]) and torch.equal(known, truth[4])
    assert found > FLIPS * 0.9


def pixel_bytes(path):
    """Where the members of the first sample's pixels lie."""
    with tarfile.open(path) as tar:
        member = tar.getmembers()[0]
    return member.offset_data, member.offset_data + member.size


@pytest.mark.parametrize("part", ["pixels", "anything"])
def test_a_tar_without_an_index_raises_nothing_else(release, part):
    """Pixels carry a checksum; flipped names are names, as far as we see."""
    path, *_ = bare(release)
    write(path, parts_of(path)[:6])
    truth = shards.open(path).load()
    low, high = pixel_bytes(path) if part == "pixels" else (0, None)
    for _ in flips(path, seed=2, n=FLIPS // 4, low=low, high=high):
        try:
            batch = shards.open(path).load()
        except shards.ShardError:
            batch = None
        if batch is not None and part == "pixels":
            equal(batch, truth)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                shards.open(path, on_error="skip").load()
            except ValueError as error:
                assert "is not among" not in str(error)
                assert "no sample" in str(error)


def with_member(path, suffix, data, number=0):
    """Rewrite a tar with one member changed; a function changes bytes."""
    with tarfile.open(path) as tar:
        parts = [(m.name, tar.extractfile(m).read()) for m in tar]
    at = [i for i, (name, _) in enumerate(parts)
          if name.endswith(suffix)][number]
    name, old = parts[at]
    parts[at] = (name, data(old) if callable(data) else data)
    return write(path, parts)


def write(path, parts):
    with tarfile.open(path, "w") as tar:
        for name, data in parts:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def method(number):
    """The compression method of a member of the zip, changed."""
    def change(data):
        at = data.index(b"PK\1\2") + 10
        return data[:at] + bytes([number]) + data[at + 1:]
    return change


def saved(tensor):
    buffer = io.BytesIO()
    torch.save(tensor, buffer)
    return buffer.getvalue()


STRANGE = {
    **{f"method {number}": method(number) for number in (1, 8, 9, 12, 14,
                                                         99)},
    "ten billion values": saved(torch.zeros(1).expand(100_000, 100_000)),
    "complex": saved(torch.ones(12, 10, 5, 5, dtype=torch.complex64)),
    "sparse": saved(torch.ones(12, 10).to_sparse()),
    "reflectance": saved(torch.rand(12, 10, 5, 5)),
    "a list": saved([torch.ones(12, 10, 5, 5)]),
    "a zip of nothing": b"PK\5\6" + bytes(18),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_tensors_are_named_or_skipped(release, kind):
    path, *_ = bare(release)
    truth = shards.open(path).load()
    with_member(path, "images.pth", STRANGE[kind], 2)
    told = f"{path.name}', record {truth.ids[2]}: "
    with pytest.raises(shards.ShardError, match=told):
        shards.open(path).load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = shards.open(path, on_error="skip")
        left = data.load()
        assert data.skipped == 1
        equal(left, shards.take(truth, np.delete(np.arange(8), 2)))
        loader = GGTDataset(path, on_error="skip", strict=True)
        images = [batch[0] for batch in loader.get_dataloader()]
    if kind != "reflectance":  # the release does not know units
        assert sum(map(len, images)) == 7 and loader.skipped == 1


def test_numbers_and_sizes_beyond_all_files_are_refused(release):
    path, *_ = bare(release)
    member = tarfile.TarInfo("1.images.pth")
    member.size = 1 << 80
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(shards.ShardError, match="over 8 GB"):
        len(shards.open(path))


class Worn:
    """A file on a disk of which some bytes cannot be read any more."""

    def __init__(self, file, low, high):
        self.file, self.low, self.high = file, low, high

    def __getattr__(self, name):
        return getattr(self.file, name)

    def read(self, offset, length, **how):
        if offset < self.high and offset + length > self.low:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self.file.read(offset, length, **how)


def test_a_sector_that_cannot_be_read_is_a_record(folder, monkeypatch):
    """It is named as damage is, left out and counted; no bare OSError."""
    data = shards.open(folder)
    file = data.files[0]
    bad = int(file.records["offset"][1])
    truth, open_ = data.load(), records._open
    monkeypatch.setattr(records, "_open", lambda one: Worn(
        open_(one), bad, bad + 512) if one.path == file.path else open_(one))
    told = f"{file.path.name}', record 1 of .*Input/output error"
    for read in (data.load, lambda: data[int(file.records["samples"][0])],
                 lambda: list(data.batches(3, shuffle=True))):
        with pytest.raises(shards.ShardError, match=told):
            read()
    left = shards.open(folder, on_error="skip")
    with pytest.warns(UserWarning, match=told):
        some = left.load()
    n = int(file.records["samples"][1])
    assert left.skipped == n and len(some.ids) == len(truth.ids) - n


def test_labels_are_compared_with_a_table(folder):
    """A relabelled table is told from the labels that were written."""
    data = shards.open(folder)
    data.verify()
    data.verify(data.table)
    other, names = data.table.copy(), data.classes["species"]
    new = names[names != other["species"][3]].iloc[0]
    other.loc[3, "species"] = new
    told = f"gbifID {other['gbifID'][3]}: the label is .* says '{new}'"
    with pytest.raises(shards.ShardError, match=told):
        data.verify(other)
    path = folder / "samples.parquet"  # written wrong from the start
    other.to_parquet(path)
    index.save(folder, {key: value for key, value in json.loads(
        (folder / "index.json").read_text()).items() if key in (
            "layout", "pack", "samples", "classes", "provenance", "left_out",
            "shards")})
    with pytest.raises(shards.ShardError, match=told):
        shards.open(folder).verify()


@pytest.mark.parametrize("header", [
    b"{'descr': (", b"{'descr': '<u2' 1}", b"((((((((" * 200, b"", b"{",
    b"{'descr': '|O', 'fortran_order': False, 'shape': (4,), }\n",
    b"{'descr': '<u2', 'fortran_order': False, 'shape': (" + b"9" * 5000
    + b",), }\n"])
def test_a_header_of_another_kind_is_no_more_than_a_wrong_value(header):
    data = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header
    member = tarfile.TarInfo("0.images.npy")
    member.size = len(data)
    whole = member.tobuf() + data + bytes(-len(data) % 512)
    with pytest.raises(ValueError, match="no .npy|Exceeds"):
        records.decode(np.frombuffer(whole, np.uint8), pd.Index(["a"]))


# The same twice ------------------------------------------------------------


def parts_of(path):
    with tarfile.open(path) as tar:
        return [(m.name, tar.extractfile(m).read()) for m in tar]


@pytest.mark.parametrize("apart", [True, False])
def test_a_key_that_is_there_twice_is_an_error(release, apart):
    path, *_ = bare(release)
    parts = parts_of(path)
    twice = parts + parts[:3] if apart else parts[:3] + parts
    write(path, twice)
    with pytest.raises(shards.ShardError, match="twice"):
        shards.open(path).load()
    with pytest.raises(shards.ShardError, match="twice"):
        read(GGTDataset(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = shards.open(path, on_error="skip")
        assert data.load().ids.size == data.table["gbifID"].nunique()
        assert data.skipped == 1


@pytest.mark.parametrize("indexed", [True, False])
def test_a_tar_that_is_given_twice_is_an_error(folder, indexed):
    tars = sorted(folder.glob("*.tar"))
    copy = folder / "shard-000000 (1).tar"
    if not indexed:
        if folder.name == "packed":
            pytest.skip("packed tars are read with their index")
        bare(folder)
    for paths in ([tars[0], tars[0]], [folder, tars[1]],
                  [tars[0], folder / "." / ".." / folder.name / tars[0].name]):
        with pytest.raises(ValueError, match="holds the same as"):
            shards.open(paths)
    shutil.copy(tars[0], copy)
    if indexed:  # it is not in the index: left out, and said
        with pytest.warns(UserWarning, match=r"1 tar files.*\(1\)\.tar"):
            assert len(shards.open(folder)) == 16
    else:
        for way in (shards.open, GGTDataset):
            with pytest.raises(ValueError, match="holds the same as"):
                way(folder)


def test_a_copy_of_a_folder_is_the_same(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(ValueError, match="holds the same as"):
        shards.open([folder, copy])


def test_samples_of_two_tars_are_found_by_their_ids(release):
    first, second = bare(release)
    write(second, parts_of(first)[3:9] + parts_of(second))
    with pytest.raises(shards.ShardError, match=f"sample_id.*{first.name}"):
        shards.open([first, second])


def test_what_macs_add_is_left_out_and_said(release):
    path, *_ = bare(release)
    truth = shards.open(path).load()
    parts = []
    for name, data in parts_of(path):
        parts += [(f"._{name}", b"mac" * 50), (name, data)]
    write(path, [("._.", b""), *parts, ("__MACOSX/x.images.pth", b"1"),
                 (".DS_Store", b"2")])
    (release / "._shard-000000.tar").write_bytes(b"mac")
    with pytest.warns(UserWarning, match="macOS") as told:
        data = shards.open(release)
        assert len(data) == 16
    assert {str(one.message).split(" members")[0].split(" tar ")[0]
            for one in told} == {"left out 27", "left out 1"}
    found = data.select(range(8)).load()
    assert (found.ids == truth.ids).all()
    assert (found.images == truth.images).all()


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_a_compressed_tar_says_what_to_do(release, tmp_path, name):
    path, *_ = bare(release)
    lone = tmp_path / "lone"
    lone.mkdir()
    (lone / name).write_bytes(gzip.compress(path.read_bytes(), 1))
    for where in (lone, lone / name):
        with pytest.raises(shards.ShardError, match="gzip.*unpack"):
            shards.open(where).load()
        with pytest.raises(shards.ShardError, match="gzip.*unpack"):
            read(GGTDataset(where))


# What is not there ---------------------------------------------------------


@pytest.mark.parametrize("change", ["order", "label", "column", "gone"])
def test_a_table_that_is_not_its_own_is_found(folder, change):
    path = folder / "samples.parquet"
    data = shards.open(folder)
    table = data.table
    table = {"order": table.iloc[::-1], "label": table.assign(
        species=table["species"].iloc[0]), "column": table.drop(
            columns="year"), "gone": table.head(3)}[change]
    table.to_parquet(path)
    for use in (lambda data: data.labels, lambda data: data.table,
                lambda data: data.load(), lambda data: data.verify()):
        with pytest.raises(shards.ShardError, match="samples.parquet"):
            use(shards.open(folder))
    path.unlink()
    with pytest.raises(shards.ShardError, match="cannot be read"):
        shards.open(folder).load()


def test_a_tar_with_fewer_or_more_samples_than_listed_is_found(release):
    path, *_ = bare(release)
    counts = release / "counts.json"
    for listed in (7, 9):
        counts.write_text(json.dumps({path.name: listed}))
        data = GGTDataset(path, shard_counts_json_path=counts)
        with pytest.raises(shards.ShardError, match="listed"):
            read(data)


def test_a_record_that_was_taken_out_is_found(release):
    path = sorted(release.glob("*.tar"))[0]
    write(path, parts_of(path)[3:])
    with pytest.raises(shards.ShardError, match="checksum"):
        shards.open(release).load()
    with pytest.raises(shards.ShardError, match="checksum"):
        read(GGTDataset(path))


def test_thousands_of_damaged_reads_end(folder):
    """No thread waits for the collector, however often it comes."""
    data = shards.open(folder)
    with data.files[0].path.open("r+b") as file:
        file.seek(int(data.files[0].records["offset"][1]) + 3000)
        file.write(b"\x55\xaa")
    before, failed = gc.get_threshold(), 0
    gc.set_threshold(50)
    try:
        for epoch in range(2000):
            try:
                for _ in data.batches(3, shuffle=True, epoch=epoch):
                    pass
            except shards.ShardError:
                failed += 1
    finally:
        gc.set_threshold(*before)
    assert failed == 2000
