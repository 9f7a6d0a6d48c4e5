"""Real patches: learnt from alone, with defaults, and after the planet.

Patches of a few hundred trees without a place, in three seasons. The
default model is held against forests in five folds; then the planet is
tried as a teacher: its model's features at 1, 3 and 10 shots against the
bare bands, and its model fine-tuned on 100 rows against a new one. The
patches are no part of this book; made by

    python -m studies patches FILE.npz
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from geotree import baselines, evaluation, splits, training
from geotree.evaluation import calibration
from geotree.models.compact import CompactClip
from geotree.planet import Planet
from geotree.shards import Batch, Shards, memory, take
from geotree.variables import NODATA, reflectance
from studies import results

MONTHS = (4, 7, 10)  # that stand for spring, summer and autumn
OFFSET = 1000  # of the processing baseline of the patches
SHOTS, ROWS = (1, 3, 10), 100
FOREST = "plain forest, all pixels"


def read(file: str | Path) -> Shards:
    """``images`` (N, 3, 10, 5, 5) and ``species`` (N) of an .npz."""
    with np.load(file, allow_pickle=False) as kept:
        return memory.from_arrays(kept["images"], kept["species"],
                                  months=MONTHS, offset=OFFSET)


def planet_model(*, records: int = 16_384, seed: int = 0, **settings
                 ) -> CompactClip:
    """The model of the planet as the patches are: these months, no place."""
    planet = Planet()
    table = planet.occurrences(records, seed=seed)
    pixels = planet.fetch(table)
    images = pixels.reflectance.copy()
    images[:, np.setdiff1d(range(12), np.array(MONTHS) - 1)] = NODATA
    data, model = memory.from_arrays(images, table), CompactClip(seed=seed)
    training.fit(model, data, settings=training.Settings(seed=seed,
                                                         **settings))
    return model


def folds(data: Shards, *, seeds: int = 3, **settings
          ) -> Iterator[pd.DataFrame]:
    """Five folds: the compact model with its defaults, and forests."""
    batch, k = data.load(), len(data.classes)
    for seed in range(seeds):
        found = {}
        for train, test in tqdm([*StratifiedKFold(
                5, shuffle=True, random_state=seed).split(
                    batch.ids, batch.labels)], f"folds, seed {seed}"):
            model = CompactClip(seed=seed)
            training.fit(model, data.select(train), progress=False,
                         settings=training.Settings(seed=seed, **settings))
            one, other = take(batch, train), take(batch, test)
            for name, odds in {
                    "compact": evaluation.predict(model, other, data.classes),
                    FOREST: _forest(one, other, seed),
                    **{name: baselines.tabular(
                        one, other, k, inputs=("pixels",), seed=seed,
                        boosting=name.startswith("boosting"))
                       for name in ("forest, pixels", "boosting, pixels")}
                    }.items():
                found.setdefault(name, np.zeros((len(batch.ids), k),
                                                np.float32))[test] = odds
        for name, odds in found.items():
            yield _rows(odds, data, found[FOREST]).assign(
                model=name, seed=seed, split="5 folds")


def _forest(train: Batch, test: Batch, seed: int) -> np.ndarray:
    """What anyone would try first: every number of a patch is a column."""
    forest = RandomForestClassifier(500, n_jobs=-1, random_state=seed)
    flat = (one.images[:, np.array(MONTHS) - 1].reshape(len(one.ids), -1)
            for one in (train, test))
    return forest.fit(next(flat), train.labels).predict_proba(next(flat))


def _rows(odds, data: Shards, other) -> pd.DataFrame:
    """Top-1, log loss and what top-1 gains on another answer, paired."""
    labels = data.load().labels
    scores = evaluation.score(odds, labels, data.classes, ranks=["species"])
    gain = evaluation.compare(odds, other, labels)
    return pd.concat([scores[scores["metric"].isin(["top1", "macro_top1"])],
                      pd.DataFrame([
        {"metric": "log_loss", "n": len(labels),
         "value": calibration.log_loss(odds, labels).mean()},
        {"metric": "top1_gain", "value": gain["difference"],
         **gain[["low", "high", "n"]]}])], ignore_index=True)


def shots(data: Shards, models: dict[str, CompactClip], *, draws: int = 100
          ) -> Iterator[pd.DataFrame]:
    """Nearest class mean of features, balanced, over draws of supports."""
    batch, k = data.load(), len(data.classes)
    bare = np.nanmean(reflectance(
        batch.images[:, np.array(MONTHS) - 1, :, 1:4, 1:4]), axis=(-2, -1)
        ).reshape(len(batch.ids), -1)
    # What is missing is as it is on average.
    features = {"bare bands": np.nan_to_num(
        (bare - np.nanmean(bare, axis=0)) / np.nanstd(bare, axis=0))}
    features |= {name: evaluation.embed(model, batch)
                 for name, model in models.items()}
    for shot in SHOTS:
        found = {name: [] for name in features}
        for draw in range(draws):
            support, query = splits.k_shot(batch.labels, shot, seed=draw)
            for name, one in features.items():
                means = evaluation.class_means(
                    one[support], batch.labels[support], k)
                right = evaluation.nearest_mean(one[query], means).argmax(
                    axis=1) == batch.labels[query]
                found[name].append(pd.Series(right).groupby(
                    batch.labels[query]).mean().mean())
        yield from _over(found, "bare bands", split=f"{shot} shots")


def tuned(data: Shards, model: CompactClip, *, draws: int = 10, **settings
          ) -> Iterator[pd.DataFrame]:
    """A few rows: fine-tuned from the planet, and from scratch."""
    batch, found = data.load(), {"from scratch": [], "planet first": []}
    for draw in tqdm(range(draws), f"{ROWS} rows"):
        order = np.random.default_rng(draw).permutation(len(batch.ids))
        train, test = np.sort(order[:ROWS]), np.sort(order[ROWS:])
        for name, one in (("from scratch", CompactClip(seed=draw)),
                          ("planet first", copy.deepcopy(model))):
            training.fit(one, data.select(train), progress=False,
                         settings=training.Settings(seed=draw, **settings))
            odds = evaluation.predict(one, take(batch, test), data.classes)
            found[name].append(
                (odds.argmax(axis=1) == batch.labels[test]).mean())
    yield from _over(found, "from scratch", split=f"{ROWS} rows")


def _over(found: dict[str, list], base: str, *, split: str
          ) -> Iterator[pd.DataFrame]:
    """Mean over draws, and the paired gain on ``base``.

    Two standard errors either way are the draws' alone: they share their
    rows, so that the patches of other trees can lie further off.
    """
    for name, values in found.items():
        rows = []
        for metric, one in (("accuracy", np.array(values)), (
                "gain", np.array(values) - np.array(found[base]))):
            rows.append({"metric": metric, **results.mean(one, errors=2),
                         "n": len(one)})
        yield pd.DataFrame(rows).assign(model=name, seed=-1, split=split)


def everything(file: str | Path, data: str, *, records: int = 16_384,
               seeds: int = 3, draws: int = 10, **settings) -> pd.DataFrame:
    """Rows for ``results/``; other settings are for a trial."""
    real = read(file)
    planet = planet_model(records=records, **settings)
    parts = [*folds(real, seeds=seeds, **settings),
             *shots(real, {"planet's features": planet}, draws=10 * draws),
             *tuned(real, planet, draws=draws, **settings)]
    digest = results.table_hash(real.table, ("gbifID", "species"))
    return pd.concat([results.rows(
        part.drop(columns=["model", "seed", "split"]), data=data,
        task="real patches", split=part["split"].iloc[0],
        model=part["model"].iloc[0], seed=int(part["seed"].iloc[0]),
        data_hash=digest, settings={"samples": len(real)})
        for part in parts], ignore_index=True)
