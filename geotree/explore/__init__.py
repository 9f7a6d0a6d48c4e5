"""Explore: answers for places, maps of them, and widgets that draw both.

:func:`predict` answers a table of places, :func:`ask` a few at once. Maps
that answer a click need the extra ``maps``: ``pip install
"geotree[maps]"``. Chapters 10 and 11.
"""

from geotree.explore.answers import Answers, ask
from geotree.explore.mapfiles import write_geotiff, write_zarr
from geotree.explore.predicting import dated, predict
from geotree.explore.ranges import name_map, range_maps
from geotree.explore.seeing import places
from geotree.explore.sheet import kind_of, score_answers, write_answers

# Loaded when they are asked for: they need ipywidgets.
_WIDGETS = {"explorer": ("AnswerMap", "Explorer", "answer_map", "checklists",
                         "what_grows_here"),
            "samples": ("EmbeddingExplorer", "TaxonomyExplorer",
                        "embedding_explorer", "taxonomy_explorer")}
__all__ = ["AnswerMap", "Answers", "EmbeddingExplorer", "Explorer",
           "TaxonomyExplorer", "answer_map", "ask",
           "checklists", "dated", "embedding_explorer", "kind_of", "name_map",
           "places", "predict", "range_maps", "score_answers",
           "taxonomy_explorer", "what_grows_here", "write_answers",
           "write_geotiff", "write_zarr"]


def __getattr__(name: str):
    from importlib import import_module

    for room, names in _WIDGETS.items():
        if name in names:
            return getattr(import_module(f"geotree.explore.{room}"), name)
    raise AttributeError(f"module 'geotree.explore' has no {name!r}")
