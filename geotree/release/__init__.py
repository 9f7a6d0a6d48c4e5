"""The release: GlobalGeoTree's model, files, loader and recipe, as published.

A wing: it uses the core, and the core never imports it.
"""
