"""Processes of their own that start at once: killed, short of disk, or whole.
"""

import io
import multiprocessing
import os
import random
import resource
import signal
import socket
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

KILLS = 5
# Children are forked from one process that has imported the slow packages.
_CONTEXT = multiprocessing.get_context("forkserver")
SLOW = Path(__file__).parents[1] / "book/_ext/slow.txt"
_CONTEXT.set_forkserver_preload(["killing", *SLOW.read_text().split()])


class Run:
    """A process that runs some code with ``args`` in ``sys.argv[1:]``.

    ``full``: bytes that fit into one file after the code has called
    ``fill_disk()``; ``environment``: what differs in it.
    """

    def __init__(self, code, *args, full=None, environment=()):
        self.told, sender = _CONTEXT.Pipe(duplex=False)
        self.process = _CONTEXT.Process(target=_work, args=(
            sender, code, list(map(str, args)),
            os.environ | dict(environment), full))
        self.process.start()
        sender.close()

    def end(self, seconds=120):
        """Whether it ended well, and what was printed or else complained."""
        said = (self.told.recv() if self.told.poll(seconds)
                else (False, f"not ended after {seconds} s"))
        self.process.join(10)
        return said

    def finish(self, seconds=120):
        """Wait for an end that has to be a good one; what was printed."""
        good, text = self.end(seconds)
        assert good, text
        return text

    def is_alive(self):
        return self.process.is_alive() and not self.told.poll()

    def kill(self):
        assert self.is_alive(), f"ended too early: {self.told.recv()}"
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL


def port() -> int:
    """One of this machine that is free."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def crew(processes, code, *args):
    """A :class:`Run` for each process of a world, as ``torchrun`` starts them.
    """
    world = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
             "MASTER_PORT": str(port())} if processes > 1 else {}
    return [Run(code, *args, environment=world | {"RANK": str(rank)})
            for rank in range(processes)]


def _work(sender, code, args, environment, full):
    os.environ.update(environment)
    sys.argv[1:] = args
    out, complaints = io.StringIO(), io.StringIO()

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error instead

    def fill_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (full, full))

    try:
        with redirect_stdout(out), redirect_stderr(complaints):
            exec(code, {"fill_disk": fill_disk, "full": full})
    except BaseException:
        sender.send((False, complaints.getvalue() + traceback.format_exc()))
    else:
        sender.send((True, out.getvalue()))


def kills(start, progress, total):
    """Kill a process again and again; yields after each kill.

    Parameters
    ----------
    start : callable
        Starts a :class:`Run` that goes on with what an earlier one left.
    progress : callable
        Counts what has been done.
    total : int
        What a whole run counts.

    Notes
    -----
    Moments are random: pytest prints the seed where a test fails, and
    ``KILL_SEED`` repeats it.
    """
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 1_000_000))
    print(f"KILL_SEED={seed}")
    rng = random.Random(seed)
    for _ in range(KILLS):
        until = progress() + rng.randint(1, max(1, total // (KILLS + 2)))
        pause = rng.uniform(0, 0.03)
        run = start()
        while progress() < until and run.is_alive():
            time.sleep(0.002)
        time.sleep(pause)
        run.kill()
        time.sleep(0.1)  # answers that nobody waits for any more
        yield
