"""Files: written whole or not at all, locked, known by what they hold.

That a file exists says nothing of what is in it: what was made from other
inputs or settings has another fingerprint.
"""

import dataclasses
import errno
import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import checks


class BusyError(OSError):
    """Another process is writing there."""


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A place to write a file or folder that becomes ``path`` at the end.

    Until then, and if anything fails, what stood at ``path`` stays; an
    ``OSError`` says so. A link is followed: what it points to is replaced,
    not the link.

    Examples
    --------
    >>> with files.whole("table.parquet") as part:
    ...     table.to_parquet(part)
    """
    path = Path(os.path.realpath(named(path)))
    if not path.is_dir():
        regular(path)  # or a file would take the place of /dev/null
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if part.is_file():
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        old = part.with_suffix(".old")
        if path.is_dir():
            if part.is_file():
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            os.replace(path, old)
        os.replace(part, path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if type(error).__module__ != "builtins" or isinstance(
                error.__cause__, OSError):  # not of the disk, or told already
            raise
        raise OSError(
            error.errno or errno.EIO,
            f"could not write '{path}' ({error.strerror or error}). What "
            "was there before is kept. Free some space or choose a folder "
            "that can be written") from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        elif part.exists():
            part.unlink()


def named(path: str | os.PathLike) -> Path:
    """A path, ~ spelt out, or a ``ValueError`` that says what came."""
    if (not isinstance(path, str | os.PathLike) or not os.fspath(path)
            or not Path(path).absolute().name):  # "/$UNSET"
        raise ValueError(f"path is {checks.shown(path)}, expected the name of "
                         "a file or folder: text, or a pathlib.Path.")
    path = Path(path).expanduser()
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(f"'{path}' is a link that leads back to itself. "
                             "Link it to what is meant.") from None
    return path


def apart(out: str | Path, *read: str | Path | None) -> None:
    """Raise ``ValueError`` if ``out`` is a file that is read, or holds it."""
    out = named(out)
    for path in map(named, filter(None, read)):
        if (out.exists() and path.exists() and out.samefile(path)
                or out.resolve() in [*path.resolve().parents,
                                     *(path.parent.resolve() / "x").parents]):
            raise ValueError(f"'{out}' would take the place of '{path}', "
                             "which is read. Choose another name.")


def write(path: str | Path, data: bytes | str) -> Path:
    """Write bytes or UTF-8 text whole or not at all."""
    with whole(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
    return Path(path)


@contextmanager
def lock(path: str | Path, *, wait: float = 0) -> Iterator[None]:
    """Keep other processes from writing to ``path`` meanwhile.

    Parameters
    ----------
    wait : float
        Seconds to wait for the other process; -1: as long as it takes.

    Raises
    ------
    BusyError
        Another process still has it.
    """
    from filelock import FileLock, Timeout

    path = Path(os.path.realpath(named(path)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.with_name(f".{path.name}.lock")
        name.touch()  # filelock takes "cannot be written" for "is held"
        held = FileLock(name, is_singleton=wait < 0)
        held.acquire(timeout=wait)
    except Timeout as error:
        raise BusyError(
            errno.EBUSY, f"another process is writing to '{path}'. Wait for "
            "it, or choose another place") from error
    except OSError as error:
        raise OSError(
            error.errno or 0, f"cannot write beside '{path}' "
            f"({error.strerror or error}). Nothing was changed; choose a "
            "folder that can be written") from error
    try:
        yield
    finally:
        held.release()


def cache_folder(cache: str | Path | None = None) -> Path:
    """Where fetched files are kept: ``GEOTREE_CACHE`` unless told."""
    return named(cache or os.environ.get("GEOTREE_CACHE")
                 or "~/.cache/geotree")


def only(path: str | Path, mark: str, *more: str, what: str) -> Path:
    """The path, unless it is a file, or a folder of something else.

    A folder of ``what`` has a file ``mark``, and no others than that, those
    of macOS and ``more``, which are patterns of names.
    """
    path = named(path)
    held = [one.name for one in path.iterdir()] if path.is_dir() else []
    if path.exists() and not path.is_dir() or held and mark not in held:
        raise ValueError(f"'{path}' is a file, or a folder that holds other "
                         f"files than {what} (no {mark}). Choose another "
                         "folder, or empty it.")
    known = ".DS_Store", "._*", mark, *more
    if others := sorted(name for name in held if not any(
            fnmatchcase(name, one) for one in known)):
        raise ValueError(f"'{path}' holds more than {what}, which would be "
                         f"lost: {checks.few(others)}. Move it away, or "
                         "choose another folder.")
    return path


def regular(path: str | Path) -> Path:
    """The path, unless something is there that may have no end.

    Raises
    ------
    ValueError
        A pipe or a device: to read it may take for ever.
    """
    path = named(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"'{path}' is a folder, a pipe or a device, "
                         "expected a file. Copy what it holds into one.")
    return path


def fits(size: float, what: str) -> None:
    """Raise ``ValueError`` where this machine has not ``size`` bytes."""
    have = (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            if hasattr(os, "sysconf") else math.inf)
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container
    with suppress(OSError, ValueError):
        have = min(have, int(limit.read_text()))
    if size > have:
        raise ValueError(f"{what} needs {size / 1e9:,.1f} GB of memory or "
                         f"more, and here are {have / 1e9:,.1f}. Take parts "
                         "of it, or a larger machine.")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*parts) -> str:
    """What things hold, as 16 letters: equal for equal contents only.

    Parameters
    ----------
    parts
        Tables (values, names and order of rows and columns; never the
        index), arrays, settings (dataclasses, mappings), text, numbers,
        bytes, None, and lists of these.
    """
    digest = hashlib.sha256()
    for part in parts:
        _add(digest, part)
    return digest.hexdigest()[:16]


def _add(digest, part) -> None:
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        part = {field.name: getattr(part, field.name)
                for field in dataclasses.fields(part)}
    if isinstance(part, pd.Series):
        part = part.to_frame(str(part.name))
    if isinstance(part, pd.DataFrame):
        digest.update(f"table {part.shape}".encode())
        for name, column in part.items():
            if isinstance(column.dtype, pd.CategoricalDtype):
                column = column.astype(object)
            rows = pd.util.hash_pandas_object(column, index=False)
            digest.update(f"{name!r}".encode() + rows.to_numpy().tobytes())
    elif isinstance(part, np.ndarray):
        digest.update(f"array {part.dtype} {part.shape}".encode())
        digest.update(np.ascontiguousarray(part).tobytes())
    elif isinstance(part, bytes):
        digest.update(f"bytes {len(part)} ".encode() + part)
    elif isinstance(part, Mapping):
        digest.update(f"mapping {len(part)}".encode())
        for name in sorted(part, key=str):
            _add(digest, str(name))
            _add(digest, part[name])
    elif isinstance(part, list | tuple | set | frozenset):
        rows = sorted(part, key=str) if isinstance(
            part, set | frozenset) else part
        digest.update(f"list {len(rows)}".encode())
        for one in rows:
            _add(digest, one)
    elif isinstance(part, np.generic):
        _add(digest, part.item())
    elif part is None or isinstance(part, str | int | float | Path):
        text = json.dumps(str(part) if isinstance(part, Path) else part)
        digest.update(f"{text}\0".encode())
    else:
        raise TypeError(f"no fingerprint of a {type(part).__name__}: expected "
                        "tables, arrays, settings, text or numbers.")


def read_json(path: str | Path, *, what: str = "JSON") -> dict:
    """An object of a JSON file, or a ``ValueError`` that names the file."""
    try:
        found = json.loads(regular(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' is no {what} ({error}): damaged, or "
                         "another file. Make it again.") from error
    if not isinstance(found, dict):
        raise ValueError(f"'{path}' holds a {type(found).__name__}, expected "
                         f"{what} with named values. Make it again.")
    return found
