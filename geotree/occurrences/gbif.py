"""GBIF's API as a polite client calls it: https, time limits, patience.

The client library ``pygbif`` 0.7 sends the password of a download over
plain http, waits for ever, gives up at the first 429 and cannot be told
otherwise, so the calls are made here with ``requests``.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import geotree
from geotree.service import ServiceError, Unsteady, patient

URL = "https://api.gbif.org"
BACKBONE = "d7dddbf4-2cf0-4f39-9b2a-bb099caae36c"  # frozen, integer keys
TIMEOUT = (10, 60)  # s, to connect and between two bytes
PAGE = 300  # GBIF cuts longer pages without a word
DEEPEST = 100_000  # offset + limit
_BUSY = (420, 429, 500, 502, 503, 504)
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

    def get(self, path: str, params=()) -> dict:
        """The JSON at a path."""
        return patient(lambda: _calmly(lambda: self._send(
            "GET", path, params=params).json()), wait=self.wait)

    def order(self, request: dict) -> str:
        """Ask for a download; returns its key."""
        account = _account(self.url)

        def once():
            key = self._send("POST", "v1/occurrence/download/request",
                             json=request, auth=account).text
            if not re.fullmatch(r'"?[0-9]+-[0-9]+"?', key.strip()):
                raise Unsteady("GBIF's answer is no key of a download")
            return key.strip().strip('"')

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

        patient(lambda: _calmly(more), wait=self.wait)
        os.replace(part, file)
        return file

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


def _calmly(call):
    """Turn a broken line or a garbled answer into :class:`Unsteady`."""
    import requests

    try:
        return call()
    except requests.RequestException as error:
        raise Unsteady(
            f"no whole answer from GBIF ({type(error).__name__}: "
            f"{str(error)[-150:]})") from error


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
