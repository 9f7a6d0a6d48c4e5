"""What Earth Engine is asked to compute: a year of pixels, 25 variables.

Building an expression asks nobody; :mod:`geotree.sources.earthengine` sends
it. The products, and why these, are explained in chapter 02.
"""

from __future__ import annotations

from geotree.variables import BAND_NAMES, MONTHS, NODATA, VARIABLE_NAMES

SENTINEL2 = "COPERNICUS/S2_SR_HARMONIZED"  # offset of 2022 removed already
CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
DEM = "COPERNICUS/DEM/GLO30_2024_1"  # beyond 60° too, unlike SRTM
SOIL = "ISRIC/SoilGrids250m/v2_0/wv0033"
CLIMATE = "WORLDCLIM/V1/BIO"
STACK = [f"m{month + 1:02d}_{band}" for month in range(MONTHS)
          for band in BAND_NAMES]


def composite(year: int, tiles: list[str] | None, where, *,
              cloud_score: float | None, cloudy: float):
    """Twelve monthly medians of ten bands as one image of 120 bands.

    Parameters
    ----------
    tiles : list of str, optional
        Names of the Sentinel-2 tile. Where tiles overlap, each look at the
        ground comes once for either, which biases the median. None takes
        scenes of all tiles: for what its own tile never shows.
    where : ee.Geometry
        Places that the scenes have to touch.
    """
    import ee

    bands = list(BAND_NAMES)
    scenes = (ee.ImageCollection(SENTINEL2).filterBounds(where)
              .filterDate(f"{year}-01-01", f"{year + 1}-01-01")
              .filter(ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", cloudy)))
    if tiles:
        scenes = scenes.filter(ee.Filter.inList("MGRS_TILE", tiles))
    if cloud_score is None:
        scenes = scenes.select(bands)
    else:
        scenes = scenes.linkCollection(
            ee.ImageCollection(CLOUD_SCORE), ["cs_cdf"]).map(
            lambda image: image.select(bands).updateMask(
                image.select("cs_cdf").gte(cloud_score)))
    # A month without scenes keeps its ten bands, all masked.
    empty = ee.ImageCollection([ee.Image.constant([0] * len(bands)).rename(
        bands).toUint16().updateMask(0)])
    months = [
        scenes.filter(ee.Filter.calendarRange(month, month, "month"))
        .merge(empty).median().round().unmask(NODATA, False).toUint16()
        .rename(STACK[(month - 1) * len(bands):month * len(bands)])
        for month in range(1, MONTHS + 1)]
    return ee.Image.cat(months)


def lookup(points):
    """25 variables at points, each product at its own pixel size."""
    import ee

    surface = ee.ImageCollection(DEM).select("DEM")
    # A mosaic forgets its pixel size, and with it what a slope is.
    height = surface.mosaic().setDefaultProjection(
        surface.first().projection()).rename("elevation")
    terrain = height.addBands(ee.Terrain.slope(height)).addBands(
        ee.Terrain.aspect(height))
    soil = ee.Image(SOIL).select(
        [f"val_{depth}_mean" for depth in ("0_5cm", "5_15cm", "15_30cm")],
        list(VARIABLE_NAMES[5:8]))
    climate = ee.Image(CLIMATE).select(list(VARIABLE_NAMES[8:]))
    for image, scale in ((terrain, 30), (soil, 250), (climate, 927.67)):
        points = image.reduceRegions(collection=points, scale=scale,
                                     reducer=ee.Reducer.first())
    return points
