"""Figures of the book, all in one style.

Each function takes ``ax=None`` and returns the axes. Colours of categories
are safe for colour-blind readers and stay the same through the book.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D

from geotree import world
from geotree.variables import BAND_NAMES, NODATA, ndvi, reflectance

# Okabe and Ito (2008).
LEAF_COLORS = {
    "Deciduous Broadleaf": "#E69F00", "Evergreen Broadleaf": "#009E73",
    "Evergreen Needleleaf": "#0072B2", "Deciduous Needleleaf": "#CC79A7",
}
CYCLE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00",
         "#6b6b6b", "#F0E442")
PAPER, INK, LAND = "#fbfaf7", "#222222", "#e4e1d8"
MONTHS = "JFMAMJJASOND"
_RGB = [BAND_NAMES.index(name) for name in ("B4", "B3", "B2")]


def style() -> None:
    """Set the style of a notebook's figures; call once at the top."""
    plt.rcParams.update({
        "figure.facecolor": PAPER, "axes.facecolor": PAPER,
        "savefig.facecolor": PAPER, "figure.dpi": 110,
        "figure.figsize": (7.5, 4), "figure.constrained_layout.use": True,
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": "#888",
        "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlelocation": "left", "axes.titlesize": 11,
        "font.size": 10, "legend.frameon": False,
        "axes.prop_cycle": plt.cycler(color=CYCLE),
        "image.cmap": "viridis",
    })


def _axes(ax: Axes | None, **kwargs) -> Axes:
    return plt.subplots(**kwargs)[1] if ax is None else ax


def land(ax: Axes | None = None, *, color: str = LAND) -> Axes:
    """An outline of the land, longitude against latitude."""
    ax = _axes(ax, figsize=(8.5, 4.3))
    ax.add_collection(PolyCollection(world.land(), facecolor=color,
                                     edgecolor="none", zorder=0))
    ax.set(xlim=(-170, 180), ylim=(-58, 80), aspect=1.2,
           xlabel="longitude (°)", ylabel="latitude (°)")
    return ax


def occurrence_map(table: pd.DataFrame, *, by: str = "leafType",
                   ax: Axes | None = None) -> Axes:
    """Where the records of an occurrence table are."""
    ax = land(ax)
    names = table[by].value_counts().index[:len(CYCLE)]
    for number, name in enumerate(names):
        part = table[table[by] == name]
        color = LEAF_COLORS.get(name, CYCLE[number])
        ax.scatter(part["decimalLongitude"], part["decimalLatitude"], s=4,
                   color=color, alpha=0.6, linewidths=0,
                   label=f"{name} ({len(part):,})")
    ax.legend(markerscale=4, fontsize=8, loc="lower left")
    ax.set_title(f"n = {len(table):,} records")
    return ax


def true_color(images: np.ndarray, *, brightest: float = 0.25
               ) -> np.ndarray:
    """Red, green, blue for display.

    Parameters
    ----------
    images : (..., C, H, W) uint16
    brightest : float
        Reflectance that becomes white; gamma 1/1.8.

    Returns
    -------
    (..., H, W, 3) float32
        0 to 1; missing pixels are grey.
    """
    bands = np.asarray(images)[..., _RGB, :, :]
    value = np.clip(reflectance(bands) / brightest, 0, 1) ** (1 / 1.8)
    value[bands == NODATA] = 0.75
    return np.moveaxis(value, -3, -1)


def patch_strip(images: np.ndarray, names, *, ax: Axes | None = None
                ) -> Axes:
    """Twelve months of patches in true colour, one row per sample.

    Parameters
    ----------
    images : (N, T, C, H, W) uint16
    names : N str
    """
    count = len(images)
    ax = _axes(ax, figsize=(8.5, 0.75 * count + 0.6))
    tiles = true_color(images)  # (N, T, H, W, 3)
    gap = np.ones((count, 12, 6, 6, 3), np.float32) * 0.985
    gap[:, :, :5, :5] = tiles
    ax.imshow(gap.transpose(0, 2, 1, 3, 4).reshape(count * 6, 72, 3),
              aspect="equal", interpolation="nearest")
    missing = (images == NODATA).any(axis=(2, 3, 4))
    for row, month in zip(*np.nonzero(missing), strict=True):
        ax.text(month * 6 + 2, row * 6 + 2, "☁", ha="center", va="center",
                color="#666", fontsize=9)
    ax.set_xticks(np.arange(12) * 6 + 2, list(MONTHS))
    ax.set_yticks(np.arange(count) * 6 + 2, list(names), style="italic")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def phenology(images: np.ndarray, leaf_types, latitude, *,
              axes=None):
    """NDVI through the year by leaf type, north and south.

    Median and the middle half of the centre pixels beyond 30° latitude.
    """
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(8.5, 3.4), sharey=True)[1]
    green = ndvi(images)[..., 2, 2]  # (N, T)
    kinds, latitude = np.asarray(leaf_types), np.asarray(latitude)
    sides = {"north of 30° N": latitude > 30, "south of 30° S":
             latitude < -30}
    for ax, (title, side) in zip(axes, sides.items(), strict=True):
        for kind, color in LEAF_COLORS.items():
            part = green[side & (kinds == kind)]
            if len(part) < 5:
                continue
            low, middle, high = np.nanpercentile(part, [25, 50, 75], axis=0)
            ax.fill_between(range(12), low, high, color=color, alpha=0.18,
                            linewidth=0)
            ax.plot(range(12), middle, color=color,
                    label=f"{kind} ({len(part):,})")
        ax.set_xticks(range(12), list(MONTHS))
        ax.set(title=title, ylim=(-0.1, 1))
        ax.legend(fontsize=7, loc="lower center")
    axes[0].set_ylabel("NDVI")
    return axes


def score_bars(scores: pd.DataFrame, *, label: str = "model",
               optimum: float | None = None, ax: Axes | None = None) -> Axes:
    """Horizontal bars with 95 % intervals.

    Parameters
    ----------
    scores : DataFrame
        Columns ``label``, ``value``, ``low``, ``high`` (shares), ``n``.
    optimum : float
        Draw the Bayes optimum as a line.
    """
    ax = _axes(ax, figsize=(7.5, 0.42 * len(scores) + 1.1))
    place = np.arange(len(scores))[::-1]
    value = 100 * scores["value"].to_numpy()
    error = np.abs(100 * scores[["low", "high"]].to_numpy().T - value)
    ax.barh(place, value, height=0.62, color=CYCLE[0], alpha=0.85)
    ax.errorbar(value, place, xerr=error, fmt="none", ecolor=INK,
                elinewidth=1.2, capsize=2)
    for where, number, top in zip(place, value, 100 * scores["high"],
                                  strict=True):
        ax.text(top + 1, where, f"{number:.1f}", va="center", fontsize=9)
    ax.set_yticks(place, scores[label])
    ax.set(xlim=(0, 105), xlabel="accuracy (%), 95 % interval")
    if optimum is not None:
        ax.axvline(100 * optimum, color=CYCLE[5], linestyle="--")
        ax.text(100 * optimum, len(scores) - 0.45,
                f"Bayes optimum {100 * optimum:.1f}", color=CYCLE[5],
                ha="right", fontsize=8)
    ax.set_title(f"n = {int(scores['n'].iloc[0]):,} samples")
    return ax


def reliability(tables: dict[str, pd.DataFrame], *,
                ax: Axes | None = None) -> Axes:
    """Accuracy against confidence; the diagonal is perfect honesty."""
    ax = _axes(ax, figsize=(4.6, 4.4))
    ax.plot([0, 1], [0, 1], color="#999", linestyle=":")
    for number, (name, table) in enumerate(tables.items()):
        ax.errorbar(table["confidence"], table["accuracy"],
                    yerr=table["error"], marker="o", markersize=4,
                    capsize=2, color=CYCLE[number], label=name)
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1),
           ylim=(0, 1), aspect="equal")
    ax.legend(loc="upper left")
    ax.set_title(f"n = {int(next(iter(tables.values()))['n'].sum()):,}")
    return ax


def embedding(points: np.ndarray, names, *, top: int = 8,
              colors: dict | None = None, ax: Axes | None = None) -> Axes:
    """A t-SNE map, the most frequent names in colour.

    Parameters
    ----------
    points : (N, 2) float
    names : N str
    """
    ax = _axes(ax, figsize=(6.5, 5))
    names = pd.Series(np.asarray(names))
    ax.scatter(*points.T, s=5, color="#cfcac0", linewidths=0)
    for number, name in enumerate(names.value_counts().index[:top]):
        part = points[(names == name).to_numpy()]
        color = (colors or {}).get(name, CYCLE[number % len(CYCLE)])
        ax.scatter(*part.T, s=8, color=color, linewidths=0, alpha=0.85,
                   label=f"{name} ({len(part)})")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.legend(fontsize=8, markerscale=2, loc="center left",
              bbox_to_anchor=(1, 0.5))
    ax.set_title(f"n = {len(points):,}")
    return ax


def history(table: pd.DataFrame, *, optimum: float | None = None,
            axes=None):
    """Loss and validation top-1 of a training run."""
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(8.5, 3.2))[1]
    axes[0].plot(table["epoch"] + 1, table["loss"], marker="o",
                 label="training, with penalties")
    axes[0].plot(table["epoch"] + 1, table["validation_loss"], marker="o",
                 label="validation")
    axes[0].set(xlabel="epoch", ylabel="loss (nats)")
    axes[0].legend()
    axes[1].plot(table["epoch"] + 1, 100 * table["validation_top1"],
                 marker="o", color=CYCLE[2])
    if optimum is not None:
        axes[1].axhline(100 * optimum, color=CYCLE[5], linestyle="--")
        axes[1].text(1, 100 * optimum - 5, "Bayes optimum", color=CYCLE[5])
    axes[1].set(xlabel="epoch", ylabel="validation top-1 (%)", ylim=(0, 100))
    return axes


def cover(lon, lat, kinds, confidence, *, ax: Axes | None = None) -> Axes:
    """The world by predicted leaf type, brighter where the model is sure.

    Parameters
    ----------
    lon, lat : (N,) float
    kinds : (N,) str
        Leaf types.
    confidence : (N,) float
        0 to 1; becomes opacity.
    """
    night = "#08161d"
    if ax is None:
        ax = plt.subplots(figsize=(11, 5), facecolor=night)[1]
    ax.set_facecolor(night)
    land(ax, color="#13252d")
    for kind, color in LEAF_COLORS.items():
        chosen = np.asarray(kinds) == kind
        if not chosen.any():
            continue
        ax.scatter(np.asarray(lon)[chosen], np.asarray(lat)[chosen], s=7,
                   marker="s", color=color, linewidths=0,
                   alpha=np.clip(np.asarray(confidence)[chosen], 0.15, 1))
    ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
    ax.spines[:].set_visible(False)
    ax.legend(handles=[Line2D([], [], marker="s", linestyle="", color=color,
                              label=kind)
                       for kind, color in LEAF_COLORS.items()],
              loc="lower left", fontsize=9, labelcolor="white")
    return ax
