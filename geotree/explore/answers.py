"""Answers: what a model says about places, with all that it looked at."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geotree import checks, sources, taxonomy, variables
from geotree.explore.judging import Judge
from geotree.network import ServiceError
from geotree.place import PlaceModel
from geotree.sources import FAILED, NO_IMAGERY, OK, Pixels

# Why a place has no answer, or that it has one.
STATUS = {OK: "ok", NO_IMAGERY: "no imagery", FAILED: "failed"}
NO_PLACE = "not on the globe"
NO_TREE = "no tree"  # a simulated source knows of none here
_PLACES = 2048  # that a simulated source is asked about at once


@dataclass(frozen=True)
class Answers:
    """What :func:`ask` found out: N answers about M places.

    ``prior`` is ``pixels`` where no range prior was given. ``truth`` is the
    class of the tree that a simulated source rendered, −1 where unknown.
    """

    classes: pd.DataFrame  # K rows
    lat: np.ndarray  # (N,) degrees
    lon: np.ndarray  # (N,) degrees
    images: np.ndarray  # (N, T, C, H, W) uint16
    environment: np.ndarray  # (N, V) float32
    pixels: np.ndarray  # (N, K) probabilities from what is seen
    prior: np.ndarray  # (N, K) the same, joined with the range prior
    truth: np.ndarray  # (N,) int64
    row: np.ndarray  # (N,) int64, which of the M places asked for
    status: np.ndarray | None = None  # (M,) "ok", "failed", "no imagery", …
    reason: np.ndarray | None = None  # (M,) why there is no answer, or ""

    def __len__(self) -> int:
        return len(self.lat)


def places(source, *, lat, lon, year=2020, species=None,
           rng: np.random.Generator | None = None) -> pd.DataFrame:
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
    rng : Generator, optional
        Draw the simulated tree from the prior; default: the likeliest.

    Returns
    -------
    DataFrame
        At most N rows, each ``gbifID`` a number for place, year and tree,
        the same each time; the index says which place a row is of.
    """
    lat, lon = checks.places(lat=lat, lon=lon)
    table = pd.DataFrame({
        "gbifID": 0, "decimalLatitude": lat, "decimalLongitude": lon,
        "year": np.broadcast_to(year, lat.shape),
        "species": "" if species is None else np.asarray(species, object),
        "genus": "", "family": "", "leafType": ""})
    if hasattr(source, "prior") and len(table):
        names = list(taxonomy.CLASS_COLUMNS)
        chosen = np.zeros(len(table), int)
        lost = np.flatnonzero(table["species"] == "")
        for rows in np.split(lost, range(_PLACES, len(lost), _PLACES)):
            chosen[rows] = _grown(source, lat[rows], lon[rows], rng)
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


def _grown(source, lat, lon, rng) -> np.ndarray:
    """The class that grows at each place, −1 where nothing does: (N,)."""
    odds = source.prior(lat=lat, lon=lon)  # (N, K)
    if rng is None:
        chosen = odds.argmax(axis=1)
    else:
        steps = odds.cumsum(axis=1)
        level = rng.random((len(steps), 1)) * steps[:, -1:]
        chosen = (steps <= level).sum(axis=1)
    return np.where(odds.sum(axis=1) > 0, chosen, -1)


def ask(model, source, classes: pd.DataFrame | None = None, *, lat, lon,
        year=2020, place: PlaceModel | None = None, weight: float = 1.0,
        temperature: float = 1.0, allowed: np.ndarray | None = None,
        rng: np.random.Generator | None = None) -> Answers:
    """Ask a model which tree grows at M places.

    Parameters
    ----------
    model : CompactClip
    source : Source
        Where the pixels come from; its plan must be within its budget.
    classes : DataFrame of K rows, optional
        The names to choose from; default: ``model.classes``.
    lat, lon : (M,) float
        Degrees, WGS 84; a longitude of 180 to 360 is turned. A place that
        comes twice is answered twice.
    year : int or (M,) int
    place : PlaceModel, optional
        Which species a place alone suggests; the range prior.
    weight : float
        Of the place, from :func:`geotree.prior.fit_weight`.
    temperature : float
        From :func:`geotree.evaluation.calibration.temperature`; above 1
        makes the model more modest.
    allowed : (K,) bool, optional
        A checklist: the classes that may be named.
    rng : Generator, optional
        See :func:`places`.

    Returns
    -------
    Answers
        One for each place that has a tree and a clear pixel. What became
        of the others is in ``status`` and ``reason``; a warning counts
        those whose service failed.

    Raises
    ------
    ValueError
        No place is on the globe, or the plan is beyond the budget.
    """
    lat, lon, year = np.broadcast_arrays(*np.atleast_1d(lat, lon, year))
    here = checks.on_globe(lat=lat, lon=lon)  # (M,)
    if not here.any():
        checks.places(lat=lat, lon=lon)  # says what is wrong
    judge = Judge(model, model.classes if classes is None else classes,
                  temperature, place, weight, allowed)
    table = places(source, lat=lat[here], lon=lon[here], year=year[here],
                   rng=rng)
    table.index = np.flatnonzero(here)[table.index]
    seen, found, reason = fetch(source, table)
    status = np.where(here, NO_TREE, NO_PLACE).astype(object)
    status[table.index] = found
    told = np.where(here, "", "latitude is not -90 to 90, or longitude not "
                    "-180 to 360").astype(object)
    told[table.index] = reason
    good = found == STATUS[OK]
    table, images = table[good], seen.reflectance[good]
    environment = seen.environment[good]
    where = {"lat": table["decimalLatitude"].to_numpy(),
             "lon": table["decimalLongitude"].to_numpy()}
    pixels = np.zeros((len(table), len(judge.classes)), np.float32)
    same, done = place is None and allowed is None, 0
    joined = pixels if same else np.zeros_like(pixels)
    for part, both in judge.answers(images, environment, **where):
        rows = slice(done, done := done + len(part))
        pixels[rows], joined[rows] = part, both
    truth = pd.Index(judge.classes["species"]).get_indexer(table["species"])
    return Answers(judge.classes, **where, images=images,
                   environment=environment, pixels=pixels, prior=joined,
                   truth=truth.astype(np.int64), status=status, reason=told,
                   row=table.index.to_numpy())


def fetch(source, table: pd.DataFrame
          ) -> tuple[Pixels, np.ndarray, np.ndarray]:
    """Pixels of a table, within the budget, each place fetched once.

    Returns
    -------
    Pixels, (N,) str, (N,) str
        With what became of each row, and why.
    """
    once = table.drop_duplicates("gbifID", ignore_index=True)
    back = pd.Index(once["gbifID"]).get_indexer(table["gbifID"])
    reason = np.full(len(once), "", object)
    shape = (len(once), variables.MONTHS, len(variables.BANDS),
             variables.PATCH, variables.PATCH)
    seen = Pixels(np.full(shape, variables.NODATA, np.uint16),
                  np.full((len(once), len(variables.VARIABLES)), np.nan,
                          np.float32), np.full(len(once), FAILED, np.uint8))
    try:
        if len(once):
            seen = sources.fetch(once, source, max_failed=1.0)
        failed = np.flatnonzero(seen.status == FAILED)
        reason[failed] = "no reason given"
        reason[failed[:len(seen.messages)]] = seen.messages
    except ServiceError as error:
        reason[:] = error.strerror or str(error)
        warn_of_failed(np.full(len(table), STATUS[FAILED]), reason[back])
    status = np.array([STATUS[one] for one in seen.status.tolist()], object)
    return (Pixels(*(part[back] for part in seen[:3])), status[back],
            reason[back])


def warn_of_failed(status: np.ndarray, reason: np.ndarray) -> None:
    """Count the places that a service failed for, and say why."""
    failed = status == STATUS[FAILED]
    if failed.any():
        warnings.warn(
            f"{failed.sum():,} of {len(status):,} places could not be "
            f"fetched, the first: {reason[failed][0]}. They have no answer; "
            "ask again later.", stacklevel=3)
