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
# train on. A model that reads *names* promises an answer for them all the
# same: that is what zero-shot means. Does it keep the promise?
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
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    get_ipython().run_line_magic("pip", f"install -q {source}")

# %%
import numpy as np
import pandas as pd
import torch
from geotree import chain, evaluation, taxonomy
from geotree.evaluation.unseen import Known
from sklearn.metrics import roc_auc_score

model, parts = chain.model(), chain.parts()
print(chain.provenance())

# %%
classes = chain.seen_classes()
k = len(classes)
validation = chain.samples("validation", classes)
test = chain.samples("test", classes)

# %% [markdown]
# ## Species that it never saw
#
# No record of these species was trained on, and their names were no wrong
# answers in training either. A name is made of familiar parts: leaf type,
# family, genus. Half of the names lost their genus too, so that only the
# family is left to speak for them.

# %%
new_classes = taxonomy.class_table(parts["held out"].table)
unseen = chain.samples("held out", new_classes)

# %%
names = parts["held out"].table
known = names["genus"].isin(classes["genus"])
zero = evaluation.predict(model, unseen, new_classes)

# %%
result = evaluation.score(
    zero, unseen.labels, new_classes, ranks=["species", "family"],
    groups=pd.Series(np.where(known, "genus seen", "genus new"),
                     name="kind"),
    blocks=evaluation.spatial_blocks(names))
print(f"chance: 1 of {len(new_classes)} = {1 / len(new_classes):.1%}")
if (ideal := chain.optimum(unseen, new_classes)) is not None:
    limit, own = (evaluation.hits(answer, unseen.labels).mean()
                  for answer in (ideal, zero))
    print(f"The Bayes optimum, which knows where they grow and how they "
          f"look, names {limit:.1%}; the model, told nothing but the names, "
          f"reaches {own / limit:.0%} of that")

# %%
result[result["metric"] == "top1"].drop(columns="metric").round(3)

# %% [markdown]
# The two halves are different species, and few: what lies between them is
# no measure of what a known genus is worth. And among held-out names only,
# the question is easy. In the field the candidates are *all* species, and a
# model leans towards names it was trained on. *Generalised* zero-shot asks
# seen and unseen together; one number for both is the harmonic mean, which
# a model that never names a new species cannot win.

# %%
everything = parts["train"].classes
own = {name: (evaluation.predict(model, part, everything),
              taxonomy.labels(part.table, everything))
       for name, part in (("seen", parts["test"]),
                          ("unseen", parts["held out"]))}
seen_before = everything["species"].isin(classes["species"]).to_numpy()

# %%
rows = []
for handicap in (0, 2, 4, 6, 8):  # nats taken from each seen name
    cost = np.exp(-handicap * seen_before)
    rate = [evaluation.hits(answer * cost, labels).mean()
            for answer, labels in own.values()]
    rows.append((handicap, *rate, 2 * rate[0] * rate[1] / sum(rate)))
pd.DataFrame(rows, columns=["handicap (nats)", "seen", "unseen",
                            "harmonic mean"]).round(3)

# %%
print(f"Asked plainly, it names {rows[0][2]:.1%} of the records of new "
      "species; a handicap has to be chosen, and not on these records.")

# %% [markdown]
# ## What a flora knows of them
#
# A name alone says little: how could it? But nobody who meets a new tree
# knows its name only. A flora lists the countries where it is native and
# says whether it drops its leaves. That is knowledge, not training data. We
# give it to the model: a seen species competes by its probability, an
# unseen one by its countries and its leaf type, and the stranger a sample
# looks, the more the unseen count. How much more is chosen on validation
# records, where groups of *trained* species play the part of the unseen;
# no record of a held-out species is used.

# %%
lists = chain.planet().checklist if chain.simulated() else None
if lists is None:
    print("Skipped: give a table of species and countryCode as lists, e.g. "
          "of a flora or of GlobalTreeSearch.")
else:
    print(lists.groupby("species").size().describe().round(1).to_string())

# %%
rows = []
if lists is not None:
    informed = Known(model, chain.samples("train", classes), validation,
                     seen=classes, new=new_classes, lists=lists)
    joint = informed.classes
    asked = {part: chain.samples(part, joint)
             for part in ("test", "held out")}
    plain_all = {part: evaluation.predict(model, one, joint)
                 for part, one in asked.items()}
    told_all = {part: informed.predict(one) for part, one in asked.items()}

# %%
if lists is not None:
    for name, found in {"name alone": plain_all,
                        "name, countries, leaves": told_all}.items():
        right = {part: evaluation.hits(odds, asked[part].labels)
                 for part, odds in found.items()}
        among = found["held out"][:, k:].argmax(1) == unseen.labels
        seen_top, new_top = right["test"].mean(), right["held out"].mean()
        mean = 2 * seen_top * new_top / max(seen_top + new_top, 1e-9)
        rows.append((name, among.mean(), seen_top, new_top, mean))
pd.DataFrame(rows, columns=[
    "known", "unseen, among themselves", "seen, among all",
    "unseen, among all", "harmonic mean"]).set_index("known").mul(
        100).round(1)

# %% [markdown]
# All in percent. The harmonic mean is high only where both kinds are named;
# what the unseen win, the seen pay for in part.

# %% [markdown]
# ## Does it notice what it never learnt?
#
# A record of a held-out genus should look strange. Two scores of
# strangeness: the best probability, and the best cosine to any trained
# name. AUROC is the chance that a strange record looks stranger than a
# usual one; 0.5 is a coin.

# %%
with torch.no_grad():
    text = model.encode_taxa(classes).cpu().numpy()

# %%
strange = unseen._replace(labels=np.zeros(len(unseen.labels), int))
looks = {name: evaluation.embed(model, some) @ text.T
         for name, some in (("usual", test), ("new", strange))}

# %%
sure = {name: evaluation.predict(model, some, classes).max(1)
        for name, some in (("usual", test), ("new", strange))}

# %%
new_genus = ~known.to_numpy()

# %%
rows = []
for score, values in {"best probability": sure, "best cosine": {
        name: one.max(1) for name, one in looks.items()}}.items():
    for kind, some in {"genus new": new_genus,
                       "genus seen": ~new_genus}.items():
        new = values["new"][some]
        rows.append((score, kind, roc_auc_score(
            np.repeat([0, 1], [len(new), len(values["usual"])]),
            np.concatenate([new, values["usual"]]))))
pd.DataFrame(rows, columns=["score", "held out", "AUROC"]).round(3)

# %% [markdown]
# ## Checks

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
# - What a flora knows of a species is worth more than its name.
#
# Handed on: nothing; the numbers above are made on this page.
