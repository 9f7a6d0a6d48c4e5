"""One sphere: distances, neighbours and blocks against values by hand."""

import numpy as np
import pandas as pd
import pytest

from geotree import globe


def table(lat, lon):
    return pd.DataFrame({"decimalLatitude": lat, "decimalLongitude": lon})


def test_distances_by_hand():
    # A quarter of a meridian, and half of the equator.
    assert globe.distance_km(0, 0, 90, 0) == pytest.approx(10_007.557, abs=.01)
    assert globe.distance_km(0, 0, 0, 180) == pytest.approx(20_015.11, abs=.1)
    # 180° west is 180° east; one degree of longitude at 60° is half of one.
    assert globe.distance_km(0, -180, 0, 180) == pytest.approx(0, abs=1e-9)
    assert globe.distance_km(60, 0, 60, 1) == pytest.approx(
        globe.METRES / 2000, rel=1e-4)


def test_unit_vectors_by_hand():
    np.testing.assert_allclose(
        globe.unit_vectors(lat=[0, 0, 90, 0], lon=[0, 90, 13, 180]),
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]], atol=1e-15)


def test_chords_and_arcs_are_inverse():
    km = np.array([0, 0.001, 1, 500, 10_000, 20_000])
    np.testing.assert_allclose(globe.arc_km(globe.chord(km)), km, rtol=1e-9)


def test_the_nearest_across_the_date_line_and_the_pole():
    ours = table([0.0, 89.0], [179.9, 0.0])
    others = table([0.0, 0.0, 89.0], [-179.9, 170.0, 180.0])
    np.testing.assert_allclose(
        globe.nearest_km(ours, others),
        [0.2 * globe.METRES / 1000, 2 * globe.METRES / 1000], rtol=1e-9)


def test_nearest_is_the_least_of_all_distances():
    rng = np.random.default_rng(0)
    one = table(rng.uniform(-90, 90, 40), rng.uniform(-180, 180, 40))
    other = table(rng.uniform(-90, 90, 70), rng.uniform(-180, 180, 70))
    every = globe.distance_km(
        one["decimalLatitude"].to_numpy()[:, None],
        one["decimalLongitude"].to_numpy()[:, None],
        other["decimalLatitude"].to_numpy(),
        other["decimalLongitude"].to_numpy())
    np.testing.assert_allclose(globe.nearest_km(one, other),
                               every.min(axis=1), rtol=1e-7)


def test_blocks_meet_at_their_south_west_corner():
    lat = [0.0, 0.99, 1.0, -0.01, 0.5, 0.5]
    lon = [0.0, 0.99, 0.5, 0.5, 359.5, -0.5]
    block = globe.blocks(lat=lat, lon=lon, degrees=1.0)
    assert block[0] == block[1]
    assert len({block[0], block[2], block[3], block[4]}) == 4
    assert block[4] == block[5]  # 359.5° is −0.5°
    with pytest.raises(ValueError, match="degrees"):
        globe.blocks(lat=lat, lon=lon, degrees=0)
