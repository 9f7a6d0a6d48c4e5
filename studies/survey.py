"""Presence, foretold from records without absences, held against a survey.

All models of ``geotree.presence`` on a whole region, and on small parts of
it that were visited at a hundred sites. The survey judges: nothing is to be
chosen by it. The data are no part of this book; made by

    python -m studies survey FOLDER
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student

from geotree import checks, presence
from geotree.evaluation import presence as scores
from studies import results

METRES = ("x", "y")
FILES = ("presence", "background", "survey")
BLOCK = 20_000  # side of the squares that intervals draw, in metres
PART = 50_000  # side of a small region
SITES, PARTS, LEAST = 100, 8, 5  # visited sites, regions, records a species
WAYS = {name: {"model": name} for name in presence.MODELS} | {
    "down-sampled forest, random background": {
        "model": "down-sampled forest", "against": "random"}}


def read(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Records, random background and survey of a region, with ``x, y``.

    Columns of the background that are no place are variables; columns of
    the survey with the name of a species hold 0 or 1.
    """
    return {name: pd.read_parquet(Path(folder) / f"{name}.parquet")
            for name in FILES}


def answers(tables: dict, ways: dict, seed: int = 0) -> Iterator:
    """Name and suitability of the survey's sites for each way to fit."""
    variables = [name for name in tables["background"]
                 if name not in ("siteid", *METRES)]
    for name, options in ways.items():
        model = presence.fit(tables["presence"], tables["background"],
                             variables=variables, coordinates=METRES,
                             seed=seed, **options)
        yield name, model.species, model.predict(tables["survey"])


def judge(tables: dict, ways: dict = WAYS, *, draws: int = 200
          ) -> pd.DataFrame:
    """AUC of each way, and what the default gains on it, paired."""
    survey = tables["survey"]
    block = scores.squares(survey["x"], survey["y"], side=BLOCK)
    checks.one_of(presence.DEFAULT, ways, name="default")
    found, rows = {}, []
    for name, species, found[name] in answers(tables, ways):
        truth = survey[species]
        mean = scores.score(found[name], truth, blocks=block, draws=draws
                            ).loc["mean"]
        rows.append({"model": name, "metric": "auc", "value": mean["auc"],
                     **mean[["low", "high"]], "n": len(survey)})
        print(f"{name}: {mean['auc']:.4f}", flush=True)
    for name, other in found.items():
        gain = scores.compare(found[presence.DEFAULT], other, truth,
                              blocks=block, draws=draws)
        rows.append({"model": name, "metric": "auc_gain_of_default",
                     "value": gain["difference"],
                     **gain[["low", "high", "n"]]})
    return pd.DataFrame(rows)


def parts(tables: dict) -> Iterator[dict]:
    """Squares with the most sites of the survey, thinned to few visits."""
    square = {name: list(zip(*(np.floor(table[list(METRES)].to_numpy().T
                                        / PART)), strict=True))
              for name, table in tables.items()}
    fullest = pd.Series(square["survey"]).value_counts().index
    number = 0
    for here in fullest:
        part = {name: table[[one == here for one in square[name]]]
                for name, table in tables.items()}
        rng, records = np.random.default_rng(number), part["presence"]
        sites = records["siteid"].unique()
        if len(sites) < SITES or len(part["background"]) < SITES:
            continue
        records = records[records["siteid"].isin(
            rng.choice(sites, SITES, replace=False))]
        often = records["species"].value_counts()
        often = often.index[often >= LEAST]
        yield part | {"presence": records[records["species"].isin(often)]}
        number += 1
        if number == PARTS:
            return


def over(found: list[pd.DataFrame]) -> pd.DataFrame:
    """Mean over regions, with its interval by Student's t."""
    errors = student.ppf(0.975, len(found) - 1)
    return pd.DataFrame([
        {"model": model, "metric": metric, "n": some["n"].sum(),
         **results.mean(some["value"], errors=errors)}
        for (model, metric), some in pd.concat(found).groupby(
            ["model", "metric"])])


def everything(folder: str | Path, data: str) -> pd.DataFrame:
    """Rows for ``results/``."""
    tables = read(folder)
    digest = results.table_hash(tables["presence"], ("species", *METRES))
    small = list(parts(tables))
    records = int(np.mean([len(part["presence"]) for part in small]))
    made = {
        "whole region": (judge(tables), {
            "records": len(tables["presence"]),
            "blocks": f"{BLOCK // 1000} km"}),
        f"parts of {PART // 1000} km": (over(
            [judge(part, draws=0) for part in small]), {
                "parts": len(small), "visited sites": SITES,
                "records": records, "blocks": "parts"})}
    return pd.concat([
        results.rows(rows[rows["model"] == name], data=data, split=split,
                     task="presence", model=name, seed=0, data_hash=digest,
                     settings=settings | {"default": presence.DEFAULT})
        for split, (rows, settings) in made.items()
        for name in rows["model"].unique()], ignore_index=True)
