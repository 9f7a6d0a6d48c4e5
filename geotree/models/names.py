"""Species names as vectors, for names that training never saw too.

Each rank of a lineage is a bag of hashed pieces: the whole name and its
character trigrams, as in fastText (Bojanowski et al. 2017). The vectors of
the four ranks add up, so a new oak is an oak before it is itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

RANKS = ("leafType", "family", "genus", "species")  # coarse to fine


class Names(NamedTuple):
    """A class table as numbers."""

    whole: Tensor  # (K, 4) int64: bucket of each name
    pieces: Tensor  # (K, 4, P) int64: buckets of its trigrams, 0 = none


class NameEncoder(nn.Module):
    """Bags of hashed names → (K, D)."""

    def __init__(self, embedding: int, buckets: int, dropout: float) -> None:
        super().__init__()
        if buckets < 2:
            raise ValueError(f"buckets is {buckets}, expected at least 2.")
        self.buckets, self.dropout = buckets, dropout
        # Small at the start: a name that training never meets stays small
        # beside those that it does, and leaves its genus to speak.
        self.whole = nn.Embedding(buckets, embedding)
        self.pieces = nn.EmbeddingBag(buckets, embedding, mode="mean",
                                      padding_idx=0)
        nn.init.normal_(self.whole.weight, std=0.02)
        nn.init.normal_(self.pieces.weight, std=0.02)
        with torch.no_grad():
            self.pieces.weight[0] = 0
        self.expand = nn.Linear(embedding, 2 * embedding)
        self.contract = nn.Linear(2 * embedding, embedding)
        self._cache: tuple[tuple, Names] | None = None

    def read(self, classes: pd.DataFrame) -> Names:
        """Hash the names of a class table; the last table is remembered."""
        missing = [rank for rank in RANKS if rank not in classes.columns]
        if missing or not len(classes):
            raise ValueError(
                f"class table has {len(classes)} rows and lacks the columns "
                f"{missing}; expected at least one row with the columns "
                f"{', '.join(RANKS)}. taxonomy.class_table makes one."
            )
        key = tuple(tuple(classes[rank]) for rank in RANKS)
        if self._cache is None or self._cache[0] != key:
            self._cache = key, _hash_names(key, self.buckets)
        device = self.whole.weight.device
        return Names(*(part.to(device) for part in self._cache[1]))

    def forward(self, names: Names) -> Tensor:
        """(K, D), not normalised."""
        whole = self.whole(names.whole)  # (K, 4, D)
        pieces = self.pieces(names.pieces.flatten(0, 1)).view_as(whole)
        x = whole + pieces
        if self.training and self.dropout:
            x = x * self._keep(len(x), x.device)[..., None]
        x = x.sum(dim=1)
        return x + self.contract(nn.functional.gelu(self.expand(x)))

    def _keep(self, n: int, device: torch.device) -> Tensor:
        """Cut some names to their genus, and some of those to the family."""
        drawn = torch.rand(n, 1, device=device)
        cut = torch.tensor([0, 0, self.dropout / 4, self.dropout],
                           device=device)
        return (drawn >= cut).float()


def _hash_names(names: Sequence[Sequence[str]], buckets: int) -> Names:
    """``names`` is one sequence for each rank; bucket 0 means nothing."""
    def bucket(text: str) -> int:
        return 1 + zlib.crc32(text.encode()) % (buckets - 1)

    pieces: dict[str, list[int]] = {}
    for column in names:
        for name in set(column):
            text = f"<{str(name).strip().lower()}>"
            pieces[name] = [bucket(text[i:i + 3])
                            for i in range(len(text) - 2)]
    most = max(map(len, pieces.values()))
    padded = {name: row + [0] * (most - len(row))
              for name, row in pieces.items()}
    whole = [[bucket(f"{rank}:{str(name).strip().lower()}")
              for name in column]
             for rank, column in zip(RANKS, names, strict=True)]
    parts = [[padded[name] for name in column] for column in names]
    return Names(torch.tensor(whole).T.contiguous(),
                 torch.tensor(parts).transpose(0, 1).contiguous())
