"""The simulated planet: plausible, deterministic, and solved exactly."""

import numpy as np
import pandas as pd
import pytest

from geotree import data, evaluation, taxonomy, variables
from geotree.evaluation import calibration
from geotree.planet import climate, observers, patch, spectra, traits
from geotree.planet.source import Planet
from geotree.sources import OK, Source

LEAVES = {"EB": "Evergreen Broadleaf", "DB": "Deciduous Broadleaf",
          "EN": "Evergreen Needleleaf", "DN": "Deciduous Needleleaf", "-": ""}
PLACES = """
Amazon (Manaus),-3,-60,EB
Amazon (Iquitos),-4,-73,EB
Amazon (east),-3.5,-51,EB
Congo basin,0,23,EB
Gabon,-0.5,12,EB
Borneo,1,114,EB
Sumatra,-1,102,EB
New Guinea,-6.5,142,EB
Sundarbans (mangrove),22.2,89.5,EB
Everglades (mangrove),25.9,-81,EB
Caatinga,-9,-40,DB
Cerrado,-15,-47,DB
Zambia (miombo),-13,27,DB
Zimbabwe (mopane),-19,27,DB
Central India (teak),21,79,DB
North-east Thailand,16,102,DB
Sahel (desert edge),13,0,DB
Finland,64,27,EN
West Siberia,60,75,EN
Evenkia,65,105,DN
Yakutia,63,125,DN
Kolyma,64,150,DN
Quebec,52,-73,EN
Alaska,64.5,-150,EN
Oregon,45,-123,EN
Germany,51,10,DB
Pennsylvania,41,-78,DB
Extremadura (dehesa),39,-6,EB
Central Chile,-34,-71,EB
South-west Australia,-33,116.3,EB
Victoria,-37.5,146,EB
Valdivia,-40.5,-73,EB
Manchuria,46,129,DB
South China,26,115,EB
Sahara,23,5,-
Rub al Khali,20,50,-
Taklamakan,39,83,-
Gobi,43,105,-
Atacama,-24,-69.5,-
Namib,-24,15,-
Simpson desert,-25.5,137,-
Tibet,34,86,-
Greenland (ice),72,-40,-
Antarctica (ice),-80,0,-
Taimyr (tundra),75,100,-
"""


@pytest.fixture(scope="module")
def planet():
    return Planet(seed=0)


@pytest.fixture(scope="module")
def table(planet):
    return planet.occurrences(4000, seed=1)


@pytest.fixture(scope="module")
def pixels(planet, table):
    return planet.fetch(table)


def test_is_a_source(planet):
    assert isinstance(planet, Source)


def test_same_seed_same_bytes(table, pixels):
    again = Planet(seed=0)
    pd.testing.assert_frame_equal(again.occurrences(4000, seed=1), table)
    for one, other in zip(again.fetch(table)[:3], pixels[:3], strict=True):
        assert one.tobytes() == other.tobytes()


def test_other_seed_other_planet(table, pixels):
    other = Planet(seed=1).fetch(table.head(50))
    assert not np.array_equal(other.reflectance, pixels.reflectance[:50])


def test_a_row_does_not_depend_on_the_others(planet, table, pixels):
    rows = [3999, 5, 777]
    alone = planet.fetch(table.iloc[rows])
    np.testing.assert_array_equal(alone.reflectance,
                                  pixels.reflectance[rows])
    np.testing.assert_array_equal(alone.environment,
                                  pixels.environment[rows])


def test_shapes_and_types(pixels):
    assert pixels.reflectance.shape == (4000, 12, 10, 5, 5)
    assert pixels.reflectance.dtype == np.uint16
    assert pixels.environment.dtype == np.float32
    assert (pixels.status == OK).mean() > 0.99


def test_fetch_leaves_its_input_alone(planet, table):
    copy = table.copy(deep=True)
    planet.fetch(table.head(20))
    pd.testing.assert_frame_equal(table, copy)


def test_variables_lie_in_their_ranges(pixels):
    for number, variable in enumerate(variables.VARIABLES):
        values = pixels.environment[:, number]
        values = values[np.isfinite(values)]
        assert values.min() >= variable.low - 30, variable.name
        assert values.max() <= variable.high, variable.name


def test_no_deviation_is_above_half_the_range(pixels):
    """bio04 and bio07 in °C; so the catalogue's 0.01 for bio04 cannot be."""
    true = {name: pixels.environment[:, variables.VARIABLE_NAMES.index(name)]
            * variables.VARIABLES[variables.VARIABLE_NAMES.index(name)].scale
            for name in ("bio04", "bio07")}
    share = true["bio04"] / true["bio07"]
    assert np.nanmax(share[true["bio07"] > 10]) < 0.5
    assert np.nanmedian(share) > 0.1  # nor is it a tenth of what it is


def test_longitude_comes_before_latitude(table, pixels):
    np.testing.assert_allclose(pixels.environment[:, 0],
                               table["decimalLongitude"], atol=1e-4)
    np.testing.assert_allclose(pixels.environment[:, 1],
                               table["decimalLatitude"], atol=1e-4)


def test_bioclim_by_hand():
    temperature = np.arange(12.0)[None]  # 0 … 11 °C, warmest in December
    rain = np.full((1, 12), 10.0)
    rain[0, 3] = 130.0
    state = climate.Climate(temperature, rain, np.array([8.0]), *[None] * 4)
    bio = dict(zip(variables.VARIABLE_NAMES[8:], climate.bioclim(state)[0],
                   strict=True))
    assert bio["bio01"] == pytest.approx(55)  # mean of 0 … 11, × 10
    assert bio["bio05"] == pytest.approx(150)  # 11 + 8 / 2
    assert bio["bio06"] == pytest.approx(-40)
    assert bio["bio07"] == pytest.approx(190)
    assert bio["bio03"] == pytest.approx(100 * 8 / 19)
    assert bio["bio04"] == pytest.approx(1000 * np.arange(12).std())
    assert bio["bio10"] == pytest.approx(100)  # October to December
    assert bio["bio12"] == pytest.approx(240)
    assert bio["bio16"] == pytest.approx(150)


def test_seasons_are_half_a_year_apart():
    north, south = climate.climate(lat=[50.0, -50.0], lon=[10.0, -70.0],
                                   ).temperature
    assert north.argmax() in (6, 7)
    assert south.argmax() in (0, 1)


def _ndvi(pixels, chosen):
    return np.nanmedian(variables.ndvi(pixels.reflectance[chosen])[..., 2, 2],
                        axis=0)


def test_deciduous_broadleaf_swings(table, pixels):
    kind = (table["leafType"] == "Deciduous Broadleaf").to_numpy()
    lat = table["decimalLatitude"].to_numpy()
    north = _ndvi(pixels, kind & (lat > 40) & (lat < 60))
    assert np.nanmax(north) - np.nanmin(north) > 0.3
    assert np.nanargmax(north) in (5, 6, 7, 8)
    south = _ndvi(pixels, kind & (lat < -28))
    summer, winter = south[[11, 0, 1]].mean(), south[[5, 6, 7]].mean()
    assert summer > winter


def test_needles_are_darker_in_the_near_infrared(table, pixels):
    july = variables.reflectance(pixels.reflectance)[:, 6, 3, 2, 2]
    north = (table["decimalLatitude"] > 40).to_numpy()
    kind = table["leafType"].to_numpy()
    needle = np.nanmedian(july[north & (kind == "Evergreen Needleleaf")])
    broad = np.nanmedian(july[north & (kind == "Deciduous Broadleaf")])
    assert needle < broad - 0.05


def test_snow_and_cloud_where_they_belong(table, pixels):
    blue = variables.reflectance(pixels.reflectance)[:, :, 0, 2, 2]
    lat = table["decimalLatitude"].to_numpy()
    with np.errstate(all="ignore"):
        assert np.nanmedian(blue[lat > 55][:, 1]) > 0.15
    assert np.nanmedian(blue[np.abs(lat) < 15]) < 0.08
    gone = pixels.reflectance[:, :, 0, 0, 0] == variables.NODATA
    assert 0.05 < gone.mean() < 0.4
    rain = climate.climate(lat=lat, lon=table["decimalLongitude"]).rain
    wet, dry = rain > np.quantile(rain, 0.9), rain < np.quantile(rain, 0.3)
    polar = np.abs(lat) > 55
    assert gone[wet].mean() > gone[dry & ~polar[:, None]].mean() + 0.05


def test_relatives_look_alike(planet):
    values = planet.traits / planet.traits.std()
    genus = planet.classes["genus"].to_numpy()
    family = planet.classes["family"].to_numpy()
    distance = np.linalg.norm(values.to_numpy()[:, None]
                              - values.to_numpy(), axis=-1)
    same_genus = genus[:, None] == genus
    same_family = (family[:, None] == family) & ~same_genus
    np.fill_diagonal(same_genus, False)
    strangers = family[:, None] != family
    assert (distance[same_genus].mean() < distance[same_family].mean()
            < distance[strangers].mean())


def test_abundance_is_long_tailed(table):
    counts = table["species"].value_counts()
    assert len(counts) > 150
    assert counts.head(len(counts) // 10).sum() > 0.3 * len(table)
    assert counts.tail(len(counts) // 2).sum() < 0.2 * len(table)


def test_prior_is_where_records_come_from(planet, table):
    prior = planet.prior(lat=table["decimalLatitude"],
                         lon=table["decimalLongitude"])
    np.testing.assert_allclose(prior.sum(axis=1), 1)
    labels = taxonomy.labels(table, planet.classes)
    expected, seen = prior.sum(axis=0), np.bincount(
        labels, minlength=prior.shape[1])
    error = np.sqrt((prior * (1 - prior)).sum(axis=0))
    assert (np.abs(seen - expected) / np.maximum(error, 1)).max() < 4.5


def test_posterior_is_calibrated(planet, table, pixels):
    posterior = planet.posterior(pixels.reflectance, pixels.environment)
    np.testing.assert_allclose(posterior.sum(axis=1), 1)
    labels = taxonomy.labels(table, planet.classes)
    for bin_ in calibration.reliability(posterior, labels).itertuples():
        assert abs(bin_.confidence - bin_.accuracy) < 1.6 * bin_.error + 0.01
    # The mean confidence is the accuracy, within its sampling error.
    right = evaluation.hits(posterior, labels).mean()
    assert posterior.max(axis=1).mean() == pytest.approx(
        right, abs=3 * np.sqrt(right * (1 - right) / len(labels)))


def test_pixels_add_to_the_prior(planet, table, pixels):
    labels = taxonomy.labels(table, planet.classes)
    prior = planet.prior(lat=table["decimalLatitude"],
                         lon=table["decimalLongitude"])
    posterior = planet.posterior(pixels.reflectance, pixels.environment)
    assert (evaluation.hits(posterior, labels).mean()
            > evaluation.hits(prior, labels).mean() + 0.1)


def test_posterior_without_pixels_is_the_prior(planet, table, pixels):
    blind = np.full_like(pixels.reflectance[:20], variables.NODATA)
    posterior = planet.posterior(blind, pixels.environment[:20])
    place = pixels.environment[:20, :2].astype(float)
    np.testing.assert_allclose(
        posterior, planet.prior(lat=place[:, 1], lon=place[:, 0]),
        atol=1e-6)


def test_likelihood_against_the_full_covariance(planet, table, pixels):
    """The short cut equals the density of all pixels, written out."""
    row = 3
    image = variables.reflectance(pixels.reflectance[[row]]).astype(float)
    missing = np.isnan(image).any(axis=(-3, -2, -1))
    one = table.iloc[[row]]
    state = climate.climate(lat=one["decimalLatitude"],
                            lon=one["decimalLongitude"])
    view = spectra.scene(state)
    pair = planet.traits.iloc[[5, 60]]
    short = patch.log_likelihood(np.nan_to_num(image), missing, pair, view,
                                 np.zeros(2, int))
    # A band of 20 m repeats its cells: one pixel of each says all.
    cell = np.zeros((5, 5), bool)
    cell[::2, ::2] = True
    kept = np.zeros((12, 10, 25), bool)
    kept[~missing[0], :4] = True
    kept[~missing[0], 4:] = cell.ravel()
    values = np.log(image[0].reshape(12, 10, 25)[kept])
    full = [_density(values, kept, view, *spectra.signal(
        pair.iloc[[number]], view)) for number in range(2)]
    assert short[0] - short[1] == pytest.approx(full[0] - full[1], rel=1e-6,
                                                abs=1e-4)


def _density(values, kept, view, mean, loadings):
    """Log density of the ``kept`` of (T, C, 25) pixels, no short cut."""
    crown = patch.CROWN.reshape(10, 25)
    around, lasting, passing = view.around[0], view.lasting[0], view.passing[0]
    expected = (around[..., None] + (mean[0] - around)[..., None] * crown)
    every = np.ones(25)
    rows = [part[..., None] * crown for part in loadings[0]]
    rows += [np.multiply.outer(part, every) for part in lasting]
    for month, band in np.ndindex(12, 10):
        one = np.zeros((12, 10))
        one[month, band] = spectra.DATE_NOISE
        rows.append(one[..., None] * crown)
    for part in passing:
        for month in range(12):
            one = np.zeros((12, 10))
            one[month] = part[month]
            rows.append(np.multiply.outer(one, every))
            rows.append(spectra.OWN * one[..., None] * crown)
    for bands, field in zip((slice(4), slice(4, 10)), patch.FIELDS,
                            strict=True):
        for shape in field.T:
            one = np.zeros((12, 10))
            one[:, bands] = patch.TEXTURE[bands]
            rows.append(np.multiply.outer(one, shape))
            for month in range(12):
                for band in range(10)[bands]:
                    one = np.zeros((12, 10))
                    one[month, band] = patch.PIXEL_NOISE[band]
                    rows.append(np.multiply.outer(one, shape))
    rows = np.array([row[kept] for row in rows])
    covariance = rows.T @ rows
    residual = values - expected[kept]
    return -0.5 * (residual @ np.linalg.solve(covariance, residual)
                   + np.linalg.slogdet(covariance)[1])


def _figures(images):
    """Statistics of (N, C, H, W) reflectance, as of the real patches."""
    mean, bands = images.mean((-1, -2)), variables.BAND_NAMES
    rest = images - mean[..., None, None]
    ndvi = (mean[:, 3] - mean[:, 2]) / (mean[:, 3] + mean[:, 2])
    found = {("mean", "NDVI"): ndvi.mean(), ("sd", "NDVI"): ndvi.std()}
    for number, band in enumerate(bands):
        found["mean", band] = mean[:, number].mean()
        found["sd", band] = mean[:, number].std()
        found["within", band] = images[:, number].std((-1, -2)).mean()
    for pair in ("B2-B4", "B4-B12", "B8-B11", "B4-B8"):
        one, other = map(bands.index, pair.split("-"))
        found["bands", pair] = np.corrcoef(mean[:, one], mean[:, other])[0, 1]
    for band in ("B2", "B8", "B11"):
        found["neighbours", band] = np.mean([
            np.corrcoef(one[:, :-1].ravel(), one[:, 1:].ravel())[0, 1]
            for one in rest[:, bands.index(band)] if one[:, :-1].std() > 0])
    return pd.Series(found)


@pytest.fixture(scope="module")
def german(planet):
    """Reflectance of the species of the real patches, in their shares."""
    rng = np.random.default_rng(0)
    names = np.repeat(["Quercus robur", "Quercus petraea", "Fagus sylvatica",
                       "Sorbus aucuparia"], [967, 685, 205, 143])
    trees = planet.classes.set_index("species").loc[names].reset_index()
    trees = trees.assign(
        gbifID=np.arange(2000), year=rng.integers(2017, 2025, 2000),
        decimalLatitude=rng.uniform(48, 54, 2000),
        decimalLongitude=rng.uniform(7.5, 13.5, 2000))
    return variables.reflectance(planet.fetch(trees).reflectance)


@pytest.mark.parametrize(("season", "month"), [
    ("spring", 4), ("summer", 7), ("autumn", 10)])
def test_pixels_have_the_statistics_of_real_ones(german, season, month):
    """Same species, same country: see the head of ``real_patches.csv``."""
    real = data.load("real_patches.csv")
    real = real[real["season"] == season].set_index(
        ["statistic", "band"])["value"]
    images = german[:, month - 1]
    images = images[~np.isnan(images).any((1, 2, 3))].astype(float)
    found = _figures(images).loc[real.index]
    # A correlation near zero has no useful relative error.
    allowed = 0.25 * real.abs()
    allowed.loc[["bands"]] = allowed.loc[["bands"]].clip(lower=0.15)
    beyond = (found - real).abs() > allowed
    assert not beyond.any(), pd.DataFrame({"real": real, "planet": found})[
        beyond]


def test_the_expected_leaves_grow(planet):
    """Thirty-four forests as a forester knows them, eleven with no tree."""
    rows = [line.rsplit(",", 3) for line in PLACES.strip().splitlines()]
    lat, lon = np.array([row[1:3] for row in rows], float).T
    kinds = pd.get_dummies(planet.classes["leafType"], dtype=float)
    share = planet.prior(lat=lat, lon=lon) @ kinds.to_numpy()
    found = np.where(share.sum(axis=1) > 0,
                     kinds.columns[share.argmax(axis=1)], "")
    expected = np.array([LEAVES[row[3]] for row in rows])
    forest = expected != ""
    wrong = [(row[0], leaf) for row, leaf in zip(rows, found, strict=True)
             if leaf != LEAVES[row[3]]]
    assert (found == expected)[forest].sum() >= forest.sum() - 2, wrong
    assert (found[~forest] == "").all(), wrong


@pytest.mark.parametrize(("lat", "lon"), [
    (-3, -60), (0, 23), (1, 114)], ids=["Amazon", "Congo", "Borneo"])
def test_rain_forests_have_many_evergreen_trees(planet, lat, lon):
    here = planet.prior(lat=[lat], lon=[lon])[0] > 0.01
    kinds = planet.classes["leafType"][here]
    assert (kinds == "Evergreen Broadleaf").sum() >= 6


def test_a_place_leaves_much_open(planet, table):
    prior = planet.prior(lat=table["decimalLatitude"],
                         lon=table["decimalLongitude"])
    assert len(planet.classes) >= 150
    assert np.median((prior > 0.01).sum(axis=1)) >= 8


def test_a_cloud_that_was_missed_tells_nothing(planet, table, pixels):
    images = pixels.reflectance[:20].copy()
    images[:, 6] = np.rint(1e4 * patch.cloud(np.zeros(20))).astype(np.uint16)
    blind = pixels.reflectance[:20].copy()
    blind[:, 6] = variables.NODATA
    np.testing.assert_allclose(
        *[planet.posterior(one, pixels.environment[:20])
          for one in (images, blind)])
    # Nothing else is taken for a cloud.
    found = patch.cloudy(pixels.reflectance)
    found &= (pixels.reflectance != variables.NODATA).all((-3, -2, -1))
    assert 0 < found.mean() < 0.01
    assert pixels.reflectance[found].min() > 3000


def test_any_species_gets_pixels(planet, table):
    strange = table.head(3).assign(species="Fagus imaginaria",
                                   genus="Fagus", family="Fagaceae",
                                   leafType="Deciduous Broadleaf")
    assert (planet.fetch(strange).status == OK).all()
    classes = taxonomy.class_table(strange)
    found = planet.fetch(table.head(3))
    with pytest.raises(ValueError, match="Fagus imaginaria"):
        planet.posterior(found.reflectance, found.environment, classes)


def test_unknown_leaf_type_is_an_error(table):
    with pytest.raises(ValueError, match="leafType 'Blue'"):
        traits.draw(table.head(2).assign(leafType="Blue"))


def test_wrong_shapes_are_errors(planet, pixels):
    with pytest.raises(ValueError, match="10 bands"):
        planet.posterior(pixels.reflectance[:, :, :9], pixels.environment)
    with pytest.raises(ValueError, match="27"):
        planet.posterior(pixels.reflectance, pixels.environment[:, :9])


def test_nothing_grows_at_sea(planet, pixels):
    environment = pixels.environment[:1].copy()
    environment[0, :2] = -140, -40
    with pytest.raises(ValueError, match="none of the"):
        planet.posterior(pixels.reflectance[:1], environment)


def test_planted_faults_are_told(planet):
    spoiled = planet.occurrences(900, faults=0.1)
    faults = spoiled.attrs["faults"]
    assert sum(map(len, faults.values())) == 90
    rows = spoiled.set_index("gbifID")
    assert (rows.loc[faults["zero"], "decimalLatitude"] == 0).all()
    assert (rows.loc[faults["animal"], "family"] == "Picidae").all()


def test_no_record_is_no_table(planet):
    with pytest.raises(ValueError, match="n is 0"):
        planet.occurrences(0)


def test_records_are_the_same_however_many_are_drawn_at_once(monkeypatch):
    whole = Planet().occurrences(300)
    monkeypatch.setattr(observers, "_CHUNK", 37)
    pd.testing.assert_frame_equal(Planet().occurrences(300), whole)
