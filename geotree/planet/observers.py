"""Who looks where: occurrence records of the simulated planet.

People record trees near home, so places are clustered and uneven. Which
species is seen at a place follows the planet's prior exactly, or else its
posterior would not be the optimum. For the audit to find, some records get
the faults of real tables: see the page "What changed since the release".
"""

from functools import partial

import numpy as np
import pandas as pd

from geotree import checks, globe
from geotree.planet.climate import TABLES
from geotree.planet.traits import stable_hash

ALONE = 0.45  # share of places with no crowd around
NEAR = 0.35  # share of records close to an earlier one
_CHUNK = 1024  # places
_IDS = 10_000_000  # of a draw
DATASETS = ("Citizen observations", "Forest inventory", "Park surveys")


def occurrences(planet, n: int, *, seed: int, faults: float) -> pd.DataFrame:
    """Draw ``n`` records; see :meth:`Planet.occurrences`."""
    # Beyond, ids would be those of the next draw.
    checks.number(n, name="n", low=1, high=_IDS, whole=True)
    rng = checks.rng(planet.seed, seed, n)
    lat, lon = _places(planet, n, rng)
    number = _seen(planet, lat, lon, rng.random((n, 1)))
    rows = planet.classes.iloc[number].reset_index(drop=True)
    dataset = rng.choice(len(DATASETS), n, p=[0.7, 0.2, 0.1])
    keys = {name: stable_hash("taxonKey", name) % 7_000_000 + 2_000_000
            for name in planet.classes["species"]}
    table = pd.DataFrame({
        "gbifID": 1_000_000_000 + int(seed) * _IDS + np.arange(n),
        "decimalLatitude": lat.round(6),
        "decimalLongitude": lon.round(6),
        "coordinateUncertaintyInMeters": np.where(
            rng.random(n) < 0.05, np.nan,
            np.exp(rng.normal(2.2, 0.6, n)).round(1)),
        "countryCode": globe.country_code(lat=lat, lon=lon),
        "year": rng.integers(2017, 2025, n),
        "datasetKey": [f"simulated-{number}" for number in dataset],
        "datasetName": [DATASETS[number] for number in dataset],
        "license": rng.choice(["CC0_1_0", "CC_BY_4_0"], n),
        "taxonKey": rows["species"].map(keys).astype(np.int64),
        **{name: rows[name] for name in
           ("species", "genus", "family", "leafType")},
    })
    table.attrs = {"source": f"simulated planet, seed {planet.seed}, "
                             f"draw {seed}"}
    return plant(table, share=faults, rng=rng) if faults else table


def _seen(planet, lat, lon, chance):
    """Number of the species that is seen at each place, by its prior; -1
    where nothing grows. Some at a time: all priors would fill the memory.
    """
    number = np.empty(len(lat), np.int64)
    for start in range(0, len(lat), _CHUNK):
        rows = slice(start, start + _CHUNK)
        prior = planet.prior(lat=lat[rows], lon=lon[rows])
        found = (prior.cumsum(axis=1) < chance[rows]).sum(axis=1)
        number[rows] = np.where(prior.any(axis=1), found.clip(
            max=prior.shape[1] - 1), -1)
    return number


def _grows(planet, lat, lon):
    """Whether anything grows at each place."""
    return _seen(planet, lat, lon, np.zeros((len(lat), 1))) >= 0


def _places(planet, n, rng):
    """Clustered places on land where something grows."""
    lat, lon = [], []
    found = 0
    while found < n:
        new_lat, new_lon = _candidates(max(2 * (n - found), 256), rng)
        good = _grows(planet, new_lat, new_lon)
        near = np.repeat(np.flatnonzero(good), 2)
        near = near[rng.random(len(near)) < NEAR / (2 * (1 - NEAR))]
        step = rng.exponential(0.012, (2, len(near))) * rng.choice(
            [-1, 1], (2, len(near)))
        close_lat = new_lat[near] + step[0]
        close_lon = (new_lon[near] + step[1] + 180) % 360 - 180
        keep = globe.is_land(lat=close_lat, lon=close_lon)
        close_lat, close_lon = close_lat[keep], close_lon[keep]
        kept = _grows(planet, close_lat, close_lon)
        lat += [new_lat[good], close_lat[kept]]
        lon += [new_lon[good], close_lon[kept]]
        found += int(good.sum() + kept.sum())
    order = rng.permutation(found)[:n]
    return tuple(np.concatenate(part)[order] for part in (lat, lon))


def _candidates(n, rng):
    """Places on land, even by area for some, in crowds for the others."""
    crowds = np.array(TABLES["crowds"], float)
    number = rng.choice(len(crowds), n, p=crowds[:, 3] / crowds[:, 3].sum())
    alone = rng.random(n) < ALONE
    even_lat = np.degrees(np.arcsin(rng.uniform(-0.85, 0.96, n)))
    even_lon = rng.uniform(-180, 180, n)
    spread = crowds[number, 2:3] * rng.normal(size=(n, 2))
    lat = np.where(alone, even_lat, crowds[number, 0] + spread[:, 0])
    lon = np.where(alone, even_lon, crowds[number, 1] + spread[:, 1]
                   / np.cos(np.radians(crowds[number, 0])))
    lon = (lon + 180) % 360 - 180
    lat = lat.clip(-58, 80)
    land = globe.is_land(lat=lat, lon=lon)
    return lat[land], lon[land]


def plant(table: pd.DataFrame, *, share: float,
          rng: np.random.Generator) -> pd.DataFrame:
    """Spoil a share of the rows; ``attrs["faults"]`` tells which.

    Parameters
    ----------
    table : DataFrame
        Occurrence table; not modified.
    share : float
        0 to 1, over all kinds together.
    rng : numpy Generator

    Returns
    -------
    DataFrame
        The same rows in the same order; ``attrs["faults"]`` maps each kind
        to the list of ``gbifID`` it was planted in.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"faults is {share}, expected 0 to 0.5.")
    table = table.copy()
    rows = rng.permutation(len(table))
    rows = rows[:max(round(share * len(table)), len(_PLANT))]
    planted = {}
    for number, (kind, spoil) in enumerate(_PLANT.items()):
        chosen = table.index[rows[number::len(_PLANT)]]
        spoil(table, chosen, rng)
        planted[kind] = table.loc[chosen, "gbifID"].tolist()
    table.attrs = {**table.attrs, "faults": planted}
    return table


def _obscured(table, rows, rng):
    shift = rng.uniform(-0.1, 0.1, (2, len(rows)))
    table.loc[rows, "decimalLatitude"] += shift[0]
    table.loc[rows, "decimalLongitude"] += shift[1]
    table.loc[rows, "coordinateUncertaintyInMeters"] = 28_000.0


def _rounded(table, rows, rng):
    for name in ("decimalLatitude", "decimalLongitude"):
        table.loc[rows, name] = table.loc[rows, name].round(1)


def _unresolved(table, rows, rng):
    table.loc[rows, "species"] = table.loc[rows, "genus"] + " spec"


def _duplicate(table, rows, rng):
    others = table.index.difference(rows)
    source = table.loc[others[:len(rows)]]
    for name in table.columns.drop("gbifID"):
        table.loc[rows, name] = source[name].to_numpy()


def _set(values, table, rows, rng):
    for name, value in values.items():
        table.loc[rows, name] = value


_PLANT = {"obscured": _obscured, "rounded": _rounded,
          "unresolved": _unresolved, "duplicate": _duplicate,
          **{kind: partial(_set, values)
             for kind, values in TABLES["faults"].items()}}
