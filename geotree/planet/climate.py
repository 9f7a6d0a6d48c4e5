"""Climate, terrain and soil of the simulated planet, as functions of place.

Latitude, elevation and the distance to the sea set the temperature; rain
falls in belts that follow the sun, more or less of it in some regions
(``geotree/data/planet.json``). The result has the real units and ranges, and
roughly the real pattern: deserts where deserts are. It is no climate data
set.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from geotree import data, globe

TABLES = data.load("planet.json")  # units in geotree/data/README.md


class Climate(NamedTuple):
    """Noise-free state of N places."""

    temperature: np.ndarray  # (N, T) °C, monthly mean
    rain: np.ndarray  # (N, T) mm a month
    daily_range: np.ndarray  # (N,) °C, mean of day maximum − minimum
    elevation: np.ndarray  # (N,) m
    slope: np.ndarray  # (N,) degrees
    aspect: np.ndarray  # (N,) degrees clockwise from north
    soil_water: np.ndarray  # (N, 3) cm³/cm³ at three depths


@lru_cache(maxsize=8)
def _waves(seed: int, number: int, longest: float, shortest: float):
    """Directions (3, J), phases (J,) and amplitudes (J,) of a noise field."""
    rng = np.random.default_rng([seed, number, int(longest * 1000)])
    length = np.geomspace(longest, shortest, number)  # degrees
    direction = rng.normal(size=(3, number))
    direction /= np.linalg.norm(direction, axis=0)
    vector = direction * 2 * np.pi / np.radians(length)
    return vector, rng.uniform(0, 2 * np.pi, number), length / length.sum()


def _noise(lat, lon, seed: int, *, longest: float, shortest: float,
           number: int = 8) -> np.ndarray:
    """Smooth noise without a seam, about −1 to 1; wavelengths in degrees."""
    vector, phase, amplitude = _waves(seed, number, longest, shortest)
    places = globe.unit_vectors(lat=lat, lon=lon)  # (N, 3)
    return np.sin(places @ vector + phase) @ (2 * amplitude)


def _bumps(lat, lon, centres: np.ndarray) -> np.ndarray:
    """exp(−d²/r²) of N places to J centres (lat, lon, radius): (N, J)."""
    south, west, radius = centres.T
    return np.exp(-_squared(lat, lon, south, west) / radius**2)


def _squared(lat, lon, south, west) -> np.ndarray:
    """Squared distance in degrees of latitude of N to J places: (N, J)."""
    dlon = (np.asarray(lon)[:, None] - west + 180) % 360 - 180
    dlon *= np.cos(np.radians(lat))[:, None]
    return (np.asarray(lat)[:, None] - south)**2 + dlon**2


def elevation(lat, lon, seed: int) -> np.ndarray:
    """Elevation in m of N places: ridges, rolling land and hills."""
    lat, lon = np.asarray(lat, float), np.asarray(lon, float)
    ridges = np.array(TABLES["ridges"], float)
    start, end = ridges[:, :2], ridges[:, 2:4]
    along = end - start  # (J, 2)
    offset = np.stack([lat, lon], -1)[:, None] - start  # (N, J, 2)
    share = (offset * along).sum(-1) / (along**2).sum(-1)
    foot = start + np.clip(share, 0, 1)[..., None] * along
    away = _squared(lat, lon, foot[..., 0], foot[..., 1])
    mountain = (np.exp(-away / ridges[:, 5]**2) * ridges[:, 4]).max(axis=1)
    rolling = 1 + _noise(lat, lon, seed, longest=25, shortest=2)
    hills = _noise(lat, lon, seed + 1, longest=0.6, shortest=0.02)
    inland = 250 * continentality(lat, lon)
    height = inland * rolling + mountain * (0.75 + 0.25 * rolling)
    relief = 15 + 0.25 * height
    return np.maximum(height + relief * hills, 0)


@lru_cache(maxsize=1)
def _sea_distance() -> np.ndarray:
    """Distance to the sea in degrees of latitude on a 1° grid (180, 360)."""
    from scipy import ndimage

    lat = np.arange(89.5, -90, -1.0)
    lon = np.arange(-179.5, 180, 1.0)
    grid = np.stack(np.meshgrid(lat, lon, indexing="ij"), -1).reshape(-1, 2)
    land = globe.is_land(lat=grid[:, 0], lon=grid[:, 1]).reshape(180, 360)
    wrapped = np.concatenate([land, land, land], axis=1)
    distance = ndimage.distance_transform_edt(wrapped)[:, 360:720]
    return ndimage.gaussian_filter(distance, 1.0, mode=("nearest", "wrap"))


def continentality(lat, lon) -> np.ndarray:
    """How far inland, 0 at the coast to 1 deep in a continent: (N,)."""
    from scipy import ndimage

    row = 89.5 - np.asarray(lat, float)
    column = (np.asarray(lon, float) + 179.5) % 360
    distance = ndimage.map_coordinates(
        _sea_distance(), [row, column], order=1, mode="nearest")
    distance = distance * np.sqrt(np.cos(np.radians(lat)))
    return 1 - np.exp(-distance / 7)


def climate(*, lat, lon, seed: int = 0) -> Climate:
    """Work out the climate, terrain and soil of N places.

    Parameters
    ----------
    lat, lon : (N,) float
        Degrees, WGS 84.
    seed : int
        The planet's seed: it moves hills and showers, not continents.

    Returns
    -------
    Climate
        Without measurement noise; see chapter "The simulated planet".
    """
    lat = np.asarray(lat, float)
    lon = np.asarray(lon, float)
    height, slope, aspect = _terrain(lat, lon, seed)
    temperature = _temperature(lat, lon, height)
    rain = _rain(lat, lon, height, seed)
    annual = rain.sum(axis=1)
    daily_range = 6 + 9 * np.exp(-annual / 700)
    damp = _noise(lat, lon, seed + 2, longest=0.5, shortest=0.01)
    surface = (0.12 + 0.24 / (1 + np.exp(-(annual - 700) / 400))
               + 0.05 * damp - 0.002 * slope)
    depths = np.clip(surface[:, None] + [0.0, 0.008, 0.015], 0.02, 0.65)
    return Climate(temperature, rain, daily_range, height, slope, aspect,
                   depths)


def _terrain(lat, lon, seed):
    step = 0.00027  # degrees, about 30 m
    shrink = np.maximum(np.cos(np.radians(lat)), 0.01)
    east = step / shrink
    metres = 2 * step * globe.METRES
    places = [(lat, lon), (lat + step, lon), (lat - step, lon),
              (lat, lon + east), (lat, lon - east)]
    height, north, south, right, left = np.split(
        elevation(np.concatenate([p[0] for p in places]),
                  np.concatenate([p[1] for p in places]), seed), 5)
    dz_dy, dz_dx = (north - south) / metres, (right - left) / metres
    slope = np.degrees(np.arctan(np.hypot(dz_dx, dz_dy)))
    aspect = np.degrees(np.arctan2(-dz_dx, -dz_dy)) % 360
    return height, slope, aspect


def _temperature(lat, lon, height) -> np.ndarray:
    inland = continentality(lat, lon)
    polar = np.abs(lat)
    maritime = 6 * (1 - inland) / (1 + np.exp(-(polar - 38) / 6))
    gulf_stream = _bumps(lat, lon, np.array([[57.0, 5.0, 17.0]]))[:, 0]
    zonal = 27.5 - 0.0092 * (polar**2 - (polar - 45).clip(0)**2)
    annual = zonal + maritime + 5 * gulf_stream - 5.8e-3 * height
    swing = (1 + 0.40 * polar * (0.35 + 0.65 * inland)
             - 3 * gulf_stream).clip(0.8)
    month = np.arange(12)
    season = -np.cos(2 * np.pi * (month - 0.5) / 12)  # (T,) warmest in July
    side = np.tanh(lat / 8)
    return annual[:, None] + (swing * side)[:, None] * season


def _rain(lat, lon, height, seed) -> np.ndarray:
    month = np.arange(12)
    season = -np.cos(2 * np.pi * (month - 0.5) / 12)
    belt = 2 + 11 * season  # latitude of the tropical rain belt, (T,)
    tropics = 250 * np.exp(-((lat[:, None] - belt) / 10) ** 2)
    polar = np.abs(lat)
    storms = 72 * np.exp(-((polar - 46) / 15) ** 2)
    side = np.tanh(lat / 8)[:, None] * season  # +1 in local summer
    storms = storms[:, None] * (1 + 0.3 * side)
    rain = tropics + storms + 6
    centres = np.array(TABLES["rain"], float)
    weight = _bumps(lat, lon, centres[:, :3])
    rain = rain * np.exp(weight @ np.log(centres[:, 3]))[:, None]
    dry = _bumps(lat, lon, np.array(TABLES["dry summers"], float)).max(axis=1)
    rain = rain * (1 - 0.85 * dry[:, None] * side.clip(-0.6, 1))
    inland = continentality(lat, lon)
    lift = 1 + 0.2 * np.minimum(height, 2500) / 1000
    shower = np.exp(0.3 * _noise(lat, lon, seed + 3, longest=6, shortest=1))
    local = (lift * shower * np.exp(-0.6 * inland))[:, None]
    return np.maximum(rain * local, 0.5)


def bioclim(state: Climate) -> np.ndarray:
    """The 19 bioclimatic variables as WorldClim stores them.

    Returns
    -------
    (N, 19) float64
        bio01 … bio19 in stored units (°C × 10, bio04 °C × 1,000, mm, %).

    Notes
    -----
    Definitions of WorldClim: a quarter is any three consecutive months,
    bio04 a population standard deviation, × 100 of tenths of a degree,
    bio15 a coefficient of variation of (1 + rain).
    """
    mean, rain = state.temperature, state.rain
    highest = mean.max(axis=1) + state.daily_range / 2
    lowest = mean.min(axis=1) - state.daily_range / 2
    warm, wet = _quarters(mean) / 3, _quarters(rain)
    rows = np.arange(len(mean))
    wettest, driest = wet.argmax(axis=1), wet.argmin(axis=1)
    warmest, coldest = warm.argmax(axis=1), warm.argmin(axis=1)
    return np.stack([
        10 * mean.mean(axis=1), 10 * state.daily_range,
        100 * state.daily_range / (highest - lowest), 1000 * mean.std(axis=1),
        10 * highest, 10 * lowest, 10 * (highest - lowest),
        10 * warm[rows, wettest], 10 * warm[rows, driest],
        10 * warm[rows, warmest], 10 * warm[rows, coldest],
        rain.sum(axis=1), rain.max(axis=1), rain.min(axis=1),
        100 * rain.std(axis=1) / (1 + rain.mean(axis=1)),
        wet[rows, wettest], wet[rows, driest],
        wet[rows, warmest], wet[rows, coldest],
    ], axis=1)


def _quarters(monthly: np.ndarray) -> np.ndarray:
    """Sums over each month and the two after it, December wraps: (N, T)."""
    return monthly + np.roll(monthly, -1, axis=1) + np.roll(
        monthly, -2, axis=1)
