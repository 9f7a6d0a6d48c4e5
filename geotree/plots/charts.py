"""Charts: scores with intervals, differences, calibration, embeddings."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from geotree.plots.style import (
    CYCLE,
    FAINT,
    INK,
    REST,
    axes_of,
    checked,
    dots,
    plain,
)
from geotree.plots.style import colors as palette

_BEST = "#D55E00"  # the Bayes optimum, everywhere


def _percent(table: pd.DataFrame, names=("value", "low", "high")):
    lacking = [name for name in names if name not in table.columns]
    if lacking or not len(table):
        raise ValueError(
            f"the table has {len(table)} rows and lacks the columns "
            f"{lacking}; expected {', '.join(names)} as evaluation.score "
            "gives them.")
    return [100 * table[name].to_numpy(float) for name in names]


def _total(ax: Axes, n: pd.Series, what: str, **kwargs) -> None:
    low, high = int(n.min()), int(n.max())
    count = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    ax.set_title(f"n = {count} {what}", **kwargs)


def _rows(ax: Axes, names) -> np.ndarray:
    """A row for each name, from the top down; returns their heights."""
    place = np.arange(len(names))[::-1]
    ax.set_yticks(place, [plain(name) for name in names])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(-0.6, len(names) - 0.4)
    return place


def _optimum(ax: Axes, share: float | None) -> None:
    """The Bayes optimum as a line across the figure, where it is known."""
    if share is None:
        return
    ax.axhline(100 * share, color=_BEST, linestyle=(0, (4, 2)))
    ax.text(0.01, 100 * share + 1.5, f"Bayes optimum {100 * share:.1f}",
            color=_BEST, fontsize=9, transform=ax.get_yaxis_transform())


def score_bars(scores: pd.DataFrame, *, label: str = "model",
               optimum: float | None = None, highlight: str | None = None,
               ax: Axes | None = None) -> Axes:
    """Horizontal bars with 95 % intervals.

    Parameters
    ----------
    scores : DataFrame
        Columns ``label``, ``value``, ``low``, ``high`` (shares), ``n``.
    optimum : float
        Draw the Bayes optimum as a line.
    highlight : str
        The one bar to keep in colour; the others turn grey.
    """
    value, low, high = _percent(scores)
    ax = axes_of(ax, figsize=(7.5, 0.4 * len(scores) + 1.3))
    place = _rows(ax, scores[label])
    shade = [CYCLE[0] if highlight in (None, name) else REST
             for name in scores[label]]
    ax.barh(place, 100, height=0.6, color="#f0ede5")
    ax.barh(place, value, height=0.6, color=shade)
    ax.hlines(place, low, high, color=INK, linewidth=1.8)
    for where, number in zip(place, value, strict=True):
        ax.text(101.5, where, f"{number:.1f}", va="center", fontsize=9.5)
    ax.set(xlim=(0, 100), xlabel="accuracy (%), black: 95 % interval")
    if optimum is not None:
        ax.axvline(100 * optimum, color=_BEST, linestyle=(0, (4, 2)))
        ax.text(100 * optimum, len(scores) - 0.34,
                f"Bayes optimum {100 * optimum:.1f}", color=_BEST,
                ha="right" if optimum > 0.6 else "left", fontsize=9)
    _total(ax, scores["n"], "samples", pad=20)
    return ax


def reliability(tables: dict[str, pd.DataFrame], *,
                ax: Axes | None = None) -> Axes:
    """Accuracy against confidence; the diagonal is perfect honesty.

    Parameters
    ----------
    tables : dict of DataFrame
        By name, from ``calibration.reliability``.
    """
    ax = axes_of(ax, figsize=(4.8, 4.8))
    ax.plot([0, 1], [0, 1], color=FAINT, linestyle=":", linewidth=1.2)
    for text, x, y in (("too modest", 0.25, 0.55), ("too sure", 0.75, 0.3)):
        ax.text(x, y, text, color=FAINT, ha="center", va="center")
    for number, (name, table) in enumerate(tables.items()):
        ax.errorbar(table["confidence"], table["accuracy"],
                    yerr=table["error"], marker="o", markersize=5,
                    elinewidth=1, color=CYCLE[number % len(CYCLE)],
                    label=plain(name))
    ax.set(xlabel="confidence", ylabel="accuracy, 95 % interval",
           xlim=(0, 1.01), ylim=(0, 1.01), aspect="equal")
    ax.legend(loc="upper left")
    _total(ax, pd.Series([table["n"].sum() for table in tables.values()]),
           "samples")
    return ax


def learning_curve(table: pd.DataFrame, *, x: str = "records",
                   by: str = "model", optimum: float | None = None,
                   ax: Axes | None = None) -> Axes:
    """Accuracy by how much was learnt from, one line per model.

    Parameters
    ----------
    table : DataFrame
        Columns ``x`` (drawn on a logarithmic axis), ``by``, ``value``,
        ``low``, ``high`` (shares), ``n``.
    optimum : float
        Draw the Bayes optimum as a line.
    """
    _percent(table)
    ax = axes_of(ax, figsize=(7, 4))
    for number, (name, part) in enumerate(table.groupby(by, sort=False)):
        part = part.sort_values(x)
        value, low, high = _percent(part)
        color = CYCLE[number % len(CYCLE)]
        ax.fill_between(part[x], low, high, color=color, alpha=0.16,
                        linewidth=0)
        ax.plot(part[x], value, marker="o", markersize=4.5, color=color,
                label=plain(name))
    _optimum(ax, optimum)
    ax.set_xscale("log")
    points = sorted(table[x].unique())
    ax.set_xticks(points, [f"{point:,}" for point in points])
    ax.minorticks_off()
    ax.set(xlabel=x, ylabel="accuracy (%), band: 95 % interval",
           ylim=(0, 100))
    ax.grid(axis="y")
    ax.legend(loc="lower right")
    _total(ax, table["n"], "samples")
    return ax


def embedding(points: np.ndarray, names, *, top: int = 8,
              colors: dict | None = None, ax: Axes | None = None) -> Axes:
    """A t-SNE map, the most frequent names in colour.

    Parameters
    ----------
    points : (N, 2) float
    names : (N,) str
    top : int
        How many names have a colour; the rest is grey.
    colors : dict, optional
        Colour by name; default: those of the book.
    """
    points = np.asarray(points)
    names = pd.Series(checked(names, len(points), "names"))
    ax = axes_of(ax, figsize=(7, 4.8))
    counts, shade = names.value_counts(), palette(names, top=top)
    shade = {name: (colors or shade).get(name, shade[name])
             for name in shade}
    color = names.map(shade)
    size = float(np.clip(12_000 / max(len(points), 1), 3, 26))
    rest = color.isna().to_numpy()
    ax.scatter(*points[rest].T, s=0.6 * size, color=REST, linewidths=0,
               alpha=0.7)
    mixed = np.random.default_rng(0).permutation(np.flatnonzero(~rest))
    ax.scatter(*points[mixed].T, s=size, c=color.iloc[mixed].tolist(),
               linewidths=0, alpha=0.85)
    entries = [(f"{name}  {counts[name]:,}", tint)
               for name, tint in shade.items()]
    if rest.any():
        entries.append((f"{len(counts) - len(shade)} others  "
                        f"{rest.sum():,}", REST))
    ax.legend(handles=dots(entries), loc="center left",
              bbox_to_anchor=(1, 0.5), handletextpad=0.2)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(f"n = {len(points):,} samples")
    return ax


def history(table: pd.DataFrame, *, optimum: float | None = None,
            axes=None):
    """Loss and validation top-1 of a training run.

    Parameters
    ----------
    table : DataFrame
        From ``training.fit``: ``epoch`` (from 0), ``loss``,
        ``validation_loss``, ``validation_top1`` (share).
    """
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(8.5, 3.3))[1]
    epoch = table["epoch"] + 1
    mark = {"marker": "o", "markersize": 4}
    axes[0].plot(epoch, table["loss"], color=CYCLE[0],
                 label="training, with penalties", **mark)
    axes[0].plot(epoch, table["validation_loss"], color=CYCLE[1],
                 label="validation", **mark)
    axes[0].set(ylabel="loss (nats)", ylim=(0, None))
    axes[0].legend()
    top1 = 100 * table["validation_top1"]
    axes[1].plot(epoch, top1, color=CYCLE[2], **mark)
    axes[1].annotate(f"{top1.iloc[-1]:.1f}", (epoch.iloc[-1], top1.iloc[-1]),
                     xytext=(0, -14), textcoords="offset points",
                     ha="center", fontsize=9)
    axes[1].set(ylabel="validation top-1 (%)", ylim=(0, 100))
    _optimum(axes[1], optimum)
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.grid(axis="y")
        ax.xaxis.get_major_locator().set_params(integer=True)
    return axes


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
    value, low, high = _percent(table, names)
    ax = axes_of(ax, figsize=(7.5, 0.36 * len(table) + 1.2))
    place = _rows(ax, table[label])
    sure = (low > 0) | (high < 0)
    shade = [CYCLE[0] if one else REST for one in sure]
    ax.axvline(0, color=FAINT, linewidth=1.2)
    ax.hlines(place, low, high, color=shade, linewidth=2.4)
    ax.scatter(value, place, color=shade, s=42, zorder=3)
    reach = np.nanmax(np.abs([low, high, value, value]))
    for where, number in zip(place, value, strict=True):
        ax.text(1.12 * reach, where, f"{round(number, 1) + 0:+.1f}",
                va="center", fontsize=9.5, color=INK)
    ax.set(xlim=(-1.1 * reach, 1.1 * reach),
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
        ax.plot(100 * table["coverage"], 100 * table[y], label=plain(name),
                color=CYCLE[number % len(CYCLE)])
    ax.set(xlabel="answered (%), the surest first", xlim=(0, 100),
           ylabel="wrong among them (%)" if y == "risk" else f"{y} (%)")
    ax.set_ylim(0, None if y == "risk" else 100)
    ax.grid()
    ax.legend()
    return ax
