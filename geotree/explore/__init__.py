"""Explore: maps that answer, in a page, in JupyterLab and in Colab.

Needs the extra ``maps``: ``pip install "geotree[maps]"``. Chapter 10.
"""

from geotree.explore.answers import Answers, ask, deepest, places, soften
from geotree.explore.explorer import (
    AnswerMap,
    Explorer,
    answer_map,
    checklists,
    what_grows_here,
)

__all__ = ["AnswerMap", "Answers", "Explorer", "answer_map", "ask",
           "checklists", "deepest", "places", "soften", "what_grows_here"]
