"""The chain in one place: each step makes its file if it is missing.

A chapter shows one step in slow motion; this module is how any chapter can
start from an empty folder. Sizes and folders are read here and nowhere
else: ``GEOTREE_RUN`` (``sample`` or ``full``), ``GEOTREE_DATA`` (folder),
``GEOTREE_TABLE`` (a table of the release, instead of the planet's) or
``GEOTREE_ROUTE`` (to GBIF), and ``GEOTREE_SOURCE`` (of pixels); the page
"Setting up" lists those of the services.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Run:
    """Sizes of a run; the sample run takes minutes on two cores."""

    records: int = 12_000  # planet occurrences, before filters
    faults: float = 0.03  # share of planted faults
    epochs: int = 10
    chunk: int = 256  # samples a unit of download
    block_degrees: float = 1.0  # of the train/test split
    held_out: float = 0.12  # share of species kept for zero-shot
    rare: int = 40  # records; up to this a species is rare here
    frequent: int = 200  # records; from this on frequent
    seed: int = 0


_FULL = {"records": 1_000_000, "epochs": 20, "chunk": 1024,
         "rare": 100, "frequent": 1500}


def settings() -> Run:
    """The sizes that ``GEOTREE_RUN`` asks for."""
    name = os.environ.get("GEOTREE_RUN", "sample")
    if name not in ("sample", "full"):
        raise ValueError(f"GEOTREE_RUN is {name!r}, expected 'sample' or "
                         "'full'.")
    return Run() if name == "sample" else Run(**_FULL)


def folder() -> Path:
    """Where the files of this run lie: ``GEOTREE_DATA``, or ./geotree-data.

    Tables, sources of pixels and sizes of run have folders of their own.
    """
    root = Path(os.environ.get("GEOTREE_DATA", "geotree-data"))
    table = real_table()
    origin = table.stem if table else f"gbif-{route()}" if route() else ""
    pixels = "" if source_name() == "planet" else source_name()
    name = os.environ.get("GEOTREE_RUN", "sample")
    label = "-".join(filter(None, (origin, pixels))) or "planet"
    return (root / label / name).absolute()


@contextmanager
def _one_at_a_time():
    """Several processes of a run: one makes a file, the others wait."""
    from filelock import FileLock

    folder().mkdir(parents=True, exist_ok=True)
    with FileLock(folder() / ".chain.lock", is_singleton=True):
        yield


def real_table() -> Path | None:
    """The release table that ``GEOTREE_TABLE`` names, if any."""
    name = os.environ.get("GEOTREE_TABLE", "")
    if not name:
        return None
    path = Path(name)
    if not path.exists():
        raise FileNotFoundError(f"GEOTREE_TABLE is '{name}', which does not "
                                "exist. Give the full path of a CSV.")
    return path.absolute()


def route() -> str:
    """The way to GBIF that ``GEOTREE_ROUTE`` names; "" for the planet."""
    return _choice("GEOTREE_ROUTE", ("", "search", "download", "snapshot"))


def source_name() -> str:
    """The source of pixels that ``GEOTREE_SOURCE`` names."""
    return _choice("GEOTREE_SOURCE", ("planet", "earthengine", "stac"))


def _choice(name: str, known: tuple[str, ...]) -> str:
    value = os.environ.get(name) or known[0]
    if value not in known:
        raise ValueError(f"{name} is {value!r}, expected one of "
                         f"{', '.join(filter(None, known))}.")
    return value


def simulated() -> bool:
    """Whether all comes from the planet, so that the truth is known."""
    return not (real_table() or route()) and source_name() == "planet"


def provenance() -> str:
    """One sentence for every page: what these numbers come from."""
    if simulated():
        return ("Simulated planet: real coastlines and names, invented "
                "records and pixels, so that the best possible score is "
                "known.")
    table = real_table()
    records = (f"Real occurrences of '{table.name}'" if table else
               f"Real occurrences of GBIF ({route()})" if route() else
               "Invented records of the simulated planet")
    return f"{records}; their pixels {source().origin}."


def planet():
    """The simulated planet of this run."""
    from geotree.planet.source import Planet

    return Planet(seed=settings().seed)


def source():
    """The source of pixels of this run.

    ``GEOTREE_YEAR`` (2020, or ``own``), ``GEOTREE_EE_TIER``,
    ``GEOTREE_STAC_URL`` and ``GEOTREE_STAC_RASTERS`` set the real ones.
    """
    if source_name() == "planet":
        return planet()
    year = os.environ.get("GEOTREE_YEAR", "2020")
    year = int(year) if year.isdigit() else year
    if source_name() == "earthengine":
        from geotree.sources.earthengine import EarthEngine

        return EarthEngine(
            year=year, chunk=settings().chunk,
            tier=os.environ.get("GEOTREE_EE_TIER", "community"))
    from geotree.sources.stac import EARTH_SEARCH, Stac

    return Stac(folder() / "scenes", year=year,
                url=os.environ.get("GEOTREE_STAC_URL", EARTH_SEARCH),
                collection=os.environ.get("GEOTREE_STAC_COLLECTION"),
                rasters=os.environ.get("GEOTREE_STAC_RASTERS"))


def raw_occurrences() -> pd.DataFrame:
    """The table as collected, faults and all.

    With ``GEOTREE_ROUTE`` from GBIF: the species of ``GEOTREE_TAXA``, a CSV
    with the columns ``species`` and ``leafType``, or else the planet's.
    """
    from geotree import occurrences as tables

    run, path = settings(), real_table()
    if path:
        table = tables.read_release(path)
    elif route():
        table = _collect(run)
    else:
        table = planet().occurrences(run.records, faults=run.faults,
                                     seed=run.seed)
    return table if source_name() == "planet" else tables.by_tile(table)


def _collect(run: Run) -> pd.DataFrame:
    from geotree import occurrences as tables

    client = tables.Client(os.environ.get("GEOTREE_GBIF_URL", tables.GBIF))
    names = os.environ.get("GEOTREE_TAXA")
    names = pd.read_csv(names) if names else planet().species
    taxa = tables.match(names, cache=folder() / "names.jsonl",
                        client=client)
    table = tables.collect(
        taxa, route=route(), folder=folder() / "gbif", client=client,
        limit=run.records,
        snapshot=os.environ.get("GEOTREE_SNAPSHOT", tables.SNAPSHOT))
    return tables.name_datasets(table, client=client,
                                cache=folder() / "datasets.jsonl")


def occurrences() -> pd.DataFrame:
    """The filtered table: chapter 01."""
    from geotree import occurrences as tables
    from geotree import splits

    path = folder() / "occurrences.parquet"
    with _one_at_a_time():
        if not path.exists():
            run = settings()
            table = tables.keep(tables.flag(raw_occurrences()))
            table["rarity"] = splits.rarity(table, rare=run.rare,
                                            frequent=run.frequent)
            tables.write(table, path)
    return tables.read(path)


def cube():
    """The pixels: chapter 02."""
    from geotree import pixels

    path = folder() / "cube.zarr"
    with _one_at_a_time():
        try:
            return pixels.open(path)
        except (FileNotFoundError, ValueError):
            return pixels.download(occurrences(), source(), path,
                                   chunk=settings().chunk)


def shards():
    """The packed shards: chapter 03."""
    from geotree import shards as files

    path = folder() / "shards"
    with _one_at_a_time():
        if not (path / files.INDEX).exists():
            files.write(cube(), occurrences(), path, seed=settings().seed)
    return files.open(path)


def splits() -> pd.Series:
    """Which shard row trains, validates, tests or is held out: chapter 04.

    ``held out`` marks all records of the species that training never sees:
    one half lost their genus too, the other has a relative in it.
    """
    from geotree import splits as parts

    run = settings()
    table = shards().table
    column = parts.split(table, block_degrees=run.block_degrees,
                         seed=run.seed)
    genera = parts.hold_out(table, fraction=run.held_out / 2, rank="genus",
                            seed=run.seed)
    rest = table[~table["species"].isin(genera)]
    unseen = parts.hold_out(rest, fraction=run.held_out / 2, seed=run.seed)
    column[table["species"].isin([*genera, *unseen])] = "held out"
    return column


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

    path = folder() / "model"
    if not (path / "card.json").exists():
        run, data = settings(), parts()
        fresh = CompactClip(seed=run.seed)
        training.fit(fresh, data["train"], data["validation"],
                     settings=training.Settings(epochs=run.epochs,
                                                seed=run.seed),
                     out=folder() / "training")
        fresh.save_pretrained(path, card={"data": provenance()})
    return CompactClip.from_pretrained(path)


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
