"""How far apart records are, and whether train and test are far enough.

Distances on the sphere, and the check that no record, place or species is
on both sides of a split. Explained in chapter 04.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

EARTH = 6371.0088  # km, mean radius
PARTS = ("train", "validation", "test")


class LeakageError(ValueError):
    """Test records share something with training records."""


def distance_km(lat1, lon1, lat2, lon2) -> np.ndarray:
    """Great-circle distance in km of places in degrees, broadcast."""
    a, b, c, d = map(np.radians, (lat1, lon1, lat2, lon2))
    half = (np.sin((c - a) / 2) ** 2
            + np.cos(a) * np.cos(c) * np.sin((d - b) / 2) ** 2)
    return 2 * EARTH * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def places(table: pd.DataFrame) -> np.ndarray:
    """Latitude and longitude in radians: (N, 2), as BallTree wants them."""
    return np.radians(table[["decimalLatitude", "decimalLongitude"]]
                      .to_numpy(float))


def nearest_km(table: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    """Distance in km from each row to the nearest row of ``others``."""
    from sklearn.neighbors import BallTree

    tree = BallTree(places(others), metric="haversine")
    distance, _ = tree.query(places(table), k=1)
    return distance[:, 0] * EARTH


def check_leakage(table: pd.DataFrame, parts: pd.Series, *,
                  km: float = 0.0, species: bool = False) -> None:
    """Raise :class:`LeakageError` if train and test share something.

    By record always: no ``gbifID`` in two of train, validation and test.

    Parameters
    ----------
    table : DataFrame
        Occurrence table.
    parts : Series
        From :func:`split`, row by row.
    km : float
        No row of test or validation may be nearer than this to a training
        row; 0: not checked.
    species : bool
        No test species may be in train or validation (held-out species).
    """
    if len(parts) != len(table):
        raise ValueError(f"{len(parts)} parts for {len(table)} rows, "
                         "expected one each.")
    column = np.asarray(parts)
    rows = {name: table[column == name] for name in PARTS}
    if rows["train"].empty or rows["test"].empty:
        raise LeakageError("train or test has no rows: nothing to compare.")
    for one, other in (("train", "test"), ("train", "validation"),
                       ("validation", "test")):
        check_shared(rows[one], rows[other], one, other)
        if species and other == "test":
            check_shared(rows[one], rows[other], one, other,
                         column="species", what="species")
    if km > 0:
        for name in ("test", "validation"):
            if len(rows[name]):
                _check_near(rows["train"], rows[name], name, km)


def check_shared(first: pd.DataFrame, second: pd.DataFrame, one: str,
                 other: str, *, column: str = "gbifID",
                 what: str = "records") -> None:
    """Raise ``LeakageError`` if two tables share a record, or a species.

    ``one`` and ``other`` are their names, for the message.
    """
    shared = sorted(set(first[column]) & set(second[column]))
    if shared:
        more = ", …" if len(shared) > 5 else ""
        raise LeakageError(
            f"{len(shared)} {what} are both in {one} and in {other}: "
            f"{', '.join(map(str, shared[:5]))}{more}. Take them out of one "
            "of the two.")


def _check_near(train, others, name, km) -> None:
    from sklearn.neighbors import BallTree

    tree = BallTree(places(train), metric="haversine")
    # The last bit: a row at exactly that distance is far enough.
    radius = km / EARTH * (1 - 1e-9)
    pairs = tree.query_radius(places(others), radius, count_only=True)
    if not pairs.any():
        return
    distance, index = tree.query(places(others), k=1)
    row = int(distance[:, 0].argmin())
    raise LeakageError(
        f"{int(pairs.sum())} pairs of a {name} row and a training row lie "
        f"within {km} km ({int((pairs > 0).sum())} of {len(others)} {name} "
        f"rows); the closest, {distance[row, 0] * EARTH:.3f} km apart, are "
        f"gbifID {others['gbifID'].iloc[row]} and "
        f"{train['gbifID'].iloc[index[row, 0]]}. Split with "
        f"buffer_km={km} or more.")
