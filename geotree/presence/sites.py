"""Sites as numbers, and how much of a region was visited."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geotree import checks, globe
from geotree.occurrences.columns import NINES, SIGNS

DEGREES = ("decimalLongitude", "decimalLatitude")
_HIGH = (255, 9999, 32767, 65535, *NINES)  # for missing, or a value
_FILL = 1e20  # and beyond: infinities, and fill values of floats
_FAR = 5  # standard deviations of a feature, beyond which it is cut
_CELLS = 256  # parts of the region, to see how much of it was visited


@dataclass
class Features:
    """Sites as numbers: how columns become features, learnt once.

    Categories become a column each, missing numbers their median with a
    column that says so, degrees points of the sphere.
    """

    variables: tuple[str, ...]
    place: tuple[str, str] | None
    numbers: list[str] | None = None  # of the variables, once learnt
    known: pd.DataFrame | None = None  # the sites that were learnt from

    @classmethod
    def of(cls, variables, coordinates) -> "Features":
        """From names of columns, of which the coordinates are two or none."""
        variables, place = (
            () if one is None else tuple(one) if np.iterable(one)
            and not isinstance(one, str) else (one,)
            for one in (variables, coordinates))
        if len({*place}) != len(place) or len(place) not in (0, 2) or not (
                variables + place):
            raise ValueError(f"variables are {variables} and coordinates "
                             f"{place}, expected some columns, and two for "
                             "x and y or None.")
        # Degrees are known by name, in either order.
        return cls(variables, DEGREES if {*place} == {*DEGREES} else
                   place or None)

    def learn(self, frame: pd.DataFrame) -> "Features":
        """Categories, medians, means and spreads of all training sites."""
        from sklearn.compose import make_column_transformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        columns = self._columns(frame)
        numbers = [name for name in columns if _is_number(columns[name])]
        self.numbers = [name for name in self.variables if name in numbers]
        self.known = frame[[*self.variables, *(self.place or ())]]
        self.middle = frame[list(self.place or ())].mean().to_numpy()
        self.encoder = make_pipeline(make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False),
             columns.columns.difference(numbers)),
            (SimpleImputer(strategy="median", add_indicator=True,
                           keep_empty_features=True), numbers),
            verbose_feature_names_out=False), StandardScaler()).fit(columns)
        return self

    def features(self, frame: pd.DataFrame) -> np.ndarray:
        """Standardised features: (N, F) float32."""
        scaled = self.encoder.transform(self._columns(frame))
        return scaled.clip(-_FAR, _FAR).astype(np.float32)

    def _columns(self, frame: pd.DataFrame) -> pd.DataFrame:
        columns = pd.DataFrame({
            name: frame[name].to_numpy(float, na_value=np.nan)
            if _is_number(frame[name]) else frame[name].astype(str).to_numpy()
            for name in self.variables}, index=range(len(frame)))
        place = frame[list(self.place or ())].to_numpy(float)
        if self.place == DEGREES:
            place = globe.vectors_of(frame)
        columns[[f"place {axis}" for axis in range(place.shape[1])]] = place
        return columns

    def tell_beyond(self, frame: pd.DataFrame, known, where: str) -> None:
        """Warn of columns with most values beyond all that are known."""
        for name in (*self.variables, *(self.place or ())):
            one, other = (table[name].dropna() for table in (frame, known))
            if _is_number(other):
                one, other = one.astype(float), other.astype(float)
                odd = ~one.between(other.min(), other.max())
                span = f"{other.min():g} to {other.max():g}"
            else:
                odd = ~one.astype(str).isin(other.astype(str))
                span = checks.few(sorted({*other.astype(str)}))
            if len(other) and odd.sum() > len(one) / 2:
                warnings.warn(
                    f"{where}: in {odd.sum()} of {len(one)} rows {name} is "
                    f"beyond all that it is compared with ({span}). "
                    "Other units, or another region?", stacklevel=4)

    def degrees(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Places in degrees, for models of place; metres lie at 0°, 0°."""
        places = frame[list(self.place)].to_numpy(float)
        if self.place != DEGREES:
            places = (places - self.middle) / globe.METRES
        return pd.DataFrame(places, columns=DEGREES)


@dataclass
class Data:
    """Features of visited sites, who was seen there, and background."""

    x: np.ndarray  # (M, F) sites of any record
    y: np.ndarray  # (M, S) bool
    background: np.ndarray  # (B, F)
    seed: int

    def rows(self, against: str, species: int | slice = slice(None)):
        """Features, presences and weights of what is learnt from.

        Against the target group every visited site counts. Against random
        background a visited site says nothing about who was not seen.
        """
        y = self.y[:, species]
        if against == "target group":
            return self.x, y, np.ones(y.shape)
        empty = np.zeros((len(self.background), *y.shape[1:]), bool)
        return (np.concatenate([self.x, self.background]),
                np.concatenate([y, empty]),
                np.concatenate([y.astype(float), 1.0 - empty]))


def visited(data: Data) -> float:
    """Share of the region where anyone has recorded anything, 0 to 1.

    The background is halved again and again along its widest axis into
    parts of equal size; counted are those that hold a visited site. Where
    people went everywhere, the target group tells absence from neglect;
    where they went to few places, it only tells where they went.
    """
    parts = [(data.background, data.x)]
    while len(parts) < min(_CELLS, len(data.background) // 8):
        halves = []
        for some, sites in parts:
            axis = np.ptp(some, axis=0).argmax()
            middle = np.median(some[:, axis])
            for side in (np.less_equal, np.greater):
                halves.append((some[side(some[:, axis], middle)],
                               sites[side(sites[:, axis], middle)]))
        parts = [half for half in halves if len(half[0])]
    return float(np.mean([len(sites) > 0 for _, sites in parts]))


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.infer_dtype(column, skipna=True) in (
        "integer", "floating", "mixed-integer-float", "decimal", "empty")


def _numbers_as_text(column: pd.Series) -> pd.Series:
    """Texts that are numbers with decimals, or most of them with a unit."""
    text = pd.Series(pd.unique(column)).dropna().astype("str")
    found = text.str.extract(
        r"^\s*[+-]?(?:\d+|\d*([.,])\d+)\s*(°?[^\W\d]\S*|%)?\s*$")
    plain = found[0].notna() & found[1].isna()
    of_unit = found[1].notna()
    same = found[1].nunique() == 1 and of_unit.sum() > max(2, len(text) / 2)
    return text[plain | (of_unit & same)]


def _tell_high(column: pd.Series, where: str) -> None:
    """Warn of a highest value that rasters write for missing, far above."""
    values = column.dropna().astype(float)
    top, rest = values.max(), values[values < values.max()]
    if top in _HIGH and len(rest) and rest.max() < top / 2:
        warnings.warn(
            f"{where}: {column.name} is {top:g} in {(values == top).sum()} "
            f"rows, and at most {rest.max():g} in all others. A sign for "
            "missing? Missing is NaN.", stacklevel=4)


def checked(frame: pd.DataFrame, table: Features, where: str) -> None:
    """Refuse a frame that lacks columns, rows, or finite values."""
    checks.columns(frame, [*table.variables, *(table.place or ())],
                   where=where)
    if frame.empty:
        raise ValueError(f"{where} has no rows.")
    needed = [*["species"] * (where == "presence"), *(table.place or ())]
    numbers = [name for name in table.variables if _is_number(frame[name])]
    for name in table.variables:
        kind = pd.api.types.infer_dtype(frame[name], skipna=True)
        if kind.startswith(("date", "time", "period", "interval", "complex")):
            raise ValueError(f"{where}: {name} is of the kind {kind}, "
                             "expected numbers, text or booleans.")
        if name not in numbers and len(text := _numbers_as_text(frame[name])):
            raise ValueError(f"{where}: {name} holds numbers as text, as "
                             f"{text.iloc[0]!r}. Make them numbers, with a "
                             "point and without a unit.")
        if name in numbers and (lost := frame[name].isin(SIGNS).sum()):
            raise ValueError(f"{where}: {name} has a sign for missing, such "
                             f"as -9999, in {lost} rows. Missing is NaN.")
        if name in numbers:
            _tell_high(frame[name], where)
    blank = [name for name in table.variables if frame[name].isna().all()]
    if blank:
        warnings.warn(f"{where}: {', '.join(blank)} have no value in any row: "
                      "what comes out rests on the others.", stacklevel=3)
    if table.numbers not in (None, numbers):
        raise ValueError(f"{where}: numbers are {numbers}, and were "
                         f"{table.numbers} where the model learnt.")
    gaps = (frame[needed].isna().any(axis=1).to_numpy()
            | (np.abs(frame[numbers].to_numpy(float)) >= _FILL).any(axis=1))
    checks.refuse(gaps, f"rows of {where} have no {', '.join(needed)}, or a "
                  f"value beyond {_FILL}", "Leave them out, or mend them.")
    if table.place == DEGREES:
        checks.places(lat=frame[DEGREES[1]], lon=frame[DEGREES[0]],
                      where=where)
    if table.known is not None:
        table.tell_beyond(frame, table.known, where)
