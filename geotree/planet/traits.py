"""What the species of the simulated planet are, and where they grow.

A trait is the mean of the leaf type plus an effect of the family, of the
genus and of the species. Each effect depends only on the planet's seed and
the name, so a species that the planet does not know gets traits too. How
often a species is seen at a place follows from its niche.
"""

import hashlib
from functools import cached_property

import numpy as np
import pandas as pd

from geotree import globe, taxonomy
from geotree.planet.climate import TABLES, Climate, climate

LEAF_TYPES, TRAITS = TABLES["leaf types"], TABLES["traits"]
# Shares of the variance at family, genus and species level.
_SHARES = {"family": 0.50, "genus": 0.35, "species": 0.15}
_MINIMUM = 1e-4  # summed suitability under which no tree is seen
_TREE_LINE = 6.5  # °C of the warmest month
_DESERT = 150  # mm a year
_WIDTH = np.array([7.5, 1.1, 0.10])  # of a niche, in the space of _position
_CHUNK = 1024  # places at a time: little memory is quick


def stable_hash(*parts: object) -> int:
    """A 63-bit number that depends only on ``parts``, on any machine."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(),
                          "little") >> 1


def draw(classes: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Draw the traits of each species of a class table.

    Parameters
    ----------
    classes : DataFrame, K rows
        Columns ``species``, ``genus``, ``family``, ``leafType``.
    seed : int
        The planet's seed.

    Returns
    -------
    DataFrame, (K, 9) float64
        Columns of ``TRAITS``, in its units.

    Raises
    ------
    ValueError
        For a leaf type that the planet does not know.
    """
    unknown = sorted(set(classes["leafType"]) - set(LEAF_TYPES))
    if unknown:
        raise ValueError(
            f"leafType {unknown[0]!r} is not one of {', '.join(LEAF_TYPES)}. "
            "Correct the column 'leafType' of the table.")
    names = list(TRAITS)
    kind = classes["leafType"].map(LEAF_TYPES.index).to_numpy()
    means, spread, limits = (
        np.array([TRAITS[name][part] for name in names], float)
        for part in ("means", "spread", "limits"))
    values = means[:, kind].T
    for rank, share in _SHARES.items():
        effect = {
            name: np.random.default_rng(
                stable_hash(seed, rank, name)).normal(size=len(names))
            for name in classes[rank].unique()
        }
        values += np.sqrt(share) * spread * np.stack(
            [effect[name] for name in classes[rank]])
    values = np.fmax(np.fmin(values, limits[:, 1]), limits[:, 0])
    return pd.DataFrame(values, columns=names, index=classes.index)


def of_rows(table: pd.DataFrame, classes: pd.DataFrame, *,
            seed: int) -> pd.DataFrame:
    """Traits of each row of an occurrence table: (N, 9).

    ``classes`` are those of the planet; another species has what its genus
    and family suggest.
    """
    names = taxonomy.complete(
        table[["species", "genus", "family", "leafType"]], classes)
    names["leafType"] = names["leafType"].replace(
        "Unknown", classes["leafType"].mode().iat[0])
    unique = names.drop_duplicates(ignore_index=True)
    rows = pd.MultiIndex.from_frame(unique).get_indexer(
        pd.MultiIndex.from_frame(names))
    return draw(unique, seed=seed).iloc[rows]


def season(table: pd.DataFrame, seed: int) -> np.ndarray:
    """How warm the year of a row was in its part of the world: (N,), s.d. 1.
    """
    lat = np.floor(table["decimalLatitude"] / 10).astype(int)
    lon = np.floor(table["decimalLongitude"] / 10).astype(int)
    year = table["year"].fillna(0).astype(int)
    places = list(zip(year, lat, lon, strict=True))
    known = {place: np.random.default_rng(
        stable_hash(seed, "year", *place)).normal() for place in set(places)}
    return np.array([known[place] for place in places])


class Niches:
    """What lets a species grow: native range, height, climate and soil.

    Parameters
    ----------
    species : DataFrame of K rows
        ``species, nativeRange, elevationMin, elevationMax, abundance``.
    habitat : (K,) float
        From dry to wet, of :func:`draw`.
    seed : int
        Of the planet.
    """

    def __init__(self, species: pd.DataFrame, habitat, *, seed: int):
        self.habitat, self.seed = np.asarray(habitat), seed
        self._names = species["species"].to_numpy()
        self._low, self._high, self._abundance = species[
            ["elevationMin", "elevationMax", "abundance"]].to_numpy(float).T
        boxes = species["nativeRange"].str.split("|").explode()
        self._owner = boxes.index.to_numpy()
        # (J, 4) south north west east
        self._boxes = boxes.str.split(":", expand=True).to_numpy(float)

    def prior(self, *, lat, lon) -> np.ndarray:
        """Probability of each species at N places: (N, K) float64.

        Rows sum to one; a row where nothing grows is all zero.
        """
        weight = self.weight(lat=lat, lon=lon)
        total = weight.sum(axis=1, keepdims=True)
        return np.divide(weight, total, out=np.zeros_like(weight),
                         where=total > _MINIMUM)

    def weight(self, *, lat, lon) -> np.ndarray:
        """How much of each species N places bear: (N, K), 0 or more."""
        state = climate(lat=lat, lon=lon, seed=self.seed)
        niche = _position(state)[:, None] - self._centres
        fit = np.exp(-0.5 * ((niche / _WIDTH) ** 2).sum(-1))
        alive = ((state.temperature.max(axis=1) > _TREE_LINE)
                 & (state.rain.sum(axis=1) > _DESERT))
        return (self._reach(lat, lon, state) * fit * self._abundance
                * alive[:, None])

    @cached_property
    def _centres(self) -> np.ndarray:
        """Middle of each niche in the space of ``_position``: (K, 3)."""
        lat, lon, _ = _land()
        parts = []
        for start in range(0, len(lat), _CHUNK):
            part = lat[start:start + _CHUNK], lon[start:start + _CHUNK]
            state = climate(lat=part[0], lon=part[1], seed=self.seed)
            parts.append((self._reach(*part, state), _position(state)))
        reach, position = map(np.concatenate, zip(*parts, strict=True))
        weight = reach * np.cos(np.radians(lat))[:, None] + 1e-12
        centre = (weight.T @ position) / weight.sum(axis=0)[:, None]
        centre[:, 2] += 0.035 * self.habitat
        return centre

    def countries(self) -> pd.DataFrame:
        """The countries of each native range, as a flora would list them.

        Returns
        -------
        DataFrame
            ``species`` and ``countryCode``, one row for each country in
            which the coarse range of the species has land.
        """
        lat, lon, code = _land()
        south, north, west, east = self._boxes.T
        place, box = np.nonzero(
            (south <= lat[:, None]) & (lat[:, None] <= north)
            & (west <= lon[:, None]) & (lon[:, None] <= east))
        return pd.DataFrame({
            "species": self._names[self._owner[box]],
            "countryCode": code[place]}).drop_duplicates().sort_values(
                ["species", "countryCode"], ignore_index=True)

    def _reach(self, lat, lon, state: Climate) -> np.ndarray:
        """Membership in range (soft edges of 1°) and heights: (N, K)."""
        lat = np.asarray(lat, float)[:, None]
        lon = np.asarray(lon, float)[:, None]
        south, north, west, east = self._boxes.T
        inside = (_edge(lat - south) * _edge(north - lat)
                  * _edge(lon - west) * _edge(east - lon))
        outside = np.ones((len(lat), len(self.habitat)))
        for column, number in enumerate(self._owner):
            outside[:, number] *= 1 - inside[:, column]
        height = np.asarray(state.elevation)[:, None]
        return ((1 - outside) * (_edge((height - self._low + 250) / 120)
                                 * _edge((self._high + 250 - height) / 120)))


def _land() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latitude, longitude and country of the middle of each 1° of land."""
    lat, lon = np.mgrid[-59.5:84, -179.5:180].reshape(2, -1)
    code = globe.country_code(lat=lat, lon=lon)
    return tuple(part[code != ""] for part in (lat, lon, code))


def _edge(x):
    """A soft step from 0 to 1 around 0."""
    return 1 / (1 + np.exp(-4 * np.clip(x, -8, 8)))


def _position(state: Climate) -> np.ndarray:
    """Niche axes: annual °C, ln annual mm, soil water: (N, 3)."""
    return np.column_stack([state.temperature.mean(axis=1),
                            np.log(state.rain.sum(axis=1)),
                            state.soil_water[:, 0]])
