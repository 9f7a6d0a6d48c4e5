"""Where records lie: in which cell or tile, beside which stand-in for a place.

Centres of countries, capitals and gardens stand in for places that nobody
noted; ``geotree/data/README.md`` says whose they are. Centres of provinces
are not among them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from geotree import checks, globe
from geotree.data import load
from geotree.occurrences.table import leave, validate
from geotree.sources.grid import tiles

PLACE = ["decimalLatitude", "decimalLongitude"]


def stand_ins() -> pd.DataFrame:
    """All reference points: ``kind, name, latitude, longitude``.

    ``kind`` is ``country``, ``capital`` or ``garden``.
    """
    return load("reference_points.csv")


def metres_to(table: pd.DataFrame, kind: str) -> np.ndarray:
    """Distance (m) of N records from the nearest stand-in of a kind: (N,)."""
    points = stand_ins()
    points = points[points["kind"] == kind].rename(columns={
        "latitude": PLACE[0], "longitude": PLACE[1]})
    return 1000 * globe.nearest_km(table, points)


def cell_diagonal(lat) -> np.ndarray:
    """Diagonal (m) of the cell of 0.2° in which iNaturalist blurs, (N,).

    It is what iNaturalist then gives as the uncertainty, at the least.
    """
    side = 0.2 * globe.METRES
    middle = np.floor(np.asarray(lat, float) / 0.2) * 0.2 + 0.1
    return side * np.hypot(1, np.cos(np.radians(middle)))


def grid_cells(table: pd.DataFrame, *, metres: float) -> np.ndarray:
    """Number the cell of an equal-area grid that each record lies in.

    Parameters
    ----------
    metres : float
        Side of a cell. Columns get fewer towards the poles, so that a cell
        is as wide as it is high.

    Returns
    -------
    (N, 2) int64
        Row from the south pole, column from the antimeridian.
    """
    checks.number(metres, name="metres", low=1e-3)
    lat, lon = np.nan_to_num(table[PLACE].to_numpy(float)).T
    per_degree = globe.METRES / metres
    row = np.floor((lat + 90) * per_degree)
    centre = np.radians((row + 0.5) / per_degree - 90)
    column = np.floor((lon + 180) % 360 * per_degree * np.cos(centre))
    return np.stack([row, column], axis=1).astype(np.int64)


def by_tile(table: pd.DataFrame) -> pd.DataFrame:
    """Put the records of a Sentinel-2 tile together, index 0 … N-1.

    Sources of real pixels serve neighbours with one request.
    """
    tile = tiles(lat=table["decimalLatitude"], lon=table["decimalLongitude"])
    # Codes sort many times faster than text.
    order = np.lexsort((table["gbifID"], pd.factorize(tile, sort=True)[0]))
    result = table.iloc[order].reset_index(drop=True)
    result.attrs = dict(table.attrs)
    return result


def thin(table: pd.DataFrame, *, metres: float = 100.0) -> pd.DataFrame:
    """Keep one record per species and grid cell: the best located.

    Parameters
    ----------
    table : DataFrame
        Occurrence table.
    metres : float
        Side of a cell. Records on either side of a border may be nearer to
        each other than this.

    Returns
    -------
    DataFrame
        In the table's order, index 0 … N-1. Of several records the one of
        the smallest known uncertainty stays, then of the smallest gbifID.
        ``attrs["left out"]`` counts the others.
    """
    table = validate(table)
    order = pd.DataFrame(grid_cells(table, metres=metres)).assign(
        species=table["species"], id=table["gbifID"],
        radius=table["coordinateUncertaintyInMeters"]).sort_values(
        ["radius", "id"], na_position="last")
    again = order.duplicated(["species", 0, 1]).sort_index()
    return leave(table, again, f"another of its species is in the cell of "
                 f"{metres:g} m")
