"""Which scenes of a Sentinel-2 tile does a STAC API have?"""

from __future__ import annotations

from geotree.network import ServiceError, Unsteady
from geotree.sources import grid

EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"
# Names of assets in Earth Search and in other catalogues.
ASSETS = {"B2": ("blue", "B02"), "B3": ("green", "B03"),
          "B4": ("red", "B04"), "B8": ("nir", "B08"),
          "B5": ("rededge1", "B05"), "B6": ("rededge2", "B06"),
          "B7": ("rededge3", "B07"), "B8A": ("nir08", "B8A"),
          "B11": ("swir16", "B11"), "B12": ("swir22", "B12"),
          "SCL": ("scl", "SCL")}
OFFSET_FROM = 4.0  # processing baseline


def find(url: str, tile: str, year: int, *, collection: str | None,
         label: str, cloudy: float, wait: float) -> list[dict]:
    """Scenes of a tile and year, the least cloudy first.

    Parameters
    ----------
    collection, label, cloudy, wait
        As in :class:`geotree.sources.stac.Stac`, which calls the label
        ``tile``.

    Returns
    -------
    list of dict
        Of each STAC item what reading needs: ``id``, ``properties`` and the
        address of each band's file under ``assets``. Scenes that lack a
        band are left out.

    Raises
    ------
    ServiceError, Unsteady
        The catalogue refuses, or its answer is not whole.
    """
    import pystac_client
    import requests
    from pystac_client.stac_api_io import StacApiIO
    from urllib3 import Retry

    late = collection or year >= 2022
    name = collection or ("sentinel-2-c1-l2a" if late else "sentinel-2-l2a")
    prefix = "MGRS-" if label == "grid:code" else ""
    names = [prefix + form for one in grid.names(tile)
             for form in {one, one.lstrip("0")}]

    class WholeIO(StacApiIO):
        """The client takes a page without features for the last one."""

        def read_json(self, *where, **options):
            page = super().read_json(*where, **options)
            if "stac_version" not in page and not isinstance(
                    page["features"], list):
                raise ValueError("a page without features")
            return page

    try:
        again = Retry(6, backoff_factor=wait, allowed_methods=None,
                      status_forcelist=(429, 500, 502, 503, 504))
        items = [_slim(item) for item in pystac_client.Client.open(
            url, stac_io=WholeIO(timeout=60, max_retries=again)).search(
            collections=[name], limit=100,
            datetime=f"{year}-01-01T00:00:00Z/{year}-12-31T23:59:59Z",
            query={label: {"in": names}, "eo:cloud_cover": {"lt": cloudy}},
            ).items_as_dicts()]
    except pystac_client.exceptions.APIError as error:
        code = getattr(error, "status_code", None) or 0
        text = f"'{url}' answers {code} ({error!s:.150})"
        if code and code < 500 and code != 429:
            raise ServiceError(5, text) from error
        raise Unsteady(text) from error
    except (requests.RequestException, ValueError, KeyError, TypeError,
            AttributeError) as error:  # no JSON, or another
        raise Unsteady(f"no whole answer from '{url}' ({error!s:.150})"
                       ) from error
    whole = [item for item in items if len(item["assets"]) == len(ASSETS)]
    if items and not whole:
        lacks = sorted(ASSETS.keys() - items[0]["assets"].keys())
        raise ServiceError(5, f"no scene of {name} at '{url}' has all bands, "
                           f"'{items[0]['id']}' lacks {', '.join(lacks)}. "
                           "Give another collection")
    items = [item for item in whole if late or baseline(item) < OFFSET_FROM]
    return sorted(items, key=lambda item: item["properties"][
        "eo:cloud_cover"])


def baseline(item: dict) -> float:
    """Processing baseline of a scene, 99 where nothing is said."""
    return float(item["properties"]["s2:processing_baseline"])


def _slim(item: dict) -> dict:
    assets = item["assets"]
    keep = ("datetime", "s2:processing_baseline", "eo:cloud_cover")
    return {
        "id": item["id"],
        "properties": {name: item["properties"].get(name, 99)
                       for name in keep},
        "assets": {band: assets[name]["href"] for band, names in
                   ASSETS.items() for name in names[::-1] if name in assets}}
