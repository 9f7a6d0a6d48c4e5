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
# # How sure can it be?
#
# **In:** `model/` and the split. **Out:** a confidence that can be taken at
# its word, sets of names that keep a promise, and the choice to say less.
#
# "Oak, 90 %" is a promise. If three in ten of such answers are wrong, a
# forester who acts on them was misled, however good the top-1 may be. This
# chapter asks whether the model keeps its promises, and what can be mended
# where it does not.
#
# > **Before you start**
# >
# > *You will learn* to tell an honest confidence from a boast, to answer
# > with a set of names, and to abstain.
# >
# > *You need* [chapter 06](06-zero-shot).
# >
# > *Cost:* half a minute on two CPU cores.

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
from geotree import chain, evaluation, plots
from geotree.evaluation import calibration, metrics

plots.style(chain.stamp())
model, parts = chain.model(), chain.parts()
print(chain.provenance())

# %% [markdown]
# `chain` opens the model of chapter 05, or trains it. Two parts of the split
# are needed here, and they must not be mixed up: whatever is mended is mended
# on the validation records, and whether it helped is asked of the test
# records. Beside the model stands the Bayes optimum where the truth is known:
# it is right as often as anybody can be, and it knows exactly how often.

# %%
classes = chain.seen_classes()
k = len(classes)
validation = chain.samples("validation", classes)
test = chain.samples("test", classes)

# %%
guess = evaluation.predict(model, validation, classes)
compact = evaluation.predict(model, test, classes)
best = chain.optimum(test, classes)

# %% [markdown]
# ## Is its confidence honest?
#
# Of all answers given with 70 % confidence, 70 % should be right: then the
# model is *calibrated*. If only half of them are, it is too sure; if nine in
# ten are, it is too modest, which does less harm but wastes what it knows.
#
# One number often mends much of what is wrong. *Temperature scaling*
# {cite}`guo2017calibration` divides the logits by it, the scores before the
# softmax makes probabilities of them. A temperature above one makes all
# answers less sure, one below one surer. It never changes an answer, only how
# loudly it is said, and it is fitted on validation records.

# %%
t = calibration.temperature(guess, validation.labels)
mended = calibration.soften(compact, t)
assert (mended.argmax(1) == compact.argmax(1)).all()

# %%
print(f"temperature {t:.2f}: on validation records the model was too "
      f"{'sure' if t > 1 else 'modest'}")

# %% [markdown]
# To see how much there was to mend, sort the test records by confidence into
# bins of equally many, and draw in each the share that was right. On the
# diagonal the model keeps its word; below it, it boasts. The bands are 95 % of
# a binomial, as if all records were independent: take them for too narrow.

# %% mystnb={"image": {"alt": "Reliability diagram: accuracy against confidence of the model before and after temperature scaling, and of the Bayes posterior where it is known, beside the diagonal."}}
models = {"compact model": compact, "with temperature": mended}
if best is not None:
    models["Bayes optimum"] = best
plots.reliability({name: calibration.reliability(answer, test.labels)
                   for name, answer in models.items()});

# %% [markdown]
# A picture of bins invites to read every dent. So put numbers beside it.
# *ECE*, the expected calibration error, is the mean gap in that figure. Few
# samples are never right exactly as often as they should be: `ece_chance` is
# the error that a perfect model would show on as many, and below
# `ece_chance_95` nothing is proved. The *Brier score*, the squared distance
# from the truth, and the *log loss*, in nats, also reward being sharp. They
# are needed, for a model that always answers with the frequencies has a fine
# ECE and is of no use.

# %%
told = pd.DataFrame({name: calibration.summary(answer, test.labels)
                     for name, answer in models.items()}).T
told.drop(columns="n").round(3)

# %%
for name, row in told.iterrows():
    proved = row["ece"] > row["ece_chance_95"]
    print(f"{name}: a mean gap of {100 * row['ece']:.1f} points, "
          f"{'more' if proved else 'no more'} than chance makes of "
          f"{row['n']:,.0f} samples ({100 * row['ece_chance_95']:.1f})")

# %% [markdown]
# The temperature was fitted on validation records, and the test lies in other
# blocks of the globe: one number need not suit all places. Did it help here?
# We ask by the log loss, which it was fitted for, record by record and over
# blocks.

# %%
blocks = evaluation.spatial_blocks(parts["test"].table)
gain = evaluation.mean(
    calibration.log_loss(compact, test.labels)
    - calibration.log_loss(mended, test.labels),
    blocks=blocks, limits=(-np.inf, np.inf))
verdict = ("it helped" if gain["low"] > 0 else
           "it did harm" if gain["high"] < 0 else "nothing was shown")
print(f"The temperature saves {gain['value']:+.4f} nats a record (95 %: "
      f"{gain['low']:+.4f} to {gain['high']:+.4f}): {verdict}")

# %% [markdown]
# The gap in the table may say the opposite. It comes from bins and is far less
# sure, so it decides nothing, and we go on with the mended answers, which were
# chosen before the test was seen.

# %% [markdown]
# > **Exercise 1** (easy)
# >
# > Make the model twice as sure as it is (temperature one half). Which of the
# > numbers in the table notice, and which do not?
#
# <details><summary>Solution</summary>
#
# ```python
# bold = calibration.soften(compact, 0.5)
# assert (bold.argmax(1) == compact.argmax(1)).all()
# print(pd.DataFrame({"as it is": calibration.summary(compact, test.labels),
#                     "bold": calibration.summary(bold, test.labels)}))
# ```
#
# The accuracy is the same to the last record. ECE, Brier score and log loss
# all get worse: the first compares what was said with what came true, and the
# last punishes a confident wrong answer without limit. Whoever reports
# accuracy alone cannot tell the two models apart.
#
# </details>

# %% [markdown]
# ## A set instead of a name
#
# "It is one of these three, and I am wrong in one case of ten" can be worth
# more than one name. *Conformal prediction* {cite}`angelopoulos2023conformal`
# gives a set of names that holds the right one as often as promised, even if
# the model is badly calibrated: it only needs test records that come from
# where the validation records came from.
#
# The whole idea: look up how likely the model found the *right* name of each
# validation record, and put every name into the set that is at least as likely
# as nine in ten of those were. Here it is in three lines, beside the library's
# function.

# %%
coverage = 0.9
right = guess[np.arange(len(guess)), validation.labels]
outside = (len(right) + 1) // 10  # one in ten of n + 1
by_hand = np.sort(right)[outside - 1]  # nine in ten are at least as likely
least = calibration.conformal(guess, validation.labels, coverage=coverage)
np.testing.assert_allclose(least, by_hand)
print(f"A name is in the set from a probability of {by_hand:.3f} on")

# %% [markdown]
# That is a low bar, and it has to be: a model that gives its right names
# little must be allowed to name them all the same. The less a model knows, the
# lower the bar and the longer the sets. A bad model keeps this promise as well
# as a good one; it only says less.
#
# The promise is one on average: rare species may pay for common ones, and test
# blocks that differ from the validation's may miss it. The promise can be
# given to each *group* of species, here by rarity, or to each species; then
# sets grow, and a species with too few validation records is in every set, for
# nothing can be promised.
#
# In the table, `coverage` is the share of test records whose set holds the
# right name, in percent, `low` to `high` its 95 % interval over blocks, and
# `size` how many names a set has on average.

# %%
rarity = parts["train"].table.drop_duplicates("species").set_index(
    "species")["rarity"].reindex(classes["species"]).to_numpy(object)
promises = {"on average": None, "each rarity": rarity,
            "each species": np.arange(k)}

# %%
sets = {name: calibration.prediction_sets(compact, calibration.conformal(
    guess, validation.labels, groups=to)) for name, to in promises.items()}
kept = pd.concat({name: calibration.coverage_table(
    one, test.labels, rarity[test.labels]) for name, one in sets.items()},
    names=["promise", "among"])

# %%
def bounds(promise, among):
    """95 % interval of one coverage, over blocks."""
    rows = (rarity[test.labels] == among) | (among == "all")
    held = sets[promise][rows, test.labels[rows]]
    return evaluation.mean(held, blocks=blocks[rows])[["low", "high"]]


ends = pd.DataFrame([bounds(*row) for row in kept.index], kept.index)
kept = kept.join(ends)[["coverage", "low", "high", "size", "n"]]
kept[["coverage", "low", "high"]] *= 100
kept.round(1)

# %%
short = kept.index[kept["high"] < 90]
print("Promise not kept:", "; ".join(map(" among ".join, short)) or "none")
print("; ".join(f"promised {name}: {kept.loc[(name, 'all'), 'coverage']:.1f} "
                f"% with {kept.loc[(name, 'all'), 'size']:.1f} of {k} names"
                for name in sets))

# %% [markdown]
# We promised 90 %. A row whose interval lies below that has not kept the
# promise for its group, whatever the average says; one whose interval holds 90
# speaks neither for nor against. Compare the rows of the rare species: this is
# what a promise "on average" may hide, and what it costs in names to mend it.
# The promise to each species is dear: where the sets hold most of the names,
# they say next to nothing. And species by species? We look at those with ten
# test records or more, because of fewer nothing can be said.

# %%
rows = {}
for name, one in sets.items():
    each = calibration.coverage_table(one, test.labels, test.labels)
    often = each.drop("all").query("n >= 10")
    rows[name] = {"species": len(often),
                  "lowest (%)": 100 * often["coverage"].min(),
                  "below 80 % (%)": 100 * (often["coverage"] < 0.8).mean()}
pd.DataFrame(rows).T.round(1)

# %% [markdown]
# The last column is the share of these species whose own coverage is below
# 80 %, and the column before it the worst of them all. Where a species has
# only some ten records, part of that is bad luck.
#
# Where coverage falls short of what was promised, look at the split:
# validation and test lie in different blocks, so they are not quite "from the
# same place". Conformal sets are no cure for that. They move with the records
# that they were fitted on, and a promise made in Europe is not kept in the
# Amazon by itself.

# %% [markdown]
# > **Exercise 2** (medium)
# >
# > Promise 80 % and 99 % instead of 90 %. How many names does each further
# > percent cost?
#
# <details><summary>Solution</summary>
#
# ```python
# sizes = pd.Series({asked: calibration.prediction_sets(
#     compact, calibration.conformal(guess, validation.labels,
#                                    coverage=asked / 100)).sum(1).mean()
#     for asked in (80, 90, 99)})
# print(pd.DataFrame({"names": sizes, "names for each further percent":
#                     sizes.diff() / np.diff(sizes.index, prepend=np.nan)}))
# ```
#
# The first names are cheap and the last ones dear: the sets that have to hold
# the odd record out are long for everybody. So ask what a missed tree costs
# before you promise 99 %.
#
# </details>

# %% [markdown]
# ## Say less, be right more often
#
# A botanist who is not sure of the species says "some oak". A model may do the
# same, or abstain. *Deepest rank* is the most exact name whose summed
# probability reaches a threshold, here 90 %.

# %%
deepest = metrics.deepest(mended, classes, confidence=0.9)
share = deepest["rank"].fillna("no answer").value_counts(normalize=True)
100 * share.rename("share (%)").to_frame().round(3)

# %% [markdown]
# So most answers are not names of species. Is that a failure? It is what the
# model can say at this confidence, and a map of leaf types that holds is worth
# more than a map of species that does not.
#
# And what does silence buy? In the next table a higher threshold is a more
# careful model: `coverage` is the share of records that get an answer at any
# rank, `accuracy` how many of these answers are right, and the last four
# columns say at which rank they were given, as shares of all records.

# %%
curve = metrics.accuracy_coverage(mended, test.labels, classes,
                                  thresholds=[0, 0.3, 0.5, 0.7, 0.9])
(100 * curve.drop(columns="n").set_index("threshold")).round(0).astype(int)

# %%
first, last = curve.iloc[0], curve.iloc[-1]
print(f"Made to name a species every time it is right for "
      f"{first['accuracy']:.0%}; asked for {last['threshold']:.0%} it answers "
      f"{last['coverage']:.0%} of the records, right for "
      f"{last['accuracy']:.0%}, but only {last['species']:.0%} by species.")

# %% [markdown]
# The other way to be silent keeps to species: answer the surest records, at
# first few, then more and more, and count the mistakes. A curve that stays low
# for long is a model that knows what it knows. Beside it a rival of
# [chapter 04.1](04-baselines), the forest that sees no pixel, and the optimum.

# %%
forest = "forest, place + environment"
curves = {"compact model": mended, forest: chain.baselines("test")[forest]}
if best is not None:
    curves["Bayes optimum"] = best

# %% mystnb={"image": {"alt": "Share of wrong species among the answered samples against the share answered, surest first, for the model, a forest and the Bayes optimum where it is known."}}
plots.coverage_curve({name: metrics.risk_coverage(answer, test.labels)
                      for name, answer in curves.items()});

# %%
half = mended.max(1) >= np.median(mended.max(1))
right = evaluation.hits(mended, test.labels)
print(f"Of the surer half of the records {right[half].mean():.1%} are named "
      f"right, of the other half {right[~half].mean():.1%}.")

# %% [markdown]
# If the two shares were alike, the confidence would be an ornament. The larger
# the gap, the more it pays to look at the unsure half yourself.

# %% [markdown]
# > **Exercise 3** (hard)
# >
# > Which threshold would you take if a wrong species cost three times as much
# > as no answer? Choose it on validation, then look at the test.
#
# <details><summary>Solution</summary>
#
# ```python
# calm = calibration.soften(guess, t)
# right_there = evaluation.hits(calm, validation.labels)
# steps = np.linspace(0, 1, 101)
# cost = [np.where(calm.max(1) >= step, 3 * ~right_there, 1).mean()
#         for step in steps]
# step = steps[int(np.argmin(cost))]
# paid = np.where(mended.max(1) >= step, 3 * ~right, 1).mean()
# print(f"threshold {step:.2f}: {paid:.2f} a record; always answering "
#       f"{3 * (~right).mean():.2f}, never answering 1")
# ```
#
# For a calibrated model no search is needed: answering costs 3 (1 - p) on
# average, silence costs 1, so answer where p is above two thirds. What the
# search finds should lie near that; if it does not, either the model is not
# calibrated or the validation part is small.
#
# </details>

# %% [markdown]
# ## Checks
#
# Mending must not harm where it was fitted, and must not change an answer. A
# temperature that made the log loss of its own validation records worse would
# be a mistake in the search, whatever the test says.

# %%
fitted = calibration.soften(guess, t)
assert (calibration.log_loss(fitted, validation.labels).mean()
        <= calibration.log_loss(guess, validation.labels).mean() + 1e-6)
assert (mended.argmax(1) == compact.argmax(1)).all()

# %% [markdown]
# ## What can go wrong
#
# Logits are no probabilities: a temperature fitted on them would mean
# nothing, so they are refused.

# %%
try:
    calibration.temperature(np.log(guess), validation.labels)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Recap
#
# - Fit temperature and sets on validation, never on the test, and look whether
#   they hold there.
# - A calibrated model need not be a good one: look at log loss, too.
# - A set promises something for the average record, and not for each species;
#   count whether it is kept.
# - Where it is unsure, a model may name the genus, or nothing.
#
# Handed on: nothing; the numbers above are made on this page.
