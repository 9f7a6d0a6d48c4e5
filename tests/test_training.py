"""Training: learns what is there, resumes to the bit, refuses what is not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geotree import evaluation, pixels, shards, taxonomy, training
from geotree.evaluation import calibration
from geotree.models.compact import CompactClip, CompactConfig
from geotree.planet.source import Planet

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


def test_a_few_samples_are_learnt_by_heart(data, tmp_path):
    few = data.select(np.arange(40))
    model = CompactClip(CompactConfig(
        **{**vars(SMALL), "dropout": 0.0, "location_dropout": 0.0,
           "rank_dropout": 0.0}), seed=1)
    training.fit(model, few, few, out=tmp_path, progress=False,
                 settings=training.Settings(epochs=250, batch_size=40,
                                            learning_rate=5e-3))
    probabilities = evaluation.predict(model, few, few.classes)
    assert evaluation.hits(probabilities, few.load().labels).mean() > 0.95


def test_it_learns_but_beats_no_optimum(halves, tmp_path):
    model, history = fit(halves, tmp_path, epochs=12)
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
    validate = training._Run.validate

    def stop(run):
        if run.epoch == 1:
            raise KeyboardInterrupt
        validate(run)

    monkeypatch.setattr(training._Run, "validate", stop)
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
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(training.__file__).parents[1])}

    def start(out):
        return subprocess.Popen([sys.executable, "-c", KILLED, str(folder),
                                 str(out)], env=environment)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(whole).wait(timeout=200) == 0
    process = start(parts)
    log = parts / training.LOG
    for _ in range(2000):
        if log.exists() and len(log.read_text().splitlines()) >= 3:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (parts / "final.pt").exists()
    assert (parts / training.CHECKPOINT).exists()
    assert start(parts).wait(timeout=200) == 0
    one, other = (torch.load(folder / "final.pt", weights_only=True)
                  for folder in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_checkpoint_of_another_run_is_refused(halves, tmp_path):
    fit(halves, tmp_path, epochs=1)
    with pytest.raises(ValueError, match="settings"):
        fit(halves, tmp_path, epochs=2)
    other = CompactConfig(**{**vars(SMALL), "width": 64})
    with pytest.raises(ValueError, match="config"):
        fit(halves, tmp_path, epochs=1, config=other)
    _, history = fit(halves, tmp_path, epochs=2, resume=False)
    assert len(history) == 2


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


def test_a_trained_model_knows_its_classes_and_doubts(halves, tmp_path):
    model, _ = fit(halves, tmp_path / "run", epochs=12)
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
