"""A file of the Hugging Face hub, by its public client, and no other file.

A mirror, a redirect or a damaged line may send anything: size and hash are
those that the hub lists, or nothing is kept.
"""

import errno
import hashlib
import re
from pathlib import Path

from geotree.network import ServiceError


def hub_file(repo: str, path: str, *, repo_type: str = "model",
             revision: str | None = None, **options) -> Path:
    """A file of the Hugging Face hub, out of the user's cache or fetched.

    What lies in that cache is taken as it lies. What is fetched resumes
    where it stopped, with the user's token where there is one, and its
    size and hash are compared with what the hub lists.

    Parameters
    ----------
    repo, path : str
        ``owner/name``, and the file in it.
    repo_type : "model" or "dataset"
    revision : str, optional
        Branch, tag or commit.
    options
        ``token``, ``endpoint`` or ``cache_dir`` of ``huggingface_hub``.

    Raises
    ------
    ServiceError
        It cannot be had, or is not what the hub lists: nothing is kept.
    """
    import huggingface_hub as hub

    where = {"repo_type": repo_type, "revision": revision}
    try:
        found = hub.try_to_load_from_cache(
            repo, path, cache_dir=options.get("cache_dir"), **where)
        if not isinstance(found, str):
            listed = _listed(repo, path, where, options)
            found = hub.hf_hub_download(repo, path, **where, **options,
                                        tqdm_class=_bounded(listed.size))
            _verify(Path(found), listed)
    except Exception as error:  # of several HTTP libraries
        raise refused(f"get '{path}' of '{repo}'", error) from error
    return Path(found)


def refused(what: str, error: Exception) -> ServiceError:
    """What an error of the hub's client means."""
    return ServiceError(
        errno.EIO, f"cannot {what} from the hub ({type(error).__name__}: "
        f"{str(error).partition(chr(10))[0]}). Check name, network and, "
        "where it is private, your token; what has arrived is kept")


def _listed(repo: str, path: str, where: dict, options: dict):
    """What the hub says of a file; its words become paths of the cache."""
    import huggingface_hub as hub

    endpoint = options.get("endpoint")
    listed = hub.get_hf_file_metadata(
        hub.hf_hub_url(repo, path, endpoint=endpoint, **where),
        token=options.get("token"), endpoint=endpoint)
    if (not re.fullmatch("[0-9a-f]{40}", str(listed.commit_hash))
            or not re.fullmatch("([0-9a-f]{40}|[0-9a-f]{64})",
                                str(listed.etag)) or listed.size is None):
        raise ValueError(
            f"it is listed with commit {listed.commit_hash!r}, hash "
            f"{listed.etag!r} and {listed.size} bytes; expected 40 and 40 or "
            "64 hexadecimal digits and a size. Refused")
    return listed


def _bounded(size: int):
    """A progress bar that ends a transfer longer than was listed."""
    from tqdm import tqdm

    class Bounded(tqdm):
        def __init__(self, *args, initial=0, **options):
            self.came = initial
            super().__init__(*args, initial=initial, **options)

        def update(self, n=1):
            self.came += n
            if self.came > size:
                raise ValueError(f"more than the {size:,} bytes that were "
                                 "listed came. Refused")
            return super().update(n)

    return Bounded


def _verify(path: Path, listed) -> None:
    """Compare size and hash with what is listed; remove what differs."""
    size = path.stat().st_size
    digest = (hashlib.sha256() if len(listed.etag) == 64
              else hashlib.sha1(f"blob {size}\0".encode()))  # as git counts
    with path.open("rb") as file:
        hashlib.file_digest(file, lambda: digest)
    if size != listed.size or digest.hexdigest() != listed.etag:
        blob = path.resolve()
        path.unlink()
        blob.unlink(missing_ok=True)
        raise ValueError(
            f"{size:,} bytes with hash {digest.hexdigest()[:12]}… came, "
            f"{listed.size:,} with {listed.etag[:12]}… are listed. Removed")
