"""The cube: one Zarr folder with the pixels and variables of a table.

What the arrays are called, how they are cut, which row is of which record,
and how a reader finds out that something is missing or damaged. Each chunk
ends with its CRC-32C, and the description in ``zarr.json`` with a
fingerprint of itself. Filled by :mod:`geotree.pixels.download`.
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from geotree import checks, files
from geotree.network import redact
from geotree.sources import FAILED, NO_IMAGERY, OK, PENDING
from geotree.variables import (
    BAND_NAMES,
    MONTHS,
    NODATA,
    PATCH,
    REFLECTANCE_SCALE,
    VARIABLE_NAMES,
    VARIABLES,
)

DIMENSIONS = ("sample", "month", "band", "y", "x")
_OFFSETS = np.array([-20.0, -10, 0, 10, 20])  # m from the occurrence
# array -> dimensions, type, value of what is not stored, attributes
_DATA = {
    "reflectance": (DIMENSIONS, "uint16", NODATA, {
        "long_name": "surface reflectance", "units": "1",
        "scale": REFLECTANCE_SCALE, "nodata": NODATA}),
    "environment": (("sample", "variable"), "float32", np.nan, {
        "long_name": "environment as stored; true value = stored × scale, "
                     "in unit", "coordinates": "unit scale"}),
    "status": (("sample",), "uint8", PENDING, {
        "flag_values": [PENDING, OK, NO_IMAGERY, FAILED],
        "flag_meanings": "pending ok no_imagery failed"})}
_NOBODY = np.iinfo(np.int64).min  # the id of a row whose record is not known
_ROWS = {"sample": ("int64", _NOBODY, {"long_name": "gbifID"}),
         "latitude": ("float64", np.nan, {"units": "degrees_north"}),
         "longitude": ("float64", np.nan, {"units": "degrees_east"}),
         "year": ("int64", 0, {"long_name": "year of the record"})}
_TEXT = ("title", "table_source", "date", "seal")  # no identity
_NEAR = 1e-6  # °, 0.1 m


def adopt(store: Path, table: pd.DataFrame, attrs: dict, *, chunk: int):
    """The cube of a table and source: made, grown or mended as it needs.

    Parameters
    ----------
    table : DataFrame of N rows
        Validated occurrence table.
    attrs : dict
        Provenance of the pixels, kept with the cube.
    chunk : int
        Samples a chunk of a new cube.

    Returns
    -------
    group : zarr.Group
    rows : (N,) int64
        Which row of the cube is of which row of the table. Records that
        moved, and what was in damaged chunks, are pending again.

    Raises
    ------
    ValueError
        Something else is there.
    """
    attrs = json.loads(json.dumps({
        **attrs, "table_source": table.attrs.get("source", "unknown")},
        default=str))
    attrs = {name: redact(value) if isinstance(value, str) else value
             for name, value in attrs.items()}
    if not (store / "zarr.json").exists():
        if store.exists() and (store.is_file() or any(store.iterdir())):
            raise ValueError(f"'{store}' exists and is no cube. Choose "
                             "another path, or delete it.")
        with files.whole(store) as part:
            _allocate(part, attrs, chunk)
    about = _about(store)
    told = [f"{name} {about['attributes'].get(name)!r}, now {value!r}"
            for name, value in attrs.items() if name not in _TEXT
            and about["attributes"].get(name) != value]
    if told:
        raise ValueError(
            f"'{store}' was made for other work: {'; '.join(told)}. "
            "Choose another store, or delete this one.")
    _mend(store)
    wanted, known = _rows_of(table), _rows(store)
    at, moved = _match(wanted, known, about["attributes"])
    if 2 * moved.sum() > (at >= 0).sum():
        raise ValueError(
            f"'{store}' was made for other work: {moved.sum()} of "
            f"{(at >= 0).sum()} records of the same gbifID have another "
            "place or year there. Choose another store, or delete this one.")
    free = np.flatnonzero(known["sample"] == _NOBODY)
    fresh = np.flatnonzero(at < 0)
    size = len(known["sample"])
    more = max(len(fresh) - len(free), 0)
    at[fresh] = np.append(free, size + np.arange(more))[:len(fresh)]
    changed = moved | np.isin(np.arange(len(at)), fresh)
    old = at[changed & (at < size)]
    _put(array(_open(store), "status"), old, np.uint8(PENDING))
    if changed.any():
        _grow(store, about, size + more)
        group = _open(store, use_consolidated=False)
        for name, values in wanted.items():
            _put(array(group, name), at[changed], values[changed])
    about["attributes"]["table_source"] = attrs["table_source"]
    _seal(store, about)  # from here on the new rows are there
    return _open(store), at


def _open(store, **options):
    import zarr

    return zarr.open_group(store, mode="r+", zarr_format=3, **options)


def array(group, name: str):
    """An array of a cube that stores a chunk even if it is all missing."""
    return group[name].with_config({"write_empty_chunks": name != "status",
                                    "order": "C"})


def _put(target, rows: np.ndarray, values) -> None:
    """Write some rows of an array of one dimension."""
    if len(rows):
        span = slice(int(rows.min()), int(rows.max()) + 1)
        part = target[span]
        part[rows - span.start] = values
        target[span] = part


# Which row is of which record ---------------------------------------------


def _rows_of(table) -> dict[str, np.ndarray]:
    lat, lon = checks.places(lat=table["decimalLatitude"],
                             lon=table["decimalLongitude"], where="table")
    year = pd.to_numeric(table["year"], errors="coerce").fillna(0)
    return {"sample": table["gbifID"].to_numpy(np.int64), "latitude": lat,
            "longitude": lon, "year": year.to_numpy().astype(np.int64)}


def _rows(store) -> dict[str, np.ndarray]:
    group = _open(store)
    return {name: group[name][:] for name in _ROWS}


def _match(wanted, known, attrs):
    """Row of each record (-1: none), and whether its place is another."""
    there = np.flatnonzero(known["sample"] != _NOBODY)
    found = pd.Index(known["sample"][there]).get_indexer(wanted["sample"])
    at = np.where(found < 0, -1, np.append(there, -1)[found])
    gap = {name: np.append(known[name], 0)[at] - wanted[name]
           for name in ("latitude", "longitude", "year")}
    gap["longitude"] = (gap["longitude"] + 180) % 360 - 180
    other = ((np.abs(gap["latitude"]) > _NEAR)
             | (np.abs(gap["longitude"]) > _NEAR))
    if attrs.get("imagery_year", "own") == "own":
        other |= gap["year"] != 0
    return at, other & (at >= 0)


# The description ------------------------------------------------------------


def _allocate(path, attrs, chunk) -> None:
    """Declare the arrays of a cube without samples."""
    import zarr

    if "imagery_year" in attrs:  # archives of real imagery are reprocessed
        attrs = {**attrs, "date": time.strftime("%Y-%m-%d")}
    group = zarr.open_group(path, mode="w", attributes=attrs)
    sizes = {"sample": 0, "month": MONTHS, "band": len(BAND_NAMES),
             "variable": len(VARIABLES), "y": PATCH, "x": PATCH}
    layout = {"compressors": [zarr.codecs.ZstdCodec(level=1),
                              zarr.codecs.Crc32cCodec()]}
    rows = {name: (("sample",), *kind) for name, kind in _ROWS.items()}
    for name, (dims, dtype, fill, about) in {**_DATA, **rows}.items():
        shape = [sizes[dim] for dim in dims]
        group.create_array(
            name, shape=shape, chunks=(chunk, *shape[1:]), dtype=dtype,
            fill_value=fill, dimension_names=dims, attributes=about,
            **layout)
    for name, (dim, values, about) in {
            "month": ("month", range(1, MONTHS + 1), {}),
            "band": ("band", BAND_NAMES, {}),
            "variable": ("variable", VARIABLE_NAMES, {}),
            "unit": ("variable", [v.unit for v in VARIABLES], {}),
            "scale": ("variable", [v.scale for v in VARIABLES], {}),
            "y": ("y", _OFFSETS[::-1], {"units": "m",
                                        "long_name": "northing"}),
            "x": ("x", _OFFSETS, {"units": "m", "long_name": "easting"}),
            }.items():
        values = np.asarray(values)
        # zarr 3 has no stable fixed-width text.
        dtype = "string" if values.dtype.kind in "UO" else values.dtype
        group.create_array(
            name, shape=values.shape, chunks=values.shape, dtype=dtype,
            dimension_names=(dim,), attributes=about, **layout)[:] = (
                values.astype(object) if dtype == "string" else values)
    with warnings.catch_warnings():  # an extension that others may ignore
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(group.store)
    _seal(path, files.read_json(path / "zarr.json"))


def _grow(store, about, size) -> None:
    """Describe more samples, array by array; the cube's own comes later."""
    for name, one in about["consolidated_metadata"]["metadata"].items():
        if one["dimension_names"][0] == "sample":
            one["shape"][0] = size
        files.write(store / name / "zarr.json", json.dumps(one))


def _seal(store, about) -> None:
    about["attributes"].pop("seal", None)
    about["attributes"]["seal"] = files.fingerprint(about)
    files.write(store / "zarr.json", json.dumps(about))


def _about(store) -> dict:
    """The description of a cube, its seal unbroken."""
    about = files.read_json(store / "zarr.json", what="cube")
    attributes = about.get("attributes")
    seal = (attributes.pop("seal", None) if isinstance(attributes, dict)
            else None)
    if seal is None or files.fingerprint(about) != seal:
        raise ValueError(
            f"'{store / 'zarr.json'}' is not as pixels.download left it: "
            "damaged, or written by something else. Take it from a copy, or "
            "delete the cube and download it again. Datasets of other tools "
            "are opened with xarray.open_zarr.")
    return about


# What is missing or damaged -------------------------------------------------


def verify(store: str | Path, *, contents: bool = True) -> dict[str, int]:
    """Chunks of a cube that are missing or damaged.

    Parameters
    ----------
    contents : bool
        Read each chunk and compare its CRC-32C; else look whether it is
        there.

    Returns
    -------
    dict
        File, relative to the store -> number of the chunk of samples, or
        -1 for what describes bands, months and variables.

    Raises
    ------
    ValueError
        The description itself is damaged.
    """
    import google_crc32c

    store, lost = Path(store), {}
    arrays = _about(store)["consolidated_metadata"]["metadata"]
    filled: dict[int, bool] = {}  # chunk -> whether something was fetched

    def bad(path):
        try:
            data = path.read_bytes() if contents else b""
        except FileNotFoundError:
            return True
        crc = google_crc32c.value(data[:-4]).to_bytes(4, "little")
        return not path.exists() or contents and data[-4:] != crc

    for name in ("status", *(one for one in arrays if one != "status")):
        size = arrays[name]["shape"][0]
        cut = arrays[name]["chunk_grid"]["configuration"]["chunk_shape"]
        zeros = ["0"] * (len(cut) - 1)
        rows = arrays[name]["dimension_names"][0] == "sample"
        for number in range(-(-size // cut[0])):
            path = store.joinpath(name, "c", str(number), *zeros)
            if name == "status":
                filled[number] = path.exists()
            if (name not in _DATA or filled[number]) and bad(path):
                lost[str(path.relative_to(store))] = number if rows else -1
    return lost


def _mend(store) -> None:
    """Make the samples of damaged chunks pending again."""
    lost = verify(store)
    for path, number in lost.items():
        if number < 0:
            raise ValueError(
                f"'{store / path}' is missing or damaged: it names the "
                "bands, months or variables. Take it from a copy, or delete "
                "the cube and download it again.")
    group = _open(store)
    for number in set(lost.values()):
        (store / "status" / "c" / str(number)).unlink(missing_ok=True)
        whole = group["status"].chunks[0]
        span = slice(number * whole,
                     min((number + 1) * whole, group["status"].shape[0]))
        if any(path.split("/")[0] in _ROWS for path, one in lost.items()
               if one == number):  # nobody knows whose the samples are
            for name, (dtype, nothing, _) in _ROWS.items():
                (store / name / "c" / str(number)).unlink(missing_ok=True)
                array(group, name)[span] = np.full(
                    span.stop - span.start, nothing, dtype)


# Readers --------------------------------------------------------------------


def open(store: str | Path, *, table: pd.DataFrame | None = None,
         allow_incomplete: bool = False) -> xr.Dataset:
    """Open a cube and check that it is one, and whole.

    Parameters
    ----------
    store : path
    table : DataFrame, optional
        Give the samples of this table, in its order; default: all.
    allow_incomplete : bool
        Accept samples that are still pending (status 0).

    Returns
    -------
    xarray.Dataset
        ``reflectance (sample, month, band, y, x)`` uint16, ``environment
        (sample, variable)`` float32, ``status (sample)`` uint8; read when
        used. Reading a damaged chunk raises ``ValueError``.

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    ValueError
        It is no cube, of another grid, damaged, or not finished.
    """
    store = Path(store)
    if not (store / "zarr.json").exists():
        raise FileNotFoundError(f"no cube at '{store}'. Make one with "
                                "pixels.download (chapter 02).")
    again = ("Call pixels.download again with its table and source: it "
             "fetches what is missing.")
    lost = verify(store, contents=False)
    if lost:
        raise ValueError(f"cube '{store}' lacks {len(lost)} chunks, the "
                         f"first is '{next(iter(lost))}'. {again}")
    cube = xr.open_zarr(store, mask_and_scale=False, chunks=None,
                        consolidated=True, zarr_format=3)
    del cube.attrs["seal"]
    cube = cube.set_coords(["latitude", "longitude", "year"])
    check(cube, where=f"cube '{store}'")
    if table is None:
        at = np.flatnonzero(cube["sample"] != _NOBODY)
    else:
        at, moved = _match(_rows_of(table), _rows(store), cube.attrs)
        absent = moved | (at < 0)
        if absent.any():
            raise ValueError(f"cube '{store}' lacks {absent.sum()} of the "
                             f"{len(at)} records of the table. {again}")
    if not np.array_equal(at, np.arange(cube.sizes["sample"])):
        cube = cube.isel(sample=at)
    pending = int((cube["status"] == PENDING).sum())
    if pending and not allow_incomplete:
        raise ValueError(
            f"cube '{store}' is not finished: {pending} of {len(at)} samples "
            f"are pending. {again} Or open it with allow_incomplete=True.")
    return cube


def check(cube: xr.Dataset, *, where: str = "cube") -> None:
    """Raise ``ValueError`` unless a dataset has the grid of a cube."""
    absent = [name for name in (*_DATA, "band", "variable")
              if name not in cube]
    if absent:
        raise ValueError(f"{where} has no variable {', '.join(absent)}: it "
                         "was not made by pixels.download.")
    sizes = {"reflectance": (MONTHS, len(BAND_NAMES), PATCH, PATCH),
             "environment": (len(VARIABLES),), "status": ()}
    for name, (dims, dtype, *_) in _DATA.items():
        one = cube[name]
        if one.dims != dims or one.dtype != dtype:
            raise ValueError(
                f"{where}: {name} has dimensions {one.dims} and is "
                f"{one.dtype}, expected {dims} and {dtype}. "
                "variables.digital_numbers makes digital numbers of "
                "reflectance and of numbers with NaN.")
        if one.shape[1:] != sizes[name]:
            raise ValueError(
                f"{where}: {name} has shape {one.shape}, expected (samples, "
                "12 months, 10 bands B2 … B12, 5, 5) pixels and (samples, "
                "27) variables.")
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
