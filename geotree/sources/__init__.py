"""Where pixels come from: one small interface, one file for each source.

A source answers two questions about an occurrence table: what would it
cost (:meth:`Source.plan`) and what is there (:meth:`Source.fetch`).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from geotree import checks

# Status of a sample in a cube.
PENDING, OK, NO_IMAGERY, FAILED = 0, 1, 2, 3
# Sources that are known by name, imported when one is asked for.
_KNOWN = {"planet": "geotree.planet.source:Planet",
          "earthengine": "geotree.sources.earthengine:EarthEngine",
          "stac": "geotree.sources.stac:Stac"}


def names() -> tuple[str, ...]:
    """Sources that :func:`by_name` knows."""
    return tuple(_KNOWN)


def by_name(name: str) -> type[Source]:
    """The class of a source: ``planet``, ``earthengine`` or ``stac``."""
    module, _, attribute = _KNOWN[
        checks.one_of(name, _KNOWN, name="source")].partition(":")
    return getattr(import_module(module), attribute)


class Pixels(NamedTuple):
    """What a source returns for N occurrences, in their order."""

    reflectance: np.ndarray  # (N, T, C, H, W) uint16, NODATA = missing
    environment: np.ndarray  # (N, V) float32, NaN = missing
    status: np.ndarray  # (N,) uint8: OK, NO_IMAGERY or FAILED
    messages: tuple[str, ...] = ()  # one for each FAILED sample, in order


@dataclass(frozen=True)
class Plan:
    """What a download will cost, known before it starts."""

    samples: int
    requests: int  # network requests; 0 for a source on this machine
    bytes: int  # stored, before compression
    seconds: float  # estimate
    eecu_hours: float = 0.0  # Earth Engine's unit of work, estimate
    budget: float = float("inf")  # EECU-hours that may be spent

    def __str__(self) -> str:
        text = (f"{self.samples:,} samples, {self.requests:,} requests, "
                f"{self.bytes / 1e6:,.1f} MB, about {self.seconds:,.0f} s")
        if self.eecu_hours:
            text += f", {self.eecu_hours:,.1f} EECU-hours"
        return text

    def check(self) -> None:
        """Raise ``ValueError`` where the budget does not cover the work."""
        if self.eecu_hours > self.budget:
            raise ValueError(
                f"the plan needs {self.eecu_hours:,.1f} EECU-hours, the "
                f"budget is {self.budget:,.1f}. Take fewer samples, wait for "
                "the next month, or give the source your tier (tier=), the "
                "share of it that you may spend (share=), or the cost that "
                "you measured (eecu_seconds=).")


@runtime_checkable
class Source(Protocol):
    """Anything that can fill a cube.

    ``origin`` ends the sentence "their pixels …" on each page.
    """

    name: str
    origin: str

    def attrs(self) -> dict[str, str | int | float]:
        """Provenance written into the cube: product, grid, dates, seed."""

    def plan(self, table: pd.DataFrame) -> Plan:
        """Cost of fetching ``table``, without fetching it."""

    def fetch(self, table: pd.DataFrame) -> Pixels:
        """Pixels and variables for each row of ``table``, in its order."""
