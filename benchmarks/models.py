"""Stages that are models: rendering, training, scoring."""

from __future__ import annotations

import statistics
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import machine, published
from benchmarks.data import LEVELS, Samples, as_release, many_classes
from benchmarks.timing import Result, compare, rates
from geotree import evaluation, place, taxonomy, training
from geotree.models.compact import CompactClip
from geotree.planet.source import Planet
from geotree.release import towers
from geotree.release.model import GeoTreeClip
from geotree.shards import Batch, Shards, from_arrays, take
from geotree.training.loop import Run

_RELEASE_BATCH = 16  # samples; one step of the released size takes seconds
_BATCH = 256


@cache
def release_model(folder: Path) -> GeoTreeClip:
    """The release's architecture at full size, random weights."""
    torch.manual_seed(0)
    return GeoTreeClip(tokenizer=release_tokens(folder),
                       normalization="batch")


def release_tokens(folder: Path, size: int = 820) -> Path:
    """A small vocabulary for the release's text tower.

    At 820 it cuts names as small as CLIP's own does, which cannot be had
    without a network: a batch is padded to about 26 tokens. Of the 6.1
    GFLOP of the release's forward pass 2.0 are text, 0.075 a token.
    """
    return towers.train_tokens(taxonomy.prompts(Planet().classes),
                        folder / f"tokens-{size}", size=size)


def render(samples: Samples, runs: int) -> Result:
    """Pixels and variables of the simulated planet."""
    planet = Planet()
    planet.fetch(samples.table.head(64))  # its maps are drawn once
    table = samples.table.head(4096)
    return compare("render planet pixels", unit="samples/s", runs=runs,
                   goal="≥ 5,000 a core",
                   ours=lambda: len(planet.fetch(table).status))


def train(samples: Samples, runs: int) -> Result:
    """One training step, compact against the release's architecture."""
    data = samples.packed
    batch = take(samples.batch, slice(0, _BATCH))
    model = CompactClip()
    model.fit_normalisation(batch)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    labels = torch.as_tensor(batch.labels)

    def ours():
        logits = model(batch.images, batch.environment, data.classes)
        _step(optimizer, training.class_loss(logits, labels))
        return len(labels)

    with FlopCounterMode(display=False) as counter:
        ours()
    work = counter.get_total_flops() / len(labels)
    large = release_model(samples.folder).train()
    theirs = torch.optim.AdamW(large.parameters(), lr=1e-5)
    few = as_release(take(samples.batch, slice(0, _RELEASE_BATCH)),
                     data.classes)

    def step():
        _step(theirs, published.loss(large, few))
        return _RELEASE_BATCH

    def limit():  # the samples that as many operations would be
        return machine.product() / work

    return compare("training step", unit="samples/s", runs=runs,
                   goal="≥ 25 × published", ours=ours, published=step,
                   limit=limit,
                   limit_is=f"matrix products of {work / 1e6:.0f} MFLOP "
                            "per sample",
                   note=f"compact in batches of {_BATCH}, the release's "
                        f"architecture in batches of {_RELEASE_BATCH}")


def train_release(samples: Samples, runs: int, k: int = 90) -> Result:
    """One training step of the release's architecture, 90 names."""
    data = _of_names(samples, k)
    chosen = {name: training.RELEASE[name]
              for name in ("batch_size", "learning_rate")}
    run = Run(release_model(samples.folder), data, None,
              training.Settings(**chosen), None)
    run.prepare()
    batch = next(run.samples.batches(chosen["batch_size"], shuffle=True))
    few, n = as_release(batch, data.classes), len(batch.ids)
    optimizer = torch.optim.AdamW(run.model.train().parameters(),
                                  lr=chosen["learning_rate"], fused=True)

    def ours():
        run.learn(batch)
        return n

    def step():
        _step(optimizer, published.loss(run.model, few))
        return n

    found = compare(f"training step, release architecture, {k:,} names",
                    unit="samples/s", runs=runs, goal="≥ 1.5 × published"
                    if k == 90 else "possible", ours=ours, published=step)
    found.note = (f"batches of {n}, {few[3].float().mean():.0%} of months "
                  f"present, ours {n / found.ours:.0f} s a step, the process "
                  f"of both {machine.peak_memory() / 2**30:.1f} GiB at most")
    return found


def _of_names(samples: Samples, k: int) -> Shards:
    """Samples of ``k`` species: the most frequent, or one of each made up."""
    if k <= len(samples.packed.classes):
        labels = samples.packed.labels
        often = np.bincount(labels).argsort()[-k:]
        return samples.packed.select(np.flatnonzero(np.isin(labels, often)))
    again = take(samples.batch, np.arange(k) % len(samples.batch.ids))
    return from_arrays(again.images, many_classes(k),
                       environment=again.environment)


def _step(optimizer, loss) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


@cache
def _release_rates(samples: Samples, runs: int) -> dict[str, list[float]]:
    """Samples and names a second of the release's architecture."""
    model = release_model(samples.folder).eval()
    batch = take(samples.batch, slice(0, 2 * _RELEASE_BATCH))
    classes = samples.packed.classes
    some = many_classes(_RELEASE_BATCH)
    names = [dict(zip(LEVELS, row, strict=True)) for row in some[
        ["leafType", "family", "genus", "species"]].to_numpy()]
    parts = as_release(batch, classes)

    def counted(work, units):
        def way():
            with torch.no_grad():
                work()
            return units
        return way

    return rates({
        "ours": counted(lambda: evaluation.embed(
            model, batch, batch_size=len(batch.ids)), len(batch.ids)),
        "published": counted(lambda: published.forward(model, *parts),
                             len(batch.ids)),
        "ours, names": counted(lambda: model.encode_taxa(some), len(some)),
        "published, names": counted(lambda: published.texts(model, names),
                                    len(some))}, runs=runs)


def score_release(samples: Samples, runs: int, k: int = 90) -> Result:
    """Zero-shot of 10,000 samples, the release's architecture."""
    found = _release_rates(samples, runs)
    middle = {name: statistics.median(x) for name, x in found.items()}

    def seconds(who):
        return 10_000 / middle[who] + k / middle[f"{who}, names"]

    batch = take(samples.batch, slice(0, 2 * _RELEASE_BATCH))
    texts = taxonomy.prompts(samples.packed.classes.iloc[batch.labels])
    read = release_model(samples.folder).text_encoder.tokens(texts, "cpu")

    return Result(f"zero-shot, release architecture, {k} classes",
                  "s for 10,000", "≥ 1.5 × published", ours=seconds("ours"),
                  published=seconds("published"), less_is_better=True,
                  runs=found, note=f"composed from {len(batch.ids)} samples "
                                   f"of {read[0].shape[1]} tokens and "
                                   f"{_RELEASE_BATCH} names")


def score_compact(samples: Samples, runs: int, k: int = 90) -> Result:
    """Zero-shot of 10,000 samples, compact against the release's."""
    slow = score_release(samples, runs, k)
    model, classes = CompactClip().eval(), many_classes(k)
    rows = np.arange(10_000) % len(samples.batch.ids)
    batch = take(samples.batch, rows)

    def ours():
        evaluation.predict(model, batch, classes)
        return len(batch.ids)

    found = rates({"ours": ours}, runs=runs)["ours"]
    return Result(f"zero-shot, compact, {k} classes", "s for 10,000",
                  "≥ 40 × published",
                  ours=len(rows) / statistics.median(found),
                  published=slow.published, less_is_better=True,
                  runs={"ours": found}, note=f"published: {slow.note}")


class Encoded(torch.nn.Module):
    """A model whose samples and names are encoded already."""

    def __init__(self, names: torch.Tensor):
        super().__init__()
        self.names = names

    def encode_images(self, images, environment):
        return images

    def encode_taxa(self, classes):
        return self.names

    def scale(self):
        return 20.0


@cache
def _encoded(n: int = 10_000, k: int = 21_001):
    """Features of ``n`` samples as a batch, a model that knows ``k`` names."""
    rng = np.random.default_rng(0)
    images, names = (torch.nn.functional.normalize(torch.from_numpy(
        rng.normal(size=(size, 128)).astype("f4"))) for size in (n, k))
    labels = rng.integers(0, k, n)
    return (Encoded(names), Batch(images, images, labels, np.arange(n)),
            many_classes(k))


def _many(stage: str, goal: str, runs: int, work) -> Result:
    model, batch, classes = _encoded()

    def ours():
        work(model, batch, classes)
        return len(batch.ids)

    def limit():
        for chunk in batch.images.split(512):
            for names in model.names.split(4096):
                chunk @ names.T
        return len(batch.ids)

    found = compare(stage, unit="samples/s", runs=runs, goal=goal, ours=ours,
                    limit=limit, limit_is="the matrix product alone, 512 "
                                          "rows by 4,096 names at a time")
    found.note = f"all in {len(batch.ids) / found.ours:.2f} s"
    return found


def score_many(samples: Samples, runs: int) -> Result:
    """The five likeliest of 21,001 names for 10,000 encoded samples."""
    return _many("10,000 × 21,001, five likeliest", "≥ 10,000", runs,
                 evaluation.likeliest)


def rank_many(samples: Samples, runs: int) -> Result:
    """All scores at all ranks of 10,000 encoded samples, 21,001 names."""
    def work(model, batch, classes):
        evaluation.score(evaluation.predict_batches(model, batch, classes),
                         batch.labels, classes, draws=100)

    return _many("10,000 × 21,001, scores at four ranks", "≥ 3,333", runs,
                 work)


def find_places(samples: Samples, runs: int, n: int = 6_300_000) -> Result:
    """10,000 votes of the 25 nearest of 6.3 million places, 21,001 names."""
    rng, classes = np.random.default_rng(0), many_classes(21_001)
    around = samples.table.iloc[rng.integers(0, len(samples.table), n)]
    table = pd.DataFrame({
        "decimalLatitude": (around["decimalLatitude"].to_numpy()
                            + rng.normal(0, 0.5, n)).clip(-90, 90),
        "decimalLongitude": around["decimalLongitude"].to_numpy()
        + rng.normal(0, 0.5, n),
        "species": classes["species"].array[
            rng.integers(0, len(classes), n)]})
    asked = table.sample(min(n, 10_000), random_state=0)

    def ours():
        place.Nearest(table).predict(asked, classes)
        return len(asked)

    found = compare("nearest of 6.3 million places", unit="queries/s",
                    runs=runs, goal="≥ 167", ours=ours)
    found.note = (f"{len(asked):,} in {len(asked) / found.ours:.1f} s, the "
                  "tree built anew")
    return found
