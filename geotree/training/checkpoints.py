"""Checkpoints: a run that was stopped goes on, and only as the same run."""

import hashlib
import io
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path

import torch

from geotree import files
from geotree.models.store import load_state
from geotree.training import CHECKPOINT

# Settings that may change when a run goes on.
_FREE = ("epochs", "least_steps", "patience", "save_every", "device")
# What a checkpoint holds beside weights.
_COUNTS = ("epoch", "step", "kept", "best", "history", "total", "count",
           "seconds")
_QUICK = 1.0  # seconds that a checkpoint may take when one waits for the end
_DIGEST = 32  # bytes of SHA-256 behind the checkpoint


def identity(run) -> dict:
    """What must agree for a checkpoint to be continued, by name."""
    config, seed = (getattr(run.model, one, None)
                    for one in ("config", "seed"))
    shapes = {name: list(value.shape)
              for name, value in run.model.state_dict().items()}
    return {
        **{name: value for name, value in asdict(run.settings).items()
           if name not in _FREE},
        "model": type(run.model).__name__,
        **{f"config.{name}": value for name, value in
           (asdict(config) if is_dataclass(config) else {}).items()},
        "weights": files.fingerprint(shapes),
        "classes": files.fingerprint(run.classes),
        "seed of the model": None if seed is None else str(seed),
        "first weights": (None if getattr(run.model, "classes", None) is None
                          else _weights(run.model.state_dict())),
        # Ids, species and pixels of samples, not how many there are.
        **{f"{name} samples": None if data is None else files.fingerprint(
            data.columns("gbifID", "species"),
            [one.sha256 for one in data.files])
           for name, data in (("training", run.train),
                              ("validation", run.validation))}}


def _weights(state) -> str:
    return files.fingerprint({name: value.cpu().numpy()
                              for name, value in state.items()})


def save(run) -> None:
    """Write all that is needed to go on from this step."""
    started = time.monotonic()
    if run.writes:
        write(run.out / CHECKPOINT, {
            **{name: getattr(run, name) for name in _COUNTS},
            "identity": run.identity, "total": float(run.total),
            "order": run.samples.order,
            "model": run.model.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            # Of steps under way, and of what a recipe leaves out.
            "gradients": {name: value.grad for name, value
                          in run.model.named_parameters()
                          if value.grad is not None}})
    run.saved = time.monotonic()
    run.quick = run.saved - started < _QUICK


def save_between_steps(run) -> None:
    """Save at the end of the last step, if none is half taken."""
    if run.busy or not run.quick or not math.isfinite(run.total):
        return
    if run.simple:
        run.optimizer.zero_grad(set_to_none=True)
    save(run)


def kept_where(run) -> str:
    """What is left of the run when it ends here."""
    if run.out is None or not (run.out / CHECKPOINT).exists():
        return "Nothing was saved yet."
    return f"The last state that was saved is in '{run.out / CHECKPOINT}'."


def restore(run, resume: bool) -> None:
    """Go on from the checkpoint, if there is one, and it is this run's."""
    path, run.identity = run.out / CHECKPOINT, identity(run)
    if not resume:  # nothing of another run may be taken for this one's
        path.unlink(missing_ok=True)
    if not path.exists():
        return
    state = read(path, run.device)
    told = state["identity"]
    if run.identity["first weights"] in map(_weights, (
            state["model"], state["best"])):  # it has been here
        run.identity["first weights"] = told.get("first weights")
    if run.identity["seed of the model"] is None:  # any weights will do
        run.identity["seed of the model"] = told.get("seed of the model")
    differ = [f"{name} is {told.get(name)!r} there and {value!r} here"
              for name, value in run.identity.items()
              if told.get(name) != value]
    if differ:
        raise ValueError(
            f"'{path}' is of another run: {'; '.join(differ)}. Choose "
            f"another folder, or remove '{path}' to start afresh.")
    if state["epoch"] > run.settings.epochs:
        raise ValueError(
            f"'{path}' is of a run that has done {state['epoch']} epochs, and "
            f"{run.settings.epochs} are asked for. Ask for as many, choose "
            f"another folder, or remove '{path}' to start afresh.")
    order = state.get("order", "blocks"), run.samples.order
    if len({*order}) > 1 and (state["step"] - state["epoch"] * run.per_epoch
                              ) % run.per_epoch:
        warnings.warn(
            f"'{path}' is from within an epoch in which samples were shuffled "
            f"by {order[0]}, here by {order[1]} (another version, device or "
            "on_error): in the rest of it some come again, others not at all.",
            stacklevel=4)
    load_state(run.model, state["model"], where=f"'{path}'")
    run.optimizer.load_state_dict(state["optimizer"])
    for name in _COUNTS:
        setattr(run, name, state[name])
    for name, value in run.model.named_parameters():
        value.grad = state["gradients"].get(name)


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
            "or of an older version. Copy it again, or remove it to start "
            "afresh.")
    try:
        return torch.load(io.BytesIO(data[:-_DIGEST]), map_location=device,
                          weights_only=True)
    except Exception as error:  # whatever the bytes came to
        raise ValueError(f"'{path}' is no checkpoint. Remove it to start "
                         "afresh.") from error


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
            save_between_steps(run)
            print(f"Stopped at step {run.step} of {run.steps}. "
                  f"{kept_where(run)} Call fit again with the same "
                  "arguments to go on.", file=sys.stderr)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
