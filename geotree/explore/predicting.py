"""Predict: a table of places in, the same table with answers out.

Pixels go through a cube in a cache, so that a second call fetches nothing
and a run that was killed goes on. Places are answered some at a time, and
of their probabilities only what the answer says is kept: memory does not
grow with places × species. Used in chapter 11.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from geotree import checks, files, occurrences, pixels, taxonomy
from geotree.explore.answers import NO_TREE, STATUS, places, warn_of_failed
from geotree.explore.judging import judge, least, loaded
from geotree.explore.sheet import Sheet
from geotree.network import ServiceError
from geotree.sources import FAILED, OK, PENDING
from geotree.variables import NODATA

_BLOCK = 2048  # places whose pixels are in memory at once
# What an occurrence table has, and a place where nobody has looked has not.
_UNKNOWN = {"coordinateUncertaintyInMeters": np.nan, "countryCode": None,
            "datasetKey": None, "license": None, "taxonKey": 0}


def predict(points, *, model, source, rank: str = "species", top: int = 5,
            threshold: float = 0.8, coverage: float = 0.9,
            prior: bool = True, checklist=None, country: str | None = None,
            cache: str | Path | None = None, batch: int = 256,
            device: str = "auto", progress: bool = True, **columns
            ) -> pd.DataFrame:
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
        How often a set shall hold the right name.
    prior : bool
        Use what the model's training records say of the place.
    checklist : path or list of str, optional
        Only these species.
    country : str, optional
        Only species with a training record in it (ISO alpha-2).
    cache : path, optional
        Folder of the cubes; default ``GEOTREE_CACHE`` or ~/.cache/geotree.
    batch : int
        Places a unit of download.
    device : str
        "auto", "cpu", "cuda" or "mps".
    progress : bool
    **columns
        ``lat``, ``lon``, ``year``, ``species``, ``id`` of
        :func:`geotree.occurrences.from_points`. The year is that of the
        pixels, unless the source has a year of its own; 2020 where no
        column tells it. A simulated source renders the species.

    Returns
    -------
    DataFrame of N rows
        The columns of ``points`` as they came, then for each rank
        ``predicted_<rank>`` and its ``…_probability``; the likeliest names
        ``<rank>_1`` … with theirs; ``sure_rank, sure_name,
        sure_probability``, the finest name that reaches ``threshold``;
        ``set``, the names of the conformal set, and ``set_size``;
        ``months`` with a clear pixel; ``status`` and ``reason``.
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
    checks.one_of(rank, taxonomy.RANKS, name="rank")
    checks.number(threshold, name="threshold", low=0, high=1)
    checks.number(top, name="top", low=1, whole=True)
    model = loaded(model, device)
    judged, unmatched = judge(model, prior=prior, checklist=checklist,
                              country=country)
    least_odds = least(model, coverage, prior=judged.place is not None)
    frame, where, status, reason, said = _read(points, source, columns)
    rows = np.flatnonzero(status == STATUS[OK])
    table = places(source, **{name: values[rows]
                              for name, values in where.items()})
    status[rows] = NO_TREE
    rows = rows[table.index]
    once = table.drop_duplicates("gbifID", ignore_index=True)
    back = pd.Index(once["gbifID"]).get_indexer(table["gbifID"])
    sheet = Sheet(len(once), judged.classes, rank=rank, top=top,
                  threshold=threshold, least=least_odds)
    if len(once):
        found, told = _answer(once, source, judged, sheet, cache, batch,
                              progress)
        status[rows], reason[rows] = found[back], told[back]
    warn_of_failed(status, reason)
    place = np.full(len(frame), -1)
    place[rows] = back
    answers = sheet.frame().reindex(place).set_axis(frame.index)
    answers = answers.assign(status=status, reason=reason)
    answers.loc[status == STATUS[FAILED], "months"] = pd.NA
    while double := [name for name in answers if name in frame]:
        answers = answers.rename(columns={
            name: f"geotree_{name}" for name in double})
    result = pd.concat([frame, answers], axis=1)
    result.attrs = {"unmatched": unmatched, **said}
    return result


def _read(points, source, columns: dict):
    """The rows as they came, what is known of them, and what is lacking."""
    frame = (points if isinstance(points, pd.DataFrame)
             else occurrences.reading.frame(points))
    known = occurrences.from_points(frame, **columns)
    said = known.attrs["columns"]
    placed = known["decimalLatitude"].notna()
    status = known["status"].where(~placed, STATUS[OK]).to_numpy(object)
    reason = known["reason"].where(~placed, "").to_numpy(object)
    year = known["year"]
    if isinstance(getattr(source, "year", None), int):
        year = pd.Series(source.year, year.index)
    elif "year" not in said and not isinstance(columns.get("year"), int):
        year = year.fillna(2020)
    undated = (year.isna() & placed).to_numpy()
    status[undated], reason[undated] = "no year", "no year can be read"
    species = (known["species"].fillna("") if "species" in known
               else pd.Series("", known.index))
    where = {"lat": known["decimalLatitude"].to_numpy(),
             "lon": known["decimalLongitude"].to_numpy(),
             "year": year.fillna(0).to_numpy(int),
             "species": species.to_numpy(object)}
    return frame, where, status, reason, {
        name: said[name] for name in ("lat", "lon")}


def cache_folder(cache: str | Path | None = None) -> Path:
    """Where fetched pixels are kept: ``GEOTREE_CACHE`` unless told."""
    return Path(cache or os.environ.get("GEOTREE_CACHE")
                or Path.home() / ".cache" / "geotree")


def _answer(table, source, judge, sheet, cache, batch, progress):
    """Fetch and answer each row of a table: its status and reason."""
    cube, reason = _pixels(table, source, cache, batch, progress)
    state = cube["status"].to_numpy()
    state = np.where(state == PENDING, FAILED, state)
    reason[state != FAILED] = ""
    for start in tqdm(range(0, len(table), _BLOCK), desc="answers",
                      unit="block", disable=not progress):
        part = cube.isel(sample=slice(start, start + _BLOCK))
        rows = start + np.flatnonzero(state[start:start + _BLOCK] == OK)
        images = part["reflectance"].to_numpy()
        seen = (images != NODATA).any(axis=(2, 3, 4)).sum(axis=1)
        sheet.months[start:start + _BLOCK] = seen
        where = {"lat": table["decimalLatitude"].to_numpy()[rows],
                 "lon": table["decimalLongitude"].to_numpy()[rows]}
        for _, odds in judge.answers(
                images[rows - start],
                part["environment"].to_numpy()[rows - start], **where):
            sheet.add(rows[:len(odds)], odds)
            rows = rows[len(odds):]
    return np.array([STATUS[one] for one in state.tolist()], object), reason


def _pixels(table, source, cache, batch, progress):
    """The cube of a table, and why rows that failed did: (N,) str."""
    table = table.assign(**_UNKNOWN)
    store = cache_folder(cache) / "points" / (
        files.fingerprint(source.attrs()) + ".zarr")
    lost = ""
    try:
        with warnings.catch_warnings():  # counted once, with the rows
            warnings.filterwarnings("ignore", ".*samples failed")
            cube = pixels.download(table, source, store, chunk=batch,
                                   max_failed=1.0, progress=progress)
    except OSError as error:
        cause = error if isinstance(error, ServiceError) else error.__cause__
        if not isinstance(cause, ServiceError):
            raise
        lost = cause.strerror or str(cause)
        cube = pixels.open(store, table=table, allow_incomplete=True)
    reason = pd.Series(lost, table["gbifID"], dtype=object)
    told = Path(f"{store}.failures.csv")
    if told.exists():
        reason.update(pd.read_csv(told, index_col="gbifID")["message"])
    return cube, reason.to_numpy(copy=True)
