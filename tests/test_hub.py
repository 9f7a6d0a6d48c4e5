"""The hub: what arrives is what was listed, or it does not arrive."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from loopback_hub import COMMIT, LoopbackHub

from geotree.release import hub
from geotree.release.hub import Hub, HubError

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


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "GEOTREE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    started = LoopbackHub({REPO: dict(FILES)})
    yield started
    started.close()


@pytest.fixture
def data(server, tmp_path):
    return Hub(endpoint=server.url, cache=tmp_path / "cache")


def transfers(server):
    return [r for r in server.requests if r[1].startswith("/cdn")]


def test_lists_and_files_arrive_and_are_kept(data, server):
    assert data.commit == COMMIT
    assert set(data.files) == set(FILES)
    assert data.shards() == ["GlobalGeoTree-10kEval/a.tar",
                             "GlobalGeoTree-10kEval/b.tar"]
    assert data.shards("GlobalGeoTree-6M") == ["GlobalGeoTree-6M/c.tar"]
    for path, content in FILES.items():
        found = data.fetch(path)
        assert found.read_bytes() == content
        assert COMMIT in found.parts
    before = len(server.requests)
    assert data.fetch("files/GlobalGeoTree.csv").read_bytes() == TABLE
    assert len(server.requests) == before
    assert server.token is None  # nobody's secret goes to a mirror


def test_the_names_of_the_release(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("GEOTREE_CACHE", str(tmp_path))
    assert hub.table().read_bytes() == TABLE
    checkpoint = FILES["checkpoints/GGT_6M.pth"]
    assert hub.checkpoint().read_bytes() == checkpoint
    assert hub.pretrained(hub.DATASET).read_bytes() == checkpoint
    server.repositories["models/me/tree"] = {"card.json": b"{}",
                                             "model.safetensors": b"12345"}
    folder = hub.pretrained("me/tree")
    assert (folder / "model.safetensors").read_bytes() == b"12345"
    with pytest.raises(FileNotFoundError, match="nor a hub id"):
        hub.pretrained("GGT_6M.pth")


def test_a_branch_is_pinned_until_updated(data, server):
    data.fetch("README.md")
    server.commit = "f" * 40
    server.repositories[REPO]["README.md"] = b"# New\n"
    assert data.fetch("README.md").read_bytes() == FILES["README.md"]
    assert data.update() == "f" * 40
    assert data.fetch("README.md").read_bytes() == b"# New\n"
    old = Hub(endpoint=server.url, cache=data.cache, revision=COMMIT)
    assert old.fetch("README.md").read_bytes() == FILES["README.md"]


def test_offline_only_the_cache_is_used(data, server, monkeypatch):
    data.fetch("README.md")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = len(server.requests)
    assert data.fetch("README.md").exists()
    with pytest.raises(HubError, match="the hub is offline"):
        data.fetch("files/GlobalGeoTree.csv")
    with pytest.raises(HubError, match="the hub is offline"):
        Hub(repo="some/other", cache=data.cache).fetch("a")
    assert len(server.requests) == before


def test_too_many_requests_are_waited_for(data, server):
    server.faults["README.md"] = ["429"]
    assert data.fetch("README.md").read_bytes() == FILES["README.md"]
    assert len(transfers(server)) == 2


def test_a_cut_transfer_goes_on_where_it_stopped(data, server):
    server.faults["GlobalGeoTree-10kEval/a.tar"] = ["cut"]
    assert data.fetch("GlobalGeoTree-10kEval/a.tar").read_bytes() == TAR
    first, second = transfers(server)
    assert first[2] is None and second[2] == f"bytes={KEPT}-"


def test_a_killed_process_leaves_what_it_has(data, server):
    """A real process, ended by the first error it meets, and another."""
    path = "GlobalGeoTree-10kEval/a.tar"
    server.faults[path] = ["cut", "500"]
    program = ("from geotree.release.hub import Hub; "
               f"Hub(endpoint={server.url!r}, "
               f"cache={str(data.cache)!r}).fetch({path!r})")
    root = Path(hub.__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", program], text=True,
                          env=environment, capture_output=True)
    assert "what has arrived is kept" in done.stderr
    part = data._folder / COMMIT / Path(path).parent / ".a.tar.part"
    assert part.stat().st_size == KEPT
    assert not part.with_name("a.tar").exists()
    assert data.fetch(path).read_bytes() == TAR
    assert transfers(server)[-1][2] == f"bytes={KEPT}-"
    assert not part.exists()


@pytest.mark.parametrize("path", ["files/GlobalGeoTree.csv",
                                  "GlobalGeoTree-10kEval/b.tar"])
def test_another_content_is_refused_and_removed(data, server, path):
    server.faults[path] = ["wrong"]
    with pytest.raises(HubError, match="the hub lists"):
        data.fetch(path)
    assert not list(data._folder.rglob("*.part"))
    assert data.fetch(path).read_bytes() == FILES[path]


def test_a_part_that_is_too_long_is_begun_anew(data):
    path = "GlobalGeoTree-6M/c.tar"
    target = data._folder / data.commit / path
    target.parent.mkdir(parents=True)
    target.with_name(".c.tar.part").write_bytes(b"x" * 1000)
    assert data.fetch(path).read_bytes() == FILES[path]


def test_what_is_not_there_is_named(data, server):
    with pytest.raises(HubError, match=r"no file 'files/x\.csv'.*It has "
                       r"files/GlobalGeoTree\.csv"):
        data.fetch("files/x.csv")
    with pytest.raises(HubError, match="no tar files in 'GGT'"):
        data.shards("GGT")
    with pytest.raises(HubError, match=f"of 'no/where' at 'main' from "
                       f"{server.url}.*RepositoryNotFound"):
        Hub(repo="no/where", endpoint=server.url,
            cache=data.cache).fetch("a")
    with pytest.raises(HubError, match="Check name and network"):
        Hub(endpoint="http://127.0.0.1:9", cache=data.cache).update()


@pytest.mark.parametrize("path", ["../up.csv", "/etc/passwd", "a/../../b"])
def test_paths_that_lead_out_are_refused(data, server, path):
    server.repositories[REPO][path] = b"1"
    with pytest.raises(HubError, match="leads out"):
        data.fetch(path)


def test_a_stream_keeps_one_or_two_files_on_disk(data):
    names = [name for name in FILES if name.endswith(".tar")]
    seen = []
    for path in data.stream(names):
        seen.append(path.read_bytes())
        assert len(list(path.parents[1].rglob("*.tar"))) <= 2
    assert seen == [FILES[name] for name in names]
    assert not path.exists() and not path.parents[1].exists()


def test_a_stream_checks_what_arrives(data, server):
    names = [name for name in FILES if name.endswith(".tar")]
    server.faults[names[1]] = ["wrong"]
    stream = data.stream(names)
    assert next(stream).read_bytes() == FILES[names[0]]
    with pytest.raises(HubError, match="the hub lists"):
        next(stream)


def test_long_transfers_show_progress(data, capfd, monkeypatch):
    monkeypatch.setenv("TQDM_POSITION", "-1")  # as if it were a terminal
    data.fetch("GlobalGeoTree-10kEval/a.tar")
    assert "a.tar" in capfd.readouterr().err
