"""Seeing: the pixels of places, the one way in for all that answers.

Each place is fetched once, however often it comes. With a folder, pixels go
through a cube in it: a run that was killed goes on, and a second one
fetches nothing. They are looked at some at a time, so that memory stays
flat. Used by :func:`geotree.explore.ask`, ``predict`` and both maps.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from geotree import checks, files, pixels, sources, taxonomy
from geotree.network import DownloadError, ServiceError, redact
from geotree.occurrences.columns import FIRST_YEAR, last_year
from geotree.sources import FAILED, NO_IMAGERY, OK, PENDING, YEAR, Pixels

# Why a place has no answer, or that it has one.
STATUS = {OK: "ok", NO_IMAGERY: "no imagery", FAILED: "failed"}
_NAMES = np.array(["", *STATUS.values()], object)  # by number
NO_PLACE = "not on the globe"
NO_TREE = "no tree"  # a simulated source knows of none here
_BLOCK = 2048  # places whose pixels are in memory at once
HOPELESS = 0.999  # share of failures at which a source is given up
# What an occurrence table has, and a place where nobody has looked has not.
_UNKNOWN = {"coordinateUncertaintyInMeters": np.nan, "countryCode": None,
            "datasetKey": None, "license": None, "taxonKey": 0}


def year_of(source, year=None):
    """The year of the pixels: as told, else the source's own, else None.

    Raises
    ------
    ValueError
        The source looks at one year, and another is asked for.
    """
    year = int(year) if isinstance(year, np.integer) else year
    checks.instance(year, int, float, str, type(None), name="year",
                    see="one for all rows, a column's name or 'own'")
    sources.expect(source)
    fixed = getattr(source, "year", None)
    if not isinstance(fixed, int):
        return year
    if year not in (None, fixed):
        raise ValueError(
            f"year is {checks.shown(year)}, but the source {source.name!r} "
            f"looks at {fixed} alone. Make it with year='own', or leave the "
            "year out.")
    return fixed


def places(source, *, lat, lon, year=YEAR, species=None, level=None
           ) -> pd.DataFrame:
    """An occurrence table of places where nobody has looked yet.

    Parameters
    ----------
    source : Source
        A simulated one must know which tree to render: it has ``prior``
        and ``classes``, and places where nothing grows are left out. A
        real one needs the place alone; the names stay empty.
    lat, lon : (N,) float
        Degrees, WGS 84; a longitude of 180 to 360 is turned.
    year : int or (N,) int
        Of the pixels.
    species : (N,) str, optional
        What stands there, where it is known ("" where not): a simulated
        source renders it.
    level : (N,) float, optional
        From 0 to 1, at random: draws the simulated tree from the prior;
        default: the likeliest.

    Returns
    -------
    DataFrame
        At most N rows, each ``gbifID`` a number for place, year and tree,
        the same each time; the index says which place a row is of.
    """
    sources.expect(source)
    checks.one_order(lat=lat, lon=lon, year=year, species=species, level=level)
    lat, lon = checks.places(lat=lat, lon=lon)
    _, year, species, drawn = checks.one_shape(
        lat=lat, year=year, species="" if species is None else species,
        level=np.nan if level is None else level)
    checks.refuse((drawn < 0) | (drawn >= 1), "of level are not 0 to below 1")
    for one in year.ravel() if year.dtype == object else np.unique(year):
        checks.number(one, name="year", low=FIRST_YEAR, high=last_year(),
                      whole=True)
    table = pd.DataFrame({
        "gbifID": 0, "decimalLatitude": lat, "decimalLongitude": lon,
        "year": year.astype(np.int64), "species": species.astype(object),
        "genus": "", "family": "", "leafType": "", **_UNKNOWN})
    if hasattr(source, "prior") and len(table):
        names = list(taxonomy.CLASS_COLUMNS)
        chosen = np.zeros(len(table), int)
        lost = np.flatnonzero(table["species"] == "")
        for rows in np.split(lost, range(_BLOCK, len(lost), _BLOCK)):
            chosen[rows] = _grown(
                source.prior(lat=lat[rows], lon=lon[rows]),
                None if level is None else drawn[rows, None])
        table.loc[lost, names] = source.classes[names].to_numpy(object)[
            chosen[lost]]
        table = table[chosen >= 0].copy()
        table["genus"] = table["species"].str.split().str[0]
        table = taxonomy.complete(
            table.replace({"family": "", "leafType": ""}, "Unknown"),
            source.classes)
    key = pd.util.hash_pandas_object(table[[
        "decimalLatitude", "decimalLongitude", "year", "species"]],
        index=False)
    return table.assign(gbifID=(key.to_numpy() >> 1).astype(np.int64))


def _grown(odds, level) -> np.ndarray:
    """The class that grows at each place, −1 where nothing does: (N,)."""
    if level is None:
        chosen = odds.argmax(axis=1)
    else:
        steps = odds.cumsum(axis=1)  # (N, K)
        chosen = (steps <= level * steps[:, -1:]).sum(axis=1)
    return np.where(odds.sum(axis=1) > 0, chosen, -1)


class Seen:
    """M places and what a source sees there.

    Parameters
    ----------
    source, lat, lon, year, species, level
        As in :func:`places`.
    cache : path, optional
        Folder of cubes; default: memory alone.
    batch, workers
        Of the download.
    progress : bool

    Attributes
    ----------
    table : DataFrame of U rows
        What is fetched: places without doubles, and with a tree.
    back : (M,) int
        Which row of ``table`` is of which place, −1 where none is.
    gone : bool
        The service refused everything, and was asked no more.
    """

    def __init__(self, source, *, lat, lon, year=YEAR, species=None,
                 level=None, cache: str | Path | None = None,
                 batch: int = 256, workers=1, progress: bool = False):
        table = places(source, lat=lat, lon=lon, year=year, species=species,
                       level=level)
        self.source, self.progress, self.gone = source, progress, False
        self.table = table.drop_duplicates("gbifID", ignore_index=True)
        self.back = np.full(np.size(lat), -1)
        self.back[table.index] = pd.Index(
            self.table["gbifID"]).get_indexer(table["gbifID"])
        self._state = np.full(len(self.table), FAILED, np.uint8)
        self._told = np.full(len(self.table), "", object)
        self._cube = None
        if len(self.table) and cache is not None:
            self._download(cache, batch, workers)
        elif len(self.table):
            source.plan(self.table).check()

    @property
    def status(self) -> np.ndarray:
        """What became of each place, (M,) str."""
        return np.append(_NAMES[self._state], NO_TREE)[self.back]

    @property
    def reason(self) -> np.ndarray:
        """Why a place failed, or "", (M,) str."""
        told = np.where(self._state == FAILED, self._told, "")
        return np.append(told, "").astype(object)[self.back]

    def blocks(self) -> Iterator[tuple]:
        """What was seen, some places at a time.

        Where a service fails for a whole block, nothing more is asked of it.

        Yields
        ------
        rows : (B,) int
            Of ``table``, those with a clear pixel.
        images : (B, T, C, H, W) uint16
        environment : (B, V) float32
        """
        for start in tqdm(range(0, len(self.table), _BLOCK), desc="answers",
                          unit="block", disable=not self.progress):
            seen = self._look(slice(start, start + _BLOCK))
            state = self._state[start:start + _BLOCK]
            if self._cube is None and (state == FAILED).all():
                self._told[start + _BLOCK:] = self._told[start]
                return
            good = np.flatnonzero(state == OK)
            if len(good):
                yield (start + good, seen.reflectance[good],
                       seen.environment[good])

    def _look(self, rows: slice) -> Pixels | None:
        """Pixels of some rows: of the cube, or fetched now."""
        if self._cube is not None:
            part = self._cube.isel(sample=rows)
            return Pixels(*(part[name].to_numpy() for name in (
                "reflectance", "environment", "status")))
        try:
            with _counted_in_the_end():
                seen = sources.fetch(self.table.iloc[rows], self.source,
                                     max_failed=1.0)
        except ServiceError as error:
            self._told[rows], self.gone = error.strerror or str(error), True
            return None
        self._state[rows] = seen.status
        failed = np.flatnonzero(seen.status == FAILED)
        told = [*map(redact, seen.messages), *["no reason given"] * len(
            failed)]
        self._told[rows.start + failed] = told[:len(failed)]
        return seen

    def _download(self, cache, batch: int, workers) -> None:
        """Fill the cube, and read why rows failed."""
        store = files.cache_folder(cache) / "points" / (
            files.fingerprint(self.source.attrs()) + ".zarr")
        lost = "no reason given"
        try:
            with _counted_in_the_end():
                self._cube = pixels.download(
                    self.table, self.source, store, chunk=batch,
                    workers=workers, max_failed=HOPELESS,
                    progress=self.progress)
        except OSError as error:
            cause = error.__cause__ or error
            if not isinstance(cause, ServiceError | DownloadError):
                raise
            lost = cause.strerror or str(cause)
            self._cube = pixels.open(store, table=self.table,
                                     allow_incomplete=True)
        state = self._cube["status"].to_numpy()
        self._state = np.where(state == PENDING, FAILED, state)
        told = pd.Series(lost, self.table["gbifID"], dtype=object)
        listed = Path(f"{store}.failures.csv")
        if listed.exists():
            told.update(pd.read_csv(listed, index_col="gbifID")["message"])
        self._told = told.to_numpy(copy=True)


@contextmanager
def _counted_in_the_end() -> Iterator[None]:
    """Leave a source's own warnings to :func:`warn_of_failed`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*samples failed")
        yield


def warn_of_failed(status: np.ndarray, reason: np.ndarray) -> None:
    """Count the places that a service failed for, and say why."""
    failed = status == STATUS[FAILED]
    tell_failed(int(failed.sum()), len(status), *reason[failed][:1])


def tell_failed(failed: int, n: int, why: str = "") -> None:
    """Warn where a service failed for some of ``n`` places."""
    if failed:
        warnings.warn(
            f"{failed:,} of {n:,} places could not be fetched, the first: "
            f"{why}. They have no answer; ask again later.", stacklevel=4)
