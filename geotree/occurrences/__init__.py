"""Where trees have been seen: the table that the whole chain starts from.

One row per record, columns named as in Darwin Core (``COLUMNS``), written
as Parquet. :func:`match` and :func:`collect` bring records from GBIF; the
tables of the GlobalGeoTree release convert both ways.
Quality is handled in two steps: :func:`flag` adds one boolean column per
rule and removes nothing, :func:`keep` removes by the rules you choose.
Used in chapter 01.
"""

from geotree.occurrences.auditing import RULES as AUDIT, audit, marked
from geotree.occurrences.collect import cite, collect, requests_needed
from geotree.occurrences.gbif import NEAREST as SNAPSHOT, URL as GBIF, Client
from geotree.occurrences.matching import judge, match, name_datasets
from geotree.occurrences.names import read_trees
from geotree.occurrences.points import from_points
from geotree.occurrences.quality import (
    FLAGS,
    REMOVE,
    by_tile,
    flag,
    keep,
    removed,
    thin,
)
from geotree.occurrences.table import (
    COLUMNS,
    RELEASE,
    read,
    read_release,
    validate,
    write,
    write_release,
)

__all__ = ["AUDIT", "COLUMNS", "FLAGS", "GBIF", "RELEASE", "REMOVE",
           "SNAPSHOT", "Client", "audit", "by_tile", "cite",
           "collect", "flag", "from_points", "judge", "keep", "marked",
           "match", "name_datasets", "read", "read_release", "read_trees",
           "removed", "requests_needed", "thin", "validate", "write",
           "write_release"]
