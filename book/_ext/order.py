"""Chapters are run before the pages that sum them up.

Sphinx reads, and so runs, pages by the alphabet: ``book/summary`` would
train the model that chapter 05 shows in training.
"""

from __future__ import annotations


def _chapters_first(app, env, docnames):
    docnames.sort(key=lambda name: not name.startswith("notebooks/"))


def setup(app):
    """Register with Sphinx."""
    app.connect("env-before-read-docs", _chapters_first)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
