"""A STAC catalogue of small tiled GeoTIFFs that another source paints.

Run it to try the chapters on a catalogue without an account::

    PYTHONPATH=. python tests/loopback/stac.py trees.parquet
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
from geotree.sources.stac import ASSETS
from geotree.variables import BAND_NAMES, NODATA

NAMES = {band: names[0] for band, names in ASSETS.items()}
CLOUD, VEGETATION = 9, 4
MARGIN = 100  # m around the outermost samples of a tile
# Day, cloud cover, baseline and whether clouds hide everything.
SCENES = ((4, 3.1, "05.00", False), (14, 40.0, "03.01", False),
          (24, 79.0, "05.09", True))


def paint(folder, table, source, *, year=2020, coarse=False,
          scenes=SCENES, collection="sentinel-2-c1-l2a"):
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
        for month in range(12):
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
    return items


def _write(folder, stack, mask, epsg, left, top, coarse):
    import rasterio
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
        with rasterio.open(
                folder / f"{band}.tif", "w", driver="GTiff", count=1,
                tiled=True, blockxsize=64, blockysize=64,
                height=values.shape[0], width=values.shape[1], nodata=0,
                dtype=values.dtype, crs=f"EPSG:{epsg}", compress="deflate",
                transform=from_origin(left, top, size, size)) as file:
            file.write(values, 1)


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


def main(path):
    """Serve the trees of an occurrence table until interrupted."""
    import tempfile
    import time

    from geotree import occurrences
    from geotree.sources.planet import Planet

    table = occurrences.read(path)
    with tempfile.TemporaryDirectory() as folder:
        items = paint(Path(folder), table, Planet())
        with Stac(Path(folder), items) as service:
            print(f"{len(items)} scenes. Now, elsewhere:\n"
                  f"GEOTREE_SOURCE=stac GEOTREE_STAC_URL={service.url} "
                  f"GEOTREE_STAC_COLLECTION={items[0]['collection']} "
                  "make lab", flush=True)
            while True:
                time.sleep(3600)


if __name__ == "__main__":
    main(sys.argv[1])
