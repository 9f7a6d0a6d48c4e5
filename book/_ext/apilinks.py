"""Names of the module in the chapters' code lead to their description.

And the description leaves out what Python adds to it by itself.
"""

import enum
import re

_CALL = re.compile(
    r'<span class="n">(\w+)</span><span class="o">\.</span>'
    r'<span class="n">(\w+)</span>'
    r'(?:<span class="o">\.</span><span class="n">(\w+)</span>)?')
_BLOCK = re.compile(r'<div class="highlight">.*?</div>', re.DOTALL)


def _link(app, pagename, templatename, context, doctree):
    """Turn ``shards.open`` into a link, where ``geotree.shards.open`` is."""
    if not pagename.startswith("notebooks/") or "body" not in context:
        return
    known = {name: (entry.docname, entry.node_id) for name, entry in
             app.env.domaindata["py"]["objects"].items()}

    def call(found):
        parts = [part for part in found.groups() if part]
        target = known.get(".".join(["geotree", *parts]))
        if target is None:
            return found[0]
        page = app.builder.get_relative_uri(pagename, target[0])
        return (f'<a class="api" href="{page}#{target[1]}">{found[0]}</a>')

    context["body"] = _BLOCK.sub(
        lambda block: _CALL.sub(call, block[0]), context["body"])


def _skip_fields(app, what, name, obj, skip, options):
    """The fields of a named tuple say nothing but "field number 0"."""
    return type(obj).__name__ == "_tuplegetter" or None


def _no_enum_call(app, what, name, obj, options, signature, returns):
    """Nobody makes members of an enumeration by a call."""
    if what == "class" and issubclass(obj, enum.Enum):
        return "", None


def setup(app):
    """Register with Sphinx."""
    app.connect("autodoc-skip-member", _skip_fields)
    app.connect("autodoc-process-signature", _no_enum_call)
    app.connect("html-page-context", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
