"""Checkpoints: a run that was stopped goes on, and only as the same run."""

from __future__ import annotations

import hashlib
import io
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path

import numpy as np
import torch

from geotree import files

# Settings that may change when a run goes on.
_FREE = ("epochs", "least_steps", "patience", "save_every", "device")
_DIGEST = 32  # bytes of SHA-256 behind the checkpoint


def identity(model, train, validation, classes, settings) -> dict:
    """What must agree for a checkpoint to be continued, by name."""
    config = getattr(model, "config", None)
    shapes = {name: list(value.shape)
              for name, value in model.state_dict().items()}
    return {
        **{name: value for name, value in asdict(settings).items()
           if name not in _FREE},
        "model": type(model).__name__,
        **{f"config.{name}": value for name, value in
           (asdict(config) if is_dataclass(config) else {}).items()},
        "weights": files.fingerprint(shapes),
        "classes": files.fingerprint(classes),
        "training samples": _fingerprint(train),
        "validation samples": _fingerprint(validation)}


def _fingerprint(data) -> str:
    """Of the ids and species of samples, not of how many there are."""
    return files.fingerprint(
        np.asarray(data.table["gbifID"]),
        np.asarray(data.table["species"], dtype=str).tolist())


def refuse(found: dict, mine: dict, path: Path) -> None:
    """Say by name what differs between a checkpoint and this run."""
    differ = [f"{name} is {found.get(name)!r} there and {value!r} here"
              for name, value in mine.items() if found.get(name) != value]
    if differ:
        raise ValueError(
            f"'{path}' is of another run: {'; '.join(differ)}. Choose "
            "another folder, or pass resume=False to start afresh.")


def write(path: Path, state: dict) -> None:
    """Write a state whole, with its SHA-256 behind it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
    files.write(path, buffer.getbuffer())


def read(path: Path, device: torch.device) -> dict:
    """A state that :func:`write` wrote; never executes what is in it."""
    data = memoryview(path.read_bytes())
    if hashlib.sha256(data[:-_DIGEST]).digest() != data[-_DIGEST:]:
        raise ValueError(
            f"'{path}' does not have the SHA-256 that it ends with: damaged, "
            "or of an older version. Copy it again, or pass resume=False to "
            "start afresh.")
    return torch.load(io.BytesIO(data[:-_DIGEST]), map_location=device,
                      weights_only=True)


@contextmanager
def orderly(run) -> Iterator[None]:
    """On Ctrl-C and SIGTERM: save if that is possible, say how to go on.

    A step that is half taken is finished first, unless one asks twice.
    """
    def end(number, frame):
        error = (KeyboardInterrupt() if number == signal.SIGINT
                 else SystemExit(128 + number))
        if run.busy and run.ending is None:
            run.ending = error
        else:
            raise error

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, end) for number in
              (signal.SIGINT, signal.SIGTERM) if main}
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if not run.world.rank:
            run.save_between_steps()
            print(f"Stopped at step {run.step} of {run.steps}. "
                  f"{run.kept_where()} Call fit again with the same "
                  "arguments to go on.", file=sys.stderr)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
