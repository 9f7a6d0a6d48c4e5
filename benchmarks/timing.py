"""Take turns, and report medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from tqdm import tqdm


@dataclass
class Result:
    """One row of the table of results."""

    stage: str
    unit: str  # of the three values
    goal: str
    ours: float
    published: float | None = None  # the published way, re-stated
    limit: float | None = None  # what the machine allows
    limit_is: str = ""  # what was measured as the limit
    less_is_better: bool = False
    runs: dict[str, list[float]] = field(default_factory=dict)
    note: str = ""

    def row(self) -> dict:
        """As a dictionary, with the two ratios that are the result."""
        def ratio(other):
            if not other:
                return None
            return (other / self.ours if self.less_is_better
                    else self.ours / other)

        return asdict(self) | {"times_published": ratio(self.published),
                               "share_of_limit": ratio(self.limit)}


def rates(ways: dict[str, Callable[[], int]], *, runs: int = 5
          ) -> dict[str, list[float]]:
    """Units a second of each way, measured in turns after one warm-up.

    Parameters
    ----------
    ways : dict
        Name to a function that does the work and returns how many units
        it did.
    runs : int
        Measured turns of each.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in tqdm(range(runs + 1), "turns", leave=False):
        for name, work in ways.items():
            started = time.perf_counter()
            units = work()
            seconds = time.perf_counter() - started
            if turn:
                found[name].append(units / seconds)
    return found


def compare(stage: str, *, goal: str, unit: str, ours, published=None,
            limit=None, limit_is: str = "", runs: int = 5,
            note: str = "") -> Result:
    """Measure the ways of one stage in turns."""
    ways = {"ours": ours, "published": published, "limit": limit}
    found = rates({name: work for name, work in ways.items() if work},
                  runs=runs)
    middle = {name: statistics.median(values)
              for name, values in found.items()}
    return Result(stage, unit, goal, **middle, limit_is=limit_is, runs=found,
                  note=note)
