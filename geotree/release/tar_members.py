"""A tar from front to back: its members, and the samples that they form.

``tarfile`` reads the same files in several times the time: for records of
three small members its bookkeeping costs more than the data. What is not
plain (links, devices) is reported as such and never followed, and nothing
is asked for twice, so that a tar can be read while it arrives. Chapters 03
and 09.
"""

import io
import posixpath
import tarfile
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

import numpy as np

from geotree.network import ServiceError
from geotree.shards.batch import ShardError
from geotree.shards.records import checksum

MEMBERS = ("images.pth", "text.json", "auxiliary.json")  # of a sample
BLOCK = 512  # bytes; a tar is made of these
LARGEST = 1 << 20  # bytes a member may have; a sample needs 31 kB
_LONGEST = 1 << 16  # bytes of an extended header, which holds a name
_SUM = slice(148, 156)  # the checksum, itself summed as eight blanks
_EMPTY = bytes(BLOCK)
_MOST = 16  # members of a sample that are looked at
_PACKED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz",
           b"(\xb5": "zstd", b"PK": "zip"}  # by how a file begins


class Member(NamedTuple):
    """A member, its headers and what fills its last block included."""

    name: str
    kind: str  # "file", "folder" or "other": a link, a device, …
    size: int  # bytes of its data
    data: bytes  # of a file of at most LARGEST bytes; else nothing
    stop: int  # where the next one starts


@dataclass
class Sample:
    """The members of a sample, as they lie in a tar; nothing is decoded."""

    path: object  # of the tar, for messages
    key: str
    start: int  # bytes of its record, with headers
    stop: int = 0
    parts: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def members(file: BinaryIO) -> Iterator[Member]:
    """Yield the members of an uncompressed tar.

    Parameters
    ----------
    file : binary file, at its start
        Read once, in order.

    Raises
    ------
    tarfile.ReadError
        A header is broken, or the file stops before its end mark.
    """
    at, extra = 0, {}
    while (header := file.read(BLOCK)) != _EMPTY:
        if not at and header[:2] in _PACKED:
            raise tarfile.ReadError(
                f"it is compressed with {_PACKED[header[:2]]}, expected a "
                "plain tar: unpack it to a .tar first")
        size, kind = _check(header, at), header[156:157]
        at += BLOCK
        if kind in b"xgL":
            if size > _LONGEST:
                raise tarfile.ReadError(f"a header of {size:,} bytes at byte "
                                        f"{at:,}")
            data, at = _data(file, size, at)
            extra |= _extended(data, kind, at)
            continue
        data, at = _data(file, size, at)
        name = extra.get("path") or _name(header)
        yield Member(name, "file" if kind in b"0\0" and name[-1:] != "/"
                     else "folder" if kind in b"05\0" else "other",
                     size, data, at)
        extra = {}


def _check(header: bytes, at: int) -> int:
    """Size of a member, once its header is known to be whole."""
    if len(header) < BLOCK:
        raise tarfile.ReadError(
            f"cut off at byte {at + len(header):,}, before the end mark")
    try:
        told = int(header[_SUM].rstrip(b" \0") or b"0", 8)
        size = int(header[124:136].rstrip(b" \0") or b"0", 8)
    except ValueError as error:
        raise tarfile.ReadError(f"no header at byte {at:,}, or a member of "
                                "over 8 GB") from error
    # The lower half of an Adler-32 is 1 + the sum of all bytes.
    found = (zlib.adler32(header) & 0xFFFF) - 1 - sum(header[_SUM]) + 8 * 32
    if (found - told) % 65521 or size < 0:
        raise tarfile.ReadError(f"a broken header at byte {at:,}")
    return size


def _data(file: BinaryIO, size: int, at: int) -> tuple[bytes, int]:
    """The data of a member from byte ``at`` on, and where it ends."""
    left = -(-size // BLOCK) * BLOCK
    stop, data = at + left, b""
    while left:
        data = file.read(min(left, LARGEST))
        left -= len(data)
        if not data:
            raise tarfile.ReadError(f"cut off at byte {stop - left:,}, "
                                    "within a member")
    return data[:size] if size <= LARGEST else b"", stop


def _name(header: bytes) -> str:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and header[345]:
        name = f"{_text(header[345:500])}/{name}"
    return name


def _extended(data: bytes, kind: bytes, at: int) -> dict[str, str]:
    """What an extended header says of the next member: its path."""
    if kind == b"L":
        return {"path": _text(data)}
    found = {}
    while data:
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(data):
            raise tarfile.ReadError(f"a broken header before byte {at:,}")
        key, _, value = data[len(length) + 1:int(length) - 1].partition(b"=")
        data = data[int(length):]
        if kind == b"x" and key == b"path":
            found["path"] = _text(value)
    return found


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def samples(file: BinaryIO, path) -> Iterator[Sample]:
    """Group the members of a tar; raises ``TarError`` where it breaks off.

    Files that macOS adds (``._x``) are left out, with a warning.
    """
    sample, end, macs = None, 0, 0
    try:
        for member in members(file):
            start, end = end, member.stop
            folder, _, name = member.name.rpartition("/")
            if (name.startswith(("._", ".DS_Store"))
                    or "__MACOSX" in folder.split("/")):
                macs += 1
                continue
            if member.kind == "folder":
                continue
            name, _, suffix = name.partition(".")
            key = f"{folder}/{name}" if folder else name
            if sample is None or key != sample.key:
                if sample is not None:
                    yield sample
                sample = Sample(path, key, start)
            sample.stop = end
            if len(sample.parts) + len(sample.faults) < _MOST:
                sample.faults += _faults(member)
                if suffix in sample.parts:
                    sample.faults.append(f"member {member.name!r} is in the "
                                         "tar twice")
                sample.parts[suffix] = member.data
    except tarfile.TarError:
        if sample is not None and sample.parts.keys() >= set(MEMBERS):
            yield sample  # it is whole: the fault comes after it
        raise
    if sample is not None:
        yield sample
    if macs:
        warnings.warn(f"left out {macs} members of '{path}' that macOS put "
                      "there ('._…')", stacklevel=2)


def _faults(member: Member) -> Iterator[str]:
    """Why a member is refused, if it is."""
    if member.name.startswith("/") or ".." in posixpath.normpath(
            member.name).split("/"):
        yield f"member {member.name!r} leads out of the archive: refused"
    if member.kind != "file":
        yield f"member {member.name!r} is no regular file: refused"
    if member.size > LARGEST:
        yield (f"member {member.name!r} has {member.size:,} bytes, at most "
               f"{LARGEST:,} are expected")


def walk(tar, records: np.ndarray | None = None, count: int | None = None
         ) -> Iterator[Sample | ShardError]:
    """Every sample of a tar, front to back; none is decoded.

    Parameters
    ----------
    tar : path, or anything else with ``open``
        Read once, in order.
    records : (R,) RECORD, optional
        What an index says: where records lie and their checksums.
    count : int, optional
        How many samples there must be.

    Yields
    ------
    Sample or ShardError
        Without ``records`` the error is the last: nothing can be read
        after it.
    """
    key, number, seen = "the first", 0, set()
    try:
        with tar.open("rb") as file:
            for sample in (samples(file, tar) if records is None
                           else _listed(file, tar, records)):
                if number == count:
                    raise tarfile.ReadError(f"it holds more than the {count} "
                                            "samples that are listed")
                number += 1
                if isinstance(sample, Sample):
                    key = sample.key
                    if key in seen:
                        sample.faults.append(f"the tar holds {key!r} twice")
                    seen.add(key)
                yield sample
        if count is not None and number < count:
            raise tarfile.ReadError(f"{count - number} samples that are "
                                    "listed are not in the file")
    except ServiceError:
        raise  # the way is at fault, not the tar
    except (tarfile.TarError, OSError) as error:
        yield ShardError(tar, f"after record {key}",
                         f"the tar is damaged here ({error})",
                         max((count or 0) - number, 1))


def _listed(file: BinaryIO, path, records: np.ndarray
            ) -> Iterator[Sample | ShardError]:
    """The samples of the records of an index, once they are known whole."""
    for offset, length, _, told in records.tolist():
        file.seek(offset)
        data = file.read(length)
        if len(data) < length or checksum(
                np.frombuffer(data, np.uint8)) != told:
            yield ShardError(path, f"the record at byte {offset:,}",
                             "its checksum is not that of the index")
        else:
            yield from samples(io.BytesIO(data + _EMPTY), path)
