"""Explore: maps that answer, in a page, in JupyterLab and in Colab.

Needs the extra ``maps``: ``pip install "geotree[maps]"``. Chapter 10.
"""

from geotree.explore.answers import Answers, ask, places
from geotree.explore.explorer import (
    AnswerMap,
    Explorer,
    answer_map,
    checklists,
    what_grows_here,
)
from geotree.explore.ranges import range_maps, write_geotiff, write_zarr
from geotree.explore.samples import (
    EmbeddingExplorer,
    TaxonomyExplorer,
    embedding_explorer,
    taxonomy_explorer,
)

__all__ = ["AnswerMap", "Answers", "EmbeddingExplorer", "Explorer",
           "TaxonomyExplorer", "answer_map", "ask", "checklists",
           "embedding_explorer", "places", "range_maps",
           "taxonomy_explorer", "what_grows_here", "write_geotiff",
           "write_zarr"]
