"""One call to Earth Engine: who may ask, how often, what an error means."""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from geotree.data import load
from geotree.network import ServiceError, Unsteady

HIGH_VOLUME = "https://earthengine-highvolume.googleapis.com"
LIMIT = 10, 330  # s, for a connection and between two parts of an answer
_LARGE, _ACCOUNT, _BUSY = (  # words of errors, in small letters
    load("services.json")[kind] for kind in ("large", "account", "busy"))

# numpy parses a header with ast, which Python 3.11 may lose count of when
# several threads do so.
_PARSING = threading.Lock()
_STARTING = threading.Lock()
_askers: list[int] = []  # the client's own retries, one entry per asker


class TooLarge(Exception):
    """Fewer samples in a request would pass."""


class Refused(Exception):
    """These samples fail, others may not."""


@contextmanager
def asking(project: str | None, connections: int) -> Iterator[None]:
    """Let the client ask: logged in, and trying each request once.

    The client would try each request six times, and so would we: thirty-six
    in all. Its own setting comes back when the last asker has left.

    Raises
    ------
    ServiceError
        The client cannot log in.
    """
    import ee

    with _STARTING:
        _start(project, connections)
        _askers.append(_askers[0] if _askers else
                       ee.data._get_state().max_retries)
        ee.data.setMaxRetries(0)
    try:
        yield
    finally:
        with _STARTING:
            before = _askers.pop()
            if not _askers:
                ee.data.setMaxRetries(before)


def _start(project, connections):
    """Log in as the client does, unless somebody has."""
    import ee
    from requests.adapters import HTTPAdapter

    class Timely(HTTPAdapter):
        """The client waits for ever; Earth Engine itself gives up at 5 min.

        It keeps ten connections; a pool of 32 would open the others anew.
        """

        def send(self, *request, timeout=None, **options):
            return super().send(*request, timeout=timeout or LIMIT,
                                **options)

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


def array(params: dict) -> np.ndarray:
    """Pixels as a structured array: (rows, columns)."""
    import ee

    data = ee.data.computePixels(params)
    with _PARSING:
        return np.load(io.BytesIO(data), allow_pickle=False)


def page(params: dict) -> tuple[dict[int, dict], str | None]:
    """Properties of a page of features by ``sid``, and the next page."""
    import ee

    answer = _whole(ee.data.computeFeatures(params))
    try:
        rows = [one["properties"] for one in answer.get("features", [])]
        return {row["sid"]: row for row in rows}, answer.get("nextPageToken")
    except (KeyError, TypeError) as error:
        raise ValueError("no features") from error


def _whole(answer):
    """The client passes a text on where it cannot read JSON."""
    if not isinstance(answer, dict):
        raise ValueError(f"no JSON: {answer!s:.50}")
    return answer


def once(method, params):
    """One call; says with its exception what to do next.

    Raises
    ------
    TooLarge, Refused, Unsteady, ServiceError
        Ask for less, leave out these samples, ask again, or stop.
    """
    import ee
    from google.auth.exceptions import GoogleAuthError, TransportError

    try:
        return method(params)
    except ee.EEException as error:
        raise _meaning(error) from error
    except (ConnectionError, TimeoutError, TransportError) as error:
        raise Unsteady(f"no answer from Earth Engine ({error!s:.150})"
                       ) from error
    except GoogleAuthError as error:
        raise _refusal(error) from error
    except (ValueError, EOFError) as error:  # no JSON, or no array
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
    if status == 429 or status >= 500 or any(
            word in text for word in _BUSY):
        return Unsteady(f"Earth Engine is busy ({error})")
    return Refused(f"Earth Engine: {error}")


def _refusal(error) -> ServiceError:
    return ServiceError(
        errno.EACCES, f"Earth Engine does not let you in ({error!s:.300}). "
        "Log in with 'earthengine authenticate' and name a registered Cloud "
        "project in EE_PROJECT_ID; then call again")
