"""Shards: a cube as tar files that any machine reads at full speed.

*Packed* (default): one record holds 256 samples as ``.npy`` columns
(:mod:`geotree.shards.records`). *Release*: one sample a record, as
GlobalGeoTree publishes them (:mod:`geotree.release.tars`). Both are
shuffled when written and lie beside an index with counts, hashes and the
class table: nothing is scanned, and no pickle is executed. Chapter 03.
"""

from geotree.shards.batch import Batch, ShardError, join, take
from geotree.shards.index import INDEX, LAYOUTS, TABLE, Shard
from geotree.shards.memory import from_arrays
from geotree.shards.reading import Shards, open
from geotree.shards.writing import write

__all__ = ["INDEX", "LAYOUTS", "TABLE", "Batch", "Shard", "ShardError",
           "Shards", "from_arrays", "join", "open", "take", "write"]
