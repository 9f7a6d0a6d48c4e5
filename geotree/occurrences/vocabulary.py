"""The words of Darwin Core as GBIF uses them, children under parents."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

# Column -> "parent: its children, …"; a word alone has none. Compared
# without case, spaces and separators.
_TERMS = {
    "basisOfRecord": """Human observation; Observation; Machine observation;
        Preserved specimen; Fossil specimen; Living specimen;
        Material sample; Material citation; Material entity; Literature;
        Occurrence""",
    "establishmentMeans": """native: native reintroduced; introduced:
        introduced assisted colonisation, introduced assisted colonization,
        naturalised, naturalized, invasive; managed; vagrant; uncertain""",
    "degreeOfEstablishment": """native; managed: captive, cultivated,
        released; unestablished: failing, casual, reproducing; established:
        colonising, colonizing, naturalised, naturalized; invasive:
        widespread invasive""",
    "occurrenceStatus": "present; absent",
    "leafType": """Evergreen Broadleaf; Deciduous Broadleaf;
        Evergreen Needleleaf; Deciduous Needleleaf""",
}
UNKNOWN = frozenset(("", "unknown", "nan", "none", "null", "notspecified"))


def plain(word) -> str:
    """``HUMAN_OBSERVATION`` and ``humanObservation`` as one word.

    Of an address, as vocabularies have them, the last part counts.
    """
    return re.sub(r"[\W_]", "", str(word).rsplit("/", 1)[-1].casefold())


def _parents(column: str) -> dict[str, str]:
    """Plain word -> the plain word above it, or itself."""
    above = {}
    for group in _TERMS[column].split(";"):
        parent, _, children = group.partition(":")
        for one in (parent, *filter(None, children.split(","))):
            above[plain(one)] = plain(parent)
    return above


def under(values: pd.Series, column: str, words) -> np.ndarray:
    """Which of N values are among some words or their children: (N,) bool."""
    above, wanted = _parents(column), set(map(plain, words))
    known = {one: bool({plain(one), above.get(plain(one))} & wanted)
             for one in values.dropna().unique()}
    return values.map(known).eq(True).to_numpy()


def strange(values: pd.Series, column: str) -> pd.Series:
    """How often each word occurs that is none of the column's: (W,) int."""
    known = {*_parents(column), *UNKNOWN}
    counts = values.dropna().value_counts()
    return counts[[plain(one) not in known for one in counts.index]]
