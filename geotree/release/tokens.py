"""Text as CLIP's text tower reads it: byte pairs between two marks.

CLIP's own vocabulary comes from the hub when it is asked for. A small one
can be trained on taxon names, for runs without a network. Chapter 09.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from torch import Tensor

from geotree.hub import hub_file

_FILES = ("vocab.json", "merges.txt")
START, END = "<|startoftext|>", "<|endoftext|>"


class Reader:
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


def train(texts: Sequence[str], folder: str | Path, *,
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
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    fresh = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    reader = CLIPTokenizer().backend_tokenizer
    fresh.normalizer, fresh.pre_tokenizer = (reader.normalizer,
                                             reader.pre_tokenizer)
    fresh.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=max(size - 514, 0) + len(letters), show_progress=False,
        initial_alphabet=letters, end_of_word_suffix="</w>"))
    merges = json.loads(fresh.to_str())["model"]["merges"]
    names = dict.fromkeys([*letters, *(f"{x}</w>" for x in letters),
                           *("".join(pair) for pair in merges), START, END])
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(
        {name: number for number, name in enumerate(names)}), "utf-8")
    (folder / "merges.txt").write_text("\n".join(
        ["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n",
        "utf-8")
    return folder
