"""GBIF as ``pygbif`` asks it, with the manners that it lacks.

``pygbif`` 0.7 knows the addresses and parameters of GBIF, and its functions
are what asks here. It sends some of them over plain http, waits for ever,
gives up at the first 429 and opens a connection for each call. Every one of
its calls ends in a function ``gbif_GET``, so a copy of the caller that has
another ``gbif_GET`` mends all of that and leaves the library as it is.
Orders of downloads and lists of them are sent without ``pygbif``, for it
sends their password over plain http.
"""

from __future__ import annotations

import errno
import logging
import operator
import os
import re
import time
from datetime import datetime
from pathlib import Path
from types import FunctionType
from urllib.parse import quote

import geotree
from geotree.network import ServiceError, Unsteady, patient

URL = "https://api.gbif.org"
BACKBONE = "d7dddbf4-2cf0-4f39-9b2a-bb099caae36c"  # frozen, integer keys
TIMEOUT = (10, 60)  # s, to connect and between two bytes
PAGE = 300  # GBIF cuts longer pages without a word
DEEPEST = 100_000  # offset + limit
ALIVE = ("PREPARING", "RUNNING", "SUSPENDED", "SUCCEEDED")
_BUSY = (420, 429, 500, 502, 503, 504)
# What an answer is made of, by a part of its path.
_PROMISED = {"occurrence/search": {"results": list, "endOfRecords": bool},
             "species/match": {"diagnostics": dict},
             "v1/dataset/": {"title": str},
             "occurrence/download/user/": {"results": list},
             "occurrence/download/": {"status": str, "created": str}}
_SKEW = 600.0  # s, by which GBIF's clock may be behind
_AGENT = (f"geotree/{geotree.__version__} "
          "(https://github.com/geotree-book/geotree)")


class Client:
    """One connection to GBIF.

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
        self._session.headers["User-Agent"] = _AGENT

    def ask(self, function: str, **params) -> dict:
        """What a function of ``pygbif`` answers.

        Parameters
        ----------
        function : str
            Such as ``species.name_backbone``; one that reads JSON and needs
            no account.
        **params
            Its arguments.
        """
        theirs = operator.attrgetter(function)(_pygbif())
        scope = {**theirs.__globals__, "gbif_GET": self._get}
        for name, one in theirs.__globals__.items():
            if getattr(one, "__module__", "") == theirs.__module__ and (
                    isinstance(one, FunctionType)):
                scope[name] = FunctionType(one.__code__, scope,
                                           argdefs=one.__defaults__)
        return scope[theirs.__name__](**params)

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
        tries = 0 if since is None else 1

        def once():
            nonlocal tries
            tries += 1
            return (tries > 1 and self._ordered(request, began, account)
                    ) or self._order(request, account)

        return patient(lambda: _calmly(once), wait=self.wait)

    def save(self, path: str, file: Path) -> Path:
        """Fetch a large file; goes on where an earlier try broke off."""
        part = file.with_name(f".{file.name}.part")

        def more():
            have = part.stat().st_size if part.exists() else 0
            with self._send("GET", path, stream=True, headers={
                    "Range": f"bytes={have}-"}) as answer:
                if answer.status_code == 416:  # nothing is left to send
                    return
                whole = answer.status_code == 200
                size = int(answer.headers["Content-Length"])
                size += 0 if whole else have
                with open(part, "wb" if whole else "ab") as target:
                    for block in answer.iter_content(1 << 14):
                        target.write(block)
            if part.stat().st_size != size:
                raise Unsteady(f"'{path}' broke off")

        try:
            patient(lambda: _calmly(more), wait=self.wait)
            os.replace(part, file)
        except ServiceError:
            raise
        except OSError as error:
            raise OSError(
                error.errno, f"cannot write '{file}' ({error.strerror}). "
                "What has come is kept: free some space, then call again"
            ) from error
        return file

    def _get(self, url, args):
        """In place of ``pygbif.gbifutils.gbif_GET``."""
        path = re.sub(r"^https?://api\.gbif\.org/", "", url)
        return patient(lambda: _calmly(lambda: _whole(path, self._send(
            "GET", path, params=args).json())), wait=self.wait)

    def _order(self, request, account):
        key = self._send("POST", "v1/occurrence/download/request",
                         json=request, auth=account).text
        if not re.fullmatch(r'"?[0-9]+-[0-9]+"?', key.strip()):
            raise Unsteady("GBIF's answer is no key of a download")
        return key.strip().strip('"')

    def _ordered(self, request, began, account):
        """Key of the newest living download of this request, if any."""
        user = quote(account.username.decode(), safe="")
        path = f"v1/occurrence/download/user/{user}"
        found = _whole(path, self._send("GET", path, params={"limit": 100},
                                        auth=account).json())
        for one in found["results"]:
            made = datetime.fromisoformat(one["created"]).timestamp()
            if (one["status"] in ALIVE and made > began - _SKEW
                    and _essence(one["request"]) == _essence(request)):
                return one["key"]
        return None

    def _send(self, method, path, *, auth=None, **options):
        # An account in ~/.netrc is for GBIF's downloads, not for all calls.
        answer = self._session.request(
            method, f"{self.url}/{path}", timeout=TIMEOUT,
            verify=self.verify,
            auth=auth or (lambda request: request),
            allow_redirects=auth is None, **options)
        code = answer.status_code
        if code in _BUSY:
            after = answer.headers.get("Retry-After", "")
            raise Unsteady(f"GBIF answers {code} to '{path}'",
                           after=float(after) if after.isdigit() else None)
        if code in (401, 403):
            raise ServiceError(
                errno.EACCES, f"GBIF refuses '{path}' with {code}. Set "
                "GBIF_USER (the user name, not the address) and GBIF_PWD, "
                "or make an account at gbif.org; no account is needed for "
                "route='snapshot'")
        if code not in (200, 201, 206, 416):
            raise ServiceError(errno.EINVAL, f"GBIF answers {code} to "
                               f"'{path}': {answer.text[:200]}")
        return answer


def _pygbif():
    """The library, without the log that its import opens for everyone."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    import pygbif

    root.setLevel(level)
    root.handlers[:] = handlers
    return pygbif


def _calmly(call):
    """Turn a broken line or a garbled answer into :class:`Unsteady`."""
    import requests

    try:
        return call()
    except requests.RequestException as error:
        raise Unsteady(
            f"no whole answer from GBIF ({type(error).__name__}: "
            f"{str(error)[-150:]})") from error


def _whole(path, answer):
    """An answer that holds what its kind promises."""
    parts = next((promised for part, promised in _PROMISED.items()
                  if part in path), {})
    if not isinstance(answer, dict) or not all(
            isinstance(answer.get(name), kind)
            for name, kind in parts.items()):
        raise Unsteady(f"GBIF's answer to '{path}' is not what it should be")
    return answer


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
    def plain(rule):
        if isinstance(rule, dict):
            return sorted((name, plain(value)) for name, value in
                          rule.items() if name not in
                          ("matchCase", "checklistKey"))
        if isinstance(rule, list):
            return sorted((plain(one) for one in rule), key=str)
        return str(rule)

    return request["format"], plain(request["predicate"])
