"""Samples that are arrays already: own patches, with or without a place.

They are read like :class:`~geotree.shards.Shards`, so that whatever trains,
scores or predicts takes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from geotree import checks, taxonomy
from geotree.shards import Batch, Shards, take
from geotree.variables import MONTHS, NODATA, VARIABLES, digital_numbers

_UNKNOWN = "unknown"  # family or leaf type


def from_arrays(images, species: Sequence[str] | pd.DataFrame | None = None,
                *, environment=None, months: Sequence[int] | None = None,
                ids=None, offset: int = 0, unit: str | None = None,
                nodata: float | None = None) -> Samples:
    """Own patches as samples, in one call; what is not known is missing.

    Parameters
    ----------
    images : (N, M, 10, 5, 5) numbers
        Bands in the order of ``variables.BANDS``.
    species : N names, or DataFrame of N rows, optional
        A frame may have ``genus``, ``family`` and ``leafType`` too. Without
        them the genus is the first word, the others are "unknown".
    environment : (N, 27) float, optional
        In stored units; default: nothing is known, the place neither.
    months : M numbers from 1 to 12, optional
        Which months the images are of; needed unless there are twelve.
    ids : (N,) int, optional
        Default: 0 to N - 1.
    offset, unit, nodata
        Of the numbers; see ``variables.digital_numbers``.

    Returns
    -------
    Samples
    """
    images = digital_numbers(images, unit=unit, nodata=nodata, offset=offset)
    checks.images(images, months=None)
    n, m = images.shape[:2]
    months = range(1, MONTHS + 1) if months is None else months
    months = [int(checks.number(month, name="a month", low=1, high=MONTHS,
                                whole=True)) for month in months]
    if len(months) != m or len({*months}) != m:
        raise ValueError(f"images have {m} months, months names "
                         f"{len({*months})}: give each its number from 1 to "
                         "12, e.g. months=[4, 7, 10].")
    year = np.full((n, MONTHS, *images.shape[2:]), NODATA, np.uint16)
    year[:, np.array(months) - 1] = images
    if environment is None:
        environment = np.full((n, len(VARIABLES)), np.nan)
    environment = np.asarray(checks.environment(np.asarray(environment)),
                             np.float32)
    ids = np.arange(n) if ids is None else np.asarray(ids, np.int64)
    table, classes = _named(species, n), None
    labels = np.zeros(n, np.int64)
    if species is not None:
        classes = taxonomy.class_table(table)
        labels = taxonomy.labels(table, classes)
    if not n == len(table) == len(environment) == len(ids):
        raise ValueError(f"{n} images, {len(table)} names, "
                         f"{len(environment)} rows of environment and "
                         f"{len(ids)} ids: expected one each a sample.")
    return Samples(Batch(year, environment, labels, ids),
                   table.assign(gbifID=ids), classes)


def _named(species, n: int) -> pd.DataFrame:
    """A table with the four names that a class has."""
    if species is None:
        return pd.DataFrame(index=range(n))
    table = (species.reset_index(drop=True)
             if isinstance(species, pd.DataFrame)
             else pd.DataFrame({"species": np.asarray(species, dtype=str)}))
    checks.columns(table, ["species"], where="species")
    known = {"genus": table["species"].str.split().str[0],
             "family": _UNKNOWN, "leafType": _UNKNOWN}
    return table.assign(**{name: value for name, value in known.items()
                           if name not in table})


class Samples(Shards):
    """Samples in memory; see :func:`from_arrays`.

    Attributes
    ----------
    table, classes : DataFrame
        Names and ids of the samples; the class table that labels point
        into, None without names.
    """

    classes = None
    files, layout, left_out, skipped = (), "memory", 0, 0
    provenance: dict[str, str] = {}

    def __init__(self, batch: Batch, table: pd.DataFrame,
                 classes: pd.DataFrame | None):
        self._batch, self.table, self.classes = batch, table, classes

    def __repr__(self) -> str:
        count = 0 if self.classes is None else len(self.classes)
        return f"<Samples: {len(self):,} of {count} classes in memory>"

    def __len__(self) -> int:
        return len(self._batch.ids)

    def select(self, rows) -> Samples:
        """Some samples, by number or by a mask, in their order."""
        rows = np.unique(np.arange(len(self))[np.asarray(rows)])
        return Samples(take(self._batch, rows),
                       self.table.iloc[rows].reset_index(drop=True),
                       self.classes)

    def batches(self, batch_size: int, *, shuffle: bool = False,
                seed: int = 0, epoch: int = 0,
                drop_last: bool = False) -> Iterator[Batch]:
        """Yield every sample once; see :meth:`Shards.batches`."""
        checks.number(batch_size, name="batch_size", low=1, whole=True)
        order = np.arange(len(self))
        if shuffle:
            order = np.random.default_rng([seed, epoch]).permutation(order)
        stop = len(self) - (len(self) % batch_size if drop_last else 0)
        for start in range(0, stop, batch_size):
            yield take(self._batch, order[start:start + batch_size])

    def load(self) -> Batch:
        """All samples at once."""
        return self._batch

    def verify(self) -> None:
        """There is no file to compare with."""
