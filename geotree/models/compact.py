"""The compact model: a year of pixels, a place and a name in one space.

An image encoder and a name encoder give unit vectors; the cosine of the
two, times a learnable scale, says how well a species fits a place. Twelve
month tokens and four tokens of environment go through a small transformer
that never looks at what is missing. Bands and neighbouring pixels nearly
repeat each other, and species differ in what is left: so months are whitened
first. Chapter 05.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geotree import checks, variables as v
from geotree.models import store
from geotree.models.parts import RINGS, NameEncoder, moments, whitening

_PIXELS = v.PATCH * v.PATCH
_FAR = 8.0  # standard deviations, at which values are cut off
_MILLIMETRES = [i for i, x in enumerate(v.VARIABLES) if x.unit == "mm"]
_LON, _LAT, _ASPECT = map(v.VARIABLE_NAMES.index,
                          ("longitude", "latitude", "aspect"))
_FREQUENCIES = (2, 4, 8, 16)  # of the Fourier terms, per radius of the Earth


@dataclass(frozen=True)
class CompactConfig:
    """Size and switches of :class:`CompactClip`."""

    width: int = 128  # of a token
    depth: int = 3  # blocks; from the second on, the summary alone reads
    heads: int = 4
    expansion: int = 2  # hidden width of a block / width
    embedding: int = 128  # D, of the space shared with the names
    buckets: int = 4096  # rows of the table of hashed names
    rank_dropout: float = 0.1  # chance that a name is cut to its genus
    month_code: bool = True  # False: as the release, blind to the order
    mask_missing: bool = True  # False: as the release, attends to the missing


class Block(nn.Module):
    """Pre-norm transformer block; ``query`` limits the tokens it returns."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.output = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor, mask: Tensor, queries: int) -> Tensor:
        """(B, S, width) → (B, queries, width): the first ``queries`` tokens;
        ``mask`` (B, 1, 1, S) is True where a token may be attended to.
        """
        shape = (self.heads, x.shape[2] // self.heads)
        y = self.norm_attention(x)
        q = self.query(y[:, :queries]).unflatten(2, shape).transpose(1, 2)
        k, w = (part.unflatten(2, shape).transpose(1, 2)
                for part in self.key_value(y).chunk(2, dim=-1))
        y = F.scaled_dot_product_attention(q, k, w, attn_mask=mask)
        x = x[:, :queries] + self.output(y.transpose(1, 2).flatten(2))
        return x + self.contract(F.gelu(self.expand(self.norm_mlp(x))))


class Tokens(NamedTuple):
    """What the transformer reads: summary, months, groups."""

    values: Tensor  # (B, 1 + 12 + 4, width)
    present: Tensor  # (B, 1 + 12 + 4) bool


class CompactClip(store.Whole, nn.Module):
    """Contrastive model of places and species names.

    Parameters
    ----------
    config : CompactConfig, optional
    seed : int, optional
        Of the initial weights; default: torch's random state, as ever.

    Examples
    --------
    >>> model = CompactClip(CompactConfig(width=64))
    >>> model.fit_normalisation(train.load())  # once, before training
    >>> logits = model(batch.images, batch.environment, classes)  # (B, K)
    """

    Config = CompactConfig

    def __init__(self, config: CompactConfig | None = None, *,
                 seed: int | None = None) -> None:
        super().__init__()
        self.seed, self.config = seed, checks.sizes(
            config or CompactConfig(), CompactConfig, heads="width")
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                checks.rng(seed)
                torch.manual_seed(seed)
            self._build(self.config)

    def _build(self, config: CompactConfig) -> None:
        width, bands = config.width, len(v.BANDS)
        # Values and missing flags of each group, and what is worked out.
        sizes = {name: 2 * (part.stop - part.start)
                 for name, part in v.GROUPS.items()}
        sizes["location"] += 3 + 6 * len(_FREQUENCIES)
        sizes["terrain"] += 2
        rings = bands * RINGS.shape[1]
        # Constants of the normalisation travel with the weights.
        for name, size in (("band", bands), ("variable", len(v.VARIABLES))):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.register_buffer("ring_mean", torch.zeros(rings))
        self.register_buffer("ring_whiten",
                             torch.zeros(rings, rings).fill_diagonal_(1))
        self.month = nn.Linear(rings + bands * _PIXELS, width)
        self.month_code = nn.Embedding(v.MONTHS, width)
        self.season_code = nn.Embedding(v.MONTHS, width)
        sizes["all"] = sum(sizes.values())
        self.groups = nn.ModuleDict({
            name: nn.Sequential(nn.Linear(size, width), nn.GELU(),
                                nn.Linear(width, width))
            for name, size in sizes.items()})
        self.summary = nn.Parameter(torch.zeros(width))
        self.mix, *readers = (Block(width, config.heads, config.expansion)
                              for _ in range(config.depth))
        self.readers = nn.ModuleList(readers)
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, config.embedding)
        self.names = NameEncoder(config.embedding, config.buckets,
                                 config.rank_dropout)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        for code in (self.month_code, self.season_code):
            nn.init.normal_(code.weight, std=0.5)
            code.requires_grad_(config.month_code)  # unused: not trained
        nn.init.normal_(self.summary, std=0.02)

    @property
    def device(self) -> torch.device:
        return self.logit_scale.device

    @property
    def fitted(self) -> bool:
        """Whether the constants of the normalisation are known."""
        return bool((self.band_mean != 0).any())

    @torch.no_grad()
    def fit_normalisation(self, batch) -> None:
        """Set the constants from training samples (a ``shards.Batch``).

        Mean and standard deviation of the logarithm of reflectance for each
        band and each variable, over what is not missing; what whitens rings.
        Saved with the weights: a prediction never depends on its batch.
        """
        pixels, valid = self._pixels(batch.images)
        if not valid.any():
            raise ValueError(
                f"all {len(pixels):,} samples have no valid pixel: nothing "
                "to normalise by. Are the images' missing values 65535?")
        self.band_mean, self.band_std = moments(*(
            one.permute(0, 1, 3, 2).flatten(0, 2) for one in (pixels, valid)))
        self.variable_mean, self.variable_std = moments(
            *self._variables(batch.environment))
        with torch.autocast(self.device.type, enabled=False):
            _, rings, seen = self._rings(batch.images)
        self.ring_mean, self.ring_whiten = whitening(rings[seen])

    def _pixels(self, images) -> tuple[Tensor, Tensor]:
        """(B, T, C, H, W) integers → log values (B, T, C, 25) and validity."""
        checks.one_of(self.summary.dtype, [torch.float32], name="model.dtype")
        if not self.training:  # the loop hides parts of what was checked
            checks.images(images)
        dn = torch.as_tensor(images).to(self.device, torch.float32).flatten(3)
        # The logarithm turns brightness into an offset; 100 is a
        # reflectance of 0.01, below which a difference is noise.
        return torch.log(dn + 100.0), dn != v.NODATA

    def _variables(self, environment) -> tuple[Tensor, Tensor]:
        """(B, V) raw variables → transformed values and validity."""
        checks.environment(environment)
        values = torch.as_tensor(environment).to(
            self.device, torch.float32, copy=True)
        known = values.isfinite()
        values[~known] = 0.0
        rain = values[:, _MILLIMETRES].clamp(min=0)
        values[:, _MILLIMETRES] = torch.log1p(rain)
        return values, known

    def _rings(self, images) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels (B, T, C·25) against their patch, means of its rings
        (B, T, C·R), and months present (B, T).
        """
        pixels, valid = self._pixels(images)
        pixels = (pixels - self.band_mean[:, None]) / self.band_std[:, None]
        count = valid.sum(-1, keepdim=True)
        mean = (pixels * valid).sum(-1, keepdim=True) / count.clamp(min=1)
        pixels = torch.where(valid, pixels, mean)  # gaps: mean of the patch
        return ((pixels - mean).flatten(2),
                (pixels @ RINGS.to(self.device)).flatten(2),
                (count > 0).any(dim=2).squeeze(-1))

    def _months(self, images) -> tuple[Tensor, Tensor]:
        """White rings and pixels (B, T, C·(R + 25)), and months present."""
        pixels, rings, seen = self._rings(images)
        white = (rings - self.ring_mean) @ self.ring_whiten
        return torch.cat([white.clamp(-_FAR, _FAR), pixels], dim=-1), seen

    def _environment(self, environment) -> tuple[dict[str, Tensor], Tensor]:
        """Values ⊕ missing flags of each group, and groups present (B, 4)."""
        raw, known = self._variables(environment)
        values = known * ((raw - self.variable_mean)
                          / self.variable_std).clamp(-_FAR, _FAR)
        lon, lat, aspect = (torch.deg2rad(raw[:, i])
                            for i in (_LON, _LAT, _ASPECT))
        sphere = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(),
                              lat.sin()], dim=-1)
        waves = torch.cat([f(k * sphere) for k in _FREQUENCIES
                           for f in (torch.sin, torch.cos)], dim=-1)
        placed = (known[:, _LON] & known[:, _LAT])[:, None]
        turns = torch.stack([aspect.sin(), aspect.cos()], dim=-1)
        extra = {"location": torch.cat([sphere, waves], dim=-1) * placed,
                 "terrain": turns * known[:, _ASPECT, None]}
        groups = {
            name: torch.cat([values[:, part], (~known[:, part]).float(),
                             *([extra[name]] if name in extra else [])], -1)
            for name, part in v.GROUPS.items()}
        groups["all"] = torch.cat(list(groups.values()), dim=-1)
        present = [known[:, part].any(-1) for part in v.GROUPS.values()]
        return groups, torch.stack(present, dim=-1)

    def tokens(self, images, environment) -> Tokens:
        """Month and group tokens of a batch, with what is present."""
        checks.rows(images=images, environment=environment)
        pixels, months = self._months(images)
        groups, known = self._environment(environment)
        x = self.month(pixels)  # (B, T, width)
        if self.config.month_code:
            # The month of the local year: July is winter in the south.
            lat = torch.as_tensor(environment[:, _LAT]).to(self.device)
            north = self.season_code.weight
            season = torch.where((lat < 0)[:, None, None],
                                 north.roll(v.MONTHS // 2, 0), north)
            placed = known[:, 0] & lat.isfinite()
            x = x + self.month_code.weight + season * placed[:, None, None]
        *place, together = (layer(groups[name])
                            for name, layer in self.groups.items())
        summary = (self.summary + together)[:, None]  # all groups at once
        values = torch.cat([summary, x, torch.stack(place, dim=1)], dim=1)
        always = torch.ones_like(months[:, :1])
        return Tokens(values, torch.cat([always, months, known], dim=1))

    def encode_images(self, images, environment) -> Tensor:
        """Unit vectors of samples.

        Parameters
        ----------
        images : (B, T, C, H, W) uint16 or int32, tensor or array
            Digital numbers; 65535 is missing.
        environment : (B, V) float32, tensor or array
            In stored units (``variables.VARIABLES``); NaN is missing.

        Returns
        -------
        (B, D) float32, of length 1
        """
        values, present = self.tokens(images, environment)
        mask = (present if self.config.mask_missing
                else torch.ones_like(present))[:, None, None]
        values = self.mix(values, mask, values.shape[1])
        # Months and groups look at each other once. Then the summary alone
        # reads on: no worse, and a fifth less work.
        for block in self.readers:
            summary = block(values, mask, 1)
            values = torch.cat([summary, values[:, 1:]], dim=1)
        return F.normalize(self.project(self.norm(values[:, 0])).float(),
                           dim=-1)

    def encode_taxa(self, classes: pd.DataFrame) -> Tensor:
        """Unit vectors (K, D) of the rows of a class table, seen or not."""
        names = self.names(self.names.read(classes))
        return F.normalize(names.float(), dim=-1)

    def forward(self, images, environment, classes) -> Tensor:
        """Logits (B, K) over the rows of ``classes``."""
        return (self.scale() * self.encode_images(images, environment)
                @ self.encode_taxa(classes).T)

    def scale(self) -> Tensor:
        """Factor of the cosines, at most 100 as in CLIP."""
        return self.logit_scale.clamp(max=math.log(100.0)).exp()
