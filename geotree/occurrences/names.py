"""Names: one form for those of species, and which of them are trees.

Is it a tree? A list of yours says so, or what its relatives on it are. Words
of Darwin Core have one form, too; they, and what is no name, are in
``geotree/data/words.json``.
"""

import os
import re
import unicodedata
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache

import numpy as np
import pandas as pd

from geotree.checks import few, instance
from geotree.data import load
from geotree.occurrences import reading

_WORDS = load("words.json")
TERMS = _WORDS["terms"]  # column -> word -> what is under it
TREE = "(?i)" + "|".join(_WORDS["tree words"])
_VAGUE = re.compile(
    r"\b(?:spec|specs|sp|spp|indet|cf|aff|species|unknown|undetermined|"
    r"hybrid|nov|dead)\b", re.IGNORECASE)
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_SIGN = re.compile(r"[×✕✖] ?|(?:^|(?<= ))[xX] (?=\S)|^[xX](?=[A-Z][a-z])")
_EPITHET = r"[a-z]{4,}\b(?!\.)"
_TWO = re.compile(  # names, or doubt; an author has no epithet behind it
    r"[?/;|+×]|\b(?:or|oder|ou|vs|and|und|not|absent)\b|[ &,][A-Z](?:[a-z]+ "
    rf"|\. ?)(?!sensu|emend|auct|subsp|forma|filius){_EPITHET}|(?:[,&>]|\bet"
    r"| [-–]) ?"  # and no common name, which ends in "oak" or the like
    rf"(?![^,&]*\b(?:{'|'.join(_WORDS['no epithets'])})(?:$|[,&)]))"
    rf"(?:[a-z]+ {_EPITHET}|[a-z]\. ?{_EPITHET}|{_EPITHET}(?! \w))")
_SMALL = "a-zäëïöü"  # no other signs stand in the name of a species
_WORD = rf"[{_SMALL}][{_SMALL}-]+(?!\w)"  # not cut at a letter of others
_NAME = re.compile(
    rf"(×)?([A-Z][{_SMALL}]+(?:-[{_SMALL}]+)?)(?: (× )?({_WORD}))?")
_LATIN = re.compile(  # how words of names of species end, but for a few
    r"\w+(a|[aeiouy]s|um|on|[aeio]x|ops) (× )?"
    r"\w\S+(a|[aeiouy]s|um|on|[aeio]x|[ao]ns|ens|[eo]r|ps|i|e)")


def normal(name) -> str:
    """A name as one writes it once: ``Quercus robur``, ``Tilia × europaea``.

    Composed letters, single spaces, ``×`` for hybrids (a nothogenus is
    written ``×Cuprocyparis``), a capital genus; authors and what is below
    the species are left away. What does not read as genus and epithet, or
    names two species or a doubt ("Acer rubrum/nigrum", "Acer rubrum?"), stays
    as it is but for its letters and spaces; "" stands for no name at all,
    as do "unknown", "undetermined", "sp." and their like.
    """
    if not isinstance(name, str):
        return ""
    text = unicodedata.normalize("NFC", name).translate(_INVISIBLE)
    text = re.sub(r"\s*[\r\n]+\s*", ", ", text.strip())
    text = " ".join(text.replace("_", " ").split()).strip("'\" ")
    if text.casefold().strip(". ()") in _WORDS["no names"]:
        return ""
    if _VAGUE.search(text):
        return text
    plain = " ".join(_SIGN.sub(" × ", text).split())
    plain = re.sub(r"^× ", "×", plain)
    if plain.isupper() or plain.islower():
        plain = plain.lower()
        at = 1 if plain.startswith("×") else 0
        plain = plain[:at] + plain[at:].capitalize()
    found = _NAME.match(plain)
    if (not found or not found[4] or found[4] in _WORDS["no epithets"]
            or _TWO.search(plain, found.end()) or re.search(
                rf"(?i)\b{found[2]}\b", plain[found.end():])):
        return text
    return (f"{found[1] or ''}{found[2]} {found[3] or ''}{found[4]}")


def is_species(name: str) -> bool:
    """Whether a normal name is a genus with an epithet."""
    found = _NAME.fullmatch(name)
    return bool(found and found[4] and found[4] not in _WORDS["no epithets"]
                and not _VAGUE.search(name))


def genus(species: pd.Series) -> pd.Series:
    """The first word of normal names, without the sign of a hybrid."""
    return species.str.lstrip("× ").str.split().str[0]


def normals(column: pd.Series) -> pd.Series:
    """:func:`normal` of a long column, each distinct name once."""
    if not isinstance(column.dtype, pd.StringDtype):
        column = pd.Series([one if isinstance(one, str) else ""
                            for one in column], column.index, "str")
    codes, cells = pd.factorize(column)  # -1: missing, and so the last
    known = np.array([*map(normal, cells), ""], dtype=object)
    return pd.Series(known[codes], column.index, "str")


@cache
def alike(name) -> str:
    """What a name is compared by, however it is written; "" for no text.

    Letter case, authors, what is below the species and the sign of a hybrid
    are of no account.
    """
    if not isinstance(name, str):
        return ""
    # Of what is one name already, authors are gone before capitals are.
    return normal(normal(name).lower()).replace("× ", "").replace(
        "×", "") or as_word(name)


def as_word(word) -> str:
    """``HUMAN_OBSERVATION`` and ``humanObservation`` as one word.

    Of an address, as vocabularies have them, the last part counts.
    """
    return re.sub(r"[\W_]", "", str(word).rsplit("/", 1)[-1].casefold())


def _parents(column: str) -> dict[str, str]:
    """Plain word -> the plain word above it, or itself."""
    return {as_word(one): as_word(parent)
            for parent, children in TERMS[column].items()
            for one in (parent, *children)}


def under(values: pd.Series, column: str, words) -> np.ndarray:
    """Which of N values are among some words or their children: (N,) bool."""
    above, wanted = _parents(column), set(map(as_word, words))
    text = values.dropna().astype("str")
    known = {one: bool({as_word(one), above.get(as_word(one))} & wanted)
             for one in text.unique()}
    return text.map(known).reindex(values.index).eq(True).to_numpy()


def strange(values: pd.Series, column: str) -> pd.Series:
    """How often each word occurs that is none of the column's: (W,) int."""
    known = {*_parents(column), *_WORDS["unknown"]}
    counts = values.dropna().astype("str").value_counts()
    return counts[[as_word(one) not in known for one in counts.index]]


# Lists of trees -------------------------------------------------------------


def read_trees(trees) -> pd.DataFrame:
    """A list of trees, or a checklist that tells growth forms.

    Parameters
    ----------
    trees : path, DataFrame or iterable of str
        Names of species, in a column of a usual name (``TaxonName`` of
        BGCI's GlobalTreeSearch, ``species``, ``taxon_name``, …). With a
        column such as ``growthForm`` or ``lifeform_description`` a tree is
        what is called one there ("tree", "shrub or tree", "Baum"); without,
        all names are trees and all others are none. A column ``family``
        helps to judge what is not on the list.

    Returns
    -------
    DataFrame
        By name in one form: ``genus, family, form, tree`` (bool);
        ``attrs["whole"]``: whether what is not on it is no tree,
        ``attrs["left out"]``: rows without a name or a growth form.

    Raises
    ------
    ValueError
        No column, or none of names of species, or no growth form known.
    """
    if isinstance(trees, pd.DataFrame) and "whole" in trees.attrs:
        return trees
    if isinstance(trees, str | os.PathLike):
        trees = reading.frame(trees)
    if not isinstance(trees, pd.DataFrame):
        instance(trees, Iterable, name="trees",
                 see="a path, a table or names of species")
        trees = pd.DataFrame({"species": list(trees)}, dtype=object)
    column, form, family = (
        reading.meant(trees, what, None, "list of trees")
        for what in ("species", "growthForm", "family"))
    if column is None:
        raise ValueError("list of trees has no column that looks like names "
                         f"of species; it has {', '.join(trees)}.")
    name = normals(trees[column])
    good = name.map(is_species).astype(bool)
    known = pd.DataFrame({
        "species": name, "genus": genus(name),
        "family": trees[family] if family else None,
        "form": trees[form].astype("str") if form else "tree"})[good]
    known = known[known["form"].fillna("").str.strip() != ""]
    if known.empty:
        raise ValueError(f"list of trees has no name of a species "
                         f"{'with a growth form ' if form else ''}in its "
                         f"{len(trees)} rows (column {column!r}).")
    known["tree"] = known["form"].str.contains(TREE)
    left_out = len(trees) - len(known)
    # Of two rows with one name the one that says "tree" counts.
    known = known.sort_values("tree", kind="stable", ascending=False)
    known = known.drop_duplicates("species").set_index("species")
    known.attrs = {"whole": form is None, "left out": left_out}
    return known


def judge_trees(taxa: pd.DataFrame, trees) -> pd.DataFrame:
    """Ask the list about each taxon, and about its relatives.

    Parameters
    ----------
    taxa : DataFrame
        With ``species`` and, where known, ``family``.

    Returns
    -------
    DataFrame
        ``listed``: True, False or missing; ``why``; ``kin``: see
        :func:`kin`.
    """
    known = read_trees(trees)
    found = known[["tree", "form"]].reindex(taxa["species"])
    found = found.astype(object).set_axis(taxa.index)
    listed, why = found["tree"], "the list says " + found["form"]
    if known.attrs["whole"]:
        listed = listed.eq(True)
        count = genus(taxa["species"]).map(
            known["genus"].value_counts()).fillna(0).astype(int)
        why = ("not on the list of trees, which has " + count.astype("str")
               + " of its genus")
    return pd.DataFrame({"listed": listed, "why": why,
                         "kin": kin(known, taxa)})


def kin(known: pd.DataFrame, taxa: pd.DataFrame) -> pd.Series:
    """Share of trees among the others of its genus, else of its family.

    Returns
    -------
    (N,) float64
        Of those on the list, the taxon itself left out; NaN without any.
    """
    own = known["tree"].astype(float).reindex(taxa["species"]).to_numpy()
    share = np.full(len(taxa), np.nan)
    groups = {"genus": genus(taxa["species"])}
    if "family" in taxa:
        groups = {"family": taxa["family"], **groups}
    for rank, of in groups.items():
        trees, size = known.groupby(rank)["tree"].agg(
            ["sum", "size"]).reindex(of).to_numpy(float).T
        others = size - ~np.isnan(own)
        share = np.where(others > 0, (trees - np.nan_to_num(own))
                         / np.maximum(others, 1), share)
    return pd.Series(share, taxa.index)


def tell_alike(table: pd.DataFrame) -> None:
    """Warn where one name is written in several ways; each counts as one.

    And where names of species are, in the main, none of Latin.
    """
    for rank in table:
        names = pd.Series(table[rank].unique())
        if rank == "species":
            _tell_odd(names.dropna().astype("str"))
        for _, ways in names.groupby(names.map(alike)):
            if len(ways) > 1:
                warnings.warn(
                    f"{few(map(repr, ways))} are one {rank} written in "
                    f"{len(ways)} ways, and count as {len(ways)}. "
                    "Give them one form.", stacklevel=3)
                break


def _tell_odd(species: pd.Series) -> None:
    """Warn of common names, and of a genus nearly known by that epithet.

    An epithet that is nearly another may be one of its own.
    """
    known = load("species.csv")
    species = species[species.map(is_species).astype(bool)]
    new = species[~genus(species).isin(known["genus"])]
    odd = new[~new.str.lstrip("×").str.fullmatch(_LATIN)]
    if len(odd) > max(2, len(species) / 2) and genus(odd).nunique() > 1:
        warnings.warn(
            f"{len(odd)} of {len(species)} names look like common ones, as "
            f"{few(map(repr, odd))}. Expected are scientific names, as "
            "'Quercus robur'.", stacklevel=4)
    genera = known["genus"].groupby(
        known["species"].str.split().str[-1]).agg(list)
    for one in new:
        first, *_, last = one.split()
        if near := get_close_matches(first, genera.get(last, []), 1, 0.8):
            warnings.warn(f"{one!r} is nearly '{near[0]} {last}': misspelt? "
                          "It counts as another species.", stacklevel=4)
            break
