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
# # How good is a guess, and how sure?
#
# **In:** `model/` and the split. **Out:** scores with intervals, beside
# baselines and the optimum.
#
# :::{admonition} Before you start
# *You will learn* how to score at species, genus and family, what a
# baseline is for, whether a model can name what it never saw, and whether
# its confidence is honest.
#
# *You need* [chapter 05](05-train).
#
# *Cost:* about half a minute on two CPU cores.
# :::

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    get_ipython().run_line_magic("pip", f"install -q {source}")

# %%
import numpy as np
import pandas as pd
from geotree import baselines, chain, evaluation, plots, taxonomy

plots.style()
model, parts = chain.model(), chain.parts()

# %%
classes, k = parts["train"].classes, len(parts["train"].classes)
train, test = parts["train"].load(), parts["test"].load()
places = parts["test"].table
blocks = evaluation.spatial_blocks(places)
print(chain.provenance())

# %% [markdown]
# ## Sum first, then choose
#
# The genus of the likeliest species is not always the likeliest genus. Two
# oaks with 0.3 each outweigh one birch with 0.4.

# %%
toy = pd.DataFrame({"species": ["Betula a", "Quercus a", "Quercus b"],
                    "genus": ["Betula", "Quercus", "Quercus"],
                    "family": ["Betulaceae", "Fagaceae", "Fagaceae"],
                    "leafType": ["Deciduous Broadleaf"] * 3})
summed, names = taxonomy.roll_up(np.array([[0.4, 0.3, 0.3]]), toy, "genus")
assert names[summed.argmax()] == "Quercus"
dict(zip(names, summed[0].round(2), strict=True))

# %% [markdown]
# ## Seen species, new places
#
# The model beside four rules: the most frequent class, the vote of the
# nearest records, and a random forest with and without pixels.

# %%
table = parts["train"].table

# %%
answers = {
    "majority": baselines.majority(train.labels, len(test.labels), k),
    "place alone (25 nearest)": baselines.location_knn(
        table, train.labels, places, k),
    "forest, no pixels": baselines.random_forest(train, test, k,
                                                 pixels=False),
    "forest": baselines.random_forest(train, test, k),
    "compact model": evaluation.predict(model, test, classes),
}

# %%
best = chain.optimum(test, classes)

# %%
rows = []
for name, answer in answers.items():
    scores = evaluation.score(answer, test.labels, classes,
                              blocks=blocks)
    rows.append(scores.assign(model=name))
scores = pd.concat(rows, ignore_index=True)
top1 = scores[scores["metric"] == "top1"]
top1.pivot(index="model", columns="rank", values="value").round(3)

# %% mystnb={"image": {"alt": "Species top-1 of four baselines and the compact model with 95 percent intervals, and the Bayes optimum as a line where it is known."}}
species = top1[top1["rank"] == "species"]
limit = (None if best is None
         else float(evaluation.hits(best, test.labels).mean()))
plots.score_bars(species, optimum=limit);

# %% [markdown]
# ## What do pixels add?
#
# The paired difference to the vote of the nearest records, with an
# interval over blocks of 5°, is the number that a claim about satellites
# has to show.

# %%
compact = answers["compact model"]
pd.DataFrame({
    name: evaluation.compare(compact, answers[name], test.labels,
                             blocks=blocks)
    for name in ("place alone (25 nearest)", "forest, no pixels", "forest")
}).T.round(3)

# %% [markdown]
# ## By rarity
#
# A mean over samples is a mean over frequent species. Macro top-1 counts
# each species once.

# %%
by = evaluation.score(compact, test.labels, classes, ranks=["species"],
                      groups=places["rarity"], blocks=blocks)
by[by["metric"] != "top5"].round(3)

# %% [markdown]
# ## Species that it never saw
#
# No record of these species was trained on. Their names are made of
# familiar parts: leaf type, family, genus. First among all held-out
# species, then against every species. The second is far harder: a model
# prefers the names that it was trained on.

# %%
unseen = parts["held out"].load()
names = parts["held out"].table
new_classes = taxonomy.class_table(names)
new_labels = taxonomy.labels(names, new_classes)

# %%
zero = evaluation.predict(model, unseen, new_classes)
new_blocks = evaluation.spatial_blocks(names)
result = evaluation.score(zero, new_labels, new_classes, blocks=new_blocks)
result[result["metric"] == "top1"].round(3)

# %%
chance = 1 / len(new_classes)
everything = evaluation.predict(model, unseen, classes)
against_all = evaluation.hits(everything, unseen.labels).mean()
print(f"among {len(new_classes)} held-out species: "
      f"{evaluation.hits(zero, new_labels).mean():.1%}, chance {chance:.1%}"
      f"; among all {k}: {against_all:.1%}")

# %% [markdown]
# ## Is its confidence honest?
#
# Of all predictions made with 70 % confidence, 70 % should be right. Bins
# hold equally many samples; bars are 95 % of a binomial.

# %% mystnb={"image": {"alt": "Reliability diagram: accuracy against confidence of the model, and of the Bayes posterior where it is known, beside the diagonal."}}
curves = {"compact model": evaluation.calibration(compact, test.labels)}
if best is not None:
    curves["Bayes optimum"] = evaluation.calibration(best, test.labels)
plots.reliability(curves);

# %%
{name: round(evaluation.expected_calibration_error(curve), 3)
 for name, curve in curves.items()}

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
# :::{admonition} Exercise
# :class: tip
# How often is the family right when the species is wrong?
# :::
#
# :::{dropdown} Solution
# ```python
# wrong = ~evaluation.hits(compact, test.labels)
# family, _ = taxonomy.roll_up(compact, classes, "family")
# target = taxonomy.roll_up_labels(test.labels, classes, "family")
# print(evaluation.hits(family[wrong], target[wrong]).mean())
# ```
# :::
#
# ## Recap
#
# - A score needs a baseline below it, an optimum above it where there is
#   one, and an interval around it.
# - Sum probabilities before choosing at a coarser rank.
# - Names made of known parts give a species never seen a chance.
#
# Handed on: nothing; the numbers above are made on this page.
