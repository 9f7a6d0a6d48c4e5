"""The hub: what arrives is what was listed, or it does not arrive."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from loopback_hub import COMMIT, LoopbackHub

from geotree import GeoTreeClip, network
from geotree.network import ServiceError
from geotree.release import hub, tokens
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
    assert hub.table(**options).read_bytes() == TABLE
    assert hub.checkpoint(**options).read_bytes() == FILES[hub.CHECKPOINT]
    before = len(server.requests)
    assert hub.fetch("README.md", revision=COMMIT, **options).exists()
    assert hub.table(**options).read_bytes() == TABLE
    assert len(server.requests) == before


def test_the_token_goes_to_the_hub_and_nowhere_else(options, server):
    """Files lie on another host, as those of the hub do."""
    storage = LoopbackHub({REPO: dict(FILES)})
    server.private.add(REPO)
    server.storage = storage.url
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
from geotree import GeoTreeClip
from geotree.release import hub
from geotree.release.towers import ReleaseConfig
model = GeoTreeClip.from_pretrained(
    hub.DATASET, tokenizer="me/tree", config=ReleaseConfig(*{SIZES}))
print(model.text_encoder.tokenizer("Acer")["input_ids"], hub.table())
"""


def test_model_and_tokenizer_lie_in_the_cache_of_the_user(server, tmp_path):
    """Fetched once with a token, then read where there is no network."""
    vocabulary = tokens.train(["Acer rubrum"], tmp_path / "tokens", size=690)
    path = GeoTreeClip(ReleaseConfig(*SIZES), tokenizer=vocabulary
                       ).to_release(tmp_path / "small.pth")
    server.repositories[REPO][hub.CHECKPOINT] = path.read_bytes()
    server.repositories["models/me/tree"] = {
        file.name: file.read_bytes() for file in vocabulary.iterdir()}
    server.private |= {REPO, "me/tree/"}
    said = []
    for offline in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True,
            env=os.environ | {
                "PYTHONPATH": str(Path(hub.__file__).parents[2]),
                "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": offline,
                "HF_HOME": str(tmp_path / "home")}, timeout=200)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
        server.secret = "another"  # from here on nothing can be fetched
    assert said[0] == said[1] and COMMIT in said[0]


def test_a_tokenizer_without_a_file_is_refused(tmp_path):
    """The library that reads it makes up an empty one where it is not."""
    vocabulary = tokens.train(["Acer rubrum"], tmp_path, size=690)
    (vocabulary / "merges.txt").unlink()
    with pytest.raises(OSError, match=r"lacks merges\.txt"):
        tokens.Reader(vocabulary, 700, 40)(["Acer"], "cpu")


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
    with pytest.raises(ServiceError, match="no tar files in 'GGT'"):
        hub.shards("GGT", endpoint=server.url)
    with pytest.raises(ServiceError, match="'no/where'.*404"):
        network.hub_file("no/where", "a", **options)
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
