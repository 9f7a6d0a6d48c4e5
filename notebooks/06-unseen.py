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
# # Can it name a species it never saw?
#
# **In:** `model/` and the held-out part of the split. **Out:** scores on
# species without any training record, among themselves and among all.
#
# Most tree species of the world have no labelled record, or too few to
# train on. Yours may be one of them. A model that reads *names* promises an
# answer for them all the same: that is what zero-shot means. Does it keep the
# promise? It is easy to make it look so. This chapter asks three times, each
# time a harder question.
#
# > **Before you start**
# >
# > *You will learn* to test on species never seen, to ask seen and unseen
# > species together, to use what a flora knows, and to notice a stranger.
# >
# > *You need* [chapter 06](06-zero-shot).
# >
# > *Cost:* half a minute on two CPU cores.

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
import torch
from geotree import chain, evaluation, taxonomy
from geotree.evaluation.unseen import Known
from sklearn.metrics import roc_auc_score

parts = chain.parts()
if parts["held out"].table["species"].nunique() < 2:
    print("Fewer than two species of this table are held out: it has too "
          "few, or none has a relative. So this page is of the planet.")
    chain.use_planet()
    parts = chain.parts()
model = chain.model()
print(chain.provenance())

# %% [markdown]
# `chain` opens the model and the parts of the split, and makes them first if
# need be. The part that matters here is `held out`: all records of the species
# that chapter 04 set aside.

# %%
classes = chain.seen_classes()
k = len(classes)
validation = chain.samples("validation", classes)
test = chain.samples("test", classes)

# %% [markdown]
# ## Species that it never saw
#
# How can a model name what it never saw? By the parts of the name. A species
# comes with a leaf type, a family and a genus, and most of these are familiar:
# who knows ten oaks has an idea of the eleventh. The text encoder of [chapter
# 05](05-train) reads all four, so a new name gets a point in the same space as
# the old ones.
#
# No record of the held-out species was trained on, and their names were no
# wrong answers in training either. Half of the names lost their genus too, so
# that only the family is left to speak for them. First we ask the easy
# question: among the new names alone, which is it?

# %%
names = parts["held out"].table
new_classes = taxonomy.class_table(names)
unseen = chain.samples("held out", new_classes)
zero = evaluation.predict(model, unseen, new_classes)
known = names["genus"].isin(classes["genus"])

# %% [markdown]
# A number without a limit below and above it says little. Below are two ways
# to guess: by lot, and always the same name. Above is the Bayes optimum, which
# knows the truth about all of them.

# %%
usual = np.bincount(unseen.labels).max() / len(unseen.labels)
own = evaluation.hits(zero, unseen.labels).mean()
print(f"chance: 1 of {len(new_classes)} = {1 / len(new_classes):.1%}; always "
      f"the most frequent of them: {usual:.1%}; the model, told nothing but "
      f"the names: {own:.1%}")
if (ideal := chain.optimum(unseen, new_classes)) is not None:
    limit = evaluation.hits(ideal, unseen.labels).mean()
    print(f"The Bayes optimum, which knows where they grow and how they "
          f"look: {limit:.1%}; the model has {own / limit:.0%} of that")

# %% [markdown]
# In detail: at the species and at the family, apart for names whose genus was
# seen and names whose genus is new, in percent, with 95 % intervals over
# blocks.

# %%
result = evaluation.score(
    zero, unseen.labels, new_classes, ranks=["species", "family"],
    groups=pd.Series(np.where(known, "genus seen", "genus new"),
                     name="kind"),
    blocks=evaluation.spatial_blocks(names))
shown = result[result["metric"] == "top1"].set_index(
    ["rank", "by", "group"])
(100 * shown[["value", "low", "high"]]).round(1).assign(n=shown["n"])

# %% [markdown]
# The rows of `genus seen` and `genus new` hold different species, and few of
# them: what lies between the two is no measure of what a known genus is worth.
# To measure that, one would hold out the same species twice, once with their
# genus and once without it.
#
# An interval above chance suggests that names carry something over, though
# among so few species one that is frequent and guessed right goes far. Always
# to name the most frequent one is a hard rival, and an unfair one: it has
# counted the answers. Nor does a good score show that the model could be used,
# for the question was too easy: nobody who stands before an unknown tree knows
# that it is one of these few new species.

# %% [markdown]
# > **Exercise 1** (easy)
# >
# > The families of the held-out species: how often is the family right, and
# > how often would it be right by always naming the most frequent one?
#
# <details><summary>Solution</summary>
#
# ```python
# family, names_of = taxonomy.roll_up(zero, new_classes, "family")
# target = taxonomy.roll_up_labels(unseen.labels, new_classes, "family")
# right = evaluation.hits(family, target).mean()
# usual = np.bincount(target).max() / len(target)
# print(f"{right:.1%}, and {usual:.1%} by the most frequent family")
# ```
#
# With few new species the most frequent family can be a strong rival: one
# common tree makes it. A score on a handful of classes needs this second
# number even more than a score on a hundred.
#
# </details>

# %% [markdown]
# ## Among all names
#
# In the field the candidates are *all* species, and a model leans towards
# names that it was trained on: these were right so often. *Generalised*
# zero-shot asks about seen and unseen species together. One number for both is
# the *harmonic mean*, 2ab / (a + b): it is high only where both are, and zero
# for a model that never names a new species.
#
# We can help the new names with a handicap: take some nats (natural logarithms
# of probability) from each seen name before choosing.
#
# Why is the handicap needed at all? In training a new name was never right,
# for none of its records was there. Each seen name was pulled towards places
# again and again, and so it scores higher, whatever the place.
#
# So the class table is now that of all species. We ask about two kinds of
# records: those of the test, whose species training has seen, and those of the
# held-out species.

# %%
everything = parts["train"].classes
seen_before = everything["species"].isin(classes["species"]).to_numpy()
own = [(evaluation.predict(model, part, everything),
        taxonomy.labels(part.table, everything))
       for part in (parts["test"], parts["held out"])]


# %%
def rates(answers, cost=1.0):
    """Share right of seen, of unseen, and their harmonic mean."""
    seen, new = (evaluation.hits(odds * cost, labels).mean()
                 for odds, labels in answers)
    return seen, new, 2 * seen * new / max(seen + new, 1e-9)


# %%
found = pd.DataFrame({
    nats: rates(own, np.exp(-nats * seen_before)) for nats in (0, 2, 4, 6, 8)},
    index=["seen", "unseen", "harmonic mean"]).T
(100 * found).rename_axis("handicap (nats)").round(1)

# %%
plain, last = found.iloc[0], found.iloc[-1]
print(f"Asked plainly, it names {plain['unseen']:.1%} of the records of new "
      f"species right; with {found.index[-1]} nats {last['unseen']:.1%}, and "
      f"the seen species fall from {plain['seen']:.1%} to {last['seen']:.1%}.")

# %% [markdown]
# All in percent. Compare the first row with the easy question above: the model
# is the same, the records are the same, and only the list of candidates has
# grown. This is why a zero-shot score should never be read without its list.
#
# The handicap shows what is there to be won, but it must not be read off this
# table: to choose it here would be to train on the test. It would have to be
# chosen on other species, which play the part of the unseen.

# %% [markdown]
# ## What a flora knows of them
#
# A name alone says little: how could it? But nobody who meets a new tree knows
# its name only. A flora lists the countries where it is native and says
# whether it drops its leaves. That is knowledge, not training data, and it is
# there for nearly every tree on Earth.
#
# Why countries and leaves, and not height or bark? Because they rule out. A
# species that grows in Chile alone can be struck off in Norway, without a look
# at any pixel; and leaves that fall are something that a satellite sees.
#
# We give it to the model. A seen species competes by its probability, an
# unseen one by its countries and its leaf type, and the stranger a sample
# looks, the more the unseen count. How much more is chosen on validation
# records, where groups of *trained* species play the part of the unseen; no
# record of a held-out species is used.

# %%
lists = chain.planet().checklist if chain.simulated() else None
if lists is None:
    print("Skipped: give a table of species and countryCode as lists, e.g. "
          "of a flora or of GlobalTreeSearch.")
else:
    print(f"The lists name {lists['species'].nunique()} species, each "
          "native to "
          f"{lists.groupby('species').size().median():.0f} countries or "
          "territories at the median")

# %% [markdown]
# Then the same two parts are asked among all names, now with the flora.

# %%
if lists is not None:
    informed = Known(model, chain.samples("train", classes), validation,
                     seen=classes, new=new_classes, lists=lists)
    asked = {part: chain.samples(part, informed.classes)
             for part in ("test", "held out")}
    told = {part: informed.predict(one) for part, one in asked.items()}

# %%
if lists is not None:
    among = told["held out"][:, k:].argmax(1) == unseen.labels
    found.loc["with the flora"] = rates(
        [(told[part], asked[part].labels) for part in asked])
    print(f"Among the new names alone, {among.mean():.1%} are right now.")
(100 * found.iloc[[0, -1]]).round(1)

# %% [markdown]
# In percent, among all names. The first row is the model that is told the
# names alone, without a handicap; the last one has the flora beside it.

# %%
if lists is not None:
    after = found.iloc[-1]
    print(f"With the flora, {after['unseen']:.1%} of the records of new "
          f"species are named among all, instead of {plain['unseen']:.1%}; "
          f"the seen fall from {plain['seen']:.1%} to {after['seen']:.1%}.")

# %% [markdown]
# What the spelling of a name cannot tell, a list can: where the tree grows. So
# before you train a larger model on names, look whether somebody has written
# the answer down.
#
# Nothing is free: each record that goes to a new name cannot go to an old one.
# Whether the trade is a good one depends on how many of the trees that are
# asked about belong to new species; in the harmonic mean both kinds count
# alike.

# %% [markdown]
# > **Exercise 2** (medium)
# >
# > Which of the two helps more, the countries or the leaf type? Give lists in
# > which every species may grow everywhere.
#
# <details><summary>Solution</summary>
#
# ```python
# if lists is not None:
#     nowhere = lists.iloc[:0]  # nothing is known of any country
#     leaves = Known(model, chain.samples("train", classes), validation,
#                    seen=classes, new=new_classes, lists=nowhere)
#     odds = leaves.predict(asked["held out"])
#     right = evaluation.hits(odds, asked["held out"].labels).mean()
#     print(f"among all names, of the new species' records: {right:.1%} with "
#           f"leaf types alone, {after['unseen']:.1%} with countries as well")
# ```
#
# A species without a row in the lists may grow everywhere, so only the leaf
# type is left. There are four leaf types and many countries: the countries can
# tell apart what looks alike, and they do it without any pixel.
#
# </details>
# %% [markdown]
# ## Does it notice what it never learnt?
#
# Floras have gaps, and the next tree may be one that no list knows. The worst
# answer to an unknown tree is a confident wrong name. Could the
# model say "I do not know this one"? A record of a held-out species should
# look strange, and that of a held-out genus all the more. We try two scores of
# strangeness: the best probability of any trained name, and the best cosine to
# any trained name.
#
# *AUROC* is the chance that a strange record looks stranger than a usual one:
# 1 if it always does, 0.5 if it is a coin.

# %%
strange = unseen._replace(labels=np.zeros(len(unseen.labels), int))
sure = {name: evaluation.predict(model, some, classes).max(1)
        for name, some in (("usual", test), ("new", strange))}

# %%
with torch.no_grad():
    text = model.encode_taxa(classes).cpu().numpy()
near = {name: (evaluation.embed(model, some) @ text.T).max(1)
        for name, some in (("usual", test), ("new", strange))}


# %% [markdown]
# For both scores, a low value means strange. A probability has to sum to one
# over the trained names, so one of them may get a large share even of a tree
# that none of them fits. A cosine has no such duty: it can be low for all of
# them.

# %%
def auroc(values, some):
    """How often a usual record has more than a strange one."""
    new = values["new"][some]
    return roc_auc_score(np.repeat([0, 1], [len(new), len(values["usual"])]),
                         np.concatenate([new, values["usual"]]))


# %%
noticed = pd.DataFrame({
    name: {"genus new": auroc(values, ~known.to_numpy()),
           "genus seen": auroc(values, known.to_numpy())}
    for name, values in (("best probability", sure), ("best cosine", near))})
noticed.round(3)

# %% [markdown]
# Two scores, two kinds of strangers. Compare each number with a half, which is
# what guessing gives.

# %%
best = noticed.mean().idxmax()
both = noticed[best]
print(f"By the {best}, a strange record looks stranger than a usual one "
      f"{both['genus new']:.0%} of the time where its genus is new, and "
      f"{both['genus seen']:.0%} where its genus was seen.")

# %% [markdown]
# Unless such a number is close to one, it is a hint and no alarm: an alarm
# that catches most strangers also rings for many a tree that is well known,
# and exercise 3 counts them.
#
# If a new genus is noticed less than a new species of a known one, do not
# think of kinship first: the two rows are different species, and few.

# %% [markdown]
# > **Exercise 3** (hard)
# >
# > A model that abstains below some probability rejects strange records and
# > usual ones alike. At a threshold that keeps nine of ten usual records, how
# > many strange ones slip through?
#
# <details><summary>Solution</summary>
#
# ```python
# threshold = np.quantile(sure["usual"], 0.1)
# through = (sure["new"] >= threshold).mean()
# print(f"threshold {threshold:.2f}: {through:.0%} of the strange records "
#       "are answered as if they were known")
# ```
#
# If the probability told nothing, nine of ten would slip through, too. What is
# missing from that is all the protection there is. An AUROC that sounds good
# can still leave most strangers in, because the usual records that look
# strange set the threshold.
#
# </details>

# %% [markdown]
# ## Checks
#
# All of this would be worthless if a single record had slipped into training.
# The page stands and falls with one claim, that nothing of these species was
# seen. So it is checked by name and by record.

# %%
trained = set(parts["train"].table["species"])
assert not trained & set(new_classes["species"])
assert not trained & set(parts["held out"].table["species"])

# %% [markdown]
# ## What can go wrong
#
# A class table that lacks the right answer makes every record of it wrong,
# and no score would show why. So labels are refused:

# %%
try:
    chain.samples("held out", classes)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Recap
#
# - Held-out species are asked about among themselves and among all.
# - Asked among all, a model leans to the names that it was trained on; one
#   number for both kinds is the harmonic mean.
# - What a flora knows of a species is worth more than its name, and the seen
#   species pay for it.
#
# Handed on: nothing; the numbers above are made on this page.
