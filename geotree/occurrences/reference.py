"""Places that stand in for others: centres of countries, capitals, gardens.

See ``geotree/data/README.md`` for the sources. Centres of provinces are not
among them, and a country has one centre here where gazetteers know several.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import numpy as np
import pandas as pd

from geotree import globe


@lru_cache(maxsize=1)
def points() -> pd.DataFrame:
    """All reference points: ``kind, name, latitude, longitude``.

    ``kind`` is ``country``, ``capital`` or ``garden``.
    """
    path = resources.files("geotree.data") / "reference_points.csv"
    with path.open(encoding="utf-8") as file:
        return pd.read_csv(file, comment="#")


def metres_to(table: pd.DataFrame, places) -> np.ndarray:
    """Distance (m) of N records from the nearest of some places, (N,).

    Parameters
    ----------
    table : DataFrame
        Occurrence table.
    places : str or (P, 2) float
        A kind of :func:`points`, or latitude and longitude; of none, all
        are infinitely far.
    """
    if isinstance(places, str):
        places = points().set_index("kind").loc[
            places, ["latitude", "longitude"]]
    places = np.asarray(places, float).reshape(-1, 2)
    if not len(places):
        return np.full(len(table), np.inf)
    return 1000 * globe.nearest_km(table, pd.DataFrame(
        places, columns=["decimalLatitude", "decimalLongitude"]))


def cell_diagonal(lat) -> np.ndarray:
    """Diagonal (m) of the cell of 0.2° in which iNaturalist blurs, (N,).

    It is what iNaturalist then gives as the uncertainty, at the least.
    """
    side = 0.2 * globe.METRES
    middle = np.floor(np.asarray(lat, float) / 0.2) * 0.2 + 0.1
    return side * np.hypot(1, np.cos(np.radians(middle)))
