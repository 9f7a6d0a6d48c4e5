"""Manners towards services: patience that ends, clear errors, no secrets.

One owner of retries a request: :func:`patient`; one way to ask for a small
answer: :func:`ask`.
"""

import errno
import ipaddress
import json
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

TRIES = 6
LONGEST = 64.0  # s, between two tries
PATIENCE = 600.0  # s; who is to wait longer is told, and comes back
LIMIT = 10, 60  # s, to connect and between two bytes
WHOLE = 60.0  # s, for all of a small answer
ENOUGH = 120.0  # s spent on small answers that never come whole
BUSY = (408, 420, 425, 429)  # and 500 or more


class DownloadError(OSError):
    """Too many samples fail, or another process has the store."""


class ServiceError(OSError):
    """A service refuses, and asking again will not help."""

    def __init__(self, number: int, message: str):
        super().__init__(number, redact(message))


class Unsteady(Exception):
    """An answer that may be better next time; ``after``: s to wait."""

    def __init__(self, message: str, *, after: float | None = None):
        super().__init__(redact(message))
        self.after = after


def redact(text: str) -> str:
    """A text whose addresses have lost what may be secret.

    Names and passwords before the host go, and so do the values of all
    queries: keys and signatures have too many names to tell them apart.

    Examples
    --------
    >>> redact("no answer from https://me:word@host.org/a?key=1&b=2")
    'no answer from https://host.org/a?key=…&b=…'
    """
    text = re.sub(r"(\w://)[^/?#\s'\"<>]*@", r"\1", str(text))
    text = re.sub(r"(\w://[^?\s'\"<>]*\??)([^=&\s'\"<>]++(?![=&]))?",
                  lambda part: part[1] + "…" * bool(part[2]), text)
    return re.sub(r"[?&#][\w.~%\[\]+-]+=[^&#;\s'\"<>)]*",
                  lambda part: part[0].split("=")[0] + "=…", text)


def is_here(address: str) -> bool:
    """Whether an address on the web is of this very machine (loopback)."""
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


class Pool:
    """Threads that nobody has to wait for, not even the interpreter.

    A call that hangs in a thread of ``concurrent.futures`` keeps Python from
    ending after Ctrl-C; a call that hangs here does not.

    Parameters
    ----------
    workers : int
        Calls at a time; a thread ends when nothing is left to do.
    """

    def __init__(self, workers: int):
        self.workers, self._active = workers, 0
        self._calls: deque = deque()
        self._lock = threading.Lock()

    def __reduce__(self):  # another process has threads of its own
        return Pool, (self.workers,)

    def submit(self, call: Callable, *args) -> Future:
        """Call in a thread; ``result(seconds)`` of what comes back waits."""
        future: Future = Future()
        with self._lock:
            self._calls.append((future, call, args))
            if self._active < self.workers:
                self._active += 1
                threading.Thread(target=self._work, daemon=True).start()
        return future

    def map(self, call: Callable, tasks) -> list:
        """Results for tasks (tuples of arguments); an error ends them all."""
        jobs = [self.submit(call, *task) for task in tasks]
        try:
            return [job.result() for job in jobs]
        finally:
            for job in jobs:
                job.cancel()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._active -= 1
                    return
                future, call, args = self._calls.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call(*args))
            except BaseException as error:
                future.set_exception(error)


def retry_after(answer) -> float | None:
    """Seconds that an answer of ``requests`` asks to wait, if it does."""
    said = answer.headers.get("Retry-After", "")
    try:
        if said.strip().isdigit():
            return float(said)
        return parsedate_to_datetime(said).timestamp() - time.time()
    except (ValueError, OverflowError, TypeError):
        return None


def body(answer, *, seconds: float | None = None, size: int = 1 << 26
         ) -> bytes:
    """All that a streamed answer of ``requests`` holds, whole and in time.

    Raises
    ------
    Unsteady
        It broke off or drips: not there after ``seconds`` (``WHOLE``).
    ServiceError
        More than ``size`` bytes, unpacked.
    """
    import urllib3

    seconds, have = seconds or WHOLE, bytearray()
    end = time.monotonic() + seconds
    try:
        while part := answer.raw.read1(1 << 16, decode_content=True):
            have += part
            if len(have) > size:
                raise ServiceError(
                    errno.EFBIG, f"'{answer.url}' sends more than {size:,} "
                    "bytes, which is no answer to what was asked")
            if time.monotonic() > end:
                raise Unsteady(f"'{answer.url}' did not send all of its "
                               f"answer in {seconds:.0f} s")
    except (urllib3.exceptions.HTTPError, OSError) as error:
        if isinstance(error, ServiceError):
            raise
        raise Unsteady(f"'{answer.url}' broke off ({error!s:.150})") from error
    finally:
        answer.close()
    return bytes(have)


def ask(url: str, *, wait: float = 1.0, **options):
    """A small answer of a service, read whole and asked for again if need be.

    Parameters
    ----------
    wait : float
        As in :func:`patient`.
    options
        As :func:`once` takes them.

    Raises
    ------
    ServiceError
        The service refuses, fails for long, or sends without end.
    """
    return patient(lambda: once(url, **options), wait=wait, enough=ENOUGH)


def once(url: str, *, method: str = "GET", read: Callable = json.loads,
         send: Callable | None = None, advice: str = "", **options):
    """One try of :func:`ask`.

    Parameters
    ----------
    read : callable
        Reads the body; fails where that is no answer.
    send : callable, optional
        ``request`` of a session; default: a connection of its own.
    advice : str
        What to do where the service refuses.
    options
        As ``requests.request`` takes them.

    Raises
    ------
    Unsteady, ServiceError
    """
    import requests

    with in_words(url):
        answer = (send or requests.request)(
            method, url, stream=True, timeout=LIMIT, **options)
        data = body(answer)
        if answer.status_code < 300:
            return read(data)
    raise refusal(answer, data, advice)


@contextmanager
def in_words(url: str) -> Iterator[None]:
    """Say of which address an answer is missing or none."""
    import requests

    try:
        yield
    except requests.RequestException as error:
        text = f"no answer from '{url}' ({error!s:.150})"
        if isinstance(error, ValueError):  # no address at all
            raise ServiceError(errno.EINVAL, text) from error
        raise Unsteady(text) from error
    except (ValueError, LookupError, TypeError, AttributeError,
            ArithmeticError, RecursionError) as error:
        raise Unsteady(f"no whole answer from '{url}' ({error!s:.150})"
                       ) from error


def refusal(answer, data: bytes | None = None, advice: str = "") -> Exception:
    """What an answer of another status than 2xx means."""
    said = ("" if data is None
            else f" ({data[:150].decode(errors='replace')})")
    text = f"'{answer.url}' answers {answer.status_code}{said}{advice}"
    if answer.status_code >= 500 or answer.status_code in BUSY:
        return Unsteady(text, after=retry_after(answer))
    return ServiceError(errno.EIO, text)


def patient(call: Callable, *, wait: float = 1.0, tries: int = TRIES,
            enough: float = float("inf")):
    """Call until it works, with a random pause that doubles.

    Parameters
    ----------
    call : callable
        Raises :class:`Unsteady` where another try may help.
    wait : float
        Upper limit of the first pause in seconds.
    enough : float
        Seconds that calls may take in all; then no other is made.

    Raises
    ------
    ServiceError
        ``tries`` calls in a row failed, or the service wants to be left
        alone for longer than ``PATIENCE``; the message says until when.
    """
    spent = 0.0
    for number in range(1, tries + 1):
        start = time.monotonic()
        try:
            return call()
        except Unsteady as error:
            last = error
        spent += time.monotonic() - start
        if (last.after or 0) > PATIENCE:
            # A century is as good as never, and no date beyond year 9999.
            then = datetime.now(UTC) + timedelta(seconds=min(last.after, 3e9))
            raise ServiceError(
                errno.EAGAIN, f"{last}, and asks to come back after "
                f"{then:%Y-%m-%d %H:%M} UTC. What is finished is kept: call "
                "again then to go on") from last
        if number == tries or spent > enough:
            break
        pause = random.uniform(0, min(LONGEST, wait * 2**(number - 1)))
        time.sleep(max(pause, last.after or 0))
    raise ServiceError(
        errno.EAGAIN, f"{last}; tried {number} times. What is finished is "
        "kept: call again later to go on") from last
