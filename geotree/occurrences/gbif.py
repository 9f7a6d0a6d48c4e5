"""GBIF: names through ``pygbif``, its client for Python, the rest plainly.

``pygbif`` 0.7 knows how names are matched. It passes on what ``requests``
takes, so it gets our limits of time and size. Records, titles and downloads
are four plain requests: there ``pygbif`` uses http without TLS, for the
password too. Each request has one owner of its retries, :func:`patient`.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import geotree
from geotree.network import ServiceError, Unsteady, body, patient, retry_after

URL = "https://api.gbif.org"
BACKBONE = "d7dddbf4-2cf0-4f39-9b2a-bb099caae36c"  # frozen, integer keys
TIMEOUT = (10, 60)  # s, to connect and between two bytes
PAGE = 300  # GBIF cuts longer pages without a word
DEEPEST = 100_000  # offset + limit
ALIVE = ("PREPARING", "RUNNING", "SUSPENDED", "SUCCEEDED")
_BUSY = (420, 429, 500, 502, 503, 504)
_SKEW = 600.0  # s, by which GBIF's clock may be behind
_SLOWEST = 1_000  # bytes/s of a download, else it starts again from there
_AGENT = (f"geotree/{geotree.__version__} "
          "(https://github.com/geotree-book/geotree)")


class Client:
    """What geotree asks of GBIF.

    Parameters
    ----------
    url : str
        The service; another one for tests.
    wait : float
        Upper limit of the first pause after a failure in seconds.
    verify : bool or path
        Certificates to trust, as ``requests`` takes it.

    Notes
    -----
    The account is read from ``GBIF_USER`` and ``GBIF_PWD`` when a download
    is asked for, and goes to ``https`` addresses only.
    """

    def __init__(self, url: str = URL, *, wait: float = 1.0, verify=True):
        import requests

        self.url, self.wait, self.verify = url.rstrip("/"), wait, verify
        self._session = requests.Session()

    def match(self, name: str, family: str, judge: Callable) -> dict:
        """What the GBIF Backbone knows of a name of a plant.

        Parameters
        ----------
        judge : callable
            Reads the answer; fails where it is none.
        """
        def once():
            answer = _pygbif().species.name_backbone(
                scientificName=name, kingdom="Plantae",
                family=family or None, checklistKey=BACKBONE, stream=True,
                timeout=TIMEOUT, verify=self.verify, auth=self._address,
                allow_redirects=False, hooks={"response": _plain})
            judge(answer)
            return answer

        return self._patient(once, "match of names")

    def search(self, **query) -> dict:
        """One page of records."""
        def read(answer):
            for one in answer["results"]:
                int(one["key"])
            return answer["endOfRecords"] in (True, False)

        return self._get("v1/occurrence/search", read, query)

    def title(self, key: str) -> str:
        """Title of a dataset."""
        return self._get(f"v1/dataset/{quote(str(key), safe='')}",
                         lambda answer: isinstance(answer["title"], str)
                         )["title"]

    def download(self, key: str) -> dict:
        """How a download does: ``status, created, doi``."""
        return self._get(
            f"v1/occurrence/download/{key}",
            lambda answer: isinstance(answer["status"], str)
            and datetime.fromisoformat(answer["created"]))

    def order(self, request: dict, *, since: float | None = None) -> str:
        """Ask for a download; returns its key.

        Parameters
        ----------
        since : float, optional
            Time (s) from which on this request may have been sent before,
            by a run that did not live to hear the answer. Then the
            account's downloads are looked through first.
        """
        account, began = _account(self.url), since or time.time()
        sent = since is not None
        path = "v1/occurrence/download/request"

        def once():
            nonlocal sent
            if sent and (key := self._ordered(request, began, account)):
                return key
            sent = True
            with self._send("POST", path, json=request, auth=account
                            ) as answer:
                key = body(answer, size=1_000).decode().strip().strip('"')
            if not re.fullmatch(r"[0-9]+-[0-9]+", key):
                raise Unsteady("GBIF's answer is no key of a download")
            return key

        return self._patient(once, path)

    def save(self, path: str, file: Path) -> None:
        """Fetch a large file; goes on where an earlier try broke off."""
        part = file.with_name(f".{file.name}.part")

        def more():
            have = part.stat().st_size if part.exists() else 0
            with self._send("GET", path, headers={
                    "Range": f"bytes={have}-"}) as answer:
                if answer.status_code == 416:  # nothing is left to send
                    return
                whole = answer.status_code == 200
                have = 0 if whole else have
                size = have + int(answer.headers["Content-Length"])
                began, start = time.monotonic(), have
                with open(part, "wb" if whole else "ab") as target:
                    while block := answer.raw.read1(1 << 16):
                        have += target.write(block)
                        gone = time.monotonic() - began
                        if gone > TIMEOUT[1] and (
                                have - start < _SLOWEST * gone):
                            break
            if have != size:
                raise Unsteady(f"'{path}' broke off, or came too slowly")

        try:
            self._patient(more, path)
            os.replace(part, file)
        except OSError as error:
            if isinstance(error, ServiceError):
                raise
            raise OSError(
                error.errno, f"cannot write '{file}' ({error.strerror}). "
                "What has come is kept: free some space, then call again"
            ) from error

    def _ordered(self, request, began, account) -> str | None:
        """Key of the newest living download of this request, if any."""
        path = ("v1/occurrence/download/user/"
                + quote(account.username.decode(), safe=""))
        with self._send("GET", path, params={"limit": 100}, auth=account
                        ) as answer:
            for one in json.loads(body(answer))["results"]:
                made = datetime.fromisoformat(one["created"]).timestamp()
                if (one["status"] in ALIVE and made > began - _SKEW
                        and _essence(one["request"]) == _essence(request)):
                    return one["key"]
        return None

    def _get(self, path: str, read: Callable, query=None) -> dict:
        """JSON that ``read`` can read: it fails, or gives False, else."""
        def once():
            with self._send("GET", path, params=query) as answer:
                found = json.loads(body(answer))
            if read(found) is False:
                raise ValueError(path)
            return found

        return self._patient(once, path)

    def _patient(self, once: Callable, path: str):
        import requests
        import urllib3

        def calmly():
            try:
                return once()
            except (requests.RequestException,
                    urllib3.exceptions.HTTPError) as error:
                raise Unsteady(
                    f"no whole answer from GBIF ({type(error).__name__}: "
                    f"{str(error)[-150:]})") from error
            except (ValueError, KeyError, TypeError, AttributeError,
                    RecursionError) as error:
                raise Unsteady(f"GBIF's answer to '{path}' is not what it "
                               "should be") from error

        return patient(calmly, wait=self.wait)

    def _address(self, request):
        """As ``auth``: to our service, and nothing from ~/.netrc."""
        request.url = request.url.replace(URL, self.url, 1)
        request.headers["User-Agent"] += f" {_AGENT}"
        return request

    def _send(self, method, path, *, auth=None, headers=None, **options):
        return _good(self._session.request(
            method, f"{self.url}/{path}", timeout=TIMEOUT, stream=True,
            verify=self.verify, allow_redirects=auth is None,
            headers={"User-Agent": _AGENT, **(headers or {})},
            auth=auth or (lambda request: request), **options))


def _good(answer):
    """An answer of a good status; it is not read yet."""
    code, path = answer.status_code, answer.url.split("?")[0]
    if code in (200, 201, 206, 416):
        return answer
    answer.close()
    if code in _BUSY:
        raise Unsteady(f"GBIF answers {code} to '{path}'",
                       after=retry_after(answer))
    if code in (401, 403):
        raise ServiceError(
            errno.EACCES, f"GBIF refuses '{path}' with {code}. Set "
            "GBIF_USER (the user name, not the address) and GBIF_PWD, "
            "or make an account at gbif.org; no account is needed for "
            "route='snapshot'")
    raise ServiceError(errno.EINVAL, f"GBIF answers {code} to '{path}'")


def _plain(answer, **_):
    """For ``requests``: the answer, in memory, with the type of JSON."""
    data = body(_good(answer))
    json.loads(data)
    answer.raw = io.BytesIO(data)
    answer.headers["Content-Type"] = "application/json"
    return answer


def _pygbif():
    """The library, without the log that its import opens for everyone."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    import pygbif

    root.setLevel(level)
    root.handlers[:] = handlers
    return pygbif


def _account(url):
    from requests.auth import HTTPBasicAuth

    user, password = os.environ.get("GBIF_USER"), os.environ.get("GBIF_PWD")
    if not (user and password):
        raise ServiceError(
            errno.EACCES, "a download needs an account of gbif.org (free). "
            "Set GBIF_USER (the user name, not the address) and GBIF_PWD in "
            "the environment, never in a cell; or take route='snapshot'")
    if not url.startswith("https://"):
        raise ServiceError(errno.EACCES, f"'{url}' is not https: the "
                           "password is not sent")
    return HTTPBasicAuth(user.encode(), password.encode())


def _essence(request):
    """What a download is of, whatever order and defaults GBIF tells."""
    rules = (request.get("predicate") or {}).get("predicates") or []
    return request.get("format"), sorted(
        (str(rule.get("type")), str(rule.get("key")),
         sorted(map(str, rule.get("values", [rule.get("value")]))))
        for rule in rules)
