"""Each chapter as Colab has it: alone, in an empty folder, installed.

A fresh environment gets a wheel of this checkout and a kernel; and links to
what the wheel declares, with the extras that the chapter's set-up cell asks
for, as it is installed here. So a file which is not packed and a dependency
which is not declared are missed, and nothing but pip asks a network.

Each chapter makes all that comes before it, of a quarter of the records, so
only one runs here: the first that shows kept results. With
``TEST_COLAB=all``, as in the weekly run, all do.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest
import yaml
from browser import lacking
from installed import drawn_in

import geotree

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ALONE = [path for path in CHAPTERS if os.environ.get("TEST_COLAB") ==
         "all" or path.stem == "04-benchmark"]
# What Colab has and must keep: the oldest that the package declares.
COLABS_OWN = {"torch": "2.6.0", "numpy": "2.0.2"}
CLEAN = {name: value for name, value in os.environ.items()
         if name not in ("PYTHONPATH", "MPLBACKEND")
         and not name.startswith("GEOTREE_")}


def setup(path: Path) -> str:
    """The first code cell."""
    return next(cell.source for cell in jupytext.read(path).cells
                if cell.cell_type == "code")


def extras(path: Path) -> str:
    """What the first cell installs beside the package: ``[maps]`` or none."""
    found = re.search(r"geotree(\[[\w,]+\]) @", setup(path))
    return found[1] if found else ""


def install(python: Path, *what) -> None:
    """Install with pip as it is set up here; what it says on failure."""
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install",
         "--quiet", "--no-compile", *what],
        env=CLEAN, text=True, capture_output=True, timeout=550)
    assert answer.returncode == 0, answer.stderr[-3000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of this checkout."""
    tree = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "geotree", tree / "geotree",
                    ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps",
         "--no-build-isolation", "--no-index", "--wheel-dir", out, tree],
        check=True)
    made, = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Skip where pip finds no package to install."""
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
         "--retries=0", "--timeout=20", "tqdm", "--dest",
         tmp_path_factory.mktemp("registry")], env=CLEAN, text=True,
        capture_output=True)
    if answer.returncode:
        lacking("pip finds no packages, so no fresh environment can be made; "
                "set PIP_INDEX_URL or PIP_FIND_LINKS to where they are: "
                + (answer.stderr.strip().splitlines() or [""])[-1])


def environment(wheel, folder: Path, extras: str) -> Path:
    """Python of an environment with the wheel, and what that declares."""
    venv.create(folder, symlinks=True)
    site, = folder.glob("lib/python*/site-packages")
    install(folder / "bin/python", "--no-deps", wheel)
    about, = metadata.distributions(path=[str(site)])
    for name in drawn_in([*about.requires, "ipykernel"],
                         re.findall(r"\w+", extras)):
        for file in metadata.files(name):
            if ".." not in file.parts:  # no script
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                (site / file).symlink_to(file.locate())
    return folder / "bin/python"


def test_the_wheel_has_all_that_is_not_python(wheel, tmp_path):
    shutil.unpack_archive(wheel, tmp_path, format="zip")
    packed, here = ({path.relative_to(top).as_posix()
                     for path in (top / "geotree").rglob("*")
                     if path.suffix in (".js", ".css", ".csv", ".json")}
                    for top in (tmp_path, ROOT))
    kept = {f"geotree/data/results/{path.name}"
            for path in (ROOT / "results").glob("*.csv")}
    assert packed == here | kept and len(here) > 6 and len(kept) > 1


def test_set_up_without_a_network_says_what_to_set(tmp_path):
    """In a Python that has no geotree, and to which pip brings none."""
    venv.create(tmp_path, symlinks=True)
    script = f"""
import json, sys, types
class Shell:
    def run_line_magic(self, name, line):
        print("ERROR: no network", file=sys.stderr)
get_ipython = Shell
sys.modules["google.colab"] = types.ModuleType("google.colab")
said = []
for code in {[setup(path) for path in CHAPTERS]!r}:
    try:
        exec(code)
    except SystemExit as error:
        said.append(error.code)
print(json.dumps(said))
"""
    said = json.loads(subprocess.run(
        [tmp_path / "bin/python", "-I", "-c", script], check=True, text=True,
        capture_output=True, env=CLEAN).stdout)
    assert len(said) == len(CHAPTERS)
    for one in said:
        assert "Without a network, set `source`" in one


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

    def calls(code: str) -> list:
        return json.loads(subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, check=True,
            text=True, capture_output=True).stdout)

    assert calls(script.replace("{}", "")) == [], "it acts outside Colab"
    pip, *rest = calls(script.replace("{}", mock))
    assert pip[0] == "pip" and pip[1].startswith("install ")
    found = re.search(r"git\+(\S+?)@v([\d.]+)", pip[1])
    address = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    assert found[1] == address["repository"]["url"]
    assert found[2] == geotree.__version__
    for word in ("torch", "numpy", "--upgrade", " -U", "--force"):
        assert word not in pip[1]
    widgets = bool(re.search(r"explore\.(\w+_explorer|what_grows_here)",
                             path.read_text("utf-8")))
    assert rest == ([["widgets", ""]] if widgets else [])
    assert ("maps" in extras(path)) is widgets


def test_pip_leaves_colabs_torch_and_numpy(wheel, registry, tmp_path):
    """With all extras of the set-up cells, and no version held."""
    venv.create(tmp_path / "colab", symlinks=True)
    site, = (tmp_path / "colab").glob("lib/python*/site-packages")
    for name, version in COLABS_OWN.items():
        about = site / f"{name}-{version}.dist-info"
        about.mkdir()
        about.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        about.joinpath("INSTALLER").write_text("pip\n")
        about.joinpath("RECORD").touch()
    every = sorted({extra for path in CHAPTERS
                    for extra in re.findall(r"\w+", extras(path))})
    report = tmp_path / "report.json"
    install(tmp_path / "colab/bin/python", "--dry-run", "--report", report,
            f"geotree[{','.join(every)}] @ {wheel.as_uri()}")
    chosen = {one["metadata"]["name"].lower() for one in
              json.loads(report.read_text("utf-8"))["install"]}
    assert {"geotree", "zarr", "anywidget"} <= chosen
    assert not chosen & set(COLABS_OWN), "pip would replace Colab's own"
    assert not {name for name in chosen if name.startswith("nvidia-")}


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_a_chapter_runs_alone_in_an_empty_folder(path, wheel, tmp_path,
                                                 monkeypatch):
    python = environment(wheel, tmp_path / "fresh", extras(path))
    kernel = tmp_path / "jupyter/kernels/fresh"
    kernel.mkdir(parents=True)
    kernel.joinpath("kernel.json").write_text(json.dumps({
        "argv": [str(python), "-m", "ipykernel_launcher", "-f",
                 "{connection_file}"],
        "display_name": "fresh", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    empty = tmp_path / "empty"
    empty.mkdir()
    notebook = nbformat.read(path, 4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(
        "from geotree import chain\nchain.use(records=3000, epochs=1)"))
    notebook.cells.append(nbformat.v4.new_code_cell(
        "import geotree\nprint(geotree.__file__)"))
    nbclient.NotebookClient(
        notebook, timeout=400, kernel_name="fresh",
        resources={"metadata": {"path": str(empty)}}).execute(env=CLEAN)
    origin = notebook.cells[-1].outputs[0].text
    assert Path(origin).is_relative_to(python.parents[1])
    assert {item.name for item in empty.iterdir()} <= {"geotree-data"}
