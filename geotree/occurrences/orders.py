"""A download of GBIF is ordered once, whatever dies in between."""

import errno
import json
import os
import re
import time
from datetime import datetime
from urllib.parse import quote

from geotree import network

ALIVE = ("PREPARING", "RUNNING", "SUSPENDED")
_SKEW = 600.0  # s, by which GBIF's clock may be behind
_ADVICE = (". Set GBIF_USER (the user name, not the address) and GBIF_PWD in "
           "the environment, never in a cell; an account of gbif.org is free, "
           "and route='snapshot' needs none")


def order(client, request: dict, *, since: float | None = None) -> str:
    """Ask GBIF for a download; returns its key.

    Parameters
    ----------
    client : gbif.Client
    request : dict
    since : float, optional
        Time (s) from which on this request may have been sent before,
        by a run that did not live to hear the answer. Then the
        account's downloads are looked through first.
    """
    began, sent = since or time.time(), since is not None
    how = client.how | {"auth": _account(client.url), "advice": _ADVICE,
                       "allow_redirects": False}

    def ask():
        nonlocal sent
        if sent and (key := _ordered(client, request, began, how)):
            return key
        sent = True
        return network.once(f"{client.url}/v1/occurrence/download/request",
                            method="POST", json=request, read=_key, **how)

    return network.patient(ask, wait=client.wait)


def _ordered(client, request, began, how) -> str | None:
    """Key of the newest living download of this request, if any."""
    def read(data):
        for one in json.loads(data)["results"]:
            made = datetime.fromisoformat(one["created"]).timestamp()
            if (one["status"] in (*ALIVE, "SUCCEEDED")
                    and made > began - _SKEW
                    and _essence(one["request"]) == _essence(request)):
                return one["key"]
        return None

    name = quote(how["auth"].username.decode(), safe="")
    return network.once(f"{client.url}/v1/occurrence/download/user/{name}",
                        params={"limit": 100}, read=read, **how)


def _essence(request):
    """What a download is of, whatever order and defaults GBIF tells."""
    rules = (request.get("predicate") or {}).get("predicates") or []
    return request.get("format"), sorted(
        (str(rule.get("type")), str(rule.get("key")),
         sorted(map(str, rule.get("values", [rule.get("value")]))))
        for rule in rules)


def _key(data: bytes) -> str:
    key = data.decode().strip().strip('"')
    if not re.fullmatch(r"[0-9]+-[0-9]+", key):
        raise ValueError("no key of a download")
    return key


def _account(url):
    from requests.auth import HTTPBasicAuth

    user, password = os.environ.get("GBIF_USER"), os.environ.get("GBIF_PWD")
    if not (user and password):
        raise network.ServiceError(
            errno.EACCES, f"a download needs an account{_ADVICE}")
    if not url.startswith("https://"):
        raise network.ServiceError(errno.EACCES, f"'{url}' is not https: the "
                           "password is not sent")
    return HTTPBasicAuth(user.encode(), password.encode())
