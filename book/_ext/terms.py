"""The first use of a glossary term on each page leads to its entry.

Chapters stay plain Markdown, which JupyterLab and Colab show as it is.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

_GLOSSARY = "book/glossary"
_NOT_IN = (nodes.literal, nodes.reference, addnodes.pending_xref, nodes.math,
           nodes.caption, nodes.title, nodes.term, nodes.raw)
_PLAIN = ("book/references", "book/api", "book/cite", _GLOSSARY)


def _read_terms(app):
    """Terms of the glossary: lines that are followed by an indented one."""
    path = Path(app.srcdir) / f"{_GLOSSARY}.md"
    text = path.read_text("utf-8") if path.exists() else ""
    found = re.findall(r"^(?=\S)([^:\n]+)\n(?:(?=\S)[^:\n]+\n)*  \S", text,
                       re.MULTILINE)
    # Longest first: "range prior" before "prior".
    terms = sorted((name.strip() for name in found), key=len, reverse=True)
    app.env.other_terms = terms != getattr(app.env, "glossary_terms", terms)
    app.env.glossary_terms = terms


def _outdated(app, env, added, changed, removed):
    """All pages are read anew when a term came or went."""
    return env.found_docs if env.other_terms else []


def _pattern(term):
    """A term as a whole word; only capitals of the glossary are kept."""
    words = re.escape(term) + "s?"
    flags = 0 if term != term.lower() else re.IGNORECASE
    return re.compile(rf"(?<![\w-]){words}(?![\w-])", flags)


def _link(app, doctree):
    """Put a cross-reference at the first use of each term."""
    page = app.env.docname
    if page.startswith(_PLAIN):
        return
    patterns = {term: _pattern(term) for term in app.env.glossary_terms}
    for text in list(doctree.findall(nodes.Text)):
        parent, inside = text.parent, text.parent
        while inside is not None and not isinstance(inside, _NOT_IN):
            inside = inside.parent
        if inside is not None or not _in_paragraph(text):
            continue
        parts = _split(str(text), patterns)
        if parts != [text]:  # an emphasised term is a text by itself
            parent.replace(text, parts)


def _in_paragraph(text):
    """Whether a text is prose: neither code, output nor a head."""
    node = text.parent
    while node is not None and not isinstance(node, nodes.paragraph):
        if isinstance(node, (nodes.FixedTextElement, nodes.container)):
            return False
        node = node.parent
    return node is not None


def _split(text, patterns):
    """The text with a reference for each term that was not met before."""
    for term, pattern in patterns.items():
        found = pattern.search(text)
        if found:
            del patterns[term]
            return [*_split(text[:found.start()], patterns),
                    _reference(term, found[0]),
                    *_split(text[found.end():], patterns)]
    return [nodes.Text(text)] if text else []


def _reference(term, shown):
    """What Sphinx resolves to the glossary's entry."""
    target = addnodes.pending_xref(
        "", nodes.inline("", shown, classes=["term"]), refdomain="std",
        reftype="term", reftarget=term, refexplicit=True, refwarn=True)
    return target


def setup(app):
    """Register with Sphinx."""
    app.connect("builder-inited", _read_terms)
    app.connect("env-get-outdated", _outdated)
    app.connect("doctree-read", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True,
            "env_version": 1}
