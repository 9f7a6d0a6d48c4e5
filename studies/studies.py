"""How far place alone gets on real records: a study for ``results/``.

Too long for a page, and its table is no part of this book. Read by
chapters 04, 06 and 07, made by

    python -m studies studies GlobalGeoTree-10kEval-90.csv
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from geotree import (
    baselines,
    evaluation,
    place,
    splits,
    taxonomy,
)
from studies import results

NOT_TREES = ("higher_rank_key", "unresolved_name", "not_a_plant",
             "herb_or_vine")
APART = (0, 1, 10, 50, 200)  # km
SPLITS = {"random rows": {"kind": "random"},
          "1° blocks": {"kind": "blocks", "degrees": 1.0},
          "5° blocks": {"kind": "blocks", "degrees": 5.0},
          "by country": {"kind": "country"}, "by year": {"kind": "year"}}
HARD = "5° blocks"
PLACES: dict[str, Callable] = {
    **{f"nearest {k}": lambda table, k=k: place.Nearest(table, neighbours=k)
       for k in (1, 5, 10, 15, 25)},
    "kernel 50 km": lambda table: place.Kernel(table, km=50),
    "kernel 200 km": lambda table: place.Kernel(table, km=200),
    "trees": place.Trees, "network": place.Network}
MIXED = ("nearest 10", "kernel 50 km", "trees", "network")
QUICK = ("nearest 10", "nearest 25", "kernel 50 km")
DOUBT = 1e-3  # share of the records that stand outside any known range
SEEDS = 3  # of the folds, on the hard split


# Real places -----------------------------------------------------------------

def real(table: pd.DataFrame, data: str, *, places: dict | None = None,
         seeds: int = SEEDS, draws: int = 10, many: int = 200
         ) -> pd.DataFrame:
    """What place alone says about records, under every split.

    Parameters
    ----------
    table : DataFrame
        Occurrence table; only places, countries, years and names are read.
    data : str
        Name of the table in the results.
    places : dict, optional
        Makers of models by name; default ``PLACES``.
    seeds, draws : int
        Of the folds, and of the support.
    many : int
        Draws of the support behind the mean over draws.

    Returns
    -------
    DataFrame
        Rows for :func:`geotree.evaluation.results.write`.
    """
    classes = taxonomy.class_table(table)
    case = _Case(table, data, classes, taxonomy.labels(table, classes))
    work = itertools.chain(
        _by_split(case, places or PLACES, seeds), _apart(case),
        _shots(case, draws, many), _new_species(case, draws))
    found = list(tqdm(work, data, unit=" scores"))
    return pd.concat(found, ignore_index=True)


@dataclasses.dataclass
class _Case:
    table: pd.DataFrame
    data: str
    classes: pd.DataFrame
    labels: np.ndarray

    def __post_init__(self):
        self.blocks = evaluation.spatial_blocks(self.table)
        self.groups = self.table[["rarity"]] if "rarity" in self.table else (
            None)
        self.hash = results.table_hash(self.table)

    def rows(self, scores, **names) -> pd.DataFrame:
        return results.rows(scores, data=self.data, data_hash=self.hash,
                            **names)

    def lost(self, species, **names) -> pd.DataFrame:
        return results.excluded(species, data=self.data, data_hash=self.hash,
                                **names)

    def score(self, answer, keep, *, groups=None, **names) -> pd.DataFrame:
        scores = evaluation.score(
            answer[keep], self.labels[keep], self.classes,
            groups=None if groups is None else groups[keep],
            blocks=self.blocks[keep])
        scores = _lean(scores)
        return self.rows(scores, excluded=int((~keep).sum()), **names)


def _by_split(case, places, seeds) -> Iterator[pd.DataFrame]:
    """Each model under each split; on the hard one, all and repeatedly."""
    for split, options in SPLITS.items():
        hard = split == HARD
        answers: dict[str, list] = {}
        kept = []
        for seed in range(seeds if hard else 1):
            fold = splits.folds(case.table, seed=seed, **options)
            lost = splits.untrained(case.table, fold)
            keep = ~case.table["species"].isin(lost.index).to_numpy()
            kept.append(keep)
            found = {name: place.cross_validate(make, case.table,
                                                case.classes, fold)
                     for name, make in places.items()
                     if hard or name in QUICK}
            mixed = [found[name] for name in MIXED if name in found]
            if hard and len(mixed) > 1:
                found["mixture"] = sum(mixed) / len(mixed)
                found["product"] = _product(mixed)
            if not hard:
                found |= _frequencies(case, fold)
            for name, answer in found.items():
                answers.setdefault(name, []).append(answer[keep])
                yield case.score(
                    answer, keep, task="seen species", split=split,
                    model=name, seed=seed,
                    groups=case.groups if name == "nearest 25" else None,
                    settings={"folds": 5, "seed of": "folds"})
            yield case.lost(lost, task="seen species", split=split, seed=seed)
        if hard:
            yield from _challenge(case, answers, np.stack(kept))


def _top1(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[scores["metric"] == "top1"]


def _lean(scores: pd.DataFrame) -> pd.DataFrame:
    """All metrics of species, top-1 of the other ranks: a file to read."""
    return scores[(scores["rank"] == "species")
                  | (scores["metric"] == "top1") & (scores["by"] == "all")]


def _product(answers) -> np.ndarray:
    """Geometric mean, with a doubt of 0.001 for each class."""
    mean = np.exp(sum(np.log(x + 1e-3) for x in answers) / len(answers))
    return mean / mean.sum(axis=1, keepdims=True)


def _frequencies(case, fold) -> dict:
    country, usual = (np.empty((len(fold), len(case.classes)), np.float32)
                      for _ in range(2))
    for number in np.unique(fold):
        test = fold == number
        country[test] = baselines.by_country(
            case.table[~test], case.table[test], case.classes)
        usual[test] = baselines.majority(
            case.labels[~test], int(test.sum()), len(case.classes))
    return {"frequency by country": country, "most frequent": usual}


def _challenge(case, answers, kept) -> Iterator[pd.DataFrame]:
    """Each model against the best number of neighbours, paired.

    All seeds of the folds count, and a block is drawn with all of them. A
    row is scored in the seeds that ``kept`` (S, N) says.
    """
    labels, blocks = (np.tile(x, len(kept))[kept.ravel()]
                      for x in (case.labels, case.blocks))
    n = int(kept.any(axis=0).sum())
    whole = {name: np.concatenate(some) for name, some in answers.items()}
    top1 = {name: evaluation.hits(answer, labels).mean()
            for name, answer in whole.items()}
    nearest = [name for name in whole if name.startswith("nearest")]
    best = max(nearest, key=top1.get)
    for name, answer in whole.items():
        gain = evaluation.compare(answer, whole[best], labels, blocks=blocks)
        scores = pd.DataFrame([{
            "metric": "top1_gain", "value": gain["difference"],
            "low": gain["low"], "high": gain["high"], "n": n}])
        yield case.rows(scores, task="seen species", split=HARD, model=name,
                        seed=-1, settings={"against": best, "folds": 5,
                                           "seeds": len(kept)},
                        excluded=len(case.table) - n)


def _apart(case) -> Iterator[pd.DataFrame]:
    """Leave out each record, and all that is within some km of it."""
    for km in APART:
        model = place.Nearest(case.table, apart_km=max(km, 1e-3))
        answer = model.predict(case.table, case.classes)
        yield case.score(answer, np.ones(len(answer), bool), seed=0,
                         task="seen species", split=f"{km} km apart",
                         model="nearest 25",
                         settings={"apart_km": max(km, 1e-3)})


def _shots(case, draws, many) -> Iterator[pd.DataFrame]:
    """Draws with an interval over blocks; then the mean of many more."""
    for shots in (1, 3, 5, 10):
        count = case.table["species"].value_counts()
        few = count[count <= shots].sort_index()
        able = ~case.table["species"].isin(few.index).to_numpy()
        table = case.table[able]
        classes = taxonomy.class_table(table)
        labels = taxonomy.labels(table, classes)
        names = {"task": "k-shot", "split": f"{shots} shots",
                 "model": "nearest place", "excluded": int(few.sum())}
        settings, right = {"shots": shots}, []
        yield case.lost(few, task="k-shot", split=names["split"], seed=-1)
        for draw in range(max(draws, many)):
            support, query = splits.k_shot(labels, shots, seed=draw)
            answer = place.Nearest(table.iloc[support], neighbours=1).predict(
                table.iloc[query], classes)
            right.append(evaluation.hits(answer, labels[query]).sum())
            if draw >= draws:
                continue
            scores = evaluation.score(
                answer, labels[query], classes, ranks=["species", "genus"],
                blocks=case.blocks[able][query], draws=200)
            yield case.rows(_top1(scores), seed=draw, **names,
                            settings=settings | {"seed of": "draw"})
        for metric, n in {"top1_mean": len(query),
                          "top1_mean_of_all": len(labels)}.items():
            scores, spread = _mean(np.array(right) / n)
            yield case.rows(scores.assign(metric=metric, n=n), seed=-1,
                            **names, settings=settings | spread)


def _mean(values) -> tuple[pd.DataFrame, dict]:
    """The mean over draws with its 95 % interval, and how they spread."""
    return (pd.DataFrame([results.mean(values)]),
            {"draws": len(values), "spread": round(values.std(ddof=1), 5),
             "lowest": round(values.min(), 5),
             "highest": round(values.max(), 5)})


def _new_species(case, draws) -> Iterator[pd.DataFrame]:
    """Species without any record, from the places of their relatives."""
    for rank in ("species", "genus"):
        for draw in range(draws):
            try:
                unseen = splits.hold_out(case.table, fraction=0.15,
                                         rank=rank, seed=draw)
            except ValueError:
                continue
            new = case.table["species"].isin(unseen).to_numpy()
            seen = taxonomy.class_table(case.table[~new])
            classes = taxonomy.class_table(case.table[new])
            labels = taxonomy.labels(case.table[new], classes)
            model = place.Kernel(case.table[~new], km=200)
            answer = relatives(
                model.predict(case.table[new], seen), seen, classes,
                frequency=model.frequency)
            scores = evaluation.score(answer, labels, classes,
                                      blocks=case.blocks[new], draws=200)
            expected = pd.DataFrame([{"metric": "top1", "n": len(labels),
                                      "value": 1 / len(classes)}])
            for name, table in (("relatives' places", scores),
                                ("chance", expected)):
                yield case.rows(
                    _top1(table), task="held-out species", split=f"by {rank}",
                    model=name, seed=draw,
                    settings={"fraction": 0.15, "species": len(classes),
                              "seed of": "held-out species"})


def relatives(p_place: np.ndarray, seen: pd.DataFrame, new: pd.DataFrame, *,
              frequency: np.ndarray) -> np.ndarray:
    """Where species without any record might be, by where relatives are.

    A new species is taken to be as unusual here as the closest relatives
    with records are: those of its genus, else family, else leaf type.

    Parameters
    ----------
    p_place : (N, K) float
        Probabilities of the seen classes at each place.
    seen, new : DataFrame of K and J rows
        Class tables.
    frequency : (K,) float
        Share of the records of each seen class.

    Returns
    -------
    (N, J) float64
        Rows sum to one; all equal where no relative is known.
    """
    lift = np.ones((len(p_place), len(new)))
    for rank in taxonomy.RANKS[:-1]:  # the finest known one stays
        here, names = taxonomy.roll_up(p_place, seen, rank)
        usual = taxonomy.roll_up(np.asarray(frequency)[None], seen, rank)[0]
        column = pd.Index(names).get_indexer(new[str(rank)])
        known = column >= 0
        ratio = (here + DOUBT * usual) / (usual * (1 + DOUBT))
        lift[:, known] = ratio[:, column[known]]
    return lift / lift.sum(axis=1, keepdims=True)


def audit_gain(table: pd.DataFrame, drop: np.ndarray, data: str, *,
               draws: int = 20) -> pd.DataFrame:
    """What an audit gains: by fewer classes, and by which classes go.

    Fewer species are easier to tell apart, whichever go. So as many as the
    audit leaves out are left out at random, among those that it keeps; what
    the audit gains beyond that is due to which rows it drops.

    Parameters
    ----------
    drop : (N,) bool
        Rows that the audit leaves out.
    draws : int
        Of the species left out at random; the intervals are over these.
    """
    kept = np.array(sorted(set(table["species"][~drop])))
    lost = table["species"].nunique() - len(kept)
    found = []
    for split in ("random rows", HARD):
        whole, audited = (_vote(some, split) for some in (table,
                                                          table[~drop]))
        fewer = [_vote(table[~table["species"].isin(
            np.random.default_rng(seed).choice(kept, lost, replace=False))],
            split) for seed in range(draws)]
        gain, spread = _mean(np.array(fewer) - whole)
        rest, _ = _mean(audited - np.array(fewer))
        one = pd.DataFrame([{"value": audited - whole}])
        parts = {"all": one, "fewer classes": gain, "which classes go": rest}
        scores = pd.concat([part.assign(group=name) for name, part
                            in parts.items()], ignore_index=True)
        found.append(results.rows(
            scores.assign(metric="audit_gain", by="part", n=len(table)),
            data=data, data_hash=results.table_hash(table),
            task="seen species", split=split, model="nearest 25", seed=-1,
            settings={"species left out": lost, "folds": 5} | spread))
    return pd.concat(found, ignore_index=True)


def _vote(table: pd.DataFrame, split: str) -> float:
    """Top-1 of the vote of 25 places, of species that could be learnt."""
    classes = taxonomy.class_table(table)
    fold = splits.folds(table, **SPLITS[split])
    able = ~table["species"].isin(splits.untrained(table, fold).index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of species that are left out here
        answer = place.cross_validate(place.Nearest, table, classes, fold)
    labels = taxonomy.labels(table, classes)
    return evaluation.hits(answer, labels)[able.to_numpy()].mean()


def both(csv: str | Path) -> pd.DataFrame:
    """The release's table as it is, and without what is no tree."""
    from geotree import occurrences

    table = occurrences.read_release(csv)
    drop = occurrences.marked(table, rules=NOT_TREES)
    name = Path(csv).stem.removeprefix("GlobalGeoTree-")
    return pd.concat([real(table, name),
                      real(table[~drop].reset_index(drop=True),
                           f"{name}, audited"),
                      audit_gain(table, drop, name)], ignore_index=True)

