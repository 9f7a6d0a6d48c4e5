"""Where pixels come from: one small interface, one file for each source.

A source answers two questions about an occurrence table: what would it
cost (:meth:`Source.plan`) and what is there (:meth:`Source.fetch`).
"""

import errno
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from geotree import checks, engine, globe
from geotree.network import DownloadError, redact
from geotree.variables import BANDS, MONTHS, NODATA, PATCH, VARIABLES

# Status of a sample in a cube.
PENDING, OK, NO_IMAGERY, FAILED = 0, 1, 2, 3
YEAR = 2020  # of the pixels, where nobody says another
SHAPE = MONTHS, len(BANDS), PATCH, PATCH
BYTES = 2 * int(np.prod(SHAPE)) + 4 * len(VARIABLES) + 1  # a sample
FIRST = 2015  # year of the first image of Sentinel-2
SEEN = f"tile != '' and year >= {FIRST}"  # rows that it has seen
# Sources that are known by name, imported when one is asked for.
_KNOWN = {"planet": "geotree.planet.source:Planet",
          "earthengine": "geotree.sources.earthengine:EarthEngine",
          "stac": "geotree.sources.stac:Stac"}


def names() -> tuple[str, ...]:
    """Sources that :func:`by_name` knows."""
    return tuple(_KNOWN)


def by_name(name: str) -> type["Source"]:
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
    agree: Callable[["Plan"], None] | None = None  # asked last, may refuse

    def __add__(self, other: "Plan") -> "Plan":
        """The plan of two parts of one work, with one budget."""
        return Plan(*(getattr(self, name) + getattr(other, name) for name in (
            "samples", "requests", "bytes", "seconds", "eecu_hours")),
            min(self.budget, other.budget), self.agree or other.agree)

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
                f"budget is {self.budget:,.1f}. Take fewer samples, or tell "
                "the source your tier=, share= or measured eecu_seconds=.")
        if self.agree:
            self.agree(self)


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


def expect(source) -> None:
    """Refuse what has no plan to tell, a name of a source among them.

    Raises
    ------
    TypeError
    """
    if isinstance(source, type) or not all(map(
            callable, (getattr(source, name, None)
                       for name in ("attrs", "plan", "fetch")))):
        raise TypeError(
            f"source is {source!r}, expected an object that has attrs, plan "
            "and fetch, such as sources.by_name('planet')().")


def among(source: Source, slots: int) -> tuple[Source, int | None]:
    """A source for each of some that ask at a time, and how many may.

    What a service allows (``workers``, requests at a time) is divided.
    """
    quota = getattr(source, "workers", None)
    if quota is None or slots == 1:
        return source, None
    return source.share(most := min(slots, quota)), most


def fetch(table: pd.DataFrame, source: Source, *, max_failed: float = 0.5,
          timeout: float = 3600.0) -> Pixels:
    """Plan, fetch and check: the way in for all that is not a cube.

    Parameters
    ----------
    table : DataFrame of N rows
    source : Source
    max_failed : float
        Share of failed samples above which this is an error; below, a
        warning counts them.
    timeout : float
        Seconds after which the source is given up.

    Raises
    ------
    ValueError
        The plan is beyond the source's budget, or the answer is not what
        a source may answer (:func:`check`).
    DownloadError
        Too many samples fail.
    ServiceError
        The source does not answer in time, or refuses.
    """
    checks.number(max_failed, name="max_failed", low=0, high=1)
    expect(source)
    if checks.columns(table, globe.PLACE).empty:
        raise ValueError("table has no rows: nothing to fetch.")
    source.plan(table).check()
    (_, found), = engine.each(source.fetch, [(table,)], timeout=timeout)
    found = check(found, table, source)
    failed = int((found.status == FAILED).sum())
    if failed:
        told = (f"{failed} of {len(table)} samples failed, the first with "
                f"{redact((*found.messages, 'no reason given')[0])!r}")
        if failed > max_failed * len(table):
            raise DownloadError(errno.EIO, f"{told}. Call again later")
        warnings.warn(f"{told}. They are not without imagery: ask for them "
                      "again", stacklevel=2)
    return found


def check(found: Pixels, table: pd.DataFrame, source: Source) -> Pixels:
    """The answer of a source to a table, or a ``ValueError``.

    Types, shapes and units are those of :class:`Pixels`; each row has the
    place of its row of the table; ``OK`` means that a pixel was seen, and
    ``NO_IMAGERY`` that none was. Places apart never look alike to the bit.
    """
    where, n = f"source {source.name!r}", len(table)
    if not isinstance(found, Pixels):
        raise ValueError(f"{where} returned a {type(found).__name__}, "
                         "expected sources.Pixels.")
    images, environment = found.reflectance, found.environment
    checks.images(images, where=f"{where}: reflectance")
    checks.environment(environment, where=f"{where}: environment")
    status = np.asarray(found.status)
    if {len(images), len(environment), status.size} != {n}:
        raise ValueError(f"{where} returned {len(images)} images, "
                         f"{len(environment)} rows of variables, "
                         f"{status.size} statuses, expected {n} each.")
    checks.one_each(status, n, where=f"{where}: status")
    if images.dtype != np.uint16:
        raise ValueError(f"{where}: reflectance is {images.dtype}, expected "
                         f"uint16 with {NODATA} where nothing was seen.")
    if not np.isin(status, (OK, NO_IMAGERY, FAILED)).all():
        raise ValueError(f"{where} returned status {np.unique(status)}, "
                         "expected 1, 2 or 3.")
    lat, lon = globe.places_of(table, where)
    east = (environment[:, 0].astype(float) - lon + 180) % 360 - 180
    north = environment[:, 1].astype(float) - lat
    seen = (images != NODATA).any(axis=(1, 2, 3, 4))  # (N,)
    near = np.maximum(np.abs(east), np.abs(north)) < 2e-5  # float32's grain
    for bad, what in (
            (~near & (status != FAILED), "is of another place than row"),
            ((status == OK) & ~seen, "is OK without a valid pixel, row"),
            ((status == NO_IMAGERY) & seen, "has pixels and no imagery, row"),
            (seen & _copies(images, lat, lon),
             "has the very pixels of another place, row")):
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"{where}: {int(bad.sum())} of {n} samples are wrong, the "
                f"first {what} {row} of the table (gbifID "
                f"{table['gbifID'].iloc[row]}, {lat[row]:.6f}, "
                f"{lon[row]:.6f}), whose order they have to keep.")
    return found


def _copies(images, lat, lon) -> np.ndarray:
    """Which patches are those of a place a kilometre or more away: (N,)."""
    alike = pd.DataFrame({"patch": [hash(one.tobytes()) for one in images],
                          "lat": lat, "lon": lon}).groupby("patch")
    spread = alike.transform("max") - alike.transform("min")  # degrees
    return (spread > 0.01).any(axis=1).to_numpy()
