"""The cube: one Zarr folder with the pixels and variables of a table.

What the arrays are called, how they are cut and how a reader checks that a
folder is one. Filled by :mod:`geotree.pixels`; explained in chapter 02.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from geotree.sources import FAILED, NO_IMAGERY, OK, PENDING
from geotree.variables import (
    BAND_NAMES,
    MONTHS,
    NODATA,
    PATCH,
    REFLECTANCE_SCALE,
    VARIABLE_NAMES,
    VARIABLES,
    check_environment,
    check_images,
)

DIMENSIONS = ("sample", "month", "band", "y", "x")
_OFFSETS = np.array([-20.0, -10, 0, 10, 20])  # m from the occurrence
# What decides the pixels of a sample, and so the identity of a cube.
_IDENTITY = ("gbifID", "decimalLatitude", "decimalLongitude", "year",
             "species", "genus", "family", "leafType")


def create(store: Path, table: pd.DataFrame, attrs: dict, *, chunk: int):
    """The Zarr group of a cube, new or checked to be of the same work.

    Parameters
    ----------
    table : DataFrame
        Validated occurrence table, one row a sample.
    attrs : dict
        Provenance of the pixels, kept with the cube.
    chunk : int
        Samples a chunk.

    Raises
    ------
    ValueError
        Something else is there.
    """
    import zarr

    attrs = {**attrs, "table": fingerprint(table), "chunk": chunk,
             "table_source": str(table.attrs.get("source", "unknown"))}
    attrs = json.loads(json.dumps(attrs, default=str))
    if (store / "zarr.json").exists():
        group = zarr.open_group(store, mode="r+")
        told = [f"{name} {group.attrs.get(name)!r}, now {value!r}"
                for name, value in attrs.items()
                if group.attrs.get(name) != value]
        if told:
            raise ValueError(
                f"'{store}' was made for other work: {'; '.join(told)}. "
                "Choose another store, or delete this one.")
        return group
    if store.exists() and (store.is_file() or any(store.iterdir())):
        raise ValueError(f"'{store}' exists and is no cube. Choose another "
                         "path, or delete it.")
    part = store.with_name(f".{store.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    _allocate(part, table, attrs, chunk)
    os.replace(part, store)
    return zarr.open_group(store, mode="r+")


def _allocate(path, table, attrs, chunk) -> None:
    """Declare the arrays of a cube; nothing is stored for a pending chunk."""
    import zarr

    if "imagery_year" in attrs:  # archives of real imagery are reprocessed
        attrs = {**attrs, "date": time.strftime("%Y-%m-%d")}
    group = zarr.open_group(path, mode="w", attributes=attrs)
    n = len(table)
    data = {
        "reflectance": (DIMENSIONS, (n, MONTHS, len(BAND_NAMES), PATCH, PATCH),
                        "uint16", NODATA,
                        {"long_name": "surface reflectance",
                         "units": "1", "scale": REFLECTANCE_SCALE,
                         "nodata": NODATA}),
        "environment": (("sample", "variable"), (n, len(VARIABLES)),
                        "float32", np.nan,
                        {"long_name": "environment as stored; true value = "
                                      "stored × scale, in unit"}),
        "status": (("sample",), (n,), "uint8", PENDING,
                   {"flag_values": [PENDING, OK, NO_IMAGERY, FAILED],
                    "flag_meanings": "pending ok no_imagery failed"}),
    }
    for name, (dims, shape, dtype, fill, about) in data.items():
        group.create_array(
            name, shape=shape, chunks=(chunk, *shape[1:]), dtype=dtype,
            fill_value=fill, dimension_names=dims, attributes=about,
            compressors=zarr.codecs.ZstdCodec(level=1))
    coordinates = {
        "sample": ("sample", table["gbifID"], {"long_name": "gbifID"}),
        "month": ("month", range(1, MONTHS + 1), {}),
        "band": ("band", BAND_NAMES, {}),
        "variable": ("variable", VARIABLE_NAMES, {}),
        "unit": ("variable", [v.unit for v in VARIABLES], {}),
        "scale": ("variable", [v.scale for v in VARIABLES], {}),
        "y": ("y", _OFFSETS[::-1], {"units": "m", "long_name": "northing"}),
        "x": ("x", _OFFSETS, {"units": "m", "long_name": "easting"}),
    }
    for name, (dim, values, about) in coordinates.items():
        values = np.asarray(values)
        # zarr 3 has no stable fixed-width text.
        dtype = "string" if values.dtype.kind in "UO" else values.dtype
        array = group.create_array(
            name, shape=values.shape, dtype=dtype, dimension_names=(dim,),
            attributes=about)
        array[:] = values.astype(object) if dtype == "string" else values
    group["environment"].attrs["coordinates"] = "unit scale"
    with warnings.catch_warnings():  # an extension that others may ignore
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(group.store)


def fingerprint(table: pd.DataFrame) -> str:
    """Hash of what decides the pixels: ids, places, names, years."""
    digest = hashlib.sha256()
    for name in _IDENTITY:
        values = table[name].to_numpy()
        digest.update(values.tobytes() if values.dtype.kind in "if"
                      else "\n".join(map(str, values)).encode())
    return digest.hexdigest()[:16]


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

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    ValueError
        It is no cube, of another grid, or not finished.
    """
    store = Path(store)
    if not (store / "zarr.json").exists():
        raise FileNotFoundError(f"no cube at '{store}'. Make one with "
                                "pixels.download (chapter 02).")
    cube = xr.open_zarr(store, mask_and_scale=False, chunks=None)
    check(cube, where=f"cube '{store}'")
    pending = int((cube["status"] == PENDING).sum())
    if pending and not allow_incomplete:
        raise ValueError(
            f"cube '{store}' is not finished: {pending} of "
            f"{cube.sizes['sample']} samples are pending. Call "
            "pixels.download again, or open with allow_incomplete=True.")
    return cube


def check(cube: xr.Dataset, *, where: str = "cube") -> None:
    """Raise ``ValueError`` unless a dataset has the grid of a cube."""
    absent = [name for name in ("reflectance", "environment", "status",
                                "band", "variable") if name not in cube]
    if absent:
        raise ValueError(f"{where} has no variable {', '.join(absent)}: it "
                         "was not made by pixels.download.")
    dims = cube["reflectance"].dims
    if dims != DIMENSIONS:
        raise ValueError(f"{where} has dimensions {dims}, expected "
                         f"{DIMENSIONS}.")
    check_images(cube["reflectance"], where=where)
    check_environment(cube["environment"], where=where)
    for name, expected in (("band", BAND_NAMES),
                           ("variable", VARIABLE_NAMES)):
        found = tuple(cube[name].to_numpy().tolist())
        if found != expected:
            raise ValueError(f"{where} has the {name}s {', '.join(found)}, "
                             f"expected {', '.join(expected)}, in this "
                             "order. Write it again.")


def counts(cube: xr.Dataset) -> pd.Series:
    """Number of samples by status."""
    names = {PENDING: "pending", OK: "ok", NO_IMAGERY: "no imagery",
             FAILED: "failed"}
    return pd.Series(cube["status"].to_numpy()).map(names).value_counts()
