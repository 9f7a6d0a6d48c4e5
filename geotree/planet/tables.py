"""Tables that shape the planet; units in ``geotree/data/README.md``."""

from geotree import data

TABLES = data.load("planet.json")
