"""Shards far away: on a web server, in an object store, on the hub.

A :class:`Far` has what shards ask of a path, and :class:`Ranges` what they
ask of a tar, so that the same code reads them wherever they lie; ``fsspec``
brings the bytes. Chapter 03.
"""

import errno
import hashlib
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urljoin

import numpy as np

from geotree import checks, files, network
from geotree.network import ServiceError, redact

_AT_ONCE = 16  # requests
_HEAD = 76  # bytes by which one index is told from another
_PIECE = 1 << 23  # bytes asked for at once of a file that is wanted whole
_FULL = threading.Lock()


def at(address: str, *, cache: str | Path | None = None,
       cache_gb: float = 10, storage_options: dict | None = None) -> "Far":
    """A file or folder at an address.

    Parameters
    ----------
    address : str
        ``https://``, ``s3://``, ``hf://datasets/owner/name/``, or what else
        ``fsspec`` knows; plain ``http://`` of this very machine alone. What
        follows a ``?`` is sent with each request.
    cache, cache_gb : path, float
        Where what has come is kept, and how much of it in all.
    storage_options : dict, optional
        As ``fsspec`` takes them, e.g. ``{"anon": True}`` of ``s3``.
    """
    protocol = address.partition("://")[0]
    if protocol in ("http", "ftp") and not network.is_here(address):
        raise ValueError(f"'{redact(address)}' is not encrypted, expected "
                         "https://. Nothing was sent.")
    path, mark, query = address.partition("?")
    store = Store(protocol, mark + query, storage_options or {},
                  files.cache_folder(cache) / "shards",
                  1e9 * checks.number(cache_gb, name="cache_gb", low=0))
    try:
        store.system  # noqa: B018
    except (ImportError, ValueError) as error:
        raise type(error)(f"{protocol}:// is not known here, or needs pip "
                          f"install 'geotree[far]' ({error}).") from error
    return Far(path.rstrip("/"), store)


@dataclass(frozen=True, repr=False)
class Far:
    """As much of a path as shards ask for; its text holds no secret."""

    path: str
    store: "Store" = field(compare=False)

    def __str__(self) -> str:
        return redact(self.path)

    def __truediv__(self, name: str) -> "Far":
        return replace(self, path=f"{self.path}/{name}")

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> "Far":
        return replace(self, path=self.path.rpartition("/")[0])

    def is_dir(self) -> bool:
        return not self.name.endswith(".tar")

    def pieces(self, most: int = 1 << 36) -> Iterator[bytes]:
        for start in range(0, most, _PIECE):
            piece = self.store.read(self.path, start, start + _PIECE)
            yield piece
            if len(piece) < _PIECE:
                return
        raise ServiceError(errno.EFBIG, f"'{self}' has over {most:,} bytes: "
                           "not what it says")

    def read_bytes(self) -> bytes:
        """All of an index."""
        data = b"".join(self.pieces(16 * _PIECE))
        self.store.began[self.path] = data[:_HEAD]
        return data

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    def copy(self, sha256: str) -> Path:
        """The file on this disk, fetched unless it is there already."""
        path = self.store.cache / files.fingerprint(sha256)
        if not path.exists() or files.sha256(path) != sha256:
            with files.whole(path) as part, part.open("wb") as file:
                file.writelines(self.pieces())
        os.utime(path)
        return path


class Ranges:
    """A far file whose records are asked for before they are needed."""

    ahead = 2 * _AT_ONCE

    def __init__(self, far: Far, sha256: str):
        self.far, self.sha256 = far, sha256
        self._pool, self._coming = network.Pool(_AT_ONCE), {}

    def close(self) -> None:
        for one in self._coming.values():
            one.cancel()

    def announce(self, offset: int, length: int) -> None:
        self._coming[offset] = self._pool.submit(self._get, offset, length)

    def read(self, offset: int, length: int, *, anew: bool = False
             ) -> np.ndarray:
        if anew:
            self.far.store.refuse_changed()
            return np.frombuffer(self._get(offset, length, True), np.uint8)
        if offset not in self._coming:
            self.announce(offset, length)
        return np.frombuffer(self._coming.pop(offset).result(), np.uint8)

    def _get(self, offset: int, length: int, anew: bool = False) -> bytes:
        store = self.far.store
        path = store.cache / files.fingerprint(self.sha256, offset)
        with suppress(OSError):  # it is not there, or was just removed
            if not anew and path.stat().st_size == length:
                os.utime(path)
                return path.read_bytes()
        data = store.read(self.far.path, offset, offset + length)
        store.keep(path, data)
        return data


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
        """Bytes of a range; fewer where the file ends."""
        hub = self.protocol == "hf"  # whose client asks again by itself
        more = {"cache_type": "none"} if hub else {}

        def once() -> bytes:
            try:
                return self.system.cat_file(path + self.query, start=start,
                                            end=stop, **more)
            except Exception as error:  # of several libraries
                return _refused(path, error)

        return network.patient(once, tries=1 if hub else network.TRIES)

    def refuse_changed(self) -> None:
        """An error if an index is not the one that was read here."""
        for path, head in self.began.items():
            if self.read(path, 0, _HEAD) != head:
                raise ServiceError(
                    errno.ESTALE, f"'{path}' is not the one that was read: "
                    "the shards were written anew meanwhile. Open them again")

    def keep(self, path: Path, data: bytes) -> None:
        """Keep what has come, if there is or can be room for it."""
        self.room -= len(data)
        try:
            if self.room < 0 < self.size:
                self.room = self._tidy() - len(data)
            self.size *= self.room >= 0
            if self.size:
                files.write(path, data)
        except OSError as error:
            with _FULL:  # several threads find the disk full at once
                first, self.size = self.size, 0
            if first:
                warnings.warn(f"{error.strerror or error}. Reading goes on, "
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
    if status == 416:  # the file ends before
        return b""
    said = f"{status or type(error).__name__}: {error!s:.150}".split("\n")[0]
    if isinstance(error, FileNotFoundError) or status == 404:
        raise FileNotFoundError(
            errno.ENOENT, f"'{redact(path)}' is not there (404). Check the "
            "address; if an index lists it, put the file back") from None
    if isinstance(error, PermissionError) or status in (401, 403):
        raise ServiceError(
            errno.EACCES, f"no right to read '{path}' ({said}). Check key, "
            "token and address, or give storage_options") from None
    text = f"cannot read '{path}' ({said})"
    if (0 < status < 500 and status not in network.BUSY
            or isinstance(error, ValueError | TypeError)
            or "Credentials" in type(error).__name__):
        raise ServiceError(errno.EIO, text) from None
    raise network.Unsteady(text, after=getattr(error, "headers", None)
                           and network.retry_after(error)) from None


def _system(protocol: str, options: dict):
    """A file system that asks once and waits as long as all here do."""
    import fsspec

    if protocol == "s3":
        options = {"config_kwargs": {
            "connect_timeout": network.LIMIT[0],
            "read_timeout": network.LIMIT[1],
            "retries": {"total_max_attempts": 1}}} | options
    if protocol in ("http", "https"):
        options = {"client_kwargs": _client()} | options | {"headers": {
            "Accept-Encoding": "identity"} | options.get("headers", {})}
    system = fsspec.filesystem(protocol, skip_instance_cache=True, **options)
    system.retries = 1  # of s3fs
    return system


def _client() -> dict:
    """The web is asked for parts, and only with encryption."""
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
            raise ServiceError(
                errno.EIO, f"'{about.url}' sends all where a part was asked "
                "for: a server without ranges. Copy the folder to this disk")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(redirected)
    trace.on_request_end.append(answered)
    return {"trace_configs": [trace], "trust_env": True,
            "timeout": aiohttp.ClientTimeout(
                None, sock_connect=network.LIMIT[0],
                sock_read=network.LIMIT[1])}
