"""Training: one loop, resumable to the bit, every parameter trained.

What a step learns from, and at which rate, is the recipe's to say; see
:mod:`geotree.training.losses`. Explained in chapter 05.
"""

import dataclasses
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from geotree import checks, evaluation, files, taxonomy
from geotree.evaluation import calibration, predictions
from geotree.shards import Shards
from geotree.training.losses import class_loss, contrastive_loss

__all__ = ["CHECKPOINT", "COVERAGES", "FEW_SHOT", "LOG", "RELEASE",
           "Settings", "calibrate", "class_loss", "contrastive_loss", "fit",
           "pick_device"]
CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
# GlobalGeoTree's own: training.Settings(**training.RELEASE | {...}). There,
# three processes take a batch each before a step.
RELEASE = {"recipe": "release", "epochs": 25, "batch_size": 192,
           "accumulate": 2, "learning_rate": 1e-5, "weight_decay": 1e-4,
           "keep": "loss", "flips": False, "pixel_dropout": 0.0,
           "month_dropout": 0.0, "group_dropout": 0.0,
           "location_dropout": 0.0}
FEW_SHOT = RELEASE | {"epochs": 10, "batch_size": 128, "accumulate": 1}
# Shares of right answers that prediction sets can be asked to hold.
COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
_MOST = 20_000_000  # probabilities to calibrate on, 80 MB
_HELD = 5000  # samples, that go with the model
_FEW = 2000  # samples
_SMALLEST, _LARGEST = 32, 256  # batch, where the settings name none
_EPOCHS = 10  # where neither the settings nor least_steps ask for more
_MANY, _DRAWN = 2048, 1024  # classes: of more, so many are drawn a step


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults suit few samples and many."""

    recipe: str = "mended"  # or "release", or "package.module:NAME"
    epochs: int | None = None  # passes; None: 10, and least_steps at least
    least_steps: int = 300  # where epochs is None
    batch_size: int | None = None  # samples; None: 256, less where few
    accumulate: int = 1  # batches a step
    learning_rate: float = 1.5e-3  # peak
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.05
    clip: float = 1.0  # largest norm of the gradient
    label_smoothing: float = 0.02
    rank_weight: float = 0.2  # of the loss at genus and at family
    temperature: float = 0.07  # of recipe "release"
    negatives: int | None = None  # species that a step compares with beside
    # those of its batch, half of them the most frequent, the others drawn;
    # None: all, or 1,024 of more than 2,048
    flips: bool = True  # patches turned and mirrored
    # Chances to be hidden. None: 0.3 where samples are few, else 0 and 0.1.
    pixel_dropout: float | None = None  # of a pixel of a month
    month_dropout: float | None = None  # of a month
    group_dropout: float = 0.1  # of terrain, soil or climate
    location_dropout: float = 0.1  # of the place
    rates: Mapping[str, float] | None = None  # {part: share of the rate},
    # e.g. {"names": 0.1, "month": 0}: slow names, a frozen month layer
    keep: str = "last"  # which epoch: "last", or best "top1" or "loss"
    patience: int | None = None  # epochs without a better one; None: all
    save_every: float = 180.0  # seconds between checkpoints in an epoch
    seed: int = 0
    device: str = "auto"  # "cpu", "cuda", "mps", …

    def __post_init__(self) -> None:
        checks.one_of(self.keep, ("last", "top1", "loss"), name="keep")
        checks.one_of(self.flips, (True, False), name="flips")
        for names, limits in (
                ("epochs batch_size accumulate patience negatives",
                 {"low": 1, "whole": True}),
                ("pixel_dropout month_dropout group_dropout location_dropout "
                 "warmup", {"low": 0, "high": 1}),
                ("label_smoothing", {"low": 0, "high": 0.99}),
                ("seed", {"low": 0, "high": 2**40, "whole": True}),
                ("least_steps", {"low": 0, "whole": True}),
                ("weight_decay rank_weight save_every", {"low": 0}),
                ("clip temperature", {"low": 1e-6}),
                ("learning_rate", {"low": 1e-30})):
            for name in names.split():
                if getattr(self, name) is not None:
                    checks.number(getattr(self, name), name=name, **limits)
        for part, share in dict(self.rates or {}).items():
            checks.number(share, name=f"rates[{part!r}]", low=0)

    def filled(self, n: int, k: int, *, drop_last: bool
               ) -> tuple["Settings", int]:
        """With what was left open, for ``n`` samples of ``k`` classes.

        Returns
        -------
        Settings
        int
            Steps an epoch; with ``drop_last`` of whole batches alone.
        """
        few = n < _FEW  # then eight steps an epoch
        size = self.batch_size or min(max(
            2 ** math.ceil(math.log2(n / 8 + 1)), _SMALLEST), _LARGEST)
        steps = n // size if drop_last else math.ceil(n / size)
        if not steps:
            raise ValueError(
                f"recipe '{self.recipe}' drops the last batch if it is not "
                f"full: {n} samples in batches of {size} make no step. Lower "
                "batch_size, or take recipe='mended'.")
        values = {"batch_size": size, "pixel_dropout": 0.3 if few else 0.0,
                  "month_dropout": 0.3 if few else 0.1,
                  "negatives": k if k <= _MANY else _DRAWN,
                  "epochs": max(_EPOCHS,
                                math.ceil(self.least_steps / steps))}
        return dataclasses.replace(self, **{
            name: value for name, value in values.items()
            if getattr(self, name) is None}), steps


def fit(model, train, validation=None, *, settings: Settings | None = None,
        out: str | Path | None = None, resume: bool = True,
        progress: bool = True) -> pd.DataFrame:
    """Train a model; leave the weights of the kept epoch in it.

    Under ``torchrun`` or ``accelerate`` all processes share each batch.
    Afterwards the model has ``classes``, ``temperature`` and
    ``thresholds``; see :class:`geotree.models.store.Whole`.

    Parameters
    ----------
    model : CompactClip, GeoTreeClip, or any of your own
        See :func:`geotree.models.check` for what it must have. Its
        normalisation is fitted here unless it has one, as a model that was
        trained before does.
    train, validation : Shards
        With the same class table; ``validation`` reports on each epoch.
        Without, the last epoch is kept and nothing is calibrated.
    settings : Settings
    out : path
        Folder for the checkpoint and the log; one run a folder. Without,
        a run that is stopped is lost.
    resume : bool
        Go on with the checkpoint in ``out``, equal to the bit on a CPU to
        a run that was never interrupted. More epochs, another patience or
        device, or another number of processes may be given.

    Returns
    -------
    DataFrame
        One row per epoch: loss, validation loss and top-1, learning rate,
        samples a second.

    Raises
    ------
    TypeError, ValueError
        The model cannot be trained; the checkpoint is damaged or of
        another model, data or settings; the recipe would take no step; the
        loss is not finite.
    BusyError
        Another run is writing to ``out``.
    LostProcessError
        Another process of the run ended.
    """
    from geotree.training.loop import Run

    checks.one_of(resume, (True, False), name="resume")
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model is {checks.shown(model)}, expected one of "
                        "torch, made, not its class: see models.check.")
    settings = Settings() if settings is None else settings
    if not isinstance(settings, Settings):
        raise TypeError(f"settings is a {type(settings).__name__}, expected "
                        "training.Settings.")
    for data in (train, train if validation is None else validation):
        predictions.expect_data(data, Shards)
    if not len(train) or (validation is not None and not len(validation)):
        raise ValueError("0 samples to train on, or to validate: both need "
                         "some.")
    if train.classes.empty:
        raise ValueError("train has no names of species: nothing to learn.")
    if validation is not None:
        taxonomy.same_classes(train.classes, validation.classes)
        _apart(train, validation)
    elif settings.keep != "last" or settings.patience is not None:
        raise ValueError("keep and patience need validation samples.")
    with torch.random.fork_rng(devices=[]):  # the caller's state stays
        run = Run(model, train, validation, settings,
                  None if out is None else files.named(out))
        if len(run.classes) < 2:
            warnings.warn("all samples are of one species: there is nothing "
                          "to tell apart.", stacklevel=2)
        run.go(resume=resume, progress=progress)
    classes = getattr(model, "classes", None)  # the new ones come last
    model.classes = run.classes if classes is None else pd.concat([
        classes, run.classes[~run.classes["species"].isin(
            classes["species"])]], ignore_index=True)
    model.thresholds, model.held = {}, None  # were of other weights
    if validation is not None:
        calibrate(model, validation, classes=model.classes)
    model.card = {**getattr(model, "card", {}),
                  "settings": dataclasses.asdict(run.settings),
                  "data": {"samples": len(train), **train.provenance},
                  "metrics": run.history[run.kept]}
    return pd.DataFrame(run.history)


def _apart(train, validation) -> None:
    """Warn where a validation sample is trained on."""
    one, other = (data.columns("gbifID")["gbifID"]
                  for data in (train, validation))
    both = other.isin(one).sum()
    if "memory" in (train.layout, validation.layout) and (
            train.files is not validation.files):
        return  # own patches may be numbered alike
    if both:
        warnings.warn(
            f"{both} of {len(validation)} validation samples are trained on, "
            "too: the score, the temperature and the thresholds will promise "
            "too much. See splits.split.", stacklevel=3)


def calibrate(model, data, *, classes: pd.DataFrame) -> None:
    """Fit temperature and conformal thresholds, and keep them in the model.

    With the features that they rest on, so that they can be fitted anew for
    fewer names; see :func:`geotree.explore.predict`.

    Parameters
    ----------
    model
        Gets ``classes``, ``temperature``, ``thresholds`` and ``held``; see
        :class:`geotree.models.store.Whole`.
    data : Shards
        Samples that it was not trained on. Of very many, every n-th.
    classes : DataFrame
        Class table in which the model will answer.
    """
    predictions.expect(model)
    predictions.expect_data(data, Shards)
    taxonomy.check(classes)
    known = data.table["species"].isin(classes["species"]).to_numpy()
    if not known.any():
        raise ValueError(f"none of the {len(data)} samples is of one of the "
                         f"{len(classes)} classes: nothing to calibrate on.")
    rows = np.flatnonzero(known)
    most = min(_HELD, max(1, _MOST // len(classes)))
    some = data.select(rows[::max(1, math.ceil(len(rows) / most))])
    features = evaluation.embed(model, some)  # (N, D)
    labels = taxonomy.labels(some.table, classes)
    odds = evaluation.predict(model, features, classes)
    model.classes = classes
    model.held = some.table.reindex(columns=[  # own patches have no place
        "species", "decimalLatitude", "decimalLongitude"]).reset_index(
            drop=True).assign(features=list(features))
    model.temperature = calibration.temperature(odds, labels)
    odds = calibration.soften(odds, model.temperature)
    model.thresholds = {
        coverage: float(calibration.conformal(odds, labels,
                                              coverage=coverage)[0])
        for coverage in COVERAGES}


def pick_device(name: str = "auto") -> torch.device:
    """The named device, or the best one of this machine."""
    if name != "auto":
        try:
            one = torch.zeros(1, device=name)
            one.tolist()  # of "meta" there is nothing to have
            return one.device
        except (RuntimeError, AssertionError, TypeError) as error:
            raise ValueError(
                f"device is {name!r}, which this machine or this build of "
                f"torch does not have ({str(error).splitlines()[0]:.80}). "
                "Take 'auto' or 'cpu'.") from error
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
