"""Place alone: what can be told of a tree from where it stands.

Models that read latitude and longitude and nothing else. As a baseline
they are what pixels have to beat; as a prior they know the ranges. Each is
made from records and then asked about places. Explained in chapter 04.
"""

from geotree.place.models import (
    Kernel,
    Nearest,
    PlaceModel,
    Trees,
    cross_validate,
)
from geotree.place.neural import Network

__all__ = ["MODELS", "Kernel", "Nearest", "Network", "PlaceModel", "Trees",
           "cross_validate"]
MODELS = {"nearest places": Nearest, "kernel of places": Kernel,
          "trees of places": Trees, "network of places": Network}
