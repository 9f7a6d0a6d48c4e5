"""Training: one loop, resumable to the bit, every parameter trained.

What a step learns from, and at which rate, is the recipe's to say; see
:mod:`geotree.recipes`. Explained in chapter 05.
"""

from __future__ import annotations

import io
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from geotree import distributed, evaluation, files, recipes, taxonomy
from geotree.evaluation import calibration
from geotree.models.store import load_state
from geotree.recipes import class_loss, contrastive_loss
from geotree.shards import resident

__all__ = ["CHECKPOINT", "COVERAGES", "FEW_SHOT", "LOG", "RELEASE",
           "Settings", "calibrate", "class_loss", "contrastive_loss", "fit",
           "pick_device"]
CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
# GlobalGeoTree's own: training.Settings(**training.RELEASE | {...}). There,
# three processes take a batch each before a step.
RELEASE = {"recipe": "release", "epochs": 25, "batch_size": 192,
           "accumulate": 2, "learning_rate": 1e-5, "weight_decay": 1e-4}
FEW_SHOT = RELEASE | {"epochs": 10, "batch_size": 128, "accumulate": 1}
# Shares of right answers that prediction sets can be asked to hold.
COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
_LARGEST = 20_000_000  # probabilities to calibrate on, 80 MB
_LOOK = 20  # steps between two looks at the loss, each of which waits for it


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults suit the sample run."""

    recipe: str = "mended"  # or "release", for those who must compare
    epochs: int = 10  # passes over the training samples
    batch_size: int = 256  # samples
    accumulate: int = 1  # batches a step
    learning_rate: float = 1.5e-3  # peak
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.05
    clip: float = 1.0  # largest norm of the gradient
    label_smoothing: float = 0.02
    rank_weight: float = 0.2  # of the loss at genus and at family
    temperature: float = 0.07  # of recipe "release"
    patience: int = 100  # epochs without a better validation loss
    seed: int = 0
    device: str = "auto"  # "cpu", "cuda", …


def fit(model, train, validation, *, settings: Settings | None = None,
        out: str | Path, resume: bool = True,
        progress: bool = True) -> pd.DataFrame:
    """Train a model; leave the best weights in it.

    Under ``torchrun`` or ``accelerate`` all processes share each batch.

    Parameters
    ----------
    model : CompactClip or GeoTreeClip
        Its normalisation is fitted here, unless a checkpoint has it.
    train, validation : Shards
        With the same class table; ``validation`` decides which epoch is
        best.
    settings : Settings
    out : path
        Folder for the checkpoint and the log; one run a folder.
    resume : bool
        Go on with the checkpoint in ``out``, equal to the bit on a CPU to
        a run that was never interrupted.

    Returns
    -------
    DataFrame
        One row per epoch: loss, validation loss and top-1, learning rate,
        samples a second.

    Raises
    ------
    ValueError
        The checkpoint is of another model, class table or settings; the
        recipe would take no step; the loss is not finite.
    LostProcessError
        Another process of the run ended.
    """
    settings = settings or Settings()
    taxonomy.same_classes(train.classes, validation.classes)
    if not len(train) or not len(validation):
        raise ValueError(f"{len(train)} samples to train on and "
                         f"{len(validation)} to validate: both need some.")
    run = _Run(model, train, validation, settings, Path(out))
    if resume:
        run.restore()
    kept = f"The last whole epoch is in '{run.out / CHECKPOINT}'."
    with (distributed.together(run.world, kept=kept),
          tqdm(total=run.steps, initial=run.step, desc="training",
               unit="step", disable=not progress or run.world.rank) as bar):
        while not run.finished:
            run.epoch_of_training(bar)
            run.validate()
            run.save()
    model.load_state_dict(run.best)
    model.eval()
    calibrate(model, validation, classes=run.everything())
    model.card = {**getattr(model, "card", {}), "settings": asdict(settings),
                  "data": {"samples": len(train), **train.provenance},
                  "metrics": run.history[-1]}
    return pd.DataFrame(run.history)


class _Run:
    """State of a training run."""

    def __init__(self, model, train, validation, settings, out):
        self.model, self.train, self.validation = model, train, validation
        self.settings, self.out = settings, out
        self.device = pick_device(settings.device)
        self.world = distributed.join(self.device)
        # A name without a record here must not be learnt as a "no".
        here = {*train.table["species"], *validation.table["species"]}
        known = train.classes["species"].isin(here)
        self.classes = train.classes[known].reset_index(drop=True)
        self.number = torch.as_tensor(
            np.where(known, known.cumsum() - 1, -1), device=self.device)
        self.recipe = recipes.get(settings.recipe)
        self.per_epoch = (len(train) // settings.batch_size
                          if self.recipe.drop_last
                          else math.ceil(len(train) / settings.batch_size))
        if not self.per_epoch:
            raise ValueError(
                f"recipe '{settings.recipe}' drops the last batch if it is "
                f"not full: {len(train)} samples in batches of "
                f"{settings.batch_size} make no step. Lower batch_size, or "
                "take recipe='mended'.")
        self.steps = self.per_epoch * settings.epochs
        self.epoch = self.step = self.worse = 0
        self.history: list[dict] = []
        self.lowest, self.best = math.inf, None
        torch.manual_seed(settings.seed + 100_003 * self.world.rank)
        model.to(self.device)
        if not getattr(model, "fitted", False):  # else it keeps its own
            model.fit_normalisation(_sample(train))
        self.samples = (resident.Resident(train, self.device)
                        if resident.fits(train, self.device) else train)
        self.shared = self.world.wrap(model)
        self.optimizer = torch.optim.AdamW(
            self.recipe.groups(model, settings), lr=settings.learning_rate)
        self.ranks = [
            (settings.rank_weight,
             torch.as_tensor(taxonomy.members(self.classes, rank)[1],
                             device=self.device))
            for rank in (taxonomy.Rank.GENUS, taxonomy.Rank.FAMILY)]
        out.mkdir(parents=True, exist_ok=True)

    def everything(self) -> pd.DataFrame:
        """Classes of these samples, and those that the model had before."""
        old = getattr(self.model, "classes", None)
        if old is None:
            return self.classes
        new = ~self.classes["species"].isin(old["species"])
        return pd.concat([old, self.classes[new]], ignore_index=True)

    @property
    def finished(self) -> bool:
        return (self.epoch >= self.settings.epochs
                or self.worse >= self.settings.patience)

    def rates(self) -> list[float]:
        """Learning rate of each group of parameters at this step."""
        return self.recipe.rates(self.settings, self.step / self.per_epoch,
                                 self.optimizer.param_groups, self.steps)

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16,
                              enabled=self.device.type == "cuda")

    def labels(self, batch) -> Tensor:
        """Class numbers among the classes that are trained."""
        return self.number[torch.as_tensor(batch.labels, device=self.device)]

    def learn(self, batch) -> Tensor:
        """Add the gradient of a batch; this process's part of its loss."""
        mine = self.world.mine(batch)
        labels = self.labels(mine)
        with self.autocast():
            loss = self.recipe.loss(self.shared, mine, labels, self.classes,
                                    self.ranks, self.settings)
        loss = loss * self.world.share(batch)
        (loss / self.settings.accumulate).backward()
        return loss.detach()

    def epoch_of_training(self, bar) -> None:
        self.model.train()
        started, total, count = time.perf_counter(), 0.0, 0
        batches = self.samples.batches(
            self.settings.batch_size, shuffle=True, seed=self.settings.seed,
            epoch=self.epoch, drop_last=self.recipe.drop_last)
        self.optimizer.zero_grad(set_to_none=True)
        for number, batch in enumerate(batches, 1):
            for group, rate in zip(self.optimizer.param_groups, self.rates(),
                                   strict=True):
                group["lr"] = rate
            total = total + self.learn(batch) * len(batch.ids)
            if (number % self.settings.accumulate == 0
                    or number == self.per_epoch):
                torch.nn.utils.clip_grad_norm_(self.model.parameters(),
                                               self.settings.clip)
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
            count += len(batch.ids)
            self.step += 1
            bar.update()
            if self.step % _LOOK == 0:
                speed = count / (time.perf_counter() - started)
                bar.set_postfix_str(f"loss {self.mean(total, count):.3f}, "
                                    f"{speed:,.0f} samples/s")
        self.row = {"epoch": self.epoch, "step": self.step,
                    "loss": self.mean(total, count),
                    "learning_rate": self.rates()[0],
                    "samples_per_s": count / (time.perf_counter() - started)}

    def mean(self, total: Tensor, count: int) -> float:
        """Mean loss over all processes; an error when it is not finite."""
        value = self.world.total(total, device=self.device)[0]
        value /= count * self.world.size
        if math.isfinite(value):
            return value
        raise ValueError(
            f"the loss is {value} by step {self.step}. Lower the learning "
            f"rate ({self.settings.learning_rate}); the last good state is "
            f"in '{self.out / CHECKPOINT}'.")

    @torch.no_grad()
    def validate(self) -> None:
        self.model.eval()
        total, right, count = torch.zeros(3, dtype=torch.float64,
                                          device=self.device)
        for batch in map(self.world.mine, self.validation.batches(512)):
            labels = self.labels(batch)
            if not len(labels):  # no row of the last batch is this one's
                continue
            with self.autocast():
                logits = self.model(batch.images, batch.environment,
                                    self.classes)
            total += class_loss(logits, labels, self.ranks) * len(labels)
            right += (logits.argmax(1) == labels).sum()
            count += len(labels)
        total, right, count = self.world.total(total, right, count,
                                               device=self.device)
        self.row |= {"validation_loss": total / count,
                     "validation_top1": right / count}
        self.history.append(self.row)
        if not self.world.rank:
            with (self.out / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.row) + "\n")
        if total / count < self.lowest:
            self.lowest, self.worse = total / count, 0
            self.best = {name: value.clone() for name, value
                         in self.model.state_dict().items()}
        else:
            self.worse += 1
        self.epoch += 1

    def identity(self) -> dict:
        """What must agree for a checkpoint to be continued."""
        return {"settings": asdict(self.settings),
                "config": asdict(self.model.config),
                "species": list(self.classes["species"]),
                "samples": len(self.train)}

    def save(self) -> None:
        if self.world.rank:
            return
        state = {"identity": self.identity(), "epoch": self.epoch,
                 "step": self.step, "worse": self.worse,
                 "lowest": self.lowest, "best": self.best,
                 "history": self.history, "model": self.model.state_dict(),
                 "optimizer": self.optimizer.state_dict(),
                 "random": torch.get_rng_state(),
                 # Of parameters that the recipe leaves out, if any.
                 "gradients": {name: p.grad for name, p
                               in self.model.named_parameters()
                               if p.grad is not None}}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        files.write(self.out / CHECKPOINT, buffer.getvalue())

    def restore(self) -> None:
        path = self.out / CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        mine = self.identity()
        other = [name for name in mine
                 if state["identity"].get(name) != mine[name]]
        if other:
            raise ValueError(
                f"'{path}' is of another run: it differs in "
                f"{', '.join(other)}. Choose another folder, or pass "
                "resume=False to start afresh.")
        load_state(self.model, state["model"], where=f"'{path}'")
        self.optimizer.load_state_dict(state["optimizer"])
        for name in ("epoch", "step", "worse", "lowest", "best", "history"):
            setattr(self, name, state[name])
        if not self.world.rank:
            torch.set_rng_state(state["random"].cpu())
        for name, parameter in self.model.named_parameters():
            parameter.grad = state["gradients"].get(name)


def calibrate(model, data, *, classes: pd.DataFrame) -> None:
    """Fit temperature and conformal thresholds, and keep them in the model.

    Parameters
    ----------
    model
        Gets ``classes``, ``temperature`` and ``thresholds``; see
        :class:`geotree.models.store.Whole`.
    data : Shards
        Samples that it was not trained on. Of very many, every n-th.
    classes : DataFrame
        Class table in which the model will answer.
    """
    rows = data.table["species"].isin(classes["species"]).to_numpy()
    rows = np.flatnonzero(rows)
    rows = rows[::max(1, len(rows) * len(classes) // _LARGEST)]
    some = data.select(rows)
    labels = taxonomy.labels(some.table, classes)
    odds = evaluation.predict(model, some, classes)
    model.classes = classes
    model.temperature = calibration.temperature(odds, labels)
    odds = calibration.soften(odds, model.temperature)
    model.thresholds = {
        coverage: float(calibration.conformal(odds, labels,
                                              coverage=coverage)[0])
        for coverage in COVERAGES}


def pick_device(name: str = "auto") -> torch.device:
    """The named device, or the best one of this machine."""
    if name != "auto":
        return torch.device(name)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def _sample(train, limit: int = 20_000):
    """Enough samples to work out the normalisation."""
    if len(train) <= limit:
        return train.load()
    return train.select(range(0, len(train), len(train) // limit)).load()
