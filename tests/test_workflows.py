"""Workflows: pinned, with no more rights than they need, and linted."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from browser import served

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text("utf-8"))


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values()
            for step in job["steps"]]


def test_there_are_three():
    assert [path.stem for path in WORKFLOWS] == ["ci", "pages", "weekly"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_rights_are_least(path):
    text, workflow = path.read_text("utf-8"), read(path)
    for line in text.splitlines():
        if "uses:" in line:
            assert PINNED.search(line), f"not pinned by commit: {line}"
    assert workflow["permissions"] == {}, "rights belong to a job"
    for name, job in workflow["jobs"].items():
        rights = job.get("permissions", {})
        assert rights in ({"contents": "read"},
                          {"pages": "write", "id-token": "write"}), name
        assert job["timeout-minutes"] <= 90
        assert job["runs-on"] == "ubuntu-24.04"
    for step in steps(workflow):
        assert "${{" not in step.get("run", ""), "an expression in a shell"
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_secrets_are_given_to_one_step_of_the_weekly_run_alone():
    holders = [step for path in WORKFLOWS for step in steps(read(path))
               if "secrets." in str(step)]
    assert [step["run"] for step in holders] == [
        ".venv/bin/python .ci/live.py"]
    for path in WORKFLOWS:
        assert "pull_request_target" not in path.read_text("utf-8")


def test_what_the_workflows_call_is_there():
    for path in WORKFLOWS:
        for step in steps(read(path)):
            for name in re.findall(r"\.ci/\S+", step.get("run", "")):
                assert (ROOT / name).is_file(), f"{path.name}: {name}"
            for name in re.findall(r"make (\w+)", step.get("run", "")):
                makefile = (ROOT / "Makefile").read_text("utf-8")
                assert f"\n{name}:" in makefile, f"{path.name}: make {name}"


def test_a_linter_finds_nothing():
    program = shutil.which("zizmor", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("no workflow linter: pip install zizmor")
    answer = subprocess.run(
        [program, "--offline", "--no-progress", "--persona=pedantic",
         *map(str, WORKFLOWS)], text=True, capture_output=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


# --- the guard before publishing ------------------------------------------

@pytest.fixture
def guard():
    """The script ``.ci/pages.py`` as a module."""
    spec = importlib.util.spec_from_file_location("pages",
                                                  ROOT / ".ci/pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def book(tmp_path):
    folder = tmp_path / "book"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.html").write_text(name)
    (folder / "_modules").mkdir()  # listings of the code are no pages
    (folder / "_modules/d.html").write_text("d")
    return folder


@pytest.mark.parametrize(("before", "refused"), [
    (None, False), ("2", False), ("3", False), ("4", True), ("soup", True)])
def test_a_book_that_lost_pages_is_refused(guard, book, tmp_path, before,
                                           refused):
    site = tmp_path / "site"
    site.mkdir()
    if before:
        (site / "pages.txt").write_text(before)
    with served(site) as address:
        text = guard.main(str(book), f"{address}/")
    assert bool(text) is refused, text
    assert (book / "pages.txt").exists() is not refused


def test_a_site_that_does_not_answer_is_no_reason_to_publish(guard, book):
    assert "cannot tell" in guard.main(str(book), "http://127.0.0.1:9")


def test_an_empty_book_is_refused(guard, tmp_path):
    with served(tmp_path) as address:
        assert "has 0 pages" in guard.main(str(tmp_path / "none"), address)
