"""The release's checkpoints: read without running them, written alike.

``GGT_6M.pth`` is a pickle of tensors with the parameter names of
transformers 4. Those of transformers 5, which is what the models here are
made of, lack ``vision_model.`` and ``text_model.``, and the text tower has
no ``position_ids`` since 4.31. Chapter 09.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from geotree import files

_TOWERS = {"temporal_extractor.clip_vit.model.": "vision_model.",
           "text_encoder.text_encoder.": "text_model."}
_POSITIONS = "embeddings.position_ids"
STATE = "model_state_dict"


def our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of either generation → ours; buffers of positions are left out.
    """
    found = {}
    for name, value in state.items():
        for tower, inner in _TOWERS.items():
            if name.startswith(tower + inner):
                name = tower + name.removeprefix(tower + inner)
        if not name.endswith(_POSITIONS):
            found[name] = value
    return found


def release_names(state: dict[str, Tensor], *,
                  text_positions: int | None = 77) -> dict[str, Tensor]:
    """Our names → those of the release, its buffers of positions included.

    Parameters
    ----------
    text_positions : int or None
        Length of the text tower's buffer; None leaves it out.
    """
    vision, text = (tower + inner for tower, inner in _TOWERS.items())
    found = {vision + _POSITIONS: torch.arange(2)[None]}
    if text_positions is not None:
        found[text + _POSITIONS] = torch.arange(text_positions)[None]
    for name, value in state.items():
        for tower, inner in _TOWERS.items():
            if name.startswith(tower):
                name = tower + inner + name.removeprefix(tower)
        found[name] = value
    return found


def load_tensors(path: str | Path):
    """``torch.load`` that never runs what the file says.

    Raises
    ------
    FileNotFoundError
    ValueError
        The file is no checkpoint, is damaged, asks for code to be run, or
        is compressed, which ``torch.save`` never does.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint '{path}'. Check the path, or "
                                "fetch it with hub.checkpoint().")
    packed = zipfile.is_zipfile(path)
    try:
        if packed:
            with zipfile.ZipFile(path) as archive:
                bad = [member.filename for member in archive.infolist()
                       if member.compress_type != zipfile.ZIP_STORED]
            if bad:
                raise ValueError(f"{bad[0]} in it is compressed")
        return torch.load(path, weights_only=True, map_location="cpu",
                          mmap=packed)
    except (ValueError, RuntimeError, TypeError, EOFError, KeyError,
            AttributeError, IndexError, OverflowError, MemoryError,
            UnicodeDecodeError, pickle.UnpicklingError,
            zipfile.BadZipFile) as error:
        # PyTorch's own words would advise to switch the protection off.
        reason = ("it is no pickle of tensors, or would run code, which is "
                  "refused" if isinstance(error, pickle.UnpicklingError)
                  else str(error).partition("\n")[0])
        raise ValueError(f"'{path}' is no checkpoint of tensors: {reason}. "
                         "Fetch it again, from a source that you trust."
                         ) from error


def read(path: str | Path) -> dict[str, Tensor]:
    """The state of a checkpoint, or of a bare ``state_dict`` file."""
    content = load_tensors(path)
    state = content.get(STATE, content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(
            isinstance(value, Tensor) for value in state.values()):
        kind = (f"keys {', '.join(map(str, list(content)[:5]))}"
                if isinstance(content, dict) else type(content).__name__)
        raise ValueError(f"'{path}' holds {kind}, expected '{STATE}' with "
                         "tensors by name, as the release writes.")
    return state


def write(state: dict[str, Tensor], path: str | Path, *,
          text_positions: int | None) -> Path:
    """Write a checkpoint with the release's keys and names."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = release_names({name: value.detach().cpu() for name, value
                           in state.items()}, text_positions=text_positions)
    buffer = io.BytesIO()
    torch.save({"epoch": 0, STATE: names, "optimizer_state_dict": {},
                "scheduler_state_dict": {}, "train_loss": float("nan")},
               buffer)
    files.write(path, buffer.getvalue())
    return path
