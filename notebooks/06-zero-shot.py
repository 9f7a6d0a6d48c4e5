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
# # How good is a guess, and how sure?
#
# **In:** `model/` and the split. **Out:** scores with intervals, beside
# baselines and the optimum, and a confidence that can be taken at its word.
#
# > **Before you start**
# >
# > *You will learn* to score at species, genus and family, to say what pixels
# > add, to weigh pixels by place, to test on species never seen, and to tell
# > an honest confidence from a boast.
# >
# > *You need* [chapter 05](05-train).
# >
# > *Cost:* about a minute on two CPU cores.

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    get_ipython().run_line_magic("pip", f"install -q {source}")

# %%
import numpy as np
import pandas as pd
from geotree import baselines, chain, evaluation
from geotree.evaluation import calibration, metrics
from geotree import place, plots, prior, taxonomy, world
from geotree.evaluation import results
from geotree.evaluation.unseen import Known

plots.style()
model, parts = chain.model(), chain.parts()
print(chain.provenance())

# %% [markdown]
# The first task is about species that training has seen, so the class table
# holds those and no other: a held-out name can not be the answer here.

# %%
classes = chain.seen_classes()
k = len(classes)


def batch(name, classes):
    """Samples of a part, labelled by a class table."""
    part = parts[name]
    return part.load()._replace(labels=taxonomy.labels(part.table, classes))


# %%
validation, test = batch("validation", classes), batch("test", classes)
places = parts["test"].table
blocks = evaluation.spatial_blocks(places)
print(f"{len(test.labels):,} test records of {k} species in "
      f"{len(set(blocks))} blocks of 5°")

# %% [markdown]
# ## Sum first, then choose
#
# The genus of the likeliest species is not always the likeliest genus. Two
# oaks with 0.3 each outweigh one birch with 0.4. Reading a genus off the
# species ranks, as the release does, gets this wrong.

# %%
toy = pd.DataFrame({"species": ["Betula a", "Quercus a", "Quercus b"],
                    "genus": ["Betula", "Quercus", "Quercus"],
                    "family": ["Betulaceae", "Fagaceae", "Fagaceae"],
                    "leafType": ["Deciduous Broadleaf"] * 3})
summed, names = taxonomy.roll_up(np.array([[0.4, 0.3, 0.3]]), toy, "genus")
assert names[summed.argmax()] == "Quercus"
dict(zip(names, summed[0].round(2).tolist(), strict=True))

# %% [markdown]
# ## Seen species, new places
#
# One call makes all baselines: what reads nothing, what reads the place,
# the climate and soil, or pixels. CLIP and RemoteCLIP
# {cite}`radford2021clip,liu2024remoteclip` look at true colour and join in
# where their weights are given; what is left out is said. The last column
# is the share of the Bayes optimum's top-1, where that is known.

# %%
WEIGHTS = {"CLIP": None,  # a folder, or "openai/clip-vit-base-patch16"
           "RemoteCLIP": None}  # a file, "RemoteCLIP-ViT-B-32.pt"
answers = baselines.answers(parts["train"], parts["test"], classes,
                            weights=WEIGHTS)
for name, why in baselines.left_out(answers).items():
    print(f"{name}: {why}")
answers["compact model"] = evaluation.predict(model, test, classes)
best = chain.optimum(test, classes)
blind = baselines.best_without_pixels(answers, test.labels)

# %%
board = evaluation.leaderboard(answers, test.labels, classes, blocks=blocks,
                               reference=blind, optimum=best)
board.set_index("model").drop(columns="n").round(3)

# %% mystnb={"image": {"alt": "Species top-1 of all baselines and the compact model with 95 percent intervals, and the Bayes optimum as a line where it is known."}}
limit = (None if best is None
         else float(evaluation.hits(best, test.labels).mean()))
plots.score_bars(board, optimum=limit, highlight="compact model");

# %% [markdown]
# ## What do pixels add?
#
# This is the headline that a claim about satellites owes its readers: the
# paired difference to the best model that reads *no pixel*. We pick that
# model on the test itself, in its favour.

# %% mystnb={"image": {"alt": "Paired difference in top-1 of each model to the best baseline without pixels, with 95 percent intervals."}}
print("Best without pixels:", blind)
plots.differences(board[board["model"] != blind]);

# %% [markdown]
# ## By rank, rarity, place and source
#
# A mean over samples is a mean over frequent species. *Macro* top-1 counts
# each species once; macro F1 also asks how often a name is given in vain;
# MRR is the mean of 1 / position of the right name.

# %%
compact = answers["compact model"]
scores = evaluation.score(compact, test.labels, classes, blocks=blocks)

# %%
scores.pivot(index="rank", columns="metric", values="value").round(3)

# %%
groups = pd.DataFrame({
    "rarity": places["rarity"].to_numpy(),
    "continent": world.continent(places["countryCode"]),
    "source": places["datasetName"].to_numpy(),
    "years": np.where(places["year"] < places["year"].median(),
                      "first half", "second half")})
by = evaluation.score(compact, test.labels, classes, ranks=["species"],
                      groups=groups, blocks=blocks)

# %%
by[by["metric"] == "top1"].set_index(["by", "group"])[
    ["value", "low", "high", "n"]].round(3)

# %% [markdown]
# Rare species are few and lie in few blocks: their interval is wide, and to
# leave it out would be to invent a result.
#
# ## Pixels and place, kept apart
#
# The compact model reads the coordinates too. That wins points, but who can
# say which of the two convinced it? Hide the place from it, and let a model
# of place alone be the *range prior*:
#
# $$\log p = \log p_{\text{pixels}} + a \cdot \log p_{\text{place}} +
# \text{const}$$
#
# One number, `a`, fitted on validation; `a = 0` is allowed and means that
# the place does not help.

# %%
def without_place(samples):
    """The same samples, longitude and latitude missing."""
    hidden = samples.environment.copy()
    hidden[:, :2] = np.nan
    return samples._replace(environment=hidden)


# %%
ranges = place.Trees(parts["train"].table)
pixels, where = {}, {}
for name, samples in {"validation": validation, "test": test}.items():
    pixels[name] = evaluation.predict(model, without_place(samples),
                                      classes)
    where[name] = ranges.predict(parts[name].table, classes)

# %%
a = prior.fit_weight(pixels["validation"], where["validation"],
                     validation.labels)
both = prior.combine(pixels["test"], where["test"], a)
toy = np.log(pixels["test"][:1]) + a * np.log(
    0.999 * where["test"][:1] + 0.001 / k)
by_hand = np.exp(toy) / np.exp(toy).sum()
np.testing.assert_allclose(both[:1], by_hand, rtol=1e-3)

# %%
print(f"a = {a:.2f}")

# %% [markdown]
# Two more tools for what is known about the world but not in the pixels. A
# *checklist* keeps to species with a training record in the country (a
# user's own list works alike). *Logit adjustment*
# {cite}`menon2021adjustment` divides by how frequent each species was in
# training: what a rare species loses by being rare is given back, and the
# frequent ones pay.

# %%
listed = prior.checklist(parts["train"].table, classes,
                         places["countryCode"])
share = np.bincount(batch("train", classes).labels, minlength=k)
variants = {
    "place alone": where["test"], "place hidden": pixels["test"],
    "place hidden, prior": both, "place read by the model": compact,
    "… checklist of the country": prior.restrict(compact, listed),
    "… frequency taken out": prior.adjust(compact, share / share.sum())}

# %%
table = evaluation.leaderboard(variants, test.labels, classes,
                               reference="place hidden", blocks=blocks,
                               optimum=best)
table.set_index("model")[["value", "low", "high", "macro_top1", "adds",
                          "adds_low", "adds_high", "of_optimum"]].round(3)

# %% [markdown]
# ## Species that it never saw
#
# No record of these species was trained on, and their names were no wrong
# answers in training either. A name is made of familiar parts: leaf type,
# family, genus. Half of the names lost their genus too, so that only the
# family is left to speak for them.

# %%
new_classes = taxonomy.class_table(parts["held out"].table)
unseen = batch("held out", new_classes)
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
    informed = Known(model, batch("train", classes), validation, classes,
                     new_classes, lists)
    joint = informed.classes
    plain_all = {part: evaluation.predict(model, batch(part, joint), joint)
                 for part in ("test", "held out")}
    told_all = {part: informed.predict(batch(part, joint))
                for part in ("test", "held out")}

# %%
if lists is not None:
    for name, found in {"name alone": plain_all,
                        "name, countries, leaves": told_all}.items():
        right = {part: evaluation.hits(odds, batch(part, joint).labels)
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
# ## Is its confidence honest?
#
# Of all answers given with 70 % confidence, 70 % should be right. Bins hold
# equally many samples; bars are 95 % of a binomial. One number often mends
# much of what is wrong: a *temperature* that divides the logits, fitted on
# validation {cite}`guo2017calibration`. It never changes an answer. The
# table below the figure says how much there was to mend.

# %%
guess = evaluation.predict(model, validation, classes)
t = calibration.temperature(guess, validation.labels)
mended = calibration.soften(compact, t)
assert (mended.argmax(1) == compact.argmax(1)).all()

# %%
print(f"temperature {t:.2f}: the model was too "
      f"{'sure' if t > 1 else 'modest'}")

# %% mystnb={"image": {"alt": "Reliability diagram: accuracy against confidence of the model before and after temperature scaling, and of the Bayes posterior where it is known, beside the diagonal."}}
models = {"compact model": compact, "with temperature": mended}
if best is not None:
    models["Bayes optimum"] = best
plots.reliability({name: calibration.reliability(answer, test.labels)
                   for name, answer in models.items()});

# %%
pd.DataFrame({name: calibration.summary(answer, test.labels)
              for name, answer in models.items()}).T.round(3).astype(
                  {"n": int})

# %% [markdown]
# ECE is the mean gap in that figure. Few samples are never right exactly as
# often as they should be: `ece_chance` is the error that a perfect model
# would show on as many, and below `ece_chance_95` nothing is proved. Brier
# score and log loss also reward being sharp. A model that always answers
# with the frequencies has a fine ECE and is of no use.
#
# ## A set instead of a name
#
# *Conformal prediction* {cite}`angelopoulos2023conformal` gives a set of
# names that holds the right one as often as promised, even if the model is
# badly calibrated: it only needs test records that come from where the
# validation records came from. Here is the whole idea.

# %%
coverage = 0.9
right = guess[np.arange(len(guess)), validation.labels]
position = int((len(right) + 1) * (1 - coverage)) - 1
by_hand = np.sort(right)[position]  # nine in ten are at least as likely
least = calibration.conformal(guess, validation.labels, coverage=coverage)
np.testing.assert_allclose(least, by_hand)

# %% [markdown]
# The promise is one on average: rare species may pay for common ones, and
# test blocks that differ from the validation's may miss it. The promise
# can be given to each *group* of species, here by rarity, or to each
# species; then sets grow, and a species with too few validation records is
# in every set, for nothing can be promised.

# %%
rarity = parts["train"].table.drop_duplicates("species").set_index(
    "species")["rarity"].reindex(classes["species"]).to_numpy()
promises = {"on average": None, "each rarity": rarity,
            "each species": np.arange(k)}

# %%
kept = {}
for name, to in promises.items():
    least = calibration.conformal(guess, validation.labels, groups=to)
    sets = calibration.prediction_sets(compact, least)
    kept[name] = calibration.coverage_table(sets, test.labels,
                                            places["rarity"])
pd.concat(kept, names=["promise", "among"]).round(2)

# %% [markdown]
# And species by species? Of those with ten test records or more:

# %%
rows = {}
for name, to in promises.items():
    least = calibration.conformal(guess, validation.labels, groups=to)
    each = calibration.coverage_table(
        calibration.prediction_sets(compact, least), test.labels,
        classes["species"].to_numpy()[test.labels]).drop("all")
    often = each[each["n"] >= 10]
    rows[name] = {"species": len(often), "lowest": often["coverage"].min(),
                  "below 80 %": (often["coverage"] < 0.8).mean(),
                  "names in a set": often["size"].mean()}
pd.DataFrame(rows).T.round(2).astype({"species": int})

# %% [markdown]
# Where coverage falls short of what was promised, look at the split:
# validation and test lie in different blocks, so they are not quite "from
# the same place". Conformal sets are no cure for that.
#
# ## Say less, be right more often
#
# A model may answer with a genus where it is not sure of the species, or
# abstain. *Deepest rank*: the most exact name whose probability reaches a
# threshold.

# %%
deepest = metrics.deepest(mended, classes, confidence=0.9)
deepest["rank"].fillna("no answer").value_counts(normalize=True).round(3)

# %%
curve = metrics.accuracy_coverage(mended, test.labels, classes,
                                  thresholds=[0, 0.3, 0.5, 0.7, 0.9])
curve.set_index("threshold").round(2)

# %% mystnb={"image": {"alt": "Share of wrong species among the answered samples against the share answered, surest first, for the model, a forest and the Bayes optimum where it is known."}}
risk = {name: metrics.risk_coverage(answer, test.labels)
        for name, answer in {"compact model": mended,
                             "forest, all": answers["forest, all"],
                             **({} if best is None else
                                {"Bayes optimum": best})}.items()}
plots.coverage_curve(risk);

# %% [markdown]
# ## Does it notice what it never learnt?
#
# A record of a held-out genus should look strange. Two scores of
# strangeness: the best probability, and the best cosine to any trained
# name. AUROC is the chance that a strange record looks stranger than a
# usual one; 0.5 is a coin.

# %%
import torch
from sklearn.metrics import roc_auc_score

with torch.no_grad():
    text = model.encode_taxa(classes).cpu().numpy()
strange = unseen._replace(labels=np.zeros(len(unseen.labels), int))
looks = {name: evaluation.embed(model, some) @ text.T
         for name, some in (("usual", test), ("new", strange))}
sure = {name: evaluation.predict(model, some, classes).max(1)
        for name, some in (("usual", test), ("new", strange))}

# %%
new_genus = ~known.to_numpy()
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
# ## What each part is worth
#
# Take one part away, train again, compare. A smaller model than above, each
# arm with several seeds; the differences are paired, over blocks and seeds
# together. Too long for a page: the numbers are kept with their commit.

# %%
study = results.read("planet")
gains = study[study["metric"] == "top1_gain"].sort_values("value")
gains = gains[gains["model"] != "compact model"]
study[["commit", "device", "data_hash"]].drop_duplicates()

# %% mystnb={"image": {"alt": "Paired difference in top-1 of the compact model with one part taken away to the whole one, with intervals."}}
plots.differences(gains, names=("value", "low", "high"));

# %% [markdown]
# A dot in colour has an interval without zero; none is corrected for the
# number of arms. The grey ones show no effect at this size, whatever we
# hoped, and do not say what a part is worth in a larger model.

# %%
sure = gains[(gains["low"] > 0) | (gains["high"] < 0)]
print(f"{len(sure)} of {len(gains)} differences can be told from zero: "
      + "; ".join(f"{row['model']} {100 * row['value']:+.1f} points"
                  for _, row in sure.iterrows()))

# %% [markdown]
# The same arms as a share of the optimum, which the rows carry with them;
# mean and spread (one standard deviation) over the seeds of the weights.

# %%
import json

study = study[(study["rank"] == "species") & (study["metric"] == "top1")
              & (study["task"] == "seen species")]
limits = study["settings"].map(lambda text: json.loads(text)["optimum"])
study = study.assign(of_optimum=study["value"] / limits)
arms = study[~study["model"].str.contains("records")]
arms.groupby("model")[["value", "of_optimum"]].agg(["mean", "std"]).round(3)

# %% [markdown]
# And how much data does it take? At most so many records of each species,
# drawn anew for each seed; the dashed line is the optimum of that test.

# %%
curve = study[study["model"].str.contains("records")]
curve = curve.assign(
    records=curve["model"].str.extract(r"(\d+) records")[0].astype(int),
    model=curve["model"].str.split(" | ", regex=False).str[0])
mean = curve.groupby(["model", "records"], as_index=False)[
    ["value", "low", "high", "n", "of_optimum"]].mean()

# %% mystnb={"image": {"alt": "Accuracy against the number of training records per species, for the compact model, a forest and the nearest places, with the Bayes optimum."}}
plots.learning_curve(mean, optimum=limits.iloc[0]);

# %%
mean.pivot(index="records", columns="model", values="of_optimum").round(3)

# %% [markdown]
# ## Checks

# %%
order = np.random.default_rng(0).permutation(len(test.labels))
mixed = evaluation.predict(model, type(test)(*(x[order] for x in test)),
                           classes, batch_size=100)
np.testing.assert_allclose(mixed, compact[order], atol=1e-5)
if best is not None:
    gain = evaluation.compare(compact, best, test.labels, blocks=blocks)
    assert gain["low"] <= 0  # nobody beats the optimum beyond chance

# %%
trained = set(parts["train"].table["species"])
assert not trained & set(new_classes["species"])
assert (calibration.log_loss(mended, test.labels).mean()
        <= calibration.log_loss(compact, test.labels).mean() + 0.02)

# %% [markdown]
# ## What can go wrong
#
# Scores that are no probabilities are refused.

# %%
try:
    evaluation.score(2 * compact, test.labels, classes)
except ValueError as error:
    print(error)

# %% [markdown]
# > **Exercise**
# >
# > How often is the family right when the species is wrong?
#
# <details><summary>Solution</summary>
#
# ```python
# wrong = ~evaluation.hits(compact, test.labels)
# family, _ = taxonomy.roll_up(compact, classes, "family")
# target = taxonomy.roll_up_labels(test.labels, classes, "family")
# print(evaluation.hits(family[wrong], target[wrong]).mean())
# ```
#
# </details>
#
# ## Recap
#
# - A score needs a baseline below it, an optimum above it where there is
#   one, and an interval around it.
# - What pixels add is a paired difference to the best that reads none.
# - Sum probabilities before choosing at a coarser rank.
# - Fit temperature, prior weight and sets on validation, never on the test.
# - Held-out species are asked about among themselves and among all.
#
# Handed on: nothing; the numbers above are made on this page.
