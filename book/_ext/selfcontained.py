"""What the built pages need beyond Sphinx and MyST-NB."""

import re
from pathlib import Path, PurePosixPath

from docutils import nodes

_SEARCH = re.compile(r'\s*<script src="[^"]*(?:searchtools|language_data|'
                     r'searchindex)\.js[^"]*"></script>')
_ARTICLE = '<article class="bd-article">'
_KERNEL = "application/vnd.jupyter.widget-state+json"
_HEAD = re.compile(r"<thead>.*?</thead>", re.DOTALL)
_CELL = re.compile(r"<th[^>]*>.*?</th>", re.DOTALL)
_EMPTY = re.compile(r"<th[^>]*>(?:\s|&nbsp;)*</th>")


def _scripts_once(app, pagename, templatename, context, doctree):
    """Drop duplicate inline scripts, which throw errors in the browser.

    And the state of widgets: it is of use to a kernel only, and large.
    """
    seen, kept = set(), []
    for script in context.get("script_files", []):
        attributes = getattr(script, "attributes", {})
        body = attributes.get("body")
        if attributes.get("type") == _KERNEL or (body and body in seen):
            continue
        seen.add(body)
        kept.append(script)
    context["script_files"] = kept


def _no_launch(app, pagename, templatename, context, doctree):
    """Colab opens notebooks only: no button on a page of Markdown."""
    if str(app.env.doc2path(pagename)).endswith(".md"):
        context["header_buttons"] = [
            button for button in context.get("header_buttons", [])
            if button.get("label") != "launch-buttons"]


def _plain_lists(app, pagename, templatename, context, doctree):
    """A list of citations has no items that a screen reader knows as such."""
    if "citation-list" in context.get("body", ""):
        context["body"] = context["body"].replace(
            '<div role="list" class="citation-list">',
            '<div class="citation-list">')


def _one_head(app, pagename, templatename, context, doctree):
    """Tables of pandas name their rows beside the columns, not below them."""
    def merged(found):
        rows = [_CELL.findall(row) for row in found[0].split("</tr>")[:-1]]
        if (len(rows) != 2 or len(rows[0]) != len(rows[1])
                or not _EMPTY.fullmatch(rows[1][-1])):
            return found[0]  # one row; or two levels, which need both
        return "".join(["<thead><tr>", *(
            above if _EMPTY.fullmatch(below) else below
            for above, below in zip(*rows, strict=True)), "</tr></thead>"])

    if "<thead>" in context.get("body", ""):
        context["body"] = _HEAD.sub(merged, context["body"])


def _collect_alt(app, doctree):
    """Note each figure's alternative text, its size, and link it to its file.

    A point of a letter is 1.25 pixels on every screen; where the screen is
    narrower than the figure, the figure is moved sideways, see the styles.
    """
    if not hasattr(app.env, "alt_texts"):
        app.env.alt_texts = {}
    for image in doctree.findall(nodes.image):
        if image.get("alt"):
            name = PurePosixPath(image["uri"]).name
            app.env.alt_texts[name] = image["alt"]
            if name.endswith(".png"):
                image["scale"] = 75  # of 120 dots an inch; and links it


def _merge_alt(app, env, docnames, other):
    """Those of pages that another process has read."""
    env.alt_texts = {**getattr(env, "alt_texts", {}),
                     **getattr(other, "alt_texts", {})}


def _paste_alt(app, doctree, docname):
    """Give an image that was glued from a notebook its text there."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt"):
            name = PurePosixPath(image["uri"]).name
            image["alt"] = getattr(app.env, "alt_texts", {}).get(name, "")


def _finish(app, error):
    """Load the index of all words on the page that searches, only.

    And let the first link skip the buttons above an article, too.
    """
    if error is None and app.builder.name == "html":
        for path in Path(app.outdir).rglob("*.html"):
            text = path.read_text("utf-8")
            if path.name != "search.html":
                text = _SEARCH.sub("", text)
            if _ARTICLE in text:
                text = text.replace('href="#main-content"', 'href="#article"'
                                    ).replace(_ARTICLE, _ARTICLE[:-1]
                                              + ' id="article">')
            path.write_text(text, "utf-8")


def setup(app):
    """Register with Sphinx."""
    app.connect("html-page-context", _scripts_once, priority=900)
    app.connect("html-page-context", _no_launch, priority=900)
    app.connect("html-page-context", _plain_lists)
    app.connect("html-page-context", _one_head)
    app.connect("doctree-read", _collect_alt)
    app.connect("env-merge-info", _merge_alt)
    app.connect("doctree-resolved", _paste_alt)
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
