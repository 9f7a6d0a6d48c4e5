"""The grid of Sentinel-2, against PROJ and against known tiles."""

import numpy as np
import pytest
from rasterio.warp import transform

from geotree.sources import grid

PLACES = {  # latitude, longitude -> tile, EPSG
    "Munich": (48.137, 11.575, "32UPU", 32632),
    "below 48° in the same square": (47.95, 11.575, "32TPU", 32632),
    "Bergen, 32V": (60.39, 5.32, "32VKN", 32632),
    "west of 32V": (60.39, 2.9, "31VDG", 32631),
    "south of 32V": (55.9, 5.32, "31UFB", 32631),
    "Longyearbyen": (78.22, 15.65, "33XWG", 32633),
    "Svalbard's east": (78.5, 21.5, "35XLH", 32635),
    "Sydney": (-33.87, 151.21, "56HLH", 32756),
    "Quito": (-0.18, -78.47, "17MQV", 32717),
    "180° east": (-16.8, 180.0, "01KAB", 32701),
    "180° west": (-16.8, -180.0, "01KAB", 32701),
    "Taveuni": (-16.8, 179.99, "60KZG", 32760),
}


@pytest.mark.parametrize("place", PLACES)
def test_known_places(place):
    lat, lon, tile, epsg = PLACES[place]
    assert grid.tiles(lat=[lat], lon=[lon])[0] == tile
    assert grid.utm(lat=lat, lon=lon)[0][0] == epsg


def test_utm_is_that_of_proj():
    rng = np.random.default_rng(0)
    lat = np.append(rng.uniform(-80, 84, 400), [84, -80, 0, -1e-9, 56, 72])
    lon = np.append(rng.uniform(-180, 180, 400), [-180, 180, 3, 9, 12, 33])
    epsg, east, north = grid.utm(lat=lat, lon=lon)
    for row in range(len(lat)):
        (x,), (y,) = transform("EPSG:4326", f"EPSG:{epsg[row]}",
                               [lon[row]], [lat[row]])
        assert abs(x - east[row]) < 1e-3 and abs(y - north[row]) < 1e-3


def test_the_poles_have_no_zone():
    lat, lon = [90.0, -90.0, 84.01, -80.01], [0.0, 10.0, 180.0, -180.0]
    assert grid.utm(lat=lat, lon=lon)[0].tolist() == [0] * 4
    assert grid.tiles(lat=lat, lon=lon).tolist() == [""] * 4
    assert np.isfinite(grid.patches(lat=lat, lon=lon).x).all()


def test_a_tile_has_the_names_that_its_square_may_bear():
    assert grid.names("32TPU") == ["32SPU", "32TPU", "32UPU"]
    assert grid.names("33XWG") == ["33WWG", "33XWG"]
    assert grid.names("33CWM") == ["33CWM", "33DWM"]


def test_the_place_lies_in_the_middle_pixel():
    rng = np.random.default_rng(1)
    lat, lon = rng.uniform(-79, 83, 200), rng.uniform(-180, 180, 200)
    patch = grid.patches(lat=lat, lon=lon)
    _, east, north = grid.utm(lat=lat, lon=lon)
    assert (patch.x % 10 == 0).all() and (patch.y % 10 == 0).all()
    assert ((east - patch.x) // 10 == 2).all()
    assert ((patch.y - north) // 10 == 2).all()


def test_a_patch_at_the_edge_of_its_square_lies_within_the_tile():
    """Tiles reach 40 m west and 20 m north of their square."""
    patch = grid.patches(lat=48.137, lon=11.575)
    assert patch.x % 10 == 0
    west = np.floor(600_000.0 / 10) * 10 - 20
    north = np.floor(5_399_999.99 / 10) * 10 + 30
    assert west >= 600_000 - 40 and north <= 5_400_000 + 20
