"""Recipes: the release's faults are there when asked for, and only then."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from killing import crew

from geotree import pixels, shards, taxonomy, training
from geotree.models.compact import CompactClip, CompactConfig
from geotree.planet.source import Planet
from geotree.release import towers
from geotree.release.model import GeoTreeClip
from geotree.release.towers import ReleaseConfig
from geotree.training import loop, losses

SMALL = ReleaseConfig(vision_width=16, vision_depth=1, vision_heads=2,
                      month_heads=2, text_width=16, text_depth=1,
                      text_heads=2, hidden=8, vocabulary=700, positions=40)
LEFT_OUT = ("image_projection", "aux_projection", "fusion", "logit_scale")
UNUSED = "post_layernorm"  # of CLIP's pooled output, which nothing reads


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planet")
    planet = Planet()
    table = planet.occurrences(300)
    cube = pixels.download(table, planet, folder / "cube.zarr",
                           progress=False)
    return shards.write(cube, table, folder / "shards", pack=32,
                        progress=False)


@pytest.fixture(scope="module")
def halves(data):
    first = np.arange(len(data)) < 200
    return data.select(first), data.select(~first)


@pytest.fixture(scope="module")
def vocabulary(data, tmp_path_factory):
    return towers.train_tokens(taxonomy.prompts(data.classes),
                        tmp_path_factory.mktemp("tokens"), size=690)


def make(vocabulary, **options):
    torch.manual_seed(0)
    return GeoTreeClip(SMALL, tokenizer=vocabulary, **options)


def settings(**changes):
    return training.Settings(**training.RELEASE | {
        "epochs": 1, "batch_size": 32, "learning_rate": 1e-3} | changes)


def moved(model, before):
    return {name for name, p in model.named_parameters()
            if not torch.equal(p, before[name])}


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_the_release_leaves_its_heads_random(halves, vocabulary, tmp_path):
    model = make(vocabulary, normalization="batch")
    before = weights(model)
    training.fit(model, *halves, settings=settings(), out=tmp_path,
                 progress=False)
    still = {name for name in before if name not in moved(model, before)}
    assert still == {name for name in before
                     if name.startswith(LEFT_OUT) or UNUSED in name}


def test_its_forgotten_gradients_pile_up(halves, vocabulary, tmp_path):
    model = make(vocabulary, normalization="batch")
    training.fit(model, *halves, settings=settings(), out=tmp_path,
                 progress=False)
    kept = {name for name, p in model.named_parameters()
            if p.grad is not None}
    assert kept and all(name.startswith(LEFT_OUT) for name in kept)


def test_mended_every_parameter_in_use_moves(halves, vocabulary, tmp_path):
    model = make(vocabulary)
    before = weights(model)
    history = training.fit(
        model, *halves, out=tmp_path, progress=False,
        settings=training.Settings(epochs=2, batch_size=32, accumulate=2))
    assert {name for name in before if name not in moved(model, before)} == {
        name for name in before if UNUSED in name}
    assert model.fitted and history["loss"].iloc[1] < history["loss"].iloc[0]
    assert history["step"].iloc[-1] == 14


def test_what_counts_as_one_batch_is_the_sum_of_its_parts(halves, vocabulary,
                                                          tmp_path):
    """Two batches a step move the weights as one of twice the size."""
    train, validation = halves
    few, models = train.select(range(32)), []
    for size, accumulate in ((32, 1), (16, 2)):
        model = make(vocabulary)
        training.fit(model, few, validation, progress=False,
                     out=tmp_path / str(size), settings=training.Settings(
                         epochs=1, batch_size=size, accumulate=accumulate,
                         warmup=1e-9, clip=1e9, flips=False,
                         month_dropout=0, pixel_dropout=0, group_dropout=0,
                         location_dropout=0))
        models.append(model)
    first, second = (weights(model)["fusion.0.weight"] for model in models)
    # AdamW's first step has the size of the rate, whatever the gradient:
    # its direction must agree.
    start = weights(make(vocabulary))["fusion.0.weight"]
    assert F.cosine_similarity((first - start).flatten(),
                               (second - start).flatten(), dim=0) > 0.99


def test_the_pairs_of_a_batch_are_those_of_clip(data, vocabulary):
    model = make(vocabulary)
    model.fit_normalisation(data.load())
    batch = next(data.batches(24))
    labels = torch.as_tensor(batch.labels)
    assert len(labels.unique()) < 24
    loss = losses.get("release").loss(
        model, batch._replace(labels=labels), losses.Choice(data.classes),
        settings())
    image = model.encode_images(batch.images, batch.environment)
    text = model.encode_taxa(data.classes.iloc[batch.labels])
    torch.testing.assert_close(loss, training.contrastive_loss(
        image, text, logit_scale=1 / 0.07))


def test_the_schedule_of_the_release_by_hand(vocabulary):
    run, model = settings(learning_rate=1e-5), make(vocabulary)
    recipe = losses.get("release")
    groups = recipe.groups(model, run)
    assert [group["weight_decay"] for group in groups] == [1e-4] * 3

    def rates(epoch):
        return recipe.rates(run, epoch, groups, 0)

    assert rates(0) == pytest.approx([2e-6] * 3)  # text too: as published
    assert rates(4.9) == pytest.approx([1e-5] * 3)
    half = 1e-7 + (1e-5 - 1e-7) / 2
    assert rates(5) == pytest.approx([half, half, 1e-7 + 9e-7 / 2])
    assert rates(10) == pytest.approx([1e-5, 1e-5, 1e-6])  # a restart
    assert rates(20) == pytest.approx([half, half, 1e-7 + 9e-7 / 2])
    assert rates(30) == pytest.approx([1e-5, 1e-5, 1e-6])


def test_the_schedule_of_the_release_is_pytorchs(vocabulary):
    run = settings(learning_rate=1e-5)
    recipe = losses.get("release")
    groups = recipe.groups(make(vocabulary), run)
    optimizer = torch.optim.AdamW([
        {"params": [torch.nn.Parameter(torch.ones(1))],
         "lr": 1e-5 * group["share"]} for group in groups])
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, T_0=10, T_mult=2, eta_min=1e-7)
    for epoch in range(40):
        if epoch >= 5:
            assert recipe.rates(run, epoch, groups, 0) == pytest.approx(
                [group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()


def test_too_few_samples_for_a_step_are_an_error(halves, vocabulary,
                                                 tmp_path):
    """One shot of 90 species: 111 samples for batches of 128, no step."""
    train, validation = halves
    few = train.select(range(111))
    run = training.Settings(**training.FEW_SHOT)
    assert (run.batch_size, run.epochs, run.accumulate) == (128, 10, 1)
    with pytest.raises(ValueError, match="111 samples in batches of 128"):
        training.fit(make(vocabulary), few, validation, settings=run,
                     out=tmp_path)


def test_fine_tuning_keeps_the_constants_of_the_model(data, halves,
                                                      vocabulary, tmp_path):
    model = make(vocabulary)
    model.fit_normalisation(data.load())
    before = model.aux_range.clone()
    training.fit(model, *halves, out=tmp_path, progress=False,
                 settings=training.Settings(**training.FEW_SHOT | {
                     "epochs": 1, "batch_size": 64}))
    assert torch.equal(model.aux_range, before)


def test_the_release_resumes_to_the_bit(halves, vocabulary, tmp_path,
                                        monkeypatch):
    def run(out):
        model = make(vocabulary, normalization="batch")
        training.fit(model, *halves, settings=settings(epochs=2), out=out,
                     progress=False)
        return torch.cat([p.ravel() for p in model.parameters()])

    whole, validate = run(tmp_path / "whole"), loop.Run.validate

    def stop(state):
        if state.epoch == 1:
            raise KeyboardInterrupt
        validate(state)

    monkeypatch.setattr(loop.Run, "validate", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts")
    monkeypatch.undo()
    assert torch.equal(run(tmp_path / "parts"), whole)


PROGRAM = """
import sys, torch
from geotree import shards, training
from geotree.release.model import GeoTreeClip
from geotree.release.towers import ReleaseConfig

data, recipe = shards.open(sys.argv[1]), sys.argv[3]
torch.manual_seed(0)
model = GeoTreeClip(ReleaseConfig(16, 1, 2, 2, 16, 1, 2, 8, 700, 40),
                    tokenizer=sys.argv[2])
history = training.fit(
    model, data.select(range(129)), data.select(range(200, 217)),
    out=sys.argv[4], progress=False, settings=training.Settings(
        recipe=recipe, epochs=1, batch_size=64, learning_rate=1e-3,
        negatives=16))
print(history["loss"].iloc[0], history["validation_loss"].iloc[0])
"""


@pytest.mark.parametrize("recipe", ["mended", "release"])
def test_two_processes_train_the_released_model(data, vocabulary, tmp_path,
                                                recipe):
    """Also when the last batch has a row for one of them only."""
    said = {}
    for count in (1, 2):
        lines = [one.finish(200).split() for one in crew(
            count, PROGRAM, data.files[0].path.parent, vocabulary, recipe,
            tmp_path / str(count))]
        assert lines[0] == lines[-1]
        said[count] = np.array(lines[0], float)
    if recipe == "mended":  # the release's pairs are those of one process
        np.testing.assert_allclose(said[2], said[1], rtol=1e-3)


def test_the_mended_schedule_by_hand():
    run = training.Settings(epochs=4, learning_rate=1.0, warmup=0.25)
    rates = [losses.get("mended").rates(run, step / 2, [{}], 8)[0]
             for step in range(8)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[5] == pytest.approx(0.5)
    assert rates[7] == pytest.approx(0.5 * (1 + math.cos(5 * math.pi / 6)))


def test_what_does_not_exist_or_fit_is_refused(halves, tmp_path):
    with pytest.raises(ValueError, match="expected 'mended' or 'release'"):
        losses.get("best")
    compact = CompactClip(CompactConfig(width=16, depth=1, heads=2,
                                        embedding=16, buckets=64))
    with pytest.raises(ValueError, match="this is a CompactClip"):
        training.fit(compact, *halves, settings=settings(), out=tmp_path)
