"""From shards of the release to packed shards, by workers, resumable.

Each tar of the release is one unit of work: a worker reads it once and
leaves its samples as plain arrays; a tar that is done is not read again.
Then the samples are shuffled over all tars and packed. Chapter 09.
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from geotree import checks, engine, files
from geotree.occurrences.columns import COLUMNS, OPTIONAL
from geotree.release import records as release_records
from geotree.release.hub import Tar
from geotree.release.tar_members import Sample, walk
from geotree.release.tars import find
from geotree.shards import ShardError, Shards, open
from geotree.shards.writing import SAMPLE, finish, gathered, target

_STREAMS = 2  # tars of the hub that are read at a time
_UNKNOWN = {"str": "", "int64": 0, "float64": np.nan}


def convert(paths, out: str | Path, *, classes: pd.DataFrame | None = None,
            seed: int = 0, pack: int = 256, packs_per_shard: int = 64,
            workers=1, on_error: str = "raise", progress: bool = True
            ) -> Shards:
    """Pack the shards of the release.

    Parameters
    ----------
    paths : path, address or list of them
        Tars of the release, or a folder of them, as for
        :class:`~geotree.GGTDataset`. Those of the hub are read while they
        arrive, two at a time, and never lie on the disk.
    out : path
        Folder of the packed shards; appears when all is written. Beside
        it, ``.<name>.work`` keeps what is done until then (6 kB a sample):
        a second call goes on with the rest. The index knows places and
        names; ``gbifID`` is the ``sample_id``.
    classes : DataFrame, optional
        Class table; default: that of the samples.
    workers : int or dask.distributed.Client
        Who reads, as of :func:`geotree.engine.open`; they share this disk.
    on_error : "raise" or "skip"
        What a damaged sample does: stop, or be counted in ``left_out``.

    Returns
    -------
    Shards

    Raises
    ------
    ShardError
        A sample is damaged; the tars that are done stay done.
    ValueError
        The species of a sample is not in ``classes``; ``out`` holds other
        files than shards, or the tars that are read.
    OSError
        The disk is full or the folder cannot be written.
    """
    checks.one_of(on_error, ("raise", "skip"), name="on_error")
    tars, listed = find(paths)
    out = target(out)
    files.apart(out, *(tar for tar in tars if isinstance(tar, Path)))
    work = out.with_name(f".{out.name}.work")
    with engine.open(workers) as workers, files.lock(out):
        work.mkdir(parents=True, exist_ok=True)
        # What is made of another tar, or otherwise, has another name.
        parts = [work / f"{files.fingerprint(_mark(tar), on_error)}.parquet"
                 for tar in tars]
        left = [(tar, listed.get(tar), part, on_error) for tar, part
                in zip(tars, parts, strict=True) if not part.exists()]
        far = any(isinstance(tar, Tar) for tar in tars)
        for _ in tqdm(engine.each(_read_one, left, workers=workers,
                                  most=_STREAMS if far else None),
                      initial=len(tars) - len(left), total=len(tars),
                      desc="read", unit="tar", disable=not progress):
            pass
        tables = [pd.read_parquet(part) for part in parts]
        found = pd.concat(tables, ignore_index=True)
        if found.empty:
            raise ValueError(f"no sample in {len(tars)} tar files could be "
                             "read: nothing to pack.")
        order = checks.rng(seed).permutation(len(found))
        chosen = _as_table(found.iloc[order].reset_index(drop=True))
        bins = [part.with_suffix(".bin") for part in parts]
        finish(chosen, lambda part: gathered(bins, order), out,
               layout="packed", pack=pack, size=pack * packs_per_shard,
               classes=classes, progress=progress, about={
                   "seed": seed,
                   "left_out": sum(one.attrs["skipped"] for one in tables),
                   "provenance": {"source": "GlobalGeoTree release",
                                  "tars": len(tars)}},
               kept="What was read is kept beside it, and so are")
        shutil.rmtree(work)
    return open(out)


def _mark(tar) -> list:
    """What tells a tar from another one in its place."""
    if isinstance(tar, Tar):
        return [str(tar), tar.size]
    about = tar.stat()
    return [tar.absolute(), about.st_size, about.st_mtime_ns]


def _read_one(tar, listed, part: Path, on_error: str) -> None:
    """Read a tar into a table, and its samples into a file beside it."""
    rows, skipped = [], 0
    with part.with_suffix(".bin").open("wb") as file:
        for found in walk(tar, listed and listed.records):
            found = release_records.attempt(_sample, found)
            if isinstance(found, ShardError):
                if on_error == "raise":
                    raise found
                skipped += found.samples
                continue
            file.write(found[0].tobytes())
            rows.append(found[1])
    frame = pd.DataFrame(rows, columns=[
        "gbifID", "decimalLatitude", "decimalLongitude",
        *release_records.LEVELS.values()])
    frame.attrs = {"skipped": skipped}
    with files.whole(part) as whole:
        frame.to_parquet(whole, index=False)


def _sample(found: Sample) -> tuple[np.ndarray, tuple]:
    """A sample as it is kept, and its row of the table."""
    image, environment, number, names = release_records.decode(found)
    sample = np.empty((), SAMPLE)
    sample["images"], sample["environment"] = image, environment
    return sample, (number, *environment[[1, 0]].tolist(), *names.values())


def _as_table(found: pd.DataFrame) -> pd.DataFrame:
    """Places and names as an occurrence table; the rest is unknown."""
    return found.assign(**{
        name: np.nan if name in OPTIONAL else _UNKNOWN[kind]
        for name, kind in COLUMNS.items() if name not in found})
