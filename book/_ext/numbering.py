"""The pages below a numbered chapter have numbers, too: 6.1, 6.2.

Sphinx would number each section of each chapter as well, and count the
pages below a chapter after its sections.
"""

from __future__ import annotations

from docutils import nodes


def _number_below(app, env):
    """Number in title, sidebar, and the links to the next and last page."""
    below = {page: (*env.toc_secnumbers[chapter][""], place)
             for chapter, pages in env.toctree_includes.items()
             if env.toc_secnumbers.get(chapter, {}).get("")
             for place, page in enumerate(pages, 1)}
    for page, number in below.items():
        title, *sections = env.tocs[page].findall(nodes.reference)
        title["secnumber"] = env.titles[page]["secnumber"] = number
        env.toc_secnumbers[page] = {"": number} | {
            one["anchorname"]: None for one in sections}
    return list(below)


def setup(app):
    """Register with Sphinx."""
    app.connect("env-get-updated", _number_below, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
