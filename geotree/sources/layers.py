"""Terrain, soil and climate from rasters: files of yours or on the web.

Any path that GDAL reads will do. A value is taken where the place lies, as
stored; slope and aspect follow from the elevation around it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urljoin

import numpy as np

from geotree.globe import METRES
from geotree.network import ServiceError, is_here, redact
from geotree.variables import VARIABLE_NAMES

# Copernicus GLO-30 on AWS, no account; {tile} is like N47_00_E008_00.
GLO30 = ("/vsicurl/https://copernicus-dem-30m.s3.amazonaws.com/"
         "Copernicus_DSM_COG_10_{tile}_DEM/Copernicus_DSM_COG_10_{tile}"
         "_DEM.tif")


def read(place: Mapping[str, str] | str | os.PathLike) -> dict[str, str]:
    """Layers that a folder or a JSON file names.

    Parameters
    ----------
    place : mapping, str or path
        Variable -> path; a folder of GeoTIFFs called like the variables,
        ``bio01.tif`` or, one of many, ``elevation_{tile}.tif``; or a JSON
        file, here or on the web (https), of variable and path. Paths may be
        relative to the file; ``glo30`` stands for :data:`GLO30`.
    """
    if isinstance(place, Mapping):
        return check(place)
    place = str(place)
    if "://" in place:
        return check({name: _path(path) or urljoin(place, path)
                      for name, path in _fetch(place).items()})
    folder = Path(place)
    if not folder.exists():
        raise FileNotFoundError(
            f"no rasters at '{place}'. Give a folder of GeoTIFFs called like "
            "the variables, or a JSON file of variable and path.")
    if folder.is_dir():
        return check({
            name: str(folder / f"{name}{many}.tif")
            for name in VARIABLE_NAMES[2:]
            for many, found in (("_{tile}", f"{name}_*.tif"),
                                ("", f"{name}.tif"))
            if next(folder.glob(found), None)})
    return check({name: _path(path) or str(folder.parent / path) for
                  name, path in json.loads(folder.read_text()).items()})


def _fetch(place: str) -> dict[str, str]:
    """A JSON file on the web."""
    import requests

    def admit(address):
        if not (address.startswith("https://") or is_here(address)):
            raise PermissionError(
                errno.EACCES, f"rasters '{address}' are not named over "
                "https, so anyone on the way could name others. Give an "
                "https address, or a file")

    def hop(answer, **_):
        if answer.is_redirect:
            admit(urljoin(answer.url, answer.headers["Location"]))

    admit(place)
    try:
        answer = requests.get(place, timeout=(10, 60), hooks={"response": hop})
        answer.raise_for_status()
        return dict(answer.json())
    except (requests.RequestException, TypeError, ValueError) as error:
        raise ServiceError(
            errno.EIO, f"no list of rasters at '{place}' ({error!s:.150}). "
            "Check the address, or call again") from error


def _path(path: str) -> str:
    """A path that GDAL knows wherever it is written, else ""."""
    if path == "glo30":
        return GLO30
    return path if path.startswith("/vsi") or "://" in path else ""


def check(layers: Mapping[str, str]) -> dict[str, str]:
    """Raise ``ValueError`` unless each layer is a variable."""
    known = VARIABLE_NAMES[2:]
    odd = [name for name in layers if name not in known]
    if odd:
        raise ValueError(f"no variable {', '.join(odd)}; layers may have "
                         f"{', '.join(known)}.")
    return dict(layers)


def sample(layers: Mapping[str, str], *, lat, lon) -> np.ndarray:
    """Look places up in rasters.

    Parameters
    ----------
    layers : mapping
        Variable -> path; a path with ``{tile}`` is one of many files of
        one degree. Values have to be stored as in
        :data:`geotree.variables.VARIABLES`.
    lat, lon : (N,) float
        Degrees.

    Returns
    -------
    (N, 25) float32
        Elevation to ``bio19``; NaN where a raster has nothing or is not
        given. Slope and aspect follow from the elevation unless rasters of
        their own are given.
    """
    lat, lon = np.asarray(lat, float), np.asarray(lon, float)
    values = np.full((len(lat), len(VARIABLE_NAMES) - 2), np.nan, np.float32)
    for name, parts in files(layers, lat=lat, lon=lon).items():
        column = VARIABLE_NAMES.index(name) - 2
        for file, rows in parts:
            found = _around(file, lat[rows], lon[rows])
            if found is None and file == layers[name]:
                raise FileNotFoundError(
                    errno.ENOENT, f"no raster of {name} at "
                    f"'{redact(file)}'. Give the path of a file that is "
                    "there, or leave the variable out")
            if found is None:  # no tile of sea is published
                continue
            window, size = found
            values[rows, column] = window[:, 1, 1]
            if name == "elevation":
                slopes = slope_aspect(window, size)
                for at, derived in enumerate(("slope", "aspect")):
                    if derived not in layers:
                        values[rows, 1 + at] = slopes[:, at]
    return values


def files(layers: Mapping[str, str], *, lat, lon
          ) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Which file of a layer shows which places: (file, rows) of each."""
    lat, lon = np.asarray(lat, float), np.asarray(lon, float)
    degrees = np.stack([np.floor(lat), np.floor((lon + 180) % 360 - 180)], 1)
    cells, index = np.unique(degrees, axis=0, return_inverse=True)
    index = index.ravel()
    order = np.argsort(index, kind="stable")
    rows = np.split(order, np.searchsorted(index[order],
                                           np.arange(1, len(cells))))
    tiles = [_degree(*map(int, cell)) for cell in cells]
    return {name: [(path.format(tile=tile), part) for tile, part in
                   zip(tiles, rows, strict=True)]
            if "{tile}" in path else [(path, np.arange(len(lat)))]
            for name, path in layers.items()}


def slope_aspect(window: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Slope and aspect of the middle of 3 × 3 heights (Horn, 1981).

    Parameters
    ----------
    window : (N, 3, 3) float
        Metres, north first.
    size : (N, 2) float
        Width and height of a pixel in metres.

    Returns
    -------
    (N, 2) float
        Degrees; aspect clockwise from north, downhill.
    """
    weight = np.array([1, 2, 1])
    east = ((window[:, :, 2] - window[:, :, 0]) * weight).sum(1)
    north = ((window[:, 0] - window[:, 2]) * weight).sum(1)
    east, north = east / (8 * size[:, 0]), north / (8 * size[:, 1])
    slope = np.degrees(np.arctan(np.hypot(east, north)))
    return np.stack([slope, np.degrees(np.arctan2(-east, -north)) % 360], 1)


def _around(file, lat, lon):
    """The 3 × 3 pixels around places, and the size of one in metres."""
    import rasterio
    from rasterio.warp import transform
    from rasterio.windows import Window

    try:
        data = rasterio.open(file)
    except rasterio.RasterioIOError as error:
        if "404" in str(error) or "No such file" in str(error):
            return None
        raise
    with data:
        xs, ys = transform("EPSG:4326", data.crs, lon, lat)
        window = np.full((len(lat), 3, 3), np.nan)
        for row, (x, y) in enumerate(zip(xs, ys, strict=True)):
            line, column = map(int, data.index(x, y))
            if 0 <= column < data.width and 0 <= line < data.height:
                left, top = max(column - 1, 0), max(line - 1, 0)
                part = data.read(1, masked=True, window=Window(
                    left, top, min(column + 2, data.width) - left,
                    min(line + 2, data.height) - top)).astype(float)
                lines = np.arange(line - 1, line + 2).clip(
                    0, data.height - 1) - top
                columns = np.arange(column - 1, column + 2).clip(
                    0, data.width - 1) - left
                window[row] = part.filled(np.nan)[np.ix_(lines, columns)]
        wide, high = data.res
        size = np.tile([float(wide), float(high)], (len(lat), 1))
        if data.crs.is_geographic:
            size *= METRES
            size[:, 0] *= np.cos(np.radians(lat))
        return window, size


def _degree(south: int, west: int) -> str:
    """A square degree by its south-west corner, as Copernicus spells it."""
    return (f"{'N' if south >= 0 else 'S'}{abs(south):02d}_00_"
            f"{'E' if west >= 0 else 'W'}{abs(west):03d}_00")
