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
# A good score does not say what was learnt. A model that tells firs from palms
# may know firs and palms, or it may know Norway and Brazil. Pictures of its
# inner space are made to find out, and they persuade so easily that half of
# this chapter is about not being fooled by them.
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
import importlib.util
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    package = f"'geotree[maps] @ {source}'"
    get_ipython().run_line_magic("pip", f"install -q {package}")
    importlib.invalidate_caches()
    if importlib.util.find_spec("geotree") is None:
        sys.exit("geotree was not installed, see above. Without a network, "
                 "set `source` in this cell to a wheel that you have: "
                 "file:///content/geotree-0.1.0-py3-none-any.whl")
    from google.colab import output
    output.enable_custom_widget_manager()

# %%
import numpy as np
import pandas as pd
from geotree import baselines, chain, evaluation, explore, globe, plots
from geotree.release import selections
from sklearn.manifold import TSNE

plots.style(chain.stamp())
model, parts = chain.model(), chain.parts()
test = parts["test"]
print(chain.provenance())

# %% [markdown]
# ## From 128 dimensions to two
#
# `chain` opens the model of chapter 05 and the test part of the split, or
# makes them. The model turns each sample into a vector of length one with 128
# numbers, its *features*. Nobody can look at 128 dimensions. *t-SNE*
# {cite}`vandermaaten2008tsne` lays the samples out on paper so that neighbours
# in that space stay neighbours. Why not simply look at the two directions in
# which the samples spread most? Because species differ in many small ways at
# once, and two directions show two of them. t-SNE keeps the near and gives up
# the far: distances between separate groups mean nothing, nor does the size of
# a group. Its one setting, the *perplexity*, is about how many neighbours each
# sample cares for.

# %%
features = evaluation.embed(model, test)
np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-4)
features.shape


# %% [markdown]
# As many rows as the test has records. Since all vectors have length one, the
# nearest neighbour of a sample is the one with the largest product, the
# *cosine*. The map is made by a function of scikit-learn, which starts from
# the same place each time, so that the picture is the same tomorrow.

# %%
def layout(features, perplexity=30):
    """Two coordinates for each sample, the same each time."""
    if len(features) < 5:  # no map of a handful: all in one place
        return np.zeros((len(features), 2))
    tsne = TSNE(perplexity=min(perplexity, len(features) / 4),
                init="pca", random_state=0)
    return tsne.fit_transform(features)


# %%
rows = np.sort(np.random.default_rng(0).permutation(len(test))[:1500])
some, table = test.select(rows), test.table.iloc[rows]
points = layout(features[rows])

# %% [markdown]
# ## Leaf types and families
#
# The layout knows no names; they come in afterwards, as colours. If a colour
# forms a region of its own, then samples of that kind are alike to the model.
# First the four leaf types, then the most frequent families, on the same
# layout. The axes have no unit, for only nearness counts. A random part of the
# test is enough, for more points would hide each other.

# %% mystnb={"image": {"alt": "Separate clumps of dots, one dot for each test sample, laid out by t-SNE; each of the four leaf types has a colour, and the legend counts its samples."}}
plots.embedding(points, table["leafType"], colors=plots.LEAF_COLORS);

# %% mystnb={"image": {"alt": "The same clumps of dots with a colour for each of the eight most frequent families and grey for all others."}}
plots.embedding(points, table["family"]);

# %% [markdown]
# How clean these regions are can be argued about for ever, and a section below
# puts a number in the place of the argument. For now, look where colours mix:
# is it along borders, or everywhere? Two colours that mix everywhere are one
# kind to the model, whatever we call them.
#
# Are the points at the border between two colours mistakes, or trees that look
# like both? Ask them. Point at one, or move with the arrow keys: it says its
# name and place, and shows its greenest month. A name in the legend hides the
# others.

# %%
shown = some.load()
assert (shown.ids == table["gbifID"]).all()  # each point has its own name
explore.embedding_explorer(points, shown, test.classes,
                           note=chain.provenance())

# %% [markdown]
# Take two neighbours of different colours and compare their months. If they
# look alike to you as well, the mistake is an honest one: nothing in these
# pixels tells the two apart. If they do not, the model has put them together
# for another reason, and the place is the first suspect. A section below asks
# it.

# %% [markdown]
# ## The taxa that the release shows
#
# You want to compare your map with one in a paper, and the paper shows other
# species. Then nothing can be compared: some groups are easy to keep apart and
# others are not, and whoever picks them picks the result.
#
# With so many species, colours run out. GlobalGeoTree's figures show five
# families, five genera of one of them, and five species of one of those, kept
# in a JSON file, so that two papers can show the same taxa. Its file is read
# here, and ours is read by its scripts. Where fewer have enough records, fewer
# are shown. The further down the tree of names, the more alike the samples,
# and the harder the task.

# %%
often = test.table["species"].value_counts().iloc[:5]
chosen = selections.draw(test.table, n=5, least=min(15, often.min()),
                         seed=42)
path = selections.write(chosen, chain.folder() / "tsne_selections.json")
assert selections.read(path) == chosen
for rank in selections.RANKS:
    print(f"{rank}:", *selections.names(chosen, rank), sep="  ")


# %% [markdown]
# The taxa were drawn by lot among those with enough records, not picked
# because they look good, and the file keeps the draw. Read it from the top:
# the genera are of one of these families, the species of one of these genera.

# %%
def draw_map(features, rank, ax=None):
    """The chosen taxa of a rank, as neighbours on paper."""
    keep = selections.rows(test.table, chosen, rank)
    return plots.embedding(layout(features[keep]),
                           test.table.loc[keep, rank], ax=ax)


# %% mystnb={"image": {"alt": "A cloud of dots laid out by t-SNE from the model's features, with a colour for each of five families."}}
draw_map(features, "family");

# %% [markdown]
# Five families should be an easy start, for most families differ in leaves,
# seasons or climate. Next, the genera of one of them, and then the species of
# one of these.

# %% mystnb={"image": {"alt": "A cloud of dots laid out by t-SNE from the model's features, with a colour for each of up to five genera of one family; it has fewer dots than the map of families."}}
draw_map(features, "genus");

# %% mystnb={"image": {"alt": "A cloud of dots laid out by t-SNE from the model's features, with a colour for each of up to five species of one genus; it has fewer dots still."}}
draw_map(features, "species");

# %% [markdown]
# Three pictures, and the eye compares them at once. It should not: each map
# has other points and a scale of its own, and a group that is split in two may
# be one whose middle was left out. What can be compared are numbers, below.

# %% [markdown]
# > **Exercise 1** (easy)
# >
# > Draw the map of leaf types with perplexities of 5 and 100. Which groups
# > stay?
#
# <details><summary>Solution</summary>
#
# ```python
# for perplexity in (5, 100):
#     plots.embedding(layout(features[rows][:500], perplexity),
#                     table["leafType"].iloc[:500], colors=plots.LEAF_COLORS)
# ```
#
# Groups that stay are likely in the data; shapes and distances change. With a
# small perplexity the map falls into crumbs, each a handful of neighbours;
# with a large one it flows together. Neither is the true picture.
#
# </details>

# %% [markdown]
# ## Would a simple baseline look the same?
#
# A map of raw numbers may show the same groups, and then the model deserves no
# praise for them. Here are the same families, by the numbers that the random
# forest of [chapter 04.1](04-baselines) reads: simple statistics of pixels and
# variables that no model has touched. Each column is brought to the same
# spread first, or the elevation in metres would drown all reflectances; what
# is missing counts as usual.

# %%
batch = test.load()
numbers = np.concatenate([batch.environment,
                          baselines.statistics(batch)], axis=1)
plain = np.nan_to_num(
    (numbers - np.nanmean(numbers, 0)) / np.nanstd(numbers, 0))
plain /= np.linalg.norm(plain, axis=1, keepdims=True)

# %% mystnb={"image": {"alt": "The same five families in the same colours, laid out by t-SNE from plain statistics of pixels and variables instead of the model's features."}}
draw_map(plain, "family");

# %% [markdown]
# If this map has regions as clean as the one above, the model has not added
# what the picture seemed to show. Your eye will want to decide that at once.
# Do not let it; the next section counts.
#
# CLIP and RemoteCLIP {cite}`radford2021clip,liu2024remoteclip` see true
# colour only. Their maps join in where their weights are given, a folder,
# a file or a hub id as in [chapter 04.1](04-baselines).

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
# Which of the two pictures is better? One cannot tell by looking, and two
# readers will not agree. So put a number beside them, from the full space and
# not from the paper: how often does the nearest neighbour share the family,
# and how often would it by chance?

# %%
def nearest(features):
    """The sample that is nearest to each, itself apart."""
    near = features @ features.T
    np.fill_diagonal(near, -1)
    return near.argmax(axis=1)


family = test.table["family"].to_numpy()
share = test.table["family"].value_counts(normalize=True)
chance = np.square(share).sum()  # two drawn at random are of one family
for name, vectors in spaces.items():
    shared = (family[nearest(vectors)] == family).mean()
    print(f"{name}: the nearest neighbour is of the same family for "
          f"{shared:.1%} of {len(family):,} samples, by chance for "
          f"{chance:.1%}")

# %% [markdown]
# The chance level belongs to the number: where one family fills half of the
# table, half of all neighbours share it without any skill. What the statistics
# reach is the next step up, for they are free. Only what the model has beyond
# both was learnt, and even that may not be what we hope, as the next section
# shows.

# %% [markdown]
# > **Exercise 2** (medium)
# >
# > Do the same with species instead of families. By how much does each space
# > beat chance?
#
# <details><summary>Solution</summary>
#
# ```python
# species = test.table["species"].to_numpy()
# chance = np.square(test.table["species"].value_counts(
#     normalize=True)).sum()
# for name, vectors in spaces.items():
#     shared = (species[nearest(vectors)] == species).mean()
#     print(f"{name}: {shared:.1%}, chance {chance:.1%}")
# ```
#
# Both the share and the chance level fall, for there are more species than
# families. Compare the two spaces with each other, on the same samples, and
# not the species with the families.
#
# </details>

# %% [markdown]
# ## Is it the place that it understood?
#
# Neighbours in the model's space may simply be neighbours on the globe. The
# coordinates are among its inputs, after all. First, how far away is the
# nearest neighbour?

# %%
from geotree import splits

where = test.table[["decimalLatitude", "decimalLongitude"]].to_numpy().T
apart = splits.distance_km(*where, *where[:, nearest(features)])
lot = splits.distance_km(*where, *np.random.default_rng(0).permutation(
    where, axis=1))
print(f"median distance to it {np.median(apart):,.0f} km; to a record drawn "
      f"by lot {np.median(lot):,.0f} km")

# %% [markdown]
# A distance alone decides nothing, for relatives do live near each other: two
# firs that are neighbours on the globe may be neighbours in the model because
# it knows firs, or because it knows the valley. So hide the coordinates from
# the model, then all 27 variables, and ask again. If the families hold
# together while the continents mix, the model sees trees; if both fall apart,
# it was the place. We count both: neighbours that share the family, and
# neighbours on the same continent.

# %%
continent = np.asarray(globe.continent(globe.country_code(
    lat=where[0], lon=where[1], coast=True)))


def shares(hidden):
    """Neighbours of one family, and of one continent, with inputs hidden."""
    environment = batch.environment.copy()
    environment[:, hidden] = np.nan
    near = nearest(evaluation.embed(
        model, batch._replace(environment=environment)))
    return [100 * (names[near] == names).mean()
            for names in (family, continent)]


# %%
asked = {"nothing hidden": [], "place hidden": slice(0, 2),
         "pixels alone": slice(None)}
told = pd.DataFrame({name: shares(hidden) for name, hidden in asked.items()},
                    index=["same family (%)", "same continent (%)"])
told["by chance"] = [100 * np.square(pd.Series(names).value_counts(
    normalize=True)).sum() for names in (family, continent)]
told.T.round(1).assign(n=len(family))

# %% mystnb={"image": {"alt": "The first clumps of dots once more, now with a colour for each continent instead of each leaf type; most clumps have a single colour."}}
plots.embedding(points, continent[rows]);

# %%
lost = told["nothing hidden"] - told["pixels alone"]
print(f"Without the 27 variables the share of neighbours of one family falls "
      f"by {lost.iloc[0]:.0f} points, that of one continent by "
      f"{lost.iloc[1]:.0f}.")

# %% [markdown]
# So the question in the heading has an answer in numbers. What is left of the
# families in the row `pixels alone`, above what chance gives, is what this
# model gets from pixels. Not all of it need be the tree: as far as these
# neighbours share the continent more often than by chance, pixels tell of the
# place, too. What was lost on the way there it had from the coordinates, the
# climate, the soil and the terrain. The map above shows how much of its order
# is that of the globe.
#
# This is no reproach. A botanist, too, thinks of the place first. But whoever
# shows the first map of this page as a proof that a model knows trees should
# show the last one beside it.
#
# ## Checks
#
# All points are somewhere, and the same features give the same map.

# %%
assert np.isfinite(points).all()
np.testing.assert_array_equal(layout(features[:200]),
                              layout(features[:200]))

# %% [markdown]
# ## What can go wrong
#
# t-SNE finds groups in noise, too, if each point cares for few neighbours.
# Here are random vectors, laid out with a perplexity of two, and the leaf
# types of the samples above dealt out to them. There are clumps and gaps, as
# if there were kinds. Only the colours give it away, for no clump has one of
# its own: neighbours share the leaf type about as often as by chance.

# %% mystnb={"image": {"alt": "A round cloud of dots laid out by t-SNE from random vectors: small clumps with gaps between them, in which the colours of the four leaf types are mixed."}}
kinds = table["leafType"].iloc[:600]
noise = np.random.default_rng(0).normal(size=(len(kinds), 128))
plots.embedding(layout(noise, 2), kinds, colors=plots.LEAF_COLORS);

# %%
noise /= np.linalg.norm(noise, axis=1, keepdims=True)
shared = (kinds.to_numpy()[nearest(noise)] == kinds).mean()
chance = np.square(kinds.value_counts(normalize=True)).sum()
print(f"of {len(kinds)} random vectors {shared:.1%} have a nearest neighbour "
      f"of the same leaf type, by chance {chance:.1%}")

# %% [markdown]
# > **Exercise 3** (hard)
# >
# > Ask the neighbours for something that the model cannot have been told, such
# > as the year of the record. What do you expect, and what would worry you?
#
# <details><summary>Solution</summary>
#
# ```python
# year = test.table["year"]
# near = nearest(features)
# same = (year.to_numpy()[near] == year.to_numpy()).mean()
# chance = np.square(year.value_counts(normalize=True)).sum()
# print(f"neighbours of the same year: {same:.1%}, by chance {chance:.1%}")
# ```
#
# The year is no input, so neighbours should share it about as often as by
# chance. A little more is possible, since records of one forest often share
# their year. Much more would mean that the pixels carry the sensor or the
# processing of a year, and that the model has learnt it.
#
# </details>

# %% [markdown]
# ## Recap
#
# - A map of neighbours, no more: sizes and gaps mean nothing.
# - A number with its chance level says more than a picture.
#
# Handed on: nothing; the numbers above are made on this page.
