"""The loop: a run that can be stopped at any step, and goes on from there.

Before each step torch's random state is set from the seed and the number of
the step. So nothing depends on what came before, or on how many processes
there are: a checkpoint needs weights and counts alone.
"""

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

from geotree import files, models, training
from geotree.shards import take
from geotree.shards.memory import Resident
from geotree.training import checkpoints, losses, processes

_SAMPLE = 20_000  # samples that the normalisation is worked out from
_LOOK = 20  # steps between two looks at the loss, each of which waits for it
# By which of two epochs the better one is known.
_WORTH = {"last": lambda row: row["epoch"],
          "top1": lambda row: row["validation_top1"],
          "loss": lambda row: -row["validation_loss"]}


class Run:
    """State of a training run."""

    def __init__(self, model, train, validation, settings, out: Path | None):
        self.model, self.train, self.validation = model, train, validation
        self.out, self.device = out, training.pick_device(settings.device)
        self.world = processes.join(self.device)
        self.writes = out is not None and not self.world.rank
        # A name without a record here must not be learnt as a "no".
        labels = [data.labels for data in (train, validation)
                  if data is not None]
        known = np.isin(np.arange(len(train.classes)), np.concatenate(labels))
        self.classes = train.classes[known].reset_index(drop=True)
        self.number = torch.as_tensor(
            np.where(known, known.cumsum() - 1, -1), device=self.device)
        self.recipe = losses.get(settings.recipe)
        self.settings, self.per_epoch = settings.filled(
            len(train), len(self.classes), drop_last=self.recipe.drop_last)
        self.choice = losses.choose(self.classes, self.settings,
                                    self.number[labels[0]])
        self.steps = self.per_epoch * self.settings.epochs
        self.epoch = self.step = self.kept = 0
        self.history: list[dict] = []
        self.frozen: list[nn.Parameter] = []
        self.total, self.count, self.seconds = 0.0, 0, 0.0  # of this epoch
        self.saved, self.busy, self.quick = time.monotonic(), False, True
        self.ending: BaseException | None = None  # asked for within a step

    def go(self, *, resume: bool, progress: bool) -> None:
        """Train until all epochs are done, or none has been better."""
        with ExitStack() as stack:
            if self.writes:
                stack.enter_context(files.lock(self.out / training.CHECKPOINT))
            self.prepare()
            if self.out is not None:
                checkpoints.restore(self, resume)
            bar = stack.enter_context(tqdm(
                total=self.steps, initial=self.step, desc="training",
                unit="step", disable=not progress or bool(self.world.rank)))
            stack.enter_context(processes.together(
                self.world, kept=lambda: checkpoints.kept_where(self)))
            stack.enter_context(checkpoints.orderly(self))
            while self.epoch < self.settings.epochs and not self.stale:
                self.epoch_of_training(bar)
                self.validate()
                checkpoints.save(self)
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
        some = self.train.sample(_SAMPLE).load()
        fit_normalisation = getattr(model, "fit_normalisation", None)
        if fit_normalisation and not getattr(model, "fitted", False):
            fit_normalisation(some)
        models.check(model, take(some, slice(4)), self.classes[:4])
        fit, = self.world.total(Resident.fits(self.train, self.device),
                                device=self.device)
        self.samples = (Resident(self.train, self.device)
                        if fit == self.world.size  # all in one order
                        else self.train)
        groups = self.recipe.groups(model, settings)
        trained = {id(value) for group in groups for value in group["params"]}
        left = [value for value in model.parameters()
                if value.requires_grad and id(value) not in trained]
        if settings.rates:  # what is frozen needs no gradient
            self.frozen, left = left, []
        for value in self.frozen:
            value.requires_grad_(False)
        self.simple = settings.accumulate == 1 and not left
        self.scores = self.world.wrap(losses.Scores(model))
        self.optimizer = torch.optim.AdamW(
            groups, lr=settings.learning_rate, fused=True)
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

    def labelled(self, batch):
        """The batch with class numbers among the classes that are trained."""
        labels = torch.as_tensor(batch.labels, device=self.device)
        return batch._replace(labels=self.number[labels])

    # -- an epoch --------------------------------------------------------

    def epoch_of_training(self, bar) -> None:
        """The steps of this epoch that are still to be taken."""
        self.model.train()
        done = self.step - self.epoch * self.per_epoch
        batches = islice(self.samples.batches(
            self.settings.batch_size, shuffle=True, seed=self.settings.seed,
            epoch=self.epoch, drop_last=self.recipe.drop_last,
            part=(self.world.rank, self.world.size),
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
                checkpoints.save(self)
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
        settings, n, choice = self.settings, len(batch.ids), self.choice
        torch.manual_seed(settings.seed * 1_000_003 + self.step)
        batch = self.labelled(losses.hide(batch, settings))
        if settings.negatives < len(self.classes):
            choice, labels = losses.draw(choice, batch.labels,
                                         settings.negatives)
            batch = batch._replace(labels=labels)
        for group, rate in zip(self.optimizer.param_groups, self.rates(),
                               strict=True):
            group["lr"] = rate
        self.busy = not self.simple
        with self.autocast():
            loss = self.recipe.loss(self.scores, self.world.mine(batch),
                                    choice, settings)
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
            f"({self.settings.learning_rate}), and take another "
            "folder or remove the checkpoint, for that is another run. "
            + (f"The model has the weights of epoch {self.kept}. "
               if self.history else "No epoch had ended: the model has its "
               "first weights again. ") + checkpoints.kept_where(self))

    @torch.no_grad()
    def judged(self) -> dict[str, float]:
        """Loss and top-1 on validation samples, over all classes."""
        self.model.eval()
        taxa = self.model.scale() * self.model.encode_taxa(self.classes)
        total = right = count = 0
        mine = self.validation.select(np.array_split(np.arange(
            len(self.validation)), self.world.size)[self.world.rank])
        for batch in mine.batches(512):
            labels = self.labelled(batch).labels
            with self.autocast():
                logits = self.model.encode_images(
                    batch.images, batch.environment) @ taxa.T
            total = total + losses.class_loss(
                logits, labels, self.choice.ranks) * len(labels)
            right = right + (logits.argmax(1) == labels).sum()
            count += len(labels)
        total, right, count = self.world.total(total, right, count,
                                               device=self.device)
        return {"validation_loss": total / count,
                "validation_top1": right / count}

    def validate(self) -> None:
        """Report on the epoch, and keep its weights if they are better."""
        judged = {} if self.validation is None else self.judged()
        self.busy = True
        self.history.append(self.row | judged)
        if self.writes:
            files.write(self.out / training.LOG, "".join(
                json.dumps(row) + "\n" for row in self.history))
        worth = _WORTH[self.settings.keep]
        if worth(self.history[-1]) > max(map(worth, self.history[:-1]),
                                         default=-math.inf):
            self.kept, self.best = self.epoch, self.state()
        self.epoch += 1
        self.total, self.count, self.seconds = 0.0, 0, 0.0
        self.busy = False
