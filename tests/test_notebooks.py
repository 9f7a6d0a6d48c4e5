"""Each chapter as its readers start it: from anywhere, and as a script.

All chapters share one folder of data, so each step of the chain is made
once; that each runs from an empty folder alone is tested elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A data folder and a working directory that is no repository."""
    return (tmp_path_factory.mktemp("data"),
            tmp_path_factory.mktemp("elsewhere"))


def run(command: list[str], places) -> None:
    data, elsewhere = places
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("GEOTREE_")}
    done = subprocess.run(
        command, cwd=elsewhere, text=True, capture_output=True, timeout=600,
        env=environment | {"GEOTREE_DATA": str(data), "MPLBACKEND": "Agg"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(elsewhere.iterdir()), "files beside the data folder"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_runs_with_jupyter_execute_from_another_folder(chapter, places):
    path = ROOT / "notebooks" / f"{chapter}.ipynb"
    before = path.read_bytes()
    run([str(Path(sys.executable).with_name("jupyter-execute")), str(path)],
        places)
    assert path.read_bytes() == before


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_runs_as_a_script(chapter, places):
    run([sys.executable, str(ROOT / "notebooks" / f"{chapter}.py")], places)
