"""The tree of names: how many records, and how far off a wrong answer is."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from geotree import checks
from geotree.plots import look
from geotree.taxonomy import RANKS, members

_DEPTHS = {"right species": "#00402e", "right genus": "#009E73",
           "right family": "#8cc9b3", "right leaf type": "#d5e5dc",
           "none of these": look.REST}


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
    if not checks.by_name(answers, "answers"):
        raise ValueError("answers is empty: no model to draw.")
    checks.one_order(labels=labels, **answers)
    groups = [members(classes, rank)[1] for rank in reversed(RANKS)]
    labels, k = checks.labels(labels, len(classes)), len(classes)
    shares = []
    for name, answer in answers.items():
        answer = checks.labels(answer, k, where=name)
        checks.one_each(answer, len(labels), where=name)
        right = [group[answer] == group[labels] for group in groups]
        right.append(np.ones(len(labels), bool))
        shares.append(np.bincount(np.argmax(right, axis=0), minlength=5))
    shares = 100 * np.array(shares).T / len(labels)  # (depths, models)
    ax = look.axes_of(ax, figsize=(7, 0.55 * len(answers) + 1.5))
    place, left = look.rows_of(ax, list(answers)), np.zeros(len(answers))
    for (depth, color), width in zip(_DEPTHS.items(), shares, strict=True):
        bars = ax.barh(place, width, left=left, height=0.62, color=color,
                       label=depth)
        ax.bar_label(bars, [f"{one:.0f}" if one > 5 else "" for one in width],
                     label_type="center", fontsize=9,
                     color=look.PAPER if depth == "right species"
                     else look.INK)
        left += width
    ax.set(xlim=(0, 100), xlabel="answers (%)")
    ax.legend(ncols=5, loc="lower left", bbox_to_anchor=(-0.02, 1.0),
              fontsize=8, handlelength=1, columnspacing=1)
    ax.set_title(f"n = {len(labels):,} samples", pad=26)
    return ax


def icicle(classes: pd.DataFrame, counts, *, ax: Axes | None = None) -> Axes:
    """Leaf type to species side by side, as high as their counts.

    Parameters
    ----------
    classes : DataFrame of K rows
        Class table.
    counts : (K,) int
        Records of each class.
    """
    ranks = ["leafType", "family", "genus", "species"]
    checks.columns(classes, ranks, where="class table")
    counts = checks.one_each(counts, len(classes), where="counts",
                             rows=classes["species"])
    if counts.dtype.kind not in "iuf" or (counts % 1).any() or (
            counts.min() < 0) or not counts.any():
        raise ValueError(f"counts are {checks.few(counts)}, expected whole "
                         "numbers, none below zero, not all zero.")
    table, total = classes.assign(n=counts), counts.sum()
    ax = look.axes_of(ax, figsize=(7, 5.2))
    for column in range(len(ranks)):
        sizes = table.groupby(ranks[:column + 1])["n"].sum() / total
        bottoms = 1 - sizes.cumsum()
        kinds = sizes.index.get_level_values(0)
        names = sizes.index.get_level_values(-1)
        shade = [look.LEAF_COLORS.get(kind, look.CYCLE[0]) for kind in kinds]
        ax.bar(column, sizes, bottom=bottoms, width=0.985, align="edge",
               color=shade, alpha=1 - 0.2 * column,
               edgecolor=ax.get_facecolor(), linewidth=0.6)
        for name, height, low, color in zip(names, sizes, bottoms, shade,
                                            strict=True):
            if height > 0.026:  # as high as the letters
                ax.text(column + 0.02, low + height / 2,
                        f"{look.plain(name)}  {100 * height:.0f} %",
                        va="center", fontsize=8, clip_on=True,
                        color=look.PAPER if column < 2
                        and color == look.CYCLE[0] else look.INK,
                        style="italic" if column > 1 else "normal")
    ax.set(xlim=(0, len(ranks)), ylim=(0, 1), yticks=[])
    ax.set_xticks(np.arange(len(ranks)) + 0.5,
                  ["leaf type", "family", "genus", "species"])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(f"n = {int(total):,} records of {len(classes):,} species")
    return ax
