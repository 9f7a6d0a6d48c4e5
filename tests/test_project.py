"""The project as a whole: versions agree, notebooks are clean, no traces."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import jupytext
import pytest
import yaml
from installed import drawn_in
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import geotree

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))
TORCH, LOCK = ROOT / "requirements-torch.txt", ROOT / "requirements.lock"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)(?: ; (.+?))?"
                    r"((?: --hash=sha256:[0-9a-f]{64})*)$")


def pins(path: Path) -> list[tuple[str, str, str, int]]:
    """Name, version, marker and number of hashes of each requirement."""
    text = path.read_text("utf-8").replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in text.splitlines()
             if line and not line.startswith("#")]
    found = {line: PINNED.match(line) for line in lines}
    odd = [line for line, one in found.items() if not one]
    assert not odd, f"{path.name}: '{odd[0]}' is no exact, public version"
    return [(canonicalize_name(one[1]), one[2], one[3] or "",
             one[4].count("sha256")) for one in found.values()]


def lock() -> dict[str, str]:
    """Name to version of what is installed here, torch too."""
    return {name: version for name, version, marker, _ in
            pins(LOCK) + pins(TORCH)
            if not marker or Marker(marker).evaluate()}


def project() -> dict:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    return tomllib.loads(text)["project"]


def requirements() -> list[Requirement]:
    """What pyproject.toml asks for, all extras included."""
    declared = project()
    lines = declared["dependencies"] + sum(
        declared["optional-dependencies"].values(), [])
    return [Requirement(line) for line in lines]


def tracked() -> list[Path]:
    """Files under version control; skips where there is none."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, text=True,
                           capture_output=True, check=True).stdout
    paths = [ROOT / name for name in names.split("\0") if name]
    return [path for path in paths if path.is_file()]


# --- versions -------------------------------------------------------------

def test_lock_has_every_dependency_at_a_version_that_fits():
    versions = lock()
    for need in requirements():
        version = versions.get(canonicalize_name(need.name))
        assert version, f"requirements.lock lacks {need.name}"
        assert need.specifier.contains(version, prereleases=True), (
            f"requirements.lock has {need.name} {version}, pyproject.toml "
            f"wants {need.specifier}")


def test_lock_is_complete_and_holds_nothing_unneeded():
    """Walk the installed metadata from pyproject.toml's own needs."""
    versions, reached = lock(), set(drawn_in(map(str, requirements())))
    # torch alone brings CUDA libraries of its own on some machines.
    cuda = {name for name in reached
            if name.startswith(("nvidia-", "cuda-")) or name == "triton"}
    outside = {"setuptools", "pip", "wheel", "geotree"}
    assert reached - cuda - outside - set(versions) == set(), "lock lacks"
    assert set(versions) - reached - outside == set(), "lock has too much"


def test_installed_environment_is_the_lock():
    wrong = []
    for name, version in lock().items():
        try:
            found = Version(metadata.version(name)).public
        except metadata.PackageNotFoundError:
            found = "missing"
        if found != version:
            wrong.append(f"{name}: locked {version}, installed {found}")
    assert not wrong, "; ".join(wrong) + ". Renew it: make setup"


def test_torchvision_stays_out():
    """Its build breaks itself and then the CLIP import of transformers."""
    assert "torchvision" not in lock()
    assert importlib.util.find_spec("torchvision") is None


def test_every_file_has_its_hash_and_torch_stands_alone():
    assert min(count for *_, count in pins(LOCK)) >= 1
    assert [(name, count) for name, *_, count in pins(TORCH)] == [
        ("torch", 0)]
    names = {name for name, *_ in pins(LOCK)}
    assert "torch" not in names
    assert not [name for name in names if name.startswith("nvidia-")]


def test_set_up_takes_what_the_lock_says_and_checks_it():
    """pip refuses a file whose hash is not in the list."""
    answer = subprocess.run(["make", "--dry-run", "--always-make", "setup"],
                            cwd=ROOT, text=True, capture_output=True,
                            check=True)
    torch, rest, own = [line for line in answer.stdout.splitlines()
                        if "/pip install" in line]
    assert torch.endswith("-r requirements-torch.txt")
    assert rest.endswith("--no-deps --require-hashes -r requirements.lock")
    assert own.endswith("--no-deps --editable .")


def test_environment_yml_leaves_the_versions_to_the_lock():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert conda["name"] == "geotree"
    assert conda["channels"] == ["conda-forge"]
    python, *others = conda["dependencies"]
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(
        project()["requires-python"])
    assert others == ["pip", "make"]


def test_version_and_address_are_said_once_and_the_same():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    address = config["repository"]["url"]
    assert citation["version"] == geotree.__version__
    assert metadata.version("geotree") == geotree.__version__
    assert citation["repository-code"] == address
    assert project()["urls"]["Homepage"] == address
    for script in SCRIPTS:
        for found in re.findall(r"git\+(\S+?)[@\"]",
                                script.read_text("utf-8")):
            assert found.removesuffix(".git") == address, script.name


def test_citation_is_complete():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "license"} <= set(citation)
    assert citation["date-released"].isoformat() > "2026"  # a date, no text
    assert citation["license"] == project()["license"] == "Apache-2.0"
    paper, = citation["references"]
    assert paper["doi"] == "10.5194/essd-18-1379-2026"
    assert len(paper["authors"]) == 8
    licence = (ROOT / "LICENSE").read_text("utf-8")
    assert "Version 2.0, January 2004" in licence
    assert "END OF TERMS AND CONDITIONS" in licence


# --- notebooks ------------------------------------------------------------

def cells(notebook) -> list[tuple]:
    """What a pair must share."""
    return [(cell.cell_type, cell.source.rstrip(),
             tuple(cell.metadata.get("tags", ())),
             json.dumps(cell.metadata.get("mystnb"), sort_keys=True))
            for cell in notebook.cells]


def code(script: Path, tag: str = "") -> list[str]:
    """Sources of the code cells, without those that carry the tag."""
    return [cell.source for cell in jupytext.read(script).cells
            if cell.cell_type == "code"
            and tag not in cell.metadata.get("tags", ())]


def test_the_readme_names_each_room_of_the_house():
    rows = re.findall(r"^\| (`.*?`) \|", (ROOT / "README.md").read_text(),
                      re.MULTILINE)
    named, folder = set(), Path()
    for name in (name for row in rows for name in re.findall("`(.+?)`", row)):
        inside = "/" not in name.rstrip("/") and (
            ROOT / folder / name).exists()
        path = folder / name if inside else Path(name)
        assert (ROOT / path).exists(), name
        folder = path.parent
        named.add(path)
    rooms = {path.relative_to(ROOT) for path in (ROOT / "geotree").iterdir()
             if not path.name.startswith("__")}
    assert rooms <= named


def test_the_contents_name_each_chapter_in_order():
    """Eleven questions; the sixth has two pages below it."""
    toc = (ROOT / "_toc.yml").read_text("utf-8")
    root, *listed = re.findall(r"(?:root|file): (\S+)", toc)
    named = [name for name in listed if name.startswith("notebooks/")]
    assert sorted(named) == [f"notebooks/{path.stem}" for path in SCRIPTS]
    numbers = [int(name.removeprefix("notebooks/")[:2]) for name in named]
    assert sorted(numbers) == numbers and set(numbers) == {*range(1, 12)}
    assert len(listed) == len(set(listed))
    for name in [root, *set(listed) - set(named)]:
        assert (ROOT / f"{name}.md").is_file(), f"{name}.md is missing"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_both_halves_of_a_notebook_are_the_same(script):
    path = script.with_suffix(".ipynb")
    assert path.exists(), f"{path.name} is missing: make sync"
    notebook = jupytext.read(path)
    assert cells(notebook) == cells(jupytext.read(script)), (
        f"{path.name} differs from {script.name}: make sync")
    for cell in notebook.cells:
        assert not cell.get("outputs"), f"{path.name} has outputs: make sync"
        assert not cell.get("execution_count"), f"{path.name}: make sync"
        assert cell.get("id"), f"{path.name}: a cell has no id: make sync"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_cells_are_small(script):
    lines = [len(source.splitlines()) for source in code(script)]
    assert max(lines) <= 25, f"a cell of {max(lines)} lines, at most 25"
    # The folded set-up cell is the same everywhere and not for reading.
    lines = [len(source.splitlines()) for source in code(script, "hide-cell")]
    assert statistics.median(lines) <= 5, f"cells of {sorted(lines)} lines"
    assert sum(count <= 12 for count in lines) >= 0.9 * len(lines)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_lines_are_at_most_79_columns(script):
    text = script.read_text("utf-8").splitlines()
    wide = [number for number, line in enumerate(text, 1)
            if len(line) > 79 and not line.startswith("# %%")
            and "](http" not in line]
    assert not wide, f"{script.name}: lines {wide}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_prose_reads_well_where_no_directive_is_known(script):
    """JupyterLab and Colab show ``:::{note}`` as it is written."""
    assert ":::" not in script.read_text("utf-8")


# --- what must not be there ------------------------------------------------

def test_no_traces_of_one_machine_and_nothing_unfinished():
    machine = re.compile(r"(?<![\w.~-])/(work|root|home/\w+|Users/\w+)/")
    index = re.compile(r"--(extra-)?index-url|--find-links")
    undone = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b"
                        r"|NotImplemented" r"Error")
    for path in tracked():
        if path.suffix in (".svg", ".png", ".csv") or (
                path == Path(__file__).resolve()):
            continue
        text = path.read_text("utf-8")
        for pattern in (machine, index, undone):
            found = pattern.search(text)
            assert not found, f"{path.relative_to(ROOT)}: '{found[0]}'"


def test_no_table_of_the_release_and_nothing_large_is_kept():
    """The release's tables have no clear licence; outputs are made anew."""
    for path in tracked():
        name = path.relative_to(ROOT)
        assert not path.name.startswith("GlobalGeoTree"), name
        assert path.stat().st_size < 400_000, f"{name} is large"


def test_import_is_light():
    program = ("import sys, geotree; heavy = {'torch', 'ee', 'geemap', "
               "'transformers', 'sklearn', 'matplotlib'}; "
               "print(sorted(heavy & set(sys.modules)))")
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT,
                            text=True, capture_output=True, check=True)
    assert answer.stdout.strip() == "[]"


# --- how the book decides what to run again ---------------------------------

def notebook(code="x = 1", prose="Hello"):
    return json.dumps({"cells": [
        {"cell_type": "markdown", "source": [prose]},
        {"cell_type": "code", "source": [code]}]})


def page(code, prose="Hello"):
    return f"# {prose}\n\n```{{code-cell}}\n{code}\n```\n\n{prose}\n"


@pytest.fixture
def tree(tmp_path):
    """A repository of two modules, two notebooks and a table."""
    root = tmp_path / "repository"
    for name in ("geotree/data", "notebooks", "results", "book"):
        (root / name).mkdir(parents=True)
    (root / "requirements.lock").write_text("a==1\n")
    (root / "geotree/a.py").write_text("A = 1\n")
    (root / "geotree/data/b.csv").write_text("b\n1\n")
    (root / "notebooks/01.ipynb").write_text(notebook())
    (root / "notebooks/02.ipynb").write_text(notebook("y = 2"))
    (root / "book/page.md").write_text(page("x = 1"))
    (root / "table.csv").write_text("latitude\n1\n")
    return root


@pytest.mark.parametrize(("name", "text"), [
    ("geotree/a.py", "A = 2\n"), ("geotree/new.py", ""),
    ("geotree/data/b.csv", "b\n2\n"), ("requirements.lock", "a==2\n"),
    ("notebooks/01.ipynb", notebook("x = 2")),
    ("book/page.md", page("x = 2")),
    ("notebooks/03.ipynb", notebook()), ("results/a.csv", "a\n"),
    ("table.csv", "latitude\n2\n")])
def test_key_changes_with_all_that_outputs_depend_on(build, tree, name, text):
    given = {"GEOTREE_TABLE": str(tree / "table.csv")}
    before = build.key(tree, given)
    (tree / name).write_text(text)
    assert build.key(tree, given) != before


def test_key_tells_all_settings_apart_and_ignores_prose(build, tree):
    given = [{}] + [{f"GEOTREE_{name}": value} for name, value in {
        "RUN": "full", "TABLE": str(tree / "table.csv"), "SOURCE": "stac",
        "STAC_URL": "http://127.0.0.1:9", "TAXA": str(tree / "results"),
        "WHATEVER_COMES": "1"}.items()]
    keys = {build.key(tree, one) for one in given}
    assert len(keys) == len(given)
    (tree / "notebooks/01.ipynb").write_text(notebook(prose="Good-bye"))
    (tree / "book/page.md").write_text(page("x = 1", prose="Good-bye"))
    (tree / "geotree/__pycache__").mkdir()
    (tree / "geotree/__pycache__/a.pyc").write_bytes(b"1")
    assert build.key(tree, {}) in keys


def test_key_does_not_confuse_a_file_with_two(build, tree):
    before = build.key(tree, {})
    (tree / "geotree/a.py").rename(tree / "geotree/c.py")
    assert build.key(tree, {}) != before


def test_books_of_different_input_stay_apart(build):
    jobs = [build.Job(table, run, origin) for run in ("sample", "full")
            for table in (None, Path("planet.csv"), Path("full.csv"))
            for origin in ("", "stac", "search-stac")]
    assert len({job.html for job in jobs}) == len(jobs)
    assert len({job.work for job in jobs}) == len(jobs)
    assert jobs[0].html == build.BUILD / "html"


def test_settings_are_those_of_chapters_alone(build):
    job = build.job_of({"GEOTREE_SOURCE": "stac", "GEOTREE_ROUTE": "search",
                        "GEOTREE_RUN": ""})
    assert job == build.Job(None, "sample", "search-stac")
    assert build.settings(job, {
        "GEOTREE_STAC_URL": "a", "GEOTREE_DATA": "b", "GEOTREE_YEAR": "",
        "GEOTREE_CACHE": "d", "HOME": "c"}) == {
            "GEOTREE_RUN": "sample", "GEOTREE_STAC_URL": "a"}


def test_stale_outputs_and_data_go_and_fresh_ones_stay(build, tree,
                                                       monkeypatch):
    monkeypatch.setattr(build, "BUILD", tree / "_build")
    job, data = build.Job(None), tree / "data"
    executed = job.work / "executed"

    def run_once() -> bool:
        stale = build.forget_stale(job, build.key(tree, {}), data)
        executed.mkdir(exist_ok=True)
        data.mkdir(exist_ok=True)
        (data / "cube").touch()
        return stale

    job.work.mkdir(parents=True)
    assert run_once()
    (data / "older").touch()
    assert not run_once()
    assert (data / "older").exists()
    (tree / "geotree/a.py").write_text("A = 3\n")
    assert run_once()
    assert not (data / "older").exists() and executed.exists()


@pytest.mark.parametrize(("run", "origin"), [("full", ""),
                                             ("sample", "stac")])
def test_data_that_cost_days_or_a_quota_are_never_removed(
        build, tree, monkeypatch, run, origin):
    monkeypatch.setattr(build, "BUILD", tree / "_build")
    job, data = build.Job(None, run, origin), tree / "data"
    job.work.mkdir(parents=True)
    data.mkdir()
    assert build.forget_stale(job, "another key", data)
    assert data.exists()


def test_a_table_that_is_not_there_ends_the_build(build):
    assert build.table_from({}) is None
    with pytest.raises(SystemExit, match="no such file"):
        build.table_from({"TABLE": "nowhere.csv"})
