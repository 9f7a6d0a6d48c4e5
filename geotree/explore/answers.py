"""Answers: what a model says about places, with all that it looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from geotree import checks
from geotree.explore.judging import Judge
from geotree.explore.seeing import NO_PLACE, YEAR, Seen, warn_of_failed
from geotree.place import PlaceModel
from geotree.variables import BANDS, MONTHS, PATCH, VARIABLES


@dataclass(frozen=True)
class Answers:
    """What :func:`ask` found out: N answers about M places.

    ``prior`` is ``seen`` where no range prior was given. ``truth`` is the
    class of the tree that a simulated source rendered, −1 where unknown.
    """

    classes: pd.DataFrame  # K rows
    lat: np.ndarray  # (N,) degrees
    lon: np.ndarray  # (N,) degrees
    images: np.ndarray  # (N, T, C, H, W) uint16
    environment: np.ndarray  # (N, V) float32
    seen: np.ndarray  # (N, K) probabilities from pixels and variables
    prior: np.ndarray  # (N, K) the same, joined with the range prior
    truth: np.ndarray  # (N,) int64
    row: np.ndarray  # (N,) int64, which of the M places asked for
    status: np.ndarray | None = None  # (M,) "ok", "failed", "no imagery", …
    reason: np.ndarray | None = None  # (M,) why there is no answer, or ""

    def __len__(self) -> int:
        return len(self.lat)


def ask(model, source, classes: pd.DataFrame | None = None, *, lat, lon,
        year=YEAR, place: PlaceModel | None = None, weight: float = 1.0,
        temperature: float = 1.0) -> Answers:
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
                  temperature, place, weight)
    seen = Seen(source, lat=lat[here], lon=lon[here], year=year[here])
    parts = [_nothing(len(judge.classes))]
    for rows, images, environment in seen.blocks():
        alone, joined = map(np.concatenate, zip(*judge.answers(
            images, environment), strict=True))
        parts.append((rows, images, environment, alone,
                      alone[:0] if place is None else joined))
    rows, images, environment, alone, joined = map(
        np.concatenate, zip(*parts, strict=True))
    status = np.where(here, "", NO_PLACE).astype(object)
    reason = np.where(here, "", "latitude is not -90 to 90, or longitude not "
                      "-180 to 360").astype(object)
    status[here], reason[here] = seen.status, seen.reason
    warn_of_failed(status, reason)
    at = pd.Index(rows).get_indexer(seen.back)  # (M on the globe,)
    row, at = np.flatnonzero(here)[at >= 0], at[at >= 0]
    table, alone = seen.table.iloc[rows[at]], alone[at]
    truth = pd.Index(judge.classes["species"]).get_indexer(table["species"])
    return Answers(
        judge.classes, table["decimalLatitude"].to_numpy(),
        table["decimalLongitude"].to_numpy(), images[at], environment[at],
        alone, alone if place is None else joined[at],
        truth.astype(np.int64), row, status, reason)


def _nothing(k: int) -> tuple:
    """No rows, images, environment and probabilities of k classes."""
    odds = np.zeros((0, k), np.float32)
    return (np.zeros(0, int), np.zeros(
        (0, MONTHS, len(BANDS), PATCH, PATCH), np.uint16),
        np.zeros((0, len(VARIABLES)), np.float32), odds, odds)
