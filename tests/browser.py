"""A real headless Chromium that notes errors and requests that leave.

Used by the tests of widgets, of the built book and of JupyterLab. Where
something is missing they skip and say what to do; with
``TEST_REQUIRE_BOOK=1``, as in CI, they fail instead.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run",
         "--disable-quic"]
WIDTHS = {"desktop": (1300, 1000), "phone": (390, 844)}
HOSTS = {"127.0.0.1", "localhost"}


def lacking(reason: str):
    """Skip; or fail, where it must be there."""
    if os.environ.get("TEST_REQUIRE_BOOK") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def served(folder: Path):
    """Address of a plain file server on loopback."""
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, from the system."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        lacking("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program,
                                             args=FLAGS)
        yield started
        started.close()


class Look:
    """One browser tab that notes errors, bytes and requests that leave."""

    def __init__(self, browser, width: str, scheme: str = "light",
                 scripts: bool = True):
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        self.context = browser.new_context(viewport=size,
                                           color_scheme=scheme,
                                           java_script_enabled=scripts)
        self.errors: list[str] = []
        self.outside: list[str] = []
        self.responses: list = []
        self.context.route("**/*", self._only_here)
        self.tab = self.context.new_page()
        self.tab.on("console", self._console)
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("response", self._response)

    def _only_here(self, route):
        parts = urlsplit(route.request.url)
        if parts.scheme in ("data", "blob", "file") or (
                parts.hostname in HOSTS):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def _console(self, message):
        if message.type == "error":
            self.errors.append(message.text)

    def _response(self, response):
        self.responses.append(response)
        if response.status >= 400:
            self.errors.append(f"{response.status} {response.url}")

    def darken(self, tries: int = 6) -> None:
        """Put the dark theme on an open page.

        Where the machine is full, Chromium may draw no frame, and so tell
        the page nothing: it is asked anew.
        """
        from playwright.sync_api import TimeoutError

        for left in reversed(range(tries)):
            self.tab.emulate_media(color_scheme="light")
            self.tab.emulate_media(color_scheme="dark")
            try:
                self.tab.wait_for_function(
                    "document.documentElement.dataset.theme === 'dark'",
                    polling=100, timeout=10_000)
                return
            except TimeoutError:
                if not left:
                    raise

    def bytes(self) -> int:
        """What the tab has loaded, without compression on the way."""
        return sum(len(response.body()) for response in self.responses)


@pytest.fixture
def look(browser):
    """Open a tab of the given width and colours; closed after the test."""
    opened = []

    def open_tab(width: str = "desktop", scheme: str = "light",
                 scripts: bool = True) -> Look:
        opened.append(Look(browser, width, scheme, scripts))
        return opened[-1]

    yield open_tab
    for one in opened:
        one.context.close()


_AXE = """async ([within, rules]) => {
    const scope = document.querySelector(within || "html");
    const chain = new Map([[null, ""]]), looks = new Map();
    const style = (one, names) => {
        const found = getComputedStyle(one);
        return names.map(name => found[name]).join();
    };
    const behind = one => {
        if (!chain.has(one)) chain.set(one, behind(one.parentElement) + style(
            one, ["backgroundColor", "backgroundImage", "opacity"]));
        return chain.get(one);
    };
    for (const one of scope.querySelectorAll("*")) {
        const text = [...one.childNodes].some(
            part => part.nodeType === 3 && part.data.trim());
        if (!(text || one.matches("input, select, textarea"))
                || !one.checkVisibility()) continue;
        const look = behind(one) + style(
            one, ["color", "fontSize", "fontWeight", "textShadow"]);
        looks.set(look, [...(looks.get(look) || []), one].slice(-3));
    }
    const run = async (where, how) => (await axe.run(
        where, {preload: false,  // which asks for styles
        resultTypes: ["violations"], ...how})).violations;
    const contrast = "color-contrast", found = [];
    const rest = rules.filter(rule => rule !== contrast);
    if (rest.length || !rules.length)
        found.push(...await run(scope, rest.length ? {runOnly: rest}
            : {rules: {[contrast]: {enabled: false}}}));
    if (looks.size && (!rules.length || rules.includes(contrast)))
        found.push(...await run({include: [...looks.values()].flat()},
                                {runOnly: [contrast]}));
    return found;
}"""


def violations(tab, within: str = "", rules=()) -> list[str]:
    """What axe-core finds serious or critical; skips where it is missing.

    By some rules, or else by all. Contrast is measured on three elements of
    each look (colours, size, all that lies behind), for it takes long.
    """
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None:
        pytest.skip("no axe-core: pip install axe-playwright-python")
    script = Path(spec.origin).with_name("axe.min.js")
    if not tab.evaluate("() => !!window.axe"):
        tab.evaluate(script.read_text("utf-8"))
    found = tab.evaluate(_AXE, [within, list(rules)])
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found
            if one["impact"] in ("serious", "critical")]
