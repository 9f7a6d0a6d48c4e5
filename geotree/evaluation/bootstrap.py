"""Intervals from resampling blocks of the globe, quickly.

What was scored is summed per block once; each chunk of draws is then one
matrix product. Rows are never touched again, however many draws there are.
Used by ``evaluation``, explained in chapter 04.
"""

from collections.abc import Iterator

import numpy as np

from geotree import checks

_CELLS = 20_000_000  # weights held at once


def units(blocks, n: int) -> np.ndarray:
    """Number the units that are drawn: (N,) int from 0; default: rows."""
    if blocks is None:
        return np.arange(n)
    blocks = checks.one_each(blocks, n, where="blocks")
    return np.unique(blocks, return_inverse=True)[1]


def weights(number: int, draws: int, seed: int, *,
            cells: int | None = None) -> Iterator[np.ndarray]:
    """How often each unit is drawn, about ``cells`` weights at a time.

    Yields
    ------
    (chunk, U) float64
        The first row of all is ones: the data as they are.
    """
    checks.number(draws, name="draws", low=0, high=100_000, whole=True)
    # Not the stream that a caller's own seed gives: data that were drawn
    # from it would meet their own dice again.
    rng = checks.rng(seed, number)
    yield np.ones((1, number))
    chunk = max(1, (cells or _CELLS) // number)
    for start in range(0, draws, chunk):
        yield rng.multinomial(number, np.full(number, 1 / number),
                              size=min(chunk, draws - start)).astype(float)


def interval(values: np.ndarray, effective: np.ndarray,
             missed: np.ndarray | float = 0.0, *,
             limits: tuple[float, float] = (0, 1)) -> np.ndarray:
    """95 % interval of each column: (2, columns).

    NaN without any draw, and where all rows lie in one unit.

    Parameters
    ----------
    values : (1 + draws, columns) float
        The data as they are, then the draws.
    effective : (columns,) float
        Independent units behind each column; see :attr:`Sums.effective`.
    missed : (columns,) float
        Variance that no draw can show; see :attr:`Sums.missed`.
    limits : (lowest, highest)
        Values that there can be. Where all rows have one of them, no draw
        shows any spread: then the interval is the exact one of a share
        (Clopper and Pearson 1934) of ``effective`` trials.

    Notes
    -----
    Bias-corrected percentiles (Efron and Tibshirani 1993, 14.3): a draw
    misses some blocks and with them some species, so that a mean over
    species is off to one side in the draws; the correction shifts back.
    Percentiles of few units are too narrow: they are taken further out by
    what Student's t is wider (Hesterberg 2015, "expanded percentiles"), and
    never end inside the interval of t itself, as none lies beyond the best
    of five blocks.
    """
    from scipy.special import ndtr, ndtri, stdtrit

    some = np.isfinite(values[1:]).any(axis=0) & (effective > 1)
    degrees = np.where(some, effective, 2) - 1
    student = stdtrit(np.maximum(degrees, 1), 0.975)
    missed = np.broadcast_to(missed, degrees.shape)
    centre, draws = values[0], values[1:]
    ends = np.full((2, values.shape[1]), np.nan)
    low, high = limits
    for column in np.flatnonzero(some):
        drawn = draws[:, column][np.isfinite(draws[:, column])]
        gap = (drawn - centre[column]).round(12)
        below = (gap < 0).mean() + (gap == 0).mean() / 2
        shift = 2 * ndtri(below.clip(0.02, 0.98))
        few, sides = 1 + 1 / degrees[column], np.array([-1, 1])
        spread = drawn.var() * few + missed[column]
        ends[:, column] = np.quantile(drawn, ndtr(
            shift + sides * student[column] * np.sqrt(few)))
        reach = centre[column] + sides * student[column] * np.sqrt(spread)
        ends[:, column] = (min(ends[0, column], reach[0]),
                           max(ends[1, column], reach[1]))
        exact = (high - low) * 0.025 ** (1 / effective[column])
        if centre[column] == high:
            ends[0, column] = low + exact
        elif centre[column] == low:
            ends[1, column] = high - exact
    return ends.clip(low, high)


class Sums:
    """What N samples scored, summed by unit and by true name.

    Parameters
    ----------
    values : dict of (N,) float or bool
        One or more metrics; the macro mean is that of the first.
    target, answer : (N,) int
        True names and those given.
    unit : (N,) int
        From :func:`units`.
    size : int
        Number of units, of which these samples may miss some.
    """

    def __init__(self, values: dict, target, answer, unit, size: int) -> None:
        from scipy.sparse import csr_array

        names, code = np.unique(target, return_inverse=True)
        first, *_ = values.values()
        shape = (size, len(names))
        self.size, self.variance = size, np.var(first)
        self.number = np.bincount(unit, minlength=size).astype(float)
        self.total = np.stack([
            np.bincount(unit, weights=value, minlength=size)
            for value in values.values()], axis=1)  # (U, metrics)
        self.of_name = csr_array((np.ones(len(unit)), (unit, code)), shape)
        self.first_of_name = csr_array(
            (first.astype(float), (unit, code)), shape)
        right = (np.asarray(answer) == target).astype(float)
        self.right = csr_array((right, (unit, code)), shape)
        known = np.isin(answer, names)  # others take part as misses alone
        self.given = csr_array(
            (np.ones(known.sum()),
             (unit[known], np.searchsorted(names, answer[known]))), shape)

    @property
    def missed(self) -> float:
        """Variance of the macro mean that resampling units cannot show.

        A name that lies in one unit has the same share in every draw that
        holds it, one in two units has half the spread that it should have.
        What lacks is taken from the spread of the other names, and where
        there are none, from that of all rows.
        """
        number, right = (one.toarray() for one in (self.of_name,
                                                   self.first_of_name))
        total, seen = number.sum(axis=0), number > 0  # (names,), (U, names)
        units = total ** 2 / (number ** 2).sum(axis=0)
        apart = np.divide(right, number, out=np.zeros_like(right),
                          where=seen) - right.sum(axis=0) / total
        within = (apart ** 2 * number / total).sum(axis=0) * units
        degrees = seen.sum() - len(total)
        spread = (within.sum() + self.variance) / (degrees + 1)
        return float((spread / units ** 2).sum() / len(total) ** 2)

    @property
    def effective(self) -> float:
        """How many units of one size would tell as much (Kish)."""
        total = self.number.sum()
        return total ** 2 / (self.number ** 2).sum() if total else 0.0

    def values(self, weight: np.ndarray) -> np.ndarray:
        """Metrics, macro mean and macro F1: (draws, metrics + 2).

        The last two are over the true names that a draw holds; NaN where it
        holds none.
        """
        number = weight @ self.of_name  # (draws, names)
        seen = number > 0
        share = np.divide(weight @ self.first_of_name, number,
                          out=np.zeros_like(number), where=seen)
        f1 = np.divide(2 * (weight @ self.right),
                       number + weight @ self.given,
                       out=np.zeros_like(number), where=seen)
        with np.errstate(invalid="ignore"):
            plain = (weight @ self.total) / (weight @ self.number)[:, None]
            macro = share.sum(axis=1) / seen.sum(axis=1)
            mean_f1 = f1.sum(axis=1) / seen.sum(axis=1)
        return np.column_stack([plain, macro, mean_f1])
