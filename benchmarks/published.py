"""The published way, re-stated plainly from its description.

Same data, same machine, same threads. Where the published code repeats
work (text of every sample, loops over samples and variables, months that
are missing), so does this.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geotree.variables import NODATA, VARIABLE_NAMES


def loader(urls: list[str], *, batch_size: int = 512, shuffle: bool = True):
    """Batches of release shards: decode each member, re-batch, collate."""
    import webdataset as wds

    def sample(parts):
        images, text, auxiliary = parts
        text = text[0] if isinstance(text, list) else text
        auxiliary = (auxiliary[0] if isinstance(auxiliary, list)
                     else auxiliary)
        months = ~torch.isnan(images).all(dim=3).all(dim=2).all(dim=1)
        known = torch.tensor([auxiliary.get(name) is not None
                              for name in VARIABLE_NAMES])
        return images, text, auxiliary, months, known

    data = wds.WebDataset(urls, shardshuffle=False, empty_check=False)
    if shuffle:
        data = data.shuffle(1000)
    data = data.decode().to_tuple("images.pth", "text.json",
                                  "auxiliary.json").map(sample)
    batch: list = []
    for one in data:
        batch.append(one)
        if len(batch) == batch_size:
            yield _collate(batch)
            batch = []
    if batch:
        yield _collate(batch)


def _collate(batch: list) -> tuple:
    images, text, auxiliary, months, known = zip(*batch, strict=True)
    return (torch.stack(images), list(text), list(auxiliary),
            torch.stack(months), torch.stack(known))


def count(urls: list[str]) -> int:
    """Samples of shards, counted by opening every one."""
    total = 0
    for url in urls:
        with tarfile.open(url) as tar:
            total += sum(name.endswith(".images.pth")
                         for name in tar.getnames())
    return total


def write_tiffs(folder: Path, batch, names) -> None:
    """One GeoTIFF a month and one JSON a sample, as they were downloaded."""
    import rasterio

    for image, row, label, key in zip(*batch, strict=True):
        here = folder / str(key)
        here.mkdir(parents=True)
        values = image.astype(np.float64)
        values[image == NODATA] = np.nan
        for month, bands in enumerate(values, 1):
            with rasterio.open(
                    here / f"{month:02d}.tif", "w", driver="GTiff", width=5,
                    height=5, count=10, dtype="float64", crs="EPSG:4326",
                    transform=rasterio.transform.from_origin(
                        0, 0, 9e-5, 9e-5)) as file:
                file.write(bands)
        (here / "auxiliary.json").write_text(json.dumps(
            {"sample_id": int(key)} | {
                name: None if np.isnan(value) else float(value)
                for name, value in zip(VARIABLE_NAMES, row, strict=True)}))
        (here / "text.json").write_text(json.dumps(names[label]))


def convert(folder: Path, out: Path) -> int:
    """GeoTIFFs and JSON of each sample to a tar; the samples written."""
    import rasterio
    import webdataset as wds

    folders = sorted(folder.iterdir())
    with wds.TarWriter(str(out)) as tar:
        for here in folders:
            months = []
            for month in range(1, 13):
                with rasterio.open(here / f"{month:02d}.tif") as file:
                    months.append(file.read())
            buffer = io.BytesIO()
            torch.save(torch.from_numpy(np.stack(months)), buffer)
            tar.write({
                "__key__": here.name, "images.pth": buffer.getvalue(),
                "text.json": json.loads((here / "text.json").read_text()),
                "auxiliary.json": json.loads(
                    (here / "auxiliary.json").read_text())})
    return len(folders)


# The model: its own layers, called as the published code calls them --------

def scale_images(images: Tensor, months: Tensor) -> Tensor:
    """Batch extremes of each band: (B, T, C, H, W) to −1 … 1."""
    out = torch.zeros_like(images)
    for band in range(images.shape[2]):
        values = images[:, :, band].clone()
        values[~months] = 0
        values = torch.nan_to_num(values)
        low, high = values.min(), values.max()
        values = 2 * (values - low) / (high - low + 1e-6) - 1
        values[~months] = 0
        out[:, :, band] = values
    return out


def scale_auxiliary(dictionaries: list[dict], known: Tensor) -> Tensor:
    """Batch extremes of each variable, sample by sample: (B, V)."""
    out = torch.zeros(known.shape)
    for column, name in enumerate(VARIABLE_NAMES):
        valid = [row for row in range(len(known)) if known[row, column]]
        values = [float(dictionaries[row][name]) for row in valid]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if abs(high - low) < 1e-6:
            high = low + 1.0
        for row, value in zip(valid, values, strict=True):
            out[row, column] = 2 * (value - low) / (high - low + 1e-6) - 1
    return out.to(known.device)


def forward(model, images, text, auxiliary, months, known
            ) -> tuple[Tensor, Tensor]:
    """All twelve months of all samples, and the text of every sample."""
    images = scale_images(images.float(), months)
    extractor = model.temporal_extractor
    found = extractor.clip_vit(images.flatten(0, 1))  # (B · T, width)
    found = found.view(*months.shape, -1) * months[..., None]
    year = extractor.temporal_attention(found)
    place = model.auxiliary_encoder(scale_auxiliary(auxiliary, known))
    combined = model.fusion(torch.cat(
        [model.image_projection(year), model.aux_projection(place)], dim=1))
    return combined, texts(model, text)


def texts(model, dictionaries: list[dict]) -> Tensor:
    """Text features, each of its own, equal or not: (B, D)."""
    lines = [" / ".join(one[level] for level in one) for one in dictionaries]
    ids, mask = model.text_encoder.tokens(lines, model.device)
    hidden = model.text_encoder.text_encoder(
        input_ids=ids, attention_mask=mask).last_hidden_state
    rows = torch.arange(len(ids), device=hidden.device)
    return hidden[rows, mask.sum(dim=1) - 1]


def loss(model, batch: tuple) -> Tensor:
    """Symmetric InfoNCE of a batch at the fixed temperature."""
    combined, text = (F.normalize(part, dim=-1)
                      for part in forward(model, *batch))
    logits = combined @ text.T / 0.07
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target)
            + F.cross_entropy(logits.T, target)) / 2


@torch.no_grad()
def zero_shot(model, batches, classes_text: list[dict]) -> int:
    """Score batches; the text of each sample is encoded and not used."""
    text = F.normalize(texts(model, classes_text), dim=-1)
    found = []
    for batch in batches:
        combined, _ = forward(model, *batch)
        score = (100 * F.normalize(combined, dim=-1) @ text.T).softmax(-1)
        found.append(score.argmax(1))
    return len(torch.cat(found))
