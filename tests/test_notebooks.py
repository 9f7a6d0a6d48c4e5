"""Each chapter as its readers start it: as a notebook and as a script.

The notebooks of a book that was built from what stands here have run, whole,
and are not run again. The scripts run on a quarter of the records; they share
one folder, so each step of the chain is made once. That each runs from an
empty folder alone is tested elsewhere. A script has a process of its own,
forked where the packages are imported.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
from killing import Run

from geotree import chain

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))
CLEAN = {name: value for name, value in os.environ.items()
         if not name.startswith("GEOTREE_") and name != "TABLE"}


@pytest.fixture
def book(build):
    """The planet's book, if it shows what stands here; else None."""
    return build.current(CLEAN)


def places(folder: Path) -> tuple[Path, Path]:
    """A data folder and a working directory that is no repository."""
    (folder / "elsewhere").mkdir()
    return folder / "data", folder / "elsewhere"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return places(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return places(tmp_path_factory.mktemp("small"))


def settings(data: Path) -> dict[str, str]:
    return CLEAN | {"GEOTREE_DATA": str(data), "MPLBACKEND": "Agg"}


def run(code: str, places, **more) -> None:
    """Run a program in a process and a folder of its own, at a small size."""
    data, elsewhere = places
    start = ["import os", "os.environ.clear()",
             f"os.environ.update({settings(data) | more})",
             f"os.chdir({str(elsewhere)!r})",
             "from geotree import chain",
             "chain.use(records=3000, epochs=1)"]
    Run("\n".join([*start, code])).finish(600)
    assert not list(elsewhere.iterdir()), "files beside the data folder"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_runs_as_a_notebook(chapter, book, whole):
    """In the book, whose build runs them in the same kernel; or here."""
    if book:
        page = book.html / "notebooks" / f"{chapter}.html"
        assert 'class="output ' in page.read_text("utf-8")
        return
    path = ROOT / "notebooks" / f"{chapter}.ipynb"
    before = path.read_bytes()
    done = subprocess.run(
        [Path(sys.executable).with_name("jupyter-execute"), path],
        cwd=whole[1], text=True, capture_output=True, env=settings(
            whole[0]))
    assert done.returncode == 0, done.stderr[-3000:]
    assert path.read_bytes() == before


def solutions(chapter: str) -> list[str]:
    """The code of a chapter's solutions, in order."""
    cells = jupytext.read(ROOT / "notebooks" / f"{chapter}.py").cells
    return [code for cell in cells if cell.cell_type == "markdown"
            for code in re.findall(
                r"<summary>Solution</summary>.*?```python\n(.*?)```",
                cell.source, re.DOTALL)]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_has_three_graded_exercises_with_discussed_answers(chapter):
    text = "\n".join(
        cell.source for cell in
        jupytext.read(ROOT / "notebooks" / f"{chapter}.py").cells
        if cell.cell_type == "markdown")
    assert re.findall(r"\*\*Exercise (\d)\*\* \((\w+)\)", text) == [
        ("1", "easy"), ("2", "medium"), ("3", "hard")]
    answers = re.findall(r"<details>(.*?)</details>", text, re.DOTALL)
    prose = [re.sub(r"```.*?```", "", answer, flags=re.DOTALL)
             for answer in answers]
    assert len(answers) == len(solutions(chapter)) == 3
    assert min(len(words.split()) for words in prose) >= 20


def program(chapter: str) -> str:
    """Python that runs a chapter as a script, then each of its solutions."""
    path = ROOT / "notebooks" / f"{chapter}.py"
    return "\n".join(["import runpy", f"names = runpy.run_path({str(path)!r})"]
                     + [f"exec(compile({code!r}, 'solution {number}', 'exec')"
                        ", dict(names))" for number, code in
                        enumerate(solutions(chapter), 1)])


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_runs_as_a_script_and_so_do_the_solutions(chapter, small):
    """Each solution on its own, where the reader has run the chapter."""
    run(program(chapter), small)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A small table of one's own: 8 species without any relative."""
    folder = tmp_path_factory.mktemp("own")
    table = chain.planet().occurrences(8000)
    often = table.groupby("species").head(25)
    often = often[often.groupby("species")["species"].transform("size") == 25]
    kinds = often.drop_duplicates("family")["species"].head(8)
    often[often["species"].isin(kinds)][
        ["species", "decimalLatitude", "decimalLongitude", "year"]].to_csv(
            folder / "eight.csv", index=False, header=[
                "species", "lat", "lon", "year"])
    return folder / "eight.csv", places(folder)


@pytest.mark.parametrize("chapter", [
    "03-shards", "04-benchmark", "06-how-sure", "06-unseen", "06-zero-shot",
    "07-few-shot", "08-t-sne", "summary"])
def test_a_small_table_of_ones_own_goes_through(chapter, own):
    """No country, no source, nobody to hold out: said, and passed over."""
    table, folders = own
    page = ROOT / "book" / f"{chapter}.md"
    run("\n\n".join(cell.source for cell in jupytext.read(page).cells
                    if cell.cell_type == "code") if page.exists()
        else program(chapter), folders, GEOTREE_TABLE=str(table))
