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
# # What grows in my own plots?
#
# **In:** a CSV with a name, a latitude and a longitude in each row. **Out:** a
# model of your own, answers for places where nobody has looked, and a map.
#
# You have a table of trees: from your own plots, a street-tree register, an
# old herbarium. It is small, it is messy, and you would like to know what
# grows in between. Are two hundred records enough to ask a satellite? And how
# would you notice if they are not?
#
# > **Before you start**
# >
# > *You will learn* to take a table of your own all the way: to find its
# > faults, fetch pixels, fine-tune, ask, map, and judge the result without
# > fooling yourself.
# >
# > *You need* [chapter 05](05-train); [chapter 04](04-benchmark) says why the
# > split is made in blocks.
# >
# > *Cost:* about a minute on two CPU cores.

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import importlib.util
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    package = f"'geotree[stac] @ {source}'"
    get_ipython().run_line_magic("pip", f"install -q {package}")
    importlib.invalidate_caches()
    if importlib.util.find_spec("geotree") is None:
        sys.exit("geotree was not installed, see above. Without a network, "
                 "set `source` in this cell to a wheel that you have: "
                 "file:///content/geotree-0.1.0-py3-none-any.whl")

# %%
import numpy as np
import pandas as pd
from geotree import baselines, chain, evaluation, explore, occurrences
from geotree import pixels, place, plots, prior, shards, splits, taxonomy
from geotree import training
from geotree.shards import Batch

plots.style(chain.stamp())

# %%
folder = chain.folder() / "own"  # all that this chapter writes
folder.mkdir(parents=True, exist_ok=True)
source = chain.planet()
start = chain.model()  # from chapter 05
block = 1.0  # degrees, side of a block of the split
region = (-5.0, 43.0, 20.0, 56.0)  # west, south, east, north
print("Records, places and pixels of this page: the simulated planet.")

# %% [markdown]
# ## A table as tables are
#
# You come with a spreadsheet: a name, two coordinates, perhaps a year. It has
# been through Excel, somebody used a comma for the decimal point, and two
# rows are wrong. To have such a file on any machine, this page draws 200
# records of eight European species from the planet and spoils them a little.

# %%
def draw(seed):
    """Records of the planet within the region."""
    west, south, east, north = region
    return source.occurrences(8000, seed=seed).query(
        "@west <= decimalLongitude <= @east"
        " and @south <= decimalLatitude <= @north")


# %%
drawn = draw(seed=11)
often = drawn["species"].value_counts().index
mine = drawn[drawn["species"].isin(often[:8])].head(200)
columns = {"species": "Baum", "decimalLatitude": "Breite",
           "decimalLongitude": "Länge", "year": "Jahr"}

# %%
sheet = mine[list(columns)].rename(columns=columns).astype(object)
sheet.iloc[3, 1], sheet.iloc[7, 2] = "n/a", 999
sheet.to_csv(folder / "trees.csv", sep=";", decimal=",", index=False,
             encoding="utf-8-sig")
print((folder / "trees.csv").read_text("utf-8-sig")[:140], "…")

# %% [markdown]
# The columns have German names, as yours may have names of their own. One
# latitude is no number and one longitude is no place on Earth; you would not
# find either by scrolling.
#
# `occurrences.from_points` reads it. Nothing is dropped and nothing is
# guessed in silence: it says which column it took for what. Latitude,
# longitude and year go by many names that it knows; "Baum" it has to be told.

# %%
points = occurrences.from_points(folder / "trees.csv", species="Baum")
print(points.attrs["columns"])

# %% [markdown]
# Always read this line: a program that takes the height of a tree for its
# latitude goes on without a murmur. A row that cannot be used says why.

# %%
for _, row in points[points["status"] != "ok"].iterrows():
    print(f"{row['Baum']}: {row['status']}: {row['reason']}")

# %% [markdown]
# Both rows stay in the table, marked, so that you can mend them at their
# source. A name alone has no family and no leaf type, and the model reads all
# four names. Where a class table knows the species, or a relative, it fills
# them in; on the Earth `occurrences.match` asks GBIF for them.

# %%
table = points[points["status"] == "ok"]
table = taxonomy.complete(table, source.classes)
classes = taxonomy.class_table(table)
records = table["species"].value_counts()
classes.drop(columns="genus").assign(
    records=records[classes["species"]].to_numpy())

# %% [markdown]
# This is the *class table*: the list of names that belong to your records,
# each with its relatives, and how often you recorded it. A handful of records
# of a name is little to learn from, and even less to be tested by.

# %% mystnb={"image": {"alt": "Map of western and central Europe with a dot for each usable record, coloured by species."}}
west, south, east, north = region
ax = plots.occurrence_map(table, by="species")
ax.set(xlim=(west - 15, east), ylim=(south, north), xticks=range(-20, 21, 10),
       yticks=range(45, 56, 5));  # in the west, room for the legend

# %% [markdown]
# ## Can I trust it?
#
# You know your trees, but do you know your table? A code that stands for
# "unknown", a genus that is a family: such rows are learnt from like any
# other. The audit of [chapter 01](01-collect) works on any table. It is a list
# of questions to you, not a verdict; rules that need columns which you do not
# have say so.

# %%
found = taxonomy.audit(table)
print(f"{len(found)} findings; without a column to look at:",
      *found.attrs["skipped"], sep="\n- ")

# %% [markdown]
# No finding does not mean that all is well. It means that these rules see
# nothing in these columns. A tree that is planted in the wrong row is a
# question for you alone.

# %% [markdown]
# ## Fetch
#
# Now the pixels: one call, with a plan first. On the Earth the same call takes
# hours instead of a second; when it is interrupted, call it again. What is
# there is not fetched twice. Then the samples are packed and split into blocks
# of one degree, for a neighbour of a training record is no test ([chapter
# 04](04-benchmark)).

# %%
cube = pixels.download(table, source, folder / "trees.zarr")
pixels.counts(cube)

# %% [markdown]
# The plan says what would be asked and how much comes, before anything does;
# the count says what became of each row.

# %%
data = shards.write(cube, table, folder / "shards", progress=False)
part = splits.split(data.table, block_degrees=block, seed=0)
train, validation, test = (
    data.select((part == name).to_numpy())
    for name in ("train", "validation", "test"))
part.value_counts()

# %% [markdown]
# The three parts have the jobs that [chapter 04](04-benchmark) gave them: to
# learn, to choose by, and to judge at the very end.
#
# ## Fine-tune
#
# Why not train a model of your own from the start? Two hundred records are too
# few to learn from pixels from nothing. A model that has seen many trees knows
# what a spring looks like; it only has to learn which of your eight names goes
# with which. `chain.model()` is that model, the one of chapter 05.
# *Fine-tuning* goes on with its training on your records. The rate is low, so
# that it does not forget what it knew.

# %%
settings = training.Settings(epochs=8, batch_size=32, learning_rate=3e-4)
model = start
history = training.fit(model, train, validation, settings=settings,
                       out=folder / "training", progress=False)
history.index = 1 + history["epoch"]
print(f"{len(history)} epochs: validation loss is lowest in epoch "
      f"{history['validation_loss'].idxmin()}")
history[["loss", "validation_loss"]].round(2).assign(**{
    "top-1 (%)": (100 * history["validation_top1"]).round(1)})

# %% [markdown]
# The loss should fall on both parts. Where it falls in training and rises in
# validation, the model is learning your records by heart. That happens soon
# with few of them, and is the reason for few epochs and a low rate.
#
# Did it help? Ask before you go on. The test part answers, with your eight
# names to choose from and nothing else:

# %%
for name, one in {"chapter 05": chain.model(), "fine-tuned": model}.items():
    odds = evaluation.predict(one, test, data.classes)
    print(f"{name}: {np.mean(odds.argmax(axis=1) == test.labels):.0%} of "
          f"{len(test)} right, log loss "
          f"{evaluation.calibration.log_loss(odds, test.labels).mean():.2f}")

# %% [markdown]
# Do not expect much here. The model of chapter 05 was trained on this very
# planet, and has met these species before, so what your records add may be
# little more than their accidents. If the second line is no better than the
# first, keep the first model, and let your records serve it as a prior, as a
# checklist and as a test; this page goes on with the second one, to show the
# way. Fine-tuning is meant for what a model has *not* seen: other imagery, or
# a new species. The end of this chapter tries one.
#
# The places of the training records go with the model: they know what a place
# alone allows ([chapter 06](06-zero-shot)). What the place is worth is fitted
# on the validation part, as is the temperature that keeps the confidence
# honest ([how sure](06-how-sure)).

# %%
weight = prior.attach(model, train)
model.save_pretrained(folder / "model")
print(f"weight of the place {weight:.2f}, "
      f"temperature {model.temperature:.2f}")

# %% [markdown]
# ## Ask
#
# A model that only knows your plots tells you what you knew. Now the question
# that all this was for: a thousand places where nobody has
# looked. One call reads them, fetches their pixels and answers, one row out
# for each row in.

# %%
others = pd.concat([draw(seed=12), draw(seed=13)])
places = others[others["species"].isin(classes["species"])].head(1000)[[
    "gbifID", "decimalLatitude", "decimalLongitude", "year", "species"]]
places = places.reset_index(drop=True)

# %%
how = {"model": folder / "model", "source": source, "progress": False,
       "cache": folder / "cache"}
answers = explore.predict(places, **how)
answers["status"].value_counts()

# %% [markdown]
# Each row has a status, and those that are not `ok` have a reason. The planet
# needs to know which tree to render, so these places come with their species;
# the model does not see it. Three answers, read aloud, of which each goes as
# deep as the model is sure:

# %%
def aloud(row) -> str:
    """An answer as one would say it."""
    here = f"{row['decimalLatitude']:.1f}°, {row['decimalLongitude']:.1f}°"
    if pd.isna(row["sure_rank"]):
        return (f"{here}: unsure; perhaps {row['species_1']} "
                f"({row['species_1_probability']:.0%}), one of "
                f"{row['set_size']} names that cannot be ruled out.")
    return (f"{here}: {row['sure_rank']} {row['sure_name']} "
            f"({row['sure_probability']:.0%}).")

# %%
good = answers[answers["status"] == "ok"]
depth = good["sure_rank"].fillna("none")
for _, row in good.groupby(depth).head(1).head(3).iterrows():
    print(aloud(row))

# %% [markdown]
# An answer that stays in a notebook helps nobody. A file for others: CSV for a
# spreadsheet, GeoParquet for a GIS. A second call of `predict` fetches
# nothing; it takes the pixels from its cache.

# %%
explore.write_answers(answers, folder / "answers.csv")
explore.write_answers(answers, folder / "answers.geoparquet")
answers[["predicted_species", "sure_rank", "set_size", "months"]].head()

# %% [markdown]
# `predicted_species` is there in each row, sure or not, so never read it
# alone: `sure_rank` says how deep it can be trusted, `set_size` how many names
# cannot be ruled out, `months` how many months of the year had a clear image.

# %% [markdown]
# ## Is it right?
#
# A table full of names looks finished, and that is the danger. Here the truth
# is known, so the answers can be scored. On the Earth you would keep some of
# your own records back for this, whole blocks of them. The table has
# percentages with 95 % intervals. `likeliest` says how often the first name is
# right, `listed` how often one of the few that are listed, and `sure` how
# often the model commits itself to a species. `in set` is how often the set of
# names that cannot be ruled out holds the right one; 90 % were promised.
# `sure and right` says whether "sure" means it: a model that is sure from a
# probability of 0.8 on should be right at least so often. `trained on` is the
# share of places that the model learned from: above zero, the rest flatters.

# %%
blocks = evaluation.spatial_blocks(places, block)
score = explore.score_answers(answers, "species", blocks=blocks)
score[["value", "low", "high"]] *= 100
score.round(1)

# %%
kept = score["value"]
print(f"promised at least 80 %, and kept: {kept['sure and right']:.0f} %; "
      f"promised 90 %, and kept: {kept['in set']:.0f} %. Both were fitted on "
      f"{len(validation)} samples.")

# %% [markdown]
# That is the most useful line. Look at the intervals in the table, too: a
# promise is broken where the whole interval lies below it. Temperature and
# sets rest on the validation samples, and so few of them know the confidence
# only roughly; and a model that has learnt records by heart is too sure. More
# records of your own are the cure of both. Until then, take "sure" with as
# much salt as the table says.

# %% [markdown]
# > **Exercise 1** (easy)
# >
# > Ask with `prior=False`. What do the records around a place contribute?
#
# <details><summary>Solution</summary>
#
# ```python
# alone = explore.predict(places, prior=False, **how)
# 100 * explore.score_answers(alone, "species", blocks=blocks)["value"]
# ```
#
# Without the records around a place, the answer rests on the model alone.
# Where a species grows in one region only, its records nearby are a strong
# argument; where eight species share a valley, they say little. If the score
# hardly moves, that is worth knowing, too: your model then does not lean on
# them.
#
# </details>
#
# > **Exercise 2** (medium)
# >
# > A threshold of 0.5 answers more often at species. Is it still right?
#
# <details><summary>Solution</summary>
#
# ```python
# bold = explore.predict(places, threshold=0.5, **how)
# score_bold = explore.score_answers(bold, "species")["value"]
# 100 * score_bold.loc[["sure", "sure and right"]]
# ```
#
# More answers reach the species, and a smaller share of them is right. If the
# confidence is honest, at least half of the newly given names are right;
# whether that is good enough depends on what a wrong name costs you.
#
# </details>

# %% [markdown]
# The model still has all the names of chapter 05 to choose from. If you know
# that nothing but your species stands there, say so with a checklist.

# %%
listed = explore.predict(places, checklist=list(classes["species"]), **how)
both = {"all names": answers, "my checklist": listed}
told = {name: 100 * explore.score_answers(one, "species", blocks=blocks)[
    ["value", "low", "high"]] for name, one in both.items()}
by_list = pd.DataFrame({name: one["value"] for name, one in told.items()})
by_list.round(1)

# %%
for name, one in told.items():
    value, low, high = one.loc["sure and right"]
    print(f"{name}: sure of {one.loc['sure', 'value']:.1f} %, and of these "
          f"right in {value:.1f} % (95 %: {low:.1f} to {high:.1f})")
bolder, better = (by_list.loc[one, "my checklist"] > by_list.loc[
    one, "all names"] for one in ("sure", "sure and right"))
print(f"The list made the model {'' if bolder else 'no '}bolder, and 'sure' "
      f"was {'' if better else 'not '}right more often for it.")

# %% [markdown]
# A list costs nothing. It excludes the names that you know to be wrong, and
# what they had is shared out among the rest, so the model may be surer. To be
# surer is not to be right: that is for the lines `likeliest` and `sure and
# right` to say. Where fine-tuning has already taught the model which names to
# expect, a list has little left to exclude.

# %% [markdown]
# > **Exercise 3** (hard)
# >
# > Give a checklist of four of your eight species. What happens to the
# > answers where another one stands?
#
# <details><summary>Solution</summary>
#
# ```python
# four = list(classes["species"][:4])
# told = explore.predict(places, checklist=four, **how)
# other = ~places["species"].isin(four)
# for name, one in {"all names": answers, "four names": told}.items():
#     sure = one[other]["sure_rank"].eq("species").mean()
#     size = one[other]["set_size"].mean()
#     print(f"{name}: {size:.1f} in a set, sure of a species: {sure:.0%}")
# ```
#
# They get one of the four all the same: a list excludes names, it does not
# add "none of these". What the missing names would have had is shared out
# among the four, so the model can be surer of a wrong name than before. The
# sets do not warn either, for they are promised where the tree is on the list.
# So name what may stand there, and not only what you are looking for.
#
# </details>

# %% [markdown]
# But these places were drawn from all over the species' ranges, some next to a
# training record. A fairer question: how good is such a recipe where it has
# never been? Five folds of blocks answer it, with a model trained for each,
# for three epochs only, to save time, and with your names alone to choose
# from; so do not compare its score with the one above. Three rivals answer
# beside it: the model of chapter 05, untouched; a vote of the nearest training
# places, which sees no pixel; and the most frequent name.

# %%
fold = splits.folds(data.table, "blocks", degrees=block, number=5)
untouched = evaluation.predict(chain.model(), data, data.classes)
rivals = {"chapter 05, untouched": untouched}
for name in ("fine-tuned", "nearest places", "most frequent"):
    rivals[name] = np.zeros_like(untouched)
quick = training.Settings(epochs=3, batch_size=32, learning_rate=3e-4)

# %%
for number in range(5):
    there = fold == number
    away, here = data.select(~there), data.select(there)
    one = chain.model()
    training.fit(one, away, here, settings=quick, progress=False,
                 out=folder / f"fold-{number}")
    rivals["fine-tuned"][there] = evaluation.predict(one, here, data.classes)
    rivals["nearest places"][there] = place.Nearest(away.table).predict(
        here.table, data.classes)
    rivals["most frequent"][there] = baselines.majority(
        away.labels, len(here), len(data.classes))

# %%
board = evaluation.leaderboard(
    rivals, data.labels, data.classes, reference="chapter 05, untouched",
    blocks=evaluation.spatial_blocks(data.table, block)).set_index("model")
shown = ["value", "low", "high", "adds", "adds_low", "adds_high"]
(100 * board[shown]).round(1)

# %%
tuned = board.loc["fine-tuned"]
verdict = ("it is worth its training" if tuned["adds_low"] > 0 else
           "it does harm" if tuned["adds_high"] < 0 else
           "nothing shows that it adds anything")
print(f"Fine-tuning adds {100 * tuned['adds']:+.1f} points to the model of "
      f"chapter 05 (95 %: {100 * tuned['adds_low']:+.1f} to "
      f"{100 * tuned['adds_high']:+.1f}): {verdict}.")

# %% [markdown]
# Percent of right names with 95 % intervals, over the same records for all;
# `adds` is the difference to the model of chapter 05, in points. Each fold is
# judged by records of blocks that fine-tuning never saw. They are handed to
# training as validation, but choose nothing: the last epoch is kept.
#
# To be ahead of the most frequent name is not enough, for the model that you
# began with may be so as well. Your records have taught something only if the
# interval of the fine-tuned model's `adds` lies above zero. Else two hundred
# of them were not enough to show it; that is how you notice.
#
# One thing flatters: the model of chapter 05, from which each fold starts, was
# trained on other trees all over the planet, in some of these blocks too.

# %% [markdown]
# ## A map of my region
#
# A map is what everybody will ask you for, and what will be believed most
# easily. So it has two layers: the likeliest name of each rank, cell by cell,
# and its confidence. Cells in the sea are not asked; a cell whose service
# failed says so, and is not "no tree".

# %%
maps = explore.name_map(folder / "model", source, region=region, step=0.5,
                        year=2020, cache=folder / "cache")
explore.write_geotiff(maps, folder / "map.tif")
names = maps["leafType"].attrs["names"]
print(f"{int((maps['status'] == 1).sum())} cells with an answer: {names}")

# %% mystnb={"image": {"alt": "Map of western and central Europe in cells of half a degree: the confidence in the likeliest leaf type, the darker, the less sure; the sea is empty."}}
chance = 1 / source.classes["leafType"].nunique()  # no likeliest is below
maps["leafType_confidence"].drop_attrs().rename(
    x="longitude (°)", y="latitude (°)").plot(
    cmap="cividis", vmin=chance, vmax=1, figsize=(6, 4),
    cbar_kwargs={"label": "probability of the likeliest leaf type"});

# %% [markdown]
# The darker a cell, the less sure is the model. The scale begins where all
# leaf types are equally likely, for the likeliest of them cannot have less.
# Print such a map beside any map of names. `map.tif` has two bands for each
# rank. QGIS opens it in colours with names, which lie in `map.qml` and
# `map.tif.aux.xml` beside it; keep the three together.

# %% [markdown]
# ## One species more
#
# A model is never finished. Next year a ninth species turns up, one that even
# the model of chapter 05 was never trained on. Do you have to start again? Its
# rows go to the end of the table; the cube fetches these alone, and
# fine-tuning goes on from your own model, which reads the new name as it reads
# all others.

# %%
met = set(chain.parts()["train"].table["species"])
newcomer = next(one for one in often[8:] if one not in met)
ninth = drawn[drawn["species"] == newcomer].head(30)
grown = pd.concat([table, taxonomy.complete(
    occurrences.from_points(ninth[["species", "decimalLatitude",
                                   "decimalLongitude", "year"]]),
    source.classes)])

# %%
cube = pixels.download(grown, source, folder / "trees.zarr")
nine = shards.write(cube, grown, folder / "nine", progress=False)

# %% [markdown]
# Who splits the longer table anew deals out all its blocks again, and records
# that the model has learnt from turn up in the test. So each old record stays
# in its part, found by its number, for the order of the rows is another one
# now; and only the new ones are dealt out. The checks fail if one record were
# on both sides.

# %%
fresh = nine.table[nine.table["species"] == newcomer]
dealt = splits.split(fresh, block_degrees=block, seed=0)
by_id = pd.concat([part.set_axis(data.table["gbifID"]),
                   dealt.set_axis(fresh["gbifID"])])
part9 = nine.table["gbifID"].map(by_id)
splits.check_leakage(nine.table, part9)

# %%
train9, validation9, test9 = (
    nine.select((part9 == name).to_numpy())
    for name in ("train", "validation", "test"))
for old in (train, validation):
    assert not set(old.table["gbifID"]) & set(test9.table["gbifID"])

# %%
odds = {"before": evaluation.predict(model, test9, nine.classes)}
training.fit(model, train9, validation9, settings=settings, progress=False,
             out=folder / "training-ninth")
odds["after"] = evaluation.predict(model, test9, nine.classes)
new = (test9.table["species"] == newcomer).to_numpy()
for when, one in odds.items():
    hit = evaluation.hits(one, test9.labels)
    print(f"{when}: {newcomer} {hit[new].sum():.0f} of {new.sum()} right, "
          f"the others {hit[~new].sum():.0f} of {(~new).sum()}")

# %%
moved = evaluation.compare(
    *(odds[when][~new] for when in ("after", "before")), test9.labels[~new],
    blocks=evaluation.spatial_blocks(test9.table[~new], block))
change, low, high = 100 * moved[["difference", "low", "high"]]
print(f"The others change by {change:+.0f} points "
      f"(95 %: {low:+.0f} to {high:+.0f})")

# %% [markdown]
# The others are the test records of the first fine-tuning, now with nine names
# to choose from. They are counted, too, because learning one name must not
# cost the eight that were there; if they suffer, mix more of their records in,
# or take fewer epochs. An interval that holds zero shows neither loss nor
# gain. These are a handful of records: enough to notice that a name was
# forgotten, too few to say how good the model is. [Chapter
# 07](07-few-shot) asks with enough of them what a few records of a new species
# can teach.
#
# ## The same in six lines
#
# All of this is also a command, for those who do not write Python. The options
# are the arguments from above, and `geotree COMMAND --help` has the rest:
#
# ```bash
# geotree audit trees.csv
# geotree fetch trees.csv -o trees.zarr --source stac
# geotree train trees.zarr -o model --from chapter-05-model
# geotree predict places.csv -o answers.csv --model model --source stac
# geotree evaluate answers.csv --truth species
# geotree map --model model --bbox -5,43,20,56 --step 0.5 -o map.tif
# ```
#
# ## Recipes
#
# **The Earth instead of the planet.** Same cells, another source. A STAC
# catalogue needs no account; Earth Engine needs one, and has a quota that the
# plan is held against.
#
# ```python
# from geotree.sources.stac import Stac
# from geotree.sources.earthengine import EarthEngine
#
# source = Stac("scenes", year="own")           # imagery of each row's year
# source = EarthEngine("my-project", year=2020)
# ```
#
# **Two graphics cards.** `training.fit` in a script `train.py` notices the
# other processes; each batch is shared, and the loss is that of one process.
# Of a large set, 2, 4 or 8 of them read each their own part of the bytes.
#
# ```bash
# torchrun --nproc-per-node 2 train.py
# ```
#
# **The checkpoint of the release.** `GeoTreeClip.from_pretrained` gives the
# model of GlobalGeoTree, with its 21,001 species; `training.FEW_SHOT` are
# the settings that its authors fine-tune with.
#
# ```python
# from geotree import GeoTreeClip, training
#
# model = GeoTreeClip.from_pretrained("yann111/GlobalGeoTree")
# settings = training.Settings(**training.FEW_SHOT)
# ```
#
# **An architecture of your own.** Any `torch.nn.Module` with
# `encode_images`, `encode_taxa` and `scale`; it is tried before the first
# step. `geotree.models` says what each returns.
#
# **Patches without coordinates.** Arrays go in as they are. No latitude is
# invented: what is not known is NaN, and the model looks at the pixels alone.

# %%
images = test.load().images[:4]  # (4, 12, 10, 5, 5), yours
nothing = np.full((4, 27), np.nan, np.float32)
batch = Batch(images, nothing, np.zeros(4, int), np.arange(4))
odds = evaluation.predict(model, batch, nine.classes)
nine.classes["species"].to_numpy()[odds.argmax(axis=1)]

# %% [markdown]
# Four names from pixels alone. [Chapter 10](10-explore) measures how much less
# that is than an answer which knows the place.
#
# ## Checks
#
# A table that went through many hands can lose a row, or its order, and then
# each name stands beside the wrong tree. As many rows come out as went in, in
# their order and otherwise unchanged; asking again gives the same names; no
# record is in training and test.

# %%
assert len(answers) == len(places)
pd.testing.assert_frame_equal(answers[list(places)], places)
again = explore.predict(places.head(), **how)
assert again["predicted_species"].equals(
    answers["predicted_species"].head())
assert not set(train.table["gbifID"]) & set(test.table["gbifID"])

# %% [markdown]
# ## What can go wrong
#
# Rows, not runs, fail. Swapped coordinates that leave the globe, an empty cell
# and a place at sea come back with a status, and with a reason where the row
# itself is at fault; all others are answered.

# %%
odd = pd.DataFrame({"lat": [46.5, 146.5, None, 0.0],
                    "lon": [11.0, -35.0, 5.0, -30.0],
                    "note": ["fine", "swapped", "empty", "at sea"]})
explore.predict(odd, **how)[["note", "status", "reason"]]

# %% [markdown]
# A checklist of other trees is refused as a whole: each answer would be
# wrong.

# %%
try:
    explore.predict(odd, checklist=["Homo sapiens"], **how)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Recap
#
# - A CSV goes in; nothing is dropped in silence, each row says what became of
#   it.
# - Fine-tuning is meant for what a model has not seen; a test in blocks says
#   whether it helped, if it has records enough.
# - A model folder holds all that an honest answer needs, places included.
#
# Handed on, to others: `answers.csv`, `answers.geoparquet` and `map.tif`.
