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
# chapter asks whether the model keeps its promises, and mends it where it
# does not.
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
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    get_ipython().run_line_magic("pip", f"install -q {source}")

# %%
import numpy as np
import pandas as pd
from geotree import baselines, chain, evaluation, plots
from geotree.evaluation import calibration, metrics

plots.style(chain.stamp())
model, parts = chain.model(), chain.parts()
print(chain.provenance())

# %%
classes = chain.seen_classes()
k = len(classes)
validation = chain.samples("validation", classes)
test = chain.samples("test", classes)
places = parts["test"].table

# %%
compact = evaluation.predict(model, test, classes)
best = chain.optimum(test, classes)

# %% [markdown]
# ## Is its confidence honest?
#
# Of all answers given with 70 % confidence, 70 % should be right. Bins hold
# equally many samples; bars are 95 % of a binomial. One number often mends
# much of what is wrong: a *temperature* that divides the logits, fitted on
# validation {cite}`guo2017calibration`. It never changes an answer. The
# table below the figure says how much there was to mend.

# %%
guess = evaluation.predict(model, validation, classes)
t = calibration.temperature(guess, validation.labels)
mended = calibration.soften(compact, t)
assert (mended.argmax(1) == compact.argmax(1)).all()

# %%
print(f"temperature {t:.2f}: the model was too "
      f"{'sure' if t > 1 else 'modest'}")

# %% mystnb={"image": {"alt": "Reliability diagram: accuracy against confidence of the model before and after temperature scaling, and of the Bayes posterior where it is known, beside the diagonal."}}
models = {"compact model": compact, "with temperature": mended}
if best is not None:
    models["Bayes optimum"] = best
plots.reliability({name: calibration.reliability(answer, test.labels)
                   for name, answer in models.items()});

# %%
pd.DataFrame({name: calibration.summary(answer, test.labels)
              for name, answer in models.items()}).T.round(3).astype(
                  {"n": int})

# %% [markdown]
# ECE is the mean gap in that figure. Few samples are never right exactly as
# often as they should be: `ece_chance` is the error that a perfect model
# would show on as many, and below `ece_chance_95` nothing is proved. Brier
# score and log loss also reward being sharp. A model that always answers
# with the frequencies has a fine ECE and is of no use.
#
# ## A set instead of a name
#
# *Conformal prediction* {cite}`angelopoulos2023conformal` gives a set of
# names that holds the right one as often as promised, even if the model is
# badly calibrated: it only needs test records that come from where the
# validation records came from. Here is the whole idea.

# %%
coverage = 0.9
right = guess[np.arange(len(guess)), validation.labels]
position = int((len(right) + 1) * (1 - coverage)) - 1
by_hand = np.sort(right)[position]  # nine in ten are at least as likely
least = calibration.conformal(guess, validation.labels, coverage=coverage)
np.testing.assert_allclose(least, by_hand)

# %% [markdown]
# The promise is one on average: rare species may pay for common ones, and
# test blocks that differ from the validation's may miss it. The promise
# can be given to each *group* of species, here by rarity, or to each
# species; then sets grow, and a species with too few validation records is
# in every set, for nothing can be promised.

# %%
rarity = parts["train"].table.drop_duplicates("species").set_index(
    "species")["rarity"].reindex(classes["species"]).to_numpy()
promises = {"on average": None, "each rarity": rarity,
            "each species": np.arange(k)}

# %%
kept = {}
for name, to in promises.items():
    least = calibration.conformal(guess, validation.labels, groups=to)
    sets = calibration.prediction_sets(compact, least)
    kept[name] = calibration.coverage_table(sets, test.labels,
                                            places["rarity"])
pd.concat(kept, names=["promise", "among"]).round(2)

# %% [markdown]
# And species by species? Of those with ten test records or more:

# %%
rows = {}
for name, to in promises.items():
    least = calibration.conformal(guess, validation.labels, groups=to)
    each = calibration.coverage_table(
        calibration.prediction_sets(compact, least), test.labels,
        classes["species"].to_numpy()[test.labels]).drop("all")
    often = each[each["n"] >= 10]
    rows[name] = {"species": len(often), "lowest": often["coverage"].min(),
                  "below 80 %": (often["coverage"] < 0.8).mean(),
                  "names in a set": often["size"].mean()}
pd.DataFrame(rows).T.round(2).astype({"species": int})

# %% [markdown]
# Where coverage falls short of what was promised, look at the split:
# validation and test lie in different blocks, so they are not quite "from
# the same place". Conformal sets are no cure for that.
#
# ## Say less, be right more often
#
# A model may answer with a genus where it is not sure of the species, or
# abstain. *Deepest rank*: the most exact name whose probability reaches a
# threshold.

# %%
deepest = metrics.deepest(mended, classes, confidence=0.9)
deepest["rank"].fillna("no answer").value_counts(normalize=True).round(3)

# %%
curve = metrics.accuracy_coverage(mended, test.labels, classes,
                                  thresholds=[0, 0.3, 0.5, 0.7, 0.9])
curve.set_index("threshold").round(2)

# %%
forest = baselines.answers(parts["train"], parts["test"], classes,
                           names=["forest, all"])["forest, all"]

# %% mystnb={"image": {"alt": "Share of wrong species among the answered samples against the share answered, surest first, for the model, a forest and the Bayes optimum where it is known."}}
risk = {name: metrics.risk_coverage(answer, test.labels)
        for name, answer in {"compact model": mended,
                             "forest, all": forest,
                             **({} if best is None else
                                {"Bayes optimum": best})}.items()}
plots.coverage_curve(risk);

# %% [markdown]
# ## Checks

# %%
assert (calibration.log_loss(mended, test.labels).mean()
        <= calibration.log_loss(compact, test.labels).mean() + 0.02)
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
# - Fit temperature and sets on validation, never on the test.
# - A calibrated model need not be a good one: look at log loss, too.
# - A set keeps its promise on average, and not for each species.
# - Where it is unsure, a model may name the genus, or nothing.
#
# Handed on: nothing; the numbers above are made on this page.
