"""Terrain, soil and climate from rasters: files of yours or on the web.

Any path that GDAL reads will do. A value is taken where the place lies, as
stored; slope and aspect follow from the elevation around it.
"""

import errno
import os
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from geotree import files, network
from geotree.data import load
from geotree.globe import METRES
from geotree.variables import VARIABLE_NAMES, VARIABLES

# Copernicus GLO-30 on AWS, no account; {tile} is like N47_00_E008_00.
GLO30 = ("/vsicurl/https://copernicus-dem-30m.s3.amazonaws.com/"
         "Copernicus_DSM_COG_10_{tile}_DEM/Copernicus_DSM_COG_10_{tile}"
         "_DEM.tif")


class Unusable(Exception):
    """A file that is not there, or not what it should be."""


def patiently(read: Callable, *, wait: float):
    """Read files with GDAL, and again where what came is torn.

    Raises
    ------
    Unusable
        A file is not there.
    ServiceError
        It cannot be had.
    """
    import rasterio

    # GDAL asks again where a request fails, we where its answer is torn.
    options = {**load("services.json")["gdal"],
               "GDAL_HTTP_RETRY_DELAY": str(wait)}

    def once():
        try:
            with rasterio.Env(**options):
                return read()
        except rasterio.errors.RasterioError as error:
            text = f"{error} {error.__cause__ or ''}"
        # GDAL remembers what it got, errors and torn blocks too.
        options["CPL_VSIL_CURL_NON_CACHED"] = "/vsicurl/"
        if _is_gone(text):
            raise Unusable(f"has a file that is not there ({text:.150})")
        if "HTTP response code" in text or "CURL error" in text:
            raise network.ServiceError(
                5, f"cannot read ({text:.200}); tried {network.TRIES} times "
                "where that may help")
        raise network.Unsteady(f"cannot read ({text:.200})")

    return network.patient(once, wait=wait)


def _is_gone(text: str) -> bool:
    return any(word in text for word in ("code: 404", "code: 410",
                                         "No such file"))


def read(place: Mapping[str, str] | str | os.PathLike) -> dict[str, str]:
    """Layers that a mapping or a JSON file names.

    Parameters
    ----------
    place : mapping or path
        Variable -> path; those of a file may be relative to it. ``glo30``
        stands for :data:`GLO30`.

    Raises
    ------
    ValueError
        A name is that of no variable.
    FileNotFoundError
        Nothing is there.
    """
    known, layers, folder = VARIABLE_NAMES[2:], place, ""
    if not isinstance(place, Mapping):
        if not os.path.isfile(place):
            raise FileNotFoundError(f"no rasters at '{place}'. Give a JSON "
                                    "file of variable and path.")
        layers = files.read_json(place, what="list of rasters")
        folder = os.path.dirname(place)
    odd = [str(name) for name in layers if name not in known]
    if odd:
        raise ValueError(f"no variable {', '.join(odd)}; layers may have "
                         f"{', '.join(known)}.")
    # What GDAL knows wherever it is written is beside nothing.
    return {name: GLO30 if path == "glo30" else
            path if path.startswith("/vsi") or "://" in path else
            os.path.join(folder, path) for name, path in layers.items()}


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
    for name, parts in files_of(layers, lat=lat, lon=lon).items():
        column = VARIABLE_NAMES.index(name) - 2
        for file, rows in parts:
            found = _around(file, lat[rows], lon[rows],
                            VARIABLES[column + 2])
            if found is None and file == layers[name]:
                raise FileNotFoundError(
                    errno.ENOENT, f"no raster at '{network.redact(file)}'. "
                    f"Give one that is there, or leave out {name}")
            if found is None:  # no tile of sea is published
                continue
            window, steps = found
            values[rows, column] = window[:, 1, 1]
            if name == "elevation":
                slopes = slope_aspect(window, steps)
                for at, derived in enumerate(("slope", "aspect")):
                    if derived not in layers:
                        values[rows, 1 + at] = slopes[:, at]
    return values


def files_of(layers: Mapping[str, str], *, lat, lon
          ) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Which file of a layer shows which places: (file, rows) of each."""
    lat, lon = np.asarray(lat, float), np.asarray(lon, float)
    degrees = pd.DataFrame({"south": np.floor(lat),
                            "west": np.floor((lon + 180) % 360 - 180)})
    parts = degrees.astype(int).groupby(["south", "west"]).indices
    return {name: [(path.format(tile=_degree(*cell)), rows)
                   for cell, rows in parts.items()]
            if "{tile}" in path else [(path, np.arange(len(lat)))]
            for name, path in layers.items()}


def slope_aspect(window: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Slope and aspect of the middle of 3 × 3 heights (Horn, 1981).

    Parameters
    ----------
    window : (N, 3, 3) float
        Metres.
    steps : (N, 2, 2) float
        Metres to the east and north, to the next column and the next line.

    Returns
    -------
    (N, 2) float
        Degrees; aspect clockwise from north, downhill.
    """
    weight = np.array([1, 2, 1])
    rise = np.stack([(window[:, :, 2] - window[:, :, 0]) @ weight,
                     (window[:, 2] - window[:, 0]) @ weight], 1) / 8
    east, north = np.linalg.solve(steps, rise[..., None])[..., 0].T
    slope = np.degrees(np.arctan(np.hypot(east, north)))
    return np.stack([slope, np.degrees(np.arctan2(-east, -north)) % 360], 1)


def _around(file, lat, lon, variable):
    """The 3 × 3 pixels around places, and the steps from one to the next."""
    import rasterio
    from rasterio.warp import transform

    try:
        data = rasterio.open(file)
    except rasterio.RasterioIOError as error:
        if _is_gone(str(error)):
            return None
        raise
    with data:
        _expect(data, variable)
        xs, ys = map(np.array, transform("EPSG:4326", data.crs, lon, lat))
        if data.crs.is_geographic:  # some run from 0 to 360
            xs[xs < data.bounds.left] += 360
        window = np.full((len(lat), 3, 3), np.nan)
        for row, (x, y) in enumerate(zip(xs, ys, strict=True)):
            line, column = map(int, data.index(x, y))
            if 0 <= column < data.width and 0 <= line < data.height:
                lines, columns = (
                    np.arange(at - 1, at + 2).clip(0, size - 1)
                    for at, size in ((line, data.height),
                                     (column, data.width)))
                window[row] = cut(data, lines, columns, masked=True).astype(
                    float).filled(np.nan)
        steps = np.zeros((len(lat), 2, 2))
        for axis, (x, y) in enumerate(
                ((data.transform.a, data.transform.d),
                 (data.transform.b, data.transform.e))):
            east, north = map(np.array, transform(
                data.crs, "EPSG:4326", xs + x, ys + y))
            steps[:, axis, 0] = ((east - lon + 180) % 360 - 180) * np.cos(
                np.radians(lat)).clip(1e-9)
            steps[:, axis, 1] = north - lat
        return window, METRES * steps


def _expect(data, variable) -> None:
    """Refuse a raster of many bands, or one that says it has another unit."""
    scale, offset = data.scales[0], data.offsets[0]
    if data.count > 1 or offset or not np.isclose(
            scale, (1, variable.scale)).any():
        raise ValueError(
            f"'{network.redact(data.name)}' has {data.count} bands, a scale "
            f"of {scale:g} and an offset of {offset:g}; expected one band, "
            f"{variable.name} in stored units: a scale of "
            f"{variable.scale:g}, or none, and no offset. Write it anew, as "
            "with gdal_translate -b 1 -unscale -scale …")


def cut(data, lines: np.ndarray, columns: np.ndarray, **options):
    """The values of an open raster at some lines and columns, rising."""
    part = data.read(1, window=((lines[0], lines[-1] + 1),
                                (columns[0], columns[-1] + 1)), **options)
    return part[np.ix_(lines - lines[0], columns - columns[0])]


def _degree(south: int, west: int) -> str:
    """A square degree by its south-west corner, as Copernicus spells it."""
    return (f"{'N' if south >= 0 else 'S'}{abs(south):02d}_00_"
            f"{'E' if west >= 0 else 'W'}{abs(west):03d}_00")
