"""Pages run side by side, each once the files that it opens are there.

Sphinx reads, and so runs, one page at a time and by the alphabet:
``book/summary`` would train the model that chapter 05 shows in training, and
all the while a core would idle. So pages are run before any is read,
``PROCESSES`` at a time, and beside them those that others wait for; the cache
hands on what they showed. Pages are then read and written by as many
processes.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from jupyter_cache import get_cache
from myst_nb.core.execute import create_client
from myst_nb.core.loggers import SphinxDocLogger
from myst_nb.core.read import create_nb_reader

from geotree import chain

_CALL = re.compile(r"chain\.(\w+)\((?:[\"'](\w+)[\"'])?")
# The file of the chain that a call opens, where it is named otherwise.
_OPENS = {name: name for name in chain.FILES} | {
    "raw_occurrences": "occurrences", **dict.fromkeys(
        ("splits", "parts", "samples", "seen_classes", "optimum"), "split")}


def _chapters_first(app, env, docnames):
    for extension in app.extensions.values():  # two of them say nothing
        if extension.parallel_read_safe is None:
            extension.parallel_read_safe = True
    docnames.sort(key=lambda name: not name.startswith("notebooks/"))
    text = {name: Path(env.doc2path(name)).read_text("utf-8")
            for name in docnames}
    _ = get_cache(env.mystnb_config.execution_cache_path).db  # made but once
    side_by_side(partial(_run, env, text), text, noted(),
                 int(os.environ.get("PROCESSES", 2)))


def noted():
    """A function: the files that the chain has made since it was made."""
    before = chain.notes()
    return lambda: {name for name, note in chain.notes().items()
                    if note != before.get(name)}


def side_by_side(run, text, made, processes):
    """Call ``run`` with each page of ``text``: those that make files first.

    These do not count among the ``processes``: others wait for them. A page
    waits for a file while it is not among ``made()`` and the page that
    makes it has not ended. After an error none is begun.
    """
    makes, opens = {}, {}
    order = list(chain.FILES)
    for name, source in text.items():
        calls = _CALL.findall(source.replace('\\"', '"'))
        makes[name] = {what for call, what in calls
                       if call == "making" and what in chain.FILES}
        first = min(map(order.index, makes[name]), default=len(order))
        opens[name] = {_OPENS[call] for call, _ in calls
                       if call in _OPENS} & set(order[:first])
    waiting, running = sorted(text, key=lambda name: not makes[name]), {}
    with ThreadPoolExecutor(processes + len(order)) as pool:
        while waiting or running:
            coming = set().union(*(makes[name] for name in [
                *waiting, *running.values()])) - made()
            ready = [name for name in waiting if not opens[name] & coming]
            for name in ready:
                if makes[name] or len(running) < processes:
                    waiting.remove(name)
                    running[pool.submit(run, name)] = name
            for ended in wait(running, 0.5, FIRST_COMPLETED).done:
                del running[ended]
                ended.result()


def _run(env, text, name):
    """Run a page, unless the cache has it or it has no code."""
    path = env.doc2path(name)
    reader = create_nb_reader(path, env.myst_config, env.mystnb_config,
                              text[name])
    if reader is not None:
        told = SphinxDocLogger(SimpleNamespace(settings=SimpleNamespace(
            env=SimpleNamespace(docname=name))))
        with create_client(reader.read(text[name]), path, env.mystnb_config,
                           told, reader.read_fmt):
            pass


def _forget_unused(app, env):
    """Source that no page leads to: forgotten when the next page is read."""
    app.emit("env-purge-doc", env, "")


def setup(app):
    """Register with Sphinx."""
    app.connect("env-before-read-docs", _chapters_first)
    app.connect("env-updated", _forget_unused)
    app.parallel = int(os.environ.get("PROCESSES", 2))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
