"""The hub: what arrives is what was listed, or it does not arrive."""

import os

import numpy as np
import pytest
from fake_source import FakeSource, occurrence_table
from huggingface_hub import HfFileSystem, constants
from killing import Run
from loopback_hub import COMMIT, LoopbackHub

from geotree import GeoTreeClip, GGTDataset, pixels, shards
from geotree.network import ServiceError
from geotree.release import conversion, hub, towers
from geotree.release.towers import ReleaseConfig

RNG = np.random.default_rng(0)
TABLE = b"sample_id,country_code\r\n1,DE\r\n"
TAR = RNG.bytes(23_000_000)
KEPT = 10 << 20  # bytes: transfers are written in blocks of this size
FILES = {"README.md": b"# A data set\n", "files/GlobalGeoTree.csv": TABLE,
         "checkpoints/GGT_6M.pth": RNG.bytes(5000),
         "GlobalGeoTree-10kEval/a.tar": TAR,
         "GlobalGeoTree-10kEval/b.tar": RNG.bytes(40_000),
         "GlobalGeoTree-6M/c.tar": RNG.bytes(100)}
REPO = f"datasets/{hub.DATASET}"
SIZES = (16, 1, 2, 2, 16, 1, 2, 8, 700, 40)  # of ReleaseConfig, in order


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    started = LoopbackHub({REPO: dict(FILES)})
    yield started
    started.close()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def options(server, cache):
    return {"endpoint": server.url, "cache_dir": cache}


def transfers(server):
    return [r for r in server.requests
            if r[0] == "GET" and ("/cdn" in r[1] or r[1].endswith(".md"))]


def test_lists_and_files_arrive_and_are_kept(options, server):
    assert hub.shards(endpoint=server.url) == [
        "GlobalGeoTree-10kEval/a.tar", "GlobalGeoTree-10kEval/b.tar"]
    assert hub.shards("GlobalGeoTree-6M", endpoint=server.url) == [
        "GlobalGeoTree-6M/c.tar"]
    for path, content in FILES.items():
        found = hub.fetch(path, **options)
        assert found.read_bytes() == content
        assert COMMIT in found.parts
    assert hub.checkpoint(**options).read_bytes() == FILES[hub.CHECKPOINT]
    before = len(server.requests)
    assert hub.fetch("README.md", revision=COMMIT, **options).exists()
    assert hub.fetch("files/GlobalGeoTree.csv", **options).exists()
    assert len(server.requests) == before


def test_the_token_goes_to_the_hub_and_nowhere_else(options, server):
    """Files lie on another host, as those of the hub do."""
    storage = LoopbackHub({REPO: dict(FILES)})
    server.private.add(REPO)
    server.storage = storage.url.replace("127.0.0.1", "localhost")
    try:
        found = hub.fetch("GlobalGeoTree-10kEval/b.tar", **options)
        assert hub.shards(endpoint=server.url)
    finally:
        storage.close()
    assert found.read_bytes() == FILES["GlobalGeoTree-10kEval/b.tar"]
    assert {*server.tokens} == {"Bearer secret"}
    assert storage.requests and {*storage.tokens} == {None}
    with pytest.raises(ServiceError, match="where it is private, your token"):
        hub.fetch("README.md", token="other", **options)
    with pytest.raises(ServiceError, match="cannot list"):
        hub.shards(endpoint=server.url, token=False)


PROGRAM = f"""
import os
from geotree import GeoTreeClip, GGTDataset
from geotree.release import hub
from geotree.release.towers import ReleaseConfig
model = GeoTreeClip.from_pretrained(
    hub.DATASET, tokenizer="me/tree", config=ReleaseConfig(*{SIZES}))
print(model.text_encoder.tokenizer("Acer")["input_ids"],
      hub.fetch("files/GlobalGeoTree.csv"))
name = "{REPO}/GlobalGeoTree-6M/c.tar"
if os.environ["HF_HUB_OFFLINE"] == "0":  # private, streamed, then fetched
    print(GGTDataset(f"hf://{{name}}").files[0].open().read(9) == b"\\0" * 9)
    hub.fetch("GlobalGeoTree-6M/c.tar")
print(GGTDataset(f"hf://{{name}}").files[0])
"""


def test_model_and_tokenizer_lie_in_the_cache_of_the_user(server, tmp_path):
    """Fetched once with a token, then read where there is no network."""
    vocabulary = towers.train_tokens(["Acer rubrum"], tmp_path / "tokens",
                                     size=690)
    path = GeoTreeClip(ReleaseConfig(*SIZES), tokenizer=vocabulary
                       ).to_release(tmp_path / "small.pth")
    server.repositories[REPO][hub.CHECKPOINT] = path.read_bytes()
    server.repositories[REPO]["GlobalGeoTree-6M/c.tar"] = bytes(10_240)
    server.repositories["models/me/tree"] = {
        file.name: file.read_bytes() for file in vocabulary.iterdir()}
    server.private |= {REPO, "me/tree/"}
    said = []
    for offline in ("0", "1"):
        said.append(Run(PROGRAM, environment={
            "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": offline,
            "HF_HOME": str(tmp_path / "home")}).finish(200))
        server.secret = "another"  # from here on nothing can be fetched
    assert said[0] == said[1].replace("\n", "\nTrue\n", 1)
    assert COMMIT in said[0]


def test_a_tokenizer_without_a_file_is_refused(tmp_path):
    """The library that reads it makes up an empty one where it is not."""
    vocabulary = towers.train_tokens(["Acer rubrum"], tmp_path, size=690)
    (vocabulary / "merges.txt").unlink()
    with pytest.raises(OSError, match=r"lacks merges\.txt"):
        towers.TextReader(vocabulary, 700, 40)(["Acer"], "cpu")


def test_too_many_requests_are_waited_for(options, server):
    server.faults["README.md"] = ["429"]
    assert hub.fetch("README.md", **options).exists()
    assert len(transfers(server)) == 2


def test_a_cut_transfer_goes_on_where_it_stopped(options, server):
    server.faults["GlobalGeoTree-10kEval/a.tar"] = ["cut"]
    found = hub.fetch("GlobalGeoTree-10kEval/a.tar", **options)
    assert found.read_bytes() == TAR
    first, second = transfers(server)
    assert first[2] is None and second[2] == f"bytes={KEPT}-"


@pytest.mark.parametrize("path", ["files/GlobalGeoTree.csv",
                                  "GlobalGeoTree-10kEval/b.tar"])
def test_another_content_is_refused_and_removed(options, server, cache,
                                                path):
    server.faults[path] = ["wrong"]
    with pytest.raises(ServiceError, match="are listed. Removed"):
        hub.fetch(path, **options)
    assert not [x for x in cache.rglob("blobs/*") if x.is_file()]
    assert hub.fetch(path, **options).read_bytes() == FILES[path]


def test_more_than_was_listed_ends_the_transfer(options, server, cache):
    server.faults["README.md"] = ["endless"]
    with pytest.raises(ServiceError, match="more than the 13 bytes"):
        hub.fetch("README.md", **options)
    assert server.sent < 100_000_000
    assert sum(x.stat().st_size for x in cache.rglob("*")
               if x.is_file()) < KEPT + 1000
    assert not [*cache.rglob("README.md")]


@pytest.mark.parametrize(("name", "value"), [
    ("X_Repo_Commit", "../../../outside"), ("X_Repo_Commit", "/outside/of/it"),
    ("X_Linked_ETag", '"../../../outside"'), ("X_Linked_ETag", '"main"')])
def test_words_of_a_mirror_become_no_paths(options, server, cache, name,
                                           value):
    server.said = {name: value}
    before = {*cache.parent.rglob("*")}
    with pytest.raises(ServiceError, match="expected 40 and 40 or 64"):
        hub.fetch("README.md", **options)
    assert {*cache.parent.rglob("*")} == before
    assert not transfers(server)


@pytest.mark.parametrize("path", ["../up.csv", "/etc/passwd", "a/../../b"])
def test_paths_that_lead_out_are_refused(options, server, cache, path):
    server.repositories[REPO][path] = b"1"
    before = {*cache.parent.rglob("*")}
    with pytest.raises(ServiceError, match="cannot get"):
        hub.fetch(path, **options)
    assert {*cache.parent.rglob("*")} - before <= {cache}


def test_what_is_not_there_is_named(options, server):
    with pytest.raises(ServiceError, match=r"'files/x\.csv' of 'yann111/.*"
                       "EntryNotFound"):
        hub.fetch("files/x.csv", **options)
    with pytest.raises(ServiceError, match="no tar files in 'GGT' of"):
        hub.shards("GGT", endpoint=server.url)
    with pytest.raises(ServiceError, match="'no/where'.*404"):
        hub.hub_file("no/where", "a", **options)
    with pytest.raises(ServiceError, match="Check name, network"):
        hub.fetch("README.md", cache_dir=options["cache_dir"],
                  endpoint="http://127.0.0.1:9")


def test_a_damaged_model_folder_of_the_hub_is_told_of(server, tmp_path):
    """What lies in the cache is checked where it is first opened."""
    folder = GeoTreeClip(ReleaseConfig(*SIZES), tokenizer="none"
                         ).save_pretrained(tmp_path / "model")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="SHA-256"):
        GeoTreeClip.from_pretrained(folder)
    with pytest.raises(ValueError, match="SHA-256"):  # by its card
        GeoTreeClip.from_pretrained(path)


# Tars that are read while they arrive ---------------------------------------


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    """Three tars of the release, and what lies in them."""
    folder = tmp_path_factory.mktemp("tars")
    table = occurrence_table(75)
    cube = pixels.download(table, FakeSource(), folder / "cube.zarr",
                           progress=False)
    data = shards.write(cube, table, folder / "tars", layout="release",
                        pack=16, packs_per_shard=2, progress=False)
    return data, {f"GlobalGeoTree-6M/{file.path.name}":
                  file.path.read_bytes() for file in data.files}


@pytest.fixture
def streaming(server, tars, monkeypatch, cache):
    """The address of a folder of tars, on a hub that is not the user's."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    HfFileSystem.clear_instance_cache()
    server.repositories[REPO] = dict(tars[1])
    return f"{server.url}/{REPO}/tree/main/GlobalGeoTree-6M"


def ids(data):
    return [row["sample_id"] for batch in data.get_dataloader()
            for row in batch[2]]


@pytest.mark.parametrize("workers", [0, 3])
def test_tars_stream_once_and_nothing_is_kept(streaming, server, tars, cache,
                                              workers):
    """Each tar is asked for once; the token of another hub is not told."""
    data = GGTDataset(streaming, batch_size=16, num_workers=workers)
    assert len(server.requests) == 1  # the list
    assert ids(data) == tars[0].load().ids.tolist()
    assert server.sent == sum(map(len, tars[1].values()))
    assert len([path for _, path, _ in server.requests
                if path.startswith("/cdn")]) == 3
    assert len(server.requests) <= 2 + 3 * 3  # lists, and redirects
    assert {*server.tokens} == {None}
    assert not [*cache.rglob("*")]
    with pytest.warns(UserWarning, match="told from their size"):
        about = len(data)
    assert abs(about - len(tars[0])) <= 0.2 * len(tars[0])
    with pytest.raises(ValueError, match="given twice"):
        GGTDataset([streaming, streaming])


def test_a_program_without_a_token_streams(streaming, server, tars, tmp_path,
                                           monkeypatch):
    """As someone new to the hub runs it; each byte comes once."""
    program = f"""
from geotree import GGTDataset
data = GGTDataset("hf://{REPO}/GlobalGeoTree-6M", batch_size=16)
print(sum(len(batch[0]) for batch in data.get_dataloader()))"""
    for name in [name for name in os.environ if name.startswith("HF_")]:
        monkeypatch.delenv(name)
    said = Run(program, environment={
        "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")})
    assert int(said.finish(200)) == len(tars[0])
    assert server.sent == sum(map(len, tars[1].values()))
    assert len(server.requests) <= 2 + 3 * 3
    assert {*server.tokens} == {None}
    assert not [*tmp_path.rglob("*.tar")]


@pytest.mark.filterwarnings("ignore:the samples of")
def test_ranks_share_whole_tars_of_a_stream(streaming, tars):
    found = [ids(GGTDataset(streaming, world_size=2, rank=rank))
             for rank in (0, 1)]
    assert sorted(sum(found, [])) == sorted(tars[0].load().ids)
    assert all(found)


def test_a_cut_stream_goes_on_and_a_damaged_one_is_named(streaming, server,
                                                         tars):
    name = [*tars[1]][1]
    server.faults[name] = ["cut"]
    assert ids(GGTDataset(streaming)) == tars[0].load().ids.tolist()
    assert [told for _, path, told in server.requests if told]
    server.faults[name] = ["wrong"]
    with pytest.raises(shards.ShardError, match="shard-000001.tar', after"):
        ids(GGTDataset(streaming))
    data = GGTDataset(streaming)
    kept = server.repositories[REPO][name]  # a digit that still reads well
    server.repositories[REPO][name] = kept.replace(b".1", b".2", 1)
    with pytest.raises(OSError, match="another SHA-256 than the hub lists"):
        ids(data)
    data = GGTDataset(streaming)
    del server.repositories[REPO][name]
    with pytest.raises(ServiceError, match="cannot read 'hf://"):
        ids(data)


def test_a_tar_that_the_user_has_is_not_fetched(streaming, server, options,
                                                tars, cache):
    name = [*tars[1]][2]
    hub.fetch(name, **options)
    before = len(server.requests)
    data = GGTDataset(f"hf://{REPO}/{name}")
    assert len(ids(data)) == len(data) == tars[0].files[2].samples
    assert len(server.requests) == before


def test_a_conversion_streams_and_goes_on(streaming, server, tars, tmp_path):
    """What was read before it broke off is not asked for again."""
    out, (_, second, third) = tmp_path / "out", tars[1]
    server.faults[second] = ["wrong"]
    with pytest.raises(shards.ShardError, match="shard-000001.tar"):
        conversion.convert(streaming, out, workers=1, progress=False)
    server.requests.clear()
    packed = conversion.convert(streaming, out, workers=1, progress=False)
    asked = [path for _, path, _ in server.requests if "/cdn" in path]
    assert [path.endswith((second, third)) for path in asked] == [True, True]
    whole = conversion.convert([file.path for file in tars[0].files],
                               tmp_path / "files", workers=1, progress=False)
    assert packed.load().ids.tolist() == whole.load().ids.tolist()
    assert not [*tmp_path.glob("**/shard-00000[12].tar")]
