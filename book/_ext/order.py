"""Pages run side by side, those that need the chain once it stands.

Sphinx reads, and so runs, one page at a time and by the alphabet:
``book/summary`` would train the model that chapter 05 shows in training, and
all the while a core would idle. So pages are run before any is read,
``PROCESSES`` at a time; the cache hands on what they showed. Pages are then
read and written by as many processes.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from jupyter_cache import get_cache
from myst_nb.core.execute import create_client
from myst_nb.core.loggers import SphinxDocLogger
from myst_nb.core.read import create_nb_reader

CHAIN = "chain."  # a page that opens its files
MAKES = "chain.making("  # a chapter that makes them: one after the other


def _chapters_first(app, env, docnames):
    for extension in app.extensions.values():  # two of them say nothing
        if extension.parallel_read_safe is None:
            extension.parallel_read_safe = True
    docnames.sort(key=lambda name: not name.startswith("notebooks/"))
    text = {name: Path(env.doc2path(name)).read_text("utf-8")
            for name in docnames}
    run = partial(_run, env, text)
    _ = get_cache(env.mystnb_config.execution_cache_path).db  # made but once
    with ThreadPoolExecutor(int(os.environ.get("PROCESSES", 2))) as pool:
        chain = pool.submit(lambda: [run(name) for name in docnames
                                     if MAKES in text[name]])
        # After an error none is begun.
        list(pool.map(run, [name for name in docnames
                            if CHAIN not in text[name]]))
        chain.result()
        list(pool.map(run, docnames))


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
