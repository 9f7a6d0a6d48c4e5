"""Land and countries: known places, the date line, the poles."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path
from natural_earth import MAP, rings_of

from geotree import globe
from geotree.data import load

# ISO code, latitude, longitude: far enough from a border for 1:110 million.
PLACES = (
    ("DE", 51.5, 10.5), ("US", 40.0, -100.0), ("KE", 0.5, 37.5),
    ("AU", -25.0, 135.0), ("BR", -10.0, -55.0), ("JP", 36.3, 138.5),
    ("NZ", -44.0, 170.5), ("AQ", -82.0, 10.0),
    ("", 0.0, 0.0), ("", 30.0, -45.0), ("", -45.0, 100.0),
    ("", 42.0, 50.5),  # the Caspian, a hole in the land
)


@pytest.mark.parametrize(("code", "lat", "lon"), PLACES)
def test_known_places(code, lat, lon):
    assert globe.country_code(lat=[lat], lon=[lon])[0] == code
    assert globe.is_land(lat=[lat], lon=[lon])[0] == bool(code)


def test_a_place_by_the_shore_has_the_country_of_its_land():
    """Cape Agulhas, the tip of Taiwan, both sides of 180°; not mid-ocean."""
    shore = {"lat": [-34.78, 22.2, 66.0, 66.0, 30.0],
             "lon": [20.0, 120.8, 180.0, -180.0, -45.0]}
    assert globe.country_code(**shore, coast=True).tolist() == [
        "ZA", "TW", "RU", "RU", ""]
    lat, lon = np.meshgrid(np.linspace(-89, 89, 90), np.arange(-180, 180))
    plain, coast = (globe.country_code(lat=lat, lon=lon, coast=coast)
                    for coast in (False, True))
    assert (plain == coast)[plain != ""].all()
    assert 0 < ((coast != "") & (plain == "")).mean() < 0.05


def test_land_that_crosses_the_date_line():
    """Rings across 180° must not smear over the oceans of their rows."""
    found = globe.country_code(
        lat=[66.0, 66.0, 71.1, 71.1, -16.5, -16.5, 71.2],
        lon=[-175.0, 175.0, -179.5, 179.5, 179.5, 0.0, -90.0])
    assert found.tolist() == ["RU", "RU", "RU", "RU", "FJ", "", ""]


def test_the_poles_and_longitudes_beyond_180():
    lat, lon = [-90.0, 90.0, 40.0, 40.0], [180.0, -180.0, 260.0, -100.0]
    assert globe.country_code(lat=lat, lon=lon).tolist() == [
        "AQ", "", "US", "US"]


def test_share_of_land_is_that_of_the_earth():
    lat = np.degrees(np.arcsin(np.linspace(-1, 1, 400)))  # equal areas
    lat, lon = np.meshgrid(lat, np.linspace(-180, 179, 360), indexing="ij")
    assert globe.is_land(lat=lat, lon=lon).mean() == pytest.approx(
        0.292, abs=0.01)


def test_outline_is_flat_and_closed():
    rings = globe.land()
    assert len(rings) > 100
    for ring in rings:
        assert ring.shape[1] == 2
        np.testing.assert_allclose(ring[0], ring[-1], atol=1e-9)
        assert np.abs(np.diff(ring[:, 0])).max() < 361
        assert -90 <= ring[:, 1].min() and ring[:, 1].max() < 84
    # No edge jumps across the map, but for Antarctica's along the pole.
    long = [ring for ring in rings
            if np.abs(np.diff(ring[:, 0])).max() > 100]
    assert len(long) == 1 and long[0][:, 1].min() == -90


def flat(ring):
    """A ring on the sphere laid flat, without lines across the map.

    One that crosses 180° runs on beyond it and comes twice, once for either
    edge of the map; one around the pole is closed along it.
    """
    lon = np.unwrap(ring[:, 0], period=360)
    ring = np.column_stack([lon, ring[:, 1]])
    if abs(lon[-1] - lon[0]) > 180:
        pole = -90.0 if ring[:, 1].mean() < 0 else 90.0
        ring = np.vstack([ring, [lon[-1], pole], [lon[0], pole], ring[0]])
    return [ring + np.array([turn, 0.0]) for turn in (-360, 0, 360)
            if ring[:, 0].max() + turn > -180 + 1e-6
            and ring[:, 0].min() + turn < 180 - 1e-6]


def test_the_outline_is_that_of_the_map():
    expected = [part for ring in rings_of(MAP["objects"]["land"])
                for part in flat(ring)]
    for ring, other in zip(globe.land(), expected, strict=True):
        np.testing.assert_allclose(ring, other, atol=1e-5)


def test_the_raster_is_that_of_the_map():
    """Against another reading of the rings, at the middle of cells."""
    rng = np.random.default_rng(0)
    lat, lon = (rng.integers(0, n, 2000) * 0.25 + low + 0.125
                for n, low in ((720, -90), (1440, -180)))
    found = globe.country_code(lat=lat, lon=lon)
    expected = np.full(2000, "", "U2")
    for one in MAP["objects"]["countries"]["geometries"]:
        inside = np.zeros(2000, bool)
        for ring in rings_of(one):
            for part in flat(ring):
                inside ^= Path(part).contains_points(np.c_[lon, lat])
        expected[inside] = one["properties"]["iso_a2"]
    assert (found == expected).mean() > 0.999 and len(set(found)) > 80


@pytest.mark.parametrize(("lat", "lon"), [(91.0, 0.0), (np.nan, 5.0),
                                          (10.0, np.inf)])
def test_places_off_the_globe_are_refused(lat, lon):
    with pytest.raises(ValueError, match="1 of 2 places"):
        globe.is_land(lat=[0.0, lat], lon=[0.0, lon])


def test_shape_is_kept():
    lat = np.zeros((3, 4))
    assert globe.is_land(lat=lat, lon=lat + 20).shape == (3, 4)


def test_each_country_is_on_one_continent():
    listed = [code for some in load("continents.json").values()
              for code in some.split()]
    assert len(listed) == len(set(listed)) == 249 - 1 + 1  # ISO − AQ + XK
    drawn = set(load("countries.json")["codes"].split()) - {"AQ"}
    lost = {code for code in drawn if len(code) == 2 and code.isalpha()
            and not globe.continent([code])[0]}
    assert not lost
    assert globe.continent(["NA", "BR", "", "FR", "AQ"]).tolist() == [
        "Africa", "South America", "", "Europe", ""]
