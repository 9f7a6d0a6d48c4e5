"""Downloading a cube: interruption, refusal, failure, and plain reading."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from fake_source import (
    FakeSource,
    occurrence_table,
    pixel,
    pixels_of,
    variables_of,
)
from killing import Run, kills

from geotree import files, pixels, shards
from geotree.pixels import cube
from geotree.planet.source import Planet
from geotree.sources import FAILED, NO_IMAGERY, OK, PENDING
from geotree.variables import BAND_NAMES, NODATA, VARIABLE_NAMES


def download(n_or_table, store, source=None, **options):
    table = (occurrence_table(n_or_table) if isinstance(n_or_table, int)
             else n_or_table)
    options = {"chunk": 8, "progress": False, **options}
    return pixels.download(table, source or FakeSource(), store, **options)


def same(one, other):
    xr.testing.assert_identical(one.load(), other.load())


# What is in a cube ------------------------------------------------------


def test_values_are_where_they_belong(tmp_path):
    table = occurrence_table(21)
    cube = download(table, tmp_path / "cube.zarr")
    key = int(table["gbifID"][13])
    for month, band, y, x in ((1, 0, 0, 4), (7, 3, 4, 0), (11, 9, 2, 1)):
        found = cube["reflectance"].sel(
            sample=key, month=month + 1, band=BAND_NAMES[band]).values[y, x]
        assert found == pixel(key, month, band, y, x)
    np.testing.assert_array_equal(cube["reflectance"],
                                  pixels_of(table["gbifID"]))
    np.testing.assert_array_equal(cube["environment"], variables_of(table))
    expected = np.where(table["gbifID"] % 17 == 0, NO_IMAGERY, OK)
    np.testing.assert_array_equal(cube["status"], expected)
    assert (expected == NO_IMAGERY).any()


def test_names_types_and_provenance(tmp_path):
    table = occurrence_table(9)
    cube = download(table, tmp_path / "cube.zarr")
    assert cube["reflectance"].dims == ("sample", "month", "band", "y", "x")
    assert cube["reflectance"].dtype == np.uint16
    assert cube["environment"].dtype == np.float32
    assert cube["status"].dtype == np.uint8
    assert cube["sample"].dtype == np.int64
    assert list(cube["month"]) == list(range(1, 13))
    assert tuple(cube["band"].values) == BAND_NAMES
    assert tuple(cube["variable"].values) == VARIABLE_NAMES
    assert cube["y"].values.tolist() == [20, 10, 0, -10, -20]  # north first
    assert cube["x"].values.tolist() == [-20, -10, 0, 10, 20]
    assert cube.attrs["source"] == "fake"
    assert cube.attrs["table_source"] == "by hand"
    assert cube["scale"].sel(variable="bio01") == 0.1
    assert pixels.counts(cube).sum() == 9


def test_any_xarray_reads_it_without_asking_for_each_array(tmp_path):
    download(9, tmp_path / "cube.zarr")
    cube = xr.open_zarr(tmp_path / "cube.zarr", consolidated=True)
    assert cube["reflectance"].shape == (9, 12, 10, 5, 5)


def test_the_plan_is_printed_before_anything_is_fetched(tmp_path, capsys):
    seen = []
    source = FakeSource(hook=lambda call: seen.append(capsys.readouterr()))
    download(10, tmp_path / "cube.zarr", source)
    assert "10 samples, 30 requests, 0.1 MB, about 12 s" in seen[0].out


def test_progress_goes_to_stderr(tmp_path, capsys):
    download(10, tmp_path / "cube.zarr", progress=True)
    assert "pixels" in capsys.readouterr().err


def test_the_table_is_left_as_it_was(tmp_path):
    table = occurrence_table(9)
    before = table.copy()
    download(table, tmp_path / "cube.zarr")
    pd.testing.assert_frame_equal(table, before)


# Interruption -----------------------------------------------------------

SLOW = """
import sys
from fake_source import FakeSource, occurrence_table
from geotree import files, pixels, shards
pixels.download(occurrence_table(240), FakeSource(seconds=0.05), sys.argv[1],
                chunk=8, progress=False)
"""
PLANET = """
import sys
from fake_source import occurrence_table
from geotree import files, pixels, shards
from geotree.pixels import cube
from geotree.planet.source import Planet
pixels.download(occurrence_table(480), Planet(), sys.argv[1], chunk=8,
                progress=False)
"""


@pytest.mark.parametrize(("code", "n"), [(SLOW, 240), (PLANET, 480)])
def test_killed_at_random_moments_it_goes_on_where_it_stopped(tmp_path, code,
                                                              n):
    store, source = tmp_path / "cube.zarr", Recorder(
        FakeSource() if code is SLOW else Planet())

    def chunks():
        return {part.name: part.stat().st_mtime_ns
                for part in store.glob("status/c/*") if part.name.isdigit()}

    done = {}
    for _ in kills(lambda: Run(code, store), lambda: len(chunks()), 20):
        assert done.items() <= chunks().items(), "a chunk came twice"
        done = chunks()
    with pytest.raises(ValueError, match="not finished"):
        pixels.open(store)
    half = pixels.open(store, allow_incomplete=True)
    ready = half["sample"].values[half["status"].values != PENDING]
    assert 0 < len(ready) < n
    resumed = download(n, store, source).load()
    assert not set(ready.tolist()) & set(source.fetched)
    assert len(ready) + len(source.fetched) == n
    same(resumed, download(n, tmp_path / "whole.zarr", source))


class Recorder:
    """A source that keeps the ids it is asked for."""

    def __init__(self, source):
        self.source, self.name, self.fetched = source, source.name, []
        self.attrs, self.plan = source.attrs, source.plan

    def fetch(self, table):
        self.fetched += table["gbifID"].tolist()
        return self.source.fetch(table)


def test_a_finished_cube_is_not_fetched_again(tmp_path):
    download(20, tmp_path / "cube.zarr")
    source = FakeSource()
    download(20, tmp_path / "cube.zarr", source)
    assert source.fetched == []


def test_an_error_of_the_source_loses_nothing(tmp_path):
    def hook(call):
        if call == 3:
            raise ConnectionError("the line is dead")

    store = tmp_path / "cube.zarr"
    with pytest.raises(OSError, match="Finished chunks are kept.*again"):
        download(40, store, FakeSource(hook=hook))
    kept = pixels.open(store, allow_incomplete=True)
    assert (kept["status"] != PENDING).sum() >= 16
    same(download(40, store), download(40, tmp_path / "whole.zarr"))


def test_a_second_run_on_one_store_is_refused(tmp_path):
    inside, go_on = threading.Event(), threading.Event()

    def hook(call):
        inside.set()
        assert go_on.wait(30)

    first = threading.Thread(target=download, args=(
        16, tmp_path / "cube.zarr", FakeSource(hook=hook)))
    first.start()
    try:
        assert inside.wait(30)
        with pytest.raises(files.BusyError, match="another process"):
            download(16, tmp_path / "cube.zarr")
    finally:
        go_on.set()
        first.join()
    assert (pixels.open(tmp_path / "cube.zarr")["status"] != PENDING).all()


def test_a_store_of_another_process_is_free_when_that_is_dead(tmp_path):
    store = tmp_path / "cube.zarr"
    other = Run(SLOW, store)
    while not list(store.glob("status/c/*")) and other.is_alive():
        time.sleep(0.002)
    with pytest.raises(files.BusyError, match="another process"):
        download(240, store)
    other.kill()
    same(download(240, store), download(240, tmp_path / "whole.zarr"))


FULL = """
import sys
from fake_source import FakeSource, occurrence_table
from geotree import files, pixels, shards

def hook(call):
    if call == 3:
        fill_disk()

try:
    pixels.download(occurrence_table(160), FakeSource(hook=hook),
                    sys.argv[1], chunk=32, progress=False)
except OSError as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk_keeps_what_is_finished(tmp_path):
    store = tmp_path / "cube.zarr"
    out = Run(FULL, store, full=20_000).finish()
    assert "OSError" in out and str(store) in out
    assert "File too large" in out
    assert "Finished chunks are kept" in out and "free space" in out
    half = pixels.open(store, allow_incomplete=True)
    # The second was to be written when the third was asked for.
    assert (half["status"] != PENDING).sum() in (32, 64)
    same(download(160, store, chunk=32),
         download(160, tmp_path / "whole.zarr", chunk=32))


@pytest.mark.parametrize("place", ["file/cube.zarr", "/proc/cube.zarr"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="cannot write beside .*cube.zarr"):
        download(9, tmp_path / place)


# Failures ---------------------------------------------------------------


def test_failures_are_listed_and_only_they_are_tried_again(tmp_path):
    table = occurrence_table(40)
    bad = table["gbifID"][[3, 5, 30]].tolist()
    store, listed = tmp_path / "cube.zarr", tmp_path / "cube.zarr.failures.csv"
    with pytest.warns(UserWarning, match="3 of 40 samples failed.*csv"):
        cube = download(table, store, FakeSource(failing=bad))
    failed = cube["sample"].values[cube["status"].values == FAILED]
    assert failed.tolist() == bad
    told = pd.read_csv(listed)
    assert told["gbifID"].tolist() == bad
    assert told["message"].tolist() == [f"no answer for {b}" for b in bad]

    source = FakeSource(failing=bad[2:])
    with pytest.warns(UserWarning, match="1 of 40 samples failed"):
        download(table, store, source)
    assert sorted(map(tuple, source.fetched)) == [tuple(bad[:2]),
                                                  tuple(bad[2:])]
    assert pd.read_csv(listed)["gbifID"].tolist() == bad[2:]

    same(download(table, store), download(table, tmp_path / "whole.zarr"))
    assert not listed.exists()


def test_too_many_failures_stop_the_run_and_keep_the_rest(tmp_path):
    table = occurrence_table(40)
    bad = table["gbifID"][20:30].tolist()
    store = tmp_path / "cube.zarr"
    with pytest.raises(pixels.DownloadError,
                       match=r"samples failed, above max_failed=0.1, .*no "
                             r"answer for .*failures\.csv"):
        download(table, store, FakeSource(failing=bad))
    assert len(pd.read_csv(f"{store}.failures.csv")) >= 4
    with pytest.warns(UserWarning, match="10 of 40 samples failed, the"):
        download(table, tmp_path / "other.zarr", FakeSource(failing=bad),
                 max_failed=0.5)
    same(download(table, store), download(table, tmp_path / "whole.zarr"))


# Refusals ---------------------------------------------------------------


def test_a_store_of_another_source_is_refused(tmp_path):
    store = tmp_path / "cube.zarr"
    before = download(24, store).load()
    for change, message in (
            ({"source": FakeSource(seed=1)}, "seed 0, now 1"),
            ({"n_or_table": occurrence_table(24).assign(
                decimalLatitude=1.5)}, "24 of 24 records of the same")):
        with pytest.raises(ValueError, match=f"for other work.*{message}"):
            download(**{"n_or_table": 24, "store": store, **change})
    same(pixels.open(store), before)


def test_a_folder_that_is_no_cube_is_left_alone(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("hello")
    with pytest.raises(ValueError, match="is no cube"):
        download(9, tmp_path / "letters")
    assert (tmp_path / "letters" / "dear.txt").read_text() == "hello"


@pytest.mark.parametrize(("table", "message"), [
    (occurrence_table(0), "empty"),
    (occurrence_table(9).drop(columns="decimalLatitude"), "decimalLatitude"),
    (occurrence_table(9).assign(decimalLatitude=91.0), "91"),
])
def test_a_bad_table_makes_no_store(tmp_path, table, message):
    with pytest.raises(ValueError, match=message):
        download(table, tmp_path / "cube.zarr")
    assert not (tmp_path / "cube.zarr").exists()


def test_an_answer_that_is_none_is_not_stored(tmp_path):
    """What is checked, tests/test_sources.py tells."""
    source = FakeSource()
    real = source.fetch
    source.fetch = lambda table: real(table.iloc[::-1])
    with pytest.raises(ValueError, match="another place than row 0"):
        download(16, tmp_path / "cube.zarr", source)
    half = pixels.open(tmp_path / "cube.zarr", allow_incomplete=True)
    assert (half["status"] == PENDING).all()


@pytest.mark.parametrize(("change", "message"), [
    (lambda cube: cube.isel(band=slice(0, 9)), "'band': 9.*'band': 10"),
    (lambda cube: cube.pad(x=1, y=1, constant_values=0), "'x': 7.*'x': 5"),
    (lambda cube: cube.isel(band=slice(None, None, -1)), "B12, B11, B8A"),
    (lambda cube: cube.isel(variable=slice(25)), "'variable': 25.*: 27"),
    (lambda cube: cube.drop_vars("status"), "no variable status"),
    (lambda cube: cube.transpose(..., "x", "y"), "expected uint16 of"),
    (lambda cube: cube.assign(reflectance=cube["reflectance"].where(
        cube["reflectance"] != NODATA)), "float32.*digital_numbers"),
    (lambda cube: cube.assign(reflectance=cube["reflectance"].assign_attrs(
        add_offset=-1000)), None),
])
def test_a_dataset_of_another_grid_is_refused(tmp_path, change, message):
    cube = download(9, tmp_path / "cube.zarr").load()
    pixels.check(cube)
    with pytest.raises(ValueError, match=f"mine.*{message}" if message else
                       "attributes of the pixels say"):
        pixels.check(change(cube), where="mine")


def test_no_cube_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="pixels.download"):
        pixels.open(tmp_path / "cube.zarr")


def test_missing_months_cost_next_to_nothing(tmp_path):
    """A chunk in which nothing was seen is there all the same."""
    table = occurrence_table(64, first=17 * 10**9).assign(
        gbifID=17 * np.arange(10**9, 10**9 + 64))
    cube = download(table, tmp_path / "cube.zarr", chunk=64)
    assert (cube["reflectance"].values == NODATA).all()
    path = tmp_path / "cube.zarr/reflectance/c/0/0/0/0/0"
    assert path.stat().st_size < 1000


# A table that changes ---------------------------------------------------


def rows(cube):
    return {name: cube[name].to_numpy() for name in
            ("sample", "reflectance", "environment", "status")}


@pytest.mark.parametrize("change", [
    lambda t: occurrence_table(61), lambda t: t.head(13),
    lambda t: t.iloc[::-1], lambda t: t.sample(frac=0.5, random_state=0),
    lambda t: pd.concat([occurrence_table(9, first=77), t.iloc[5:]]),
    lambda t: t.assign(species="Acer rubrum", genus="Acer"),
    lambda t: t.set_index(np.arange(len(t)) + 9)[t.columns[::-1]],
    lambda t: t.assign(decimalLongitude=t["decimalLongitude"] + 1e-9)])
def test_a_table_that_changed_goes_on_with_its_cube(tmp_path, change):
    """Grown, shrunk, sorted, named anew: only what is new is fetched."""
    store, old = tmp_path / "cube.zarr", occurrence_table(40)
    download(old, store)
    table, source = change(old), FakeSource()
    table.attrs = {"source": "told otherwise"}
    cube = download(table, store, source, chunk=5)
    fetched = sum(source.fetched, [])
    assert sorted(fetched) == sorted(set(table["gbifID"]) - set(old["gbifID"]))
    fresh = download(table, tmp_path / "fresh.zarr")
    for name, values in rows(cube).items():
        np.testing.assert_array_equal(values, rows(fresh)[name])
    assert cube.attrs["table_source"] == "told otherwise"
    again = pixels.open(store, table=table)
    np.testing.assert_array_equal(again["sample"], table["gbifID"])
    everything = set(old["gbifID"]) | set(table["gbifID"])
    assert set(pixels.open(store)["sample"].to_numpy()) == everything
    same(download(old, store).drop_attrs(), download(
        old, tmp_path / "old.zarr").drop_attrs())


def test_a_record_that_moved_is_fetched_again(tmp_path):
    store, table = tmp_path / "cube.zarr", occurrence_table(40)
    download(table, store)
    moved = table.copy()
    moved.loc[[3, 30], "decimalLatitude"] += 0.01
    moved.loc[11, "year"] += 1  # a source that does not say which year
    with pytest.raises(ValueError, match="3 of 40 records of the table"):
        pixels.open(store, table=moved)
    source = FakeSource()
    cube = download(moved, store, source)
    assert sum(source.fetched, []) == moved["gbifID"][[3, 11, 30]].tolist()
    np.testing.assert_array_equal(cube["environment"], variables_of(moved))
    np.testing.assert_array_equal(cube["latitude"], moved["decimalLatitude"])


class OneYear(FakeSource):
    def attrs(self):
        return {**super().attrs(), "imagery_year": 2020}


def test_the_year_counts_where_the_source_goes_by_it(tmp_path):
    store, table = tmp_path / "cube.zarr", occurrence_table(20)
    download(table, store, OneYear())
    source = OneYear()
    download(table.assign(year=2011), store, source)
    assert not source.fetched


def test_a_row_without_a_year_stops_no_other(tmp_path):
    table = Planet().occurrences(100).head(6)
    table["year"] = table["year"].astype("Int64")
    table.loc[table.index[2], "year"] = pd.NA
    cube = download(table, tmp_path / "cube.zarr", Planet())
    assert (cube["status"] == OK).all()


def test_a_table_that_grows_survives_kills(tmp_path):
    """Whenever a growing run is killed, the samples before it stay."""
    store = tmp_path / "cube.zarr"
    download(24, store)
    grow = SLOW.replace("0.05", "0.01")
    for _ in kills(lambda: Run(grow, store), lambda: len(
            list(store.glob("status/c/*"))), 30):
        source = FakeSource()
        download(24, store, source)
        assert not source.fetched
    same(download(240, store), download(240, tmp_path / "whole.zarr"))


def test_a_folder_that_is_a_link_is_filled(tmp_path):
    (tmp_path / "disk").mkdir()
    for name in ("there", "not_yet"):
        (tmp_path / f"{name}.zarr").symlink_to(tmp_path / "disk" / name)
    (tmp_path / "disk/there").mkdir()
    for name in ("there", "not_yet"):
        store = tmp_path / f"{name}.zarr"
        download(9, store)
        same(download(12, store), download(12, tmp_path / "w.zarr"))
        assert store.is_symlink()
        assert (tmp_path / "disk" / name / "zarr.json").exists()
        with pytest.raises(OSError), files.lock(tmp_path / "disk" / name):
            download(9, store)


# Secrets ----------------------------------------------------------------


def test_no_secret_is_written(tmp_path):
    table = occurrence_table(20)
    bad = table["gbifID"][[3]].tolist()
    url = "https://me:SECRET@h.org/a.tif?sig=SECRET"

    class Leaky(FakeSource):
        def attrs(self):
            return {**super().attrs(), "product": url}

        def fetch(self, part):
            found = super().fetch(part)
            return found._replace(messages=tuple(
                f"cannot read {url}" for _ in found.messages))

    with pytest.warns(UserWarning, match="h.org/a.tif") as told:
        cube = download(table, tmp_path / "c.zarr", Leaky(failing=bad))
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*")
                       if path.is_file())
    assert b"h.org/a.tif" in written and b"SECRET" not in written
    assert "SECRET" not in f"{cube.attrs} {told[0].message}"


# Ctrl-C and sources that hang -------------------------------------------

HANGS = """
import sys, time
from fake_source import FakeSource, occurrence_table
from geotree import pixels
def hook(call):
    if call == 3:
        print("hangs", flush=True)
        time.sleep(600)
pixels.download(occurrence_table(40), FakeSource(hook=hook), sys.argv[1],
                chunk=8, progress=False)
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_sign_to_stop_is_heard_while_a_source_hangs(tmp_path, sign):
    store = tmp_path / "cube.zarr"
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS, store], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    while "hangs" not in process.stdout.readline():
        assert process.poll() is None, process.stderr.read()
    while len(list(store.glob("status/c/*"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    start = time.monotonic()
    process.send_signal(sign)
    _, told = process.communicate(timeout=20)
    assert time.monotonic() - start < 5  # 2 s where the cores are free
    if sign == signal.SIGINT:
        assert "call download again with the same arguments" in told
    half = pixels.open(store, allow_incomplete=True)
    assert (half["status"] != PENDING).sum() >= 16
    same(download(40, store), download(40, tmp_path / "whole.zarr"))


def test_a_source_that_never_answers_is_given_up(tmp_path):
    go_on = threading.Event()
    source = FakeSource(hook=lambda call: call == 2 and go_on.wait(60))
    store = tmp_path / "cube.zarr"
    with pytest.raises(OSError, match="not answered for 0.5 s.*call again"):
        download(40, store, source, timeout=0.5)
    go_on.set()  # what comes too late is not written
    same(download(40, store), download(40, tmp_path / "whole.zarr"))


# Damage -----------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    store = tmp_path_factory.mktemp("small") / "cube.zarr"
    return store, download(12, store, chunk=4).load()


@pytest.mark.parametrize("name", [
    "reflectance", "environment", "status", "sample", "latitude",
    "longitude", "year"])
@pytest.mark.parametrize("harm", ["gone", "flip", "cut", "empty"])
def test_a_chunk_that_is_harmed_is_told_of_and_fetched_again(
        tmp_path, small, name, harm):
    store = shutil.copytree(small[0], tmp_path / "cube.zarr")
    path = next((store / name / "c").glob("1*"))
    path = path if path.is_file() else next(
        one for one in path.rglob("*") if one.is_file())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes({"flip": data, "cut": data[:-7]}.get(harm, b""))
    if harm == "gone":
        path.unlink()
    assert list(pixels.verify(store).values()) == [1] * (
        (name, harm) != ("status", "gone"))
    named = f"{name}/c/1.*" + {"gone": "fetches what is missing", "empty":
                               "fetches what is missing"}.get(harm, "CRC-32C")
    with pytest.raises(ValueError, match="4 of 12 samples are pending" if (
            name, harm) == ("status", "gone") else named):
        pixels.open(store).load()
    source = FakeSource()
    mended = download(12, store, source, chunk=4)
    assert source.fetched == [occurrence_table(12)["gbifID"][4:8].tolist()]
    same(mended, small[1])
    same(pixels.open(store), small[1])
    assert not pixels.verify(store)


def _moved(store):
    table = occurrence_table(12)
    table.loc[5, "decimalLatitude"] += 0.5
    download(table, store)


def _replaced(store, first=77, source=None):
    shutil.rmtree(store)
    download(occurrence_table(12, first=first), store, source, chunk=4)


@pytest.mark.parametrize("change, told", [
    (lambda store: (store / "reflectance/c/1/0/0/0/0").unlink(),
     r"reflectance/c/1/0/0/0/0' is gone"),
    (lambda store: (store / "environment/c/2/0").unlink(), "is gone"),
    (lambda store: (store / "year/c/0").unlink(), "is gone"),
    (shutil.rmtree, "deleted since it was opened"),
    (_moved, "of other records or pixels now"),
    (_replaced, "of other records or pixels now"),
    (lambda store: _replaced(store, 10_000_000_001, FakeSource(seed=1)),
     "of other records or pixels now")])
def test_what_changed_under_an_open_cube_is_no_missing_value(
        tmp_path, small, change, told):
    store = shutil.copytree(small[0], tmp_path / "cube.zarr")
    opened = pixels.open(store)
    change(store)
    with pytest.raises(ValueError, match=told):
        opened.load()


def test_an_open_cube_may_grow_be_mended_and_left(tmp_path, small,
                                                  monkeypatch):
    shutil.copytree(small[0], tmp_path / "cube.zarr")
    monkeypatch.chdir(tmp_path)
    opened = pixels.open("cube.zarr")
    path = tmp_path / "cube.zarr/reflectance/c/1/0/0/0/0"
    path.write_bytes(path.read_bytes()[:-9] + bytes(9))
    download(30, "cube.zarr")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    same(opened, small[1])


def test_damage_is_mended_for_a_table_that_shrank(tmp_path, small):
    store = shutil.copytree(small[0], tmp_path / "cube.zarr")
    path = store / "reflectance/c/1/0/0/0/0"
    path.write_bytes(path.read_bytes()[:-9] + bytes(9))
    table = occurrence_table(12).head(6)
    same(download(table, store).drop_attrs(),
         download(table, tmp_path / "fresh.zarr").drop_attrs())
    same(download(12, store), small[1])


@pytest.mark.parametrize("name", ["band", "month", "variable", "unit"])
def test_names_that_are_harmed_are_told_of(tmp_path, small, name):
    store = shutil.copytree(small[0], tmp_path / "cube.zarr")
    (store / name / "c/0").unlink()
    with pytest.raises(ValueError, match=f"{name}/c/0"):
        pixels.open(store)
    with pytest.raises(ValueError, match=f"{name}/c/0.* from a copy"):
        download(12, store)


def test_a_cube_of_other_tools_says_how_to_open_it(tmp_path, small):
    xr.Dataset({"a": ("x", [1, 2])}).to_zarr(tmp_path / "o.zarr",
                                             consolidated=False)
    with pytest.raises(ValueError, match="o.zarr/zarr.json.*open_zarr"):
        pixels.open(tmp_path / "o.zarr")


LIES = {
    "no arrays": (["consolidated_metadata"], None),
    "a list of arrays": (["consolidated_metadata", "metadata"], [1]),
    "an array that is a number": (["year"], 5),
    "an array elsewhere": (["../../x"], {}),
    "no shape": (["reflectance", "shape"], None),
    "a shape of text": (["reflectance", "shape"], "x"),
    "no axis": (["reflectance", "shape"], []),
    "more samples than ids": (["status", "shape"], [13]),
    "samples without end": (["sample", "shape"], [10**15]),
    "other chunks": (["reflectance", "chunk_grid", "configuration",
                      "chunk_shape"], [4, 12, 10, 5, 1]),
    "chunks of nothing": (["status", "chunk_grid", "configuration",
                           "chunk_shape"], [0]),
    "chunks without end": (["status", "chunk_grid", "configuration",
                            "chunk_shape"], [10**12]),
    "axes without names": (["reflectance", "dimension_names"], None),
    "a strange type": (["reflectance", "data_type"], "object"),
    "a strange code": (["reflectance", "codecs"], [{"name": "x"}]),
    "no group": (["node_type"], "array")}


@pytest.mark.parametrize("lie", LIES)
def test_a_description_with_a_seal_may_still_lie(tmp_path, small, lie):
    store = shutil.copytree(small[0], tmp_path / "cube.zarr")
    path, value = LIES[lie]
    one = about = files.read_json(store / "zarr.json")
    if path[0] not in about:
        one = about["consolidated_metadata"]["metadata"]
    for name in path[:-1]:
        one = one[name]
    one[path[-1]] = value
    cube.seal(store, about)
    for reader in (pixels.open, pixels.verify, lambda store: download(
            12, store, chunk=4)):
        with pytest.raises(ValueError, match="cube.zarr/zarr.json' is not as "
                           "pixels.download left it: damaged .take a copy"):
            reader(store)


def test_samples_without_end_are_not_looked_for(tmp_path, small):
    store = shutil.copytree(small[0], tmp_path / "cube.zarr")
    about = files.read_json(store / "zarr.json")
    for one in about["consolidated_metadata"]["metadata"].values():
        if one["dimension_names"][0] == "sample":
            one["shape"][0] = 10**15
    cube.seal(store, about)
    with pytest.raises(ValueError, match="zarr.json' tells of 250,.*not "
                       "there. Take a copy"):
        pixels.open(store)


def test_no_flipped_bit_passes(tmp_path, small):
    """A thousand and more bits, in each file of a cube, one at a time."""
    store, truth = shutil.copytree(small[0], tmp_path / "c.zarr"), small[1]
    group = zarr.open_group(store, mode="r")
    rng = np.random.default_rng(0)
    chunks = [path for path in sorted(store.glob("*/c/**/*"))
              if path.is_file()]
    quiet = sorted(store.glob("*/zarr.json"))  # copies that nobody reads
    for path in [*rng.choice(chunks, 1200), *[store / "zarr.json"] * 300,
                 *rng.choice(quiet, 20)]:
        data = path.read_bytes()
        harmed = bytearray(data)
        harmed[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(harmed)
        if path in quiet:
            same(pixels.open(store), truth)
        else:
            with pytest.raises(ValueError, match="checksum|zarr.json"):
                (group[path.relative_to(store).parts[0]][:]
                 if path in chunks else pixels.open(store))
        path.write_bytes(data)


def test_a_list_of_failures_that_is_none_is_named(tmp_path):
    (tmp_path / "c.zarr.failures.csv").write_text("")
    with pytest.raises(ValueError, match="c.zarr.failures.csv' is no list"):
        pixels.download(occurrence_table(4), FakeSource(),
                        tmp_path / "c.zarr", progress=False)


def test_a_record_twice_in_a_cube_is_told_of(tmp_path):
    table = occurrence_table(4)
    cube = pixels.download(table, FakeSource(), tmp_path / "c.zarr", chunk=2.0,
                           progress=False)
    with pytest.raises(ValueError, match="records of the cube are there aga"):
        shards.write(cube.isel(sample=[0, 1, 1]), table, tmp_path / "s")
    with pytest.raises(ValueError, match="allow_incomplete is 'no'"):
        pixels.open(tmp_path / "c.zarr", allow_incomplete="no")


def test_what_is_no_cube_is_named(tmp_path):
    path = tmp_path / "trees.csv"
    path.write_text("species\n")
    for call in (pixels.open, pixels.verify):
        for place, what in ((path, ", but a file"), (tmp_path, ", but a fol"),
                            (tmp_path / "c.zarr", ". Make one")):
            with pytest.raises(FileNotFoundError,
                               match=f"no cube at '{place}'{what}"):
                call(place)
