"""Samples in memory: own patches, with or without a place, or a GPU's.

They are read like :class:`~geotree.shards.Shards`, so that whatever trains,
scores or predicts takes them.
"""

import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import checks, taxonomy
from geotree.occurrences import names
from geotree.occurrences.columns import PLACE
from geotree.shards.batch import Batch, take
from geotree.shards.index import RECORD, Listed, Shard
from geotree.shards.reading import Shards
from geotree.shards.records import Records
from geotree.variables import (
    BAND_NAMES,
    MONTHS,
    NODATA,
    VARIABLE_NAMES,
    digital_numbers,
)

_UNKNOWN = "unknown"  # family or leaf type
_READ = 8192  # samples copied at a time
_SAMPLE = 12 * 10 * 25 * 2 + 27 * 4 + 16  # bytes
_SHARE = 0.7  # of the free memory of a GPU that samples may take


def from_arrays(images, species: Sequence[str] | pd.DataFrame | None = None,
                *, environment=None, months: Sequence[int] | None = None,
                ids=None, offset: int = 0, unit: str | None = None,
                nodata: float | None = None) -> "Samples":
    """Own patches as samples, in one call; what is not known is missing.

    Parameters
    ----------
    images : (N, M, 10, 5, 5) numbers
        Bands in the order of ``variables.BANDS``.
    species : N names, or DataFrame of N rows, optional
        A frame may have ``genus``, ``family`` and ``leafType`` too. Without
        them the genus is the first word, the others are "unknown". Names
        are brought into one form, of which a warning tells.
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
    checks.one_order(species=species, environment=environment, ids=ids)
    months = np.atleast_1d(range(1, MONTHS + 1) if months is None
                           else months).tolist()
    checks.named_axes(images, "images", month=months, band=BAND_NAMES, y=None,
                      x=None)
    checks.named_axes(environment, "environment", variable=VARIABLE_NAMES)
    images = digital_numbers(images, unit=unit, nodata=nodata, offset=offset)
    checks.images(images, months=None)
    n, m = images.shape[:2]
    months = [int(checks.number(month, name="a month", low=1, high=MONTHS,
                                whole=True)) for month in months]
    if len(months) != m or len({*months}) != m:
        raise ValueError(f"images have {m} months, months names "
                         f"{len({*months})}: give each its number from 1 to "
                         "12, e.g. months=[4, 7, 10].")
    year = np.full((n, MONTHS, *images.shape[2:]), NODATA, np.uint16)
    year[:, np.array(months) - 1] = images
    if isinstance(environment, pd.DataFrame):  # its names tell the order
        environment = checks.columns(environment, VARIABLE_NAMES, where=
                                     "environment")[[*VARIABLE_NAMES]]
    if environment is None:
        environment = np.full((n, len(VARIABLE_NAMES)), np.nan)
    environment = np.asarray(checks.environment(checks.plain(
        environment, "environment")), np.float32)
    ids = np.arange(n) if ids is None else checks.one_each(ids, n, where="ids")
    if (ids.dtype.kind not in "iu" or ids.max(initial=0) > 2**63 - 1
            or len(np.unique(ids)) < n):
        raise ValueError(f"ids are {ids.dtype}, {len(np.unique(ids))} of "
                         f"them for {n} samples; expected whole numbers, "
                         "each once.")
    table = _named(species, n)
    classes = (table.iloc[:0] if species is None
               else taxonomy.class_table(table))
    labels = (np.zeros(n, np.int64) if species is None
              else taxonomy.labels(table, classes))
    checks.rows(images=images, species=table, environment=environment)
    if {*PLACE} <= {*table}:
        gap = np.abs(environment[:, 1::-1] - table[PLACE].to_numpy(float))
        checks.refuse((np.minimum(gap, 360 - gap) > 0.01).any(axis=1),
                      "samples are of another place in environment than in "
                      "species", "Longitude has to come before latitude.")
    return Samples(Batch(year, environment, labels, ids),
                   table.assign(gbifID=ids), classes)


def _named(species, n: int) -> pd.DataFrame:
    """A table with the four names that a class has."""
    if species is None:
        return pd.DataFrame(index=range(n))
    table = (species.reset_index(drop=True)
             if isinstance(species, pd.DataFrame)
             else pd.DataFrame({"species": checks.one_each(
                 species, n, where="species")}))
    came = checks.columns(table, ["species"], where="species")["species"]
    taxonomy.check(table, "species", once=False)
    came = came.astype("str")
    one = names.normals(came).where(lambda name: name != "", came)
    if (other := (one != came) & came.notna()).any():
        warnings.warn(
            f"{other.sum()} names of species were written in another form, "
            f"the first: {came[other].iloc[0]!r} is {one[other].iloc[0]!r}.",
            stacklevel=3)
    known = {"genus": names.genus(one), "family": _UNKNOWN,
             "leafType": _UNKNOWN}
    return table.assign(species=one, **{
        name: value for name, value in known.items() if name not in table})


class Samples(Shards):
    """Samples in memory; see :func:`from_arrays`.

    Parameters
    ----------
    batch : Batch of N samples
    table : DataFrame of N rows
        Names and ids.
    classes : DataFrame
        The class table that labels point into; empty without names.
    """

    def __init__(self, batch: Batch, table: pd.DataFrame,
                 classes: pd.DataFrame):
        records = np.zeros(len(batch.ids), RECORD)
        records["samples"] = 1
        mark = zlib.crc32(np.ascontiguousarray(batch.environment),
                          zlib.crc32(np.ascontiguousarray(batch.images)))
        super().__init__(_Arrays(batch, Listed(
            "memory", (Shard(Path("memory"), len(records), 0, records,
                             f"{mark:08x}"),),
            table.reset_index(drop=True), classes)))

    def verify(self, table: pd.DataFrame | None = None) -> None:
        """There is no file to compare with."""


class _Arrays(Records):
    """Arrays where others have records: each sample is one."""

    def __init__(self, batch: Batch, source: Listed):
        super().__init__(source)
        self.batch = batch

    def read(self, number: int, wanted: np.ndarray | None, rng, **_
             ) -> Iterator[tuple[Batch, int]]:
        rows = np.arange(len(self.batch.ids)) if wanted is None else wanted
        if rng is not None:
            rows = rng.permutation(rows)
        for start in range(0, len(rows), _READ):
            part = take(self.batch, rows[start:start + _READ])
            yield part, len(part.ids)

    def sample(self, row: int) -> Batch:
        return take(self.batch, row)


class Resident:
    """Shards whose samples lie on a device that trains on them.

    6.3 million samples are 38 GB as 16-bit integers: they fit a large GPU.
    An epoch is then a random permutation and a gather, with no file, no
    copy from the host and no wait in between.

    Parameters
    ----------
    data : Shards
        Read once, here.
    device : torch.device
    """

    order = "device"  # in which it shuffles, beside those of Shards

    def __init__(self, data: Shards, device):
        import torch

        self.device, n = device, 0
        for batch in data.batches(_READ):
            part = Batch(*map(torch.from_numpy, batch))
            if not n:
                self._samples = Batch(*(torch.empty(
                    (len(data), *column.shape[1:]), dtype=column.dtype,
                    device=device) for column in part))
            rows = slice(n, n := n + len(part.ids))
            for column, values in zip(self._samples, part, strict=True):
                column[rows] = values.to(device)
        self._samples = take(self._samples, slice(n))

    @staticmethod
    def fits(data: Shards, device) -> bool:
        """Whether the samples fit the free memory of a GPU."""
        import torch

        return device.type == "cuda" and (
            len(data) * _SAMPLE < _SHARE * torch.cuda.mem_get_info(device)[0])

    def __len__(self) -> int:
        return len(self._samples.ids)

    def batches(self, batch_size: int, *, shuffle: bool = False,
                seed: int = 0, epoch: int = 0, drop_last: bool = False,
                part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Yield every sample once, as tensors on the device.

        Shuffled, the order is a permutation of all samples that depends on
        ``(seed, epoch)`` alone; the last batch may be smaller, or is left
        out with ``drop_last``.
        """
        import torch

        rng = torch.Generator(self.device)
        rng.manual_seed((seed << 20) + epoch)
        order = (torch.randperm(len(self), generator=rng, device=self.device)
                 if shuffle else torch.arange(len(self), device=self.device))
        for rows in order.split(batch_size):
            if len(rows) == batch_size or not drop_last:
                yield take(self._samples, rows)
