"""Chapter 10 in a real JupyterLab: run in the browser, clicked and read.

Needs Chromium, and the model that ``make book`` trains, so that the
chapter takes half a minute and not three.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from browser import Look, browser, lacking
from playwright.sync_api import expect

__all__ = ["browser"]
ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TEST_LAB_DATA", ROOT / "data/book"))
TOKEN = "of-this-test"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a JupyterLab on a copy of the notebooks."""
    if not (DATA / "planet/sample/model/card.json").exists():
        lacking(f"no trained model in '{DATA}': make book")
    folder = tmp_path_factory.mktemp("lab")
    for name in ("10-explore.py", "10-explore.ipynb"):
        shutil.copy(ROOT / "notebooks" / name, folder)
    shutil.copy(ROOT / "jupytext.toml", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}')
    environment = os.environ | {
        "GEOTREE_DATA": str(DATA), "PYTHONPATH": str(ROOT),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTER_PREFER_ENV_PATH": "1"}
    for name in ("GEOTREE_RUN", "GEOTREE_TABLE", "MPLBACKEND"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyter", "lab", "--no-browser",
         "--allow-root", f"--port={port}", "--port-retries=0",
         f"--IdentityProvider.token={TOKEN}", f"--notebook-dir={folder}",
         "--LabApp.expose_app_in_browser=True"],
        env=environment, cwd=folder, stdout=subprocess.DEVNULL,
        stderr=(folder / "log").open("w"))
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/api/status?token={TOKEN}", process, folder)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def wait_for(address: str, process, folder: Path) -> None:
    for _ in range(240):
        try:
            urlopen(address, timeout=5).read()
            return
        except URLError:
            if process.poll() is not None:
                break
            time.sleep(0.5)
    pytest.fail("JupyterLab did not start: "
                + (folder / "log").read_text("utf-8")[-2000:])


def test_both_halves_of_a_notebook_are_one(lab):
    def cells(name):
        with urlopen(f"{lab}/api/contents/{name}?type=notebook&token="
                     f"{TOKEN}", timeout=60) as answer:
            return [cell["source"].rstrip() for cell in
                    json.load(answer)["content"]["cells"]]

    assert cells("10-explore.py") == cells("10-explore.ipynb")


@pytest.fixture(scope="module")
def chapter(lab, browser):
    """The chapter in a tab, all of its cells run."""
    view = Look(browser, "desktop")
    tab = view.tab
    tab.goto(f"{lab}/lab/tree/10-explore.ipynb?token={TOKEN}&reset")
    tab.wait_for_function(
        "window.jupyterapp?.shell.currentWidget?.context?.isReady && "
        "window.jupyterapp.shell.currentWidget.sessionContext.session"
        "?.kernel?.status === 'idle'", timeout=120_000)
    # A kernel that still runs cells hears a click only after them.
    tab.evaluate("() => { jupyterapp.commands.execute("
                 "'notebook:run-all-cells').then("
                 "() => { window.allCellsRan = true; }); }")
    tab.wait_for_function("window.allCellsRan", timeout=300_000)
    tab.locator(".jp-Notebook .leaflet-container").first.wait_for()
    yield view
    view.context.close()


def headline(tab) -> str:
    return tab.locator(".jp-Notebook .gt-headline").first.text_content()


def wait_for_answer(tab, before: str) -> str:
    """The next line of the answer that is none of before."""
    tab.wait_for_function(
        "before => { const text = document.querySelector("
        "'.jp-Notebook .gt-headline').textContent; "
        "return text !== before && /sure|Unsure/.test(text); }",
        arg=before, timeout=60_000)
    return headline(tab)


def bring_to_rest(tab, element) -> None:
    """Scroll to it until it stays: Lab lays cells out as they come in."""
    before = None
    for _ in range(60):
        element.scroll_into_view_if_needed()
        tab.wait_for_timeout(500)
        if (box := element.bounding_box()) == before:
            return
        before = box
    pytest.fail("the page does not come to rest")


def test_the_map_is_clicked_and_the_model_answers(chapter):
    tab = chapter.tab
    chart = tab.locator(".jp-Notebook .leaflet-container").first
    tab.wait_for_selector(".leaflet-interactive")
    bring_to_rest(tab, chart)
    expect(tab.locator(".jp-Notebook .gt-headline").first).to_have_text(
        "Choose a place on the map.")
    box = chart.bounding_box()
    # The map opens around 30° N, 10° E; to its north lies Europe.
    chart.click(position={"x": 0.52 * box["width"],
                          "y": 0.37 * box["height"]})
    assert "° N" in wait_for_answer(tab, "Choose a place on the map.")
    expect(tab.locator(".jp-Notebook .gt-strip canvas").nth(11)
           ).to_be_attached()


def test_every_control_changes_the_answer(chapter):
    """At a place where the place alone and the pixels disagree."""
    tab = chapter.tab
    panel = tab.locator(".jp-Notebook .gt").filter(
        has=tab.locator(".gt-headline")).first
    names = panel.locator(".gt-bar > :first-child")
    before = headline(tab)
    for label, value in (("Latitude", "62"), ("Longitude", "100")):
        field = tab.get_by_label(label).first
        field.fill(value)
        field.press("Enter")
    tab.get_by_role("button", name="What grows here?").click()
    both = wait_for_answer(tab, before)
    assert both.startswith("62.0° N, 100.0° E, Russia: ")

    panel.get_by_label("use the place too").uncheck()
    pixels = wait_for_answer(tab, both)
    panel.get_by_label("only species known from the country").check()
    listed = wait_for_answer(tab, pixels)
    assert len({both, pixels, listed}) == 3

    species = names.all_inner_texts()
    panel.get_by_label("Names down to").select_option("family")
    expect(panel.locator(".gt-bar em")).to_have_count(0)
    families = names.all_inner_texts()
    assert set(families) < set(species)
    assert all(name.endswith("aceae") for name in families)

    month = panel.get_by_role("slider", name="Month")
    month.press("ArrowRight")
    panel.get_by_text("August: ").wait_for()
    expect(panel.locator(".gt-strip button[aria-pressed=true]")
           ).to_have_attribute("title", "August")
    panel.get_by_title("March").click()
    panel.get_by_text("March: ").wait_for()
    expect(month).to_have_value("3")  # it follows a click on a month


def test_no_cell_failed_and_nothing_was_asked_outside(chapter):
    assert chapter.tab.locator(
        ".jp-RenderedText[data-mime-type="
        "'application/vnd.jupyter.error']").count() == 0
    assert chapter.outside == [], "the map asks another host"
