"""Open catalogues: windows from files over http, painted by a source."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from fake_source import FakeSource, occurrence_table
from killing import Run, kills
from loopback import stac as catalogue
from loopback.server import DROP, GARBLE, TRUNCATE, without_end
from rasterio import warp
from rasterio.transform import Affine, from_origin

from geotree import globe, network, occurrences, pixels
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
    return folder, catalogue.paint(folder, table(), FakeSource(),
                                   scenes=catalogue.SCENES[:2])


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
    items = catalogue.paint(tmp_path / "s", few, Planet(),
                            scenes=catalogue.SCENES[:1])
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
                            coarse=True, scenes=catalogue.SCENES[:1])
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
        with pytest.warns(UserWarning, match="12 scenes are left out"):
            found = made.fetch(records)
        kept = made.scenes(grid.tiles(lat=48.2, lon=11.5)[0], 2020)
    assert {one["baseline"] for one in kept} == {2} and len(kept) == 12
    assert len(made.left_out) == 12
    assert "known to say wrongly" in made.left_out["S2_32UPU_20200114"]
    np.testing.assert_array_equal(
        found.reflectance, FakeSource().fetch(records).reflectance)


# How catalogues say what a number means ------------------------------------

PRODUCT = "S2A_MSIL2A_20200304T101021_{}_R022_T32UPU_20200304T130000.SAFE"
V1 = {"raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.1}]}
PLAIN = {"raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": 0}]}
ADDED = [  # properties, what the assets say: 1,000 is in the numbers
    ({"s2:processing_baseline": "05.00"}, {}),  # Planetary Computer
    ({"sentinel:processing_baseline": "04.00"}, {}),  # Earth Search v0
    ({"sentinel2:processing_baseline": 5.1}, {}),
    ({"processing_baseline": "N0511"}, {}),
    ({"processing:version": "05.11"}, {}),  # Copernicus
    ({"s2:product_uri": PRODUCT.format("N0500")}, {}),
    ({"s2:granule_id": "S2A_OPER_MSI_L2A_TL_2APS_A018530_T32UPU_N05.00"},
     {}),
    ({"processorVersion": "05.11"}, {"nodata": 0}),
    ({}, V1),  # Earth Search's Collection 1
    ({}, {"bands": [{"raster:offset": -0.1, "raster:scale": 0.0001}]}),
    ({}, {"raster:offset": -0.1, "raster:scale": 0.0001, "nodata": 0}),
    ({}, {"raster:offset": -1000}),
    ({"earthsearch:boa_offset_applied": False}, V1),
    ({"s2:processing_baseline": "05.09"}, V1),
    ({}, {"raster:offset": "-0.1", "raster:scale": "0.0001"}),
]
NONE = [  # the numbers are as before 2022
    ({"s2:processing_baseline": "03.01"}, {}),
    ({"processing:version": "02.14"}, {}),
    ({"sentinel:product_id": PRODUCT.format("N0214")}, {}),
    ({"s2:processing_baseline": "03.01",
      "earthsearch:boa_offset_applied": False}, PLAIN),
    ({"sentinel:processing_baseline": "04.00",
      "sentinel:boa_offset_applied": True}, {}),
    ({"s2:processing_baseline": "05.00",
      "earthsearch:boa_offset_applied": True}, V1),
    ({}, {"bands": [{"raster:offset": 0, "raster:scale": 0.0001}]}),
    ({"s2:processing_baseline": "05.00"}, {"raster:offset": "0"}),
]
UNSAID = [  # nothing, or two things
    ({}, {}), ({"processing:version": "2.10.1"}, {}), ({}, {"nodata": 0}),
    ({"earthsearch:boa_offset_applied": False}, {}),
    ({"s2:processing_baseline": None}, {}),
    ({"s2:processing_baseline": "02.14"}, V1),
    ({"s2:processing_baseline": "05.00",
      "s2:product_uri": PRODUCT.format("N0214")}, {}),
    ({}, {**V1, "raster:offset": 0}), ({"processing:version": "5.1"}, {}),
    *(({"s2:processing_baseline": "05.00",
        "earthsearch:boa_offset_applied": said}, {}) for said in (1, [True])),
]


def test_a_collection_of_no_scenes_is_told_of(service, tmp_path):
    """Its places would look like places without imagery."""
    source = Stac(tmp_path / "c", url=service.url, collection="sentinel-3")
    with pytest.warns(UserWarning, match="lists no scene of sentinel-3 for "
                      "32UPU in 2020"):
        assert (source.fetch(table(1)).status == NO_IMAGERY).all()


@pytest.fixture(scope="module")
def one_place(tmp_path_factory):
    """A place in two months of files with and without the 1,000."""
    folder = tmp_path_factory.mktemp("spelt")
    records = table(1).assign(gbifID=38)
    for name, baseline in (("added", "05.00"), ("none", "03.01")):
        catalogue.paint(folder / name, records, FakeSource(), months=(4, 8),
                        scenes=((4, 3.1, baseline, False),))
    return folder, records


def spelt(one_place, kind, *said):
    """The catalogue with facts said in some way; each month in another."""
    folder, records = one_place
    items = catalogue.items(folder / kind, "2020")
    for item, (about, asset) in zip(items, said, strict=True):
        item["properties"].pop("s2:processing_baseline")
        item["properties"] |= about
        for one in item["assets"].values():
            one |= asset
    return catalogue.Stac(folder / kind, items)


@pytest.mark.parametrize("kind", ["added", "none"])
def test_numbers_are_the_same_however_a_catalogue_says_it(
        one_place, tmp_path, kind):
    truth = FakeSource().fetch(one_place[1]).reflectance[:, [3, 7]]
    ways = ADDED if kind == "added" else NONE
    for number, two in enumerate(zip(ways, ways[::-1], strict=True)):
        with spelt(one_place, kind, *two) as running:
            found = Stac(tmp_path / str(number), url=running.url,
                         collection="sentinel-2-c1-l2a").fetch(one_place[1])
        np.testing.assert_array_equal(found.reflectance[:, [3, 7]], truth,
                                      err_msg=str(two))


@pytest.mark.parametrize("way", UNSAID)
def test_a_scene_that_does_not_say_it_is_left_out(one_place, tmp_path, way):
    with spelt(one_place, "added", ADDED[0], way) as running:
        made = Stac(tmp_path, url=running.url,
                    collection="sentinel-2-c1-l2a")
        with pytest.warns(UserWarning, match="1 scenes are left out, .*"
                          "(does not say|has baseline|has two|is neither)"):
            found = made.fetch(one_place[1])
        seen = (found.reflectance != NODATA).any(axis=(0, 2, 3, 4))
        assert np.flatnonzero(seen).tolist() == [3]
        assert list(made.left_out) == ["S2_32UPU_20200804"]


def test_scale_and_sign_for_missing_are_heeded(one_place, tmp_path):
    """Half the scale, and a number of the patch that means missing."""
    truth = FakeSource().fetch(one_place[1]).reflectance[0, 3].astype(int)
    missing = int(truth[0, 2, 2])
    way = ({}, {"raster:bands": [{"nodata": missing, "scale": 0.00005,
                                  "offset": 0.02}]})
    with spelt(one_place, "none", way, NONE[0]) as running:
        found = Stac(tmp_path, url=running.url,
                     collection="sentinel-2-c1-l2a").fetch(one_place[1])
    expected = np.where(truth == missing, NODATA,
                        np.rint(truth / 2 + 200))
    np.testing.assert_array_equal(found.reflectance[0, 3], expected)


def test_one_overflight_counts_once(one_place, tmp_path):
    """The same id twice, another processing, and a part of the tile."""
    folder, records = one_place
    items = catalogue.items(folder / "added", "2020")[:1]
    dark, bright = (catalogue.items(folder / "none", "2020")[0]
                    for _ in range(2))
    for item, (name, day, cloud) in zip((dark, bright), (
            ("S2_again", "04T10:15:09", 50), ("S2_later", "09T10:15:00", 60)
            ), strict=True):
        item["id"] = name
        item["properties"] |= {"datetime": f"2020-04-{day}Z",
                               "eo:cloud_cover": cloud}
    dark["properties"]["platform"] = "Sentinel-2A"
    bright["properties"]["platform"] = "sentinel-2b"
    for one in dark["assets"].values():  # numbers that would move a median
        one |= {"raster:bands": [{"scale": 0.0005, "offset": 0}]}
    both = [*items, *items, dark, bright]
    for one in both:
        for asset in one["assets"].values():
            kind = "added" if one["id"] == items[0]["id"] else "none"
            if "/" not in asset["href"].split("_")[0]:
                asset["href"] = f"{kind}/{asset['href']}"
    with catalogue.Stac(folder, both) as running:
        found = Stac(tmp_path, url=running.url,
                     collection="sentinel-2-c1-l2a").fetch(records)
    truth = FakeSource().fetch(records).reflectance
    np.testing.assert_array_equal(found.reflectance[:, 3], truth[:, 3])


@pytest.mark.parametrize("kind", ["eo:bands", "bands"])
def test_files_are_known_by_what_their_band_is_called(one_place, tmp_path,
                                                      kind):
    with spelt(one_place, "added", *ADDED[:2]) as running:
        for item in running.items:
            item["assets"] = {f"file {n}": {**asset, kind: [
                {"name": asset["href"].split("/")[1][:-4]}]} for n, asset in
                enumerate(item["assets"].values())} | {
                    "preview": {"href": "a.png", kind: [{"name": "red"}] * 3}}
        found = Stac(tmp_path, url=running.url,
                     collection="sentinel-2-c1-l2a").fetch(one_place[1])
    np.testing.assert_array_equal(
        found.reflectance[:, [3, 7]],
        FakeSource().fetch(one_place[1]).reflectance[:, [3, 7]])


def test_what_was_not_asked_for_is_not_taken(one_place, tmp_path):
    """A catalogue that heeds no query, and a file of reflectance."""
    with spelt(one_place, "added", *ADDED[:2]) as running:
        running.search = lambda body: {"features": running.items}
        running.items[0]["properties"]["datetime"] = "2019-04-04T10:15:00Z"
        name = running.items[1]["assets"]["red"]["href"]
        with rasterio.open(running.folder / name) as file:
            values, about = file.read(1) / 1e4, (file.crs, file.transform)
        catalogue.write_cog(tmp_path / "red.tif", values, *about, nodata=0)
        for asset in running.items[1]["assets"].values():
            asset["href"] = f"{running.url}/{asset['href']}"
        running.items[1]["assets"]["red"]["href"] = str(tmp_path / "red.tif")
        made = Stac(tmp_path / "c", url=running.url)
        made.collection = "sentinel-2-c1-l2a"
        with pytest.warns(UserWarning, match="2 scenes are left out"):
            found = made.fetch(one_place[1])
    assert (found.status == FAILED).all()
    told = " ".join(made.left_out.values())
    assert "is not of 2020 but of 2019-04-04" in told
    assert "has a file of float64" in told


def turned(values, about):
    about[1] *= about[1].translation(0, len(values)) * about[1].scale(1, -1)
    return values[::-1], about


@pytest.mark.parametrize("change", [
    turned, lambda values, about: (values, ["EPSG:32633", about[1]]),
    lambda values, about: (values[::6, ::6], [
        about[0], about[1] * about[1].scale(6)])],
    ids=["south up", "another zone", "60 m"])
def test_a_file_on_another_grid_is_left_out(one_place, tmp_path, change):
    with spelt(one_place, "added", *ADDED[:2]) as running:
        name = running.items[0]["assets"]["nir"]["href"]
        with rasterio.open(running.folder / name) as file:
            values, about = change(file.read(1), [file.crs, file.transform])
        catalogue.write_cog(tmp_path / "nir.tif", values, *about, nodata=0)
        running.items[0]["assets"]["nir"]["href"] = "nir.tif"
        (running.folder / "nir.tif").write_bytes(
            (tmp_path / "nir.tif").read_bytes())
        with pytest.warns(UserWarning, match="1 scenes are left out.*pixels "
                          "of .* not of 10 or 20, north up"):
            Stac(tmp_path / "c", url=running.url,
                 collection="sentinel-2-c1-l2a").fetch(one_place[1])


@pytest.mark.parametrize("change", [
    {"collection": "landsat-c2-l2"}, {"grid:code": "MGRS-31UFT"}], ids=str)
def test_a_scene_of_another_kind_is_left_out(one_place, tmp_path, change):
    with spelt(one_place, "added", *ADDED[:2]) as running:
        real = running.search

        def search(body):
            page = real(body)
            page["features"][0] |= {name: value for name, value
                                    in change.items() if name == "collection"}
            page["features"][0]["properties"] |= change
            return page

        running.search = search
        source = Stac(tmp_path / "c", url=running.url,
                      collection="sentinel-2-c1-l2a")
        with pytest.warns(UserWarning, match="1 scenes are left out"):
            source.fetch(one_place[1])


@pytest.mark.parametrize("told", [
    {"numberMatched": 3}, {"context": {"matched": 3}}], ids=str)
def test_fewer_scenes_than_are_counted_are_no_answer(one_place, tmp_path,
                                                     told):
    with spelt(one_place, "added", *ADDED[:2]) as running:
        real = running.search
        running.search = lambda body: real(body) | told
        found = Stac(tmp_path / "c", url=running.url,
                     collection="sentinel-2-c1-l2a").fetch(one_place[1])
    assert (found.status == FAILED).all()
    assert "counts 3 scenes" in found.messages[0]


class Otherwise(FakeSource):
    """Other pixels, for another year."""

    def fetch(self, records):
        found = super().fetch(records)
        return found._replace(reflectance=np.where(
            found.reflectance == NODATA, NODATA, found.reflectance + 7
        ).astype(np.uint16))


def test_each_row_has_its_own_year_and_one_year_suits_all(tmp_path):
    """Rows without a year fail where it is asked for, and only there."""
    records = table(7)[::2].assign(
        gbifID=[38, 41, 44, 50], year=pd.array([2019, 2020, None, 1950],
                                               "Int64"))
    records = records.reset_index(drop=True)
    items = []
    for year, truth in ((2019, Otherwise()), (2020, FakeSource())):
        items += catalogue.paint(tmp_path / "s", records, truth, year=year,
                                 months=[4], scenes=catalogue.SCENES[:1])
    options = {"collection": "sentinel-2-c1-l2a", "wait": 0.005}
    with catalogue.Stac(tmp_path / "s", items) as running:
        own = Stac(tmp_path / "c", url=running.url, year="own", **options)
        found = own.fetch(records)
        assert len(running.calls("search")) == 2  # a tile in two years
        assert own.plan(records).requests == 2 * own.plan(
            records.head(1)).requests
        one = Stac(tmp_path / "c", url=running.url, **options)
        cube = pixels.download(records, one, tmp_path / "c.zarr",
                               progress=False)
    assert found.status.tolist() == [OK, OK, FAILED, NO_IMAGERY]
    assert "the row has no year" in found.messages[0]
    truth = FakeSource().fetch(records).reflectance[:, 3]
    np.testing.assert_array_equal(found.reflectance[1, 3], truth[1])
    np.testing.assert_array_equal(found.reflectance[0, 3], truth[0] + 7)
    assert (cube["status"] == OK).all()
    np.testing.assert_array_equal(cube["reflectance"][:, 3], truth)


def test_the_cache_knows_what_was_asked(one_place, tmp_path):
    folder, records = one_place
    items = catalogue.items(folder / "added", "2020")
    other = catalogue.items(folder / "none", "2020")
    for item in other:
        item["collection"] = "other"
    for item in [*items, *other]:
        kind = "none" if item in other else "added"
        for asset in item["assets"].values():
            asset["href"] = f"{kind}/{asset['href']}"
    other[0]["properties"]["eo:cloud_cover"] = 50
    with catalogue.Stac(folder, [*items, *other]) as running:

        def months(**options):
            made = Stac(tmp_path, url=running.url, **options)
            found = made.fetch(records)
            return (found.reflectance != NODATA).any(
                axis=(0, 2, 3, 4)).sum(), len(running.calls("search"))

        assert months(collection="sentinel-2-c1-l2a") == (2, 1)
        assert months(collection="other") == (2, 2)
        assert months(collection="other", cloudy=20.0) == (1, 3)
        assert months(collection="other") == (2, 3)  # kept
        assert months(collection="none") == (0, 4)
        assert months(collection="none") == (0, 5)  # nothing is not kept
        note = next(tmp_path.glob("*.json"))
        note.write_text(note.read_text().replace("-1000", "-1001"))
        for path in tmp_path.glob("*.json"):
            path.write_bytes(path.read_bytes()[:-9])
        assert months(collection="other") == (2, 6)  # damaged: asked again


def test_no_secret_of_an_address_is_kept_or_said(one_place, tmp_path):
    with spelt(one_place, "added", *ADDED[:2]) as running:
        url = running.url.replace("://", "://me:SECRET@") + "?key=SECRET"
        for item in running.items:  # signed by the catalogue
            for asset in item["assets"].values():
                asset["href"] += "?sig=SECRET"
        named = Stac(tmp_path / "r", url=url, rasters={
            "bio01": "https://h.org/b.tif?sig=SECRET"})
        assert "SECRET" not in f"{named.origin} {named.attrs()}"
        made = Stac(tmp_path / "s", url=url, collection="sentinel-2-c1-l2a")
        found = made.fetch(one_place[1])
        assert (found.status == OK).all()
        running.faults[:] = [503] * 100
        made = Stac(tmp_path / "s", url=url, wait=0.001,
                    collection="sentinel-2-c1-l2a")
        found = made.fetch(one_place[1])
    assert found.messages and "SECRET" not in str(found.messages)
    assert not list(tmp_path.rglob("*.json"))


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
                    rasters={name: f"{running.url}/layers/{name}_{{tile}}.tif"
                             for name in VARIABLE_NAMES[2:]})
        cube = pixels.download(woods, made, tmp_path / "c.zarr",
                               progress=False)
        assert len(running.log) <= made.plan(woods).requests
    truth = planet.fetch(woods)
    np.testing.assert_array_equal(cube["reflectance"], truth.reflectance)
    np.testing.assert_array_equal(cube["environment"], truth.environment)
    assert np.isfinite(truth.environment).mean() > 0.9
    here = layers.read(tmp_path / "s" / "layers" / "layers.json")
    assert len(here) == 25
    place = {"lat": woods["decimalLatitude"], "lon": woods[
        "decimalLongitude"]}
    np.testing.assert_array_equal(layers.sample(here, **place),
                                  truth.environment[:, 2:])


def test_a_source_says_whose_pixels_it_has(source, tmp_path):
    assert source.origin == "come from a catalogue on this machine"
    assert Stac(tmp_path).origin.startswith("are real (https://earth-search")
    for url, here in (("http://localhost:80", True), ("http://[::1]/", True),
                      ("http://127.8.0.1/stac", True),
                      ("https://127.0.0.1.example.org", False),
                      ("https://example.org/?to=//127.0.0.1", False)):
        assert ("this machine" in Stac(tmp_path, url=url).origin) == here


def test_rasters_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="JSON file of variable"):
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
    east = 1 / (globe.METRES / 1200 * np.cos(np.radians(lat)))
    south = 2 / (globe.METRES / 1200)
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


@pytest.mark.parametrize("crs, metres, turn", [
    ("EPSG:32632", 1, Affine(30, 0, -150, 0, -30, 150)),
    ("EPSG:32632", 1, Affine(30, 0, -150, 0, 30, -150)),  # south up
    ("EPSG:32632", 1, Affine(0, 30, -150, 30, 0, -150)),  # on its side
    ("EPSG:3857", 0.5, Affine(60, 0, -300, 0, -60, 300)),
    ("EPSG:4326", globe.METRES, Affine(6e-4, 0, 360 - 3e-3, 0, -3e-4, 15e-4)),
])
def test_a_slope_is_that_of_the_ground_in_any_raster(tmp_path, crs, metres,
                                                     turn):
    """The ground falls to the north by a third; one raster is of 0 to 360°.
    """
    lon = -9.0 if turn.c > 300 else 9.0
    (east,), (north,) = warp.transform("EPSG:4326", crs, [lon], [60.0])
    y, x = np.mgrid[:10, :10] + 0.5
    heights = 900 - (turn @ (x.ravel(), y.ravel()))[1] * metres / 3
    with rasterio.open(
            tmp_path / "d.tif", "w", driver="GTiff", count=1, height=10,
            width=10, dtype="float32", crs=crs,
            transform=Affine.translation(east, north) @ turn) as file:
        file.write(heights.reshape(1, 10, 10).astype("float32"))
    _, slope, aspect, *_ = layers.sample(
        {"elevation": str(tmp_path / "d.tif")}, lat=[60.0], lon=[lon])[0]
    assert slope == pytest.approx(np.degrees(np.arctan(1 / 3)), abs=0.05)
    assert (aspect + 180) % 360 - 180 == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("count, scale, offset, name, good", [
    (1, 1, 0, "bio12", True), (1, 0.1, 0, "bio01", True),
    (1, 0.1, 0, "bio12", False),  # of CHELSA, tenths of a mm
    (1, 0.1, -273.15, "bio01", False), (19, 1, 0, "bio12", False)])
def test_a_raster_of_another_unit_or_of_many_bands_is_none(
        tmp_path, count, scale, offset, name, good):
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", height=4,
                       width=4, count=count, dtype="uint16",
                       crs="EPSG:4326", transform=from_origin(8, 50, 1, 1)
                       ) as file:
        file.write(np.full((count, 4, 4), 120, "uint16"))
        file.scales, file.offsets = [scale] * count, [offset] * count
    place = {"lat": [48.5], "lon": [9.5]}
    if good:
        assert 120 in layers.sample({name: str(tmp_path / "a.tif")}, **place)
        return
    with pytest.raises(ValueError, match=rf"expected one band, {name} in st"):
        layers.sample({name: str(tmp_path / "a.tif")}, **place)


def test_flat_ground_and_a_wrong_layer():
    flat = layers.slope_aspect(np.ones((1, 3, 3)), np.eye(2)[None])
    assert flat[0, 0] == 0
    with pytest.raises(ValueError, match="no variable latitude"):
        layers.read({"latitude": "a.tif"})


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

    def broken(call):
        if f"S2_{tile}_20200304" in call["path"]:
            raise catalogue.Answer(500, {})
        return real(call)

    service.answer = broken
    cube = pixels.download(table(), source, tmp_path / "c.zarr",
                           max_failed=0.5, progress=False)
    failed = (cube["status"] == FAILED).to_numpy()
    at = grid.tiles(lat=table()["decimalLatitude"],
                    lon=table()["decimalLongitude"])
    assert (failed == (at == tile)).all() and failed.any()
    told = (tmp_path / "c.zarr.failures.csv").read_text()
    assert f"{tile} 2020-03" in told and "cannot read" in told
    assert "tried 6 times" in told
    asked = {call["path"] for call in service.calls(tile, done=False)
             if call["status"] == 500}
    assert all(sum(call["path"] == path for call in service.log) <= 6
               for path in asked)
    service.answer = real
    cube = pixels.download(table(), source, tmp_path / "c.zarr",
                           progress=False)
    np.testing.assert_array_equal(
        cube["reflectance"], FakeSource().fetch(table()).reflectance)


def test_a_file_that_is_gone_leaves_its_scene_out_and_says_so(
        source, service):
    """No other file of the month shows the clear ground of March."""
    tile = grid.tiles(lat=48.2, lon=11.5)[0]
    here = (grid.tiles(lat=table()["decimalLatitude"],
                       lon=table()["decimalLongitude"]) == tile)
    real = service.answer

    def gone(call):
        if f"S2_{tile}_202003" in call["path"] and "B8A" in call["path"]:
            raise catalogue.Answer(404 if "0304" in call["path"] else 410, {})
        return real(call)

    service.answer = gone
    with pytest.warns(UserWarning, match=r"2 scenes are left out.*_20200304'"
                      ".*not there.*404"):
        found = source.fetch(table())
    truth = FakeSource().fetch(table()).reflectance
    truth[here, 2] = NODATA
    np.testing.assert_array_equal(found.reflectance, truth)
    assert sorted(source.left_out) == [f"S2_{tile}_20200304",
                                       f"S2_{tile}_20200314"]
    assert len(service.calls(f"S2_{tile}_20200304/B8A", done=False)) <= 2


def test_a_tile_whose_files_are_all_gone_fails(source, service):
    real = service.answer

    def gone(call):
        if call["path"].endswith(".tif"):
            raise catalogue.Answer(404, {})
        return real(call)

    service.answer = gone
    with pytest.warns(UserWarning, match="left out"):
        found = source.fetch(table(4))
    assert (found.status == FAILED).all()
    assert found.messages[0] == "all files that may show it are gone"


@pytest.mark.parametrize(("fault", "text"), [
    (503, "answers 503"), (429, "answers 429"), (DROP, "no answer")])
def test_a_catalogue_that_is_down_is_asked_six_times(source, service, fault,
                                                     text):
    service.faults[:] = [fault] * 100
    found = source.fetch(table(1))
    assert (found.status == FAILED).all() and len(service.log) == 6
    with pytest.raises(ServiceError, match=f"({text}).*tried 6 times"):
        service.log.clear()
        source.scenes("32UPU", 2021)
    assert len(service.log) == 6


@pytest.mark.parametrize(("kind", "told"), [
    ("fast", "more than .* no answer to what was asked"),
    ("bomb", "more than .* no answer to what was asked"),
    ("drip", "did not send all of its answer.*tried 6 times")])
def test_a_search_has_an_end(tmp_path, monkeypatch, kind, told):
    if kind == "drip":
        monkeypatch.setattr(network, "WHOLE", 0.2)
    with without_end() as url:
        made = Stac(tmp_path, url=f"{url}/{kind}", wait=0.001)
        found = made.fetch(table(1))
        with pytest.raises(ServiceError, match=told):
            made.scenes("32UPU", 2020)
    assert (found.status == FAILED).all()


def test_a_catalogue_that_wants_to_be_left_alone_is(source, service):
    def later(call):
        raise catalogue.Answer(429, {}, Retry_After="86400")

    service.answer = later
    found = source.fetch(table(1))
    assert "asks to come back after" in found.messages[0]
    assert len(service.log) == 1


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
        {"id": "S1", "properties": {}, "assets": {"vv": {"href": "a"}}}],
        "links": []}
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
