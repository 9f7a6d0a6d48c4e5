"""Download: occurrences + a source → a Zarr cube of pixels.

One chunk of samples is one unit of work: its data are written whole, then
its status, by this process alone; who fetches it, :mod:`geotree.engine`
tells. A run that was interrupted, even by ``kill -9``, goes on with what
has no status yet. Explained in chapter 02.
"""

import errno
import warnings
from itertools import takewhile
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from geotree import checks, engine, files, occurrences, sources
from geotree.network import DownloadError, redact
from geotree.pixels import cube, store as making
from geotree.sources import FAILED, PENDING, Pixels, Source

_LARGEST = 2**16  # samples a chunk: 393 MB of pixels
_TRIED = 1000  # samples tried before the share of failures counts


def download(table: pd.DataFrame, source: Source, store: str | Path, *,
             chunk: int = 256, workers=1, max_failed: float = 0.1,
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
        Occurrence table; a row without a year fails where the source looks
        at that of each.
    source : Source
        Where the pixels come from, e.g. ``Planet()``.
    store : path
        Zarr folder; made, or gone on with when it is of the same source.
    chunk : int
        Samples a unit of work, in a new cube; at most 65,536.
    workers : int, str or dask.distributed.Client
        Who fetches; see :func:`geotree.engine.open`. What a service allows
        is divided among them.
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
    sources.expect(source)
    table = occurrences.validate(_dated(table, source), named=False)
    chunk = checks.number(chunk, name="chunk", low=1, high=_LARGEST,
                          whole=True)
    checks.number(max_failed, name="max_failed", low=0, high=1)
    checks.number(timeout, name="timeout", low=0)
    store = files.named(store)
    with engine.open(workers) as workers, files.lock(store):
        try:
            group, rows = making.adopt(store, table, source.attrs(),
                                       chunk=chunk)
            status = group["status"][:][rows]
            plan = source.plan(table[np.isin(status, (PENDING, FAILED))])
            print(f"plan: {plan}")
            plan.check()
            failures = _Failures(store, table["gbifID"].to_numpy(), status)
            _fill(table, source, group, rows, failures, workers=workers,
                  max_failed=max_failed, timeout=timeout, progress=progress)
            failures.tell(max_failed)
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


def _dated(table, source) -> pd.DataFrame:
    """A table whose unknown years are that of a source with one year."""
    year = getattr(source, "year", None)
    if not isinstance(year, int):
        return table
    told = table.get("year", pd.Series(index=table.index, dtype=object))
    return table.assign(year=told.astype(object).fillna(year))


def _fill(table, source, group, rows, failures, *, workers, max_failed,
          timeout, progress) -> None:
    """Fetch the samples that are pending or failed, chunk by chunk."""
    missing = np.flatnonzero(np.isin(group["status"][:][rows],
                                     (PENDING, FAILED)))
    missing = missing[np.argsort(rows[missing], kind="stable")]
    units = rows[missing] // group["status"].chunks[0]
    units = np.split(missing, np.flatnonzero(np.diff(units)) + 1)
    source, most = sources.among(source, engine.slots(workers))
    with tqdm(total=len(table), initial=len(table) - len(missing),
              desc="pixels", unit="sample", disable=not progress) as bar:
        try:
            for (part, members), found in engine.each(
                    _fetch, ((table.iloc[one], one) for one in takewhile(
                        lambda one: len(one) and not failures.too_many(
                            max_failed), units)),
                    shared=(source,), workers=workers, most=most,
                    timeout=timeout):
                for name in ("reflectance", "environment", "status"):
                    # The status comes last: it says that the rest is there.
                    making.put(making.array(group, name), rows[members],
                               getattr(found, name))
                failures.note(part["gbifID"].to_numpy(), found)
                bar.update(len(members))
        finally:
            failures.write()


def _fetch(source, part: pd.DataFrame, members) -> Pixels:
    return sources.check(source.fetch(part), part, source)


def hopeless(failed: int, tried: int, n: int, share: float) -> bool:
    """Whether more than a share of at least 1,000 samples tried failed."""
    return failed > share * max(tried, min(_TRIED, n))


class _Failures:
    """Samples of a table that failed and why, listed beside the cube."""

    def __init__(self, store: Path, ids: np.ndarray, status: np.ndarray):
        self.path, self.ids = Path(f"{store}.failures.csv"), ids.tolist()
        self.reasons = dict.fromkeys(ids[status == FAILED].tolist(),
                                     "failed in an earlier run")
        if self.path.exists():
            try:
                listed = checks.columns(pd.read_csv(self.path),
                                        ["gbifID", "message"])
            except ValueError as error:
                raise ValueError(f"'{self.path}' is no list of failures "
                                 f"({error}): delete it.") from error
            self.reasons |= {key: why for key, why in zip(
                listed["gbifID"], listed["message"], strict=True)
                if key in self.reasons}
        self._before = set(self.reasons)  # a second failure is no news
        self._tried = self._new = 0

    def note(self, ids: np.ndarray, found: Pixels) -> None:
        """Keep what became of some samples."""
        for key in ids.tolist():
            self.reasons.pop(key, None)
        failed = ids[found.status == FAILED].tolist()
        self.reasons |= dict.fromkeys(failed, "no reason") | dict(zip(
            failed, map(redact, found.messages), strict=False))
        self._tried += len(ids)
        self._new += len(set(failed) - self._before)

    def too_many(self, share: float) -> bool:
        """Whether it is no use to go on."""
        return hopeless(self._new, self._tried, len(self.ids), share)

    def write(self) -> None:
        """List them, in the order of the table; no list if there are none."""
        rows = [(key, self.reasons[key]) for key in self.ids
                if key in self.reasons]
        if rows:
            files.write(self.path, pd.DataFrame(
                rows, columns=["gbifID", "message"]).to_csv(index=False))
        else:
            self.path.unlink(missing_ok=True)

    def tell(self, share: float) -> None:
        """Warn of failures, or stop where there are too many."""
        if not self.reasons:
            return
        failed, n = len(self.reasons), len(self.ids)
        many = failed > share * n or self.too_many(share)
        above = f" samples failed, above max_failed={share}"
        told = (f"{failed} of {n}{above if many else ' samples failed'}, "
                "the last with "
                f"{next(reversed(self.reasons.values()))!r}. All "
                f"are listed in '{self.path}'. The others are kept; mend the "
                "cause and call download again")
        if many:
            raise DownloadError(errno.EIO, told)
        warnings.warn(told, stacklevel=3)
