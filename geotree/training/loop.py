"""The loop: a run that can be stopped at any step, and goes on from there.

Before each step torch's random state is set from the seed and the number of
the step. So nothing depends on what came before, or on how many processes
there are: a checkpoint needs weights and counts alone.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from geotree import files, models, taxonomy
from geotree.models.store import load_state
from geotree.shards.memory import Resident
from geotree.training import (
    CHECKPOINT,
    LOG,
    checkpoints,
    losses,
    pick_device,
    processes,
)
from geotree.training.hiding import hide

_FEW = 2000  # samples
_SMALLEST, _LARGEST = 32, 256  # batch, where the settings name none
_EPOCHS = 10  # where neither the settings nor least_steps ask for more
_SAMPLE = 20_000  # samples that the normalisation is worked out from
_LOOK = 20  # steps between two looks at the loss, each of which waits for it
# By which of two epochs the better one is known.
_WORTH = {"last": lambda row: row["epoch"],
          "top1": lambda row: row["validation_top1"],
          "loss": lambda row: -row["validation_loss"]}
_QUICK = 1.0  # seconds that a checkpoint may take when one waits for the end


def _filled(settings, **values):
    """Settings with a value for each that was left open."""
    return dataclasses.replace(settings, **{
        name: value for name, value in values.items()
        if getattr(settings, name) is None})


class Run:
    """State of a training run."""

    def __init__(self, model, train, validation, settings, out: Path):
        self.model, self.train, self.validation = model, train, validation
        self.out, self.device = out, pick_device(settings.device)
        self.world = processes.join(self.device)
        # A name without a record here must not be learnt as a "no".
        here = {*train.table["species"], *validation.table["species"]}
        known = train.classes["species"].isin(here)
        self.classes = train.classes[known].reset_index(drop=True)
        self.number = torch.as_tensor(
            np.where(known, known.cumsum() - 1, -1), device=self.device)
        self.recipe = losses.get(settings.recipe)
        few = len(train) < _FEW  # then eight steps an epoch
        size = 2 ** math.ceil(math.log2(len(train) / 8 + 1))
        settings = _filled(settings, batch_size=min(max(size, _SMALLEST),
                                                    _LARGEST),
                           pixel_dropout=0.3 if few else 0.0,
                           month_dropout=0.3 if few else 0.1)
        self.per_epoch = (len(train) // settings.batch_size
                          if self.recipe.drop_last
                          else math.ceil(len(train) / settings.batch_size))
        if not self.per_epoch:
            raise ValueError(
                f"recipe '{settings.recipe}' drops the last batch if it is "
                f"not full: {len(train)} samples in batches of "
                f"{settings.batch_size} make no step. Lower batch_size, or "
                "take recipe='mended'.")
        self.settings = settings = _filled(settings, epochs=max(
            _EPOCHS, math.ceil(settings.least_steps / self.per_epoch)))
        self.steps = self.per_epoch * settings.epochs
        self.epoch = self.step = self.kept = 0
        self.history: list[dict] = []
        self.frozen: list[nn.Parameter] = []
        self.total, self.count, self.seconds = 0.0, 0, 0.0  # of this epoch
        self.saved, self.busy, self.quick = time.monotonic(), False, True
        self.ending: BaseException | None = None  # asked for within a step

    def go(self, *, resume: bool, progress: bool) -> None:
        """Train until all epochs are done, or none has been better."""
        with ExitStack() as stack:
            if not self.world.rank:
                stack.enter_context(files.lock(self.out / CHECKPOINT))
            self.prepare()
            if resume:
                self.restore()
            else:  # nothing of another run may be taken for this one's
                (self.out / CHECKPOINT).unlink(missing_ok=True)
            bar = stack.enter_context(tqdm(
                total=self.steps, initial=self.step, desc="training",
                unit="step", disable=not progress or bool(self.world.rank)))
            stack.enter_context(processes.together(
                self.world, kept=self.kept_where))
            stack.enter_context(checkpoints.orderly(self))
            while self.epoch < self.settings.epochs and not self.stale:
                self.epoch_of_training(bar)
                self.validate()
                self.save()
            if self.stale and self.epoch < self.settings.epochs:
                bar.write(f"stopped early: no better {self.settings.keep} "
                          f"in the last {self.settings.patience} epochs.")
        self.model.load_state_dict(self.best)
        self.model.eval()
        for value in self.frozen:
            value.requires_grad_()

    def prepare(self) -> None:
        """All that the first step needs, each thing tried before it."""
        model, settings = self.model, self.settings
        torch.manual_seed(settings.seed)
        model.to(self.device)
        few = self.train.select(range(min(len(self.train), 4))).load()
        fit_normalisation = getattr(model, "fit_normalisation", None)
        if fit_normalisation and not getattr(model, "fitted", False):
            step = max(1, len(self.train) // _SAMPLE)
            fit_normalisation(self.train.select(
                range(0, len(self.train), step)).load())
        models.check(model, few, self.classes[:4])
        self.samples = (Resident(self.train, self.device)
                        if Resident.fits(self.train, self.device)
                        else self.train)
        groups = self.recipe.groups(model, settings)
        trained = {id(value) for group in groups for value in group["params"]}
        if settings.rates:  # what is frozen needs no gradient
            self.frozen = [value for value in model.parameters()
                           if value.requires_grad and id(value) not in trained]
        for value in self.frozen:
            value.requires_grad_(False)
        self.simple = settings.accumulate == 1 and all(
            id(value) in trained for value in model.parameters()
            if value.requires_grad)
        self.scores = self.world.wrap(losses.Scores(model))
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        self.ranks = [
            (settings.rank_weight,
             torch.as_tensor(taxonomy.members(self.classes, rank)[1],
                             device=self.device))
            for rank in (taxonomy.Rank.GENUS, taxonomy.Rank.FAMILY)]
        self.best = self.state()

    def state(self) -> dict[str, Tensor]:
        """A copy of the weights."""
        return {name: value.clone()
                for name, value in self.model.state_dict().items()}

    @property
    def stale(self) -> bool:
        """Whether patience is at its end."""
        patience = self.settings.patience
        return patience is not None and (
            len(self.history) - 1 - self.kept >= patience)

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16,
                              enabled=self.device.type == "cuda")

    def labels(self, batch) -> Tensor:
        """Class numbers among the classes that are trained."""
        return self.number[torch.as_tensor(batch.labels, device=self.device)]

    # -- an epoch --------------------------------------------------------

    def epoch_of_training(self, bar) -> None:
        """The steps of this epoch that are still to be taken."""
        self.model.train()
        done = self.step - self.epoch * self.per_epoch
        batches = islice(self.samples.batches(
            self.settings.batch_size, shuffle=True, seed=self.settings.seed,
            epoch=self.epoch, drop_last=self.recipe.drop_last,
        ), done, None) if done < self.per_epoch else ()
        before = time.perf_counter()
        for batch in batches:
            self.learn(batch)
            now = time.perf_counter()
            self.seconds, before = self.seconds + now - before, now
            bar.update()
            if self.step % _LOOK == 0:
                bar.set_postfix_str(f"loss {self.mean():.3f}, "
                                    f"{self.speed:,.0f} samples/s")
            if time.monotonic() - self.saved > self.settings.save_every:
                self.mean()
                self.save()
        self.row = {"epoch": self.epoch, "step": self.step,
                    "loss": self.mean(), "learning_rate": self.rates()[0],
                    "samples_per_s": self.speed}

    def rates(self) -> list[float]:
        """Learning rate of each group of parameters at this step."""
        return self.recipe.rates(self.settings, self.step / self.per_epoch,
                                 self.optimizer.param_groups, self.steps)

    @property
    def speed(self) -> float:
        return self.count / max(self.seconds, 1e-9)

    def learn(self, batch) -> None:
        """One batch, and a step if enough of them are together."""
        settings, n = self.settings, len(batch.ids)
        torch.manual_seed(settings.seed * 1_000_003 + self.step)
        mine = self.world.mine(hide(batch, settings))
        for group, rate in zip(self.optimizer.param_groups, self.rates(),
                               strict=True):
            group["lr"] = rate
        self.busy = not self.simple
        with self.autocast():
            loss = self.recipe.loss(self.scores, mine, self.labels(mine),
                                    self.classes, self.ranks, settings)
        loss = loss * self.world.share(batch)
        (loss / settings.accumulate).backward()
        self.busy = True
        self.step += 1
        place = self.step - self.epoch * self.per_epoch
        if place % settings.accumulate == 0 or place == self.per_epoch:
            nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        self.total, self.count = self.total + loss.detach() * n, self.count + n
        self.busy = False
        if self.ending:
            raise self.ending

    def mean(self) -> float:
        """Mean loss over all processes; an error when it is not finite."""
        value = self.world.total(self.total, device=self.device)[0]
        value /= self.count * self.world.size
        if math.isfinite(value):
            return value
        self.model.load_state_dict(self.best)
        self.model.eval()
        raise ValueError(
            f"the loss is {value} by step {self.step}. Lower learning_rate "
            f"({self.settings.learning_rate}), and pass resume=False or "
            "another folder, for that is another run. "
            + (f"The model has the weights of epoch {self.kept} "
               f"(validation top-1 "
               f"{self.history[self.kept]['validation_top1']:.1%}). "
               if self.history else "No epoch had ended: the model has its "
               "first weights again. ") + self.kept_where())

    @torch.no_grad()
    def validate(self) -> None:
        """Report on the epoch, and keep its weights if they are better."""
        self.model.eval()
        taxa = self.model.scale() * self.model.encode_taxa(self.classes)
        total = right = count = 0
        for batch in map(self.world.mine, self.validation.batches(512)):
            labels = self.labels(batch)
            if not len(labels):  # no row of the last batch is this one's
                continue
            with self.autocast():
                logits = self.model.encode_images(
                    batch.images, batch.environment) @ taxa.T
            total = total + losses.class_loss(logits, labels,
                                              self.ranks) * len(labels)
            right = right + (logits.argmax(1) == labels).sum()
            count += len(labels)
        total, right, count = self.world.total(total, right, count,
                                               device=self.device)
        self.busy = True
        self.history.append(self.row | {"validation_loss": total / count,
                                        "validation_top1": right / count})
        if not self.world.rank:
            files.write(self.out / LOG, "".join(
                json.dumps(row) + "\n" for row in self.history))
        worth = _WORTH[self.settings.keep]
        if worth(self.history[-1]) > max(map(worth, self.history[:-1]),
                                         default=-math.inf):
            self.kept, self.best = self.epoch, self.state()
        self.epoch += 1
        self.total, self.count, self.seconds = 0.0, 0, 0.0
        self.busy = False

    # -- checkpoints -----------------------------------------------------

    def save(self) -> None:
        """Write all that is needed to go on from this step."""
        started = time.monotonic()
        if not self.world.rank:
            checkpoints.write(self.out / CHECKPOINT, {
                "identity": self.identity(), "epoch": self.epoch,
                "step": self.step, "kept": self.kept, "best": self.best,
                "history": self.history, "total": float(self.total),
                "count": self.count, "seconds": self.seconds,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                # Of steps under way, and of what a recipe leaves out.
                "gradients": {name: value.grad for name, value
                              in self.model.named_parameters()
                              if value.grad is not None}})
        self.saved = time.monotonic()
        self.quick = self.saved - started < _QUICK

    def save_between_steps(self) -> None:
        """Save at the end of the last step, if none is half taken."""
        if self.busy or not self.quick or not math.isfinite(self.total):
            return
        if self.simple:
            self.optimizer.zero_grad(set_to_none=True)
        self.save()

    def kept_where(self) -> str:
        """What is left of the run when it ends here."""
        path = self.out / CHECKPOINT
        return (f"The last state that was saved is in '{path}'."
                if path.exists() else "Nothing was saved yet.")

    def identity(self) -> dict:
        return checkpoints.identity(self.model, self.train, self.validation,
                                    self.classes, self.settings)

    def restore(self) -> None:
        """Go on from the checkpoint, if there is one, and it is this run's.
        """
        path = self.out / CHECKPOINT
        if not path.exists():
            return
        state = checkpoints.read(path, self.device)
        checkpoints.refuse(state["identity"], self.identity(), path)
        load_state(self.model, state["model"], where=f"'{path}'")
        self.optimizer.load_state_dict(state["optimizer"])
        for name in ("epoch", "step", "kept", "best", "history", "total",
                     "count", "seconds"):
            setattr(self, name, state[name])
        for name, value in self.model.named_parameters():
            value.grad = state["gradients"].get(name)
