"""The lock of every door: a value is checked here, once, where it enters.

Each function returns the value in the form that the house uses, or raises a
``ValueError`` that says what was expected, what came, where, and what to do.
"""

import math

import numpy as np
import pandas as pd

from geotree import physics, variables as v
from geotree.values import (  # noqa: F401, the door to both rooms
    aligned,
    by_name,
    few,
    instance,
    named_axes,
    one_each,
    one_order,
    one_shape,
    plain,
    refuse,
    rows,
    shown,
    sizes,
    titles,
)

_BRIGHTEST = 30_000  # digital number; clouds and snow reach about 20,000
_GLARE = 0.05  # share of numbers that may be brighter: mirrors in the sun
_CLASSES = 10**6  # more than there are plants
_DIM = 100, 256  # digital numbers that a sample, or 8 of them, go beyond
_LOW, _HIGH = np.array([(one.low, one.high) for one in v.VARIABLES]).T
# One model of climate or soil is no limit to another; but -1 mm is a sign.
_SLACK = (_HIGH - _LOW) / 4 * [one.group in ("climate", "soil")
                               for one in v.VARIABLES]


def images(values, *, where: str = "images", months: int | None = v.MONTHS):
    """Pixels as digital numbers: (N, T, 10, 5, 5) uint16, int32 or int64.

    Parameters
    ----------
    values : array or tensor
        Comes back as it is. 10,000 is a reflectance of 1, 65535 is missing.
    months : int, optional
        The number of composites; None: any.

    Refused are another shape, floats, int16, a month of nothing but 0, and
    numbers that no unit of 10,000 gives: of 0 to 1, 0 to 255, below zero.
    """
    kind = _kind(values, where)
    shape, expected = tuple(np.shape(values)), (len(v.BANDS), v.PATCH, v.PATCH)
    if (len(shape) != 5 or shape[2:] != expected
            or months not in (None, shape[1])):
        count = "" if months is None else f"{months} "
        raise ValueError(
            f"{where} has shape {shape}, expected (samples, {count}months, "
            f"10 bands {v.BAND_NAMES[0]} … {v.BAND_NAMES[-1]}, 5, 5).")
    if kind not in ("uint16", "int32", "int64"):
        raise ValueError(
            f"{where} is {kind}, expected whole digital numbers: uint16 or "
            f"int32, {v.NODATA} where missing. variables.digital_numbers "
            "turns reflectance and numbers with NaN or another sign for "
            "missing into them.")
    if not shape[0]:
        return values
    numbers = values if isinstance(values, np.ndarray) else values.int()
    low, seen = int(numbers.min()), numbers[numbers != v.NODATA]
    high = int(seen.max()) if len(seen) else v.NODATA
    if (low < 0 or high > v.NODATA
            or (seen > _BRIGHTEST).sum() > _GLARE * len(seen)):
        raise ValueError(
            f"{where} runs from {low} to {high}, expected 0 to "
            f"{_BRIGHTEST} but for a few, and {v.NODATA} where missing. Pass "
            "the sign for missing, the unit and the offset to "
            "variables.digital_numbers: 1,000 taken off in 16 bits turns "
            "what is dark into 65,000.")
    if high < _DIM[shape[0] >= 8]:
        raise ValueError(
            f"{where} runs from {low} to {high}, where 10,000 is a "
            "reflectance of 1: reflectance cut to whole numbers, percent or "
            "8 bits? Multiply before it is cut, or give reflectance to "
            "variables.digital_numbers.")
    black = (numbers == 0).reshape(*shape[:2], -1).all(2)  # (N, T)
    if black.any():
        row, month = np.argwhere(plain(black))[0]
        raise ValueError(f"{where} is 0 in all bands of month {month + 1} of "
                         f"sample {row}: Sentinel-2's sign for missing. Pass "
                         "nodata=0 to variables.digital_numbers.")
    if isinstance(values, np.ndarray):
        physics.check_order(values, where)
    return values


def environment(values, *, where: str = "environment"):
    """Variables in stored units: (N, 27) float, NaN where missing.

    Comes back as it is. Refused are another shape or type, another unit, and
    values beyond ``low`` and ``high`` of ``variables.VARIABLES``, as -9999
    (of climate and soil: a quarter of the range beyond, but not below 0);
    told are columns that contradict each other.
    """
    kind, shape = _kind(values, where), tuple(np.shape(values))
    if len(shape) != 2 or shape[1] != len(v.VARIABLES):
        raise ValueError(
            f"{where} has shape {shape}, expected (samples, 27) in the order "
            f"of variables.VARIABLES: {v.VARIABLE_NAMES[0]} … "
            f"{v.VARIABLE_NAMES[-1]}.")
    if kind not in ("float16", "bfloat16", "float32", "float64"):
        raise ValueError(f"{where} is {kind}, expected float32 with NaN "
                         "where missing.")
    # Not plain(): a compiled model comes through here.
    numbers = values if isinstance(values, np.ndarray) else np.asarray(
        values.detach().float().cpu())
    bad = ((numbers < _LOW - _SLACK * (_LOW < 0))  # (N, 27)
           | (numbers > _HIGH + _SLACK))  # NaN is neither
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{where} is {numbers[row, column]:g} in row {row}, "
            f"{v.VARIABLE_NAMES[column]}, expected about {_LOW[column]:g} to "
            f"{_HIGH[column]:g} in stored units. Missing is NaN.")
    v.check_units(numbers, where)
    if numbers is values:
        physics.check_relations(values, where)
    return values


def _kind(values, where: str) -> str:
    """The type of an array's or tensor's numbers, as numpy calls it."""
    if (not {"dtype", "reshape"} <= {*dir(values)}
            or isinstance(values, np.ma.MaskedArray)):
        raise ValueError(f"{where} is a {type(values).__name__}, expected a "
                         "plain array or a tensor; of a masked array, "
                         ".filled(sign for missing).")
    return str(values.dtype).removeprefix("torch.")


def labels(values, k: int, *, where: str = "labels") -> np.ndarray:
    """Class numbers, one a sample: (N,) int, each 0 to ``k`` - 1."""
    number(k, name="k", low=1, high=_CLASSES, whole=True)
    if not (values := plain(values, where)).size:
        raise ValueError(f"no samples to score: {where} is empty.")
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(f"{where} are {values.dtype} of shape "
                         f"{values.shape}, expected whole numbers, one per "
                         "sample. See taxonomy.labels.")
    bad = np.flatnonzero((values < 0) | (values >= k))
    if len(bad):
        raise ValueError(
            f"{len(bad)} {where} are not among the {k} classes 0 to {k - 1}, "
            f"the first is {values[bad[0]]} in row {bad[0]}. Were they made "
            "with another class table?")
    return values


def probabilities(values, *, k: int | None = None, n: int | None = None,
                  first: int = 0, where: str = "probabilities") -> np.ndarray:
    """Rows that sum to one: (N, K) float, never logits.

    ``k`` and ``n`` say how many classes and samples there must be, ``first``
    the number of the first row, for the message.
    """
    values = _rows(values, k, n, where)
    total = values.sum(axis=1, dtype=np.float64)
    bad = np.flatnonzero(~(np.abs(total - 1) < 1e-3)
                         | (values.min(axis=1, initial=0) < -1e-6))
    if len(bad):
        row = bad[0]
        raise ValueError(
            f"{len(bad)} of {len(total)} rows of {where} are no "
            f"probabilities, the first is row {row + first}: they run from "
            f"{values[row].min(initial=0):.4g} to "
            f"{values[row].max(initial=0):.4g} and do not sum to one, but to "
            f"{total[row]:.4f}. Apply a softmax to logits.")
    return values


def shares(values, *, k: int | None = None,
           where: str = "probabilities") -> np.ndarray:
    """Rows of finite numbers, none below zero: (N, K), of any sum."""
    values = _rows(values, k, None, where)
    if values.size and not (values.min() >= 0 and values.max() < math.inf):
        raise ValueError(f"{where} run from {values.min():.4g} to "
                         f"{values.max():.4g}, expected finite numbers of 0 "
                         "or more. Apply a softmax to logits.")
    return values


def _rows(values, k, n, where: str) -> np.ndarray:
    """A number for each sample and class, as floats."""
    if (names := titles(values) or []) != [*range(len(names))]:
        raise ValueError(f"{where} have names of columns, {few(names)}; "
                         "expected table[classes['species']].to_numpy().")
    values = plain(values, where)
    if values.dtype.kind == "O" and values.ndim == 2:  # of a nullable type
        values = pd.DataFrame(values).infer_objects().to_numpy()
    if (values.ndim != 2 or k not in (None, values.shape[1])
            or n not in (None, len(values)) or not values.shape[1]):
        raise ValueError(
            f"{where} have shape {values.shape}, expected ({n or 'samples'}, "
            f"{k or 'classes'}): one column per row of the class table.")
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{where} are {values.dtype}, expected numbers.")
    return values if values.dtype.kind == "f" else values.astype(float)


def places(*, lat, lon, where: str = "places"
           ) -> tuple[np.ndarray, np.ndarray]:
    """Places on the globe: two (N,) float64, longitude in [-180, 180).

    A longitude of 180 to 360 is turned. A row that is missing or not on the
    globe is refused; :func:`on_globe` says which.
    """
    one_order(lat=lat, lon=lon)
    lat, lon = (np.atleast_1d(degrees(one)) for one in (lat, lon))
    if lat.shape != lon.shape or lat.ndim != 1:
        raise ValueError(f"{where}: lat has shape {lat.shape} and lon "
                         f"{lon.shape}, expected one number a place each.")
    bad = np.flatnonzero(~on_globe(lat=lat, lon=lon))
    if len(bad):
        row = bad[0]
        swapped = on_globe(lat=lon[bad], lon=lat[bad]).all()
        raise ValueError(
            f"{where}: {len(bad)} of {len(lat)} places are not on the globe, "
            f"the first is lat={lat[row]}, lon={lon[row]} in row {row}. "
            "Expected -90 to 90 and -180 to 360 (degrees), as 48.5 for "
            "48°30' N; of metres of a grid make degrees first."
            + (" Are lat and lon swapped?" if swapped else ""))
    return lat, np.where(lon < 180, lon, lon - 360)


def on_globe(*, lat, lon) -> np.ndarray:
    """Which of N places are on the globe: (N,) bool."""
    return (np.abs(degrees(lat)) <= 90) & (np.abs(degrees(lon) - 90) <= 270)


def degrees(values) -> np.ndarray:
    """Degrees of any spelling: float64, NaN where it is no number."""
    if str(getattr(values, "dtype", "")).endswith("float16"):  # bfloat16 too
        raise ValueError("places are in half precision, which moves them by "
                         "kilometres: expected float32 or float64.")
    values = (values.astype(object).filled(np.nan)
              if np.ma.is_masked(values) else plain(values))
    if values.dtype.kind in "iuf":
        return values.astype(np.float64, copy=False)
    text = pd.Series(values.ravel()).astype("str").str.strip().str.rstrip("°")
    text = text.str.replace("\u2212", "-").str.replace(
        r"^([+-]?\d+),(\d+)$", r"\1.\2", regex=True)
    return pd.to_numeric(text, errors="coerce").to_numpy(
        np.float64, na_value=np.nan).reshape(values.shape)


def rng(*seed) -> np.random.Generator:
    """Random numbers, the same for the same whole numbers of 0 and more."""
    return np.random.default_rng([int(number(
        one, name="seed", low=0, whole=True)) for one in seed])


def one_of(value, known, *, name: str):
    """A choice among known words."""
    if not pd.api.types.is_hashable(value) or value not in tuple(known):
        raise ValueError(f"{name} is {shown(value)}, expected one of "
                         f"{', '.join(map(shown, known)) or 'none'}.")
    return value


def number(value, *, name: str, low=None, high=None, whole: bool = False):
    """A finite number in a range, ends included."""
    good = (isinstance(value, int | float | np.number)
            and not isinstance(value, bool) and math.isfinite(value)
            and (low is None or value >= low)
            and (high is None or value <= high)
            and (not whole or float(value).is_integer()))
    if not good:
        limits = (f", at least {low}" * (low is not None)
                  + f", at most {high}" * (high is not None))
        raise ValueError(f"{name} is {shown(value)}, expected a "
                         f"{'whole ' * whole}number{limits}.")
    return int(value) if whole else value


def columns(table, needed, *, where: str = "table"):
    """A table that has the columns, each once."""
    instance(table, pd.DataFrame, name=where, see="a DataFrame")
    names = [*table.columns]
    if double := sorted({str(x) for x in names if names.count(x) > 1}):
        raise ValueError(f"{where} has the columns {', '.join(double)} more "
                         "than once. Rename or drop one of each.")
    if missing := [str(one) for one in needed if one not in names]:
        raise ValueError(f"{where} lacks the columns {', '.join(missing)}; "
                         f"it has {few(names, 20)}.")
    return table
