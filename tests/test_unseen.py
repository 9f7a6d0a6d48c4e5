"""Names never seen: countries and leaves stand in for labelled pixels."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from geotree import globe
from geotree.evaluation import hits, unseen
from geotree.planet.source import Planet
from geotree.shards import Batch

LEAF = ["Deciduous Broadleaf", "Evergreen Needleleaf"]
SEEN = pd.DataFrame({
    "species": [f"Seen s{i}" for i in range(6)], "genus": "Seen",
    "family": "Seenaceae", "leafType": [LEAF[i % 2] for i in range(6)]})
NEW = pd.DataFrame({
    "species": ["New a", "New b"], "genus": "New", "family": "Newaceae",
    "leafType": LEAF})
PLACES = {"DE": (51.0, 10.0), "BR": (-10.0, -55.0), "CN": (30.0, 110.0)}
LISTS = pd.DataFrame(
    [(name, code) for i, name in enumerate(SEEN["species"])
     for code in (["DE", "BR"] if i < 3 else ["CN", "BR"])]
    + [("New a", "DE"), ("New b", "CN")], columns=["species", "countryCode"])


class Toy(nn.Module):
    """Features are written in the pixels; names of new species say nothing."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.means = nn.functional.normalize(torch.randn(8, 16), dim=1)

    def encode_images(self, images, environment):
        x = torch.as_tensor(np.asarray(images)[:, 0, 0].reshape(
            len(images), -1)[:, :16].astype(np.float32)) / 1000 - 2
        return nn.functional.normalize(x, dim=1)

    def encode_taxa(self, classes):
        known = pd.Index(SEEN["species"]).get_indexer(classes["species"])
        return self.means[known]  # −1, a new name: some other vector

    def scale(self):
        return torch.tensor(12.0)


def samples(model, numbers, codes, seed):
    """Pixels of the classes 0 to 7 at places in countries."""
    rng = np.random.default_rng(seed)
    n = len(numbers)
    x = model.means[numbers].numpy() + 0.12 * rng.normal(size=(n, 16))
    images = np.full((n, 12, 10, 5, 5), 2000, np.uint16)
    flat = images[:, 0, 0].reshape(n, 25)
    flat[:, :16] = ((x + 2) * 1000).astype(int)
    images[:, 0, 0] = flat.reshape(n, 5, 5)
    environment = np.full((n, 27), np.nan, np.float32)
    environment[:, [1, 0]] = [PLACES[code] for code in codes]
    return Batch(images, environment, np.asarray(numbers), np.arange(n))


def seen_samples(model, seed, n=300):
    numbers = np.random.default_rng(seed).integers(0, 6, n)
    return samples(model, numbers, ["DE" if i < 3 else "CN"
                                    for i in numbers], seed)


@pytest.fixture(scope="module")
def model():
    return Toy()


@pytest.fixture(scope="module")
def known(model):
    return unseen.Known(model, seen_samples(model, 1),
                        seen_samples(model, 2), seen=SEEN, new=NEW,
                        lists=LISTS)


def test_unseen_species_are_named_among_all(model, known):
    numbers = np.repeat([6, 7], 40)
    data = samples(model, numbers, ["DE"] * 40 + ["CN"] * 40, 3)
    odds = known.predict(data)
    np.testing.assert_allclose(odds.sum(axis=1), 1, rtol=1e-6)
    assert hits(odds, numbers).mean() > 0.8
    test = seen_samples(model, 4)
    assert hits(known.predict(test), test.labels).mean() > 0.8


def test_a_country_that_lacks_a_species_speaks_against_it(model, known):
    here, there = (known.predict(samples(model, [6] * 20, [code] * 20, 5))
                   for code in ("DE", "BR"))
    assert (there[:, 6] < here[:, 6] / 2).all()


def test_without_place_or_list_all_is_allowed():
    environment = np.full((3, 27), np.nan, np.float32)
    environment[1, [1, 0]] = 0, -140  # at sea
    environment[2, [1, 0]] = PLACES["DE"]
    classes = pd.concat([SEEN, NEW, NEW.head(1).assign(species="Not listed")],
                        ignore_index=True)
    allowed = unseen.native(LISTS, classes, environment)
    assert allowed[:2].all()
    assert allowed[2].tolist() == [True] * 3 + [False] * 3 + [True, False,
                                                              True]


def test_a_class_without_records_is_named(model):
    train = seen_samples(model, 1)
    train = train._replace(labels=train.labels.clip(max=4))
    with pytest.raises(ValueError, match="Seen s5"):
        unseen.Known(model, train, train, seen=SEEN, new=NEW, lists=LISTS)
    with pytest.raises(ValueError, match="countryCode"):
        unseen.native(LISTS[["species"]], SEEN, train.environment)


def test_the_planet_has_a_flora():
    planet = Planet()
    flora = planet.checklist
    assert set(flora["species"]) == set(planet.species["species"])
    table = planet.occurrences(500)
    code = globe.country_code(lat=table["decimalLatitude"],
                              lon=table["decimalLongitude"])
    pairs = set(map(tuple, flora.to_numpy()))
    listed = np.mean([pair in pairs for pair in
                      zip(table["species"], code, strict=True)])
    assert listed > 0.97  # soft edges reach a little beyond a range


def test_lists_of_other_names_are_refused_and_none_allow_all():
    environment = np.full((1, 27), np.nan, np.float32)
    environment[0, [1, 0]] = PLACES["DE"]
    assert unseen.native(LISTS.iloc[:0], SEEN, environment).all()
    with pytest.raises(ValueError, match="names none of the 6 classes"):
        unseen.native(LISTS.assign(species="Other"), SEEN, environment)
