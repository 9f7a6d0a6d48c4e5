"""The release's files from the Hugging Face hub: pinned, checked, resumed.

The first use of a branch notes the commit it stands for, and keeps to it.
A file lands in the cache under its commit once its size and hash are right;
an interrupted transfer goes on where it stopped. Chapter 09.

``GEOTREE_CACHE`` (folder), ``HF_ENDPOINT`` (mirror) and ``HF_HUB_OFFLINE``
are read where the options do not say otherwise. No token is ever sent.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

DATASET = "yann111/GlobalGeoTree"
CHECKPOINT = "checkpoints/GGT_6M.pth"
PARTS = ("GlobalGeoTree-6M", "GlobalGeoTree-10kEval")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ID = re.compile(r"[\w.-]+/[\w.-]+")


class HubError(OSError):
    """A file or list cannot be had; says what, from where, what to do."""


class File(NamedTuple):
    """A file of a repository, as the hub lists it."""

    path: str
    size: int  # bytes
    sha256: str | None  # of large files
    git: str  # SHA-1 as git counts it, of small files


@dataclass(frozen=True)
class Hub:
    """A repository at one revision.

    Parameters
    ----------
    repo, repo_type : str
        ``owner/name``; ``"dataset"`` or ``"model"``.
    revision : str
        Commit, tag or branch. A branch is pinned at first use;
        :meth:`update` moves on.
    endpoint : str, optional
        Base URL of a mirror.
    cache : path, optional
        Default: ``~/.cache/geotree``.
    offline : bool, optional
        Use only what is in the cache.
    """

    repo: str = DATASET
    repo_type: str = "dataset"
    revision: str = "main"
    endpoint: str | None = None
    cache: str | Path | None = None
    offline: bool | None = None

    def _api(self):
        from huggingface_hub import HfApi

        return HfApi(endpoint=self._base, token=False)

    @property
    def _base(self) -> str:
        return (self.endpoint or os.environ.get("HF_ENDPOINT")
                or "https://huggingface.co").rstrip("/")

    @property
    def _is_offline(self) -> bool:
        if self.offline is not None:
            return self.offline
        return os.environ.get("HF_HUB_OFFLINE", "").lower() in (
            "1", "true", "yes", "on")

    @property
    def _folder(self) -> Path:
        root = (self.cache or os.environ.get("GEOTREE_CACHE")
                or Path.home() / ".cache" / "geotree")
        return Path(root) / f"{self.repo_type}s" / self.repo

    def _ask(self, what: str, question):
        """The answer of the hub; its errors say what was asked."""
        if self._is_offline:
            raise HubError(f"{what} of '{self.repo}' is not in the cache "
                           f"'{self._folder}', and the hub is offline. "
                           "Fetch it once with a network.")
        try:
            return question()
        except Exception as error:  # of several HTTP libraries
            raise HubError(
                f"cannot get {what} of '{self.repo}' at {self.revision!r} "
                f"from {self._base} ({type(error).__name__}: "
                f"{str(error).partition(chr(10))[0]}). Check name and "
                "network, or try again: what has arrived is kept."
            ) from error

    @property
    def commit(self) -> str:
        """The commit that the revision stands for."""
        if _COMMIT.fullmatch(self.revision):
            return self.revision
        note = self._folder / "refs" / _inside(self.revision)
        return note.read_text() if note.exists() else self.update()

    def update(self) -> str:
        """Ask the hub which commit the revision is now, and pin it."""
        info = self._ask("the commit", lambda: self._api().repo_info(
            self.repo, repo_type=self.repo_type, revision=self.revision))
        note = self._folder / "refs" / _inside(self.revision)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(info.sha)
        return info.sha

    @property
    def files(self) -> dict[str, File]:
        """All files of the commit by path; asked for once."""
        path = self._folder / self.commit / ".files.json"
        if not path.exists():
            found = self._ask("the list of files", lambda: list(
                self._api().list_repo_tree(
                    self.repo, recursive=True, revision=self.commit,
                    repo_type=self.repo_type)))
            rows = [(entry.path, entry.size, entry.lfs and entry.lfs.sha256,
                     entry.blob_id) for entry in found
                    if hasattr(entry, "size")]
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps(rows), "utf-8")
            part.replace(path)
        rows = json.loads(path.read_text("utf-8"))
        return {row[0]: File(*row) for row in rows}

    def shards(self, part: str = PARTS[1]) -> list[str]:
        """Paths of the tars in a folder of the repository."""
        names = sorted(name for name in self.files
                       if name.startswith(f"{part}/")
                       and name.endswith(".tar"))
        if not names:
            raise HubError(f"'{self.repo}' has no tar files in '{part}'. "
                           f"Expected {' or '.join(PARTS)}.")
        return names

    def fetch(self, path: str, folder: str | Path | None = None) -> Path:
        """A file, from the cache or the hub; size and hash are checked.

        Parameters
        ----------
        path : str
            In the repository, e.g. ``"files/GlobalGeoTree.csv"``.
        folder : path, optional
            Where it goes; default: the cache.
        """
        target = Path(folder or self._folder / self.commit) / _inside(path)
        if folder is None and target.exists():
            return target  # it was checked when it came
        file = self.files.get(path)
        if file is None:
            near = [name for name in self.files
                    if Path(name).suffix == Path(path).suffix]
            raise HubError(
                f"'{self.repo}' has no file '{path}' at "
                f"{self.revision!r}. It has {', '.join(near[:5]) or 'none'}"
                f"{' …' if len(near) > 5 else ''}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        with FileLock(f"{part}.lock"):
            if not target.exists():
                self._ask(f"'{path}'", lambda: self._transfer(file, part))
                _verify(file, part)
                part.replace(target)
        return target

    def _transfer(self, file: File, part: Path) -> None:
        """Append to ``part`` what it lacks."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get

        url = hf_hub_url(self.repo, file.path, repo_type=self.repo_type,
                         revision=self.commit, endpoint=self._base)
        with part.open("ab") as out:
            if out.tell() > file.size:
                out.seek(0)
                out.truncate()
            if out.tell() < file.size:
                http_get(url, out, resume_size=out.tell(),
                         expected_size=file.size,
                         displayed_filename=file.path)

    def stream(self, paths: Iterable[str]) -> Iterator[Path]:
        """Files one after the other, for sets larger than the disk.

        The next is fetched while one is read; each is removed when the
        following is asked for.
        """
        with (tempfile.TemporaryDirectory(prefix="geotree-") as folder,
              ThreadPoolExecutor(1) as pool):
            waiting = None
            for path in [*paths, None]:
                coming = path and pool.submit(self.fetch, path, folder)
                if waiting is not None:
                    file = waiting.result()
                    yield file
                    file.unlink(missing_ok=True)
                waiting = coming


def fetch(path: str, **options) -> Path:
    """A file of the release; options as of :class:`Hub`."""
    return Hub(**options).fetch(path)


def checkpoint(**options) -> Path:
    """``GGT_6M.pth``, 1.84 GB; options as of :class:`Hub`."""
    return fetch(CHECKPOINT, **options)


def table(name: str = "GlobalGeoTree.csv", **options) -> Path:
    """A table of the release; options as of :class:`Hub`."""
    return fetch(f"files/{name}", **options)


def pretrained(source: str, files=("card.json", "model.safetensors"),
               **options) -> Path:
    """The folder with these files of a model, by its hub id.

    The release's own id gives its checkpoint.
    """
    if source == DATASET:
        return checkpoint(**options)
    if not _ID.fullmatch(source) or source.endswith((".pth", ".pt")):
        raise FileNotFoundError(
            f"no model '{source}': neither a file nor a folder, nor a hub "
            f"id such as '{DATASET}'. Check the path.")
    hub = Hub(repo=source, repo_type="model", **options)
    return [hub.fetch(name) for name in files][0].parent


def _inside(path: str) -> Path:
    """A path of a repository, sure to stay within a folder."""
    relative = Path(path)
    if relative.is_absolute() or ".." in relative.parts or not path:
        raise HubError(f"path '{path}' leads out of the repository: refused")
    return relative


def _verify(file: File, path: Path) -> None:
    """Compare size and hash; remove what differs."""
    digest = hashlib.sha256()
    if file.sha256 is None:
        digest = hashlib.sha1(f"blob {file.size}\0".encode())
    with path.open("rb") as data:
        while block := data.read(1 << 20):
            digest.update(block)
    expected = file.sha256 or file.git
    if path.stat().st_size != file.size or digest.hexdigest() != expected:
        size = path.stat().st_size
        path.unlink()
        raise HubError(
            f"'{file.path}' arrived with {size:,} bytes and hash "
            f"{digest.hexdigest()[:12]}…, the hub lists {file.size:,} and "
            f"{expected[:12]}…. It was removed; fetch it again, or from "
            "another mirror.")
