"""What each part of the compact model is worth, on the simulated planet.

One part is taken away at a time; everything else, the order of the batches
included, stays the same. The optimum is known here, so every score is also
a share of it. Too long for a page: kept as rows in ``results/``, read by
chapter 06, made by

    python -m studies ablations --seeds 3
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from tqdm import tqdm

from geotree import (
    baselines,
    chain,
    evaluation,
    place,
    splits,
    taxonomy,
    training,
)
from geotree.shards import Batch, memory, take
from geotree.training import losses
from geotree.variables import NODATA
from studies import results

FULL = "compact model"
# Smaller than the book's, so that all arms and seeds take half an hour.
SIZE = {"width": 64, "depth": 2, "embedding": 64}


# Of training: the plain softmax, nothing turned.
PLAIN = {"rank_weight": 0.0, "label_smoothing": 0.0, "flips": False,
         "pixel_dropout": 0.0, "month_dropout": 0.1}


@dataclass(frozen=True)
class Arm:
    """One way to build and train the model."""

    config: dict = field(default_factory=dict)  # of CompactConfig
    settings: dict = field(default_factory=dict)  # of training.Settings
    by_batch: bool = False  # answered batch by batch, each normalised anew


ARMS = {
    FULL: Arm(),
    "no month code": Arm({"month_code": False}),
    "missing months read": Arm({"mask_missing": False}),
    "heads stay random": Arm(settings={"rates": {"project": 0,
                                                 "groups": 0}}),
    "pairs in a batch": Arm(settings={"recipe": f"{__name__}:PAIRS"}),
    "pairs, same species apart": Arm(
        settings={"recipe": f"{__name__}:APART"}),
    "normalised by batch": Arm(settings={"recipe": f"{__name__}:BY_BATCH"},
                               by_batch=True),
    "place never hidden": Arm(settings={"location_dropout": 0.0}),
    "place always hidden": Arm(settings={"location_dropout": 1.0}),
}


def fit(arm: Arm, train: Batch, classes: pd.DataFrame, *, seed: int = 0,
        **settings):
    """Train a model one way; short, and the same for each arm.

    Parameters
    ----------
    train : Batch
        With labels of ``classes``.
    settings
        Of ``training.Settings``; default: 4 epochs of batches of 128.

    Returns
    -------
    CompactClip
        In eval mode.
    """
    from geotree.models.compact import CompactClip, CompactConfig

    model = CompactClip(CompactConfig(**SIZE | arm.config), seed=seed)
    table = classes.iloc[train.labels].assign(gbifID=train.ids)
    data = memory.Samples(train, table.reset_index(drop=True), classes)
    _trained(model, data, **{
        "epochs": 4, "batch_size": 128, "seed": seed, **PLAIN,
        **arm.settings, **settings})
    return model


def _trained(model, data, **settings) -> None:
    training.fit(model, data, progress=False,
                 settings=training.Settings(**settings))


def _pairs(together: bool):
    """Loss of images against the names of their batch."""
    def loss(scores, batch, choice, settings):
        model, labels = scores.model, batch.labels
        return training.contrastive_loss(
            model.encode_images(batch.images, batch.environment),
            model.encode_taxa(choice.classes.iloc[labels.tolist()]),
            logit_scale=model.scale(), labels=labels if together else None)
    return loss


def _by_batch(scores, batch, *rest):
    scores.model.fit_normalisation(batch)
    return losses.over_classes(scores, batch, *rest)


PAIRS, APART, BY_BATCH = (
    losses.MENDED._replace(loss=loss)
    for loss in (_pairs(True), _pairs(False), _by_batch))


def answer(model, arm: Arm, data: Batch, classes: pd.DataFrame
           ) -> np.ndarray:
    """Probabilities, (N, K); by batches of 128 where the arm asks for it."""
    if not arm.by_batch:
        return evaluation.predict(model, data, classes)
    parts = []
    for start in range(0, len(data.labels), 128):
        batch = take(data, slice(start, start + 128))
        model.fit_normalisation(batch)
        parts.append(evaluation.predict(model, batch, classes))
    return np.concatenate(parts)


@dataclass
class _Planet:
    """Parts of the planet's records, with labels of their class tables."""

    epochs: int

    def __post_init__(self):
        parts = chain.parts()
        self.classes = chain.seen_classes()
        self.train, self.test = (_relabelled(parts[name], self.classes)
                                 for name in ("train", "test"))
        self.table = parts["train"].table
        self.places = parts["test"].table
        self.blocks = evaluation.spatial_blocks(self.places)
        self.new_classes = taxonomy.class_table(parts["held out"].table)
        self.new = _relabelled(parts["held out"], self.new_classes)
        self.new_blocks = evaluation.spatial_blocks(parts["held out"].table)
        self.limit = _limit(self.test, self.classes)
        self.new_limit = _limit(self.new, self.new_classes)
        self.hash = results.table_hash(chain.shards().table)

    def rows(self, scores, **names):
        settings = {"epochs": self.epochs, "optimum": self.limit,
                    "train": len(self.train.labels), **SIZE,
                    "seed of": "weights and batches"}
        return results.rows(scores, data="planet", data_hash=self.hash,
                            settings=settings | names.pop("settings", {}),
                            **names)

    def score(self, answer, **names):
        scores = evaluation.score(answer, self.test.labels, self.classes,
                                  blocks=self.blocks)
        keep = (scores["rank"] == "species") | (scores["metric"] == "top1")
        return self.rows(scores[keep], task="seen species",
                         split="1° blocks", **names)


def _limit(data: Batch, classes) -> float:
    """Top-1 of the Bayes optimum."""
    best = chain.optimum(data, classes)
    return round(evaluation.hits(best, data.labels).mean(), 5)


def _relabelled(data, classes) -> Batch:
    return data.load()._replace(labels=taxonomy.labels(data.table, classes))


def ablations(*, seeds: int = 3, epochs: int = 4,
              arms: dict[str, Arm] = ARMS) -> pd.DataFrame:
    """Each arm, each seed; then the paired difference to the full model."""
    planet = _Planet(epochs)
    found, whole = [], {}
    for name, arm in arms.items():
        for seed in range(seeds):
            model = fit(arm, planet.train, planet.classes, epochs=epochs,
                        seed=seed)
            seen = answer(model, arm, planet.test, planet.classes)
            new = answer(model, arm, planet.new, planet.new_classes)
            whole.setdefault(name, []).append(seen)
            found.append(planet.score(seen, model=name, seed=seed))
            scores = evaluation.score(new, planet.new.labels,
                                      planet.new_classes, ranks=["species"],
                                      blocks=planet.new_blocks)
            found.append(planet.rows(
                scores[scores["metric"] == "top1"], model=name, seed=seed,
                task="held-out species", split="by name",
                settings={"optimum": planet.new_limit}))
            print(f"{name}, seed {seed}: "
                  f"{evaluation.hits(seen, planet.test.labels).mean():.3f}",
                  flush=True)
    labels, blocks = (np.tile(x, seeds) for x in (planet.test.labels,
                                                  planet.blocks))
    full = np.concatenate(whole[FULL])
    for name, some in whole.items():
        gain = evaluation.compare(np.concatenate(some), full, labels,
                                  blocks=blocks)
        found.append(planet.rows(
            pd.DataFrame([{"metric": "top1_gain", "n": len(planet.blocks),
                           "value": gain["difference"], "low": gain["low"],
                           "high": gain["high"]}]),
            task="seen species", split="1° blocks", model=name, seed=-1,
            settings={"against": FULL, "seeds": seeds}))
    return pd.concat(found, ignore_index=True)


def learning_curve(*, records=(1, 3, 10, 30, 100), seeds: int = 3,
                   least_steps: int = 300) -> pd.DataFrame:
    """Scores by the largest number of training records of a species.

    Each network makes as many passes as :func:`training.fit` takes for so
    many records if nothing is asked, so that none is short of training.
    """
    planet = _Planet(0)
    usual, found = training.Settings(batch_size=128,
                                     least_steps=least_steps), []
    for most in records:
        for seed in range(seeds):
            rows = _at_most(planet.train.labels, most, seed)
            train = take(planet.train, rows)
            epochs = usual.filled(len(rows), len(planet.classes),
                                  drop_last=False)[0].epochs
            model = fit(ARMS[FULL], train, planet.classes, epochs=epochs,
                        seed=seed)
            answers = {
                FULL: evaluation.predict(model, planet.test,
                                         planet.classes),
                "forest, all": baselines.tabular(
                    train, planet.test, len(planet.classes), seed=seed),
                "nearest places": place.Nearest(
                    planet.table.iloc[rows]).predict(planet.places,
                                                     planet.classes)}
            for name, one in answers.items():
                found.append(planet.score(
                    one, model=f"{name} | {most} records", seed=seed,
                    settings={"records": most, "train": len(rows),
                              "epochs": epochs,
                              "seed of": "records, weights, batches"}))
            print(f"{most} records, seed {seed}", flush=True)
    return pd.concat(found, ignore_index=True)


def _at_most(labels, number: int, seed: int) -> np.ndarray:
    """Rows of up to ``number`` random records of each class, sorted."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = pd.Series(order).groupby(labels[order]).cumcount().to_numpy()
    return np.sort(order[rank < number])


def few_shots(*, shots=(1, 3, 5, 10), draws: int = 10, steps: int = 25,
              model=None) -> pd.DataFrame:
    """New species from exact supports: fine-tuned, and what it has to beat.

    Parameters
    ----------
    model : CompactClip, optional
        Default: the book's own, of chapter 05.
    """
    model = model or chain.model()
    held = chain.parts()["held out"]
    count = held.table["species"].value_counts()
    few = count[count <= max(shots)].sort_index()
    new = held.select(~held.table["species"].isin(few.index).to_numpy())
    classes = taxonomy.class_table(new.table)
    samples, blocks = (_relabelled(new, classes),
                       evaluation.spatial_blocks(new.table))
    features = evaluation.embed(model, samples)
    limit = _limit(samples, classes)
    data_hash, found = results.table_hash(chain.shards().table), []
    for k in shots:
        found.append(results.excluded(
            few, data="planet", data_hash=data_hash, task="k-shot", seed=-1,
            split=f"{k} shots"))
        for draw in tqdm(range(draws), f"{k} shots"):
            support, query = splits.k_shot(samples.labels, k, seed=draw)
            tuned = copy.deepcopy(model)
            _trained(tuned, new.select(support), epochs=steps, seed=draw,
                     batch_size=len(support), learning_rate=6e-4,
                     pixel_dropout=0, month_dropout=0, group_dropout=0,
                     location_dropout=0)
            means = evaluation.class_means(
                features[support], samples.labels[support], len(classes))
            answers = {
                "fine-tuned": evaluation.predict(
                    tuned, take(samples, query), classes),
                "class means": evaluation.nearest_mean(features[query],
                                                       means),
                "nearest place": place.Nearest(
                    new.table.iloc[support], neighbours=1).predict(
                        new.table.iloc[query], classes)}
            for name, answer in answers.items():
                scores = evaluation.score(
                    answer, samples.labels[query], classes,
                    ranks=["species"], blocks=blocks[query])
                found.append(results.rows(
                    scores[scores["metric"] == "top1"], data="planet",
                    task="k-shot", split=f"{k} shots", model=name, seed=draw,
                    data_hash=data_hash, excluded=int(few.sum()),
                    settings={"shots": k, "seed of": "draw", "steps": steps,
                              "species": len(classes), "optimum": limit}))
    return pd.concat(found, ignore_index=True)


def halves(*, seeds: int = 3, epochs: int = 10) -> pd.DataFrame:
    """Which half costs: place or pixels, the truth put in for one of them.

    What is likely is what the place says, times what the pixels add to it.
    Of the model, the first is learnt without pixels, and the second is what
    the whole model says beyond it.
    """
    planet = _Planet(epochs)
    images, environment = planet.test.images, planet.test.environment
    best = chain.optimum(planet.test, planet.classes)
    true = chain.planet().prior(lon=environment[:, 0], lat=environment[:, 1])
    true = true[:, pd.Index(chain.planet().classes["species"]).get_indexer(
        planet.classes["species"])]
    hidden = planet.test._replace(images=np.full_like(images, NODATA))
    blind, found = Arm(settings={"month_dropout": 1.0}), []
    for seed in range(seeds):
        whole, learnt = (
            evaluation.predict(fit(arm, planet.train, planet.classes,
                                   epochs=epochs, seed=seed), data,
                               planet.classes)
            for arm, data in ((ARMS[FULL], planet.test), (blind, hidden)))
        adds = best / np.where(true > 0, true, 1)
        for name, one in {
                "place learnt, pixels learnt": whole,
                "place learnt, pixels true": learnt * adds,
                "place true, pixels learnt": true * whole / learnt,
                "place learnt, no pixels": learnt,
                "place true, no pixels": true}.items():
            found.append(planet.score(
                one / one.sum(axis=1, keepdims=True), seed=seed,
                model=f"half | {name}"))
        print(f"halves, seed {seed}", flush=True)
    return pd.concat(found, ignore_index=True)


def everything(*, seeds: int = 3, epochs: int = 4) -> pd.DataFrame:
    """Curve, shots, halves and ablations, for ``results/planet.csv``."""
    return pd.concat([few_shots(), learning_curve(seeds=seeds),
                      halves(seeds=seeds),
                      ablations(seeds=seeds, epochs=epochs)],
                     ignore_index=True)
