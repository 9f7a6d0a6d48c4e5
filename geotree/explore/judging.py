"""Judging: a model with what turns its scores into an honest answer."""

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geotree import checks, evaluation, globe, taxonomy
from geotree.evaluation import calibration, predictions
from geotree.models import facts
from geotree.occurrences import names, reading
from geotree.place import MODELS, PlaceModel
from geotree.prior import combine, restrict
from geotree.shards import Batch
from geotree.sources import SHAPE
from geotree.variables import VARIABLES


@dataclass(frozen=True)
class Judge:
    """A model, the names to choose from, and what makes it modest."""

    model: object
    classes: pd.DataFrame  # K rows
    temperature: float = 1.0  # above 1: more modest than the model
    place: PlaceModel | None = None  # the range prior
    weight: float = 1.0  # of the place
    allowed: np.ndarray | None = None  # (K,) bool, a checklist

    def __post_init__(self):
        taxonomy.check(self.classes)
        checks.number(self.temperature, name="temperature", low=1e-6)
        checks.number(self.weight, name="weight", low=0)
        checks.instance(self.place, PlaceModel, type(None), name="place",
                        see="a model of place or None, as place.Nearest(table)"
                        )

    def answers(self, images, environment
                ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Probabilities, some at a time: of what is seen, and with the place.

        Parameters
        ----------
        images : (N, T, C, H, W) uint16
        environment : (N, V) float32
            Begins with longitude and latitude.

        Yields
        ------
        (B, K), (B, K) float32
            B is small where the classes are many.
        """
        blank = np.zeros(len(images), np.int64)
        return self._judged(Batch(images, environment, blank, blank),
                            environment[:, 1::-1])

    def of(self, seen) -> tuple[np.ndarray, ...]:
        """All that a :class:`~geotree.explore.seeing.Seen` shows, answered.

        Returns
        -------
        rows, images, environment, alone, joined
            Of R places with pixels: rows of ``seen.table``, what is there,
            and both probabilities, (R, K) each.
        """
        odds = np.zeros((0, len(self.classes)), np.float32)
        parts = [(np.zeros(0, int), np.zeros((0, *SHAPE), np.uint16),
                  np.zeros((0, len(VARIABLES)), np.float32), odds, odds)]
        for rows, *pixels in seen.blocks():
            parts.append((rows, *pixels, *map(np.concatenate, zip(
                *self.answers(*pixels), strict=True))))
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    def _judged(self, data, where) -> Iterator[tuple]:
        """Answers for samples or their features, at (N, 2) lat and lon."""
        done = 0
        for found in evaluation.predict_batches(self.model, data,
                                                self.classes):
            rows = slice(done, done := done + len(found))
            if self.temperature != 1:
                found = calibration.soften(found, self.temperature)
            joined = found
            if self.place is not None:
                joined = combine(found, self.place.predict(
                    where[rows], self.classes), self.weight)
            if self.allowed is not None:
                joined = restrict(
                    np.maximum(joined, calibration.FLOOR), self.allowed)
            yield found, joined

    def least(self, coverage: float) -> np.ndarray:
        """Probability at which each class enters a set: (K,).

        Fitted on the model's validation samples of the classes that are
        allowed, judged as the answers are. Where the folder has none, its
        thresholds are of all names; zero, so that all are in each set,
        where it promises nothing.

        Parameters
        ----------
        coverage : float
            How often a set shall hold the right name, where that is allowed.
        """
        inside = (np.ones(len(self.classes), bool) if self.allowed is None
                  else self.allowed)
        held, known = (getattr(self.model, name, None)
                       for name in ("held", "thresholds"))
        if held is not None:
            held = held[held["species"].isin(self.classes["species"][inside])]
            value = self._fitted(held, coverage) if len(held) else 0.0
            if self.allowed is not None:
                warnings.warn(
                    f"sets were fitted anew for the {inside.sum()} species "
                    f"of your list, on {len(held)} validation samples of "
                    "them" + ("" if value else ", too few to rule out any: "
                              "each set is the whole list")
                    + f". They hold the right name in {coverage:.0%} where "
                    "the tree is one of these, and nowhere else.",
                    stacklevel=3)
            return np.where(inside, value, np.inf)
        if known:
            checks.one_of(coverage, known, name="coverage")
        plain = self.allowed is None and self.place is None
        value = (known or {}).get(coverage, 0.0) if plain else 0.0
        return np.where(inside, value, np.inf)

    def _fitted(self, held: pd.DataFrame, coverage: float) -> float:
        """The threshold of a set, from the right classes' probabilities."""
        where = held[["decimalLatitude", "decimalLongitude"]].to_numpy()
        labels, done, right = taxonomy.labels(held, self.classes), 0, []
        for _, odds in self._judged(np.stack(held["features"]), where):
            rows = np.arange(len(odds))
            right.append(odds[rows, labels[done + rows]])
            done += len(odds)
        right = np.concatenate(right)  # (N,)
        return float(calibration.conformal(
            np.stack([right, 1 - right], axis=1), np.zeros(len(right), int),
            coverage=coverage)[0])


def loaded(model, device: str):
    """The model of a folder or hub id, where it shall work."""
    from geotree import models
    from geotree.training import pick_device

    if isinstance(model, str | os.PathLike):
        model = models.load(model)
    predictions.expect(model)
    return model.to(pick_device(device)) if hasattr(model, "to") else model


def judge(model, *, prior: bool = True, checklist=None,
          country: str | None = None) -> tuple[Judge, list[str]]:
    """A judge from what a model's folder holds.

    Parameters
    ----------
    prior : bool
        Use the records of the range prior, where the folder has them.
    checklist, country
        As in :func:`geotree.explore.predict`.

    Returns
    -------
    Judge, list of str
        And the names of the checklist that match none.
    """
    checks.one_of(prior, (True, False), name="prior")
    classes, records = (getattr(model, name, None)
                        for name in ("classes", "prior"))
    if classes is None:
        raise ValueError("the model does not say which species it knows: "
                         "set model.classes to its class table.")
    unmatched, listed = [], None
    if checklist is not None:
        listed, unmatched = allowed(classes, checklist)
    if country is not None:
        here = _known_from(country, records, classes)
        listed = here if listed is None else listed & here
        if not listed.any():
            raise ValueError(f"no species of the checklist has a record in "
                             f"{country}. Give one of the two.")
    place, weight = None, 1.0
    if prior and records is not None:
        name, weight = facts.prior(getattr(model, "card", None) or {},
                                   where="the card")
        place = MODELS[name](records)
    return Judge(model, classes, getattr(model, "temperature", 1.0), place,
                 weight, listed), unmatched


def checklists(table: pd.DataFrame | None) -> dict[str, list[str]]:
    """Species by country, from the records of an occurrence table."""
    if table is None:
        return {}
    checks.columns(table, ["species", *globe.PLACE])
    codes = globe.country_code(lat=table["decimalLatitude"],
                               lon=table["decimalLongitude"], coast=True)
    groups = table["species"].groupby(codes).unique()
    return {code: sorted(names) for code, names in groups.items() if code}


def _known_from(country, records, classes) -> np.ndarray:
    if records is None:
        raise ValueError(f"country is {country!r}, but the model's folder "
                         "has no records to know its species by. Give a "
                         "checklist.")
    lists = checklists(records)
    if str(country).upper() not in lists:
        raise ValueError(f"country is {country!r}, expected a code of ISO "
                         "3166 with training records: "
                         f"{', '.join(lists)}.")
    return classes["species"].isin(lists[str(country).upper()]).to_numpy()


def allowed(classes: pd.DataFrame, checklist) -> tuple[np.ndarray, list[str]]:
    """Which classes a checklist names, and its names that are none.

    Parameters
    ----------
    classes : DataFrame of K rows
    checklist : path or list of str
        Species; of a file the column ``species``, or else the first.
        Letter case, authors and subspecies are of no account.

    Returns
    -------
    (K,) bool, list of str

    Raises
    ------
    ValueError
        No name matches: the list is of other trees.
    """
    where = "the checklist"
    if isinstance(checklist, str | os.PathLike):
        where = f"'{checklist}'"
        checklist = _first_column(checklist)
    checks.instance(checklist, Iterable, name="checklist",
                    see="a path, or names of species")
    listed = pd.Series(list(dict.fromkeys(map(str, checklist))), dtype=object)
    same, known = (column.map(names.alike)
                   for column in (listed, classes["species"]))
    unmatched = listed[~same.isin(known)].tolist()
    if len(unmatched) == len(listed):
        raise ValueError(
            f"none of the {len(listed)} names of {where} is among the "
            f"{len(classes)} species of the model, such as "
            f"{', '.join(classes['species'][:3])}; the list has "
            f"{', '.join(listed[:3]) or 'none'}. Give scientific names, one "
            "a row.")
    if unmatched:
        warnings.warn(
            f"{len(unmatched)} of {len(listed)} names of {where} match no "
            f"species of the model: {checks.few(unmatched)}.", stacklevel=3)
    return known.isin(same).to_numpy(), unmatched


def _first_column(path) -> list[str]:
    """Of a file: the column ``species``, or the first, with its head."""
    table = reading.frame(path)
    for name, column in table.items():
        if str(name).strip().lower() == "species":
            return column.dropna().tolist()
    return [table.columns[0], *table.iloc[:, 0].dropna()]
