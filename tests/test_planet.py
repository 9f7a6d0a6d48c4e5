"""The simulated planet: plausible, deterministic, and solved exactly."""

import numpy as np
import pandas as pd
import pytest

from geotree import evaluation, taxonomy, variables
from geotree.evaluation import calibration
from geotree.planet import climate, observers, spectra, traits
from geotree.planet.source import Planet
from geotree.sources import OK, Source


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
    assert bio["bio04"] == pytest.approx(100 * np.arange(12).std())
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
    assert len(counts) > 90
    assert counts.head(12).sum() > 0.3 * len(table)


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
    short = spectra.log_likelihood(np.nan_to_num(image), missing, pair, view,
                                   np.zeros(2, int))
    seen = ~missing[0]
    full = []
    for number in range(2):
        mean, loadings = spectra.signal(pair.iloc[[number]], view)
        crown = spectra.CROWN.ravel()
        expected = (mean[0][..., None] * crown
                    + view.background[0][..., None] * (1 - crown))
        factors = (loadings[0][..., None] * crown)[:, seen].reshape(
            loadings.shape[1], -1)
        cells = int(seen.sum()) * 10
        dates = np.tile(spectra.DATE_NOISE, seen.sum())
        noise = np.tile(spectra.PIXEL_NOISE, seen.sum())
        contrast = spectra.GROUND_SPREAD * view.contrast[0][seen].ravel()
        covariance = factors.T @ factors
        covariance += np.kron(np.diag(dates**2), np.outer(crown, crown))
        covariance += np.kron(np.diag(noise**2)
                              + np.outer(contrast, contrast), np.eye(25))
        residual = (image[0].reshape(12, 10, 25) - expected)[seen].ravel()
        assert len(residual) == cells * 25
        _, logdet = np.linalg.slogdet(covariance)
        full.append(-0.5 * (residual @ np.linalg.solve(covariance, residual)
                            + logdet))
    assert short[0] - short[1] == pytest.approx(full[0] - full[1], rel=1e-6,
                                                abs=1e-4)


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
