"""The compact model: reads what is there, alone, and can be kept."""

import copy
import errno
import json
import os
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pandas as pd
import pytest
import torch
from killing import Run
from loopback_hub import LoopbackHub

from geotree import files, taxonomy, variables
from geotree.models import store
from geotree.models.compact import CompactClip, CompactConfig
from geotree.models.store import CARD, WEIGHTS
from geotree.shards import Batch

SMALL = CompactConfig(width=32, depth=2, heads=2, embedding=16, buckets=256)


@pytest.fixture(scope="module")
def classes():
    rows = [("Acer rubrum", "Acer", "Sapindaceae", "Deciduous Broadleaf"),
            ("Fagus grandifolia", "Fagus", "Fagaceae", "Deciduous Broadleaf"),
            ("Pinus nigra", "Pinus", "Pinaceae", "Evergreen Needleleaf"),
            ("Quercus alba", "Quercus", "Fagaceae", "Deciduous Broadleaf"),
            ("Quercus robur", "Quercus", "Fagaceae", "Deciduous Broadleaf")]
    return taxonomy.class_table(pd.DataFrame(
        rows, columns=["species", "genus", "family", "leafType"]))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(100, 5000, (64, 12, 10, 5, 5)).astype(np.uint16)
    images[rng.random((64, 12)) < 0.2] = variables.NODATA
    environment = rng.normal(50, 8, (64, 27)).astype(np.float32)
    environment[:, 12] += 100  # bio05: colder than any wood, else
    environment[rng.random((64, 27)) < 0.1] = np.nan
    environment[:, 0] = rng.uniform(-170, 170, 64)
    environment[:, 1] = rng.uniform(-60, 70, 64)
    return Batch(images, environment, rng.integers(0, 5, 64), np.arange(64))


@pytest.fixture(scope="module")
def model(batch):
    torch.manual_seed(0)
    model = CompactClip(SMALL)
    model.fit_normalisation(batch)
    return model.eval()


def embed(model, batch):
    with torch.no_grad():
        return model.encode_images(batch.images, batch.environment)


def test_features_have_length_one(model, batch, classes):
    features = embed(model, batch)
    assert features.shape == (64, 16)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(64))
    names = model.encode_taxa(classes)
    torch.testing.assert_close(names.norm(dim=-1), torch.ones(5))


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_prediction_is_alone(model, batch, size):
    parts = [model.encode_images(batch.images[i:i + size],
                                 batch.environment[i:i + size])
             for i in range(0, 64, size)]
    torch.testing.assert_close(torch.cat(parts), embed(model, batch),
                               atol=1e-5, rtol=1e-4)


def test_under_autocast_the_normalisation_is_the_same(model, batch):
    again = CompactClip(SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        again.fit_normalisation(batch)
    for name, one in model.named_buffers():
        torch.testing.assert_close(dict(again.named_buffers())[name], one,
                                   equal_nan=True)


def test_order_of_months_matters(model, batch):
    mixed = batch._replace(images=np.ascontiguousarray(batch.images[:, ::-1]))
    assert (embed(model, mixed) - embed(model, batch)).abs().max() > 1e-3
    blind = CompactClip(CompactConfig(**{**vars(SMALL),
                                         "month_code": False}))
    blind.fit_normalisation(batch)
    torch.testing.assert_close(embed(blind.eval(), mixed),
                               embed(blind, batch), atol=1e-5, rtol=1e-4)


def test_bands_that_nearly_repeat_each_other_are_told_apart(batch):
    rng = np.random.default_rng(0)
    level = rng.uniform(500, 5000, (64, 12, 1, 1, 1))
    images = (level * rng.uniform(0.85, 1.15, batch.images.shape)).astype(
        np.uint16)
    model = CompactClip(SMALL)
    model.fit_normalisation(batch._replace(images=images))
    _, rings, seen = model._rings(images)
    white = model._months(images)[0][seen][:, :rings.shape[-1]]
    before, after = (torch.corrcoef(rows.T).abs().fill_diagonal_(0).max()
                     for rows in (rings[seen], white))
    assert before > 0.95 and after < 0.2


def test_climate_and_soil_speak_at_once(model, batch):
    alone = batch.environment.copy()
    alone[:, :3] = np.nan
    begin = model.tokens(batch.images, alone).values[:, 0]
    assert (begin - begin[:1]).abs().max() > 1e-3
    alone[:] = np.nan
    begin = model.tokens(batch.images, alone).values[:, 0]
    torch.testing.assert_close(begin, begin[:1].expand_as(begin))


def test_a_missing_month_has_no_say(model, batch):
    gone = batch.images.copy()
    gone[:, 4] = variables.NODATA
    present = model.tokens(gone, batch.environment).present
    assert not present[:, 5].any()
    assert present[:, 0].all()


def test_missing_variables_are_finite(model, batch):
    empty = np.full_like(batch.environment, np.nan)
    features = embed(model, batch._replace(environment=empty))
    assert features.isfinite().all()
    nothing = np.full_like(batch.images, variables.NODATA)
    assert embed(model, Batch(nothing, empty, None, None)).isfinite().all()


def test_inputs_stay_as_they_are(model, batch):
    before = batch.images.copy(), batch.environment.copy()
    embed(model, batch)
    np.testing.assert_array_equal(before[0], batch.images)
    np.testing.assert_array_equal(before[1], batch.environment)


def test_arrays_and_tensors_agree(model, batch):
    tensors = model.encode_images(
        torch.as_tensor(batch.images.astype(np.int32)),
        torch.as_tensor(batch.environment))
    torch.testing.assert_close(tensors, embed(model, batch))


def test_a_name_never_seen_is_near_its_relatives(model, classes):
    new = pd.DataFrame({"species": ["Quercus nova", "Pinus nova"],
                        "genus": ["Quercus", "Pinus"],
                        "family": ["Fagaceae", "Pinaceae"],
                        "leafType": ["Deciduous Broadleaf",
                                     "Evergreen Needleleaf"]})
    with torch.no_grad():
        cosine = model.encode_taxa(new) @ model.encode_taxa(classes).T
    oak, pine = cosine
    assert oak[4] > oak[2] and pine[2] > pine[4]


def test_every_parameter_gets_a_gradient(batch, classes):
    model = CompactClip(SMALL)
    model.fit_normalisation(batch)
    model.train()
    logits = model(batch.images, batch.environment, classes)
    torch.nn.functional.cross_entropy(
        logits, torch.as_tensor(batch.labels)).backward()
    still = [name for name, p in model.named_parameters()
             if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


def test_saved_and_loaded_it_is_the_same(model, batch, classes, tmp_path):
    model.save_pretrained(tmp_path / "model", card={"data": "a test"})
    again = CompactClip.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(embed(again, batch), embed(model, batch),
                               atol=0, rtol=0)
    assert again.card["data"] == "a test"


def test_damaged_weights_are_refused(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "model")
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="SHA-256"):
        CompactClip.from_pretrained(folder)


def change(folder, **names):
    """Write another card into a model folder, with the hash that it needs."""
    card = store.read_card(folder) | names
    card["sha256"] = store._digest(card)
    (folder / store.CARD).write_text(json.dumps(card))


def test_weights_of_another_model_are_refused(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "model")
    change(folder, config={**vars(SMALL), "width": 64})
    with pytest.raises(ValueError, match="size mismatch for"):
        CompactClip.from_pretrained(folder)
    change(folder, model="GeoTreeClip")
    with pytest.raises(ValueError, match="holds a GeoTreeClip"):
        CompactClip.from_pretrained(folder)


def test_weights_of_an_older_model_are_refused(model, tmp_path):
    older = copy.deepcopy(model)
    del older.ring_mean, older.ring_whiten
    older.month = torch.nn.Linear(270, SMALL.width)  # as it once was
    folder = older.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="ring_.* have to be trained again"):
        CompactClip.from_pretrained(folder)
    older = copy.deepcopy(model)  # all tokens read on to the end
    older.blocks = torch.nn.ModuleList([older.mix, *older.readers])
    del older.mix, older.readers
    folder = older.save_pretrained(tmp_path / "blocks")
    with pytest.raises(ValueError, match="mix.* have to be trained again"):
        CompactClip.from_pretrained(folder)


def whole(model, classes):
    """A copy with all that a model folder can hold."""
    one = copy.deepcopy(model)
    one.classes, one.temperature = classes, 1.5
    one.thresholds = {0.9: 0.05, 0.5: 0.4}
    one.prior = classes.assign(decimalLatitude=np.arange(5.0),
                               decimalLongitude=8.0)
    one.card = {"data": "a test", "metrics": {"top1": np.float32(0.5)}}
    return one


def test_a_model_folder_is_whole(model, classes, tmp_path):
    whole(model, classes).save_pretrained(tmp_path)
    again = CompactClip.from_pretrained(tmp_path)
    pd.testing.assert_frame_equal(again.classes, classes)
    assert again.temperature == 1.5 and again.fitted
    assert again.thresholds == {0.9: 0.05, 0.5: 0.4}
    assert again.prior["decimalLatitude"].tolist() == [0, 1, 2, 3, 4]
    assert again.card["metrics"]["top1"] == 0.5
    twice = CompactClip.from_pretrained(again.save_pretrained(tmp_path / "b"))
    pd.testing.assert_frame_equal(twice.classes, classes)


def test_a_model_that_cannot_be_written_keeps_the_old_one(
        model, tmp_path, monkeypatch):
    """Weights of one and the card of another are no model."""
    model.save_pretrained(tmp_path / "m")
    write = Path.write_bytes

    def short(path, data):
        if CARD in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", short)
    with pytest.raises(OSError, match="could not write .*card.json.*kept"):
        CompactClip(SMALL, seed=5).save_pretrained(tmp_path / "m")
    old = CompactClip.from_pretrained(tmp_path / "m").state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, old[name])


def test_of_two_that_save_at_once_one_is_there(model, tmp_path, monkeypatch):
    """Whole: the weights of one and the card of the other are no model."""
    other = CompactClip(SMALL, seed=5)
    replace, waiting = os.replace, Event()

    def slow(old, new):
        if not waiting.is_set():
            waiting.set()
            one = Thread(target=other.save_pretrained, args=[tmp_path / "m"])
            one.start()
            one.join(1)
            threads.append(one)
        replace(old, new)

    threads: list[Thread] = []
    monkeypatch.setattr(os, "replace", slow)
    model.save_pretrained(tmp_path / "m")
    threads[0].join()
    found = CompactClip.from_pretrained(tmp_path / "m").state_dict()
    for name, value in other.state_dict().items():
        assert torch.equal(value, found[name])


def test_each_flipped_bit_is_found_or_without_effect(model, classes,
                                                     tmp_path):
    folder = whole(model, classes).save_pretrained(tmp_path)
    before = CompactClip.from_pretrained(folder)
    rng, found = np.random.default_rng(0), 0
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        for _ in range(350):
            at, bit = rng.integers(len(data)), 1 << rng.integers(8)
            path.write_bytes(data[:at] + bytes([data[at] ^ bit])
                             + data[at + 1:])
            try:
                again = CompactClip.from_pretrained(folder)
            except ValueError as error:
                found += 1
                assert str(path) in str(error)
            else:
                assert again.card == before.card
                assert again.temperature == before.temperature
        path.write_bytes(data)
    assert found > 900


PLACES = pd.DataFrame({"species": ["Pinus nigra"], "decimalLatitude": [47.0],
                       "decimalLongitude": [8.0]})


@pytest.mark.parametrize(("name", "value"), [
    ("temperature", float("nan")), ("temperature", 0), ("temperature", "a"),
    ("thresholds", [0.1]), ("thresholds", {0.9: float("nan")}),
    ("thresholds", {"a": 0.1}), ("prior", [1]), ("held", {}),
    ("prior", PLACES.assign(own=[object()])), ("prior", PLACES.head(0)),
    ("prior", PLACES[["species"]]), ("prior", PLACES.assign(
        decimalLatitude=float("nan"))), ("card", {"prior_weight": "x"}),
    ("card", {"prior_weight": -1}), ("card", {"prior_model": "nix"}),
    ("card", [1]),
    ("classes", PLACES), ("classes", pd.concat([PLACES, PLACES]))])
def test_what_would_not_be_loaded_is_not_saved(model, classes, tmp_path,
                                               name, value):
    folder = whole(model, classes).save_pretrained(tmp_path / "a")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    bad = whole(model, classes)
    setattr(bad, name, value)
    with pytest.raises(ValueError, match="xpected|none|Parquet|table|lacks"):
        bad.save_pretrained(folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    CompactClip.from_pretrained(folder)


def test_a_folder_without_weights_is_named(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "a")
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match="a card but no model.safe"):
        CompactClip.from_pretrained(folder)


@pytest.mark.parametrize(("name", "lost"), [
    ("held", "features"), ("held", "species"), ("prior", "decimalLatitude")])
def test_a_table_of_a_model_has_its_columns(model, classes, tmp_path, name,
                                            lost):
    one = whole(model, classes)
    one.held = one.prior.assign(features=[np.ones(3)] * len(one.prior))
    folder = one.save_pretrained(tmp_path / "a")
    path = folder / store.TABLES[name]
    pd.read_parquet(path).drop(columns=lost).to_parquet(path)
    change(folder, files={**store.read_card(folder)["files"],
                          path.name: files.sha256(path)})
    with pytest.raises(ValueError, match=f"{path.name}.*lacks.*{lost}"):
        CompactClip.from_pretrained(folder)
    setattr(one, name, getattr(one, name).drop(columns=lost))
    with pytest.raises(ValueError, match=f"model.{name} lacks.*{lost}"):
        one.save_pretrained(folder)


def test_what_a_folder_must_not_hold(model, classes, tmp_path):
    folder = whole(model, classes).save_pretrained(tmp_path / "a")
    columns = classes.to_dict(orient="list")
    for wrong in ({**columns, "genus": columns["genus"][:-1]},
                  {**columns, "species": ["same"] * 5}, ["a"]):
        change(folder, classes=wrong)
        with pytest.raises(ValueError, match="class table"):
            CompactClip.from_pretrained(folder)
    change(folder, classes=columns, temperature=0)
    with pytest.raises(ValueError, match="temperature"):
        CompactClip.from_pretrained(folder)
    config = store.read_card(folder)["config"]
    change(folder, temperature=1, config={**config, "width": 10**6})
    with pytest.raises(ValueError, match="tells of .* weights"):
        CompactClip.from_pretrained(folder)
    change(folder, config=config, files={"../secret": "", store.WEIGHTS: ""})
    with pytest.raises(ValueError, match="not the card"):
        CompactClip.from_pretrained(folder)
    for name, value in (("norm.weight", float("nan")), ("band_std", 0.0),
                        ("logit_scale", -float("inf"))):
        bad = copy.deepcopy(model)
        bad.get_parameter(name).data.fill_(value) if name != "band_std" else (
            bad.band_std.fill_(value))
        with pytest.raises(ValueError, match="not above zero"):
            CompactClip.from_pretrained(bad.save_pretrained(tmp_path / "b"))


HUB = """
import sys
from geotree.models.compact import CompactClip
model = CompactClip.from_pretrained(sys.argv[1])
model.push_to_hub("me/trees")
again = CompactClip.from_pretrained("me/trees")
assert again.temperature == 1.5 and len(again.classes) == 5
try:
    CompactClip.from_pretrained("me/none")
except FileNotFoundError as error:
    print(error)
"""


def test_pushed_to_a_hub_it_comes_back(model, classes, tmp_path):
    folder = whole(model, classes).save_pretrained(tmp_path / "model")
    hub = LoopbackHub({})
    said = Run(HUB, folder, environment={
        "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub"),
        "HF_TOKEN": "secret", "HF_HUB_DISABLE_XET": "1"}).finish(60)
    hub.close()
    assert {*hub.repositories["models/me/trees"]} == {
        store.WEIGHTS, store.CARD, store.TABLES["prior"]}
    assert "no model 'me/none'" in said


def test_initial_weights_have_a_seed_of_their_own():
    state = torch.get_rng_state()
    one, two, other = (CompactClip(SMALL, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.project.weight, two.project.weight)
    assert not torch.equal(one.project.weight, other.project.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_model_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="save_pretrained"):
        CompactClip.from_pretrained(tmp_path)


def test_wrong_inputs_are_errors(model, batch, classes):
    with pytest.raises(ValueError, match="10 bands"):
        model.encode_images(batch.images[:, :, :9], batch.environment)
    with pytest.raises(ValueError, match="27"):
        model.encode_images(batch.images, batch.environment[:, :25])
    with pytest.raises(ValueError, match="leafType"):
        model.encode_taxa(classes.drop(columns="leafType"))
