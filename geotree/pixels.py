"""Download: occurrences + a source → a Zarr cube of pixels.

One chunk of samples is one unit of work: its data are written whole, then
its status. A run that was interrupted, even by ``kill -9``, goes on with
what has no status yet. Explained in chapter 02.
"""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from geotree import cube, occurrences
from geotree.cube import check, counts, open
from geotree.files import BusyError, lock
from geotree.network import DownloadError
from geotree.sources import FAILED, NO_IMAGERY, OK, PENDING, Pixels, Source
from geotree.variables import NODATA, check_environment, check_images

__all__ = ["DownloadError", "check", "counts", "download", "open"]
_TRIED = 1000  # samples tried before the share of failures counts


def download(table: pd.DataFrame, source: Source, store: str | Path, *,
             chunk: int = 256, workers: int = 1, max_failed: float = 0.1,
             progress: bool = True) -> xr.Dataset:
    """Fill a cube with the pixels of an occurrence table.

    Prints what the samples that are missing will cost, as the source plans
    it, first.

    Parameters
    ----------
    table : DataFrame
        Occurrence table.
    source : Source
        Where the pixels come from, e.g. ``Planet()``.
    store : path
        Zarr folder; made, or gone on with when it is of the same table,
        source and chunk.
    chunk : int
        Samples a unit of work.
    workers : int
        Units at a time (threads).
    max_failed : float
        Share of failed samples, of at least 1,000 tried, above which the
        run stops.

    Returns
    -------
    xarray.Dataset
        As :func:`open`. Failed samples have ``status`` 3 and are listed in
        ``<store>.failures.csv``; the next call tries them again.

    Raises
    ------
    ValueError
        The store is of another table, source or chunk, the plan is beyond
        the budget, or the source returns another grid.
    DownloadError
        Another process is writing to the store, or too many samples fail.
    OSError
        The disk is full or the folder cannot be written. What is finished
        stays; call again to go on.
    """
    table = occurrences.validate(table, named=False)
    if chunk < 1 or workers < 1:
        raise ValueError(f"chunk is {chunk} and workers {workers}, expected "
                         "1 or more.")
    store = Path(store)
    with lock(store):
        try:
            group = cube.create(store, table, source.attrs(), chunk=chunk)
            missing = np.isin(group["status"][:], (PENDING, FAILED))
            plan = source.plan(table[missing])
            print(f"plan: {plan}")
            plan.check()
            _fill(table, source, group, store, chunk, workers, max_failed,
                  progress)
        except (DownloadError, BusyError):
            raise
        except OSError as error:
            raise OSError(
                error.errno or 0, f"cannot fill '{store}' "
                f"({error.strerror or error}). Finished chunks are kept: "
                "mend the cause (free space, rights, network), then call "
                "download again with the same arguments") from error
    return open(store)


def _fill(table, source, group, store, chunk, workers, max_failed, progress):
    """Fetch the samples that are pending or failed, chunk by chunk."""
    status = group["status"][:]
    missing = np.isin(status, (PENDING, FAILED))
    starts = np.unique(np.flatnonzero(missing) // chunk) * chunk
    ids = table["gbifID"].to_numpy()
    failures = _Failures(store, ids[status == FAILED])
    again = set(failures.messages)  # a second failure is no news
    least = min(_TRIED, len(table))

    def work(start: int) -> tuple[np.ndarray, dict[int, str]]:
        rows = start + np.flatnonzero(missing[start:start + chunk])
        found = source.fetch(table.iloc[rows])
        _check_pixels(found, len(rows), source)
        _store(group, slice(start, min(start + chunk, len(table))),
               rows - start, found)
        failed = ids[rows[found.status == FAILED]].tolist()
        told = [*found.messages, *["no reason given"] * len(failed)]
        return ids[rows], dict(zip(failed, told, strict=False))

    tried = failed = 0
    with (ThreadPoolExecutor(workers) as pool,
          tqdm(total=len(table), initial=int((~missing).sum()),
               desc="pixels", unit="sample", disable=not progress) as bar):
        pending = [pool.submit(work, int(start)) for start in starts]
        try:
            for future in as_completed(pending):
                done, bad = future.result()
                failures.update(done, bad)
                tried += len(set(done.tolist()) - again)
                failed += len(set(bad) - again)
                bar.update(len(done))
                if failed > max_failed * max(tried, least):
                    break
        finally:
            for future in pending:
                future.cancel()
            pool.shutdown()  # wait for the chunks that are being written
            for future in pending:
                if not future.cancelled() and not future.exception():
                    failures.update(*future.result())
            failures.write(ids)
    share = len(failures.messages) / len(table)
    if share > max_failed or failed > max_failed * max(tried, least):
        raise DownloadError(
            errno.EIO, f"{len(failures.messages)} samples failed, above "
            f"max_failed={max_failed}, the last with {failures.last!r}. All "
            f"are listed in '{failures.path}'. The others are kept; mend the "
            "cause and call download again")


def _check_pixels(found: Pixels, n: int, source) -> None:
    """Raise ``ValueError`` unless a source kept to its interface."""
    where = f"source {source.name!r}: reflectance"
    check_images(found.reflectance, where=where)
    check_environment(found.environment, where=f"source {source.name!r}")
    sizes = [len(values) for values in found[:3]]
    if sizes != [n] * 3:
        raise ValueError(f"source {source.name!r} returned {sizes} samples "
                         f"(pixels, variables, status), expected {n}.")
    if found.reflectance.dtype != np.uint16:
        raise ValueError(f"{where} is {found.reflectance.dtype}, expected "
                         f"uint16 with {NODATA} where nothing was seen.")
    if not np.isin(found.status, (OK, NO_IMAGERY, FAILED)).all():
        raise ValueError(f"source {source.name!r} returned status "
                         f"{np.unique(found.status)}, expected 1, 2 or 3.")


def _store(group, rows: slice, new: np.ndarray, found: Pixels) -> None:
    """Write a chunk: data first, status last, which marks it."""
    for name, values in (("reflectance", found.reflectance),
                         ("environment", found.environment),
                         ("status", found.status)):
        array = group[name]
        if len(new) < rows.stop - rows.start:  # a second try for some
            whole = array[rows]
            whole[new] = values
            values = whole
        array[rows] = values


class _Failures:
    """Samples that fail, and why; a CSV beside the store."""

    def __init__(self, store: Path, ids: np.ndarray):
        self.path = Path(f"{store}.failures.csv")
        known = {}
        if self.path.exists():
            known = pd.read_csv(self.path).set_index("gbifID")["message"]
        self.last = "failed in an earlier run"
        self.messages = {key: known.get(key, self.last)
                         for key in ids.tolist()}

    def update(self, tried: np.ndarray, failed: dict[int, str]) -> None:
        for key in tried.tolist():
            self.messages.pop(key, None)
        self.messages.update(failed)
        self.last = next(iter(failed.values()), self.last)

    def write(self, ids: np.ndarray) -> None:
        rows = [(key, self.messages[key]) for key in ids.tolist()
                if key in self.messages]
        if not rows:
            self.path.unlink(missing_ok=True)
            return
        part = self.path.with_name(f".{self.path.name}.part")
        pd.DataFrame(rows, columns=["gbifID", "message"]).to_csv(
            part, index=False)
        os.replace(part, self.path)
