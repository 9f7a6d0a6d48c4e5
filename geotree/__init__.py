"""GeoTree: which tree grows here, seen from satellites, and how sure are we?

Import the room you need: ``from geotree import occurrences, pixels, shards``.
The way the data goes: occurrences → pixels → shards → model → predictions.
"""

__version__ = "0.1.0"
