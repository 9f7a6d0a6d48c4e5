"""Evaluation: predictions, and scores by rank with intervals.

Every sample is scored, alone: no result depends on the batch it came in.
Intervals come from resampling blocks of the globe, because neighbours are
no independent witnesses. Explained in chapters 06 and 07.
"""

from geotree.evaluation.metrics import hits
from geotree.evaluation.predictions import (
    class_means,
    embed,
    likeliest,
    nearest_mean,
    predict,
    predict_batches,
)
from geotree.evaluation.scores import (
    compare,
    leaderboard,
    score,
    spatial_blocks,
)

__all__ = ["class_means", "compare", "embed", "hits",
           "leaderboard", "likeliest", "nearest_mean", "predict",
           "predict_batches", "score", "spatial_blocks"]
