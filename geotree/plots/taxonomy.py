"""The tree of names: how many records, and how far off a wrong answer is."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from geotree import checks
from geotree.plots.style import (
    CYCLE,
    INK,
    LEAF_COLORS,
    PAPER,
    REST,
    axes_of,
    checked,
    plain,
)
from geotree.taxonomy import RANKS, members

_DEPTHS = {"right species": "#00402e", "right genus": "#009E73",
           "right family": "#8cc9b3", "right leaf type": "#d5e5dc",
           "none of these": REST}


def mistakes(answers: dict[str, np.ndarray], labels,
             classes: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How far off wrong answers are, in the tree of names.

    Parameters
    ----------
    answers : dict of (N,) int
        By model, the class that each gives.
    labels : (N,) int
        The true classes.
    classes : DataFrame of K rows
        Class table.
    """
    labels = checks.labels(labels, len(classes))
    groups = [members(classes, rank)[1] for rank in reversed(RANKS)]
    ax = axes_of(ax, figsize=(7.5, 0.55 * len(answers) + 1.5))
    for row, (name, answer) in enumerate(answers.items()):
        answer, left = checked(answer, len(labels), name), 0.0
        right = [group[answer] == group[labels] for group in groups]
        right.append(np.ones(len(labels), bool))
        nearest = np.argmax(right, axis=0)
        shares = 100 * np.bincount(nearest, minlength=5) / len(labels)
        for share, (depth, color) in zip(shares, _DEPTHS.items(),
                                         strict=True):
            ax.barh(row, share, left=left, height=0.62, color=color,
                    label=depth if row == 0 else None)
            if share > 5:
                ax.text(left + share / 2, row, f"{share:.0f}", ha="center",
                        va="center", fontsize=9,
                        color=PAPER if depth == "right species" else INK)
            left += share
    ax.set_yticks(range(len(answers)), [plain(name) for name in answers])
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set(xlim=(0, 100), xlabel="answers (%)")
    ax.legend(ncols=5, loc="lower left", bbox_to_anchor=(-0.02, 1.0),
              fontsize=8, handlelength=1, columnspacing=1)
    ax.set_title(f"n = {len(labels):,} samples", pad=26)
    return ax


def icicle(classes: pd.DataFrame, counts, *,
           ax: Axes | None = None) -> Axes:
    """Family, genus and species side by side, as wide as their counts.

    Parameters
    ----------
    classes : DataFrame of K rows
        Class table.
    counts : (K,) int
        Records of each class.
    """
    ranks = ["leafType", "family", "genus", "species"]
    table = classes.assign(n=checked(counts, len(classes), "counts"))
    total = table["n"].sum()
    if not total:
        raise ValueError("counts are all zero: nothing to draw.")
    for rank in ranks:
        table[f"n_{rank}"] = table.groupby(ranks[:ranks.index(rank) + 1])[
            "n"].transform("sum")
    order = [key for rank in ranks for key in (f"n_{rank}", rank)]
    table = table.sort_values(order, ascending=[False, True] * len(ranks))
    ax = axes_of(ax, figsize=(8.5, 5.2))
    for column in range(len(ranks)):
        keys = ranks[:column + 1]
        sizes = table.groupby(keys, sort=False)["n"].sum() / total
        tops = sizes.cumsum()
        for key, height, top in zip(sizes.index, sizes, tops, strict=True):
            parts = key if isinstance(key, tuple) else (key,)
            color = LEAF_COLORS.get(parts[0], CYCLE[0])
            ax.barh(1 - top, 0.985, height=height, left=column,
                    align="edge", color=color, alpha=1 - 0.2 * column,
                    edgecolor=ax.get_facecolor(), linewidth=0.6)
            if height > 0.022:  # as high as the smallest letters
                text = f"{plain(parts[-1])}  {100 * height:.0f} %"
                ax.text(column + 0.02, 1 - top + height / 2, text,
                        va="center",
                        fontsize=min(8.5, 4 + 100 * height), clip_on=True,
                        color=PAPER if column < 2 and color == CYCLE[0]
                        else INK,
                        style="italic" if column > 1 else "normal")
    ax.set(xlim=(0, len(ranks)), ylim=(0, 1), yticks=[])
    ax.set_xticks(np.arange(len(ranks)) + 0.5,
                  ["leaf type", "family", "genus", "species"])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(f"n = {int(total):,} records of {len(classes):,} species")
    return ax
