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
# **In:** `model/`, `shards/`. **Out:** an answer for any place, and maps of
# the world.
#
# You stand before a tree, or before a map, and want a name. A model always has
# one. The question that decides whether its map is of any use is another one:
# does it also say where it does not know?
# <a href="#the-map">Straight to the map that answers.</a>
#
# > **Before you start**
# >
# > *You will learn* to ask the model about a place, to say at which rank it
# > is sure, and to map the range of a species with its uncertainty.
# >
# > *You need* [chapter 06](06-zero-shot).
# >
# > *Cost:* a minute on two CPU cores.

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import importlib.util
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    package = f"'geotree[maps,stac] @ {source}'"
    get_ipython().run_line_magic("pip", f"install -q {package}")
    importlib.invalidate_caches()
    if importlib.util.find_spec("geotree") is None:
        sys.exit("geotree was not installed, see above. Without a network, "
                 "set `source` in this cell to a wheel that you have: "
                 "file:///content/geotree-0.1.0-py3-none-any.whl")
    from google.colab import output
    output.enable_custom_widget_manager()

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from geotree import chain, evaluation, explore, place, plots, prior
from geotree import globe, taxonomy
from geotree.evaluation import calibration, metrics

plots.style(chain.stamp())
model, parts = chain.model(), chain.parts()
train, validation, test = (parts[name] for name in (
    "train", "validation", "test"))
classes, source, note = train.classes, chain.source(), chain.provenance()
print(note)

# %% [markdown]
# ## Honest first
#
# Why begin with confidence, and not with the map? Because a map shows every
# cell in the same firm colours, and readers believe colours. What a
# probability is worth has to be settled before it is painted.
#
# A *probability* of 0.8 is a promise: of ten such answers, eight should be
# right. An answer is only as good as that promise. Two numbers are fitted on
# the validation part: a temperature that makes the model neither too sure nor
# too modest ([how sure](06-how-sure)), and the weight of what the recorded
# trees around suggest, by whichever of two quick models suits better ([what
# pixels add](06-zero-shot)). `chain.model()` opens the model of chapter 05, or
# makes it first.

# %%
raw = evaluation.predict(model, validation, classes)
temperature = calibration.temperature(raw, validation.labels)
calm = calibration.soften(raw, temperature)

# %%
ranges = {name: place.MODELS[name](train.table) for name in prior.QUICK}
name, weight = prior.best(
    calm, {name: one.predict(validation.table, classes)
           for name, one in ranges.items()}, validation.labels)
nearby = ranges[name]
said = "too sure" if temperature > 1 else "too modest"
print(f"temperature {temperature:.2f}: the model was {said}; weight of "
      f"the {name} {weight:.2f}")

# %% [markdown]
# A temperature above one says that the model was too sure and had to be
# calmed, one below that it was too modest; a weight of zero would say that the
# records nearby add nothing. With both, we can ask. A question is a place; the
# answer holds a probability for each name of the class table, the list of all
# species that the model may choose from. Here are the five likeliest for a
# place in the Alps:

# %%
asking = {"temperature": temperature, "place": nearby, "weight": weight}
one = explore.ask(model, source, classes, lat=46.5, lon=11.0, **asking)
odds = pd.Series(100 * one.prior[0].astype(float), classes["species"])
odds.nlargest(5).rename("probability (%)").to_frame().round(1)

# %% [markdown]
# The planet rendered what a satellite would see of the tree that fits there
# best; the model looked at these pixels and at the place. What is missing from
# one hundred percent is shared out among all the other names. When the first
# two names are close, to give a single one would be to pretend to know.

# %% [markdown]
# ## As deep as it is sure
#
# So instead of a species at any price, take the finest rank at which the
# summed probability clears a threshold. Two pines with 0.45 each are no
# species, but they are a pine with 0.9. By hand for one record, then with the
# library for all.

# %%
def deepest(row, threshold=0.8):
    """Finest rank and name whose probability reaches the threshold."""
    for rank in reversed(taxonomy.RANKS):
        summed, names = taxonomy.roll_up(row[None], classes, rank)
        if summed.max() >= threshold:
            return str(rank), names[summed.argmax()]
    return None, None

# %%
asked = calibration.soften(
    evaluation.predict(model, test, classes), temperature)
answers = metrics.deepest(asked, classes, confidence=0.8)
for row, one in answers.dropna().head(3).iterrows():
    assert deepest(asked[row]) == (one["rank"], one["name"])


# %%
def judged(answers):
    """How many answers stop at each rank, and how many of these are right."""
    right = [rank in classes and name == classes.loc[label, rank]
             for rank, name, label in zip(answers["rank"], answers["name"],
                                          test.labels, strict=True)]
    by = pd.Series(right).groupby(answers["rank"].fillna("unsure"))
    return pd.DataFrame({"answers (%)": 100 * by.size() / len(right),
                         "right (%)": 100 * by.mean(), "n": by.size()}
                        ).reindex([*reversed(taxonomy.RANKS), "unsure"])


judged(answers).round(1)

# %% [markdown]
# Each row is a rank at which the model stopped, with the share of test records
# that got this far and no further; `unsure` are those for which even the leaf
# type did not reach the threshold, so that no name was given, and none can be
# right. A model that answers at the species every time would have one row.
#
# When it commits itself, is it right? If the confidence is honest, at least
# eight in ten are, at each rank. A rank well below that is one at which the
# model promises more than it keeps. Look at `n` before you judge: of a few
# records, one or two make the difference.

# %% [markdown]
# > **Exercise 1** (easy)
# >
# > Ask for a threshold of 0.5 and of 0.95. How do depth and accuracy trade?
#
# <details><summary>Solution</summary>
#
# ```python
# for threshold in (0.5, 0.95):
#     found = metrics.deepest(asked, classes, confidence=threshold)
#     print(threshold, judged(found).round(1), sep="\n")
# ```
#
# With the low threshold more answers reach the species, and a smaller share of
# these is right; with the high one the model retreats to families and leaf
# types. Neither is better. Who plants trees wants the species, who maps carbon
# the leaf type.
#
# </details>

# %% [markdown]
# And when the likeliest species is wrong, how far off is it? An oak taken for
# another oak is a small mistake, an oak taken for a palm a large one. We ask
# with four kinds of knowledge: pixels alone; climate, soil and terrain as
# well; the coordinates as well; and the nearest recorded trees as a prior on
# top.

# %%
samples, reads = test.load(), {}
hidden = {"pixels": slice(None), "+ climate, soil, terrain": slice(0, 2),
          "+ place": []}  # columns of the 27 variables
for name, gone in hidden.items():
    environment = samples.environment.copy()
    environment[:, gone] = np.nan
    reads[name] = evaluation.predict(
        model, samples._replace(environment=environment), classes)
reads["+ records nearby"] = prior.combine(
    asked, nearby.predict(test.table, classes), weight)

# %% mystnb={"image": {"alt": "Bars for pixels alone, with climate, soil and terrain, with the place, and with the records nearby: how many answers are the right species, genus, family or leaf type, and how many none of these."}}
plots.mistakes({name: odds.argmax(axis=1) for name, odds in reads.items()},
               test.labels, classes);

# %%
print("right species:", ", ".join(
    f"{name} {evaluation.hits(odds, test.labels).mean():.0%}"
    for name, odds in reads.items()))

# %% [markdown]
# Each bar holds all test records. The darker a part, the closer the answer was
# to the truth. How much of the first bar is dark is what this model makes of
# pixels alone; [the planet's page](../book/planet) says how far the best
# possible reader gets with them who is also told which few species are likely
# at the place, and so has an easier task. What the later bars have more is
# geography: climate, soil and terrain say a part of where a place is, the
# coordinates the rest. Where the last two bars are alike, the records nearby
# add nothing that the model did not know. The more the bars differ, the more
# is a map by this model a map of climates, and should be read as one.

# %% [markdown]
# ## The world
#
# Now we ask everywhere: a grid over the land, one question a cell. The planet
# renders what a satellite would see of the tree that fits best there, and the
# model says which leaf type it sees. It is a map of predictions, not of
# forests; this one opens the book. Cells of two degrees are coarse: one of
# them holds plains and mountains. But each halving asks four times as many
# questions, and says nothing new about the model.

# %%
step = 2.0  # degrees
grid = np.mgrid[-56:72:step, -180:180:step].reshape(2, -1) + step / 2
land = globe.is_land(lat=grid[0], lon=grid[1])

# %%
cells = explore.ask(model, source, classes, lat=grid[0, land],
                    lon=grid[1, land], **asking)
summed, kinds = taxonomy.roll_up(cells.prior, classes, "leafType")
print(f"{len(cells):,} cells with trees")

# %% [markdown]
# Each cell gets the colour of its likeliest leaf type, brighter where the
# model is surer. Look for the belts that follow the climate, and for the dim
# seams between them, where two types compete: a good map is dim where a
# forester would hesitate, too. We sum the probabilities of all species of a
# leaf type before we choose, for the reason that [chapter 06](06-zero-shot)
# gives: the type of the likeliest species need not be the likeliest type.

# %% mystnb={"image": {"alt": "World map on a dark ground: predicted leaf type of each land cell; needleleaf in the north, deciduous in the temperate belts, evergreen broadleaf in the wet tropics."}}
try:
    from myst_nb import glue
except ImportError:  # outside the book, e.g. in Colab
    glue = lambda name, figure: display(figure)  # noqa: E731

ax = plots.cover(cells.lon, cells.lat, kinds[summed.argmax(axis=1)],
                 summed.max(axis=1), step=step)
glue("cover", ax.figure)
plt.close(ax.figure)

# %% [markdown]
# ## Ask the map
#
# Click a place, or move with the arrow keys and press Enter: it shows the year
# in pixels, the environment, and names as deep as the model is sure. On this
# page the answers were worked out before, one for each cell; in JupyterLab and
# Colab the same cell asks the model anew, at the very place. Try the middle of
# the Sahara, and a place in the sea: "no answer" is an answer.

# %%
page = explore.answer_map(cells, step=step, known=train.table, note=note,
                          at=(46.5, 11.0))

# %% [markdown]
# <span id="the-map"></span>The map of this build, which starts in the Alps:

# %%
explore.what_grows_here(model, source, classes, known=train.table,
                        note=note, static=page, **asking)

# %% [markdown]
# The names are as deep as the model is sure at that place, and the strip shows
# the twelve months that it looked at. On Earth Engine the call is the same:
# sign in, and give its source instead of the planet. Then the map is geemap's.
#
# ## How often is the map right?
#
# A map persuades by its colours, right or wrong. On the planet the tree in
# each cell is known, so we can count. Beside the count stands what one gets
# for painting the whole world in the most frequent leaf type.

# %%
sure = cells.truth >= 0  # the tree is one of the classes
truth = classes["leafType"].to_numpy()[cells.truth[sure]]
guess = kinds[summed[sure].argmax(axis=1)]
if len(truth):
    print(f"leaf type right in {np.mean(guess == truth):.1%} of "
          f"{len(truth):,} cells; the most frequent type alone: "
          f"{pd.Series(truth).value_counts(normalize=True).iloc[0]:.1%}")
else:
    print("not counted: the trees of these cells are none of the table's")

# %% [markdown]
# Be careful with the first number: the map was asked about the tree that fits
# each cell *best*, which is the easiest one to guess from a climate. Real
# forests are mixed. The test records above were not chosen so kindly.
#
# A share over the whole world hides where the mistakes are. So here are the
# test records, which training did not see, in blocks of ten degrees: the
# colour is the share of species named right. Where a block is missing there
# were no test records, and nobody knows how good the map is there. Those are
# the places to be careful with.

# %% mystnb={"image": {"alt": "World map of test samples in blocks of ten degrees, coloured by the share of right answers."}}
plots.error_map(test.table["decimalLatitude"], test.table["decimalLongitude"],
                asked.argmax(axis=1) == test.labels);

# %% [markdown]
# ## Where does it grow?
#
# The other way round: one species, all places. Foresters and ecologists call
# this a *range map*. Why is the first map not enough? It shows the winner of
# each cell, and a species that comes second everywhere would not be on it at
# all. So here we keep its probability, wherever it comes in.
#
# A cell of three degrees has valleys and summits, and one question in its
# middle would take one of them for all. So each cell is asked at several
# places; their mean is the map, their spread its uncertainty. On the planet we
# can put the true probability beside it, the one that the records were drawn
# from.

# %%
species = ["Fagus sylvatica", "Populus tremuloides", "Ceiba pentandra",
           "Pinus ponderosa", "Acacia aneura", "Larix gmelinii"]
seen = set(chain.seen_classes()["species"])
shared = seen & set(source.classes["species"])
species = ([name for name in species if name in shared]
           or sorted(shared or seen)[:6])

# %% [markdown]
# Species of different climates, of those that training has seen. Cells where
# the planet has no tree, or the source no clear pixel, stay empty: an empty
# cell is no zero.

# %%
maps = explore.range_maps(model, source, classes, species, step=3.0,
                          samples=3, **asking)

# %%
lat, lon = np.meshgrid(maps["y"], maps["x"], indexing="ij")
known = source.prior(lat=lat.ravel(), lon=lon.ravel())
columns = pd.Index(source.classes["species"]).get_indexer(species)
known = maps["probability"].copy(
    data=known[:, columns].T.reshape(maps["probability"].shape))
known = known.where(maps["probability"].notnull() & (known > 0)
                    & known["species"].isin(sorted(shared)))

# %% mystnb={"image": {"alt": "Some species, each with its predicted probability by cell beside the probability that the planet was made with, to see whether the same regions are dark."}}
plots.range_panels(maps["probability"], known);

# %% [markdown]
# The two maps of a species should be dark in the same places. Eyes forgive a
# lot, so put a number beside the picture: the rank correlation
# of the two, cell by cell, is one if they agree on which of any two cells is
# the likelier one, and zero if they have nothing to do with each other. The
# farther below one, the less should single cells be compared.

# %%
from scipy.stats import spearmanr

agree = pd.Series({name: spearmanr(*(
    part.sel(species=name).to_numpy().ravel() for part in
    (maps["probability"], known)), nan_policy="omit").statistic
    for name in species if name in shared})
print(f"rank correlation with the truth: from {agree.min():.2f} "
      f"({agree.idxmin()}) to {agree.max():.2f} ({agree.idxmax()})"
      if len(agree) else "The planet has none of these species.")

# %% [markdown]
# > **Exercise 2** (medium)
# >
# > Where is the map of the first species least sure? Find the cell of the
# > largest spread, and say what kind of place it is.
#
# <details><summary>Solution</summary>
#
# ```python
# spread = maps["uncertainty"].sel(species=species[0])
# row, column = np.unravel_index(np.nanargmax(spread), spread.shape)
# lat_, lon_ = float(maps["y"][row]), float(maps["x"][column])
# print(f"{lat_:.1f}°, {lon_:.1f}°: {float(spread[row, column]):.2f}")
# ```
#
# The spread is largest where places within one cell differ, at the edge of the
# range or in the mountains, where one slope has the tree and the next does
# not. It does not tell of places where all answers are wrong together; no
# spread can.
#
# </details>

# %% [markdown]
# A figure is for looking, a file for working. A Cloud-Optimised GeoTIFF has
# the uncertainty as its second band, so that nobody opens the map without it;
# a Zarr store has all species. What matters about a file is that another
# program reads the same numbers from it, so it is read back at once:

# %%
tif = explore.write_geotiff(maps, chain.folder() / "range.tif", species[0])
store = chain.folder() / "ranges.zarr"
maps.to_zarr(store, mode="w", consolidated=False)
assert xr.open_zarr(store, consolidated=False)["probability"].identical(
    maps["probability"])

# %% [markdown]
# How much of the land with trees has this one? Empty cells, as of a desert,
# are in no mean. A cell of three degrees holds less ground the farther it lies
# from the equator, so a mean over such cells counts the north too often. For
# areas, ask for cells of equal area.

# %%
even = explore.range_maps(model, source, classes, species[-1], step=3.0,
                          samples=2, equal_area=True, **asking)
for kind, part in (("degrees", maps), ("area", even)):
    share = float(part["probability"].sel(species=species[-1]).mean())
    print(f"{species[-1]}, mean over cells of equal {kind}: {share:.2%}")

# %% [markdown]
# Where the two means differ, the first one gave cells far from the equator
# more weight than they have ground. Quote the second if anyone asks for an
# area, as a share of the land with trees. Drawn in its cells of equal area,
# the same species looks like this:

# %% mystnb={"image": {"alt": "World map in cells of equal area, flattened towards the poles: predicted probability of the last of these species."}}
fig, ax = plt.subplots(figsize=(7.5, 3.2))
even["probability"].sel(species=species[-1]).assign_coords(
    x=even["x"] / 1e6, y=even["y"] / 1e6).plot(
    ax=ax, cmap="viridis", cbar_kwargs={"label": "probability"})
ax.set(aspect="equal", title=f"{species[-1]}, cells of equal area",
       xlabel="east (1,000 km)", ylabel="north (1,000 km)");

# %% [markdown]
# > **Exercise 3** (hard)
# >
# > Swap two species of one genus in the class table and ask again. Does the
# > map of leaf types change? Does the map of species?
#
# <details><summary>Solution</summary>
#
# ```python
# order = np.arange(len(classes))
# pair = classes.groupby("genus").indices
# first, second = next((rows[:2] for rows in pair.values()
#                       if len(rows) > 1), (0, 1))  # or no relatives
# order[[first, second]] = order[[second, first]]
# swapped = evaluation.predict(model, test, classes.iloc[order].reset_index(
#     drop=True))
# straight = evaluation.predict(model, test, classes)
# np.testing.assert_allclose(swapped[:, order], straight, atol=1e-5)
# ```
#
# Neither changes: the class table only says which column stands for which
# name. The names themselves are read by the model, so the probability moves
# with the name. A model that has one output per row of a table, without
# reading names, would have swapped the trees.
#
# </details>

# %% [markdown]
# ## A tree of trees
#
# What has the model been taught? Families, genera and species with their
# records, and the years of up to four of them side by side. A name with few
# records is a name whose answers deserve less trust. Tap a name to open
# it, and a species to see its year: the line is the median greenness of its
# records by month, the band holds half of them. Two species whose bands lie on
# each other all year are hard to tell apart by greenness, month by month.

# %%
often = train.table.groupby("leafType")["species"].agg(
    lambda names: names.value_counts().index[0])
explore.taxonomy_explorer(train.load(), classes, note=note, chosen=often)

# %% [markdown]
# The same tree of names as one picture: each box is as high as its share of
# the records. What fills the right edge with thin lines are the rare species.
# Before you believe a name on the map, look how high its box is.

# %% mystnb={"image": {"alt": "Icicle of the training records: leaf types, families, genera and species side by side, as high as their share of the records."}}
plots.icicle(classes, np.bincount(train.labels, minlength=len(classes)));

# %% [markdown]
# ## Checks
#
# Three things that nobody would see on the map if they went wrong: the sums of
# a row are one, every leaf type has its colour, and the file has its two
# bands.

# %%
import rasterio

np.testing.assert_allclose(summed.sum(axis=1), 1, atol=1e-4)
assert set(guess) <= {*plots.LEAF_COLORS, "Unknown"}
with rasterio.open(tif) as file:
    assert file.count == 2 and file.units == ("1", "1")

# %% [markdown]
# ## What can go wrong
#
# Latitude and longitude are easily swapped, and the answer would be of another
# place: a fine name with a high probability, for the wrong forest. Where the
# swap leaves the globe, it is found out. Where it does not, nothing can tell;
# so `ask` takes both by name alone, and never by their order.

# %%
try:
    explore.ask(model, source, classes, lat=100.0, lon=62.0)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Recap
#
# - An answer is a name, a rank and a probability.
# - "Unsure below the genus" is a good answer.
# - A map of predictions needs its error beside it.
#
# Handed on: `range.tif` and `ranges.zarr`, which any GIS opens.
