"""Chunks of a cube on a disk: each ends with its CRC-32C.

Zarr looks at it too, but does not say which file is damaged; and what is
not there it takes for missing values.
"""

from pathlib import Path

import google_crc32c
from zarr.storage import LocalStore

from geotree import files
from geotree.pixels.cube import DATA

_AGAIN = ("Call pixels.download again with the cube's table and source: it "
          "fetches again what was in there.")


def is_sound(data: bytes) -> bool:
    """Whether the bytes of a chunk are those that were written."""
    return data[-4:] == google_crc32c.value(data[:-4]).to_bytes(4, "little")


class Chunks(LocalStore):
    """A cube as it was opened, whatever folder one works in later.

    A chunk that is damaged or gone when it is read is named, and so is a
    cube whose rows are of other records or pixels by then. It may grow.
    """

    def __init__(self, root, **options):
        super().__init__(Path(root).absolute(), **options)
        self._begun = {path.name for path in self.root.glob("status/c/*")}
        self._stamp, self._rows = None, None
        self._rows = self._now()

    def _now(self) -> str | None:
        """Of what the rows are, by the description that is there now."""
        path = self.root / "zarr.json"
        about = path.stat()
        if self._stamp != (stamp := (about.st_ino, about.st_mtime_ns)):
            self._told = files.read_json(path, what="cube").get(
                "attributes", {}).get("rows")
            self._stamp = stamp
        return self._told

    async def get(self, key, prototype=None, byte_range=None):
        found = await super().get(key, prototype, byte_range)
        name, _, number = key.partition("/c/")
        if not number:
            return found
        try:
            same = self._now() == self._rows
        except FileNotFoundError:
            same = False
        if not same:
            raise ValueError(
                f"'{self.root}' was deleted since it was opened, or its rows "
                "are of other records or pixels now. Open it again.")
        if found is not None and not is_sound(found.to_bytes()):
            raise ValueError(
                f"'{self.root / key}' does not have the CRC-32C that it ends "
                f"with: damaged. {_AGAIN}")
        if found is None and (name not in DATA
                              or number.split("/")[0] in self._begun):
            raise ValueError(f"'{self.root / key}' is gone. {_AGAIN}")
        return found
