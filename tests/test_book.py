"""The built book in a real browser: nothing broken, empty or from outside.

Needs the pages (``make book``) and Chromium. Where one is missing the tests
skip and say what to do; with ``GEOTREE_REQUIRE_BOOK=1``, as in CI, they
fail instead. ``GEOTREE_BOOK`` names another folder of pages to look at.
"""

from __future__ import annotations

import functools
import os
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / os.environ.get("GEOTREE_BOOK", "_build/html")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run",
         "--disable-quic"]
WIDTHS = {"desktop": (1300, 1000), "phone": (390, 844)}
HOSTS = {"127.0.0.1", "localhost"}


def pages() -> list[str]:
    """Every page of the table of contents, the cover first."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    return [toc["root"], *(chapter["file"] for part in toc["parts"]
                           for chapter in part["chapters"])]


def lacking(reason: str):
    """Skip; or fail, where the book must be there."""
    if os.environ.get("GEOTREE_REQUIRE_BOOK") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def address():
    """The book, served on loopback."""
    if not (HTML / f"{pages()[0]}.html").exists():
        lacking(f"no built book in '{HTML}': make book")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(HTML))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(address):
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
    """One browser tab that notes errors and requests that leave."""

    def __init__(self, browser, width: str):
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        self.context = browser.new_context(viewport=size)
        self.errors: list[str] = []
        self.outside: list[str] = []
        self.context.route("**/*", self._only_here)
        self.tab = self.context.new_page()
        self.tab.on("console", self._console)
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("response", self._response)

    def _only_here(self, route):
        parts = urlsplit(route.request.url)
        if parts.scheme in ("data", "blob") or parts.hostname in HOSTS:
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def _console(self, message):
        if message.type == "error":
            self.errors.append(message.text)

    def _response(self, response):
        if response.status >= 400:
            self.errors.append(f"{response.status} {response.url}")


@pytest.fixture
def look(browser):
    """Open a tab of the given width; closed after the test."""
    opened = []

    def open_tab(width: str = "desktop") -> Look:
        opened.append(Look(browser, width))
        return opened[-1]

    yield open_tab
    for one in opened:
        one.context.close()


def scroll_through(tab):
    """Bring everything into view once, so that lazy parts load."""
    tab.evaluate("""async () => {
        for (let y = 0; y < document.body.scrollHeight; y += 800) {
            window.scrollTo(0, y);
            await new Promise(done => setTimeout(done, 10));
        }
        await Promise.all([...document.images].map(
            image => image.complete || new Promise(done => {
                image.onload = image.onerror = done; })));
    }""")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", pages())
def test_page(page, width, look, address):
    view = look(width)
    view.tab.goto(f"{address}/{page}.html", wait_until="load")
    scroll_through(view.tab)
    if view.tab.locator("article .math").count():
        view.tab.wait_for_selector("article mjx-container", timeout=20_000)
    found = view.tab.evaluate("""() => {
        const article = document.querySelector("article");
        const images = [...article.querySelectorAll("img")];
        return {
            words: article.innerText.split(/\\s+/).length,
            title: (article.querySelector("h1") || {}).innerText,
            broken: images.filter(i => !i.naturalWidth).map(i => i.src),
            mute: images.filter(i => !(i.alt || "").trim()
                                || /\\.(png|svg)$/.test(i.alt))
                        .map(i => i.src),
            figures: images.length,
            failed: article.querySelectorAll(
                ".traceback, .problematic, .system-message, mjx-merror"
                ).length,
            widgets: article.querySelectorAll(
                "script[type*='jupyter.widget-view']").length,
            over: document.documentElement.scrollWidth - innerWidth,
        };
    }""")
    assert view.outside == [], "the page asks for another host"
    assert view.errors == []
    assert found["title"] and found["words"] > 20, "an empty page"
    assert found["broken"] == []
    assert found["mute"] == [], "a figure without alt text"
    assert found["failed"] == 0, "a traceback or an error on the page"
    assert found["widgets"] == 0, "a widget that no script here can show"
    assert found["over"] <= 1, f"{found['over']} px wider than the screen"


@pytest.mark.parametrize("page", ["index.html", "genindex.html"])
def test_pages_beside_the_contents(page, look, address):
    view = look()
    view.tab.goto(f"{address}/{page}", wait_until="load")
    view.tab.wait_for_selector("article")
    assert (view.outside, view.errors) == ([], [])


def test_search_finds_a_word(look, address):
    view = look()
    view.tab.goto(f"{address}/search.html?q=species", wait_until="load")
    view.tab.wait_for_selector("#search-results ul.search li a",
                               timeout=20_000)
    assert (view.outside, view.errors) == ([], [])


def test_cover_shows_a_figure_and_leads_to_every_page(look, address):
    view = look()
    view.tab.goto(f"{address}/{pages()[0]}.html", wait_until="load")
    assert view.tab.locator("article img").count() >= 1
    links = view.tab.evaluate(
        "() => [...document.links].map(link => link.pathname)")
    for page in pages()[1:]:
        assert f"/{page}.html" in links, f"no way from the cover to {page}"


def test_notebooks_can_be_downloaded_and_opened_in_colab(look, address):
    chapters = [name for name in pages() if name.startswith("notebooks/")]
    view = look()
    view.tab.goto(f"{address}/{chapters[0]}.html", wait_until="load")
    links = view.tab.evaluate(
        "() => [...document.links].map(link => link.href)")
    colab = [link for link in links if "colab.research.google" in link]
    assert colab and colab[0].endswith(f"{chapters[0]}.ipynb")
    assert any(link.endswith(f"{chapters[0]}.ipynb") for link in links
               if urlsplit(link).hostname in HOSTS), "no download button"


def test_links_within_the_book_lead_somewhere(look, address):
    """Every link of an article to a page, a file or a place on a page."""
    view, places = look(), {}
    view.tab.route("**/*.js", lambda route: route.abort())
    for page in pages():
        view.tab.goto(f"{address}/{page}.html",
                      wait_until="domcontentloaded")
        found = view.tab.evaluate("""() => ({
            ids: [...document.querySelectorAll("[id]")].map(e => e.id),
            links: [...document.querySelectorAll("article a[href]")]
                .map(link => link.href)})""")
        places[f"/{page}.html"] = found
    dead = set()
    for page, found in places.items():
        for link in map(urlsplit, found["links"]):
            if link.hostname not in HOSTS:
                continue
            target = places.get(link.path)
            if not (HTML / link.path.lstrip("/")).exists() or (
                    target and link.fragment
                    and link.fragment not in target["ids"]):
                dead.add(f"{page}: {link.path}#{link.fragment}")
    assert dead == set()
