# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What do pixels add?
#
# **In:** `model/` and the split. **Out:** scores with intervals, beside
# baselines and the optimum, and what pixels add to what a map knew before.
#
# A model names 70 % of the trees correctly, says a paper. Should you be
# impressed? That depends on what a map without any satellite would have
# said. In this chapter no number stands alone: below each is a baseline,
# above it, where it is known, the best that anyone could do.
#
# > **Before you start**
# >
# > *You will learn* to score at species, genus and family, to say what
# > pixels add, and to weigh pixels by place.
# >
# > *You need* [chapter 05](05-train). The species that the model never saw
# > have [a page of their own](06-unseen), and so has
# > [its confidence](06-how-sure).
# >
# > *Cost:* under a minute on two CPU cores.

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    get_ipython().run_line_magic("pip", f"install -q {source}")

# %%
import numpy as np
import pandas as pd
from geotree import baselines, chain, evaluation
from geotree import place, plots, prior, taxonomy, world
from geotree.evaluation import results

plots.style()
model, parts = chain.model(), chain.parts()
print(chain.provenance())

# %% [markdown]
# The first task is about species that training has seen, so the class table
# holds those and no other: a held-out name can not be the answer here.

# %%
classes = chain.seen_classes()
k = len(classes)
validation = chain.samples("validation", classes)
test = chain.samples("test", classes)

# %%
places = parts["test"].table
blocks = evaluation.spatial_blocks(places)
print(f"{len(test.labels):,} test records of {k} species in "
      f"{len(set(blocks))} blocks of 5°")

# %% [markdown]
# ## Sum first, then choose
#
# The genus of the likeliest species is not always the likeliest genus. Two
# oaks with 0.3 each outweigh one birch with 0.4. Reading a genus off the
# species ranks, as the release does, gets this wrong.

# %%
toy = pd.DataFrame({"species": ["Betula a", "Quercus a", "Quercus b"],
                    "genus": ["Betula", "Quercus", "Quercus"],
                    "family": ["Betulaceae", "Fagaceae", "Fagaceae"],
                    "leafType": ["Deciduous Broadleaf"] * 3})
summed, names = taxonomy.roll_up(np.array([[0.4, 0.3, 0.3]]), toy, "genus")
assert names[summed.argmax()] == "Quercus"
dict(zip(names, summed[0].round(2).tolist(), strict=True))

# %% [markdown]
# ## Seen species, new places
#
# One call makes all baselines: what reads nothing, what reads the place,
# the climate and soil, or pixels. CLIP and RemoteCLIP
# {cite}`radford2021clip,liu2024remoteclip` look at true colour and join in
# where their weights are given; what is left out is said. The last column
# is the share of the Bayes optimum's top-1, where that is known.

# %%
WEIGHTS = {"CLIP": None,  # a folder, or "openai/clip-vit-base-patch16"
           "RemoteCLIP": None}  # a file, "RemoteCLIP-ViT-B-32.pt"
answers = baselines.answers(parts["train"], parts["test"], classes,
                            weights=WEIGHTS)
for name, why in baselines.left_out(answers).items():
    print(f"{name}: {why}")
answers["compact model"] = evaluation.predict(model, test, classes)
best = chain.optimum(test, classes)
blind = baselines.best_without_pixels(answers, test.labels)

# %%
board = evaluation.leaderboard(answers, test.labels, classes, blocks=blocks,
                               reference=blind, optimum=best)
board.set_index("model").drop(columns="n").round(3)

# %% mystnb={"image": {"alt": "Species top-1 of all baselines and the compact model with 95 percent intervals, and the Bayes optimum as a line where it is known."}}
limit = (None if best is None
         else float(evaluation.hits(best, test.labels).mean()))
plots.score_bars(board, optimum=limit, highlight="compact model");

# %% [markdown]
# ## What do pixels add?
#
# This is the headline that a claim about satellites owes its readers: the
# paired difference to the best model that reads *no pixel*. We pick that
# model on the test itself, in its favour.

# %% mystnb={"image": {"alt": "Paired difference in top-1 of each model to the best baseline without pixels, with 95 percent intervals."}}
print("Best without pixels:", blind)
plots.differences(board[board["model"] != blind]);

# %% [markdown]
# ## By rank, rarity, place and source
#
# A mean over samples is a mean over frequent species. *Macro* top-1 counts
# each species once; macro F1 also asks how often a name is given in vain;
# MRR is the mean of 1 / position of the right name.

# %%
compact = answers["compact model"]
scores = evaluation.score(compact, test.labels, classes, blocks=blocks)

# %%
scores.pivot(index="rank", columns="metric", values="value").round(3)

# %%
groups = pd.DataFrame({
    "rarity": places["rarity"].to_numpy(),
    "continent": world.continent(places["countryCode"]),
    "source": places["datasetName"].to_numpy(),
    "years": np.where(places["year"] < places["year"].median(),
                      "first half", "second half")})
by = evaluation.score(compact, test.labels, classes, ranks=["species"],
                      groups=groups, blocks=blocks)

# %%
by[by["metric"] == "top1"].set_index(["by", "group"])[
    ["value", "low", "high", "n"]].round(3)

# %% [markdown]
# Rare species are few and lie in few blocks: their interval is wide, and to
# leave it out would be to invent a result.
#
# ## Pixels and place, kept apart
#
# The compact model reads the coordinates too. That wins points, but who can
# say which of the two convinced it? Hide the place from it, and let a model
# of place alone be the *range prior*:
#
# $$\log p = \log p_{\text{pixels}} + a \cdot \log p_{\text{place}} +
# \text{const}$$
#
# One number, `a`, fitted on validation; `a = 0` is allowed and means that
# the place does not help.

# %%
def without_place(samples):
    """The same samples, longitude and latitude missing."""
    hidden = samples.environment.copy()
    hidden[:, :2] = np.nan
    return samples._replace(environment=hidden)


# %%
ranges = place.Trees(parts["train"].table)
pixels, where = {}, {}
for name, samples in {"validation": validation, "test": test}.items():
    pixels[name] = evaluation.predict(model, without_place(samples),
                                      classes)
    where[name] = ranges.predict(parts[name].table, classes)

# %%
a = prior.fit_weight(pixels["validation"], where["validation"],
                     validation.labels)
both = prior.combine(pixels["test"], where["test"], a)
toy = np.log(pixels["test"][:1]) + a * np.log(
    0.999 * where["test"][:1] + 0.001 / k)
by_hand = np.exp(toy) / np.exp(toy).sum()
np.testing.assert_allclose(both[:1], by_hand, rtol=1e-3)

# %%
print(f"a = {a:.2f}")

# %% [markdown]
# Two more tools for what is known about the world but not in the pixels. A
# *checklist* keeps to species with a training record in the country (a
# user's own list works alike). *Logit adjustment*
# {cite}`menon2021adjustment` divides by how frequent each species was in
# training: what a rare species loses by being rare is given back, and the
# frequent ones pay.

# %%
listed = prior.checklist(parts["train"].table, classes,
                         places["countryCode"])
share = np.bincount(chain.samples("train", classes).labels, minlength=k)
variants = {
    "place alone": where["test"], "place hidden": pixels["test"],
    "place hidden, prior": both, "place read by the model": compact,
    "… checklist of the country": prior.restrict(compact, listed),
    "… frequency taken out": prior.adjust(compact, share / share.sum())}

# %%
table = evaluation.leaderboard(variants, test.labels, classes,
                               reference="place hidden", blocks=blocks,
                               optimum=best)
table.set_index("model")[["value", "low", "high", "macro_top1", "adds",
                          "adds_low", "adds_high", "of_optimum"]].round(3)

# %% [markdown]
# ## What each part is worth
#
# Take one part away, train again, compare. A smaller model than above, each
# arm with several seeds; the differences are paired, over blocks and seeds
# together. Too long for a page: the numbers are kept with their commit.

# %%
study = results.read("planet")
gains = study[study["metric"] == "top1_gain"].sort_values("value")
gains = gains[gains["model"] != "compact model"]
study[["commit", "device", "data_hash"]].drop_duplicates()

# %% mystnb={"image": {"alt": "Paired difference in top-1 of the compact model with one part taken away to the whole one, with intervals."}}
plots.differences(gains, names=("value", "low", "high"));

# %% [markdown]
# A dot in colour has an interval without zero; none is corrected for the
# number of arms. The grey ones show no effect at this size, whatever we
# hoped, and do not say what a part is worth in a larger model.

# %%
sure = gains[(gains["low"] > 0) | (gains["high"] < 0)]
print(f"{len(sure)} of {len(gains)} differences can be told from zero: "
      + "; ".join(f"{row['model']} {100 * row['value']:+.1f} points"
                  for _, row in sure.iterrows()))

# %% [markdown]
# The same arms as a share of the optimum, which the rows carry with them;
# mean and spread (one standard deviation) over the seeds of the weights.

# %%
import json

study = study[(study["rank"] == "species") & (study["metric"] == "top1")
              & (study["task"] == "seen species")]
limits = study["settings"].map(lambda text: json.loads(text)["optimum"])
study = study.assign(of_optimum=study["value"] / limits)
arms = study[~study["model"].str.contains("records")]
arms.groupby("model")[["value", "of_optimum"]].agg(["mean", "std"]).round(3)

# %% [markdown]
# And how much data does it take? At most so many records of each species,
# drawn anew for each seed; the dashed line is the optimum of that test.

# %%
curve = study[study["model"].str.contains("records")]
curve = curve.assign(
    records=curve["model"].str.extract(r"(\d+) records")[0].astype(int),
    model=curve["model"].str.split(" | ", regex=False).str[0])
mean = curve.groupby(["model", "records"], as_index=False)[
    ["value", "low", "high", "n", "of_optimum"]].mean()

# %% mystnb={"image": {"alt": "Accuracy against the number of training records per species, for the compact model, a forest and the nearest places, with the Bayes optimum."}}
plots.learning_curve(mean, optimum=limits.iloc[0]);

# %%
mean.pivot(index="records", columns="model", values="of_optimum").round(3)

# %% [markdown]
# ## Checks

# %%
order = np.random.default_rng(0).permutation(len(test.labels))
mixed = evaluation.predict(model, type(test)(*(x[order] for x in test)),
                           classes, batch_size=100)
np.testing.assert_allclose(mixed, compact[order], atol=1e-5)
if best is not None:
    gain = evaluation.compare(compact, best, test.labels, blocks=blocks)
    assert gain["low"] <= 0  # nobody beats the optimum beyond chance

# %% [markdown]
# ## What can go wrong
#
# Scores that are no probabilities are refused.

# %%
try:
    evaluation.score(2 * compact, test.labels, classes)
except ValueError as error:
    print(error)

# %% [markdown]
# > **Exercise**
# >
# > How often is the family right when the species is wrong?
#
# <details><summary>Solution</summary>
#
# ```python
# wrong = ~evaluation.hits(compact, test.labels)
# family, _ = taxonomy.roll_up(compact, classes, "family")
# target = taxonomy.roll_up_labels(test.labels, classes, "family")
# print(evaluation.hits(family[wrong], target[wrong]).mean())
# ```
#
# </details>
#
# ## Recap
#
# - A score needs a baseline below it, an optimum above it where there is
#   one, and an interval around it.
# - What pixels add is a paired difference to the best that reads none.
# - Sum probabilities before choosing at a coarser rank.
# - Fit the weight of the prior on validation, never on the test.
#
# Handed on: nothing; the numbers above are made on this page.
