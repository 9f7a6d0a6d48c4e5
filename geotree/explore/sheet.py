"""The sheet: what is kept of the answers about many places."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import checks, files, taxonomy
from geotree.evaluation import bootstrap

_LISTED = 25  # names of a set; of a larger one the rest is left out
_KINDS = {".csv": "text", ".tsv": "text", ".csv.gz": "text",
          ".tsv.gz": "text", ".geoparquet": "places", ".parquet": "parquet"}


class Sheet:
    """What is kept of the answers: a few columns, filled in place.

    Parameters
    ----------
    n : int
        Places.
    classes : DataFrame of K rows
    rank : Rank
        How deep the names go.
    top : int
        How many of the likeliest names are kept.
    threshold : float
        Probability from which a name counts as sure.
    least : float or (K,) float
        Probability at which a species enters the set.
    """

    def __init__(self, n: int, classes: pd.DataFrame, *, rank, top: int,
                 threshold: float, least):
        ranks = taxonomy.RANKS[:taxonomy.RANKS.index(rank) + 1]
        self.groups = {one: taxonomy.members(classes, one) for one in ranks}
        self.rank, self.threshold, self.least = ranks[-1], threshold, least
        top = min(top, len(self.groups[self.rank][0]))
        self.best = {one: (np.full(n, -1), np.full(n, np.nan, np.float32))
                     for one in ranks}
        self.top = np.full((n, top), -1), np.full((n, top), np.nan,
                                                  np.float32)
        self.set = np.full(n, None, object), np.full(n, -1)
        self.months = np.zeros(n, int)  # with a clear pixel

    def add(self, rows: np.ndarray, odds: np.ndarray) -> None:
        """Note the answers of some rows: (B, K) probabilities."""
        for rank, (names, group) in self.groups.items():
            summed = (odds if len(names) == len(group)
                      else taxonomy.sum_groups(odds, group))  # (B, G)
            column, value = self.best[rank]
            column[rows] = summed.argmax(axis=1)
            value[rows] = summed.max(axis=1)
        inside = odds >= self.least  # (B, K); never empty:
        inside[np.arange(len(odds)), odds.argmax(axis=1)] = True
        if summed is not odds:
            inside = taxonomy.sum_groups(inside.astype(float), group) > 0
        first = _leading(summed, self.top[0].shape[1])
        self.top[0][rows] = first
        self.top[1][rows] = np.take_along_axis(summed, first, axis=1)
        size = self.set[1][rows] = inside.sum(axis=1)
        listed = names[_leading(np.where(inside, summed, -1),
                                min(_LISTED, len(names)))]
        for row, some, many in zip(rows, listed, size, strict=True):
            more = ["…"] if many > _LISTED else []
            self.set[0][row] = "; ".join([*some[:many], *more])

    def frame(self) -> pd.DataFrame:
        """The columns as :func:`geotree.explore.predict` gives them."""
        columns, n = {}, len(self.set[1])
        sure = pd.DataFrame({"sure_rank": np.full(n, None, object),
                             "sure_name": None, "sure_probability": np.nan})
        for rank, (column, value) in self.best.items():
            name = _named(self.groups[rank][0], column)
            columns[f"predicted_{rank}"] = name
            columns[f"predicted_{rank}_probability"] = value
            deep = value >= self.threshold
            sure.loc[deep, "sure_rank"] = str(rank)
            sure.loc[deep, "sure_name"] = name[deep]
            sure.loc[deep, "sure_probability"] = value[deep]
        names = self.groups[self.rank][0]
        for number, (column, value) in enumerate(zip(
                *(part.T for part in self.top), strict=True), 1):
            columns[f"{self.rank}_{number}"] = _named(names, column)
            columns[f"{self.rank}_{number}_probability"] = value
        size = pd.array(self.set[1], "Int64")
        size[self.set[1] < 0] = pd.NA
        return pd.DataFrame(columns).join(sure).assign(
            set=self.set[0], set_size=size,
            months=pd.array(self.months, "Int64"))


def _named(names: np.ndarray, column: np.ndarray) -> np.ndarray:
    return np.where(column >= 0, names[column], None)


def _leading(values: np.ndarray, k: int) -> np.ndarray:
    """Columns of the ``k`` largest values of each row: (N, k), in order."""
    some = np.argpartition(-values, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(values, some, axis=1), axis=1,
                       kind="stable")
    return np.take_along_axis(some, order, axis=1)


def kind_of(path: str | Path) -> str:
    """The format that a file's name asks for, or a ``ValueError``."""
    name = Path(path).name.lower()
    for suffix, kind in _KINDS.items():
        if name.endswith(suffix):
            return kind
    raise ValueError(f"'{path}': expected a name that ends in "
                     f"{', '.join(_KINDS)}, which says the format.")


def write_answers(answers: pd.DataFrame, path: str | Path) -> Path:
    """Write answers in the format of the suffix, whole or not at all.

    Parameters
    ----------
    answers : DataFrame
        From :func:`geotree.explore.predict`.
    path : path
        ``.csv``, ``.tsv``, either with ``.gz``, ``.parquet``, or
        ``.geoparquet`` with a point for each place.
    """
    kind, name = kind_of(path), Path(path).name.lower()
    mixed = [column for column, values in answers.items()
             if pd.api.types.infer_dtype(values).startswith("mixed")]
    answers = answers.astype(dict.fromkeys(mixed, "string"))
    with files.whole(path) as part:
        if kind == "text":
            answers.to_csv(part, index=False,
                           sep="\t" if ".tsv" in name else ",",
                           compression="gzip" if name.endswith(".gz")
                           else None)
        elif kind == "parquet":
            answers.to_parquet(part, index=False)
        else:
            _write_geoparquet(answers, part)
    return Path(path)


def _write_geoparquet(answers: pd.DataFrame, path: Path) -> None:
    """GeoParquet 1.1: points as WKB, longitude first, in OGC:CRS84."""
    import pyarrow as pa
    from pyarrow import parquet

    lat, lon = (pd.to_numeric(answers[answers.attrs[name]], errors="coerce")
                .to_numpy(float) for name in ("lat", "lon"))
    points = np.zeros(len(answers), [("order", "u1"), ("kind", "<u4"),
                                     ("x", "<f8"), ("y", "<f8")])
    points["order"], points["kind"] = 1, 1  # little endian, a point
    points["x"], points["y"] = lon, lat
    good = checks.on_globe(lat=lat, lon=lon)
    wkb = [one.tobytes() if known else None
           for one, known in zip(points, good, strict=True)]
    table = pa.Table.from_pandas(answers.drop(columns="geometry",
                                              errors="ignore"),
                                 preserve_index=False)
    table = table.append_column("geometry", pa.array(wkb, pa.binary()))
    about = {"version": "1.1.0", "primary_column": "geometry", "columns": {
        "geometry": {"encoding": "WKB", "geometry_types": ["Point"]}}}
    parquet.write_table(table.replace_schema_metadata(
        {**table.schema.metadata, b"geo": json.dumps(about)}), path)


def score_answers(answers: pd.DataFrame, truth: str, *, blocks=None,
                  rank: str = "species") -> pd.DataFrame:
    """How often answers are right, where the truth is known.

    Parameters
    ----------
    answers : DataFrame of N rows
        From :func:`geotree.explore.predict`, or read from its file.
    truth : str
        The column of true names.
    blocks : (N,) int, optional
        Units of the bootstrap; see
        :func:`geotree.evaluation.spatial_blocks`.
    rank : str
        Of the true names.

    Returns
    -------
    DataFrame
        ``value``, ``low``, ``high`` (95 %) and ``n`` of: ``answered``, the
        share of rows with an answer; of those ``likeliest``, ``listed``
        (among the likeliest few) and ``in set``, how often the true name
        is there; ``sure``, how often a name of this rank is sure, and
        ``sure and right``, of those.
    """
    rank = checks.one_of(rank, taxonomy.RANKS, name="rank")
    first = f"{rank}_1"
    checks.columns(answers, [truth, f"predicted_{rank}", first, "set",
                             "sure_rank", "sure_name", "status"],
                   where="the answers")
    known = answers[truth].notna() & (answers[truth].astype(str) != "")
    if not known.any():
        raise ValueError(f"column {truth!r} holds no name: nothing to score.")
    rows, units = answers[known], bootstrap.units(blocks, len(answers))[known]
    name = rows[truth].astype(str).str.strip()
    good = rows["status" if "geotree_status" not in rows
                else "geotree_status"] == "ok"
    listed = [column for column in rows if re.fullmatch(rf"{rank}_\d+",
                                                        str(column))]
    sure = good & (rows["sure_rank"] == rank)
    within = [one in str(some).split("; ")
              for one, some in zip(name, rows["set"], strict=True)]
    found = {"answered": (good, good | True),
             "likeliest": (rows[f"predicted_{rank}"] == name, good),
             "listed": (rows[listed].eq(name, axis=0).any(axis=1), good),
             "in set": (pd.Series(within, rows.index), good),
             "sure": (sure, good),
             "sure and right": (rows["sure_name"] == name, sure)}
    return pd.DataFrame({
        what: _interval(hit[some].to_numpy(float), units[some])
        for what, (hit, some) in found.items()}).T


def _interval(hit: np.ndarray, units: np.ndarray) -> dict:
    if not len(hit):
        return {"value": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    units = np.unique(units, return_inverse=True)[1]
    same = np.zeros(len(hit), int)
    sums = bootstrap.Sums({"hit": hit}, same, same, units, units.max() + 1)
    values = np.concatenate([sums.values(weight)[:, :1] for weight in
                             bootstrap.weights(sums.size, 1000, 0)])
    low, high = bootstrap.interval(
        values, np.array([sums.effective]))[:, 0].clip(0, 1)
    return {"value": values[0, 0], "low": low, "high": high, "n": len(hit)}
