"""Splits: which records train, which test, and how far apart they are.

A random split of clustered records measures memory, not skill: more than a
third of the rows of the release's table have another row within 1 km.
Explained in chapter 04.
"""

from geotree.globe import distance_km, nearest_km
from geotree.splits.draws import (
    benchmark,
    divide,
    hold_out,
    k_shot,
    rarity,
)
from geotree.splits.leakage import LeakageError, check_leakage, check_shared
from geotree.splits.parts import (
    describe,
    folds,
    split,
    units,
    untrained,
)

__all__ = ["LeakageError", "benchmark", "check_leakage", "check_shared",
           "describe", "distance_km", "divide", "folds", "hold_out", "k_shot",
           "nearest_km", "rarity", "split", "units", "untrained"]
