"""Text as CLIP's text tower reads it: byte pairs between two marks.

CLIP's own vocabulary comes from the hub when it is asked for. A small one
can be trained on taxon names, for runs without a network. Chapter 09.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from geotree.hub import hub_file

_FILES = ("vocab.json", "merges.txt")


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

    def ends(self, tower, texts: Sequence[str], device) -> Tensor:
        """What a text tower has at the end mark of each text: (K, D)."""
        ids, mask = self(texts, device)
        hidden = tower(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden[torch.arange(len(ids), device=device),
                      mask.sum(dim=1) - 1]

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
        Tokens, at most; some 420 are letters and marks.

    Returns
    -------
    path
        The folder, to be given as ``tokenizer=``.
    """
    from transformers import CLIPTokenizer

    # Each letter is a word, too: then no word ends with an unknown one.
    trained = CLIPTokenizer().train_new_from_iterator(
        [*texts, *map(chr, range(256))], size, show_progress=False)
    folder = Path(folder)
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
