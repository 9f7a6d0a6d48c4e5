"""Download: occurrences + a source → a Zarr cube of pixels.

One chunk of samples is one unit of work: its data are written whole, then
its status. A run that was interrupted, even by ``kill -9``, goes on with
what has no status yet. Explained in chapter 02.
"""

from __future__ import annotations

import errno
import queue
import threading
import warnings
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from geotree import checks, files, occurrences, sources
from geotree.network import DownloadError, Pool, ServiceError, redact
from geotree.pixels import cube
from geotree.sources import FAILED, PENDING, Pixels, Source

_TRIED = 1000  # samples tried before the share of failures counts


def download(table: pd.DataFrame, source: Source, store: str | Path, *,
             chunk: int = 256, workers: int = 1, max_failed: float = 0.1,
             timeout: float = 3600.0, progress: bool = True) -> xr.Dataset:
    """Fill a cube with the pixels of an occurrence table.

    Records are known by ``gbifID`` and place (and year, where the source
    takes the year of each record): a table that grew, shrank, was sorted or
    named anew goes on with the cube that it has, and only what is new is
    fetched. What was in chunks that are missing or damaged is fetched
    again. Prints what this will cost, as the source plans it, first.

    Parameters
    ----------
    table : DataFrame
        Occurrence table.
    source : Source
        Where the pixels come from, e.g. ``Planet()``.
    store : path
        Zarr folder; made, or gone on with when it is of the same source.
    chunk : int
        Samples a unit of work, in a new cube.
    workers : int
        Units at a time (threads).
    max_failed : float
        Share of failed samples, of at least 1,000 tried, above which the
        run stops.
    timeout : float
        Seconds without any finished unit after which the run stops.

    Returns
    -------
    xarray.Dataset
        As :func:`open`, of the rows of ``table`` in their order. Failed
        samples have ``status`` 3 and are listed with their reasons in
        ``<store>.failures.csv``; the next call tries them again.

    Raises
    ------
    ValueError
        The store is of another source, the plan is beyond the budget, or
        the source's answer is none (:func:`geotree.sources.check`).
    BusyError
        Another process is writing to the store.
    DownloadError
        Too many samples fail.
    OSError
        The disk is full, the folder cannot be written, or the source does
        not answer. What is finished stays; call again to go on.
    """
    table = occurrences.validate(table, named=False)
    checks.number(chunk, name="chunk", low=1, whole=True)
    checks.number(workers, name="workers", low=1, whole=True)
    store = Path(store)
    with files.lock(store):
        try:
            group, rows = cube.adopt(store, table, source.attrs(),
                                     chunk=chunk)
            plan = source.plan(table[np.isin(group["status"][:][rows],
                                             (PENDING, FAILED))])
            print(f"plan: {plan}")
            plan.check()
            _fill(table, source, group, rows, store, workers=workers,
                  max_failed=max_failed, timeout=timeout, progress=progress)
        except DownloadError:
            raise
        except OSError as error:
            raise OSError(
                error.errno or 0, f"cannot fill '{store}' "
                f"({redact(error.strerror or error)}). Finished chunks are "
                "kept: mend the cause (free space, rights, network), then "
                "call download again with the same arguments") from error
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped. Finished chunks are kept in '{store}': call "
                "download again with the same arguments to go on") from None
    return cube.open(store, table=table)


def _fill(table, source, group, rows, store, *, workers, max_failed, timeout,
          progress) -> None:
    """Fetch the samples that are pending or failed, chunk by chunk."""
    status = group["status"][:][rows]
    ids = table["gbifID"].to_numpy()
    path = Path(f"{store}.failures.csv")
    reasons = _reasons(path, ids[status == FAILED].tolist())
    again = set(reasons)  # a second failure is no news
    missing = np.flatnonzero(np.isin(status, (PENDING, FAILED)))
    missing = missing[np.argsort(rows[missing], kind="stable")]
    units = rows[missing] // group["status"].chunks[0]
    writing, stop = threading.Lock(), threading.Event()

    def work(members: np.ndarray) -> np.ndarray:
        """Fetch and keep a unit; returns its new failures."""
        part = table.iloc[members]
        found = sources.check(source.fetch(part), part, source)
        failed = ids[members[found.status == FAILED]].tolist()
        told = [*map(redact, found.messages), *["no reason"] * len(failed)]
        with writing:
            if not stop.is_set():
                _keep(group, rows[members], found)
                for key in ids[members].tolist():
                    reasons.pop(key, None)
                reasons.update(zip(failed, told, strict=False))
        return np.isin(ids[members], sorted(set(failed) - again))

    pool, done = Pool(workers), queue.SimpleQueue()
    jobs = [pool.submit(work, members) for members in np.split(
        missing, np.flatnonzero(np.diff(units)) + 1) if len(members)]
    tried = failed = 0
    with tqdm(total=len(table), initial=len(table) - len(missing),
              desc="pixels", unit="sample", disable=not progress) as bar:
        try:
            for job in jobs:
                job.add_done_callback(done.put)
            for _ in jobs:
                bad = done.get(timeout=timeout).result()
                tried, failed = tried + len(bad), failed + int(bad.sum())
                bar.update(len(bad))
                if failed > max_failed * max(tried, min(_TRIED, len(table))):
                    break
        except queue.Empty as error:
            stop.set()
            raise ServiceError(errno.ETIMEDOUT,
                               sources.late(source, timeout)) from error
        except KeyboardInterrupt:
            stop.set()
            raise
        finally:
            running = [job for job in jobs if not job.cancel()]
            if not stop.is_set():
                wait(running, timeout)  # what was paid for is kept
            with writing:
                stop.set()
                _write_reasons(path, ids, reasons)
    rest = (f"the last with {next(reversed(reasons.values()), '')!r}. All "
            f"are listed in '{path}'. The others are kept; mend the cause "
            "and call download again")
    if (len(reasons) > max_failed * len(table)
            or failed > max_failed * max(tried, min(_TRIED, len(table)))):
        raise DownloadError(
            errno.EIO, f"{len(reasons)} of {len(table)} samples failed, "
            f"above max_failed={max_failed}, {rest}")
    if reasons:
        warnings.warn(f"{len(reasons)} of {len(table)} samples failed, "
                      f"{rest}", stacklevel=3)


def _keep(group, rows: np.ndarray, found: Pixels) -> None:
    """Write samples of one chunk: data first, status last, which marks it.

    ``rows`` are those of the cube, in rising order.
    """
    size = group["status"].chunks[0]
    start = rows[0] // size * size
    span = slice(start, min(start + size, group["status"].shape[0]))
    for name, values in (("reflectance", found.reflectance),
                         ("environment", found.environment),
                         ("status", found.status)):
        array = cube.array(group, name)
        if len(rows) < span.stop - span.start:  # others stay as they are
            whole = array[span]
            whole[rows - start] = values
            values = whole
        array[span] = values


def _reasons(path: Path, failed: list[int]) -> dict[int, str]:
    """Why samples failed in an earlier run, as its list tells."""
    known = {}
    if path.exists() and failed:
        known = pd.read_csv(path).set_index("gbifID")["message"]
    return {key: known.get(key, "failed in an earlier run")
            for key in failed}


def _write_reasons(path: Path, ids: np.ndarray, reasons: dict) -> None:
    rows = [(key, reasons[key]) for key in ids.tolist() if key in reasons]
    if rows:
        files.write(path, pd.DataFrame(
            rows, columns=["gbifID", "message"]).to_csv(index=False))
    else:
        path.unlink(missing_ok=True)
