"""Pixels of other tools become digital numbers, or are refused."""

import numpy as np
import pytest
import xarray as xr

from geotree import checks, variables
from geotree.variables import NODATA, digital_numbers


def one(value, kind=np.float32):
    """Two samples of a plausible spread, with a value at a known place."""
    images = np.linspace(300, 5000, 2 * 12 * 10 * 25).reshape(
        2, 12, 10, 5, 5).astype(kind)
    images[1, 3, 2, 4, 0] = value
    return images


@pytest.mark.parametrize(("images", "options"), [
    (one(np.nan), {}),
    (one(-9999), {"nodata": -9999}),
    (one(-9999, np.int16), {"nodata": -9999}),
    (one(0, np.int16), {"nodata": 0}),
    (one(NODATA, np.int32), {}),
    (one(NODATA, np.uint16), {"nodata": 0}),
    (one(np.nan) / 10_000, {}),
    (one(np.nan, np.float64) / 10_000, {"unit": "reflectance"}),
    (one(np.nan) + 1000, {"offset": 1000}),
    (one(np.nan) / 10_000 + 0.1, {"offset": 1000}),
    *((xr.DataArray(values, attrs=attrs), options)
      for values, attrs, options in (
          (one(7, np.int16), {"_FillValue": 7}, {}),
          (one(7), {"nodata": 7, "scale_factor": 1.0, "add_offset": 0.0}, {}),
          (one(np.nan), {"scale_factor": 1e-4, "missing_value": [7, 9]}, {}),
          (one(np.nan) / 10_000, {"scale_factor": 1e-4, "add_offset": -0.1},
           {}),  # decoded
          (one(np.nan) + 1000, {"add_offset": -0.1, "scale_factor": 1e-4},
           {"offset": 1000}),
          (one(np.nan) + 1000, {"add_offset": -1000}, {"offset": 1000}))),
])
def test_every_unit_gives_the_same_numbers(images, options):
    before = images.copy()
    found = digital_numbers(images, **options)
    np.testing.assert_array_equal(images, before)
    checks.images(found)
    expected = np.rint(one(0, np.float64))
    expected[1, 3, 2, 4, 0] = NODATA
    assert found.dtype == np.uint16
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found == NODATA).sum() == 1
    assert found[1, 3, 2, 4, 0] == NODATA


def test_dark_pixels_after_the_offset_are_zero():
    found = digital_numbers(np.array([900, 1000, 1001, 20_000]), offset=1000)
    assert found.tolist() == [0, 0, 1, 19_000]


def test_nothing_but_missing_is_missing():
    assert (digital_numbers(np.full(3, np.nan)) == NODATA).all()


@pytest.mark.parametrize(("images", "options", "message"), [
    (one(-9999), {}, "-9999 to 5000.*nodata="),
    (one(-32768, np.int16), {}, "nodata="),
    (one(np.inf), {}, "nodata="),
    (one(NODATA), {}, "nodata="),
    (one(7) / 10_000, {"unit": "reflectance"}, None),
    (one(700_000) / 10_000, {"unit": "reflectance"}, "expected -2000"),
    (np.array([0.0, 1.0]), {}, "reflectance or digital numbers"),
    (np.array([0, 1, 2]), {}, "reflectance or digital numbers"),
    (np.array([12.5, 40.2]), {}, "reflectance or digital numbers"),
    (one(5, np.int16), {"unit": "reflectance"}, "whole numbers"),
    (one(5), {"unit": "percent"}, "'percent'"),
    (np.array([3, 255], np.uint8), {}, "uint8"),
    (np.array(["a"]), {}, "expected whole numbers"),
    (xr.DataArray(one(9), attrs={"scale_factor": 1e-4, "add_offset": -0.1}),
     {}, "add_offset -0.1.*offset=1000"),
    (xr.DataArray(one(9), attrs={"add_offset": -1000}), {"offset": 500},
     "offset of 500.*offset=1000"),
    (xr.DataArray(one(9), attrs={"scale_factor": 2e-4}), {}, "Make reflect"),
])
def test_what_can_mean_two_things_is_refused(images, options, message):
    if message is None:
        assert digital_numbers(images, **options).max() == 5000
        return
    with pytest.raises(ValueError, match=message):
        digital_numbers(images, **options)


def test_the_way_back_is_reflectance():
    images = one(np.nan)
    back = variables.reflectance(digital_numbers(images))
    np.testing.assert_allclose(back, images / 10_000, atol=1e-4)
