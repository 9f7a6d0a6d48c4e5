"""Inputs of the benchmarks: simulated samples in every layout, made once."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from geotree import pixels, shards, taxonomy
from geotree.planet.source import Planet
from geotree.shards import index
from geotree.variables import NODATA, VARIABLE_NAMES

LEVELS = ("level0", "level1_family", "level2_genus", "level3_species")


class Samples:
    """``n`` samples of the planet under ``folder``."""

    def __init__(self, folder: Path, n: int):
        self.folder, self.n = folder / str(n), n

    @cached_property
    def table(self) -> pd.DataFrame:
        return Planet().occurrences(self.n)

    @property
    def about(self) -> str:
        """What a note says of these samples."""
        return (f"input: {len(self.table):,} samples of "
                f"{self.table['species'].nunique()} names")

    @cached_property
    def cube(self):
        path = self.folder / "cube.zarr"
        try:
            return pixels.open(path)
        except FileNotFoundError:
            return pixels.download(self.table, Planet(), path)

    @cached_property
    def packed(self) -> shards.Shards:
        return self._shards("packed", 64)

    @cached_property
    def release(self) -> shards.Shards:
        return self._shards("release", 8)

    def _shards(self, layout: str, packs: int) -> shards.Shards:
        path = self.folder / layout
        if not (path / shards.INDEX).exists():
            shards.write(self.cube, self.table, path, layout=layout,
                         packs_per_shard=packs)
        return shards.open(path)

    def repeated(self, size: int) -> Path:
        """Packed shards of at least ``size`` samples: links to the tars."""
        folder, entries = self.folder / f"repeated-{size}", []
        folder.mkdir(parents=True, exist_ok=True)
        times = -(-size // len(self.packed))
        for shard in self.packed.files * times:
            path = folder / f"shard-{len(entries):06d}.tar"
            path.unlink(missing_ok=True)
            path.symlink_to(shard.path)
            entries.append({
                "name": path.name, "samples": shard.samples,
                "bytes": shard.path.stat().st_size,
                "sha256": f"{len(entries):064x}",  # else: one tar, refused
                "records": len(shard.records)})
        np.save(folder / index.RECORDS, np.concatenate(
            [shard.records for shard in self.packed.files] * times))
        pd.concat([self.packed.table] * times, ignore_index=True).to_parquet(
            folder / index.TABLE)
        index.save(folder, {
            "layout": "packed", "samples": times * len(self.packed),
            "classes": self.packed.classes.to_dict(orient="list"),
            "left_out": 0, "provenance": {}, "shards": entries})
        return folder

    @cached_property
    def release_urls(self) -> list[str]:
        return [str(file.path) for file in self.release.files]

    @cached_property
    def batch(self) -> shards.Batch:
        return self.packed.load()


def many_classes(k: int) -> pd.DataFrame:
    """A class table of ``k`` made-up species in the planet's genera."""
    real = Planet().classes
    rows = real.iloc[np.arange(k) % len(real)].reset_index(drop=True)
    epithet = [f"numerus{number:05d}" for number in range(k)]
    rows["species"] = rows["genus"] + " " + pd.Series(epithet)
    return taxonomy.class_table(rows)


def as_release(batch: shards.Batch, classes: pd.DataFrame) -> tuple:
    """A batch as the release's loader yields it: five parts."""
    import torch

    images = torch.from_numpy(batch.images.astype(np.float32))
    images[torch.from_numpy(batch.images == NODATA)] = float("nan")
    names = classes[["leafType", "family", "genus", "species"]].to_numpy()
    text = [dict(zip(LEVELS, names[label], strict=True))
            for label in batch.labels]
    known = ~np.isnan(batch.environment)
    auxiliary = [
        {name: float(value) if there else 0.0 for name, value, there
         in zip(VARIABLE_NAMES, row, mask, strict=True)}
        for row, mask in zip(batch.environment, known, strict=True)]
    months = torch.from_numpy((batch.images != NODATA).any((2, 3, 4)))
    return images, text, auxiliary, months, torch.from_numpy(known)
