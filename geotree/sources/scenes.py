"""Which scenes of a Sentinel-2 tile does a STAC API have, and in what unit?

Catalogues spell one fact in many ways. From processing baseline 04.00 on,
ESA adds 1,000 to each digital number; whether that is still in a file is
read from all that is said of it, and never guessed.
"""

from __future__ import annotations

import re
from itertools import pairwise

import pandas as pd

from geotree.network import ServiceError, Unsteady, patient
from geotree.sources import grid

EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"
# Assets in Earth Search, in most others, and in Copernicus' own catalogue.
ASSETS = {"B2": ("blue", "B02", "B02_10m"), "B3": ("green", "B03", "B03_10m"),
          "B4": ("red", "B04", "B04_10m"), "B8": ("nir", "B08", "B08_10m"),
          "B5": ("rededge1", "B05", "B05_20m"),
          "B6": ("rededge2", "B06", "B06_20m"),
          "B7": ("rededge3", "B07", "B07_20m"),
          "B8A": ("nir08", "B8A", "B8A_20m"),
          "B11": ("swir16", "B11", "B11_20m"),
          "B12": ("swir22", "B12", "B12_20m"), "SCL": ("scl", "SCL",
                                                       "SCL_20m")}
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
    late = collection or year >= 2022
    name = collection or ("sentinel-2-c1-l2a" if late else "sentinel-2-l2a")
    prefix = "MGRS-" if label == "grid:code" else ""
    names = [prefix + form for one in grid.names(tile)
             for form in {one, one.lstrip("0")}]
    items = _search(url, wait, collections=[name], limit=100,
                    datetime=f"{year}-01-01T00:00:00Z/{year}-12-31T23:59:59Z",
                    query={label: {"in": names},
                           "eo:cloud_cover": {"lt": cloudy}})
    scenes, left_out = [], {}
    for item in {item["id"]: item for item in items}.values():
        try:
            scenes.append(_slim(item, late))
        except ValueError as error:
            left_out[item["id"]] = str(error)
    if left_out and not scenes:
        one, why = next(iter(left_out.items()))
        raise ServiceError(5, f"no scene of {name} at '{url}' can be used, "
                           f"'{one}' {why}. Give another collection")
    scenes.sort(key=lambda one: (one["platform"], one["time"]))
    for number, (last, one) in enumerate(pairwise([{}, *scenes])):
        again = (last.get("platform") == one["platform"]
                 and one["time"] - last["time"] < _ONE_PASS)
        one["pass"] = last["pass"] if again else number
    return sorted(scenes, key=lambda one: (one["cloud"], -one["baseline"])
                  ), left_out


def _search(url, wait, **asked) -> list[dict]:
    import pystac_client
    import requests
    from pystac_client.stac_api_io import StacApiIO

    class PatientIO(StacApiIO):
        """Each page is asked for until it is whole."""

        def read_json(self, *where, **options):
            return patient(lambda: self._page(*where, **options), wait=wait)

        def _page(self, *where, **options):
            try:
                page = super().read_json(*where, **options)
                # The client takes a page without features for the last one.
                if "stac_version" not in page and not all(
                        one["id"] and one["properties"] is not None
                        and one["assets"] for one in page["features"]):
                    raise ValueError("a scene without properties")
                return page
            except pystac_client.exceptions.APIError as error:
                code = getattr(error, "status_code", None) or 0
                text = f"'{url}' answers {code} ({error!s:.150})"
            except (requests.RequestException, ValueError, KeyError,
                    TypeError, AttributeError) as error:  # no JSON, or other
                code = 0
                text = f"no whole answer from '{url}' ({error!s:.150})"
            if code and code < 500 and code != 429:
                raise ServiceError(5, text)
            raise Unsteady(text)

    client = pystac_client.Client.open(url, stac_io=PatientIO(
        timeout=60, max_retries=None))
    items = list(client.search(max_items=_MOST, **asked).items_as_dicts())
    if len(items) == _MOST:
        raise ServiceError(5, f"'{url}' lists {_MOST:,} scenes and more of "
                           "one tile and year: it does not heed the query")
    return items


def _slim(item: dict, late) -> dict:
    """What reading needs of a scene; ``ValueError`` where that is unsaid."""
    about = item["properties"]
    assets = {band: item["assets"][name] for band, names in ASSETS.items()
              for name in names[::-1] if name in item["assets"]}
    lacks = sorted(ASSETS.keys() - assets.keys())
    if lacks:
        raise ValueError(f"lacks {', '.join(lacks)}")
    time = about.get("datetime") or about.get("start_datetime")
    if not time:
        raise ValueError("has no time")
    since = baseline(item)
    if not late and (since is None or since >= _OFFSET_FROM):
        raise ValueError("has a processing baseline of 04.00 or later, for "
                         "which this collection is known to say wrongly "
                         "whether the offset was taken off")
    return {"id": item["id"], "month": pd.Timestamp(time).month,
            "time": pd.Timestamp(time).timestamp(),
            "platform": str(about.get("platform")), "baseline": since or 0,
            "cloud": float(about.get("eo:cloud_cover", 100)),
            "bands": {band: [asset["href"], *(
                (1, 0, 0) if band == "SCL" else
                unit(item, asset, since))] for band, asset in
                assets.items()}}


def baseline(item: dict) -> int | None:
    """First number of the processing baseline, or None if nothing tells it.

    Told by ``s2:processing_baseline`` and its relatives, by
    ``processing:version``, and by the name of ESA's product (``_N0500_``).

    Raises
    ------
    ValueError
        One says another than the other.
    """
    found = set()
    for name, value in {"": item["id"], **item["properties"]}.items():
        if (name.rpartition(":")[2] == "processing_baseline"
                or name == "processing:version"):
            found |= set(re.findall(r"^N?0?(\d)(?:\.?\d\d?)?$", str(value)))
        elif isinstance(value, str):
            found |= set(re.findall(r"_N0(\d)\d\d_R\d{3}_", value))
    if len({int(one) >= _OFFSET_FROM for one in found}) > 1:
        raise ValueError("has two processing baselines, "
                         f"{' and '.join(sorted(found))}")
    return max(map(int, found), default=None)


def unit(item: dict, asset: dict, since: int | None
         ) -> tuple[float, float, int]:
    """Gain, shift and sign for missing: digital number = gain · value + shift.

    Parameters
    ----------
    since : int, optional
        Of :func:`baseline`.

    Raises
    ------
    ValueError
        Nothing says whether the offset is in the file, or two things say
        otherwise.
    """
    about, said = item["properties"], {}
    for one in (*(asset.get("raster:bands") or [])[:1],
                *(asset.get("bands") or [])[:1], asset, about):
        for name in ("offset", "scale", "nodata"):
            for key in (name, f"raster:{name}"):
                if isinstance(one.get(key), int | float):
                    said.setdefault(name, one[key])
    applied = {str(value).lower() for name, value in about.items()
               if name.rpartition(":")[2] == "boa_offset_applied"}
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
    if abs(offset) < 1:  # of reflectance, else of digital numbers
        offset /= scale
    return scale * 1e4, round(offset * scale * 1e4, 6), said.get("nodata", 0)
