"""Does a training process grow with its data? Peak memory, streaming."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.data import Samples
from benchmarks.machine import ROOT
from benchmarks.timing import Result

_STEP = 50  # a training step at each 50th batch keeps it short
_PROGRAM = f"""
import sys, torch
from benchmarks.machine import peak_memory
from geotree import shards, training
from geotree.models.compact import CompactClip

data, model = shards.open(sys.argv[1]), CompactClip()
model.fit_normalisation(next(data.batches(4096)))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
count = 0
for number, batch in enumerate(data.batches(512, shuffle=True)):
    count += len(batch.ids)
    if number % {_STEP} == 0:
        logits = model(batch.images, batch.environment, data.classes)
        loss = training.class_loss(logits, torch.as_tensor(batch.labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(count, peak_memory())
"""


def train(samples: Samples, runs: int) -> Result:
    """Peak memory of a process that streams 10,000 and a million samples."""
    peak = {}
    for size in (10_000, 1_000_000):
        folder = samples.repeated(size)
        done = subprocess.run([sys.executable, "-c", _PROGRAM, str(folder)],
                              cwd=ROOT, text=True, capture_output=True,
                              check=True, env=os.environ)
        count, size = map(int, done.stdout.split())
        peak[count] = size / 2**20
    few, many = sorted(peak)
    return Result("memory of a training process", "MiB",
                  "flat from 10 thousand to a million", ours=peak[many],
                  limit=peak[few], less_is_better=True,
                  limit_is=f"the same at {few:,} samples",
                  note=f"{many:,} samples")
