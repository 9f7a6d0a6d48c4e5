"""The tables of the GlobalGeoTree release, read and written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import checks, files
from geotree.occurrences import reading
from geotree.occurrences.table import validate

# Column of the release -> column here, in the release's order.
RELEASE = {
    "sample_id": "gbifID", "country_code": "countryCode",
    "level0": "leafType", "level1_family": "family",
    "level2_genus": "genus", "level3_species": "species",
    "location": "country", "source": "datasetName",
    "species_key": "taxonKey", "year": "year",
    "longitude": "decimalLongitude", "latitude": "decimalLatitude",
    "Category": "rarity",
}


def read_release(csv: str | os.PathLike) -> pd.DataFrame:
    """Read a table of the GlobalGeoTree release.

    The release threw away GBIF's record number, dataset key, licence and
    coordinate uncertainty. ``gbifID`` holds its ``sample_id`` (a row number
    of its own), the other three are unknown. ``location`` becomes the extra
    column ``country``, ``source`` becomes ``datasetName``, ``Category``
    becomes ``rarity``; the latter three may be absent.

    Returns
    -------
    DataFrame
        A checked occurrence table; ``attrs`` names the file and its
        SHA-256.
    """
    table, path = reading.frame(csv), Path(csv)
    checks.columns(table, [name for name in RELEASE if name not in (
        "location", "source", "Category")], where=f"'{path}'")
    table = table.rename(columns=RELEASE)
    table["taxonKey"] = table["taxonKey"].fillna("0")
    for name in ("coordinateUncertaintyInMeters", "datasetKey", "license"):
        table[name] = np.nan
    table.attrs = {"source": f"GlobalGeoTree release, {path.name}",
                   "sha256": files.sha256(path)}
    return validate(table)


def write_release(table: pd.DataFrame, csv: str | os.PathLike) -> Path:
    """Write an occurrence table with the columns of the release.

    A table that came from :func:`read_release` is written as it was, to the
    byte. Columns that the release does not have are left out; ``location``,
    ``source`` and ``Category`` are left out where the table lacks them.
    """
    checked = validate(table)
    columns = {theirs: checked[ours] for theirs, ours in RELEASE.items()
               if ours in checked}
    if "verbatimIdentification" in checked:
        columns["level3_species"] = checked["verbatimIdentification"]
    columns["species_key"] = checked["taxonKey"].astype("float64").where(
        checked["taxonKey"] != 0)  # the release writes keys as 2777855.0
    frame = pd.DataFrame(columns)
    with files.whole(csv) as part:
        frame.to_csv(part, index=False, lineterminator="\r\n",
                     encoding="utf-8")
    return Path(csv)
