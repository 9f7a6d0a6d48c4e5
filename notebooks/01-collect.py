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
# A model learns what its records say, and it has no way to doubt them. If a
# "species" is a whole family, it learns a family. If a tree stands in the sea,
# it learns the sea. So before any model, a look at the records.
#
# > **Before you start**
# >
# > *You will learn* what an occurrence record says, how records go wrong, and
# > why one flags first and filters later.
# >
# > *You need* Python and pandas.
# >
# > *Cost:* a few seconds and 2 MB on two CPU cores. The records of all
# > species are one download from GBIF, some hours and a few GB.

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

# %% [markdown]
# `chain` is how the chapters hand on what they make. Each step of this book
# writes one file: occurrences, cube, shards, split, model.
# `chain.occurrences()` opens the file where it is, and makes it where it is
# not, so that any chapter can be opened first; `chain.making(...)` is how a
# chapter that shows a step writes its file. All of them lie in the folder that
# `GEOTREE_DATA` names. One sentence says what a page rests on, and each page
# begins with it:

# %%
import pandas as pd
from geotree import chain, occurrences, plots, splits

plots.style(chain.stamp())
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
raw[["gbifID", "decimalLatitude", "decimalLongitude", "year"]].head()

# %% [markdown]
# One line is one tree that somebody saw: which number the record has, where
# the tree stood, and when. A column that is not shown here,
# `coordinateUncertaintyInMeters`, says how far off the place may be.
#
# And which tree was it? Each record names its species, and with it a genus, a
# family and a leaf type. These four names are what a model will have to
# predict.

# %%
raw[["species", "genus", "family", "leafType"]].head()

# %% [markdown]
# ## Three ways to ask GBIF
#
# This page's records come from where its first line says. With one setting,
# `GEOTREE_ROUTE`, the same cells ask GBIF itself:
#
# - `search` brings up to 100,000 records, 300 with each request: for a
#   first look.
# - `download` orders all records of all species at once, waits until GBIF
#   has packed them, and gets a DOI to cite. It needs an account (free) in
#   the variables `GBIF_USER` and `GBIF_PWD`; never write them in a cell.
# - `snapshot` reads the Parquet files that GBIF publishes each month, from
#   a folder or straight from an object store, and needs no account.
#
# All three give the same table {cite}`gbif2026api`. Names are matched through
# pygbif, GBIF's client for Python. When GBIF is busy, all of them wait and ask
# again; a run that is stopped goes on where it was. How many requests does
# each of them need?

# %%
sizes = [1_000, 100_000, 6_000_000]
requests = pd.DataFrame({route: [
    occurrences.requests_needed(n, route=route) for n in sizes]
    for route in ("search", "download", "snapshot")}, index=sizes)
requests["search"] = requests["search"].where(requests.index <= 100_000)
requests = requests.rename("{:,}".format).rename_axis("records")
plots.table(requests, "{:,.0f}", index=True)

# %% [markdown]
# Where the search has no number it is no way at all: it ends long before
# millions of records. The snapshot asks GBIF for nothing, for it reads files.
#
# A name comes first, a key second. Ask GBIF for an oak of no known species
# and it answers with the key of all oaks; use that key, and one "species"
# holds a genus. So each answer is judged before its key is used. Here is such
# an answer, as GBIF gives it:

# %%
answer = {
    "usage": {"key": "2877951", "rank": "GENUS", "canonicalName": "Quercus"},
    "classification": [{"rank": "KINGDOM", "name": "Plantae"}],
    "diagnostics": {"matchType": "EXACT", "confidence": 99}}
verdict = occurrences.judge(answer)
verdict["verdict"], verdict["reason"], verdict["taxonKey"]

# %% [markdown]
# The answer was exact, GBIF was sure of it, and it is refused all the same,
# with the reason: a genus is no species. No key is kept.
#
# A table from GBIF remembers how it wants to be cited, for each record is
# somebody's work. The planet's owes nobody, and says what it is.

# %%
print(occurrences.cite(raw) if run.route else chain.provenance())

# %% [markdown]
# ## People look where people live
#
# Nobody walks through every forest with a notebook. People record trees where
# they live, where they travel and where somebody pays them to, so records
# crowd. A model trained on them has seen much of some regions and little of
# others, and a random test set, drawn from the same crowds, does not notice.

# %% mystnb={"image": {"alt": "World map of all raw records, coloured by leaf type; dense in Europe, North America and eastern Australia."}}
plots.occurrence_map(raw);

# %%
from geotree import globe

where = pd.Series(globe.continent(raw["countryCode"])).value_counts(
    normalize=True)
print("; ".join(f"{name} {share:.0%}" for name, share in where.items()))

# %% [markdown]
# A continent is large. How crowded is it within? Lay a grid of one degree
# over the globe, and begin to count at the fullest cell.

# %%
cells = (raw[["decimalLatitude", "decimalLongitude"]] // 1).value_counts()
few = (cells.cumsum() < len(raw) / 2).mean()
print(f"Of the {len(cells):,} cells of 1° that have any record, the fullest "
      f"{few:.0%} hold half of all records.")

# %% [markdown]
# > **Exercise 1** (easy)
# >
# > How much of the table do the ten most recorded species fill, and how many
# > species share the last ten percent?
#
# <details><summary>Solution</summary>
#
# ```python
# share = raw["species"].value_counts(normalize=True)
# first = share.head(10).sum()
# last = (share.cumsum() > 0.9).sum()
# print(f"ten species: {first:.0%}; the last tenth: {last} of {len(share)}")
# ```
#
# The ten have far more than their share, and a long list of species divides
# the last tenth. A model may be right on the frequent ones, look good in the
# mean and know next to nothing of that list: keep this in mind whenever a
# single accuracy is reported.
#
# </details>

# %% [markdown]
# Species are recorded as unevenly as places. Sorted from the most to the
# least recorded, with a logarithmic axis, a table of observations nearly
# always gives such a curve:

# %% mystnb={"image": {"alt": "Number of records per species on a logarithmic axis, from the most to the least recorded species."}}
import matplotlib.pyplot as plt

counts = raw["species"].value_counts()
fig, ax = plt.subplots()
ax.semilogy(range(1, len(counts) + 1), counts)
ax.set(xlabel="rank of the species", ylabel="records",
       title=f"n = {len(counts)} species");

# %%
print(f"The most recorded species has {counts.iloc[0]:,} records, the one in "
      f"the middle {counts.median():.0f}, and {(counts < 10).sum()} of "
      f"{len(counts)} have fewer than ten.")

# %% [markdown]
# ## An audit lists what looks wrong
#
# The published table of GlobalGeoTree holds rows in which a "species" is
# really a whole family, woodpeckers that pass for trees, and names that
# were never resolved {cite}`mu2026globalgeotree`. The audit looks for such
# rows with the table alone. It gives one finding per rule and species, with
# its evidence; severity `drop` means no species, no tree or no place of its
# own, `look` asks a person to judge. How many findings, and how many rows?

# %%
findings = occurrences.audit(raw)
summary = findings.groupby(["severity", "rule"])["rows"]
plots.table(summary.agg(findings="size", rows="sum").reset_index())

# %% [markdown]
# One finding is one species, so a rule with many findings of a few rows each
# is a fault that is spread thinly, and one with a single finding of many rows
# is a species that is wrong as a whole. Here is the first finding of each
# rule, with what speaks against it:

# %%
plots.table(findings.groupby("rule").head(1))

# %% [markdown]
# The last column decides nothing by itself. An audit sees what a table
# betrays: a key of the wrong size, two columns that disagree. A beech that was
# recorded as a hornbeam, with a sound key and in the right country, passes.
#
# ## Flag first, filter later
#
# A patch of pixels is 50 m wide. A record whose place is uncertain by 30 km
# says nothing about it, but it may serve another purpose. So each rule adds
# a column, and the filter is a decision that one can read. The rules follow
# what cleaning of such records has taught {cite}`zizka2019coordinatecleaner`,
# made stricter where a patch asks for it. A list of species that are trees,
# such as BGCI's GlobalTreeSearch, keeps herbs out: `flag(raw, trees=names)`.
# These columns are added, and nothing is taken away:

# %%
flagged = occurrences.flag(raw)
print(*[name for name in flagged if name.startswith("flag")])

# %% [markdown]
# The flags that remove a record by default are applied one
# after the other; `removed` counts what no rule above has removed already, and
# `left` what remains.

# %%
plots.table(occurrences.removed(flagged))

# %% [markdown]
# Read it from the top: a record with two faults goes with the first of them,
# and the next rule finds it gone. So `flagged` and `removed` differ, and the
# order of the rules changes the counts but never what is left at the end.
#
# A rule whose column is missing counts nothing, and says so. Two rules read
# the title of the dataset that a record belongs to. GBIF is asked for it once
# for each dataset; the release asked once for each record.

# %%
flagged.attrs["unchecked"]

# %% [markdown]
# A search alone tells that a place was blurred, and how far the next
# centroid is. Without that, a record that a platform widened by tens of
# kilometres {cite}`inaturalist2026` still falls to the rule on uncertainty,
# and the one centre of each country that comes with `geotree` stands in for
# GBIF's many {cite}`factbook2026,naturalearth2026`.

# %% [markdown]
# Some flags only tell. Trees of a capital are real, though a record without
# a place of its own is often put there.

# %%
others = [name for name in occurrences.FLAGS
          if name not in occurrences.REMOVE]
told = occurrences.removed(flagged, rules=others)
plots.table(told[["rule", "meaning", "flagged"]])

# %% [markdown]
# What is left by the default rules is decided here. Records without a known
# uncertainty stay, because the release's tables know none; add
# `flagNoUncertainty` to the rules if yours do.

# %%
table = occurrences.keep(flagged)
print(f"{len(raw):,} records of {raw['species'].nunique()} species came, "
      f"{len(table):,} of {table['species'].nunique()} are kept")

# %% [markdown]
# > **Exercise 2** (medium)
# >
# > Thin the table to one record per species and 10 km. How many records are
# > left, and which leaf type loses most?
#
# <details><summary>Solution</summary>
#
# ```python
# thin = occurrences.thin(table, metres=10_000)
# left = thin["leafType"].value_counts() / table["leafType"].value_counts()
# print(f"{len(thin):,} of {len(table):,}")
# print(left.sort_values().round(2))
# assert len(thin) <= len(table)
# ```
#
# The kind that is recorded most densely loses most, and that is a fact about
# observers rather than about trees. Thinning does not make the table complete;
# it only keeps a city park from counting a hundred times.
#
# </details>

# %% [markdown]
# ## Rare, common, frequent
#
# How many records are enough to learn a species? Nobody knows, so it is worth
# watching the rare ones apart. The release calls a species Rare with at most
# 100 records and Frequent with at least 1,500, in a table of millions. The
# planet's limits are lower, as its table is small; a real table keeps its own,
# or else the release's.

# %%
if "rarity" not in table:  # the release's tables bring their own
    table["rarity"] = splits.rarity(table, **chain.rarity_limits())
plots.table(table.groupby("rarity")["species"].agg(
    records="size", species="nunique"), "{:,}", index=True)

# %%
size = table.drop_duplicates("species")["rarity"].value_counts(normalize=True)
rows = table["rarity"].value_counts(normalize=True)
print(f"Rare species are {size.get('Rare', 0):.0%} of all species here and "
      f"have {rows.get('Rare', 0):.0%} of the records.")

# %% [markdown]
# Keep the two shares apart. Whoever counts records sees the frequent species,
# whoever counts species sees the rare ones.
#
# ## Checks
#
# What must hold for the next chapter, as code: no record twice, no place
# beyond the poles, no name without an epithet, and a file that reads as it was
# written.

# %%
assert table["gbifID"].is_unique
assert table["decimalLatitude"].abs().max() <= 90
assert not table["species"].str.contains("spec$").any()
with chain.making("occurrences") as path:
    occurrences.write(table, path)
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
# > **Exercise 3** (hard)
# >
# > Swap latitude and longitude of a hundred records within the allowed range,
# > so that no value is beyond the pole. Which rules notice?
#
# <details><summary>Solution</summary>
#
# ```python
# spoilt = raw.copy()
# odd = spoilt.index[spoilt["decimalLongitude"].abs() < 60][:100]
# spoilt.loc[odd, ["decimalLatitude", "decimalLongitude"]] = spoilt.loc[
#     odd, ["decimalLongitude", "decimalLatitude"]].to_numpy()
# before, after = (occurrences.flag(one).loc[odd] for one in (raw, spoilt))
# names = [name for name in before if name.startswith("flag")]
# noticed = after[names].sum() - before[names].sum()
# print(noticed[noticed > 0])
# ```
#
# Rules that compare can notice: a point that is in the sea, or far from all
# others of its species; whether the country fits its code is among GBIF's
# issues. What none of them sees passes. So a swap is better prevented at the
# door, by `lat=` and `lon=` by name, than looked for afterwards.
#
# </details>

# %% [markdown]
# ## Recap
#
# - A record is a name, a place and a year, and each of them can be wrong.
# - An audit finds what the table itself betrays; it never proves a table
#   right.
# - Flags stay, filters are chosen.
#
# Handed on: `occurrences.parquet`.
