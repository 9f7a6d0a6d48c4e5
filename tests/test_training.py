"""Training: learns what is there, resumes to the bit, refuses what is not."""

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from killing import Run
from torch.utils._python_dispatch import TorchDispatchMode

from geotree import evaluation, files, pixels, shards, taxonomy, training
from geotree.evaluation import calibration
from geotree.models.compact import CompactClip, CompactConfig
from geotree.planet.source import Planet
from geotree.shards import memory
from geotree.training import checkpoints, loop, losses

# Nothing hidden, nothing turned.
PLAIN = {"flips": False, "pixel_dropout": 0.0, "month_dropout": 0.0,
         "group_dropout": 0.0, "location_dropout": 0.0}
SMALL = CompactConfig(width=32, depth=1, heads=2, embedding=32, buckets=512)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Shards of a small planet table: 900 samples."""
    folder = tmp_path_factory.mktemp("planet")
    planet = Planet()
    table = planet.occurrences(900)
    cube = pixels.download(table, planet, folder / "cube.zarr",
                           progress=False)
    shards.write(cube, table, folder / "shards", pack=64, progress=False)
    return shards.open(folder / "shards")


@pytest.fixture(scope="module")
def halves(data):
    first = np.arange(len(data)) < 700
    return data.select(first), data.select(~first)


def fit(halves, out, *, epochs=3, seed=0, config=SMALL, **options):
    torch.manual_seed(seed)
    model = CompactClip(config)
    history = training.fit(
        model, *halves, out=out, progress=False, **options,
        settings=training.Settings(epochs=epochs, batch_size=128, seed=seed))
    return model, history


@pytest.fixture(scope="module")
def trained(halves, tmp_path_factory):
    """A model and its history."""
    return fit(halves, tmp_path_factory.mktemp("run"), epochs=12)


def weights(model):
    return torch.cat([p.detach().ravel() for p in model.parameters()])


def test_contrastive_loss_by_hand():
    image = F.normalize(torch.tensor([[1.0, 2, 3], [3, 1, 0]]), dim=-1)
    text = F.normalize(torch.tensor([[1.0, 2, 2], [2, 0, 1]]), dim=-1)
    logits = 10 * image @ text.T
    expected = 0.0
    for i in range(2):
        expected -= (logits[i, i] - logits[i].logsumexp(0)) / 4
        expected -= (logits[i, i] - logits[:, i].logsumexp(0)) / 4
    torch.testing.assert_close(
        training.contrastive_loss(image, text, logit_scale=10.0), expected)


def test_rank_loss_by_hand():
    logits = torch.log(torch.tensor([[0.4, 0.3, 0.3]]))
    loss = training.class_loss(logits, torch.tensor([1]),
                               [(2.0, torch.tensor([0, 1, 1]))])
    expected = -np.log(0.3) - 2.0 * np.log(0.6)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_drawn_names_stand_for_all():
    """All drawn, the loss is that of all; few, the sum is right on average.
    """
    classes = many_names(60)
    labels, logits = torch.tensor([3, 40, 3]), torch.randn(3, 60)
    whole = losses.choose(classes, training.Settings(
        rank_weight=0.3, negatives=6), [7, 7, 9, 9, 3, 3, 3, 1])
    groups, often = whole.ranks, whole.often
    assert often.tolist() == [3, 7, 9]
    assert [weight for weight, _ in groups] == [0.3, 0.3]

    def drawn(n):
        choice, place = losses.draw(whole, labels, n)
        rows = torch.tensor(choice.classes.index.tolist())
        assert (rows[place] == labels).all() and len(rows.unique()) == 1 + n
        assert set(often.tolist()) <= set(rows.tolist())
        return logits[:, rows], place, choice

    some, place, choice = drawn(59)
    torch.testing.assert_close(
        training.class_loss(some, place, choice.ranks, smoothing=0.1,
                            counts=choice.counts),
        training.class_loss(logits, labels, groups, smoothing=0.1))
    torch.manual_seed(0)
    sums = torch.stack([(some + choice.counts.log()).exp().sum(dim=1)
                        for some, _, choice in (drawn(9)
                                                for _ in range(4000))])
    spread = sums.std(dim=0) / 4000 ** 0.5
    assert ((sums.mean(dim=0) - logits.exp().sum(dim=1)).abs()
            < 4 * spread).all()


def many_names(k):
    return pd.DataFrame({
        "species": [f"Genus{i // 6} epithet{i}" for i in range(k)],
        "genus": [f"Genus{i // 6}" for i in range(k)],
        "family": "Fagaceae", "leafType": "Deciduous Broadleaf"})


def test_some_names_a_step_learn_as_all(halves, tmp_path):
    """Equal but for chance, and only the names of a step are encoded."""
    sizes, worth = [], {}

    class Counting(CompactClip):
        def encode_taxa(self, classes):
            if self.training:
                sizes.append(len(classes))
            return super().encode_taxa(classes)

    for count in (None, 10):
        sizes.clear()
        history = training.fit(
            Counting(SMALL, seed=0), *halves, progress=False,
            settings=training.Settings(epochs=10, batch_size=32,
                                       negatives=count))
        worth[count] = history["validation_loss"].min()
        assert max(sizes) <= (32 + 10 if count else len(halves[0].classes))
    assert worth[10] == pytest.approx(worth[None], rel=0.1)
    k = training.Settings().filled(10 ** 6, 21_001, drop_last=False)[0]
    assert k.negatives == 1024


def test_few_samples_need_neither_validation_nor_folder(halves):
    model, few = CompactClip(SMALL, seed=0), halves[0].select(range(60))
    history = training.fit(model, few, progress=False,
                           settings=training.Settings(epochs=3))
    assert list(history["epoch"]) == [0, 1, 2]
    assert {*model.classes["species"]} == {*few.table["species"]}
    with pytest.raises(ValueError, match="need validation"):
        training.fit(model, few, settings=training.Settings(keep="top1"))


def test_a_few_samples_are_learnt_by_heart(data, tmp_path):
    few = data.select(np.arange(40))
    model = CompactClip(CompactConfig(
        **{**vars(SMALL), "rank_dropout": 0.0}), seed=1)
    training.fit(model, few, few, out=tmp_path, progress=False,
                 settings=training.Settings(epochs=150, batch_size=40,
                                            learning_rate=5e-3, **PLAIN))
    probabilities = evaluation.predict(model, few, few.classes)
    assert evaluation.hits(probabilities, few.load().labels).mean() > 0.9


def test_it_learns_but_beats_no_optimum(halves, trained):
    model, history = trained
    test = halves[1].load()
    probabilities = evaluation.predict(model, test, halves[1].classes)
    top1 = evaluation.hits(probabilities, test.labels).mean()
    best = Planet().posterior(test.images, test.environment,
                              halves[1].classes)
    common = np.bincount(halves[0].load().labels).max() / 700
    assert top1 > common + 0.05
    assert top1 < evaluation.hits(best, test.labels).mean() + 0.05
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


def test_every_parameter_moves(halves, tmp_path):
    torch.manual_seed(0)
    model = CompactClip(SMALL)
    before = {name: p.detach().clone()
              for name, p in model.named_parameters()}
    training.fit(model, *halves, out=tmp_path, progress=False,
                 settings=training.Settings(epochs=1, batch_size=128))
    still = [name for name, p in model.named_parameters()
             if torch.equal(p, before[name])]
    assert not still


def test_resumed_equals_uninterrupted(halves, tmp_path, monkeypatch):
    whole, history = fit(halves, tmp_path / "whole")
    validate = loop.Run.validate

    def stop(run):
        if run.epoch == 1:
            raise KeyboardInterrupt
        validate(run)

    monkeypatch.setattr(loop.Run, "validate", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(halves, tmp_path / "parts")
    monkeypatch.undo()
    parts, again = fit(halves, tmp_path / "parts")
    assert torch.equal(weights(whole), weights(parts))
    columns = ["loss", "validation_loss", "step"]
    np.testing.assert_array_equal(history[columns], again[columns])


KILLED = """
import sys, torch
from geotree import shards, training
from geotree.models.compact import CompactClip, CompactConfig
torch.set_num_threads(1)
data = shards.open(sys.argv[1])
first = list(range(700))
torch.manual_seed(0)
model = CompactClip(CompactConfig(width=32, depth=1, heads=2, embedding=32,
                                  buckets=512))
training.fit(model, data.select(first), data.select(range(700, len(data))),
             out=sys.argv[2], progress=False,
             settings=training.Settings(epochs=15, batch_size=128))
torch.save(model.state_dict(), sys.argv[2] + "/final.pt")
"""


def test_killed_it_goes_on_to_the_same_weights(data, tmp_path):
    """A real process, really killed, between two checkpoints."""
    folder = data.files[0].path.parent
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    Run(KILLED, folder, whole).finish()
    process = Run(KILLED, folder, parts)
    log = parts / training.LOG
    for _ in range(2000):
        if log.exists() and len(log.read_text().splitlines()) >= 3:
            break
        time.sleep(0.02)
    process.kill()
    assert not (parts / "final.pt").exists()
    assert (parts / training.CHECKPOINT).exists()
    Run(KILLED, folder, parts).finish()
    one, other = (torch.load(folder / "final.pt", weights_only=True)
                  for folder in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_checkpoint_of_another_run_is_refused(halves, tmp_path):
    fit(halves, tmp_path, epochs=1)
    with pytest.raises(ValueError, match="seed is 0 there and 1 here"):
        fit(halves, tmp_path, epochs=1, seed=1)
    other = CompactConfig(**{**vars(SMALL), "width": 64})
    with pytest.raises(ValueError, match=r"config.width is 32 there"):
        fit(halves, tmp_path, epochs=1, config=other)
    _, history = fit(halves, tmp_path, epochs=2, resume=False)
    assert len(history) == 2
    with pytest.raises(ValueError, match="has done 2 epochs, and 1 are asked"
                       ".* or remove '.*checkpoint.pt' to start afresh"):
        fit(halves, tmp_path, epochs=1)
    (tmp_path / training.CHECKPOINT).unlink()
    assert len(fit(halves, tmp_path, epochs=1)[1]) == 1


def test_classes_must_agree(data, halves, tmp_path):
    planet = Planet()
    table = planet.occurrences(100, seed=5)
    cube = pixels.download(table, planet, tmp_path / "cube.zarr",
                           progress=False)
    other = shards.write(cube, table, tmp_path / "shards", progress=False)
    with pytest.raises(ValueError, match="class tables differ"):
        training.fit(CompactClip(SMALL), halves[0], other, out=tmp_path)


def test_nothing_to_train_on(halves, tmp_path):
    train, validation = halves
    with pytest.raises(ValueError, match="0 samples"):
        training.fit(CompactClip(SMALL), train.select([]), validation,
                     out=tmp_path)


def test_a_trained_model_knows_its_classes_and_doubts(halves, trained,
                                                      tmp_path):
    model, _ = trained
    again = CompactClip.from_pretrained(
        model.save_pretrained(tmp_path / "model"))
    seen = {*halves[0].table["species"], *halves[1].table["species"]}
    assert {*again.classes["species"]} == seen
    odds = evaluation.predict(again, halves[1], again.classes)
    labels = taxonomy.labels(halves[1].table, again.classes)
    soft = calibration.soften(odds, again.temperature)
    rows = np.arange(len(labels))
    assert (-np.log(soft[rows, labels]).mean()
            <= -np.log(odds[rows, labels]).mean() + 1e-6)
    for coverage, least in again.thresholds.items():
        held = (soft[rows, labels] >= least).mean()
        assert coverage <= held < coverage + 0.05


def test_fine_tuning_keeps_constants_and_extends_the_classes(halves,
                                                             tmp_path):
    """At a rate of nothing, nothing changes: not even the scale."""
    train, validation = halves
    names = sorted(train.table["species"].unique())
    known = train.table["species"].isin(names[::2]).to_numpy()
    first = train.select(known)
    torch.manual_seed(0)
    model = CompactClip(SMALL)
    training.fit(model, first, first, out=tmp_path / "a", progress=False,
                 settings=training.Settings(epochs=2))
    before, old = model.band_mean.clone(), list(model.classes["species"])
    odds = evaluation.predict(model, validation, validation.classes)
    training.fit(model, train.select(~known), validation, progress=False,
                 out=tmp_path / "b", settings=training.Settings(
                     epochs=1, learning_rate=1e-12))
    assert torch.equal(model.band_mean, before)
    np.testing.assert_allclose(
        evaluation.predict(model, validation, validation.classes), odds,
        atol=1e-4)
    assert list(model.classes["species"])[:len(old)] == old
    assert set(names) <= {*model.classes["species"]}
    assert model.classes["species"].is_unique


def page():
    """The model that the book shows, and how it is trained there."""
    text = (Path(training.__file__).parents[2] / "book/own-model.md"
            ).read_text("utf-8")
    model, use = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    namespace: dict = {}
    exec(model, namespace)
    return namespace["MeanBands"], use, namespace


def test_the_model_of_the_page_trains_as_the_page_says(data, tmp_path,
                                                       monkeypatch):
    _, use, namespace = page()
    monkeypatch.chdir(tmp_path)
    Path("shards").symlink_to(data.files[0].path.parent)
    exec(use, namespace)
    history, model = namespace["history"], namespace["model"]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] - 0.3
    assert model.temperature > 0 and len(model.classes)


def test_a_model_that_lacks_something_is_refused_before_a_step(halves,
                                                               tmp_path):
    class Half(torch.nn.Module):
        def scale(self):
            return torch.tensor(1.0)

    with pytest.raises(TypeError, match=r"Half lacks encode_images\(\), "
                       r"encode_taxa\(\), a parameter"):
        training.fit(Half(), *halves, out=tmp_path / "a")
    flat = page()[0](halves[0].classes["species"])
    flat.encode_images = lambda images, environment: torch.zeros(3)
    with pytest.raises(ValueError, match=r"encode_images gives \(3,\)"):
        training.fit(flat, *halves, out=tmp_path / "a")
    assert not (tmp_path / "a" / training.LOG).exists()


def test_own_patches_train_in_one_call(tmp_path):
    """Three months, an offset, no place; few samples get enough steps."""
    rng = np.random.default_rng(0)
    species = np.array(["Acer rubrum", "Pinus nigra", "Abies alba"])[
        rng.integers(0, 3, 90)]
    images = rng.integers(1500, 2500, (90, 3, 10, 5, 5)).astype(np.uint16)
    images[species == "Pinus nigra", :, 3] += 1500
    images[species == "Abies alba", 2, 5] += 1500
    data = memory.from_arrays(images, species, months=[4, 7, 10],
                              offset=1000)
    one = data.load()
    np.testing.assert_array_equal(one.images[:, 6], images[:, 1] - 1000)
    assert (one.images[:, 0] == 65535).all()
    assert np.isnan(one.environment).all()
    model = CompactClip(SMALL, seed=0)
    history = training.fit(model, data.select(range(60)),
                           data.select(range(60, 90)), out=tmp_path,
                           progress=False)
    assert history["step"].iloc[-1] >= 300
    assert history["validation_top1"].iloc[-1] > 0.9
    with pytest.raises(ValueError, match="months names 1"):
        memory.from_arrays(images, species, months=[4])


def test_it_says_what_is_left_when_the_loss_is_lost(halves, tmp_path):
    """The model has the best weights, and the checkpoint is the last one."""
    model = CompactClip(SMALL, seed=0)
    first = weights(model).clone()
    with pytest.raises(ValueError, match="No epoch had ended.*Nothing was"):
        training.fit(model, *halves, out=tmp_path / "a", progress=False,
                     settings=training.Settings(learning_rate=1e30))
    assert torch.equal(weights(model), first)
    good, _ = fit(halves, tmp_path / "b", epochs=1)
    torch.manual_seed(0)
    model = CompactClip(SMALL)
    learn = loop.Run.learn

    def spoilt(run, batch):
        learn(run, batch)
        if run.epoch == 1:
            run.total = run.total + float("nan")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Run, "learn", spoilt)
        with pytest.raises(ValueError, match="weights of epoch 0. .*'.*chec"):
            training.fit(model, *halves, out=tmp_path / "b", progress=False,
                         settings=training.Settings(epochs=2, batch_size=128))
    assert torch.equal(weights(model), weights(good))


def test_what_may_change_goes_on_and_what_may_not_is_named(halves, tmp_path):
    fit(halves, tmp_path, epochs=1)
    model = CompactClip(SMALL)
    history = training.fit(model, *halves, out=tmp_path, progress=False,
                           settings=training.Settings(
                               epochs=3, batch_size=128, patience=50))
    assert list(history["step"]) == [6, 12, 18]
    log = (tmp_path / training.LOG).read_text().splitlines()
    assert len(log) == 3, "no line twice"
    train, validation = halves
    other = np.ones(len(train), bool)
    other[0] = False
    with pytest.raises(ValueError, match="training samples is"):
        fit((train.select(other), validation), tmp_path, epochs=3)
    with pytest.raises(ValueError, match="clip is 1.0 there and 2.0 here"):
        training.fit(model, *halves, out=tmp_path,
                     settings=training.Settings(epochs=3, batch_size=128,
                                                clip=2.0))


def test_stopped_within_an_epoch_it_goes_on_to_the_same_weights(halves,
                                                                tmp_path):
    whole, history = fit(halves, tmp_path / "whole", epochs=2)
    for last in (0, 3, 5, 6, 9):  # steps of 6 an epoch
        learn = loop.Run.learn

        def stop(run, batch, last=last, learn=learn):
            if run.step == last:
                raise KeyboardInterrupt
            learn(run, batch)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop.Run, "learn", stop)
            with pytest.raises(KeyboardInterrupt):
                fit(halves, tmp_path / str(last), epochs=2)
        parts, again = fit(halves, tmp_path / str(last), epochs=2)
        assert torch.equal(weights(whole), weights(parts)), last
        columns = ["step", "loss", "validation_loss"]
        np.testing.assert_allclose(history[columns], again[columns],
                                   rtol=1e-6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_saves_and_says_how_to_go_on(data, tmp_path, number):
    process = Run(KILLED, data.files[0].path.parent, tmp_path)
    while not (tmp_path / training.LOG).exists():
        assert process.is_alive()
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(process.process.pid, number)
    good, said = process.end(30)
    assert not good and "Call fit again" in said
    state = checkpoints.read(tmp_path / training.CHECKPOINT,
                             torch.device("cpu"))
    assert f"Stopped at step {state['step']} of" in said


def test_two_runs_do_not_share_a_folder(halves, tmp_path):
    with (files.lock(tmp_path / training.CHECKPOINT),
          pytest.raises(files.BusyError, match="another process")):
        fit(halves, tmp_path, epochs=1)


def test_each_flipped_bit_of_a_checkpoint_is_found(halves, tmp_path):
    fit(halves, tmp_path, epochs=1)
    path = tmp_path / training.CHECKPOINT
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    for _ in range(1000):
        at, bit = rng.integers(len(data)), 1 << rng.integers(8)
        data[at] ^= bit
        with path.open("r+b") as file:
            file.seek(at)
            file.write(data[at:at + 1])
        with pytest.raises(ValueError, match="SHA-256"):
            checkpoints.read(path, torch.device("cpu"))
        data[at] ^= bit
        with path.open("r+b") as file:
            file.seek(at)
            file.write(data[at:at + 1])
    path.write_bytes(data[:20])
    with pytest.raises(ValueError, match="SHA-256"):
        fit(halves, tmp_path, epochs=1)


class No64(TorchDispatchMode):
    """A device that, like Apple's, has no float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            assert getattr(one, "dtype", None) != torch.float64, func
        return found


def test_nothing_has_64_bits(halves, tmp_path):
    with No64():
        fit(halves, tmp_path, epochs=1)


def test_frozen_parts_stay_and_slow_ones_are_slow(halves, tmp_path):
    moved = {}
    for name, rates in (("all", None), ("some", {"names": 0.01, "month": 0})):
        model = CompactClip(SMALL, seed=0)
        before = {k: p.detach().clone() for k, p in model.named_parameters()}
        training.fit(model, *halves, out=tmp_path / name, progress=False,
                     settings=training.Settings(epochs=1, batch_size=128,
                                                rates=rates))
        moved[name] = {k: (p - before[k]).abs().max().item()
                       for k, p in model.named_parameters()}
        assert all(p.requires_grad for p in model.parameters())
    assert moved["some"]["month.weight"] == 0 < moved["all"]["month.weight"]
    assert (0 < moved["some"]["names.whole.weight"]
            < 0.1 * moved["all"]["names.whole.weight"])
    with pytest.raises(ValueError, match="rates names nothing"):
        training.fit(model, *halves, out=tmp_path / "c",
                     settings=training.Settings(rates={"nothing": 0}))


def test_what_is_hidden_by_hand(data):
    batch = next(data.batches(200))
    batch.images[:] = np.arange(25).reshape(5, 5)
    batch.environment[:] = 1
    run = training.Settings(pixel_dropout=0.2, month_dropout=0.5,
                            group_dropout=0.5, location_dropout=1.0)
    seen = losses.hide(batch, run)
    gone = (seen.images == 65535).numpy()  # (B, T, C, H, W)
    assert (gone == gone[:, :, :1]).all(), "all bands of a pixel"
    assert gone.mean() == pytest.approx(1 - 0.5 * 0.8, abs=0.03)
    assert gone.all(axis=(2, 3, 4)).mean() == pytest.approx(0.5, abs=0.05)
    place = torch.isnan(seen.environment)
    assert place[:, :2].all() and not place.all()
    run = training.Settings(**PLAIN | {"flips": True})
    turned = losses.hide(batch, run).images[:, 0, 0].numpy()
    ways = {tuple(patch.ravel()) for patch in turned}
    square = np.arange(25).reshape(5, 5)
    assert ways == {tuple(np.rot90(side, k).ravel()) for k in range(4)
                    for side in (square, square.T)}
    assert batch.images.max() == 24 and (batch.environment == 1).all()


def test_names_are_encoded_once_a_validation(data, tmp_path):
    calls = []

    class Counting(CompactClip):
        def encode_taxa(self, classes):
            calls.append(self.training)
            return super().encode_taxa(classes)

    both = memory.Samples(data.load(), data.table, data.classes)
    training.fit(Counting(SMALL), both, both, out=tmp_path, progress=False,
                 settings=training.Settings(epochs=2, batch_size=450))
    assert len(data) > 512 and calls.count(False) == 2 + 1 + 1


def test_the_callers_random_state_is_left_alone(halves, tmp_path):
    state = torch.get_rng_state()
    one = CompactClip(SMALL, seed=0)
    training.fit(one, *halves, out=tmp_path / "a", progress=False,
                 settings=training.Settings(epochs=1, batch_size=128))
    assert torch.equal(torch.get_rng_state(), state)


def test_early_stopping_says_so(halves, tmp_path, capsys):
    model = CompactClip(SMALL, seed=0)
    history = training.fit(model, *halves, out=tmp_path,
                           settings=training.Settings(
                               epochs=9, batch_size=128, learning_rate=1e-12,
                               keep="loss", patience=2))
    assert len(history) < 9
    assert "stopped early" in "".join(capsys.readouterr())
    with pytest.raises(ValueError, match="keep is 'best'"):
        training.Settings(keep="best")
