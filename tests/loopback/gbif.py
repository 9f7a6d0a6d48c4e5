"""A GBIF of a few thousand records: search, match and downloads.

Keeps to the documented limits: pages of 300, offset + limit up to 100,000,
three downloads at a time, an account for downloads.
"""

from __future__ import annotations

import base64
import io
import time
import zipfile
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from .server import Answer, Service

USER, PASSWORD = "a-reader", "pass:word-äöü-never-shown"
BACKBONE = "d7dddbf4-2cf0-4f39-9b2a-bb099caae36c"
TREES = {  # asked name: key, accepted name, family
    "Acer rubrum": (3189834, "Acer rubrum", "Sapindaceae"),
    "Betula pendula": (5331916, "Betula pendula", "Betulaceae"),
    "Betula verrucosa": (5331916, "Betula pendula", "Betulaceae"),
    "Larix decidua": (2686212, "Larix decidua", "Pinaceae"),
    "Pinus sylvestris": (5285637, "Pinus sylvestris", "Pinaceae"),
}
STRANGE = {  # what else a name may match
    "Sorbus aria": dict(key=5015, rank="FAMILY", name="Rosaceae",
                        match="HIGHERRANK", kingdom="Plantae"),
    "Quercus": dict(key=2877951, rank="GENUS", name="Quercus",
                    match="EXACT", kingdom="Plantae"),
    "Dryocopus martius": dict(key=2478523, rank="SPECIES",
                              name="Dryocopus martius", match="EXACT",
                              kingdom="Animalia"),
    "Pinus silvestris": dict(key=5285637, rank="SPECIES",
                             name="Pinus sylvestris", match="FUZZY",
                             kingdom="Plantae"),
    "Abies alba": dict(key=2685484, rank="SPECIES", name="Abies alba",
                       match="EXACT", kingdom="Plantae", confidence=61),
}
_FIELDS = {
    "gbifid": "key", "datasetkey": "datasetKey", "specieskey": "speciesKey",
    "decimallatitude": "decimalLatitude",
    "decimallongitude": "decimalLongitude",
    "coordinateuncertaintyinmeters": "coordinateUncertaintyInMeters",
    "coordinateprecision": "coordinatePrecision", "year": "year",
    "countrycode": "countryCode", "basisofrecord": "basisOfRecord",
    "establishmentmeans": "establishmentMeans", "license": "license",
    "institutioncode": "institutionCode",
    "occurrencestatus": "occurrenceStatus", "species": "species",
    "taxonkey": "taxonKey", "informationwithheld": "informationWithheld",
    "distancefromcentroidinmeters": "distanceFromCentroidInMeters"}
_SEARCH_ONLY = ["informationwithheld", "distancefromcentroidinmeters"]
TITLES = {"50c9509d": "Citizens' observations",
          "d596fccb": "Pl@ntNet automatically identified occurrences"}
# Two of Germany's centres, of which geotree knows the first, and Berlin.
CENTRE, OTHER_CENTRE, CAPITAL = (51.0, 9.0), (51.11, 9.851), (52.52, 13.40)
_ADDRESS = {
    "CC_BY_4_0": "http://creativecommons.org/licenses/by/4.0/legalcode",
    "CC0_1_0": "http://creativecommons.org/publicdomain/zero/1.0/legalcode"}


def records(n=2500, seed=0):
    """Interpreted records with GBIF's lower-case column names."""
    rng = np.random.default_rng(seed)
    keys = np.array([key for key, *_ in TREES.values()])[[0, 1, 3, 4]]
    species = np.array([2, 1, 3, 0])[np.arange(n) % 4]
    lat, lon = rng.uniform(45, 60, n), rng.uniform(5, 25, n)
    frame = pd.DataFrame({
        "gbifid": 4_000_000_000 + np.arange(n) * 7,
        "datasetkey": np.where(np.arange(n) % 3, "50c9509d", "d596fccb"),
        "specieskey": keys[species].astype(str),
        "taxonkey": keys[species].astype(str),
        "species": [f"spelt {key}" for key in keys[species]],
        "decimallatitude": lat.round(6), "decimallongitude": lon.round(6),
        "coordinateuncertaintyinmeters": np.where(
            np.arange(n) % 5, rng.uniform(1, 60, n).round(1), np.nan),
        "coordinateprecision": np.nan,
        "countrycode": "SE", "year": rng.integers(2010, 2026, n),
        "license": np.where(np.arange(n) % 2, "CC_BY_4_0", "CC0_1_0"),
        "basisofrecord": "HUMAN_OBSERVATION",
        "establishmentmeans": np.where(np.arange(n) % 11, None, "INTRODUCED"),
        "institutioncode": "iNaturalist",
        "informationwithheld": np.where(
            np.arange(n) % 7, None, "Name of the observer"),
        "distancefromcentroidinmeters": np.nan,
        "occurrencestatus": "PRESENT",
        "issue": [["COORDINATE_ROUNDED"] if row % 10 == 0 else []
                  for row in range(n)]})
    _plant(frame, rng)
    frame.loc[::97, "occurrencestatus"] = "ABSENT"
    frame.loc[::89, ["decimallatitude", "decimallongitude"]] = np.nan
    return frame


def _plant(frame, rng):
    """Records that are blurred, or lie in the middle of something."""
    place = ["decimallatitude", "decimallongitude"]
    for first, middle in enumerate((CENTRE, OTHER_CENTRE, CAPITAL)):
        rows = frame.index[first::51]
        north, east = rng.uniform(-800, 800, (2, len(rows)))
        frame.loc[rows, place] = np.stack([
            middle[0] + north / 111_195, middle[1] + east / 111_195
            / np.cos(np.radians(middle[0]))], 1).round(6)
        if middle is not CAPITAL:  # null beyond 5 km
            frame.loc[rows, "distancefromcentroidinmeters"] = np.hypot(
                north, east).round(1)
    rows = frame.index[3::39]
    cell = 22_239 * np.hypot(1, np.cos(np.radians(
        frame.loc[rows, "decimallatitude"] // 0.2 * 0.2 + 0.1)))
    frame.loc[rows, "coordinateuncertaintyinmeters"] = np.ceil(cell)
    frame.loc[rows, "informationwithheld"] = [
        f"Coordinate uncertainty increased to {metres:.0f}m to protect "
        "threatened taxon" for metres in cell]
    frame.loc[4::51, "institutioncode"] = "Another"
    frame.loc[4::51, "informationwithheld"] = "Obscured by the observer"


def snapshot(folder, frame, *, files=3):
    """Write records as the monthly snapshot lies in its bucket."""
    place = folder / "occurrence" / "2026-10-01" / "occurrence.parquet"
    place.mkdir(parents=True)
    for number in range(files):
        frame.drop(columns=_SEARCH_ONLY).iloc[number::files].to_parquet(
            place / f"{number:06d}")
    return place


class Gbif(Service):
    """``frame``: what it holds; ``polls``: looks until a download is done;
    ``slow``: seconds between taking an order and telling its key.
    """

    def __init__(self, frame=None, *, polls=2, slow=0.0, **options):
        super().__init__(**options)
        self.slow = slow
        self.frame = records() if frame is None else frame
        self.polls, self.downloads, self.end = polls, {}, "SUCCEEDED"

    def answer(self, call):
        path = call["path"]
        if len(call["address"]) > 8_000:
            raise Answer(414, {"message": "URI too long"})
        if path == "/v2/species/match":
            return self.match(call["query"])
        if path == "/v1/occurrence/search":
            return self.search(call["query"])
        if path.startswith("/v1/dataset/"):
            key = path.rsplit("/", 1)[1]
            return {"key": key, "title": TITLES[key], "type": "OCCURRENCE"}
        if path == "/v1/occurrence/download/request":
            return self.order(call)
        if path == f"/v1/occurrence/download/user/{USER}":
            return self.list_downloads(call)
        if path.startswith("/v1/occurrence/download/request/"):
            key = path.rsplit("/", 1)[1].removesuffix(".zip")
            return self.downloads[key]["file"]
        if path.startswith("/v1/occurrence/download/"):
            return self.look(path.rsplit("/", 1)[1])
        return super().answer(call)

    def match(self, query):
        name = query["scientificName"][0]
        if name in TREES:
            key, accepted, family = TREES[name]
            about = dict(key=key, rank="SPECIES", name=accepted,
                         match="EXACT", kingdom="Plantae", family=family)
        elif name in STRANGE:
            about = STRANGE[name]
        else:
            return {"diagnostics": {"matchType": "NONE", "confidence": 100},
                    "synonym": False}
        usage = {"key": str(about["key"]), "canonicalName": about["name"],
                 "name": f"{about['name']} L.", "rank": about["rank"],
                 "status": "ACCEPTED"}
        synonym = name in TREES and about["name"] != name
        answer = {
            "usage": usage, "synonym": synonym,
            "classification": [
                {"rank": "KINGDOM", "name": about["kingdom"]},
                {"rank": "FAMILY", "name": about.get("family", "Pinaceae")},
                {"rank": "GENUS", "name": about["name"].split()[0]}],
            "diagnostics": {"matchType": about["match"],
                            "confidence": about.get("confidence", 99)}}
        if synonym:
            answer["acceptedUsage"] = usage
            answer["usage"] = {**usage, "canonicalName": name, "key": "99",
                               "status": "SYNONYM"}
        return answer

    def select(self, keys, first, last, radius=None):
        frame = self.frame
        keep = (frame["specieskey"].isin(keys)
                & frame["decimallatitude"].notna()
                & (frame["occurrencestatus"] == "PRESENT")
                & frame["year"].between(first, last))
        if radius is not None:
            keep &= frame["coordinateuncertaintyinmeters"] <= radius
        return frame[keep]

    def search(self, query):
        offset, limit = int(query["offset"][0]), int(query["limit"][0])
        limit = min(limit, 300)
        if offset + limit > 100_000:
            raise Answer(400, {"message": "Max offset of 100001 exceeded"})
        first, last = map(int, query["year"][0].split(","))
        radius = query.get("coordinateUncertaintyInMeters")
        found = self.select(query["taxonKey"], first, last,
                            radius and float(radius[0].split(",")[1]))
        page = []
        for row in found.iloc[offset:offset + limit].to_dict("records"):
            one = {theirs: row[ours] for ours, theirs in _FIELDS.items()
                   if row[ours] is not None and row[ours] == row[ours]}
            one.update(speciesKey=int(row["specieskey"]),
                       license=_ADDRESS[row["license"]],
                       issues=row["issue"], gbifID=str(row["gbifid"]))
            page.append(one)
        return {"offset": offset, "limit": limit, "count": len(found),
                "endOfRecords": offset + limit >= len(found),
                "results": page}

    def admit(self, call):
        sent = call["headers"].get("authorization", "")
        good = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if sent != f"Basic {good}":
            raise Answer(401, {"message": "Unauthorized"})

    def order(self, call):
        self.admit(call)
        running = [one for one in self.downloads.values() if one["polls"]]
        if len(running) >= 3:
            raise Answer(429, {"message": "too many downloads"})
        rules = {}
        if len(call["body"]["predicate"]["predicates"][0]["values"]
               ) > 101_000:
            raise Answer(400, {"message": "predicate contains too many items"})
        for rule in call["body"]["predicate"]["predicates"]:
            rules[rule["key"], rule["type"]] = rule.get(
                "values", rule.get("value"))
        radius = rules.get(("COORDINATE_UNCERTAINTY_IN_METERS",
                            "lessThanOrEquals"))
        found = self.select(
            rules["TAXON_KEY", "in"],
            int(rules["YEAR", "greaterThanOrEquals"]),
            int(rules["YEAR", "lessThanOrEquals"]),
            radius and float(radius))
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for number in range(2):
                part = io.BytesIO()
                found.drop(columns=_SEARCH_ONLY).iloc[number::2].to_parquet(
                    part)
                archive.writestr(f"occurrence.parquet/{number:06d}",
                                 part.getvalue())
        key = f"{len(self.downloads):07d}-261124000000000"
        self.downloads[key] = {
            "file": file.getvalue(), "polls": self.polls,
            "request": _echo(call["body"]),
            "created": datetime.now(UTC).isoformat(timespec="milliseconds")}
        time.sleep(self.slow)
        return key

    def look(self, key):
        one = self.downloads[key]
        one["polls"] = max(one["polls"] - 1, 0)
        return self.about(key)

    def about(self, key):
        one = self.downloads[key]
        state = "RUNNING" if one["polls"] else self.end
        return {"key": key, "status": state, "doi": f"10.15468/dl.{key[:6]}",
                "created": one["created"], "size": len(one["file"]),
                "request": one["request"]}

    def list_downloads(self, call):
        self.admit(call)
        limit = int(call["query"].get("limit", ["20"])[0])
        found = [self.about(key) for key in sorted(self.downloads)[::-1]]
        return {"offset": 0, "limit": limit, "count": len(found),
                "endOfRecords": limit >= len(found),
                "results": found[:limit]}


def _echo(request):
    """A request as GBIF tells it back: other order, defaults spelt out."""
    rules = [{**rule, "matchCase": False} if rule["type"] == "equals"
             else rule for rule in request["predicate"]["predicates"][::-1]]
    rules[-1] = {**rules[-1], "values": rules[-1]["values"][::-1]}
    return {"predicate": {"type": "and", "predicates": rules},
            "creator": USER, "type": "OCCURRENCE",
            "format": request["format"], "sendNotification": False}
