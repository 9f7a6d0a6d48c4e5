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
# # How do we store millions of samples?
#
# **In:** `cube.zarr`. **Out:** `shards/`, tar files that any machine reads
# at full speed.
#
# > **Before you start**
# >
# > *You will learn* why training reads shards, what a global shuffle is, and
# > how a damaged file makes itself known.
# >
# > *You need* [chapter 02](02-download).
# >
# > *Cost:* a few seconds and 70 MB on two CPU cores.

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    get_ipython().run_line_magic("pip", f"install -q {source}")

# %%
import tarfile
import time

import numpy as np
from geotree import chain, shards

table, cube = chain.occurrences(), chain.cube()
print(chain.provenance())

# %% [markdown]
# ## Small reads are slow, long reads are fast
#
# A disk reads one long file far faster than many small ones. WebDataset
# stores samples in plain tar files. The release puts one sample in a
# record and stores pixels as 64-bit numbers; we pack 256 samples into a
# record and keep the 16 bits that the satellite delivered.

# %%
pixels_64 = 12 * 10 * 25 * 8
pixels_16 = 12 * 10 * 25 * 2
pixels_64, pixels_16, pixels_64 / pixels_16

# %% [markdown]
# ## Shuffle once, when writing
#
# Training wants samples in random order. Shuffling all of them while
# writing means that a reader can go through the files from front to back.
# The idea on ten samples:

# %%
order = np.random.default_rng(0).permutation(10)
packs = order.reshape(2, 5)  # two packs of five
assert sorted(packs.ravel()) == list(range(10))
packs

# %%
with chain.making("shards") as out:
    data = shards.write(cube, table, out, seed=chain.settings().seed)
print(f"{len(data):,} samples, tar files: {len(data.files)}")

# %% [markdown]
# ## What is inside
#
# A tar of NumPy arrays, beside an index with counts, hashes and the class
# table. Nothing has to be scanned at start-up.

# %%
with tarfile.open(data.files[0].path) as tar:
    for member in tar.getmembers()[:4]:
        print(f"{member.name:32} {member.size:>9,} bytes")
sorted(path.name for path in out.iterdir())

# %%
size = sum(shard.path.stat().st_size for shard in data.files)
print(f"{size / len(data):,.0f} bytes per sample")

# %%
data.classes.head()

# %% [markdown]
# ## Reading them back
#
# Every sample comes exactly once, in an order that depends on seed and
# epoch alone.

# %%
start = time.perf_counter()
seen = [batch.ids for batch in data.batches(512, shuffle=True, epoch=3)]
seconds = time.perf_counter() - start
assert sorted(np.concatenate(seen)) == sorted(data.table["gbifID"])
print(f"{len(data) / seconds:,.0f} samples per second on this machine")

# %% [markdown]
# A selection is a view: it reads only the packs that it needs.

# %%
conifers = data.select(data.table["leafType"].str.contains("Needle"))
len(conifers), conifers.load().images.shape

# %% [markdown]
# ## Other tools read them too

# %%
import webdataset

first = str(data.files[0].path)
pipeline = webdataset.WebDataset(first, shardshuffle=False).decode()
record = next(iter(pipeline))
record["images.npy"].shape, record["label.npy"][:5]

# %% [markdown]
# ## Checks

# %%
everything = data.load()
lookup = {key: row for row, key in enumerate(cube["sample"].to_numpy())}
rows = [lookup[key] for key in everything.ids]
assert (cube["reflectance"].to_numpy()[rows] == everything.images).all()
assert (data.labels == everything.labels).all()
data.verify()

# %% [markdown]
# ## What can go wrong
#
# A download breaks off. The shard is shorter than its index says, and
# reading it says which file and which record.

# %%
import shutil
import tempfile
from pathlib import Path

folder = tempfile.mkdtemp()
broken = shutil.copytree(out, f"{folder}/shards")
first = sorted(Path(broken).glob("*.tar"))[0]
first.write_bytes(first.read_bytes()[:first.stat().st_size // 2])
try:
    shards.open(broken).load()
except shards.ShardError as error:
    print(str(error).replace(folder, ""))

# %% [markdown]
# Asked to skip, it counts what it left out.

# %%
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    partial = shards.open(broken, on_error="skip")
    count = sum(len(batch.ids) for batch in partial.batches(512))
print(f"{count:,} read, {partial.skipped:,} skipped, {len(data):,} in all")
shutil.rmtree(folder)

# %% [markdown]
# > **Exercise**
# >
# > Write the shards again with another seed. Which files change, and does
# > the set of samples?
#
# <details><summary>Solution</summary>
#
# ```python
# other = shards.write(cube, table, chain.folder() / "other", seed=1)
# assert set(other.table["gbifID"]) == set(data.table["gbifID"])
# [a.sha256 == b.sha256 for a, b in zip(data.files, other.files)]
# ```
# Every file changes, the set does not.
#
# </details>
#
# ## Recap
#
# - Packed records of 16-bit pixels: a fifth of the release's bytes.
# - One global shuffle at write time; an index instead of a scan.
# - Damage is an error or a count, never silence.
#
# Handed on: `shards/`.
