"""What the size of the release costs: 6.3 million samples, 10⁶ records."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks import files, published
from benchmarks.data import Samples
from benchmarks.machine import ROOT, bytes_read
from benchmarks.timing import Result, compare
from geotree import GGTDataset, occurrences, shards, splits

_ALL, _MANY, _FEW = 6_300_000, 1_000_000, 20_000
_OPEN = """
import json, sys, time
from benchmarks.machine import bytes_read, peak_memory
from geotree import shards

before, started = bytes_read(), time.perf_counter()
data = shards.open(sys.argv[1])
batch = next(data.batches(256, shuffle=True))
seconds, memory, first = (time.perf_counter() - started, peak_memory(),
                          bytes_read() - before)
data.sample(20_000).load()  # what training looks at before its first step
size = sum(int(file.records["length"].sum()) for file in data.files)
print(json.dumps([len(data), seconds, memory / 2**20, first / size,
                  (bytes_read() - before) / size]))
"""


def first_batch(samples: Samples, runs: int) -> Result:
    """Open 6.3 million samples and give a mixed batch, in a new process."""
    folder, found = samples.repeated(_ALL), []
    for _ in range(runs + 1):
        done = subprocess.run([sys.executable, "-c", _OPEN, str(folder)],
                              cwd=ROOT, text=True, check=True,
                              stdout=subprocess.PIPE)
        found.append(json.loads(done.stdout))
    n, seconds, memory, first, all_read = map(
        statistics.median, zip(*found[1:], strict=True))
    return Result("first batch of 6.3 million samples", "s", "≤ 1 s",
                  ours=seconds, less_is_better=True,
                  runs={"ours": [row[1] for row in found[1:]]},
                  note=f"{n:,.0f} samples, imports not counted; the process "
                       f"had {memory:,.0f} MiB at most (goal: ≤ 300) and had "
                       f"read {first:.2%} of the bytes, and {all_read:.2%} "
                       "with what training looks at first (goal: ≤ 1 %)")


def parted(samples: Samples, runs: int) -> Result:
    """What each of several processes reads of an epoch that they share."""
    data = shards.open(samples.repeated(_MANY // 10))

    def cost(rank, processes):
        before = bytes_read()
        for _ in data.batches(512, shuffle=True, part=(rank, processes)):
            pass
        return bytes_read() - before

    data.labels, whole = data.labels, cost(0, 1)
    most = {n: max(cost(rank, n) for rank in range(n)) / whole
            for n in (2, 3, 4, 8)}
    return Result("bytes that each of 8 processes reads", "share",
                  "1/8 (+ 5 %)", ours=most[8], limit=1 / 8,
                  limit_is="an equal part", less_is_better=True,
                  note=f"{len(data):,} samples, the process that reads most; "
                       + ", ".join(f"of {n}: {most[n]:.1%}" for n in most))


def pick(samples: Samples, runs: int) -> Result:
    """Single samples in random order, ``shards[i]``."""
    data = samples.packed
    rows = np.random.default_rng(0).integers(len(data), size=_FEW).tolist()
    images = data.load().images

    def ours():
        for row in rows:
            data[row]
        return len(rows)

    def limit():
        for row in rows:
            images[row].copy()
        return len(rows)

    return compare("random access", unit="samples/s", goal="≥ 20,000",
                   ours=ours, limit=limit, runs=runs,
                   limit_is="the same rows of an array in memory, pixels "
                            "alone")


def read_bare(samples: Samples, runs: int) -> Result:
    """Tars of the release without an index of ours, by its own door."""
    folder = samples.folder / "bare"
    folder.mkdir(parents=True, exist_ok=True)
    for file in samples.release.files:
        link = folder / file.path.name
        link.unlink(missing_ok=True)
        link.symlink_to(file.path)
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]

    def ours():
        return files.drain(GGTDataset(urls, 512).get_dataloader())

    return compare("read release shards without our index",
                   unit="samples/s", goal="≥ 3 × published", runs=runs,
                   note="ours by GGTDataset: the same five parts",
                   ours=ours, published=lambda: files.drain(published.loader(
                       urls, shuffle=False)))


def divide(samples: Samples, runs: int) -> Result:
    """A split with a buffer of 10 km between 10⁶ records."""
    return _once("split with a buffer, 10⁶ records", "≤ 60 s",
                 lambda table: splits.split(table, buffer_km=10), samples)


def audit(samples: Samples, runs: int) -> Result:
    """All rules of the audit over 10⁶ records."""
    return _once("audit, 10⁶ records", "≤ 15 s", occurrences.audit, samples)


def _once(stage: str, goal: str, work: Callable, samples: Samples) -> Result:
    """Processor seconds of a long work, for a tenth of the rows as well."""
    spent = {}
    for size in (_MANY // 10, _MANY):
        table = _records(samples, size)
        started = time.process_time()
        work(table)
        spent[size] = time.process_time() - started
    return Result(stage, "s", goal, ours=spent[_MANY], less_is_better=True,
                  note=f"processor time; {_MANY // 10:,} records take "
                       f"{spent[_MANY // 10]:.1f} s; records again and "
                       "again, each time elsewhere within a degree")


def _records(samples: Samples, size: int) -> pd.DataFrame:
    """The records again and again, each time elsewhere within a degree."""
    some = samples.table
    table = some.iloc[np.arange(size) % len(some)].reset_index(drop=True)
    rng = np.random.default_rng(0)
    for name, most in (("decimalLatitude", 89.9), ("decimalLongitude", 179.9)):
        table[name] = (table[name] + rng.normal(0, 0.5, size)).clip(
            -most, most).round(5)
    return table.assign(gbifID=np.arange(1, size + 1))
