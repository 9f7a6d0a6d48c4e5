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
# :::{admonition} Before you start
# *You will learn* what ten bands, twelve months and 27 variables are, and
# how to download millions of them without losing any.
#
# *You need* [chapter 01](01-collect).
#
# *Cost:* ten seconds and 70 MB on two CPU cores.
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
from geotree import chain, pixels, plots, variables

plots.style()
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

# %%
source = chain.source()
print(source.plan(table))

# %% [markdown]
# Three records first, to look at.

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
cube = pixels.download(table, source, chain.folder() / "cube.zarr",
                       chunk=run.chunk)
pixels.counts(cube)

# %%
cube

# %% [markdown]
# ## What the year looks like
#
# Deciduous trees lose their leaves in the cold or in the dry season, half a
# year apart in the two hemispheres. Evergreens hardly move. This curve is
# most of what tells one tree from another.

# %% mystnb={"image": {"alt": "NDVI through the year by leaf type, north of 30 degrees north and south of 30 degrees south; deciduous types swing strongly, half a year apart."}}
images = cube["reflectance"].to_numpy()
by_id = table.set_index("gbifID").loc[cube["sample"].to_numpy()]
plots.phenology(images, by_id["leafType"], by_id["decimalLatitude"]);

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
import matplotlib.pyplot as plt

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
# A cube belongs to one table. Another table is refused, so that pixels and
# labels can never be mixed up.

# %%
try:
    pixels.download(table.head(10), source, chain.folder() / "cube.zarr")
except ValueError as error:
    print(str(error)[:160], "…")

# %% [markdown]
# :::{admonition} Exercise
# :class: tip
# Which month is greenest for Evergreen Needleleaf south of 30° S, and why
# is the swing so small?
# :::
#
# :::{dropdown} Solution
# ```python
# south = (by_id["leafType"] == "Evergreen Needleleaf").to_numpy() & (
#     by_id["decimalLatitude"] < -30).to_numpy()
# green = np.nanmedian(variables.ndvi(images[south])[..., 2, 2], axis=0)
# print(green.round(2), green.argmax() + 1)
# ```
# Needles stay on, and snow is rare there: only light and water vary.
# :::
#
# ## Recap
#
# - A sample is (12, 10, 5, 5) pixels and 27 variables.
# - The year, not a single image, tells trees apart.
# - Work is planned, resumable, and bound to its table.
#
# Handed on: `cube.zarr`.
