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
# # What must a model beat?
#
# **In:** shards and the split. **Out:** `baselines.npz`, what rivals without
# a deep model say of each test record.
#
# A model names 70 % of the trees correctly, says a paper. Should you be
# impressed? In a city park with three species, no; anywhere on Earth, very.
# So before we train a network, we ask how far one gets without: with the
# frequencies, with a map of old records, with decision trees. A model that
# does not beat these has shown nothing, however deep it is.
#
# > **Before you start**
# >
# > *You will learn* which rivals belong into every table of scores, and what
# > each of them reads.
# >
# > *You need* [chapter 04](04-benchmark).
# >
# > *Cost:* a minute on two CPU cores.

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import importlib.util
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    get_ipython().run_line_magic("pip", f"install -q {source}")
    importlib.invalidate_caches()
    if importlib.util.find_spec("geotree") is None:
        sys.exit("geotree was not installed, see above. Without a network, "
                 "set `source` in this cell to a wheel that you have: "
                 "file:///content/geotree-0.1.0-py3-none-any.whl")

# %%
import numpy as np
import pandas as pd
from geotree import baselines, chain, evaluation, plots

plots.style(chain.stamp())
parts, classes = chain.parts(), chain.seen_classes()
test = chain.samples("test", classes)
print(chain.provenance())

# %% [markdown]
# The class table holds the species that training has seen and no other. Every
# test record lies in a block of the globe from which training saw nothing.
#
# ## Three kinds of rivals
#
# What is cheap, is there already, and can be explained in a sentence?
#
# - One kind reads next to nothing: the most frequent species, everywhere or in
#   each country.
# - One reads the place alone: the nearest training records vote (`nearest
#   places`), near ones more than far ones (`kernel`), or decision trees or a
#   small network are trained on the coordinates.
# - One is a usual learner of tables, a forest of random trees
#   {cite}`geurts2006extremely` or boosting, and is given what stands after the
#   comma: climate, soil and terrain (`environment`), plain statistics of the
#   pixels, or everything.
#
# *Boosting* adds small trees one after another, each trained on what those
# before it got wrong. By hand, one of the first kind, the frequencies by
# country. Each country gets those of its own training records, and one
# record's worth of those of the whole table, for a country that holds no
# record must answer, too:

# %%
known, asked = parts["train"].table, parts["test"].table

# %%
counts = pd.crosstab(known["countryCode"], known["species"]).reindex(
    index=asked["countryCode"], columns=classes["species"], fill_value=0)
usual = known["species"].value_counts(normalize=True)
odds = counts + usual.reindex(classes["species"], fill_value=0)
by_hand = odds.div(odds.sum(axis=1), axis=0).to_numpy()

# %% [markdown]
# One call makes this and all others, of the validation and the test records at
# once: each rival is trained once. CLIP and RemoteCLIP
# {cite}`radford2021clip,liu2024remoteclip` were trained by others on pictures;
# they look at true colour and join in where their weights are given. What is
# left out is said, for a table that silently lacks its strongest rival is
# worth little.

# %%
WEIGHTS = {"CLIP": None,  # a folder, or "openai/clip-vit-base-patch16"
           "RemoteCLIP": None}  # a file, "RemoteCLIP-ViT-B-32.pt"

# %%
rows = chain.splits().isin(["validation", "test"]).to_numpy()
with chain.making("baselines") as path:
    np.savez_compressed(path, **baselines.answers(
        parts["train"], chain.shards().select(rows), classes,
        weights=WEIGHTS))

# %%
answers = chain.baselines("test")
for name, why in baselines.left_out(answers).items():
    print(f"{name}: {why}")
np.testing.assert_allclose(answers["frequency by country"], by_hand,
                           rtol=1e-4)

# %% [markdown]
# ## The table to beat
#
# *Top-1* is the share of records whose right species is the likeliest, *top-5*
# that of those whose right species is among the first five. `from` and `to`
# bound the 95 % interval of top-1; it comes from drawing blocks of the globe,
# because records of one forest are right or wrong together. All numbers are
# percent. The last column is the share of the *Bayes optimum*, the best that
# any method could reach on these very records, where that is known. In the
# figure it is the dashed line.

# %%
blocks = evaluation.spatial_blocks(asked)
best = chain.optimum(test, classes)
limit = (None if best is None
         else float(evaluation.hits(best, test.labels).mean()))

# %%
blind = baselines.best_without_pixels(answers, test.labels)
board = evaluation.leaderboard(
    answers, test.labels, classes, blocks=blocks, reference=blind,
    optimum=best).set_index("model")
percent = {"value": "top-1", "low": "from", "high": "to", "top5": "top-5",
           "of_optimum": "of optimum"}
(100 * board[list(percent)].rename(columns=percent).astype(float).round(
    3)).dropna(axis=1, how="all")

# %% mystnb={"image": {"alt": "Species top-1 of all baselines with 95 percent intervals, and the Bayes optimum as a line where it is known."}}
plots.score_bars(board.reset_index(), optimum=limit);

# %%
top1 = board["value"]
print(f"n = {len(test.labels):,} test records of {len(classes)} species. "
      f"Without any pixel, '{blind}' names {top1[blind]:.1%}. A forest that "
      f"reads pixels alone names {top1['forest, pixels']:.1%}, with place and "
      f"environment as well {top1['forest, all']:.1%}.")

# %% [markdown]
# Look at the places first. Whoever knows where a tree stands knows much of
# what it is, for most species grow in a small part of the globe, and that
# costs nothing: no image, no network. What do pixels add to that? Neither of
# the last two numbers says so, nor does their difference. Take two that differ
# in nothing else: one learner, with the pixels and without, on the same
# records.

# %%
for kind in ("forest", "boosting"):
    gain = evaluation.compare(
        answers[f"{kind}, all"], answers[f"{kind}, place + environment"],
        test.labels, blocks=blocks)
    print(f"To {kind}, pixels add {100 * gain['difference']:+.1f} points "
          f"(95 %: {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})")

# %% [markdown]
# An interval that holds zero has shown nothing. What these learners make of
# plain statistics of the pixels is a first answer, and a low one: it is for a
# model that looks at the whole year to do better.

# %% [markdown]
# > **Exercise 1** (easy)
# >
# > Is a country better than a belt of latitude? Let each belt of 5° answer
# > with its most frequent species, and compare with `frequency by country`.
#
# <details><summary>Solution</summary>
#
# ```python
# belt, known_belt = (rows["decimalLatitude"] // 5 for rows in (asked, known))
# often = known.groupby(known_belt)["species"].agg(lambda s: s.mode()[0])
# right = belt.map(often).to_numpy() == asked["species"].to_numpy()
# print(f"by belt {right.mean():.1%}, by country "
#       f"{top1['frequency by country']:.1%}")
# ```
#
# A belt holds both sides of an ocean, and trees of one latitude on two
# continents are rarely of one species. A country knows the continent.
#
# </details>

# %% [markdown]
# > **Exercise 2** (medium)
# >
# > Which rival wins depends on the question. Score them by macro top-1, which
# > counts each species once. Who gains, and who falls?
#
# <details><summary>Solution</summary>
#
# ```python
# order = board[["value", "macro_top1"]].astype(float).rank(ascending=False)
# moved = (order["value"] - order["macro_top1"]).sort_values()
# print(moved.to_string())
# ```
#
# A positive number is a place gained, a half comes from a tie. A rival whose
# first answer is never a rare species falls, if it had anywhere to fall to;
# one that lets single near records speak gains, for the neighbour of a rare
# tree is often of its kind.
#
# </details>

# %% [markdown]
# > **Exercise 3** (hard)
# >
# > Two witnesses who saw different things: multiply what the trees say of the
# > place by what the forest says of the pixels. Is that better than the place
# > alone, and than one forest that was given everything?
#
# <details><summary>Solution</summary>
#
# ```python
# both = answers["trees of places"] * (answers["forest, pixels"] + 0.01)
# both = (both + 1e-9) / (both + 1e-9).sum(axis=1, keepdims=True)
# for name in ("trees of places", "forest, all"):
#     gain = evaluation.compare(both, answers[name], test.labels,
#                               blocks=blocks)
#     print(f"over '{name}': {100 * gain['difference']:+.1f} points (95 %: "
#           f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})")
# ```
#
# What independent witnesses say is multiplied, and divided by how frequent
# each species is, for both have counted that. Here it is counted twice, in
# favour of the frequent; divide by `answers["most frequent"]` to see whether
# that matters. The hundredth keeps a species alive that the pixels ruled out
# for want of records. An interval that holds zero has shown nothing;
# [chapter 06](06-zero-shot) goes this way with a weight that is fitted.
#
# </details>

# %% [markdown]
# ## Checks
#
# Rivals must be probabilities like all else that is scored here, and none may
# beat the optimum beyond chance.

# %%
for name, answer in answers.items():
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-4)
    if best is not None:
        gain = evaluation.compare(answer, best, test.labels, blocks=blocks)
        assert gain["low"] <= 0, name

# %% [markdown]
# ## What can go wrong
#
# The cheapest way to a strong rival, or a strong model, is to test it where it
# was trained. Records that are in both are refused:

# %%
try:
    baselines.answers(parts["train"], parts["train"], classes,
                      names=["nearest places"])
except ValueError as error:
    print(error)

# %% [markdown]
# ## Recap
#
# - A score without rivals says nothing. The rivals are cheap: make them first.
# - Say what each rival reads. The one to beat reads no pixel.
# - A table names what it leaves out.
#
# Handed on: `baselines.npz`, for [chapter 06](06-zero-shot) and all that
# compare.
