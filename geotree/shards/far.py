"""Shards far away: on a web server, in an object store, on the hub.

A :class:`Far` has what shards ask of a path, and :class:`Ranges` what they
ask of a tar, so that the same code reads them wherever they lie. Chapter 03.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from geotree import files, network
from geotree.network import ServiceError, redact
from geotree.stores import HEAD, Store

_AT_ONCE = 16  # requests
_PIECE = 1 << 23  # bytes asked for at once of a file that is wanted whole
_LARGEST = 1 << 36  # bytes of such a file


def at(address: str, *, cache: str | Path | None = None,
       cache_gb: float = 10, storage_options: dict | None = None) -> Far:
    """A file or folder at an address.

    Parameters
    ----------
    address : str
        ``https://``, ``s3://``, ``hf://datasets/owner/name/``, or what else
        ``fsspec`` knows; plain ``http://`` of this very machine alone. What
        follows a ``?`` is sent with each request.
    cache : path, optional
        What has come is kept below it, in ``shards``. Default:
        ``GEOTREE_CACHE``, or ~/.cache/geotree.
    cache_gb : float
        GB kept at most, those of other data sets included.
    storage_options : dict, optional
        As ``fsspec`` takes them, e.g. ``{"anon": True}`` of ``s3``.

    Raises
    ------
    ValueError
        The address is not encrypted, or of a kind that nobody knows.
    ImportError
        What reads such an address is not installed.
    """
    protocol = address.partition("://")[0]
    if protocol in ("http", "ftp") and not network.is_here(address):
        raise ValueError(f"'{redact(address)}' is not encrypted, expected "
                         "https://. Nothing was sent.")
    path, mark, query = address.partition("?")
    store = Store(protocol, mark + query, storage_options or {},
                  files.cache_folder(cache) / "shards", cache_gb * 1e9)
    try:
        store.system  # noqa: B018
    except ImportError as error:
        raise ImportError(f"{protocol}:// needs more than is installed: pip "
                          f"install 'geotree[far]' ({error})") from error
    return Far(path.rstrip("/"), store)


@dataclass(frozen=True, repr=False)
class Far:
    """As much of a path as shards ask for; its text holds no secret."""

    path: str
    store: Store = field(compare=False)

    def __str__(self) -> str:
        return redact(self.path)

    __repr__ = __str__

    def __truediv__(self, name: str) -> Far:
        return replace(self, path=f"{self.path}/{name}")

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> Far:
        return replace(self, path=self.path.rpartition("/")[0])

    def is_dir(self) -> bool:
        return not self.name.endswith(".tar")

    def pieces(self, most: int = _LARGEST) -> Iterator[bytes]:
        """All of the file, a piece at a time."""
        for start in range(0, most, _PIECE):
            piece = self.store.read(self.path, start, start + _PIECE)
            yield piece
            if len(piece) < _PIECE:
                return
        raise ServiceError(errno.EFBIG, f"'{self}' has over {most:,} bytes: "
                           "not what it says")

    def read_bytes(self) -> bytes:
        """All of a small file; how it began is remembered."""
        data = b"".join(self.pieces(16 * _PIECE))
        self.store.began[self.path] = data[:HEAD]
        return data

    def sha256(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
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

    def records(self, sha256: str) -> Ranges:
        return Ranges(self, sha256)


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
        """Bytes of a record; ``anew``: whatever has come before."""
        if anew:
            self.far.store.refuse_changed()
        elif offset not in self._coming:
            self.announce(offset, length)
        return np.frombuffer(
            self._get(offset, length, anew) if anew
            else self._coming.pop(offset).result(), np.uint8)

    def _get(self, offset: int, length: int, anew: bool = False) -> bytes:
        store = self.far.store
        path = store.cache / files.fingerprint(self.sha256, offset)
        try:
            if not anew and path.stat().st_size == length:
                os.utime(path)
                return path.read_bytes()
        except OSError:
            pass  # it is not there, or has just been removed
        data = store.read(self.far.path, offset, offset + length)
        store.keep(path, data)
        return data
