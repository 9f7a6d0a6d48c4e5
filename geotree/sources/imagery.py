"""What sources of Sentinel-2 share: the year, tiles, patches, statuses."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd

from geotree import checks
from geotree.network import Pool
from geotree.sources import (
    FAILED,
    FIRST,
    NO_IMAGERY,
    OK,
    SEEN,
    SHAPE,
    Pixels,
    grid,
)
from geotree.variables import NODATA, VARIABLE_NAMES


class Imagery:
    """A source of Sentinel-2 images, of one year or of each row's own.

    Parameters
    ----------
    year : int or "own"
        Year of the imagery, or that of each row of a table.
    workers : int
        Requests at a time.
    wait : float
        Upper limit of the first pause after a failure in seconds.
    """

    def __init__(self, *, year: int | str, workers: int, wait: float):
        if year != "own":
            checks.number(year, name="year ('own': of each row)", low=FIRST,
                          whole=True)
        checks.number(workers, name="workers", low=1, whole=True)
        checks.number(wait, name="wait", low=0)
        self.year, self.workers, self.wait = year, workers, wait
        self._pool = Pool(workers)

    def share(self, among: int) -> Imagery:
        """This source for one of some workers: the quota is theirs all."""
        part = copy.copy(self)
        part.workers = max(self.workers // among, 1)
        part._pool = Pool(part.workers)
        return part

    def _attrs(self, **more) -> dict[str, str | int | float]:
        return {"source": self.name, "imagery_year": self.year,
                "composite": "median of each calendar month",
                "grid": "utm", **more}

    def _where(self, table) -> pd.DataFrame:
        """Tile and year of each row ("" and 0: unknown), row by row."""
        tiles = grid.tiles(**_places(table))
        years = (pd.to_numeric(table["year"], errors="coerce").fillna(0)
                 if self.year == "own" else self.year)
        return pd.DataFrame({"tile": tiles, "year": np.asarray(years, int)
                             }).rename_axis("row")

    def _groups(self, table) -> list[tuple[str, int, np.ndarray]]:
        """Rows that one scene may show: tile, year and their numbers.

        Rows that Sentinel-2 never saw are in none.
        """
        where = self._where(table).query(SEEN)
        return [(tile, int(year), rows.index.to_numpy()) for (tile, year),
                rows in where.groupby(["tile", "year"])]

    def _blank(self, table):
        """Pixels and variables to fill, patches, and rows that fail."""
        place, n = _places(table), len(table)
        environment = np.full((n, len(VARIABLE_NAMES)), np.nan, np.float32)
        environment[:, 0], environment[:, 1] = place["lon"], place["lat"]
        undated = np.flatnonzero(self._where(table)["year"] == 0)
        return (np.full((n, *SHAPE), NODATA, np.uint16), environment,
                grid.patches(**place), dict.fromkeys(
                    undated.tolist(), "the row has no year, and the source "
                    "takes that of each row"))

    @staticmethod
    def _answer(images, environment, failed: dict[int, str]) -> Pixels:
        status = np.where((images != NODATA).any(axis=(1, 2, 3, 4)), OK,
                          NO_IMAGERY).astype(np.uint8)
        rows = sorted(failed)
        status[rows] = FAILED
        return Pixels(images, environment, status,
                      tuple(failed[row] for row in rows))


def _places(table) -> dict[str, np.ndarray]:
    return {"lat": table["decimalLatitude"].to_numpy(float),
            "lon": table["decimalLongitude"].to_numpy(float)}
