"""Climate, terrain and soil of the simulated planet, as functions of place.

Latitude, elevation and the distance to the sea set the temperature; rain
falls in belts that follow the sun, more or less of it in the regions named
below. The result has the real units and ranges, and roughly the real
pattern: deserts where deserts are. It is no climate data set.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from geotree import globe, world

# Mountain ranges: south/west end, north/east end (latitude, longitude),
# height of the crest in m, half width in degrees.
RIDGES = (
    (10, -75, -18, -70, 3600, 2.2), (-18, -69, -45, -71.5, 3000, 1.8),
    (32, -106, 52, -117, 2200, 4.0), (52, -120, 62, -140, 1500, 3.5),
    (36, -119, 49, -121.5, 1700, 1.2), (18, -98, 30, -106, 2000, 2.0),
    (34, -84, 44, -73, 900, 1.5), (44, 6.5, 47, 14, 2000, 1.0),
    (42.5, -1, 42.5, 2, 1700, 0.7), (45, 25, 49, 20, 1100, 1.2),
    (37, -4, 40, -5, 1000, 1.5), (60, 7, 68, 17, 1000, 1.8),
    (40, 20, 43, 23, 1300, 1.5), (38, 32, 41, 44, 1700, 2.0),
    (42, 41, 42.5, 47, 2300, 0.9), (32, 48, 36, 53, 2000, 1.8),
    (35, 73, 28, 85, 4300, 2.5), (28, 85, 29, 97, 4300, 2.5),
    (33, 80, 35, 100, 4200, 4.5), (41, 72, 43, 87, 2800, 1.8),
    (49, 88, 52, 98, 1900, 2.5), (25, 100, 32, 103, 2800, 2.5),
    (54, 58, 65, 60, 700, 1.2), (34.5, 136, 37, 139, 1300, 0.9),
    (60, 130, 64, 145, 900, 3.5), (5, 38, 13, 39, 2200, 2.3),
    (-5, 36, 2, 36, 1700, 2.0), (-30, 29, -24, 31, 1500, 1.8),
    (31, -8, 35, 0, 1700, 1.2), (-37, 147, -29, 151, 900, 1.5),
    (-45, 168, -41, 173, 1500, 0.8), (-7, 138, -4, 144, 2400, 1.3),
    (11, 76, 18, 74, 900, 0.8), (-23, -47, -19, -43, 900, 2.0),
)

# Where it rains more or less than the belts say: latitude, longitude,
# radius in degrees, factor.
RAIN = (
    (23, 5, 13, 0.06), (23, 28, 12, 0.04), (23, 46, 9, 0.10),
    (29, 62, 8, 0.25), (41, 62, 9, 0.35), (40, 88, 10, 0.22),
    (44, 104, 8, 0.40), (26, 71, 5, 0.35), (-25, 131, 12, 0.28),
    (-24, 17, 7, 0.22), (-23, -69, 5, 0.05), (33, -113, 7, 0.28),
    (40, -116, 6, 0.45), (-44, -69, 6, 0.35), (9, 45, 6, 0.35),
    (45, -104, 9, 0.65), (29, -102, 6, 0.55), (-8, -39, 5, 0.5),
    (32, -86, 9, 1.9), (38, -78, 7, 1.3), (27, 113, 9, 2.2),
    (24, 92, 6, 2.6), (35, 137, 5, 2.0), (37, 127, 4, 1.7),
    (47, -124, 4, 2.4), (55, -131, 5, 2.6), (57, -4, 5, 1.6),
    (-43, 170, 4, 2.4), (-38, 146, 4, 1.3), (-41, -73, 4, 2.6),
    (-28, -53, 8, 2.0), (-30, 153, 4, 1.7), (-30, 31, 4, 1.6),
    (-2, 115, 12, 1.4), (-3, -65, 12, 1.2), (4, -77, 3, 1.9),
    (45, 10, 5, 1.4), (60, 8, 4, 1.6), (42, 43, 4, 1.5),
)

# Dry summers: latitude, longitude, radius in degrees.
SUMMER_DRY = (
    (38, -4, 8), (39, 15, 8), (37, 30, 8), (33, -6, 6), (34, 37, 5),
    (38, -121, 6), (44, -122, 4), (-34, -71, 5), (-33, 19, 4),
    (-33, 117, 5), (-35, 138, 4),
)


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
    dlat = np.asarray(lat)[:, None] - centres[:, 0]
    dlon = np.asarray(lon)[:, None] - centres[:, 1]
    dlon = (dlon + 180) % 360 - 180
    dlon *= np.cos(np.radians(lat))[:, None]
    return np.exp(-(dlat**2 + dlon**2) / centres[:, 2] ** 2)


def elevation(lat, lon, seed: int) -> np.ndarray:
    """Elevation in m of N places: ridges, rolling land and hills."""
    lat, lon = np.asarray(lat, float), np.asarray(lon, float)
    ridges = np.array(RIDGES, float)
    start, end = ridges[:, :2], ridges[:, 2:4]
    along = end - start  # (J, 2)
    offset = np.stack([lat, lon], -1)[:, None] - start  # (N, J, 2)
    share = (offset * along).sum(-1) / (along**2).sum(-1)
    foot = start + np.clip(share, 0, 1)[..., None] * along
    dlat = lat[:, None] - foot[..., 0]
    dlon = ((lon[:, None] - foot[..., 1] + 180) % 360 - 180)
    dlon *= np.cos(np.radians(lat))[:, None]
    crest = np.exp(-(dlat**2 + dlon**2) / ridges[:, 5] ** 2) * ridges[:, 4]
    mountain = crest.max(axis=1)
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
    land = world.is_land(lat=grid[:, 0], lon=grid[:, 1]).reshape(180, 360)
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
    annual = (27.5 - 0.0092 * polar**2 + maritime + 5 * gulf_stream
              - 5.8e-3 * height)
    swing = (1 + 0.34 * polar * (0.35 + 0.65 * inland)
             - 3 * gulf_stream).clip(0.8)
    month = np.arange(12)
    season = -np.cos(2 * np.pi * (month - 0.5) / 12)  # (T,) warmest in July
    side = np.tanh(lat / 8)
    return annual[:, None] + (swing * side)[:, None] * season


def _rain(lat, lon, height, seed) -> np.ndarray:
    month = np.arange(12)
    season = -np.cos(2 * np.pi * (month - 0.5) / 12)
    belt = 2 + 9 * season  # latitude of the tropical rain belt, (T,)
    tropics = 250 * np.exp(-((lat[:, None] - belt) / 9.5) ** 2)
    polar = np.abs(lat)
    storms = 72 * np.exp(-((polar - 46) / 15) ** 2)
    side = np.tanh(lat / 8)[:, None] * season  # +1 in local summer
    storms = storms[:, None] * (1 + 0.3 * side)
    rain = tropics + storms + 6
    centres = np.array(RAIN, float)
    weight = _bumps(lat, lon, centres[:, :3])
    rain = rain * np.exp(weight @ np.log(centres[:, 3]))[:, None]
    dry = _bumps(lat, lon, np.array(SUMMER_DRY, float)).max(axis=1)
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
        bio01 … bio19 in stored units (°C × 10, bio04 °C × 100, mm, %).

    Notes
    -----
    Definitions of WorldClim: a quarter is any three consecutive months,
    bio04 a population standard deviation, bio15 a coefficient of variation
    of (1 + rain).
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
        100 * state.daily_range / (highest - lowest), 100 * mean.std(axis=1),
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
