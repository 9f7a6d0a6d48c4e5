"""Figures of the book, all in one style.

Each function takes ``ax=None`` (or ``axes=None``) and returns what it drew
on. Colours of categories are safe for colour-blind readers and stay the
same through the book.
"""

from geotree.plots.charts import (
    coverage_curve,
    differences,
    embedding,
    history,
    learning_curve,
    reliability,
    score_bars,
)
from geotree.plots.look import CYCLE, LEAF_COLORS, PAPER, colors, style, table
from geotree.plots.maps import (
    cover,
    error_map,
    land,
    occurrence_map,
    range_panels,
)
from geotree.plots.pixels import MONTHS, patch_strip, phenology, true_color
from geotree.plots.taxonomy import icicle, mistakes

__all__ = ["CYCLE", "LEAF_COLORS", "MONTHS", "PAPER", "colors",
           "cover", "coverage_curve", "differences", "embedding", "error_map",
           "history", "icicle", "land", "learning_curve", "mistakes",
           "occurrence_map", "patch_strip", "phenology", "range_panels",
           "reliability", "score_bars", "style", "table", "true_color"]
