"""Explore: answers for places, maps of them, and widgets that draw both.

:func:`predict` answers a table of places, :func:`ask` a few at once. Maps
that answer a click need the extra ``maps``: ``pip install
"geotree[maps]"``. Chapters 10 and 11.
"""

from geotree.explore.geotiff import write_geotiff
from geotree.explore.judging import checklists
from geotree.explore.maps import name_map, range_maps
from geotree.explore.predicting import Answers, ask, dated, predict
from geotree.explore.scoring import score_answers
from geotree.explore.seeing import places
from geotree.explore.sheet import kind_of, write_answers

# Loaded when they are asked for: they need ipywidgets.
_WIDGETS = ("AnswerMap", "EmbeddingExplorer", "Explorer", "TaxonomyExplorer",
            "answer_map", "embedding_explorer", "taxonomy_explorer",
            "what_grows_here")
__all__ = [*_WIDGETS, "Answers", "ask", "checklists", "dated", "kind_of",
           "name_map", "places", "predict", "range_maps", "score_answers",
           "write_answers", "write_geotiff"]


def __getattr__(name: str):
    if name not in _WIDGETS:
        raise AttributeError(f"module 'geotree.explore' has no {name!r}")
    from geotree.explore import widgets

    return getattr(widgets, name)
