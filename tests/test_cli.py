"""The command, as a person runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from click.testing import CliRunner
from killing import KILLS, Run, kills

from geotree.cli import cli
from geotree.models.compact import CompactClip, CompactConfig
from geotree.planet.source import Planet

SMALL = CompactConfig(width=16, depth=1, heads=2, embedding=16, buckets=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two hundred trees as Excel saves them, with faults, and a model."""
    folder = tmp_path_factory.mktemp("own")
    table = Planet().occurrences(2500)
    few = table["species"].value_counts().index[:8]
    table = table[table["species"].isin(few)].head(200)
    trees = table[["species", "decimalLatitude", "decimalLongitude", "year"]]
    trees = trees.astype(object).set_axis(
        ["Art", "Breite", "Länge", "Jahr"], axis=1).reset_index(drop=True)
    trees.loc[0, "Breite"], trees.loc[1, "Länge"] = "n/a", 999
    trees.to_csv(folder / "trees.csv", sep=";", decimal=",", index=False,
                 encoding="utf-8-sig")
    model = CompactClip(SMALL, seed=0)
    model.classes, model.thresholds = Planet().classes, {0.9: 0.001}
    model.save_pretrained(folder / "model")
    return folder


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GEOTREE_CACHE", str(tmp_path / "cache"))

    def called(text, *, code=0, **how):
        found = CliRunner().invoke(cli, text.split(), **how)
        assert found.exit_code == code, found.output
        assert "Traceback" not in found.output
        return found.output
    return called


# Root may write anywhere, unless that right is given away.
MERE_USER = ("setpriv", "--bounding-set", "-dac_override", "--inh-caps",
             "-dac_override") if os.getuid() == 0 else ()


def command(*args, before=(), **how):
    return subprocess.Popen([*before, sys.executable, "-m", "geotree", *map(
        str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **how)


# --- the whole way --------------------------------------------------------

def test_from_a_messy_table_to_a_map(folder, run, tmp_path):
    told = run(f"fetch trees.csv -o {tmp_path}/trees.zarr")
    assert "lat from 'Breite'" in told and "1 rows: no number" in told
    assert "198 of 200 rows, 198 ok" in told
    told = run(f"train {tmp_path}/trees.zarr -o {tmp_path}/model --epochs 2 "
               f"--from {folder}/model")
    assert "8 species; right in" in told
    address = (tmp_path / "model.training/shards").as_uri()
    assert told.split(": ")[-1] == run(
        f"train {address} -o {tmp_path}/again --epochs 2 "
        f"--from {folder}/model --cache {tmp_path}/cache").split(": ")[-1]
    run(f"predict trees.csv -o {tmp_path}/a.csv --model {tmp_path}/model")
    came = pd.read_csv(folder / "trees.csv", sep=";", dtype=str)
    found = pd.read_csv(tmp_path / "a.csv", dtype=str)
    pd.testing.assert_frame_equal(found[list(came)], came)
    assert found["status"].value_counts().to_dict() == {
        "ok": 198, "no number": 1, "not on the globe": 1}
    assert found["predicted_species"].nunique() <= 8
    told = run(f"evaluate {tmp_path}/a.csv --truth Art")
    assert "answered" in told and "0.990" in told
    assert "places lie within 50 m of one that the model was trained" in told
    told = run(f"map --model {tmp_path}/model --bbox 5,45,11,48 --step 1 "
               f"-o {tmp_path}/map.tif")
    assert "3 × 6 cells" in told
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.count == 8 and file.read(1).any()
    told = run("audit trees.csv")
    assert "not looked for, for want of columns, a list of trees" in told
    names = came["Art"].dropna().unique()
    pd.DataFrame({"name": [*names, "Bellis perennis", "Bellis annua"],
                  "habit": ["herb", *["tree"] * (len(names) - 1), "herb",
                            "herb"]}).to_csv(tmp_path / "list.csv")
    told = run(f"audit trees.csv --trees {tmp_path}/list.csv "
               f"--cube {tmp_path}/trees.zarr")
    assert "not_a_tree" in told and "the list says herb" in told
    assert "no_tree_by_kin, measured on the list: precision" in told


def test_places_without_names_are_fetched_and_not_learnt_from(run, tmp_path):
    (tmp_path / "places.csv").write_text("lat,lon\n48,11\n0,-30\n")
    told = run(f"fetch {tmp_path}/places.csv -o {tmp_path}/places.zarr")
    assert "1 rows: no tree there" in told and "1 of 2 rows, 1 ok" in told
    told = run(f"train {tmp_path}/places.zarr -o {tmp_path}/model", code=1)
    assert "without names of trees" in told


def test_as_a_process_it_says_what_is_wrong_in_one_line(folder):
    with command("predict", "nothing.csv", "-o", "a.csv", "--model",
                 "model", cwd=folder) as job:
        out, error = job.communicate(timeout=300)
    assert job.returncode == 1
    assert error == "Error: no table at 'nothing.csv'.\n" and out == ""


@pytest.mark.parametrize(("number", "way"), [
    (signal.SIGINT, "fetch"), (signal.SIGTERM, "fetch"),
    (signal.SIGTERM, "plan"), (signal.SIGTERM, "step")])
def test_a_signal_ends_it_soon_and_says_how_to_go_on(tmp_path, number, way):
    """Where a thread hangs on a service, or Python in one long step.

    A step of training is finished first, unless that takes too long.
    """
    code = """
import contextlib, sys, hashlib, threading, time, types
from geotree import cli, sources
from geotree.training import checkpoints
from geotree.planet.source import Planet
class Hung(Planet):
    def FOR(self, table):
        run = types.SimpleNamespace(busy=True, ending=None)
        with (checkpoints.orderly(run) if "WAY" == "step"
              else contextlib.nullcontext()):
            print("fetching", flush=True)
            if "WAY" == "fetch":
                time.sleep(120)
            hashlib.pbkdf2_hmac("sha256", b"a", b"b", 1 << 28)
sources._KNOWN["planet"] = "__main__:Hung"
sys.argv = ["geotree", "fetch", "p.csv", "-o", "p.zarr"]
cli.main()
"""
    (tmp_path / "p.csv").write_text("lat,lon\n47,8\n")
    with subprocess.Popen(
            [sys.executable, "-c", code.replace("WAY", way).replace(
                "FOR", "fetch" if way == "fetch" else "plan")],
            cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
        for line in job.stdout:
            if line.startswith("fetching"):
                break
        begun = time.monotonic()
        job.send_signal(number)
        error = job.communicate(timeout=60)[1]
    took = time.monotonic() - begun
    begun = time.monotonic()  # how full is the machine?
    subprocess.run([sys.executable, "-c", "import click"], check=True)
    assert took < 2 + 10 * (time.monotonic() - begun)
    assert job.returncode == 128 + number
    assert "run the same command again to go on" in error
    assert "Traceback" not in error


def test_help_and_answers_need_no_widgets():
    code = ("import sys; sys.modules['ipywidgets'] = None; "
            "from geotree import explore; explore.ask; explore.predict; "
            "from geotree.cli import cli; cli(['predict', '--help'])")
    done = subprocess.run([sys.executable, "-c", code], text=True,
                          capture_output=True, check=True)
    assert "geotree predict places.csv" in done.stdout


# --- what may happen meanwhile ---------------------------------------------

SLOW = """
import os, sys, time
os.chdir(sys.argv[1])
os.environ["GEOTREE_CACHE"] = sys.argv[2]
from geotree.cli import cli
from geotree.planet.source import Planet
fetch = Planet.fetch
def slow(self, table):
    time.sleep(0.02)
    with open(sys.argv[3], "a") as log:
        log.write("x\\n" * len(table))
    return fetch(self, table)
Planet.fetch = slow
cli(["predict", "trees.csv", "-o", sys.argv[4], "--model", "model",
     "--batch", "16"], standalone_mode=False)
"""


def test_killed_again_and_again_it_ends_with_the_same_bytes(folder,
                                                            tmp_path):
    def start(name):
        return Run(SLOW, folder, tmp_path / name, tmp_path / f"{name}.log",
                   tmp_path / f"{name}.csv")

    def asked(name="killed"):
        log = tmp_path / f"{name}.log"
        return log.read_text().count("x") if log.exists() else 0

    start("whole").finish()
    for _ in kills(lambda: start("killed"), asked, 198):
        assert not (tmp_path / "killed.csv").exists(), "whole or not at all"
    start("killed").finish()
    whole, killed = (tmp_path / f"{name}.csv" for name in ("whole",
                                                           "killed"))
    assert killed.read_bytes() == whole.read_bytes()
    assert asked("whole") == 198
    # A batch of 16 is written while the next one is fetched.
    most = 198 + 2 * 16 * KILLS
    assert asked() <= most, "what was finished is not asked again"
    start("killed").finish()
    assert killed.read_bytes() == whole.read_bytes()
    assert asked() <= most, "the second call fetches nothing"


COMMAND = """
import os, sys
from geotree import cli
os.chdir(sys.argv.pop(1))
if full:
    fill_disk()
try:
    cli.main()
except SystemExit as end:
    print(sys.stderr.getvalue().strip(), end.code or 0, sep="\\n")
"""


@pytest.mark.parametrize("room", [1_000, 40_000])
def test_a_full_disk_keeps_what_was_there(folder, tmp_path, room):
    """Where the pixels find no room, and where the answers find none."""
    out, cache = tmp_path / "a.csv", tmp_path / "cache"
    out.write_text("old")
    words = (folder, "predict", "trees.csv", "-o", out, "--model", "model",
             "--batch", 4, "--cache", cache)
    *_, last, code = Run(COMMAND, *words, full=room).finish(300).split("\n")[
        :-1]
    assert code == "1" and out.read_text() == "old"
    assert last.startswith("Error: ") and "ree some space" in last.replace(
        "free space", "free some space")
    assert [one.name for one in tmp_path.iterdir() if ".part" in one.name
            ] == []
    assert Run(COMMAND, *words).finish(300).endswith("\n0\n")
    assert len(pd.read_csv(out)) == 200


def test_a_map_that_was_stopped_goes_on(run, monkeypatch, tmp_path):
    asked = []
    fetch = Planet.fetch

    def stopped(self, table):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(len(table))
        return fetch(self, table)

    text = (f"map --model model --bbox 5,45,9,49 --step 0.5 --batch 16 "
            f"-o {tmp_path}/m.tif")
    monkeypatch.setattr(Planet, "fetch", stopped)
    run(text, code=128 + 2)
    [last] = tmp_path.glob("cache/maps/*/species/c/1/0")
    last.replace(last.with_name("1"))  # as many chunks, but others
    assert f"damaged ({last})" in run(text, code=1)
    last.with_name("1").replace(last)
    monkeypatch.setattr(Planet, "fetch", lambda self, table: (
        asked.append(len(table)), fetch(self, table))[1])
    assert "cells, 64 with an answer" in run(text)
    assert sum(asked) == 64
    run(text)
    assert sum(asked) == 64, "the second call fetches nothing"


@pytest.mark.parametrize(("text", "code", "words"), [
    ("", 0, "200 rows"), ("--year 2019", 0, "200 rows"),
    ("--year Jahr", 0, "year from 'Jahr'"), ("--year own", 0,
                                             "year from 'Jahr'"),
    ("--year Art", 1, "can be used"), ("--year Monat", 1,
                                       "no column 'Monat' for year")])
def test_a_year_is_a_number_a_column_or_each_rows_own(run, tmp_path, text,
                                                      code, words):
    told = run(f"fetch trees.csv -o {tmp_path}/a.zarr {text}", code=code)
    assert words in told


# --- small things ---------------------------------------------------------

@pytest.mark.parametrize(("text", "code", "words"), [
    ("predict trees.csv -o a.xls --model model", 1, "ends in .csv"),
    ("predict trees.csv -o a.csv --model trees.csv", 1, "no model"),
    ("predict trees.csv -o a.csv --model model --lat Hoch", 1,
     "no column 'Hoch'"),
    ("predict trees.csv -o a.csv --model model --coverage 0.3", 1,
     "expected one of 0.9"),
    ("predict trees.csv -o a.csv", 2, "--model"),
    ("predict trees.csv -o a.csv --model model --source moon", 1, "moon"),
    ("predict empty.csv -o a.csv --model model", 1, "no rows"),
    ("predict nowhere.csv -o a.csv --model model", 1, "no row could be"),
    ("predict trees.csv --model model --out=", 2, "cannot be written"),
    ("predict trees.csv -o a.csv --model model --workers -2", 1,
     "is -2, expected a whole number"),
    ("map --model model --bbox 1,2,3 --step 1 -o m.tif", 2, "four numbers"),
    ("map --model model --bbox 9,50,10,51 --step 1 -o model", 1, ".tiff"),
    ("predict trees.csv -o trees.csv/a.csv --model model", 2, "no folder"),
    ("map --model model --bbox 9,50,10,51 --step 1 -o m.tif --year own", 2,
     "--year"),
    ("map --model model --bbox 9,2,3,4 --step 1 -o m.tif", 1, "region is"),
    ("train nothing.zarr -o m", 1, "no cube"),
    ("train trees.zarr -o .", 1, "other files than a model"),
    ("train trees.zarr -o trees.csv", 1, "other files than a model"),
    ("fetch model -o trees.zarr", 1, "no table at 'model', but a folder"),
    ("fetch trees.csv -o /", 1, "expected the name of a file"),
    ("train foo://a -o m", 1, "foo:// is not known here"),
    ("evaluate trees.csv --truth Art", 1, "lacks the columns"),
])
def test_errors_are_one_line_that_says_what_to_do(folder, run, text, code,
                                                  words):
    (folder / "empty.csv").write_text("lat,lon\n")
    (folder / "nowhere.csv").write_text("lat,lon\n99,5\n,3\n")
    told = run(text, code=code)
    assert words in told
    last = told.strip().splitlines()[-1]
    assert last.startswith("Error: ")


@pytest.mark.parametrize("text", [
    "fetch trees.csv -o a.zarr --workers=", "evaluate trees.csv --truth=",
    "audit trees.csv --cube=", "audit trees.csv --trees=",
    "fetch trees.csv -o a.zarr --year=", "train a.zarr -o m --from=",
    "predict trees.csv -o a.csv --model model --checklist="])
def test_an_option_of_no_text_is_not_left_out(run, text):
    """As of a variable of the shell that nobody set."""
    option = text.split()[-1][:-1]
    assert f"'{option}': nothing was given" in run(text, code=2)


@pytest.mark.parametrize("way", ["trees.csv", "model/../trees.csv",
                                 "link.csv", "hard.csv", "list.csv"])
def test_answers_do_not_replace_what_is_read(folder, run, way):
    before = (folder / "trees.csv").read_bytes()
    for link, made in (("link.csv", os.symlink), ("hard.csv", os.link)):
        if not (folder / link).exists():
            made(folder / "trees.csv", folder / link)
    (folder / "list.csv").write_text("species\nPinus nigra\n")
    told = run(f"predict ./trees.csv -o {way} --model model "
               "--checklist list.csv", code=1)
    assert f"'{way}' would take the place of" in told
    assert (folder / "trees.csv").read_bytes() == before


def test_no_table_of_the_users_own_is_overwritten(folder, run):
    """Names go beside the cube, where the table may lie that was given."""
    table = pd.read_csv(folder / "trees.csv", sep=";", decimal=",")
    for name in ("mine.parquet", "other.parquet"):
        table.to_parquet(folder / name)
    before = (folder / "mine.parquet").read_bytes()
    for text in ("fetch mine.parquet -o mine", "fetch trees.csv -o other"):
        assert ("would take the place of" if "mine" in text
                else "is there already") in run(text, code=1)
    assert {(folder / f"{name}.parquet").read_bytes()
            for name in ("mine", "other")} == {before}
    assert not (folder / "mine").exists()


def test_a_folder_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with command("predict", "trees.csv", "-o", tmp_path / "closed/a.csv",
                 "--model", "model", cwd=folder, before=MERE_USER) as job:
        error = job.communicate(timeout=300)[1]
    assert job.returncode == 2
    assert f"'{tmp_path}/closed' is read-only" in error


def test_a_link_stays_a_link(run, tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    run(f"predict trees.csv -o {tmp_path}/link.csv --model model --top 1")
    assert (tmp_path / "link.csv").is_symlink()
    assert "predicted_species" in (tmp_path / "real.csv").read_text()


def test_nothing_is_fetched_without_a_yes(run, monkeypatch, tmp_path):
    from geotree import sources

    monkeypatch.setitem(sources._KNOWN, "stac", "compass:Everywhere")
    monkeypatch.setattr("compass.Everywhere.__init__", lambda self, **_: (
        setattr(self, "tables", []), setattr(self, "broken", 0))[0])
    text = f"fetch trees.csv -o {tmp_path}/e.zarr --source stac"
    assert "Pass --yes" in run(text, code=1, input="n\n")
    assert "Pass --yes" in run(text, code=1)
    assert "198 ok" in run(text, input="y\n")


def test_the_map_says_its_names_to_a_gis(folder, run, tmp_path):
    from xml.etree import ElementTree

    run(f"map --model model --bbox 5,45,8,47 --step 0.5 -o {tmp_path}/m.tif "
        "--samples 2")
    assert {path.name for path in tmp_path.iterdir()} == {
        "m.qml", "m.tif", "m.tif.aux.xml", "cache"}
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.descriptions[:2] == ("likeliest leafType",
                                         "confidence in the leafType")
        assert file.units[1] == "%" and file.nodata == 0
        codes, sure = file.read(7), file.read(8)
        names = file.tags()["names_species"].split("; ")
        assert file.colorinterp[0] == rasterio.enums.ColorInterp.palette
    assert codes.max() == len(names) and set(names) <= set(
        Planet().classes["species"])
    assert ((sure > 0) == (codes > 0)).all() and sure.max() <= 100
    bands = ElementTree.parse(tmp_path / "m.tif.aux.xml").getroot()
    found = [one.text for one in bands[3].find("CategoryNames")]
    assert found[1:] == names and not found[0]
    style = ElementTree.parse(tmp_path / "m.qml").getroot()
    assert len(list(style.iter("paletteEntry"))) == len(np.unique(
        [one.text for one in bands[0].find("CategoryNames")][1:]))


def test_the_lines_of_the_readme_run(folder, tmp_path, monkeypatch):
    """On the planet, which needs no network."""
    text = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    lines = re.search(r"## Your own trees.*?```python\n(.*?)```", text,
                      re.S)[1]
    for old, new in (("geotree.sources.stac import Stac",
                      "geotree.planet.source import Planet"),
                     ('Stac("scenes")', "Planet()"),
                     ("CompactClip()", "CompactClip(SMALL)")):
        assert old in lines
        lines = lines.replace(old, new)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEOTREE_CACHE", str(tmp_path))
    for name in ("trees.csv", "places.csv"):
        (tmp_path / name).write_bytes((folder / "trees.csv").read_bytes())
    space = {"SMALL": SMALL}
    exec(lines, space)
    assert len(space["answers"]) == 200
