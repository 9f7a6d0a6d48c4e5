"""Scoring: how often a table of answers is right, where the truth is known."""

import re
import warnings
from functools import cache, partial

import numpy as np
import pandas as pd

from geotree import checks, taxonomy
from geotree.evaluation import bootstrap
from geotree.occurrences.columns import absent
from geotree.occurrences.names import alike, as_word, is_species, normals

_SAME = 0.05  # km, within which a place is one of the training


def score_answers(answers: pd.DataFrame, truth: str, *, blocks=None,
                  rank: str = "species") -> pd.DataFrame:
    """How often answers are right, where the truth is known.

    Parameters
    ----------
    answers : DataFrame of N rows
        From :func:`geotree.explore.predict`, or read from its file.
    truth : str
        The column of true names, however they are written; a genus may be
        followed by an epithet. What is no name is left out.
    blocks : (N,) int, optional
        Units of the bootstrap; see
        :func:`geotree.evaluation.spatial_blocks`.
    rank : str
        Of the true names.

    Returns
    -------
    DataFrame
        ``value``, ``low``, ``high`` (95 %) and ``n`` of: ``answered``, the
        share of rows with an answer; of those ``likeliest``, ``listed``
        (among the likeliest few) and ``in set``, how often the true name
        is there (of sets that are listed in full); ``sure``, how often a
        name of this rank is sure, and ``sure and right``, of those; and
        ``trained on``, the share of places that the model learned from,
        where that is known. Of them a warning tells: elsewhere it is worse.
    """
    rank = checks.one_of(rank, taxonomy.RANKS, name="rank")
    checks.one_order(answers=answers, blocks=blocks)
    checks.columns(answers, [truth, "predicted_leafType"], where="the answers")
    if answers.empty:
        raise ValueError("the answers have no rows: nothing to score.")
    rows = _ours(answers, rank)
    if _is_answer(answers, truth):
        raise ValueError(f"column {truth!r} is of an answer, not the truth.")
    true = answers[truth].astype("str")
    name = normals(true)
    known = (name != "") & ((rank != "species") | name.map(is_species)
                            | true.isin(rows[f"{rank}_1"]))
    known &= ~absent(answers).any(axis=1).to_numpy()
    if not known.any():
        raise ValueError(f"column {truth!r} holds no name of rank {rank}: "
                         "nothing to score.")
    if lost := sorted({*true[~known].dropna()} - {""}):
        warnings.warn(f"left out: {checks.few(lost)} in column {truth!r} are "
                      f"no names of rank {rank}, or of trees that were not "
                      "found", stacklevel=2)
    if twice := answers.drop(columns=truth).astype("str").duplicated().sum():
        warnings.warn(f"{twice} of {len(answers)} rows are like another but "
                      "for the truth: did a join double them? Each counts as "
                      "a tree of its own", stacklevel=2)
    units = bootstrap.units(blocks, len(answers))[known]
    hits = _hits(rows[known], true[known], rank)
    unit = np.unique(units, return_inverse=True)[1]
    total, number = (one.groupby(unit).sum().to_numpy()
                     for one in (hits, hits.notna()))  # (U, metrics)
    with np.errstate(invalid="ignore"):
        values = np.concatenate([
            weight @ total / (weight @ number)
            for weight in bootstrap.weights(len(total), 1000, 0)])
        alike = number.sum(axis=0) ** 2 / (number ** 2).sum(axis=0)
    low, high = bootstrap.interval(values, np.nan_to_num(alike))
    return pd.DataFrame({"value": values[0], "low": low, "high": high,
                         "n": number.sum(axis=0)}, hits.columns)


def _hits(rows: pd.DataFrame, true: pd.Series, rank: str) -> pd.DataFrame:
    """What is right of each row by each measure: NaN where it is not asked."""
    form = partial(_form, rank)
    name, good = true.map(form), rows["status"] == "ok"
    sets, sure = rows["set"].map(_names), good & (rows["sure_rank"] == rank)
    listed = _first(rows, rank).map(form)
    said = {*listed.to_numpy().ravel(), *(form(x) for some in sets
                                          for x in some)}
    if never := sorted({*true[good & ~name.isin(said)]}):
        warnings.warn(f"no answer has {checks.few(never)}: does the model "
                      "know them, perhaps by another name? They count as "
                      "wrong", stacklevel=3)
    hits = pd.DataFrame({
        "answered": good,
        "likeliest": rows[f"predicted_{rank}"].map(form) == name,
        "listed": listed.eq(name, axis=0).any(axis=1),
        "in set": [one in map(form, some)
                   for one, some in zip(name, sets, strict=True)],
        "sure": sure,
        "sure and right": rows["sure_name"].map(form) == name},
        rows.index, dtype=float)
    hits.loc[~good, hits.columns[1:]] = np.nan
    hits.loc[sets.str[-1] == "…", "in set"] = np.nan
    hits.loc[~sure, "sure and right"] = np.nan
    if "trained_km" in rows:
        hits = hits.assign(**_trained(rows["trained_km"]))
    return hits


def _trained(told: pd.Series) -> dict[str, np.ndarray]:
    """Which rows the model learned from, by the nearest record; told of."""
    km = checks.degrees(told)
    checks.refuse(~(km >= 0) & (told.fillna("").map(as_word) != ""),
                  "trained_km are no kilometres", "Take the file as predict "
                  "wrote it.")
    if np.isnan(km).all():  # the model does not say
        return {}
    if (near := km <= _SAME).any():
        warnings.warn(
            f"{near.sum()} of {np.isfinite(km).sum()} places lie within "
            f"{1000 * _SAME:g} m of one that the model was trained on: "
            "elsewhere it is right less often. Score places that it never "
            "saw (trained_km).", stacklevel=4)
    return {"trained on": np.where(np.isnan(km), np.nan, near)}


@cache
def _form(rank: str, name) -> str:
    """What a name of a rank is compared by, however it is written."""
    if rank == "genus" and isinstance(name, str):
        return as_word(name.strip("× ").partition(" ")[0])
    return alike(name)


def _plain(name) -> str:
    """What a column of answers was called before it was there twice."""
    return re.sub("^(geotree_)+", "", str(name))


def _is_answer(answers: pd.DataFrame, name) -> bool:
    """Whether a column is of this answer, or of one before it."""
    names = [*map(_plain, answers)]
    at = [*answers].index(name)
    return at >= names.index("predicted_leafType") and bool(re.fullmatch(
        r"(predicted|sure)_\w+|set(_size)?|months|trained_km|status|reason|"
        rf"({'|'.join(taxonomy.RANKS)})_\d+(_probability)?", names[at]))


def _ours(answers: pd.DataFrame, rank: str) -> pd.DataFrame:
    """The columns of the last answer, by their plain names, if untouched."""
    plain = answers.rename(columns=_plain)
    needed = [f"predicted_{rank}", f"{rank}_1", "sure_rank", "sure_name",
              "set", "status"]
    rows = checks.columns(plain.iloc[:, np.flatnonzero(
        plain.columns == "predicted_leafType")[-1]:], needed,
        where="the answers").astype(object)
    form, advice = partial(_form, rank), "Take the file as predict wrote it."
    if [name for name in rows if name in needed] != needed:
        raise ValueError(f"the columns of the answers were moved. {advice}")
    name, sets = rows[needed[0]].map(form), rows["set"].map(_names)
    checks.refuse(((name != "") != (rows["status"] == "ok"))
                  | rows["status"].isna(), "answers contradict their status: "
                  "'ok' without a name, a name with another, or none at all",
                  advice)
    listed = _first(rows, rank).map(form).eq(name, axis=0).any(axis=1)
    size = checks.degrees(rows["set_size" if "set_size" in rows else "set"])
    whole = [some[-1] == "…" or not len(some) != n > 0 and (
        rank != "species" or one in map(form, some))  # may lack a genus
             for one, some, n in zip(name, sets, size, strict=True)]
    checks.refuse((name != "") & ~(listed & np.array(whole, bool)),
                  "answers are not among their own likeliest names, or their "
                  "set is cut or of others", "Was a column sorted alone? "
                  + advice)
    return rows


def _first(rows: pd.DataFrame, rank: str) -> pd.DataFrame:
    """The likeliest names of each row."""
    return rows.filter(regex=rf"^{rank}_\d+$")


def _names(some) -> list[str]:
    """The names of a set."""
    return re.split(r"\s*;\s*", some) if isinstance(some, str) else [""]
