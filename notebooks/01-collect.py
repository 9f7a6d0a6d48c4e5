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
# # Which tree records can we trust?
#
# **In:** nothing. **Out:** `occurrences.parquet`, a table of trees that
# somebody saw, cleaned.
#
# :::{admonition} Before you start
# *You will learn* what an occurrence record says, how records go wrong, and
# why one flags first and filters later.
#
# *You need* Python and pandas.
#
# *Cost:* a few seconds and 2 MB on two CPU cores. The full table of 6.3
# million records is one download from GBIF.
# :::

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    get_ipython().run_line_magic("pip", f"install -q {source}")

# %%
from geotree import chain, occurrences, plots, splits, taxonomy

plots.style()
run = chain.settings()
print(chain.provenance())

# %% [markdown]
# ## A record says who, what, where and when
#
# Millions of people and institutions share what they saw through GBIF, the
# Global Biodiversity Information Facility. Every record follows the Darwin
# Core standard, so the column names below mean the same everywhere.

# %%
raw = chain.raw_occurrences()
raw.iloc[:5, :7]

# %% [markdown]
# Each record names its species, and with it a genus, a family and a leaf
# type. These four names are what a model will have to predict.

# %%
raw[["species", "genus", "family", "leafType"]].head()

# %% [markdown]
# ## People look where people live
#
# A map shows it at once: records crowd around cities and along roads. A
# model trained on them knows Europe better than the Congo, and a random
# test set does not notice.

# %% mystnb={"image": {"alt": "World map of all raw records, coloured by leaf type; dense in Europe, North America and eastern Australia."}}
plots.occurrence_map(raw);

# %% [markdown]
# Abundance is as uneven as space. A few species fill the table; most are
# rare.

# %% mystnb={"image": {"alt": "Number of records per species on a logarithmic axis, from the most to the least recorded species."}}
import matplotlib.pyplot as plt

counts = raw["species"].value_counts()
fig, ax = plt.subplots()
ax.semilogy(range(1, len(counts) + 1), counts)
ax.set(xlabel="rank of the species", ylabel="records",
       title=f"n = {len(counts)} species");

# %% [markdown]
# ## An audit lists what looks wrong
#
# The published table of GlobalGeoTree holds rows in which a "species" is
# really a whole family, woodpeckers that pass for trees, and names that
# were never resolved {cite}`mu2026globalgeotree`. The audit looks for such
# rows with the table alone. It gives one finding per rule and species, with
# its evidence; severity `drop` means no species or no tree, `look` asks a
# person to judge.

# %%
findings = taxonomy.audit(raw)
summary = findings.groupby(["severity", "rule"])["rows"]
summary.agg(["size", "sum"]).rename(
    columns={"size": "findings", "sum": "rows"})

# %%
findings.groupby("rule").head(1).reset_index(drop=True)

# %% [markdown]
# ## Flag first, filter later
#
# A patch of pixels is 50 m wide. A record whose place is uncertain by 30 km
# says nothing about it, but it may serve another purpose. So each rule adds
# a column, and the filter is a decision that one can read.

# %%
flagged = occurrences.flag(raw)
[name for name in flagged if name.startswith("flag")]

# %%
occurrences.removed(flagged)

# %%
table = occurrences.keep(flagged)
print(f"{len(raw):,} records, {len(table):,} kept, "
      f"{table['species'].nunique()} species")

# %% [markdown]
# ## Rare, common, frequent
#
# The release calls a species Rare with at most 100 records and Frequent
# with at least 1,500, in a table of millions. The limits have to shrink
# with the table.

# %%
table["rarity"] = splits.rarity(table, rare=run.rare, frequent=run.frequent)
table.groupby("rarity")["species"].agg(["size", "nunique"]).rename(
    columns={"size": "records", "nunique": "species"})

# %% [markdown]
# ## Checks
#
# What must hold for the next chapter, as code.

# %%
assert table["gbifID"].is_unique
assert table["decimalLatitude"].abs().max() <= 90
assert not table["species"].str.contains("spec$").any()
path = occurrences.write(table, chain.folder() / "occurrences.parquet")
assert len(occurrences.read(path)) == len(table)

# %% [markdown]
# ## What can go wrong
#
# A latitude beyond the pole usually means that two columns were swapped.
# The message says how many rows, which comes first, and what to look at.

# %%
swapped = table.rename(columns={"decimalLatitude": "decimalLongitude",
                                "decimalLongitude": "decimalLatitude"})
try:
    occurrences.validate(swapped)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Exercise
#
# :::{admonition} Exercise
# :class: tip
# Thin the table to one record per species and 10 km. How many records are
# left, and which leaf type loses most?
# :::
#
# :::{dropdown} Solution
# ```python
# thin = occurrences.thin(table, metres=10_000)
# left = thin["leafType"].value_counts() / table["leafType"].value_counts()
# print(len(thin), left.sort_values())
# ```
# :::
#
# ## Recap
#
# - A record is a name, a place and a year, and each of them can be wrong.
# - An audit finds what the table itself betrays; it never proves a table
#   right.
# - Flags stay, filters are chosen.
#
# Handed on: `occurrences.parquet`.
