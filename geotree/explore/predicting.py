"""Predict: a table of places in, the same table with answers out.

Pixels go through a cube in a cache (:mod:`geotree.explore.seeing`), and of
the probabilities only what the answer says is kept: memory does not grow
with places × species. :func:`ask` keeps all, of few places. Chapters 10, 11.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import checks, engine, files, globe, occurrences, taxonomy
from geotree.evaluation import predictions
from geotree.explore import seeing
from geotree.explore.judging import Judge, judge, loaded
from geotree.explore.seeing import NO_PLACE, STATUS, YEAR, Seen
from geotree.explore.sheet import Sheet
from geotree.place import PlaceModel
from geotree.sources import NO_IMAGERY, OK
from geotree.variables import NODATA


def predict(points, *, model, source, rank: str = "species", top: int = 5,
            threshold: float = 0.8, coverage: float = 0.9,
            prior: bool = True, checklist=None, country: str | None = None,
            year: int | str | None = None, cache: str | Path | None = None,
            batch: int = 256, device: str = "auto", workers=1,
            progress: bool = True, **columns) -> pd.DataFrame:
    """Which tree grows at each place of a table: one call for all.

    Parameters
    ----------
    points : path or DataFrame of N rows
        As :func:`geotree.occurrences.from_points` reads it.
    model : path, hub id or model
        A folder holds all that an honest answer needs.
    source : Source
        Where the pixels come from.
    rank : str
        How deep the names go.
    top : int
        How many of the likeliest names of that rank.
    threshold : float
        Probability from which a name counts as sure.
    coverage : float
        How often a set shall hold the right name. With a list, sets are
        fitted anew on the validation samples that go with the model, and a
        warning says that they hold only where the tree is on the list.
    prior : bool
        Use what the model's training records say of the place.
    checklist : path or list of str, optional
        Only these species.
    country : str, optional
        Only species with a training record in it (ISO alpha-2).
    year : int or str, optional
        Of the pixels; see :func:`dated`. A simulated source renders the
        species of a row.
    cache : path, optional
        Folder of the cubes; default ``GEOTREE_CACHE`` or ~/.cache/geotree.
    batch : int
        Places a unit of download.
    device : str
        "auto", "cpu", "cuda" or "mps".
    workers : int, str or dask.distributed.Client
        Who fetches and answers; see :func:`geotree.engine.open`.
    progress : bool
    **columns
        ``lat``, ``lon``, ``species``, ``id`` of
        :func:`geotree.occurrences.from_points`.

    Returns
    -------
    DataFrame of N rows
        The columns of ``points`` as they came, then for each rank
        ``predicted_<rank>`` and its ``…_probability``; the likeliest names
        ``<rank>_1`` … with theirs; ``sure_rank, sure_name,
        sure_probability``, the finest name that reaches ``threshold``;
        ``set``, the names of the conformal set, and ``set_size``;
        ``months`` with a clear pixel; ``trained_km`` to the nearest place
        that the model was trained on, where its folder holds them;
        ``status`` and ``reason``.
        ``attrs["unmatched"]``: names of the checklist that match none.

    Raises
    ------
    ValueError
        The points cannot be read, the plan is beyond the budget, or no
        name of the checklist is known to the model. A single row that
        cannot be answered says so in its row.
    OSError
        The cache cannot be written. What is finished is kept there.
    """
    model = loaded(model, device)
    judged, unmatched = judge(model, prior=prior, checklist=checklist,
                              country=country)
    checks.one_of(rank, taxonomy.RANKS, name="rank")
    checks.number(threshold, name="threshold", low=0, high=1)
    top = int(checks.number(top, name="top", low=1, whole=True))
    checks.number(coverage, name="coverage", low=1e-6, high=1 - 1e-6)
    enough = judged.least(coverage)
    frame = (points if isinstance(points, pd.DataFrame)
             else occurrences.reading.frame(points))
    known = dated(frame, source, year, **columns)
    status, reason = (known[name].to_numpy(object)
                      for name in ("status", "reason"))
    asked = known.dropna(subset=["decimalLatitude", "year"])
    rows = known.index.get_indexer(asked.index)
    with engine.open(workers) as workers:
        seen = Seen(
            source, lat=asked["decimalLatitude"],
            lon=asked["decimalLongitude"], year=asked["year"].to_numpy(int),
            cache=files.cache_folder(cache), species=asked[
                "species"].fillna("") if "species" in asked else None,
            batch=batch, workers=workers, progress=progress)
        sheet = Sheet(judged.classes, rank=rank, top=top,
                      threshold=threshold, least=enough)
        kept = sheet.blank(len(seen.table))
        for (at, *_), found in engine.each(
                _judged, seen.blocks(), workers=workers,
                shared=(judged, sheet)):
            for name, values in found.items():
                kept[name][at] = values
    status[rows], reason[rows] = seen.status, seen.reason
    seeing.warn_of_failed(status, reason)
    at = np.full(len(frame), -1)
    at[rows] = seen.back
    looked = np.isin(status, (STATUS[OK], STATUS[NO_IMAGERY]))
    trained = np.full(len(frame), np.nan)
    if getattr(model, "prior", None) is not None and len(rows):
        trained[rows] = globe.nearest_km(asked, model.prior)
    answers = sheet.frame(kept).reindex(at).set_axis(frame.index).assign(
        trained_km=trained, status=status, reason=reason)
    answers["months"] = answers["months"].fillna(0).where(looked)
    while double := [name for name in answers if name in frame]:
        answers = answers.rename(columns={
            name: f"geotree_{name}" for name in double})
    result = pd.concat([frame, answers], axis=1)
    result.attrs = {"unmatched": unmatched, **{
        name: known.attrs["columns"][name] for name in ("lat", "lon")}}
    return result


def dated(points, source, year: int | str | None = None, **columns
          ) -> pd.DataFrame:
    """Own places as an occurrence table, with the year of their pixels.

    Parameters
    ----------
    points, columns
        As in :func:`geotree.occurrences.from_points`.
    source : Source
        One that looks at a single year has the last word.
    year : int or str, optional
        A number for all rows, a column, or "own": the column with a usual
        name. Default: that column if it is there, else 2020.

    Returns
    -------
    DataFrame
        A row that has a place, but no year where it needs one, has the
        ``status`` "no year".

    Raises
    ------
    ValueError
        The year is to be each row's own, and no column holds it; or the
        source looks at another.
    """
    year = seeing.year_of(source, year)
    known = occurrences.from_points(
        points, year=None if year == "own" else year, **columns)
    said = known.attrs["columns"]
    if "year" not in said and not isinstance(year, int):
        if year == "own":
            raise ValueError(
                f"{known.attrs['source']} has no column that looks like a "
                "year; name it (year='…'), or give one year for all.")
        known["year"] = pd.array([YEAR] * len(known), "Int64")
    lost = known["year"].isna() & known["decimalLatitude"].notna()
    silent = lost & (known["status"] != "no year")
    known.loc[silent, ["status", "reason"]] = "no year", "its year is missing"
    known.attrs["report"] = known["status"].value_counts().to_dict()
    return known


def _judged(judged, sheet: Sheet, rows, images, environment) -> dict:
    """What is kept of B rows, and their clear months."""
    parts = [sheet.noted(odds) for _, odds in judged.answers(
        images, environment)]
    clear = (images != NODATA).any(axis=(2, 3, 4)).sum(axis=1)
    return {name: np.concatenate([part[name] for part in parts])
            for name in parts[0]} | {"months": clear[:, None]}


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
    predictions.expect(model)
    checks.one_order(lat=lat, lon=lon, year=year)
    lat, lon, year = map(np.atleast_1d, checks.one_shape(
        lat=checks.degrees(lat), lon=checks.degrees(lon), year=year))
    here = checks.on_globe(lat=lat, lon=lon)  # (M,)
    if not here.any():
        checks.places(lat=lat, lon=lon)  # says what is wrong
    judge = Judge(model, model.classes if classes is None else classes,
                  temperature, place, weight)
    seen = Seen(source, lat=lat[here], lon=lon[here], year=year[here])
    rows, images, environment, alone, joined = judge.of(seen)
    status = np.where(here, "", NO_PLACE).astype(object)
    reason = np.where(here, "", "latitude is not -90 to 90, or longitude not "
                      "-180 to 360").astype(object)
    status[here], reason[here] = seen.status, seen.reason
    seeing.warn_of_failed(status, reason)
    at = pd.Index(rows).get_indexer(seen.back)  # (M on the globe,)
    row, at = np.flatnonzero(here)[at >= 0], at[at >= 0]
    table, alone = seen.table.iloc[rows[at]], alone[at]
    truth = taxonomy.find(table["species"], judge.classes)
    return Answers(
        judge.classes, table["decimalLatitude"].to_numpy(),
        table["decimalLongitude"].to_numpy(), images[at], environment[at],
        alone, alone if place is None else joined[at],
        truth, row, status, reason)
