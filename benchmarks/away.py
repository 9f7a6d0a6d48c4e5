"""Does a store that takes its time hold up training? Read ahead."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

from benchmarks.data import Samples
from benchmarks.machine import ROOT
from benchmarks.timing import Result, compare
from geotree import shards, training
from geotree.models.compact import CompactClip

DELAY = 0.02  # s, of each request
_BATCH = 512


def train(samples: Samples, runs: int) -> Result:
    """Training from a web server of 20 ms a request, nothing kept."""
    folder = samples.packed.files[0].path.parent
    model = CompactClip()
    model.fit_normalisation(samples.batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def steps(data) -> int:
        count = 0
        for batch in data.batches(_BATCH, shuffle=True):
            loss = training.class_loss(
                model(batch.images, batch.environment, data.classes),
                torch.as_tensor(batch.labels))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            count += len(batch.ids)
        return count

    with served(folder) as url, tempfile.TemporaryDirectory() as cache:
        far = shards.open(url, cache=cache, cache_gb=0)
        return compare(
            "training from a store, 20 ms a request", unit="samples/s",
            goal="≥ 80 % of the limit", runs=runs, ours=partial(steps, far),
            limit=partial(steps, samples.packed),
            limit_is="the same from this disk",
            note=f"compact, {len(far):,} samples of {len(far.classes)} "
                 "names, one server on this machine")


@contextmanager
def served(folder: Path):
    """A web server with ranges in another process; its address."""
    with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.away", str(folder)],
            cwd=ROOT, text=True, stdout=subprocess.PIPE) as server:
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


class _Late(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep(DELAY)
        size = (path := self.server.folder / self.path[1:]).stat().st_size
        first, last = map(int, re.fullmatch(
            r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        last = min(last, size - 1)
        with path.open("rb") as file:
            file.seek(first)
            data = file.read(last + 1 - first)
        self.send_response(206)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words):
        pass


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), _Late) as here:
        here.daemon_threads, here.folder = True, Path(sys.argv[1])
        print(f"http://127.0.0.1:{here.server_port}", flush=True)
        here.serve_forever()
