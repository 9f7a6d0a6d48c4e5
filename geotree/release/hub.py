"""The release's files on the Hugging Face hub, by its public client.

What lies in the user's cache of the hub is found there; what does not is
fetched (:func:`fetch`), or read while it arrives (:func:`tars`). The hub's
settings hold: ``HF_HOME`` and ``HF_HUB_CACHE`` (folders), ``HF_ENDPOINT``
(mirror), ``HF_HUB_OFFLINE``, ``HF_TOKEN``. Chapter 09.
"""

import errno
import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from geotree.hub import hub_file, refused
from geotree.network import ServiceError

DATASET = "yann111/GlobalGeoTree"
CHECKPOINT = "checkpoints/GGT_6M.pth"
PARTS = ("GlobalGeoTree-6M", "GlobalGeoTree-10kEval")
# hf://datasets/owner/name[@revision]/path, and both routes of the website.
_ADDRESS = re.compile(
    r"(?:hf:/|(?P<endpoint>https?://[^/]+))/datasets/(?P<repo>[^/]+/[^/@]+)"
    r"(?:@(?P<tag>[^/]+)|/(?:resolve|tree)/(?P<branch>[^/]+))?/(?P<path>.+)")
_AHEAD = 1 << 18  # bytes read at once, and again where it breaks off


def fetch(path: str, *, repo: str = DATASET, **options) -> Path:
    """A file of the release, such as ``"files/GlobalGeoTree.csv"``.

    Parameters
    ----------
    options
        ``revision``, ``token``, ``endpoint`` or ``cache_dir`` of
        ``huggingface_hub``. The path that is returned ends with the commit
        and ``path``.

    Raises
    ------
    ServiceError
        It cannot be had, or is not what the hub lists.
    """
    return hub_file(repo, path, repo_type="dataset", **options)


def checkpoint(**options) -> Path:
    """``GGT_6M.pth``, 1.84 GB; options as of :func:`fetch`."""
    return fetch(CHECKPOINT, **options)


def shards(part: str = PARTS[1], *, repo: str = DATASET, **options
           ) -> list[str]:
    """Paths of the tars in a folder of the repository, for :func:`fetch`."""
    return [one.path for one in _within(part, _listed(repo, **options))]


@dataclass(frozen=True)
class Tar:
    """A tar of the hub that is read as it comes; nothing of it is kept.

    With its last byte its SHA-256 is compared with the hub's, where that
    lists one: what is damaged has been read by then, and is told of.
    """

    repo: str
    path: str  # in the repository
    commit: str
    size: int  # bytes
    sha256: str | None = None  # as the hub lists it
    endpoint: str | None = None  # of the hub; None: the user's
    token: bool | str | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        return f"hf://datasets/{self.repo}@{self.commit}/{self.path}"

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """A stream: one request, and one more wherever it breaks off."""
        return io.BufferedReader(_Stream(self), _AHEAD)


class _Stream(io.RawIOBase):
    """What arrives of a tar; how it cannot be had is a ServiceError."""

    def __init__(self, tar: Tar) -> None:
        self._tar, self._file, self._came = tar, None, 0
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, memory) -> int:
        from huggingface_hub import HfFileSystem

        try:
            if self._file is None:
                self._file = HfFileSystem(
                    endpoint=self._tar.endpoint, token=self._tar.token).open(
                        str(self._tar), "rb", block_size=0)
            data = self._file.read(len(memory))
        except Exception as error:  # of several HTTP libraries
            raise refused(f"read '{self._tar}'", error) from error
        self._came += len(data)
        self._hash.update(data)
        if (self._came == self._tar.size and self._tar.sha256
                not in (None, self._hash.hexdigest())):
            raise ServiceError(
                errno.EIO, f"'{self._tar}' has another SHA-256 than the hub "
                "lists: some of its samples came damaged. Read it again")
        memory[:len(data)] = data
        return len(data)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()


def tars(addresses: Iterable[str]) -> list[Path | Tar]:
    """The tars at addresses of the hub; those of the user's cache as files.

    Parameters
    ----------
    addresses : iterable of str
        ``hf://datasets/owner/name/path``, or as the website has it:
        ``https://huggingface.co/datasets/owner/name/resolve/main/path``. The
        path is that of a tar or of a folder with some. The user's token
        goes to the user's own hub alone.

    Raises
    ------
    ValueError
        An address is none of the hub.
    ServiceError
        The hub cannot be asked, or has no tar there.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    found: list[Path | Tar] = []
    listings: dict[tuple, list[Tar]] = {}  # one request a repository
    for address in addresses:
        parts = _ADDRESS.fullmatch(address)
        if not parts:
            raise ValueError(
                f"'{address}' is an address or a command, expected a file or "
                "an address of the hub: hf://datasets/owner/name/folder, or "
                "https://huggingface.co/datasets/owner/name/resolve/main/"
                "x.tar.")
        revision = parts["tag"] or parts["branch"]
        kept = parts["path"].endswith(".tar") and try_to_load_from_cache(
            parts["repo"], parts["path"], repo_type="dataset",
            revision=revision)
        if isinstance(kept, str):
            found.append(Path(kept))
            continue
        own = parts["endpoint"] in (None, constants.ENDPOINT)
        key = (parts["repo"], revision, None if own else parts["endpoint"],
               None if own else False)
        if key not in listings:
            listings[key] = _listed(*key)
        found += _within(parts["path"], listings[key])
    return found


def _listed(repo: str, revision: str | None = None,
            endpoint: str | None = None, token=None) -> list[Tar]:
    """All tars of a repository, by name: one request."""
    from huggingface_hub import HfApi

    try:
        listed = HfApi(endpoint=endpoint, token=token).repo_info(
            repo, repo_type="dataset", revision=revision, files_metadata=True)
        return [Tar(repo, one.rfilename, listed.sha, int(one.size),
                    one.lfs and one.lfs.sha256, endpoint, token)
                for one in sorted(listed.siblings,
                                  key=lambda one: one.rfilename)
                if one.rfilename.endswith(".tar")]
    except Exception as error:  # of several HTTP libraries
        raise refused(f"list '{repo}'", error) from error


def _within(path: str, listed: list[Tar]) -> list[Tar]:
    """Those of a listing that are at a path or below it."""
    found = [one for one in listed
             if f"{one.path}/".startswith(f"{path.rstrip('/')}/")]
    if not found:
        raise ServiceError(errno.ENOENT, f"no tar files in '{path}' of the "
                           f"repository. Expected {' or '.join(PARTS)}.")
    return found
