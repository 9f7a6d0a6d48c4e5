"""Comparisons: paired differences, and what sureness buys."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from geotree.plots.style import CYCLE, FAINT, INK, REST, axes_of


def differences(table: pd.DataFrame, *, label: str = "model",
                names=("adds", "adds_low", "adds_high"),
                ax: Axes | None = None) -> Axes:
    """Paired differences with 95 % intervals; grey where zero is inside.

    Parameters
    ----------
    table : DataFrame
        Columns ``label`` and three ``names``: value, low and high
        (shares).
    """
    lacking = [name for name in (label, *names) if name not in table]
    if lacking or not len(table):
        raise ValueError(f"table has {len(table)} rows and lacks the columns "
                         f"{lacking}; expected {label}, {', '.join(names)}.")
    value, low, high = (100 * table[name].to_numpy(float) for name in names)
    place = np.arange(len(table))[::-1]
    ax = axes_of(ax, figsize=(7.5, 0.36 * len(table) + 1.2))
    sure = (low > 0) | (high < 0)
    shade = [CYCLE[0] if one else REST for one in sure]
    ax.axvline(0, color=FAINT, linewidth=1.2)
    ax.hlines(place, low, high, color=shade, linewidth=2.4)
    ax.scatter(value, place, color=shade, s=42, zorder=3)
    reach = np.nanmax(np.abs([low, high, value, value]))
    for where, number in zip(place, value, strict=True):
        ax.text(1.12 * reach, where, f"{round(number, 1) + 0:+.1f}",
                va="center", fontsize=9.5, color=INK)
    ax.set_yticks(place, table[label].astype(str).tolist())
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set(xlim=(-1.1 * reach, 1.1 * reach), ylim=(-0.6, len(table) - 0.4),
           xlabel="difference in accuracy (points), 95 % interval")
    ax.grid(axis="x")
    return ax


def coverage_curve(tables: dict[str, pd.DataFrame], *,
                   y: str = "risk", ax: Axes | None = None) -> Axes:
    """Error, or accuracy, of the share that is answered.

    Parameters
    ----------
    tables : dict of DataFrame
        By name, with the columns ``coverage`` and ``y``: from
        ``metrics.risk_coverage`` or ``metrics.accuracy_coverage``.
    """
    if not tables:
        raise ValueError("tables is empty: no curve to draw.")
    ax = axes_of(ax, figsize=(5.6, 3.8))
    for number, (name, table) in enumerate(tables.items()):
        ax.plot(100 * table["coverage"], 100 * table[y], label=name,
                color=CYCLE[number % len(CYCLE)])
    ax.set(xlabel="answered (%), the surest first", xlim=(0, 100),
           ylabel="wrong among them (%)" if y == "risk" else f"{y} (%)")
    ax.set_ylim(0, None if y == "risk" else 100)
    ax.grid()
    ax.legend()
    return ax
