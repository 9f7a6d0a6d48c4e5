"""Packing: answers as small bytes, and widgets that draw from them.

Everything is plain lists, strings and little-endian arrays, so that the
same script reads it from a kernel and from a page on disk.
"""

import base64
import io
import json
import uuid
from importlib import resources
from string import Template

import anywidget
import numpy as np
import pandas as pd
import traitlets

from geotree import globe, plots, taxonomy, variables
from geotree.explore.predicting import Answers

TILES = 8  # strips side by side in an atlas
_LEAST = 1 / 500  # smaller probabilities are not kept
_SHOWN = ("elevation", "slope", "soil_moisture_0_5cm", "bio01", "bio04",
          "bio12", "bio15")


def pack(answers: Answers, *, checklists: dict | None = None,
         note: str = "") -> dict:
    """Everything that the map shows of some answers.

    Parameters
    ----------
    answers : Answers of N places
    checklists : dict, optional
        Names of the species known from each country, by ISO alpha-2 code.
    note : str
        Where the numbers come from, shown below the answer.

    Returns
    -------
    dict
        JSON, but for ``bytes``.
    """
    numbers = pd.Series(range(len(answers.classes)),
                        index=answers.classes["species"])
    lists = {code: sorted(numbers[numbers.index.isin(names)].tolist())
             for code, names in (checklists or {}).items()}
    shown = [variables.VARIABLE_NAMES.index(name) for name in _SHOWN]
    about = [variables.VARIABLES[column] for column in shown]
    scale = np.array([variable.scale for variable in about])
    codes = globe.country_code(lat=answers.lat, lon=answers.lon, coast=True)
    return {
        "classes": names(answers.classes),
        "lat": to_bytes(answers.lat, "<f4"),
        "lon": to_bytes(answers.lon, "<f4"),
        "country": codes.tolist(), "checklists": lists,
        "atlas": atlas(answers.images), "ndvi": greenness(answers.images),
        "environment": to_bytes(answers.environment[:, shown] * scale, "<f4"),
        "variables": [[item.title, item.unit] for item in about],
        "seen": _sparse(answers.seen), "prior": _sparse(answers.prior),
        "truth": to_bytes(answers.truth, "<i2"), "note": note,
        "leafColors": plots.LEAF_COLORS, "cycle": list(plots.CYCLE)}


def names(classes: pd.DataFrame) -> dict[str, list[str]]:
    """A class table as lists, by rank."""
    taxonomy.check(classes, *taxonomy.RANKS)
    return {str(rank): classes[str(rank)].tolist() for rank in taxonomy.RANKS}


def outline() -> dict:
    """The land, rounded to a hundredth of a degree: ``sizes``, ``points``."""
    rings = [ring for ring in globe.land() if ring[:, 1].max() > -57]
    points = np.concatenate(rings).clip([-180, -90], [180, 90])
    return {"sizes": [len(ring) for ring in rings],
            "points": to_bytes(points * 100, "<i2")}


def atlas(images: np.ndarray) -> bytes:
    """True colour of N × T patches as one PNG, 32 levels a colour.

    Samples run left to right, ``TILES`` a row, and the months of each too.
    """
    from PIL import Image

    tiles = np.rint(plots.true_color(images) * 31) * (255 / 31)
    n, months, side = *images.shape[:2], images.shape[-1]
    rows = max(-(-n // TILES), 1)
    grid = np.zeros((rows * TILES, months, side, side, 3), np.uint8)
    grid[:n] = tiles
    grid = grid.reshape(rows, TILES, months, side, side, 3)
    sheet = grid.transpose(0, 3, 1, 2, 4, 5).reshape(
        rows * side, TILES * months * side, 3)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG", optimize=True)
    return file.getvalue()


def greenness(images: np.ndarray) -> bytes:
    """NDVI of each centre pixel and month in hundredths, −128 = missing."""
    middle = images.shape[-1] // 2
    part = slice(middle, middle + 1)
    value = variables.ndvi(images[..., part, part])[..., 0, 0]  # (N, T)
    return to_bytes(np.where(np.isfinite(value), 100 * value, -128), "i1")


def _sparse(probabilities: np.ndarray) -> dict[str, bytes]:
    """Rows of (class, share of 65,535), one after the other."""
    rows, columns = np.nonzero(probabilities >= _LEAST)
    starts = np.searchsorted(rows, np.arange(len(probabilities) + 1))
    return {"start": to_bytes(starts, "<u4"),
            "species": to_bytes(columns, "<u2"),
            "share": to_bytes(probabilities[rows, columns] * 65535, "<u2")}


def to_bytes(values, dtype: str) -> bytes:
    """Values as bytes of a type; whole numbers are rounded."""
    values = np.asarray(values)
    if dtype[-2] != "f" and values.dtype.kind == "f":
        values = np.rint(values)
    return values.astype(dtype).tobytes()


def script(*names: str) -> str:
    """Files of this package as one text."""
    folder = resources.files("geotree.explore")
    return "\n".join((folder / name).read_text("utf-8") for name in names)


class Panel(anywidget.AnyWidget):
    """A widget whose script is in this package.

    Attributes
    ----------
    data : dict
        What it draws; see :func:`pack`.
    """

    _css = script("widgets.css")
    data = traitlets.Dict().tag(sync=True)

    def page(self) -> str:
        """The widget as HTML that needs neither kernel nor network."""
        state = {name: self.trait_values()[name] for name in self.keys
                 if not name.startswith("_") and name not in (
                     "layout", "tabbable", "tooltip", "comm")}
        text = json.dumps(state, default=_encode, separators=(",", ":"))
        return Template(script("page.html")).substitute(
            name=f"geotree-{uuid.uuid4().hex[:8]}", css=self._css,
            esm=self._esm.replace("export default", "const widget ="),
            state=text.replace("<", "\\u003c"))

    def _repr_mimebundle_(self, **kwargs):
        found, about = super()._repr_mimebundle_(**kwargs)
        return found | {"text/html": self.page()}, about


def _encode(value):
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    raise TypeError(f"a {type(value).__name__} cannot go into a page")
