"""GeoTree: which tree grows here, seen from satellites, and how sure are we?

Import the room you need: ``from geotree import occurrences, pixels, shards``.
The way the data goes: occurrences → pixels → shards → model → predictions.
``GeoTreeClip``, ``GGTDataset`` and ``CLIPContrastiveLoss``, the names that
GlobalGeoTree's scripts import, come from here too.
"""

__version__ = "0.1.0"

_FROM = {"GeoTreeClip": "geotree.release.model",
         "CLIPContrastiveLoss": "geotree.release.published",
         "GGTDataset": "geotree.release.loader"}


def __getattr__(name: str):
    """Load the release's model or data set when it is asked for."""
    if name not in _FROM:
        raise AttributeError(f"module 'geotree' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_FROM[name]), name)
