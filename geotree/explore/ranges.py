"""Range maps: how likely a tree of a species is, cell by cell.

Each cell is asked at several places. The mean is the map, their spread its
uncertainty. Files open in any GIS: Cloud-Optimised GeoTIFF, and Zarr.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from geotree import world
from geotree.explore.answers import ask

DEGREES, EQUAL_AREA = "EPSG:4326", "EPSG:6933"  # EASE-Grid 2.0, metres
WORLD = (-180.0, -56.0, 180.0, 72.0)  # west, south, east, north
_KM = 111.32  # a degree of the equator


def range_maps(model, source, classes: pd.DataFrame, species, *,
               region: tuple[float, float, float, float] = WORLD,
               step: float = 2.0, equal_area: bool = False,
               samples: int = 4, batch: int = 2048, seed: int = 0,
               **asking) -> xr.Dataset:
    """Map the probability of some species over a region.

    Parameters
    ----------
    model, source, classes
        As in :func:`geotree.explore.ask`.
    species : str or list of str
        Names of ``classes``.
    region : (west, south, east, north)
        Degrees; default: where trees grow.
    step : float
        Side of a cell in degrees; of an equal-area map, of a cell as large
        as one at the equator.
    equal_area : bool
        Cells of equal area (EPSG:6933) instead of equal degrees.
    samples : int
        Places asked in each cell, at least 2.
    batch : int
        Places asked at a time, so that memory stays flat.
    seed : int
        Of the places within the cells.
    **asking
        ``year``, ``place``, ``weight``, ``temperature`` of
        :func:`geotree.explore.ask`.

    Returns
    -------
    Dataset
        ``probability`` and ``uncertainty`` (species, y, x) float32, both
        from 0 to 1; NaN at sea and where no tree was seen.

    Raises
    ------
    ValueError
        A species is not among the classes, or the region is empty.
    """
    wanted = [species] if isinstance(species, str) else list(species)
    columns = pd.Index(classes["species"]).get_indexer(wanted)
    if (columns < 0).any():
        unknown = wanted[int((columns < 0).argmax())]
        raise ValueError(f"{unknown!r} is not among the {len(classes)} "
                         "classes. Which names there are is in "
                         "classes['species'].")
    if samples < 2 or batch < 1:
        raise ValueError(f"samples is {samples} and batch {batch}, expected "
                         "at least 2 and 1: a spread needs two.")
    x, y, edge = _axes(region, step, equal_area)
    rng = np.random.default_rng(seed)
    offset = rng.random((len(y) * len(x), samples, 2)) - 0.5
    here = np.stack(np.meshgrid(x, y), -1).reshape(-1, 1, 2) + edge * offset
    lat, lon = _degrees(here.reshape(-1, 2), equal_area)
    found = np.full((len(lat), len(wanted)), np.nan)
    land = np.flatnonzero(world.is_land(lat=lat, lon=lon))
    for start in range(0, len(land), batch):
        rows = land[start:start + batch]
        _fill(found, rows, lat, lon, columns, model, source, classes, rng,
              asking)
    return _dataset(found.reshape(len(y), len(x), samples, -1), x, y,
                    wanted, EQUAL_AREA if equal_area else DEGREES,
                    samples, source)


def _fill(found, rows, lat, lon, columns, model, source, classes, rng,
          asking) -> None:
    """Ask about some places and put the answers in their rows."""
    answers = ask(model, source, classes, lat=lat[rows], lon=lon[rows],
                  rng=rng, **asking)
    found[rows[answers.row]] = answers.prior[:, columns]


def _axes(region, step: float, equal_area: bool):
    """Centres of columns and rows (north first), and a cell's side."""
    west, south, east, north = region
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90
            and step > 0):
        raise ValueError(f"region is {region} with a step of {step}, "
                         "expected (west, south, east, north) in degrees, "
                         "within the globe, and a step above 0.")
    if equal_area:
        from rasterio.warp import transform

        (west, east), (south, north) = transform(
            DEGREES, EQUAL_AREA, [west, east], [south, north])
        step *= 1000 * _KM
    wide = max(round((east - west) / step), 1)
    tall = max(round((north - south) / step), 1)
    x = west + step * (np.arange(wide) + 0.5)
    return x, north - step * (np.arange(tall) + 0.5), step


def _degrees(points: np.ndarray, equal_area: bool):
    """Latitude and longitude of (N, 2) x, y, kept on the globe."""
    lon, lat = points.T
    if equal_area:
        from rasterio.warp import transform

        lon, lat = map(np.array, transform(EQUAL_AREA, DEGREES, lon, lat))
    return np.clip(lat, -90, 90), np.clip(lon, -180, 180)


def _dataset(found, x, y, species, crs, samples, source) -> xr.Dataset:
    """Mean and spread of (rows, columns, samples, species), with units."""
    from rasterio.crs import CRS

    seen = np.isfinite(found).sum(axis=2)
    total = np.nansum(found, axis=2)
    mean = np.divide(total, seen, where=seen > 0,
                     out=np.full_like(total, np.nan))
    square = np.nansum((found - mean[:, :, None]) ** 2, axis=2)
    spread = np.sqrt(np.divide(square, seen - 1, where=seen > 1,
                               out=np.full_like(total, np.nan)))
    unit = "degrees_" if crs == DEGREES else "m"
    data = {}
    for name, values, title in (
            ("probability", mean, "probability that a tree seen in the cell "
             "is of the species"),
            ("uncertainty", spread, "standard deviation of the probability "
             "among the places asked in the cell")):
        data[name] = (("species", "y", "x"),
                      np.moveaxis(values, -1, 0).astype(np.float32),
                      {"long_name": title, "units": "1",
                       "grid_mapping": "crs"})
    data["crs"] = ((), 0, {"crs_wkt": CRS.from_string(crs).to_wkt(),
                           "spatial_ref": crs})
    axes = {"x": ("x", x, {"units": unit + "east" * (unit != "m")}),
            "y": ("y", y, {"units": unit + "north" * (unit != "m")}),
            "species": ("species", np.array(species, dtype=object), {})}
    about = {**source.attrs(), "samples_per_cell": samples,
             "Conventions": "CF-1.8"}
    return xr.Dataset(data, axes, about)


def write_geotiff(maps: xr.Dataset, path: str | Path,
                  species: str | None = None) -> Path:
    """Write one species as a Cloud-Optimised GeoTIFF of two bands.

    Parameters
    ----------
    maps : Dataset
        From :func:`range_maps`.
    path : path
        Replaced if it is there.
    species : str, optional
        Which; default: the only one.

    Returns
    -------
    Path
        Band 1 is the probability, band 2 the uncertainty; NaN is no data.
    """
    import rasterio

    names = maps["species"].to_numpy().tolist()
    if species is None and len(names) == 1:
        species = names[0]
    if species not in names:
        raise ValueError(f"species is {species!r}, expected one of "
                         f"{', '.join(names)}: a file holds one.")
    one = maps.sel(species=species)
    x, y = maps["x"].to_numpy(), maps["y"].to_numpy()
    step = abs(float(y[0] - y[1])) if len(y) > 1 else float(x[1] - x[0])
    layers = [one[name] for name in ("probability", "uncertainty")]
    place = rasterio.transform.from_origin(x[0] - step / 2, y[0] + step / 2,
                                           step, step)
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    with rasterio.open(
            part, "w", driver="COG", width=len(x), height=len(y), count=2,
            dtype="float32", nodata=np.nan, transform=place,
            crs=maps["crs"].attrs["spatial_ref"], compress="deflate",
            predictor=3) as file:
        for band, layer in enumerate(layers, 1):
            file.write(layer.to_numpy(), band)
            file.set_band_description(band, layer.attrs["long_name"])
            file.set_band_unit(band, layer.attrs["units"])
        file.update_tags(species=species, **{
            key: str(value) for key, value in maps.attrs.items()})
    part.replace(path)
    return path


def write_zarr(maps: xr.Dataset, path: str | Path) -> Path:
    """Write all species into one Zarr store, with units and grid."""
    maps.to_zarr(path, mode="w", consolidated=False)
    return Path(path)
