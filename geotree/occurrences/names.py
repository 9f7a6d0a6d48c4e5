"""One normal form for the names of species, and what is no name."""

from __future__ import annotations

import re
import unicodedata

import pandas as pd

_NOTHING = frozenset(("", "unknown", "undetermined", "unidentified", "indet",
                      "indetermined", "sp", "spp", "spec", "species", "none",
                      "na", "n/a", "nan", "null", "-", "?", "tree", "plantae",
                      "incertae sedis", "unbestimmt", "unbekannt",
                      "indéterminé", "desconocido"))
_VAGUE = re.compile(
    r"\b(?:spec|specs|sp|spp|indet|cf|aff|species|unknown|undetermined|"
    r"hybrid|nov)\b", re.IGNORECASE)
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_SIGN = re.compile(r"[×✕✖] ?|(?:^|(?<= ))[xX] (?=\S)")
_WORD = r"[a-zà-ÿ][a-zà-ÿ-]+"
_NAME = re.compile(rf"(×)?([A-Z][a-zà-ÿ]+(?:-[a-zà-ÿ]+)?)(?: (× )?({_WORD}))?")


def normal(name) -> str:
    """A name as one writes it once: ``Quercus robur``, ``Tilia × europaea``.

    Composed letters, single spaces, ``×`` for hybrids (a nothogenus is
    written ``×Cuprocyparis``), a capital genus; authors and what is below
    the species are left away. What does not read as genus and epithet stays
    as it is but for its letters and spaces; "" stands for no name at all,
    as do "unknown", "undetermined", "sp." and their like.
    """
    if not isinstance(name, str):
        return ""
    text = unicodedata.normalize("NFC", name).translate(_INVISIBLE)
    text = " ".join(text.replace("_", " ").split()).strip("'\" ")
    if text.casefold().strip(". ()") in _NOTHING:
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
    if not found or not found[4] or found[4] in ("subsp", "var", "f", "ex"):
        return text
    return (f"{found[1] or ''}{found[2]} {found[3] or ''}{found[4]}")


def is_species(name: str) -> bool:
    """Whether a normal name is a genus with an epithet."""
    found = _NAME.fullmatch(name)
    return bool(found and found[4] and not _VAGUE.search(name))


def normals(column: pd.Series) -> pd.Series:
    """:func:`normal` of a long column, each distinct name once."""
    known = {one: normal(one) for one in column.dropna().unique()}
    return column.astype(object).map(known).fillna("").astype("str")
