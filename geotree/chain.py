"""The chain in one place: each step opens its file, or makes it.

A chapter shows one step in slow motion; this module is how any chapter can
start from an empty folder. What a run depends on is one object, :class:`Run`:
pass yours to :func:`use`, or set ``GEOTREE_RUN`` (``sample`` or ``full``),
``GEOTREE_DATA`` (folder), ``GEOTREE_TABLE`` (a table of your own or of the
release, instead of the planet's) or ``GEOTREE_ROUTE`` (to GBIF), and
``GEOTREE_SOURCE`` (of pixels); the page "Setting up" lists those of the
services.

Beside the files lies ``chain.json``: what each was made from. A file that
was made from something else is made again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from json import dumps
from pathlib import Path

import pandas as pd

from geotree import __version__, checks, files, sources

NOTES = "chain.json"
FILES = {"occurrences": "occurrences.parquet", "cube": "cube.zarr",
         "shards": "shards", "split": "split.parquet", "model": "model"}
_ROUTES = ("", "search", "download", "snapshot")
# Of a source: its options, and the variables that set them.
_OPTIONS = {"planet": {}, "earthengine": {"year": "YEAR", "tier": "EE_TIER"},
            "stac": {"year": "YEAR", "url": "STAC_URL",
                     "collection": "STAC_COLLECTION",
                     "rasters": "STAC_RASTERS"}}


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
    records: int = 12_000  # planet occurrences, before filters
    faults: float = 0.03  # share of planted faults
    epochs: int | None = None  # 10, or more where a table is small
    chunk: int = 256  # samples a unit of download
    block_degrees: float = 1.0  # of the train/test split
    held_out: float = 0.12  # share of species kept for zero-shot
    rare: int = 40  # records; up to this a species is rare here
    frequent: int = 200  # records; from this on frequent
    seed: int = 0


_FULL = {"records": 1_000_000, "epochs": 20, "chunk": 1024,
         "rare": 100, "frequent": 1500}
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
    _used = (replace(run or _from_environment(), **changes)
             if run or changes else None)
    return _used


def settings() -> Run:
    """The settings of this run: those of :func:`use`, or the environment."""
    return _used or _from_environment()


def _from_environment() -> Run:
    def get(name: str, usual: str = "") -> str:
        return os.environ.get(f"GEOTREE_{name}") or usual

    size = checks.one_of(get("RUN", "sample"), ("sample", "full"),
                         name="GEOTREE_RUN")
    source = checks.one_of(get("SOURCE", "planet"), sources.names(),
                           name="GEOTREE_SOURCE")
    options = {option: get(name) for option, name in _OPTIONS[source].items()
               if get(name)}
    if options.get("year", "").isdigit():
        options["year"] = int(options["year"])
    return Run(
        size=size, table=get("TABLE"),
        route=checks.one_of(get("ROUTE"), _ROUTES, name="GEOTREE_ROUTE"),
        gbif={name: get(variable) for name, variable in {
            "url": "GBIF_URL", "taxa": "TAXA", "snapshot": "SNAPSHOT"
        }.items() if get(variable)},
        source=source, options=options, **(_FULL if size == "full" else {}))


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
    root = run.data or os.environ.get("GEOTREE_DATA") or "geotree-data"
    return (Path(root) / label / run.size).absolute()


def real_table() -> Path | None:
    """The table that ``Run.table`` or ``GEOTREE_TABLE`` names, if any."""
    name = settings().table
    if not name:
        return None
    path = Path(name).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"GEOTREE_TABLE is '{name}', which does not "
                                "exist. Give the full path of a CSV.")
    return path.absolute()


def route() -> str:
    """The way to GBIF; "" for the planet or a table."""
    return settings().route


def simulated() -> bool:
    """Whether all comes from the planet, so that the truth is known."""
    run = settings()
    return not (run.table or run.route) and run.source == "planet" and (
        not _foreign("occurrences"))


def provenance() -> str:
    """One sentence for every page: what these numbers come from."""
    if simulated():
        return ("Simulated planet: real coastlines and names, invented "
                "records and pixels, so that the best possible score is "
                "known.")
    table, way = real_table(), route()
    records = (f"Real occurrences of '{table.name}'" if table else
               f"Real occurrences of GBIF ({way})" if way else
               f"Records of your '{FILES['occurrences']}'"
               if _foreign("occurrences") else
               "Invented records of the simulated planet")
    return f"{records}; their pixels {source().origin}."


def planet():
    """The simulated planet of this run."""
    return sources.by_name("planet")(seed=settings().seed)


def source():
    """The source of pixels of this run, with the options of ``Run``."""
    run = settings()
    if run.source == "planet":
        return planet()
    known = {"stac": {"cache": folder() / "scenes"},
             "earthengine": {"chunk": run.chunk}}
    return sources.by_name(run.source)(**known[run.source] | run.options)


# Open, or make ---------------------------------------------------------------

def _lock():
    """Several processes of a run: one makes a file, the others wait."""
    return files.lock(folder() / "chain", wait=-1)


def _notes() -> dict:
    path = folder() / NOTES
    return files.read_json(path, what="notes") if path.exists() else {}


def _identity(path: Path) -> str:
    """What a file holds; of a folder, its files' sizes and JSON."""
    if path.is_file():
        return files.sha256(path)
    return files.fingerprint({
        one.name: files.sha256(one) if one.suffix == ".json"
        else one.stat().st_size
        for one in path.iterdir() if one.is_file()})


def _foreign(name: str) -> bool:
    """Whether a file of the chain is there that the chain did not make."""
    path = folder() / FILES[name]
    return path.exists() and _notes().get(name, {}).get(
        "holds") != _identity(path)


def _made_from(name: str) -> str:
    """Fingerprint of all that a file depends on, in this run."""
    run, before = settings(), ()
    if name == "occurrences":
        table, taxa = real_table(), run.gbif.get("taxa")
        before = (files.sha256(table) if table else run.route,
                  run.gbif | {"taxa": taxa and files.sha256(taxa)},
                  "" if table else (run.records, run.faults, run.seed),
                  (run.rare, run.frequent), run.source != "planet")
    elif name == "cube":
        before = _identity(_occurrences()), source().attrs()
    elif name == "shards":
        before = _made_from("cube"), run.seed
    elif name == "split":
        before = (_identity(_shards()), run.block_degrees, run.held_out,
                  run.seed)
    elif name == "model":
        before = (_identity(_shards()), _identity(_split()), run.epochs,
                  run.seed)
    return files.fingerprint(name, __version__, list(before))


@contextmanager
def making(name: str) -> Iterator[Path]:
    """Where to write a file of the chain; noted when it is whole.

    For whoever makes it by hand, as the chapters do. What the chain made
    there from something else is removed first.

    Examples
    --------
    >>> with chain.making("occurrences") as path:
    ...     occurrences.write(table, path)
    """
    path = folder() / FILES[checks.one_of(name, FILES, name="name")]
    with _lock():
        made_from = _made_from(name)
        stale = path.exists() and not _foreign(name) and (
            _notes()[name]["from"] != made_from)
        # Pixels of a service may have cost a quota: download itself says
        # what can be kept.
        if stale and (name != "cube" or settings().source == "planet"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.rmtree(folder() / "training", ignore_errors=True)
        yield path
        files.write(folder() / NOTES, dumps(_notes() | {name: {
            "from": made_from, "holds": _identity(path)}}, indent=1))


def _ready(name: str, make: Callable[[Path], object]) -> Path:
    """The path of a file that fits this run, made if it has to be."""
    path = folder() / FILES[name]
    with _lock():
        if path.exists() and not _foreign(name):
            if _notes()[name]["from"] == _made_from(name):
                return path
        elif path.exists() and name == "occurrences":
            return path  # a table of the user's own
        elif path.exists() and name != "cube":
            raise FileExistsError(
                f"'{path}' was not made by this chain, or was changed since: "
                "nobody knows from what. Move it away, then call again.")
        with making(name) as path:
            make(path)
    return path


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
        table = planet().occurrences(run.records, faults=run.faults,
                                     seed=run.seed)
    return table if run.source == "planet" else by_tile(table)


def _own(path: Path) -> pd.DataFrame:
    """A table of the release, or any of places with names of species."""
    from geotree.occurrences import from_points, read_release, validate

    try:
        return read_release(path)
    except ValueError:
        points = from_points(path)
        if "species" not in points:
            raise
    year = settings().options.get("year", 2020)
    if points["year"].isna().all() and isinstance(year, int):
        print(f"'{path.name}' has no years: its pixels are of {year}.")
        points["year"] = year
    good = (points["status"] == "ok") & points["species"].notna()
    print(f"{int(good.sum())} of {len(points)} rows of '{path.name}' can be "
          f"learned from: {points.attrs['report']}")
    return validate(points[good].reset_index(drop=True))


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


def _occurrences() -> Path:
    from geotree.occurrences import flag, keep, write
    from geotree.splits import rarity

    def make(path: Path) -> None:
        run = settings()
        table = keep(flag(raw_occurrences()))
        if "rarity" not in table:  # the release's tables have their own
            table["rarity"] = rarity(table, rare=run.rare,
                                     frequent=run.frequent)
        write(table, path)

    return _ready("occurrences", make)


def occurrences() -> pd.DataFrame:
    """The filtered table: chapter 01. Yours, where you put one there."""
    from geotree.occurrences import read

    return read(_occurrences())


def cube():
    """The pixels: chapter 02."""
    from geotree import pixels

    return pixels.open(_ready("cube", lambda path: pixels.download(
        occurrences(), source(), path, chunk=settings().chunk)))


def shards():
    """The packed shards: chapter 03."""
    from geotree.shards import open

    return open(_shards())


def _shards() -> Path:
    from geotree.shards import write

    return _ready("shards", lambda path: write(
        cube(), occurrences(), path, seed=settings().seed))


def make_split(table: pd.DataFrame) -> pd.Series:
    """Divide a table as this book does: see :func:`splits`."""
    from geotree.splits import hold_out, split

    run = settings()
    column = split(table, block_degrees=run.block_degrees, seed=run.seed)
    share, rest = run.held_out / 2, table
    for rank in ("genus", "species"):
        if round(share * table["species"].nunique()) < 1:
            break  # too few species to do without one
        try:
            unseen = hold_out(rest, fraction=share, rank=rank, seed=run.seed)
        except ValueError:  # none has a relative
            continue
        column[table["species"].isin(unseen)] = "held out"
        rest = rest[~rest["species"].isin(unseen)]
    return column


def splits() -> pd.Series:
    """Which shard row trains, validates, tests or is held out: chapter 04.

    ``held out`` marks all records of the species that training never sees:
    one half lost their genus too, the other has a relative in it. There are
    none where a table has few species, or none with a relative.
    """
    return pd.read_parquet(_split())["split"].astype("str")


def _split() -> Path:
    return _ready("split", lambda path: make_split(
        shards().table).to_frame("split").to_parquet(path))


def parts() -> dict:
    """Shards by split: train, validation, test, held out."""
    data, column = shards(), splits().to_numpy()
    return {name: data.select(column == name)
            for name in ("train", "validation", "test", "held out")}


def seen_classes() -> pd.DataFrame:
    """Class table of the species that have training records."""
    data = parts()["train"]
    known = data.classes["species"].isin(data.table["species"])
    return data.classes[known].reset_index(drop=True)


def model():
    """The trained compact model: chapter 05."""
    from geotree import training
    from geotree.models.compact import CompactClip

    def make(path: Path) -> None:
        run, data = settings(), parts()
        fresh = CompactClip(seed=run.seed)
        training.fit(fresh, data["train"], data["validation"],
                     settings=training.Settings(epochs=run.epochs,
                                                seed=run.seed),
                     out=folder() / "training")
        fresh.save_pretrained(path, card={"data": provenance()})

    return CompactClip.from_pretrained(_ready("model", make))


def optimum(data, classes: pd.DataFrame):
    """Bayes-optimal probabilities of a batch among its classes, (N, K).

    Of trained species, or of held-out ones among themselves. None where it
    is not defined: of real occurrences nobody knows the process that put
    them where they are.
    """
    if not simulated():
        return None
    odds = planet().posterior(data.images, data.environment, classes)
    table = shards().table
    unseen = classes["species"].isin(
        table["species"][(splits() == "held out").to_numpy()]).to_numpy()
    if not unseen.all():  # a held-out species cannot occur in other parts
        odds[:, unseen] = 0
    return odds / odds.sum(axis=1, keepdims=True)
