"""Answers: what a model says about places, with all that it looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from geotree import evaluation, prior, taxonomy, world
from geotree.evaluation import calibration
from geotree.place import PlaceModel
from geotree.shards import Batch
from geotree.sources import OK


@dataclass(frozen=True)
class Answers:
    """What :func:`ask` found out about N places.

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
    row: np.ndarray  # (N,) int64, which of the places asked for

    def __len__(self) -> int:
        return len(self.lat)


def places(source, *, lat, lon, year: int = 2020,
           rng: np.random.Generator | None = None) -> pd.DataFrame:
    """An occurrence table of places where nobody has looked yet.

    Parameters
    ----------
    source : Source
        A simulated one must know which tree to render: it has ``prior``
        and ``classes``, and places where nothing grows are left out. A
        real one needs the place alone; the names stay empty.
    lat, lon : (N,) float
        Degrees, WGS 84.
    year : int
        Of the pixels.
    rng : Generator, optional
        Draw the simulated tree from the prior; default: the likeliest.

    Returns
    -------
    DataFrame
        At most N rows; the index says which place a row is of.
    """
    lat, lon = np.atleast_1d(lat).astype(float), np.atleast_1d(lon)
    table = pd.DataFrame({
        "gbifID": _keys(lat, lon), "decimalLatitude": lat,
        "decimalLongitude": lon.astype(float), "year": year,
        "species": "", "genus": "", "family": "", "leafType": ""})
    if not hasattr(source, "prior"):
        return table
    odds = source.prior(lat=lat, lon=lon)
    table = table[odds.sum(axis=1) > 0].copy()
    odds = odds[table.index]
    if rng is None:
        chosen = odds.argmax(axis=1)
    else:
        steps = odds.cumsum(axis=1)
        level = rng.random((len(steps), 1)) * steps[:, -1:]
        chosen = (steps <= level).sum(axis=1)
    names = list(taxonomy.CLASS_COLUMNS)
    table[names] = source.classes[names].to_numpy(object)[chosen]
    return table


def _keys(lat, lon) -> np.ndarray:
    """A number for each place, the same each time: (N,) int64."""
    return (np.rint((lat + 90) * 1e5).astype(np.int64) * 40_000_000
            + np.rint((lon + 180) * 1e5).astype(np.int64))


def ask(model, source, classes: pd.DataFrame, *, lat, lon, year: int = 2020,
        place: PlaceModel | None = None, weight: float = 1.0,
        temperature: float = 1.0,
        rng: np.random.Generator | None = None) -> Answers:
    """Ask a model which tree grows at N places.

    Parameters
    ----------
    model : CompactClip
    source : Source
        Where the pixels come from.
    classes : DataFrame of K rows
        The names to choose from.
    lat, lon : (N,) float
        Degrees, WGS 84. Places without a tree or without imagery are left
        out of the answer.
    year : int
    place : PlaceModel, optional
        Which species a place alone suggests; the range prior.
    weight : float
        Of the place, from :func:`geotree.prior.fit_weight`.
    temperature : float
        From :func:`geotree.evaluation.calibration.temperature`; above 1
        makes the model more modest.
    rng : Generator, optional
        See :func:`places`.

    Raises
    ------
    ValueError
        A place is not on the globe.
    """
    lat, lon = np.broadcast_arrays(*np.atleast_1d(lat, lon))
    world.country_code(lat=lat, lon=lon)  # refuses what is no place
    table = places(source, lat=lat, lon=lon, year=year, rng=rng)
    k = len(classes)
    if table.empty:
        return Answers(
            classes, lat[:0], lon[:0], np.zeros((0, 12, 10, 5, 5), np.uint16),
            np.zeros((0, 27), np.float32), np.zeros((0, k)),
            np.zeros((0, k)), *np.zeros((2, 0), np.int64))
    seen = source.fetch(table)
    good = np.flatnonzero(seen.status == OK)
    table = table.iloc[good]
    images, environment = seen.reflectance[good], seen.environment[good]
    found = np.zeros((0, k))
    if len(good):
        blank = np.zeros(len(good), np.int64)
        found = evaluation.predict(
            model, Batch(images, environment, blank, blank), classes)
        found = calibration.soften(found, temperature)
    joined = found
    if place is not None and len(good):
        joined = prior.combine(found, place.predict(table, classes), weight)
    truth = pd.Index(classes["species"]).get_indexer(table["species"])
    return Answers(classes, table["decimalLatitude"].to_numpy(),
                   table["decimalLongitude"].to_numpy(), images, environment,
                   found, joined, truth.astype(np.int64),
                   table.index.to_numpy())
