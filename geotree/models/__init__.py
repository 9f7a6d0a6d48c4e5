"""Models: the compact one, and what any other must have to be trained.

The protocol of a model, batch B, features D, classes K:

``encode_images(images, environment)`` → (B, D)
    Of (B, 12, 10, 5, 5) integers, 65535 missing, and (B, 27) float32, NaN
    missing; arrays or tensors.
``encode_taxa(classes)`` → (K, D)
    Of the rows of a class table: leafType, family, genus, species.
``scale()`` → scalar above zero
    Factor of the products of the two.

Optional: ``config`` (a dataclass), ``fit_normalisation(batch)`` and
``fitted``, whether it has been called; ``save_pretrained(folder)``.
"""

from importlib import import_module
from pathlib import Path

_NEEDED = ("encode_images", "encode_taxa", "scale")
# Where the classes that a card names are; loaded when one is asked for.
_KNOWN = {"CompactClip": "geotree.models.compact",
          "GeoTreeClip": "geotree.release.model"}
_RELEASE = "yann111/GlobalGeoTree"  # has a checkpoint, and no card


def load(source: str | Path):
    """A model of any known class, by its folder, hub id or checkpoint.

    Parameters
    ----------
    source : path or hub id
        A folder that ``save_pretrained`` wrote, or its hub id; or the
        release's checkpoint (``.pth``, or the id of its hub).

    Raises
    ------
    FileNotFoundError, ValueError
        No model there, or one of a class that is not known here.
    """
    from geotree.models import store

    name = "GeoTreeClip"
    if str(source) != _RELEASE and Path(str(source)).suffix != ".pth":
        folder = store.find(source)
        name = store.read_card(folder).get("model")
        if name not in _KNOWN:
            raise ValueError(f"'{folder}' holds a {name}, expected one of "
                             f"{', '.join(_KNOWN)}. Read it with "
                             f"{name}.from_pretrained and pass the model.")
    return getattr(import_module(_KNOWN[name]), name).from_pretrained(source)


def check(model, batch, classes) -> None:
    """Refuse a model that cannot be trained, before any work is done.

    Parameters
    ----------
    model : torch.nn.Module
    batch : Batch
        A few samples to try it with.
    classes : DataFrame
        Class table.

    Raises
    ------
    TypeError
        It is no ``torch.nn.Module``, has nothing to train, or lacks a
        method.
    ValueError
        What a method returns has another shape than expected, or is not
        finite.
    """
    import torch

    from geotree.evaluation.predictions import asked

    name = type(model).__name__
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model is a {name}, expected a torch.nn.Module.")
    lacking = [f"{method}()" for method in _NEEDED
               if not callable(getattr(model, method, None))]
    if not any(value.requires_grad for value in model.parameters()):
        lacking.append("a parameter that can be trained")
    if lacking:
        raise TypeError(f"{name} lacks {', '.join(lacking)}. A model needs "
                        "encode_images(images, environment), "
                        "encode_taxa(classes) and scale(); see "
                        "geotree.models.")
    with asked(model):
        image = model.encode_images(batch.images, batch.environment)
        taxa, scale = model.encode_taxa(classes), model.scale()
    shapes = [tuple(getattr(x, "shape", ())) for x in (image, taxa)]
    width = shapes[0][-1:]
    if shapes != [(len(batch.images), *width), (len(classes), *width)]:
        raise ValueError(
            f"{name}: encode_images gives {shapes[0]} for "
            f"{len(batch.images)} samples and encode_taxa {shapes[1]} for "
            f"{len(classes)} classes, expected one row each and as many "
            "columns.")
    if not (float(scale) > 0 and image.isfinite().all()
            and taxa.isfinite().all()):
        raise ValueError(
            f"{name}: the scale is {float(scale)}, expected above zero, or "
            "features are not finite. Are missing pixels (65535) and "
            "variables (NaN) handled?")
