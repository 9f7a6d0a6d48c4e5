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
# # How do the files of GlobalGeoTree look?
#
# **In:** `cube.zarr`. **Out:** a shard in the layout of the release, written
# and read back.
#
# :::{admonition} Before you start
# *You will learn* what GlobalGeoTree publishes, and how its files are read
# here, safely.
#
# *You need* [chapter 03](03-shards).
#
# *Cost:* seconds on two CPU cores.
# :::

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    get_ipython().run_line_magic("pip", f"install -q {source}")

# %%
import json
import tarfile

import numpy as np
from geotree import chain, occurrences, shards, taxonomy

table, cube = chain.occurrences(), chain.cube()

# %%
out = chain.folder() / "release"
print(chain.provenance())

# %% [markdown]
# ## What is published
#
# GlobalGeoTree {cite}`mu2026globalgeotree` pairs 6.3 million occurrences
# with satellite composites. Its tables are CSV files with names of their
# own. Both directions are one call.

# %%
path = occurrences.write_release(table.head(3), out / "table.csv")
print(path.read_text()[:230])

# %%
back = occurrences.read_release(path)
assert (back["species"] == table["species"].head(3)).all()

# %% [markdown]
# ## One sample, three members
#
# The shards hold one sample per record: pixels as a PyTorch tensor of
# 64-bit numbers, the four names, and the 27 variables with `null` where one
# is missing.

# %%
few = cube.isel(sample=slice(0, 64))
release = shards.write(few, table, out / "shards", layout="release")

# %%
with tarfile.open(release.files[0].path) as tar:
    for member in tar.getmembers()[:3]:
        print(f"{member.name:32} {member.size:>7,} bytes")
    text, auxiliary = (tar.extractfile(member).read()
                       for member in tar.getmembers()[1:3])
json.loads(text)

# %% [markdown]
# The model of the release reads the names as one line:

# %%
taxonomy.prompts(release.classes)[0]

# %% [markdown]
# ## Reading is safe
#
# A `.pth` file is a pickle, and a pickle can run code. We read tensors and
# nothing else: a file that wants more is refused. Here is one that would
# create a file on your disk.

# %%
import io
import pickle


class Trap:
    """Unpickling this would create a file."""

    def __reduce__(self):
        return io.open, (str(out / "trapped"), "w")

# %%
trap = pickle.dumps(Trap())

# %%
with tarfile.open(out / "trap.tar", "w") as tar:
    for name, content in (("1.images.pth", trap), ("1.text.json", text),
                          ("1.auxiliary.json", auxiliary)):
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
try:
    shards.open(out / "trap.tar").load()
except shards.ShardError as error:
    print(str(error).replace(str(out), "…"))
assert not (out / "trapped").exists()

# %% [markdown]
# ## Both layouts hold the same numbers

# %%
ours = shards.write(few, table, out / "packed")
one, other = release.load(), ours.load()
order = np.argsort(one.ids), np.argsort(other.ids)
same = [np.array_equal(a[order[0]], b[order[1]], equal_nan=True)
        for a, b in zip(one[:2], other[:2], strict=True)]
assert all(same)

# %%
def size(data):
    """Bytes per sample on disk."""
    return sum(f.path.stat().st_size for f in data.files) / len(data)


print(f"release {size(release):,.0f}, packed {size(ours):,.0f} "
      "bytes per sample")

# %% [markdown]
# ## What changed
#
# The page [What changed since the release](../book/changes.md) lists each
# fault of the published code and what is done here instead.
#
# :::{admonition} Exercise
# :class: tip
# Open the shards of the release with WebDataset alone. What do the keys of
# a record look like?
# :::
#
# :::{dropdown} Solution
# ```python
# import webdataset
# path = str(release.files[0].path)
# print(next(iter(webdataset.WebDataset(path, shardshuffle=False))).keys())
# ```
# :::
#
# ## Recap
#
# - Tables and shards of the release are read and written.
# - No pickle is executed, whatever a file says.
# - The same numbers take a fifth of the bytes when packed.
