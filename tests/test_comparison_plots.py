"""Figures of comparisons draw the numbers that they are given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from geotree import plots

GAINS = pd.DataFrame({"model": ["a", "b", "c"], "adds": [0.1, 0.01, -0.2],
                      "adds_low": [0.05, -0.02, -0.3],
                      "adds_high": [0.15, 0.04, -0.1]})


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_differences_are_drawn_in_points_and_grey_where_unsure():
    ax = plots.differences(GAINS)
    dots, = [one for one in ax.collections if hasattr(one, "get_sizes")
             and len(one.get_offsets()) == 3]
    assert dots.get_offsets()[:, 0].tolist() == pytest.approx([10, 1, -20])
    shades = {tuple(color) for color in dots.get_facecolors()}
    assert len(shades) == 2
    assert "+1.0" in [text.get_text() for text in ax.texts]
    assert ax.get_yticklabels()[0].get_text() == "a"
    with pytest.raises(ValueError, match=r"lacks the columns \['adds_low'"):
        plots.differences(GAINS.drop(columns="adds_low"))


def test_curves_are_in_percent():
    curve = pd.DataFrame({"coverage": [0.5, 1.0], "risk": [0.1, 0.3]})
    _, ax = plt.subplots()
    assert plots.coverage_curve({"model": curve}, ax=ax) is ax
    line, = ax.lines
    assert line.get_xdata().tolist() == [50, 100]
    assert line.get_ydata().tolist() == pytest.approx([10, 30])
    with pytest.raises(ValueError, match="no curve"):
        plots.coverage_curve({})
