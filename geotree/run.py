"""What a run depends on: one object of settings, and the environment.

Pass a :class:`Run` of yours to :func:`use`, or set ``GEOTREE_RUN``
(``sample`` or ``full``), ``GEOTREE_DATA`` (folder), ``GEOTREE_TABLE`` (a
table of your own or of the release, instead of the planet's) or
``GEOTREE_ROUTE`` (to GBIF), and ``GEOTREE_SOURCE`` (of pixels); the page
"Setting up" lists those of the services. Read by :mod:`geotree.chain`.
"""

import difflib
import os
import warnings
from dataclasses import dataclass, field, replace
from functools import cache
from inspect import signature
from pathlib import Path

import pandas as pd

from geotree import checks, files, sources

_GBIF = {"url": "GBIF_URL", "taxa": "TAXA", "snapshot": "SNAPSHOT"}
_ROUTES = ("", "search", "download", "snapshot")
# Of a source: its options, and the variables that set them.
_OPTIONS = {"planet": {}, "earthengine": {"year": "YEAR", "tier": "EE_TIER"},
            "stac": {"year": "YEAR", "url": "STAC_URL",
                     "collection": "STAC_COLLECTION",
                     "rasters": "STAC_RASTERS"}}
_KNOWN = [f"GEOTREE_{name}" for name in (
    "RUN", "DATA", "TABLE", "ROUTE", "SOURCE", "CACHE", *_GBIF.values(),
    *(name for one in _OPTIONS.values() for name in one.values()))]


@cache
def _tell(name: str) -> None:
    near = difflib.get_close_matches(name, _KNOWN, 1, 0)[0]
    warnings.warn(f"{name} is set, but geotree reads no such variable. Is "
                  f"{near} meant?", stacklevel=4)


def options_of(source: str) -> dict:
    """Options of a source that the environment sets."""
    for name in os.environ:
        if name.startswith("GEOTREE_") and name not in _KNOWN:
            _tell(name)
    options = _given(_OPTIONS[source])
    if options.get("year", "").isdecimal():
        options["year"] = int(options["year"])
    return options


def _get(name: str) -> str:
    return os.environ.get(f"GEOTREE_{name}", "")


def _given(names: dict) -> dict:
    return {key: _get(name) for key, name in names.items() if _get(name)}


@dataclass(frozen=True)
class Run:
    """What a run depends on; the sample run takes minutes on two cores."""

    size: str = "sample"  # or "full"; names the folder
    data: str = ""  # folder of all runs; default: GEOTREE_DATA
    table: str = ""  # CSV of a table, instead of the planet's records
    route: str = ""  # to GBIF: "search", "download", "snapshot"
    gbif: dict = field(default_factory=dict)  # url, taxa, snapshot
    source: str = "planet"  # of pixels: see sources.names()
    options: dict = field(default_factory=dict)  # of the source
    records: int = 12_000  # of the planet or of GBIF, before filters
    epochs: int | None = None  # 10, or more where a table is small
    chunk: int = 256  # samples a unit of download
    block_degrees: float = 1.0  # of the train/test split
    held_out: float = 0.12  # share of species kept for zero-shot
    seed: int = 0

    def __post_init__(self) -> None:
        checks.one_of(self.size, ("sample", "full"), name="size")
        checks.one_of(self.route, _ROUTES, name="route")
        checks.one_of(self.source, sources.names(), name="source")
        if self.table and self.route:
            raise ValueError(f"table is '{self.table}' and route "
                             f"{self.route!r}: records come from one of them "
                             "(GEOTREE_TABLE, GEOTREE_ROUTE). Leave one out.")
        for key in checks.by_name(self.gbif, "gbif"):
            checks.one_of(key, _GBIF, name="a key of gbif")
        if checks.by_name(self.options, "options"):
            known = {} if self.source == "planet" else signature(
                sources.by_name(self.source)).parameters
            for key in self.options:
                checks.one_of(key, known,
                              name=f"an option of {self.source!r}")
        for name, low in (("records", 1), ("epochs", 1), ("chunk", 1),
                          ("seed", 0)):
            if getattr(self, name) is not None:
                checks.number(getattr(self, name), name=name, low=low,
                              whole=True)
        checks.number(self.block_degrees, name="block_degrees", low=1e-6)
        checks.number(self.held_out, name="held_out", low=0, high=1 - 1e-9)


_FULL = {"records": 1_000_000, "epochs": 20, "chunk": 1024}
_used: Run | None = None


def use(run: Run | None = None, **changes) -> Run | None:
    """Take these settings from here on, in this process.

    Parameters
    ----------
    run : Run, optional
        Default: what the environment says.
    changes
        Fields of it that differ: ``use(records=500, epochs=2)``. With
        neither, the environment counts again.
    """
    global _used
    if not isinstance(run, Run | None):
        raise TypeError(f"run is {checks.shown(run)}, expected a Run; what "
                        "differs goes by name: use(records=500).")
    _used = (replace(run or _from_environment(), **changes)
             if run or changes else None)
    return _used


def use_planet() -> None:
    """Take the planet's records from here on, in this process.

    For a page that a table of one's own cannot show. Where that lies in the
    planet's folder, the planet gets another.
    """
    before = folder()
    use(settings(), table="", route="", source="planet")
    if folder() == before:
        use(settings(), data=str(before / "of the planet"))


def settings() -> Run:
    """The settings of this run: those of :func:`use`, or the environment."""
    return _used or _from_environment()


def _from_environment() -> Run:
    size, source, route = (
        checks.one_of(_get(name) or usual, known, name=f"GEOTREE_{name}")
        for name, usual, known in (("RUN", "sample", ("sample", "full")),
                                   ("SOURCE", "planet", sources.names()),
                                   ("ROUTE", "", _ROUTES)))
    return Run(size=size, table=_get("TABLE"), route=route, source=source,
               gbif=_given(_GBIF),
               options=options_of(source), **(_FULL if size == "full" else {}))


def folder() -> Path:
    """Where the files of this run lie.

    Tables, sources of pixels and sizes of run have folders of their own;
    two tables of one name in two folders have two.
    """
    run, table = settings(), real_table()
    origin = (f"{table.stem}-{files.fingerprint(str(table))[:6]}" if table
              else f"gbif-{run.route}" if run.route else "")
    pixels = "" if run.source == "planet" else run.source
    label = "-".join(filter(None, (origin, pixels))) or "planet"
    root = run.data or _get("DATA") or "geotree-data"
    return (files.named(root) / label / run.size).absolute()


def real_table() -> Path | None:
    """The table that ``Run.table`` or ``GEOTREE_TABLE`` names, if any."""
    name = settings().table
    if not name:
        return None
    path = files.named(name)
    if not path.exists():
        raise FileNotFoundError(f"GEOTREE_TABLE is '{name}', which does not "
                                "exist. Give the full path of a CSV.")
    return path.absolute()


def planet():
    """The simulated planet of this run."""
    return sources.by_name("planet")(seed=settings().seed)


def rarity_limits() -> dict:
    """Records at which a species is rare or frequent.

    For ``splits.rarity``: of the planet its own, of real records the
    release's, which are the defaults there.
    """
    run = settings()
    if run.table or run.route:
        return {}
    about = planet().RUNS[run.size]
    return {name: about[name] for name in ("rare", "frequent")}


def source():
    """The source of pixels of this run, with the options of ``Run``."""
    run = settings()
    if run.source == "planet":
        return planet()
    known = {"stac": {"cache": folder() / "scenes"},
             "earthengine": {"chunk": run.chunk}}
    return sources.by_name(run.source)(**known[run.source] | run.options)


def raw_occurrences() -> pd.DataFrame:
    """The table as collected, faults and all.

    Of the planet, of a CSV of the release or of your own, or of GBIF: there
    the species of ``taxa`` (``GEOTREE_TAXA``), a CSV with the columns
    ``species`` and ``leafType``, or else the planet's.
    """
    from geotree.occurrences import by_tile

    run, path = settings(), real_table()
    if path:
        table = _own(path)
    elif run.route:
        table = _collect(run)
    else:
        table = planet().occurrences(
            run.records, faults=planet().RUNS[run.size]["faults"],
            seed=run.seed)
    return table if run.source == "planet" else by_tile(table)


def _own(path: Path) -> pd.DataFrame:
    """A table of the release, or any of places with names of species."""
    from geotree import taxonomy
    from geotree.occurrences import from_points, read_release, validate

    try:
        return read_release(path)
    except ValueError:
        points = from_points(path)
        if "species" not in points:
            raise
    year = settings().options.get("year", sources.YEAR)
    if points["year"].isna().all() and isinstance(year, int):
        print(f"'{path.name}' has no years: its pixels are of {year}.")
        points["year"] = year
    good = (points["status"] == "ok") & points["species"].notna()
    print(f"{int(good.sum())} of {len(points)} rows of '{path.name}' can be "
          f"learned from: {points.attrs['report']}")
    named = points[good]
    filled = taxonomy.complete(named, planet().classes)
    n = named["species"][named["leafType"] != filled["leafType"]].nunique()
    if n:
        print(f"{n} species have no leaf type in it: filled in from the "
              "planet's of that species, else genus, else family.")
    return validate(filled.reset_index(drop=True))


def _collect(run: Run) -> pd.DataFrame:
    from geotree import occurrences as records

    client = records.Client(run.gbif.get("url", records.GBIF))
    names = run.gbif.get("taxa")
    taxa = records.match(pd.read_csv(names) if names else planet().species,
                         cache=folder() / "names.jsonl", client=client)
    table = records.collect(
        taxa, route=run.route, folder=folder() / "gbif", client=client,
        limit=run.records,
        snapshot=run.gbif.get("snapshot", records.SNAPSHOT))
    return records.name_datasets(table, client=client,
                                 cache=folder() / "datasets.jsonl")
