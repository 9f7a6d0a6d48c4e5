"""Light pages: no script for formulas, no library of icons, late data.

The theme brings 1.5 MB of icons as a script and 0.4 MB as fonts and styles,
and formulas would bring another 1.2 MB. A page uses some twenty icons,
which fonts of these alone show as well; browsers draw MathML. What a widget
draws from is loaded when the reader comes to it.
"""

import io
import json
import os
import re
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

_SIDEBARS: dict[tuple, str] = {}  # of pages of source, by depth and options
_ICON = re.compile(r'((?:\.fa-[\w-]+:before,?)+)\{content:"(?:[^"]*)"\}')
_SCRIPT = re.compile(r'<(?:script|link)[^>]*fontawesome\.js[^>]*>'
                     r'(?:</script>)?\n?')
_STATE = re.compile(r'<script type="application/json" id="(geotree-\w+)'
                    r'-state">(.+?)</script>', re.DOTALL)
_SOURCE = re.compile(r'src:url\(([^)]*?)(fa-[\w-]+)\.woff2\)[^;}]*')


def _math(translator, node):
    text = tex2mathml(node.astext(), as_block=False)
    translator.body.append(text.replace("<math ", '<math class="math" ', 1))
    raise nodes.SkipNode


def _block(translator, node):
    text = tex2mathml(node.astext(), as_block=True)
    target = f' id="{node["ids"][0]}"' if node.get("ids") else ""
    translator.body.append(
        f'<div class="math-block" tabindex="0"{target}>{text}</div>\n')
    raise nodes.SkipNode


def _lighten(app, error):
    """Take what no page uses out of the styles and the fonts."""
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    used = set()
    for page in out.rglob("*.html"):
        text = page.read_text("utf-8")
        used.update(re.findall(r"\bfa-[\w-]+", text))
        page.write_text(_late(_SCRIPT.sub("", text), page, out), "utf-8")
    for script in out.joinpath("_static").rglob("*.js"):
        if script.name != "fontawesome.js":
            used.update(re.findall(r"\bfa-[\w-]+",
                                   script.read_text("utf-8")))
    for path in out.joinpath("_static", "scripts").glob("fontawesome.js*"):
        path.unlink()
    for pattern in ("*.map", "*macros.html"):  # left over from the theme
        for path in out.joinpath("_static").rglob(pattern):
            path.unlink()
    style = out / "_static" / "styles" / "pydata-sphinx-theme.css"
    text = _ICON.sub(
        lambda rule: rule[0] if used & set(
            re.findall(r"fa-[\w-]+", rule[1])) else "",
        style.read_text("utf-8"))
    text = _SOURCE.sub(r'src:url(\1\2.woff) format("woff")', text)
    text = re.sub(r"/\*# sourceMappingURL.*?\*/", "", text)
    style.write_text(text, "utf-8")
    for picture in out.joinpath("_images").glob("*.png"):
        _quantise(picture)
    letters = {int(code, 16) for sheet in out.rglob("*.css") for code in
               re.findall(r'"\\([ef][0-9a-f]{3})"', sheet.read_text("utf-8"))}
    _subset(out / "_static" / "vendor" / "fontawesome" / "webfonts", letters)


def _late(text: str, page: Path, out: Path) -> str:
    """A page whose widgets' data stand in files of their own.

    As scripts, which a page that was opened from a disk can load, too.
    """
    def apart(found):
        file = out / "_static" / "widgets" / f"{found[1]}.js"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'document.getElementById("{found[1]}-state")'
                        f'.textContent = {json.dumps(found[2])};', "utf-8")
        where = Path(os.path.relpath(file, page.parent)).as_posix()
        return (f'<script type="application/json" id="{found[1]}-state" '
                f'data-src="{where}"></script>')

    return _STATE.sub(apart, text)


def _quantise(path: Path) -> None:
    """256 colours are enough for a figure, at a third of the bytes."""
    from PIL import Image

    with Image.open(path) as image:
        flat = image.convert("RGB").quantize(
            256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    file = io.BytesIO()
    flat.save(file, "PNG", optimize=True)
    if file.tell() < path.stat().st_size:
        path.write_bytes(file.getvalue())


def _subset(folder: Path, letters: set[int]) -> None:
    """Write each font with these letters alone."""
    from fontTools import subset

    for path in folder.glob("*.ttf"):
        options = subset.Options(flavor="woff", drop_tables=["GSUB"])
        font = subset.load_font(path, options)
        cutter = subset.Subsetter(options)
        cutter.populate(unicodes=letters)
        cutter.subset(font)
        subset.save_font(font, path.with_suffix(".woff"), options)
        path.unlink()
        path.with_suffix(".woff2").unlink(missing_ok=True)


def _same_sidebar(app, pagename, templatename, context, doctree):
    """Pages of source share a sidebar, which takes a quarter of a second."""
    if not pagename.startswith("_modules/"):
        return
    draw, depth = context["toctree"], pagename.count("/")

    def resolve(**how):
        key = (depth, *sorted(how.items()))
        if key not in _SIDEBARS:
            _SIDEBARS[key] = draw(**how)
        return _SIDEBARS[key]

    context["toctree"] = resolve


def setup(app):
    """Register with Sphinx."""
    app.add_html_math_renderer("mathml", (_math, None), (_block, None))
    app.connect("html-page-context", _same_sidebar, priority=100)
    app.connect("build-finished", _lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
