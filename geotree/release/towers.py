"""The parts of the release's model, with the release's parameter names.

A CLIP vision tower over each month's patch, attention over the months, a
small network over the 27 variables, and a CLIP text tower over the four
names; all are built from a configuration, without a download. The text
tower reads byte pairs between two marks: CLIP's vocabulary comes from the
hub when it is asked for, and a small one can be trained on taxon names.
Chapter 09.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geotree import files, taxonomy, variables as v
from geotree.hub import hub_file
from geotree.release import prefixes
from geotree.release.records import LEVELS

_SIDE = 16  # pixels that the patch is enlarged to: one token of ViT-B/16
_FILES = ("vocab.json", "merges.txt")


@dataclass(frozen=True)
class ReleaseConfig:
    """Sizes of :class:`GeoTreeClip`; the defaults are the release's."""

    vision_width: int = 768
    vision_depth: int = 12
    vision_heads: int = 12
    month_heads: int = 4  # of the attention over months
    text_width: int = 512  # also D, of the shared space
    text_depth: int = 12
    text_heads: int = 8
    hidden: int = 256  # of the network over the variables
    vocabulary: int = 49408  # tokens
    positions: int = 77  # tokens of the longest text


def layer(inputs: int, outputs: int) -> nn.Sequential:
    """A fully connected layer as the release has them."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs),
                         nn.ReLU())


def bare(tower: nn.Module) -> nn.Module:
    """CLIP's tower without the shell that transformers before 5.6 puts on.
    """
    for shell in ("vision_model", "text_model"):
        tower = getattr(tower, shell, tower)
    return tower


class MonthEncoder(nn.Module):
    """CLIP's vision tower over one patch: (N, C, 5, 5) → (N, width)."""

    has_unused = True  # the layer of CLIP's pooled output, as published

    def __init__(self, config: ReleaseConfig) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModel

        self.model = bare(CLIPVisionModel(CLIPVisionConfig(
            hidden_size=config.vision_width,
            intermediate_size=4 * config.vision_width,
            num_hidden_layers=config.vision_depth,
            num_attention_heads=config.vision_heads,
            num_channels=len(v.BANDS), image_size=_SIDE, patch_size=_SIDE)))

    def forward(self, patches: Tensor) -> Tensor:
        patches = F.interpolate(patches, size=(_SIDE, _SIDE),
                                mode="bilinear", align_corners=False)
        return self.model(patches).last_hidden_state[:, 0]


class MonthAttention(nn.Module):
    """Self-attention over months, then their mean: (B, T, W) → (B, W)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x, x, x, need_weights=False)[0].mean(dim=1)


class TemporalExtractor(nn.Module):
    """A year of patches as one vector: (B, T, C, 5, 5) → (B, width)."""

    def __init__(self, config: ReleaseConfig) -> None:
        super().__init__()
        self.clip_vit = MonthEncoder(config)
        self.temporal_attention = MonthAttention(config.vision_width,
                                                 config.month_heads)

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        # A missing month is zero to the attention: no need to encode it.
        patches = images[mask]  # (months present, C, 5, 5)
        if not len(patches):  # each weight has a gradient all the same
            patches = images.new_zeros(1, *images.shape[2:])
        found = self.clip_vit(patches)[:mask.sum()]
        months = found.new_zeros(*mask.shape, found.shape[-1])
        months[mask] = found  # (B, T, width)
        return self.temporal_attention(months)


class AuxiliaryEncoder(nn.Module):
    """The 27 variables in four groups: (B, V) → (B, hidden)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        for name, part in zip(("geo", "terrain", "soil", "bio"),
                              v.GROUPS.values(), strict=True):
            self.add_module(f"{name}_encoder",
                            layer(part.stop - part.start, hidden))
        self.fusion = layer(4 * hidden, hidden)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        *encoders, fusion = self.children()
        return fusion(torch.cat([
            encode(x[:, part]) for encode, part in
            zip(encoders, v.GROUPS.values(), strict=True)], dim=1))


class TextReader:
    """Texts → token numbers; the vocabulary is loaded when first needed."""

    def __init__(self, source: str | Path, vocabulary: int, positions: int):
        self.source, self.vocabulary = source, vocabulary
        self.positions = positions

    def __call__(self, texts: Sequence[str], device) -> tuple[Tensor, Tensor]:
        """Numbers and mask of what is no padding: (K, S) int64 each."""
        found = self.tokenizer(list(texts), padding=True, truncation=True,
                               max_length=self.positions,
                               return_tensors="pt")
        return (found["input_ids"].to(device),
                found["attention_mask"].to(device))

    def ends(self, tower, texts: Sequence[str], device) -> Tensor:
        """What a text tower has at the end mark of each text: (K, D)."""
        ids, mask = self(texts, "cpu")
        rows = prefixes.share(ids.numpy(), mask.sum(dim=1).numpy(),
                              self.positions)
        tokens, place, sees, ends = (torch.from_numpy(part).to(device)
                                     for part in rows)
        hidden_from = torch.zeros(
            sees.shape, dtype=next(tower.parameters()).dtype,
            device=device).masked_fill_(~sees, -torch.inf)[:, None]
        return tower(input_ids=tokens, position_ids=place,
                     attention_mask=hidden_from
                     ).last_hidden_state.flatten(0, 1)[ends]

    @cached_property
    def tokenizer(self):
        """The ``CLIPTokenizer`` itself."""
        from transformers import CLIPTokenizer

        folder, first = Path(self.source), None
        try:
            for name in _FILES:
                # Where one is missing the library makes up an empty one.
                if not folder.is_dir():
                    path = hub_file(str(self.source), name, revision=first)
                    first = path.parent.name  # the commit
                elif not (path := folder / name).is_file():
                    raise FileNotFoundError(f"it lacks {name}.")
            tokenizer = CLIPTokenizer.from_pretrained(path.parent)
        except (OSError, ValueError) as error:
            raise OSError(
                f"no tokenizer at '{self.source}': "
                f"{str(error).partition(chr(10))[0]} Give tokenizer= a "
                f"folder with {' and '.join(_FILES)}, or a hub id while "
                "there is a network.") from error
        if len(tokenizer) > self.vocabulary:
            raise ValueError(
                f"the tokenizer '{self.source}' has {len(tokenizer):,} "
                f"tokens, the model {self.vocabulary:,}. They do not belong "
                "together.")
        return tokenizer


class TextEncoder(nn.Module):
    """CLIP's text tower over ``level0 / family / genus / species``.

    ``tokenizer`` is a hub id, fetched when text is first read, or a folder
    with ``vocab.json`` and ``merges.txt``.
    """

    def __init__(self, config: ReleaseConfig, tokenizer: str | Path) -> None:
        super().__init__()
        from transformers import CLIPTextConfig, CLIPTextModel

        self.tokens = TextReader(tokenizer, config.vocabulary,
                                    config.positions)
        self.text_encoder = bare(CLIPTextModel(CLIPTextConfig(
            hidden_size=config.text_width,
            intermediate_size=4 * config.text_width,
            num_hidden_layers=config.text_depth,
            num_attention_heads=config.text_heads,
            vocab_size=config.vocabulary,
            max_position_embeddings=config.positions,
            bos_token_id=config.vocabulary - 2,
            eos_token_id=config.vocabulary - 1)))

    @property
    def tokenizer(self):
        """The ``CLIPTokenizer``, under the release's name for it."""
        return self.tokens.tokenizer

    def forward(self, text_data: Sequence[dict] | pd.DataFrame) -> Tensor:
        """Names of each sample → (B, D), not normalised.

        Parameters
        ----------
        text_data : list of dict, or DataFrame
            With ``level0``, ``level1_family``, ``level2_genus`` and
            ``level3_species``; or a class table. Equal names are encoded
            once.
        """
        place, texts = pd.factorize(np.array(prompts(text_data)))
        device = next(self.parameters()).device
        return self.tokens.ends(self.text_encoder, texts, device)[
            torch.as_tensor(place, device=device)]


def prompts(text_data) -> list[str]:
    """One line for each sample, as the text tower reads it."""
    frame = (text_data if isinstance(text_data, pd.DataFrame)
             else pd.DataFrame.from_records(list(text_data)))
    if not {*LEVELS.values()} <= {*frame}:  # under the release's names
        frame = frame.filter([*LEVELS]).rename(columns=LEVELS)
    missing = [theirs for theirs, ours in LEVELS.items()
               if ours not in frame or frame[ours].isna().any()]
    if missing or not len(frame):
        raise ValueError(
            f"text of {len(frame)} samples lacks {', '.join(missing)}. "
            f"Expected some, each with {', '.join(LEVELS)}.")
    return taxonomy.prompts(frame.astype(str))


def train_tokens(texts: Sequence[str], folder: str | Path, *,
          size: int = 2000) -> Path:
    """Train a vocabulary and write ``vocab.json`` and ``merges.txt``.

    Parameters
    ----------
    texts : list of str
        e.g. ``taxonomy.prompts(classes)``.
    size : int
        Tokens, at most; 514 are letters and marks.

    Returns
    -------
    path
        The folder, to be given as ``tokenizer=``.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    # A word may end with any letter. In order: of pairs that are equally
    # frequent the one with lower numbers is taken.
    ends = [f"{letter}</w>" for letter in sorted(ByteLevel.alphabet())]
    trained = CLIPTokenizer().train_new_from_iterator(
        texts, size, new_special_tokens=ends, show_progress=False)
    folder = files.named(folder)
    folder.mkdir(parents=True, exist_ok=True)
    trained.backend_tokenizer.model.save(str(folder))
    # With its marks, which transformers 5.0 keeps beside the model; they
    # come last, for CLIP's own code takes the highest number for the end.
    numbers, marks = trained.get_vocab(), (trained.bos_token,
                                           trained.eos_token)
    names = [*sorted(numbers.keys() - {*marks}, key=numbers.get), *marks]
    (folder / "vocab.json").write_text(json.dumps(
        {name: number for number, name in enumerate(names)}))
    return folder
