"""Shards: a cube as tar files that any machine reads at full speed.

*Packed* (default): one record holds 256 samples as ``.npy`` columns,
shuffled over the whole data set when written, beside an index with counts,
hashes and the class table, so that nothing is scanned at start-up.
*Release*: one sample a record, as GlobalGeoTree publishes them
(:mod:`geotree.release_shards`). No pickle is ever executed. Chapter 03.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
import tarfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from geotree import occurrences, taxonomy
from geotree.sources import OK
from geotree.variables import BAND_NAMES, VARIABLE_NAMES
from geotree.variables import check_environment, check_images

INDEX, TABLE = "index.json", "samples.parquet"
SCHEMA = 1
_COLUMNS = ("images", "environment", "label", "id")  # members of a record
_BUFFER = 16  # packs mixed in memory when shuffling


class ShardError(ValueError):
    """A shard is damaged, or holds something else than expected."""


class Batch(NamedTuple):
    """Samples as arrays, the first axis their number."""

    images: np.ndarray  # (B, T, C, H, W) uint16, 65535 = missing
    environment: np.ndarray  # (B, V) float32, NaN = missing
    labels: np.ndarray  # (B,) int64, row of the class table
    ids: np.ndarray  # (B,) int64, gbifID


def write(cube, table: pd.DataFrame, out: str | Path, *,
          layout: str = "packed", classes: pd.DataFrame | None = None,
          seed: int = 0, pack: int = 256, packs_per_shard: int = 64,
          progress: bool = True) -> Shards:
    """Write a cube as shards.

    Parameters
    ----------
    cube : xarray.Dataset
        From :func:`geotree.pixels.open`.
    table : DataFrame
        Occurrence table with every ``gbifID`` of the cube.
    out : path
        Folder; an unfinished earlier attempt in it is replaced.
    layout : "packed" or "release"
    classes : DataFrame, optional
        Class table; default: that of ``table``.
    seed : int
        Of the order of samples. The same input gives the same bytes.
    pack : int
        Samples a record.
    packs_per_shard : int
        Records a tar.

    Returns
    -------
    Shards
        Samples without imagery are left out and counted in ``skipped``.

    Raises
    ------
    ValueError
        Layout or classes do not fit, or nothing is left to write.
    OSError
        The folder cannot be written; what is finished stays.
    """
    if layout not in ("packed", "release"):
        raise ValueError(f"layout is {layout!r}, expected 'packed' (fast) "
                         "or 'release' (as GlobalGeoTree publishes).")
    check_images(cube["reflectance"], where="cube")
    check_environment(cube["environment"], where="cube")
    classes = taxonomy.class_table(table) if classes is None else classes
    rows = np.flatnonzero(cube["status"].to_numpy() == OK)
    if not len(rows):
        raise ValueError(f"none of the {cube.sizes['sample']} samples of the "
                         "cube has imagery: nothing to write.")
    rows = np.random.default_rng(seed).permutation(rows)
    ids = cube["sample"].to_numpy()
    ordered = _matching(table, ids[rows])
    labels = taxonomy.labels(ordered, classes)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / INDEX).unlink(missing_ok=True)
        for old in out.glob("shard-*.tar"):
            old.unlink()
        entries = _write_shards(cube, rows, ordered, labels, out, layout,
                                pack, packs_per_shard, progress)
        occurrences.write(ordered.reset_index(drop=True), out / TABLE)
        index = {
            "schema": SCHEMA, "layout": layout, "seed": seed, "pack": pack,
            "samples": len(rows),
            "skipped": int(cube.sizes["sample"] - len(rows)),
            "bands": BAND_NAMES, "variables": VARIABLE_NAMES,
            "shards": entries, "classes": classes.to_dict(orient="list"),
            "provenance": {k: str(v) for k, v in cube.attrs.items()},
        }
        _atomic(out / INDEX, json.dumps(index, indent=1).encode())
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write shards to '{out}' "
            f"({error.strerror}). Free space or choose another folder, then "
            "write again; the cube is untouched.") from error
    return open(out)


def _matching(table, ids) -> pd.DataFrame:
    """Rows of ``table`` in the order of ``ids``."""
    position = pd.Index(table["gbifID"]).get_indexer(ids)
    if (position < 0).any():
        raise ValueError(
            f"{int((position < 0).sum())} samples of the cube are not in the "
            f"table, e.g. gbifID {ids[position < 0][0]}. Was the cube made "
            "from another table?")
    return table.iloc[position]


def _write_shards(cube, rows, table, labels, out, layout, pack, per_shard,
                  progress) -> list[dict]:
    from geotree import release_shards

    reader = _CubeReader(cube)
    entries = []
    size = pack * per_shard
    starts = range(0, len(rows), size)
    for number, start in enumerate(tqdm(starts, "shards", unit="tar",
                                        disable=not progress)):
        chosen = slice(start, start + size)
        part = Batch(*reader.read(rows[chosen]), labels[chosen],
                     table["gbifID"].to_numpy()[chosen])
        name = f"shard-{number:06d}.tar"
        temporary = out / f".{name}.part"
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            if layout == "packed":
                _pack(tar, part, pack, start // pack)
            else:
                release_shards.put(tar, part, table.iloc[chosen])
        data = temporary.read_bytes()
        os.replace(temporary, out / name)
        entries.append({"name": name, "samples": len(part.ids),
                        "bytes": len(data),
                        "sha256": hashlib.sha256(data).hexdigest()})
    return entries


class _CubeReader:
    """Random rows of a cube, read a whole chunk at a time."""

    def __init__(self, cube):
        self.images, self.environment = cube["reflectance"], cube[
            "environment"]

    def read(self, rows) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(rows)
        back = np.argsort(order)
        images = self.images.isel(sample=rows[order]).to_numpy()
        environment = self.environment.isel(sample=rows[order]).to_numpy()
        return images[back], environment[back].astype(np.float32)


def _pack(tar, part: Batch, size: int, first: int) -> None:
    for start in range(0, len(part.ids), size):
        for name, values in zip(_COLUMNS, part, strict=True):
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(
                values[start:start + size]), allow_pickle=False)
            add(tar, f"{first + start // size:08d}.{name}.npy",
                buffer.getvalue())


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a member whose bytes depend on nothing but name and data."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def _atomic(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def open(paths, *, on_error: str = "raise") -> Shards:
    """Open shards; nothing is read but the index.

    Parameters
    ----------
    paths : path or list of paths
        A folder with an index, or tars of the release's layout.
    on_error : "raise" or "skip"
        What a damaged record does: stop with a :class:`ShardError` that
        names file and record, or be left out and counted in ``skipped``.

    Returns
    -------
    Shards
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error is {on_error!r}, expected 'raise' or "
                         "'skip'.")
    if isinstance(paths, str | os.PathLike) and Path(paths).is_dir():
        return _open_folder(Path(paths), on_error)
    from geotree import release_shards

    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    return release_shards.scan([Path(path) for path in paths], on_error)


def _open_folder(folder: Path, on_error: str) -> Shards:
    path = folder / INDEX
    if not path.exists():
        tars = sorted(folder.glob("*.tar"))
        if tars:
            return open(tars, on_error=on_error)
        raise FileNotFoundError(
            f"'{folder}' has neither {INDEX} nor tar files. Write shards "
            "with shards.write, or give the folder that holds them.")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["schema"] != SCHEMA:
            raise ValueError(f"schema {index['schema']}, expected {SCHEMA}")
        files = [Shard(folder / entry["name"], entry["samples"],
                       entry["sha256"]) for entry in index["shards"]]
        classes = pd.DataFrame(index["classes"])
    except (KeyError, ValueError) as error:
        raise ShardError(f"'{path}' is not an index of shards ({error}). "
                         "Write the shards again.") from error
    return Shards(tuple(files), classes, index["layout"], on_error,
                  provenance=index["provenance"])


class Shard(NamedTuple):
    """One tar file."""

    path: Path
    samples: int
    sha256: str | None


@dataclass
class Shards:
    """Samples in tar files, or a selection of them.

    ``classes`` is the class table; ``skipped`` counts what was left out as
    damaged since opening (with ``on_error="skip"``).
    """

    files: tuple[Shard, ...]
    classes: pd.DataFrame
    layout: str = "packed"
    on_error: str = "raise"
    rows: np.ndarray | None = None  # selection, sorted; None = all
    provenance: dict = field(default_factory=dict)
    skipped: int = 0

    def __len__(self) -> int:
        if self.rows is not None:
            return len(self.rows)
        return sum(shard.samples for shard in self.files)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Occurrence table of these samples, in their order."""
        path = self.files[0].path.parent / TABLE
        table = occurrences.read(path)
        if self.rows is None:
            return table
        return table.iloc[self.rows].reset_index(drop=True)

    @cached_property
    def labels(self) -> np.ndarray:
        """Class number of each sample, in order: (N,) int64."""
        return taxonomy.labels(self.table, self.classes)

    def select(self, rows) -> Shards:
        """A view of some samples, in the order of the shards.

        Parameters
        ----------
        rows : (N,) bool or array of int
            Which of these samples.
        """
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if len(rows) != len(self):
                raise ValueError(f"mask has {len(rows)} values for "
                                 f"{len(self)} samples.")
            rows = np.flatnonzero(rows)
        if len(rows) and not (0 <= rows.min() and rows.max() < len(self)):
            raise ValueError(f"rows run from {rows.min()} to {rows.max()}, "
                             f"expected 0 to {len(self) - 1}.")
        rows = np.unique(rows)
        if self.rows is not None:
            rows = self.rows[rows]
        return replace(self, rows=rows, skipped=0)

    def verify(self) -> None:
        """Compare each file with its SHA-256; raise :class:`ShardError`."""
        for shard in self.files:
            found = hashlib.sha256(shard.path.read_bytes()).hexdigest()
            if shard.sha256 and found != shard.sha256:
                raise ShardError(
                    f"'{shard.path}' has SHA-256 {found[:12]}…, its index "
                    f"says {shard.sha256[:12]}…: damaged or replaced. Fetch "
                    "or write it again.")

    def batches(self, batch_size: int, *, shuffle: bool = False,
                seed: int = 0, epoch: int = 0,
                drop_last: bool = False) -> Iterator[Batch]:
        """Yield every sample once, in batches.

        Parameters
        ----------
        batch_size : int
        shuffle : bool
            Another order for each ``(seed, epoch)``, the same each time:
            files, then samples within a buffer of packs. False: the order
            of ``table``.
        drop_last : bool
            Leave out the last batch when it is not full.

        Yields
        ------
        Batch
            The last may be smaller.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected ≥ 1.")
        rng = np.random.default_rng([seed, epoch])
        rest: list[Batch] = []
        count = 0
        for block in self._blocks(rng if shuffle else None):
            rest.append(block)
            count += len(block.ids)
            if count < batch_size:
                continue
            joined = _join(rest)
            for start in range(0, count - batch_size + 1, batch_size):
                yield _take(joined, slice(start, start + batch_size))
            rest = [_take(joined, slice(count - count % batch_size, None))]
            count %= batch_size
        if count and not drop_last:
            yield _join(rest)

    def _blocks(self, rng) -> Iterator[Batch]:
        """Packs in order; with ``rng``, buffers of packs mixed."""
        order = np.arange(len(self.files))
        if rng is None:
            yield from self._packs(order)
            return
        buffer: list[Batch] = []
        for pack in self._packs(rng.permutation(order)):
            buffer.append(pack)
            if len(buffer) == _BUFFER:
                yield _mix(buffer, rng)
                buffer = []
        if buffer:
            yield _mix(buffer, rng)

    def _packs(self, order) -> Iterator[Batch]:
        from geotree import release_shards

        starts = np.cumsum([0, *(shard.samples for shard in self.files)])
        read = read_packs if self.layout == "packed" else release_shards.read
        for number in order:
            shard, position = self.files[number], int(starts[number])
            if not self._wanted(position, position + shard.samples):
                continue
            for pack, size in read(self, shard):
                chosen = self._wanted(position, position + size)
                position += size
                if pack is None or not chosen:
                    continue
                if isinstance(chosen, slice):
                    yield pack
                else:
                    yield _take(pack, chosen[0] - (position - size))
            if position != starts[number + 1]:
                self.damaged(shard.path, "the end", "holds "
                             f"{position - starts[number]} samples, index "
                             f"says {shard.samples}",
                             int(starts[number + 1] - position))

    def _wanted(self, start: int, stop: int):
        """Selected rows between start and stop: all, a list of them, none."""
        if self.rows is None:
            return slice(None)
        low, high = np.searchsorted(self.rows, [start, stop])
        if high - low == stop - start:
            return slice(None)
        return [self.rows[low:high]] if high > low else None

    def damaged(self, path, record, reason: str, samples: int) -> None:
        """Raise :class:`ShardError`, or count ``samples`` and warn."""
        text = f"'{path}', record {record}: {reason}."
        if self.on_error == "raise":
            raise ShardError(f"{text} Fetch or write the file again, or open "
                             "with on_error='skip'.")
        self.skipped += samples
        warnings.warn(f"skipped {samples} samples: {text}", stacklevel=3)

    def load(self) -> Batch:
        """All samples at once, in the order of ``table``."""
        packs = list(self._packs(np.arange(len(self.files))))
        if not packs:
            raise ValueError("no samples to load: the selection is empty.")
        return _join(packs)


def _join(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    return Batch(*(np.concatenate(column) for column in
                   zip(*parts, strict=True)))


def _take(batch: Batch, rows) -> Batch:
    return Batch(*(column[rows] for column in batch))


def _mix(packs: list[Batch], rng) -> Batch:
    joined = _join(packs)
    return _take(joined, rng.permutation(len(joined.ids)))


def read_packs(shards: Shards, shard: Shard):
    """Yield (Batch or None, samples) for each record of a packed tar."""
    try:
        with io.open(shard.path, "rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0,
                                        access=mmap.ACCESS_READ))
            tar = tarfile.open(fileobj=file, mode="r:")
            members = tar.getmembers()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"'{shard.path}' is in the index but not on disk. Fetch it, or "
            "write the shards again.") from error
    except (tarfile.TarError, ValueError, OSError) as error:
        shards.damaged(shard.path, "0", f"not a tar ({error})",
                       shard.samples)
        yield None, shard.samples
        return
    for start in range(0, len(members), len(_COLUMNS)):
        record = members[start:start + len(_COLUMNS)]
        name = record[0].name.split(".")[0]
        try:
            columns = [_column(view, member, kind) for member, kind in
                       zip(record, _COLUMNS, strict=True)]
            batch = Batch(*columns)
            check_images(batch.images)
            check_environment(batch.environment)
            size = len(batch.ids)
            if {len(column) for column in batch} != {size}:
                raise ValueError("its columns differ in length")
        except ValueError as error:
            left = shard.samples - start // len(_COLUMNS) * 256
            shards.damaged(shard.path, name, str(error), min(256, left))
            yield None, min(256, left)
            continue
        yield batch, size


def _column(view, member, kind) -> np.ndarray:
    """A ``.npy`` member as an array over the mapped file; no copy."""
    if not member.name.endswith(f".{kind}.npy") or ".." in member.name:
        raise ValueError(f"member {member.name!r}, expected .{kind}.npy")
    data = view[member.offset_data:member.offset_data + member.size]
    if len(data) != member.size:
        raise ValueError(f"member {member.name!r} is cut off")
    header = io.BytesIO(bytes(data[:256]))
    version = np.lib.format.read_magic(header)
    if version != (1, 0):
        raise ValueError(f"member {member.name!r} has .npy {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
    if dtype.hasobject or fortran:
        raise ValueError(f"member {member.name!r} holds {dtype}")
    values = np.frombuffer(data, dtype, offset=header.tell())
    return values.reshape(shape)
