"""A STAC catalogue of small COGs, and rasters, that another source paints.

Run it to try the chapters on a catalogue without an account, on trees of
the planet or on a table of yours whose records lie close together::

    PYTHONPATH=. python tests/loopback/stac.py [trees.parquet]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from loopback.server import Answer, Service
else:
    from .server import Answer, Service

from geotree.sources import grid
from geotree.sources.layers import files_of
from geotree.sources.scenes import ASSETS
from geotree.variables import BAND_NAMES, NODATA, VARIABLE_NAMES

NAMES = {band: names[0] for band, names in ASSETS.items()}
CLOUD, VEGETATION = 9, 4
MARGIN = 100  # m around the outermost samples of a tile
STEP = 1 / 3600  # ° of a raster's pixel
WOODS = ((48.2, 11.5), (42.5, -71.3), (-37.6, 145.5))  # °
# Day, cloud cover, baseline and whether clouds hide everything.
SCENES = ((4, 3.1, "05.00", False), (14, 40.0, "03.01", False),
          (24, 79.0, "05.09", True))


def paint(folder, table, source, *, year=2020, coarse=False,
          scenes=SCENES, collection="sentinel-2-c1-l2a",
          months=range(1, 13)):
    """Write the scenes of a table's tiles; returns their STAC items.

    Where the source shows a month of a sample, the clear scenes show the
    same numbers, shifted by 1,000 from baseline 04.00 on; elsewhere is
    cloud over noise. ``coarse``: the 20 m bands have pixels of 20 m, the
    upper left of four.
    """
    place = {"lat": table["decimalLatitude"].to_numpy(),
             "lon": table["decimalLongitude"].to_numpy()}
    tiles, patch = grid.tiles(**place), grid.patches(**place)
    truth = source.fetch(table.assign(year=year)).reflectance
    items = []
    for tile in sorted(set(tiles) - {""}):
        rows = np.flatnonzero(tiles == tile)
        left = (patch.x[rows].min() - MARGIN) // 20 * 20
        top = (patch.y[rows].max() + MARGIN) // 20 * 20
        wide = int((patch.x[rows].max() + MARGIN - left) // 20 + 4) * 2
        high = int((top - patch.y[rows].min() + MARGIN) // 20 + 4) * 2
        for month in (number - 1 for number in months):
            for day, cloud, baseline, hidden in scenes:
                rng = np.random.default_rng([month, day])
                stack = rng.integers(1, 15_000, (10, high, wide))
                mask = np.full((high, wide), CLOUD, np.uint8)
                for row in rows if not hidden else ():
                    at = (slice(int(top - patch.y[row]) // 10, None),
                          slice(int(patch.x[row] - left) // 10, None))
                    values = truth[row, month]
                    if (values == NODATA).any():
                        continue
                    shift = 1000 if float(baseline) >= 4 else 0
                    stack[(slice(None), *at)][:, :5, :5] = values + shift
                    mask[at][:6, :6] = VEGETATION
                name = f"S2_{tile}_{year}{month + 1:02d}{day:02d}"
                _write(folder / name, stack, mask, patch.epsg[rows[0]],
                       left, top, coarse)
                items.append(_item(name, tile, year, month + 1, day, cloud,
                                   baseline, collection))
    (folder / f"{year}.json").write_text(json.dumps(items))
    return items


def items(folder, year):
    """The STAC items that were painted there, anew for each caller."""
    return json.loads((folder / f"{year}.json").read_text())


def _write(folder, stack, mask, epsg, left, top, coarse):
    from rasterio.transform import from_origin

    folder.mkdir(parents=True)
    layers = dict(zip(BAND_NAMES, stack.astype(np.uint16), strict=True))
    # A clear pixel of 20 m has to be clear in its four pixels of 10 m.
    four = mask.reshape(len(mask) // 2, 2, -1, 2)
    layers["SCL"] = np.where((four == VEGETATION).any((1, 3)), VEGETATION,
                             CLOUD).astype(np.uint8)
    for band, values in layers.items():
        size = 20 if band == "SCL" else 10
        if coarse and band not in ("B2", "B3", "B4", "B8", "SCL"):
            size, values = 20, values[::2, ::2]
        write_cog(folder / f"{band}.tif", values, f"EPSG:{epsg}",
                  from_origin(left, top, size, size), nodata=0)


def write_cog(path, values, crs, transform, *, nodata):
    """A Cloud-Optimised GeoTIFF with small blocks and overviews."""
    import rasterio

    with rasterio.open(
            path, "w", driver="COG", count=1, blocksize=128, nodata=nodata,
            height=values.shape[0], width=values.shape[1], crs=crs,
            dtype=values.dtype, compress="deflate", transform=transform,
            overview_count=1, overview_resampling="nearest") as file:
        file.write(values, 1)


def paint_rasters(folder, table, source):
    """Write the 25 variables of a table's places, one COG a degree each.

    Returns the text of ``layers.json``.
    """
    from rasterio.transform import from_origin

    folder.mkdir(parents=True)
    lat, lon = (table[f"decimal{name}"].to_numpy()
                for name in ("Latitude", "Longitude"))
    truth = source.fetch(table).environment
    paths = {name: f"{name}_{{tile}}.tif" for name in VARIABLE_NAMES[2:]}
    for name, parts in files_of(paths, lat=lat, lon=lon).items():
        for file, rows in parts:
            # Places lie in the middle of pixels, not on their edges.
            north = lat[rows].max() + 1.5 * STEP
            west = lon[rows].min() - 1.5 * STEP
            high = int((north - lat[rows].min()) / STEP) + 2
            wide = int((lon[rows].max() - west) / STEP) + 2
            values = np.full((high, wide), np.nan, np.float32)
            values[((north - lat[rows]) / STEP).astype(int),
                   ((lon[rows] - west) / STEP).astype(int)] = truth[
                       rows, VARIABLE_NAMES.index(name)]
            write_cog(folder / file, values, "EPSG:4326",
                      from_origin(west, north, STEP, STEP), nodata=np.nan)
    text = json.dumps(paths)
    (folder / "layers.json").write_text(text)
    return text


def _item(name, tile, year, month, day, cloud, baseline, collection):
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name,
        "collection": collection, "links": [], "bbox": [-180, -90, 180, 90],
        "geometry": None, "properties": {
            "datetime": f"{year}-{month:02d}-{day:02d}T10:15:00Z",
            "grid:code": f"MGRS-{tile.lstrip('0')}",
            "eo:cloud_cover": cloud, "s2:processing_baseline": baseline},
        "assets": {NAMES[band]: {"href": f"{name}/{band}.tif",
                                 "roles": ["data"]}
                   for band in (*BAND_NAMES, "SCL")}}


class Stac(Service):
    """A STAC API over ``items``, pages of ``page``, files of ``folder``."""

    def __init__(self, folder, items, *, page=10, **options):
        super().__init__(**options)
        self.folder, self.items, self.page = folder, items, page

    def answer(self, call):
        path = call["path"].strip("/")
        if path == "":
            return self.landing()
        if path == "search":
            return self.search(call["body"] or {})
        file = self.folder / path
        if file.suffix == ".tif" and file.exists():
            return file.read_bytes()
        if file.suffix == ".json" and file.exists():
            return json.loads(file.read_text())
        raise Answer(404, {"code": "NotFound", "description": path})

    def landing(self):
        return {"type": "Catalog", "id": "loopback", "stac_version": "1.0.0",
                "description": "painted", "conformsTo": [
                    "https://api.stacspec.org/v1.0.0/core",
                    "https://api.stacspec.org/v1.0.0/item-search",
                    "https://api.stacspec.org/v1.0.0/item-search#query"],
                "links": [
                    {"rel": "self", "href": self.url},
                    {"rel": "root", "href": self.url},
                    {"rel": "search", "type": "application/geo+json",
                     "href": f"{self.url}/search", "method": "POST"}]}

    def search(self, body):
        first, last = body["datetime"].split("/")
        codes = body["query"]["grid:code"]["in"]
        most = body["query"]["eo:cloud_cover"]["lt"]
        found = [item for item in self.items
                 if item["collection"] in body["collections"]
                 and first <= item["properties"]["datetime"] <= last
                 and item["properties"]["grid:code"] in codes
                 and item["properties"]["eo:cloud_cover"] < most]
        start = int(body.get("token", 0))
        stop = start + min(body.get("limit", 10), self.page)
        text = json.dumps(found[start:stop])
        page = json.loads(text.replace('"href": "',
                                       f'"href": "{self.url}/'))
        links = [{"rel": "next", "method": "POST", "merge": True,
                  "href": f"{self.url}/search", "body": {"token": stop}}
                 ] if stop < len(found) else []
        return {"type": "FeatureCollection", "features": page,
                "links": links}


def trees(planet, *, each=100):
    """Three woods of the planet: a tree every 100 m, drawn as it grows."""
    rng = np.random.default_rng(planet.seed)
    side = np.arange(each ** 0.5) / 1112
    north, east = (part.ravel() for part in np.meshgrid(side, side))
    lat = np.concatenate([at + north for at, _ in WOODS])
    lon = np.concatenate([at + east / np.cos(np.radians(south))
                          for south, at in WOODS])
    drawn = [rng.choice(len(odds), p=odds)
             for odds in planet.prior(lat=lat, lon=lon)]
    return planet.classes.iloc[drawn].reset_index(drop=True).assign(
        gbifID=1 + np.arange(len(lat)), decimalLatitude=lat.round(6),
        decimalLongitude=lon.round(6), countryCode="XX", year=2020,
        coordinateUncertaintyInMeters=5.0, datasetKey="planet",
        license="CC0_1_0", taxonKey=2_000_000 + np.array(drawn))


def main(path=None):
    """Serve the trees of an occurrence table until interrupted."""
    import tempfile
    import time

    from geotree import occurrences
    from geotree.planet.source import Planet

    planet = Planet()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        table = occurrences.validate(trees(planet)) if path is None else (
            occurrences.read(path))
        occurrences.write_release(table, folder / "trees.csv")
        items = paint(folder, table, planet)
        paint_rasters(folder / "layers", table, planet)
        with Stac(folder, items) as service:
            print(f"{len(table)} trees, {len(items)} scenes. Elsewhere:\n"
                  f"GEOTREE_TABLE={folder / 'trees.csv'} GEOTREE_SOURCE=stac"
                  f" GEOTREE_STAC_URL={service.url} GEOTREE_STAC_RASTERS="
                  f"{folder / 'layers' / 'layers.json'} "
                  f"GEOTREE_STAC_COLLECTION={items[0]['collection']} "
                  "make lab", flush=True)
            while True:
                time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
