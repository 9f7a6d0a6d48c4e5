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
# > **Before you start**
# >
# > *You will learn* what ten bands, twelve months and 27 variables are, and
# > how to download millions of them without losing any.
# >
# > *You need* [chapter 01](01-collect).
# >
# > *Cost:* under a minute and 70 MB on two CPU cores, 2 GB of memory for the
# > plan of six million samples.

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    get_ipython().run_line_magic("pip", f"install -q {source}")

# %%
import numpy as np
import pandas as pd
from geotree import chain, pixels, plots, splits, variables
from sklearn.ensemble import RandomForestClassifier

plots.style(chain.stamp())
run = chain.settings()
table = chain.occurrences()
print(chain.provenance())

# %% [markdown]
# ## Ten bands
#
# Sentinel-2 looks at the Earth every five days in thirteen bands
# {cite}`drusch2012sentinel`; ten of them see the ground. Leaves absorb red,
# reflect the near infrared, and absorb the short-wave infrared the more
# water they hold.

# %%
pd.DataFrame(variables.BANDS)

# %% [markdown]
# ## A plan before the work
#
# A source answers two questions: what would it cost, and what is there. The
# default source is the simulated planet; see [its page](../book/planet.md).
# `GEOTREE_SOURCE=earthengine` and `GEOTREE_SOURCE=stac` bring real pixels
# through the same cells. Earth Engine needs an account and a Cloud project
# ([setting up](../book/setup.md)); open catalogues need neither.

# %%
source = chain.source()
print(source.plan(table))

# %% [markdown]
# ## What real pixels cost
#
# Earth Engine is asked once for a lonely sample, and once for up to 25
# samples of one Sentinel-2 tile: one expression holds all twelve months and
# ten bands, so nothing has to be asked about a month first. The 25 looked
# up variables of a chunk come in one more request, and a sample that shows
# nothing all year is looked at once more, in the tiles beside its own. The
# release asked 39 times for each sample. Open catalogues are read file by
# file, so they suit the smaller jobs; their terrain, soil and climate come
# from rasters that `GEOTREE_STAC_RASTERS` names
# ([setting up](../book/setup.md)).
#
# The table spreads ever more records the way ours are spread. Requests
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
    rng = np.random.default_rng(0)
    places = table.iloc[rng.integers(0, len(table), n)][
        ["gbifID", "decimalLatitude", "decimalLongitude", "year"]]
    shift = rng.normal(0, 0.05, (n, 2))  # degrees
    places.iloc[:, 1] = (places.iloc[:, 1] + shift[:, 0]).clip(-80, 80)
    places.iloc[:, 2] += shift[:, 1]
    return occurrences.by_tile(places)


# %%
def cost(n):
    places = spread(n)
    plan, other = engine.plan(places), stac.plan(places)
    return {"requests": plan.requests, "of the release": 39 * n,
            "EECU-hours": plan.eecu_hours, "hours": plan.seconds / 3600,
            "GB": plan.bytes / 1e9, "STAC requests": other.requests}


# %%
costs = pd.DataFrame({n: cost(n) for n in (1_000, 100_000, 6_000_000)}).T
whole = ["requests", "of the release", "STAC requests"]
plots.table(costs.rename_axis("samples"), {
    name: "{:,.0f}" if name in whole else "{:,.1f}" for name in costs},
    index=True)

# %% [markdown]
# An account has so many EECU-hours a month. A run whose plan is beyond
# eight tenths of them is refused before the first request.

# %%
print(TIERS)
try:
    engine.plan(spread(1_000_000)).check()
except ValueError as error:
    print(error)

# %% [markdown]
# ## A look at a few
#
# Four records first, one of each leaf type where there are as many.

# %%
few = table.groupby("leafType").head(1).head(4)
found = source.fetch(few)
found.reflectance.shape, found.environment.shape

# %% [markdown]
# The shape is (samples, months, bands, rows, columns). Reflectance is
# stored in ten-thousandths, and 65535 stands for a month in which clouds
# hid the ground.

# %% mystnb={"image": {"alt": "Four trees, twelve monthly patches each in true colour; some months are missing because of cloud."}}
plots.patch_strip(found.reflectance, few["species"]);

# %% [markdown]
# On a map, with the patch in the middle: the square is 50 m wide. Signed in
# to Earth Engine, this is a map to move in, made by geemap
# {cite}`wu2020geemap`; otherwise the planet draws the ground around the tree.

# %%
import matplotlib.pyplot as plt
from geotree.sources import grid

one = few.iloc[0]
lat, lon = one["decimalLatitude"], one["decimalLongitude"]
steps = np.arange(-4, 5) * 50 / 111_195  # degrees, a patch each
north, east = np.meshgrid(-steps, steps / np.cos(np.radians(lat)),
                          indexing="ij")


# %%
def engine_map():
    """Records and July's composite on a map of geemap."""
    import ee
    import geemap
    from geotree.sources.expressions import composite

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
def planet_picture():
    """The ground around the tree in July as the planet renders it."""
    around = few.iloc[[0] * north.size].assign(
        gbifID=np.arange(north.size), decimalLatitude=lat + north.ravel(),
        decimalLongitude=lon + east.ravel())
    images = chain.planet().fetch(around).reflectance[:, 6]
    color = plots.true_color(images).reshape(9, 9, 5, 5, 3)
    fig, ax = plt.subplots(figsize=(4, 4))
    ax.imshow(color.transpose(0, 2, 1, 3, 4).reshape(45, 45, 3),
              extent=(-225, 225, -225, 225))
    ax.add_patch(plt.Rectangle((-25, -25), 50, 50, fill=False, color="w"))
    ax.set(xlabel="east (m)", ylabel="north (m)",
           title=f"{one['species']}, July")


# %% mystnb={"image": {"alt": "The ground around a tree in true colour, 450 m wide, with the patch of 50 m marked in the middle."}}
signed_in = source.name == "earthengine"
engine_map() if signed_in else planet_picture()

# %% [markdown]
# A patch is cut from the grid on which the satellite's tiles lie: UTM zones
# with corners at multiples of ten metres, so that no pixel is blurred by
# resampling. Norway and Svalbard have zones of their own.

# %%
patch = grid.patches(lat=few["decimalLatitude"],
                     lon=few["decimalLongitude"])
pd.DataFrame({"tile": grid.tiles(lat=few["decimalLatitude"],
                                 lon=few["decimalLongitude"]),
              "EPSG": patch.epsg, "west (m)": patch.x, "north (m)": patch.y})

# %% [markdown]
# ## One number for greenness
#
# The normalised difference vegetation index compares near infrared and red:
# $\mathrm{NDVI} = (B_8 - B_4) / (B_8 + B_4)$. By hand for one pixel, then
# with the library.

# %%
july = found.reflectance[:, 6]  # (N, C, H, W)
nir, red = july[:, 3, 2, 2] / 1e4, july[:, 2, 2, 2] / 1e4
seen = july[:, 3, 2, 2] != variables.NODATA
by_hand = (nir - red) / (nir + red)
library = variables.ndvi(july)[:, 2, 2]
np.testing.assert_allclose(by_hand[seen], library[seen], rtol=1e-5)

# %% [markdown]
# ## The whole table, in chunks
#
# One chunk of samples is one unit of work: its data are written whole, then
# its status. If the machine stops, the same call goes on with what is
# missing.

# %%
with chain.making("cube") as path:
    cube = pixels.download(table, source, path, chunk=run.chunk)
pixels.counts(cube)

# %%
cube

# %% [markdown]
# ## What the year looks like
#
# Deciduous trees lose their leaves in the cold or in the dry season, half a
# year apart in the two hemispheres. Evergreens hardly move.

# %% mystnb={"image": {"alt": "NDVI through the year by leaf type, north of 30 degrees north and south of 30 degrees south; deciduous types swing strongly, half a year apart."}}
images = cube["reflectance"].to_numpy()
by_id = table.set_index("gbifID").loc[cube["sample"].to_numpy()]
plots.phenology(images, by_id["leafType"], by_id["decimalLatitude"]);

# %% [markdown]
# ## One month, or the whole year?
#
# Twelve composites cost twelve times the download of one. Do they pay? We
# ask a plain forest for the species, first from the mean colour of a single
# month, then of all twelve, and test it in other 1° blocks of the globe
# than it learnt from.

# %%
some = np.random.default_rng(0).permutation(len(images))[:4000]
colour = variables.reflectance(images[some]).mean(axis=(-2, -1))
name = by_id["species"].to_numpy()[some]  # colour: (N, T, C)
tested = splits.folds(by_id.iloc[some], "blocks", degrees=1.0) == 0

# %%
def share_right(months):
    """Share of test records that a forest names from these months."""
    x = colour[:, months].reshape(len(colour), -1)  # (N, months · C)
    forest = RandomForestClassifier(40, min_samples_leaf=2, random_state=0)
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
print(f"n = {tested.sum():,} test records: {right['all twelve']:.0%} from "
      f"the year, {right[best]:.0%} from the best single month ({best})")

# %% [markdown]
# ## 27 variables
#
# Place, terrain, soil water and climate, in the units in which the products
# store them; true value = stored value × scale.

# %%
pd.DataFrame(variables.VARIABLES).set_index("name")[
    ["unit", "scale", "group", "title"]].head(12)

# %% [markdown]
# ## Clouds hide months, not at random
#
# Where it rains, satellites see less; beyond the polar circle the winter
# sun stays down.

# %% mystnb={"image": {"alt": "Share of missing months by latitude band and month."}}
gone = (images[:, :, 0, 2, 2] == variables.NODATA)
band = (by_id["decimalLatitude"] // 10 * 10).to_numpy()
share = pd.DataFrame(gone).groupby(band).mean()
fig, ax = plt.subplots(figsize=(7.5, 3.6))
mesh = ax.pcolormesh(range(12), share.index + 5, 100 * share, vmin=0,
                     shading="nearest")
fig.colorbar(mesh, label="months missing (%)")
ax.set_xticks(range(12), list(plots.MONTHS))
ax.set(ylabel="latitude (°)", title=f"n = {len(gone):,} samples");

# %% [markdown]
# ## Checks

# %%
assert (cube["sample"].to_numpy() == table["gbifID"].to_numpy()).all()
assert not (cube["status"] == 0).any()
environment = cube["environment"].to_numpy()
np.testing.assert_allclose(environment[:, 1], table["decimalLatitude"],
                           atol=1e-4)

# %% [markdown]
# ## What can go wrong
#
# A cube belongs to one source and its settings. Another planet is refused, so
# that pixels of two kinds can never be mixed up.

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
fewer = table.iloc[::-2].assign(species="of another name")
again = pixels.download(fewer, source, chain.folder() / "cube.zarr")
assert (again["sample"].to_numpy() == fewer["gbifID"].to_numpy()).all()

# %% [markdown]
# Each chunk ends with its checksum. One that is missing or damaged is told
# of when the cube is opened or read, and the next download fetches it again.

# %% [markdown]
# > **Exercise**
# >
# > Which month is greenest for Evergreen Needleleaf south of 30° S, and why
# > is the swing so small?
#
# <details><summary>Solution</summary>
#
# ```python
# south = (by_id["leafType"] == "Evergreen Needleleaf").to_numpy() & (
#     by_id["decimalLatitude"] < -30).to_numpy()
# green = np.nanmedian(variables.ndvi(images[south])[..., 2, 2], axis=0)
# print(green.round(2), green.argmax() + 1)
# ```
# Needles stay on, and snow is rare there: only light and water vary.
#
# </details>
#
# ## Recap
#
# - A sample is (12, 10, 5, 5) pixels and 27 variables.
# - How much the year adds to its best month is measured above, not assumed.
# - Work is planned, resumable, and bound to its source; a table may change.
#
# Handed on: `cube.zarr`.
