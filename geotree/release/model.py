"""GeoTreeCLIP, the model of the release: same weights, same answers.

The model of Mu et al. (2026), made of :mod:`geotree.release.towers`. Batch
B, months T, bands C, variables V, classes K, features D. Chapter 09.
"""

import io
import math
import warnings
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geotree import checks, files, variables as v
from geotree.models import store
from geotree.release import checkpoint, hub, published, towers
from geotree.release.towers import ReleaseConfig, bare, layer

CLIP = "openai/clip-vit-base-patch16"
TEMPERATURE = 0.07  # the release trains with it,
SCORING = 100.0  # and scores with this factor of the cosines
NORMALIZATIONS = ("batch", "fixed")


class GeoTreeClip(store.Whole, nn.Module):
    """The released architecture, with the released names and outputs.

    Parameters
    ----------
    config : ReleaseConfig, optional
        Sizes; default: the release's 153.9 million parameters.
    tokenizer : str or path
        Hub id or folder with ``vocab.json`` and ``merges.txt``.
    normalization : "batch", "fixed" or None
        ``"batch"`` scales by the extremes of the batch, as published, so
        that a prediction depends on its company. ``"fixed"`` scales by
        constants that :meth:`fit_normalisation` sets and that are saved
        with the weights. None: fixed where constants are known.
    temperature : float
        Of the contrastive loss: the scale starts at its inverse. The
        attribute ``temperature`` is that of answers, 1 until calibrated.

    Examples
    --------
    >>> model = GeoTreeClip.from_pretrained("GGT_6M.pth")
    >>> combined_features, text_features = model(
    ...     images, text_data, auxiliary_data, image_mask, aux_mask)
    """

    Config = ReleaseConfig

    def __init__(self, config: ReleaseConfig | None = None, *,
                 tokenizer: str | Path = CLIP,
                 normalization: str | None = None,
                 temperature: float = TEMPERATURE) -> None:
        super().__init__()
        checks.one_of(normalization, (None, *NORMALIZATIONS),
                      name="normalization")
        checks.number(temperature, low=1e-6, name="temperature")
        self.config = config = config or ReleaseConfig()
        self.normalization = normalization
        width = config.text_width
        self.temporal_extractor = towers.TemporalExtractor(config)
        self.auxiliary_encoder = towers.AuxiliaryEncoder(config.hidden)
        self.text_encoder = towers.TextEncoder(config, tokenizer)
        self.image_projection = layer(config.vision_width, width)
        self.aux_projection = layer(config.hidden, width)
        self.fusion = layer(2 * width, width)
        # Not in the release: the constants of normalization="fixed" (low,
        # high) and the factor of the cosines.
        self.register_buffer("image_range",
                             torch.full((2, len(v.BANDS)), math.nan))
        self.register_buffer("aux_range",
                             torch.full((2, len(v.VARIABLES)), math.nan))
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.register_load_state_dict_pre_hook(_read_names)

    @property
    def device(self) -> torch.device:
        return self.logit_scale.device

    @property
    def fitted(self) -> bool:
        """Whether the constants of ``normalization="fixed"`` are known."""
        return bool(self.image_range.isfinite().all()
                    and self.aux_range.isfinite().all())

    # -- inputs ----------------------------------------------------------

    @torch.no_grad()
    def fit_normalisation(self, batch, *, batch_size: int = 512) -> None:
        """Set the constants from samples (a ``shards.Batch``).

        They are the mean extremes of batches of ``batch_size``, so that a
        released model sees the values that it saw when it was scored.
        """
        count = max(len(batch.images) // batch_size, 1)
        images, others = [], []
        for part in range(count):  # every count-th sample: equal batches
            images.append(published.band_range(published.pixels(
                batch.images[part::count], None, self.device)[0]))
            others.append(published.variable_range(*published.auxiliary(
                batch.environment[part::count], None, self.device)))
        self.image_range.copy_(torch.stack(images).mean(dim=0))
        self.aux_range.copy_(torch.stack(others).mean(dim=0))

    def _ranges(self, pixels, auxiliary):
        """Low and high of each band and of each variable."""
        if self.fitted and self.normalization != "batch":
            return self.image_range, self.aux_range
        if self.normalization == "fixed":
            raise ValueError(
                "normalization is 'fixed', but this model has no constants. "
                "Call model.fit_normalisation(batch) with training samples "
                "(shards.load()), or take normalization='batch'.")
        if self.normalization is None:
            warnings.warn(
                "scaled by the extremes of the batch, as GlobalGeoTree "
                "published: each prediction depends on the other samples. "
                "Call model.fit_normalisation(batch) once for constants, or "
                "choose normalization='batch' to say that it is meant.",
                stacklevel=4)
        return (published.band_range(pixels[0]),
                published.variable_range(*auxiliary))

    # -- features --------------------------------------------------------

    def _combined(self, images, auxiliary, image_mask=None,
                  aux_mask=None) -> Tensor:
        """(B, D), not normalised."""
        pixels = published.pixels(images, image_mask, self.device)
        others = published.auxiliary(auxiliary, aux_mask, self.device)
        bands, variables = self._ranges(pixels, others)
        # Scaled in float32, then in the type of the weights.
        kind = self.logit_scale.dtype
        patches = published.scaled(*pixels, *bands[:, :, None, None]).to(kind)
        months = pixels[1].flatten(2).any(dim=2)  # (B, T)
        year = self.temporal_extractor(patches, months)
        place = self.auxiliary_encoder(
            published.scaled(*others, *variables).to(kind))
        return self.fusion(torch.cat([self.image_projection(year),
                                      self.aux_projection(place)], dim=1))

    def forward(self, images, text_data, auxiliary_data, image_mask=None,
                aux_mask=None):
        """Features as the release computes them.

        Parameters
        ----------
        images : (B, T, C, H, W)
            Reflectance × 10,000, NaN (or, as integers, 65535) = missing.
        text_data : list of B dict
            The four names of each sample.
        auxiliary_data : list of B dict, or (B, V)
            The 27 variables by name, None = missing; or in order.
        image_mask : (B, T) bool, optional
            Months present; default: those with a value.
        aux_mask : (B, V) bool, optional
            Variables present; default: those with a value.

        Returns
        -------
        combined_features, text_features : (B, D), not normalised
            Called as ``model(images, environment, classes)``, like
            :class:`~geotree.models.compact.CompactClip`: logits (B, K).
        """
        if isinstance(auxiliary_data, pd.DataFrame):
            image_features = self.encode_images(images, text_data)
            text_features = self.encode_taxa(auxiliary_data)
            return self.scale() * image_features @ text_features.T
        return (self._combined(images, auxiliary_data, image_mask, aux_mask),
                self.text_encoder(text_data))

    def encode_images(self, images, environment) -> Tensor:
        """Unit vectors (B, D) of samples; see :meth:`forward`."""
        combined = self._combined(images, environment)
        return F.normalize(combined.float(), dim=-1)

    def encode_taxa(self, classes: pd.DataFrame) -> Tensor:
        """Unit vectors (K, D) of the rows of a class table."""
        return F.normalize(self.text_encoder(classes).float(), dim=-1)

    def scale(self) -> Tensor:
        """Factor of the cosines, at most 100 as in CLIP."""
        return self.logit_scale.clamp(max=math.log(SCORING)).exp()

    # -- files -----------------------------------------------------------

    def load_text_tower(self, name: str | Path = CLIP) -> None:
        """Start from CLIP's text weights, as the release's training did."""
        from transformers import CLIPTextModel

        tower = CLIPTextModel.from_pretrained(name)
        store.load_state(self.text_encoder.text_encoder,
                         bare(tower).state_dict(), where=f"'{name}'")

    def save_pretrained(self, folder: str | Path, *,
                        card: dict | None = None) -> Path:
        """Write ``model.safetensors`` and ``card.json`` into ``folder``."""
        return super().save_pretrained(folder, card={
            **(card or {}), "normalization": self.normalization})

    @classmethod
    def from_pretrained(cls, source: str | Path, *,
                        tokenizer: str | Path = CLIP,
                        normalization: str | None = None,
                        config: ReleaseConfig | None = None) -> "GeoTreeClip":
        """Read a model; it is in eval mode.

        Parameters
        ----------
        source : path or hub id
            The release's checkpoint ``GGT_6M.pth``, a folder that
            :meth:`save_pretrained` wrote, or a hub id
            (``"yann111/GlobalGeoTree"`` has the release's checkpoint).
        config : ReleaseConfig, optional
            Of a checkpoint of another size.

        Raises
        ------
        FileNotFoundError, ValueError
            No model there, or one that does not fit: all that is missing,
            left over or of another shape is listed.
        """
        path = (hub.checkpoint() if str(source) == hub.DATASET
                else store.find(source))
        if path.name == store.WEIGHTS and (path.parent / store.CARD).exists():
            path = path.parent  # the card has its hash
        if not path.is_file():
            model = super().from_pretrained(path)
            model.text_encoder.tokens.source = tokenizer
            model.normalization = (normalization
                                   or model.card.get("normalization"))
            return model
        model = cls(config, tokenizer=tokenizer, normalization=normalization)
        store.load_state(model, checkpoint.read(path), where=f"'{path}'")
        bad = [name for name, value in model.named_parameters()
               if not value.isfinite().all()]
        if bad:
            raise ValueError(f"'{path}' holds weights that are not finite: "
                             f"{', '.join(bad[:5])}. Take an earlier one.")
        return model.eval()

    def to_release(self, path: str | Path, *,
                   transformers: str = "4.31") -> Path:
        """Write a checkpoint for the release's own code.

        Parameters
        ----------
        transformers : str
            Version of the library that will read it. The default loads from
            4.31 to 5.5; from 5.6 on the release's code cannot build its
            model. Before 4.31 the text tower asks for a buffer of positions
            (``"4.24"`` gives the 433 entries of the published file); later
            ones refuse it, and so the published file. Here both are read.
        """
        old = [int(x) for x in transformers.split(".")[:2]] < [4, 31]
        state = {name: value.cpu() for name, value
                 in self.state_dict().items() if name not in _OWN}
        state = checkpoint.release_names(
            state, text_positions=self.config.positions if old else None)
        buffer = io.BytesIO()
        torch.save({"epoch": 0, "model_state_dict": state,
                    "optimizer_state_dict": {}, "scheduler_state_dict": {},
                    "train_loss": math.nan}, buffer)
        return files.write(path, buffer.getvalue())


# What our state has and the release's lacks.
_OWN = ("image_range", "aux_range", "logit_scale")


def _read_names(module, state_dict, prefix, *args) -> None:
    """Let ``load_state_dict`` take the release's names, as in its README.

    What the release's state lacks stays as it was; a whole model of the
    release is scored with the published factor.
    """
    found = checkpoint.our_names({
        name.removeprefix(prefix): state_dict.pop(name)
        for name in [*state_dict] if name.startswith(prefix)})
    own = module.state_dict()
    state = {name: own[name] for name in _OWN}
    if own.keys() - found.keys() == {*_OWN}:
        state["logit_scale"] = torch.tensor(math.log(SCORING))
    state_dict.update({prefix + name: value for name, value
                       in (state | found).items()})
