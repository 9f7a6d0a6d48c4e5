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
# > **Before you start**
# >
# > *You will learn* to read a t-SNE map, to ask its points what they are, to
# > draw the maps of the release, and what none of them can show.
# >
# > *You need* [chapter 05](05-train).
# >
# > *Cost:* half a minute on two CPU cores.

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    package = f"'geotree[maps] @ {source}'"
    get_ipython().run_line_magic("pip", f"install -q {package}")
    from google.colab import output
    output.enable_custom_widget_manager()

# %%
import numpy as np
from geotree import baselines, chain, evaluation, explore, plots
from geotree.release import selections
from sklearn.manifold import TSNE

plots.style(chain.stamp())
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
rows = np.sort(np.random.default_rng(0).permutation(len(test))[:1500])
some, table = test.select(rows), test.table.iloc[rows]
points = layout(features[rows])

# %% [markdown]
# ## Leaf types and families

# %% mystnb={"image": {"alt": "t-SNE map of test samples coloured by leaf type."}}
plots.embedding(points, table["leafType"], colors=plots.LEAF_COLORS);

# %% mystnb={"image": {"alt": "The same t-SNE map coloured by the eight most frequent families."}}
plots.embedding(points, table["family"]);

# %% [markdown]
# Which tree is which point? Point at one, or move with the arrow keys: it
# says its name and place, and shows its greenest month. A name in the
# legend hides the others.

# %%
shown = some.load()
assert (shown.ids == table["gbifID"]).all()  # each point has its own name
explore.embedding_explorer(points, shown, test.classes,
                           note=chain.provenance())

# %% [markdown]
# ## The taxa that the release shows
#
# With a hundred species, colours run out. GlobalGeoTree's figures show five
# families, five genera of one of them, and five species of one of those,
# kept in a JSON file. Its file is read here, and ours is read by its
# scripts.

# %%
chosen = selections.draw(test.table, n=5, least=15, seed=42)
path = selections.write(chosen, chain.folder() / "tsne_selections.json")
assert selections.read(path) == chosen
for rank in selections.RANKS:
    print(f"{rank}:", *selections.names(chosen, rank), sep="  ")


# %%
def draw_map(features, rank, ax=None):
    """The chosen taxa of a rank, as neighbours on paper."""
    keep = selections.rows(test.table, chosen, rank)
    return plots.embedding(layout(features[keep]),
                           test.table.loc[keep, rank], ax=ax)


# %% mystnb={"image": {"alt": "t-SNE map of the model's features of five families."}}
draw_map(features, "family");

# %% mystnb={"image": {"alt": "t-SNE map of the model's features of up to five genera of one family."}}
draw_map(features, "genus");

# %% mystnb={"image": {"alt": "t-SNE map of the model's features of up to five species of one genus."}}
draw_map(features, "species");

# %% [markdown]
# ## Would a simple baseline look the same?
#
# The same families, by the numbers that the random forest of
# [chapter 06](06-zero-shot) reads: no model has touched them.

# %%
batch = test.load()
numbers = np.concatenate([batch.environment,
                          baselines.statistics(batch)], axis=1)
plain = (numbers - np.nanmean(numbers, 0)) / np.nanstd(numbers, 0)
plain = np.nan_to_num(plain)
plain /= np.linalg.norm(plain, axis=1, keepdims=True)

# %% mystnb={"image": {"alt": "t-SNE map of plain statistics of pixels and variables of the same five families."}}
draw_map(plain, "family");

# %% [markdown]
# CLIP and RemoteCLIP {cite}`radford2021clip,liu2024remoteclip` see true
# colour only. Their maps join in where their weights are given, a folder,
# a file or a hub id as in [chapter 06](06-zero-shot).

# %%
WEIGHTS = {"CLIP": None, "RemoteCLIP": None}
spaces = {"model": features, "statistics": plain}
for name, source in WEIGHTS.items():
    if source is None:
        print(f"{name}: no weights at hand")
        continue
    from geotree.release import clip

    spaces[name] = evaluation.embed(clip.load(source), test)
    draw_map(spaces[name], "family").set_title(name)

# %% [markdown]
# ## A number beside the picture
#
# A map persuades too easily. How often does the nearest neighbour in the
# full space share the family, and how often by chance?

# %%
def nearest(features):
    """The sample that is nearest to each, itself apart."""
    near = features @ features.T
    np.fill_diagonal(near, -1)
    return near.argmax(axis=1)


family = test.table["family"].to_numpy()
for name, vectors in spaces.items():
    shared = (family[nearest(vectors)] == family).mean()
    print(f"{name}: nearest neighbour of the same family {shared:.1%}")
share = test.table["family"].value_counts(normalize=True)
print(f"by chance {np.square(share).sum():.1%}")

# %% [markdown]
# ## Is it the place that it understood?
#
# Neighbours in the model's space may simply be neighbours on the globe.

# %%
from geotree import splits

other = test.table.iloc[nearest(features)]
apart = splits.distance_km(test.table["decimalLatitude"],
                           test.table["decimalLongitude"],
                           other["decimalLatitude"].to_numpy(),
                           other["decimalLongitude"].to_numpy())
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
# > **Exercise**
# >
# > Draw the map with perplexities of 5 and 100. Which groups stay?
#
# <details><summary>Solution</summary>
#
# ```python
# for perplexity in (5, 100):
#     plots.embedding(layout(features[rows], perplexity),
#                     table["family"])
# ```
# Groups that stay are likely in the data; shapes and distances change.
#
# </details>
#
# ## Recap
#
# - A map of neighbours, no more: sizes and gaps mean nothing.
# - A number with its chance level says more than a picture.
