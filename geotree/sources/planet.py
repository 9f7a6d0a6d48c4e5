"""Second door to the planet's wing: ``geotree.sources.planet.Planet``."""

from geotree.planet.source import Planet

__all__ = ["Planet"]
