"""Values of any library as plain arrays, and as words in a message.

Used by all checks; see :mod:`geotree.checks`.
"""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd


def plain(values, where: str = "values") -> np.ndarray:
    """Values of a tensor, column or list as an array; none may be masked."""
    if np.ma.is_masked(values):
        raise ValueError(f"{where}: {np.ma.count_masked(values)} values are "
                         "masked, which says nothing of what they are. Drop "
                         "them, or .filled(the sign for missing).")
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
    try:
        values = np.asarray(values)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{where} is a {type(values).__name__}, which makes "
                         f"no array ({error}).") from None
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def aligned(values, rows=None, *, where: str) -> np.ndarray:
    """Values as an array; none in another order than ``rows``, by their index.

    ``rows`` None: one a class, and names, whose order nobody can tell.
    """
    index = getattr(values, "index", None)
    if isinstance(index, pd.Index) and (
            index.inferred_type == "string" if rows is None
            else not index.equals(pd.Index(rows)) and {*index} == {*rows}):
        raise ValueError(f"{where} may have rows in another order: their "
                         f"index is {few(index)}. .reindex them as the "
                         "other's, and .to_numpy().")
    return plain(values, where)


def refuse(bad, what: str, advice: str = "") -> None:
    """Raise ``ValueError`` if a row is bad; says how many, and the first."""
    bad = plain(bad)
    if bad.any():
        raise ValueError(f"{bad.sum()} of {len(bad)} {what}, the first is "
                         f"row {bad.argmax()}. {advice}".strip())


def one_each(values, n: int, *, where: str, rows=None) -> np.ndarray:
    """One value for each of ``n`` samples, none of them missing: (n,).

    ``rows`` is the index of the table that they belong to, if any.
    """
    values = (plain(values, where) if rows is None
              else aligned(values, rows, where=where))
    if values.shape != (n,):
        raise ValueError(f"{where} have shape {values.shape}, expected one "
                         f"for each of the {n} samples.")
    refuse(pd.isna(values), f"{where} are missing")
    if values.dtype.kind == "f":
        refuse(np.isinf(values), f"{where} are infinite")
    if pd.api.types.infer_dtype(values) in ("mixed", "mixed-integer"):
        raise ValueError(f"{where} are of mixed types, expected one.")
    return values


def one_order(**columns) -> None:
    """Raise ``ValueError`` where two have the same rows in another order."""
    have = {name: one for name, one in columns.items()
            if isinstance(getattr(one, "index", None), pd.Index)}
    for name, one in have.items():
        aligned(one, next(iter(have.values())).index, where=name)


def rows(**columns) -> None:
    """Raise ``ValueError`` unless all have a row for each sample."""
    sizes = {name: (*getattr(one, "shape", [len(one)] if hasattr(
        one, "__len__") else ()), 0)[0] for name, one in columns.items()}
    if len({*sizes.values()}) > 1:
        raise ValueError(", ".join(
            f"{size} rows of {name}" for name, size in sizes.items())
            + ": expected one each a sample.")
    one_order(**columns)


def named_axes(values, where: str, **axes) -> None:
    """Raise ``ValueError`` where a DataArray has axes of another order.

    ``axes`` are the names of the last ones, and what stands along each;
    None: anything. One of another name may tell its order, too.
    """
    indexes, dims = (getattr(values, name, ()) for name in ("indexes", "dims"))
    last = dict(zip(axes, dims[-len(axes):], strict=False))
    if any(name in dims and name != one for name, one in last.items()):
        raise ValueError(f"{where} have the axes {few(dims, 9)}, expected "
                         f"{few(axes, 9)} as the last: .transpose them.")
    for name, one in last.items():
        if not axes[name] or one not in indexes:
            continue
        index, along = indexes[one], [*axes[name]]
        found = [re.sub("^B0", "B", value) if isinstance(value, str)
                 else value for value in getattr(index, "month", index)]
        if found != along and (name == one or hasattr(index, "month")
                               or {*found} == {*along}):
            raise ValueError(
                f"{where} have along {one!r} {few(found, 12)}, "
                f"expected {few(along, 12)}, in this order: .sel them.")


def by_name(values, where: str) -> Mapping:
    """A dict, or a ``ValueError``."""
    return instance(values, Mapping, name=where, see="a dict: each by its "
                    "name")


def instance(value, *kinds: type, name: str, see: str):
    """A value of some classes; ``see`` says what to give, or what makes it."""
    if not isinstance(value, kinds):
        raise ValueError(f"{name} is {shown(value)}, expected {see}.")
    return value


def one_shape(**columns) -> list[np.ndarray]:
    """As many values each, or one number for all: arrays of one shape."""
    values = {name: plain(one, name) for name, one in columns.items()}
    if len({one.shape for one in values.values()} - {()}) > 1:
        raise ValueError(", ".join(
            f"{name} has shape {one.shape}" for name, one in values.items())
            + ": expected one each a place, or one number for all.")
    return np.broadcast_arrays(*values.values())


def sizes(config, kind: type, **divides: str):
    """What a model is made by: each value of the type of its default.

    Whole numbers are 1 or more, others 0 to 1; ``divides`` says which number
    divides which.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(config, kind):
        raise TypeError(f"config is {shown(config)}, expected "
                        f"{kind.__name__}(…).")
    for name, default in vars(kind()).items():
        value, usual = getattr(config, name), type(default)
        if not isinstance(value, usual) or isinstance(value, bool) != (
                usual is bool) or usual is int and value < 1 or (
                usual is float and not 0 <= value <= 1):
            raise ValueError(
                f"{name} is {shown(value)}, expected " + {
                    bool: "True or False.", float: "a number of 0 to 1."
                    }.get(usual, "a whole number, at least 1."))
    for name, whole in divides.items():
        if getattr(config, whole) % getattr(config, name):
            raise ValueError(
                f"{name} is {getattr(config, name)}, which does not divide "
                f"{whole}, {getattr(config, whole)}.")
    return config


def titles(values) -> list | None:
    """The names of the columns of a frame, or a DataArray, if it has any."""
    indexes, dims = (getattr(values, name, ()) for name in ("indexes", "dims"))
    names = (indexes[dims[-1]] if dims and dims[-1] in indexes
             else getattr(values, "columns", None))
    return None if names is None else [*names]


def shown(value) -> str:
    """A value as one would write it, 3 and not np.int64(3), cut if long."""
    text = re.sub(r"\bnp\.(?:[a-z]+\d*_?\(('[^']*'|[^()']*)\)|(\w+)_)",
                  r"\1\2", repr(value))
    if "\n" in text:  # a table
        return f"a {type(value).__name__}"
    return text if len(text) < 200 else f"{text[:200]} …"


def few(words, most: int = 3) -> str:
    """The first of some words, and how many more there are."""
    words = [*map(str, words)]
    more = f" and {len(words) - most} more" * (len(words) > most)
    return ", ".join(words[:most]) + more or "none"
