"""Open catalogues: windows from files over http, painted by a source."""

import numpy as np
import pytest
import rasterio
import xarray as xr
from fake_source import FakeSource, occurrence_table
from killing import Run, kills
from loopback import stac as catalogue
from loopback.server import DROP, GARBLE, TRUNCATE
from rasterio.transform import from_origin

from geotree import occurrences, pixels
from geotree.network import ServiceError
from geotree.planet.source import Planet
from geotree.sources import FAILED, NO_IMAGERY, OK, Source, grid, layers
from geotree.sources.stac import Stac, median
from geotree.variables import NODATA, VARIABLE_NAMES


def table(n=8):
    """Records 200 m apart, by turns near Munich and around 180° east."""
    row = np.arange(n)
    lon = np.array([11.5, 179.993])[row % 2] + row // 2 * 0.004
    return occurrence_table(n, first=34).assign(
        decimalLatitude=np.array([48.2, 47.9])[row % 2] + row // 2 * 0.002,
        decimalLongitude=(lon + 180) % 360 - 180)


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    return folder, catalogue.paint(folder, table(), FakeSource())


@pytest.fixture
def service(painted):
    with catalogue.Stac(*painted) as running:
        yield running


@pytest.fixture
def source(service, tmp_path):
    """One look a month is enough where the files are the same."""
    return Stac(tmp_path / "cache", url=service.url, wait=0.005, looks=1,
                collection="sentinel-2-c1-l2a")


def same(found, records):
    truth = FakeSource().fetch(records)
    np.testing.assert_array_equal(found.reflectance, truth.reflectance)
    np.testing.assert_array_equal(found.status, truth.status)
    assert (found.status == OK).any() and (found.status == NO_IMAGERY).any()


# What comes back ------------------------------------------------------------


def test_it_is_a_source(source):
    assert isinstance(source, Source)
    assert source.plan(table()).requests > 100


def test_patches_equal_those_that_were_painted(source):
    source.looks = 3
    same(source.fetch(table()), table())


def test_patches_equal_those_of_the_planet(tmp_path):
    """Whatever month the planet hides."""
    few = table(6)[::2].reset_index(drop=True)
    items = catalogue.paint(tmp_path / "s", few, Planet())
    with catalogue.Stac(tmp_path / "s", items) as running:
        found = Stac(tmp_path / "c", url=running.url,
                     collection="sentinel-2-c1-l2a").fetch(few)
    truth = Planet().fetch(few.assign(year=2020))
    np.testing.assert_array_equal(found.reflectance, truth.reflectance)
    gone = (truth.reflectance == NODATA).all(axis=(2, 3, 4))
    assert gone.any() and not gone.all()


def test_bands_of_20_m_are_repeated_as_they_lie(tmp_path):
    records = table(5)[::2].assign(gbifID=[35, 37, 39]).reset_index(
        drop=True)
    items = catalogue.paint(tmp_path / "s", records, FakeSource(),
                            coarse=True)
    with catalogue.Stac(tmp_path / "s", items) as running:
        found = Stac(tmp_path / "c", url=running.url,
                     collection="sentinel-2-c1-l2a").fetch(records)
    truth = FakeSource().fetch(records).reflectance
    np.testing.assert_array_equal(found.reflectance[:, :, :4],
                                  truth[:, :, :4])
    place = grid.patches(lat=records["decimalLatitude"],
                         lon=records["decimalLongitude"])
    for row in range(3):
        y, x = int(place.y[row] / 10) % 2, int(place.x[row] / 10) % 2
        # The first pixel of 20 m that lies whole in the patch.
        block = found.reflectance[row, :, 5, y:y + 2, x:x + 2]
        corner = truth[row, :, 5, y, x][:, None, None]
        np.testing.assert_array_equal(block, np.broadcast_to(
            corner, block.shape))


def test_median_of_clear_looks_by_hand():
    looks = np.full((3, 1, 1, 3), NODATA)
    looks[:, 0, 0, 0] = [900, 100, 300]
    looks[:2, 0, 0, 1] = [100, 200]
    assert median(looks)[0, 0].tolist() == [300, 150, NODATA]


def test_early_years_of_earth_search_need_no_guess_about_the_offset(
        tmp_path):
    records = table(5)[::2].assign(gbifID=[35, 37, 39]).reset_index(
        drop=True)
    scenes = ((4, 3.0, "02.09", False), (14, 1.0, "05.00", False))
    items = catalogue.paint(tmp_path / "s", records, FakeSource(),
                            scenes=scenes, collection="sentinel-2-l2a")
    for item in items:  # the note of it cannot be trusted
        item["properties"]["earthsearch:boa_offset_applied"] = True
    with catalogue.Stac(tmp_path / "s", items) as running:
        made = Stac(tmp_path / "c", url=running.url)
        found = made.fetch(records)
        kept = made.scenes(grid.tiles(lat=48.2, lon=11.5)[0], 2020)
    assert {one["properties"]["s2:processing_baseline"] for one in kept
            } == {"02.09"}
    np.testing.assert_array_equal(
        found.reflectance, FakeSource().fetch(records).reflectance)


# Requests -------------------------------------------------------------------


def test_one_search_for_a_tile_and_year(source, service):
    source.fetch(table())
    searches = service.calls("search")
    tiles = set(grid.tiles(lat=table()["decimalLatitude"],
                           lon=table()["decimalLongitude"]))
    asked = [str(call["body"]["query"]) for call in searches]
    assert len(set(asked)) == len(tiles) == 3
    before = len(service.calls("search"))
    source.fetch(table())
    assert len(service.calls("search")) == before


def test_files_are_read_in_ranges(source, service):
    source.fetch(table())
    reads = service.calls(".tif")
    assert {call["method"] for call in reads} == {"HEAD", "GET"}
    assert all("range" in call["headers"] for call in reads
               if call["method"] == "GET")
    # No more than the plan says: a look at the size, a read.
    assert len(service.log) <= source.plan(table()).requests


def test_addresses_are_signed_when_they_are_read(service, tmp_path):
    made = Stac(tmp_path / "c", url=service.url, looks=1,
                collection="sentinel-2-c1-l2a",
                sign=lambda address: f"{address}?token=abc")
    same(made.fetch(table()), table())
    assert all(call["query"] == {"token": ["abc"]}
               for call in service.calls(".tif"))
    assert "abc" not in "".join(
        path.read_text() for path in (tmp_path / "c").iterdir())


def test_the_cube_is_like_any_other(source, tmp_path):
    cube = pixels.download(table(), source, tmp_path / "c.zarr", chunk=4,
                           progress=False)
    assert "sentinel-2-c1-l2a" in cube.attrs["product"]
    assert cube.attrs["imagery_year"] == 2020 and cube.attrs["date"]
    np.testing.assert_array_equal(
        cube["reflectance"], FakeSource().fetch(table()).reflectance)


# Rasters --------------------------------------------------------------------


def test_files_are_cloud_optimised(painted):
    path = next(painted[0].glob("*/B4.tif"))
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.overviews(1) and file.block_shapes == [(128, 128)]


def test_a_cube_with_no_account_is_whole(tmp_path):
    """Pixels and variables of a wood equal the planet's own."""
    planet = Planet()
    woods = occurrences.validate(catalogue.trees(planet, each=9).tail(9))
    items = catalogue.paint(tmp_path / "s", woods, planet)
    catalogue.paint_rasters(tmp_path / "s" / "layers", woods, planet)
    with catalogue.Stac(tmp_path / "s", items) as running:
        made = Stac(tmp_path / "c", url=running.url,
                    collection="sentinel-2-c1-l2a",
                    rasters=f"{running.url}/layers/layers.json")
        cube = pixels.download(woods, made, tmp_path / "c.zarr",
                               progress=False)
        assert len(running.log) <= made.plan(woods).requests
    truth = planet.fetch(woods)
    np.testing.assert_array_equal(cube["reflectance"], truth.reflectance)
    np.testing.assert_array_equal(cube["environment"], truth.environment)
    assert np.isfinite(truth.environment).mean() > 0.9
    here = layers.read(tmp_path / "s" / "layers")
    there = layers.read(tmp_path / "s" / "layers" / "layers.json")
    assert here == there and len(here) == 25
    place = {"lat": woods["decimalLatitude"], "lon": woods[
        "decimalLongitude"]}
    np.testing.assert_array_equal(layers.sample(here, **place),
                                  truth.environment[:, 2:])


def test_a_list_of_rasters_comes_over_https_or_from_here(service, painted):
    for address in ("http://example.org/a.json", "ftp://example.org/a.json",
                    "http://127.0.0.1.example.org/a.json",
                    "http://127.0.0.1@example.org/a.json"):
        with pytest.raises(PermissionError, match="not named over https"):
            layers.read(address)
    real, port = service.answer, service.server.server_port
    service.answer = lambda call: real(call) if "there" in call["path"] else (
        (_ for _ in ()).throw(catalogue.Answer(302, {}, Location=(
            f"http://{call['query']['host'][0]}:{port}/there.json"))))
    (painted[0] / "there.json").write_text('{"elevation": "glo30"}')
    asked = f"{service.url}/here.json?host="
    assert list(layers.read(asked + "127.0.0.1")) == ["elevation"]
    with pytest.raises(PermissionError, match="0.0.0.0.* not named over"):
        layers.read(asked + "0.0.0.0")
    service.answer = real
    (painted[0] / "list.json").write_text('["a.tif"]')
    for fault, file in ((None, "nowhere"), (None, "list"), (DROP, "list"),
                        (GARBLE, "list"), (500, "list")):
        service.faults[:] = [fault]
        with pytest.raises(ServiceError, match="no list of rasters at "
                           ".*Check the address"):
            layers.read(f"{service.url}/{file}.json")


def test_a_source_says_whose_pixels_it_has(source, tmp_path):
    assert source.origin == "come from a catalogue on this machine"
    assert Stac(tmp_path).origin.startswith("are real (https://earth-search")
    for url, here in (("http://localhost:80", True), ("http://[::1]/", True),
                      ("http://127.8.0.1/stac", True),
                      ("https://127.0.0.1.example.org", False),
                      ("https://example.org/?to=//127.0.0.1", False)):
        assert ("this machine" in Stac(tmp_path, url=url).origin) == here


def test_rasters_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="called like the variables"):
        layers.read(tmp_path / "nowhere")
    (tmp_path / "a.json").write_text('{"elevation": "glo30"}')
    assert "copernicus-dem-30m" in layers.read(tmp_path / "a.json")[
        "elevation"]
    (tmp_path / "a.json").write_text('{"moon": "a.tif"}')
    with pytest.raises(ValueError, match="no variable moon"):
        layers.read(tmp_path / "a.json")


def raster(path, values, left, top, size, crs="EPSG:4326", nodata=-999):
    with rasterio.open(path, "w", driver="GTiff", count=1, nodata=nodata,
                       height=values.shape[0], width=values.shape[1],
                       dtype="float32", crs=crs,
                       transform=from_origin(left, top, size, size)) as file:
        file.write(values.astype("float32"), 1)
    return str(path)


def test_variables_come_from_rasters(tmp_path):
    """A plane that rises 1 m a pixel to the east and 2 m to the south."""
    y, x = np.mgrid[:40, :60]
    heights = 100.0 + x + 2 * y
    dem = raster(tmp_path / "dem_N47_00_E011_00.tif", heights, 11.0, 48.0,
                 1 / 1200)
    assert dem
    warm = np.full((4, 4), 95.0)
    warm[1, 2] = -999
    bio = raster(tmp_path / "bio.tif", warm, 10.0, 49.0, 1.0)
    lat, lon = 48.0 - 20.5 / 1200, 11.0 + 30.5 / 1200
    found = layers.sample(
        {"elevation": str(tmp_path / "dem_{tile}.tif"), "bio01": bio},
        lat=[lat, 47.5, -10.2], lon=[lon, 12.5, 20.0])
    at = {name: found[:, VARIABLE_NAMES.index(name) - 2] for name in
          ("elevation", "slope", "aspect", "bio01", "bio12")}
    assert at["elevation"][0] == 100 + 30 + 40
    east = 1 / (layers.METRES / 1200 * np.cos(np.radians(lat)))
    south = 2 / (layers.METRES / 1200)
    assert at["slope"][0] == pytest.approx(
        np.degrees(np.arctan(np.hypot(east, south))), rel=1e-5)
    # It falls towards the north-west.
    assert at["aspect"][0] == pytest.approx(
        360 - np.degrees(np.arctan2(east, south)), rel=1e-5)
    assert at["bio01"][0] == 95 and np.isnan(at["bio01"][1])
    assert np.isnan(found[2]).all() and np.isnan(at["bio12"]).all()


def test_a_raster_of_another_projection_and_its_border(tmp_path):
    _, east, north = grid.utm(lat=48.0, lon=9.0)
    path = raster(tmp_path / "d.tif", np.arange(9.0).reshape(3, 3),
                  east[0] - 5, north[0] + 5, 10, crs="EPSG:32632")
    found = layers.sample({"elevation": path}, lat=[48.0], lon=[9.0])
    assert found[0, 0] == 0.0 and np.isfinite(found[0, 1:3]).all()


def test_flat_ground_and_a_wrong_layer():
    flat = layers.slope_aspect(np.ones((1, 3, 3)), np.ones((1, 2)))
    assert flat[0, 0] == 0
    with pytest.raises(ValueError, match="no variable latitude"):
        layers.check({"latitude": "a.tif"})


# Under fire -----------------------------------------------------------------


def test_a_storm_is_sat_out(source, service):
    service.faults[:] = [429, None, 500, None, DROP, None, TRUNCATE, None,
                         GARBLE, None, 503, None] * 6
    same(source.fetch(table()), table())
    assert not service.faults


def test_a_broken_file_fails_its_samples_alone(source, service, tmp_path,
                                               painted):
    _, items = painted
    tile = grid.tiles(lat=48.2, lon=11.5)[0]
    real = service.answer

    def gone(call):
        if f"S2_{tile}_20200304" in call["path"]:
            raise catalogue.Answer(404, {})
        return real(call)

    service.answer = gone
    cube = pixels.download(table(), source, tmp_path / "c.zarr",
                           max_failed=0.5, progress=False)
    failed = (cube["status"] == FAILED).to_numpy()
    at = grid.tiles(lat=table()["decimalLatitude"],
                    lon=table()["decimalLongitude"])
    assert (failed == (at == tile)).all() and failed.any()
    told = (tmp_path / "c.zarr.failures.csv").read_text()
    assert f"{tile} 2020-03" in told and "cannot read" in told
    service.answer = real
    cube = pixels.download(table(), source, tmp_path / "c.zarr",
                           progress=False)
    np.testing.assert_array_equal(
        cube["reflectance"], FakeSource().fetch(table()).reflectance)


@pytest.mark.parametrize("wrong", [
    {}, [], None, 5, {"features": None}, {"features": [{}]}])
def test_json_that_is_no_answer_is_asked_for_again_and_never_kept(
        source, service, wrong):
    """A search without an answer is not a tile without scenes."""
    real, left = service.search, [2]

    def odd(body):
        left[0] -= 1
        return real(body) if left[0] < 0 else wrong

    service.search = odd
    same(source.fetch(table()), table())


def test_a_collection_of_other_bands_is_named(source, service):
    service.search = lambda body: {"features": [
        {"id": "S1", "properties": {}, "assets": {"vv": {"href": "a"}}}]}
    found = source.fetch(table(2))
    assert (found.status == FAILED).all()
    assert "'S1' lacks B11, B12, B2" in found.messages[0]
    assert "another collection" in found.messages[0]


def test_a_catalogue_that_refuses_is_quoted(source, service):
    service.search = lambda body: (_ for _ in ()).throw(
        catalogue.Answer(400, {"description": "no such collection"}))
    found = source.fetch(table(2))
    assert (found.status == FAILED).all()
    assert "answers 400" in found.messages[0]


pytestmark = pytest.mark.filterwarnings(
    "ignore::PendingDeprecationWarning:rasterio")

RUN = """
import sys
from test_stac import table
from geotree import pixels
from geotree.sources.stac import Stac
source = Stac(sys.argv[2] + ".cache", url=sys.argv[1], workers=3, looks=1,
              collection="sentinel-2-c1-l2a", wait=0.01)
pixels.download(table(), source, sys.argv[2], chunk=2, progress=False)
"""


def test_killed_at_random_it_reads_for_no_finished_sample(
        service, source, tmp_path):
    store, cache = tmp_path / "c.zarr", tmp_path / "c.zarr.cache"
    whole = pixels.download(table(), source, tmp_path / "w.zarr", chunk=2,
                            progress=False).load()
    total = len(service.calls(".tif"))
    service.log.clear()
    tiles = grid.tiles(lat=table()["decimalLatitude"],
                       lon=table()["decimalLongitude"])
    searched, finished = set(), set()

    def repeated():
        """Searches and files of tiles that need nothing any more."""
        return ([call for call in service.calls("search")
                 if searched & set(_tiles_of(call))]
                + [call for call in service.calls(".tif")
                   if call["path"].split("_")[1] in finished])

    for _ in kills(lambda: Run(RUN, service.url, store),
                   lambda: len(service.calls(".tif")), total):
        assert not repeated()
        service.log.clear()
        searched = {note.name.split("-")[0] for note in cache.glob("*.json")}
        if (store / "zarr.json").exists():
            half = pixels.open(store, allow_incomplete=True)
            finished = set(tiles) - set(tiles[half["status"] == 0])
    assert searched
    source.cache = cache
    torn = pixels.download(table(), source, store, chunk=2,
                           progress=False).load()
    assert not repeated()
    xr.testing.assert_identical(torn, whole)


def _tiles_of(call):
    return [name.removeprefix("MGRS-").zfill(5)
            for name in call["body"]["query"]["grid:code"]["in"]]
