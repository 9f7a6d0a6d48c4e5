"""Records in Parquet files: GBIF's monthly snapshots and downloads.

DuckDB reads the columns that are needed and nothing else, from a folder or
from an object store (for which it fetches its extension ``httpfs``).
"""

from __future__ import annotations

import os
from glob import escape
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from geotree import files
from geotree.network import ServiceError

# Each copy is the same; take the one near you. {month} is like 2026-10-01.
NEAREST = ("s3://gbif-open-data-eu-central-1/occurrence/2026-10-01/"
           "occurrence.parquet")
FILES = 64  # of some 2,800, read as one unit of work
COLUMNS = ("gbifID", "decimalLatitude", "decimalLongitude",
           "coordinateUncertaintyInMeters", "coordinatePrecision",
           "countryCode", "year", "datasetKey", "license", "speciesKey",
           "basisOfRecord", "establishmentMeans", "institutionCode", "issue")
# httpfs reads the region of a bucket from its settings.
_SETTINGS = "INSTALL httpfs; LOAD httpfs; SET s3_region='{}';"


def query(place: str, parts: Path, asked: dict
          ) -> tuple[pd.DataFrame, dict]:
    """Select the records of a request; one part on disk per few files.

    Parameters
    ----------
    place : str
        Folder or address of Parquet files with GBIF's lower-case columns.
    parts : path
        Folder for the parts that are done.
    asked : dict
        ``taxa``, ``years``.

    Raises
    ------
    OSError
        Nothing is there, or a file cannot be read. Parts that are done are
        kept.
    """
    import duckdb

    link = duckdb.connect()
    try:
        if place.startswith("s3://"):
            region = place.split("/")[2].removeprefix("gbif-open-data-")
            link.execute(_SETTINGS.format(region))
        found = link.execute("SELECT file FROM glob(?) ORDER BY file",
                             [f"{escape(place.rstrip('/'))}/**"]).fetchall()
    except duckdb.Error as error:
        raise ServiceError(
            5, f"cannot list '{place}': {_words(error)} Mind the network "
            "(DuckDB fetches its extension httpfs), or copy the files and "
            "give their folder") from error
    paths = [name for name, in found
             if os.path.basename(name)[:1] not in "._" and
             not name.endswith((".zip", ".json", ".txt", ".xml"))]
    if not paths:
        raise FileNotFoundError(f"no Parquet file at '{place}'. Give a "
                                "folder, or an s3:// address with a month.")
    link.register("wanted", pd.DataFrame(
        {"key": [str(key) for key in asked["taxa"]]}))
    groups = range(0, len(paths), FILES)
    for start in tqdm(groups, desc="files", disable=len(groups) < 2):
        part = parts / f"{start:06d}.parquet"
        if not part.exists():
            _select(link, paths[start:start + FILES], asked, part)
    frames = [pd.read_parquet(parts / f"{start:06d}.parquet")
              for start in groups]
    name = "/".join(place.rstrip("/").split("/")[-3:])
    return (pd.concat(frames, ignore_index=True),
            {"source": f"GBIF occurrence snapshot {name}"})


def _select(link, paths, asked, part):
    import duckdb

    columns = ", ".join(f'"{name.lower()}" AS "{name}"' for name in COLUMNS
                        if name != "issue")
    first, last = map(int, asked["years"])
    try:
        # GBIF writes some parts without a record and without a byte.
        filled = link.execute(
            "SELECT filename FROM read_blob(?) WHERE size > 0",
            [[escape(name) for name in paths]]).fetchall()
        with files.whole(part) as temporary:
            if not filled:
                pd.DataFrame(columns=COLUMNS).to_parquet(temporary)
                return
            link.execute(f"""
                COPY (SELECT {columns},
                    translate(CAST(issue AS VARCHAR), ',[] ', ';') AS "issue"
                FROM read_parquet($files, union_by_name=true)
                SEMI JOIN wanted ON CAST(specieskey AS VARCHAR) = wanted.key
                WHERE occurrencestatus = 'PRESENT'
                    AND decimallatitude IS NOT NULL
                    AND decimallongitude IS NOT NULL
                    AND "year" BETWEEN {first} AND {last})
                TO '{str(temporary).replace("'", "''")}' (FORMAT parquet)
                """, {"files": [name for name, in filled]})
    except duckdb.Error as error:
        raise ServiceError(
            5, f"cannot read '{paths[0]}' and {len(paths) - 1} more: "
            f"{_words(error)} Parts that are done are kept: mend or fetch "
            "that file, then call again") from error


def _words(error) -> str:
    """What DuckDB says, on one line."""
    return " ".join(str(error).split("\n\nLINE")[0].split())[:300] + "."
