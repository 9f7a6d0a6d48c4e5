"""Charts: scores with intervals, calibration, learning, embeddings."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from geotree.plots.style import (
    CYCLE,
    FAINT,
    INK,
    PAPER,
    REST,
    axes_of,
    checked,
    dots,
)
from geotree.plots.style import colors as palette

_BEST = "#D55E00"  # the Bayes optimum, everywhere
_SHARE = LinearSegmentedColormap.from_list(
    "share", [PAPER, "#bcd7e8", "#0072B2", "#06304d"])


def _percent(scores: pd.DataFrame, names=("value", "low", "high")):
    lacking = [name for name in names if name not in scores.columns]
    if lacking or not len(scores):
        raise ValueError(
            f"scores has {len(scores)} rows and lacks the columns "
            f"{lacking}; expected {', '.join(names)} as evaluation.score "
            "gives them.")
    return [100 * scores[name].to_numpy(float) for name in names]


def _total(ax: Axes, n: pd.Series, what: str, **kwargs) -> None:
    low, high = int(n.min()), int(n.max())
    count = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    ax.set_title(f"n = {count} {what}", **kwargs)


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
    place = np.arange(len(scores))[::-1]
    names = scores[label].astype(str).tolist()
    shade = [CYCLE[0] if highlight in (None, name) else REST
             for name in names]
    ax.barh(place, 100, height=0.6, color="#f0ede5")
    ax.barh(place, value, height=0.6, color=shade)
    ax.hlines(place, low, high, color=INK, linewidth=1.8)
    for where, number in zip(place, value, strict=True):
        ax.text(101.5, where, f"{number:.1f}", va="center", fontsize=9.5)
    ax.set_yticks(place, names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set(xlim=(0, 100), ylim=(-0.6, len(scores) - 0.4),
           xlabel="accuracy (%), black: 95 % interval")
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
                    label=name)
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
                label=name)
    if optimum is not None:
        ax.axhline(100 * optimum, color=_BEST, linestyle=(0, (4, 2)))
        ax.text(0.01, 100 * optimum + 1.5, "Bayes optimum", color=_BEST,
                fontsize=9, va="bottom", transform=ax.get_yaxis_transform())
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


def confusion(truth, answers, *, top: int = 12,
              ax: Axes | None = None) -> Axes:
    """What is taken for what, at any rank.

    Parameters
    ----------
    truth, answers : (N,) str
        True and predicted names.
    top : int
        The most frequent true names have rows and columns of their own;
        all others share one.
    """
    truth = pd.Series(np.asarray(truth), dtype=str)
    answers = pd.Series(checked(answers, len(truth), "answers"), dtype=str)
    names = sorted(truth.value_counts().index[:top])
    rest = [] if set(truth) | set(answers) <= set(names) else ["others"]
    order = names + rest
    table = pd.crosstab(truth.where(truth.isin(names), "others"),
                        answers.where(answers.isin(names), "others"))
    table = table.reindex(index=order, columns=order, fill_value=0)
    rows = table.sum(axis=1)
    share = (100 * table.div(rows.clip(lower=1), axis=0)).to_numpy()
    ax = axes_of(ax, figsize=(2.8 + 0.48 * len(order),
                              2 + 0.42 * len(order)))
    ax.imshow(share, cmap=_SHARE, vmin=0, vmax=100, aspect="auto")
    for row, column in zip(*np.nonzero(share >= 4.5), strict=True):
        ax.text(column, row, f"{share[row, column]:.0f}", ha="center",
                va="center", fontsize=8,
                color=PAPER if share[row, column] > 45 else INK)
    ax.set_xticks(range(len(order)), order, rotation=45, ha="right",
                  rotation_mode="anchor")
    ax.set_yticks(range(len(order)), [
        f"{name}  {rows[name]:,}" for name in order])
    ax.set_xticks(np.arange(1, len(order)) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, len(order)) - 0.5, minor=True)
    ax.grid(which="minor", color=PAPER, linewidth=1.5)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="predicted (% of each row)", ylabel="true, with count")
    ax.set_title(f"n = {len(truth):,} samples")
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
    if optimum is not None:
        axes[1].axhline(100 * optimum, color=_BEST, linestyle=(0, (4, 2)))
        axes[1].text(1, 100 * optimum + 2,
                     f"Bayes optimum {100 * optimum:.1f}", color=_BEST,
                     fontsize=9)
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.grid(axis="y")
        ax.xaxis.get_major_locator().set_params(integer=True)
    return axes
