"""Figures: what they draw, what they say, and that they leave their input."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image

from geotree import plots
from geotree.plots import maps
from geotree.variables import BAND_NAMES, NODATA

KINDS = list(plots.LEAF_COLORS)


@pytest.fixture(autouse=True)
def paper():
    with matplotlib.rc_context():
        plots.style()
        yield
    plt.close("all")


def drawn(ax, path) -> np.ndarray:
    """The figure as pixels; not empty, and no letter too small for a phone.

    On a page a point is 1.25 pixels, so that eight are ten pixels.
    """
    figure = np.atleast_1d(ax)[0].figure
    figure.savefig(path / "figure.png", dpi=60)
    assert not [text for text in figure.findobj(Text)
                if text.get_text().strip() and text.get_fontsize() < 8]
    image = np.asarray(Image.open(path / "figure.png").convert("RGB"))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    return image


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "decimalLongitude": rng.uniform(-120, 150, 60),
        "decimalLatitude": rng.uniform(-40, 65, 60),
        "leafType": np.repeat(KINDS, [30, 15, 10, 5]),
        "family": [f"Family {i % 12:02d}" for i in range(60)]})


@pytest.fixture
def images():
    rng = np.random.default_rng(1)
    images = rng.integers(200, 1200, (40, 12, 10, 5, 5)).astype(np.uint16)
    images[:, 4:9, 3] = 4000  # near infrared in summer
    images[3, 2] = NODATA
    return images


# Style -----------------------------------------------------------------------

def test_colours_are_told_apart_and_fixed():
    assert len(set(plots.CYCLE)) == len(plots.CYCLE) == 8
    assert set(plots.LEAF_COLORS.values()) <= set(plots.CYCLE)
    names = ["b"] * 3 + ["a"] * 3 + ["c"] + ["Evergreen Needleleaf"] * 5
    found = plots.colors(names, top=3)
    assert list(found) == ["Evergreen Needleleaf", "a", "b"]
    assert found["Evergreen Needleleaf"] == plots.LEAF_COLORS[
        "Evergreen Needleleaf"]
    assert plots.colors(names[::-1], top=3) == found  # ties by name


def test_background_is_explicit(tmp_path, table):
    image = drawn(plots.occurrence_map(table), tmp_path)
    assert to_hex(image[1, 1] / 255) == plots.PAPER
    image = drawn(plots.cover([0.0], [50.0], KINDS[:1], [0.9],
                              step=2.0), tmp_path)
    assert image[1, 1].max() < 40  # night


# Maps ------------------------------------------------------------------------

def test_equal_earth_by_the_paper():
    """Corners of the map, and equal areas of equal bands."""
    x, y = maps.equal_earth([180.0, 0.0, 0.0], [0.0, 90.0, -90.0])
    np.testing.assert_allclose(x, [2.7066, 0, 0], atol=1e-4)
    np.testing.assert_allclose(y, [0, 1.3173, -1.3173], atol=1e-4)
    lat = np.linspace(-80, 80, 20_001)
    x, y = maps.equal_earth(np.full(20_001, 180.0), lat)
    width = x[:-1] * np.diff(y)
    area = np.diff(np.sin(np.radians(lat)))
    np.testing.assert_allclose(width / area, (width / area)[0], rtol=5e-3)


def test_map_says_how_many_and_keeps_longitude_first(tmp_path, table):
    before = table.copy()
    ax = plots.occurrence_map(table)
    assert ax.get_title(loc="left") == "n = 60 records"
    assert legend(ax) == [f"{kind}  {n}" for kind, n
                          in zip(KINDS, (30, 15, 10, 5), strict=True)]
    points = next(x for x in ax.collections if isinstance(x, PathCollection))
    offsets = np.asarray(points.get_offsets())
    np.testing.assert_allclose(np.sort(offsets[:, 0]),
                               np.sort(table["decimalLongitude"]))
    drawn(ax, tmp_path)
    pd.testing.assert_frame_equal(table, before)


def test_map_counts_the_rest(table):
    ax = plots.occurrence_map(table, by="family")
    assert legend(ax)[-1] == "other  20"  # 4 of 12 families, 5 each
    assert len(legend(ax)) == 9
    with pytest.raises(ValueError, match="lacks the columns tribe"):
        plots.occurrence_map(table, by="tribe")


def test_the_caspian_is_no_land(tmp_path):
    ax = plots.land()
    patch = ax.patches[0]
    assert patch.get_path().vertices[:, 0].max() > 179
    figure = ax.figure
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())

    def at(lon, lat):
        x, y = ax.transData.transform((lon, lat))
        return to_hex(pixels[round(len(pixels) - y), round(x), :3] / 255)

    assert at(51, 42) == plots.PAPER  # Caspian Sea
    assert at(100, 60) == at(-100, 45) == at(25, -25) != plots.PAPER
    assert at(0, 0) == at(-30, 40) == plots.PAPER


def test_cover_draws_a_cell_for_each_place(tmp_path):
    lat, lon = (x.ravel() for x in np.mgrid[-30:60:4.0, -100:140:4.0])
    kinds = np.array(KINDS)[(lat > 0).astype(int)]
    ax = plots.cover(lon, lat, kinds, np.full(len(lat), 0.9), step=4.0)
    cells, = (x for x in ax.collections if isinstance(x, PolyCollection))
    assert len(cells.get_paths()) == len(lat)
    corner = cells.get_paths()[0].vertices[0]
    np.testing.assert_allclose(corner, maps.equal_earth(-101.84, -31.84))
    assert legend(ax) == KINDS
    drawn(ax, tmp_path)
    ax = plots.cover([0, 1], [0, 9], ["Acer", "Quercus"], [1, 1], step=1)
    assert legend(ax) == ["Acer", "Quercus"]


def test_surer_is_brighter():
    ax = plots.cover([0.0, 10, 20], [50.0, 51.3, 40], KINDS[:1] * 3,
                     [0.1, 0.5, 1.0], step=2.0)
    light = ax.collections[-1].get_facecolor()[:, :3].sum(axis=1)
    assert (np.diff(light) > 0.1).all()


def test_cover_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="confidence have .* of the 2"):
        plots.cover([0.0, 1], [0.0, 1], KINDS[:2], [0.5], step=1.0)


# Pixels ----------------------------------------------------------------------

def test_true_colour_by_hand():
    images = np.full((2, 10, 5, 5), 3000, np.uint16)
    images[0, 2] = 300  # B4, red: a tenth of the brightest
    images[1] = NODATA
    picture = plots.true_color(images)
    assert picture.shape == (2, 5, 5, 3)
    np.testing.assert_allclose(picture[0, 0, 0],
                               [0.1 ** (1 / 1.8), 1, 1], rtol=1e-5)
    assert (picture[1] == np.float32(0.88)).all()
    assert images[0, 0, 0, 0] == 3000


@pytest.mark.parametrize("gone", [slice(2, 3), slice(None)])
def test_strip_shows_missing_months_grey(tmp_path, images, gone):
    images[1, gone] = NODATA
    ax = plots.patch_strip(images[:3], ["Acer rubrum", "Tilia cordata",
                                        "Pinus mugo"])
    sheet, = ax.images
    sheet = np.asarray(sheet.get_array())
    assert sheet.shape == (3 * 9, 12 * 6, 4)
    tile = sheet[9:14, 12:17]  # the second sample in March
    np.testing.assert_allclose(tile[..., :3], 0.88, atol=1e-6)
    assert (tile[..., 3] == 1).all() and not sheet[14:18, ..., 3].any()
    np.testing.assert_allclose(sheet[:5, 12:17, :3],
                               plots.true_color(images)[0, 2])
    names = [x.get_text() for x in ax.get_yticklabels()]
    assert names[0] == "Acer\nrubrum"
    drawn(ax, tmp_path)
    with pytest.raises(ValueError, match="names have .* of the 3 samples"):
        plots.patch_strip(images[:3], ["Acer rubrum"])


def test_phenology_by_side(tmp_path, images):
    latitude = np.repeat([50.0, -40.0, 10.0], [20, 16, 4])
    axes = plots.phenology(images, np.repeat(KINDS[:2], 20), latitude)
    north, south = axes
    assert [x.get_title(loc="left") for x in axes] == [
        "north of 30° N, n = 20", "south of 30° S, n = 16"]
    assert legend(north) == ["Deciduous Broadleaf  20"]
    assert legend(south) == ["Evergreen Broadleaf  16"]
    red, near = (images[:20, 6, band, 2, 2].astype(float) for band in (2, 3))
    by_hand = np.median((near - red) / (near + red))
    assert north.lines[0].get_ydata()[6] == pytest.approx(by_hand, abs=1e-5)
    drawn(axes, tmp_path)


def test_phenology_without_samples_on_a_side(tmp_path, images):
    axes = plots.phenology(images, np.repeat(KINDS[:1], 40), np.full(40, 50))
    assert axes[1].get_legend() is None
    drawn(axes, tmp_path)


# Charts ----------------------------------------------------------------------

GAINS = pd.DataFrame({"model": ["a", "b", "c"], "adds": [0.1, 0.01, -0.2],
                      "adds_low": [0.05, -0.02, -0.3],
                      "adds_high": [0.15, 0.04, -0.1]})


def scores() -> pd.DataFrame:
    return pd.DataFrame({
        "model": ["majority", "forest", "compact"],
        "value": [0.02, 0.5, 0.7], "low": [0.01, 0.45, 0.66],
        "high": [0.03, 0.55, np.nan], "n": [900, 900, 900],
        "records": [1, 10, 100]})


def test_bars_with_intervals_and_optimum(tmp_path):
    ax = plots.score_bars(scores(), optimum=0.83, highlight="compact")
    assert ax.get_title(loc="left") == "n = 900 samples"
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["2.0", "50.0", "70.0", "Bayes optimum 83.0"]
    widths = [bar.get_width() for bar in ax.patches[3:]]
    assert widths == pytest.approx([2, 50, 70])
    assert [to_hex(bar.get_facecolor()) == plots.CYCLE[0].lower()
            for bar in ax.patches[3:]] == [False, False, True]
    drawn(ax, tmp_path)
    with pytest.raises(ValueError, match="lacks the columns high"):
        plots.score_bars(scores().drop(columns="high"))


def test_reliability(tmp_path):
    table = pd.DataFrame({"confidence": [0.3, 0.8], "accuracy": [0.25, 0.8],
                          "error": [0.05, 0.04], "n": [50, 50]})
    ax = plots.reliability({"model": table, "optimum": table})
    assert legend(ax) == ["model", "optimum"]
    assert ax.get_title(loc="left") == "n = 100 samples"
    drawn(ax, tmp_path)


def test_learning_curve(tmp_path):
    ax = plots.learning_curve(scores().assign(model="compact"), optimum=0.8)
    assert [x.get_text() for x in ax.get_xticklabels()] == ["1", "10", "100"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [2, 50, 70])
    drawn(ax, tmp_path)


def test_embedding_colours_the_frequent(tmp_path):
    rng = np.random.default_rng(0)
    names = np.repeat([f"g{i}" for i in range(10)], np.arange(20, 10, -1))
    ax = plots.embedding(rng.normal(size=(len(names), 2)), names, top=3,
                         colors={"g1": "#000000"})
    assert legend(ax) == ["g0  20", "g1  19", "g2  18", "7 others  98"]
    shown = {to_hex(x) for x in ax.collections[1].get_facecolor()}
    assert shown == {plots.CYCLE[0].lower(), "#000000",
                     plots.CYCLE[2].lower()}
    drawn(ax, tmp_path)


def test_history(tmp_path):
    table = pd.DataFrame({"epoch": [0, 1, 2], "loss": [3, 2, 1.5],
                          "validation_loss": [2.5, 2, 1.9],
                          "validation_top1": [0.2, 0.4, 0.45]})
    axes = plots.history(table, optimum=0.8)
    np.testing.assert_allclose(axes[1].lines[0].get_ydata(), [20, 40, 45])
    assert axes[1].lines[0].get_xdata().tolist() == [1, 2, 3]
    drawn(axes, tmp_path)


def test_given_axes_are_used():
    ax = plt.subplots()[1]
    assert plots.score_bars(scores(), ax=ax) is ax
    axes = plt.subplots(1, 2)[1]
    assert plots.history(pd.DataFrame(
        {"epoch": [0], "loss": [1.0], "validation_loss": [1.0],
         "validation_top1": [0.1]}), axes=axes) is axes


def test_differences_are_drawn_in_points_and_grey_where_unsure():
    ax = plots.differences(GAINS)
    dots, = [one for one in ax.collections if hasattr(one, "get_sizes")
             and len(one.get_offsets()) == 3]
    assert dots.get_offsets()[:, 0].tolist() == pytest.approx([10, 1, -20])
    shades = {tuple(color) for color in dots.get_facecolors()}
    assert len(shades) == 2
    assert "+1.0" in [text.get_text() for text in ax.texts]
    assert not ax.get_title(loc="left")  # no number of samples is known
    ax = plots.differences(GAINS.assign(n=2027))
    assert ax.get_title(loc="left") == "n = 2,027 samples"
    assert ax.get_yticklabels()[0].get_text() == "a"
    with pytest.raises(ValueError, match="lacks the columns adds_low"):
        plots.differences(GAINS.drop(columns="adds_low"))


def test_curves_are_in_percent():
    curve = pd.DataFrame({"coverage": [0.5, 1.0], "risk": [0.1, 0.3]})
    _, ax = plt.subplots()
    assert plots.coverage_curve({"model": curve}, ax=ax) is ax
    line, = ax.lines
    assert line.get_xdata().tolist() == [50, 100]
    assert line.get_ydata().tolist() == pytest.approx([10, 30])
    with pytest.raises(ValueError, match="no curve"):
        plots.coverage_curve({})


# --- names, ranges and errors ----------------------------------------------

CLASSES = pd.DataFrame({
    "species": ["Acer rubrum", "Acer saccharum", "Larix decidua",
                "Pinus nigra"],
    "genus": ["Acer", "Acer", "Larix", "Pinus"],
    "family": ["Sapindaceae", "Sapindaceae", "Pinaceae", "Pinaceae"],
    "leafType": ["Deciduous Broadleaf", "Deciduous Broadleaf",
                 "Deciduous Needleleaf", "Evergreen Needleleaf"]})


def test_mistakes_count_how_far_off_an_answer_is(tmp_path):
    truth = np.array([0, 0, 0, 3, 3])
    answer = np.array([0, 1, 3, 2, 3])  # right, genus, none, family, right
    ax = plots.mistakes({"model": answer}, truth, CLASSES)
    widths = [round(bar.get_width()) for bar in ax.patches]
    assert widths == [40, 20, 20, 0, 20]
    drawn(ax, tmp_path)
    with pytest.raises(ValueError, match="each of the 5"):
        plots.mistakes({"model": answer[:3]}, truth, CLASSES)


def test_icicle_gives_each_name_its_share(tmp_path):
    ax = plots.icicle(CLASSES, [1, 2, 0, 7])
    heights = {}
    for bar in ax.patches:
        heights.setdefault(round(bar.get_x()), []).append(bar.get_height())
    for column in range(4):
        assert sum(heights[column]) == pytest.approx(1)
    np.testing.assert_allclose(sorted(heights[3]), [0, 0.1, 0.2, 0.7])
    texts = [text.get_text() for text in ax.texts]
    assert "Pinus nigra  70 %" in texts and "Acer  30 %" in texts
    drawn(ax, tmp_path)
    with pytest.raises(ValueError, match="all zero"):
        plots.icicle(CLASSES, [0, 0, 0, 0])


def test_error_map_leaves_small_blocks_grey(tmp_path):
    lat = np.array([12.0] * 6 + [-33.0] * 2)
    lon = np.array([15.0] * 6 + [25.0] * 2)
    right = np.array([1, 1, 1, 0, 0, 0, 1, 1], bool)
    ax = plots.error_map(lat, lon, right)
    grey, marks = [part for part in ax.collections
                   if isinstance(part, PathCollection)]
    np.testing.assert_array_equal(grey.get_offsets(), [[25, -35]])
    np.testing.assert_array_equal(marks.get_offsets(), [[15, 15]])
    np.testing.assert_array_equal(marks.get_array(), [50])
    drawn(ax, tmp_path)


def test_range_panels_share_a_scale_and_a_window(tmp_path):
    import xarray as xr

    y, x = np.arange(60.0, 40, -2), np.arange(-10.0, 30, 2)
    values = np.full((1, len(y), len(x)), np.nan)
    values[0, 3:6, 5:9] = 0.4
    known = xr.DataArray(values, {"species": ["Acer rubrum"], "y": y,
                                  "x": x}, ("species", "y", "x"))
    axes = plots.range_panels(known / 2, known)
    assert axes.shape == (1, 2)
    left, right = axes[0]
    assert left.get_xlim() == right.get_xlim()
    assert left.get_xlim()[0] < 0 and left.get_ylim()[1] > 54
    meshes = [ax.collections[-1] for ax in axes[0]]
    assert [mesh.get_clim() for mesh in meshes] == [(0, 0.4)] * 2
    assert "up to 40 %" in left.get_title(loc="left")
    scale = left.figure.axes[-1]  # one for both, in percent
    assert scale.get_ylabel() == "probability" and scale.get_ylim() == (0, .4)
    assert scale.yaxis.get_major_formatter()(0.2) == "20 %"
    drawn(axes[0], tmp_path)
    with pytest.raises(ValueError, match="one cell for each"):
        plots.range_panels(known, known[:, 1:])


# --- names that mean harm ----------------------------------------------------

HOSTILE = ["<img src=x onerror=alert(1)>", "$\\frac{Acer}$ $", "_hidden"]


def test_a_name_is_text_in_every_figure(tmp_path, images):
    """No formula that stops the drawing, no legend that hides a name."""
    frame = scores().assign(model=HOSTILE)
    curve = pd.DataFrame({"coverage": [0.5, 1.0], "risk": [0.1, 0.3]})
    bins = pd.DataFrame({"confidence": [0.3], "accuracy": [0.25],
                         "error": [0.05], "n": [50]})
    classes = CLASSES.iloc[:3].assign(species=HOSTILE, genus=HOSTILE,
                                      family=HOSTILE)
    points = np.random.default_rng(0).normal(size=(9, 2))
    places = pd.DataFrame({"decimalLatitude": points[:, 0],
                           "decimalLongitude": points[:, 1],
                           "species": HOSTILE * 3})
    for ax in (plots.score_bars(frame), plots.learning_curve(frame),
               plots.differences(frame, names=("value", "low", "high")),
               plots.reliability(dict.fromkeys(HOSTILE, bins)),
               plots.coverage_curve(dict.fromkeys(HOSTILE, curve)),
               plots.embedding(points, HOSTILE * 3),
               plots.occurrence_map(places, by="species"),
               plots.cover([0, 1, 2], [0, 1, 2], HOSTILE, [1, 1, 1], step=1),
               plots.icicle(classes, [1, 1, 1]),
               plots.mistakes(dict.fromkeys(HOSTILE, np.arange(3)),
                              np.arange(3), classes),
               plots.patch_strip(images[:3], HOSTILE)):
        drawn(ax, tmp_path)
        if ax.get_legend() and len(ax.get_legend().texts) == 3:
            assert "hidden" in ax.get_legend().texts[2].get_text()


def test_a_table_of_a_page_holds_no_foreign_html():
    frame = pd.DataFrame({"name": HOSTILE, "n": [1.0, 2.5, np.nan]},
                         index=HOSTILE).assign(**{HOSTILE[0]: 1})
    for index in (False, True):
        page = plots.table(frame, {"n": "{:.1f}"}, index=index).to_html()
        assert "<img" not in page and "&lt;img src=x" in page
        assert "2.5" in page and "nan" not in page
    assert HOSTILE[2] in page.split("<tbody>")[1]


# What cannot be drawn --------------------------------------------------------

SCORES = pd.DataFrame({
    "model": ["a", "b"], "value": [0.5, 0.6], "low": [0.4, 0.5],
    "high": [0.6, 0.7], "n": 10, "records": [10, 20], "epoch": [0, 1],
    "loss": 1.0, "validation_loss": 1.0, "validation_top1": [0.5, 0.6],
    "adds": [0.1, 0.2], "adds_low": 0.0, "adds_high": 0.3})
PERCENT = SCORES.assign(value=50, validation_top1=50, adds=50)
TURNED = SCORES.assign(low=0.9, adds_low=0.9)
ROWS, BACK = pd.RangeIndex(6), pd.RangeIndex(6)[::-1]
LEAVES = pd.Series(KINDS[:1] * 6, ROWS)
GENUS = pd.DataFrame({"species": ["A b", "A c"], "genus": "A",
                        "family": "Aceae", "leafType": KINDS[0]})
TREES = pd.DataFrame({"decimalLatitude": [7.0, 8], "leafType": KINDS[0],
                      "decimalLongitude": [100.0, 120]})
PIXELS = np.random.default_rng(1).integers(200, 1200, (6, 12, 10, 5, 5)
                                           ).astype(np.uint16)
BANDS = xr.DataArray(PIXELS[0], {"band": [*BAND_NAMES]},
                     ("month", "band", "y", "x"))
WRONG = {
    **{f"{name} of {what}": lambda ask=ask, given=given: ask(given)
       for what, given in (("percent", PERCENT), ("turned ends", TURNED))
       for name, ask in (("bars", plots.score_bars),
                         ("a curve", plots.learning_curve),
                         ("differences", plots.differences))},
    "a history of percent": lambda: plots.history(PERCENT),
    "an optimum of percent": lambda: plots.score_bars(SCORES, optimum=50),
    "a line of percent": lambda: plots.history(SCORES, optimum=50),
    "points in another order": lambda: plots.embedding(
        pd.DataFrame(np.eye(6)[:, :2]), pd.Series([*"abcdef"], BACK)),
    "points that are NaN": lambda: plots.embedding(
        np.full((6, 2), np.nan), [*"abcdef"]),
    "points of three": lambda: plots.embedding(np.eye(6)[:, :3], [*"abcdef"]),
    "labels in another order": lambda: plots.mistakes(
        {"a": pd.Series([0, 1, 0, 1, 0, 0], ROWS)},
        pd.Series([0, 1, 0, 1, 0, 0], BACK), GENUS),
    "answers without names": lambda: plots.mistakes(
        [np.zeros(6, int)], np.zeros(6, int), GENUS),
    "no answers": lambda: plots.mistakes({}, np.zeros(6, int), GENUS),
    "shares as counts": lambda: plots.icicle(GENUS, [0.25, 0.75]),
    "places that are NaN": lambda: plots.occurrence_map(
        TREES.assign(decimalLatitude=np.nan)),
    "lat as lon": lambda: plots.occurrence_map(TREES.set_axis(
        ["decimalLongitude", "leafType", "decimalLatitude"], axis=1)),
    "right in another order": lambda: plots.error_map(
        pd.Series(np.arange(6.0), ROWS), pd.Series(np.arange(6.0), ROWS),
        pd.Series([True, False] * 3, BACK)),
    "bands in another order": lambda: plots.true_color(BANDS[:, ::-1]),
    "rows as columns": lambda: plots.true_color(
        BANDS.transpose("month", "band", "x", "y")),
    "bands before months": lambda: plots.true_color(
        PIXELS[0].transpose(1, 0, 2, 3)),
    "masked pixels": lambda: plots.true_color(np.ma.masked_less(PIXELS, 300)),
    "latitudes in another order": lambda: plots.phenology(
        PIXELS, LEAVES, pd.Series(np.arange(6.0), BACK)),
    "longitudes as latitudes": lambda: plots.phenology(
        PIXELS, LEAVES, np.full(6, 120.0)),
    "unknown leaf types": lambda: plots.phenology(
        PIXELS, LEAVES.str.lower(), np.zeros(6)),
    "fewer colours than none": lambda: plots.colors(["a"], top=-1),
    "a table for tables": lambda: plots.reliability(SCORES),
    "tables of scores": lambda: plots.coverage_curve({"a": SCORES}),
}


@pytest.mark.parametrize("what", WRONG)
def test_no_wrong_picture_is_drawn(what):
    with pytest.raises(ValueError, match="[a-z]{2}.* .*"):
        WRONG[what]()


def test_places_of_any_spelling_are_on_the_map():
    for spelt in (TREES.astype({"decimalLatitude": "str"}),
                  TREES.assign(decimalLongitude=[280.0, 300])):
        ax = plots.occurrence_map(spelt)
        points = next(x for x in ax.collections
                      if isinstance(x, PathCollection))
        offsets = np.asarray(points.get_offsets(), float)
        assert (np.abs(offsets) <= 180).all() and len(offsets) == len(spelt)
        assert ax.get_ylim() == (-57, 84)
