"""Maps of predictions: ranges beside what is known, and errors."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from geotree import checks
from geotree.plots.maps import land
from geotree.plots.style import REST, checked, dots, plain

_GREENS = LinearSegmentedColormap.from_list(
    "share", ["#e9e6dd", "#a9d3bd", "#009E73", "#00402e"])


def range_panels(predicted, known, *, axes=None):
    """Predicted probability of each species beside what is known of it.

    Parameters
    ----------
    predicted, known : DataArray (species, y, x)
        Shares in degrees of longitude and latitude; NaN is left blank.
        Both are drawn on one scale, up to the larger maximum of a species,
        where the species is known from.

    Returns
    -------
    (S, 2) axes
    """
    names = predicted["species"].to_numpy().tolist()
    if known.shape != predicted.shape:
        raise ValueError(f"known has shape {known.shape}, expected "
                         f"{predicted.shape}: one cell for each predicted.")
    if axes is None:
        rows = -(-len(names) // 2)
        figure = plt.figure(figsize=(8.5, 1.75 * rows + 0.3))
        grid = figure.subplots(rows, 4, squeeze=False)
        for ax in grid.reshape(-1)[2 * len(names):]:
            ax.set_axis_off()
        axes = grid.reshape(-1, 2)[:len(names)]
    for name, pair in zip(names, axes, strict=True):
        layers = [part.sel(species=name) for part in (predicted, known)]
        most = max(float(layer.max()) for layer in layers) or 1.0
        box = _extent(layers[1])
        for ax, layer, title in zip(pair, layers, ("predicted", "known"),
                                    strict=True):
            land(ax)
            ax.pcolormesh(layer["x"], layer["y"], layer, cmap=_GREENS,
                          vmin=0, vmax=most, rasterized=True)
            ax.set(xlim=box[:2], ylim=box[2:], xlabel="", ylabel="",
                   xticks=[], yticks=[], aspect="auto")
            ax.spines[:].set_visible(False)
            ax.set_title(title, fontsize=8, pad=2)
        pair[0].set_title(f"{plain(name)}, up to {100 * most:.0f} %\n"
                          "predicted", fontsize=8, pad=2)
    return axes


def _extent(layer, margin: float = 12.0) -> tuple[float, ...]:
    """West, east, south, north around the cells that matter."""
    part = layer.where(layer > 0.2 * layer.max(), drop=True)
    if not part.size:
        return -180, 180, -57, 84
    west, east = part["x"].min() - margin, part["x"].max() + margin
    south, north = part["y"].min() - margin, part["y"].max() + margin
    west, east, south, north = map(float, (west, east, south, north))
    half = min(max(east - west, 1.6 * (north - south)) / 2, 110)
    tall = half / 1.6
    x = np.clip((west + east) / 2, half - 180, 180 - half)
    y = np.clip((south + north) / 2, tall - 60, 80 - tall)
    return x - half, x + half, y - tall, y + tall


def error_map(lat, lon, right, *, degrees: float = 10.0,
              ax: Axes | None = None) -> Axes:
    """Where a model is wrong: one mark a block of the globe.

    Parameters
    ----------
    lat, lon : (N,) float
    right : (N,) bool
    degrees : float
        Side of a block. Blocks of fewer than five samples are grey.
    """
    lat, lon = checks.places(lat=lat, lon=lon)
    n = len(lat)
    table = pd.DataFrame({
        "lat": (np.floor(lat / degrees) + 0.5) * degrees,
        "lon": (np.floor(lon / degrees) + 0.5) * degrees,
        "right": checked(right, n, "right").astype(float)})
    blocks = table.groupby(["lat", "lon"])["right"].agg(["mean", "size"])
    ax = land(ax)
    few = (blocks["size"] < 5).to_numpy()
    y, x = (blocks.index.get_level_values(name).to_numpy()
            for name in ("lat", "lon"))
    size = 14 + 10 * np.sqrt(blocks["size"].to_numpy())
    ax.scatter(x[few], y[few], s=12, color=REST, linewidths=0)
    drawn = ax.scatter(x[~few], y[~few], s=size[~few],
                       c=100 * blocks["mean"].to_numpy()[~few],
                       cmap="cividis", vmin=0, vmax=100, linewidths=0.4,
                       edgecolors="#222222")
    ax.figure.colorbar(drawn, ax=ax, shrink=0.75, pad=0.02,
                       label="right answers (%)")
    ax.legend(handles=dots([("fewer than 5 samples", REST)]),
              loc="lower left", fontsize=8)
    ax.set_title(f"n = {n:,} samples in {len(blocks):,} blocks of "
                 f"{degrees:g}°; larger: more samples")
    return ax
