"""What every test gets: no network, one thread, folders of its own."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ["NO_GCE_CHECK"] = "true"  # earthengine would ask the network
os.environ["MPLBACKEND"] = "Agg"

import importlib.util
import ipaddress
import socket
import sys
from pathlib import Path

import pytest

OURS = {f"GEOTREE_{name}" for name in (
    "DATA", "CACHE", "BOOK", "REQUIRE_BOOK", "REAL_TABLE", "COLAB",
    "LAB_DATA")}
TABLE = "shared/data/GlobalGeoTree-10kEval-90.csv"


# Dealt first, so that no process is left alone with one of them at the end.
SLOW = ("notebooks", "book", "presence", "colab", "cli", "lab",
        "earthengine", "benchmarks", "engine", "chain", "distributed",
        "ablations", "release_model", "build", "training", "clip", "shards",
        "widgets")


def pytest_collection_modifyitems(items):
    """Files that take minutes come first; the rest in order."""
    order = {f"test_{name}": place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: order.get(item.path.stem, len(SLOW)))


class NetworkBlocked(OSError):
    """A test tried to leave the machine."""


def _is_loopback(host) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def _guard(host) -> None:
    if not _is_loopback(host):
        raise NetworkBlocked(
            f"a test tried to reach '{host}'; tests may only use loopback. "
            "Give the code under test a loopback server or a fake source.")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What a test fetches is nothing that the user should find later."""
    os.environ["GEOTREE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """Refuse every connection and every name that is not of this machine."""
    inet = (socket.AF_INET, socket.AF_INET6)
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    getaddrinfo = socket.getaddrinfo

    def guarded(real):
        def method(self, address):
            if self.family in inet:
                _guard(address[0])
            return real(self, address)
        return method

    def guarded_lookup(host, *args, **kwargs):
        _guard(host)
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(connect))
        patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
        patch.setattr(socket, "getaddrinfo", guarded_lookup)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_settings(tmp_path_factory):
    """A data folder of the tests' own; no run or table of the caller's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOTREE_DATA", str(tmp_path_factory.mktemp("data")))
        for name in list(os.environ):
            if name == "TABLE" or (name.startswith("GEOTREE_")
                                   and name not in OURS):
                patch.delenv(name)
        yield


@pytest.fixture
def build():
    """The script ``book/build.py`` as a module."""
    spec = importlib.util.spec_from_file_location(
        "book_build", Path(__file__).parents[1] / "book/build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread():
    """Keep torch to one thread: same numbers and fair use of the cores."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_table() -> Path:
    """The release's table of 90 species; skips where it is not at hand.

    Looked for in ``TEST_REAL_TABLE`` and beside the checkout. It is not
    part of this repository, for its licence is unclear.
    """
    named = os.environ.get("TEST_REAL_TABLE")
    path = Path(named) if named else Path(__file__).parents[2] / TABLE
    if path.is_file():
        return path
    if named:
        pytest.fail(f"TEST_REAL_TABLE is '{named}', which does not exist")
    pytest.skip("no real table at hand: set TEST_REAL_TABLE to "
                "GlobalGeoTree-10kEval-90.csv of the release's repository")


@pytest.fixture(scope="session")
def three_classes():
    """A class table of three species of three families."""
    import pandas as pd

    from geotree import taxonomy

    rows = [("Acer rubrum", "Acer", "Sapindaceae", "Deciduous Broadleaf"),
            ("Pinus nigra", "Pinus", "Pinaceae", "Evergreen Needleleaf"),
            ("Quercus alba", "Quercus", "Fagaceae", "Deciduous Broadleaf")]
    return taxonomy.class_table(pd.DataFrame(
        rows, columns=["species", "genus", "family", "leafType"]))


@pytest.fixture(scope="session")
def planet_halves(tmp_path_factory):
    """Training and test shards of a small table of the planet.

    So small that many classes have one record, or none to train on.
    """
    from geotree import pixels, shards
    from geotree.planet.source import Planet

    folder, planet = tmp_path_factory.mktemp("halves"), Planet()
    table = planet.occurrences(320)
    cube = pixels.download(table, planet, folder / "cube.zarr",
                           progress=False)
    data = shards.write(cube, table, folder / "shards", pack=32,
                        progress=False)
    first = [row < 240 for row in range(len(data))]
    return data.select(first), data.select([not row for row in first])
