"""What is installed here, and what draws in what."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def drawn_in(lines: Iterable[str], extras: Iterable[str] = ()) -> list[str]:
    """Names that these requirements, of a package with extras, ask for.

    With all that these ask for in turn, by the metadata installed here.
    """
    seen, todo = set(), [(lines, (*extras, ""))]
    while todo:
        lines, extras = todo.pop()
        for need in map(Requirement, lines):
            if need.marker and not any(need.marker.evaluate({"extra": one})
                                       for one in extras):
                continue
            name, wanted = canonicalize_name(need.name), (*need.extras, "")
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                todo.append((metadata.requires(name) or (), wanted))
    return sorted({name for name, _ in seen})
