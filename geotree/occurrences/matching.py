"""Names to keys: which taxon of GBIF's does a name of a tree mean?

A name that GBIF knows only by its genus comes back with the key of the
genus. Asking for that key brings every plant of the genus, so each match
is judged before its key is used. Used in chapter 01.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from geotree.occurrences.cached import answers
from geotree.occurrences.gbif import Client

CONFIDENCE = 90  # of 100; less goes to review


def match(names: pd.DataFrame | Iterable[str], *, cache: str | Path,
          client: Client | None = None,
          progress: bool = True) -> pd.DataFrame:
    """Find the accepted species that each name stands for.

    Parameters
    ----------
    names : DataFrame or iterable of str
        Column ``species``; ``family`` sharpens the match and ``leafType``
        is kept where they are there.
    cache : path
        File of answers (JSON lines). What is in it is not asked again.
    client : Client, optional

    Returns
    -------
    DataFrame
        One row a name: ``asked, taxonKey, species, genus, family,
        leafType, rank, kingdom, status, matchType, confidence, verdict,
        reason``. ``verdict`` is ``use``, ``review`` or ``reject``; set it
        to ``use`` where you have looked and agree.

    Notes
    -----
    Keys are those of the GBIF Backbone: whole numbers, frozen, and those
    of the tables of the release.
    """
    table, client = as_taxa(names), client or Client()
    asked = [(row.species, row.family) for row in table.itertuples()]
    known = answers(asked, lambda name, family: client.match(
        name, family, judge), cache, what="names", progress=progress)
    rows = [{"asked": name, **judge(known[name, family]), "leafType": leaf}
            for (name, family), leaf in zip(asked, table["leafType"],
                                            strict=True)]
    return pd.DataFrame(rows)


def judge(answer: dict) -> dict:
    """Say what a match is worth, and why.

    Parameters
    ----------
    answer : dict
        Of GBIF's ``v2/species/match``, pygbif's ``name_backbone``.
    """
    found = answer.get("acceptedUsage") or answer.get("usage") or {}
    about = answer["diagnostics"]
    lineage = {level.get("rank"): level.get("name")
               for level in answer.get("classification", [])}
    kind, rank = about.get("matchType", "NONE"), found.get("rank")
    confidence = int(about.get("confidence") or 0)
    status = (answer.get("usage") or {}).get("status", "")
    kingdom = lineage.get("KINGDOM")
    if kind in ("NONE", "HIGHERRANK") or not str(
            found.get("key", "")).isdigit():
        verdict, reason = "reject", "GBIF knows no such species"
    elif rank != "SPECIES":
        verdict, reason = "reject", f"matches a {str(rank).lower()}"
    elif kingdom != "Plantae":
        verdict, reason = "reject", f"is of the kingdom {kingdom}"
    elif kind != "EXACT":
        verdict, reason = "review", f"spelt otherwise ({kind.lower()})"
    elif confidence < CONFIDENCE:
        verdict, reason = "review", f"confidence {confidence} of 100"
    elif not (lineage.get("GENUS") and lineage.get("FAMILY")):
        verdict, reason = "review", "of no known genus or family"
    elif status == "DOUBTFUL":
        verdict, reason = "review", "GBIF doubts the name"
    else:
        verdict = "use"
        reason = "synonym" if answer.get("synonym") else "accepted"
    usable = verdict != "reject"
    return {"taxonKey": int(found["key"]) if usable else 0,
            "species": found.get("canonicalName", "") if usable else "",
            "genus": lineage.get("GENUS") or "",
            "family": lineage.get("FAMILY") or "", "rank": rank,
            "kingdom": kingdom, "status": status, "matchType": kind,
            "confidence": confidence, "verdict": verdict, "reason": reason}


def usable(taxa: pd.DataFrame) -> pd.DataFrame:
    """The rows of a match whose keys may enter a request, one per key.

    Raises
    ------
    ValueError
        It is no match table, or none is left.
    """
    absent = {"taxonKey", "species", "rank", "kingdom", "verdict"}
    absent -= set(taxa.columns)
    if absent:
        raise ValueError(f"taxa has no column {', '.join(sorted(absent))}. "
                         "Match the names first: occurrences.match(names).")
    good = ((taxa["verdict"] == "use") & (taxa["rank"] == "SPECIES")
            & (taxa["kingdom"] == "Plantae") & (taxa["taxonKey"] > 0))
    if not good.any():
        raise ValueError(
            f"none of {len(taxa)} names may be used: "
            f"{taxa['reason'].value_counts().to_dict()}. Look at the rows "
            "of verdict 'review' and set those to 'use' that are right.")
    # A species asked for by its own name comes before its synonyms.
    order = (taxa["asked"] != taxa["species"]).argsort(kind="stable")
    return taxa.iloc[order][good.iloc[order]].drop_duplicates(
        "taxonKey").sort_values("taxonKey", ignore_index=True)


def as_taxa(names: pd.DataFrame | Iterable[str]) -> pd.DataFrame:
    """Names as a table of ``species, family, leafType``."""
    if not isinstance(names, pd.DataFrame):
        names = pd.DataFrame({"species": [names] if isinstance(names, str)
                              else list(names)})
    table = pd.DataFrame({"species": names["species"].fillna("").astype(str),
                          "family": names.get("family", ""),
                          "leafType": names.get("leafType", "Unknown")})
    table = table.fillna({"family": "", "leafType": "Unknown"})
    if table.empty or (table["species"].str.strip() == "").any():
        raise ValueError("names is empty or holds an empty name.")
    return table.drop_duplicates("species", ignore_index=True)


def name_datasets(table: pd.DataFrame, *, cache: str | Path,
                  client: Client | None = None,
                  progress: bool = True) -> pd.DataFrame:
    """Add the title of each record's dataset as ``datasetName``.

    GBIF's records name their dataset by key only, and some flags read its
    title. One request a dataset, not one a record.

    Parameters
    ----------
    table : DataFrame
        Occurrence table.
    cache : path
        File of answers (JSON lines).
    """
    client = client or Client()
    known = answers(((key,) for key in table["datasetKey"].dropna().unique()),
                    lambda key: {"title": client.title(key)}, cache,
                    what="datasets", progress=progress)
    titles = {key: answer["title"] for (key,), answer in known.items()}
    return table.assign(datasetName=table["datasetKey"].map(titles))
