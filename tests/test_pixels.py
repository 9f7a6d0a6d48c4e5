"""Downloading a cube: interruption, refusal, failure, and plain reading."""

import json
import threading
import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from fake_source import (
    FakeSource,
    occurrence_table,
    pixel,
    pixels_of,
    variables_of,
)
from killing import Run, kills

from geotree import files, pixels
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


def test_workers_change_nothing_but_the_time(tmp_path):
    one = download(50, tmp_path / "one.zarr")
    same(one, download(50, tmp_path / "four.zarr", workers=4))


def test_the_table_is_left_as_it_was(tmp_path):
    table = occurrence_table(9)
    before = table.copy()
    download(table, tmp_path / "cube.zarr")
    pd.testing.assert_frame_equal(table, before)


# Interruption -----------------------------------------------------------

SLOW = """
import sys
from fake_source import FakeSource, occurrence_table
from geotree import files, pixels
pixels.download(occurrence_table(240), FakeSource(seconds=0.05), sys.argv[1],
                chunk=8, workers=2, progress=False)
"""
PLANET = """
import sys
from fake_source import occurrence_table
from geotree import files, pixels
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
                for part in store.glob("status/c/*")}

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
from geotree import files, pixels

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
    assert (half["status"] != PENDING).sum() == 64
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
    cube = download(table, store, FakeSource(failing=bad))
    failed = cube["sample"].values[cube["status"].values == FAILED]
    assert failed.tolist() == bad
    told = pd.read_csv(listed)
    assert told["gbifID"].tolist() == bad
    assert told["message"].tolist() == [f"no answer for {b}" for b in bad]

    source = FakeSource(failing=bad[2:])
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
    download(table, tmp_path / "other.zarr", FakeSource(failing=bad),
             max_failed=0.5)
    same(download(table, store), download(table, tmp_path / "whole.zarr"))


# Refusals ---------------------------------------------------------------


@pytest.mark.parametrize(("change", "message"), [
    ({"table": occurrence_table(23)}, "table '"),
    ({"table": occurrence_table(24).assign(decimalLatitude=1.5)}, "table '"),
    ({"table": occurrence_table(24)[::-1]}, "table '"),
    ({"source": FakeSource(seed=1)}, "seed 0, now 1"),
    ({"chunk": 12}, "chunk 8, now 12"),
])
def test_a_store_of_other_work_is_refused(tmp_path, change, message):
    store = tmp_path / "cube.zarr"
    before = download(24, store).load()
    options = {"table": occurrence_table(24), "source": FakeSource(),
               "chunk": 8, **change}
    with pytest.raises(ValueError, match=f"made for other work.*{message}"):
        pixels.download(store=store, progress=False, **options)
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


class Wrong(FakeSource):
    """A source that does not keep to its interface."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def fetch(self, table):
        return self.change(super().fetch(table))


@pytest.mark.parametrize(("change", "message"), [
    (lambda p: p._replace(reflectance=p.reflectance[:, :, :9]),
     r"10 bands B2 … B12"),
    (lambda p: p._replace(reflectance=p.reflectance.astype(float)), "uint16"),
    (lambda p: p._replace(status=p.status[:-1]), "8, 8, 7"),
    (lambda p: p._replace(environment=p.environment[:, :26]), "27"),
    (lambda p: p._replace(status=p.status * 0), "status"),
])
def test_a_source_that_returns_something_else_is_refused(
        tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        download(16, tmp_path / "cube.zarr", Wrong(change))
    half = pixels.open(tmp_path / "cube.zarr", allow_incomplete=True)
    assert (half["status"] == PENDING).all()


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize(("change", "message"), [
    (lambda cube: cube.isel(band=slice(0, 9)), r"10 bands B2 … B12"),
    (lambda cube: cube.pad(x=1, y=1, constant_values=0), r"7, 7\)"),
    (lambda cube: cube.isel(band=slice(None, None, -1)), "B12, B11, B8A"),
    (lambda cube: cube.isel(variable=slice(0, 25)), "27"),
    (lambda cube: cube.drop_vars("status"), "no variable status"),
    (lambda cube: cube.transpose(..., "x", "y"),
     "dimensions"),
])
def test_a_cube_of_another_grid_is_refused(tmp_path, change, message):
    cube = download(9, tmp_path / "cube.zarr").load()
    other = change(cube)
    for name in other.variables:
        other[name].encoding = {}
        if other[name].dtype.kind == "T":
            other = other.assign_coords(
                {name: other[name].astype(object)})
    other.to_zarr(tmp_path / "other.zarr")
    with pytest.raises(ValueError, match=f"other.zarr.*{message}"):
        pixels.open(tmp_path / "other.zarr")


def test_no_cube_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="pixels.download"):
        pixels.open(tmp_path / "cube.zarr")


def test_missing_months_cost_next_to_nothing(tmp_path):
    """A chunk in which nothing was seen is not stored."""
    table = occurrence_table(8, first=17 * 10**9).assign(
        gbifID=17 * np.arange(10**9, 10**9 + 8))
    cube = download(table, tmp_path / "cube.zarr")
    assert (cube["reflectance"].values == NODATA).all()
    assert not list((tmp_path / "cube.zarr").glob("reflectance/c/*"))
    about = json.loads((tmp_path / "cube.zarr/zarr.json").read_text())
    assert about["consolidated_metadata"]["metadata"]
