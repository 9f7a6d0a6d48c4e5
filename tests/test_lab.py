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
from browser import browser, lacking, look

__all__ = ["browser", "look"]
ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("GEOTREE_LAB_DATA", ROOT / "data/book"))
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


def test_the_map_is_clicked_and_the_model_answers(lab, look):
    view = look()
    tab = view.tab
    tab.goto(f"{lab}/lab/tree/10-explore.ipynb?token={TOKEN}&reset")
    tab.wait_for_function(
        "window.jupyterapp?.shell.currentWidget?.context?.isReady && "
        "window.jupyterapp.shell.currentWidget.sessionContext.session"
        "?.kernel?.status === 'idle'", timeout=120_000)
    tab.evaluate("() => { jupyterapp.commands.execute("
                 "'notebook:run-all-cells'); }")
    chart = tab.locator(".jp-Notebook .leaflet-container").first
    chart.wait_for(timeout=300_000)
    chart.scroll_into_view_if_needed()
    tab.wait_for_selector(".leaflet-interactive")
    headline = tab.locator(".jp-Notebook .gt-headline").first
    assert headline.text_content() == "Choose a place on the map."
    box = chart.bounding_box()
    # The map opens around 30° N, 10° E; to its north lies Europe.
    chart.click(position={"x": 0.52 * box["width"],
                          "y": 0.37 * box["height"]})
    tab.wait_for_function(
        "() => /sure|Unsure/.test(document.querySelector("
        "'.jp-Notebook .gt-headline').textContent)", timeout=60_000)
    assert "° N" in headline.text_content()
    headline.scroll_into_view_if_needed()
    assert tab.locator(".gt-strip canvas").count() >= 12
    assert tab.locator(".jp-RenderedText[data-mime-type="
                       "'application/vnd.jupyter.error']").count() == 0
    assert view.outside == [], "the map asks another host"
