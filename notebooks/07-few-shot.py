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
# **In:** `model/` and the held-out species. **Out:** few-shot scores, with
# their spread over draws.
#
# :::{admonition} Before you start
# *You will learn* to recognise new species from one or three records each,
# by class means and by fine-tuning.
#
# *You need* [chapter 06](06-zero-shot).
#
# *Cost:* under a minute on two CPU cores.
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
from geotree import baselines, chain, evaluation, plots, splits, taxonomy
from geotree.shards import Batch

plots.style()
model, parts = chain.model(), chain.parts()

# %%
print(chain.provenance())

# %% [markdown]
# ## New species, some with few records
#
# A shot and a query need two records at least; for three shots, four. We
# keep the held-out species that have ten.

# %%
names = parts["held out"].table
counts = names["species"].value_counts()
enough = names["species"].isin(counts[counts >= 10].index).to_numpy()
new = parts["held out"].select(enough)

# %%
classes = taxonomy.class_table(new.table)
labels = taxonomy.labels(new.table, classes)
samples = new.load()._replace(labels=labels)
features = evaluation.embed(model, samples)
print(f"{len(labels):,} records of {len(classes)} species")

# %% [markdown]
# ## The mean of a class is its prototype
#
# Average the features of the support records of a class, and give a query
# to the nearest mean. By hand on two toy classes, then with the library.

# %%
toy = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
mean = toy[:2].mean(axis=0)
by_hand = mean / np.linalg.norm(mean)
library = evaluation.class_means(toy, np.array([0, 0, 1]), 2)
np.testing.assert_allclose(library[0], by_hand)

# %% [markdown]
# ## One shot, three shots, ten draws
#
# Which records happen to be drawn matters a lot with so few. So we draw ten
# times and show the spread, named as such: it is no confidence interval.

# %%
def take(rows):
    """Some of the samples."""
    return Batch(*(part[rows] for part in samples))


def top1(probabilities, query):
    """Accuracy on the query rows."""
    return evaluation.hits(probabilities, labels[query]).mean()


# %%
rows = []

# %%
for shots in (1, 3):
    for draw in range(10):
        support, query = splits.k_shot(labels, shots, seed=draw)
        means = evaluation.class_means(features[support], labels[support],
                                       len(classes))
        near = baselines.location_knn(
            new.table.iloc[support], labels[support],
            new.table.iloc[query], len(classes), neighbours=1)
        rows += [("class means", shots, draw, top1(
            evaluation.nearest_mean(features[query], means), query)),
            ("nearest place", shots, draw, top1(near, query))]

# %% [markdown]
# ## Fine-tuning
#
# The model already has an idea of each name. A few steps on the support
# records sharpen it. Three draws, since each costs seconds.

# %%
for shots in (1, 3):
    for draw in range(3):
        support, query = splits.k_shot(labels, shots, seed=draw)
        tuned = evaluation.fine_tune(model, take(support), classes,
                                     seed=draw)
        answer = evaluation.predict(tuned, take(query), classes)
        rows.append(("fine-tuned", shots, draw, top1(answer, query)))

# %%
zero = top1(evaluation.predict(model, samples, classes),
            np.arange(len(labels)))
rows.append(("zero-shot (name alone)", 0, 0, zero))
results = pd.DataFrame(rows, columns=["method", "shots", "draw", "top1"])

# %%
summary = results.groupby(["method", "shots"])["top1"].agg(
    ["mean", "std", "size"])
summary.round(3)

# %% mystnb={"image": {"alt": "Top-1 by number of shots for class means, nearest place and fine-tuning, each draw a dot; zero-shot and chance as lines."}}
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(7, 3.6))
groups = results[results["shots"] > 0].groupby("method")
for number, (method, part) in enumerate(groups):
    shift = part["shots"] + 0.18 * (number - 1)
    ax.scatter(shift, 100 * part["top1"], s=22, alpha=0.7, label=method,
               color=plots.CYCLE[number])
ax.axhline(100 * zero, color="#777", linestyle="--", label="zero-shot")
ax.axhline(100 / len(classes), color="#bbb", linestyle=":", label="chance")
ax.set(xticks=[1, 3], xlabel="shots per species", ylabel="top-1 (%)",
       title=f"{len(classes)} held-out species; each dot is one draw")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5));

# %% [markdown]
# ## By rank
#
# The last fine-tuned model, at each rank.

# %%
query_table = new.table.iloc[query]
scores = evaluation.score(answer, labels[query], classes,
                          blocks=evaluation.spatial_blocks(query_table))
scores.pivot(index="rank", columns="metric", values="value").round(3)

# %% [markdown]
# ## Checks

# %%
for shots in (1, 3):
    support, query = splits.k_shot(labels, shots, seed=0)
    assert (np.bincount(labels[support]) == shots).all()
    assert not set(support) & set(query)
    assert len(support) + len(query) == len(labels)

# %%
trained = set(parts["train"].table["species"])
assert not trained & set(classes["species"])

# %% [markdown]
# ## What can go wrong

# %%
try:
    splits.k_shot(np.array([0, 0, 1]), 1)
except ValueError as error:
    print(error)

# %% [markdown]
# :::{admonition} Exercise
# :class: tip
# Mix the two: average the probabilities of the name and of the class means.
# Does it beat either?
# :::
#
# :::{dropdown} Solution
# ```python
# support, query = splits.k_shot(labels, 1, seed=0)
# means = evaluation.class_means(features[support], labels[support],
#                                len(classes))
# both = (evaluation.nearest_mean(features[query], means)
#         + evaluation.predict(model, take(query), classes)) / 2
# print(top1(both, query))
# ```
# :::
#
# ## Recap
#
# - Exactly k records, support and query apart, many draws.
# - A prototype is a mean; fine-tuning starts from the name.
# - The nearest place is a baseline here too.
