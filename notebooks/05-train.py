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
# # Can pixels and names share one space?
#
# **In:** `shards/` and the split. **Out:** `model/`, a trained model of
# places and names.
#
# A thousand species, and for many of them a handful of records: how should a
# network with an output for each ever learn the rare ones, let alone one that
# it never saw? This chapter builds a model that reads names instead of
# counting them.
#
# > **Before you start**
# >
# > *You will learn* how one space can hold places and names, which loss
# > trains it, and how to train so that a crash costs nothing.
# >
# > *You need* [chapter 04](04-benchmark), and some PyTorch.
# >
# > *Cost:* about a minute on two CPU cores; at full size, GPU hours.

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
import torch.nn.functional as F
from geotree import baselines, chain, evaluation, plots, training
from geotree.evaluation import calibration, results
from geotree.models.compact import CompactClip, CompactConfig

plots.style(chain.stamp())
run, parts = chain.settings(), chain.parts()
classes = parts["train"].classes
print(chain.provenance())

# %% [markdown]
# ## Two encoders, one space
#
# A classifier with one output for each species cannot say anything about a
# species that it was not built for. So this model has no outputs. It has two
# *encoders*: one turns a year of pixels and 27 variables into a vector of
# length one, the other turns a name into such a vector. The better a name fits
# a place, the larger the cosine of the two: it is one where both vectors point
# the same way, and zero where they have nothing in common. A new species only
# needs a name. The idea is that of CLIP {cite}`radford2021clip`.
#
# Before any network, let us see the idea with numbers that fit on a line. Here
# are four toy places and five toy names, drawn at random; the first two names
# share a genus, and so do the next two. `normalize` brings each vector to
# length one. In the comments B counts places, K names, and D is the length of
# a list of numbers.

# %%
torch.manual_seed(0)
image = F.normalize(torch.randn(4, 8), dim=-1)  # (B, D)
names = F.normalize(torch.randn(5, 8), dim=-1)  # (K, D)
genus = torch.tensor([0, 0, 1, 1, 2])  # of each name
right = torch.tensor([0, 3, 2, 4])  # name of each place

# %% [markdown]
# ## The loss that trains
#
# What should training want? That the right name is likelier than all others. A
# *softmax* turns the cosines, times a scale (the *logits*), into probabilities
# over all names, and the loss is minus the logarithm of the right one, in
# nats. And since an oak taken for another oak is half right, the summed
# probability of the right genus is asked for, too, with a smaller weight. In
# the library the family has its share as well. By hand:

# %%
logits = 10 * image @ names.T  # (B, K)
log_odds = logits.log_softmax(dim=1)
species = -log_odds[torch.arange(4), right].mean()
same = genus[right][:, None] == genus  # (B, K): names of the right genus
summed = log_odds.masked_fill(~same, -torch.inf).logsumexp(dim=1)
by_hand = species - 0.5 * summed.mean()
library = training.class_loss(logits, right, groups=[(0.5, genus)])
torch.testing.assert_close(by_hand, library)

# %% [markdown]
# A step of training moves the vectors so that this number falls. To see it,
# let the names stand still and move each place once against its gradient:

# %%
x = image.clone().requires_grad_()
training.class_loss(10 * x @ names.T, right).backward()
moved = F.normalize(image - 0.5 * x.grad, dim=-1)

# %% [markdown]
# What did the step do? For each place, the cosine with its own name and with
# the best of the wrong ones, before and after:


# %%
def cosines(places):
    """Of each place with its own name, and with the best wrong one."""
    all_names = places @ names.T
    own = all_names.gather(1, right[:, None])[:, 0]
    wrong = all_names.scatter(1, right[:, None], -1).max(1).values
    return own, wrong


before, after = cosines(image), cosines(moved)
columns = ["own, before", "wrong, before", "own, after", "wrong, after"]
table = torch.stack([*before, *after], dim=1).numpy()
pd.DataFrame(table, columns=columns).round(2)

# %%
gained = after[0] - before[0]
assert (gained > 0).all()
print(f"One step brought each place closer to its own name, by "
      f"{gained.min():.2f} to {gained.max():.2f} in the cosine.")

# %% [markdown]
# That is all that training does, again and again. Except that it does not
# move the vectors themselves: it turns the weights of the two encoders, so
# that places and names which were never seen move along.

# %% [markdown]
# > **Exercise 1** (easy)
# >
# > Make the scale 1 instead of 10. What is the loss now, and what would it be
# > with each place right on its name?
#
# <details><summary>Solution</summary>
#
# ```python
# soft = training.class_loss(image @ names.T, right)
# perfect = training.class_loss(names @ names.T, torch.arange(5))
# sure = training.class_loss(10 * names @ names.T, torch.arange(5))
# print(f"{soft:.2f} now, {perfect:.2f} with places on their names; "
#       f"{sure:.2f} with a scale of 10")
# assert sure < perfect
# ```
#
# Cosines lie between -1 and 1, so with a scale of one the softmax can never be
# sure: a right name beats a wrong one by a factor of e squared at most. That
# is why the scale is learnt, too. Its value sets how sure the model can be,
# and [how sure it is](06-how-sure) has to be checked afterwards.
#
# </details>

# %% [markdown]
# ## Why not compare within the batch?
#
# CLIP trains differently: each image has to find its own text among those of
# the same batch (*InfoNCE*). With millions of different captions that works.
# With a few hundred species, a batch holds the same name several times, and an
# image is asked to prefer its own copy of a text to another copy. One may mark
# such twins by labels, so that both count as right. Does it help?

# %%
text = names[right].clone()
text[1] = text[0]  # the first two places are one species
gradients = []
for known in (None, torch.tensor([0, 0, 2, 3])):
    x = image.clone().requires_grad_()
    training.contrastive_loss(x, text, logit_scale=10.0,
                              labels=known).backward()
    gradients.append(x.grad)
torch.testing.assert_close(*gradients)

# %% [markdown]
# The two gradients are equal: where two texts are exactly the same, their
# pulls cancel, with labels and without, and marking them was for nothing. So
# the twins are not what hurts. What a batch lacks is the *other* names: those
# that nobody in it happens to carry. The study of [chapter 06](06-zero-shot)
# trained a smaller model in all three ways:

# %%
study = results.read("planet")
pairs = study[(study["metric"] == "top1_gain")
              & study["model"].str.startswith("pairs")]
for row in pairs.itertuples():
    print(f"{row.model}: {100 * row.value:+.1f} points of top-1 (95 %: "
          f"{100 * row.low:+.1f} to {100 * row.high:+.1f}) against all names")

# %% [markdown]
# Both ways of pairing are held, on the same test records, against a plain
# softmax over all names: without the terms for genus and family, as pairs have
# none either. An interval that stays below zero says that the batch costs
# accuracy, and two that are nearly the same say that marking twins does not
# win it back.
#
# ## What the model reads
#
# Why not stretch everything into one long row of numbers and let a plain
# network read that? It would do, until a cloud hides May. Then some of the
# numbers are missing, and a plain network has no way to leave them out.
#
# A *transformer* works on a list of *tokens*, each a vector, and lets every
# token look at all others. Ours reads twelve tokens for the months and four
# for location, terrain, soil and climate. Two things are easy to get wrong. A
# month that clouds have hidden must not be attended to, or the model learns
# the code for "missing" as if it were a colour. And each month carries a code
# of its own, or the order of months would not matter: spring and autumn would
# be one.
#
# One more token comes first and stands for the sample as a whole: it looks at
# all others, and what it has gathered in the end is the vector. The list below
# says which tokens are there for the first sample: 1 if there is anything to
# see.

# %%
tiny = CompactClip(CompactConfig(width=32, depth=1)).eval()
batch = next(parts["train"].batches(4))
tokens = tiny.tokens(batch.images, batch.environment)
tuple(tokens.values.shape), tokens.present.int()[0].tolist()

# %% [markdown]
# The first tuple is (samples, tokens, width of a vector). Zeros in the list
# are months without a clear image; nothing will look at them. And the order of
# months? Give the model the same year backwards:

# %%
with torch.no_grad():
    once = tiny.encode_images(batch.images, batch.environment)
    mixed = tiny.encode_images(batch.images[:, ::-1].copy(),
                               batch.environment)
assert not torch.allclose(once, mixed)  # December first is another year

# %% [markdown]
# The same twelve images give another vector, as they should: a tree that
# greens in May is not one that greens in October.

# %% [markdown]
# > **Exercise 2** (medium)
# >
# > Hide July from a sample, by setting it to the number for "missing". Does
# > the vector change, and does it depend on what July held?
#
# <details><summary>Solution</summary>
#
# ```python
# from geotree.variables import NODATA
#
# hidden = batch.images.copy()
# hidden[:, 6] = NODATA
# with torch.no_grad():
#     without = tiny.encode_images(hidden, batch.environment)
#     mask = tiny.tokens(hidden, batch.environment).present
# seen = tokens.present.sum() - mask.sum()
# print(f"{int(seen)} tokens fewer in {len(mask)} samples")
# assert 0 <= seen <= len(mask)
# print(f"largest change {(once - without).abs().max():.3f}")
# ```
#
# The vector changes a little, since one of sixteen tokens is gone, and July's
# old content cannot matter: it was overwritten, and nothing attends to the
# gap. If you filled the gap with zeros instead, the model would see a black
# July.
#
# </details>

# %% [markdown]
# ## Training
#
# The recipe is an ordinary one. The optimiser, AdamW, decides how a gradient
# turns the weights. The learning rate, the length of its steps, warms up and
# then falls along a cosine. Gradients are clipped, so that one odd batch
# cannot throw the weights about. Parts of the input are hidden at random, so
# that the model learns to do without any of them; chapters 06 and 10 make use
# of that.
#
# After each epoch the validation records are scored. The last epoch is kept,
# for the learning rate has fallen to zero by then; `keep="loss"` keeps the one
# with the lowest validation loss instead. A checkpoint is written, too: a run
# that was killed goes on where it stopped, equal to the bit.
#
# The same call trains on several GPUs: [chapter 11](11-own-trees) has the
# recipe.
#
# Names without a record, the held-out ones among them, are not compared in
# training: with no place to pull them closer they would only be learnt as
# wrong answers.

# %%
model = CompactClip(seed=run.seed)
often = parts["train"].table["species"].astype(str).value_counts()
known = classes["species"].isin(often.index)

# %%
print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million "
      f"parameters, {len(parts['train']):,} training samples of "
      f"{known.sum()} species, the one in the middle with "
      f"{often.median():.0f} records; {(~known).sum()} more names of the "
      "table have none")

# %%
history = training.fit(
    model, parts["train"], parts["validation"],
    settings=training.Settings(epochs=run.epochs, seed=run.seed),
    out=chain.folder() / "training")

# %%
history.index = 1 + history["epoch"]
losses = history[["loss", "validation_loss"]]
assert (losses.iloc[-1] <= losses.iloc[0]).all()
losses.assign(**{"top-1 (%)": 100 * history["validation_top1"]}).tail(
    3).round(2)

# %%
print(f"{len(history)} epochs: validation loss is lowest in epoch "
      f"{history['validation_loss'].idxmin()}; the last one is kept, and "
      f"names {history['validation_top1'].iloc[-1]:.1%} of the validation "
      "records.")

# %% [markdown]
# An *epoch* is one pass over all training samples; the table has the last
# three, with losses in nats and the top-1 of the validation records, the share
# whose right name is the likeliest. The loss falls on both
# parts as long as the model learns something that holds elsewhere. Once it
# falls in training alone, the model is learning its records by heart, and
# further passes are of no use to anybody.

# %% [markdown]
# ## How good could it be?
#
# Is that good? Nobody can say without knowing what is possible. Two species
# may look exactly alike from space, and then no model can tell them apart. Of
# the simulated planet the best possible answer is known: the posterior of the
# process that made it, the *Bayes optimum*. No model can beat it beyond
# chance.

# %%
held = parts["validation"].load()
best = chain.optimum(held, classes)
limit = None if best is None else evaluation.hits(best, held.labels).mean()
print("no optimum is known for real occurrences" if limit is None
      else f"Bayes optimum of the validation samples: {limit:.1%} top-1")

# %% mystnb={"image": {"alt": "Two panels by epoch. Left, the losses of training and of validation, both lower at the end than at the start. Right, the top-1 of the validation records, below the line of the Bayes optimum where it is known."}}
plots.history(history, optimum=limit);

# %% [markdown]
# Left, the losses: that of training may lie above the other, for parts of its
# input are hidden and small penalties are added. Right, the share of the
# validation records named, below the line that nobody can pass.
#
# ## Test samples, kept for the end
#
# The validation records are there to choose by: a number of epochs, a learning
# rate, one recipe among several. Whatever was chosen by them, their score
# flatters. The test samples lie in blocks of the globe that training did not
# see, and nothing on this page is chosen by them. Elsewhere they choose one
# thing, the rival that the model is held against ([chapter
# 04.1](04-baselines)), and that in the rival's favour.

# %%
test = parts["test"].load()
probabilities = evaluation.predict(model, test, classes)
blocks = evaluation.spatial_blocks(parts["test"].table)
scores = evaluation.score(probabilities, test.labels, classes,
                          blocks=blocks)

# %%
usual = evaluation.score(baselines.majority(
    parts["train"].labels, len(test.labels), len(classes)),
    test.labels, classes)
ends, guess = (frame.query("metric == 'top1'").set_index("rank")
               for frame in (scores, usual))

# %%
100 * scores.pivot(index="rank", columns="metric", values="value").assign(
    **{"from": ends["low"], "to": ends["high"], "guess": guess["value"]}).loc[
    ["species", "genus", "family", "leafType"],
    ["top1", "from", "to", "guess", "top5", "macro_top1"]].round(3)

# %%
new = (~known.to_numpy())[probabilities.argmax(axis=1)].mean()
print(f"{len(classes)} names to choose from; one without a training record "
      f"comes first for {new:.1%} of the test samples")

# %%
top1 = scores.query("rank == 'species' and metric == 'top1'").iloc[0]
text = f"{top1['value']:.1%} ({top1['low']:.1%} – {top1['high']:.1%})"
best = chain.optimum(test, classes)
if best is not None:
    share = top1["value"] / evaluation.hits(best, test.labels).mean()
    text += f", {share:.0%} of the Bayes optimum"
print("species top-1 on test:", text)

# %% [markdown]
# The table is in percent: *top-1* is how often the right name comes first,
# *top-5* how often it is among the first five (of four leaf types it always
# is, so that is left out), *macro* counts each species once however many
# records it has; `from` and `to` are the ends of the 95 % interval of top-1,
# over blocks. `guess` is the top-1 of one answer to all, the most frequent
# name of that rank. The model may say any name of the table, the held-out
# ones, too, which are never right here; [chapter 06](06-zero-shot) leaves them
# out. Compare *top-1* with *macro*: where the second is lower, the model is
# better on frequent species than on rare ones. Read down a column to see how
# much of a wrong species is still the right genus or family. Whether all that
# is skill, or merely what anyone could say who knows the place, is the
# question of the next chapter: it has the rivals of chapter 04.1, which know
# more than that guess, and asks for them at the family, too.
#
# ## Where the rest is lost
#
# What is likely is what the place says, times what the pixels add. Of the
# planet both are known, so in a kept study (a smaller model) the truth could
# take the place of what was learnt, one half at a time. The share of the
# optimum says which half costs:

# %%
import json

half = study[study["model"].str.startswith("half") & (
    study["rank"] == "species") & (study["metric"] == "top1")]
limits = half["settings"].map(lambda text: json.loads(text)["optimum"])
half = half.assign(share=100 * half["value"] / limits, model=half[
    "model"].str.removeprefix("half | "))
half = half.groupby("model")["share"].agg(["mean", "min", "max"])
half.round(1)

# %% [markdown]
# Percent of the optimum, over several runs of training: their mean, the lowest
# and the highest. "Place learnt" is a model that reads all 27 variables and no
# image, so climate, soil and terrain count as place; "place true" is the
# planet's prior at that longitude and latitude.

# %%
share = half["mean"]
place, pixels = (100 - share[name] for name in (
    "place learnt, pixels true", "place true, pixels learnt"))
n = study.loc[study["model"].str.startswith("half"), "n"].max()
print(f"On {n:,} test records: learnt instead of known, the place (with "
      f"climate, soil and terrain) costs {place:.0f} % of the optimum and "
      f"the pixels {pixels:.0f} %.")

# %%
epochs = study["settings"].map(json.loads).str["epochs"]
here, there = (int(epochs[study["model"] == name].max()) for name in (
    "half | place learnt, pixels learnt", "compact model"))
print(f"This smaller model learnt for {here} epochs, that of the pairs above "
      f"and of the parts taken away in chapter 06 for {there}.")

# %% [markdown]
# The sum of the two need not be what is missing, for what one half gets wrong
# the other may mend. Pixels are hard to learn where a species has few records
# to learn its colours from; how many the species in the middle has, was
# printed before training.
#
# Does the model not learn enough, or does it learn by heart? Ask it about
# samples that it was trained on, and take off the log loss of the optimum:

# %%
some = parts["train"].sample(1000).load()
for name, data, limit in (("training", some, chain.optimum(some, classes)),
                          ("test", test, best)):
    if limit is not None:
        ours, least = (calibration.log_loss(one, data.labels).mean() for one
                       in (evaluation.predict(model, data, classes), limit))
        print(f"{name} samples: {ours - least:.2f} nats above the optimum")
if limit is None:
    print("no optimum is known for real occurrences: look at the two losses "
          "of the picture above")

# %% [markdown]
# What is missing on training samples was not learnt; what is missing on test
# samples beyond that does not carry over to other records. More passes over
# the same records help less than other records do: the page on
# [speed](../book/speed) draws both.

# %% [markdown]
# > **Exercise 3** (hard)
# >
# > Take away the month code and train again into another folder, with few
# > epochs. What does it cost, and where would you expect it to cost most?
#
# <details><summary>Solution</summary>
#
# ```python
# blind = CompactClip(CompactConfig(month_code=False))
# training.fit(blind, parts["train"], parts["validation"],
#              settings=training.Settings(epochs=1), progress=False,
#              out=chain.folder() / "no-months")
# print(evaluation.compare(
#     probabilities, evaluation.predict(blind, test, classes),
#     test.labels, blocks=blocks))
# ```
#
# After one epoch the difference is mostly one of training time. With all
# epochs it is what the order of the months is worth, and [chapter
# 06](06-zero-shot) has it with its interval. One would expect it to matter
# where trees differ in *when* they green, in the seasonal belts, and hardly at
# all among evergreens.
#
# </details>

# %% [markdown]
# ## Checks
#
# You will give this model to somebody else, or load it again next month. What
# is saved must answer like what was trained, and an answer must not depend on
# the batch that it came in.

# %%
with chain.making("model") as path:
    model.save_pretrained(path, card={"data": chain.provenance()})
again = CompactClip.from_pretrained(path)

# %%
np.testing.assert_array_equal(
    evaluation.predict(again, test, classes), probabilities)
alone = evaluation.predict(model, test, classes, batch_size=1000)
np.testing.assert_allclose(alone, probabilities, atol=1e-5)
assert best is None or top1["low"] <= evaluation.hits(
    best, test.labels).mean() + 0.02

# %% [markdown]
# ## What can go wrong
#
# You change the learning rate, start again, and the old checkpoint goes on as
# if nothing had happened: a week later nobody knows what was trained. So a
# checkpoint belongs to its settings. With others, it is refused.

# %%
try:
    training.fit(CompactClip(), parts["train"], parts["validation"],
                 settings=training.Settings(epochs=3, batch_size=64),
                 out=chain.folder() / "training", progress=False)
except ValueError as error:
    print(str(error).replace(str(chain.folder()), "…"))

# %% [markdown]
# ## Recap
#
# - Places and names meet in one space; a cosine compares them.
# - Every name that has a record is compared, not those of the batch alone.
# - The score stands beside the best score that is possible.
#
# Handed on: `model/`.
