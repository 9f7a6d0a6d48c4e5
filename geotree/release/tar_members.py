"""The members of a tar, front to back, without a Python object for each.

``tarfile`` reads the same files in several times the time: for records of
three small members its bookkeeping costs more than the data. What is not
plain (links, devices) is reported as such and never followed. Chapter 09.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BLOCK = 512  # bytes; a tar is made of these
_LONGEST = 1 << 16  # bytes of an extended header, which holds a name
_SUM = slice(148, 156)  # the checksum, itself summed as eight blanks
_EMPTY = bytes(BLOCK)
_FARTHEST = 1 << 62  # bytes; no file reaches so far
_PACKED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz",
           b"(\xb5": "zstd", b"PK": "zip"}  # by how a file begins


class Member(NamedTuple):
    """Where the data of a member lie."""

    name: str
    offset: int  # bytes from the start of the file
    size: int  # bytes
    kind: str  # "file", "folder" or "other": a link, a device, …


def members(file: BinaryIO) -> Iterator[Member]:
    """Yield the members of an uncompressed tar.

    Parameters
    ----------
    file : binary file, at its start
        The caller may move its position between two members.

    Raises
    ------
    tarfile.ReadError
        A header is broken, or the file stops before its end mark.
    """
    at, extra = 0, {}
    while True:
        file.seek(at)
        header = file.read(BLOCK)
        if header == _EMPTY:
            return
        if not at and header[:2] in _PACKED:
            raise tarfile.ReadError(
                f"it is compressed with {_PACKED[header[:2]]}, expected a "
                "plain tar: unpack it to a .tar first")
        size = _check(header, at)
        data, at = at + BLOCK, at + BLOCK + -(-size // BLOCK) * BLOCK
        kind = header[156:157]
        if kind in b"xgL":
            extra |= _extended(file, kind, size, data)
            continue
        size = int(extra.get("size", size))
        if size > _FARTHEST:
            raise tarfile.ReadError(f"a member of {size:,} bytes")
        at = data + -(-size // BLOCK) * BLOCK
        name = extra.get("path") or _name(header)
        yield Member(name, data, size,
                     "file" if kind in b"0\0" and name[-1:] != "/"
                     else "folder" if kind in b"05\0" else "other")
        extra = {}


def _check(header: bytes, at: int) -> int:
    """Size of a member, once its header is known to be whole."""
    if len(header) < BLOCK:
        raise tarfile.ReadError(
            f"cut off at byte {at + len(header):,}, before the end mark")
    try:
        told = int(header[_SUM].rstrip(b" \0") or b"0", 8)
        size = (int.from_bytes(header[125:136], "big")
                if header[124] == 0x80
                else int(header[124:136].rstrip(b" \0") or b"0", 8))
    except ValueError as error:
        raise tarfile.ReadError(f"no header at byte {at:,}") from error
    if told != sum(header) - sum(header[_SUM]) + 8 * 32 or size < 0:
        raise tarfile.ReadError(f"a broken header at byte {at:,}")
    return size


def _name(header: bytes) -> str:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and header[345]:
        name = f"{_text(header[345:500])}/{name}"
    return name


def _extended(file: BinaryIO, kind: bytes, size: int, at: int
              ) -> dict[str, str]:
    """What an extended header says of the next member: path and size."""
    if size > _LONGEST:
        raise tarfile.ReadError(f"a header of {size:,} bytes at byte {at:,}")
    data = file.read(size)
    if kind == b"L":
        return {"path": _text(data)}
    found = {}
    while data:
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(data):
            raise tarfile.ReadError(f"a broken header at byte {at:,}")
        key, _, value = data[len(length) + 1:int(length) - 1].partition(b"=")
        data = data[int(length):]
        if kind == b"x" and key in (b"path", b"size"):
            found[key.decode()] = _text(value)
    if not found.get("size", "0").isdigit():
        raise tarfile.ReadError(f"a broken header at byte {at:,}")
    return found


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "backslashreplace")
