"""Explorers of samples: the taxonomy, and the model's inner space."""

from __future__ import annotations

import numpy as np
import pandas as pd
import traitlets

from geotree import plots, taxonomy, variables
from geotree.explore.explorer import _RANKS
from geotree.explore.packing import (
    Panel,
    atlas,
    greenness,
    names,
    script,
    to_bytes,
)
from geotree.shards import Batch


class TaxonomyExplorer(Panel):
    """A tree of names beside their years; see :func:`taxonomy_explorer`.

    Attributes
    ----------
    chosen : list of int
        Classes whose years are shown, at most four.
    """

    _esm = script("common.js", "taxonomy.js")
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)


class EmbeddingExplorer(Panel):
    """Points with names; see :func:`embedding_explorer`.

    Attributes
    ----------
    color : str
        The rank that colours the points.
    """

    _esm = script("common.js", "embedding.js")
    color = traitlets.Enum(_RANKS, "leafType").tag(sync=True)


def taxonomy_explorer(batch: Batch, classes: pd.DataFrame, *,
                      chosen=(), note: str = "") -> TaxonomyExplorer:
    """Family, genus and species with counts, years and example patches.

    Parameters
    ----------
    batch : Batch of N samples
        Southern samples are turned by half a year, so that years compare.
    classes : DataFrame of K rows
    chosen : list of str
        Species shown at first.
    note : str
        Where the samples come from.
    """
    green = variables.ndvi(batch.images[..., 2:3, 2:3])[..., 0, 0]  # (N, T)
    south = batch.environment[:, variables.VARIABLE_NAMES.index(
        "latitude")] < 0
    local = np.where(south[:, None], np.roll(green, 6, axis=1), green)
    frame = pd.DataFrame(local).groupby(batch.labels)
    years = {name: np.full((len(classes), 12), -128.0)
             for name in ("low", "ndvi", "high")}
    for part, share in zip(years.values(), (0.25, 0.5, 0.75), strict=True):
        found = frame.quantile(share)
        part[found.index] = (100 * found).fillna(-128)
    example = _clearest(green, batch.labels, len(classes))
    images = batch.images[example]
    images[~np.isin(range(len(classes)), batch.labels)] = variables.NODATA
    counts = np.bincount(batch.labels, minlength=len(classes))
    numbers = taxonomy.labels(pd.DataFrame({"species": list(chosen)}),
                              classes)
    data = {"classes": names(classes), "counts": to_bytes(counts, "<u4"),
            **{key: to_bytes(part, "i1") for key, part in years.items()},
            "atlas": atlas(images), "seen": greenness(images),
            "cycle": list(plots.CYCLE), "note": note}
    return TaxonomyExplorer(data=data, chosen=numbers.tolist())


def _clearest(green: np.ndarray, labels, k: int) -> np.ndarray:
    """For each class the first sample with most clear months: (K,)."""
    clear = np.isfinite(green).sum(axis=1)
    order = np.lexsort((np.arange(len(labels)), -clear, labels))
    first = np.searchsorted(labels[order], np.arange(k))
    return order[first.clip(0, len(order) - 1)]


def embedding_explorer(points: np.ndarray, batch: Batch,
                       classes: pd.DataFrame, *,
                       note: str = "") -> EmbeddingExplorer:
    """A t-SNE map whose points say what they are.

    Parameters
    ----------
    points : (N, 2) float
        Any layout in the plane.
    batch : Batch of the same N samples
    classes : DataFrame of K rows
    note : str
        Where the samples come from.
    """
    if np.shape(points) != (len(batch.labels), 2):
        raise ValueError(f"points have shape {np.shape(points)}, expected "
                         f"({len(batch.labels)}, 2), one for each sample.")
    green = variables.ndvi(batch.images[..., 2:3, 2:3])[..., 0, 0]  # (N, T)
    best = np.nan_to_num(green, nan=-2).argmax(axis=1)
    greenest = batch.images[np.arange(len(best)), best][:, None]
    place = [variables.VARIABLE_NAMES.index(name)
             for name in ("latitude", "longitude")]
    lat, lon = batch.environment[:, place].T
    x, y = np.transpose(points)
    data = {"classes": names(classes), "atlas": atlas(greenest),
            "label": to_bytes(batch.labels, "<u2"), "note": note,
            **{key: to_bytes(part, "<f4") for key, part in
               (("x", x), ("y", y), ("lat", lat), ("lon", lon))},
            "leafColors": plots.LEAF_COLORS, "cycle": list(plots.CYCLE)}
    return EmbeddingExplorer(data=data)

