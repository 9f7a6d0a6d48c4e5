"""Each chapter as Colab has it: alone, in an empty folder, installed.

The package comes from a wheel of this checkout, so that a file which is not
packed is missed, and the results that the book keeps from a server. Each
chapter makes all that comes before it, so only two run here: the first, and
the first that shows kept results. With ``GEOTREE_COLAB=all``, as in the
weekly run, all ten do.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
import yaml
from browser import served

import geotree

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ALONE = [path for path in CHAPTERS if os.environ.get("GEOTREE_COLAB") ==
         "all" or path.stem in ("01-collect", "04-benchmark")]


def setup(path: Path) -> str:
    """The first code cell."""
    return next(cell.source for cell in jupytext.read(path).cells
                if cell.cell_type == "code")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder into which the wheel of this checkout is unpacked."""
    tree = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "geotree", tree / "geotree",
                    ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps",
         "--no-build-isolation", "--no-index", "--wheel-dir", out, tree],
        check=True)
    wheel, = out.glob("*.whl")
    target = tmp_path_factory.mktemp("installed")
    shutil.unpack_archive(wheel, target, format="zip")
    return target


def run(code: str, folder: Path, installed: Path, **environment):
    """A fresh interpreter in a folder, with the installed package first."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith("GEOTREE_")}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, text=True,
        capture_output=True, timeout=500,
        env=kept | {"PYTHONPATH": str(installed), **environment})


def test_the_wheel_has_all_that_is_not_python(installed):
    packed = {path.relative_to(installed / "geotree").as_posix()
              for path in (installed / "geotree").rglob("*")
              if path.suffix in (".js", ".css", ".csv", ".json")}
    here = {path.relative_to(ROOT / "geotree").as_posix()
            for path in (ROOT / "geotree").rglob("*")
            if path.suffix in (".js", ".css", ".csv", ".json")}
    assert packed == here and len(here) > 6


def test_widgets_are_made_from_the_wheel(installed, tmp_path):
    answer = run("import geotree.explore as e; print(e.__file__, len("
                 "e.AnswerMap._esm) > 5000)", tmp_path, installed)
    assert answer.stdout.split() == [
        str(installed / "geotree/explore/__init__.py"), "True"], answer.stderr


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_set_up_installs_a_tag_and_leaves_torch_and_numpy(path, tmp_path):
    """Run the cell as Colab would, with pip and Colab's output noted."""
    script = f"""
import json, sys, types
calls = []
class Shell:
    def run_line_magic(self, name, line):
        calls.append([name, line])
get_ipython = Shell
colab, output = types.ModuleType("google.colab"), types.ModuleType("output")
output.enable_custom_widget_manager = lambda: calls.append(["widgets", ""])
colab.output = output
{{}}
exec({setup(path)!r})
print(json.dumps(calls))
"""
    mock = ('sys.modules["google.colab"] = colab\n'
            'sys.modules["google.colab.output"] = output')
    away = run(script.replace("{}", ""), tmp_path, tmp_path)
    assert json.loads(away.stdout) == [], "it does something outside Colab"
    there = run(script.replace("{}", mock), tmp_path, tmp_path)
    pip, *rest = json.loads(there.stdout)
    assert pip[0] == "pip" and pip[1].startswith("install ")
    found = re.search(r"git\+(\S+?)@v([\d.]+)", pip[1])
    address = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    assert found[1] == address["repository"]["url"]
    assert found[2] == geotree.__version__
    for word in ("torch", "numpy", "--upgrade", " -U", "--force"):
        assert word not in pip[1]
    widgets = "explore." in path.read_text("utf-8")
    assert rest == [["widgets", ""]] or not widgets


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_a_chapter_runs_alone_in_an_empty_folder(path, installed, tmp_path):
    origin = ("import geotree\n"
              f"assert geotree.__file__.startswith('{installed}')")
    code = f"""
import nbformat, nbclient
notebook = nbformat.read({str(path)!r}, 4)
notebook.cells.append(nbformat.v4.new_code_cell({origin!r}))
nbclient.NotebookClient(notebook, timeout=400, kernel_name="python3",
                        resources={{"metadata": {{"path": "."}}}}).execute()
"""
    with served(ROOT / "results") as kept:
        answer = run(code, tmp_path, installed, MPLBACKEND="Agg",
                     GEOTREE_RESULTS=kept)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert {item.name for item in tmp_path.iterdir()} <= {"geotree-data"}
