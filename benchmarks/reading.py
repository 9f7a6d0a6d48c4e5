"""What a reader waits for: the import, and the first answer of the map."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.data import Samples
from benchmarks.timing import Result

_FIRST = """
import sys, time
import pandas as pd
from geotree import explore, place, taxonomy
from geotree.models.compact import CompactClip
from geotree.planet.source import Planet

known = pd.read_parquet(sys.argv[1])
chart = explore.what_grows_here(
    CompactClip(), Planet(), taxonomy.class_table(known), known=known,
    place=place.Nearest(known))
for lat, lon in ((46.5, 11.0), (47.5, 11.5)):
    started = time.perf_counter()
    chart.ask(lat, lon)
    assert "seen" in chart.panel.answer
    print(time.perf_counter() - started)
"""


def _python(code: str, *arguments) -> tuple[float, str]:
    """Seconds of a fresh interpreter, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)],
                          text=True, capture_output=True, check=True)
    return time.perf_counter() - started, done.stdout


def start(samples: Samples, runs: int) -> Result:
    """``import geotree`` in a fresh interpreter, its start included."""
    found = {"ours": [], "limit": []}
    for _ in range(runs):
        found["ours"].append(_python("import geotree")[0])
        found["limit"].append(_python("pass")[0])
    middle = {name: statistics.median(x) for name, x in found.items()}
    return Result("import geotree", "s", "≤ 0.3 s", **middle, runs=found,
                  limit_is="an interpreter that imports nothing",
                  less_is_better=True)


def answer(samples: Samples, runs: int) -> Result:
    """First answer to a click, of a map that was just drawn."""
    samples.folder.mkdir(parents=True, exist_ok=True)
    path = samples.folder / "known.parquet"
    samples.table.to_parquet(path)
    found = {"ours": [], "limit": []}
    for _ in range(runs):
        first, second = map(float, _python(_FIRST, path)[1].split())
        found["ours"].append(first)
        found["limit"].append(second)
    middle = {name: statistics.median(x) for name, x in found.items()}
    return Result("first answer of the map", "s", "≤ 1 s", **middle,
                  runs=found, limit_is="the second answer",
                  less_is_better=True,
                  note=f"{len(samples.table):,} known records")
