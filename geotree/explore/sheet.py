"""The sheet: what is kept of the answers about many places."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import checks, files, taxonomy
from geotree.occurrences.columns import PLACE
from geotree.occurrences.located import places

_LISTED = 25  # names of a set; of a larger one the rest is left out
_KINDS = ".csv", ".tsv", ".csv.gz", ".tsv.gz", ".geoparquet", ".parquet"


class Sheet:
    """What is kept of the answers: a few numbers a place, by name.

    Parameters
    ----------
    classes : DataFrame of K rows
    rank : str
        How deep the names go.
    top : int
        How many of the likeliest names are kept.
    threshold : float
        Probability from which a name counts as sure.
    least : float or (K,) float
        Probability at which a species enters the set.
    """

    def __init__(self, classes: pd.DataFrame, *, rank, top: int,
                 threshold: float, least):
        ranks = taxonomy.RANKS[:taxonomy.RANKS.index(rank) + 1]
        self.groups = {one: taxonomy.members(classes, one) for one in ranks}
        self.rank, self.threshold, self.least = ranks[-1], threshold, least
        self.names = np.append(self.groups[self.rank][0], None)
        self.top = min(top, len(self.names) - 1)
        self.listed = min(_LISTED, len(self.names) - 1)

    def blank(self, n: int) -> dict[str, np.ndarray]:
        """Nothing yet of any place, to be filled in place.

        Small arrays that were kept one by one would scatter the heap between
        the large ones that come and go.
        """
        columns = {"best": len(self.groups), "first": self.top,
                   "set": self.listed, "size": 1, "months": 1}
        return {name: np.full((n, wide), -1, np.int32)
                for name, wide in columns.items()} | {
            "odds": np.full((n, len(self.groups) + self.top), np.nan,
                            np.float32)}

    def noted(self, odds: np.ndarray) -> dict[str, np.ndarray]:
        """What is kept of (B, K) probabilities: (B, …) each."""
        inside = odds >= self.least  # (B, K); never empty:
        inside[np.arange(len(odds)), odds.argmax(axis=1)] = True
        best, sure = [], []
        for names, group in self.groups.values():
            summed = (odds if len(names) == len(group)
                      else taxonomy.sum_groups(odds, group))  # (B, G)
            best.append(summed.argmax(axis=1))
            sure.append(summed.max(axis=1))
        if summed is not odds:
            inside = taxonomy.sum_groups(inside.astype(float), group) > 0
        first = _leading(summed, self.top)
        size = inside.sum(axis=1)[:, None]
        some = _leading(np.where(inside, summed, -1), self.listed)
        return {"best": np.stack(best, axis=1), "first": first, "size": size,
                "odds": np.column_stack([
                    *sure, np.take_along_axis(summed, first, 1)]),
                "set": np.where(np.arange(self.listed) < size, some, -1)}

    def frame(self, kept: dict[str, np.ndarray]) -> pd.DataFrame:
        """The columns as :func:`geotree.explore.predict` gives them."""
        columns, size = {}, kept["size"][:, 0]
        n = len(size)
        sure = {"sure_rank": np.full(n, None, object),
                "sure_name": np.full(n, None, object),
                "sure_probability": np.full(n, np.nan, np.float32)}
        for (rank, (names, _)), code, odds in zip(
                self.groups.items(), kept["best"].T, kept["odds"].T,
                strict=False):
            name = np.append(names, None)[code]
            columns[f"predicted_{rank}"] = name
            columns[f"predicted_{rank}_probability"] = odds
            deep = odds >= self.threshold
            for column, found in zip(sure.values(), (
                    np.full(n, str(rank), object), name, odds), strict=True):
                column[deep] = found[deep]
        for number in range(1, self.top + 1):
            column = f"{self.rank}_{number}"
            odds = kept["odds"][:, number - 1 - self.top]
            columns[column] = self.names[np.where(  # a list leaves none
                odds > 0, kept["first"][:, number - 1], -1)]
            columns[f"{column}_probability"] = odds
        sets = np.full(n, None, object)
        for row in np.flatnonzero(size >= 0):
            code = kept["set"][row]
            more = ["…"] if size[row] > _LISTED else []
            sets[row] = "; ".join([*self.names[code[code >= 0]], *more])
        return pd.DataFrame(columns | sure | {
            "set": sets, "set_size": pd.Series(size, dtype="Int64").where(
                size >= 0), "months": pd.Series(
                kept["months"][:, 0], dtype="Int64").clip(lower=0)})


def _leading(values: np.ndarray, k: int) -> np.ndarray:
    """Columns of the ``k`` largest values of each row: (N, k), in order."""
    some = np.argpartition(-values, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(values, some, axis=1), axis=1,
                       kind="stable")
    return np.take_along_axis(some, order, axis=1)


def kind_of(path: str | Path, kinds: tuple[str, ...] = _KINDS) -> str:
    """The ending of a file's name, which says the format."""
    for ending in kinds:
        if files.named(path).name.lower().endswith(ending):
            return ending
    raise ValueError(f"'{path}': expected the name of a file that ends in "
                     f"{', '.join(kinds)}, which says the format.")


def write_answers(answers: pd.DataFrame, path: str | Path) -> Path:
    """Write answers in the format of the suffix, whole or not at all.

    Parameters
    ----------
    answers : DataFrame
        From :func:`geotree.explore.predict`, or a table of occurrences.
    path : path
        ``.csv``, ``.tsv``, either with ``.gz``, ``.parquet``, or
        ``.geoparquet`` with a point for each place.
    """
    kind = kind_of(path)
    checks.columns(answers, [], where="answers")
    with files.whole(path) as part:
        if kind == ".parquet":
            _stored(answers).to_parquet(part, index=False)
        elif kind == ".geoparquet":
            _write_geoparquet(_stored(answers), part)
        else:
            answers.to_csv(part, index=False,
                           sep="\t" if ".tsv" in kind else ",",
                           compression="gzip" if ".gz" in kind else None)
    return files.named(path)


def _stored(answers: pd.DataFrame) -> pd.DataFrame:
    """Columns that Parquet has no type for, as text."""
    import pyarrow as pa

    plain, answers = {}, answers.rename(columns=str)
    for name, column in answers.items():
        try:
            pa.Array.from_pandas(column)
        except (pa.ArrowException, OverflowError, TypeError):
            plain[name] = column.astype(object).astype("str")
    return answers.assign(**plain)


def _write_geoparquet(answers: pd.DataFrame, path: Path) -> None:
    """GeoParquet 1.1: points as WKB, longitude first, in OGC:CRS84."""
    import pyarrow as pa
    from pyarrow import parquet

    where = [str(answers.attrs.get(name, usual)) for name, usual in zip(
        ("lat", "lon"), PLACE, strict=True)]
    lat, lon = places(checks.columns(answers, where, where="answers"), *where)
    points = np.zeros(len(answers), [("order", "u1"), ("kind", "<u4"),
                                     ("x", "<f8"), ("y", "<f8")])
    points["order"], points["kind"] = 1, 1  # little endian, a point
    points["x"], points["y"] = lon, lat
    wkb = [one.tobytes() if known else None for one, known in zip(
        points, checks.on_globe(lat=lat, lon=lon), strict=True)]
    table = pa.Table.from_pandas(answers.drop(columns="geometry",
                                              errors="ignore"),
                                 preserve_index=False)
    table = table.append_column("geometry", pa.array(wkb, pa.binary()))
    about = {"version": "1.1.0", "primary_column": "geometry", "columns": {
        "geometry": {"encoding": "WKB", "geometry_types": ["Point"]}}}
    parquet.write_table(table.replace_schema_metadata(
        {**table.schema.metadata, b"geo": json.dumps(about)}), path)
