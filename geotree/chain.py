"""The chain in one place: each step opens its file, or makes it.

A chapter shows one step in slow motion; this module is how any chapter can
start from an empty folder. What a run depends on is in
:mod:`geotree.run`. Beside the files lies ``chain.json``: what each was made
from. A file that was made from something else is made again.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import __version__, checks, files
from geotree.run import (
    Run,
    folder,
    planet,
    rarity_limits,
    raw_occurrences,
    real_table,
    settings,
    source,
    use,
    use_planet,
)

__all__ = ["Run", "baselines", "cube", "folder", "making", "model",
           "occurrences", "optimum", "parts", "planet", "provenance",
           "rarity_limits", "raw_occurrences", "real_table", "samples",
           "seen_classes", "settings", "shards", "simulated", "source",
           "splits", "stamp", "use", "use_planet"]
NOTES = "chain.json"
FILES = {"occurrences": "occurrences.parquet", "cube": "cube.zarr",
         "shards": "shards", "split": "split.parquet",
         "baselines": "baselines.npz", "model": "model"}
_ASKED = ("validation", "test")


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
    table, way = real_table(), settings().route
    records = (f"Real occurrences of '{table.name}'" if table else
               f"Real occurrences of GBIF ({way})" if way else
               f"Records of your '{FILES['occurrences']}'"
               if _foreign("occurrences") else
               "Invented records of the simulated planet")
    return f"{records}; their pixels {source().origin}."


def stamp() -> str:
    """What each figure of this run has to say below it: what is invented."""
    if simulated():
        return "simulated planet: invented records and pixels"
    return "simulated pixels" if settings().source == "planet" else ""


def notes() -> dict:
    """What each file of the chain was made from, and what it holds."""
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
    return path.exists() and notes().get(name, {}).get(
        "holds") != _identity(path)


def _made_from(name: str) -> str:
    """Fingerprint of all that a file depends on, in this run."""
    run, table = settings(), real_table()
    if name == "occurrences":
        taxa = run.gbif.get("taxa")
        before = [files.sha256(table) if table else run.route,
                  run.gbif | {"taxa": taxa and files.sha256(taxa)},
                  rarity_limits(), run.source != "planet"]
        if not table:
            before += [run.records, run.seed, planet().RUNS[run.size],
                       None if run.route else planet().attrs()]
    elif name == "cube":
        before = [_identity(_ready("occurrences")), source().attrs()]
    elif name == "shards":
        before = [_made_from("cube"), run.seed]
    else:
        before = [_identity(_ready("shards")), run.seed]
        before += ([run.block_degrees, run.held_out] if name == "split"
                   else [_identity(_ready("split"))])
        before += [run.epochs] * (name == "model")
    return files.fingerprint(name, __version__, before)


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
    with files.lock(folder() / "chain", wait=-1):  # one process makes it
        made_from = _made_from(name)
        stale = path.exists() and not _foreign(name) and (
            notes()[name]["from"] != made_from)
        # Pixels of a service may have cost a quota: download itself says
        # what can be kept.
        if stale and (name != "cube" or settings().source == "planet"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.rmtree(folder() / "training", ignore_errors=True)
        yield path
        files.write(folder() / NOTES, dumps(notes() | {name: {
            "from": made_from, "holds": _identity(path)}}, indent=1))


def _ready(name: str) -> Path:
    """The path of a file that fits this run, made if it has to be."""
    path = folder() / FILES[name]
    with files.lock(folder() / "chain", wait=-1):
        if path.exists() and not _foreign(name):
            if notes()[name]["from"] == _made_from(name):
                return path
        elif path.exists() and name == "occurrences":
            return path  # a table of the user's own
        elif path.exists() and name != "cube":
            raise FileExistsError(
                f"'{path}' was not made by this chain, or was changed since: "
                "nobody knows from what. Move it away, then call again.")
        with making(name) as path:
            _make(name, path)
    return path


def occurrences() -> pd.DataFrame:
    """The filtered table: chapter 01. Yours, where you put one there."""
    from geotree.occurrences import read

    return read(_ready("occurrences"))


def cube():
    """The pixels: chapter 02."""
    from geotree import pixels

    return pixels.open(_ready("cube"))


def shards():
    """The packed shards: chapter 03."""
    from geotree.shards import open

    return open(_ready("shards"))


def splits() -> pd.Series:
    """Which shard row trains, validates, tests or is held out: chapter 04.

    See ``splits.divide``.
    """
    return pd.read_parquet(_ready("split"))["split"].astype("str")


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


def samples(part: str, classes: pd.DataFrame):
    """The samples of a part in memory, labelled by a class table.

    Parameters
    ----------
    part : str
        ``train``, ``validation``, ``test`` or ``held out``.
    classes : DataFrame of K rows

    Returns
    -------
    Batch
        Labels of 0 to K - 1; a species that ``classes`` lacks is refused.
    """
    from geotree import taxonomy

    found = parts()
    data = found[checks.one_of(part, found, name="part")]
    return data.load()._replace(labels=taxonomy.labels(data.table, classes))


def baselines(part: str) -> dict:
    """What rivals say of a part, ``validation`` or ``test``: chapter 04.1.

    Returns
    -------
    dict of (N, K) float32
        By name, of the classes of :func:`seen_classes`.
    """
    checks.one_of(part, _ASKED, name="part")
    column = splits()
    rows = (column[column.isin(_ASKED)] == part).to_numpy()
    with np.load(_ready("baselines")) as kept:
        return {name: answer[rows] for name, answer in kept.items()}


def model():
    """The trained compact model: chapter 05."""
    from geotree.models.compact import CompactClip

    return CompactClip.from_pretrained(_ready("model"))


def _make(name: str, path: Path) -> None:
    """Make a file of the chain from those before it."""
    from geotree import occurrences as tables, pixels, shards as tars, training
    from geotree.baselines import answers
    from geotree.models.compact import CompactClip
    from geotree.splits import divide, rarity

    run = settings()
    if name == "occurrences":
        table = tables.keep(tables.flag(raw_occurrences()))
        if "rarity" not in table:  # the release's tables have their own
            table["rarity"] = rarity(table, **rarity_limits())
        tables.write(table, path)
    elif name == "cube":
        pixels.download(occurrences(), source(), path, chunk=run.chunk)
    elif name == "shards":
        tars.write(cube(), occurrences(), path, seed=run.seed)
    elif name == "split":
        divide(shards().table, block_degrees=run.block_degrees,
               held_out=run.held_out, seed=run.seed
               ).to_frame("split").to_parquet(path)
    elif name == "baselines":
        asked = shards().select(splits().isin(_ASKED).to_numpy())
        np.savez_compressed(path, **answers(
            parts()["train"], asked, seen_classes()))
    else:
        fresh, data = CompactClip(seed=run.seed), parts()
        training.fit(fresh, data["train"], data["validation"],
                     settings=training.Settings(epochs=run.epochs,
                                                seed=run.seed),
                     out=folder() / "training")
        fresh.save_pretrained(path, card={"data": provenance()})


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
