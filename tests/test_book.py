"""The built book in a real browser: nothing broken, empty or from outside.

Needs the pages (``make book``) and Chromium; see ``browser.py``.
``TEST_BOOK`` names another folder of pages to look at.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from browser import WIDTHS, browser, lacking, look, served, violations
from bs4 import BeautifulSoup

__all__ = ["browser", "look"]
ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / os.environ.get("TEST_BOOK", "_build/html")
EXPLORER = "notebooks/10-explore"
BY_WIDTH = ["scrollable-region-focusable", "target-size", "link-name",
            "nested-interactive"]
HEAVY = {EXPLORER, "notebooks/08-t-sne"}  # pages of widgets: 5 MB, not 1


def pages() -> list[str]:
    """Every page of the table of contents, the cover first."""
    return re.findall(r"(?:root|file): (\S+)",
                      (ROOT / "_toc.yml").read_text("utf-8"))


@pytest.fixture(scope="module")
def address():
    """The book, served on loopback below a folder, as on GitHub Pages."""
    if not (HTML / f"{pages()[0]}.html").exists():
        lacking(f"no built book in '{HTML}': make book")
    with served(HTML.parent) as top:
        yield f"{top}/{HTML.name}"


def scroll_through(tab):
    """Bring everything into view once, so that lazy parts load."""
    tab.evaluate("""async () => {
        for (const one of document.querySelectorAll(".geotree-widget")) {
            one.scrollIntoView();  // its data load now, and it is drawn
            for (let i = 0; i < 500 && !one.matches(".gt"); i++)
                await new Promise(done => setTimeout(done, 20));
        }
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
    """Its parts and its access; each rule of axe where it may differ.

    All rules at one width in the light theme; the colours once more in the
    dark one, put on while the page stands open; and on a phone, opened in
    the dark theme, what depends on the width.
    """
    phone = width == "phone"
    view = look(width, "dark" if phone else "light")
    view.tab.goto(f"{address}/{page}.html", wait_until="load")
    scroll_through(view.tab)
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
                ".traceback, .problematic, .system-message, merror").length,
            blank: [...article.querySelectorAll(".geotree-widget")].filter(
                w => ![...w.querySelectorAll("canvas")].some(c => c.width
                    && c.offsetWidth)).length,
            theme: document.documentElement.dataset.theme,
            widgets: article.querySelectorAll(
                "script[type*='jupyter.widget-view']").length,
            small: [...article.querySelectorAll(".cell_output img")].filter(
                i => i.clientWidth < 0.74 * i.naturalWidth).map(i => i.src),
            heads: [...article.querySelectorAll("thead")].filter(
                head => head.rows.length > 1 && !head.querySelector(
                    "[colspan]")).map(head => head.innerText),
            wide: [...article.querySelectorAll("table")].flatMap(table => {
                let frame = table.parentElement;
                while (frame !== article
                       && frame.scrollWidth <= frame.clientWidth + 1)
                    frame = frame.parentElement;
                const more = frame.scrollWidth - frame.clientWidth;
                return frame === article || more < 2 ? []
                    : [[more, table.innerText.slice(0, 60)]];
            }),
            over: document.documentElement.scrollWidth - innerWidth,
        };
    }""")
    assert found["title"] and found["words"] > 20, "an empty page"
    assert found["broken"] == []
    assert found["mute"] == [], "a figure without alt text"
    assert found["failed"] == 0, "a traceback or an error on the page"
    assert found["widgets"] == 0, "a widget that no script here can show"
    assert found["blank"] == 0, "a widget that draws nothing"
    assert not (phone and found["small"]), "letters too small to be read"
    assert found["heads"] == [], "a row of heads for the names of rows"
    # A phone may hide the end of the last column, other screens nothing.
    hidden = [text for more, text in found["wide"] if more > 60 * phone]
    assert hidden == [], "a table with a column out of sight"
    assert found["theme"] == ("dark" if phone else "light")
    assert found["over"] <= 1, f"{found['over']} px wider than the screen"
    limit = 5e6 if page in HEAVY else 1e6
    assert view.bytes() < limit, f"{view.bytes() / 1e6:.2f} MB to load"
    assert violations(view.tab, "article", BY_WIDTH if phone else ()) == []
    if not phone:
        view.darken()
        assert violations(view.tab, "article", ["color-contrast"]) == []
    assert view.outside == [], "the page asks for another host"
    assert view.errors == []


def test_the_map_answers_in_the_page(look, address):
    view = look()
    view.tab.goto(f"{address}/{EXPLORER}.html", wait_until="load")
    assert not any("/widgets/" in one.url for one in view.responses)
    view.tab.locator(".geotree-widget").first.scroll_into_view_if_needed()
    canvas = view.tab.locator(".gt-canvas")
    canvas.scroll_into_view_if_needed()
    view.tab.wait_for_function(  # its data come now
        "/% sure|Unsure/.test(document.querySelector('.gt-headline')"
        "?.innerText)")
    view.tab.get_by_role("button", name="Amazon").click()
    view.tab.wait_for_function("document.querySelector('.gt-headline')"
                               ".innerText.includes('Brazil')")
    box = canvas.bounding_box()
    started = time.perf_counter()
    canvas.click(position={"x": 0.66 * box["width"],
                           "y": 0.12 * box["height"]})
    view.tab.wait_for_function("document.querySelector('.gt-headline')"
                               ".innerText.includes('Russia')")
    print(f"answered after {time.perf_counter() - started:.2f} s")
    assert view.tab.locator(".gt-strip canvas").count() >= 12
    assert (view.outside, view.errors) == ([], [])


def test_the_map_works_from_a_file_with_no_server(look, address):
    view = look("phone")
    view.tab.goto((HTML / f"{EXPLORER}.html").as_uri(), wait_until="load")
    view.tab.locator(".geotree-widget").first.scroll_into_view_if_needed()
    view.tab.get_by_role("button", name="Taiga").click()
    view.tab.wait_for_function("document.querySelector('.gt-headline')"
                               ".innerText.includes('Russia')")
    assert view.outside == []


def test_a_point_of_the_t_sne_map_says_what_it_is(look, address):
    view = look()
    view.tab.goto(f"{address}/notebooks/08-t-sne.html", wait_until="load")
    view.tab.locator(".geotree-widget").first.scroll_into_view_if_needed()
    canvas = view.tab.locator(".gt-points")
    canvas.scroll_into_view_if_needed()
    canvas.hover()
    view.tab.wait_for_function(
        "document.querySelector('.gt-about canvas') !== null")
    hovered = view.tab.inner_text(".gt-about")
    assert re.match(r"[A-Z][a-z]+ [a-z-]+, [A-Z][a-z]+ceae\n.*\d°", hovered)
    for _ in range(30):  # the next points can be of the same tree
        canvas.press("ArrowRight")
        view.tab.wait_for_timeout(100)
        if view.tab.inner_text(".gt-about") != hovered:
            break
    else:
        pytest.fail(f"thirty steps to the right are all {hovered!r}")
    assert (view.outside, view.errors) == ([], [])


def test_a_page_reads_without_scripts(look, address):
    view = look(scripts=False)
    view.tab.goto(f"{address}/{EXPLORER}.html", wait_until="load")
    figures = view.tab.locator("article .cell_output img")
    assert figures.count() >= 6
    assert all(one.is_visible() for one in figures.all())
    assert view.tab.get_by_role("heading", name="Ask the map").is_visible()
    instead = view.tab.locator("article noscript")
    assert instead.count() == 2
    assert "widget needs JavaScript" in instead.first.inner_text()
    assert (view.outside, view.errors) == ([], [])


def test_a_figure_leads_to_its_file(look, address):
    """On a phone it is wider than the page; the file can be zoomed."""
    view = look("phone")
    view.tab.goto(f"{address}/{EXPLORER}.html", wait_until="load")
    figures = view.tab.locator("article .cell_output img")
    links = view.tab.locator("article .cell_output a.image-reference > img")
    assert figures.count() == links.count() >= 6
    box = links.first.bounding_box()
    shape = links.first.evaluate("i => i.naturalWidth / i.naturalHeight")
    assert box["width"] / box["height"] == pytest.approx(shape, rel=0.02)
    links.first.click()
    view.tab.wait_for_url("**/_images/*.png")


def test_every_page_is_reached_by_keyboard(look, address):
    view = look()
    view.tab.goto(f"{address}/{pages()[1]}.html", wait_until="load")
    view.tab.keyboard.press("Tab")
    first = view.tab.evaluate("document.activeElement.textContent.trim()")
    assert "main content" in first.lower()
    view.tab.keyboard.press("Enter")
    view.tab.keyboard.press("Tab")
    assert view.tab.evaluate("document.activeElement.tagName") != "BODY"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_map_is_reached_within_ten_stops(width, look, address):
    view = look(width)
    view.tab.goto(f"{address}/{EXPLORER}.html", wait_until="load")
    for stop in range(1, 11):
        view.tab.keyboard.press("Tab")
        if view.tab.evaluate("document.activeElement.matches('.gt-canvas')"):
            return
        if view.tab.evaluate("document.activeElement.matches("
                             "'#pst-skip-link a, a[href=\"#the-map\"]')"):
            view.tab.keyboard.press("Enter")
            if stop > 1:  # its data come when it is in view
                view.tab.wait_for_selector(".gt-canvas")
    raise AssertionError("ten stops, and no map")


def test_pages_below_a_chapter_have_its_number(written):
    for page, number in (("zero-shot", "6."), ("unseen", "6.1."),
                         ("how-sure", "6.2.")):
        text = written[f"notebooks/06-{page}"]
        heads = [one.get_text() for one in text.select(
            "article :is(h1, h2)")]
        assert heads[0].startswith(f"{number} ")
        listed = text.select(".bd-links a.current")[-1].get_text(strip=True)
        assert listed.startswith(f"{number} ")
        assert not any(re.match(r"\d", one) for one in heads[1:])


def test_search_from_any_page(look, address):
    view = look("phone")
    view.tab.goto(f"{address}/{pages()[3]}.html", wait_until="load")
    view.tab.keyboard.press("Control+k")
    view.tab.keyboard.type("calibration")
    view.tab.keyboard.press("Enter")
    view.tab.wait_for_selector("#search-results ul.search li a",
                               timeout=20_000)
    assert (view.outside, view.errors) == ([], [])


def test_names_in_code_lead_to_their_description(look, address):
    view = look()
    view.tab.goto(f"{address}/{EXPLORER}.html", wait_until="load")
    links = view.tab.evaluate("""() => [...document.querySelectorAll(
        "a.api")].map(a => [a.textContent, a.getAttribute("href")])""")
    assert ["explore.ask",
            "../book/api-models.html#geotree.explore.ask"] in links


def test_formulas_are_read_by_browsers_and_screen_readers(look, address):
    view = look()
    view.tab.goto(f"{address}/book/planet.html", wait_until="load")
    sizes = view.tab.evaluate("""() => [...document.querySelectorAll(
        "article math")].map(math => math.getBoundingClientRect().width)""")
    assert len(sizes) > 10 and min(sizes) > 2


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
        assert f"/{HTML.name}/{page}.html" in links, (
            f"no way from the cover to {page}")


@pytest.fixture(scope="module")
def written(address):
    """Each page as it was written, before any script runs."""
    return {page: BeautifulSoup((HTML / f"{page}.html").read_text("utf-8"),
                                "html.parser") for page in pages()}


def test_notebooks_can_be_downloaded_and_opened_in_colab(written):
    for page, text in written.items():
        if not page.startswith("notebooks/"):
            continue
        links = [urlsplit(link["href"]) for link in text.select("a[href]")]
        colab = [link for link in links
                 if link.hostname == "colab.research.google.com"]
        assert colab and colab[0].path.endswith(f"{page}.ipynb")
        assert any(link.path.endswith(".ipynb") for link in links
                   if not link.hostname), f"{page}: no download"


def test_citations_resolve_and_no_key_is_left(written):
    """A citation without an entry stays as its key in brackets."""
    keys = re.findall(r"@\w+\{(\w+),",
                      (ROOT / "book/references.bib").read_text("utf-8"))
    for page, text in written.items():
        article = text.select_one("article").get_text()
        left = [key for key in keys if f"[{key}]" in article]
        assert not left, f"{page}: {left}"


def test_links_within_the_book_lead_somewhere(written):
    """Every link of an article to a page, a file or a place on a page."""
    places = {f"{page}.html": {one["id"] for one in text.select("[id]")}
              for page, text in written.items()}
    dead = set()
    for page, text in written.items():
        for link in text.select("article a[href]"):
            link = urlsplit(urljoin(f"{page}.html", unquote(link["href"])))
            if link.scheme or link.netloc:
                continue
            if not (HTML / link.path).exists() or (
                    link.fragment and link.fragment not in places.get(
                        link.path, {link.fragment})):
                dead.add(f"{page}: {link.path}#{link.fragment}")
    assert dead == set()
