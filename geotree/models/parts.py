"""Parts of the compact model: names as vectors, and its constants.

Names that training never saw have vectors too. Each rank of a lineage is a
bag of hashed pieces: the whole name and its character trigrams, as in
fastText (Bojanowski et al. 2017). The vectors of the four ranks add up, so a
new oak is an oak before it is itself.
"""

import zlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from geotree import taxonomy
from geotree.variables import PATCH


class Names(NamedTuple):
    """A class table as numbers: K classes, U different names in it."""

    whole: Tensor  # (K, 4) int64: bucket of each name at its rank
    rows: Tensor  # (K, 4) int64: which of the U names it is
    pieces: Tensor  # (P,) int64: buckets of the trigrams of the U names
    starts: Tensor  # (U,) int64: where each name's begin


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

    def read(self, classes: pd.DataFrame) -> Names:
        """Hash the names of a class table."""
        # A batch of pairs has a row for each sample, so a name comes again.
        taxonomy.check(classes, *taxonomy.RANKS, once=False)
        table = classes[list(taxonomy.RANKS)].astype(str).to_numpy()  # (K, 4)
        if not len(table):
            raise ValueError("class table has no rows. taxonomy.class_table "
                             "makes one.")
        whole = [[_bucket(f"{rank}:{name.strip().lower()}", self.buckets)
                  for rank, name in zip(taxonomy.RANKS, row, strict=True)]
                 for row in table]
        rows, names = pd.factorize(table.ravel())
        pieces = [_pieces(name, self.buckets) for name in names]
        starts = np.cumsum([0, *map(len, pieces)])[:-1]
        return Names(*(torch.as_tensor(part, device=self.whole.weight.device)
                       for part in (whole, rows.reshape(-1, 4),
                                    np.concatenate(pieces), starts)))

    def forward(self, names: Names) -> Tensor:
        """(K, D), not normalised."""
        pieces = self.pieces(names.pieces, names.starts)  # (U, D)
        x = self.whole(names.whole) + pieces[names.rows]  # (K, 4, D)
        if self.training and self.dropout:
            # Cut some names to their genus, and some of those to the family.
            cut = torch.tensor([0, 0, self.dropout / 4, self.dropout],
                               device=x.device)
            kept = torch.rand(len(x), 1, device=x.device) >= cut  # (K, 4)
            x = x * kept[..., None]
        x = x.sum(dim=1)
        return x + self.contract(nn.functional.gelu(self.expand(x)))


@lru_cache(maxsize=1 << 18)
def _bucket(text: str, buckets: int) -> int:
    """Bucket 0 means nothing."""
    return 1 + zlib.crc32(text.encode()) % (buckets - 1)


@lru_cache(maxsize=1 << 17)
def _pieces(name: str, buckets: int) -> np.ndarray:
    """Buckets of the trigrams of a name: (P,) int64."""
    text = f"<{name.strip().lower()}>"
    return np.array([_bucket(text[i:i + 3], buckets)
                     for i in range(len(text) - 2)], np.int64)


# Constants of the normalisation ---------------------------------------------

_AWAY = (torch.arange(PATCH) - PATCH // 2).abs()
# Means of the tree's own pixel, of the 8 around it, of the 16 around those.
RINGS = F.normalize(F.one_hot(torch.maximum(
    _AWAY[:, None], _AWAY).flatten()).float(), p=1, dim=0)  # (25, R)
_FLOOR = 1e-4  # least variance of a ring that is taken for more than noise


def moments(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column over its valid rows.

    With NumPy: Apple's GPUs have no float64.
    """
    device = values.device
    values, valid = values.cpu().numpy(), valid.cpu().numpy()
    count = valid.sum(0).clip(min=1)
    values = values.astype(np.float64) * valid
    mean = values.sum(0) / count
    std = np.sqrt((((values - mean) * valid) ** 2).sum(0) / count)
    # A column that is constant or all missing carries nothing: leave it.
    std = np.where(std > 1e-6, std, 1.0)
    return tuple(torch.from_numpy(x.astype(np.float32)).to(device)
                 for x in (mean, std))


def whitening(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and symmetric matrix (F, F) that decorrelate (N, F) rows.

    The covariance is shrunk, the more the fewer rows there are (Ledoit &
    Wolf 2004).
    """
    from sklearn.covariance import ledoit_wolf

    values = rows.cpu().numpy().astype(np.float64)
    mean = values.mean(axis=0)
    spread, axes = np.linalg.eigh(ledoit_wolf(values)[0])
    root = axes / np.sqrt(spread + _FLOOR) @ axes.T
    return tuple(torch.from_numpy(x.astype(np.float32)).to(rows.device)
                 for x in (mean, root))


class Unfilled(TorchFunctionMode):
    """Weights get no first values: on "meta" that imports a compiler (2 s)."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
