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
# > **Before you start**
# >
# > *You will learn* how a contrastive model works, why two records of one
# > species must not repel each other, and how to train so that a crash costs
# > nothing.
# >
# > *You need* [chapter 04](04-benchmark), and some PyTorch.
# >
# > *Cost:* about a minute on two CPU cores; at full size, GPU hours.

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    get_ipython().run_line_magic("pip", f"install -q {source}")

# %%
import numpy as np
import torch
import torch.nn.functional as F
from geotree import chain, evaluation, plots, training
from geotree.models.compact import CompactClip, CompactConfig
from geotree.training.processes import World

plots.style(chain.stamp())
run = chain.settings()

# %%
parts = chain.parts()
classes = parts["train"].classes
print(chain.provenance())

# %% [markdown]
# ## Two encoders, one space
#
# One encoder turns a year of pixels and 27 variables into a vector of
# length one. Another turns a name into such a vector. Their cosine says how
# well the name fits the place; the idea is that of CLIP
# {cite}`radford2021clip`. The loss of a batch: each image should find its
# own text. By hand, on four toy pairs, then with the library.

# %%
torch.manual_seed(0)
image = F.normalize(torch.randn(4, 8), dim=-1)  # (B, D)
text = F.normalize(torch.randn(4, 8), dim=-1)
logits = 10 * image @ text.T  # (B, B)

# %%
target = torch.arange(4)
by_hand = (F.cross_entropy(logits, target)
           + F.cross_entropy(logits.T, target)) / 2
library = training.contrastive_loss(image, text, logit_scale=10.0)
torch.testing.assert_close(by_hand, library)

# %% [markdown]
# ## Two oaks in one batch
#
# Suppose the first two pairs are one species, so that their texts are
# equal. Each image is then asked to prefer its own copy of the same text,
# which it cannot. With labels, both copies count as matches. Does that
# change what the model learns?

# %%
twins = text.clone()
twins[1] = twins[0]
labels = torch.tensor([0, 0, 2, 3])
losses, gradients = [], []

# %%
for known in (None, labels):
    x = image.clone().requires_grad_()
    loss = training.contrastive_loss(x, twins, logit_scale=10.0,
                                     labels=known)
    loss.backward()
    losses.append(loss.item())
    gradients.append(x.grad)

# %%
torch.testing.assert_close(*gradients)
floor = training.contrastive_loss(twins, twins, logit_scale=30.0)
print(f"loss blind {losses[0]:.3f}, with labels {losses[1]:.3f}; "
      f"floor of perfect features {floor:.3f}")

# %% [markdown]
# For texts that are exactly equal the gradient is the same: the copies
# cancel. What remains is a floor that depends on who shares the batch, so
# the loss of one batch cannot be held against that of another. We compare
# each image with *all* species of the class table instead: no floor, no
# dependence on the batch.

# %% [markdown]
# ## What the model reads
#
# Twelve month tokens and four tokens for location, terrain, soil and
# climate. A missing month is not attended to. Each month carries a code, so
# that the order of months matters.

# %%
tiny = CompactClip(CompactConfig(width=32, depth=1))
batch = next(parts["train"].batches(4))
tokens = tiny.eval().tokens(batch.images, batch.environment)
tuple(tokens.values.shape), tokens.present.int()[0].tolist()

# %%
with torch.no_grad():
    once = tiny.encode_images(batch.images, batch.environment)
    mixed = tiny.encode_images(batch.images[:, ::-1].copy(),
                               batch.environment)
assert not torch.allclose(once, mixed)  # December first is another year

# %% [markdown]
# ## Training
#
# AdamW with warm-up and a cosine, gradients clipped, the best epoch kept.
# After each epoch a checkpoint is written; a run that was killed goes on
# where it stopped, equal to the bit.

# %%
model = CompactClip(seed=run.seed)
count = sum(p.numel() for p in model.parameters())
print(f"{count / 1e6:.1f} million parameters, "
      f"{len(parts['train']):,} training samples, {len(classes)} classes")

# %%
history = training.fit(
    model, parts["train"], parts["validation"],
    settings=training.Settings(epochs=run.epochs, seed=run.seed),
    out=chain.folder() / "training")
shown = ["epoch", "loss", "validation_loss", "validation_top1"]
history[shown].tail(3).round(3)

# %% [markdown]
# ## Several processes, the same gradient
#
# More processes must not change what is learnt, only how long it takes.
# (Months and variables are hidden at random in each process by itself, so
# two curves agree to the bit only where nothing is hidden.)
# Every process walks through the same batches and keeps its own rows; the
# gradients are averaged, each with the share of the rows that it saw. On
# seven rows and three processes:

# %%
rows = next(parts["train"].batches(7))
worlds = [World(rank, 3) for rank in range(3)]
taken = [world.mine(rows).ids for world in worlds]
assert sorted(np.concatenate(taken)) == sorted(rows.ids)
[(len(ids), round(world.share(rows), 2))
 for ids, world in zip(taken, worlds, strict=True)]

# %% [markdown]
# The mean of the gradients, each times its share, is the gradient of the
# whole batch. This chapter is the script that one starts on many GPUs, or
# from a notebook:
#
# ```bash
# torchrun --nproc-per-node=4 notebooks/05-train.py
# ```
#
# ```python
# from accelerate import notebook_launcher
# notebook_launcher(train_function, num_processes=4)
# ```
#
# A checkpoint goes on with another number of processes. When one process
# dies, the others stop and say which epoch is kept.

# %% [markdown]
# ## How good could it be?
#
# Of the simulated planet, the best possible answer is known: the posterior
# of the process that made it. No model can beat it beyond chance.

# %%
held = parts["validation"].load()
best = chain.optimum(held, classes)
limit = None if best is None else evaluation.hits(best, held.labels).mean()
print("no optimum is known for real occurrences" if limit is None
      else f"Bayes optimum of the validation samples: {limit:.1%} top-1")

# %% mystnb={"image": {"alt": "Loss of training and validation by epoch, and validation top-1 approaching the Bayes optimum."}}
plots.history(history, optimum=limit);

# %% [markdown]
# ## Test samples, looked at once
#
# The test samples lie in blocks of the globe that training did not see.

# %%
test = parts["test"].load()
probabilities = evaluation.predict(model, test, classes)
blocks = evaluation.spatial_blocks(parts["test"].table)
scores = evaluation.score(probabilities, test.labels, classes,
                          blocks=blocks)
scores.pivot(index="rank", columns="metric", values="value").round(3)

# %%
top1 = scores.query("rank == 'species' and metric == 'top1'").iloc[0]
text = f"{top1['value']:.1%} ({top1['low']:.1%} – {top1['high']:.1%})"
best = chain.optimum(test, classes)

# %%
if best is not None:
    share = top1["value"] / evaluation.hits(best, test.labels).mean()
    text += f", {share:.0%} of the Bayes optimum"
print("species top-1 on test:", text)

# %% [markdown]
# ## Checks

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
# A checkpoint belongs to its settings. With others, it is refused.

# %%
try:
    training.fit(CompactClip(), parts["train"], parts["validation"],
                 settings=training.Settings(epochs=3, batch_size=64),
                 out=chain.folder() / "training", progress=False)
except ValueError as error:
    print(str(error).replace(str(chain.folder()), "…"))

# %% [markdown]
# > **Exercise**
# >
# > Take away the month code (`CompactConfig(month_code=False)`) and train
# > again into another folder. What does it cost, and where?
#
# <details><summary>Solution</summary>
#
# ```python
# blind = CompactClip(CompactConfig(month_code=False))
# training.fit(blind, parts["train"], parts["validation"],
#              settings=training.Settings(epochs=run.epochs),
#              out=chain.folder() / "no-months")
# print(evaluation.compare(
#     probabilities, evaluation.predict(blind, test, classes),
#     test.labels, blocks=blocks))
# ```
#
# </details>
#
# ## Recap
#
# - Places and names meet in one space; a cosine compares them.
# - All species are compared at once, so no batch mate is a false opposite.
# - The score stands beside the best score that is possible.
#
# Handed on: `model/`.
