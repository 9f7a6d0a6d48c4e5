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
# # What does a satellite see of a tree?
#
# **In:** `occurrences.parquet`. **Out:** `cube.zarr`, twelve months of
# pixels and 27 variables for each record.
#
# A crown is some ten metres wide, and so is a pixel. From 786 km above, no
# leaf is to be seen and no bark. What is left to tell an oak from a beech?
# This chapter looks at what there is, what it costs to fetch, and whether it
# pays.
#
# > **Before you start**
# >
# > *You will learn* what ten bands, twelve months and 27 variables are, and
# > how to download millions of them without losing any.
# >
# > *You need* [chapter 01](01-collect).
# >
# > *Cost:* under a minute and 70 MB on two CPU cores, 2 GB of memory for the
# > plan of a million samples.

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import importlib.util
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    get_ipython().run_line_magic("pip", f"install -q {source}")
    importlib.invalidate_caches()
    if importlib.util.find_spec("geotree") is None:
        sys.exit("geotree was not installed, see above. Without a network, "
                 "set `source` in this cell to a wheel that you have: "
                 "file:///content/geotree-0.1.0-py3-none-any.whl")

# %%
import numpy as np
import pandas as pd
from geotree import chain, pixels, plots, splits, variables
from sklearn.ensemble import ExtraTreesClassifier

plots.style(chain.stamp())
run = chain.settings()
table = chain.occurrences()
print(chain.provenance())

# %% [markdown]
# ## Ten bands
#
# A *band* is a range of wavelengths that a satellite measures. Sentinel-2
# looks at the Earth every five days in thirteen bands
# {cite}`drusch2012sentinel`; ten of them see the ground. Our eyes know three.
# The others are where trees differ: leaves absorb red, reflect the near
# infrared, and absorb the short-wave infrared the more water they hold.
#
# The table has one row for each band: its name, its wavelength in nanometres,
# the size of its pixels in metres, and what it stands for.

# %%
pd.DataFrame(variables.BANDS).rename(columns={
    "wavelength": "wavelength (nm)", "resolution": "pixel (m)"})

# %% [markdown]
# Look at the third column: not all bands are equally sharp. Where it says 20,
# the satellite measured one value for an area in which four of our pixels lie,
# and all four of them repeat it. The *red edge*, where a leaf's reflectance
# climbs from dark red to bright infrared, is among these coarser bands.
#
# ## A plan before the work
#
# `chain.occurrences()` has opened the table of chapter 01, or made it. Now
# each record needs its pixels. They may come from a service with a quota, and
# nothing is as annoying as a quota that is used up at nine tenths of a
# download. So every *source* of pixels answers two questions: what would it
# cost, and what is there.
#
# The default source is the simulated planet; see [its
# page](../book/planet.md). `GEOTREE_SOURCE=earthengine` and
# `GEOTREE_SOURCE=stac` bring real pixels through the same cells. Earth Engine
# needs an account and a Cloud project ([setting up](../book/setup.md)); open
# catalogues need neither.

# %%
source = chain.source()
print(source.plan(table))

# %% [markdown]
# That line is the whole answer: how many samples, how many questions to a
# service, how many bytes, how long. The planet asks nobody, for it renders its
# pixels here.
#
# ## What real pixels cost
#
# The planet is free. What would the Earth cost? Sentinel-2's images are
# delivered in *tiles*, squares of about 100 km. Earth Engine is asked once for
# a lonely sample, and once for up to 25 samples of one tile: one expression
# holds all twelve months and ten bands, so nothing has to be asked about a
# month first. The 25 looked up variables of a chunk come in one more request,
# and a sample that shows nothing all year is looked at once more, in the tiles
# beside its own. The release asked 39 times for each sample.
#
# Open catalogues are read file by file, so they suit the smaller jobs; their
# terrain, soil and climate come from rasters that `GEOTREE_STAC_RASTERS` names
# ([setting up](../book/setup.md)).
#
# The table below spreads ever more records the way ours are spread. Requests
# follow from the places; hours and EECU-hours, Earth Engine's unit of work,
# rest on guesses until you measure some hundred samples of your own.

# %%
from geotree import occurrences
from geotree.sources.earthengine import TIERS, EarthEngine
from geotree.sources.stac import Stac

engine = EarthEngine(chunk=1024)
stac = Stac(chain.folder() / "scenes")


# %%
def spread(n):
    """As many records as that, close to where ours are."""
    places = table[["gbifID", "decimalLatitude", "decimalLongitude",
                    "year"]].sample(n, replace=True, random_state=0)
    places.iloc[:, 1:3] += np.random.default_rng(0).normal(0, 0.05, (n, 2))
    places["decimalLatitude"] = places["decimalLatitude"].clip(-80, 80)
    return occurrences.by_tile(places)


# %%
def cost(n):
    """What two services would be asked for, for n samples."""
    places = spread(n)
    plan, other = engine.plan(places), stac.plan(places)
    return {"requests": plan.requests, "of the release": 39 * n,
            "EECU-hours": plan.eecu_hours, "hours": plan.seconds / 3600,
            "GB": plan.bytes / 1e9, "STAC requests": other.requests}


# %%
costs = pd.DataFrame({n: cost(n) for n in (1_000, 30_000, 1_000_000)}).T
shown = costs.rename("{:,}".format).rename_axis("samples")
plots.table(shown, lambda number: (
    f"{number:,.0f}" if number > 99 else f"{number:,.1f}"), index=True)

# %%
each = costs["requests"] / costs.index  # for one sample
print(f"Of {each.index[0]:,} samples each costs {each.iloc[0]:.2f} requests, "
      f"of {each.index[-1]:,} each costs {each.iloc[-1]:.2f}.")

# %% [markdown]
# The more records, the more of them share a tile, so the requests for each
# sample fall while the total grows. The bytes are few beside the hours: what
# takes long is to average a year of images, not to carry the result home.
#
# An account has so many EECU-hours a month, by its kind. A run whose plan is
# beyond eight tenths of them is refused before the first request, with the sum
# that it would have cost:

# %%
print(TIERS)
try:
    engine.plan(spread(1_000_000)).check()
except ValueError as error:
    print(error)

# %% [markdown]
# > **Exercise 1** (easy)
# >
# > Your grant pays for thirty thousand samples. How many EECU-hours is
# > that, and does an EECU-hour fetch more of them than in a run of a thousand?
#
# <details><summary>Solution</summary>
#
# ```python
# print(f"{costs.loc[30_000, 'EECU-hours']:.0f} EECU-hours")
# print((costs.index / costs["EECU-hours"]).round(1))
# assert each[30_000] <= each[1_000]
# ```
#
# The denser the records, the more of them fit into one request, but the hours
# of work do not shrink alike, for each sample still has its twelve months to
# be averaged. It is the work that the quota counts, not the requests.
#
# </details>

# %% [markdown]
# ## A look at a few
#
# Before a long run, look at a handful: one record of each leaf type, up to
# four.

# %%
few = table.groupby("leafType").head(1).head(4)
found = source.fetch(few)
found.reflectance.shape, found.environment.shape

# %% [markdown]
# The first shape is (samples, months, bands, rows, columns), the second
# (samples, variables). *Reflectance*, the share of light that a surface sends
# back, is stored in ten-thousandths, and 65535 stands for a month in which
# clouds hid the ground. A *patch* is the square of pixels around one record.
# In true colour, a year of these trees looks like this:

# %% mystnb={"image": {"alt": "A tree of each leaf type, twelve monthly patches each in true colour; some months are missing because of cloud."}}
plots.patch_strip(found.reflectance, few["species"]);

# %% [markdown]
# Grey squares are months without a clear view, white ones lie under snow. The
# line below is how green the tree is, by a number that the next section works
# out. Green comes and goes with the season for some trees and stays for
# others, and that is a difference which no single image shows.
#
# Where is that on the ground? Signed in to Earth Engine, the next cell gives a
# map to move in, made by geemap {cite}`wu2020geemap`: the composite of July,
# the patch, and the records around it. The planet has no ground between its
# trees, so without Earth Engine the cell shows nothing.

# %% tags=["hide-input"]
one = few.iloc[0]
lat, lon = one["decimalLatitude"], one["decimalLongitude"]

def engine_map():
    """Records and July's composite on a map of geemap."""
    import ee
    import geemap
    from geotree.sources.calls import composite

    point = ee.Geometry.Point([lon, lat])
    image = composite(2020, None, point, cloud_score=0.6, cloudy=80)
    view = geemap.Map(center=(lat, lon), zoom=15, lite_mode=True,
                      ee_initialize=False)
    look = {"bands": ["m07_B4", "m07_B3", "m07_B2"], "min": 0, "max": 3000}
    view.add_layer(image, look, "July")
    view.add_layer(ee.Feature(point.buffer(25).bounds()), {}, "patch")
    near = table[table["decimalLatitude"].sub(lat).abs() < 0.5].head(200)
    view.add_circle_markers_from_xy(near, radius=4, x="decimalLongitude",
                                    y="decimalLatitude", popup="species")
    return view


# %%
if source.name == "earthengine":
    display(engine_map())

# %% [markdown]
# Where exactly does a patch begin? If it were centred on the record, every
# pixel would be a mixture of four of the satellite's own. So a patch is cut
# from the grid on which the tiles lie: zones of the UTM projection, each with
# its *EPSG* number, with corners at multiples of ten metres. No pixel is
# blurred by resampling. Norway and Svalbard have zones of their own. For these
# trees, with the upper left corner of each patch in metres:

# %%
from geotree.sources import grid

where = {"lat": few["decimalLatitude"], "lon": few["decimalLongitude"]}
patch = grid.patches(**where)
pd.DataFrame({"tile": grid.tiles(**where), "EPSG": patch.epsg,
              "west (m)": patch.x, "north (m)": patch.y})

# %%
assert (np.array([patch.x, patch.y]) % 10 == 0).all()

# %% [markdown]
# No corner has a remainder: each patch begins where a pixel of the satellite
# begins. The record itself may stand up to half a pixel away from the middle
# of its patch, and that is the price.
#
# ## One number for greenness
#
# Twelve months of ten bands are 120 numbers a pixel. One number sums up much
# of it. Leaves reflect the near infrared and swallow red, and bare ground does
# neither, so the *normalised difference vegetation index* compares the two:
# $\mathrm{NDVI} = (B_8 - B_4) / (B_8 + B_4)$. It is near one over dense
# leaves, near zero over soil. Why the quotient, and not just the difference?
# In the shade of a slope both bands are darker alike; the quotient stays. By
# hand for the middle pixel of each tree in July, then with the library, which
# also knows that a hidden pixel has no greenness.

# %%
july = found.reflectance[:, 6]  # (N, C, H, W)
nir, red = july[:, 3, 2, 2] / 1e4, july[:, 2, 2, 2] / 1e4
seen = july[:, 3, 2, 2] != variables.NODATA
by_hand = (nir - red) / (nir + red)
library = variables.ndvi(july)[:, 2, 2]
np.testing.assert_allclose(by_hand[seen], library[seen], rtol=1e-5)
pd.Series(library, few["species"], name="NDVI in July").round(2)

# %% [markdown]
# And a whole patch: the first of these trees in its greenest month, as the
# eye would see it, and as one number a pixel. It is all that there is of this
# tree in that month, 25 pixels of ten metres.

# %% mystnb={"image": {"alt": "A patch of five by five pixels, 50 metres wide, in true colour, and beside it the NDVI of each pixel as a number and as a shade."}}
import calendar

import matplotlib.pyplot as plt

green = variables.ndvi(found.reflectance[0])  # (T, H, W)
month = int(np.nan_to_num(green[:, 2, 2], nan=-1).argmax())
fig, (left, right) = plt.subplots(1, 2, figsize=(6.5, 3.3))
left.imshow(plots.true_color(found.reflectance[0])[month])
right.imshow(green[month], vmin=0, vmax=1)
for (row, column), value in np.ndenumerate(green[month]):
    right.text(column, row, f"{value:.2f}", ha="center", va="center",
               color="w" if value < 0.6 else "k")
for ax, title in ((left, "true colour"), (right, "NDVI")):
    ax.set(xticks=[], yticks=[],
           title=f"{title}, {calendar.month_name[month + 1]}, 50 m wide")

# %%
print(f"{one['species']}: in its greenest month the NDVI of the patch goes "
      f"from {np.nanmin(green[month]):.2f} to {np.nanmax(green[month]):.2f}")

# %% [markdown]
# The tree stands in the middle. What lies around it is in the patch, too, and
# a crown rarely fills a pixel. So the same tree beside a meadow and in a wood
# gives other numbers, and a model has to live with that.

# %% [markdown]
# ## The whole table, in chunks
#
# Millions of samples take days, and in some night the machine will stop. One
# *chunk* of samples is one unit of work: its data are written whole, then its
# status. If something breaks off, the same call goes on with what is missing,
# and nothing is fetched twice.

# %%
with chain.making("cube") as path:
    cube = pixels.download(table, source, path, chunk=run.chunk)
pixels.counts(cube)

# %% [markdown]
# The counts say what became of each record. `no imagery` means that clouds hid
# every month: such a record stays in the cube, marked, and does not disappear
# without a word.
#
# All of it is one *cube*: a Zarr store, which is a folder of compressed
# chunks, that xarray opens without reading it. Its dimensions have names, so
# no code has to remember that the third axis is the band. What it was made of
# stands among the attributes:

# %%
cube

# %% [markdown]
# ## What the year looks like
#
# Now the one picture that explains why a year is worth fetching. Deciduous
# trees lose their leaves in the cold or in the dry season, half a year apart
# in the two hemispheres; evergreens keep them. The curves are the median NDVI
# of each leaf type, the bands hold the middle half of the records. Snow lowers
# it, too, so evergreen needles in the north have a winter without having lost
# a leaf.

# %% mystnb={"image": {"alt": "NDVI through the year by leaf type, north of 30 degrees north and south of 30 degrees south; deciduous types swing strongly, half a year apart, evergreen broad leaves hardly at all."}}
images = cube["reflectance"].to_numpy()
by_id = table.set_index("gbifID").loc[cube["sample"].to_numpy()]
plots.phenology(images, by_id["leafType"], by_id["decimalLatitude"]);

# %%
year = pd.DataFrame(variables.ndvi(images)[..., 2, 2])  # (N, T)
north = by_id["decimalLatitude"].to_numpy() > 30
middle = year[north].groupby(by_id["leafType"].to_numpy()[north]).median()
swing = middle.max(axis=1) - middle.min(axis=1)
print("Swing of the median NDVI in the north:", "; ".join(
    f"{kind} {size:.2f}" for kind, size in swing.sort_values().items()))

# %% [markdown]
# A kind that keeps its leaves and has little snow hardly moves. So the size of
# the swing, and the months in which it happens, say something that a single
# summer image cannot. Whether they say enough to name a species is another
# question, and the next section asks it.
#
# ## One month, or the whole year?
#
# Twelve composites cost twelve times the download of one. Do they pay? It
# would be easy to say yes because the curves look so different. So we ask a
# plain forest of decision trees for the species, first from the mean colour of
# a single month, then of all twelve, and test it in other 1° blocks of the
# globe than it learnt from, for reasons that [chapter 04](04-benchmark)
# explains.

# %%
some = np.random.default_rng(0).permutation(len(images))[:4000]
colour = variables.reflectance(images[some]).mean(axis=(-2, -1))
name = by_id["species"].to_numpy()[some]  # colour: (N, T, C)
tested = splits.folds(by_id.iloc[some], "blocks", degrees=1.0) == 0

# %%
def share_right(months):
    """Share of test records that a forest names from these months."""
    x = colour[:, months].reshape(len(colour), -1)  # (N, months · C)
    forest = ExtraTreesClassifier(50, min_samples_leaf=3, max_features=0.5,
                                  random_state=0)
    return forest.fit(x[~tested], name[~tested]).score(x[tested],
                                                       name[tested])

# %%
asked = {"January": [0], "April": [3], "July": [6], "October": [9],
         "all twelve": list(range(12))}
right = pd.Series({label: share_right(months)
                   for label, months in asked.items()})
(100 * right).round(1).rename("species right (%)").to_frame()

# %%
best = right.drop("all twelve").idxmax()
usual = pd.Series(name[~tested]).mode()[0]
print(f"n = {tested.sum():,} test records: {right['all twelve']:.1%} from "
      f"the year, {right[best]:.1%} from the best single month ({best}), "
      f"{np.mean(name[tested] == usual):.1%} by always naming {usual}")

# %% [markdown]
# This is one split, and has no interval yet ([chapter 04](04-benchmark) gives
# them); a few dozen records make the difference. Read the first number beside
# the last one, which needs no image. Mean colours alone name few trees: many
# species look alike from space, and [chapter 06](06-zero-shot) asks what
# pixels are worth beside all else that is known of a place.

# %% [markdown]
# > **Exercise 2** (medium)
# >
# > Perhaps two months are enough. Try January with July, and April with
# > October. How much of the year's advantage do two months keep?
#
# <details><summary>Solution</summary>
#
# ```python
# pairs = {"January and July": [0, 6], "April and October": [3, 9]}
# gain = right["all twelve"] - right[best]
# for label, months in pairs.items():
#     part = share_right(months) - right[best]
#     print(f"{label}: {100 * part:+.1f} points over {best}; the year "
#           f"{100 * gain:+.1f}")
# ```
#
# Two months on opposite sides of the year hold much of the difference between
# bare and green. Which two is a matter of where the trees stand: half of the
# globe has its summer in January. And clouds: with two months, many samples
# have only one or none.
#
# </details>

# %% [markdown]
# ## 27 variables
#
# Pixels are not all that is known of a place. Its height, its soil and its
# climate can be looked up, and they say which trees could grow there at all.
# They stand in the units in which the products store them; true value = stored
# value × scale. The first twelve of them:

# %%
pd.DataFrame(variables.VARIABLES).set_index("name")[
    ["unit", "scale", "group", "title"]].head(12)

# %% [markdown]
# So a temperature is kept in tenths of a degree, as WorldClim does
# {cite}`hijmans2005worldclim`; whoever forgets the scale has a climate that is
# ten times too hot. The first two variables deserve a second look: they are
# the coordinates. A model that reads them can know a great deal without having
# looked at a tree, and later chapters hide them to find out how much.
#
# ## Clouds hide months, not at random
#
# If clouds hid months by lot, we could shrug. But where it rains, satellites
# see less; beyond the polar circle the winter sun stays down. So what is
# missing tells something of the place, and a model must not be left to take
# "missing" for a colour.

# %% mystnb={"image": {"alt": "Share of missing months by latitude band and month."}}
gone = (images[:, :, 0, 2, 2] == variables.NODATA)
band = (by_id["decimalLatitude"] // 10 * 10).to_numpy()
share = pd.DataFrame(gone).groupby(band).mean()  # latitude by month
fig, ax = plt.subplots(figsize=(7.5, 3.6))
mesh = ax.pcolormesh(range(12), share.index + 5, 100 * share, vmin=0,
                     shading="nearest")
fig.colorbar(mesh, label="months missing (%)")
ax.set_xticks(range(12), list(plots.MONTHS))
ax.set(ylabel="latitude (°)", title=f"n = {len(gone):,} samples");

# %%
bands = share.mean(axis=1)
print(f"{gone.mean():.0%} of all months are missing; most, {bands.max():.0%}, "
      f"in the ten degrees from {bands.idxmax():.0f}° on, fewest, "
      f"{bands.min():.0%}, in those from {bands.idxmin():.0f}° on.")

# %% [markdown]
# The picture is one of climate and of the sun, before any tree was looked at.
# That is why [chapter 05](05-train) hides further months at random: a model
# that has learnt with gaps of every kind cannot lean on where the gaps are.
#
# ## Checks
#
# Each record of the table has its sample, in the same order; none is pending;
# and the latitude among the variables is that of the record.

# %%
assert (cube["sample"].to_numpy() == table["gbifID"].to_numpy()).all()
assert not (cube["status"] == 0).any()
environment = cube["environment"].to_numpy()
np.testing.assert_allclose(environment[:, 1], table["decimalLatitude"],
                           atol=1e-4)

# %% [markdown]
# ## What can go wrong
#
# You fetch half of the table from one catalogue and the rest from another, and
# a model learns to tell the catalogues apart. So a cube belongs to one source
# and its settings. Another planet is refused, and pixels of two kinds can
# never be mixed up.

# %%
from geotree import sources

other = sources.by_name("planet")(seed=1)
try:
    pixels.download(table, other, chain.folder() / "cube.zarr")
except ValueError as error:
    print(str(error).replace(str(chain.folder()), "…")[:160], "…")

# %% [markdown]
# Tables change: a filter drops records, a month brings new ones, a name is
# put right. Records are known by their `gbifID` and place, so the same call
# goes on with the cube that is there, and asks for what is new alone. Labels
# live in the table.

# %%
fewer = table.iloc[::-2].assign(species="Quercus robur")
again = pixels.download(fewer, source, chain.folder() / "cube.zarr")
assert (again["sample"].to_numpy() == fewer["gbifID"].to_numpy()).all()

# %% [markdown]
# Each chunk ends with its checksum. One that is missing or damaged is told
# of when the cube is opened or read, and the next download fetches it again.

# %% [markdown]
# > **Exercise 3** (hard)
# >
# > Which month is greenest for Evergreen Needleleaf south of 30° S, and how
# > large is its swing beside that of deciduous trees in the north?
#
# <details><summary>Solution</summary>
#
# ```python
# lat_, leaf = (by_id[name].to_numpy() for name in
#               ("decimalLatitude", "leafType"))
# green = variables.ndvi(images)[..., 2, 2]  # (N, T)
# for label, rows in {
#         "evergreen needles, south": (leaf == "Evergreen Needleleaf")
#         & (lat_ < -30), "deciduous leaves, north":
#         (leaf == "Deciduous Broadleaf") & (lat_ > 30)}.items():
#     year = np.nanmedian(green[rows], axis=0)
#     print(f"{label}: n = {rows.sum()}, greenest in month "
#           f"{year.argmax() + 1}, swing {np.ptp(year):.2f}")
# ```
#
# Needles stay on, so only light, water and a little snow move the curve; the
# deciduous curve swings with the leaves themselves. If you compare, keep an
# eye on n: a median of a handful of records has a swing of its own.
#
# </details>

# %% [markdown]
# ## Recap
#
# - A sample is (12, 10, 5, 5) pixels and 27 variables.
# - How much the year adds to its best month is measured, on one split so far.
# - Work is planned, resumable, and bound to its source; a table may change.
#
# Handed on: `cube.zarr`.
