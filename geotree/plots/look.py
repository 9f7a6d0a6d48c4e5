"""The look of the book: paper, ink, and colours that keep their meaning."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from geotree import checks

# Okabe and Ito (2008), safe for colour-blind readers.
LEAF_COLORS = {
    "Deciduous Broadleaf": "#E69F00", "Evergreen Broadleaf": "#009E73",
    "Evergreen Needleleaf": "#0072B2", "Deciduous Needleleaf": "#CC79A7",
}
CYCLE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00",
         "#6b6b6b", "#d9c400")
# An explicit paper: figures look the same on light and on dark pages.
PAPER, INK, FAINT, REST = "#fbfaf7", "#222222", "#8d8a83", "#c4bfb4"


_NOTE = ""  # below each figure


def style(note: str = "") -> None:
    """Set the style of a notebook's figures; call once at the top.

    Parameters
    ----------
    note : str
        Stands below each figure from here on, so that a copy of it says
        what it rests on: see ``chain.stamp``.
    """
    global _NOTE
    _NOTE = note
    plt.style.use("geotree.plots.book")  # book.mplstyle, beside this file


def _sign(figure) -> None:
    """Write the note below a new figure, where nothing else is drawn."""
    dark = sum(to_rgb(figure.get_facecolor())) < 1.5
    figure.text(1, -0.01, _NOTE, ha="right", va="top", fontsize=8,
                color=PAPER if dark else INK)


def colors(names, *, top: int = len(CYCLE)) -> dict[str, str]:
    """A colour for each of the most frequent names.

    Leaf types have colours of their own; other names take the cycle in
    order of their frequency, and those beyond ``top`` get none.
    """
    checks.number(top, name="top", low=0, whole=True)
    ordered = pd.Series(np.asarray(names, dtype=object)).value_counts(
        ).sort_index().sort_values(ascending=False, kind="stable")
    return {name: LEAF_COLORS.get(name, CYCLE[number % len(CYCLE)])
            for number, name in enumerate(ordered.index[:top])}


def axes_of(ax: Axes | None, **kwargs) -> Axes:
    """``ax``, or the axes of a new figure."""
    return plt.subplots(**kwargs)[1] if ax is None else ax


def rows_of(ax: Axes, names) -> np.ndarray:
    """A row for each name, from the top down; returns their heights."""
    place = np.arange(len(names))[::-1]
    ax.set_yticks(place, [plain(name) for name in names])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(-0.6, len(names) - 0.4)
    return place


def dots(entries, *, marker: str = "o") -> list[Line2D]:
    """Legend handles of (name, colour) pairs."""
    return [Line2D([], [], marker=marker, linestyle="", markersize=6.5,
                   markeredgewidth=0, color=color, label=plain(name))
            for name, color in entries]


def plain(name) -> str:
    """A name as it is written: no formula between dollars, none hidden."""
    text = str(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def table(frame: pd.DataFrame, formats=None, *, index: bool = False):
    """A table for a page; whatever stands in a name is text, never HTML.

    Parameters
    ----------
    frame : DataFrame
    formats : str, callable or dict by column, optional
        As for pandas' ``Styler.format``.
    index : bool
        Whether to show the names of rows.

    Returns
    -------
    Styler
    """
    checks.columns(frame, [], where="frame")
    shown = frame.style.format(formats, na_rep="", escape="html")
    for axis in (0, 1):
        shown = shown.format_index(escape="html", axis=axis)
    return shown if index else shown.hide()
