"""What is asked of GBIF, each request with one owner of its retries.

Names go through ``pygbif``, GBIF's client for Python, with our limits of
time and size. Records, titles and downloads are plain requests: there
``pygbif`` 0.7 uses http without TLS, for the password too.
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
from functools import partial
from pathlib import Path
from urllib.parse import quote

import geotree
from geotree.network import (
    ENOUGH,
    LIMIT,
    ServiceError,
    Unsteady,
    ask,
    body,
    in_words,
    once,
    patient,
    refusal,
)

URL = "https://api.gbif.org"
BACKBONE = "d7dddbf4-2cf0-4f39-9b2a-bb099caae36c"  # frozen, integer keys
PAGE = 300  # GBIF cuts longer pages without a word
DEEPEST = 100_000  # offset + limit
ALIVE = ("PREPARING", "RUNNING", "SUSPENDED", "SUCCEEDED")
_SKEW = 600.0  # s, by which GBIF's clock may be behind
_SLOWEST = 1_000  # bytes/s of a download, else it starts again from there
_AGENT = {"User-Agent": f"geotree/{geotree.__version__} "
          "(https://github.com/geotree-book/geotree)"}
_ADVICE = (". Set GBIF_USER (the user name, not the address) and GBIF_PWD, or "
           "make an account at gbif.org; no account is needed for "
           "route='snapshot'")


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
        def named():
            with in_words(f"{self.url}/v2/species/match"):
                answer = _pygbif().species.name_backbone(
                    scientificName=name, kingdom="Plantae",
                    family=family or None, checklistKey=BACKBONE,
                    stream=True, timeout=LIMIT, verify=self.verify,
                    auth=self._address, allow_redirects=False,
                    hooks={"response": _whole})
                judge(answer)
                return answer

        return patient(named, wait=self.wait, enough=ENOUGH)

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
        sent, how = since is not None, {
            "auth": account, "allow_redirects": False, "advice": _ADVICE,
            **self._how}

        def order():
            nonlocal sent
            if sent and (key := self._ordered(request, began, how)):
                return key
            sent = True
            return once(f"{self.url}/v1/occurrence/download/request",
                        method="POST", json=request, read=_key, **how)

        return patient(order, wait=self.wait)

    def save(self, path: str, file: Path) -> None:
        """Fetch a large file; goes on where an earlier try broke off."""
        import requests
        import urllib3

        part = file.with_name(f".{file.name}.part")

        def more():
            have = part.stat().st_size if part.exists() else 0
            with self._session.get(
                    f"{self.url}/{path}", stream=True, timeout=LIMIT,
                    verify=self.verify, auth=_nobody, headers={
                        **_AGENT, "Range": f"bytes={have}-"}) as answer:
                if answer.status_code == 416:  # nothing is left to send
                    return
                if answer.status_code not in (200, 206):
                    raise refusal(answer)
                whole = answer.status_code == 200
                have = 0 if whole else have
                size = have + int(answer.headers["Content-Length"])
                began, start = time.monotonic(), have
                with open(part, "wb" if whole else "ab") as target:
                    while block := answer.raw.read1(1 << 16):
                        have += target.write(block)
                        gone = time.monotonic() - began
                        if gone > LIMIT[1] and (
                                have - start < _SLOWEST * gone):
                            break
            if have != size:
                raise Unsteady(f"'{path}' broke off, or came too slowly")

        def steadily():
            try:
                more()
            except (requests.RequestException, KeyError, ValueError,
                    urllib3.exceptions.HTTPError) as error:
                raise Unsteady(f"'{path}' broke off ({error!s:.150})"
                               ) from error

        try:
            patient(steadily, wait=self.wait)
            os.replace(part, file)
        except OSError as error:
            if isinstance(error, ServiceError):
                raise
            raise OSError(
                error.errno, f"cannot write '{file}' ({error.strerror}). "
                "What has come is kept: free some space, then call again"
            ) from error

    def _ordered(self, request, began, how) -> str | None:
        """Key of the newest living download of this request, if any."""
        def read(data):
            for one in json.loads(data)["results"]:
                made = datetime.fromisoformat(one["created"]).timestamp()
                if (one["status"] in ALIVE and made > began - _SKEW
                        and _essence(one["request"]) == _essence(request)):
                    return one["key"]
            return None

        name = quote(how["auth"].username.decode(), safe="")
        return once(f"{self.url}/v1/occurrence/download/user/{name}",
                    params={"limit": 100}, read=read, **how)

    def _get(self, path: str, read: Callable, query=None) -> dict:
        """JSON that ``read`` can read: it fails, or gives False, else."""
        return ask(f"{self.url}/{path}", params=query, wait=self.wait,
                   read=partial(_checked, read), auth=_nobody, **self._how)

    def _address(self, request):
        """As ``auth``: to our service, and nothing from ~/.netrc."""
        request.url = request.url.replace(URL, self.url, 1)
        request.headers["User-Agent"] += f" {_AGENT['User-Agent']}"
        return request

    @property
    def _how(self) -> dict:
        return {"send": self._session.request, "verify": self.verify,
                "headers": _AGENT}


def _whole(answer, **_):
    """For ``requests``: an answer in memory, with the type of JSON."""
    data = body(answer)
    if answer.status_code >= 300:
        raise refusal(answer, data)
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


def _nobody(request):
    """As ``auth``: nothing from ~/.netrc."""
    return request


def _checked(read, data):
    found = json.loads(data)
    if read(found) is False:
        raise ValueError("not what it should be")
    return found


def _key(data: bytes) -> str:
    key = data.decode().strip().strip('"')
    if not re.fullmatch(r"[0-9]+-[0-9]+", key):
        raise ValueError("no key of a download")
    return key


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
