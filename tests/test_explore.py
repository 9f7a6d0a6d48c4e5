"""Answers, their bytes, range maps and files, and the map with a kernel."""

from __future__ import annotations

import errno
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from compass import CLASSES, Compass, Everywhere
from fake_source import FakeSource, occurrence_table
from loopback import earthengine
from PIL import Image

from geotree import explore, globe, place, plots, taxonomy, variables
from geotree.explore import packing
from geotree.explore.tiles import Grid
from geotree.planet.source import Planet
from geotree.shards import Batch
from geotree.sources.earthengine import EarthEngine


@pytest.fixture
def answers():
    return explore.ask(Compass(), Everywhere(), CLASSES,
                       lat=[10.0, 60.0, 85.0], lon=[-20.0, 15.0, 20.0])


# --- answers --------------------------------------------------------------

def test_a_real_source_needs_the_place_alone(answers):
    assert len(answers) == 2, "a place without imagery has no answer"
    np.testing.assert_array_equal(answers.row, [0, 1])
    np.testing.assert_array_equal(answers.lat, [10, 60])
    np.testing.assert_array_equal(answers.lon, [-20, 15])
    assert (answers.truth == -1).all()
    names = CLASSES["species"][answers.seen.argmax(axis=1)].tolist()
    assert names == ["Pinus nigra", "Acer rubrum"]
    np.testing.assert_allclose(answers.seen.sum(axis=1), 1, rtol=1e-5)
    assert answers.prior is answers.seen


def test_a_place_gets_the_same_pixels_each_time_and_of_its_own():
    keys = explore.places(Everywhere(), lat=[10, 10, 10.00002],
                          lon=[20, 20.00002, 20])["gbifID"]
    assert keys.nunique() == 3
    again = explore.places(Everywhere(), lat=[10], lon=[20])["gbifID"]
    assert again.item() == keys[0] > 0


def test_the_planet_grows_its_likeliest_tree_or_draws_one():
    planet = Planet()
    lat, lon = np.full(300, 47.0), np.full(300, 8.0)
    odds = planet.prior(lat=lat[:1], lon=lon[:1])[0]
    best = planet.classes["species"][odds.argmax()]
    table = explore.places(planet, lat=lat, lon=lon)
    assert set(table["species"]) == {best}
    drawn = explore.places(planet, lat=lat, lon=lon,
                           level=np.random.default_rng(0).random(300))
    share = (drawn["species"] == best).mean()
    assert abs(share - odds.max()) < 0.1
    assert set(drawn["species"]) <= set(planet.classes["species"][odds > 0])


def test_a_place_without_trees_has_no_answer():
    sea = explore.ask(Compass(), Planet(), CLASSES, lat=0.0, lon=-30.0)
    assert len(sea) == 0
    assert sea.seen.shape == (0, 3)
    assert packing.pack(sea)["country"] == []


def test_a_place_off_the_globe_is_an_error():
    with pytest.raises(ValueError, match="lat and lon swapped"):
        explore.ask(Compass(), Everywhere(), CLASSES, lat=120.0, lon=10.0)


def test_one_place_off_the_globe_does_not_stop_the_others():
    some = explore.ask(Compass(), Everywhere(), CLASSES,
                       lat=[46.5, np.nan, 46.5], lon=[11.0, 11.0, 371.0])
    assert some.status.tolist() == ["ok", "not on the globe",
                                    "not on the globe"]
    assert some.row.tolist() == [0] and "latitude" in some.reason[1]


def test_temperature_softens_and_the_place_joins_in():
    known = pd.DataFrame({
        "decimalLatitude": [60.0] * 5, "decimalLongitude": [20.0] * 5,
        "species": "Pinus nigra"})
    asking = {"lat": 60.0, "lon": 20.0}
    plain = explore.ask(Compass(), Everywhere(), CLASSES, **asking)
    modest = explore.ask(Compass(), Everywhere(), CLASSES, temperature=3.0,
                         **asking)
    assert modest.seen.max() < plain.seen.max()
    joined = explore.ask(Compass(), Everywhere(), CLASSES, weight=3.0,
                         place=place.Nearest(known, neighbours=1), **asking)
    np.testing.assert_array_equal(joined.seen, plain.seen)
    assert joined.prior[0].argmax() == 2 != plain.seen[0].argmax()


# --- bytes ----------------------------------------------------------------

def test_packed_answers_say_the_same(answers):
    data = packing.pack(answers, checklists={"SE": ["Pinus nigra"]},
                        note="by hand")
    np.testing.assert_allclose(np.frombuffer(data["lat"], "<f4"), [10, 60])
    part = {key: np.frombuffer(value, kind) for (key, value), kind in zip(
        data["seen"].items(), ("<u4", "<u2", "<u2"), strict=True)}
    rows = np.repeat([0, 1], np.diff(part["start"]))
    dense = np.zeros((2, 3))
    dense[rows, part["species"]] = part["share"] / 65535
    np.testing.assert_allclose(dense, answers.seen, atol=1 / 500)
    assert data["checklists"] == {"SE": [2]}
    assert data["country"] == ["", "SE"]
    green = np.frombuffer(data["ndvi"], "i1").reshape(2, 12)
    assert (green[:, 1] == -128).all()
    np.testing.assert_array_equal(green[:, 0], round(100 * 2500 / 3500))


def test_atlas_puts_each_month_in_its_place():
    images = np.full((9, 12, 10, 5, 5), variables.NODATA, np.uint16)
    images[8, 3] = 0  # the ninth sample: second row, first column
    sheet = np.asarray(Image.open(io.BytesIO(packing.atlas(images))))
    assert sheet.shape == (10, packing.TILES * 12 * 5, 3)
    dark = np.argwhere(sheet.sum(axis=2) == 0)
    dark = dark[(dark[:, 0] < 5) | (dark[:, 1] < 60)]  # the rest is unused
    np.testing.assert_array_equal(dark.min(axis=0), [5, 15])
    np.testing.assert_array_equal(dark.max(axis=0), [9, 19])


def test_outline_is_the_land():
    data = packing.outline()
    points = np.frombuffer(data["points"], "<i2").reshape(-1, 2) / 100
    assert sum(data["sizes"]) == len(points) > 3000
    assert np.abs(points).max(axis=0).tolist() == [180.0, points[:, 1].max()]


def test_a_page_holds_all_it_needs_and_asks_for_nothing(answers):
    chart = explore.answer_map(answers, step=2.0, at=(60, 20),
                               note="</script><b>not a tag</b>")
    page = chart.page()
    assert page.count("</script>") == 2, "data must not end the script"
    assert not re.search(r"(src|href)=|https?://(?!www\.w3\.org/2000/svg)"
                         r"|import\s*\(|@import|\bfetch\(", page)
    text = re.search(r'application/json" id="[^"]+">(.*?)</script>', page)[1]
    state = json.loads(text)
    assert state["place"] == [60, 20]
    assert state["data"]["classes"]["genus"] == ["Acer", "Acer", "Pinus"]
    bundle, _ = chart._repr_mimebundle_()
    assert {"text/html", "application/vnd.jupyter.widget-view+json"} <= set(
        bundle)


# --- the map with a kernel -------------------------------------------------

@pytest.fixture
def explorer():
    known = pd.DataFrame({"decimalLatitude": [62.0, 40.0],
                          "decimalLongitude": [15.0, -100.0],
                          "species": ["Pinus nigra", "Acer rubrum"]})
    return explore.what_grows_here(Compass(), Everywhere(), CLASSES,
                                   known=known, note="by hand")


def test_a_click_asks_the_model_at_the_very_place(explorer):
    explorer._clicked(type="mousemove", coordinates=[60.0, 20.0])
    assert explorer.panel.answer == {}
    explorer._clicked(type="click", coordinates=[61.25, 375.5])
    answer = explorer.panel.answer
    assert np.frombuffer(answer["lat"], "<f4").item() == 61.25
    assert np.frombuffer(answer["lon"], "<f4").item() == 15.5
    assert (explorer.lat.value, explorer.lon.value) == (61.25, 15.5)
    assert answer["country"] == ["SE"]
    assert answer["checklists"] == {"SE": [2], "US": [0]}


def test_classes_without_a_genus_are_refused_before_a_click():
    classes = CLASSES.drop(columns="genus")
    for make in (lambda: explore.what_grows_here(Compass(), Everywhere(),
                                                 classes),
                 lambda: explore.taxonomy_explorer(batch(), classes),
                 lambda: explore.embedding_explorer(np.eye(3, 2), batch(),
                                                    classes)):
        with pytest.raises(ValueError, match="class table lacks .* genus"):
            make()
    few = CLASSES.iloc[:1]
    for make in (lambda: explore.taxonomy_explorer(batch(), few),
                 lambda: explore.embedding_explorer(np.eye(3, 2), batch(),
                                                    few)):
        with pytest.raises(ValueError, match="not among the 1 classes"):
            make()


def test_a_place_without_answer_says_so(explorer):
    explorer.ask(85.0, 20.0)
    assert explorer.panel.answer["message"].startswith(
        "85.0°, 20.0°: no imagery.")
    explorer.ask(61.25, 375.5)
    assert (explorer.lon.value, explorer.mark.location[1]) == (15.5, 15.5)
    with pytest.raises(ValueError, match="not on the globe"):
        explorer.ask(float("nan"), 20.0)
    assert "not on the globe" in explorer.panel.answer["message"]


def test_signed_in_a_click_on_geemaps_map_asks_earth_engine(explorer):
    import geemap

    assert type(explorer.map).__module__.startswith("ipyleaflet")
    records = occurrence_table(1).assign(decimalLatitude=48.3,
                                         decimalLongitude=10.4)
    with earthengine.EarthEngine(records, FakeSource()) as engine:
        ee = earthengine.install(engine.url)
        try:
            found = explore.what_grows_here(Compass(), EarthEngine(), CLASSES)
            assert not engine.queries, "nothing is asked before the click"
            found.map._handle_custom_msg(
                {"event": "interaction", "type": "click",
                 "coordinates": [48.3, 10.4]}, [])
        finally:
            ee.Reset()
        assert engine.queries
    assert isinstance(found.map, geemap.Map)
    assert found.panel.answer["country"] == ["DE"]
    seen = FakeSource().fetch(records.assign(year=2020)).reflectance
    assert found.panel.answer["ndvi"] == packing.greenness(seen)


# --- explorers of samples --------------------------------------------------

def batch():
    seen = Everywhere().fetch(pd.DataFrame({
        "decimalLatitude": [50.0, -30.0, 50.0],
        "decimalLongitude": [9.0, 8.0, 7.0]}))
    images = seen.reflectance.copy()
    images[:2, 5, 3] = 9500  # June is green
    return Batch(images, seen.environment, np.array([0, 0, 2]),
                 np.arange(3))


def test_taxonomy_counts_and_turns_the_south_by_half_a_year():
    widget = explore.taxonomy_explorer(batch(), CLASSES,
                                       chosen=["Pinus nigra"])
    data = widget.data
    assert widget.chosen == [2]
    assert np.frombuffer(data["counts"], "<u4").tolist() == [2, 0, 1]
    low, middle, high = (np.frombuffer(data[key], "i1").reshape(3, 12)
                         for key in ("low", "ndvi", "high"))
    assert (middle[1] == -128).all(), "a class without samples has no year"
    assert high[0, 5] > middle[2, 5], "June in the north"
    assert high[0, 11] == high[0, 5], "June of the south is December"
    assert (low <= middle).all() and (middle <= high).all()


def test_embedding_names_its_points():
    widget = explore.embedding_explorer(np.eye(3, 2), batch(), CLASSES)
    assert np.frombuffer(widget.data["label"], "<u2").tolist() == [0, 0, 2]
    np.testing.assert_array_equal(
        np.frombuffer(widget.data["lat"], "<f4"), [50, -30, 50])
    with pytest.raises(ValueError, match=r"expected \(3, 2\)"):
        explore.embedding_explorer(np.eye(2), batch(), CLASSES)


# --- range maps ------------------------------------------------------------

NORTH_SEA = (-6.0, 48.0, 12.0, 56.0)  # Britain to Germany: both sides of 0°


@pytest.fixture(scope="module")
def maps():
    return explore.range_maps(
        Compass(), Everywhere(), CLASSES, ["Pinus nigra", "Acer rubrum"],
        region=NORTH_SEA, step=1.0, samples=4)


def test_range_is_where_the_model_sees_it(maps):
    assert maps["probability"].dims == ("species", "y", "x")
    pine = maps["probability"].sel(species="Pinus nigra")
    assert pine.sizes == {"y": 8, "x": 18}
    assert float(maps["y"][0]) == 55.5 and float(maps["x"][0]) == -5.5
    west, east = pine.sel(x=slice(-6, 0)), pine.sel(x=slice(0, 12))
    assert float(west.min()) > 0.5 > 0.01 > float(east.max())
    assert np.isnan(pine.sel(y=53.5, x=3.5)), "the North Sea is no land"
    assert np.isfinite(pine.sel(y=50.5, x=9.5))
    spread = maps["uncertainty"].sel(species="Acer rubrum")
    assert 0 < float(spread.max()) < 0.5


def test_batches_and_cells_change_nothing(maps):
    again = explore.range_maps(
        Compass(), Everywhere(), CLASSES, ["Pinus nigra", "Acer rubrum"],
        region=NORTH_SEA, step=1.0, samples=4, batch=7)
    xr.testing.assert_allclose(again, maps)


def test_batches_are_no_larger_than_asked_for():
    source = Everywhere()
    explore.range_maps(Compass(), source, CLASSES, "Pinus nigra",
                       region=NORTH_SEA, step=2.0, batch=10)
    sizes = [len(table) for table in source.tables]
    assert 4 < max(sizes) <= 10 and sum(sizes) > 60


def test_cells_of_equal_area_have_equal_area():
    maps = explore.range_maps(
        Compass(), Everywhere(), CLASSES, "Pinus nigra", samples=2,
        region=(-180, -56, 180, 72), step=20.0, equal_area=True)
    assert maps["crs"].attrs["spatial_ref"] == "EPSG:6933"
    assert maps["x"].attrs["units"] == "m"
    sides = np.diff(maps["x"]), -np.diff(maps["y"])
    np.testing.assert_allclose(np.concatenate(sides), 20 * globe.METRES)
    from rasterio.warp import transform

    x, y = 0 * maps["y"].to_numpy(), maps["y"].to_numpy()
    lat = np.array(transform("EPSG:6933", "EPSG:4326", x, y)[1])
    edge = np.sin(np.radians(lat))  # area goes with the sine of latitude
    np.testing.assert_allclose(np.diff(edge), np.diff(edge)[0], rtol=0.01)


@pytest.mark.parametrize("step", [0.5, 0.7, 7, 100])
@pytest.mark.parametrize("equal_area", [False, True])
def test_no_cell_is_beyond_the_globe(equal_area, step):
    grid = Grid((-180, -90, 180, 90), step, equal_area, 4, 64)
    ends = ([grid.x[-1] + grid.step / 2], [grid.y[-1] - grid.step / 2])
    if equal_area:
        from rasterio.warp import transform

        ends = transform("EPSG:6933", "EPSG:4326", *ends)
    assert 180 - step < ends[0][0] <= 180 + 1e-9
    assert -90 - 1e-9 <= ends[1][0] < 0


@pytest.mark.parametrize("equal_area", [False, True])
def test_geotiff_is_cloud_optimised_and_says_what_it_is(tmp_path,
                                                        equal_area):
    maps = explore.range_maps(
        Compass(), Everywhere(), CLASSES, "Pinus nigra", region=NORTH_SEA,
        step=1.0, equal_area=equal_area)
    path = explore.write_geotiff(maps, tmp_path / "range.tif")
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.crs.to_epsg() == (6933 if equal_area else 4326)
        assert file.units == ("1", "1")
        assert "probability" in file.descriptions[0]
        assert "standard deviation" in file.descriptions[1]
        assert np.isnan(file.nodata)
        assert file.tags()["species"] == "Pinus nigra"
        assert file.tags()["source"] == "everywhere"
        for band, name in enumerate(("probability", "uncertainty"), 1):
            np.testing.assert_array_equal(file.read(band),
                                          maps[name][0].to_numpy())
        row, column = file.index(float(maps["x"][4]), float(maps["y"][2]))
        assert (row, column) == (2, 4)
    assert [item.name for item in tmp_path.iterdir()] == ["range.tif"]


def mapped(species):
    """A map of one cell with a name."""
    maps = xr.Dataset()
    for rank in taxonomy.RANKS:
        maps[rank] = ("y", "x"), np.ones((1, 1), np.uint16), {
            "names": [species], "long_name": "likeliest"}
        maps[f"{rank}_confidence"] = ("y", "x"), np.ones((1, 1))
    return maps.assign(crs=((), 0, {"spatial_ref": "EPSG:4326"})
                       ).assign_coords(x=[0.5], y=[0.5]).assign_attrs(
                           step=1.0)


def test_a_map_that_cannot_be_written_keeps_the_old_ones_names(
        tmp_path, monkeypatch):
    """Names of another map would be a wrong answer in each cell."""
    def full(*about, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = explore.write_geotiff(mapped("Pinus nigra"), tmp_path / "m.tif")
    before = {one: one.read_bytes() for one in tmp_path.iterdir()}
    assert len(before) == 3
    monkeypatch.setattr("rasterio.open", full)
    with pytest.raises(OSError, match=f"could not write '{path}'.*kept"):
        explore.write_geotiff(mapped("Acer rubrum"), path)
    assert {one: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_names_of_the_map_that_was_there_are_gone(tmp_path, maps):
    """But not a style that is the user's own."""
    path, style = tmp_path / "m.tif", tmp_path / "m.qml"
    one = maps.sel(species=["Pinus nigra"])
    explore.write_geotiff(mapped("Pinus nigra"), path)
    style.write_text(own := style.read_text().replace("paletted", "mine"))
    explore.write_geotiff(one, path)
    with pytest.raises(ValueError, match="m.qml' is your own"):
        explore.write_geotiff(mapped("Pinus nigra"), path)
    assert style.read_text() == own
    style.unlink()
    explore.write_geotiff(mapped("Pinus nigra"), path)
    assert len([*tmp_path.iterdir()]) == 3
    explore.write_geotiff(one, path)
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("name", ["m.tif.aux.xml", "m.tif.msk", "m.tif.ovr"])
def test_what_is_the_users_own_beside_a_map_is_not_lost(tmp_path, maps, name):
    """But what GDAL noted of the map that was there is."""
    path, beside = tmp_path / "m.tif", tmp_path / name
    for one in (mapped("Pinus nigra"), maps.sel(species=["Pinus nigra"])):
        explore.write_geotiff(one, path)
        with rasterio.open(path) as file:
            file.stats(indexes=[1])
        explore.write_geotiff(one, path)
        own = "<PAMDataset><SRS>EPSG:3857</SRS></PAMDataset>"
        beside.write_text(own)
        before = path.read_bytes()
        with pytest.raises(ValueError, match=f"{name}' is your own"):
            explore.write_geotiff(one, path)
        assert (path.read_bytes(), beside.read_text()) == (before, own)
        beside.unlink()


def test_zarr_brings_all_back(tmp_path, maps):
    maps.to_zarr(tmp_path / "ranges.zarr", consolidated=False)
    again = xr.open_zarr(tmp_path / "ranges.zarr", consolidated=False)
    assert again["species"].to_numpy().tolist() == [
        "Pinus nigra", "Acer rubrum"]
    for name in ("probability", "uncertainty"):
        np.testing.assert_array_equal(again[name], maps[name])
        assert again[name].attrs["units"] == "1"
    assert again["crs"].attrs["spatial_ref"] == "EPSG:4326"
    assert again["x"].attrs["units"] == "degrees_east"


@pytest.mark.parametrize(("change", "message"), [
    ({"species": "Quercus"}, "'Quercus' is not among the 3 classes"),
    ({"samples": 1}, "samples is 1, expected .* at least 2"),
    ({"region": (10, 0, -10, 5)}, "expected .west, south, east, north"),
    ({"region": (170, 0, -170, 5)}, "two maps, to 180 and from -180"),
    ({"region": (0, -90, 10, -80), "step": 30}, "0 cells, expected 1"),
    ({"step": 0}, "a step above 0")])
def test_ranges_refuse_nonsense(change, message):
    asked = {"species": "Pinus nigra", "region": NORTH_SEA} | change
    with pytest.raises(ValueError, match=message):
        explore.range_maps(Compass(), Everywhere(), CLASSES,
                           asked.pop("species"), **asked)


def test_a_geotiff_holds_one_species(tmp_path, maps):
    with pytest.raises(ValueError, match="species is None, expected one of"):
        explore.write_geotiff(maps, tmp_path / "range.tif")
    assert list(tmp_path.iterdir()) == []


def test_colours_are_those_of_the_figures(answers):
    data = packing.pack(answers)
    assert data["leafColors"] == plots.LEAF_COLORS
    assert data["cycle"] == list(plots.CYCLE)
