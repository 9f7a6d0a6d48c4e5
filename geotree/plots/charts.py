"""Charts: scores with intervals, differences, curves, embeddings."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from geotree import checks
from geotree.plots import look

_BEST = "#D55E00"  # the Bayes optimum, everywhere


def _percent(table: pd.DataFrame, names=("value", "low", "high")):
    checks.columns(table, names, where="the table of scores")
    if table.empty:
        raise ValueError("the table of scores has no rows: nothing to draw.")
    values = table[list(names)].to_numpy(float, na_value=np.nan).T
    checks.refuse(np.abs(values[0]) > 1, "scores are beyond 1",
                  "Expected shares, not percent.")
    if len(values) == 3:
        checks.refuse(values[1] > values[2], "intervals end before they begin")
    return 100 * values


def _total(ax: Axes, n: pd.Series, **kwargs) -> None:
    low, high = int(n.min()), int(n.max())
    count = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    ax.set_title(f"n = {count} samples", **kwargs)


def _optimum(ax: Axes, share: float | None) -> None:
    """The Bayes optimum as a line across the figure, where it is known."""
    if share is not None:
        checks.number(share, name="optimum", low=0, high=1)
        ax.axhline(100 * share, color=_BEST, linestyle=(0, (4, 2)))
        ax.text(0.01, 100 * share + 1.5, f"Bayes optimum {100 * share:.1f}",
                color=_BEST, fontsize=9,
                transform=ax.get_yaxis_transform())


def _curves(ax: Axes, tables: dict[str, pd.DataFrame], x: str, y: str,
            ends=(), **kwargs) -> Axes:
    """A line for each table, its values in percent, with a band."""
    if not tables:
        raise ValueError("tables is empty: no curve to draw.")
    for number, (name, table) in enumerate(tables.items()):
        color = look.CYCLE[number % len(look.CYCLE)]
        value, *band = _percent(table, (y, *ends))
        ax.plot(table[x], value, color=color, label=look.plain(name), **kwargs)
        if band:
            ax.fill_between(table[x], *band, color=color, alpha=0.16,
                            linewidth=0)
    ax.grid(axis="y")
    ax.legend()
    return ax


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
    value, low, high = _percent(checks.columns(scores, [label, "n"]))
    ax = look.axes_of(ax, figsize=(7, 0.4 * len(scores) + 1.3))
    place = look.rows_of(ax, scores[label])
    shade = [look.CYCLE[0] if highlight in (None, name) else look.REST
             for name in scores[label]]
    ax.barh(place, 100, height=0.6, color="#f0ede5")
    ax.barh(place, value, height=0.6, color=shade)
    ax.hlines(place, low, high, color=look.INK, linewidth=1.8)
    for where, number in zip(place, value, strict=True):
        ax.text(101.5, where, f"{number:.1f}", va="center", fontsize=9.5)
    ax.set(xlim=(0, 100), xlabel="accuracy (%), black: 95 % interval")
    if optimum is not None:
        checks.number(optimum, name="optimum", low=0, high=1)
        ax.axvline(100 * optimum, color=_BEST, linestyle=(0, (4, 2)))
        ax.text(100 * optimum, len(scores) - 0.34,
                f"Bayes optimum {100 * optimum:.1f}", color=_BEST,
                ha="right" if optimum > 0.6 else "left", fontsize=9)
    _total(ax, scores["n"], pad=20)
    return ax


def differences(table: pd.DataFrame, *, label: str = "model",
                names=("adds", "adds_low", "adds_high"),
                ax: Axes | None = None) -> Axes:
    """Paired differences with 95 % intervals; grey where zero is inside.

    Parameters
    ----------
    table : DataFrame
        Columns ``label`` and three ``names``: value, low and high
        (shares); ``n``, if known.
    """
    value, low, high = _percent(table, names)
    ax = look.axes_of(ax, figsize=(7, 0.36 * len(table) + 1.2))
    place = look.rows_of(ax, table[label])
    shade = np.where((low > 0) | (high < 0), look.CYCLE[0], look.REST).tolist()
    ax.axvline(0, color=look.FAINT, linewidth=1.2)
    ax.hlines(place, low, high, color=shade, linewidth=2.4)
    ax.scatter(value, place, color=shade, s=42, zorder=3)
    reach = np.nanmax(np.abs([low, high, value, value]))
    for where, number in zip(place, value, strict=True):
        ax.text(1.12 * reach, where, f"{round(number, 1) + 0:+.1f}",
                va="center", fontsize=9.5, color=look.INK)
    ax.set(xlim=(-1.1 * reach, 1.1 * reach),
           xlabel="difference in accuracy (points), 95 % interval")
    ax.grid(axis="x")
    if "n" in table:
        _total(ax, table["n"])
    return ax


def reliability(tables: dict[str, pd.DataFrame], *,
                ax: Axes | None = None) -> Axes:
    """Accuracy against confidence; the diagonal is perfect honesty.

    Parameters
    ----------
    tables : dict of DataFrame
        By name, from ``calibration.reliability``.
    """
    for name, table in checks.by_name(tables, "tables").items():
        checks.columns(table, ["confidence", "accuracy", "error", "n"],
                       where=name)
    ax = look.axes_of(ax, figsize=(4.8, 4.8))
    ax.plot([0, 100], [0, 100], color=look.FAINT, linestyle=":", linewidth=1.2)
    for text, x, y in (("too modest", 25, 55), ("too sure", 75, 30)):
        ax.text(x, y, text, color=look.FAINT, ha="center", va="center")
    _curves(ax, {name: table.assign(confidence=100 * table["confidence"],
                                    low=table["accuracy"] - table["error"],
                                    high=table["accuracy"] + table["error"])
                 for name, table in tables.items()},
            "confidence", "accuracy", ("low", "high"), marker="o")
    ax.set(xlabel="confidence (%)", xlim=(0, 101), ylim=(0, 101),
           ylabel="accuracy (%), band: 95 % interval")
    _total(ax, pd.Series([table["n"].sum() for table in tables.values()]))
    return ax


def learning_curve(table: pd.DataFrame, *, optimum: float | None = None,
                   ax: Axes | None = None) -> Axes:
    """Accuracy by how much was learnt from, one line per model.

    Parameters
    ----------
    table : DataFrame
        Columns ``records`` (drawn on a logarithmic axis), ``model``,
        ``value``, ``low``, ``high`` (shares), ``n``.
    optimum : float
        Draw the Bayes optimum as a line.
    """
    ax = look.axes_of(ax, figsize=(7, 4))
    _curves(ax, {name: part.sort_values("records") for name, part
                 in checks.columns(
                     table, ["model", "records", "n"]).groupby(
                         "model", sort=False, dropna=False)},
            "records", "value", ("low", "high"), marker="o")
    _optimum(ax, optimum)
    points = sorted(table["records"].unique())
    ax.set(xscale="log", xlabel="records", ylim=(0, 100),
           ylabel="accuracy (%), band: 95 % interval")
    ax.set_xticks(points, [f"{point:,}" for point in points])
    ax.minorticks_off()
    _total(ax, table["n"])
    return ax


def coverage_curve(tables: dict[str, pd.DataFrame], *,
                   ax: Axes | None = None) -> Axes:
    """The error among the share that is answered.

    Parameters
    ----------
    tables : dict of DataFrame
        By name, from ``metrics.risk_coverage``.
    """
    for name, table in checks.by_name(tables, "tables").items():
        checks.columns(table, ["coverage", "risk"], where=name)
    ax = look.axes_of(ax, figsize=(5.6, 3.8))
    _curves(ax, {name: table.assign(coverage=100 * table["coverage"])
                 for name, table in tables.items()}, "coverage", "risk")
    ax.set(xlabel="answered (%), the surest first", xlim=(0, 100),
           ylabel="wrong among them (%)", ylim=(0, None))
    return ax


def history(table: pd.DataFrame, *, optimum: float | None = None, axes=None):
    """Loss and validation top-1 of a training run.

    Parameters
    ----------
    table : DataFrame
        From ``training.fit``: ``epoch`` (from 0), ``loss``,
        ``validation_loss``, ``validation_top1`` (share).
    """
    checks.columns(table, ["epoch", "loss", "validation_loss",
                           "validation_top1"])
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(7.5, 3.3))[1]
    table = table.assign(epoch=table["epoch"] + 1)
    for name, label in (("loss", "training, with penalties"),
                        ("validation_loss", "validation")):
        axes[0].plot(table["epoch"], table[name], marker="o", label=label)
    axes[0].set(ylabel="loss (nats)", ylim=(0, None))
    axes[0].legend()
    _curves(axes[1], {"top-1": table}, "epoch", "validation_top1",
            marker="o").get_legend().remove()
    axes[1].set(ylabel="validation top-1 (%)", ylim=(0, 100))
    _optimum(axes[1], optimum)
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.grid(axis="y")
        ax.xaxis.get_major_locator().set_params(integer=True)
    return axes


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
    checks.rows(points=points, names=names)
    points = checks.plain(points, "points")
    if points.shape != (len(points), 2) or not np.isfinite(points).all():
        raise ValueError(f"points have shape {points.shape} or are not "
                         "finite, expected (samples, 2).")
    names = pd.Series(checks.one_each(names, len(points), where="names"))
    ax = look.axes_of(ax, figsize=(7, 4.8))
    counts, shade = names.value_counts(), look.colors(names, top=top)
    shade = {name: (colors or shade).get(name, shade[name]) for name in shade}
    color = names.map(shade)
    size = float(np.clip(12_000 / max(len(points), 1), 3, 26))
    rest = color.isna().to_numpy()
    ax.scatter(*points[rest].T, s=0.6 * size, color=look.REST, linewidths=0,
               alpha=0.7)
    mixed = np.random.default_rng(0).permutation(np.flatnonzero(~rest))
    ax.scatter(*points[mixed].T, s=size, c=color.iloc[mixed].tolist(),
               linewidths=0, alpha=0.85)
    entries = [(f"{name}  {counts[name]:,}", tint)
               for name, tint in shade.items()]
    if rest.any():
        entries.append((f"{len(counts) - len(shade)} others  "
                        f"{rest.sum():,}", look.REST))
    ax.legend(handles=look.dots(entries), loc="center left",
              bbox_to_anchor=(1, 0.5), handletextpad=0.2)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(f"n = {len(points):,} samples")
    return ax
