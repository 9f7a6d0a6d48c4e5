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
# # How do we test without fooling ourselves?
#
# **In:** `shards/`. **Out:** a split: which records train, validate, test,
# and which species nobody may train on.
#
# :::{admonition} Before you start
# *You will learn* why a random split flatters, what a spatial block is, and
# how exactly k shots are drawn.
#
# *You need* [chapter 03](03-shards).
#
# *Cost:* seconds on two CPU cores.
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
from geotree import baselines, chain, evaluation, plots, splits

plots.style()
run = chain.settings()
data = chain.shards()
table, labels, k = data.table, data.labels, len(data.classes)
print(chain.provenance())

# %% [markdown]
# ## Neighbours are no strangers
#
# Distance from each record to the nearest other one: many have a neighbour
# within a kilometre, often of the same species. With a random split, that
# neighbour may be in the training set.

# %% mystnb={"image": {"alt": "Cumulative share of records against the distance to their nearest neighbour in kilometres, on a logarithmic axis."}}
from sklearn.neighbors import BallTree

places = splits.places(table)
tree = BallTree(places, metric="haversine")
nearest = tree.query(places, k=2)[0][:, 1] * splits.EARTH
fig, ax = plt.subplots()
ax.semilogx(np.sort(nearest).clip(0.01),
            np.arange(1, len(nearest) + 1) / len(nearest))
ax.axvline(1, color="#999", linestyle=":")
ax.set(xlabel="km to the nearest record", ylabel="share of records",
       title=f"n = {len(table):,}; "
             f"{np.mean(nearest < 1):.0%} have one within 1 km");

# %% [markdown]
# ## A rule that reads no pixel
#
# Let the 25 nearest training records vote, the near ones louder. It knows
# nothing of trees. Any claim of skill has to beat it.

# %%
def knn_score(parts):
    """Top-1 of the vote, with an interval over 5° blocks."""
    train, test = (parts == "train").values, (parts == "test").values
    votes = baselines.location_knn(table[train], labels[train],
                                   table[test], k)
    blocks = evaluation.spatial_blocks(table[test])
    return evaluation.score(votes, labels[test], data.classes,
                            ranks=["species"], blocks=blocks).iloc[0]


# %%
kinds = {"random rows": {"kind": "random"},
         "1° blocks": {"block_degrees": 1.0},
         "1° blocks, 50 km apart": {"block_degrees": 1.0, "buffer_km": 50},
         "5° blocks": {"block_degrees": 5.0}}
scores = pd.DataFrame([
    {"split": name, **knn_score(splits.split(table, **options))}
    for name, options in kinds.items()])
scores[["split", "value", "low", "high", "n"]].round(3)

# %% mystnb={"image": {"alt": "Accuracy of the nearest-neighbour vote under four splits, with intervals; it falls as test records move away from training records."}}
plots.score_bars(scores, label="split");

# %% [markdown]
# The same rule, the same records: only the distance between training and
# test changed. We use 1° blocks from here on.

# %%
parts = chain.splits()
parts.value_counts()

# %% mystnb={"image": {"alt": "World map of records coloured by the part of the split they belong to."}}
plots.occurrence_map(table.assign(part=parts.values), by="part");

# %% [markdown]
# ## Species that training never sees
#
# For zero-shot recognition, whole species are held out, each with a
# relative left in training, so that its name means something.

# %%
unseen = sorted(table.loc[(parts == "held out").values, "species"].unique())
print(len(unseen), "species, e.g.", ", ".join(unseen[:4]))

# %% [markdown]
# ## Exactly k shots
#
# The release's "1-shot" support holds up to three records of a species.
# Ours holds one. By hand on toy labels, then with the library:

# %%
toy = np.array([0, 0, 0, 1, 1, 1, 1])
support, query = splits.k_shot(toy, 2, seed=0)
assert (np.bincount(toy[support]) == 2).all()
assert not set(support) & set(query)
support, query

# %% [markdown]
# ## The release's recipe, at any size
#
# A third of the species from each rarity category, a fixed number of rows
# from each species.

# %%
sizes = table.groupby("species").size()
per_kind = table.drop_duplicates("species")["rarity"].value_counts()
per_kind

# %%
try:
    drawn = splits.benchmark(table, species=9, total=400)
    print(drawn["rarity"].value_counts())
except ValueError as error:
    print(error)

# %% [markdown]
# ## Checks
#
# Leakage fails loudly: by record, by species, by place.

# %%
splits.check_leakage(table, parts)
both = parts.replace({"held out": "test", "test": "other"})
splits.check_leakage(table, both, species=True)
buffered = splits.split(table, buffer_km=10)
splits.check_leakage(table, buffered, km=10)

# %% [markdown]
# ## What can go wrong

# %%
try:
    splits.check_leakage(table, splits.split(table, kind="random"), km=1)
except splits.LeakageError as error:
    print(error)

# %% [markdown]
# :::{admonition} Exercise
# :class: tip
# Draw the score of the vote against the buffer: 0, 1, 10, 50, 200 km. Where
# does the curve flatten?
# :::
#
# :::{dropdown} Solution
# ```python
# for km in (0, 1, 10, 50, 200):
#     print(km, knn_score(splits.split(table, buffer_km=km))["value"])
# ```
# :::
#
# ## Recap
#
# - Report the distance between training and test with every score.
# - A location-only rule is the baseline to beat.
# - Held-out species, exact shots, and checks that fail loudly.
#
# Handed on: the split (`chain.splits()`), the same in every chapter.
