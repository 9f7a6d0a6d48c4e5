"""Widgets that draw with a kernel, and without one in a page on disk."""

from __future__ import annotations

import base64
import json
import uuid
from importlib import resources

import anywidget
import traitlets

# The page gives the widget what a kernel would: values, and word of changes.
_PAGE = """<div id="{name}" class="geotree-widget"><noscript>This widget
needs JavaScript.</noscript></div>
<style>{css}</style>
<script type="application/json" id="{name}-state">{state}</script>
<script type="module">
{esm}
const told = {{}};
const state = JSON.parse(
  document.getElementById("{name}-state").textContent,
  (key, value) => value && value.base64 !== undefined
    ? new DataView(Uint8Array.from(
        atob(value.base64), letter => letter.charCodeAt(0)).buffer)
    : value);
const model = {{
  get: key => state[key],
  set: (key, value) => {{
    if (state[key] === value) return;
    state[key] = value;
    (told["change:" + key] || []).forEach(call => call());
  }},
  on: (event, call) => (told[event] ||= []).push(call),
  off: () => {{}}, save_changes: () => {{}},
}};
widget.render({{ model, el: document.getElementById("{name}") }});
</script>"""


def _text(*names: str) -> str:
    folder = resources.files("geotree.explore")
    return "\n".join((folder / name).read_text("utf-8") for name in names)


class Panel(anywidget.AnyWidget):
    """A widget whose script is in this package.

    Attributes
    ----------
    data : dict
        What it draws; see :mod:`geotree.explore.packing`.
    """

    _css = _text("widgets.css")
    data = traitlets.Dict().tag(sync=True)

    def page(self) -> str:
        """The widget as HTML that needs neither kernel nor network."""
        state = {name: self.trait_values()[name] for name in self.keys
                 if not name.startswith("_") and name not in (
                     "layout", "tabbable", "tooltip", "comm")}
        text = json.dumps(state, default=_encode, separators=(",", ":"))
        return _PAGE.format(
            name=f"geotree-{uuid.uuid4().hex[:8]}", css=self._css,
            esm=self._esm.replace("export default", "const widget ="),
            state=text.replace("<", "\\u003c"))

    def _repr_mimebundle_(self, **kwargs):
        found, about = super()._repr_mimebundle_(**kwargs)
        return found | {"text/html": self.page()}, about


def _encode(value):
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    raise TypeError(f"a {type(value).__name__} cannot go into a page")
