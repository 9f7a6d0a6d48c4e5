"""What a sample teaches: accuracy after the same samples, for two models.

The compact model and the release's architecture start from random weights
and see the same batches of the planet in the same order. The release's
learns as published, each record against the texts of its batch, but with
all its parameters and ten times the published rate, without which so short
a run would not move it. Its text tower is random too: published, it starts
from CLIP's.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.data import Samples
from benchmarks.models import release_tokens
from geotree import evaluation, splits, training
from geotree.models.compact import CompactClip
from geotree.release.model import GeoTreeClip, ReleaseConfig
from geotree.shards import take
from geotree.training import losses

SEEN = (512, 1024, 2048, 4096)  # samples at which both are scored
MORE = 65_536  # the compact model goes on to so many
_BATCH, _TEST, _WARM_UP = 64, 1024, 8  # samples, samples, steps
_MENDED = training.Settings()
_RELEASE = training.Settings(**training.RELEASE | {"learning_rate": 1e-4})


def measure(samples: Samples, *, seen: tuple[int, ...] = SEEN,
            more: int = MORE, config: ReleaseConfig | None = None
            ) -> pd.DataFrame:
    """Top-1 on other 1° blocks after so many samples seen.

    Returns
    -------
    DataFrame
        ``model, seen, seconds, top1, low, high, n``: a row a model and
        number of samples; ``seconds`` of training alone.
    """
    torch.manual_seed(0)
    compact = CompactClip()
    words = release_tokens(samples.folder, 2000)  # whole: fewer, so quicker
    release = GeoTreeClip(config, tokenizer=words, normalization="batch")
    longer = [*seen]
    while longer[-1] * 2 <= more:
        longer.append(longer[-1] * 2)
    rows = []
    for name, model, settings, points in (
            ("compact", compact, _MENDED, longer),
            ("release's architecture", release, _RELEASE, seen)):
        rows += [{"model": name, **row}
                 for row in _curve(model, settings, samples, points, name)]
    return pd.DataFrame(rows)


def _curve(model, settings, samples, points, name) -> list[dict]:
    data = samples.packed
    parts = splits.split(data.table, kind="blocks").to_numpy()
    train = np.flatnonzero(parts == "train")
    test = data.select(np.flatnonzero(parts == "test")[:_TEST])
    recipe, classes = losses.get(settings.recipe), data.classes
    model.fit_normalisation(take(samples.batch, train))
    optimizer = torch.optim.AdamW(model.parameters(),
                                  weight_decay=settings.weight_decay)
    rows, seconds, count = [], 0.0, 0
    for step, batch in enumerate(tqdm(
            _batches(samples.batch, train, points[-1]), name,
            total=points[-1] // _BATCH, unit="step")):
        started = time.perf_counter()
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min(
                1, (step + 1) / _WARM_UP)
        batch = batch._replace(labels=torch.as_tensor(batch.labels))
        loss = recipe.loss(model, batch, losses.Choice(classes), settings)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        seconds += time.perf_counter() - started
        count += len(batch.ids)
        if count in points:
            found = evaluation.score(
                evaluation.predict(model, test, classes), test.labels,
                classes, ranks=["species"],
                blocks=evaluation.spatial_blocks(test.table))
            top1 = found[found["metric"] == "top1"].iloc[0]
            rows.append({"seen": count, "seconds": seconds,
                         "top1": top1["value"], "low": top1["low"],
                         "high": top1["high"], "n": int(top1["n"])})
    return rows


def _batches(samples, rows, total: int):
    """``total`` samples in batches, in an order that both models share."""
    rng = np.random.default_rng(0)
    passes = -(-total // len(rows))
    order = np.concatenate([rng.permutation(rows) for _ in range(passes)])
    for start in range(0, total, _BATCH):
        yield take(samples, order[start:start + _BATCH])
