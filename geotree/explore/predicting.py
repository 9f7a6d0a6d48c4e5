"""Predict: a table of places in, the same table with answers out.

Pixels go through a cube in a cache (:mod:`geotree.explore.seeing`), and of
the probabilities only what the answer says is kept: memory does not grow
with places × species. Used in chapter 11.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from geotree import checks, engine, files, occurrences, taxonomy
from geotree.explore import seeing
from geotree.explore.judging import judge, loaded
from geotree.explore.seeing import STATUS, Seen
from geotree.explore.sheet import Sheet
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
    model = loaded(model, device)
    judged, unmatched = judge(model, prior=prior, checklist=checklist,
                              country=country)
    checks.one_of(rank, taxonomy.RANKS, name="rank")
    checks.number(threshold, name="threshold", low=0, high=1)
    checks.number(top, name="top", low=1, whole=True)
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
        sheet = Sheet(len(seen.table), judged.classes, rank=rank, top=top,
                      threshold=threshold, least=enough)
        months = _answer(seen, judged, sheet, workers)
    status[rows], reason[rows] = seen.status, seen.reason
    seeing.warn_of_failed(status, reason)
    at = np.full(len(frame), -1)
    at[rows] = seen.back
    looked = np.isin(status, (STATUS[OK], STATUS[NO_IMAGERY]))
    answers = sheet.frame().reindex(at).set_axis(frame.index).assign(
        months=pd.array(np.append(months, 0)[at], "Int64"),
        status=status, reason=reason)
    answers.loc[~looked, "months"] = pd.NA
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
        known["year"] = pd.array([seeing.YEAR] * len(known), "Int64")
    lost = known["year"].isna() & known["decimalLatitude"].notna()
    silent = lost & (known["status"] != "no year")
    known.loc[silent, ["status", "reason"]] = "no year", "its year is missing"
    known.attrs["report"] = known["status"].value_counts().to_dict()
    return known


def _answer(seen: Seen, judged, sheet: Sheet, workers) -> np.ndarray:
    """Fill a sheet with what is seen: (U,) clear months."""
    months = np.zeros(len(seen.table), int)
    for (rows, *_), (part, clear) in engine.each(
            _judged, seen.blocks(), workers=workers,
            shared=(judged, sheet.blank(0))):
        sheet.take(rows, part)
        months[rows] = clear
    return months


def _judged(judged, blank: Sheet, rows, images, environment):
    """The sheet of B rows, and their clear months: (B,)."""
    part, done = blank.blank(len(rows)), 0
    for _, odds in judged.answers(images, environment):
        part.add(np.arange(done, done := done + len(odds)), odds)
    return part, (images != NODATA).any(axis=(2, 3, 4)).sum(axis=1)
