"""Maps as GeoTIFF, with names and colours where GDAL and QGIS look."""

import re
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import xarray as xr

from geotree import checks, files, taxonomy
from geotree.explore.sheet import kind_of

_QGIS = '<qgis version="3.0"><pipe><rasterrenderer type="paletted" '
_GDAL = '<MDI key="SOFTWARE">geotree</MDI>'  # stays when GDAL adds to it
# What GDAL notes of a file that was looked at; no one's own.
_NOTED = re.compile(
    r'(?s)<MDI key="STATISTICS_.*?</MDI>|<(Histograms|Description|UnitType)>'
    r".*?</\1>|</?(PAM(Dataset|RasterBand)|Metadata)\b.*?>")


def write_geotiff(maps: xr.Dataset, path: str | Path,
                  species: str | None = None) -> Path:
    """Write a map as a Cloud-Optimised GeoTIFF, whole or not at all.

    Parameters
    ----------
    maps : Dataset
        From :func:`range_maps` or :func:`name_map`.
    species : str, optional
        Which range; default: the only one.

    Returns
    -------
    Path
        Of a range, band 1 is the probability, band 2 the uncertainty; NaN
        is no data. Of names, each rank has a band of numbers and one of
        confidence in percent, 0 is no data; names and colours lie beside
        the file (``.aux.xml`` for GDAL, ``.qml`` for QGIS).
    """
    kind_of(path, (".tif", ".tiff"))
    checks.instance(maps, xr.Dataset, name="maps",
                    see="range_maps(…) or name_map(…)")
    if "species" not in maps.dims:
        return _write_names(maps, files.named(path))
    names = maps["species"].to_numpy().tolist()
    if species is None and len(names) == 1:
        species = names[0]
    checks.one_of(species, names, name="species")
    one, (names, style) = maps.sel(species=species), _beside(path)
    _refuse_own(path, names)
    path = _write(maps, path, [one["probability"], one["uncertainty"]],
                  dtype="float32", nodata=np.nan, predictor=3,
                  tags={"species": species})
    names.unlink(missing_ok=True)  # of the map that was there
    if not _is_own(style):
        style.unlink(missing_ok=True)
    return path


def _is_own(beside: Path) -> bool:
    """Whether a file is the user's: there, and not written here."""
    text = beside.read_text("utf-8", "replace") if beside.exists() else ""
    return bool(_NOTED.sub("", text).strip()
                and _QGIS not in text and _GDAL not in text)


def _refuse_own(path: Path, *beside: Path) -> None:
    """Raise ``ValueError`` where a file of the user's changes the map."""
    for one in (*beside, Path(f"{path}.msk"), Path(f"{path}.ovr")):
        if _is_own(one):
            raise ValueError(f"'{one}' is your own, and would change what is "
                             "seen of the map, or be lost. Move it away, or "
                             "choose another name for the map.")


def _write(maps, path, layers, *, tags: dict, **profile) -> Path:
    import rasterio

    x, y = maps["x"].to_numpy(), maps["y"].to_numpy()
    step = maps.attrs["step"]
    place = rasterio.transform.from_origin(x[0] - step / 2, y[0] + step / 2,
                                           step, step)
    with files.whole(path) as part, rasterio.open(
            part, "w", driver="COG", width=len(x), height=len(y),
            count=len(layers), transform=place, compress="deflate",
            crs=maps["crs"].attrs["spatial_ref"], **profile) as file:
        for band, layer in enumerate(layers, 1):
            file.write(layer.to_numpy().astype(profile["dtype"]), band)
            file.set_band_description(band, layer.attrs["long_name"])
            file.set_band_unit(band, layer.attrs.get("units", ""))
        file.update_tags(**tags, **{
            key: str(value) for key, value in maps.attrs.items()})
    return files.named(path)


def _beside(path: Path) -> tuple[Path, Path]:
    """The files of names and colours, for GDAL and for QGIS."""
    path = files.named(path)
    return Path(f"{path}.aux.xml"), path.with_suffix(".qml")


def _write_names(maps: xr.Dataset, path: Path) -> Path:
    from geotree.plots import colors

    _refuse_own(path, *(beside := _beside(path)))
    layers, bands, tags = [], [], {}
    for rank in taxonomy.RANKS:
        codes = maps[rank]
        names = codes.attrs["names"]
        shown = colors(np.repeat(names, np.bincount(
            codes.to_numpy().ravel(), minlength=len(names) + 1)[1:]))
        sure = (100 * maps[f"{rank}_confidence"]).round().fillna(0)
        layers += [codes, sure.assign_attrs(
            long_name=f"confidence in the {rank}", units="%")]
        bands.append([(name, shown.get(name, "#9a968c")) for name in names])
        tags[f"names_{rank}"] = "; ".join(names)
    # Three files that belong together: none is replaced before all are there.
    with files.whole(beside[0]) as names, files.whole(beside[1]) as style:
        names.write_text(_categories(bands), "utf-8")
        style.write_text(_style(bands[0]), "utf-8")
        return _write(maps, path, layers, dtype="uint16", nodata=0,
                      predictor=2, tags=tags)


def _categories(bands) -> str:
    """Names and colours for GDAL: its file of auxiliary metadata."""
    text = []
    for number, names in enumerate(bands):
        names = [("", "#000000"), *names]  # no answer
        text.append(
            f'<PAMRasterBand band="{2 * number + 1}"><CategoryNames>'
            + "".join(f"<Category>{escape(name)}</Category>"
                      for name, _ in names)
            + "</CategoryNames><ColorInterp>Palette</ColorInterp><ColorTable>"
            + "".join('<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>'.format(
                *bytes.fromhex(color[1:]), 255 * bool(name))
                for name, color in names)
            + "</ColorTable></PAMRasterBand>")
    return (f"<PAMDataset>{''.join(text)}<Metadata>{_GDAL}</Metadata>"
            "</PAMDataset>\n")


def _style(names) -> str:
    """The first band in colours with names, as QGIS opens it."""
    entries = "".join(
        f'<paletteEntry value="{number}" color="{color}" alpha="255" '
        f"label={quoteattr(name)}/>"
        for number, (name, color) in enumerate(names, 1))
    return (f'{_QGIS}band="1" opacity="1"><colorPalette>{entries}'
            "</colorPalette></rasterrenderer></pipe></qgis>\n")
