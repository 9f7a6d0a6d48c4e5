"""The 10 bands and 27 variables of every sample: order, unit, source.

The rows are in ``geotree/data/variables.json``, in the order of the
GlobalGeoTree release, so that files and weights of either side fit. Used
in every chapter, explained in chapter 02.
"""

from typing import NamedTuple

import numpy as np

from geotree.data import load
from geotree.values import plain

MONTHS = 12  # calendar months, January first
PATCH = 5  # pixels along a side; a pixel is 10 m
NODATA = 65535  # uint16 stand-in for "no clear observation"
REFLECTANCE_SCALE = 1e-4  # surface reflectance = digital number × this


class Band(NamedTuple):
    """One Sentinel-2 band."""

    name: str
    wavelength: int  # nm, centre
    resolution: int  # m, native pixel
    title: str


class Variable(NamedTuple):
    """One environmental variable; true value = stored value × scale.

    bio04 is 100 × the deviation of tenths of a degree. The 0.01 of Earth
    Engine's catalogue would make it up to 227 °C, above the range of a year.
    """

    name: str
    unit: str  # of the true value
    scale: float
    low: float  # smallest plausible stored value
    high: float  # largest plausible stored value
    group: str
    product: str
    title: str


# Sentinel-2 L2A, harmonised. The release puts the 10 m bands first.
BANDS = tuple(Band(*row) for row in load("variables.json")["bands"])
BAND_NAMES = tuple(band.name for band in BANDS)
VARIABLES = tuple(Variable(*row) for row in load("variables.json")[
    "variables"])
VARIABLE_NAMES = tuple(variable.name for variable in VARIABLES)

# Slices into the variable axis, as the release's four auxiliary branches.
_GROUP = [variable.group for variable in VARIABLES]
GROUPS = {name: slice(_GROUP.index(name),
                      _GROUP.index(name) + _GROUP.count(name))
          for name in dict.fromkeys(_GROUP)}


def reflectance(images: np.ndarray) -> np.ndarray:
    """Convert stored digital numbers to surface reflectance.

    Parameters
    ----------
    images : (..., T, C, H, W) uint16
        10,000 stands for a reflectance of 1; ``NODATA`` for missing.

    Returns
    -------
    (..., T, C, H, W) float32
        Unitless; NaN where missing. May exceed 1 over cloud and snow.
    """
    numbers = plain(images, "images")
    if numbers.dtype.kind not in "iu" or numbers.min(initial=0) < 0:
        raise ValueError(
            f"images are {numbers.dtype}, or below zero, expected whole "
            f"digital numbers of 0 or more, {NODATA} where missing. "
            "variables.digital_numbers makes them.")
    values = numbers.astype(np.float32)
    values *= REFLECTANCE_SCALE
    values[numbers == NODATA] = np.nan
    return values


def digital_numbers(values, *, unit: str | None = None,
                    nodata: float | None = None,
                    offset: int = 0) -> np.ndarray:
    """Convert pixels of other tools to the digital numbers that we store.

    Parameters
    ----------
    values : array of any shape
        Whole numbers, or floats; NaN is missing, and what is masked.
    unit : "reflectance" or "digital numbers", optional
        Needed where the values leave room for both. 10,000 digital numbers
        are a reflectance of 1.
    nodata : float, optional
        The sign for missing, e.g. -9999 or 0; beside NaN among floats,
        65535 among whole numbers and what attributes of xarray name.
    offset : int
        Digital numbers to take off: 1,000 for Sentinel-2 scenes of
        processing baseline 04.00 or later that are not harmonised, which
        their metadata write as an offset of -1,000 to be added.

    Returns
    -------
    ndarray of uint16
        The same shape; ``NODATA`` is missing. What is below zero after the
        offset is dark and becomes 0.

    Raises
    ------
    ValueError
        The unit cannot be told, or a value fits neither it nor ``nodata``;
        or attributes say another scale or offset.

    Notes
    -----
    Sentinel-2 Products Specification, "Radiometric offset". Chapter 02.
    """
    masked, offset = np.ma.getmask(values), float(offset)
    about = getattr(values, "attrs", {})  # of xarray
    values = plain(np.ma.getdata(values) if masked.any() else values)
    if values.dtype.kind not in "iuf" or values.dtype.itemsize == 1:
        raise ValueError(f"pixels are {values.dtype}, expected whole numbers "
                         "of 16 bits or more, or floats.")
    numbers = values.astype(np.float64)
    missing = np.isnan(numbers) | masked
    if offset < 0:
        raise ValueError(f"offset is {offset:g}, expected what is to be taken "
                         "off, 0 or more: 1000 where BOA_ADD_OFFSET is -1000.")
    for sign in (nodata, *map(about.get, _SIGNS)):
        if sign is not None:
            missing |= np.isin(numbers, np.asarray(sign, float))
    if values.dtype.kind in "iu":
        missing |= numbers == NODATA
    seen = numbers[~missing]
    if not seen.size:
        return np.full(values.shape, NODATA, np.uint16)
    scale = _scale(seen, values.dtype, unit)
    if scale == 1:
        agree(about, offset)
    low, high = seen.min() * scale - offset, seen.max() * scale - offset
    if not (-_DARKEST <= low and high < NODATA):
        raise ValueError(
            f"pixels run from {seen.min():g} to {seen.max():g}, as digital "
            f"numbers {low:g} to {high:g}; expected {-_DARKEST} to "
            f"{NODATA - 1}. Pass the sign for missing as nodata=, or another "
            "unit= or offset=.")
    numbers = np.where(missing, NODATA, np.rint(
        numbers * scale - offset).clip(0))
    return numbers.astype(np.uint16)


_SIGNS = "_FillValue", "missing_value", "nodata"  # attributes
_DARKEST = 2000  # digital numbers below 0 that an offset may leave


def _scale(seen: np.ndarray, kind: np.dtype, unit: str | None) -> float:
    """What turns the values into digital numbers."""
    scales = {"reflectance": 1 / REFLECTANCE_SCALE, "digital numbers": 1.0}
    if unit is not None:
        if unit not in scales:
            raise ValueError(f"unit is {unit!r}, expected 'reflectance' or "
                             "'digital numbers'.")
        if kind.kind in "iu" and unit == "reflectance":
            raise ValueError("pixels are whole numbers, which cannot be "
                             "reflectance. Pass unit='digital numbers', or "
                             "the reflectance as floats.")
        return scales[unit]
    high, whole = np.abs(seen).max(), (seen == np.rint(seen)).all()
    if kind.kind == "f" and high <= 2 and not whole:
        return scales["reflectance"]
    if high >= 100:
        return scales["digital numbers"]
    raise ValueError(
        f"pixels run from {seen.min():g} to {seen.max():g}: reflectance or "
        "digital numbers? Say so with unit='reflectance' or "
        "unit='digital numbers'.")


def agree(about: dict, offset: float = 0) -> None:
    """Refuse digital numbers whose attributes say another scale or offset."""
    scale, add = (float(about.get(name, usual)) for name, usual in (
        ("scale_factor", 1), ("add_offset", 0)))
    scale = REFLECTANCE_SCALE if scale == 1 else scale
    said = 0 - add / (1 if abs(add) >= 1 else scale)  # to be taken off
    if not np.isclose((scale, said or offset),
                      (REFLECTANCE_SCALE, offset)).all():
        raise ValueError(
            f"attributes of the pixels say scale_factor {scale:g} and "
            f"add_offset {add:g}, expected {REFLECTANCE_SCALE:g} and an "
            f"offset of {offset:g}. Make reflectance of them (pixels * "
            "scale_factor + add_offset), or drop the attributes, and pass "
            f"offset={said:g}.")


def check_units(environment, where: str = "environment") -> None:
    """Raise ``ValueError`` where a column is in its true unit, not stored.

    Only all samples together can tell: soil that holds 1/1000 of what soils
    do, or a warmest month that nowhere passes 5 °C (``bio05``) while the
    year nowhere spans more than 7.3 °C (``bio07``), as WorldClim 2 in °C
    would be if it were tenths.

    Parameters
    ----------
    environment : (N, V) float, NaN where missing
    """
    soil, warm, span = (np.nanmax(environment[:, columns], initial=-1e3)
                        for columns in (GROUPS["soil"], _HOTTEST, _RANGE))
    if 0 < soil <= 1:
        raise ValueError(f"{where}: soil moisture is {soil:g} at most. "
                         "Stored are thousandths of cm³/cm³.")
    if -1e3 < warm <= 50 and 0 < span <= 73:
        raise ValueError(
            f"{where}: bio05 is {warm:g} and bio07 {span:g} at most. Stored "
            "are tenths of °C, as in WorldClim 1: multiply the temperatures "
            "of WorldClim 2 (bio01, 02 and 04 to 11) by 10.")


_HOTTEST, _RANGE = map(VARIABLE_NAMES.index, ("bio05", "bio07"))


def ndvi(images: np.ndarray) -> np.ndarray:
    """Normalised difference vegetation index from B8 and B4.

    Parameters
    ----------
    images : (..., C, H, W) uint16
        As in :func:`reflectance`.

    Returns
    -------
    (..., H, W) float32
        −1 to 1; NaN where missing.
    """
    images = plain(images, "images")
    if images.ndim < 3 or images.shape[-3] != len(BANDS):
        raise ValueError(f"images have shape {images.shape}, expected "
                         f"(..., {len(BANDS)} bands, height, width).")
    bands = images[..., [_NIR, _RED], :, :]
    nir, red = np.moveaxis(reflectance(bands), -3, 0)
    return (nir - red) / np.maximum(nir + red, 1e-6)


_NIR, _RED = BAND_NAMES.index("B8"), BAND_NAMES.index("B4")
