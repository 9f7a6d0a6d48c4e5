"""Pixels: occurrences + a source → a Zarr cube, and the cube.

:mod:`geotree.pixels.cube` says what a cube is, :mod:`~geotree.pixels.download`
fills one. Explained in chapter 02.
"""

from geotree.network import DownloadError
from geotree.pixels.cube import check, counts, open, verify
from geotree.pixels.download import download, hopeless

__all__ = ["DownloadError", "check", "counts", "download", "hopeless", "open",
           "verify"]
