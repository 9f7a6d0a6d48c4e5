"""Which machine this is, and what it can do at best."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def describe() -> dict:
    """Machine, versions, commit and date: the provenance of a result."""
    import numpy
    import torch

    import geotree

    cuda = torch.cuda.is_available()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--", "geotree",
                             "benchmarks")),
        "processor": _processor(), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE")
                            * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__.partition("+")[0],
        "numpy": numpy.__version__, "geotree": geotree.__version__}


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, text=True,
                              capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines
             if line.startswith("model name")]
    return names[0] if names else platform.machine()


def product(device="cpu", *, size: int = 1536, dtype=None) -> int:
    """A square matrix product, twice: 4 · size³ operations."""
    import torch

    a = torch.randn(size, size, device=device, dtype=dtype)
    for _ in range(2):
        b = a @ a
    b[0, 0].item()  # waits for a GPU
    return 4 * size**3


def read_whole(paths) -> int:
    """Read files from front to back into one buffer; the bytes read."""
    buffer, total = bytearray(1 << 22), 0
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total += count
    return total


def peak_memory() -> int:
    """Most memory that this process held at once, in bytes.

    Linux: ``VmHWM``, which begins anew with each program. ``ru_maxrss``
    keeps the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines()
                    if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def bytes_read() -> int:
    """Bytes that this process has asked the system for so far."""
    return int(Path("/proc/self/io").read_text().split()[1])
