"""A simulated planet: pixels for any occurrence, and the best answer known.

Real coastlines, real names, physics simple enough to invert. It is the
default source of the book: no account, no network, and each model can be
held against the Bayes optimum. See the page "The simulated planet".
"""

from functools import cached_property, lru_cache

import numpy as np
import pandas as pd

from geotree import checks, data, files, taxonomy
from geotree.planet import climate, observers, patch, spectra, traits
from geotree.planet.climate import TABLES
from geotree.sources import BYTES, NO_IMAGERY, OK, Pixels, Plan
from geotree.variables import MONTHS, NODATA, reflectance

_MISSING = {"terrain": 0.01, "soil": 0.04, "climate": 0.01}
_CHUNK = 1024  # samples at a time, so that memory stays flat


class Planet:
    """The simulated planet.

    Parameters
    ----------
    seed : int
        Two planets with one seed are equal to the last byte.
    """

    name = "planet"
    # Of its own records: share with planted faults, and limits of rarity.
    RUNS = {"sample": {"faults": 0.03, "rare": 40, "frequent": 200},
            "full": {"faults": 0.03, "rare": 100, "frequent": 1500}}
    origin = ("are rendered by the simulated planet at the real places, so "
              "scores from pixels say nothing about real forests")

    def __init__(self, seed: int = 0):
        self.seed = int(checks.number(seed, name="seed", low=0,
                                      high=2**32 - 1, whole=True))

    @cached_property
    def species(self) -> pd.DataFrame:
        """Class table of the planet, with ranges and abundance, of K rows."""
        return data.load("species.csv").sort_values("species",
                                                    ignore_index=True)

    @cached_property
    def classes(self) -> pd.DataFrame:
        """Class table alone (species, genus, family, leafType)."""
        return taxonomy.class_table(self.species)

    @cached_property
    def traits(self) -> pd.DataFrame:
        """Traits of the planet's species, in the order of ``classes``."""
        return traits.draw(self.classes, seed=self.seed)

    @property
    def _niches(self) -> "traits.Niches":
        return _niches(self.seed)

    @cached_property
    def checklist(self) -> pd.DataFrame:
        """Native countries, a table of ``species`` and ``countryCode``."""
        return self._niches.countries()

    def prior(self, *, lat, lon) -> np.ndarray:
        """Probability of each species at a place, before any pixel is seen.

        Parameters
        ----------
        lat, lon : (N,) float
            Degrees, WGS 84.

        Returns
        -------
        (N, K) float64
            Rows sum to one; a row where nothing grows is all zero.
        """
        lat, lon = checks.places(lat=lat, lon=lon)
        return self._niches.prior(lat=lat, lon=lon)

    def presence(self, *, lat, lon, trees: float = 2.0) -> np.ndarray:
        """Probability that each species stands on a site, whoever looks.

        Trees come one by one: their number has a Poisson distribution, the
        larger the better a species fits the place. Rows do not sum to one.

        Parameters
        ----------
        lat, lon : (N,) float
            Degrees, WGS 84.
        trees : float
            Expected number of the most abundant one where all suits it.

        Returns
        -------
        (N, K) float64
        """
        lat, lon = checks.places(lat=lat, lon=lon)
        checks.number(trees, name="trees", low=0)
        share = self._niches.weight(lat=lat, lon=lon) / self.species[
            "abundance"].max()
        return -np.expm1(-trees * share)

    def occurrences(self, n: int, *, seed: int = 0,
                    faults: float = 0.0) -> pd.DataFrame:
        """Draw an occurrence table, as an aggregator would hold it.

        People look where people live, so places are clustered; which
        species is seen at a place follows :meth:`prior` exactly.

        Parameters
        ----------
        n : int
            Number of records.
        seed : int
            Of the draw; the planet itself stays the same.
        faults : float
            Share of records that get one of the faults of real tables
            (:func:`geotree.planet.observers.plant`), for the audit to find.

        Returns
        -------
        DataFrame
            Occurrence table; see :mod:`geotree.occurrences`.
        """
        return observers.occurrences(self, n, seed=seed, faults=faults)

    def attrs(self) -> dict[str, str | int | float]:
        """Provenance for the cube."""
        return {"source": self.name, "planet_seed": self.seed,
                "planet_tables": files.fingerprint(TABLES, self.species),
                "product": "simulated surface reflectance × 10,000",
                "grid": "5 × 5 pixels of 10 m around the occurrence",
                "title": "Simulated planet: not real imagery"}

    def plan(self, table: pd.DataFrame) -> Plan:
        """No request; about 5,000 samples a second and core."""
        n = len(table)
        return Plan(n, 0, n * BYTES, n / 5000)

    def fetch(self, table: pd.DataFrame) -> Pixels:
        """Render pixels and variables of each row of an occurrence table.

        Parameters
        ----------
        table : DataFrame, N rows
            Occurrence table. A species that the planet does not know gets
            the traits that its genus and family suggest.

        Returns
        -------
        Pixels
            The same for a row whatever the other rows are.
        """
        parts = [self._render(table.iloc[start:start + _CHUNK])
                 for start in range(0, len(table), _CHUNK)]
        images, environment, status = map(np.concatenate, zip(
            *parts, strict=True))
        return Pixels(images, environment, status)

    def _render(self, table):
        lat = table["decimalLatitude"].to_numpy(float)
        lon = table["decimalLongitude"].to_numpy(float)
        state = climate.climate(lat=lat, lon=lon, seed=self.seed)
        view = spectra.scene(state)
        row_traits = traits.of_rows(table, self.classes, seed=self.seed)
        n, sizes = len(table), {"measure": 27, **patch.DRAWS}
        normal = np.empty((n, sum(sizes.values())))
        noise = np.empty((n, patch.NOISE_DRAWS), np.float32)
        chance = np.empty((n, 3 * MONTHS + len(_MISSING)))
        for row, key in enumerate(table["gbifID"].to_numpy(np.int64)):
            rng = np.random.Generator(np.random.Philox(
                key=[self.seed & 0xFFFFFFFF, int(key) & (2**63 - 1)]))
            rng.random(out=chance[row])
            rng.standard_normal(out=normal[row])
            rng.standard_normal(out=noise[row], dtype=np.float32)
        normal = dict(zip(sizes, np.split(
            normal, np.cumsum([*sizes.values()])[:-1], axis=1), strict=True))
        chance, leak, level, gaps = np.split(
            chance, [MONTHS, 2 * MONTHS, 3 * MONTHS], axis=1)
        season = normal["tree"][:, 0]
        season[:] = np.sqrt(0.5) * (season + traits.season(table, self.seed))
        images = patch.draw(view, *spectra.signal(row_traits, view), normal,
                            noise)
        np.exp(images, out=images)
        hidden, unseen = spectra.cloud_probability(view, lat)
        leak = leak < unseen
        images[leak] = patch.cloud(level[leak])
        np.rint(images.clip(1e-4, 2, out=images) * 1e4, out=images)
        images = images.astype(np.uint16)
        images[chance < hidden] = NODATA
        status = np.where((chance < hidden).all(axis=1), NO_IMAGERY, OK)
        return (images, self._measure(lat, lon, state, normal["measure"],
                                      gaps), status.astype(np.uint8))

    def _measure(self, lat, lon, state, noise, gaps) -> np.ndarray:
        """The 27 variables as an instrument would give them: (N, V)."""
        truth = np.column_stack([
            lon, lat, state.elevation, state.slope, state.aspect,
            1000 * state.soil_water, climate.bioclim(state)])
        share, floor, low, high, step = np.array([
            *TABLES["measurement"].values()], float)
        value = truth + (share * np.abs(truth) + floor) * noise
        value[:, 2:] = np.rint(value[:, 2:] / step[2:]) * step[2:]
        value[:, 4] %= 360
        value = np.fmax(np.fmin(value, high), low)
        value[gaps[:, 0] < _MISSING["terrain"], 3:5] = np.nan
        value[gaps[:, 1] < _MISSING["soil"], 5:8] = np.nan
        value[gaps[:, 2] < _MISSING["climate"], 8:] = np.nan
        return value.astype(np.float32)

    def posterior(self, images, environment,
                  classes: pd.DataFrame | None = None) -> np.ndarray:
        """Bayes-optimal species probabilities of the planet's own samples.

        Parameters
        ----------
        images : (N, T, C, H, W) uint16
        environment : (N, V) float32
            Longitude and latitude are read, the rest follows from them.
        classes : DataFrame, optional
            Restrict to these species and their order; default: all.

        Returns
        -------
        (N, K) float64
            Rows sum to one. The class of highest probability is the best
            answer that any method can give.

        Raises
        ------
        ValueError
            If a species of ``classes`` does not live on this planet, or
            nothing of ``classes`` grows at a place.
        """
        checks.rows(images=images, environment=environment)
        images, environment = map(checks.plain, (
            checks.images(images), checks.environment(environment)))
        classes = self.classes if classes is None else classes
        taxonomy.check(classes)
        wanted = taxonomy.labels(classes, self.classes)
        parts = [self._posterior(images[start:start + _CHUNK],
                                 environment[start:start + _CHUNK], wanted)
                 for start in range(0, len(images), _CHUNK)]
        return np.concatenate([np.zeros((0, len(wanted))), *parts])

    def _posterior(self, images, environment, wanted):
        lon, lat = np.asarray(environment[:, :2], float).T
        prior = self.prior(lat=lat, lon=lon)[:, wanted]
        checks.refuse(prior.sum(axis=1) == 0, "samples are where none of the "
                      f"{len(wanted)} species grows", "Are they of this "
                      "planet?")
        state = climate.climate(lat=lat, lon=lon, seed=self.seed)
        view = spectra.scene(state)
        place, column = np.nonzero(prior > 1e-9)
        missing = (np.asarray(images) == NODATA).any(axis=(-3, -2, -1))
        values = np.nan_to_num(reflectance(images)).astype(float)
        missing |= patch.cloudy(values)
        log = np.full(prior.shape, -np.inf)
        log[place, column] = np.log(prior[place, column])
        log[place, column] += patch.log_likelihood(
            values, missing, self.traits.iloc[wanted[column]], view, place)
        log -= log.max(axis=1, keepdims=True)
        odds = np.exp(log)
        return odds / odds.sum(axis=1, keepdims=True)


@lru_cache(maxsize=2)
def _niches(seed: int) -> traits.Niches:
    """Niches of a planet: a second to make, and the same for all of a seed."""
    planet = Planet(seed)
    return traits.Niches(planet.species, planet.traits["habitat"], seed=seed)
