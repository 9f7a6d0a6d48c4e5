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
# # What grows here?
#
# **In:** `model/`. **Out:** an answer for any place, and a map of the
# world.
#
# :::{admonition} Before you start
# *You will learn* to ask the model about a place, and to say at which rank
# it is sure.
#
# *You need* [chapter 06](06-zero-shot).
#
# *Cost:* half a minute on two CPU cores.
# :::

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    get_ipython().run_line_magic("pip", f"install -q {source}")

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from geotree import (
    chain, evaluation, explore, plots, taxonomy, variables, world)

plots.style()
model, parts = chain.model(), chain.parts()

# %%
classes = parts["train"].classes
print(chain.provenance())

# %% [markdown]
# ## One tree that nobody told it about
#
# A test sample: its year in pixels, and the five likeliest species.

# %%
test = parts["test"].load()
probabilities = evaluation.predict(model, test, classes)
sure = np.argsort(-probabilities.max(axis=1))[len(test.labels) // 3]
truth = classes["species"][test.labels[sure]]
answer = pd.Series(probabilities[sure], classes["species"])
print("truth:", truth)
answer.nlargest(5).round(3)

# %% mystnb={"image": {"alt": "Twelve monthly patches in true colour of the chosen test sample."}}
plots.patch_strip(test.images[[sure]], [truth]);

# %% mystnb={"image": {"alt": "NDVI of the chosen sample by month."}}
green = variables.ndvi(test.images[sure])[:, 2, 2]
fig, ax = plt.subplots(figsize=(7.5, 2.4))
ax.plot(range(12), green, marker="o", color=plots.CYCLE[2])
ax.set_xticks(range(12), list(plots.MONTHS))
ax.set(ylabel="NDVI", ylim=(-0.1, 1), title="centre pixel, n = 1");

# %% [markdown]
# ## As deep as it is sure
#
# Instead of a species at any price, take the finest rank at which the
# summed probability clears a threshold.

# %%
def deepest(row, threshold=0.8):
    """Finest rank and name whose probability reaches the threshold."""
    for rank in reversed(taxonomy.RANKS):
        summed, names = taxonomy.roll_up(row[None], classes, rank)
        if summed.max() >= threshold:
            return str(rank), names[summed.argmax()], summed.max()
    return "none", "unsure", 0.0

# %%
deepest(probabilities[sure])

# %%
answers = pd.DataFrame(map(deepest, probabilities[:400]),
                       columns=["rank", "name", "confidence"])
answers["rank"].value_counts(normalize=True).round(2)

# %% [markdown]
# When it commits itself, is it right?

# %%
right = [name == classes.loc[label, rank] if rank != "none" else np.nan
         for rank, name, label in zip(answers["rank"], answers["name"],
                                      test.labels, strict=False)]
answers.assign(right=right).groupby("rank")["right"].agg(["mean", "size"])

# %% [markdown]
# ## The world
#
# A grid over the land. The planet renders what a satellite would see of the
# locally most fitting tree, and the model says which leaf type it sees. It
# is a map of predictions, not of forests.

# %%
step = 2.0  # degrees
grid = np.mgrid[-56:72:step, -180:180:step].reshape(2, -1) + step / 2
land = world.is_land(lat=grid[0], lon=grid[1])
source = chain.source()

# %%
answers = explore.ask(model, source, classes,
                      lat=grid[0, land], lon=grid[1, land])
print(f"{len(answers):,} cells with trees")

# %%
summed, kinds = taxonomy.roll_up(answers.prior, classes, "leafType")

# %% mystnb={"image": {"alt": "World map on a dark ground: predicted leaf type of each land cell; needleleaf in the north, deciduous in the temperate belts, evergreen broadleaf in the wet tropics."}}
try:
    from myst_nb import glue
except ImportError:  # outside the book, e.g. in Colab
    glue = lambda name, figure: display(figure)  # noqa: E731

ax = plots.cover(answers.lon, answers.lat, kinds[summed.argmax(axis=1)],
                 summed.max(axis=1))
glue("cover", ax.figure)
plt.close(ax.figure)

# %% [markdown]
# ## What grows here?
#
# The same answers as a map to ask. Click a place, or move with the arrow
# keys and press Enter: it shows the year in pixels, the environment, and
# names as deep as the model is sure. On this page the answers were worked
# out before, one for each cell; in JupyterLab and Colab the same cell asks
# the model anew, at the very place.

# %%
known, note = parts["train"].table, chain.provenance()
page = explore.answer_map(answers, step=step, known=known, note=note,
                          place=(46.5, 11.0))

# %%
explore.what_grows_here(model, source, classes, known=known, note=note,
                        static=page)

# %% [markdown]
# ## How often is the map right?
#
# On the planet the tree in each cell is known.

# %%
truth = classes["leafType"].to_numpy()[answers.truth]
guess = kinds[summed.argmax(axis=1)]
print(f"leaf type right in {np.mean(guess == truth):.1%} of "
      f"{len(truth):,} cells; the most frequent type alone: "
      f"{pd.Series(truth).value_counts(normalize=True).iloc[0]:.1%}")

# %% [markdown]
# ## Checks

# %%
np.testing.assert_allclose(summed.sum(axis=1), 1, atol=1e-4)
assert set(guess) <= set(plots.LEAF_COLORS)

# %% [markdown]
# :::{admonition} Exercise
# :class: tip
# Ask for a threshold of 0.5 and of 0.95. How do depth and accuracy trade?
# :::
#
# :::{dropdown} Solution
# ```python
# for threshold in (0.5, 0.95):
#     ranks = [deepest(row, threshold)[0] for row in probabilities[:400]]
#     print(threshold, pd.Series(ranks).value_counts(normalize=True))
# ```
# :::
#
# ## Recap
#
# - An answer is a name, a rank and a probability.
# - "Unsure below the genus" is a good answer.
# - A map of predictions needs its error beside it.
