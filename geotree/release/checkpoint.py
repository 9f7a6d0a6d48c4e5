"""Checkpoints as they occur: read without running them, written alike.

``GGT_6M.pth`` is a pickle of tensors with the parameter names of
transformers 4, where the towers have ``vision_model.`` and ``text_model.``
in front. DDP and ``torch.compile`` add words of their own. Chapter 09.
"""

import io
import os
import pickle
import re
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from geotree import files

# The towers' names here, and what transformers before 5.6 puts behind them.
_SHELLS = {"temporal_extractor.clip_vit.model.": "vision_model.",
           "text_encoder.text_encoder.": "text_model."}
_POSITIONS = "embeddings.position_ids"
# By DDP, torch.compile, FSDP and checkpointing of activations.
_ADDED = re.compile(r"(^|\.)(?:(?:module|_orig_mod|_fsdp_wrapped_module|"
                    r"_checkpoint_wrapped_module)\.)+")
STATES = ("model_state_dict", "state_dict", "model")


def our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of any generation → ours; buffers of positions are left out.

    Raises
    ------
    ValueError
        Two names of the state are the same one of ours.
    """
    found = {}
    for given, value in state.items():
        name = _ADDED.sub(r"\1", given).removeprefix("model.")  # Lightning
        for tower, shell in _SHELLS.items():
            name = name.replace(tower + shell, tower)
        if name in found:
            raise ValueError(f"{given} is {name}, which is there already. "
                             "Keep one of the two.")
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
    found = {tower + shell + _POSITIONS: torch.arange(length)[None]
             for (tower, shell), length in zip(
                 _SHELLS.items(), (2, text_positions), strict=True) if length}
    for name, value in state.items():
        for tower, shell in _SHELLS.items():
            name = name.replace(tower, tower + shell)
        found[name] = value
    return found


def load_tensors(source):
    """``torch.load`` that never runs what a file says.

    Parameters
    ----------
    source : path, or binary file
        Checksums are compared; a file of torch before 1.6 has none.

    Raises
    ------
    ValueError
        It is no file of tensors, is damaged, asks for code to be run, or is
        compressed, which ``torch.save`` never does.
    """
    try:
        if isinstance(source, str | os.PathLike):
            files.regular(source)
        packed = zipfile.is_zipfile(source)
        if packed:
            with zipfile.ZipFile(source) as archive:
                bad = [member.filename for member in archive.infolist()
                       if member.compress_type != zipfile.ZIP_STORED]
                if bad:
                    raise ValueError(f"{bad[0]} in it is compressed")
                if bad := archive.testzip():
                    raise ValueError(f"{bad} in it is damaged")
        if isinstance(source, io.BytesIO):
            source.seek(0)
        return torch.load(source, weights_only=True, map_location="cpu",
                          mmap=packed and isinstance(source, Path))
    except Exception as error:  # damaged bytes can raise anything
        # PyTorch's own words would advise to switch the protection off.
        raise ValueError(
            "it is damaged or would run code, which is refused"
            if isinstance(error, pickle.UnpicklingError)
            else str(error).partition("\n")[0]) from error


def read(path: str | Path) -> dict[str, Tensor]:
    """The state of a checkpoint, or of a bare ``state_dict`` file.

    Raises
    ------
    FileNotFoundError, ValueError
        There is none, or it is no plain one; see :func:`load_tensors`.
    """
    path = files.named(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint '{path}'. Check the path, or "
                                "fetch it with hub.checkpoint().")
    try:
        if path.suffix == ".safetensors":  # without checksums
            content = load_file(path)
        else:
            content = load_tensors(path)
    except Exception as error:
        raise ValueError(f"'{path}' is no checkpoint of tensors: {error}. "
                         "Fetch it again, from a source that you trust."
                         ) from error
    state = content
    if isinstance(content, dict):
        state = next((content[name] for name in STATES
                      if isinstance(content.get(name), dict)), content)
    if not isinstance(state, dict) or not state or not all(
            isinstance(name, str) and isinstance(value, Tensor)
            for name, value in state.items()):
        kind = (f"keys {', '.join(map(str, list(content)[:5]))}"
                if isinstance(content, dict) else type(content).__name__)
        raise ValueError(f"'{path}' holds {kind}, expected tensors by name, "
                         f"bare or under {', '.join(STATES)}.")
    for name, value in state.items():
        # A view can claim far more numbers than the file has.
        if (value.layout != torch.strided or value.numel()
                * value.element_size() > value.untyped_storage().nbytes()):
            raise ValueError(f"'{path}' holds {name}, {tuple(value.shape)}, "
                             "not whole: expected all its numbers. Save it "
                             "with .contiguous().")
    return state
