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
# # I come from GlobalGeoTree: what works here?
#
# **In:** `cube.zarr`. **Out:** a shard and a checkpoint in the form of the
# release, written, read and scored.
#
# This chapter is for you if you have worked with GlobalGeoTree: if you have
# its shards on a disk, its checkpoint in a folder, or a script that imports
# `GGTDataset`. You want to know what goes on working, and whether your numbers
# will stay the same. If you come without any of that, go on to [chapter
# 10](10-explore); nothing later needs this page.
#
# > **Before you start**
# >
# > *You will learn* how the release's files, model and README work here, and
# > what its model computes, step by step.
# >
# > *You need* [chapter 03](03-shards).
# >
# > *Cost:* half a minute on two CPU cores. With the published checkpoint: 1.8
# > GB of disk and a network.

# %% tags=["hide-cell"]
# On Colab only: install the module. Does nothing elsewhere.
import importlib.util
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/geotree-book/geotree@v0.1.0"
    package = f"'geotree[release] @ {source}'"
    get_ipython().run_line_magic("pip", f"install -q {package}")
    importlib.invalidate_caches()
    if importlib.util.find_spec("geotree") is None:
        sys.exit("geotree was not installed, see above. Without a network, "
                 "set `source` in this cell to a wheel that you have: "
                 "file:///content/geotree-0.1.0-py3-none-any.whl")

# %%
import json
import tarfile

import numpy as np
import pandas as pd
import torch
from geotree import GGTDataset, GeoTreeClip
from geotree import chain, occurrences, shards, taxonomy, training
from geotree.release import checkpoint, towers
from geotree.release.towers import ReleaseConfig

table, cube = chain.occurrences(), chain.cube()

# %%
out = chain.folder() / "release"
samples = 300  # of the cube
small = ReleaseConfig(vision_width=64, vision_depth=2, vision_heads=4,
                      text_width=64, text_depth=2, text_heads=4,
                      hidden=32, vocabulary=2000)
print(chain.provenance())

# %% [markdown]
# ## What is published
#
# GlobalGeoTree {cite}`mu2026globalgeotree` pairs 6.3 million occurrences with
# satellite composites. It is published in three forms: tables, shards and a
# checkpoint. To have all three on any machine, this page writes them itself,
# in the same form and at a small size, from the records of chapter 01 and the
# cube of chapter 02, which `chain` opens. What you see here for a few hundred
# samples holds for your millions: the code is the same, only the paths
# differ.
#
# The tables are CSV files with column names of their own. Why translate them
# at all? Because other tools do not know these names, while those of Darwin
# Core mean the same wherever occurrences are read. Both directions are one
# call.

# %%
path = occurrences.write_release(table.head(3), out / "table.csv")
print(*path.read_text("utf-8").splitlines()[:2], sep="\n")

# %%
back = occurrences.read_release(path)
assert (back["species"] == table["species"].head(3)).all()

# %% [markdown]
# Two lines of the file are shown: `level0` is what we call the leaf type, and
# `Category` the rarity. Read back, the same rows carry the names of Darwin
# Core, which the rest of this book uses, and no species got lost on the way.
#
# The second form are the shards. A shard is a tar file with many samples, and
# a sample is three small files: pixels as a PyTorch tensor of 64-bit numbers,
# the four names, and the 27 variables with `null` where one is missing.

# %%
some = cube.isel(sample=slice(0, samples))
release = shards.write(some, table, out / "shards", layout="release")

# %% [markdown]
# Before you trust a format, open one file of it by hand. Here are the three
# members of the first sample with their sizes, and what the text holds:

# %%
with tarfile.open(release.files[0].path) as tar:
    for member in tar.getmembers()[:3]:
        print(f"{member.name:32} {member.size:>7,} bytes")
    text, auxiliary = (tar.extractfile(member).read()
                       for member in tar.getmembers()[1:3])
json.loads(text)

# %% [markdown]
# Nearly all bytes are pixels. They were measured as whole numbers of 16 bits,
# so three quarters of each 64-bit number say nothing; [chapter 03](03-shards)
# is about that.
#
# ## The loader
#
# Does your training script still run? It most likely begins with `GGTDataset`.
# Ours takes the release's arguments and yields its five parts: images, text,
# auxiliary data, and for both kinds of data a mask of what is there. Out of
# the box it reads every sample once, in order, and then ends. That last part
# is new: the loader of the release goes on for ever if it is not told where to
# stop, and a `for` loop over it never reaches its next line.

# %%
test_dataset = GGTDataset(release.files[0].path, batch_size=32)
test_loader = test_dataset.get_dataloader()
images, text_data, auxiliary_data, image_mask, aux_mask = next(
    iter(test_loader))
images.shape, image_mask.shape, aux_mask.shape

# %% [markdown]
# The first shape is (samples, months, bands, rows, columns). The masks say for
# each sample which of its months, and which of its variables, are there. The
# text is what the model will read, rank by rank; of the 27 variables, two are
# shown:

# %%
print(text_data[0])
print({name: auxiliary_data[0][name] for name in ("longitude", "bio01")})

# %% [markdown]
# A longitude in degrees, and a mean temperature in tenths of a degree, as
# WorldClim once published it: units are those of the release, unchanged.
#
# Is anything lost on the way? Many loaders drop a last batch that is not full.
# In training that hardly matters; in a test it means that the score depends on
# the batch size. So count:

# %%
seen = [row["sample_id"] for batch in test_loader for row in batch[2]]
assert seen == release.load().ids.tolist()
len(test_loader), len(seen)

# %% [markdown]
# The first number counts batches, the second the samples in them, and the
# assertion says which: all of the shard, each once, in the order of the file.

# %% [markdown]
# ## The hub, without a disk
#
# What if the data do not fit on your disk? The release's README recommends to
# train on tars that stay on the Hugging Face hub: 190 GB need no place then.
# Each is read while it arrives, in one pass. This book asks no network, so a
# small hub on this machine stands in for the real one, and notes how many
# bytes it sends. How it does so is folded away; you will not need it.

# %% tags=["hide-cell"]
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from geotree.release import conversion

tar = release.files[0].path
name, sent = f"GlobalGeoTree-6M/{tar.name}", []  # bytes of each answer
file = {"type": "file", "oid": "0" * 40, "path": name, "rfilename": name,
        "size": tar.stat().st_size}


class Hub(BaseHTTPRequestHandler):
    """Answers with the tar, or says that there is one."""

    def do_GET(self):
        body = (tar.read_bytes() if self.path.endswith(tar.name) else
                json.dumps([file] if "/tree/" in self.path else {
                    "id": "me/trees", "sha": "0" * 40,
                    "siblings": [file]}).encode())
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        sent.append(len(body))


# %% [markdown]
# The address is the one that the website shows for a folder; for the real
# hub `hf://datasets/yann111/GlobalGeoTree/GlobalGeoTree-6M` is enough.

# %%
Hub.log_message = lambda *words: None
server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = (f"http://127.0.0.1:{server.server_port}/datasets/me/trees/"
           "tree/main/GlobalGeoTree-6M")

# %%
streamed = GGTDataset(address, batch_size=32, shuffle=100)
came = [row["sample_id"] for batch in streamed.get_dataloader()
        for row in batch[2]]
assert sorted(came) == sorted(seen)
print(f"{len(sent)} requests, {sum(sent):,} bytes: "
      f"{sum(sent) / len(came):,.0f} a sample, and none on disk")

# %% [markdown]
# All samples came, in a shuffled order, and each byte once. A stream cannot be
# shuffled as a whole, for its end has not arrived yet: `shuffle=100` holds a
# hundred samples and hands them out in turn, at random. Who trains for
# many epochs reads every byte in each of them, though, so to convert the
# shards while they arrive pays from the second epoch on. That is a matter of
# the line, not of taste: a line that fills a disk in a day would be busy for a
# month with thirty epochs. A conversion that breaks off goes on with the tars
# that are left.

# %%
sent.clear()
packed = conversion.convert(address, out / "from-the-hub", workers=1,
                            progress=False)
kept = sum(one.path.stat().st_size for one in packed.files)
assert kept < sum(sent)  # 16 bits instead of 64
server.shutdown()
print(f"{len(sent)} more requests, {sum(sent):,} bytes came; kept: "
      f"{kept:,} bytes, {kept / len(packed):,.0f} a sample")

# %% [markdown]
# The same bytes had to come once more, since nothing had been kept of the
# first reading. What is kept now is smaller than what came, and from here on
# nothing comes from the hub at all.

# %% [markdown]
# ## The model
#
# You have the weights, and a paper with a diagram. What is inside? The
# published model is a CLIP with two more encoders, one for the year of pixels
# and one for the variables. `GeoTreeClip()` is built from a configuration,
# without a download. To count its parameters takes no memory either: PyTorch's
# `meta` device has shapes only.

# %%
with torch.device("meta"):
    whole = GeoTreeClip()
sizes = pd.Series({name: sum(p.numel() for p in part.parameters()) / 1e6
                   for name, part in whole.named_children()},
                  name="million parameters")
clip = sizes[["temporal_extractor", "text_encoder"]].sum() / sizes.sum()
print(f"{sizes.sum():.1f} million parameters, {clip:.1%} of them in the two "
      "large towers of CLIP")
sizes.round(2).to_frame()

# %% [markdown]
# Why look at where the parameters sit? Because it tells how much has to be
# learnt from trees. Nearly all of the model is built like CLIP. But only the
# text tower also *starts* from CLIP's weights, which have read captions of the
# web; the tower of pixels and the small parts have to learn from trees all
# that they know.
#
# This page uses a small model of the same build, with random weights, and a
# *vocabulary* trained on our names: the list of pieces into which the text
# encoder cuts words. It has learnt nothing yet, so its answers are worthless;
# but *how* it computes them is what the large one does, and that is what we
# look at. The text that it reads for a species is this:

# %%
prompts = taxonomy.prompts(release.classes)
vocabulary = towers.train_tokens(prompts, out / "tokens",
                                 size=small.vocabulary)
torch.manual_seed(0)
model = GeoTreeClip(small, tokenizer=vocabulary, normalization="batch")
model.eval()
prompts[0]

# %% [markdown]
# ## Its checkpoint
#
# Your checkpoint has cost you days on a GPU. Will it load? A checkpoint of the
# release is a dictionary with the weights under `model_state_dict`. We write
# one, and read it as the release's README does.

# %%
path = model.to_release(out / "GGT_small.pth")
state = torch.load(path, map_location="cpu", weights_only=True)
print(*state)
model.load_state_dict(state["model_state_dict"])

# %% [markdown]
# Five entries; all but the weights are for going on with the training.
# `weights_only=True` tells PyTorch to read numbers and to refuse anything that
# would run. Its message says that no weight is missing and none is left over.
# The same in one line, from such a file, from a folder of ours, or from the
# hub:

# %%
model = GeoTreeClip.from_pretrained(path, config=small,
                                    tokenizer=vocabulary,
                                    normalization="batch")

# %% [markdown]
# Parameter names differ between generations of the library that CLIP comes
# from. That sounds like a trifle. But a weight that is not found by its name
# is not loaded, and a tolerant loader would leave that layer random without a
# word. So both kinds of names are understood, and a name that is neither is an
# error.

# %%
old = checkpoint.release_names(model.temporal_extractor.state_dict(
    prefix="temporal_extractor."))
name = next(name for name in old if "layers.0" in name)
print(name, *checkpoint.our_names({name: old[name]}), sep="\n")

# %% [markdown]
# One weight, two names: the first is that of the release's file, the second
# what the same layer is called in the library that is installed here.

# %% [markdown]
# > **Exercise 1** (easy)
# >
# > Take one tensor out of `state["model_state_dict"]`, save it as a `.pth` and
# > load it with `from_pretrained`. What does the error tell?
#
# <details><summary>Solution</summary>
#
# ```python
# less = torch.load(path, map_location="cpu", weights_only=True)
# less["model_state_dict"].pop("fusion.0.bias")
# torch.save(less, out / "less.pth")
# try:
#     GeoTreeClip.from_pretrained(out / "less.pth", config=small)
# except ValueError as error:
#     print(str(error).replace(str(out), "…"))
# else:
#     raise AssertionError("it should have been refused")
# ```
#
# It names the file and lists what is missing, left over or of another shape.
# PyTorch's `load_state_dict(strict=False)` would have gone on with a random
# bias, and you would have published its scores.
#
# </details>

# %% [markdown]
# ## The example of the README
#
# Perhaps your own script grew from the example in the release's README. It
# scores images against names. Text features come first, once for all names: a
# thousand names do not change from batch to batch.

# %%
text_queries = [
    {"level0": row.leafType, "level1_family": row.family,
     "level2_genus": row.genus, "level3_species": row.species}
    for row in release.classes.itertuples()]

# %%
with torch.no_grad():
    text_features = model.text_encoder(text_queries)
    text_features = text_features / text_features.norm(dim=-1, keepdim=True)
text_features.shape

# %% [markdown]
# A row for each name, of length one. Then images, batch by batch, and the
# cosine of the two times 100, which a softmax turns into probabilities. Why
# 100? Cosines lie between −1 and 1, and without a large factor a softmax would
# give all names nearly the same share.


# %%
def score(model, loader):
    """The loop of the README: probabilities of each name."""
    for images, text_data, auxiliary_data, image_mask, aux_mask in loader:
        combined_features, _ = model(images, text_data, auxiliary_data,
                                     image_mask, aux_mask)
        combined_features = combined_features / combined_features.norm(
            dim=-1, keepdim=True)
        logits = 100.0 * combined_features @ text_features.T
        yield logits.softmax(dim=-1)  # (B, K)


with torch.no_grad():
    predictions = torch.cat(list(score(model, test_loader)))
predictions.shape

# %% [markdown]
# One row for each sample, one column for each name, and each row sums to one.
# With random weights the numbers mean nothing yet; their shape and order are
# those that the large model gives.

# %% [markdown]
# ## What it computes, and what that means
#
# Here comes the part that you have to know before you compare any number. A
# network wants its inputs in one range, be they metres or degrees. So before
# the encoders see them, values are scaled to −1 … 1, and the question is by
# which bounds. The release takes the lowest and highest *of the batch*. That
# needs no constants, and in training, with large and shuffled batches, the
# bounds hardly move; the trouble begins when somebody asks about one place. By
# hand, for the variables:

# %%
from geotree.release import published

values, valid = published.auxiliary(auxiliary_data, aux_mask, "cpu")
low, high = published.variable_range(values, valid)
by_hand = torch.where(valid, 2 * (values - low) / (high - low + 1e-6) - 1, 0)
torch.testing.assert_close(published.scaled(values, valid, low, high), by_hand)
one = values[:1], valid[:1]  # a batch of one
assert (published.scaled(*one, *published.variable_range(*one))[one[1]] == -1
        ).all()

# %% [markdown]
# The two agree. And with a single sample, lowest and highest are the same:
# *every* variable that is there becomes −1, and the model is told nothing at
# all about the climate of the place. So the answer for a sample depends on its
# company: one sample from a high mountain in the batch, and all others look
# lower. Does that change a name, or only a decimal? The same samples, in
# batches of 32 and alone:

# %%
alone = GGTDataset(release.files[0].path, batch_size=1).get_dataloader()
with torch.no_grad():
    single = torch.cat(list(score(model, alone)))
changed = (single.argmax(1) != predictions.argmax(1)).float().mean()
print(f"another species for {changed:.0%} of {len(single)} samples")

# %% [markdown]
# Nothing was changed about these samples but who stood beside them. The share
# is that of random weights, and to be alone is the extreme case; a trained
# model has another. But no test that shuffles its samples can be repeated with
# such a model, and no single place can be asked about. Constants put an end to
# it. They are worked out once, from data, and are saved with the weights. Now
# the two ways of asking agree:

# %%
model.fit_normalisation(release.load())
model.normalization = "fixed"
with torch.no_grad():
    fixed = [torch.cat(list(score(model, loader)))
             for loader in (test_loader, alone)]
torch.testing.assert_close(*fixed, atol=1e-5, rtol=1e-4)

# %% [markdown]
# From here on a score can be repeated by somebody with another batch size. If
# you must compare with a number of the release, do it with
# `normalization="batch"`, its batch size and its order, and say so.
#
# A second surprise, and a quieter one. The attention over months has no code
# for the month, so it sees twelve images in a bag. December to January gives
# what January to December gave:

# %%
batch = release.select(range(64)).load()
with torch.no_grad():
    forth, back = (model.encode_images(x, batch.environment)
                   for x in (batch.images, batch.images[:, ::-1]))
print(f"largest difference {(forth - back).abs().max():.1e}")

# %% [markdown]
# A difference as small as that is rounding. To such a model autumn is a spring
# that was dealt in another order, and the curve by which [chapter
# 02](02-download) explains why a year is worth fetching is out of its reach.

# %% [markdown]
# > **Exercise 2** (medium)
# >
# > The order of months does not matter. Does it matter which month is missing?
# > Hide January, then July, and compare the features.
#
# <details><summary>Solution</summary>
#
# ```python
# from geotree.variables import NODATA
#
# features = []
# for month in (0, 6):
#     hidden = batch.images.copy()
#     hidden[:, month] = NODATA
#     with torch.no_grad():
#         features.append(model.encode_images(hidden, batch.environment))
# change = (features[0] - features[1]).abs().max()
# print(f"largest difference {change:.1e}")
# assert change > 1e-4  # far more than rounding
# ```
#
# It matters, but only through what the month held: without January the bag
# lacks the snow, without July the green. The model can tell that a green month
# is there, not when it was. A tree that greens in May and one that greens in
# October look alike to it.
#
# </details>

# %% [markdown]
# > **Exercise 3** (hard)
# >
# > How much does the company change? Score the first sample in batches of
# > growing size, with the scaling of the release, and watch the probability of
# > its first answer.
#
# <details><summary>Solution</summary>
#
# ```python
# model.normalization = "batch"
# first = release.load()
# odds = []
# with torch.no_grad():
#     for size in (1, 4, 32, 256):
#         some_images = model.encode_images(first.images[:size],
#                                           first.environment[:size])
#         one = some_images[0] / some_images[0].norm()
#         odds.append((100 * one @ text_features.T).softmax(0))
# best = int(odds[0].argmax())
# print([f"{float(one[best]):.2f}" for one in odds])
# model.normalization = "fixed"
# ```
#
# The sample is the same, only its neighbours change. With one sample the
# lowest and the highest value are its own; with more, the scale settles
# slowly. So a score of such a model comes with a batch size, or it means
# nothing.
#
# </details>

# %% [markdown]
# ## Its recipe
#
# Why keep a recipe that has known faults? Because two numbers can be compared
# only if they were made alike, and yours may have to stand beside one from
# the paper. `recipe="release"` trains as the release did. It
# starts from CLIP's text weights (`model.load_text_tower()`, from the hub; not
# here), and three parts are not handed to its optimiser, the code that turns
# the weights: they stay as random as they were born. Nothing in a loss curve
# shows that. To see it, train one epoch by each recipe and look which weights
# have moved.

# %%
settings = training.Settings(**training.RELEASE | {
    "epochs": 1, "batch_size": 64, "learning_rate": 1e-3})
cut = len(release) * 3 // 4
train, validation = (release.select(range(*part)) for part in
                     ((0, cut), (cut, len(release))))


# %%
def moved(settings, out):
    """Whether each part of a fresh model changes in training."""
    torch.manual_seed(0)
    model = GeoTreeClip(small, tokenizer=vocabulary)
    before = {name: p.clone() for name, p in model.named_parameters()}
    training.fit(model, train, validation, settings=settings, out=out,
                 resume=False, progress=False)
    return {name.split(".")[0] for name, p in model.named_parameters()
            if not torch.equal(p, before[name])}


# %% [markdown]
# A part has moved if any of its weights is different after the epoch.

# %%
released = moved(settings, out / "recipe-release")
mended = moved(training.Settings(epochs=1, batch_size=64),
               out / "recipe-mended")
print("moved by both:    ", *sorted(released & mended))
print("by mended only:   ", *sorted(mended - released))

# %% [markdown]
# The second line is what the release leaves as it was born: three parts that
# stay random, and the factor of the scores (`logit_scale`), which it sets once
# and for all. A fault need not cost accuracy, since the other layers learn
# around it; what each one costs is measured on [the page of
# changes](../book/changes).

# %% [markdown]
# ## The real files
#
# With a network, the same calls run on what is published. What lies in your
# cache of the Hugging Face hub is found there; what is fetched is checked by
# size and hash, and a transfer that breaks goes on where it stopped. The cell
# is not run here, for this book asks no network.
#
# ```python
# from geotree import GeoTreeClip, GGTDataset
# from geotree.release import hub
#
# model = GeoTreeClip.from_pretrained("yann111/GlobalGeoTree")
# tars = hub.shards("GlobalGeoTree-10kEval")   # paths in the repository
# loader = GGTDataset(hub.fetch(tars[0]), batch_size=512).get_dataloader()
# stream = GGTDataset("hf://datasets/yann111/GlobalGeoTree/GlobalGeoTree-6M",
#                     resampled=True, shuffle=1000).get_dataloader()
# ```
#
# `HF_ENDPOINT` names a mirror, `HF_HUB_CACHE` the folder,
# `HF_HUB_OFFLINE=1` keeps to what is there. Check the licence before you
# pass anything on: README and data card have said different things.

# %% [markdown]
# ## Checks
#
# If you convert your shards, you want to be sure that nothing was lost on the
# way. The tar in the release's form, and what was converted from it while it
# came from the hub, hold the same numbers, bit by bit.

# %%
one, other = release.load(), packed.load()
order = np.argsort(one.ids), np.argsort(other.ids)
assert all(np.array_equal(a[order[0]], b[order[1]], equal_nan=True)
           for a, b in zip(one[:2], other[:2], strict=True))

# %% [markdown]
# The large model has as many weights, by name, as the release's file. The
# three parts that its optimiser forgets are among those that ours trains.

# %%
assert len(checkpoint.release_names(whole.state_dict())) == 433 + 3
assert mended - released >= {"fusion", "image_projection", "aux_projection"}
assert torch.isfinite(predictions).all()

# %% [markdown]
# ## What can go wrong
#
# A `.pth` file is a *pickle*, Python's way to store objects, and a pickle can
# run code while it is read. Whoever sends you a checkpoint could delete your
# home folder. We read tensors and nothing else: a file that wants more is
# refused. Here is one that would create a file on your disk, safely sprung:

# %%
import io
import pickle

from geotree.shards import records


class Trap:
    """Unpickling this would create a file."""

    def __reduce__(self):
        return io.open, (str(out / "trapped"), "w")

# %%
trap = pickle.dumps(Trap(), protocol=2)
(out / "trap.pth").write_bytes(trap)
with tarfile.open(out / "trap.tar", "w") as tar:
    for name, content in (("1.images.pth", trap), ("1.text.json", text),
                          ("1.auxiliary.json", auxiliary)):
        records.add(tar, name, content)

# %% [markdown]
# The trap lies in a checkpoint and in a shard. Both are opened as a user would
# open them, and the last line checks that nothing was created.

# %%
for read in (lambda: next(iter(GGTDataset(out / "trap.tar")
                               .get_dataloader())),
             lambda: GeoTreeClip.from_pretrained(out / "trap.pth")):
    try:
        read()
    except ValueError as error:
        print(str(error).replace(str(out), "…"))
assert not (out / "trapped").exists()

# %% [markdown]
# Both were refused before anything ran. The messages name the file, and what
# in it is no tensor. A file that you made yourself and that is refused is most
# likely one that holds more than tensors, such as a whole Python object; save
# the `state_dict` of your model instead.

# %% [markdown]
# ## Recap
#
# - Tables, shards, checkpoint and README example of the release work here.
# - Its answers depend on the batch until constants are fitted, and never on
#   the order of the months.
# - No pickle is executed, whatever a file says.
# - [Your script, line by line](../book/from-the-release) says what each name
#   of its scripts is here, and [what changed since the release](
#   ../book/changes) lists every fault.
#
# Handed on: nothing that a later chapter needs; the folder `release/` keeps
# the table, the shards and the checkpoint that were written here.
