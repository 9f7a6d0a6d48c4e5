"""Manners towards services: patience that ends, clear errors, no secrets.

One owner of retries a request: :func:`patient`.
"""

from __future__ import annotations

import errno
import ipaddress
import random
import time
from collections.abc import Callable
from urllib.parse import urlsplit

TRIES = 6
LONGEST = 64.0  # s, between two tries


class DownloadError(OSError):
    """Too many samples fail, or another process has the store."""


class ServiceError(OSError):
    """A service refuses, and asking again will not help."""


class Unsteady(Exception):
    """An answer that may be better next time; ``after``: s to wait."""

    def __init__(self, message: str, *, after: float | None = None):
        super().__init__(message)
        self.after = after


def is_here(address: str) -> bool:
    """Whether an address on the web is of this very machine (loopback)."""
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def patient(call: Callable, *, wait: float = 1.0, tries: int = TRIES):
    """Call until it works, with a random pause that doubles.

    Parameters
    ----------
    call : callable
        Raises :class:`Unsteady` where another try may help.
    wait : float
        Upper limit of the first pause in seconds.

    Raises
    ------
    ServiceError
        ``tries`` calls in a row failed.
    """
    for number in range(tries):
        try:
            return call()
        except Unsteady as error:
            last = error
        if number < tries - 1:
            pause = random.uniform(0, min(LONGEST, wait * 2**number))
            time.sleep(max(pause, min(last.after or 0, 10 * LONGEST)))
    raise ServiceError(
        errno.EAGAIN, f"{last}; tried {tries} times. What is finished is "
        "kept: call again later to go on") from last
