"""A source whose every value follows from the gbifID by hand.

No two axes are alike, so that a swap of months, bands, rows or columns
changes the numbers.
"""

import time

import numpy as np
import pandas as pd

from geotree.sources import FAILED, NO_IMAGERY, OK, Pixels, Plan
from geotree.variables import NODATA, VARIABLES

NAMES = [  # species, genus, family, leafType
    ("Acer rubrum", "Acer", "Sapindaceae", "Deciduous Broadleaf"),
    ("Acer saccharum", "Acer", "Sapindaceae", "Deciduous Broadleaf"),
    ("Larix decidua", "Larix", "Pinaceae", "Deciduous Needleleaf"),
    ("Pinus nigra", "Pinus", "Pinaceae", "Evergreen Needleleaf"),
    ("Pinus sylvestris", "Pinus", "Pinaceae", "Evergreen Needleleaf"),
]


def occurrence_table(n, *, first=10_000_000_001):
    """``n`` records; ids need more than 32 bits."""
    row = np.arange(n)
    names = np.array(NAMES, dtype=object)[row % 7 % len(NAMES)]
    table = pd.DataFrame({
        "gbifID": first + row * 3,
        "decimalLatitude": (row * 7919 % 1600) / 10 - 79.5,
        "decimalLongitude": (row * 104729 % 3590) / 10 - 179.25,
        "coordinateUncertaintyInMeters": np.where(row % 4, 10.0, np.nan),
        "countryCode": "XX", "year": 2017 + row % 5, "datasetKey": "d",
        "license": "CC0", "taxonKey": 1 + row % 3,
        "species": names[:, 0], "genus": names[:, 1], "family": names[:, 2],
        "leafType": names[:, 3]})
    table.attrs = {"source": "by hand"}
    return table


def pixel(key, month, band, y, x):
    """The digital number of one pixel; January is month 0."""
    if key % 17 == 0 or key % 12 == month:
        return NODATA
    return (key % 2000) + 500 * month + 41 * band + 7 * y + x


def pixels_of(keys):
    """All pixels of some ids: (N, 12, 10, 5, 5) uint16."""
    keys = np.asarray(keys, np.int64).reshape(-1, 1, 1, 1, 1)
    month, band, y, x = np.ogrid[:12, :10, :5, :5]
    values = (keys % 2000) + 500 * month + 41 * band + 7 * y + x
    missing = (keys % 17 == 0) | (keys % 12 == month)
    return np.where(missing, NODATA, values).astype(np.uint16)


def variables_of(table):
    """All variables of a table: (N, 27) float32."""
    keys = table["gbifID"].to_numpy()[:, None]
    number = np.arange(27)
    low, high = np.array([(one.low, one.high) for one in VARIABLES]).T
    values = low + (high - low) * ((7 * keys + 131 * number) % 997) / 1000
    values[(keys + number) % 11 == 0] = np.nan
    values[:, 0] = table["decimalLongitude"]
    values[:, 1] = table["decimalLatitude"]
    return values.astype(np.float32)


class FakeSource:
    """Keeps ``fetched``, the ids asked for, call by call."""

    name = "fake"

    def __init__(self, *, seed=0, failing=(), seconds=0.0, hook=None):
        self.seed, self.failing, self.seconds = seed, failing, seconds
        self.hook, self.fetched = hook, []

    def attrs(self):
        return {"source": self.name, "seed": self.seed}

    def plan(self, table):
        return Plan(len(table), 3 * len(table), 6109 * len(table), 12.0)

    def fetch(self, table):
        keys = table["gbifID"].to_numpy()
        self.fetched.append(keys.tolist())
        time.sleep(self.seconds)
        if self.hook:
            self.hook(len(self.fetched))
        status = np.where(keys % 17 == 0, NO_IMAGERY, OK)
        failed = np.isin(keys, self.failing)
        status[failed] = FAILED
        images = pixels_of(keys)
        images[failed] = NODATA
        return Pixels(images, variables_of(table), status.astype(np.uint8),
                      tuple(f"no answer for {key}" for key in keys[failed]))
