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
# A graphics card that waits for a disk costs as much as one that works. Six
# million samples in six million files bring any disk to its knees, and a copy
# that broke off at file four million looks like one that is complete. This
# chapter packs samples so that neither can happen unnoticed.
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
import tarfile
import time

import numpy as np
from geotree import chain, shards

table, cube = chain.occurrences(), chain.cube()
print(chain.provenance())

# %% [markdown]
# ## Small reads are slow, long reads are fast
#
# A disk reads one long file far faster than many small ones, because each file
# has to be found and opened first. So samples are put one after the other into
# plain *tar* files, as WebDataset does {cite}`aizman2019webdataset`; such a
# file is called a *shard*. The release puts one sample in a record and stores
# pixels as 64-bit numbers; we pack 256 samples into a record and keep the 16
# bits that the satellite delivered. A reflectance is a whole number between
# zero and some ten thousands, so nothing is lost. In bytes for the pixels of
# one sample, theirs, ours, and how many times as much:

# %%
pixels_64 = 12 * 10 * 25 * 8
pixels_16 = 12 * 10 * 25 * 2
pixels_64, pixels_16, pixels_64 / pixels_16

# %% [markdown]
# A quarter of the bytes is a quarter of the disk, of the network and of the
# waiting, and it costs nothing but a line that divides by ten thousand when
# the numbers are needed.
#
# ## Shuffle once, when writing
#
# Training wants samples in random order, or the model sees a thousand oaks in
# a row and forgets the pines. But to read at random is to read slowly. The way
# out: shuffle all samples once, while writing. Then a reader can go through
# the files from front to back, and the order is random all the same. The idea
# on ten samples:

# %%
order = np.random.default_rng(0).permutation(10)
packs = order.reshape(2, 5)  # two packs of five
assert sorted(packs.ravel()) == list(range(10))
packs

# %% [markdown]
# Each row is a pack, each number a sample. All ten are there, none is there
# twice, and neighbours in a pack have nothing to do with each other. A reader
# that wants yet another order in each epoch need only deal out the packs anew.
#
# Now all samples of the cube. The *seed* fixes the order, so that whoever
# writes the same table again gets the same files.

# %%
with chain.making("shards") as out:
    data = shards.write(cube, table, out, seed=chain.settings().seed)
print(f"{len(data):,} samples, tar files: {len(data.files)}")

# %% [markdown]
# > **Exercise 1** (easy)
# >
# > Write the shards again with another seed. Which files change, and does the
# > set of samples?
#
# <details><summary>Solution</summary>
#
# ```python
# import shutil
#
# other = shards.write(cube, table, chain.folder() / "other", seed=1,
#                      progress=False)
# assert set(other.table["gbifID"]) == set(data.table["gbifID"])
# same = [a.sha256 == b.sha256
#         for a, b in zip(data.files, other.files, strict=True)]
# print(f"{sum(same)} of {len(same)} files are the same")
# assert not any(same)
# shutil.rmtree(chain.folder() / "other")
# ```
#
# Every file changes, the set does not. With the same seed all files would be
# the same to the byte, so a hash in a paper says which data were trained on.
#
# </details>

# %% [markdown]
# ## What is inside
#
# `chain.making` noted what the shards were made from, so that later chapters
# know whether they still fit. What is in them? Let us not trust our own reader
# but look with what comes with Python. A tar of NumPy arrays, beside
# an index with counts, hashes and the class table: the list that says which
# number stands for which species. With an index, nothing has to be scanned at
# start-up.

# %%
with tarfile.open(data.files[0].path) as tar:
    for member in tar.getmembers()[:4]:
        print(f"{member.name:32} {member.size:>9,} bytes")
sorted(path.name for path in out.iterdir())

# %% [markdown]
# The four files with one number are one record, a pack: its pixels, its
# variables, its labels and the ids of its samples. Nearly all bytes are
# pixels.

# %%
size = sum(shard.path.stat().st_size for shard in data.files)
print(f"{size / len(data):,.0f} bytes per sample")

# %% [markdown]
# That is all a sample takes on the disk, pixels, variables and labels
# together. The class table begins like this:

# %%
data.classes.head()

# %% [markdown]
# A label is the number of a row in this table. Lose the table, and the labels
# are numbers without a meaning; mix two tables up, and every oak is a pine. So
# it travels in the index, with the shards, and never in a file of its own.
#
# ## Reading them back
#
# Training goes through all samples again and again; one such round is an
# *epoch*. An epoch should show every sample exactly once. That sounds obvious,
# and many loaders do not keep it: they drop the last batch, or deal out
# samples with repeats. Here every sample comes exactly once, in an order that
# seed, epoch and the size of a batch set. However many processes share the
# reading, they see the same one.

# %%
start = time.perf_counter()
seen = [batch.ids for batch in data.batches(512, shuffle=True, epoch=3)]
seconds = time.perf_counter() - start
assert sorted(np.concatenate(seen)) == sorted(data.table["gbifID"])
print(f"{len(data):,} samples, each once; {len(data) / seconds:,.0f} a "
      "second on this machine")

# %% [markdown]
# The number is of this machine and of the minute in which the page was built,
# with other work beside it. [The page of speeds](../book/speed.md) compares it
# with the published way, in one run.
#
# Often one wants a part: the training blocks, one leaf type, one country. A
# selection is a view: nothing is copied, and it reads only the packs that it
# needs.

# %%
conifers = data.select(data.table["leafType"].str.contains("Needle"))
if len(conifers):
    print(f"{len(conifers):,} conifers: {conifers.load().images.shape}")
else:
    print("No leaf type of this table says needle: nothing to read.")

# %% [markdown]
# > **Exercise 2** (medium)
# >
# > How many samples of each leaf type are there, and what share of the packs
# > does a selection of one of them have to open?
#
# <details><summary>Solution</summary>
#
# ```python
# print(data.table["leafType"].value_counts())
# packs = np.arange(len(data)) // 256
# for kind in data.table["leafType"].unique():
#     rows = (data.table["leafType"] == kind).to_numpy()
#     print(f"{kind}: {len(set(packs[rows])) / (packs[-1] + 1):.0%} of packs")
# ```
#
# The samples were shuffled, so nearly every pack holds some of each: a
# selection by leaf type saves little reading. That is the price of the
# shuffle. Sorted by leaf type, a selection would be quick and training would
# suffer.
#
# </details>

# %% [markdown]
# ## When they lie far away
#
# The data of a continent do not fit a laptop, and a rented machine comes with
# an empty disk. Shards are read from where they lie, by an address in place of
# the folder:
#
# ```python
# shards.open("s3://bucket/shards")              # an object store
# shards.open("hf://datasets/owner/name/shards")  # the Hugging Face hub
# shards.open("https://host.org/shards")          # a web server with ranges
# ```
#
# or `geotree train s3://bucket/shards -o model`, once `pip install
# 'geotree[far]'` has brought what asks them. The index comes first, the table
# when it is asked for, then the records one by one, some ahead of their use.
# Each is compared with its checksum as on the disk, and what has come is kept
# (10 GB of it, unless told) for the next epoch or the next run. A `file://`
# address goes the same way without a network: do the same samples come, in the
# same order?

# %%
import shutil
import tempfile

cache = tempfile.mkdtemp()
far = shards.open(out.resolve().as_uri(), cache=cache)
pairs = zip(far.batches(512, shuffle=True), data.batches(512, shuffle=True),
            strict=True)
assert all((one.images == other.images).all() and
           (one.ids == other.ids).all() for one, other in pairs)
shutil.rmtree(cache)
print(f"{len(far):,} samples came")

# %% [markdown]
# Same samples, same order, whatever the way. Nothing else changes either: a
# store that is slow to answer is asked for more at a time, one that is busy is
# asked again later, and one that has no such record, or whose shards were
# written anew in between, says so by name.
#
# ## Other tools read them too
#
# Data outlive the code that wrote them. A plain tar of NumPy arrays can be
# read without this book: here is one record, opened by the `webdataset`
# library.

# %%
import webdataset

first = str(data.files[0].path)
pipeline = webdataset.WebDataset(first, shardshuffle=False).decode()
record = next(iter(pipeline))
record["images.npy"].shape, record["label.npy"][:5]

# %% [markdown]
# The record holds a whole pack of samples, with their labels beside them. The
# library that read it has never heard of trees, and neither has `tar`: if this
# book is forgotten one day, its data are not.
#
# ## Checks
#
# Shuffled and packed, are these still the pixels of the cube, each beside its
# own label? A single row that slipped would train a model on wrong names, and
# its score would only be a little lower. So all of them are compared.

# %%
everything = data.load()
same = cube["reflectance"].compute().sel(sample=everything.ids)
assert (same.to_numpy() == everything.images).all()
assert (data.labels == everything.labels).all()
data.verify()

# %% [markdown]
# ## What can go wrong
#
# A download breaks off. The shard is shorter than its index says, and reading
# it says which file and which record. Here we cut one in half on purpose, in a
# copy.

# %%
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
# A number that names the file and the record is worth more than a traceback of
# a decoder: you know what to fetch again, and that the rest is sound.
#
# Sometimes one has to go on: the last shard is damaged, and the deadline is
# tomorrow. Asked to skip, it counts what it left out, and the count belongs in
# the paper.

# %%
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    partial = shards.open(broken, on_error="skip")
    count = sum(len(batch.ids) for batch in partial.batches(512))
print(f"{count:,} read, {partial.skipped:,} skipped, {len(data):,} in all")
shutil.rmtree(folder)

# %% [markdown]
# > **Exercise 3** (hard)
# >
# > Change one byte in the middle of a shard, without changing its length. Who
# > notices, and when?
#
# <details><summary>Solution</summary>
#
# ```python
# folder = tempfile.mkdtemp()
# broken = shutil.copytree(out, f"{folder}/shards")
# first = sorted(Path(broken).glob("*.tar"))[0]
# content = bytearray(first.read_bytes())
# content[len(content) // 2] ^= 1
# first.write_bytes(content)
# try:
#     shards.open(broken).load()
# except shards.ShardError as error:
#     print(str(error).replace(folder, ""))
# else:
#     raise AssertionError("one flipped bit went unnoticed")
# finally:
#     shutil.rmtree(folder)
# ```
#
# The length is right, the tar is well formed, and the number is a plausible
# reflectance: only a checksum can tell. Each record has one, so it is noticed
# when that record is read, and not only when somebody thinks of comparing
# whole files.
#
# </details>

# %% [markdown]
# ## Recap
#
# - Packed records of 16-bit numbers: pixels in a quarter of the release's
#   bytes.
# - One global shuffle at write time; an index instead of a scan.
# - Damage is an error or a count, never silence.
#
# Handed on: `shards/`.
