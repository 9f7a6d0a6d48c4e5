"""Maps: records, errors, ranges, and the cover of the book."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from geotree import checks, globe
from geotree.plots import look

_LAND, _COAST = "#e9e6dd", "#cfcabd"
_NIGHT, _GROUND = "#060d14", "#16262f"
_GREENS = LinearSegmentedColormap.from_list(
    "share", [_LAND, "#a9d3bd", "#009E73", "#00402e"])
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


def _outline(project=lambda lon, lat: (lon, lat), **kwargs) -> PathPatch:
    """The land, with its inland seas left open."""
    rings = [np.column_stack(project(ring[:, 0].clip(-180, 180), ring[:, 1]))
             for ring in globe.land() if ring[:, 1].max() >= _SOUTH]
    return PathPatch(Path.make_compound_path(*map(Path, rings)), **kwargs)


def land(ax: Axes | None = None) -> Axes:
    """The land, longitude against latitude."""
    ax = look.axes_of(ax, figsize=(7.5, 3.8))
    ax.add_patch(_outline(facecolor=_LAND, edgecolor=_COAST, linewidth=0.4,
                          zorder=0))
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
    lat, lon = globe.places_of(table)
    table = table.assign(decimalLatitude=lat, decimalLongitude=lon)
    ax = land(ax)
    color = look.colors(table[by])
    mixed = table.sample(frac=1, random_state=0)
    size = float(np.clip(9000 / max(len(table), 1), 1.5, 14))
    ax.scatter(mixed["decimalLongitude"], mixed["decimalLatitude"], s=size,
               c=mixed[by].map(color).fillna(look.REST).tolist() or None,
               alpha=0.75, linewidths=0)
    counts = table[by].value_counts()
    entries = [(f"{name}  {counts[name]:,}", tint)
               for name, tint in color.items()]
    rest = len(table) - int(counts[list(color)].sum())
    if rest:
        entries.append((f"other  {rest:,}", look.REST))
    ax.legend(handles=look.dots(entries), fontsize=8, loc="lower left",
              handletextpad=0.2, labelspacing=0.35)
    ax.set_title(f"n = {len(table):,} records")
    return ax


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
    checks.one_order(lat=lat, lon=lon, right=right)
    lat, lon = checks.places(lat=lat, lon=lon)
    right = checks.one_each(right, len(lat), where="right")
    if not np.isin(right, (0, 1)).all():
        raise ValueError("right is neither True nor False somewhere.")
    y, x = ((np.floor(one / degrees) + 0.5) * degrees for one in (lat, lon))
    blocks = pd.DataFrame({"y": y, "x": x, "right": 100.0 * right}).groupby(
        ["y", "x"], as_index=False)["right"].agg(["mean", "size"])
    ax = land(ax)
    few, many = (blocks[blocks["size"].lt(5) == one] for one in (True, False))
    ax.scatter(few["x"], few["y"], s=12, color=look.REST, linewidths=0)
    drawn = ax.scatter(many["x"], many["y"], c=many["mean"], cmap="cividis",
                       s=14 + 10 * np.sqrt(many["size"]), vmin=0, vmax=100,
                       linewidths=0.4, edgecolors="#222222")
    ax.figure.colorbar(drawn, ax=ax, shrink=0.75, pad=0.02,
                       label="right answers (%)")
    ax.legend(handles=look.dots([("fewer than 5 samples", look.REST)]),
              loc="lower left", fontsize=8)
    ax.set_title(f"n = {len(lat):,} samples in {len(blocks):,} blocks of "
                 f"{degrees:g}°; larger: more samples")
    return ax


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
        grid = plt.subplots(rows, 4, figsize=(7.5, 1.75 * rows + 0.3),
                            squeeze=False)[1].reshape(-1, 2)
        axes = grid[:len(names)]
        for ax in grid[len(names):].ravel():
            ax.set_axis_off()
    for name, pair in zip(names, axes, strict=True):
        layers = [part.sel(species=name) for part in (predicted, known)]
        most = max(float(layer.max()) for layer in layers) or 1.0
        where = layers[1].where(layers[1] > 0.2 * layers[1].max(), drop=True)
        for ax, layer, title in zip(
                pair, layers, (f"{look.plain(name)}, up to "
                               f"{100 * most:.0f} %\npredicted", "known"),
                strict=True):
            land(ax)
            drawn = ax.pcolormesh(layer["x"], layer["y"], layer, vmin=0,
                                  vmax=most, cmap=_GREENS, rasterized=True)
            ax.set(xlabel="", ylabel="", xticks=[], yticks=[], aspect="auto")
            if where.size:  # with 12° around the cells that matter
                ax.set(xlim=(where["x"].min() - 12, where["x"].max() + 12),
                       ylim=(where["y"].min() - 12, where["y"].max() + 12))
            ax.spines[:].set_visible(False)
            ax.set_title(title, fontsize=8, pad=2)
        bar = ax.figure.colorbar(drawn, ax=list(pair), aspect=14, pad=0.02)
        bar.set_label("probability", fontsize=8)
        bar.ax.tick_params(labelsize=8)
        bar.ax.locator_params(nbins=4)
        bar.ax.yaxis.set_major_formatter(lambda x, _: f"{100 * x:.3g} %")
    return axes


def cover(lon, lat, kinds, confidence, *, step: float) -> Axes:
    """The world by predicted kind, brighter where the model is sure.

    Parameters
    ----------
    lon, lat : (N,) float
        Centres of cells, in degrees.
    kinds : (N,) str
        Leaf types or other names, e.g. genera.
    confidence : (N,) float
        0 to 1.
    step : float
        Side of a cell in degrees.
    """
    lon = np.asarray(lon, float)
    lat, kinds, confidence = (
        checks.one_each(values, len(lon), where=name) for name, values in (
            ("lat", lat), ("kinds", kinds), ("confidence", confidence)))
    figure = plt.figure(figsize=(9, 4.05), facecolor=_NIGHT, layout="none")
    ax = figure.add_axes((0.01, 0.02, 0.98, 0.96))
    ax.add_patch(_outline(equal_earth, facecolor=_GROUND, linewidth=0))
    ax.set(xlim=(-2.76, 2.76), ylim=(-1.06, 1.31), aspect="equal")
    ax.set_axis_off()
    palette = (look.LEAF_COLORS if set(kinds) <= set(look.LEAF_COLORS)
               else look.colors(kinds))
    # Lighter, for a dark page.
    light = {name: 0.82 * np.array(to_rgb(palette.get(name, look.REST))) + 0.18
             for name in {*kinds, *palette}}
    ground, sure = np.array(to_rgb(_GROUND)), 0.25 + 0.75 * np.clip(
        confidence, 0, 1)[:, None] ** 1.5
    half = 0.46 * step  # a hair smaller than a cell
    corners = [np.column_stack(equal_earth(lon + x * half, lat + y * half))
               for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    ax.add_collection(PolyCollection(
        np.stack(corners, axis=1), edgecolors="none", zorder=2,
        facecolors=ground + sure * ([light[kind] for kind in kinds]
                                    - ground)))
    ax.legend(  # in the southern Pacific, where nothing grows
        handles=look.dots([(name, light[name]) for name in palette],
                          marker="s"),
        loc="lower left", fontsize=12, labelcolor="#dfe7ea",
        handletextpad=0.3, labelspacing=0.45, bbox_to_anchor=(0.03, 0.05),
        alignment="left")
    ax.text(0.985, 0.03, "brighter: surer", transform=ax.transAxes,
            ha="right", color="#7f929c", fontsize=11)
    return ax
