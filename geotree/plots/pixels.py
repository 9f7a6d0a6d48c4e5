"""Pixels: a year of a tree in true colour, and of its greenness."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from geotree import checks
from geotree.plots import look
from geotree.variables import BAND_NAMES, NODATA, PATCH, ndvi, reflectance

MONTHS = "JFMAMJJASOND"
_BRIGHTEST = 0.3  # reflectance that becomes white
_RGB = [BAND_NAMES.index(name) for name in ("B4", "B3", "B2")]


def true_color(images: np.ndarray) -> np.ndarray:
    """Red, green, blue for display.

    Parameters
    ----------
    images : (..., C, H, W) uint16

    Returns
    -------
    (..., H, W, 3) float32
        0 to 1, white from a reflectance of 0.3 on, gamma 1/1.8; missing
        pixels are light grey.
    """
    checks.named_axes(images, "images", band=BAND_NAMES, y=None, x=None)
    images = checks.plain(images, "images")
    if images.ndim < 3 or images.shape[-3] != len(BAND_NAMES):
        raise ValueError(f"images have shape {images.shape}, expected (…, 10 "
                         "bands, height, width).")
    bands = images[..., _RGB, :, :]
    value = np.clip(reflectance(bands) / _BRIGHTEST, 0, 1) ** (1 / 1.8)
    value[bands == NODATA] = 0.88
    return np.moveaxis(value, -3, -1)


def patch_strip(images: np.ndarray, names, *, ax: Axes | None = None) -> Axes:
    """Twelve months of patches in true colour, one row per sample.

    Missing months are grey. Below each row, the NDVI of the patch's centre
    on a scale from 0 (ground line) to 1.

    Parameters
    ----------
    images : (N, T, C, H, W) uint16
    names : N str
    """
    checks.images(images)
    names = checks.one_each(names, len(images), where="names")
    wide, high = PATCH + 1, PATCH + 4  # a tile, its gap, room for the NDVI
    tiles = true_color(images)  # (N, T, H, W, 3)
    tiles = np.pad(tiles, [(0, 0)] * 4 + [(0, 1)], constant_values=1)
    tiles = np.pad(tiles, [(0, 0), (0, 0), (0, 4), (0, 1), (0, 0)])
    sheet = tiles.transpose(0, 2, 1, 3, 4).reshape(
        high * len(images), -1, 4)  # red, green, blue, and opaque or not
    ax = look.axes_of(ax, figsize=(7.5, 0.84 * len(images) + 0.35))
    ax.imshow(sheet, interpolation="nearest")
    middle = wide * np.arange(12) + PATCH // 2
    green = ndvi(np.asarray(images))[:, :, 2, 2]  # (N, T)
    for number, year in enumerate(green):
        floor = high * (number + 1) - 1
        ax.axhline(floor, color=look.FAINT, linewidth=0.6)
        ax.plot(middle, floor - 2.7 * year.clip(0, 1), color="#009E73",
                linewidth=1.2, marker="o", markersize=3)
        if np.isfinite(year).any():
            ax.text(-1, floor, f"NDVI {np.nanmin(year):.2f} to "
                    f"{np.nanmax(year):.2f}", ha="right", fontsize=8,
                    color=look.FAINT)
    ax.xaxis.tick_top()
    ax.set_xticks(middle, list(MONTHS))
    ax.set_yticks(high * np.arange(len(names)) + PATCH // 2, [
        look.plain(name).replace(" ", "\n", 1) for name in names],
        style="italic")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def phenology(images: np.ndarray, leaf_types, latitude, *, axes=None):
    """NDVI through the year by leaf type, north and south.

    Leaf types with fewer than five samples on a side are left out.

    Parameters
    ----------
    images : (N, T, C, H, W) uint16
    leaf_types : (N,) str
    latitude : (N,) float
        Degrees.
    """
    checks.images(images)
    checks.one_order(leaf_types=leaf_types, latitude=latitude)
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(7.5, 3.6), sharey=True)[1]
    kinds = checks.one_each(leaf_types, len(images), where="leaf_types")
    latitude = checks.one_each(checks.degrees(latitude), len(images),
                               where="latitude")
    checks.refuse(np.abs(latitude) > 90, "latitudes are beyond 90°")
    if len(kinds) and not np.isin(kinds, [*look.LEAF_COLORS]).any():
        raise ValueError(f"leaf_types are {checks.few(np.unique(kinds))}, "
                         f"expected such as {next(iter(look.LEAF_COLORS))!r}.")
    green = ndvi(np.asarray(images)[..., 2:3, 2:3])[..., 0, 0]  # (N, T)
    sides = {"north of 30° N": latitude > 30, "south of 30° S": latitude < -30}
    for ax, (title, side) in zip(axes, sides.items(), strict=True):
        for kind, color in look.LEAF_COLORS.items():
            part = pd.DataFrame(green[side & (kinds == kind)])
            if len(part) >= 5:
                low, middle, high = part.quantile([0.25, 0.5, 0.75]).to_numpy()
                ax.fill_between(range(12), low, high, color=color,
                                alpha=0.18, linewidth=0)
                ax.plot(middle, color=color, label=f"{kind}  {len(part):,}")
        ax.set_xticks(range(12), list(MONTHS))
        ax.set(xlim=(-0.3, 11.3), ylim=(-0.1, 1))
        ax.set_title(f"{title}, n = {int(side.sum()):,}")
        ax.grid(axis="y")
        if ax.lines:
            ax.legend(fontsize=8, loc="upper center", ncols=2,
                      bbox_to_anchor=(0.5, -0.1), handlelength=1.2)
        else:
            ax.text(5.5, 0.5, "no samples", ha="center", color=look.FAINT)
    axes[0].set_ylabel("NDVI, median and middle half")
    return axes
