"""The lock of every door: what is valid passes, the rest is named."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

from geotree import checks
from geotree.variables import NODATA

SHAPE = (12, 10, 5, 5)
KINDS = ("uint16", "int32", "int64")
quick = settings(max_examples=60, deadline=None)


def pixels(value, dtype="uint16", n=2):
    return np.full((n, *SHAPE), value, dtype)


@quick
@given(st.sampled_from(KINDS), st.integers(100, 20_000), st.booleans(),
       st.booleans())
def test_whole_digital_numbers_pass(dtype, value, gaps, tensor):
    images = pixels(value, dtype)
    images[0, 3] = NODATA if gaps else value
    images = torch.from_numpy(images) if tensor else images
    assert checks.images(images) is images


@quick
@given(st.sampled_from(("float32", "float64", "float16", "int16", "int8",
                        "uint8", "bool", "complex64")), st.booleans())
def test_other_types_are_refused_with_the_way_out(dtype, tensor):
    images = np.ones((1, *SHAPE)).astype(dtype)
    images = torch.from_numpy(images) if tensor else images
    with pytest.raises(ValueError, match="digital_numbers"):
        checks.images(images)


@pytest.mark.parametrize("value", [-32768, -9999, -1, 70_000, 2**31 - 1])
def test_another_sign_for_missing_is_refused(value):
    images = pixels(300, "int32")
    images[1, 2, 3, 4, 0] = value
    with pytest.raises(ValueError, match=str(value).lstrip("-")):
        checks.images(images)


def _spread(n=9):
    return np.random.default_rng(0).integers(150, 5000, (n, *SHAPE)).astype(
        np.uint16)


OTHER_UNITS = {
    "cut to whole numbers": (lambda x: x // 5000, "10,000"),
    "percent": (lambda x: x // 100, "percent"),
    "8 bits": (lambda x: x // 20, "8 bits"),
    "100,000 for 1": (lambda x: (10 * x.astype(int)).clip(0, 65534), "unit"),
    "bytes in the other order": (lambda x: x.byteswap(), "30000"),
    "an offset taken off in 16 bits": (lambda x: x - np.uint16(2000), "dark"),
    "0 for missing": (lambda x: np.where(np.arange(12)[:, None, None, None]
                                         == 7, 0, x), "0 in all bands of "
                      "month 8 of sample 0"),
    "a masked array": (lambda x: np.ma.masked_less(x, 200), "filled"),
    "a list": (lambda x: x.tolist(), "list")}


@pytest.mark.parametrize("what", OTHER_UNITS)
def test_numbers_of_another_unit_are_refused(what):
    change, told = OTHER_UNITS[what]
    images = change(_spread())
    if type(images) is np.ndarray:
        images = np.ascontiguousarray(images, np.uint16)
        with pytest.raises(ValueError, match=told):
            checks.images(torch.from_numpy(images))
    with pytest.raises(ValueError, match=told):
        checks.images(images)


def test_nothing_seen_and_no_sample_are_no_fault():
    checks.images(pixels(NODATA))
    checks.images(pixels(0, n=0))


@quick
@given(arrays.array_shapes(min_dims=0, max_dims=6, max_side=13))
def test_another_shape_is_refused(shape):
    if shape[1:] == SHAPE and len(shape) == 5:
        return
    with pytest.raises(ValueError, match="10 bands"):
        checks.images(np.zeros(shape, np.uint16))


def test_fewer_months_only_where_they_are_asked_for():
    images = np.full((2, 3, 10, 5, 5), 300, np.uint16)
    checks.images(images, months=3)
    checks.images(images, months=None)
    with pytest.raises(ValueError, match="12 months"):
        checks.images(images)


def test_environment_is_float_and_finite_or_missing():
    values = np.zeros((3, 27), np.float32)
    values[1, 4] = np.nan
    assert checks.environment(values) is values
    assert checks.environment(torch.from_numpy(values)) is not None
    with pytest.raises(ValueError, match="int64"):
        checks.environment(np.zeros((3, 27), int))
    values[2, 1] = np.inf
    with pytest.raises(ValueError, match="row 2, latitude"):
        checks.environment(values)
    with pytest.raises(ValueError, match="27"):
        checks.environment(np.zeros((27, 3), np.float32))


@pytest.mark.parametrize(("column", "value"), [
    (0, 200), (1, 90.5), (2, -9999), (2, -32768), (5, 65535), (8, -3.4e38),
    (8, 2830), (19, -1), (19, -9999), (11, 1e20), (4, -1), (26, 32767)])
def test_a_sign_for_missing_is_no_environment(column, value):
    values = np.zeros((3, 27), np.float32)
    values[1, column] = value
    for one in (values, torch.from_numpy(values)):
        with pytest.raises(ValueError, match="in row 1, .*Missing is NaN"):
            checks.environment(one)


def test_soil_moisture_in_true_units_is_refused():
    values = np.full((3, 27), np.nan, np.float32)
    values[:, 5:8] = 0.31
    with pytest.raises(ValueError, match="thousandths"):
        checks.environment(values)


@quick
@given(arrays.arrays(float, (4, 5), elements=st.floats(-30, 30)))
def test_logits_are_no_probabilities(logits):
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    assert checks.probabilities(odds, k=5, n=4) is odds
    if np.abs(logits.sum(axis=1) - 1).max() > 2e-3:
        with pytest.raises(ValueError, match="softmax"):
            checks.probabilities(logits)


def test_numbers_of_a_nullable_type_are_numbers():
    odds = pd.DataFrame([[0.5, 0.5], [0.0, 1.0]], dtype="Float64")
    assert (checks.probabilities(odds) == odds.to_numpy(float)).all()
    assert checks.probabilities(odds).dtype == float
    odds.iloc[0, 0] = pd.NA
    with pytest.raises(ValueError, match="expected numbers"):
        checks.probabilities(odds)


def test_a_row_of_probabilities_is_named():
    odds = np.full((6, 4), 0.25)
    odds[3, 1] = np.nan
    with pytest.raises(ValueError, match="row 13"):
        checks.probabilities(odds, first=10)
    with pytest.raises(ValueError, match=r"\(6, 5\)"):
        checks.probabilities(np.full((6, 4), 0.25), n=6, k=5)


@quick
@given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 360)),
                min_size=1, max_size=5))
def test_places_on_the_globe_are_turned_alike(some):
    lat, lon = np.array(some).T
    found_lat, found_lon = checks.places(lat=lat, lon=lon)
    np.testing.assert_array_equal(found_lat, lat)
    assert ((found_lon >= -180) & (found_lon < 180)).all()
    turned = (found_lon - lon) / 360
    np.testing.assert_allclose(turned, turned.round(), atol=1e-12)


@pytest.mark.parametrize(("lat", "lon"), [
    (91, 0), (0, 361), (0, -181), (np.nan, 0), (0, np.inf), (-9999, -9999)])
def test_a_place_off_the_globe_is_named(lat, lon):
    with pytest.raises(ValueError, match="in row 1"):
        checks.places(lat=[0, lat], lon=[0, lon])
    assert checks.on_globe(lat=[0, lat], lon=[0, lon]).tolist() == [True,
                                                                    False]


def test_swapped_places_are_suspected_only_when_they_fit():
    with pytest.raises(ValueError, match="swapped"):
        checks.places(lat=[120.0], lon=[30.0])
    with pytest.raises(ValueError, match="degrees") as told:
        checks.places(lat=[np.nan], lon=[30.0])
    assert "swapped" not in str(told.value)


@quick
@given(st.lists(st.integers(0, 6), min_size=1, max_size=9))
def test_labels_pass_or_are_named(values):
    assert checks.labels(values, 7).tolist() == values
    with pytest.raises(ValueError, match=f"row {len(values)}"):
        checks.labels([*values, 7], 7)
    with pytest.raises(ValueError, match="float64"):
        checks.labels(np.array(values, float), 7)


def test_choices_numbers_and_columns():
    assert checks.one_of("b", ("a", "b"), name="kind") == "b"
    with pytest.raises(ValueError, match="kind is 'c', expected one of 'a'"):
        checks.one_of("c", ("a", "b"), name="kind")
    for bad in (0, -1, 1.5, np.nan, "3", None, True):
        with pytest.raises(ValueError, match="size is"):
            checks.number(bad, name="size", low=1, whole=True)
    assert checks.number(np.int64(3), name="size", low=1, whole=True) == 3
    table = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"])
    with pytest.raises(ValueError, match="a more than once"):
        checks.columns(table, ["a"])
    with pytest.raises(ValueError, match="lacks the columns z"):
        checks.columns(table[["b"]], ["b", "z"])
