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
# Our model was shown a year of images of each tree, and told where it stands.
# How much of its answers did it see, and how much did it look up? The score
# does not tell. In this chapter no number stands alone: below each is a
# baseline, above it, where it is known, the best that anyone could do.
#
# > **Before you start**
# >
# > *You will learn* to score at species, genus and family, to say what
# > pixels add, and to weigh pixels by place.
# >
# > *You need* [chapter 05](05-train), and the rivals of
# > [04.1](04-baselines). The species that the model never saw
# > have a page of their own, [06.1](06-unseen), and so has its confidence,
# > [06.2](06-how-sure).
# >
# > *Cost:* under a minute on two CPU cores.

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
import warnings

import numpy as np
import pandas as pd
from geotree import baselines, chain, evaluation
from geotree import globe, plots, prior, taxonomy
from geotree.evaluation import results
from geotree.variables import NODATA

plots.style(chain.stamp())
model, parts = chain.model(), chain.parts()
print(chain.provenance())

# %% [markdown]
# The table of occurrences, the cube, the shards, the split and the model are
# files of the chain. `chain.model()` opens the model of chapter 05, or trains
# it where there is none, and `chain.parts()` gives the shards by their part of
# the split; so this page can be run on its own.
#
# The first task is about species that training has seen, so the class table
# holds those and no other: a held-out name can not be the answer here. Every
# test record lies in a block of the globe from which training saw nothing, for
# the reasons that [chapter 04](04-benchmark) gives.

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
# The second number matters as much as the first. Two trees of one forest are
# not two independent questions: whoever gets one right gets the other right,
# too. So every interval below is drawn over blocks and not over records.
#
# ## Sum first, then choose
#
# A forester may not care which oak it is, as long as it is an oak. So we score
# at three ranks: species, genus and family. A model gives a probability to
# each species; what is the probability of a genus?
#
# It is the sum over its species, and that matters: the genus of the likeliest
# species is not always the likeliest genus. Two oaks with 0.3 each outweigh
# one birch with 0.4. Reading a genus off the species ranks, as the release
# does, gets this wrong. Here is the smallest example:

# %%
toy = pd.DataFrame({"species": ["Betula a", "Quercus a", "Quercus b"],
                    "genus": ["Betula", "Quercus", "Quercus"],
                    "family": ["Betulaceae", "Fagaceae", "Fagaceae"],
                    "leafType": ["Deciduous Broadleaf"] * 3})
summed, names = taxonomy.roll_up(np.array([[0.4, 0.3, 0.3]]), toy, "genus")
assert names[summed.argmax()] == "Quercus"
dict(zip(names, summed[0].round(2).tolist(), strict=True))

# %% [markdown]
# The likeliest species is the birch, and the likeliest genus is the oak. Both
# answers are right; they answer different questions.

# %% [markdown]
# ## Seen species, new places
#
# If a cheap baseline does as well as a deep model, then the deep model has not
# shown anything. [Chapter 04.1](04-baselines) has trained the rivals, and
# `chain.baselines` opens what they said of these very records. The number to
# compare is *top-1*, the share of records whose right species is the
# likeliest.

# %%
answers = chain.baselines("test")
answers["compact model"] = evaluation.predict(model, test, classes)
best = chain.optimum(test, classes)
blind = baselines.best_without_pixels(answers, test.labels)

# %%
board = evaluation.leaderboard(answers, test.labels, classes, blocks=blocks,
                               reference=blind, optimum=best)
percent = {"value": "top-1", "low": "from", "high": "to", "top5": "top-5",
           "of_optimum": "of optimum"}
(100 * board.set_index("model")[list(percent)].rename(columns=percent).astype(
    float).round(3)).dropna(axis=1, how="all")

# %% [markdown]
# All numbers are percent; `from` and `to` bound the 95 % interval of top-1,
# over blocks. The last column is the share of the *Bayes optimum*, the best
# that any method could reach on these very records, where that is known. In
# the figure it is the dashed line.

# %% mystnb={"image": {"alt": "Species top-1 of all baselines and the compact model with 95 percent intervals, and the Bayes optimum as a line where it is known."}}
limit = (None if best is None
         else float(evaluation.hits(best, test.labels).mean()))
plots.score_bars(board, optimum=limit, highlight="compact model");

# %% [markdown]
# ## The difference that counts
#
# A score with pixels and a score without them are two numbers with two wide
# intervals. But both were measured on the same records, and what is hard for
# one is mostly hard for the other. So we take the difference record by record:
# it has an interval of its own, usually a much narrower one.
#
# This paired difference, to the best model that reads *no pixel*, is the
# headline that a claim about satellites owes its readers. We even pick that
# model on the test itself, in its favour, so that what is left for the pixels
# is said with caution.

# %% mystnb={"image": {"alt": "Paired difference in top-1 of each model to the best baseline without pixels, with 95 percent intervals."}}
plots.differences(board[board["model"] != blind]);

# %%
ours = board.set_index("model").loc["compact model"]
print(f"The compact model adds {100 * ours['adds']:+.1f} points to "
      f"'{blind}' (95 %: {100 * ours['adds_low']:+.1f} to "
      f"{100 * ours['adds_high']:+.1f}).")

# %% [markdown]
# A dot to the right of zero whose bar does not touch zero is a model that
# knows something which the best rival without pixels does not. That may be the
# pixels, or it may be the better learner: two things differ at once. So there
# is a second reference, the *same* learner without the pixels. [Chapter
# 04.1](04-baselines) asks it of forest and boosting; of the compact model we
# ask it below. A coloured dot to the left is a model that would have done
# better to look at a map of records. A grey one cannot be told from zero, even
# if it reads everything: reading more is no promise of knowing more.

# %% [markdown]
# > **Exercise 1** (easy)
# >
# > The table scores species. Does the order of the models change when they
# > only have to name the family?
#
# <details><summary>Solution</summary>
#
# ```python
# families = evaluation.leaderboard(
#     answers, test.labels, classes, blocks=blocks, reference=blind,
#     rank="family")
# top = pd.DataFrame({rank: scores.set_index("model")["value"] for rank, scores
#                     in (("species", board), ("family", families))})
# print((100 * top).round(1).join(top.rank(ascending=False),
#                                 rsuffix=", place"))
# ```
#
# Models gain, because a wrong species is often of the right family. Rivals
# that read no pixel gain as well: families live in regions. The last two
# columns are the places in the order; where they differ, one model's mistakes
# were nearer to the truth than another's. So a good score at the family is no
# evidence of sight, and the baselines are needed at each rank.
#
# </details>

# %% [markdown]
# ## By rank, rarity, place and source
#
# You have a rare tree in mind, and the score that you read is a mean over
# thousands of records of other trees. What does it say about yours? Perhaps
# nothing: a mean over samples is a mean over frequent species, so a model may
# do well and know nothing of the rare ones. *Macro* top-1
# counts each species once; *macro F1* also asks how often a name is given in
# vain; *MRR*, the mean reciprocal rank, is the mean of 1 / position of the
# right name: 1 if it always comes first, a half if it always comes second.

# %%
compact = answers["compact model"]
told = evaluation.score(compact, test.labels, classes, blocks=blocks)
ranks = told.pivot(index="rank", columns="metric", values="value")
first = told[told["metric"] == "top1"].set_index("rank")

# %%
rival = evaluation.score(answers[blind], test.labels, classes, draws=0)
rival = rival[rival["metric"] == "top1"].set_index("rank")
beside = ranks.assign(low=first["low"], high=first["high"],
                      rival=rival["value"])
plots.table(100 * beside.loc[
    ["leafType", "family", "genus", "species"],
    ["rival", "top1", "low", "high", "top5", "mrr", "macro_top1",
     "macro_f1"]], "{:.1f}", index=True)

# %%
species = ranks.loc["species"]
print(f"At the species, top-1 is {species['top1']:.1%} over records and "
      f"{species['macro_top1']:.1%} over species; the right name is among "
      f"the first five for {species['top5']:.1%}, the right family comes "
      f"first for {ranks.loc['family', 'top1']:.1%}.")

# %% [markdown]
# All of it in percent, from the same answers, only summed; `rival` is the
# top-1 of the best model without pixels, and `low` to `high` the 95 % interval
# of `top1`. The gap between the first two numbers is what the rare species
# pay. The other two say how to use such a model: as one that shortens the list
# for somebody who then looks.
#
# Next, who else pays: we split the same records by rarity, by continent, by
# the data sets that most of them come from, five at most, and by year. Each
# group has its own interval.


# %%
source = pd.Series(places.get("datasetName", "unknown"), places.index)
often = source.value_counts().index[:5]
groups = pd.DataFrame({
    "rarity": places["rarity"].to_numpy(),
    "continent": pd.Series(globe.continent(globe.country_code(
        lat=places["decimalLatitude"], lon=places["decimalLongitude"],
        coast=True))).replace("", "islands"),
    "source": source.where(source.isin(often), "all others"),
    "years": np.where(places["year"] < places["year"].median(),
                      "first half", "second half")})
by = evaluation.score(compact, test.labels, classes, ranks=["species"],
                      groups=groups, blocks=blocks)

# %%
shown = by[by["metric"] == "top1"].set_index(["by", "group"])
(100 * shown[["value", "low", "high"]]).round(1).assign(n=shown["n"])

# %% [markdown]
# Percent again, with 95 % intervals. Where a group is small or lies in few
# blocks its interval is wide, and to leave it out would be to invent a result.
# Two groups whose intervals overlap widely have not been shown to differ. Do
# not look for the best continent, then: look for those whose interval begins
# where that of the whole ends.

# %%
parts_of = shown.drop("all", level="by")
total = shown.loc["all"].iloc[0]
apart = (parts_of["low"] > total["high"]) | (parts_of["high"] < total["low"])
print("Apart from the whole:", ", ".join(
    name for _, name in parts_of.index[apart]) or "none")

# %% [markdown]
# > **Exercise 2** (medium)
# >
# > How often is the family right when the species is wrong? Compare with the
# > share that guessing the most frequent family would get.
#
# <details><summary>Solution</summary>
#
# ```python
# wrong = ~evaluation.hits(compact, test.labels)
# family, _ = taxonomy.roll_up(compact, classes, "family")
# target = taxonomy.roll_up_labels(test.labels, classes, "family")
# right = evaluation.hits(family[wrong], target[wrong]).mean()
# usual = np.bincount(target[wrong]).max() / wrong.sum()
# print(f"{right:.1%}, and {usual:.1%} by the most frequent family")
# ```
#
# Only the records with a wrong species count, so the share starts from a
# handicap: these are the hard ones. What it has over the guess is what the
# model knows of kinship even where it errs. Without the guess beside it the
# number would say nothing.
#
# </details>

# %% [markdown]
# ## Pixels, climate and place, kept apart
#
# The compact model reads three things: pixels; climate, soil and terrain; and
# the coordinates. Which one convinced it? A name that rests on the coordinates
# alone is a look at a map of records, however many images went in.
#
# The model was trained with parts of its input hidden at random, so it can
# answer without any of them. We hide first the coordinates, then all 27
# variables, and see what is left. And we hide the images alone, which training
# never did as a whole: so that bar may stand lower than a model would that was
# trained without them.

# %%
def hide(samples, columns):
    """The same samples, some of the 27 variables missing."""
    environment = samples.environment.copy()
    environment[:, columns] = np.nan
    return samples._replace(environment=environment)


PLACE, ALL = slice(0, 2), slice(None)  # longitude, latitude; everything
pixels = evaluation.predict(model, hide(test, ALL), classes)

# %%
dark = test._replace(images=np.full_like(test.images, NODATA))
with warnings.catch_warnings(action="ignore"):  # it tells what we did
    unseen = evaluation.predict(model, dark, classes)

# %%
reads = {"no pixels": unseen, "pixels": pixels,
         "+ climate, soil, terrain": evaluation.predict(
             model, hide(test, PLACE), classes),
         "+ place": compact}
steps = evaluation.leaderboard(reads, test.labels, classes, blocks=blocks,
                               reference="pixels", optimum=best)

# %% mystnb={"image": {"alt": "Species top-1 of one model that is shown all but the pixels, then pixels alone, then climate, soil and terrain as well, then the coordinates as well, with intervals, and the Bayes optimum where it is known."}}
plots.score_bars(steps, optimum=limit);

# %%
one = 100 * steps.set_index("model")[
    ["value", "adds", "adds_low", "adds_high"]].astype(float)
print(f"Pixels alone: {one.loc['pixels', 'value']:.1f} %")
for name, row in one.iloc[2:].iterrows():
    print(f"{name}: {row['value']:.1f} %, {row['adds']:+.1f} points over "
          f"pixels alone (95 %: {row['adds_low']:+.1f} to "
          f"{row['adds_high']:+.1f})")

# %%
gain = 100 * evaluation.compare(compact, reads["no pixels"], test.labels,
                                blocks=blocks)
print(f"To the same model without them, images add {gain['difference']:+.1f} "
      f"points (95 %: {gain['low']:+.1f} to {gain['high']:+.1f})")

# %% [markdown]
# An interval that holds zero says that nothing was shown to be added. And
# these bars tell what *this* model draws from each input, not what the input
# holds: it was trained with all of them most of the time, so it leans on the
# strongest. A model that never had the coordinates may make more of the rest,
# and is among the arms of the study below. What the images add to the *same*
# model is measured at its own cost: it never learnt to do without them.
#
# A bar that is called "pixels" has to hide the 27 variables, or it promises
# what it does not hold. Papers are not always so careful, so ask, before you
# believe a score "from satellite images", what else went in. Even the bar in
# the middle is not free of the place: climate, soil and terrain are looked up
# by the coordinates, and not seen.
#
# ## The place as a prior
#
# A network that reads coordinates mixes them with everything else, and nobody
# can take them out again. There is a cleaner way: hide the coordinates, and
# let a model of place alone, the *range prior*, have its say beside the model
# of what is seen:
#
# $$\log p = \log p_{\text{seen}} + a \cdot \log p_{\text{place}} +
# \text{const}$$
#
# Why logarithms? What two witnesses say is multiplied: what both find likely
# stays likely, and what one of them rules out is gone. That would be right of
# independent witnesses of whom only one knows how frequent each species is.
# These two both know, so the product counts it twice, and climate depends on
# the place; that is why the second one gets a weight and not a full vote. The
# constant makes the sum one again.
#
# One number, `a`, says how much the place counts. It is fitted on validation;
# `a = 0` is allowed and means that the place does not help. Then anyone can
# ask for the answer with or without it, or put a better map of ranges in its
# place. Which map is best is asked on validation, too: one that is good by
# itself need not add most to a model that has seen climate and soil already.
# First, what each map of ranges, any rival that reads the place and no pixel,
# says about the validation records:

# %%
said = {name: answer for name, answer in chain.baselines("validation").items()
        if "place" in baselines.READS[name]
        and "pixels" not in baselines.READS[name]}
print(", ".join(said))

# %% [markdown]
# Then the model with its coordinates hidden, the choice of map and weight, and
# both together for the test records. By hand for the first of them:

# %%
seen = evaluation.predict(model, hide(validation, PLACE), classes)
name, a = prior.best(seen, said, validation.labels)
seen = reads["+ climate, soil, terrain"]
where = answers[name]
both = prior.combine(seen, where, a)

# %%
toy = np.log(seen[:1]) + a * np.log(0.999 * where[:1] + 0.001 / k)
by_hand = np.exp(toy) / np.exp(toy).sum()
np.testing.assert_allclose(both[:1], by_hand, rtol=1e-3)

# %%
print(f"Best on validation: {name}, a = {a:.2f}: one nat of evidence from "
      f"the place counts as {a:.2f} nats of evidence from what is seen.")

# %% [markdown]
# The assertion says that there is no more to it than the formula: two
# logarithms, a weight, a sum of one. A thousandth of what the map says is
# dealt out evenly to all names, so that a map which has never seen a species
# somewhere cannot forbid it.
#
# Two more tools use what is known about the world but not in the pixels. A
# *checklist* keeps to species with a training record in the country; a list of
# your own works alike. *Logit adjustment* {cite}`menon2021adjustment` divides
# by how frequent each species was in training: what a rare species loses by
# being rare is given back, and the frequent ones pay.

# %%
listed = prior.checklist(parts["train"].table, classes,
                         places["countryCode"])
share = np.bincount(chain.samples("train", classes).labels, minlength=k)
variants = {
    "place alone": where, "place hidden": seen,
    "place hidden, prior": both, "place read by the model": compact,
    "… checklist of the country": prior.restrict(compact, listed),
    "… frequency taken out": prior.adjust(compact, share / share.sum())}

# %%
table = evaluation.leaderboard(variants, test.labels, classes,
                               reference="place hidden", blocks=blocks,
                               optimum=best)
100 * table.set_index("model")[[
    "value", "macro_top1", "adds", "adds_low", "adds_high"]].rename(columns={
        "value": "top-1", "macro_top1": "macro top-1", "adds_low": "from",
        "adds_high": "to"}).astype(float).round(3)

# %%
way = table.set_index("model")["value"]
inside, beside = way["place read by the model"], way["place hidden, prior"]
print(f"The place inside the model gives {inside:.1%}, beside it as a prior "
      f"{beside:.1%}; the place alone {way['place alone']:.1%}.")

# %%
for name in list(variants)[-2:]:
    gain = 100 * evaluation.compare(variants[name], compact, test.labels,
                                    blocks=blocks)
    print(f"{name}: {gain['difference']:+.1f} points against the model as it "
          f"is (95 %: {gain['low']:+.1f} to {gain['high']:+.1f})")

# %% [markdown]
# The prior is the cleaner way, and the numbers above say whether it is the
# better one, too. It weighs two answers that were found apart; a network that
# reads all at once can learn how they go together.
#
# `adds` is the paired difference to the model that does not know where it is,
# in points, `from` and `to` its interval. The two last rows begin with the
# model that does know, so what they add to it is said below the table. Look at
# them together with the column `macro top-1`: a tool that helps the rare
# species may cost the frequent ones, and one that helps neither is better left
# away.

# %% [markdown]
# > **Exercise 3** (hard)
# >
# > Fit `a` on the test records instead of the validation records, and see how
# > much it flatters. Why is the answer so undramatic, and when would it not
# > be?
#
# <details><summary>Solution</summary>
#
# ```python
# cheat = prior.fit_weight(seen, where, test.labels)
# flattered = evaluation.hits(prior.combine(seen, where, cheat),
#                             test.labels).mean()
# honest = evaluation.hits(both, test.labels).mean()
# print(f"a = {cheat:.2f} instead of {a:.2f}: {flattered:.1%} and "
#       f"{honest:.1%}")
# ```
#
# One number fitted on a thousand records can hardly overfit. The harm comes
# with many such numbers: a weight for each species, a threshold for each
# class, a model chosen among fifty. Then the test becomes a second training
# set, and nobody notices from the score.
#
# </details>
# %% [markdown]
# ## What each part is worth
#
# Which parts of the recipe earn their keep? The honest way to find out is an
# *ablation*: take one part away, train again, compare. Each arm was trained
# with several seeds, on a smaller model than above; the differences are
# paired, over blocks and seeds together. That is too long for a page, so the
# numbers were computed before, on the planet's records of the sample run, and
# are kept with the commit and the hash of the data that made them. The model
# is smaller than the one above, learns for fewer epochs, and from a plain
# softmax over all names without the terms for genus and family, so compare
# arms with each other, not with the scores above.

# %%
study = results.read("planet")
gains = study[study["metric"] == "top1_gain"].sort_values("value")
gains = gains[gains["model"] != "compact model"]
plots.table(study[["commit", "device", "data_hash"]].drop_duplicates())

# %% mystnb={"image": {"alt": "Paired difference in top-1 of the compact model with one part taken away to the whole one, with intervals."}}
plots.differences(gains, names=("value", "low", "high"));

# %% [markdown]
# Each row is what one change does to the whole model; left of zero it does
# harm, so the part that was taken away had earned its keep. A dot in colour
# has an interval without zero; none is corrected for the number of arms, so
# expect one in twenty to be coloured by luck. The grey ones show no effect at
# this size, whatever we hoped, and do not say what a part is worth in a larger
# model.

# %%
sure = gains[(gains["low"] > 0) | (gains["high"] < 0)]
print(f"{len(sure)} of {len(gains)} differences can be told from zero: "
      + "; ".join(f"{row['model']} {100 * row['value']:+.1f} points"
                  for _, row in sure.iterrows()))

# %% [markdown]
# A point is worth more near the ceiling than far below it. So here are the
# same arms as a share of the optimum, in percent: mean and spread (one
# standard deviation) over the seeds of the weights.

# %%
import json

study = study[(study["rank"] == "species") & (study["metric"] == "top1")
              & (study["task"] == "seen species")]
limits = study["settings"].map(lambda text: json.loads(text)["optimum"])
study = study.assign(of_optimum=study["value"] / limits)
arms = study[~study["model"].str.contains("|", regex=False)]
(100 * arms.groupby("model")["of_optimum"].agg(["mean", "std"])).round(1)

# %%
print(f"The optimum is {limits.mean():.0%} on the records of the study"
      + ("." if limit is None else f", and {limit:.0%} on this page's."))

# %% [markdown]
# The spread is what luck alone does: another draw of the first weights, and
# nothing else. Arms that differ by less than that are the same to us.
#
# And how much data does it take? Whoever plans a field campaign asks this
# first. Each model was given at most so many records of each species, drawn
# anew for each seed; the dashed line is the optimum of that test. The network
# makes as many passes over its records as `training.fit` takes if nothing else
# is asked: those of chapter 05, and more where records are few. So what it
# lacks at the left end is records, and not training.

# %%
curve = study[study["model"].str.contains("records")]
curve = curve.assign(
    records=curve["model"].str.extract(r"(\d+) records")[0].astype(int),
    model=curve["model"].str.split(" | ", regex=False).str[0])
mean = curve.groupby(["model", "records"], as_index=False)[
    ["value", "low", "high", "n", "of_optimum"]].mean()
passes = curve["settings"].map(lambda text: json.loads(text)["epochs"])
print("passes of the network, by records of each species:",
      passes.groupby(curve["records"]).first().to_dict())

# %% mystnb={"image": {"alt": "Accuracy against the number of training records per species, for the compact model, a forest and the nearest places, with the Bayes optimum."}}
plots.learning_curve(mean, optimum=limits.iloc[0]);

# %%
share = mean.pivot(index="records", columns="model", values="of_optimum")
(100 * share).round(1)

# %%
for records in (share.index[0], share.index[-1]):
    order = share.loc[records].sort_values(ascending=False)
    print(f"Records of each species: {records}. Of the optimum, "
          + ", ".join(f"{name} {part:.0%}" for name, part in order.items()))

# %% [markdown]
# A vote of neighbours needs no training, so it is useful from the first record
# on. A network that reads everything has to be fed first. Whoever has a
# handful of records should know which of the two to take, and [chapter
# 07](07-few-shot) looks at that end of the curve.
#
# ## Checks
#
# Three things must hold for the numbers above. A prediction may not depend on
# the batch it came in or on the order of the samples. No model may beat the
# optimum beyond chance. And what hides all variables must hide them all.

# %%
order = np.random.default_rng(0).permutation(len(test.labels))
mixed = evaluation.predict(model, type(test)(*(x[order] for x in test)),
                           classes, batch_size=100)
np.testing.assert_allclose(mixed, compact[order], atol=1e-5)
if best is not None:
    gain = evaluation.compare(compact, best, test.labels, blocks=blocks)
    assert gain["low"] <= 0  # nobody beats the optimum beyond chance
assert np.isnan(hide(test, ALL).environment).all()

# %% [markdown]
# ## What can go wrong
#
# A model that gives *logits*, the scores before a softmax, or probabilities
# that somebody has multiplied, can still be ranked, and its top-1 looks right.
# Its sums over a genus do not. So scores that are no probabilities are
# refused.

# %%
try:
    evaluation.score(2 * compact, test.labels, classes)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Recap
#
# - A score needs a baseline below it, an optimum above it where there is
#   one, and an interval around it.
# - What pixels add is a paired difference to the best that reads none, and to
#   the same learner without them.
# - Sum probabilities before choosing at a coarser rank.
# - Fit the weight of the prior on validation, never on the test.
#
# Handed on: nothing; the numbers above are made on this page.
