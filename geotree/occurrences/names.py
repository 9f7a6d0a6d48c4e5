"""One form for the names of species and for the words of Darwin Core.

The words, and what is no name, are in ``geotree/data/words.json``.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pandas as pd

from geotree.data import load

_WORDS = load("words.json")
TERMS = _WORDS["terms"]  # column -> word -> what is under it
_VAGUE = re.compile(
    r"\b(?:spec|specs|sp|spp|indet|cf|aff|species|unknown|undetermined|"
    r"hybrid|nov)\b", re.IGNORECASE)
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_SIGN = re.compile(r"[×✕✖] ?|(?:^|(?<= ))[xX] (?=\S)|^[xX](?=[A-Z][a-z])")
_TWO = re.compile(r"[?/;|+×]|\b(?:or|oder|ou|vs|and|und)\b")  # names, or doubt
_WORD = r"[a-zà-ÿ][a-zà-ÿ-]+"
_NAME = re.compile(rf"(×)?([A-Z][a-zà-ÿ]+(?:-[a-zà-ÿ]+)?)(?: (× )?({_WORD}))?")


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
            or _TWO.search(plain, found.end())):
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


def plain(word) -> str:
    """``HUMAN_OBSERVATION`` and ``humanObservation`` as one word.

    Of an address, as vocabularies have them, the last part counts.
    """
    return re.sub(r"[\W_]", "", str(word).rsplit("/", 1)[-1].casefold())


def _parents(column: str) -> dict[str, str]:
    """Plain word -> the plain word above it, or itself."""
    return {plain(one): plain(parent)
            for parent, children in TERMS[column].items()
            for one in (parent, *children)}


def under(values: pd.Series, column: str, words) -> np.ndarray:
    """Which of N values are among some words or their children: (N,) bool."""
    above, wanted = _parents(column), set(map(plain, words))
    known = {one: bool({plain(one), above.get(plain(one))} & wanted)
             for one in values.dropna().unique()}
    return values.map(known).eq(True).to_numpy()


def strange(values: pd.Series, column: str) -> pd.Series:
    """How often each word occurs that is none of the column's: (W,) int."""
    known = {*_parents(column), *_WORDS["unknown"]}
    counts = values.dropna().value_counts()
    return counts[[plain(one) not in known for one in counts.index]]
