"""GlobalGeoTree's scripts run here: their calls, replayed; no line copied.

What ``train.py``, ``few-shot-finetune``, ``eval`` and ``tsne_vis`` ask of
their ``dataloader`` and ``models`` is asked of ``geotree``, in their order.
The model is small and its tokenizer at hand; all else is as they have it.
"""

import io
import json
import pkgutil
import re
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from fake_source import FakeSource, occurrence_table
from huggingface_hub import HfApi, constants
from loopback_hub import LoopbackHub

import geotree
from geotree import (
    CLIPContrastiveLoss,
    GGTDataset,
    occurrences,
    pixels,
    shards,
    taxonomy,
)
from geotree.release import selections, towers
from geotree.release.towers import ReleaseConfig

REPO = "yann111/GlobalGeoTree"
LEVELS = ["level0", "level1_family", "level2_genus", "level3_species"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Tars of the release and its table, of some 70 samples."""
    folder = tmp_path_factory.mktemp("scripts")
    table = occurrence_table(75)
    cube = pixels.download(table, FakeSource(), folder / "cube.zarr",
                           progress=False)
    data = shards.write(cube, table, folder / "tars", layout="release",
                        pack=16, packs_per_shard=2, progress=False)
    occurrences.write_release(data.table, folder / "table.csv")
    towers.train_tokens(taxonomy.prompts(data.classes), folder / "tokens",
                        size=690)
    return folder


@pytest.fixture
def GeoTreeClip(made):
    """What the scripts call, at a size for tests."""
    config = ReleaseConfig(16, 1, 2, 2, 16, 1, 2, 8, 700, 77)
    return lambda **options: geotree.GeoTreeClip(
        config, tokenizer=made / "tokens", **options)


@pytest.fixture
def hub(made, monkeypatch, tmp_path):
    """The tars on a hub of this machine."""
    from huggingface_hub import HfFileSystem

    server = LoopbackHub({f"datasets/{REPO}": {
        f"GlobalGeoTree-6M/{path.name}": path.read_bytes()
        for path in (made / "tars").glob("*.tar")}})
    HfFileSystem.clear_instance_cache()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.close()


@pytest.fixture
def alone(tmp_path):
    """A group of one process, as ``mp.spawn`` would make for each GPU."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group",
                            rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def groups(model, rate=1e-3):
    return [{"params": model.temporal_extractor.parameters(), "lr": rate},
            {"params": model.auxiliary_encoder.parameters(), "lr": rate},
            {"params": model.text_encoder.parameters(), "lr": rate * 0.1}]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_training_that_streams_from_the_hub(made, hub, alone, GeoTreeClip,
                                            tmp_path, monkeypatch):
    """``train.py`` as it starts by default: --data_source_type huggingface.
    """
    monkeypatch.chdir(tmp_path)
    found = [f"{hub.url}/datasets/{REPO}/resolve/main/{name}"  # hf_hub_url
             for name in HfApi(endpoint=hub.url).list_repo_files(
                 repo_id=REPO, repo_type="dataset")
             if name.startswith("GlobalGeoTree-6M/")
             and name.endswith(".tar")]
    dataset = GGTDataset(
        sorted(found), num_workers=4, batch_size=16, resampled=True,
        shardshuffle=True, world_size=1, rank=0,
        shard_counts_json_path="precomputed_shard_counts.json")
    loader = dataset.get_dataloader()
    assert loader.length == -(-dataset.num_samples // 16) > 0
    model = GeoTreeClip().to("cpu")
    hooks = [value.register_hook(lambda grad: grad) for name, value
             in model.named_parameters() if "post_layernorm" in name]
    assert len(hooks) == 2
    model = torch.nn.parallel.DistributedDataParallel(
        model, find_unused_parameters=True, broadcast_buffers=False,
        bucket_cap_mb=25)
    criterion = CLIPContrastiveLoss().to("cpu")
    optimizer = torch.optim.AdamW(groups(model.module), weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, T_0=10, T_mult=2, eta_min=1e-5)
    model.train()
    before = [p.clone() for p in model.module.temporal_extractor.parameters()]
    batches, losses = iter(loader), []
    for step in range(8):  # more than one pass
        images, text, auxiliary, image_mask, aux_mask = next(batches)
        images = images.to("cpu", dtype=torch.float32, non_blocking=True)
        with torch.amp.autocast("cpu"):
            loss = criterion(*model(images, text, auxiliary, image_mask,
                                    aux_mask)) / 2
        loss.backward()
        if step % 2:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    scheduler.step()
    assert np.isfinite(losses).all()
    assert not all(map(torch.equal, before, model.module
                       .temporal_extractor.parameters()))
    assert not getattr(dataset, "use_sample_filtering", False)
    torch.save({"epoch": 0, "model_state_dict": model.module.state_dict(),
                "optimizer_state_dict": optimizer.state_dict(),
                "scheduler_state_dict": scheduler.state_dict(),
                "train_loss": losses[-1]}, "latest_model_0.pth",
               _use_new_zipfile_serialization=True)
    again = GeoTreeClip()
    again.load_state_dict(torch.load("latest_model_0.pth")[
        "model_state_dict"])
    assert not list(tmp_path.rglob("*.tar"))  # nothing was kept


def split(made, folder, shots):
    """Support and query tars as the few-shot splits write them."""
    table = pd.read_csv(made / "table.csv")
    ids = {row for level in LEVELS[1:] for _, group in table.groupby(level)
           for row in group.sample(frac=1, random_state=42)["sample_id"][
               :shots]}
    with (tarfile.open(folder / "support.tar", "w") as support,
          tarfile.open(folder / "query.tar", "w") as query):
        for path in sorted((made / "tars").glob("*.tar")):
            with tarfile.open(path) as source:
                for member in source.getmembers():
                    content = source.extractfile(member).read()
                    info = tarfile.TarInfo(member.name)
                    info.size = len(content)
                    (support if int(member.name.split(".")[0]) in ids
                     else query).addfile(info, io.BytesIO(content))
    return ids


@pytest.mark.filterwarnings("ignore:scaled by the extremes")
def test_fine_tuning_and_evaluation(made, GeoTreeClip, tmp_path):
    """Few-shot tars in, a checkpoint out, and three ranks scored of it."""
    ids = split(made, tmp_path, 1)
    saved = tmp_path / "best_model.pth"
    GeoTreeClip(temperature=0.07).to_release(saved)
    model = GeoTreeClip()
    model.load_state_dict(torch.load(saved, map_location="cpu")[
        "model_state_dict"])
    loader = GGTDataset(str(tmp_path / "support.tar"), batch_size=128,
                        num_workers=1, resampled=False).get_dataloader()
    optimizer = torch.optim.AdamW(groups(model), weight_decay=1e-4)
    criterion, seen = CLIPContrastiveLoss(), set()
    for images, text, auxiliary, image_mask, aux_mask in loader:
        loss = criterion(*model(images.float(), text, auxiliary, image_mask,
                                aux_mask))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        seen |= {row["sample_id"] for row in auxiliary}
    held = set(pd.read_csv(made / "table.csv")["sample_id"]) & ids
    assert seen == held and seen  # no step is lost: 111 of 128 are a batch
    model.eval()
    assert model.text_encoder.tokenizer("Acer")["input_ids"]

    queries = pd.read_csv(made / "table.csv")[LEVELS].drop_duplicates()
    queries = queries.to_dict("records")
    with torch.no_grad():
        names = model.text_encoder(queries)
        names = names / names.norm(dim=-1, keepdim=True)
    hits, total = dict.fromkeys(LEVELS[1:], 0), 0
    loader = GGTDataset(str(tmp_path / "query.tar"), batch_size=512,
                        num_workers=1, resampled=False).get_dataloader()
    for images, text, auxiliary, image_mask, aux_mask in loader:
        with torch.no_grad(), torch.amp.autocast("cpu", enabled=False):
            found, _ = model(images.float(), text, auxiliary, image_mask,
                             aux_mask)
        found = found / found.norm(dim=-1, keepdim=True)
        best = (100.0 * found @ names.T).softmax(dim=-1).argmax(dim=1)
        total += len(text)
        for level in hits:
            hits[level] += sum(queries[i][level] == row[level] for i, row
                               in zip(best.tolist(), text, strict=True))
    assert total == len(shards.open(made / "tars")) - len(seen)
    assert hits["level3_species"] <= hits["level2_genus"] <= hits[
        "level1_family"] <= total


@pytest.mark.filterwarnings("ignore:scaled by the extremes")
def test_the_map_of_features(made, GeoTreeClip, tmp_path):
    """Its file of selections picks rows of its loader."""
    table = shards.open(made / "tars").table
    path = selections.write(selections.draw(table), tmp_path / "tsne.json")
    chosen = [one["name"] for one in json.loads(path.read_text())[
        "family_level"]["selected_families"]]
    model, features = GeoTreeClip().eval(), []
    loader = GGTDataset(made / "tars", batch_size=256, num_workers=1,
                        resampled=False).get_dataloader()
    for images, text, auxiliary, image_mask, aux_mask in loader:
        with torch.no_grad():
            found, _ = model(images.float(), text, auxiliary, image_mask,
                             aux_mask)
        features += [one for one, row in zip(found, text, strict=True)
                     if row["level1_family"] in chosen]
    assert len(features) == selections.rows(
        table, selections.read(path), "family").sum()
    assert torch.stack(features).isfinite().all()


def test_every_name_of_the_page_is_there():
    """Their names stand on the left, ours on the right."""
    page = Path(__file__).parents[1] / "book/from-the-release.md"
    found = re.findall(r"\{\w+\}`(?:[^`<]*<)?([\w.]+)>?`", page.read_text(
        "utf-8"))
    assert len(found) > 12
    for name in found:
        assert pkgutil.resolve_name(name) is not None, name
