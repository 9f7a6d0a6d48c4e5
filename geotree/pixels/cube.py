"""The cube: one Zarr folder with the pixels and variables of a table.

What the arrays are called, how they are cut, which row is of which record,
and how a reader finds out that something is missing or damaged. Each chunk
ends with its CRC-32C, and the description in ``zarr.json`` with a
fingerprint of itself. Made by :mod:`geotree.pixels.store`, filled by
:mod:`geotree.pixels.download`.
"""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from geotree import checks, files, globe, variables
from geotree.data import load
from geotree.sources import FAILED, NO_IMAGERY, OK, PENDING

SIZES = {"month": variables.MONTHS, "band": len(variables.BANDS),
         "y": variables.PATCH, "x": variables.PATCH,
         "variable": len(variables.VARIABLES)}
# Arrays of pixels and variables; of which record each row is; axes. Each
# has dimensions, a type, the value of what is not stored, and attributes.
DATA, ROWS, AXES = (load("cube.json")[part]
                    for part in ("data", "rows", "axes"))
_NAMES = {*DATA, *ROWS, *AXES, "band", "variable", "unit", "scale"}
NOBODY = ROWS["sample"]["fill"]  # the id of a row whose record is not known
_MOST = 10**6  # chunks missing from what was a cube, or samples in a chunk
_NEAR = 1e-6  # °, 0.1 m


def nothing(one: dict):
    """What an array holds where nothing is stored."""
    return np.dtype(one["dtype"]).type(one["fill"])


# Which row is of which record ---------------------------------------------


def rows_of(table) -> dict[str, np.ndarray]:
    """The same of each row of a table."""
    lat, lon = globe.places_of(checks.columns(table, ["gbifID", "year"]))
    year = pd.to_numeric(table["year"], errors="coerce").fillna(0)
    return {"sample": table["gbifID"].to_numpy(np.int64), "latitude": lat,
            "longitude": lon, "year": year.to_numpy().astype(np.int64)}


def rows(store) -> dict[str, np.ndarray]:
    """Id, place and year of each row of a cube."""
    import zarr

    from geotree.pixels.chunks import Chunks

    group = zarr.open_group(Chunks(store), mode="r", zarr_format=3)
    return {name: group[name][:] for name in ROWS}


def match(wanted, known, attrs):
    """Row of each record (-1: none), and whether its place is another."""
    there = np.flatnonzero(known["sample"] != NOBODY)
    checks.refuse(pd.Index(known["sample"][there]).duplicated(),
                  "records of the cube are there again")
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


def folder(store: str | Path) -> Path:
    """The folder of a cube, or an error that says what is there."""
    store = files.named(store)
    if not (store / "zarr.json").exists():
        there = (", but a file" if store.is_file() else
                 ", but a folder of something else" if store.exists() else "")
        raise FileNotFoundError(f"no cube at '{store}'{there}. Make one with "
                                "pixels.download (chapter 02).")
    return store


def seal(store: Path, about: dict) -> None:
    """Write the description of a cube with its fingerprint."""
    about["attributes"].pop("seal", None)
    about["attributes"]["seal"] = files.fingerprint(about)
    files.write(store / "zarr.json", json.dumps(about))


def about(store: Path) -> dict:
    """The description of a cube, its seal unbroken."""
    found = files.read_json(store / "zarr.json", what="cube")
    try:
        mark = found["attributes"].pop("seal")
        sound = files.fingerprint(found) == mark and _is_cube(store, found)
    except (ArithmeticError, AttributeError, LookupError, TypeError,
            ValueError):  # another tool's, or of no sense to zarr
        sound = False
    if not sound:
        raise ValueError(
            f"'{store / 'zarr.json'}' is not as pixels.download left it: "
            "damaged (take a copy, or delete it and download it again), or of "
            "another tool (open it with xarray.open_zarr).")
    return found


def _is_cube(store: Path, about: dict) -> bool:
    """Whether a description tells of a cube's arrays, as zarr reads them."""
    import zarr

    arrays = dict(zarr.open_group(store, mode="r", zarr_format=3,
                                  use_consolidated=True).arrays())
    by_sample = [arrays[name] for name in (*DATA, *ROWS) if name in arrays]
    return (about["consolidated_metadata"]["metadata"].keys()
            == arrays.keys() <= _NAMES
            and len({(one.shape[0], one.chunks[0]) for one in by_sample}) == 1
            and all(one.chunks[0] <= _MOST and one.chunks[1:] == one.shape[1:]
                    and None not in one.metadata.dimension_names
                    for one in arrays.values()))


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
    FileNotFoundError
        Nothing is there.
    ValueError
        The description itself is damaged.
    """
    from geotree.pixels.chunks import is_sound

    store, lost = folder(store), {}
    arrays = about(store)["consolidated_metadata"]["metadata"]
    # Chunks of samples without a status are pending, whatever they hold.
    begun = sorted(int(path.name) for path in store.glob("status/c/*")
                   if path.name.isdecimal())
    for name, one in arrays.items():
        cut = one["chunk_grid"]["configuration"]["chunk_shape"]
        count = -(-one["shape"][0] // cut[0])
        for number in begun if name in DATA else range(count):
            path = f"{name}/c/{number}" + "/0" * (len(cut) - 1)
            try:
                good = number >= count or (
                    is_sound((store / path).read_bytes()) if contents
                    else os.path.getsize(f"{store}/{path}") > 0)
            except FileNotFoundError:
                good = False
            if not good:
                lost[path] = (
                    number if one["dimension_names"][0] == "sample" else -1)
            if len(lost) > _MOST:
                raise ValueError(
                    f"'{store / 'zarr.json'}' tells of {count:,} chunks of "
                    f"{name}, of which over {_MOST:,} are not there. Take a "
                    "copy of the cube, or delete and download it again.")
    return lost


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
        used. Reading a chunk that is damaged or gone, or whose rows are of
        other records by then, raises ``ValueError``.

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    ValueError
        It is no cube, of another grid, damaged, or not finished.
    """
    from geotree.pixels.chunks import Chunks

    checks.one_of(allow_incomplete, (True, False), name="allow_incomplete")
    store = folder(store)
    again = ("Call pixels.download again with its table and source: it "
             "fetches what is missing.")
    lost = verify(store, contents=False)
    if lost:
        raise ValueError(f"cube '{store}' lacks {len(lost)} chunks, the "
                         f"first is '{next(iter(lost))}'. {again}")
    cube = xr.open_zarr(Chunks(store), mask_and_scale=False, chunks=None,
                        consolidated=True, zarr_format=3)
    for name in ("seal", "rows"):  # of the files, not of the pixels
        cube.attrs.pop(name, None)
    cube = cube.set_coords(["latitude", "longitude", "year"])
    check(cube, where=f"cube '{store}'")
    if table is None:
        at = np.flatnonzero(cube["sample"] != NOBODY)
    else:
        at, moved = match(rows_of(table), rows(store), cube.attrs)
        checks.refuse(moved | (at < 0), "records of the table are not in "
                      f"cube '{store}'", again)
    if not np.array_equal(at, np.arange(cube.sizes["sample"])):
        cube = cube.isel(sample=at)
    pending = int((cube["status"] == PENDING).sum())
    if pending and not allow_incomplete:
        raise ValueError(
            f"cube '{store}' is not finished: {pending} of {len(at)} samples "
            f"are pending. {again} Or open it with allow_incomplete=True.")
    cube.encoding["source"] = str(store)
    return cube


def check(cube: xr.Dataset, *, where: str = "cube") -> None:
    """Raise ``ValueError`` unless a dataset has the grid of a cube."""
    checks.instance(cube, xr.Dataset, name=where, see="pixels.open(…)")
    absent = [name for name in (*DATA, "band", "variable") if name not in cube]
    if absent:
        raise ValueError(f"{where} has no variable {', '.join(absent)}: it "
                         "was not made by pixels.download.")
    for name, about in DATA.items():
        one = cube[name]
        expected = {"sample": one.shape[0]} | {
            dim: SIZES[dim] for dim in about["dims"][1:]}
        if one.dtype != about["dtype"] or list(
                one.sizes.items()) != list(expected.items()):
            raise ValueError(
                f"{where}: {name} is {one.dtype} of {dict(one.sizes)}, "
                f"expected {about['dtype']} of {expected}. "
                "variables.digital_numbers makes digital numbers.")
    variables.agree(cube["reflectance"].attrs)
    for name, expected in (("band", variables.BAND_NAMES),
                           ("variable", variables.VARIABLE_NAMES),
                           *((name, tuple(one["values"]))
                             for name, one in AXES.items())):
        found = tuple(cube[name].to_numpy().tolist())
        if found != expected and (name in cube.coords or name not in AXES):
            raise ValueError(
                f"{where} has the {name}s {checks.few(found, 27)}, expected "
                f"{checks.few(expected, 27)}, in this order. Write it again.")


def counts(cube: xr.Dataset) -> pd.Series:
    """Number of samples by status."""
    checks.instance(cube, xr.Dataset, name="cube", see="pixels.open(…)")
    names = {PENDING: "pending", OK: "ok", NO_IMAGERY: "no imagery",
             FAILED: "failed"}
    return pd.Series(cube["status"].to_numpy()).map(names).value_counts()
