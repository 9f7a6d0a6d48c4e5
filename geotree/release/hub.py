"""The release's files from the Hugging Face hub, by its public client.

What lies in the user's cache of the hub is found there. Its settings hold:
``HF_HOME`` and ``HF_HUB_CACHE`` (folders), ``HF_ENDPOINT`` (mirror),
``HF_HUB_OFFLINE``, ``HF_TOKEN``. Chapter 09.
"""

from __future__ import annotations

import errno
from pathlib import Path

from geotree.network import ServiceError, hub_file

DATASET = "yann111/GlobalGeoTree"
CHECKPOINT = "checkpoints/GGT_6M.pth"
PARTS = ("GlobalGeoTree-6M", "GlobalGeoTree-10kEval")


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


def table(name: str = "GlobalGeoTree.csv", **options) -> Path:
    """A table of the release; options as of :func:`fetch`."""
    return fetch(f"files/{name}", **options)


def shards(part: str = PARTS[1], *, repo: str = DATASET,
           revision: str | None = None, token=None,
           endpoint: str | None = None) -> list[str]:
    """Paths of the tars in a folder of the repository, for :func:`fetch`."""
    from huggingface_hub import HfApi

    try:
        names = HfApi(endpoint=endpoint, token=token).list_repo_files(
            repo, repo_type="dataset", revision=revision)
    except Exception as error:  # of several HTTP libraries
        raise ServiceError(
            errno.EIO, f"cannot list '{repo}' ({type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}). Check name and network."
        ) from error
    found = sorted(name for name in names
                   if name.startswith(f"{part}/") and name.endswith(".tar"))
    if not found:
        raise ServiceError(errno.ENOENT, f"'{repo}' has no tar files in "
                           f"'{part}'. Expected {' or '.join(PARTS)}.")
    return found
