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
# # What has the model understood?
#
# **In:** `model/`. **Out:** maps of its inner space.
#
# :::{admonition} Before you start
# *You will learn* to read a t-SNE map, and what it cannot show.
#
# *You need* [chapter 05](05-train).
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
import numpy as np
from geotree import chain, evaluation, plots
from sklearn.manifold import TSNE

plots.style()
model, parts = chain.model(), chain.parts()
test = parts["test"]
print(chain.provenance())

# %% [markdown]
# ## From 128 dimensions to two
#
# The model turns each sample into a vector of length one. t-SNE
# {cite}`vandermaaten2008tsne` draws neighbours in that space as neighbours
# on paper. Distances between far groups mean nothing.

# %%
features = evaluation.embed(model, test)
np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-4)
features.shape


# %%
def layout(features, perplexity=30):
    """Two coordinates for each sample, the same each time."""
    tsne = TSNE(perplexity=min(perplexity, len(features) / 4),
                init="pca", random_state=0)
    return tsne.fit_transform(features)


# %%
rows = np.random.default_rng(0).permutation(len(test))[:1500]
table = test.table.iloc[rows]
points = layout(features[rows])

# %% [markdown]
# ## Leaf types and families

# %% mystnb={"image": {"alt": "t-SNE map of test samples coloured by leaf type."}}
plots.embedding(points, table["leafType"], colors=plots.LEAF_COLORS);

# %% mystnb={"image": {"alt": "The same t-SNE map coloured by the eight most frequent families."}}
plots.embedding(points, table["family"]);

# %% [markdown]
# ## Genera within one family

# %% mystnb={"image": {"alt": "t-SNE map of the samples of the family with most genera, coloured by genus."}}
genera = test.table.groupby("family")["genus"].nunique()
family = genera.idxmax()
within = (test.table["family"] == family).to_numpy()
ax = plots.embedding(layout(features[within]),
                     test.table.loc[within, "genus"])
ax.set_title(f"{family}, n = {within.sum():,}");

# %% [markdown]
# ## Species within one genus

# %% mystnb={"image": {"alt": "t-SNE map of the samples of the genus with most species, coloured by species."}}
species = test.table.groupby("genus")["species"].nunique()
genus = species.idxmax()
within = (test.table["genus"] == genus).to_numpy()
ax = plots.embedding(layout(features[within]),
                     test.table.loc[within, "species"])
ax.set_title(f"{genus}, n = {within.sum():,}");

# %% [markdown]
# ## A number beside the picture
#
# A map persuades too easily. How often does the nearest neighbour in the
# full space share the family, and how often by chance?

# %%
near = features @ features.T
np.fill_diagonal(near, -1)
family = test.table["family"].to_numpy()
shared = (family[near.argmax(axis=1)] == family).mean()
share = test.table["family"].value_counts(normalize=True)
print(f"nearest neighbour of the same family: {shared:.1%}, "
      f"by chance {np.square(share).sum():.1%}")

# %% [markdown]
# ## Is it the place that it understood?
#
# Neighbours in the model's space may simply be neighbours on the globe.

# %%
from geotree import splits

nearest = test.table.iloc[near.argmax(axis=1)]
apart = splits.distance_km(test.table["decimalLatitude"],
                           test.table["decimalLongitude"],
                           nearest["decimalLatitude"].to_numpy(),
                           nearest["decimalLongitude"].to_numpy())
print(f"median distance to it: {np.median(apart):,.0f} km")

# %% [markdown]
# ## Checks

# %%
assert np.isfinite(points).all()
np.testing.assert_array_equal(layout(features[:200]),
                              layout(features[:200]))

# %% [markdown]
# ## What can go wrong
#
# t-SNE finds groups in noise too. The same picture of random vectors:

# %% mystnb={"image": {"alt": "t-SNE map of random vectors: no group follows the leaf types."}}
noise = np.random.default_rng(0).normal(size=(600, 128))
plots.embedding(layout(noise), table["leafType"].iloc[:600],
                colors=plots.LEAF_COLORS);

# %% [markdown]
# :::{admonition} Exercise
# :class: tip
# Draw the map with perplexities of 5 and 100. Which groups stay?
# :::
#
# :::{dropdown} Solution
# ```python
# for perplexity in (5, 100):
#     plots.embedding(layout(features[rows], perplexity),
#                     table["family"])
# ```
# Groups that stay are likely in the data; shapes and distances change.
# :::
#
# ## Recap
#
# - A map of neighbours, no more: sizes and gaps mean nothing.
# - A number with its chance level says more than a picture.
