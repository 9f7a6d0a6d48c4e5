"""What goes with the weights of a model: one check to save and to load it."""

import pandas as pd

from geotree import checks, globe, place, taxonomy

RECORDS = "species", *globe.PLACE
# Tables of a model, and what they cannot be without.
COLUMNS = {"prior": RECORDS, "held": (*RECORDS, "features")}


def finite(model, *, where: str) -> None:
    """Refuse weights that are not finite, or a scale not above zero."""
    bad = [name for name, value in model.named_parameters()
           if not value.isfinite().all()]
    # A spread of zero would divide by it; GeoTreeClip's ranges may be NaN.
    bad += [name for name, value in model.named_buffers()
            if name.endswith("_std") and not (value > 0).all()]
    if bad or not float(model.scale().detach()) > 0:
        raise ValueError(
            f"{where} holds weights that are not finite, or a scale that is "
            f"not above zero: {checks.few(sorted(bad) or ['scale()'])}. "
            "Train again with a lower learning rate.")


def told(card: dict, *, where: str) -> dict:
    """``classes``, ``temperature`` and ``thresholds`` of a card."""
    limits = checks.by_name(card.get("thresholds") or {},
                            f"thresholds of {where}")
    prior(card, where=where)
    return {
        "classes": _classes(card.get("classes"), where),
        "temperature": checks.number(
            card.get("temperature", 1.0), low=1e-6,
            name=f"temperature of {where}"),
        "thresholds": {
            float(checks.number(pd.to_numeric(coverage, errors="coerce"),
                                name="coverage", low=0, high=1)):
            checks.number(least, name="threshold", low=0, high=1)
            for coverage, least in limits.items()}}


def prior(card: dict, *, where: str) -> tuple[str, float]:
    """Which model of the place a card names, and its weight."""
    return (checks.one_of(card.get("prior_model", "nearest places"),
                          place.MODELS, name=f"prior_model of {where}"),
            checks.number(card.get("prior_weight", 1.0), low=0,
                          name=f"prior_weight of {where}"))


def _classes(columns, where: str) -> pd.DataFrame | None:
    """The class table of a card: four names a class, none twice."""
    if columns is None:
        return None
    try:
        taxonomy.check(table := pd.DataFrame(columns), *taxonomy.RANKS)
    except (ValueError, TypeError) as error:
        raise ValueError(f"the class table of {where} is none ({error}): "
                         f"expected {', '.join(taxonomy.RANKS)} of one "
                         "length, each species once.") from error
    return table


def stored(table, name: str) -> bytes:
    """The records of a model as Parquet."""
    import pyarrow as pa

    where = f"model.{name}"
    checks.columns(table, COLUMNS[name], where=where)
    if name == "prior":
        try:
            place.Nearest(table)
        except ValueError as error:
            raise ValueError(f"{where} tells nothing of a place: {error}"
                             ) from error
    try:
        return table.to_parquet(index=False)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{where} has a column that Parquet has no type for "
                         f"({error}). Drop it.") from error
