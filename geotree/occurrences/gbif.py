"""What is asked of GBIF, and what its Parquet files hold.

Each request has one owner of its retries. Names go through ``pygbif``,
GBIF's client for Python, with our limits of time and size. All others are
plain requests: there ``pygbif`` 0.7 uses http, for the password too. Of
Parquet files DuckDB reads the columns that are needed, from a folder or an
object store (for which it fetches its extension ``httpfs``).
"""

import io
import json
import logging
import os
from collections.abc import Callable
from datetime import datetime
from glob import escape
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from tqdm import tqdm

import geotree
from geotree import checks, files, network

URL = "https://api.gbif.org"
BACKBONE = "d7dddbf4-2cf0-4f39-9b2a-bb099caae36c"  # frozen, integer keys
PAGE = 300  # GBIF cuts longer pages without a word
DEEPEST = 100_000  # offset + limit
BLOCK = 1 << 23  # bytes of a download that are asked for at a time
_AGENT = {"User-Agent": f"geotree/{geotree.__version__} "
          "(https://github.com/geotree-book/geotree)"}

# Each copy is the same; take the one near you. {month} is like 2026-10-01.
NEAREST = ("s3://gbif-open-data-eu-central-1/occurrence/2026-10-01/"
           "occurrence.parquet")
FILES = 64  # of some 2,800, read as one unit of work
STORED = ("gbifID", "decimalLatitude", "decimalLongitude",
          "coordinateUncertaintyInMeters", "coordinatePrecision",
          "countryCode", "year", "datasetKey", "license", "speciesKey",
          "basisOfRecord", "establishmentMeans", "institutionCode", "issue")
# httpfs reads the region of a bucket from its settings.
_SETTINGS = "INSTALL httpfs; LOAD httpfs; SET s3_region='{}';"


class Client:
    """What geotree asks of GBIF.

    ``url`` is the service, ``wait`` the upper limit of the first pause after
    a failure in seconds, ``verify`` as ``requests`` takes it. The account is
    read from ``GBIF_USER`` and ``GBIF_PWD`` when a download
    is asked for, and goes to ``https`` addresses only.
    """

    def __init__(self, url: str = URL, *, wait: float = 1.0, verify=True):
        import requests

        if not isinstance(url, str) or "://" not in url:
            raise ValueError(f"url is {checks.shown(url)}, expected one such "
                             f"as '{URL}'.")
        checks.number(wait, name="wait", low=0)
        self.url, self.wait, self.verify = url.rstrip("/"), wait, verify
        self._session = requests.Session()

    def match(self, name: str, family: str, judge: Callable) -> dict:
        """What the GBIF Backbone knows of a name; ``judge`` can read it."""
        def named():
            with network.in_words(f"{self.url}/v2/species/match"):
                answer = _pygbif().species.name_backbone(
                    scientificName=name, kingdom="Plantae",
                    family=family or None, checklistKey=BACKBONE,
                    stream=True, timeout=network.LIMIT, verify=self.verify,
                    auth=self._address, allow_redirects=False,
                    hooks={"response": _whole})
                judge(answer)
                return answer

        return network.patient(named, wait=self.wait, enough=network.ENOUGH)

    def search(self, **query) -> dict:
        """One page of records, as many as it counts."""
        def whole(page):
            have, end = query["offset"] + len(page["results"]), page[
                "endOfRecords"]
            least = page["count"] if end is True else min(
                page["count"], query["offset"] + query["limit"])
            return end in (True, False) and have >= int(least) and all(
                0 < int(one["key"]) < 2**63 and ";".join(
                    one.get("issues") or ()) is not None
                for one in page["results"])

        return self._get("v1/occurrence/search", whole, query)

    def title(self, key: str) -> str:
        """Title of a dataset."""
        return self._get(f"v1/dataset/{quote(str(key), safe='')}",
                         lambda about: isinstance(about["title"], str)
                         )["title"]

    def download(self, key: str) -> dict:
        """How a download does: ``status, created, doi, size``."""
        return self._get(
            f"v1/occurrence/download/{key}", lambda about: (
                datetime.fromisoformat(about["created"])
                and (about["status"] != "SUCCEEDED" or about["size"] > 0)))

    def save(self, key: str, size: int, file: Path) -> None:
        """Fetch a download of ``size`` bytes; goes on with what is there."""
        part = file.with_name(f".{file.name}.part")
        try:
            part.touch()
            while (have := part.stat().st_size) < size:
                data = self._block(key, have, min(have + BLOCK, size))
                with open(part, "ab") as target:
                    target.write(data)
            os.replace(part, file)
        except OSError as error:
            if isinstance(error, network.ServiceError):
                raise
            raise OSError(
                error.errno, f"cannot write '{file}' ({error.strerror}). "
                "What has come is kept: free some space, then call again"
            ) from error

    def _block(self, key: str, start: int, stop: int) -> bytes:
        """Some bytes of a download."""
        def read(data):
            if len(data) != stop - start:
                raise ValueError("another part than was asked for")
            return data

        return network.ask(
            f"{self.url}/v1/occurrence/download/request/{key}.zip",
            read=read, wait=self.wait, **self.how | {"headers": {
                **_AGENT, "Range": f"bytes={start}-{stop - 1}"}})

    def _get(self, path: str, good: Callable, query=None) -> dict:
        """JSON that is ``good``."""
        def read(data):
            found = json.loads(data)
            if not good(found):
                raise ValueError("not what it should be")
            return found

        return network.ask(f"{self.url}/{path}", params=query, read=read,
                           wait=self.wait, **self.how)

    def _address(self, request):
        """As ``auth``: to our service, and nothing from ~/.netrc."""
        request.url = request.url.replace(URL, self.url, 1)
        request.headers["User-Agent"] += f" {_AGENT['User-Agent']}"
        return request

    @property
    def how(self) -> dict:
        """How each request is sent, for ``network``."""
        return {"send": self._session.request, "verify": self.verify,
                "headers": _AGENT,
                "auth": lambda request: request}  # nothing from ~/.netrc


def _whole(answer, **_):
    """For ``requests``: an answer in memory, with the type of JSON."""
    data = network.body(answer)
    if answer.status_code >= 300:
        raise network.refusal(answer, data)
    answer.raw = io.BytesIO(data)
    answer.headers["Content-Type"] = "application/json"
    return answer


def _pygbif():
    """The library, without the log that its import opens for everyone."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    import pygbif

    root.setLevel(level)
    root.handlers[:] = handlers
    return pygbif


# Parquet files --------------------------------------------------------------


def query(place: str, parts: Path, asked: dict) -> tuple[pd.DataFrame, dict]:
    """Records of ``asked`` (``taxa, years``) in GBIF's Parquet files.

    ``place`` is their folder or address; each few files give a part on disk,
    in the folder ``parts``, that is kept when a later one cannot be read (an
    ``OSError``).
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
        raise network.ServiceError(
            5, f"cannot list '{place}': {_words(error)} Mind the network (for "
            "httpfs), or copy the files and give their folder") from error
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

    columns = ", ".join(f'"{name.lower()}" AS "{name}"' for name in STORED
                        if name != "issue")
    first, last = map(int, asked["years"])
    try:
        # GBIF writes some parts without a record and without a byte.
        filled = link.execute(
            "SELECT filename FROM read_blob(?) WHERE size > 0",
            [[escape(name) for name in paths]]).fetchall()
        with files.whole(part) as temporary:
            if not filled:
                pd.DataFrame(columns=STORED).to_parquet(temporary)
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
        raise network.ServiceError(
            5, f"cannot read '{paths[0]}' and {len(paths) - 1} more: "
            f"{_words(error)} Parts that are done are kept: mend or fetch "
            "that file, then call again") from error


def _words(error) -> str:
    """What DuckDB says, on one line."""
    return " ".join(str(error).split("\n\nLINE")[0].split())[:300] + "."
