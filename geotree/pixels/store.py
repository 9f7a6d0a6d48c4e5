"""The making of a cube: declared, grown with its table, mended.

What a cube is, :mod:`geotree.pixels.cube` tells. A cube is described before
it is filled, and grows array by array; its own description comes last, so
that a run that is killed leaves the cube that was there.
"""

import json
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import files
from geotree.network import redact
from geotree.pixels import cube
from geotree.sources import PENDING
from geotree.variables import BAND_NAMES, VARIABLE_NAMES, VARIABLES

_TEXT = ("title", "table_source", "date", "seal", "rows")  # no identity


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
    _make(store, attrs := _plain(table, attrs), chunk)
    about = cube.about(store)
    there = about["attributes"]
    _refuse(store, [
        f"{name} {there.get(name)!r}, now {value!r}" for name, value in
        attrs.items() if name not in _TEXT and there.get(name) != value])
    _mend(store)
    wanted, known = cube.rows_of(table), cube.rows(store)
    at, moved = cube.match(wanted, known, there)
    kept = int((at >= 0).sum())
    _refuse(store, [
        f"{moved.sum()} of {kept} records of the same gbifID have another "
        "place or year there"] if 2 * moved.sum() > kept else [])
    size, fresh = len(known["sample"]), np.flatnonzero(at < 0)
    free = np.flatnonzero(known["sample"] == cube.NOBODY)
    more = max(len(fresh) - len(free), 0)
    at[fresh] = np.append(free, size + np.arange(more))[:len(fresh)]
    changed = moved.copy()
    changed[fresh] = True
    old = at[changed & (at < size)]
    put(array(_open(store), "status"), old, np.uint8(PENDING))
    if changed.any():
        _grow(store, about, size + more)
        group = _open(store, use_consolidated=False)
        for name, values in wanted.items():
            put(array(group, name), at[changed], values[changed])
    if "rows" not in there or moved.any() or len(free):
        there["rows"] = files.fingerprint(there.get("rows"), {
            name: value for name, value in there.items()
            if name not in _TEXT}, [*wanted.values()])
    there["table_source"] = attrs["table_source"]
    cube.seal(store, about)  # from here on the new rows are there
    return _open(store), at


def _plain(table, attrs) -> dict:
    """Provenance as JSON gives it back, without secrets."""
    attrs = json.loads(json.dumps({
        **attrs, "table_source": table.attrs.get("source", "unknown")},
        default=str))
    return {name: redact(value) if isinstance(value, str) else value
            for name, value in attrs.items()}


def _refuse(store, told: list[str]) -> None:
    if told:
        raise ValueError(
            f"'{store}' was made for other work: {'; '.join(told)}. Choose "
            "another store, or delete this one.")


def _open(store, **options):
    import zarr

    return zarr.open_group(store, mode="r+", zarr_format=3, **options)


def array(group, name: str):
    """An array of a cube that stores a chunk even if it is all missing."""
    return group[name].with_config({"write_empty_chunks": name != "status",
                                    "order": "C"})


def put(target, rows: np.ndarray, values) -> None:
    """Write some rows of an array; others stay as they are."""
    if len(rows):
        start, stop = int(rows.min()), int(rows.max()) + 1
        part = (np.empty((len(rows), *target.shape[1:]), target.dtype)
                if len(rows) == stop - start else target[start:stop])
        part[rows - start] = values
        target[start:stop] = part


def _make(store, attrs, chunk) -> None:
    """Declare the arrays of a cube without samples, unless there is one."""
    if (store / "zarr.json").exists():
        return
    if store.exists() and (store.is_file() or any(store.iterdir())):
        raise ValueError(f"'{store}' exists and is no cube. Choose another "
                         "path, or delete it.")
    with files.whole(store) as part:
        _allocate(part, attrs, chunk)


def _allocate(path, attrs, chunk) -> None:
    """Declare the arrays of a cube without samples."""
    import zarr

    if "imagery_year" in attrs:  # archives of real imagery are reprocessed
        attrs = {**attrs, "date": time.strftime("%Y-%m-%d")}
    group = zarr.open_group(path, mode="w", attributes=attrs)
    layout = {"compressors": [zarr.codecs.ZstdCodec(level=1),
                              zarr.codecs.Crc32cCodec()]}
    for name, one in {**cube.DATA, **cube.ROWS}.items():
        shape = [cube.SIZES[dim] for dim in one["dims"][1:]]
        group.create_array(
            name, shape=(0, *shape), chunks=(chunk, *shape),
            dtype=one["dtype"], fill_value=cube.nothing(one),
            dimension_names=one["dims"], attributes=one["attributes"],
            **layout)
    for name, one in (cube.AXES | {name: {
            "dims": [dim], "values": values, "attributes": {}}
            for name, dim, values in (
                ("band", "band", BAND_NAMES),
                ("variable", "variable", VARIABLE_NAMES),
                ("unit", "variable", [v.unit for v in VARIABLES]),
                ("scale", "variable", [v.scale for v in VARIABLES]))}
            ).items():
        values = np.asarray(one["values"])
        if values.dtype.kind == "U":  # zarr 3 has no stable text
            values = values.astype(object)
        group.create_array(
            name, shape=values.shape, chunks=values.shape,
            dtype="string" if values.dtype == object else values.dtype,
            dimension_names=one["dims"], attributes=one["attributes"],
            **layout)[:] = values
    with warnings.catch_warnings():  # an extension that others may ignore
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(group.store)
    cube.seal(path, files.read_json(path / "zarr.json"))


def _grow(store, about, size) -> None:
    """Describe more samples, array by array; the cube's own comes later."""
    for name, one in about["consolidated_metadata"]["metadata"].items():
        if one["dimension_names"][0] == "sample":
            one["shape"][0] = size
        files.write(store / name / "zarr.json", json.dumps(one))


def _mend(store) -> None:
    """Make the samples of damaged chunks pending again."""
    lost = cube.verify(store)
    for path, number in lost.items():
        if number < 0:
            raise ValueError(
                f"'{store / path}', of the axes, is missing or damaged. Take "
                "it from a copy, or delete the cube and download it again.")
    group = _open(store)
    size, whole = group["status"].shape[0], group["status"].chunks[0]
    for path, number in lost.items():
        (store / "status" / "c" / str(number)).unlink(missing_ok=True)
        (store / path).unlink(missing_ok=True)
        if path.split("/")[0] in cube.ROWS:  # nobody knows whose these are
            for name, one in cube.ROWS.items():
                (store / name / "c" / str(number)).unlink(missing_ok=True)
                span = slice(number * whole, min((number + 1) * whole, size))
                array(group, name)[span] = np.full(
                    span.stop - span.start, cube.nothing(one))
