"""Training: one loop, resumable to the bit, every parameter trained.

The loss is a softmax over the class table, so that two records of one
species are never negatives of each other. Explained in chapter 05.
"""

from __future__ import annotations

import io
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from geotree import distributed, taxonomy
from geotree.models.store import load_state, write_atomically

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
_LOOK = 20  # steps between two looks at the loss, each of which waits for it


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults suit the sample run."""

    epochs: int = 10  # passes over the training samples
    batch_size: int = 256  # samples
    learning_rate: float = 1.5e-3  # peak
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.05
    clip: float = 1.0  # largest norm of the gradient
    label_smoothing: float = 0.02
    rank_weight: float = 0.2  # of the loss at genus and at family
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
    model : CompactClip
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
        loss is not finite.
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
    model.card |= {"classes": train.classes, "settings": asdict(settings),
                   "training": {"samples": len(train),
                                **train.provenance}}
    return pd.DataFrame(run.history)


class _Run:
    """State of a training run."""

    def __init__(self, model, train, validation, settings, out):
        self.model, self.train, self.validation = model, train, validation
        self.settings, self.out = settings, out
        self.device = pick_device(settings.device)
        self.world = distributed.join(self.device)
        self.classes = train.classes
        per_epoch = math.ceil(len(train) / settings.batch_size)
        self.steps = per_epoch * settings.epochs
        self.per_epoch = per_epoch
        self.epoch = self.step = self.worse = 0
        self.history: list[dict] = []
        self.lowest, self.best = math.inf, None
        torch.manual_seed(settings.seed + 100_003 * self.world.rank)
        model.to(self.device)
        model.fit_normalisation(_sample(train))
        self.shared = self.world.wrap(model)
        self.optimizer = torch.optim.AdamW(
            _groups(model, settings.weight_decay),
            lr=settings.learning_rate)
        self.groups = [
            (settings.rank_weight,
             torch.as_tensor(taxonomy.members(self.classes, rank)[1],
                             device=self.device))
            for rank in (taxonomy.Rank.GENUS, taxonomy.Rank.FAMILY)]
        out.mkdir(parents=True, exist_ok=True)

    @property
    def finished(self) -> bool:
        return (self.epoch >= self.settings.epochs
                or self.worse >= self.settings.patience)

    def rate(self) -> float:
        """Learning rate: linear warm-up, then a cosine to zero."""
        warm = max(round(self.settings.warmup * self.steps), 1)
        if self.step < warm:
            share = (self.step + 1) / warm
        else:
            part = (self.step - warm) / max(self.steps - warm, 1)
            share = 0.5 * (1 + math.cos(math.pi * part))
        return self.settings.learning_rate * share

    def loss(self, model, batch, *, smoothing: float
             ) -> tuple[Tensor, Tensor]:
        labels = torch.as_tensor(batch.labels, device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16,
                            enabled=self.device.type == "cuda"):
            logits = model(batch.images, batch.environment, self.classes)
        if not len(labels):  # a process without a row of the last batch
            return logits.sum(), logits
        return class_loss(logits, labels, self.groups,
                          smoothing=smoothing), logits

    def epoch_of_training(self, bar) -> None:
        self.model.train()
        started, total, count = time.perf_counter(), 0.0, 0
        batches = self.train.batches(
            self.settings.batch_size, shuffle=True, seed=self.settings.seed,
            epoch=self.epoch)
        for batch in batches:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate()
            loss, _ = self.loss(self.shared, self.world.mine(batch),
                                smoothing=self.settings.label_smoothing)
            loss = loss * self.world.share(batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(),
                                           self.settings.clip)
            self.optimizer.step()
            total = total + loss.detach() * len(batch.ids)
            count += len(batch.ids)
            self.step += 1
            bar.update()
            if self.step % _LOOK == 0:
                speed = count / (time.perf_counter() - started)
                bar.set_postfix_str(f"loss {self.mean(total, count):.3f}, "
                                    f"{speed:,.0f} samples/s")
        self.row = {"epoch": self.epoch, "step": self.step,
                    "loss": self.mean(total, count),
                    "learning_rate": self.rate(),
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
            loss, logits = self.loss(self.model, batch, smoothing=0.0)
            labels = torch.as_tensor(batch.labels, device=self.device)
            total += loss * len(labels)
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
                 "random": torch.get_rng_state()}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self.out / CHECKPOINT, buffer.getvalue())

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


def pick_device(name: str = "auto") -> torch.device:
    """The named device, or the best one of this machine."""
    if name != "auto":
        return torch.device(name)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def _groups(model, weight_decay: float) -> list[dict]:
    """Every parameter, decay on matrices only."""
    decay = [p for p in model.parameters() if p.ndim > 1]
    other = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decay, "weight_decay": weight_decay},
            {"params": other, "weight_decay": 0.0}]


def _sample(train, limit: int = 20_000):
    """Enough samples to work out the normalisation."""
    if len(train) <= limit:
        return train.load()
    return train.select(range(0, len(train), len(train) // limit)).load()


def class_loss(logits: Tensor, labels: Tensor,
               groups: list[tuple[float, Tensor]] = (), *,
               smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over the class table, plus that of coarser ranks.

    Parameters
    ----------
    logits : (B, K) float
    labels : (B,) int64
    groups : list of (weight, (K,) int64)
        Group number of each class and the weight of its loss: the negative
        log of the summed probability of the right group.
    smoothing : float
        Label smoothing at species level.

    Returns
    -------
    scalar Tensor
    """
    logits = logits.float()
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    log_probability = logits.log_softmax(dim=1)  # (B, K)
    for weight, group in groups:
        same = group[labels][:, None] == group  # (B, K)
        inside = log_probability.masked_fill(~same, -math.inf)
        loss = loss - weight * inside.logsumexp(dim=1).mean()
    return loss


def contrastive_loss(image_features: Tensor, text_features: Tensor, *,
                     logit_scale: float | Tensor,
                     labels: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE over a batch, as CLIP trains.

    Parameters
    ----------
    image_features, text_features : (B, D), of length 1
    logit_scale : float
    labels : (B,) int64, optional
        With labels, all pairs of one class count as matches. Without, as
        in the release, another record of the same species is a negative.

    Returns
    -------
    scalar Tensor
    """
    logits = logit_scale * image_features @ text_features.T  # (B, B)
    if labels is None:
        labels = torch.arange(len(logits), device=logits.device)
    match = (labels[:, None] == labels).float()
    target = match / match.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target)
            + F.cross_entropy(logits.T, target)) / 2
