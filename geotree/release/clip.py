"""CLIP and RemoteCLIP as baselines: true-colour images, no variables.

The release fed both with reflectance through an 8-bit conversion that wraps
around. Here the three visible bands are scaled to 0 … 1 first, as in the
true-colour images that such models know. Batch B, months T, features D.
Chapter 09.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geotree import checks, files, taxonomy, variables as v
from geotree.models import store
from geotree.release import checkpoint, towers
from geotree.release.model import CLIP

_RGB = [v.BAND_NAMES.index(name) for name in ("B4", "B3", "B2")]
_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training images
_STD = (0.26862954, 0.26130258, 0.27577711)
_BRIGHTEST = 0.3  # reflectance that becomes 1, as in ESA's TCI
_CHUNK = 256  # images at once


def true_color(images) -> tuple[Tensor, Tensor]:
    """Red, green, blue of each month, and the months present.

    Parameters
    ----------
    images : (B, T, C, H, W) uint16 or int32
        Digital numbers; 65535 is missing.

    Returns
    -------
    (B, T, 3, H, W) float32, (B, T) bool
        0 to 1, linear up to a reflectance of 0.3; a missing pixel has the
        mean of its patch.
    """
    checks.images(images)
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images))
    bands = images[:, :, _RGB].to(torch.float32)
    valid = bands != v.NODATA
    values = (bands * v.REFLECTANCE_SCALE / _BRIGHTEST).clamp(0, 1) * valid
    count = valid.sum(dim=(3, 4), keepdim=True)
    mean = values.sum(dim=(3, 4), keepdim=True) / count.clamp(min=1)
    return (torch.where(valid, values, mean),
            (count > 0).all(dim=2).flatten(1))


class ClipBaseline(nn.Module):
    """A CLIP model that scores places by their true-colour images.

    It answers as :class:`~geotree.models.compact.CompactClip` does, so that
    evaluation and fine-tuning are the same calls.
    """

    def __init__(self, clip: nn.Module, tokenizer: str | Path = CLIP) -> None:
        super().__init__()
        self.clip, self.card = clip, {}
        text = clip.config.text_config
        self.tokens = towers.TextReader(tokenizer, text.vocab_size,
                                    text.max_position_embeddings)

    @classmethod
    def from_pretrained(cls, source: str | Path = CLIP, *,
                        tokenizer: str | Path | None = None
                        ) -> "ClipBaseline":
        """CLIP by hub id, or a folder that transformers wrote."""
        from transformers import CLIPModel

        return cls(CLIPModel.from_pretrained(source),
                   tokenizer or source).eval()

    @classmethod
    def from_open_clip(cls, path: str | Path, *,
                       tokenizer: str | Path = CLIP, config=None
                       ) -> "ClipBaseline":
        """A ViT of open_clip, such as ``RemoteCLIP-ViT-B-32.pt``.

        Parameters
        ----------
        config : transformers.CLIPConfig, optional
            Of another size than ViT-B/32.
        """
        from transformers import CLIPConfig, CLIPModel

        gelu = {"hidden_act": "gelu"}  # as in open_clip and RemoteCLIP
        clip = CLIPModel(config or CLIPConfig(text_config=gelu,
                                              vision_config=gelu))
        store.load_state(clip, _from_open_clip(checkpoint.read(path)),
                         where=f"'{path}'")
        return cls(clip, tokenizer).eval()

    @property
    def device(self) -> torch.device:
        return self.clip.logit_scale.device

    def encode_images(self, images, environment=None) -> Tensor:
        """Unit vectors (B, D): the mean of the months that are there.

        ``environment`` is not looked at.
        """
        pixels, present = true_color(images)
        months = torch.zeros(*present.shape, self.clip.config.projection_dim,
                             device=self.device)
        if present.any():
            months[present.to(self.device)] = torch.cat([
                self._look(part.to(self.device))
                for part in pixels[present].split(_CHUNK)])
        return F.normalize(months.sum(dim=1), dim=-1)

    def _look(self, pixels: Tensor) -> Tensor:
        """Unit vectors (N, D) of images (N, 3, H, W)."""
        side = self.clip.config.vision_config.image_size
        mean, std = (torch.tensor(x, device=self.device)[:, None, None]
                     for x in (_MEAN, _STD))
        pixels = F.interpolate(pixels, (side, side), mode="bicubic")
        found = self.clip.visual_projection(self.clip.vision_model(
            (pixels.clamp(0, 1) - mean) / std).pooler_output)
        return F.normalize(found, dim=-1).float()

    def encode_taxa(self, classes: pd.DataFrame) -> Tensor:
        """Unit vectors (K, D) of the rows of a class table."""
        last = self.tokens.ends(self.clip.text_model,
                                taxonomy.prompts(classes), self.device)
        return F.normalize(self.clip.text_projection(last).float(), dim=-1)

    def scale(self) -> Tensor:
        """Factor of the cosines."""
        return self.clip.logit_scale.exp()


def load(source: str | Path | nn.Module) -> nn.Module:
    """CLIP from a folder or hub id, RemoteCLIP from a file of open_clip.

    A model is returned as it is: make it with
    :meth:`ClipBaseline.from_open_clip` where the defaults do not fit.
    """
    if isinstance(source, nn.Module):
        return source
    if files.named(source).is_file():
        return ClipBaseline.from_open_clip(source)
    if files.named(source).suffix in (".pt", ".bin", ".safetensors"):
        raise FileNotFoundError(f"no weights at '{source}'. Give a file of "
                                "open_clip, a folder that transformers "
                                "wrote, or a hub id.")
    return ClipBaseline.from_pretrained(source)


# Names of open_clip → those of transformers, one after the other.
_NAMES = [(re.compile(old), new) for old, new in (
    (r"^(?!visual\.|logit_scale)", "text_model."),
    (r"^visual\.", "vision_model."),
    (r"^vision_model\.proj$", "visual_projection.weight"),
    (r"^text_model\.text_projection$", "text_projection.weight"),
    (r"transformer\.resblocks\.", "encoder.layers."),
    (r"\.attn\.", ".self_attn."), (r"\.ln_(\d)\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."), (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.ln_pre\.", ".pre_layrnorm."), (r"\.ln_post\.", ".post_layernorm."),
    (r"\.ln_final\.", ".final_layer_norm."),
    (r"\.conv1\.", ".embeddings.patch_embedding."),
    (r"\.(class_embedding|token_embedding)", r".embeddings.\1"),
    (r"\.positional_embedding$", ".embeddings.position_embedding.weight"))]


def _from_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state of open_clip under the names of transformers."""
    found = {}
    for name, value in state.items():
        for old, new in _NAMES:
            name = old.sub(new, name)
        if name.endswith("_projection.weight"):
            value = value.T.contiguous()
        if ".in_proj_" in name:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                found[name.replace(".in_proj_", f".{part}_proj.")] = (
                    rows.contiguous())
        elif name != "text_model.attn_mask":
            found[name] = value
    return found
