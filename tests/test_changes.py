"""The page of changes: every point is there, and its numbers are computed."""

import ast
import re
from pathlib import Path

import jupytext
import pytest
from killing import Run

from geotree import occurrences

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book/changes.md"


def code():
    return [cell.source for cell in jupytext.read(PAGE).cells
            if cell.cell_type == "code"]


def test_thirteen_points_each_with_a_number():
    text = PAGE.read_text("utf-8")
    points = re.split(r"^## (?=\d)", text, flags=re.M)[1:]
    assert [int(point.split(".")[0]) for point in points] == list(
        range(1, 14))
    for point in points:
        assert "*The release:*" in point and "*Here:*" in point
        assert "```{code-cell}" in point and "print(" in point


def test_cells_are_small():
    assert max(len(source.splitlines()) for source in code()) <= 25
    assert max(len(line) for source in code()
               for line in source.splitlines()) <= 79


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the page prints on the planet, in its small size."""
    return Run("\n".join(code()), environment={
        "GEOTREE_DATA": str(tmp_path_factory.mktemp("changes"))}).finish(400)


def number(said, pattern):
    return float(re.search(pattern, said)[1].replace(",", ""))


def test_the_numbers_of_the_page_say_what_the_page_says(said):
    assert number(said, r"higher rank: ([\d,]+)") > 0
    assert number(said, r"no plant: ([\d,]+)") > 0
    assert number(said, r"(\d+) m at the narrowest") < 40
    assert number(said, r"([\d,]+) parameters") == 1_053_184
    # By chance: no two trainings give the same vocabulary.
    assert number(said, r"alone: (\d+)%") > 1
    assert number(said, r"(\d+)% with constants") <= 1
    assert number(said, r"release: December .* by (\S+)") < 1e-5
    assert number(said, r"compact: December .* by (\S+)") > 1e-2
    assert number(said, r"(\d+)% of the rows have another") > 10
    assert number(said, r"up to (\d+) of a species") > 1
    assert number(said, r"here: \d+ records, (\d+) of each") == 1
    assert abs(number(said, r"wrapped: .* ([+-][\d.]+)")) < 0.3
    assert number(said, r"scaled: .* ([+-][\d.]+)") > 0.8
    assert number(said, r"held out, (\d+) of their") == 0
    assert (number(said, r"random rows\s+([\d.]+)%")
            > number(said, r"5° blocks\s+([\d.]+)%"))
    assert number(said, r"([\d,]+) MB of tars") > 10
    assert number(said, r"audit drops ([\d,]+) of") == 9930 - 7983
    assert (number(said, r"release, random rows\s+\S+% .*\(([\d.]+)%")
            > number(said, r"release, 5° blocks\s+\S+% .* to ([\d.]+)%"))
    assert re.search(r"2 of 6 can be told from zero: pairs", said)


def test_the_published_support_is_that_of_the_release(real_table):
    """111 records for one shot of 90 species, up to three of one."""
    source = next(cell for cell in code() if "published_support(" in cell)
    function, = [node for node in ast.parse(source).body
                 if isinstance(node, ast.FunctionDef)]
    names = {}
    exec(ast.unparse(function), names)
    support = names["published_support"](
        occurrences.read_release(real_table), 1)
    assert len(support) == 111
    assert support["species"].value_counts().max() == 3
