"""Names to keys: which taxon of GBIF's does a name of a tree mean?

A name that GBIF knows only by its genus comes back with the key of the
genus. Asking for that key brings every plant of the genus, so each match
is judged before its key is used. Used in chapter 01.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from geotree import checks, files
from geotree.network import Pool
from geotree.occurrences.gbif import Client

CONFIDENCE = 90  # of 100; less goes to review
THREADS = 8
BATCH = 64  # questions between two writes of the cache


def match(names: pd.DataFrame | Iterable[str], *, cache: str | Path,
          client: Client | None = None) -> pd.DataFrame:
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
    if not isinstance(names, pd.DataFrame):
        names = pd.DataFrame({"species": [names] if isinstance(names, str)
                              else list(names)})
    table = names.reindex(columns=["species", "family", "leafType"]).astype(
        object).fillna({"species": "", "family": "", "leafType": "Unknown"}
                       ).astype(str)
    if table.empty or (table["species"].str.strip() == "").any():
        raise ValueError("names is empty or holds an empty name.")
    table = table.drop_duplicates("species", ignore_index=True)
    client = client or Client()
    asked = [(row.species, row.family) for row in table.itertuples()]
    known = answers(asked, lambda name, family: client.match(
        name, family, judge), cache, what="names")
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
    doubts = (
        ("reject", "GBIF knows no such species", kind in (
            "NONE", "HIGHERRANK") or not str(found.get("key", "")).isdigit()),
        ("reject", f"matches a {str(rank).lower()}", rank != "SPECIES"),
        ("reject", f"is of the kingdom {kingdom}", kingdom != "Plantae"),
        ("review", f"spelt otherwise ({kind.lower()})", kind != "EXACT"),
        ("review", f"confidence {confidence} of 100",
         confidence < CONFIDENCE),
        ("review", "of no known genus or family", not (
            lineage.get("GENUS") and lineage.get("FAMILY"))),
        ("review", "GBIF doubts the name", status == "DOUBTFUL"),
        ("use", "synonym" if answer.get("synonym") else "accepted", True))
    verdict, reason = next(doubt[:2] for doubt in doubts if doubt[2])
    usable = verdict != "reject"
    return {"taxonKey": int(found["key"]) if usable else 0,
            "species": found.get("canonicalName", "") if usable else "",
            "genus": lineage.get("GENUS") or "",
            "family": lineage.get("FAMILY") or "", "rank": rank,
            "kingdom": kingdom, "status": status, "matchType": kind,
            "confidence": confidence, "verdict": verdict, "reason": reason}


def usable(taxa: pd.DataFrame) -> pd.DataFrame:
    """The rows of a match whose keys may enter a request, one per key.

    ``attrs["left out"]`` counts the others by their reason.

    Raises
    ------
    ValueError
        It is no match table, or none is left.
    """
    checks.columns(taxa, ["asked", "taxonKey", "species", "rank", "kingdom",
                          "verdict", "reason"], where="table of names (has "
                   "it been through occurrences.match?)")
    good = ((taxa["verdict"] == "use") & (taxa["rank"] == "SPECIES")
            & (taxa["kingdom"] == "Plantae") & (taxa["taxonKey"] > 0))
    if not good.any():
        raise ValueError(
            f"none of {len(taxa)} names may be used: "
            f"{taxa['reason'].value_counts().to_dict()}. Look at the rows "
            "of verdict 'review' and set those to 'use' that are right.")
    # A species asked for by its own name comes before its synonyms.
    order = (taxa["asked"] != taxa["species"]).argsort(kind="stable")
    result = taxa.iloc[order][good.iloc[order]].drop_duplicates(
        "taxonKey").sort_values("taxonKey", ignore_index=True)
    result.attrs["left out"] = {
        f"name: {reason}": int(count) for reason, count in taxa["reason"][
            ~good].value_counts().items()}
    return result


def name_datasets(table: pd.DataFrame, *, cache: str | Path,
                  client: Client | None = None) -> pd.DataFrame:
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
                    what="datasets")
    titles = {key: answer["title"] for (key,), answer in known.items()}
    return table.assign(datasetName=table["datasetKey"].map(titles))


def answers(questions: Iterable[tuple], ask: Callable, cache: str | Path, *,
            what: str) -> dict[tuple, dict]:
    """Answer each question, from the cache where it knows.

    Parameters
    ----------
    questions : iterable of tuple
        Arguments of ``ask``, as JSON takes them.
    cache : path
        JSON lines of question and answer; made, or gone on with.
    what : str
        Name of the progress bar.
    """
    cache, known = files.named(cache), {}
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.touch()
    for line in cache.read_text("utf-8").splitlines():
        try:
            *question, answer = json.loads(line)
        except ValueError:  # a run was killed while it wrote
            continue
        known[tuple(question)] = answer
    todo = [one for one in dict.fromkeys(questions) if one not in known]
    pool = Pool(THREADS)
    for start in tqdm(range(0, len(todo), BATCH), desc=what):
        batch = todo[start:start + BATCH]
        calls = [pool.submit(ask, *one) for one in batch]
        found = [call.result() for call in calls]
        with open(cache, "a", encoding="utf-8") as file:
            # First the line's end: the last one may be torn.
            file.writelines(f"\n{json.dumps([*one, answer])}"
                            for one, answer in zip(batch, found, strict=True))
        known.update(zip(batch, found, strict=True))
    return known
