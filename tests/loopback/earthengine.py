"""An Earth Engine that knows the trees of one table.

Reads the expression that the real client sends: which collection, tile,
year, month, mask and bands it names decides what comes back. Keeps to the
documented limits: a token, 40 requests at a time, 10 MB of request, pages
of 1,000, known assets only, masked values left out.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path

import numpy as np

from geotree.sources import grid
from geotree.variables import BAND_NAMES, NODATA, VARIABLE_NAMES

from .server import Answer, Service

TOKEN = "ya29.loopback-token"
ASSETS = {"COPERNICUS/S2_SR_HARMONIZED", "COPERNICUS/DEM/GLO30_2024_1",
          "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED", "WORLDCLIM/V1/BIO",
          "ISRIC/SoilGrids250m/v2_0/wv0033"}
_SOIL = dict(zip(("val_0_5cm_mean", "val_5_15cm_mean", "val_15_30cm_mean"),
                 VARIABLE_NAMES[5:8], strict=True))
_SCALE = {"elevation": 30, "slope": 30, "aspect": 30} | dict.fromkeys(
    VARIABLE_NAMES[5:8], 250) | dict.fromkeys(VARIABLE_NAMES[8:], 927.67)


def install(url, *, project="loopback", token=TOKEN):
    """Point the real client at a service; ``ee.Reset`` undoes it."""
    import ee
    from google.oauth2.credentials import Credentials

    ee.Reset()
    ee.Initialize(credentials=Credentials(token), url=url, project=project)
    return ee


class EarthEngine(Service):
    """``largest``: samples that fit in a request; ``quota``: requests;
    ``untiled``: squares that are no tile of their own.
    """

    def __init__(self, table, source, *, largest=1000, quota=10**9,
                 page=1000, **options):
        super().__init__(**{"busy_at": 40, **options})
        self.table, self.source = table.reset_index(drop=True), source
        self.largest, self.quota, self.page = largest, quota, page
        self.token, self.queries, self.untiled = TOKEN, [], set()
        self._years = {}
        place = {"lat": table["decimalLatitude"].to_numpy(),
                 "lon": table["decimalLongitude"].to_numpy()}
        self.names = grid.tiles(**place)
        self.at = {}
        patch = grid.patches(**place)
        for row in range(len(table)):
            self.at[_key(patch.epsg[row], patch.x[row], patch.y[row],
                         grid.PIXEL)] = row
        self.points = {(round(lon, 7), round(lat, 7)): row for row, (lat, lon)
                       in enumerate(zip(*place.values(), strict=True))}

    @cached_property
    def _documents(self):
        import ee

        folder = Path(ee.__file__).parent / "tests"
        text = (folder / "cloud_api_discovery_document.json").read_text()
        about = json.loads(text.replace("v1alpha", "v1"))
        about["rootUrl"] = about["baseUrl"] = f"{self.url}/"
        return about, json.loads((folder / "algorithms.json").read_text())

    def error(self, status):
        words = {401: "Request had invalid authentication credentials.",
                 403: "Permission denied on project.",
                 429: "Too many concurrent aggregations."}
        return {"error": {"code": status, "status": "ERROR",
                          "message": words.get(status, "Internal error")}}

    def refuse(self, status, message):
        raise Answer(status, {"error": {"code": status, "status": "ERROR",
                                        "message": message}})

    def answer(self, call):
        if "$discovery" in call["path"]:
            return self._documents[0]
        if call["path"].endswith("/algorithms"):
            return self._documents[1]
        if call["headers"].get("authorization") != f"Bearer {self.token}":
            raise Answer(401, self.error(401))
        if call["size"] > 10_485_760:
            self.refuse(400, "Request payload size exceeds the limit: "
                             "10485760 bytes.")
        if len(self.queries) >= self.quota:
            self.refuse(429, "Quota exceeded for quota metric 'EECU-seconds "
                             "per month' of service 'earthengine'.")
        tree = resolve(call["body"]["expression"])
        for name in loaded(tree) - ASSETS:
            self.refuse(400, f"Image.load: asset '{name}' not found.")
        verb = call["path"].rsplit(":", 1)[-1]
        if verb.endswith("/maps"):  # tiles, which only a browser asks for
            return {"name": f"projects/loopback/maps/{len(self.log)}"}
        answer = self.features(tree, call["body"])
        self.queries.append((verb, call["body"].get("workloadTag")))
        return answer

    def truth(self, year):
        if year not in self._years:
            self._years[year] = self.source.fetch(
                self.table.assign(year=year))
        return self._years[year]

    def stack(self, recipe, row):
        """Bands of the composite at a sample, by name: each (5, 5)."""
        result = {}
        for names, source, year, month, tiles in recipe:
            good = row is not None
            if tiles and good:
                good = (self.names[row] in tiles
                        and self.names[row] not in self.untiled)
            for name, band in zip(names, source, strict=True):
                result[name] = np.full((5, 5), NODATA, np.uint16)
                if good:
                    truth = self.truth(year).reflectance
                    result[name] = truth[row, month - 1,
                                         BAND_NAMES.index(band)]
        return result

    def features(self, tree, body):
        rows = self.rows_of(tree)
        if len(rows) > self.largest:
            self.refuse(400, "User memory limit exceeded.")
        start = int(body.get("pageToken") or 0)
        stop = start + min(int(body.get("pageSize") or 1000), self.page)
        answer = {"type": "FeatureCollection", "features": [
            {"type": "Feature", "geometry": None, "properties": one}
            for one in rows[start:stop]]}
        if stop < len(rows):
            answer["nextPageToken"] = str(stop)
        return answer

    def row_of(self, point):
        """The row that a point in degrees or in metres of a zone means."""
        x, y = point["coordinates"]
        if "crs" not in point:
            return self.points.get((round(x, 7), round(y, 7)))
        return self.at.get(_key(point["crs"]["crs"].split(":")[1],
                                x // 10 * 10 - 20, y // 10 * 10 + 30, 10))

    def rows_of(self, tree):
        if tree["fn"] == "Image.sampleRegions":
            near = tree["image"]
            assert near["fn"] == "Image.neighborhoodToArray"
            assert near["kernel"]["radius"] == 2
            where = tree["projection"]
            assert where["transform"] == [10, 0, 0, 0, -10, 0]
            found, months = [], recipe(near["image"])
            for point, about in points(tree["collection"]):
                crs = point["crs"]["crs"]
                assert crs == where["crs"]
                stack = self.stack(months, self.row_of(point))
                found.append(about | {name: values.tolist() for name, values
                                      in stack.items()})
            return found
        assert tree["fn"] == "Image.reduceRegions"
        inner = tree["collection"]
        if inner["fn"] == "Image.reduceRegions":
            found = self.rows_of(inner)
        else:
            found = [dict(about, _at=point["coordinates"])
                     for point, about in points(inner)]
        names = [name for group, _ in bands(tree["image"])
                 for name in group]
        assert tree["reducer"]["fn"] == "Reducer.first"
        sized = any(every(tree["image"], "Image.setDefaultProjection"))
        truth = self.truth(2020).environment
        for one in found:
            row = self.row_of({"coordinates": one["_at"]})
            for name in names:
                value = (np.nan if row is None
                         else truth[row, VARIABLE_NAMES.index(name)])
                if name in ("slope", "aspect") and not sized:
                    value = 0.0  # what a mosaic of one degree gives
                if tree["scale"] == _SCALE[name] and np.isfinite(value):
                    one[name] = float(value)
        return found


def _key(epsg, x, y, scale):
    return int(epsg), round(float(x) / scale), round(float(y) / scale)


def resolve(expression):
    """The graph as nested dicts: ``fn`` and the arguments by name."""
    values = expression["values"]

    def read(node):
        if "constantValue" in node:
            return node["constantValue"]
        if "valueReference" in node:
            return read(values[node["valueReference"]])
        if "arrayValue" in node:
            return [read(one) for one in node["arrayValue"]["values"]]
        if "dictionaryValue" in node:
            return {name: read(one) for name, one in
                    node["dictionaryValue"]["values"].items()}
        if "functionDefinitionValue" in node:
            body = node["functionDefinitionValue"]["body"]
            return {"fn": "function", "body": read(values[body])}
        if "argumentReference" in node:
            return {"fn": "argument"}
        call = node["functionInvocationValue"]
        return {"fn": call["functionName"]} | {
            name: read(one) for name, one in call["arguments"].items()}

    return read(values[expression["result"]])


def every(node, name):
    """All calls of one function below a node."""
    if isinstance(node, dict):
        if node.get("fn") == name:
            yield node
        for one in node.values():
            yield from every(one, name)
    elif isinstance(node, list):
        for one in node:
            yield from every(one, name)


def loaded(tree):
    return {one["id"] for name in ("ImageCollection.load", "Image.load")
            for one in every(tree, name)}


def bands(image):
    """Band names of an image, group by group, with where they come from."""
    name = image["fn"]
    if name == "Image.addBands":
        return bands(image["dstImg"]) + bands(image["srcImg"])
    if name == "Image.rename":
        names = image["names"]
        return [([names] if isinstance(names, str) else names, image)]
    if name.startswith("Terrain."):
        return [([name.split(".")[1]], image)]
    if name == "Image.select":
        names = image.get("newNames", image["bandSelectors"])
        if "newNames" in image:
            assert [_SOIL[one] for one in image["bandSelectors"]] == names
        return [(names, image)]
    raise AssertionError(f"bands of {name}?")


def inner_select(image):
    """The bands that the mapped function of a composite selects."""
    found = [one["bandSelectors"] for one in every(image, "Image.select")
             if one["bandSelectors"] != ["cs_cdf"]]
    assert found
    return found[0]


def recipe(image):
    """What each group of bands of a composite is made of."""
    found = []
    for names, part in bands(image):
        assert any(every(part, "reduce.median"))
        found.append((names, inner_select(part), *query(part)))
    return found


def query(image):
    """Year, month and tiles that a composite asks for."""
    dates = next(every(image, "DateRange"))
    month = next(every(image, "Filter.calendarRange"))
    assert month["start"] == month["end"] and month["field"] == "month"
    tiles = [one["leftValue"] for one in every(image, "Filter.listContains")
             if one["rightField"] == "MGRS_TILE"]
    first, last = dates["start"], dates["end"]
    year = int(first[:4])
    assert re.fullmatch(r"\d{4}-01-01", first)
    assert last == f"{year + 1}-01-01"
    fill = next(every(image, "Image.unmask"))
    assert fill["value"]["value"] == NODATA
    assert fill["sameFootprint"] is False
    return year, month["start"], tiles[0] if tiles else None


def points(collection):
    assert collection["fn"] == "Collection"
    return [(one["geometry"], one["metadata"])
            for one in collection["features"]]
