"""Names to keys: which taxon of GBIF's does a name of a tree mean?

A name that GBIF knows only by its genus comes back with the key of the
genus. Asking for that key brings every plant of the genus, so each match
is judged before its key is used. Used in chapter 01.
"""

import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from geotree import checks, files
from geotree.network import Pool
from geotree.occurrences import columns
from geotree.occurrences.gbif import URL, Client

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
        is kept where they are there. Of rows with one name most count, and
        a warning says where they differ.
    cache : path
        File of answers (JSON lines). What is in it is not asked again of
        the same service.
    client : Client, optional

    Returns
    -------
    DataFrame
        One row a name: ``asked, taxonKey, species, genus, family,
        leafType, rank, kingdom, status, matchType, confidence, verdict,
        reason``. ``verdict`` is ``use``, ``review`` or ``reject``; set it
        to ``use`` where you have looked and agree.

    Raises
    ------
    ValueError
        There are no names, or some are empty or no text; ``cache`` holds
        something else.

    Notes
    -----
    Keys are those of the GBIF Backbone: whole numbers, frozen, and those
    of the tables of the release.
    """
    if not isinstance(names, pd.DataFrame):
        names = pd.DataFrame({"species": [names] if isinstance(
            names, str) or not np.iterable(names) else [*names]}, dtype=object)
    checks.columns(names, ["species"], where="names")
    checks.refuse(~names["species"].map(
        lambda one: isinstance(one, str) and one.strip() > "" and one.encode(
            errors="ignore").decode() == one).astype(bool),
        "names are empty or no text", "Drop them.")
    if names.empty:
        raise ValueError("names is empty: nothing to ask.")
    table = names.reindex(columns=["species", "family", "leafType"]).astype(
        object).fillna({"family": "", "leafType": "Unknown"}).astype(str)
    for name, blank in (("family", ""), ("leafType", "Unknown")):
        table[name] = _agreed(table, "species", name, blank)
    table = table.drop_duplicates("species", ignore_index=True)
    asked = [(row.species, row.family) for row in table.itertuples()]
    known = answers(asked, lambda client, *one: client.match(*one, judge),
                    cache, client=client, read=judge, what="names")
    rows = [{"asked": name, **judge(known[name, family]), "leafType": leaf}
            for (name, family), leaf in zip(asked, table["leafType"],
                                            strict=True)]
    return pd.DataFrame(rows)


def _agreed(table: pd.DataFrame, by: str, name: str, blank: str) -> pd.Series:
    """What most rows of a name or key tell: (N,); ``blank`` tells nothing."""
    told = table[name].astype(object)
    told = told.where(told != blank).groupby(table[by].to_numpy())
    if (other := told.nunique() > 1).any():
        warnings.warn(
            f"rows of {other.sum()} names or keys disagree about {name}: "
            f"{checks.few(other.index[other])}. What most rows say counts.",
            stacklevel=4)
    return table[by].map(told.agg(lambda one: one.mode().get(0, blank)))


def judge(answer: dict) -> dict:
    """Say what a match is worth, and why.

    Parameters
    ----------
    answer : dict
        Of GBIF's ``v2/species/match``, pygbif's ``name_backbone``.

    Raises
    ------
    ValueError
        It is none.
    """
    if "diagnostics" not in checks.by_name(answer, "answer"):
        raise ValueError("answer has no 'diagnostics', expected one of GBIF's "
                         "v2/species/match.")
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
    checks.columns(taxa, [
        "asked", "taxonKey", "species", "genus", "family", "leafType", "rank",
        "kingdom", "verdict", "reason"], where="table of names (has it been "
        "through occurrences.match?)")
    checks.refuse(~taxa["verdict"].isin(["use", "review", "reject"]),
                  "verdicts are none of 'use', 'review' and 'reject'")
    taxa = columns.simple(taxa)
    taxa["taxonKey"] = columns.column(taxa, "taxonKey", {}).astype("int64")
    good = ((taxa["verdict"] == "use") & (taxa["rank"] == "SPECIES")
            & (taxa["kingdom"] == "Plantae") & (taxa["taxonKey"] > 0))
    if not good.any():
        raise ValueError(
            f"none of {len(taxa)} names may be used: "
            f"{taxa['reason'].value_counts().to_dict()}. Look at the rows "
            "of verdict 'review' and set those to 'use' that are right.")
    checks.refuse(taxa[good][["species", "genus", "family"]].isna().any(
        axis=1), "names to use have no species, genus or family")
    taxa = taxa.assign(leafType=_agreed(taxa[good], "taxonKey", "leafType",
                                        "Unknown"))
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
    checks.columns(table, ["datasetKey"])
    known = answers(((key,) for key in table["datasetKey"].dropna().unique()),
                    lambda client, key: {"title": client.title(key)}, cache,
                    client=client, read=lambda one: one["title"],
                    what="datasets")
    titles = {key: answer["title"] for (key,), answer in known.items()}
    return table.assign(datasetName=table["datasetKey"].map(titles))


def answers(questions: Iterable[tuple], ask: Callable, cache: str | Path, *,
            client: Client | None, read: Callable, what: str
            ) -> dict[tuple, dict]:
    """Answer each question, from the cache where it knows.

    Parameters
    ----------
    questions : iterable of tuple
        Arguments of ``ask`` behind the client, as JSON takes them.
    cache : path
        JSON lines of question, the service if it is not GBIF's own, and
        answer; made, or gone on with.
    read : callable
        Fails where an answer is none.
    what : str
        Name of the progress bar.
    """
    client, cache, known = client or Client(), files.named(cache), {}
    whom = [client.url] * (client.url != URL)
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.touch()
    for line in files.regular(cache).read_text(
            "utf-8", errors="replace").splitlines():
        if line.strip("\0 ")[:1] not in ("", "["):
            raise ValueError(f"'{cache}' holds something else than answers "
                             "of GBIF: choose another file as cache.")
        try:
            *question, answer = json.loads(line)
            read(answer)
        except (ArithmeticError, AttributeError, LookupError, RecursionError,
                TypeError, ValueError):  # a run was killed while it wrote
            continue
        if question[len(question) - len(whom):] == whom:
            known[(*map(str, question[:len(question) - len(whom)]),)] = answer
    todo = [one for one in dict.fromkeys(questions) if one not in known]
    pool = Pool(THREADS)
    for start in tqdm(range(0, len(todo), BATCH), desc=what):
        batch = todo[start:start + BATCH]
        calls = [pool.submit(ask, client, *one) for one in batch]
        found = [call.result() for call in calls]
        with open(cache, "a", encoding="utf-8") as file:
            # First the line's end: the last one may be torn.
            file.writelines(f"\n{json.dumps([*one, *whom, answer])}"
                            for one, answer in zip(batch, found, strict=True))
        known.update(zip(batch, found, strict=True))
    return known
