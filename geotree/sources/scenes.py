"""Which scenes of a Sentinel-2 tile does a STAC API have, and in what unit?

Catalogues spell one fact in many ways. From processing baseline 04.00 on,
ESA adds 1,000 to each digital number; whether that is still in a file is
read from all that is said of it, and never guessed.
"""

import json
import math
import re
import warnings
from urllib.parse import urljoin

import pandas as pd

from geotree.data import load
from geotree.network import ServiceError, ask, redact
from geotree.sources import grid

EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"
# Of each band, what its file is called in Earth Search, in most catalogues,
# and in Copernicus' own; lists of bands in an asset (STAC 1.0, 1.1 and eo);
# what a fact is called there; ends of names of properties that tell the
# baseline, and how ("": names of ESA's products and granules, in any text).
ASSETS, _BANDS, _FACTS, _BASELINE = (
    load("services.json")[part]
    for part in ("assets", "bands", "facts", "baseline"))
_OFFSET_FROM = 4  # processing baseline
_ONE_PASS = 600  # s; a satellite needs 98 minutes to come back
_MOST = 10_000  # scenes of a tile and year; there are about 150


def find(url: str, tile: str, year: int, *, collection: str | None,
         label: str, cloudy: float, wait: float
         ) -> tuple[list[dict], dict[str, str]]:
    """Scenes of a tile and year, the least cloudy first.

    Parameters
    ----------
    collection, label, cloudy, wait
        As in :class:`geotree.sources.stac.Stac`, which calls the label
        ``tile``.

    Returns
    -------
    scenes : list of dict
        ``id``, ``month``, ``pass`` (the same number for the same
        overflight), and for each of ``bands`` its address, and the gain,
        shift and sign for missing that turn values into digital numbers.
    left_out : dict
        Why a scene cannot be used, by its id.

    Raises
    ------
    ServiceError
        The catalogue refuses, or fails for long.
    """
    name = collection or ("sentinel-2-c1-l2a" if year >= 2022
                          else "sentinel-2-l2a")
    doubtful = (name == "sentinel-2-l2a"
                and (not collection or url.startswith(EARTH_SEARCH)))
    prefix = "MGRS-" if label == "grid:code" else ""
    names = [prefix + form for one in grid.names(tile)
             for form in {one, one.lstrip("0")}]
    items = _search(url, wait, {
        "collections": [name], "limit": 100,
        "datetime": f"{year}-01-01T00:00:00Z/{year}-12-31T23:59:59Z",
        "query": {label: {"in": names}, "eo:cloud_cover": {"lt": cloudy}}})
    scenes, left_out = [], {}
    for item in {(item["id"], item["properties"].get("datetime")): item
                 for item in items}.values():
        try:
            if item.get("collection", name) != name:
                raise ValueError(f"is of {item['collection']}, not {name}")
            if (said := item["properties"].get(label, names[0])) not in names:
                raise ValueError(f"is of {said}, not {names[0]}")
            scenes.append(_slim(item, year, doubtful))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            left_out[item["id"]] = str(error)
    if left_out and not scenes:
        one, why = next(iter(left_out.items()))
        raise ServiceError(5, f"no scene of {name} at '{url}' can be used, "
                           f"'{one}' {why}. Give another collection")
    if not scenes:
        warnings.warn(f"'{redact(url)}' lists no scene of {name} for {tile} "
                      f"in {year}. Has it a collection of this name?",
                      stacklevel=3)
    scenes.sort(key=lambda one: one["time"])
    number, last = 0, -_ONE_PASS
    for one in scenes:
        number += one["time"] - last >= _ONE_PASS
        one["pass"], last = number, one["time"]
    return sorted(scenes, key=lambda one: (one["cloud"], -one["baseline"])
                  ), left_out


def _search(url: str, wait: float, asked: dict) -> list[dict]:
    """All that a catalogue lists, page by page."""
    def read(data):
        page = json.loads(data)
        if not all(one["properties"] is not None and isinstance(one["id"], str)
                   and one["assets"] for one in page["features"]):
            raise ValueError("a scene without properties")
        return page, {link["rel"]: link for link in page.get("links") or ()}

    base, _, key = url.partition("?")
    items, link = [], {"href": f"{base.rstrip('/')}/search?{key}".strip("?"),
                       "method": "POST", "body": asked}
    while link:
        post = link.get("method", "GET").upper() == "POST"
        more = {**(asked if link.get("merge") else {}), **link.get("body", {})}
        page, links = ask(urljoin(base, link["href"]), read=read, wait=wait,
                          method="POST" if post else "GET",
                          json=more if post else None,
                          headers=link.get("headers"))
        items += page["features"]
        listed = page.get("numberMatched", (page.get("context") or {}).get(
            "matched"))
        link = links.get("next") if page["features"] else None
        if len(items) >= _MOST:
            raise ServiceError(5, f"'{url}' lists {len(items):,} scenes and "
                               "more of one tile and year: it does not heed "
                               "the query")
    if isinstance(listed, int) and len(items) < listed:
        raise ServiceError(5, f"'{url}' counts {listed} scenes of a tile and "
                           f"year, and lists {len(items)}. Call again")
    return items


def _slim(item: dict, year: int, doubtful: bool) -> dict:
    """What reading needs of a scene; ``ValueError`` where that is unsaid."""
    about = item["properties"]
    assets = {band: _asset(item["assets"], band) for band in ASSETS}
    lacks = sorted(band for band, asset in assets.items() if not asset)
    if lacks:
        raise ValueError(f"lacks {', '.join(lacks)}")
    if not all(isinstance(one["href"], str) for one in assets.values()):
        raise ValueError("has an address that is no text")
    time = pd.to_datetime(about.get("datetime") or about.get(
        "start_datetime"), utc=True)
    if time is None or time.year != year:
        raise ValueError(f"is not of {year} but of {time}")
    since = baseline(item)
    if doubtful and (since is None or since >= _OFFSET_FROM):
        raise ValueError("has a processing baseline of 04.00 or later, for "
                         "which this collection is known to say wrongly "
                         "whether the offset was taken off")
    cloud = about.get("eo:cloud_cover")
    return {"id": item["id"], "month": time.month, "time": time.timestamp(),
            "baseline": since or 0,
            "cloud": min(100.0, float("inf" if cloud is None else cloud)),
            "bands": {band: [asset["href"], *(
                (1.0, 0.0, 0) if band == "SCL" else unit(about, asset, since))]
                for band, asset in assets.items()}}


def _asset(assets: dict, band: str) -> dict | None:
    """The file of a band: by its key, or by what its only band is called."""
    for name in ASSETS[band]:
        if name in assets:
            return assets[name]
    known = {name.lower() for name in (band, *ASSETS[band])}
    found = [asset for asset in assets.values()
             for kind in _BANDS if len(asset.get(kind) or ()) == 1
             and str(asset[kind][0].get("name")).lower() in known]
    return found[0] if len({one["href"] for one in found}) == 1 else None


def baseline(item: dict) -> int | None:
    """First number of the processing baseline, or None if nothing tells it.

    Told by a property of :data:`_BASELINE`, or by the name of ESA's product
    in a property, the id or an address.

    Raises
    ------
    ValueError
        One says another than the other.
    """
    told = [*item["properties"].items(), ("", item["id"]),
            *(("", asset["href"]) for asset in item["assets"].values())]
    found = {one for name, value in told
             for end, pattern in _BASELINE.items() if name.endswith(end)
             for one in re.findall(pattern, str(value))}
    if len({int(one) >= _OFFSET_FROM for one in found}) > 1:
        raise ValueError("has two processing baselines, "
                         f"{' and '.join(sorted(found))}")
    return max(map(int, found), default=None)


def unit(about: dict, asset: dict, since: int | None
         ) -> tuple[float, float, int]:
    """Gain, shift and sign for missing: digital number = gain · value + shift.

    Parameters
    ----------
    about : dict
        Properties of the scene.
    since : int, optional
        Of :func:`baseline`.

    Raises
    ------
    ValueError
        Nothing says whether the offset is in the file, or two things say
        otherwise.
    """
    said = {}
    for one in (*(asset[kind][0] for kind in _BANDS if asset.get(kind)),
                asset, about):
        for fact, names in _FACTS.items():
            for value in map(one.get, names):
                if isinstance(value, str):  # some write numbers as text
                    value = pd.to_numeric(value, errors="coerce")
                    value = None if math.isnan(value) else float(value)
                if isinstance(value, int | float) and value != said.setdefault(
                        fact, value):
                    raise ValueError(f"has two values of {fact}, "
                                     f"{said[fact]} and {value}")
    applied = {str(value).lower() for name, value in about.items()
               if name.rpartition(":")[2] == "boa_offset_applied"}
    if odd := applied - {"true", "false", "none"}:
        raise ValueError(f"has boa_offset_applied of {odd.pop()}, which is "
                         "neither true nor false")
    scale, offset = said.get("scale") or 1e-4, said.get("offset")
    if scale == 1:  # of digital numbers
        scale = 1e-4
    after = since is not None and since >= _OFFSET_FROM
    if "true" in applied:  # the bands may still name it
        offset = 0
    elif offset is None:
        if since is None:
            raise ValueError("does not say whether 1,000 was added to its "
                             "numbers: no processing baseline, no offset")
        offset = -0.1 if after else 0
    elif (offset and since is not None and not after) or (
            not offset and after and applied):
        raise ValueError(f"has baseline 0{since} and an offset of {offset}")
    if not (0 < scale < math.inf and abs(offset) < math.inf):
        raise ValueError(f"has a scale of {scale} and an offset of {offset}")
    if abs(offset) < 1:  # of reflectance, else of digital numbers
        offset /= scale
    return scale * 1e4, round(offset * scale * 1e4, 6), said.get("nodata", 0)
