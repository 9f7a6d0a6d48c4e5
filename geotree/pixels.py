"""Download: occurrences + a source → a Zarr cube of pixels.

One chunk of samples is one unit of work: its data are written whole, then
its status. A run that was interrupted, even by ``kill -9``, goes on with the
chunks that lack a status. Explained in chapter 02.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from geotree import occurrences
from geotree.sources import FAILED, OK, PENDING, Pixels, Source
from geotree.variables import (
    BAND_NAMES,
    MONTHS,
    NODATA,
    PATCH,
    VARIABLE_NAMES,
    VARIABLES,
    check_environment,
    check_images,
)

_OFFSETS = (np.arange(PATCH) - PATCH // 2) * 10.0  # m from the occurrence


def download(table: pd.DataFrame, source: Source, store: str | Path, *,
             chunk: int = 256, workers: int = 1, max_failed: float = 0.1,
             progress: bool = True) -> xr.Dataset:
    """Fill a cube with the pixels of an occurrence table.

    Parameters
    ----------
    table : DataFrame
        Occurrence table.
    source : Source
        Where the pixels come from, e.g. ``Planet()``.
    store : path
        Zarr folder; made, or gone on with when it is of the same table,
        source and chunk.
    chunk : int
        Samples a unit of work.
    workers : int
        Units at a time (threads).
    max_failed : float
        Share of failed samples above which the run stops.

    Returns
    -------
    xarray.Dataset
        As :func:`open`. Failed samples have ``status`` 3 and are listed in
        ``<store>.failures.csv``; they are tried again by the next call.

    Raises
    ------
    ValueError
        The store is of another table, source or chunk.
    RuntimeError
        Another process is writing to the store, or too many samples fail.
    OSError
        The disk is full or the folder cannot be written. What is finished
        stays; call again to go on.
    """
    from filelock import FileLock, Timeout

    table = occurrences.validate(table)
    store = Path(store)
    print(f"plan: {source.plan(table)} → {store}")
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{store}.lock", timeout=0):
            group = _create(table, source, store, chunk)
            _fill(table, source, group, store, chunk, workers, max_failed,
                  progress)
    except Timeout as error:
        raise RuntimeError(
            f"another process is writing to '{store}'. Wait for it, or "
            "choose another store.") from error
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write to '{store}' ({error.strerror or error}"
            "). Finished chunks are kept: free space or mend the folder, "
            "then call download again with the same arguments.") from error
    return open(store)


def fingerprint(table: pd.DataFrame) -> str:
    """Hash of what decides the pixels: ids, places, species, years."""
    names = ["gbifID", "decimalLatitude", "decimalLongitude", "species",
             "genus", "family", "leafType", "year"]
    hashes = pd.util.hash_pandas_object(table[names], index=False)
    return hashlib.sha256(hashes.to_numpy().tobytes()).hexdigest()[:16]


def _create(table, source, store, chunk):
    """The Zarr group, new or checked to be of the same work."""
    import zarr

    attrs = {**source.attrs(), "table": fingerprint(table), "chunk": chunk,
             "table_source": str(table.attrs.get("source", "unknown"))}
    if (store / "zarr.json").exists():
        group = zarr.open_group(store, mode="r+")
        other = {name: (group.attrs.get(name), value)
                 for name, value in attrs.items()
                 if group.attrs.get(name) != value}
        if other:
            told = "; ".join(f"{name} {was!r}, now {now!r}"
                             for name, (was, now) in other.items())
            raise ValueError(
                f"'{store}' was made for other work ({told}). Choose "
                "another store, or delete this one.")
        return group
    temporary = store.with_name(f".{store.name}.part")
    _remove(temporary)
    _allocate(zarr.open_group(temporary, mode="w"), table, attrs, chunk)
    temporary.rename(store)
    return zarr.open_group(store, mode="r+")


def _remove(folder: Path) -> None:
    import shutil

    if folder.exists():
        shutil.rmtree(folder)


def _allocate(group, table, attrs, chunk) -> None:
    """Declare the arrays of a cube; nothing is stored for a pending chunk."""
    group.attrs.update(attrs)
    n = len(table)
    data = {
        "reflectance": (("sample", "month", "band", "y", "x"),
                        (n, MONTHS, len(BAND_NAMES), PATCH, PATCH),
                        "uint16", NODATA,
                        {"long_name": "surface reflectance",
                         "units": "1e-4"}),
        "environment": (("sample", "variable"), (n, len(VARIABLES)),
                        "float32", np.nan,
                        {"long_name": "environment as stored; true value = "
                                      "stored × scale"}),
        "status": (("sample",), (n,), "uint8", PENDING,
                   {"flag_values": [0, 1, 2, 3],
                    "flag_meanings": "pending ok no_imagery failed"}),
    }
    for name, (dims, shape, dtype, fill, about) in data.items():
        group.create_array(
            name, shape=shape, chunks=(chunk, *shape[1:]), dtype=dtype,
            fill_value=fill, compressors=None, dimension_names=dims,
            attributes=about)
    coordinates = {
        "sample": ("sample", table["gbifID"].to_numpy(),
                   {"long_name": "gbifID"}),
        "month": ("month", np.arange(1, MONTHS + 1), {}),
        "band": ("band", _text(BAND_NAMES), {}),
        "variable": ("variable", _text(VARIABLE_NAMES), {}),
        "unit": ("variable", _text([v.unit for v in VARIABLES]), {}),
        "scale": ("variable", np.array([v.scale for v in VARIABLES]), {}),
        "y": ("y", -_OFFSETS, {"units": "m", "long_name": "northing"}),
        "x": ("x", _OFFSETS, {"units": "m", "long_name": "easting"}),
    }
    for name, (dim, values, about) in coordinates.items():
        group.create_array(name, data=values, dimension_names=(dim,),
                           attributes=about)
    group["reflectance"].attrs["coordinates"] = "unit scale"


def _text(values) -> np.ndarray:
    return np.array(list(values), dtype=np.dtypes.StringDType())


def _fill(table, source, group, store, chunk, workers, max_failed, progress):
    status = group["status"][:]
    starts = [start for start in range(0, len(table), chunk)
              if np.isin(status[start:start + chunk],
                         (PENDING, FAILED)).any()]
    failures: list[dict] = []
    done = len(table) - sum(min(chunk, len(table) - start)
                            for start in starts)
    limit = max(max_failed * len(table), 1)

    def work(start: int) -> tuple[int, Pixels]:
        rows = table.iloc[start:start + chunk]
        found = source.fetch(rows)
        check_images(found.reflectance, where=f"source {source.name!r}")
        check_environment(found.environment, where=f"source {source.name!r}")
        stop = start + len(rows)
        group["reflectance"][start:stop] = found.reflectance
        group["environment"][start:stop] = found.environment
        group["status"][start:stop] = found.status  # last: marks the chunk
        return start, found

    with (ThreadPoolExecutor(workers) as pool,
          tqdm(total=len(table), initial=done, desc="pixels", unit="sample",
               disable=not progress) as bar):
        pending = [pool.submit(work, start) for start in starts]
        try:
            for future in as_completed(pending):
                start, found = future.result()
                failures += _failures(table, start, found)
                bar.update(len(found.status))
                if len(failures) > limit:
                    raise RuntimeError(
                        f"{len(failures)} samples failed, the first: "
                        f"{failures[0]['message']}. Listed in "
                        f"'{store}.failures.csv'; mend the cause and call "
                        "again, only they are tried.")
        finally:
            for future in pending:
                future.cancel()
            path = Path(f"{store}.failures.csv")
            if failures:
                pd.DataFrame(failures).to_csv(path, index=False)
            else:
                path.unlink(missing_ok=True)


def _failures(table, start, found) -> list[dict]:
    rows = np.flatnonzero(found.status == FAILED)
    told = list(found.messages) + ["no reason given"] * len(rows)
    return [{"gbifID": int(table["gbifID"].iloc[start + row]),
             "message": message}
            for row, message in zip(rows, told, strict=False)]


def open(store: str | Path, *, allow_incomplete: bool = False) -> xr.Dataset:
    """Open a cube and check that it is one.

    Parameters
    ----------
    store : path
    allow_incomplete : bool
        Accept samples that are still pending (status 0).

    Returns
    -------
    xarray.Dataset
        ``reflectance (sample, month, band, y, x)`` uint16, ``environment
        (sample, variable)`` float32, ``status (sample)`` uint8; read when
        used.
    """
    store = Path(store)
    if not (store / "zarr.json").exists():
        raise FileNotFoundError(f"no cube at '{store}'. Make one with "
                                "pixels.download (chapter 02).")
    cube = xr.open_zarr(store, mask_and_scale=False, consolidated=False,
                        chunks=None)
    for name in ("reflectance", "environment", "status"):
        if name not in cube:
            raise ValueError(f"'{store}' has no variable {name!r}: it is "
                             "not a cube of this project.")
    check_images(cube["reflectance"], where=f"cube '{store}'")
    check_environment(cube["environment"], where=f"cube '{store}'")
    for name, expected in (("band", BAND_NAMES),
                           ("variable", VARIABLE_NAMES)):
        found = tuple(cube[name].to_numpy())
        if found != expected:
            raise ValueError(f"cube '{store}' has {name}s {found}, expected "
                             f"{expected}. Write it again in this order.")
    pending = int((cube["status"] == PENDING).sum())
    if pending and not allow_incomplete:
        raise ValueError(
            f"cube '{store}' is not finished: {pending} of "
            f"{cube.sizes['sample']} samples are pending. Call "
            "pixels.download again, or open with allow_incomplete=True.")
    return cube


def counts(cube: xr.Dataset) -> pd.Series:
    """Number of samples by status."""
    names = {PENDING: "pending", OK: "ok", 2: "no imagery", FAILED: "failed"}
    status = pd.Series(cube["status"].to_numpy()).map(names)
    return status.value_counts()
