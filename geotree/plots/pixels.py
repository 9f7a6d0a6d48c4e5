"""Pixels: a year of a tree in true colour, and of its greenness."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from geotree import checks
from geotree.plots.style import (
    FAINT,
    LEAF_COLORS,
    MONTHS,
    REST,
    axes_of,
    checked,
    plain,
)
from geotree.variables import (
    BAND_NAMES,
    NODATA,
    ndvi,
    reflectance,
)

_RGB = [BAND_NAMES.index(name) for name in ("B4", "B3", "B2")]
_CELL, _ROW, _BAND = 1.14, 1.95, 0.58  # sizes where a patch is 1


def true_color(images: np.ndarray, *, brightest: float = 0.3) -> np.ndarray:
    """Red, green, blue for display.

    Parameters
    ----------
    images : (..., C, H, W) uint16
    brightest : float
        Reflectance that becomes white; 0 is black, gamma is 1/1.8.

    Returns
    -------
    (..., H, W, 3) float32
        0 to 1; missing pixels are light grey.
    """
    bands = np.asarray(images)[..., _RGB, :, :]
    value = np.clip(reflectance(bands) / brightest, 0, 1) ** (1 / 1.8)
    value[bands == NODATA] = 0.88
    return np.moveaxis(value, -3, -1)


def patch_strip(images: np.ndarray, names, *,
                ax: Axes | None = None) -> Axes:
    """Twelve months of patches in true colour, one row per sample.

    Missing months are grey and hatched. Below each row, the NDVI of the
    patch's centre on a scale from 0 (ground line) to 1.

    Parameters
    ----------
    images : (N, T, C, H, W) uint16
    names : N str
    """
    checks.images(images)
    names = checked(names, len(images), "names")
    height = _ROW * len(images)
    ax = axes_of(ax, figsize=(8.5, 0.5 * height + 0.35))
    tiles = true_color(images)  # (N, T, H, W, 3)
    for number, months in enumerate(tiles):
        top = -number * _ROW
        for month, tile in enumerate(months):
            left = month * _CELL
            box = (left, left + 1, top - 1, top)
            ax.imshow(tile, extent=box, interpolation="nearest")
            gone = (images[number, month] == NODATA).all()
            ax.add_patch(Rectangle(
                (left, top - 1), 1, 1, facecolor="none", edgecolor=REST,
                hatch="////" if gone else None, linewidth=0.6))
        _greenness(ax, images[number], top - _ROW + 0.2)
    ax.set(xlim=(-0.1, 12 * _CELL), ylim=(0.08 - height, 0.08),
           aspect="equal")
    ax.xaxis.tick_top()
    ax.set_xticks(np.arange(12) * _CELL + 0.5, list(MONTHS))
    ax.set_yticks(-np.arange(len(names)) * _ROW - 0.5, [
        plain(name).replace(" ", "\n", 1) for name in names], style="italic")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def _greenness(ax: Axes, images: np.ndarray, floor: float) -> None:
    """NDVI of one sample as a line on the strip; ``floor`` is zero."""
    place = np.arange(12) * _CELL + 0.5
    green = ndvi(images)[:, 2, 2]  # (T,)
    seen = np.isfinite(green)
    ax.plot([0, 12 * _CELL - 0.14], [floor, floor], color=REST,
            linewidth=0.8)
    if not seen.any():
        return
    level = floor + _BAND * green.clip(0, 1)
    ax.fill_between(place[seen], floor, level[seen], color="#009E73",
                    alpha=0.14, linewidth=0)
    ax.plot(place[seen], level[seen], color="#009E73", linewidth=1.2)
    ax.scatter(place[seen], level[seen], s=9, color="#009E73", zorder=3)
    low, high = green[seen].min(), green[seen].max()
    ax.text(-0.22, floor + 0.08, f"NDVI {low:.2f} to {high:.2f}",
            ha="right", fontsize=7.5, color=FAINT)


def phenology(images: np.ndarray, leaf_types, latitude, *, axes=None):
    """NDVI through the year by leaf type, north and south.

    Median and middle half of the centre pixels beyond 30° latitude; leaf
    types with fewer than five samples on a side are left out.

    Parameters
    ----------
    images : (N, T, C, H, W) uint16
    leaf_types : (N,) str
    latitude : (N,) float
        Degrees.
    """
    checks.images(images)
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(8.5, 3.6), sharey=True)[1]
    kinds = checked(leaf_types, len(images), "leaf_types")
    latitude = checked(latitude, len(images), "latitude")
    green = ndvi(np.asarray(images)[..., 2:3, 2:3])[..., 0, 0]  # (N, T)
    sides = {"north of 30° N": latitude > 30,
             "south of 30° S": latitude < -30}
    for ax, (title, side) in zip(axes, sides.items(), strict=True):
        for kind, color in LEAF_COLORS.items():
            part = green[side & (kinds == kind)]
            if len(part) >= 5:
                _season(ax, part, color, f"{kind}  {len(part):,}")
        ax.set_xticks(range(12), list(MONTHS))
        ax.set(xlim=(-0.3, 11.3), ylim=(-0.1, 1))
        ax.set_title(f"{title}, n = {int(side.sum()):,}")
        ax.grid(axis="y")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=7.5, loc="upper center", ncols=2,
                      bbox_to_anchor=(0.5, -0.1), handlelength=1.2)
        else:
            ax.text(5.5, 0.5, "no samples", ha="center", color=FAINT)
    axes[0].set_ylabel("NDVI, median and middle half")
    return axes


def _season(ax: Axes, green: np.ndarray, color: str, label: str) -> None:
    """Median and quartiles of (n, T) values, over the months that occur."""
    months = np.flatnonzero(np.isfinite(green).any(axis=0))
    if not months.size:
        return
    low, middle, high = np.nanpercentile(green[:, months], [25, 50, 75],
                                         axis=0)
    ax.fill_between(months, low, high, color=color, alpha=0.18, linewidth=0)
    ax.plot(months, middle, color=color, label=label)
