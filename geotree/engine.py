"""The engine: chunks of work, in this process or on the workers of Dask.

One process deals the chunks out and keeps what comes back; who works on
them writes nothing. So a worker that is killed costs its chunk, nothing is
written by halves, and workers need no disk in common. Few chunks are on
their way at a time: memory does not grow with their number, in the
scheduler neither.
"""

import errno
import hashlib
import platform
import queue
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import islice
from pathlib import Path

import geotree
from geotree import checks
from geotree.network import Pool, ServiceError

_KEPT = "What is finished is kept: call again to go on"
_FETCHING = 20.0  # s, until a result that is done has to be here
# Dask has glibc give each freed array back at once: a third of the work.
MEMORY = dict.fromkeys(
    ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), 2**28)
_GUARD = ("In a script, more than one worker has to be asked for below if "
          "__name__ == '__main__':, for each starts the script anew.")


@contextmanager
def open(workers=1) -> Iterator:
    """Who works: as many processes of this machine, or a cluster of Dask.

    Parameters
    ----------
    workers : int, str or dask.distributed.Client
        1: this process alone. More, the address of a scheduler, or a
        client need the extra ``dask``.

    Yields
    ------
    1 or Client
        What :func:`each` takes, and ``open`` itself: it opens only once.

    Raises
    ------
    ImportError
        Dask is not installed.
    OSError
        No scheduler is at the address.
    """
    with ExitStack() as stack:
        if not isinstance(workers, str) and not hasattr(workers, "submit"):
            checks.number(workers, name="workers (or a client of Dask)",
                          low=1, high=1024, whole=True)
        if workers != 1:
            workers = _client(workers, stack)
        yield workers


def _client(workers, stack: ExitStack):
    try:
        import dask
        from dask.distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError("more than one worker needs Dask: pip install "
                          "\"geotree[dask]\"") from error
    if isinstance(workers, Client):
        return workers
    if not isinstance(workers, str):
        # After 15 s it would not take back a worker that is being started.
        stack.enter_context(dask.config.set({
            "distributed.deploy.lost-worker-timeout": "1 hour"} | {
            f"distributed.nanny.pre-spawn-environ.{name}": value
            for name, value in MEMORY.items()}))
        try:
            workers = stack.enter_context(LocalCluster(
                n_workers=workers, threads_per_worker=1,
                dashboard_address="127.0.0.1:0"))
        except RuntimeError as error:
            raise RuntimeError(f"{error}. {_GUARD}") from error
    try:
        return stack.enter_context(Client(workers, set_as_default=False))
    except OSError as error:
        raise OSError(
            error.errno or errno.ECONNREFUSED,
            f"no scheduler of Dask answers at '{workers}' ({error}). Start "
            "one, or give its address as 'dask scheduler' prints it"
        ) from error


# One version everywhere ---------------------------------------------------


@cache
def versions() -> dict[str, str]:
    """Of what has to be the same wherever work is done."""
    import dask

    code = hashlib.sha256()
    for path in sorted(Path(geotree.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    return {"geotree": f"{geotree.__version__} ({code.hexdigest()[:8]})",
            "dask": dask.__version__,
            "python": ".".join(platform.python_version_tuple()[:2])}


def _work(expected: dict, call: Callable, *args):
    """A call on a worker, if it is like who asks."""
    if expected != versions():
        raise ValueError(
            f"the cluster is of another version: a worker has {versions()}, "
            f"expected {expected}. Install the same on all machines, and "
            f"start the cluster anew. {_KEPT}.")
    return call(*args)


# Chunks -------------------------------------------------------------------


def slots(workers) -> int:
    """Chunks that are worked on at the same time."""
    return 1 if workers == 1 else max(sum(workers.nthreads().values()), 1)


def each(call: Callable, tasks: Iterable[tuple], *, workers=1,
         shared: tuple = (), most: int | None = None,
         timeout: float = 3600.0) -> Iterator[tuple]:
    """Results of ``call(*shared, *task)``, in the order in which they come.

    Tasks are taken from ``tasks`` when somebody can work on them: an
    iterable that ends early ends the work. Where a call fails, those that
    have begun are waited for, and handed out, before its error is raised.

    Parameters
    ----------
    call : callable
        On a cluster: of a module, and without side effects, for a worker
        may die when it is half done.
    workers : 1 or Client
        From :func:`open`.
    shared : tuple
        What all tasks need, sent to a worker once.
    most : int, optional
        Tasks at a time, whatever the cluster can do.
    timeout : float
        Seconds without any result after which this is an error.

    Yields
    ------
    task, result

    Raises
    ------
    ServiceError
        Nothing came back in time.
    ValueError
        A worker has another GeoTree, Dask or Python.
    OSError
        A chunk killed its workers, or the scheduler is gone.
    """
    tasks, done, running = iter(tasks), queue.SimpleQueue(), {}
    send = _sender(call, shared, workers)

    def begin(task: tuple) -> None:
        job = send(*task)
        running[id(job)] = job, task
        job.add_done_callback(done.put)

    def start(number: int) -> None:
        for task in islice(tasks, max(number, 0)):
            begin(task)

    def room() -> int:
        return (1 if workers == 1 else most or 2 * slots(workers)) - len(
            running)

    failed = None
    try:
        start(room())
        while running:
            job = done.get(timeout=timeout)
            _, task = running.pop(id(job))
            try:
                result = job.result(_FETCHING)
            except Exception as error:
                if workers != 1 and isinstance(error, TimeoutError) and (
                        job.status != "error"):
                    job.cancel()  # done, and lost with its worker
                    begin(task)
                    continue
                failed, tasks = failed or error, iter(())
                continue
            start(room())
            yield task, result
        if failed:
            raise failed
    except queue.Empty as error:
        raise ServiceError(
            errno.ETIMEDOUT, f"the source has not answered for {timeout:g} s"
            f", or no worker is there. {_KEPT}, or give it more time "
            "(timeout=)") from error
    except Exception as error:
        if (told := _told(error)) is error:
            raise
        raise told from error
    finally:
        for job, _ in running.values():
            job.cancel()


def _sender(call, shared, workers) -> Callable:
    """What sends a task to who works on it, and returns its future."""
    if workers == 1:
        pool = Pool(1)
        return lambda *task: pool.submit(call, *shared, *task)
    with warnings.catch_warnings():  # a model is large, and sent once
        warnings.filterwarnings("ignore", "Sending large graph")
        # As tasks, not scattered: what dies with a worker is made again.
        shared = [workers.submit(_itself, one, pure=False) for one in shared]
    expected = versions()
    return lambda *task: workers.submit(_work, expected, call, *shared,
                                        *task, pure=False)


def _itself(one):
    return one


def _told(error: Exception) -> Exception:
    """An error of Dask in words; others as they are."""
    kind, said = type(error).__name__, str(error).partition("\n")[0]
    if kind == "KilledWorker":
        return OSError(
            errno.ENOMEM, f"a chunk killed each worker that took it ({said}"
            "); most often there was too little memory. Give workers more, "
            f"or take smaller chunks (chunk=, batch=). {_KEPT}")
    if isinstance(error, CancelledError) or kind == "CommClosedError":
        return OSError(
            errno.ECONNRESET, "the scheduler of Dask is gone, or somebody "
            f"took the work from it ({said}). Start a cluster. {_KEPT}")
    return error
