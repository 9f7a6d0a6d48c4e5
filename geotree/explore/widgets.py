"""Widgets: the map that answers, and explorers of samples.

In a page, in JupyterLab and in Colab.
"""

import sys
from collections.abc import Callable

import ipywidgets
import numpy as np
import pandas as pd
import traitlets

from geotree import checks, globe, plots, taxonomy, variables
from geotree.explore import packing
from geotree.explore.judging import checklists
from geotree.explore.packing import Panel, script, to_bytes
from geotree.explore.predicting import Answers, ask
from geotree.shards import Batch

_RANKS = [str(rank) for rank in taxonomy.RANKS]


class AnswerMap(Panel):
    """A world of answers; see :func:`answer_map`.

    Attributes
    ----------
    color : str
        The rank that colours the map.
    rank : str
        How deep the names go.
    prior, checklist : bool
        Use what is known of the place; only species of the country.
    month : int
        1 to 12.
    threshold : float
        Probability from which a name counts as sure.
    place : [lat, lon]
        What was asked for last; setting it asks.
    answer : dict
        A fresh answer, which takes the place of the nearest on the grid.
    """

    _esm = script("common.js", "map.js")
    outline = traitlets.Dict().tag(sync=True)
    color = traitlets.Enum(_RANKS, "leafType").tag(sync=True)
    rank = traitlets.Enum(_RANKS, "species").tag(sync=True)
    prior = traitlets.Bool(True).tag(sync=True)
    checklist = traitlets.Bool(False).tag(sync=True)
    month = traitlets.Int(7, min=1, max=12).tag(sync=True)
    threshold = traitlets.Float(0.8).tag(sync=True)
    place = traitlets.List().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)


def answer_map(answers: Answers, *, step: float,
               known: pd.DataFrame | None = None,
               at: tuple[float, float] | None = None,
               note: str = "") -> AnswerMap:
    """A map of answers worked out before: it needs no kernel.

    Parameters
    ----------
    answers : Answers
        Of the centres of a grid.
    step : float
        Degrees between them.
    known : DataFrame, optional
        Occurrence table that the checklists by country come from.
    at : (lat, lon), optional
        Asked for when the map opens.
    note : str
        Where the numbers come from.
    """
    data = packing.pack(answers, checklists=checklists(known), note=note)
    return AnswerMap(data=data | {"step": step}, outline=packing.outline(),
                     place=list(at or []))


class Explorer(ipywidgets.VBox):
    """A map, fields and an answer; see :func:`what_grows_here`."""

    def __init__(self, chart, panel: AnswerMap, answer: Callable,
                 static: AnswerMap | None):
        from ipyleaflet import CircleMarker

        self.map, self.panel = chart, panel
        self._answer, self._static = answer, static
        self.lat = ipywidgets.BoundedFloatText(
            46.5, min=-90, max=90, description="Latitude")
        self.lon = ipywidgets.BoundedFloatText(
            11.0, min=-180, max=180, description="Longitude")
        button = ipywidgets.Button(description="What grows here?")
        button.on_click(lambda _: self.ask(self.lat.value, self.lon.value))
        self.mark = CircleMarker(location=(46.5, 11.0), radius=7,
                                 color="#D55E00", fill_opacity=0.2)
        chart.add(self.mark)
        chart.on_interaction(self._clicked)
        fields = ipywidgets.HBox([self.lat, self.lon, button],
                                 layout={"flex_flow": "row wrap"})
        super().__init__([chart, fields, panel])

    def ask(self, lat: float, lon: float) -> None:
        """Ask about a place, and show the answer, or why there is none."""
        lon = (lon + 180) % 360 - 180
        self.lat.value, self.lon.value = round(lat, 4), round(lon, 4)
        self.mark.location = (lat, lon)
        try:
            self.panel.answer = self._answer(lat, lon)
        except Exception as error:  # what a click raises, no page shows
            self.panel.answer = {"message": str(error)}
            raise

    def _clicked(self, type=None, coordinates=None, **about) -> None:
        if type == "click" and coordinates:
            self.ask(*coordinates)

    def _repr_mimebundle_(self, **kwargs):
        found = super()._repr_mimebundle_(**kwargs)
        if self._static is not None:
            found["text/html"] = self._static.page()
        return found


def what_grows_here(model, source, classes: pd.DataFrame, *,
                    known: pd.DataFrame | None = None,
                    static: AnswerMap | None = None, note: str = "",
                    **asking) -> Explorer:
    """A map on which a click asks the model.

    The map is geemap's where Earth Engine is signed in, else ipyleaflet's.

    Parameters
    ----------
    model, source, classes
        As in :func:`geotree.explore.ask`.
    known : DataFrame, optional
        Occurrence table that the checklists by country come from.
    static : AnswerMap, optional
        What a page without a kernel shows instead.
    note : str
        Where the numbers come from.
    **asking
        ``year``, ``place``, ``weight``, ``temperature`` of
        :func:`geotree.explore.ask`.
    """
    lists = checklists(known)
    packing.names(classes)  # or a click would find out

    def answer(lat: float, lon: float) -> dict:
        found = ask(model, source, classes, lat=lat, lon=lon, **asking)
        if len(found):
            return packing.pack(found, checklists=lists, note=note)
        return {"message": f"{lat:.1f}°, {lon:.1f}°: {found.status[0]}. "
                           f"{found.reason[0] or 'Try another place.'}"}

    return Explorer(_chart(), AnswerMap(), answer, static)


def _chart():
    """geemap with Earth Engine, ipyleaflet without; land, and a cross."""
    import ipyleaflet

    size = {"layout": ipywidgets.Layout(height="420px"),
            "center": (30, 10), "zoom": 2, "scroll_wheel_zoom": True}
    ee = sys.modules.get("ee")
    if ee is not None and ee.data.is_initialized():  # signed in
        import geemap

        chart = geemap.Map(ee_initialize=False, lite_mode=True, **size)
    else:
        chart = ipyleaflet.Map(**size)
    chart.default_style = {"cursor": "crosshair"}
    chart.layers = ()  # nothing from the web
    rings = [[ring.clip([-180, -90], [180, 90]).round(2).tolist()]
             for ring in globe.land()]
    chart.add(ipyleaflet.GeoJSON(
        data={"type": "Feature", "properties": {}, "geometry": {
            "type": "MultiPolygon", "coordinates": rings}},
        style={"color": "#4a6472", "weight": 1, "fillColor": "#c9d8c5",
               "fillOpacity": 0.8}))
    return chart


# Samples --------------------------------------------------------------------

class TaxonomyExplorer(Panel):
    """A tree of names beside their years; see :func:`taxonomy_explorer`.

    Attributes
    ----------
    chosen : list of int
        Classes whose years are shown, at most four.
    """

    _esm = script("common.js", "taxonomy.js")
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)


class EmbeddingExplorer(Panel):
    """Points with names; see :func:`embedding_explorer`.

    Attributes
    ----------
    color : str
        The rank that colours the points.
    """

    _esm = script("common.js", "embedding.js")
    color = traitlets.Enum(_RANKS, "leafType").tag(sync=True)


def taxonomy_explorer(batch: Batch, classes: pd.DataFrame, *,
                      chosen=(), note: str = "") -> TaxonomyExplorer:
    """Family, genus and species with counts, years and example patches.

    Parameters
    ----------
    batch : Batch of N samples
        Southern samples are turned by half a year, so that years compare.
    classes : DataFrame of K rows
    chosen : list of str
        Species shown at first.
    note : str
        Where the samples come from.
    """
    names = _named(batch, classes)
    green = variables.ndvi(batch.images[..., 2:3, 2:3])[..., 0, 0]  # (N, T)
    south = batch.environment[:, variables.VARIABLE_NAMES.index(
        "latitude")] < 0
    local = np.where(south[:, None], np.roll(green, 6, axis=1), green)
    frame = pd.DataFrame(local).groupby(batch.labels)
    years = {name: np.full((len(classes), 12), -128.0)
             for name in ("low", "ndvi", "high")}
    for part, share in zip(years.values(), (0.25, 0.5, 0.75), strict=True):
        found = frame.quantile(share)
        part[found.index] = (100 * found).fillna(-128)
    example = _clearest(green, batch.labels, len(classes))
    images = batch.images[example]
    images[~np.isin(range(len(classes)), batch.labels)] = variables.NODATA
    counts = np.bincount(batch.labels, minlength=len(classes))
    numbers = taxonomy.labels(pd.DataFrame({"species": list(chosen)}), classes)
    data = {"classes": names,
            "counts": to_bytes(counts, "<u4"),
            **{key: to_bytes(part, "i1") for key, part in years.items()},
            "atlas": packing.atlas(images),
            "seen": packing.greenness(images),
            "cycle": list(plots.CYCLE), "note": note}
    return TaxonomyExplorer(data=data, chosen=numbers.tolist())


def _named(batch: Batch, classes: pd.DataFrame) -> dict:
    """The names that the labels of a batch stand for."""
    checks.instance(batch, Batch, name="batch", see="a shards.Batch")
    names = packing.names(classes)
    checks.labels(batch.labels, len(classes))
    return names


def _clearest(green: np.ndarray, labels, k: int) -> np.ndarray:
    """For each class the first sample with most clear months: (K,)."""
    clear = np.isfinite(green).sum(axis=1)
    order = np.lexsort((np.arange(len(labels)), -clear, labels))
    first = np.searchsorted(labels[order], np.arange(k))
    return order[first.clip(0, len(order) - 1)]


def embedding_explorer(points: np.ndarray, batch: Batch,
                       classes: pd.DataFrame, *,
                       note: str = "") -> EmbeddingExplorer:
    """A t-SNE map whose points say what they are.

    Parameters
    ----------
    points : (N, 2) float
        Any layout in the plane.
    batch : Batch of the same N samples
    classes : DataFrame of K rows
    note : str
        Where the samples come from.
    """
    names = _named(batch, classes)
    if np.shape(points) != (len(batch.labels), 2):
        raise ValueError(f"points have shape {np.shape(points)}, expected "
                         f"({len(batch.labels)}, 2), one for each sample.")
    green = variables.ndvi(batch.images[..., 2:3, 2:3])[..., 0, 0]  # (N, T)
    best = np.nan_to_num(green, nan=-2).argmax(axis=1)
    greenest = batch.images[np.arange(len(best)), best][:, None]
    place = [variables.VARIABLE_NAMES.index(name)
             for name in ("latitude", "longitude")]
    lat, lon = batch.environment[:, place].T
    x, y = np.transpose(points)
    data = {"classes": names,
            "atlas": packing.atlas(greenest),
            "label": to_bytes(batch.labels, "<u2"), "note": note,
            **{key: to_bytes(part, "<f4") for key, part in
               (("x", x), ("y", y), ("lat", lat), ("lon", lon))},
            "leafColors": plots.LEAF_COLORS, "cycle": list(plots.CYCLE)}
    return EmbeddingExplorer(data=data)
