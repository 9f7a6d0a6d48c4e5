"""Samples on the device: all of them once an epoch, and they train alike."""

import numpy as np
import pytest
import torch
from fake_source import FakeSource, occurrence_table

from geotree import pixels, shards, training
from geotree.models.compact import CompactClip, CompactConfig
from geotree.shards import memory

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    table = occurrence_table(61)
    cube = pixels.download(table, FakeSource(), folder / "cube.zarr",
                           progress=False)
    return shards.write(cube, table, folder / "shards", pack=8,
                        packs_per_shard=3, progress=False)


def test_in_order_it_is_the_shards(data):
    here = memory.Resident(data, CPU)
    for one, other in zip(here.batches(7), data.batches(7), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a.numpy(), b)


def test_shuffled_each_sample_comes_once_in_an_order_of_its_own(data):
    here = memory.Resident(data, CPU)
    orders = {}
    for key in ((0, 0), (0, 1), (1, 0)):
        batches = list(here.batches(7, shuffle=True, seed=key[0],
                                    epoch=key[1]))
        orders[key] = torch.cat([batch.ids for batch in batches]).tolist()
        assert sorted(orders[key]) == sorted(data.table["gbifID"])
        truth = dict(zip(data.load().ids, data.load().labels, strict=True))
        for batch in batches:
            assert [truth[i] for i in batch.ids.tolist()] == (
                batch.labels.tolist())
    assert len(set(map(tuple, orders.values()))) == 3
    again = here.batches(7, shuffle=True, epoch=1)
    assert torch.cat([b.ids for b in again]).tolist() == orders[0, 1]


def test_the_last_batch_can_be_left_out(data):
    here = memory.Resident(data, CPU)
    sizes = [len(b.ids) for b in here.batches(7, drop_last=True)]
    assert sizes == [7] * (len(data) // 7)


def test_nothing_is_kept_on_a_cpu(data):
    assert not memory.Resident.fits(data, CPU)


def test_training_reads_it_where_it_fits(data, tmp_path, monkeypatch):
    monkeypatch.setattr(memory.Resident, "fits", lambda data, device: True)
    read = []
    batches = memory.Resident.batches
    monkeypatch.setattr(memory.Resident, "batches", lambda *a, **k: (
        read.append(1) or batches(*a, **k)))
    torch.manual_seed(0)
    model = CompactClip(CompactConfig(width=32, depth=1, heads=2,
                                      embedding=32, buckets=512))
    history = training.fit(
        model, data, data, out=tmp_path, progress=False,
        settings=training.Settings(epochs=20, batch_size=16,
                                   learning_rate=5e-3))
    assert len(read) == 20
    assert history["loss"].iloc[-1] < 0.8 * history["loss"].iloc[0]
