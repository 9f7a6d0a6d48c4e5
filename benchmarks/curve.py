"""What a sample teaches: accuracy after the same samples.

:func:`measure` compares two models, :func:`names` one model's steps with few
names, with many, and with some of the many, :func:`share` new samples with
few that come again.

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
from collections.abc import Iterator
from itertools import count as from_here

import numpy as np
import pandas as pd
import torch
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from benchmarks.data import Samples, many_classes
from benchmarks.models import release_tokens
from geotree import evaluation, splits, taxonomy, training
from geotree.models.compact import CompactClip
from geotree.planet import Planet
from geotree.release.model import GeoTreeClip, ReleaseConfig
from geotree.shards import Batch, Shards, take
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
                 for row in _curve(model, settings, samples, points, name)[0]]
    return pd.DataFrame(rows)


def names(samples: Samples, *, k: int = 21_001,
          drawn: tuple[int, ...] = (1024, 128),
          seen: tuple[int, ...] = (4096, 8192, 16_384, 32_768),
          batch: int = 256, seeds: int = 3, test: int = 4096) -> pd.DataFrame:
    """Cost of a step and top-1 with few names, many, and some of the many.

    The many are the planet's species, and made-up names in their genera of
    which there is no record. Top-1 is among all that a way compares with,
    so that a name that was never pushed away costs.

    Returns
    -------
    DataFrame
        ``model, seed, names, drawn, seen, seconds, cpu, top1, low, high,
        n``; ``cpu`` is the median of a step, in seconds of the process. In
        the last row of each number drawn, ``difference, least, most`` of
        its top-1 to that of all, paired, with its 95 % interval.
    """
    few = samples.packed.classes
    others = many_classes(k - len(few))
    many = pd.concat([few, others], ignore_index=True)[list(few)]
    rows = []
    for seed in range(seeds):
        odds = {}
        for name, classes, count in (
                ("few", few, None), ("all", many, None),
                *((f"{number:,} drawn", many, number) for number in drawn)):
            settings = training.Settings(batch_size=batch, negatives=count,
                                         seed=seed)
            found, odds[name], held = _curve(
                CompactClip(seed=seed), settings, samples, seen,
                f"{name}, seed {seed}", classes=classes, test=test)
            rows += [{"model": name, "seed": seed, "names": len(classes),
                      "drawn": count or len(classes), **row} for row in found]
            if count:
                rows[-1] |= dict(zip(
                    ("difference", "least", "most"), evaluation.compare(
                        odds[name], odds["all"], held.labels,
                        blocks=evaluation.spatial_blocks(held.table)),
                    strict=False))
    return pd.DataFrame(rows)


def _curve(model, settings, samples, points, name, *, classes=None,
           test: int = _TEST) -> tuple[list[dict], np.ndarray, Shards]:
    """The rows of one run, its last answers, and what they are of."""
    data, batch_size = samples.packed, settings.batch_size
    classes = data.classes if classes is None else classes
    parts = splits.split(data.table, kind="blocks").to_numpy()
    train = np.flatnonzero(parts == "train")
    held = data.select(np.flatnonzero(parts == "test")[:test])
    recipe = losses.get(settings.recipe)
    whole = losses.choose(classes, settings, data.labels[train])
    torch.manual_seed(settings.seed)
    model.fit_normalisation(take(samples.batch, train))
    optimizer = torch.optim.AdamW(model.parameters(),
                                  weight_decay=settings.weight_decay)
    rows, seconds, costs, count = [], 0.0, [], 0
    for step, batch in enumerate(tqdm(
            _batches(samples.batch, train, points[-1], batch_size,
                     settings.seed), name, total=points[-1] // batch_size,
            unit="step")):
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
            odds = evaluation.predict(model, held, classes)
            found = evaluation.score(
                odds, held.labels, classes, ranks=["species"],
                blocks=evaluation.spatial_blocks(held.table))
            top1 = found[found["metric"] == "top1"].iloc[0]
            rows.append({"seen": count, "seconds": seconds,
                         "cpu": statistics.median(costs),
                         "top1": top1["value"], "low": top1["low"],
                         "high": top1["high"], "n": int(top1["n"])})
    return rows, odds, held


def _batches(samples, rows, total: int, size: int, seed: int = 0):
    """``total`` samples in batches, in an order that all models share."""
    rng = np.random.default_rng(seed)
    passes = -(-total // len(rows))
    order = np.concatenate([rng.permutation(rows) for _ in range(passes)])
    for start in range(0, total, size):
        yield take(samples, order[start:start + size])


def share(*, most: int = 2**20, few: int = 8192, least: int = 2048,
          test: int = 2048, batch: int = 256) -> Iterator[dict]:
    """Share of the Bayes optimum against samples seen, new ones or a few.

    The rate is constant after a warm-up, and the weights that are scored are
    the mean of about the last tenth of the steps, so that each point is that
    of a run of its length. Test samples are of 1° blocks of their own.

    Yields
    ------
    dict
        ``model, seen, seconds, top1, low, high, n, optimum, records`` at
        each doubling; the few stop at 16 passes.
    """
    planet = Planet()
    held = next(_drawn(planet, 5 * test, apart=True))
    again = take(next(_drawn(planet, 2 * few)), slice(few))
    for name, some, last in (
            ("few, again and again",
             _batches(again, np.arange(few), 16 * few, batch), 16 * few),
            ("each seen once", _once(planet, batch), most)):
        model = CompactClip(seed=0)
        model.fit_normalisation(again)
        for row in _shares(model, some, least, last, held):
            yield {"model": name, **row}


def _drawn(planet: Planet, n: int, *, apart: bool = False
           ) -> Iterator[Batch]:
    """New records without end, ``n`` at a time, less those of the test."""
    for seed in from_here(1):
        table = planet.occurrences(n, seed=seed)
        block = np.floor(table[["decimalLatitude", "decimalLongitude"]])
        table = table[(block.sum(axis=1) % 5 == 0) == apart]
        pixels = planet.fetch(table)
        yield Batch(pixels.reflectance, pixels.environment,
                    taxonomy.labels(table, planet.classes),
                    table["gbifID"].to_numpy())


def _once(planet: Planet, size: int) -> Iterator[Batch]:
    for some in _drawn(planet, 16_384):
        for start in range(0, len(some.ids) - size + 1, size):
            yield take(some, slice(start, start + size))


def _shares(model, batches, point: int, last: int, held: Batch
            ) -> Iterator[dict]:
    """Train on ``last`` samples; a row at ``point`` and each doubling."""
    planet, settings = Planet(), training.Settings().filled(
        last, len(Planet().classes), drop_last=False)[0]
    choice = losses.choose(planet.classes, settings)
    best = planet.posterior(held.images, held.environment)
    places = pd.DataFrame(held.environment[:, :2], columns=[
        "decimalLongitude", "decimalLatitude"])
    mean = AveragedModel(model, avg_fn=lambda old, new, n: old + (
        new - old) * min(1, 10 / (n + 1)))
    optimizer = torch.optim.AdamW(losses.all_parameters(model, settings))
    torch.manual_seed(0)
    seen, seconds = 0, 0.0
    for step, batch in enumerate(batches):
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min(1, (step + 1) / 100)
        hidden = losses.hide(batch, settings)
        loss = losses.over_classes(model.train(), hidden._replace(
            labels=torch.as_tensor(batch.labels)), choice, settings)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        mean.update_parameters(model)
        seconds += time.perf_counter() - started
        seen += len(batch.ids)
        if seen >= point:
            point *= 2
            odds = evaluation.predict(mean.module, held, planet.classes)
            top1 = evaluation.score(
                odds, held.labels, planet.classes, ranks=["species"],
                blocks=evaluation.spatial_blocks(places)).query(
                    "metric == 'top1'").iloc[0]
            yield {"seen": seen, "seconds": seconds, "top1": top1["value"],
                   "low": top1["low"], "high": top1["high"],
                   "n": int(top1["n"]), "optimum": float(
                       evaluation.hits(best, held.labels).mean())}
        if seen >= last:
            return
