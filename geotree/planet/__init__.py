"""The simulated planet: a source of records and pixels with a known optimum.

A wing: it uses the core, and the core never imports it.
"""

from geotree.planet.source import Planet

__all__ = ["Planet"]
