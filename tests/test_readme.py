"""The README's example, taken from the page and run as it is printed."""

import re
from pathlib import Path

import pytest
import torch
from fake_source import FakeSource, occurrence_table
from killing import Run
from loopback_hub import LoopbackHub

from geotree import GeoTreeClip, pixels, shards, taxonomy
from geotree.release import towers
from geotree.release.towers import ReleaseConfig

ROOT = Path(__file__).resolve().parents[1]
SIZES = (32, 1, 4, 2, 16, 1, 2, 8, 700, 40)  # of ReleaseConfig, in order
CLIP = "openai/clip-vit-base-patch16"
# The published model has 154 million parameters: make it small, then go on
# exactly as printed.
BEFORE = f"""
import os, sys
os.chdir(sys.argv[1])
from geotree.release.towers import ReleaseConfig
ReleaseConfig.__init__.__defaults__ = {SIZES}
"""
AFTER = """
import sys
print(sys.stderr.getvalue())
print(len(test_dataset), predictions.shape, predictions.sum().item())
"""


def example() -> str:
    text = (ROOT / "README.md").read_text("utf-8")
    return re.search(r"## Coming from.*?```python\n(.*?)```", text, re.S)[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A shard of the release and a checkpoint, where the example looks."""
    folder = tmp_path_factory.mktemp("user")
    table = occurrence_table(70)
    cube = pixels.download(table, FakeSource(), folder / "cube.zarr",
                           progress=False)
    data = shards.write(cube, table, folder / "shards", layout="release",
                        progress=False)
    data.files[0].path.rename(folder / "path_to_your_data.tar")
    towers.train_tokens(taxonomy.prompts(data.classes), folder / "tokens",
                        size=690)
    torch.manual_seed(0)
    GeoTreeClip(ReleaseConfig(*SIZES), tokenizer=folder / "tokens"
                ).to_release(folder / "checkpoints/GGT_6M.pth")
    return folder, len(data)


@pytest.mark.parametrize("original", [False, True])
def test_the_example_runs_as_printed(folder, original):
    """Also with the lines of the original README that were mended."""
    folder, samples = folder
    program = example()
    if original:
        program = program.replace("map_location=device,\n", "map_location="
                                  "device)\n#").replace(
            "Evergreen Needleleaf", "Plantae")
    hub = LoopbackHub({f"models/{CLIP}": {
        name: (folder / "tokens" / name).read_bytes()
        for name in ("vocab.json", "merges.txt")}})
    said = Run(BEFORE + program + AFTER, folder, environment={
        "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / f"home-{original}"),
        "HF_HUB_OFFLINE": "0"}).finish(200)
    hub.close()
    last = samples % 32 or 32
    assert said.split("\n")[-2].startswith(
        f"{samples} torch.Size([{last}, 1]) {last}")
    assert "scaled by the extremes of the batch" in said
