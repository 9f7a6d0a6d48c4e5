"""From names to records: three ways to ask GBIF, one table.

``search`` is for a first look, ``download`` for work that will be cited,
``snapshot`` for those without an account or with a fast line to one of the
copies that GBIF puts into object stores each month. Used in chapter 01.
"""

import hashlib
import json
import os
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import checks, files
from geotree.network import ServiceError
from geotree.occurrences import gbif, orders
from geotree.occurrences.columns import FIRST_YEAR, last_year
from geotree.occurrences.matching import usable
from geotree.occurrences.quality import by_tile
from geotree.occurrences.table import leave, validate

ROUTES = ("search", "download", "snapshot")
KEYS = 300  # taxa in the address of one search, about 5 kB
POLL = 30.0  # s between two looks at a download; GBIF asks for this
LONGEST = 2 * 86_400.0  # s; GBIF takes hours for the largest downloads
_TEXT = ("basisOfRecord", "establishmentMeans", "institutionCode", "issue",
         "informationWithheld")
_LICENSES = {".*publicdomain/zero.*": "CC0_1_0", ".*licenses/by-nc/.*":
             "CC_BY_NC_4_0", ".*licenses/by/.*": "CC_BY_4_0"}


def collect(taxa: pd.DataFrame, *, route: str, folder: str | Path,
            years: tuple[int, int] = (2017, 2025),
            limit: int = 1000, snapshot: str = gbif.NEAREST,
            client: gbif.Client | None = None,
            poll: float = POLL) -> pd.DataFrame:
    """Collect the records of some species.

    Parameters
    ----------
    taxa : DataFrame
        From :func:`geotree.occurrences.match`; rows of verdict ``use``.
    route : str
        ``search``: up to ``limit`` records, 300 a request. ``download``:
        all records in one request for up to 101,000 taxa; needs an account
        (``GBIF_USER``, ``GBIF_PWD``) and gives a DOI. ``snapshot``: all
        records of the Parquet files at ``snapshot``.
    folder : path
        For what has come so far. A run that was interrupted goes on.
    years : (int, int)
        First and last year.
    limit : int
        Records in all, of route ``search`` only; at most 100,000.
    snapshot : str
        Folder or object store (``s3://…``) with Parquet files.

    Returns
    -------
    DataFrame
        Occurrence table, rows by Sentinel-2 tile so that neighbours can
        share requests; ``attrs`` say how to cite it, see :func:`cite`.

    Raises
    ------
    ValueError
        Unknown route, no usable taxon, no record, or the folder belongs to
        another request.
    OSError
        The service refuses or fails for long, the disk is full, or another
        process uses the folder. What has come is kept.
    """
    checks.one_of(route, ROUTES, name="route")
    limit = checks.number(limit, name="limit", low=1, whole=True)
    if route == "search" and limit > gbif.DEEPEST:
        raise ValueError(f"limit is {limit}; a search gives 1 to "
                         f"{gbif.DEEPEST:,} records. Take route='download'.")
    first, last = years if np.shape(years) == (2,) else (years, None)
    first = checks.number(first, name="the first of years, (first, last),",
                          low=FIRST_YEAR, high=last_year(), whole=True)
    years = first, checks.number(last, name="the last of years", low=first,
                                 whole=True)
    taxa, folder = usable(taxa), files.named(folder)
    asked = {"route": route, "taxa": taxa["taxonKey"].tolist(),
             "years": list(years),
             **({"limit": limit} if route == "search" else {}),
             **({"snapshot": os.fspath(snapshot)} if route == "snapshot"
                else {})}
    with files.lock(folder):
        _claim(folder, asked)
        client = client or gbif.Client()
        if route == "search":
            frame, about = _search(client, folder, asked)
        elif route == "download":
            frame, about = _download(client, folder, asked, poll)
        else:
            frame, about = gbif.query(
                asked["snapshot"], folder / "parts", asked)
    if frame.empty:
        raise ValueError(f"GBIF has no record of these {len(taxa)} species "
                         f"for {years[0]} to {years[1]}.")
    return _table(frame, taxa, about, years)


def requests_needed(records: int, *, route: str, taxa: int = 1) -> int:
    """Requests to GBIF for some records, without name matching.

    A search asks once for each 300 records or, of many species with few
    records each, once for each 300 of ``taxa``.
    """
    checks.one_of(route, ROUTES, name="route")
    for name, value in (("records", records), ("taxa", taxa)):
        checks.number(value, name=name, low=0, whole=True)
    if route == "search":
        return max(-(-records // gbif.PAGE), -(-taxa // KEYS))
    return 1 if route == "download" else 0


def cite(table: pd.DataFrame) -> str:
    """How to cite a collected table."""
    about = checks.columns(table, ["datasetKey"]).attrs
    if about.get("citation"):
        return about["citation"]
    return (f"{about.get('source', 'unknown source')}. To cite it, register "
            f"the counts of its {table['datasetKey'].nunique()} datasets "
            "(table['datasetKey'].value_counts()) as a derived dataset at "
            "gbif.org/derived-dataset; you get a DOI.")


def _claim(folder: Path, asked: dict) -> None:
    """Bind a folder to one request."""
    note = folder / "request.json"
    before = files.read_json(note) if note.exists() else asked
    told = [name for name in {*asked, *before}
            if asked.get(name) != before.get(name)]
    if told:
        raise ValueError(
            f"'{folder}' holds another request: {', '.join(sorted(told))} "
            "differ. Choose another folder, or delete this one.")
    files.write(note, json.dumps(asked))


# Search ---------------------------------------------------------------------

def _search(client, folder, asked):
    keys, limit = asked["taxa"], asked["limit"]
    groups = [keys[start:start + KEYS] for start in range(0, len(keys), KEYS)]
    records, calls = [], 0
    for number, group in enumerate(groups):
        # What earlier groups lack goes to those that are left.
        left, offset = limit - len(records), 0
        share = -(-left // (len(groups) - number))
        if share > gbif.PAGE:  # whole pages, or two halves would cost two
            share = min(-(-share // gbif.PAGE) * gbif.PAGE, left)
        while offset < share:
            size = min(gbif.PAGE, share - offset)
            page = folder / f"page-{number:04d}-{offset:06d}.json"
            if not page.exists():
                files.write(page, json.dumps(client.search(
                    taxonKey=group, offset=offset, limit=size,
                    checklistKey=gbif.BACKBONE, hasCoordinate="true",
                    occurrenceStatus="PRESENT",
                    year="{},{}".format(*asked["years"]))))
                calls += 1
            answer = files.read_json(page)
            records += answer["results"]
            offset += size
            if answer["endOfRecords"]:
                break
    return _lower(pd.DataFrame(records)), {
        "source": f"GBIF occurrence search, {time.strftime('%Y-%m-%d')}",
        "requests": calls}


def _lower(frame: pd.DataFrame) -> pd.DataFrame:
    """Records of a search with the columns of a snapshot, and two more."""
    if frame.empty:
        return frame
    if "issues" in frame:
        frame["issue"] = frame["issues"].map(
            lambda names: ";".join(names) if isinstance(names, list) else "")
    frame["gbifID"] = frame["key"].astype("int64")
    frame["license"] = frame["license"].replace(_LICENSES, regex=True)
    return frame.reindex(columns=[
        *gbif.STORED, "distanceFromCentroidInMeters",
        "informationWithheld"])


# Download -------------------------------------------------------------------

def predicate(asked: dict) -> dict:
    """The body of a download request."""
    first, last = map(str, asked["years"])
    rules = [{"type": kind, "key": key, "value": value}
             for kind, key, value in (
                 ("equals", "HAS_COORDINATE", "true"),
                 ("equals", "OCCURRENCE_STATUS", "PRESENT"),
                 ("greaterThanOrEquals", "YEAR", first),
                 ("lessThanOrEquals", "YEAR", last))]
    taxa = {"type": "in", "key": "TAXON_KEY", "checklistKey": gbif.BACKBONE,
            "values": [str(key) for key in asked["taxa"]]}
    return {"format": "SIMPLE_PARQUET", "sendNotification": False,
            "checklistKey": gbif.BACKBONE,
            "predicate": {"type": "and", "predicates": [taxa, *rules]}}


def _download(client, folder, asked, poll):
    note, archive = folder / "download.json", folder / "download.zip"
    known = files.read_json(note) if note.exists() else {}
    if "key" not in known:
        # A run that dies between the order and its key must not order twice.
        since = known.get("since")
        known = {"since": since or time.time()}
        files.write(note, json.dumps(known))
        known["key"] = orders.order(client, predicate(asked), since=since)
        files.write(note, json.dumps(known))
    key, out = known["key"], folder / "download"
    if not out.exists():
        about = _wait(client, key, note, poll)
        known |= {name: about[name] for name in ("doi", "created")}
        files.write(note, json.dumps(known))
        if not archive.exists():
            client.save(key, about["size"], archive)
        try:
            with files.whole(out) as part:
                zipfile.ZipFile(archive).extractall(part)
        except zipfile.BadZipFile as error:
            archive.unlink()
            raise ServiceError(5, f"'{archive}' is no zip file and was "
                               "removed. Call again to fetch it anew"
                               ) from error
    archive.unlink(missing_ok=True)
    frame, _ = gbif.query(str(out), folder / "parts", asked)
    doi = f"https://doi.org/{known['doi']}"
    return frame, {"source": f"GBIF occurrence download {key}", "doi": doi,
                   "citation": f"GBIF.org ({known['created'][:10]}) GBIF "
                               f"Occurrence Download {doi}"}


def _wait(client, key, note, poll):
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        about = client.download(key)
        state = about["status"]
        if state == "SUCCEEDED":
            return about
        if state not in orders.ALIVE:
            for left in (note, *note.parent.glob(".download.zip.part")):
                left.unlink()  # bytes of another file
            raise ServiceError(
                5, f"GBIF ended the download {key} with {state}. Look at "
                f"https://www.gbif.org/occurrence/download/{key}, then call "
                "again to ask anew")
        time.sleep(poll)
    raise ServiceError(
        5, f"GBIF is still at work on the download {key} after "
        f"{LONGEST / 3600:.0f} hours. Call again later: it goes on waiting")


# The table ------------------------------------------------------------------

def _table(frame, taxa, about, years):
    """Records of any route as an occurrence table."""
    frame, names = frame.reset_index(drop=True), taxa.set_index("taxonKey")
    gone = taxa.attrs["left out"]
    frame.attrs = {"left out": dict(gone)} if gone else {}
    key = pd.to_numeric(frame["speciesKey"], errors="coerce")
    frame = leave(frame.assign(taxonKey=key), key.isna(), "no speciesKey")
    frame = leave(frame, ~frame["taxonKey"].isin(names.index),
                  "of a species that was not asked for")
    year = pd.to_numeric(frame["year"], errors="coerce")
    frame = leave(frame, (year < years[0]) | (year > years[1]),
                  "of a year that was not asked for")
    frame = leave(frame, frame.duplicated("gbifID"), "gbifID there already")
    for column in ("species", "genus", "family", "leafType"):
        frame[column] = frame["taxonKey"].map(names[column])
    for column in frame.columns.intersection(_TEXT):
        frame[column] = frame[column].astype("str").replace("", None)
    table = by_tile(validate(frame.drop(columns="speciesKey")))
    digest = hashlib.sha256(table["gbifID"].to_numpy().tobytes())
    table.attrs |= {**about, "records": len(table),
                    "sha256": digest.hexdigest()}
    if "left out" in table.attrs:
        warnings.warn(f"records left out: {table.attrs['left out']}",
                      stacklevel=3)
    return table
