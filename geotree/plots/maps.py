"""Maps: where records are, and the cover of the book."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from geotree import checks, world
from geotree.plots.style import (
    LEAF_COLORS,
    REST,
    axes_of,
    checked,
    colors,
    dots,
)

_LAND, _COAST = "#e9e6dd", "#cfcabd"
_NIGHT, _SEA, _GROUND, _GRATICULE = "#060d14", "#0a1722", "#16262f", "#13283a"
_SOUTH, _NORTH = -57.0, 84.0  # degrees; no trees beyond


def equal_earth(lon, lat) -> tuple[np.ndarray, np.ndarray]:
    """Project degrees to a map of the world where areas are true.

    Returns
    -------
    x, y : float
        x from -2.71 to 2.71, y from -1.32 to 1.32.

    Notes
    -----
    Šavrič, Patterson and Jenny (2019), "The Equal Earth map projection".
    """
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    lon, lat = np.radians(lon), np.radians(lat)
    t = np.arcsin(np.sqrt(3) / 2 * np.sin(lat))
    slope = 9 * a4 * t**8 + 7 * a3 * t**6 + 3 * a2 * t**2 + a1
    x = 2 * np.sqrt(3) * lon * np.cos(t) / (3 * slope)
    return x, a4 * t**9 + a3 * t**7 + a2 * t**3 + a1 * t


def _outline(project=None) -> Path:
    """The land as one path, with its inland seas left open."""
    rings = []
    for ring in world.land():
        if ring[:, 1].max() < _SOUTH:
            continue
        lon = ring[:, 0].clip(-180, 180)
        rings.append(ring if project is None
                     else np.column_stack(project(lon, ring[:, 1])))
    return Path.make_compound_path(*(Path(ring) for ring in rings))


def land(ax: Axes | None = None, *, color: str = _LAND) -> Axes:
    """The land, longitude against latitude."""
    ax = axes_of(ax, figsize=(8.5, 4.2))
    ax.add_patch(PathPatch(_outline(), facecolor=color, edgecolor=_COAST,
                           linewidth=0.4, zorder=0))
    ax.set(xlim=(-180, 180), ylim=(_SOUTH, _NORTH), aspect=1.2,
           xlabel="longitude (°)", ylabel="latitude (°)",
           xticks=range(-120, 121, 60), yticks=range(-30, 61, 30))
    return ax


def occurrence_map(table: pd.DataFrame, *, by: str = "leafType",
                   ax: Axes | None = None) -> Axes:
    """Where the records of an occurrence table are.

    Parameters
    ----------
    by : str
        Column that colours them; its most frequent values have a colour,
        others are grey. Records are drawn in mixed order, so that no
        value hides another.
    """
    checks.columns(table, ["decimalLongitude", "decimalLatitude", by])
    ax = land(ax)
    color = colors(table[by])
    mixed = table.sample(frac=1, random_state=0)
    size = float(np.clip(9000 / max(len(table), 1), 1.5, 14))
    ax.scatter(mixed["decimalLongitude"], mixed["decimalLatitude"], s=size,
               c=mixed[by].map(color).fillna(REST).tolist() or None,
               alpha=0.75, linewidths=0)
    counts = table[by].value_counts()
    entries = [(f"{name}  {counts[name]:,}", shade)
               for name, shade in color.items()]
    if (rest := int(counts.sum() - counts[list(color)].sum())):
        entries.append((f"other  {rest:,}", REST))
    ax.legend(handles=dots(entries), fontsize=8, loc="lower left",
              handletextpad=0.2, labelspacing=0.35)
    ax.set_title(f"n = {len(table):,} records")
    return ax


def cover(lon, lat, kinds, confidence, *, ax: Axes | None = None) -> Axes:
    """The world by predicted kind, brighter where the model is sure.

    Parameters
    ----------
    lon, lat : (N,) float
        Places in degrees; centres of cells, or points anywhere.
    kinds : (N,) str
        Leaf types or other names, e.g. genera.
    confidence : (N,) float
        0 to 1.
    """
    lon, n = np.asarray(lon, float), len(np.asarray(lon))
    lat, kinds, confidence = (
        checked(x, n, name) for x, name in (
            (lat, "lat"), (kinds, "kinds"), (confidence, "confidence")))
    if ax is None:
        figure = plt.figure(figsize=(12, 5.4), facecolor=_NIGHT, dpi=140,
                            layout="none")
        ax = figure.add_axes((0.01, 0.02, 0.98, 0.96))
    _globe(ax)
    palette = (LEAF_COLORS if set(kinds) <= set(LEAF_COLORS)
               else colors(kinds))
    shades = _shades(kinds, confidence, palette)
    step = _step(lat)
    if step:
        ax.add_collection(PolyCollection(
            _cells(lon, lat, step), facecolors=shades,
            edgecolors="none", zorder=2))
    else:
        ax.scatter(*equal_earth(lon, lat), s=max(2.0, 14 - n / 800),
                   c=shades, linewidths=0, zorder=2)
    _key(ax, palette)
    return ax


def _globe(ax: Axes) -> None:
    """Sea, graticule and land in the Equal Earth projection."""
    lat = np.linspace(_SOUTH, _NORTH, 120)
    edge = np.concatenate([
        np.column_stack(equal_earth(np.full(120, 180.0), lat)),
        np.column_stack(equal_earth(np.full(120, -180.0), lat[::-1]))])
    sea = PathPatch(Path(edge), facecolor=_SEA, edgecolor="none", zorder=0)
    ax.add_patch(sea)
    meridians = [np.column_stack(equal_earth(np.full(120, float(x)), lat))
                 for x in range(-150, 180, 30)]
    parallels = [np.column_stack(equal_earth([-180.0, 180.0], [y, y]))
                 for y in (-30.0, 0.0, 30.0, 60.0)]
    ax.add_collection(LineCollection(meridians + parallels, linewidths=0.6,
                                     colors=_GRATICULE, zorder=0.5))
    ground = PathPatch(_outline(equal_earth), facecolor=_GROUND,
                       edgecolor="#22404f", linewidth=0.5, zorder=1)
    ax.add_patch(ground)
    ground.set_clip_path(sea)
    ax.set(xlim=(-2.76, 2.76), ylim=(-1.06, 1.31), aspect="equal",
           xticks=[], yticks=[], facecolor=_NIGHT)
    ax.spines[:].set_visible(False)


def _shades(kinds, confidence, palette: dict) -> np.ndarray:
    """Colours (N, 3) between the ground and a light version of the kind."""
    ground = np.array(to_rgb(_GROUND))
    full = np.array([to_rgb(palette.get(kind, REST)) for kind in kinds])
    full = full.reshape(-1, 3) * 0.82 + 0.18  # lighter, for a dark page
    sure = 0.25 + 0.75 * np.clip(confidence, 0, 1)[:, None] ** 1.5
    return ground + sure * (full - ground)


def _step(lat: np.ndarray) -> float:
    """Side of a grid's cells in degrees, 0 for scattered points."""
    rows = np.unique(np.asarray(lat, float).round(6))
    if len(rows) < 2 or len(rows) * 3 > len(lat):
        return 0.0
    return float(np.diff(rows).min())


def _cells(lon, lat, step: float) -> np.ndarray:
    """Corners of projected cells: (N, 4, 2), a hair smaller than a cell."""
    half = step * 0.46
    corners = [equal_earth(lon + dx * half, lat + dy * half)
               for dx, dy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return np.stack([np.column_stack(corner) for corner in corners], axis=1)


def _key(ax: Axes, palette: dict) -> None:
    """Legend in the southern Pacific, where nothing grows."""
    light = [(name, np.array(to_rgb(color)) * 0.82 + 0.18)
             for name, color in palette.items()]
    ax.legend(
        handles=dots(light, marker="s"), loc="lower left", fontsize=9.5,
        labelcolor="#dfe7ea", handletextpad=0.3, labelspacing=0.45,
        bbox_to_anchor=(0.03, 0.05), alignment="left")
    ax.text(0.985, 0.03, "brighter: surer", transform=ax.transAxes,
            ha="right", color="#7f929c", fontsize=8.5)
