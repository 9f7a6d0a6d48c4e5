"""What Earth Engine is asked to compute, and one call to it.

Building an expression asks nobody. The products, and why these, are
explained in chapter 02. Of a call: who may ask, how often, what an error
means.
"""

import errno
import threading

from geotree.data import load
from geotree.network import ServiceError, Unsteady
from geotree.variables import BAND_NAMES, MONTHS, NODATA, VARIABLE_NAMES

SENTINEL2 = "COPERNICUS/S2_SR_HARMONIZED"  # offset of 2022 removed already
CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
DEM = "COPERNICUS/DEM/GLO30_2024_1"  # beyond 60° too, unlike SRTM
SOIL = "ISRIC/SoilGrids250m/v2_0/wv0033"
CLIMATE = "WORLDCLIM/V1/BIO"
STACK = [f"m{month + 1:02d}_{band}" for month in range(MONTHS)
          for band in BAND_NAMES]
HIGH_VOLUME = "https://earthengine-highvolume.googleapis.com"
LIMIT = 10, 330  # s, for a connection and between two parts of an answer
_LARGE, _ACCOUNT, _BUSY = (  # words of errors, in small letters
    load("services.json")[kind] for kind in ("large", "account", "busy"))
_STARTING = threading.Lock()


class TooLarge(Exception):
    """Fewer samples in a request would pass."""


class Refused(Exception):
    """These samples fail, others may not."""


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


# Calls ----------------------------------------------------------------------


def start(project: str | None, connections: int) -> None:
    """Log in as the client does, unless somebody has.

    From then on this process's client tries each request once: it would try
    six times, and so would we, thirty-six in all.

    Raises
    ------
    ServiceError
        The client cannot log in.
    """
    import ee
    from requests.adapters import HTTPAdapter

    class Timely(HTTPAdapter):
        """The client waits for ever; Earth Engine itself gives up at 5 min.

        It keeps ten connections; a pool of 32 would open the others anew.
        """

        def send(self, *request, timeout=None, **options):
            return super().send(*request, timeout=timeout or LIMIT, **options)

    with _STARTING:
        if not ee.data.is_initialized():
            try:
                ee.Initialize(project=project, opt_url=HIGH_VOLUME)
            except Exception as error:
                raise _refusal(error) from error
        connections = max(connections, 16)
        session = getattr(ee.data._get_state(), "requests_session", None)
        for scheme in ("https://", "http://") if session is not None else ():
            if session.get_adapter(scheme)._pool_maxsize < connections:
                session.mount(scheme, Timely(pool_maxsize=connections))
        ee.data.setMaxRetries(0)


def page(params: dict) -> tuple[dict[int, dict], str | None]:
    """Properties of a page of features by ``sid``, and the next page.

    Raises
    ------
    TooLarge, Refused, Unsteady, ServiceError
        Ask for less, leave out these samples, ask again, or stop.
    """
    import ee
    from google.auth.exceptions import GoogleAuthError, TransportError

    try:
        answer = ee.data.computeFeatures(params)
        rows = [one["properties"] for one in answer.get("features", [])]
        table = {row["sid"]: row for row in rows}
        if len(table) < len(rows):
            raise ValueError("a sample came twice")
        return table, answer.get("nextPageToken")
    except ee.EEException as error:
        raise _meaning(error) from error
    except (ConnectionError, TimeoutError, TransportError) as error:
        raise Unsteady(f"no answer from Earth Engine ({error!s:.150})"
                       ) from error
    except GoogleAuthError as error:
        raise _refusal(error) from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Unsteady("Earth Engine's answer is garbled") from error


def _meaning(error) -> Exception:
    """Read the status and the words of an error of the client."""
    response = getattr(error.__context__, "resp", None)
    status = int(getattr(response, "status", 0) or 0)
    text = str(error).lower()
    if any(word in text for word in _LARGE) or status == 413:
        return TooLarge(str(error))
    if "eecu" in text:
        return ServiceError(
            errno.EDQUOT, f"Earth Engine's quota is used up ({error}). It "
            "is renewed each month. Finished chunks are kept: call again "
            "then, or ask for a higher tier")
    if status in (401, 403) or any(word in text for word in _ACCOUNT):
        return _refusal(error)
    if status == 429 or status >= 500 or any(word in text for word in _BUSY):
        return Unsteady(f"Earth Engine is busy ({error})")
    return Refused(f"Earth Engine: {error}")


def _refusal(error) -> ServiceError:
    return ServiceError(
        errno.EACCES, f"Earth Engine does not let you in ({error!s:.300}). "
        "Log in with 'earthengine authenticate' and name a registered Cloud "
        "project in EE_PROJECT_ID; then call again")
