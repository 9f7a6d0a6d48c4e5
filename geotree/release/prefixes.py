"""Texts that begin alike, read once: rows in which beginnings are shared.

In CLIP's text tower a token sees only those before it. So what it has for
"Broadleaf / Fagaceae / Quercus" is the same under every oak.
"""

import numpy as np


def share(ids: np.ndarray, lengths: np.ndarray, most: int) -> tuple:
    """Rows of at most ``most`` tokens: of each text, what is new in its row.

    Parameters
    ----------
    ids : (K, S) int64
        The tokens of each text, then anything.
    lengths : (K,) int64
        How many they are: 1 to ``most``.

    Returns
    -------
    (R, L) int64, (R, L) int64, (R, L, L) bool, (K,) int64
        R rows of L tokens, read in place of the texts; place of each token
        in its text, from 0; which tokens it sees: itself, and those before
        it there; place of each text's last token in R · L.
    """
    order = np.lexsort(ids.T[::-1])  # then those that begin alike are near
    ids, lengths = ids[order], lengths[order]
    same = (ids[1:] == ids[:-1]).cumprod(axis=1).sum(axis=1)
    new = lengths - np.minimum(np.append(0, same), lengths - 1)
    row, stop = np.zeros((2, len(ids)), np.int64)
    at, used = -1, most
    for text in range(len(ids)):
        if used + new[text] > most:  # a new row, where nothing is shared
            at, used, new[text] = at + 1, 0, lengths[text]
        used += new[text]
        row[text], stop[text] = at, used
    text, place = np.nonzero(
        np.arange(ids.shape[1]) - lengths[:, None] + new[:, None] >= 0)
    inside = place < lengths[text]
    text, place = text[inside], place[inside]
    where = row[text], stop[text] - lengths[text] + place
    rows = np.zeros((2, at + 1, stop.max()), np.int64)
    rows[0][where], rows[1][where] = ids[text, place], place
    ends = np.empty_like(stop)
    ends[order] = row * rows.shape[2] + stop - 1
    # Row by row a text goes on until a token comes that is no deeper.
    over = np.triu(rows[1][:, None] <= rows[1][:, :, None], 1)  # (R, j, k)
    over = np.logical_or.accumulate(over, axis=2)
    return *rows, np.tril(~over.transpose(0, 2, 1)), ends
