"""Benchmarks: what they call published is so, and each one runs."""

import json

import numpy as np
import pytest
import torch

from benchmarks import (
    __main__ as command,
    away,
    curve,
    files,
    gpu,
    growth,
    machine,
    models,
    peers,
    published,
    reading,
    scale,
)
from benchmarks.data import Samples, as_release, many_classes
from benchmarks.models import release_tokens
from benchmarks.timing import Result, rates
from geotree import evaluation, shards, training
from geotree.release.model import GeoTreeClip, ReleaseConfig

SMALL = ReleaseConfig(vision_width=32, vision_depth=1, vision_heads=2,
                      month_heads=2, text_width=16, text_depth=1,
                      text_heads=2, hidden=8)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return Samples(tmp_path_factory.mktemp("bench"), 300)


def test_the_published_forward_is_that_of_the_model(samples):
    """Only slower: the ratio compares two ways to one result."""
    torch.manual_seed(0)
    model = GeoTreeClip(SMALL, tokenizer=release_tokens(samples.folder),
                        normalization="batch").eval()
    parts = as_release(shards.take(samples.batch, slice(0, 20)),
                       samples.packed.classes)
    with torch.no_grad():
        for one, other in zip(model(*parts),
                              published.forward(model, *parts), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_published_loader_yields_every_sample(samples):
    found = list(published.loader(samples.release_urls, batch_size=64))
    assert sum(len(batch[0]) for batch in found) == len(samples.release)
    assert published.count(samples.release_urls) == len(samples.release)
    expected = samples.release.load().images.astype(float)
    expected[expected == 65535] = np.nan
    total = sum(np.nansum(batch[0].numpy()) for batch in found)
    assert total == pytest.approx(np.nansum(expected))


def test_the_published_converter_writes_every_sample(samples, tmp_path):
    batch = shards.take(samples.batch, slice(0, 5))
    names = [{level: name for level, name in zip(
        ("level0", "level1_family", "level2_genus", "level3_species"),
        row, strict=True)} for row in samples.packed.classes[
            ["leafType", "family", "genus", "species"]].to_numpy()]
    published.write_tiffs(tmp_path / "tiffs", batch, names)
    assert published.convert(tmp_path / "tiffs", tmp_path / "a.tar") == 5
    back = shards.open(tmp_path / "a.tar").load()
    order = np.argsort(back.ids), np.argsort(batch.ids)
    np.testing.assert_array_equal(back.images[order[0]],
                                  batch.images[order[1]])


def test_ways_take_turns_and_the_first_turn_is_not_counted():
    seen = []

    def way(name):
        return lambda: seen.append(name) or 10

    found = rates({"a": way("a"), "b": way("b")}, runs=2)
    assert seen == ["a", "b"] * 3
    assert [len(values) for values in found.values()] == [2, 2]


def test_a_ratio_above_one_is_always_better():
    faster = Result("x", "samples/s", "", ours=30, published=10, limit=60)
    assert faster.row()["times_published"] == 3
    assert faster.row()["share_of_limit"] == 0.5
    smaller = Result("x", "bytes", "", ours=10, published=30, limit=5,
                     less_is_better=True)
    assert smaller.row()["times_published"] == 3
    assert smaller.row()["share_of_limit"] == 0.5


def test_every_stage_of_files_runs(samples):
    for stage in (files.size, files.read_packed, files.read_release,
                  files.convert, files.verify, peers.read):
        row = stage(samples, 1).row()
        assert row["ours"] > 0 and row["limit"] > 0
        assert row["share_of_limit"] < 1.5, row["stage"]
    assert files.size(samples, 1).ours < 6300


def test_training_from_a_slow_store_sees_every_sample(samples):
    pytest.importorskip("aiohttp")
    found = away.train(samples, runs=1)
    assert found.ours > 0 and f"{len(samples.packed):,} samples" in found.note


def test_an_index_of_ten_million_samples_opens(samples):
    assert files.start_up(samples, 1).ours > 0


def test_what_is_measured_with_many_names_is_right():
    """The five likeliest of features that are their own names."""
    model, batch, classes = models._encoded(300, 1000)
    own = models.Encoded(batch.images)
    index, probability = evaluation.likeliest(
        own, batch, classes.head(300), batch_size=70)
    assert (index[:, 0] == np.arange(300)).all()
    assert (np.diff(probability, axis=1) <= 0).all()
    whole = evaluation.predict(model, batch, classes)
    index, probability = evaluation.likeliest(model, batch, classes)
    np.testing.assert_allclose(
        probability, -np.sort(-whole, axis=1)[:, :5], rtol=1e-4)


@pytest.mark.parametrize("k", [20, 700])
def test_a_step_of_the_release_is_measured_with_so_many_names(
        samples, monkeypatch, k):
    model = GeoTreeClip(SMALL, tokenizer=release_tokens(samples.folder),
                        normalization="batch")
    monkeypatch.setattr(models, "release_model", lambda folder: model)
    monkeypatch.setitem(training.RELEASE, "batch_size", 16)
    assert models._of_names(samples, k).table["species"].nunique() == k
    before = model.fusion[0].weight.clone()
    found = models.train_release(samples, 1, k)
    assert found.ours > 0 and found.published > 0
    assert "batches of 16" in found.note
    assert not torch.equal(before, model.fusion[0].weight)


def test_places_are_found_at_any_number(samples):
    row = models.find_places(samples, 1, n=500).row()
    assert row["ours"] > 0 and "tree built anew" in row["note"]


def test_the_gpu_script_runs_on_a_cpu_at_toy_size(tmp_path):
    found = gpu.main(toy=True, folder=tmp_path)
    assert len(found) >= 5
    assert all(np.isfinite(result.ours) and result.ours > 0
               for result in found)
    with pytest.raises(SystemExit, match="no GPU here"):
        if torch.cuda.is_available():
            raise SystemExit("no GPU here")
        gpu.run(tmp_path)


def test_growth_finds_a_power_and_draws_it_on():
    import pandas as pd

    sizes = (1000, 10_000)
    costs = pd.DataFrame([{"stage": "x", "samples": n, "bytes": 6 * n,
                           "seconds": 1e-6 * n**1.5} for n in sizes])
    row = growth.plan(costs, (1_000_000,)).iloc[0]
    assert row["exponent"] == pytest.approx(1.5)
    assert row["hours at 1,000,000"] == pytest.approx(1000 / 3600)
    assert row["GB at 1,000,000"] == pytest.approx(6e-3)


def test_growth_measures_every_stage(tmp_path):
    costs = growth.measure(tmp_path, (120,))
    assert costs["stage"].is_unique and len(costs) >= 6
    assert (costs["seconds"] > 0).all()
    assert list(tmp_path.iterdir()) == []


def test_growth_ends_a_size_before_a_stage_that_takes_long(tmp_path,
                                                           monkeypatch):
    monkeypatch.setattr(growth, "_MOST", 0)
    costs = growth.measure(tmp_path, (60, 61))
    assert costs.groupby("samples")["stage"].agg(list).str.len().tolist() == [
        6, 1]


def test_what_a_reader_waits_for_is_timed_in_fresh_interpreters(tmp_path):
    few = Samples(tmp_path, 200)
    for wait in (reading.start(few, 1), reading.answer(few, 1)):
        assert wait.ours > 0 and wait.limit > 0
        assert len(wait.runs["ours"]) == 1 and wait.less_is_better


def test_many_classes_are_classes():
    classes = many_classes(1000)
    assert len(classes) == 1000 and classes["species"].is_unique


def test_the_command_prints_rows_and_keeps_them(tmp_path, monkeypatch,
                                                capsys):
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    options = ["bytes", "--samples", "200", "--folder", str(tmp_path / "in")]
    assert command.main([*options, "--json", "--save"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    kept = json.loads((tmp_path / "benchmark-bytes.json").read_text())
    assert kept["rows"] == printed and printed[0]["times_published"] > 4
    assert {"commit", "date", "processor", "cores"} <= set(kept["machine"])


def test_the_command_lists_what_there_is(capsys):
    assert command.main([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*command.STAGES, *command.OTHERS))
    with pytest.raises(SystemExit, match="no benchmark nonsense"):
        command.main(["nonsense"])


def test_the_machine_is_described():
    about = machine.describe()
    assert about["cores"] >= 1 and about["memory_gib"] > 0.1


def test_what_drawing_names_costs_is_paired_with_all_of_them(samples):
    found = curve.names(samples, k=300, drawn=(8,), seen=(64, 128), batch=32,
                        seeds=2)
    assert found.groupby(["model", "seed"]).size().eq(2).all()
    last = found[found["difference"].notna()]
    assert list(last["model"]) == ["8 drawn", "8 drawn"]
    top1 = found[found["seen"] == 128].pivot(
        index="seed", columns="model", values="top1")
    np.testing.assert_allclose(last["difference"],
                               top1["8 drawn"] - top1["all"])
    assert last["difference"].between(last["least"], last["most"]).all()


def test_both_models_see_the_same_samples(samples):
    found = curve.measure(samples, seen=(64, 128), more=256, config=SMALL)
    assert found.groupby("model")["seen"].apply(list).to_dict() == {
        "compact": [64, 128, 256], "release's architecture": [64, 128]}
    assert found["top1"].between(found["low"], found["high"]).all()
    assert found.groupby("model")["seconds"].is_monotonic_increasing.all()


def test_stages_of_a_large_set_run_on_a_small_one(samples, monkeypatch):
    """Their sizes are constants, so they are made small here."""
    for name, size in (("_ALL", 1000), ("_MANY", 600), ("_FEW", 50)):
        monkeypatch.setattr(scale, name, size)
    first = scale.first_batch(samples, 1)
    assert "1,200 samples" in first.note and first.ours > 0
    found = [stage(samples, 1) for stage in (
        scale.pick, scale.read_bare, scale.divide, scale.audit)]
    assert all(row.ours > 0 for row in found)
    assert {row.unit for row in found} == {"samples/s", "s"}
    few = scale.parted(samples, 1)  # too few packs to be dealt out
    assert few.ours == pytest.approx(1, rel=0.05) and few.limit == 1 / 8
