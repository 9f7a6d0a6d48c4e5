"""The physics of the simulated planet: climate, niches, traits, spectra.

Each file is simple enough to invert, so that the best possible answer is
known. :class:`geotree.sources.planet.Planet` puts them together.
"""
