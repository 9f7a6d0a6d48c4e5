"""Shards far away: read where they lie, whatever the way there does."""

import json
import ssl
import sys
import traceback
import warnings

import numpy as np
import pytest
from fake_source import FakeSource, occurrence_table
from killing import Run
from loopback.server import DROP, TRUNCATE, Answer, Service, certificate
from loopback_hub import LoopbackHub
from torch.utils.data import DataLoader

from geotree import network, pixels, shards
from geotree.network import ServiceError

pytest.importorskip("s3fs", reason="SKIPPED: far away needs geotree[far]")
N = 160
SMALL = {"pack": 16, "packs_per_shard": 4, "progress": False}


class Web(Service):
    """The files of a folder; ``forbidden`` names some, ``leads`` elsewhere.
    """

    def __init__(self, folder, **how):
        super().__init__(**how)
        self.folder, self.forbidden, self.leads = folder, "?", ""

    def answer(self, call):
        if self.leads:
            raise Answer(302, "", Location=self.leads + call["address"])
        if self.forbidden in call["path"]:
            raise Answer(403, {"message": "no"})
        try:
            return (self.folder / call["path"].strip("/")).read_bytes()
        except FileNotFoundError:
            raise Answer(404, {"message": "nothing here"}) from None


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cube, its table, and two folders of shards in another order."""
    folder = tmp_path_factory.mktemp("far")
    table = occurrence_table(N)
    cube = pixels.download(table, FakeSource(), folder / "cube.zarr",
                           chunk=80, progress=False)
    for seed in (0, 1):
        shards.write(cube, table, folder / f"seed-{seed}", seed=seed, **SMALL)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of the shards, for a server to serve and a test to spoil."""
    (tmp_path / "set").mkdir()
    for path in (made / "seed-0").iterdir():
        (tmp_path / "set" / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.fixture
def web(folder, monkeypatch):
    monkeypatch.setattr(network, "LONGEST", 0.01)
    monkeypatch.setenv("GEOTREE_CACHE", str(folder / "cache"))
    with Web(folder) as started:
        yield started


def equal(data, made):
    truth = shards.open(made / "seed-0")
    for one, other in zip(data.load(), truth.load(), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(data.batches(48, shuffle=True, seed=3),
                          truth.batches(48, shuffle=True, seed=3),
                          strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.images, other.images)


def tars(folder):
    return sorted((folder / "set").glob("*.tar"))


def test_all_is_as_on_disk_and_comes_once(web, made):
    data = shards.open(f"{web.url}/set/")
    assert [call["path"] for call in web.log] == ["/set/index.json",
                                                  "/set/records.npy"]
    assert len(data) == len(shards.open(made / "seed-0"))
    equal(data, made)
    data.verify()
    asked = web.calls(".tar")
    assert all("range" in call["headers"] for call in web.log)
    assert web.most > 1  # records are asked for ahead of their use
    again = shards.open(f"{web.url}/set")
    equal(again, made)
    assert len(web.calls(".tar")) == len(asked)
    assert len(web.calls("samples.parquet")) == 1
    row = len(again) - 1
    np.testing.assert_array_equal(again[row].images,
                                  shards.open(made / "seed-0")[row].images)
    few = again.select(range(20, 30))
    assert list(few.load().ids) == list(data.table["gbifID"][20:30])
    one = shards.open(f"{web.url}/set/{again.files[1].path.name}")
    assert len(one) == again.files[1].samples


def test_worker_processes_read_for_themselves(web, made):
    data = shards.open(f"{web.url}/set", cache_gb=0)
    data.load()
    loader = DataLoader(data, 40, num_workers=2, collate_fn=len)
    assert sum(loader) == len(data)


@pytest.mark.parametrize("fault", [429, 503, DROP, TRUNCATE])
def test_what_may_be_better_next_time_is_asked_for_again(web, made, fault):
    web.faults = [fault, fault, None, None, fault] + [None, fault] * 6
    equal(shards.open(f"{web.url}/set"), made)
    assert not web.faults


def test_asking_again_has_one_owner_and_an_end(web):
    web.faults = [503] * 50
    with pytest.raises(ServiceError, match="503.*tried 6 times"):
        shards.open(f"{web.url}/set")
    assert len(web.log) == 6


def test_a_redirect_is_followed_but_never_out_of_encryption(web, made,
                                                            folder):
    with Web(folder) as first:
        first.leads = web.url
        equal(shards.open(f"{first.url}/set"), made)
    pem = certificate(folder)
    how = {"ssl": ssl.create_default_context(cafile=pem)}
    with Web(folder, tls=pem) as safe:
        equal(shards.open(f"{safe.url}/set", storage_options=how,
                          cache=folder / "other"), made)
        safe.leads = "http://elsewhere.example"
        with pytest.raises(ServiceError, match="is not encrypted. Refused"):
            shards.open(f"{safe.url}/set", storage_options=how)
    with pytest.raises(ValueError, match="expected https"):
        shards.open("http://elsewhere.example/set")
    with pytest.raises(ValueError, match="is a command"):
        shards.open("pipe:cat x.tar")


def test_a_server_without_ranges_is_told_of_before_all_comes(web):
    web.ranges = False
    with pytest.raises(ServiceError, match="server without ranges. Copy"):
        shards.open(f"{web.url}/set")


def test_no_right_is_said_and_no_secret_shown(web):
    address = web.url.replace("//", "//me:hush@") + "/set?key=hush"
    data = shards.open(address)
    assert "key=hush" in web.log[0]["address"]
    web.forbidden = "000001.tar"
    data.on_error = "skip"  # the way is at fault, not a record
    with pytest.raises(ServiceError, match=r"no right .*000001\.tar.*403"
                       ) as error:
        data.load()
    shown = "".join(traceback.format_exception(error.value))
    assert "hush" not in shown + repr(data) + repr(data.files)


def test_what_the_store_has_lost_is_named(web, folder):
    data = shards.open(f"{web.url}/set", on_error="skip")
    tars(folder)[1].unlink()
    with pytest.raises(FileNotFoundError, match=r"000001\.tar' is not there"):
        data.load()
    with pytest.raises(FileNotFoundError, match=r"none/index\.json' is not"):
        shards.open(f"{web.url}/none")


def test_shards_that_were_written_anew_are_not_damage(web, made, folder):
    data = shards.open(f"{web.url}/set", on_error="skip")
    batches = data.batches(16)
    next(batches)
    for path in (made / "seed-1").iterdir():
        (folder / "set" / path.name).write_bytes(path.read_bytes())
    assert len(list(shards.open(f"{web.url}/set").batches(16))) == 10
    with pytest.raises(ServiceError, match=r"index\.json' is not the one"):
        list(batches)
        list(data.batches(16))


@pytest.mark.parametrize("kind", ["flipped", "cut"])
def test_damage_is_that_of_a_record(web, made, folder, kind):
    path = tars(folder)[0]
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw if kind == "flipped" else raw[:len(raw) // 2])
    address = f"{web.url}/set"
    told = "checksum" if kind == "flipped" else "cut off"
    with pytest.raises(shards.ShardError, match=f"000000.tar', .*{told}"):
        shards.open(address).load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = shards.open(address, on_error="skip")
        assert len(data.load().ids) == len(data) - data.skipped
    assert 0 < data.skipped < len(data) // 2
    with pytest.raises(shards.ShardError, match="SHA-256"):
        data.verify()


def test_what_is_kept_is_checked_like_what_comes(web, made, folder):
    equal(shards.open(f"{web.url}/set"), made)
    asked = len(web.log)
    for path in (folder / "cache/shards").iterdir():
        path.write_bytes(bytes(len(path.read_bytes())))
    equal(shards.open(f"{web.url}/set"), made)
    assert len(web.log) > asked


def test_the_cache_keeps_to_its_size(web, made, folder):
    record = 16 * 6200
    data = shards.open(f"{web.url}/set", cache_gb=4 * record / 1e9)
    assert len(data.table)  # which is kept in any case
    kept = folder / "cache/shards"
    table = sum(path.stat().st_size for path in kept.iterdir())
    equal(data, made)
    equal(shards.open(f"{web.url}/set", cache_gb=4 * record / 1e9), made)
    assert sum(path.stat().st_size for path in kept.iterdir()
               ) <= max(4 * record, table)


FULL = """
import sys, warnings
from geotree import shards
data = shards.open(sys.argv[1])
data.table
fill_disk()
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    print(len(data.load().ids) == len(data))
print(len(told), told[0].message)
"""


def test_a_full_cache_is_said_once_and_reading_goes_on(web, folder):
    said = Run(FULL, f"{web.url}/set", full=20_000).finish().splitlines()
    assert said[0] == "True" and said[1].startswith("1 could not write")
    assert "Free some space" in said[1] and "Reading goes on" in said[1]
    assert not list((folder / "cache/shards").glob("*.part"))


def test_what_is_not_installed_is_named(web, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ImportError, match=r"pip install 'geotree\[far\]'"):
        shards.open("s3://bucket/set")
    with pytest.raises(ValueError, match="Protocol not known"):
        shards.open("pigeon://bucket/set")


def test_a_real_object_store(web, made, folder, monkeypatch):
    """``moto``'s server, over its own socket, by ``s3fs``."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        "127.0.0.1", 0)
    boto3 = pytest.importorskip("boto3")
    for name in ("ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name.replace('ID', 'ACCESS_KEY_ID')}",
                           "hush")
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="trees")
        for path in (folder / "set").iterdir():
            s3.upload_file(str(path), "trees", f"a/{path.name}")
        data = shards.open("s3://trees/a")
        equal(data, made)
        data.verify()
        name = data.files[1].path.name
        s3.delete_object(Bucket="trees", Key=f"a/{name}")
        with pytest.raises(FileNotFoundError, match=f"a/{name}' is not"):
            shards.open("s3://trees/a", cache=folder / "new").load()
        with pytest.raises(FileNotFoundError, match="b/index.json' is not"):
            shards.open("s3://trees/b")
    finally:
        server.stop()


def test_the_hub(web, made, folder):
    repo = "datasets/me/trees"
    hub = LoopbackHub({repo: {
        f"set/{path.name}": path.read_bytes()
        for path in (folder / "set").iterdir()}})
    how = {"endpoint": hub.url, "token": "secret"}
    hub.private.add(repo)
    try:
        equal(shards.open(f"hf://{repo}/set", storage_options=how), made)
        with pytest.raises(OSError, match=f"{repo}/set/index.json"):
            shards.open(f"hf://{repo}/set",
                        storage_options=how | {"token": False})
    finally:
        hub.close()


def test_an_index_that_points_elsewhere_stays_in_its_cache(web, folder):
    """Names of an index become no paths of this disk."""
    path = folder / "set/index.json"
    index = json.loads(path.read_bytes())
    assert set(index["files"]) == {"records.npy", "samples.parquet"}
    shards.open(f"{web.url}/set").load()
    for kept in (folder / "cache/shards").iterdir():
        assert len(kept.name) == 16 and kept.name.isalnum()
