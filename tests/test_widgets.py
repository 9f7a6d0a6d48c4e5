"""The widgets in a real browser, from a file, with no kernel."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from browser import browser, look, violations
from matplotlib import pyplot as plt
from playwright.sync_api import expect

from geotree import explore, plots
from geotree.explore import Answers
from geotree.shards import Batch
from geotree.taxonomy import class_table

__all__ = ["browser", "look"]
ROOT = Path(__file__).resolve().parents[1]
CLASSES = class_table(pd.DataFrame({
    "species": ["Acer rubrum", "Acer saccharum", "Pinus nigra"],
    "genus": ["Acer", "Acer", "Pinus"],
    "family": ["Sapindaceae", "Sapindaceae", "Pinaceae"],
    "leafType": ["Deciduous Broadleaf"] * 2 + ["Evergreen Needleleaf"]}))
HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>A widget</title><meta name="color-scheme" content="light dark">
<meta name="viewport" content="width=device-width"></head><body
style="font-family:sans-serif"><main><h1>A widget</h1>"""


def batch(n: int) -> Batch:
    images = np.full((n, 12, 10, 5, 5), 600, np.uint16)
    images[:, :, 3] = 3000
    images[:, 4] = 65535
    environment = np.zeros((n, 27), np.float32)
    environment[:, 0], environment[:, 1] = range(n), 50
    return Batch(images, environment, np.arange(n) % 3, np.arange(n))


def answers() -> Answers:
    """A maple in France, a pine in Brazil; the place turns France round."""
    seen = batch(2)
    pixels = np.array([[0.6, 0.3, 0.1], [0.0, 0.1, 0.9]])
    prior = np.array([[0.05, 0.05, 0.9], [0.0, 0.1, 0.9]])
    return Answers(CLASSES, np.array([47.0, -15.0]), np.array([3.0, -55.0]),
                   seen.images, seen.environment, pixels, prior,
                   np.array([0, -1]), np.arange(2))


@pytest.fixture
def page(tmp_path):
    """Write a widget into a file and give its address."""
    def write(widget) -> str:
        path = tmp_path / "page.html"
        path.write_text(HEAD + widget.page() + "</main></body></html>",
                        "utf-8")
        return path.as_uri()
    return write


@pytest.fixture
def world(page, look):
    """Open the map of answers; the first place asked for is France."""
    def opened(width="desktop", scheme="light", **settings):
        view = look(width, scheme)
        chart = explore.answer_map(
            answers(), step=2.0, at=(47.0, 3.0), note="by hand",
            known=pd.DataFrame({"decimalLatitude": [47.0],
                                "decimalLongitude": [3.0],
                                "species": ["Acer rubrum"]}))
        chart.set_trait("prior", False)
        for name, value in settings.items():
            chart.set_trait(name, value)
        view.tab.goto(page(chart))
        view.tab.wait_for_selector(".gt-strip canvas")
        return view
    return opened


def says(view, text: str, part: str = ".gt-headline") -> None:
    """Wait until a part of the page says it."""
    expect(view.tab.locator(part)).to_contain_text(text)


def names(view, expected: list[str], what=".gt-bar > :first-child") -> None:
    expect(view.tab.locator(what)).to_have_text(expected)


def pixel(view, canvas: str, color, where=(2, 2), off: int = 5) -> None:
    """Wait until a pixel of a canvas has a colour, or nearly."""
    view.tab.wait_for_function(
        """([canvas, [x, y], color, off]) => {
            const part = document.querySelector(canvas);
            const seen = part?.getContext("2d").getImageData(x, y, 1, 1);
            return seen && color.every(
                (value, i) => Math.abs(value - seen.data[i]) <= off);
        }""", arg=[canvas, list(where), np.asarray(color).tolist(), off])


def at(view, lat, lon):
    """Where a place is on the canvas, by the projection of the figures."""
    from geotree.plots.maps import equal_earth

    x, y = equal_earth(lon, lat)
    box = view.tab.locator(".gt-canvas").bounding_box()
    scale = max(box["width"] / 5.44, box["height"] / 2.35)
    return {"x": box["width"] / 2 + x * scale, "y": (1.31 - y) * scale}


def test_it_opens_with_an_answer_as_deep_as_it_is_sure(world):
    view = world()
    says(view, "47.0° N, 3.0° E, France: Acer (genus), 90 % sure. Unsure "
         "below this rank: the likeliest species, Acer rubrum, has 60 %.")
    names(view, ["Sapindaceae", "Acer", "Acer rubrum", "Acer saccharum",
                 "Pinaceae", "Pinus", "Pinus nigra"])
    says(view, "Rendered here: Acer rubrum, Sapindaceae", ".gt-body")
    says(view, "by hand", ".gt-body")
    assert (view.errors, view.outside) == ([], [])


@pytest.mark.parametrize("width", ["desktop", "phone"])
def test_a_click_asks_there(world, width):
    view = world(width)
    view.tab.locator(".gt-canvas").click(position=at(view, -15.0, -55.0))
    says(view, "Brazil: Pinus nigra (species), 90 % sure.")
    view.tab.locator(".gt-canvas").click(position=at(view, 0.0, -25.0))
    says(view, "no tree is known here")
    assert view.errors == []


def test_on_a_phone_the_map_is_tall_and_fingers_hit(world):
    """Targets of 24 pixels or more; what is asked for comes into view."""
    view = world("phone")
    box = view.tab.locator(".gt-canvas").bounding_box()
    assert box["height"] > 0.8 * box["width"]
    small = view.tab.evaluate("""() => [...document.querySelectorAll(
        ".gt :is(button, select, input, summary, canvas[tabindex])")].filter(
            one => { const box = one.getBoundingClientRect();
                     return Math.min(box.width, box.height) < 24; })
        .map(one => one.outerHTML)""")
    assert small == []
    view.tab.get_by_role("button", name="Tasmania").click()
    view.tab.wait_for_function("""() => {
        const map = document.querySelector(".gt-canvas");
        return map.getContext("2d").getImageData(0, 0, map.width, map.height)
            .data.some((_, i, all) => i % 4 === 0
                && Math.min(all[i], all[i + 1], all[i + 2]) > 240); }""")


def test_in_a_book_the_data_load_when_the_widget_comes_near(
        page, look, tmp_path):
    """From a disk, too, where a page may load scripts and nothing else."""
    spec = importlib.util.spec_from_file_location(
        "light", ROOT / "book/_ext/light.py")
    light = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(light)
    address = page(explore.answer_map(answers(), step=2.0, at=(47.0, 3.0)))
    path = tmp_path / "page.html"
    text = path.read_text("utf-8").replace(
        "<h1>", '<h1 style="margin-bottom: 3000px">')
    late = light._late(text, path, tmp_path)
    assert '{"base64":' in text and '{"base64":' not in late
    path.write_text(late, "utf-8")
    view = look()
    view.tab.goto(address, wait_until="load")
    view.tab.wait_for_timeout(200)
    assert view.tab.locator(".gt-canvas").count() == 0
    view.tab.locator(".geotree-widget").scroll_into_view_if_needed()
    says(view, "47.0° N, 3.0° E, France")
    assert (view.outside, view.errors) == ([], [])


def test_keys_move_and_ask(world):
    view = world()
    canvas = view.tab.locator(".gt-canvas")
    canvas.focus()
    for key in ["ArrowDown"] * 31 + ["ArrowLeft"] * 29:
        canvas.press(key)
    says(view, "France")  # moving alone asks nothing
    canvas.press("Enter")
    says(view, "Brazil")
    canvas.press("+")
    assert view.errors == []


def test_a_click_hits_after_zoom(world):
    view = world()
    for _ in range(2):
        view.tab.get_by_label("Zoom in").click()
    box = view.tab.locator(".gt-canvas").bounding_box()
    view.tab.locator(".gt-canvas").click(
        position={"x": box["width"] / 2, "y": box["height"] / 2})
    says(view, "47.0° N, 3.0° E")  # the place is in the middle


def test_controls_change_the_answer(world):
    view = world()
    view.tab.get_by_label("use the place too").check()
    says(view, "Pinus nigra (species), 90 % sure")
    view.tab.get_by_label("only species known from the country").check()
    says(view, "Acer rubrum (species), 100 % sure")
    view.tab.get_by_label("Names down to").select_option("family")
    names(view, ["Sapindaceae"])
    view.tab.get_by_label("May, not seen").click()
    says(view, "May: hidden by cloud.", ".gt-body")
    view.tab.get_by_role("combobox", name="Colour by").select_option(
        "species")
    names(view, ["Acer rubrum", "Pinus nigra"], ".gt-legend span")
    assert view.errors == []


def test_patches_have_the_colours_of_the_figures(world):
    from geotree.plots import true_color

    view = world()
    pixel(view, ".gt-strip canvas",
          255 * true_color(batch(1).images)[0, 0, 2, 2])


def test_map_is_drawn_in_the_colours_of_the_answers(world):
    view = world()
    where = at(view, -15.0, -55.0)
    view.tab.wait_for_function("""([x, y]) => {
        const canvas = document.querySelector(".gt-canvas");
        const ratio = canvas.width / canvas.clientWidth;
        const seen = canvas.getContext("2d").getImageData(
            x * ratio, y * ratio, 1, 1).data;
        return seen[2] > seen[0] + 60;  // a pine is blue
    }""", arg=[where["x"], where["y"]])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["world", "taxonomy", "embedding"])
def test_axe_finds_nothing_serious(world, page, look, kind, scheme):
    if kind == "world":
        view = world("phone", scheme)
    else:
        view = look("desktop", scheme)
        view.tab.goto(page(
            explore.taxonomy_explorer(batch(6), CLASSES,
                                      chosen=["Acer rubrum"])
            if kind == "taxonomy" else
            explore.embedding_explorer(np.eye(6, 2), batch(6), CLASSES)))
        view.tab.wait_for_selector("canvas")
    assert violations(view.tab) == []
    assert view.tab.evaluate(
        "document.documentElement.scrollWidth - innerWidth") <= 1


def test_a_small_tab_and_a_large_one_show_the_same(world):
    for width in ("phone", "desktop"):
        says(world(width), "France: Acer (genus), 90 % sure.")


def test_taxonomy_compares_what_is_chosen(page, look):
    view = look()
    widget = explore.taxonomy_explorer(batch(6), CLASSES,
                                       chosen=["Acer rubrum"])
    view.tab.goto(page(widget))
    view.tab.get_by_placeholder("Find a name").fill("nigra")
    leaves = view.tab.locator(".gt-leaf:visible button")
    expect(leaves).to_have_text(["Pinus nigra"])
    leaves.first.click()
    side = view.tab.get_by_label("The chosen species")
    expect(side).to_contain_text("Acer rubrum, Deciduous Broadleaf, 2 rec")
    expect(side).to_contain_text("Pinus nigra, Evergreen Needleleaf")
    expect(side.locator(".gt-line")).to_have_count(2)
    leaves.first.click()
    expect(side).not_to_contain_text("Pinus nigra")
    assert (view.errors, view.outside) == ([], [])


def test_taxonomy_is_walked_by_keyboard(page, look):
    view = look()
    view.tab.goto(page(explore.taxonomy_explorer(batch(6), CLASSES)))
    view.tab.get_by_placeholder("Find a name").focus()
    for expected in ("Sapindaceae (2) 4", "Acer (2) 4", "Acer rubrum"):
        view.tab.keyboard.press("Tab")
        if expected.startswith("Sapindaceae"):  # past the list itself
            view.tab.keyboard.press("Tab")
        expect(view.tab.locator(":focus")).to_have_text(expected)
        view.tab.keyboard.press("Enter")
    side = view.tab.get_by_label("The chosen species")
    expect(side).to_contain_text("Acer rubrum, Deciduous Broadleaf, 2 rec")
    expect(side.locator(".gt-line")).to_have_count(1)
    assert view.errors == []


def test_embedding_shows_the_patch_of_the_point(page, look):
    from geotree.plots import true_color

    samples = batch(3)
    for number in range(3):
        samples.images[number, :, number] = 2500  # blue, green or red
        samples.images[number, 4] = 65535
    view = look()
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    view.tab.goto(page(explore.embedding_explorer(points, samples, CLASSES)))
    canvas = view.tab.locator(".gt-points")
    box = canvas.bounding_box()
    for number, (x, y) in enumerate(points):
        canvas.hover(position={"x": 20 + (box["width"] - 40) * x,
                               "y": box["height"] - 20
                               - (box["height"] - 40) * y})
        view.tab.get_by_text(f"50.0° N, {number}.0° E").wait_for()
        pixel(view, ".gt-about canvas",
              255 * true_color(samples.images)[number, 0, 2, 2])
    assert view.errors == []


def test_embedding_says_what_a_point_is(page, look):
    view = look()
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    view.tab.goto(page(explore.embedding_explorer(points, batch(3),
                                                  CLASSES)))
    canvas, about = view.tab.locator(".gt-points"), view.tab.locator(
        ".gt-about")
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] - 20, "y": box["height"] - 20})
    expect(about).to_contain_text("Acer saccharum, Sapindaceae")
    expect(about).to_contain_text("50.0° N, 1.0° E")
    expect(about.locator("canvas").first).to_be_attached()
    canvas.press("ArrowLeft")
    expect(about).to_contain_text("Acer rubrum")
    view.tab.get_by_role("button", name="Evergreen Needleleaf").click()
    assert view.errors == []


HARM = "<img src=nowhere onerror=hit=1><script>hit=2</script>"
ENDS = f"</script></style></svg>{HARM}"


def test_a_name_that_means_harm_is_text_in_every_page(page, look, tmp_path):
    """Widgets, tables, figures and what notebooks show of frames and cubes."""
    evil = CLASSES.assign(species=[HARM, ENDS, f'"\'>{HARM}'],
                          genus=[HARM, HARM, ENDS], family=[ENDS, ENDS, HARM])
    place = pd.DataFrame({
        "decimalLatitude": [47.0], "decimalLongitude": [3.0],
        "species": [HARM], "countryCode": [ENDS], "locality": [ENDS],
        "datasetName": [HARM], HARM: [ENDS]})
    told = dataclasses.replace(answers(), classes=evil)
    figure, axes = plt.subplots(1, 2)
    plots.differences(pd.DataFrame(
        {"model": evil["species"], "value": 0.5, "low": 0.4, "high": 0.6}),
        names=("value", "low", "high"), ax=axes[0])
    plots.occurrence_map(place, by="species", ax=axes[1])
    axes[0].set_title(ENDS)
    with plt.rc_context({"svg.fonttype": "none"}):  # text as text
        figure.savefig(tmp_path / "figure.svg")
    cube = xr.Dataset({"x": ("sample", [HARM])}, attrs={"source": ENDS})
    shown = [plots.table(place, index=True).to_html(), place.to_html(),
             (tmp_path / "figure.svg").read_text().split("\n", 4)[4],
             cube._repr_html_()]
    rest = SimpleNamespace(page=lambda: "".join(shown))
    view = look()
    for widget in (explore.answer_map(told, step=2.0, at=(47.0, 3.0),
                                      known=place, note=ENDS),
                   explore.taxonomy_explorer(batch(6), evil, chosen=[HARM],
                                             note=ENDS),
                   explore.embedding_explorer(np.eye(6, 2), batch(6), evil,
                                              note=ENDS), rest):
        view.tab.goto(page(widget))
        view.tab.wait_for_function("document.readyState == 'complete'")
        if widget is not rest:
            view.tab.wait_for_selector("canvas")
        expect(view.tab.locator("body")).to_contain_text("onerror=hit")
        for control in view.tab.locator("button:visible").all()[:8]:
            control.click(timeout=1000, no_wait_after=True)
        assert view.tab.evaluate("typeof hit") == "undefined"
        assert not view.tab.locator("img[src=nowhere]").count()
    assert not view.errors and not view.outside
