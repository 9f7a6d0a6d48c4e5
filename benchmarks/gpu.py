"""One GPU, one script: correct first, then as fast as it goes.

``python -m benchmarks gpu`` needs a GPU and no network; ``--toy`` runs all
of it on a CPU at a size that proves only that it works.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import machine, published
from benchmarks.data import Samples, as_release
from benchmarks.models import release_model, release_tokens
from benchmarks.timing import Result
from geotree import training
from geotree.models.compact import CompactClip, CompactConfig
from geotree.release.model import GeoTreeClip, ReleaseConfig
from geotree.shards import Batch, take
from geotree.shards.memory import Resident


@dataclass(frozen=True)
class Sizes:
    samples: int = 16_384  # of the planet, repeated on the device
    resident: int = 2_000_000  # samples on the device: 12 GB
    batches: tuple[int, ...] = (1024, 4096, 16_384)
    release_batch: int = 192  # as published
    steps: int = 30
    runs: int = 5


TOY = Sizes(samples=256, resident=512, batches=(64,), release_batch=4,
            steps=2, runs=1)


def run(folder: Path, *, device: str = "cuda", toy: bool = False
        ) -> list[Result]:
    """All measurements; raises where the device computes something else."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU here: python -m benchmarks gpu --toy runs "
                         "the same on the CPU at toy size.")
    torch.set_float32_matmul_precision("high")
    bench = _Bench(Samples(folder, (TOY if toy else Sizes()).samples),
                   torch.device(device), TOY if toy else Sizes(), toy)
    bench.check()
    return [*bench.compact(), *bench.release(), *bench.forward(),
            bench.feed()]


class _Bench:
    def __init__(self, samples: Samples, device, sizes: Sizes, toy: bool):
        self.samples, self.device, self.sizes = samples, device, sizes
        self.toy = toy
        self.cuda = device.type == "cuda"
        self.classes = samples.packed.classes
        self.peak = self._peak()

    def _peak(self) -> float:
        """Operations a second of a large product in the training dtype."""
        dtype = torch.bfloat16 if self.cuda else torch.float32
        size = 8192 if self.cuda else 256
        found = []
        for _ in range(self.sizes.runs + 1):
            started = time.perf_counter()
            work = machine.product(self.device, size=size, dtype=dtype)
            found.append(work / (time.perf_counter() - started))
        return max(found)

    def amp(self):
        return torch.autocast(self.device.type, torch.bfloat16,
                              enabled=self.cuda)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def rate(self, step, units: int) -> tuple[float, list[float]]:
        """Units a second of ``step``, median of runs of several steps."""
        for _ in range(3):
            step()
        found = []
        for _ in range(self.sizes.runs):
            self.wait()
            started = time.perf_counter()
            for _ in range(self.sizes.steps):
                step()
            self.wait()
            found.append(self.sizes.steps * units
                         / (time.perf_counter() - started))
        return statistics.median(found), found

    def memory(self) -> str:
        if not self.cuda:
            return ""
        used = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
        return f"; {used:.1f} GiB at most"

    # Correctness ----------------------------------------------------------

    def check(self) -> None:
        """Features on the device against fp32 on the CPU."""
        batch = take(self.samples.batch, slice(0, 64))
        torch.manual_seed(0)
        model = CompactClip()
        model.fit_normalisation(batch)
        model.eval()
        with torch.no_grad():
            expected = model.encode_images(batch.images, batch.environment)
            model.to(self.device)
            exact = model.encode_images(batch.images, batch.environment)
            with self.amp():
                fast = model.encode_images(batch.images, batch.environment)
        for name, found, far in (("fp32", exact, 0.999),
                                 ("training precision", fast, 0.99)):
            least = (found.float().cpu() * expected).sum(1).min().item()
            if least < far:
                raise SystemExit(
                    f"{name} on {self.device} differs from fp32 on the CPU: "
                    f"cosine {least:.4f}, expected at least {far}.")

    # Compact --------------------------------------------------------------

    def resident(self) -> Resident:
        """The planet's samples, repeated until the wanted number is there."""
        data = Resident(self.samples.packed, self.device)
        times = -(-self.sizes.resident // len(data))
        data._samples = Batch(*(column.repeat(
            times, *[1] * (column.ndim - 1)) for column in data._samples))
        return data

    def compact(self) -> list[Result]:
        """Training steps of the compact model, data on the device."""
        data, results = self.resident(), []
        ways = ["eager"] if self.toy else ["eager", "compiled"]
        for size in self.sizes.batches:
            for way in ways:
                step, work = self._compact_step(data, size, way)
                median, runs = self.rate(step, size)
                share = median * work / self.peak
                results.append(Result(
                    f"compact, {way}, batch {size}", "samples/s",
                    "≥ 300,000 on an H200, ≥ 30 % utilisation", ours=median,
                    limit=self.peak / work, limit_is="matrix products",
                    runs={"ours": runs},
                    note=f"utilisation {share:.1%}{self.memory()}"))
        return results

    def _compact_step(self, data: Resident, size: int, way: str):
        torch.manual_seed(0)
        model = CompactClip(CompactConfig())
        model.fit_normalisation(self.samples.batch)
        model.to(self.device).train()
        names = model.names.read(self.classes)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4,
                                      fused=self.cuda)
        rng = torch.Generator(self.device).manual_seed(0)

        def loss(images, environment, labels):
            with self.amp():
                logits = (model.scale()
                          * model.encode_images(images, environment)
                          @ F.normalize(model.names(names), dim=-1).T)
            return training.class_loss(logits, labels)

        batch = take(data._samples, slice(0, size))
        with FlopCounterMode(display=False) as counter:
            loss(batch.images, batch.environment, batch.labels).backward()
        if way == "compiled":
            loss = torch.compile(loss, mode="max-autotune-no-cudagraphs")

        def step():
            rows = torch.randint(len(data), (size,), generator=rng,
                                 device=self.device)
            batch = take(data._samples, rows)
            value = loss(batch.images, batch.environment, batch.labels)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        return step, counter.get_total_flops() / size

    # Release --------------------------------------------------------------

    def release(self) -> list[Result]:
        """One step of the release's architecture, ours and published."""
        size = self.sizes.release_batch
        model = self._release_model()
        rows = np.arange(size) % len(self.samples.batch.ids)
        batch = take(self.samples.batch, rows)
        parts = as_release(batch, self.classes)
        parts = tuple(part.to(self.device) if torch.is_tensor(part) else part
                      for part in parts)
        images = torch.from_numpy(batch.images).to(self.device)
        environment = torch.from_numpy(batch.environment).to(self.device)
        labels = torch.from_numpy(batch.labels).to(self.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5,
                                      fused=self.cuda)

        def ours():
            with self.amp():
                logits = model(images, environment, self.classes)
            self._update(optimizer, training.class_loss(logits, labels))

        def theirs():
            with self.amp():
                value = published.loss(model, parts)
            self._update(optimizer, value)

        found, runs = self.rate(ours, size)
        note = self.memory()
        other, other_runs = self.rate(theirs, size)
        return [Result("release architecture, training", "samples/s",
                       "≥ 3 × published", ours=found, published=other,
                       runs={"ours": runs, "published": other_runs},
                       note=f"batch {size}{note}")]

    def _release_model(self) -> GeoTreeClip:
        if not self.toy:
            return release_model(self.samples.folder).to(self.device).train()
        small = ReleaseConfig(vision_width=32, vision_depth=1,
                              vision_heads=2, month_heads=2, text_width=16,
                              text_depth=1, text_heads=2, hidden=8)
        tokenizer = release_tokens(self.samples.folder)
        return GeoTreeClip(small, tokenizer=tokenizer,
                           normalization="batch").train()

    @staticmethod
    def _update(optimizer, loss) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    # Inference and feeding ------------------------------------------------

    @torch.no_grad()
    def forward(self) -> list[Result]:
        """Latency of one sample and throughput of many, compact model."""
        model = CompactClip().to(self.device).eval()
        results = []
        for size in (1, max(self.sizes.batches)):
            rows = np.arange(size) % len(self.samples.batch.ids)
            batch = take(self.samples.batch, rows)
            images = torch.from_numpy(batch.images).to(self.device)
            environment = torch.from_numpy(batch.environment).to(self.device)

            def step(images=images, environment=environment):
                with self.amp():
                    model.encode_images(images, environment)
                if len(images) == 1:
                    self.wait()

            median, runs = self.rate(step, size)
            results.append(Result(
                f"compact, forward, batch {size}", "samples/s", "",
                ours=median, runs={"ours": runs},
                note=f"{1e3 * size / median:.2f} ms a batch"))
        return results

    def feed(self) -> Result:
        """Packed shards, shuffled, to the device."""
        data, size = self.samples.packed, min(self.sizes.batches)

        def step():
            for batch in data.batches(size, shuffle=True):
                torch.from_numpy(batch.images).to(self.device)

        median, runs = self.rate(step, len(data))
        return Result("shards to device", "samples/s", "", ours=median,
                      runs={"ours": runs})


def main(*, toy: bool, folder: Path | None = None) -> list[Result]:
    """Run in a folder of its own, unless one is given."""
    with tempfile.TemporaryDirectory() as name:
        return run(folder or Path(name), toy=toy,
                   device="cpu" if toy else "cuda")
