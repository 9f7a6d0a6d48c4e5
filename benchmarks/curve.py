"""What a sample teaches: accuracy after the same samples.

:func:`measure` compares two models, :func:`names` one model's steps with few
names, with many, and with some of the many.

The compact model and the release's architecture start from random weights
and see the same batches of the planet in the same order. The release's
learns as published, each record against the texts of its batch, but with
all its parameters and ten times the published rate, without which so short
a run would not move it. Its text tower is random too: published, it starts
from CLIP's.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.data import Samples, many_classes
from benchmarks.models import release_tokens
from geotree import evaluation, splits, taxonomy, training
from geotree.models.compact import CompactClip
from geotree.release.model import GeoTreeClip, ReleaseConfig
from geotree.shards import take
from geotree.training import losses

SEEN = (512, 1024, 2048, 4096)  # samples at which both are scored
MORE = 65_536  # the compact model goes on to so many
_BATCH, _TEST, _WARM_UP = 64, 1024, 8  # samples, samples, steps
_MENDED = training.Settings(batch_size=_BATCH, rank_weight=0)
_RELEASE = training.Settings(**training.RELEASE | {
    "learning_rate": 1e-4, "batch_size": _BATCH})


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


def names(samples: Samples, *, k: int = 21_001, drawn: int = 1024,
          seen: tuple[int, ...] = (4096, 8192, 16_384, 32_768),
          batch: int = 256) -> pd.DataFrame:
    """Cost of a step and top-1 with few names, many, and some of the many.

    The many are the planet's species, and made-up names in their genera of
    which there is no record. Top-1 is among all that a way compares with,
    so that a name that was never pushed away costs.

    Returns
    -------
    DataFrame
            ``model, names, drawn, seen, seconds, cpu, top1, low, high, n``;
        ``cpu`` is the median of a step, in seconds of the process.
    """
    few = samples.packed.classes
    others = many_classes(k - len(few))
    many = pd.concat([few, others], ignore_index=True)[list(few)]
    rows = []
    for name, classes, count in (("few", few, None), ("all", many, None),
                                 ("drawn", many, drawn)):
        torch.manual_seed(0)
        settings = training.Settings(batch_size=batch, negatives=count)
        rows += [{"model": name, "names": len(classes),
                  "drawn": count or len(classes), **row}
                 for row in _curve(CompactClip(), settings, samples, seen,
                                   name, classes=classes)]
    return pd.DataFrame(rows)


def _curve(model, settings, samples, points, name, *, classes=None
           ) -> list[dict]:
    data, batch_size = samples.packed, settings.batch_size
    classes = data.classes if classes is None else classes
    parts = splits.split(data.table, kind="blocks").to_numpy()
    train = np.flatnonzero(parts == "train")
    test = data.select(np.flatnonzero(parts == "test")[:_TEST])
    recipe = losses.get(settings.recipe)
    whole = losses.Choice(classes, [
        (settings.rank_weight, torch.as_tensor(
            taxonomy.members(classes, rank)[1]))
        for rank in (taxonomy.Rank.GENUS, taxonomy.Rank.FAMILY)])
    model.fit_normalisation(take(samples.batch, train))
    optimizer = torch.optim.AdamW(model.parameters(),
                                  weight_decay=settings.weight_decay)
    rows, seconds, costs, count = [], 0.0, [], 0
    for step, batch in enumerate(tqdm(
            _batches(samples.batch, train, points[-1], batch_size), name,
            total=points[-1] // batch_size, unit="step")):
        started, used = time.perf_counter(), time.process_time()
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min(
                1, (step + 1) / _WARM_UP)
        choice, labels = whole, torch.as_tensor(batch.labels)
        if settings.negatives:
            choice, labels = losses.draw(whole, labels, settings.negatives)
        loss = recipe.loss(model, batch._replace(labels=labels), choice,
                           settings)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        seconds += time.perf_counter() - started
        costs.append(time.process_time() - used)
        count += len(batch.ids)
        if count in points:
            odds = evaluation.predict(model, test, classes)
            found = evaluation.score(
                odds, test.labels, classes, ranks=["species"],
                blocks=evaluation.spatial_blocks(test.table))
            top1 = found[found["metric"] == "top1"].iloc[0]
            rows.append({"seen": count, "seconds": seconds,
                         "cpu": statistics.median(costs),
                         "top1": top1["value"], "low": top1["low"],
                         "high": top1["high"], "n": int(top1["n"])})
    return rows


def _batches(samples, rows, total: int, size: int):
    """``total`` samples in batches, in an order that all models share."""
    rng = np.random.default_rng(0)
    passes = -(-total // len(rows))
    order = np.concatenate([rng.permutation(rows) for _ in range(passes)])
    for start in range(0, total, size):
        yield take(samples, order[start:start + size])
