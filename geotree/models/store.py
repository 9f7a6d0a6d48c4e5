"""Weights on disk: a safetensors file and a card that says what it is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import uuid
from pathlib import Path

import pandas as pd
from torch import Tensor, nn

import geotree

WEIGHTS, CARD = "model.safetensors", "card.json"
_MOST = 5  # names listed in an error


def save(state: dict[str, Tensor], folder: str | Path, *,
         card: dict) -> Path:
    """Write weights, then the card with their SHA-256; each atomically."""
    from safetensors.torch import save as to_bytes

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = to_bytes({k: x.detach().cpu().contiguous()
                        for k, x in state.items()})
    card = {"geotree": geotree.__version__, "commit": commit(), **card,
            "sha256": hashlib.sha256(weights).hexdigest()}
    text = json.dumps(card, indent=1, default=_plain, ensure_ascii=False)
    write_atomically(folder / WEIGHTS, weights)
    write_atomically(folder / CARD, text.encode())
    return folder


def read_card(folder: str | Path) -> dict:
    """The card of a saved model."""
    path = Path(folder) / CARD
    if not path.is_file():
        raise FileNotFoundError(
            f"no model in '{folder}': it has no {CARD}. Expected a folder "
            "that model.save_pretrained wrote."
        )
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{path}' is not valid JSON ({error}). "
                         "Save the model again.") from error
    if not isinstance(card, dict) or not isinstance(card.get("config"), dict):
        raise ValueError(f"'{path}' has no 'config': it is not the card of a "
                         "compact model. Was it written by save_pretrained?")
    return card


def load(model: nn.Module, folder: str | Path, card: dict) -> None:
    """Fill ``model`` from ``folder``; refuse what does not fit or changed."""
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' has a card but no {WEIGHTS}. "
                                "Copy it there, or save the model again.")
    weights = path.read_bytes()
    found = hashlib.sha256(weights).hexdigest()
    if card.get("sha256") not in (None, found):
        raise ValueError(
            f"'{path}' has SHA-256 {found[:12]}…, its card says "
            f"{card['sha256'][:12]}…: damaged, or of another model. Copy "
            "both files again."
        )
    try:
        state = from_bytes(weights)
    except SafetensorError as error:
        raise ValueError(f"'{path}' is not a safetensors file ({error}). "
                         "Copy it again.") from error
    load_state(model, state, where=str(path))


def load_state(model: nn.Module, state: dict[str, Tensor], *,
               where: str) -> None:
    """``load_state_dict`` whose error says what differs, and what to do."""
    own = model.state_dict()
    problems = []
    for title, names in (("missing", own.keys() - state.keys()),
                         ("left over", state.keys() - own.keys())):
        if names:
            problems.append(f"{title}: {_some(names)}")
    shapes = [f"{k} {tuple(state[k].shape)}, expected {tuple(own[k].shape)}"
              for k in own.keys() & state.keys()
              if own[k].shape != state[k].shape]
    if shapes:
        problems.append(f"of another shape: {_some(shapes)}")
    if problems:
        raise ValueError(
            f"{where} holds another model than this {type(model).__name__}: "
            f"{'; '.join(problems)}. Build the model with the configuration "
            "it was trained with."
        )
    model.load_state_dict(state)


def commit() -> str | None:
    """Last commit that touched the module; None outside a git checkout."""
    command = ["git", "log", "-1", "--format=%H", "--", "."]
    try:
        done = subprocess.run(command, cwd=Path(geotree.__file__).parent,
                              capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``path`` whole or not at all."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _some(names) -> str:
    names = sorted(names)
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


def _plain(value):
    """What JSON lacks: class tables, numpy scalars, paths."""
    if isinstance(value, pd.DataFrame):
        return value.to_dict(orient="list")
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"the card holds a {type(value).__name__}, expected "
                    "numbers, text, lists, dictionaries or class tables.")
