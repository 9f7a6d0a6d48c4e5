"""Where files far away are asked for: the web, an object store, the hub.

``fsspec`` brings the bytes, a part of a file at a time; how often it is
asked, what its errors mean and what is kept on this disk is said here.
"""

from __future__ import annotations

import errno
import os
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

from geotree import files, network
from geotree.network import ServiceError, redact

HEAD = 76  # bytes by which one index is told from another
_WAIT = 1.0  # s, upper limit of the first pause before another try
_WHOLE = ("'{}' sends all of a file where a part was asked for: a server "
          "without ranges. Copy the folder to this disk and open it there, "
          "or put it where parts can be had")


@dataclass(eq=False, repr=False)
class Store:
    """Where addresses of one kind are asked for, and what is kept."""

    protocol: str
    query: str
    options: dict
    cache: Path
    size: float  # bytes of the cache; 0 from when nothing more is kept
    opened: float = field(default_factory=time.time)
    room: float = 0  # bytes to be written before the cache is looked at
    began: dict[str, bytes] = field(default_factory=dict)  # by path
    systems: dict = field(default_factory=dict)  # by process

    def __getstate__(self) -> dict:
        return self.__dict__ | {"systems": {}}

    @property
    def system(self):
        """The file system of this process: none survives a fork."""
        if os.getpid() not in self.systems:
            self.systems[os.getpid()] = _system(self.protocol, self.options)
        return self.systems[os.getpid()]

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Bytes of a range; fewer where the file ends.

        Raises
        ------
        FileNotFoundError
            Nothing is there.
        ServiceError
            There is no right to it, or it does not come.
        """
        hub = self.protocol == "hf"  # whose client asks again by itself
        more = {"cache_type": "none"} if hub else {}

        def once() -> bytes:
            try:
                data = self.system.cat_file(path + self.query, start=start,
                                            end=stop, **more)
            except Exception as error:  # of several libraries
                data = _refused(path, error)
            if len(data) > stop - start:
                raise ServiceError(errno.EIO, _WHOLE.format(path))
            return data

        return network.patient(once, wait=_WAIT,
                               tries=1 if hub else network.TRIES)

    def refuse_changed(self) -> None:
        """An error if an index is not the one that was read here."""
        for path, head in self.began.items():
            if self.read(path, 0, HEAD) != head:
                raise ServiceError(
                    errno.ESTALE, f"'{path}' is not the one that was read: "
                    "the shards were written anew meanwhile. Open them again")

    def keep(self, path: Path, data: bytes) -> None:
        """Keep what has come, if there is or can be room for it."""
        self.room -= len(data)
        try:
            if self.room < 0 < self.size:
                self.room = self._tidy() - len(data)
            if self.room < 0:
                self.size = 0
            if self.size:
                files.write(path, data)
        except OSError as error:
            self.size = 0
            warnings.warn(f"{error.strerror or error}. Reading goes on, and "
                          "nothing more is kept", stacklevel=2)

    def _tidy(self) -> float:
        """Remove what nobody has used since opening; bytes then free."""
        self.cache.mkdir(parents=True, exist_ok=True)
        found = sorted((one.stat().st_mtime, one.stat().st_size, one.path)
                       for one in os.scandir(self.cache))
        step = self.size / 32
        free = self.size - sum(size for _, size, _ in found)
        for used, size, path in found:
            if free < step and used < self.opened:
                Path(path).unlink(missing_ok=True)
                free += size
        return min(free, step)


def _refused(path: str, error: Exception) -> bytes:
    """Raise what an error of some library means."""
    if isinstance(error, ServiceError):
        raise error
    answers = [getattr(one, "response", None)
               for one in (error, error.__cause__)]  # a store's is the cause
    status = getattr(error, "status", None) or next((
        one["ResponseMetadata"]["HTTPStatusCode"] if isinstance(one, dict)
        else one.status_code for one in answers if one is not None), 0)
    said = f"{status or type(error).__name__}: {error!s:.150}".split("\n")[0]
    if status == 416:  # the file ends before
        return b""
    if isinstance(error, FileNotFoundError) or status == 404:
        raise FileNotFoundError(
            errno.ENOENT, f"'{redact(path)}' is not there (404). Check the "
            "address; if an index lists it, put the file back") from None
    if isinstance(error, PermissionError) or status in (401, 403):
        raise ServiceError(
            errno.EACCES, f"no right to read '{path}' ({said}). Check key, "
            "token and address; storage_options give them, or what the "
            "store's own tools read them from") from None
    text = f"cannot read '{path}' ({said})"
    if (0 < status < 500 and status not in network.BUSY
            or isinstance(error, ValueError | TypeError)
            or "Credentials" in type(error).__name__):
        raise ServiceError(errno.EIO, text) from None
    raise network.Unsteady(text, after=network.retry_after(error) if getattr(
        error, "headers", None) else None) from None


def _system(protocol: str, options: dict):
    """A file system that asks once, waits as long as all here do, and goes
    nowhere without encryption."""
    import fsspec

    if protocol == "s3":
        options = {"config_kwargs": {
            "connect_timeout": network.LIMIT[0],
            "read_timeout": network.LIMIT[1],
            "retries": {"total_max_attempts": 1}}} | options
    if protocol in ("http", "https"):
        options = {"client_kwargs": _client()} | options
        options["headers"] = {"Accept-Encoding": "identity"
                              } | options.get("headers", {})
    system = fsspec.filesystem(protocol, skip_instance_cache=True, **options)
    system.retries = 1  # of s3fs
    return system


def _client() -> dict:
    """How the web is asked."""
    import aiohttp

    async def redirected(session, context, about) -> None:
        here = str(about.url)
        there = urljoin(here, about.response.headers.get("Location", ""))
        if not there.startswith("https://") and not (
                network.is_here(here) and network.is_here(there)):
            raise ServiceError(errno.EACCES, f"'{here}' leads to '{there}', "
                               "which is not encrypted. Refused")

    async def answered(session, context, about) -> None:
        if about.response.status == 200 and "Range" in about.headers:
            raise ServiceError(errno.EIO, _WHOLE.format(about.url))

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(redirected)
    trace.on_request_end.append(answered)
    return {"trace_configs": [trace], "trust_env": True,
            "timeout": aiohttp.ClientTimeout(
                None, sock_connect=network.LIMIT[0],
                sock_read=network.LIMIT[1])}
