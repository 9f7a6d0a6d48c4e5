"""The house: rooms in a row, and two wings that the core does not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "geotree"
TREES = {path.relative_to(HOUSE): ast.parse(path.read_text("utf-8"))
         for path in sorted(HOUSE.rglob("*.py"))}
SECOND_DOOR = Path("sources/planet.py")  # to the planet's wing
WINGS = ("planet", "release")
# Where the core asks a wing, when a reader gives it CLIP's weights.
ASKS = {"baselines.py: release", "baselines.py: release.clip"}


def room(name: str) -> str:
    """The room of a module: the first part of its name in geotree."""
    return name.split(".")[0]


def imports(tree, path, *, lazy: bool) -> set[str]:
    """Modules of geotree that a file imports, at its top or within."""
    found = set()

    def visit(node, inside):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(
                node.test):
            return
        inside = inside or isinstance(node, ast.FunctionDef | ast.Lambda
                                      | ast.AsyncFunctionDef)
        if inside == lazy:
            if isinstance(node, ast.Import):
                found.update(name.name for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: a relative import"
                found.add(node.module)
                found.update(f"{node.module}.{name.name}"
                             for name in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(tree, False)
    return {name.removeprefix("geotree.") for name in found
            if name.startswith("geotree.")}


def rooms(*, lazy: bool) -> dict[str, set[str]]:
    """Which rooms each room imports; names of modules, not of things."""
    known = {room(".".join(path.with_suffix("").parts)) for path in TREES}
    links: dict[str, set[str]] = {}
    for path, tree in TREES.items():
        if path == SECOND_DOOR:
            continue
        own = room(".".join(path.with_suffix("").parts))
        links.setdefault(own, set()).update(
            {room(name) for name in imports(tree, path, lazy=lazy)}
            & known - {own})
    return links


def test_the_core_imports_no_wing():
    for path, tree in TREES.items():
        if path.parts[0] in WINGS or path == SECOND_DOOR:
            continue
        for lazy in (False, True):
            asked = {name for name in imports(tree, path, lazy=lazy)
                     if room(name) in WINGS}
            allowed = ASKS if lazy else set()
            assert {f"{path}: {name}" for name in asked} <= allowed


def test_rooms_form_no_circle():
    """By what is imported when a room is; not when it is asked."""
    links = {name: set(others) for name, others in rooms(lazy=False).items()
             if name != "__init__"}
    while links:
        free = [name for name, others in links.items()
                if not others & set(links)]
        assert free, f"a circle among {sorted(links)}: {links}"
        for name in free:
            del links[name]


def test_the_import_takes_no_time():
    """The best of some tries: another process may have the cores."""
    program = ("import time; start = time.perf_counter(); import geotree; "
               "print(time.perf_counter() - start)")
    tries = [float(subprocess.run([sys.executable, "-c", program], cwd=ROOT,
                                  text=True, capture_output=True,
                                  check=True).stdout) for _ in range(4)]
    assert min(tries) < 0.3, f"{min(tries):.2f} s"


def test_nothing_is_longer_than_one_takes_in_at_once():
    """300 lines a file, 50 a function besides its docstring, and six
    arguments by position."""
    large = []
    for path, tree in TREES.items():
        lines = (HOUSE / path).read_text("utf-8").splitlines()
        if len(lines) > 300:
            large.append(f"{path}: {len(lines)} lines")
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef):
                continue
            first = node.body[0].end_lineno if ast.get_docstring(
                node) is not None else node.lineno - 1
            own = [line for line in lines[first:node.end_lineno]
                   if line.strip() and not line.strip().startswith("#")]
            places = node.args.posonlyargs + node.args.args
            first = places[0].arg if places else ""
            if len(own) > 50 or len(places) > 6 + (first in ("self", "cls")):
                large.append(f"{path}, line {node.lineno}: {node.name}")
    assert not large
