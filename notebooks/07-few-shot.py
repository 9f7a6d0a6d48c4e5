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
# # What can three records teach?
#
# **In:** `model/` and the held-out species, and results on real records
# kept with the book. **Out:** few-shot scores, with their spread over draws.
#
# A botanist sends you three records of a tree that your model has never met.
# Three are better than none; but which three? Draw three others, and the score
# may move more than between two methods in a paper. This chapter learns from a
# handful of records, and keeps the luck of the draw apart from skill.
#
# > **Before you start**
# >
# > *You will learn* to recognise new species from one to ten records each, by
# > class means and by fine-tuning, and to tell the luck of a draw from skill.
# >
# > *You need* [chapter 06](06-zero-shot).
# >
# > *Cost:* about a minute on two CPU cores.

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
import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from geotree import chain, evaluation, place, plots, splits, taxonomy, training
from geotree.evaluation import results
from geotree.shards import take
from scipy.stats import t as student

SHOTS, DRAWS = (1, 3, 5, 10), 10
parts = chain.parts()

# %%
counts = parts["held out"].table["species"].value_counts()
if (counts > max(SHOTS)).sum() < 2:
    print("Fewer than two species with enough records are held out of this "
          "table. So this page is of the planet.")
    chain.use_planet()
    parts = chain.parts()

# %%
plots.style(chain.stamp())
model = chain.model()
print(chain.provenance())

# %% [markdown]
# ## The rules of the game
#
# You find a paper with a splendid few-shot score, and cannot reach it. Before
# you look for a fault in your model, look at the rules that the score was made
# by. A *support* of exactly k records of each new species may be learnt from;
# all other records are *queries* and are scored. Three things make such a
# number honest, and the release breaks each of them:
#
# 1. **Exactly k.** Its "1-shot" support is the union of picks for species,
#    genera and families: up to three records of one species.
# 2. **No support record in any score.** Its checkpoints are scored on files
#    that still hold the support.
# 3. **New means new.** Its "new" species were all in the pre-training.
#
# Why be so strict? With one record a class, a second one doubles what can be
# learnt, so "up to three" is another task. A support record among the queries
# is right by mere memory. And a species that was trained on a thousand times
# is not learnt from three records, whatever the table is called.
#
# A species needs one record more than shots, so for up to ten shots we keep
# the held-out species that have more than ten, and say how many that costs.

# %%
names = parts["held out"].table
counts = names["species"].map(names["species"].value_counts())
enough = (counts > max(SHOTS)).to_numpy()
new = parts["held out"].select(enough)
classes = taxonomy.class_table(new.table)
labels = taxonomy.labels(new.table, classes)
k = len(classes)

# %%
rare = names["species"][~enough]
print(f"{len(labels):,} records of {k} species; {rare.nunique()} species "
      f"with {len(rare)} records are too rare")

# %% [markdown]
# Those that are too rare are the very ones for which few-shot learning is
# wanted most. But with no record left over there is nothing to ask, and a
# benchmark without them is a little kinder than the field. Every benchmark of
# this kind has that limit; ours counts it.

# %% [markdown]
# The *features* of a sample are the vector into which the model turns it. They
# are computed once for all samples, for the model stays as it is until the
# section on fine-tuning. On the planet we also note which samples the Bayes
# optimum names right, since some queries cannot be told apart by anyone.

# %%
samples = new.load()._replace(labels=labels)
features = evaluation.embed(model, samples)  # (N, D), of length 1
best = chain.optimum(samples, classes)  # None where it is not known
ideal = (np.full(len(labels), np.nan) if best is None
         else evaluation.hits(best, labels))

# %% [markdown]
# ## The mean of a class is its prototype
#
# How can one learn from three records at all? Not by training a network from
# nothing. But the model of chapter 05 already turns each sample into a vector
# in which relatives lie close together. That is the hard part, and it is done.
# What is left is to say where in that space the new class lies, and for that a
# few points may do. So average the features over the support records of a
# class: the mean is called its *prototype* {cite}`snell2017prototypical`. Then
# give each query to the nearest mean. By hand on two toy classes, then with
# the library.

# %%
toy = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
mean = toy[:2].mean(axis=0)
by_hand = mean / np.linalg.norm(mean)
library = evaluation.class_means(toy, np.array([0, 0, 1]), 2)
np.testing.assert_allclose(library[0], by_hand)

# %% [markdown]
# Two vectors of the first class, one of the second; the mean is brought back
# to length one, for directions are what the model compares.
#
# The model knows something else about a new species: its name, which is a
# point in the same space. With `names=` it counts as one record more: half of
# the mean beside one record, little beside ten. Whether it points the right
# way is a question to the numbers below.
#
# ## One, three, five, ten shots; ten draws
#
# Three records can be three trees in three countries, or three neighbours in
# one park. Which records happen to be drawn matters a lot with so few. So we
# draw ten times. Three rules read the same support: the means, the means with
# the name, and the nearest support *place*, which looks at no pixel. The last
# is the one to beat: three records from a valley say where the tree grows,
# whatever it looks like.

# %%
with torch.no_grad():
    text = model.encode_taxa(classes).cpu().numpy()


def rules(support, query):
    """Answers of three rules for the queries, from one support."""
    own = features[support], labels[support], k
    near = place.Nearest(new.table.iloc[support], neighbours=1)
    return {
        "class means": evaluation.nearest_mean(
            features[query], evaluation.class_means(*own)),
        "class means and name": evaluation.nearest_mean(
            features[query], evaluation.class_means(*own, names=text)),
        "nearest place": near.predict(new.table.iloc[query], classes)}


# %%
rows = []
for shots in SHOTS:
    for draw in range(DRAWS):
        support, query = splits.k_shot(labels, shots, seed=draw)
        for name, answer in rules(support, query).items():
            right = evaluation.hits(answer, labels[query]).mean()
            rows.append((name, shots, draw, right, ideal[query].mean()))

# %% [markdown]
# `seed=draw` makes each draw one that anybody can make again. Within a draw
# all rules have the same support and the same queries. So a lucky draw is
# lucky for each of them, and their difference owes less to luck.
#
# ## Fine-tuning
#
# So far the model itself has not moved. Could it not simply be trained on the
# support? It could, and it is dangerous: there are far more weights to turn
# than examples to turn them by, so it can learn the examples by heart and
# forget what a tree looks like.
#
# The model already has an idea of each name. A few steps on the support
# records change it. Few are trained like many, on a copy: each step sees all
# of the support, slowly, so that little of what was known is lost. In training
# parts of the input were hidden at random (the four `dropout` values); here
# none are, since with so few records each part of each of them is needed. Few
# draws on this page, since each costs seconds.

# %%
STEPS, TUNED = 25, 2  # an epoch is a step; draws of each number of shots


def tuned(support, seed):
    """A copy of the model, trained on a support."""
    few, own = new.select(support), copy.deepcopy(model)
    settings = training.Settings(
        epochs=STEPS, batch_size=len(few), learning_rate=6e-4, seed=seed,
        pixel_dropout=0, month_dropout=0, group_dropout=0, location_dropout=0)
    training.fit(own, few, settings=settings, progress=False)
    return own


# %%
for shots in SHOTS:
    for draw in range(TUNED):
        support, query = splits.k_shot(labels, shots, seed=draw)
        answer = evaluation.predict(tuned(support, draw),
                                    take(samples, query), classes)
        right = evaluation.hits(answer, labels[query]).mean()
        rows.append(("fine-tuned", shots, draw, right, ideal[query].mean()))
scores = pd.DataFrame(rows, columns=["method", "shots", "draw", "top1",
                                     "optimum"])

# %% [markdown]
# Each draw began with a fresh copy of the same model: what one support has
# taught must not help with the next.
#
# Three lines belong beside all methods: what the name alone gives, without any
# record; what one gets who always says the most frequent of the new names; and
# chance. A method of one shot that falls below the first has unlearnt
# something. All scores of this page are among the new names only, which is
# easier than among all names ([chapter 06.1](06-unseen) tells both).

# %%
zero = evaluation.hits(evaluation.predict(model, samples, classes),
                       labels).mean()
usual = np.bincount(labels).max() / len(labels)
print(f"the name alone {zero:.0%}, always the most frequent of the {k} "
      f"{usual:.0%}, chance {1 / k:.0%}")


# %%
def told(table):
    """Mean ± spread over draws in percent, by number of shots."""
    return table.groupby(["method", "shots"])["top1"].agg(
        lambda some: f"{100 * some.mean():.0f} ± {100 * some.std():.0f}"
    ).unstack("shots")


told(scores)

# %%
mean = 100 * scores.pivot_table(index="method", columns="shots",
                                values="top1")
for shots in (SHOTS[0], SHOTS[-1]):
    print(f"shots {shots}: '{mean[shots].idxmax()}' is ahead with "
          f"{mean[shots].max():.0f} %, the nearest place has "
          f"{mean.loc['nearest place', shots]:.0f} %")

# %% [markdown]
# The table has top-1 in percent, one column for each number of shots: the mean
# over draws, and after the ± their spread, one standard deviation. Read along
# a row, and you see what more records are worth. Read down a column, but only
# with an eye on the spread: a mean of two draws, as fine-tuning has here, says
# little about which rule is best.
#
# How much of that was possible at all? As a percentage of the Bayes optimum on
# the same queries, where that is known:

# %%
scores["of optimum"] = scores["top1"] / scores["optimum"]
share = scores.pivot_table(index="method", columns="shots",
                           values="of optimum")
100 * share.round(2) if len(share) else "no optimum is known for real records"

# %% [markdown]
# Where it is known, this table is the fairer one. Where even the optimum is
# wrong, two species look alike and live in one place, and no rule can be
# blamed for it.

# %% [markdown]
# In the figure each dot is one draw. Look at the first column: if the dots of
# two methods overlap, a single draw could have told either story. Then follow
# one colour to the right. Does the cloud only rise, or does it shrink as well?
# More records do not just make an answer better, they make it less a matter of
# luck.

# %% mystnb={"image": {"alt": "Top-1 by number of shots for class means with and without the name, nearest place and fine-tuning, each draw a dot; the name alone, the most frequent name and chance as lines."}}
fig, ax = plt.subplots(figsize=(7.5, 3.8))
for number, (method, part) in enumerate(scores.groupby("method")):
    where = part["shots"].map(SHOTS.index) + 0.16 * (number - 1.5)
    ax.scatter(where, 100 * part["top1"], s=20, alpha=0.7, label=method,
               color=plots.CYCLE[number])
ax.axhline(100 * zero, color="#777", linestyle="--", label="name alone")
ax.axhline(100 * usual, color="#777", linestyle=":", label="most frequent")
ax.axhline(100 / k, color="#bbb", linestyle=":", label="chance")
ax.set(xticks=range(len(SHOTS)), xticklabels=SHOTS, ylabel="top-1 (%)",
       xlabel="shots per species", title=f"{k} held-out species")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5));

# %% [markdown]
# > **Exercise 1** (easy)
# >
# > How large is the chance that, with one shot and one draw each, the better
# > method looks like the worse one? Take class means with and without the
# > name, with independent draws.
#
# <details><summary>Solution</summary>
#
# ```python
# one_shot = scores[scores["shots"] == 1]
# first, second = (one_shot.loc[one_shot["method"] == name, "top1"].to_numpy()
#                  for name in ("class means", "class means and name"))
# better, worse = sorted((first, second), key=np.mean, reverse=True)
# wrong = (better[:, None] < worse[None]).mean()
# print(f"in {wrong:.0%} of the {better.size * worse.size} pairs of draws")
# ```
#
# Any share that is not close to zero means that a paper with one draw may rank
# the two the wrong way round. Paired draws, below, help a lot: both methods
# then have the same luck.
#
# </details>

# %% [markdown]
# Two draws of fine-tuning prove little. A study made ten, and its numbers are
# kept with the ablations; `python -m studies ablations` makes them anew.

# %%
study = results.read("planet")
kept = study[(study["task"] == "k-shot") & (study["metric"] == "top1")].rename(
    columns={"model": "method", "value": "top1"})
kept["shots"] = kept["split"].str.split().str[0].astype(int)
told(kept)

# %% [markdown]
# Two rows of such a table can overlap, and one method may still win each
# single draw. So subtract draw by draw: what do the steps of training add to
# the means of the same support, in points?

# %%
def over_draws(some):
    """The mean of draws, and where it lies with 95 % (Student's t)."""
    mean = some.mean()
    reach = student.ppf(0.975, len(some) - 1) * some.sem()
    return pd.Series({"mean": mean, "low": mean - reach,
                      "high": mean + reach, "spread": some.std(),
                      "above zero": (some > 0).mean() * 100})


# %%
pairs = kept.pivot(index=["shots", "seed"], columns="method", values="top1")
gain = 100 * (pairs["fine-tuned"] - pairs["class means"])
gain = gain.groupby("shots").apply(over_draws).unstack()
gain.round(1)

# %% [markdown]
# The spread is that of single draws. Their mean is better known: the error of
# a mean over ten draws is about a third of the spread, and below twice that a
# gain says little. `low` and `high` are its 95 % interval. The last column is
# the share of draws that gained, in percent.

# %%
ahead = gain.index[gain["low"] > 0]
behind = gain.index[gain["high"] < 0]
assert len(behind) == 0 and SHOTS[0] not in ahead and SHOTS[-1] in ahead
unclear = gain.index.difference(ahead)
print(f"Fine-tuning is ahead with {' and '.join(map(str, ahead))} shots; with "
      f"{', '.join(map(str, unclear))} it cannot be told.")

# %% [markdown]
# Why might fewer not do? The steps have to turn all weights of a network by a
# handful of examples, and may learn the accidents of these examples along with
# the species. A mean has nothing to turn, but it moves with the draw as well:
# compare the spreads of the two rows. These draws do not settle it.

# %% [markdown]
# ## Spread is not an interval
#
# You report a score with a "±". What may others do with it? That depends on
# what was repeated.
#
# The dots of one column say how much the *draw of the support* matters: a
# spread, in the tables after the ±. They share nearly all queries, so their
# spread says nothing about other forests. For that, draw blocks of the globe
# for one support, as in [chapter 04](04-benchmark). The two answer different
# questions. A number that comes with "±" and does not say which of them it is
# cannot be used; report both.

# %%
support, query = splits.k_shot(labels, 3, seed=0)
answer = rules(support, query)["class means and name"]
one = evaluation.score(
    answer, labels[query], classes, ranks=["species"],
    blocks=evaluation.spatial_blocks(new.table.iloc[query])).iloc[0]
print(f"3 shots, mean ± spread: {told(scores).loc['class means and name', 3]}"
      f" %\n3 shots, the first draw alone: {100 * one['value']:.0f} %, over "
      f"blocks from {100 * one['low']:.0f} to {100 * one['high']:.0f} %")

# %% [markdown]
# Look whether the interval of the one draw holds the mean over draws. Where it
# does not, that draw was lucky or unlucky, and no interval over blocks can
# say so.
#
# Methods are best compared on the same draws, pair by pair. Does the name help
# when there is a single record?

# %%
wide = scores[scores["shots"] == 1].pivot(index="draw", columns="method",
                                          values="top1")
gain = wide["class means and name"] - wide["class means"]
print(f"1 shot: the name changes top-1 by {100 * gain.mean():+.1f} points on "
      f"average, and helps in {(gain > 0).sum()} of {len(gain)} draws")

# %% [markdown]
# A gain in the mean that not every draw shares is no promise for the one
# record that *you* hold.

# %% [markdown]
# > **Exercise 2** (medium)
# >
# > The first record counts as much as the name. Let the name count as three
# > records instead. For which number of shots would you expect that to help?
#
# <details><summary>Solution</summary>
#
# ```python
# for shots in SHOTS:
#     support, query = splits.k_shot(labels, shots, seed=0)
#     mean = evaluation.class_means(features[support], labels[support], k)
#     heavy = shots * mean + 3 * text
#     heavy /= np.linalg.norm(heavy, axis=1, keepdims=True)
#     light = rules(support, query)["class means and name"]
#     one, three = (evaluation.hits(odds, labels[query]).mean() for odds in
#                   (light, evaluation.nearest_mean(
#                       features[query], heavy)))
#     print(f"{shots} shots: {one:.1%} with the name as one record, "
#           f"{three:.1%} as three")
# support, query = splits.k_shot(labels, 3, seed=0)
# ```
#
# If it helps at all, then where records are few: ten records outvote three. A
# name that points the wrong way does its harm in the same places. So the
# weight is one more number to be chosen on *seen* species that play the part
# of new ones, and not on these queries.
#
# </details>

# %% [markdown]
# ## By rank
#
# A wrong name can be a near miss or a blunder, and top-1 counts both alike.
# Where the species is wrong, is at least the genus right? The same answers,
# their probabilities summed by rank, in percent. *Macro* counts each name
# once, however many queries it has:

# %%
by_rank = evaluation.score(answer, labels[query], classes)
100 * by_rank.pivot(index="rank", columns="metric", values="value").loc[
    list(reversed(taxonomy.RANKS)), ["top1", "macro_top1"]].round(3)

# %% [markdown]
# Compare the rows. Where the genus is hardly more often right than the
# species, wrong names are seldom those of a close relative; so count that,
# too:

# %%
named = classes.to_numpy()[answer.argmax(axis=1)]
same = named == classes.to_numpy()[labels[query]]
wrong = pd.DataFrame(same, columns=classes.columns).query("not species")
print(f"Of {len(wrong)} wrong names {wrong['genus'].mean():.0%} have the "
      f"right genus, {wrong['family'].mean():.0%} the right family.")

# %% [markdown]
# That is not the fault of the rule alone: a wrong name can only be that of a
# relative where one is among the held-out species.
#
# ## Real records, place alone
#
# All of this was simulated. How far does the nearest support *place* get on
# real records, the release's table of 90 species (`10kEval-90`)? No image, no
# training, one to ten records a species. *Audited* is the same table without
# what the audit of [chapter 01](01-collect) takes for no tree; its queries are
# others, so do not subtract the two. The numbers of this section are kept
# results; the file was made as [chapter 04](04-benchmark) tells.
#
# And a trap: two things are called "top-1". One may count right answers among
# the *queries*, or among *all rows*, where the support stays in the
# denominator as if it had been answered wrongly. Take a species of twelve
# records and ten shots: the first way asks about two records, the second
# divides by twelve, of which ten can only be wrong. Only the first keeps our
# rules. How much does it matter?

# %%
kept = results.read("real-90")
kept = kept[(kept["rank"] == "species") & (kept["by"] == "all")]
many = kept[kept["metric"].str.startswith("top1_mean")].copy()
many["shots"] = many["split"].str.split().str[0].astype(int)
many["of"] = np.where(many["metric"] == "top1_mean", "queries", "all rows")
mean = 100 * many.pivot(index=["data", "shots"], columns="of",
                        values="value")
mean.round(1)

# %%
apart = (mean["queries"] - mean["all rows"]).groupby("shots").max()
print(f"The two ways differ by up to {apart[1]:.1f} points with one shot, by "
      f"{apart[10]:.1f} with ten; the widest 95 % interval of these means is "
      f"{100 * (many['high'] - many['low']).max():.1f} points wide.")

# %% [markdown]
# Each number, in percent, is a mean over many draws of the support, so that
# the luck of single draws has nearly gone; its interval is over draws of this
# table, and speaks of no other forest. The more shots, the more rows can only
# be wrong if they are counted. So whoever compares few-shot numbers should ask
# first what they are divided by. And any few-shot score of a model that reads
# coordinates stands beside this one, which reads nothing else.
#
# With no record at all, what could a place still say? A new species is where
# its relatives are, as far as names tell: genus, else family, else leaf type.

# %%
none = 100 * kept[kept["task"] == "held-out species"].pivot_table(
    index=["data", "split", "seed"], columns="model", values="value")
gain = none["relatives' places"] - none["chance"]
gain = gain.groupby(["data", "split"]).apply(over_draws).unstack()
gain.round(1)

# %%
known, alone = (gain.xs(f"by {one}", level="split")
                for one in ("species", "genus"))
assert (known["low"] > 0).all()
assert (alone["low"] < 0).all() and (alone["high"] > 0).all()

# %% [markdown]
# What the places of relatives add to chance, in points, over draws of the
# held-out species, each of them few: with a relative of the genus left in
# training (by species), or only of the family (by genus). Where a relative of
# the genus is known, its places are worth asking: on both tables the whole
# interval lies above zero. Where only the family is, nothing is shown, for a
# family can grow on every continent. The draws share one table, so the
# intervals speak of other draws from it, and of no other table.
#
# ## Checks
#
# An honest number needs rules that hold for each draw, and nobody sees from a
# score whether they did. So here are the three rules of the game, as code:
# exactly k records of each species; no record in support and query at once,
# and none lost; no record under two names, and no new species in training.

# %%
for shots in SHOTS:
    support, query = splits.k_shot(labels, shots, seed=0)
    assert (np.bincount(labels[support]) == shots).all()
    assert not set(support) & set(query)
    assert len(support) + len(query) == len(labels)

# %%
assert new.table["gbifID"].is_unique  # no support record under two names
trained = set(parts["train"].table["species"])
assert not trained & set(classes["species"])

# %% [markdown]
# ## What can go wrong
#
# A species with a single record can give a support or a query, not both. Left
# in silently, it would be a class that nobody is asked about: one name more to
# confuse the others with, and a mean over classes that nobody can reproduce.
# So the draw is refused, and the message says which classes are too small.

# %%
try:
    splits.k_shot(np.array([0, 0, 1]), 1)
except ValueError as error:
    print(error)

# %% [markdown]
# > **Exercise 3** (hard)
# >
# > Let the nearest support place be a range prior of the class means:
# > `prior.combine(means, near, a)` with `a` from 0 to 1. Does it beat either?
# > How would you choose `a` without looking at the queries?
#
# <details><summary>Solution</summary>
#
# ```python
# from geotree import prior
#
# support, query = splits.k_shot(labels, 3, seed=0)
# both = rules(support, query)
# for a in (0, 0.25, 0.5, 1):
#     mixed = prior.combine(both["class means and name"],
#                           both["nearest place"], a)
#     print(f"{a}: {evaluation.hits(mixed, labels[query]).mean():.1%}")
# ```
#
# The two make different mistakes, so a mixture can beat both. Choose `a` on
# the *seen* species: draw supports among them, as if they were new, and take
# the weight that is best there. Read off this list it would be fitted to the
# queries.
#
# </details>

# %% [markdown]
# ## Recap
#
# - Exactly k records, support and query apart, many draws.
# - A prototype is a mean; a name can be counted as one more record, and may
#   help or hurt.
# - Spread over draws is no confidence interval, and has its own name.
# - The nearest place is a baseline here too.
#
# Handed on: nothing; the numbers above are made on this page.
