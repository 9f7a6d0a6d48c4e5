"""GeoTreeClip: the release's names, numbers and files, and none of its traps.

``Published`` is a second, plain reading of the published computation: it
shares nothing with the module but the weights.
"""

import io
import json
import math
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from geotree import CLIPContrastiveLoss, evaluation, taxonomy, variables
from geotree.release import checkpoint, prefixes, published as own_way, towers
from geotree.release.model import GeoTreeClip, ReleaseConfig
from geotree.release.towers import bare
from geotree.shards import Batch

TABLE = Path(__file__).parents[2] / "shared/data/released_state_dict.tsv"
SMALL = ReleaseConfig(vision_width=32, vision_depth=2, vision_heads=4,
                      month_heads=2, text_width=16, text_depth=2,
                      text_heads=2, hidden=8, vocabulary=700, positions=40)
LEVELS = ("level0", "level1_family", "level2_genus", "level3_species")
OWN = {"image_range", "aux_range", "logit_scale"}


class Published:
    """The published forward, written out step by step."""

    def __init__(self, state, config, tokenizer):
        self.w, self.c, self.tokenizer = state, config, tokenizer

    def linear(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, x, name):
        x = (x - x.mean(-1, keepdim=True)) / torch.sqrt(
            x.var(-1, keepdim=True, unbiased=False) + 1e-5)
        return x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def relu_layer(self, x, name):
        return self.norm(self.linear(x, f"{name}.0"), f"{name}.1").clamp(min=0)

    def attention(self, q, k, w, heads, hide_later=False):
        """One head after the other: (N, S, W)."""
        size, parts = q.shape[-1] // heads, []
        for h in range(heads):
            cut = slice(h * size, (h + 1) * size)
            score = q[..., cut] @ k[..., cut].transpose(1, 2) / math.sqrt(size)
            if hide_later:
                later = torch.ones(score.shape[-2:]).triu(1).bool()
                score = score.masked_fill(later, -math.inf)
            parts.append(torch.softmax(score, dim=-1) @ w[..., cut])
        return torch.cat(parts, dim=-1)

    def tower(self, x, name, depth, heads, hide_later):
        for i in range(depth):
            at = f"{name}.encoder.layers.{i}"
            y = self.norm(x, f"{at}.layer_norm1")
            q, k, w = (self.linear(y, f"{at}.self_attn.{p}_proj")
                       for p in "qkv")
            y = self.attention(q, k, w, heads, hide_later)
            x = x + self.linear(y, f"{at}.self_attn.out_proj")
            y = self.linear(self.norm(x, f"{at}.layer_norm2"), f"{at}.mlp.fc1")
            x = x + self.linear(y * torch.sigmoid(1.702 * y), f"{at}.mlp.fc2")
        return x

    def images(self, images, mask):
        """Batch extremes of each band, after missing months became 0."""
        out = torch.zeros_like(images)
        for band in range(images.shape[2]):
            x = images[:, :, band].clone()
            x[~mask] = 0
            low, high = x.min(), x.max()
            x = 2 * (x - low) / (high - low + 1e-6) - 1
            x[~mask] = 0
            out[:, :, band] = x
        return out

    def auxiliary(self, dictionaries, mask):
        order = (["longitude", "latitude", "elevation", "slope", "aspect",
                  "soil_moisture_0_5cm", "soil_moisture_5_15cm",
                  "soil_moisture_15_30cm"]
                 + [f"bio{i:02d}" for i in range(1, 20)])
        out = torch.zeros(mask.shape)
        for j, name in enumerate(order):
            valid = [i for i in range(len(mask)) if mask[i, j]]
            known = [dictionaries[i][name] for i in valid]
            low, high = (min(known), max(known)) if known else (0.0, 1.0)
            if abs(high - low) < 1e-6:
                high = low + 1.0
            for i in valid:
                out[i, j] = 2 * (dictionaries[i][name] - low) / (
                    high - low + 1e-6) - 1
        return out

    def year(self, images, mask):
        at = "temporal_extractor.clip_vit.model.vision_model"
        months = []
        for t in range(12):
            x = torch.nn.functional.interpolate(
                images[:, t], size=(16, 16), mode="bilinear",
                align_corners=False)
            kernel = self.w[f"{at}.embeddings.patch_embedding.weight"]
            patch = torch.einsum("ncij,kcij->nk", x, kernel)
            token = self.w[f"{at}.embeddings.class_embedding"]
            x = torch.stack([token.expand_as(patch), patch], dim=1)
            x = x + self.w[f"{at}.embeddings.position_embedding.weight"]
            x = self.norm(x, f"{at}.pre_layrnorm")
            x = self.tower(x, at, self.c.vision_depth, self.c.vision_heads,
                           False)
            months.append(x[:, 0] * mask[:, t, None])
        x = torch.stack(months, dim=1)
        at = "temporal_extractor.temporal_attention.attn"
        q, k, w = (x @ self.w[f"{at}.in_proj_weight"].T
                   + self.w[f"{at}.in_proj_bias"]).chunk(3, dim=-1)
        y = self.attention(q, k, w, self.c.month_heads)
        return self.linear(y, f"{at}.out_proj").mean(dim=1)

    def place(self, x):
        at = "auxiliary_encoder"
        parts = [self.relu_layer(x[:, a:b], f"{at}.{name}_encoder")
                 for name, a, b in (("geo", 0, 3), ("terrain", 3, 5),
                                    ("soil", 5, 8), ("bio", 8, 27))]
        return self.relu_layer(torch.cat(parts, dim=1), f"{at}.fusion")

    def text(self, dictionaries):
        from transformers import CLIPTokenizer

        lines = [" / ".join(d[name] for name in LEVELS) for d in dictionaries]
        reader = CLIPTokenizer.from_pretrained(self.tokenizer)
        ids = reader(lines, padding=True, return_tensors="pt")["input_ids"]
        at = "text_encoder.text_encoder.text_model"
        x = self.w[f"{at}.embeddings.token_embedding.weight"][ids]
        x = x + self.w[f"{at}.embeddings.position_embedding.weight"][
            :ids.shape[1]]
        x = self.tower(x, at, self.c.text_depth, self.c.text_heads, True)
        x = self.norm(x, f"{at}.final_layer_norm")
        first = [row.tolist().index(reader.eos_token_id) for row in ids]
        return torch.stack([x[i, first[i]] for i in range(len(ids))])

    def __call__(self, images, text_data, auxiliary_data, image_mask,
                 aux_mask):
        year = self.year(self.images(images, image_mask), image_mask)
        place = self.place(self.auxiliary(auxiliary_data, aux_mask))
        both = torch.cat([self.relu_layer(year, "image_projection"),
                          self.relu_layer(place, "aux_projection")], dim=1)
        return self.relu_layer(both, "fusion"), self.text(text_data)


@pytest.fixture
def classes(three_classes):
    return three_classes


@pytest.fixture(scope="module")
def vocabulary(three_classes, tmp_path_factory):
    return towers.train_tokens(taxonomy.prompts(three_classes),
                        tmp_path_factory.mktemp("tokens"), size=650)


def test_the_same_names_make_the_same_vocabulary(three_classes, tmp_path):
    files = [towers.train_tokens(taxonomy.prompts(three_classes),
                                 tmp_path / str(number)) / name
             for name in ("vocab.json", "merges.txt") for number in range(4)]
    assert len({path.read_bytes() for path in files}) == 2


def make(vocabulary, seed=0, **options):
    torch.manual_seed(seed)
    model = GeoTreeClip(SMALL, tokenizer=vocabulary, **options)
    with torch.no_grad():  # biases and norms that are not 0 and 1
        for p in model.parameters():
            if p.ndim:
                p.add_(0.1 * torch.randn_like(p))
    return model.eval()


@pytest.fixture(scope="module")
def model(vocabulary):
    return make(vocabulary, normalization="batch")


def as_release(batch, classes):
    """What the release's loader would yield for a batch."""
    images = torch.from_numpy(batch.images.astype(np.float32))
    images[torch.from_numpy(batch.images == variables.NODATA)] = math.nan
    rows = classes.iloc[batch.labels]
    text = [dict(zip(LEVELS, row, strict=True)) for row in
            rows[["leafType", "family", "genus", "species"]].to_numpy()]
    auxiliary = [
        {"sample_id": int(i)} | {
            name: 0 if np.isnan(x) else float(x)
            for name, x in zip(variables.VARIABLE_NAMES, row, strict=True)}
        for i, row in zip(batch.ids, batch.environment, strict=True)]
    return (images, text, auxiliary, ~images.isnan().flatten(2).all(2),
            torch.from_numpy(~np.isnan(batch.environment)))


def samples(n):
    rng = np.random.default_rng(0)
    images = rng.integers(100, 5000, (n, 12, 10, 5, 5)).astype(np.uint16)
    images[rng.random((n, 12)) < 0.3] = variables.NODATA
    environment = rng.normal(50, 8, (n, 27)).astype(np.float32)
    environment[:, 12] += 100  # bio05: colder than any wood, else
    environment[rng.random((n, 27)) < 0.2] = np.nan
    environment[:, 7] = np.nan  # nowhere known
    environment[:, 9] = 12.0  # the same everywhere
    return Batch(images, environment, rng.integers(0, 3, n),
                 np.arange(n, dtype=np.int64))


@pytest.fixture(scope="module")
def batch():
    return samples(8)


# The architecture -----------------------------------------------------------


def expected_names():
    """The 433 entries of the release's state, from its architecture."""
    def both(*names):
        return [f"{name}.{part}" for name in names
                for part in ("weight", "bias")]

    names = []
    for tower, norms in (("temporal_extractor.clip_vit.model.vision_model",
                          ("pre_layrnorm", "post_layernorm")),
                         ("text_encoder.text_encoder.text_model",
                          ("final_layer_norm",))):
        names += [f"{tower}.embeddings.position_ids",
                  f"{tower}.embeddings.position_embedding.weight"]
        for i in range(12):
            at = f"{tower}.encoder.layers.{i}"
            names += both(*(f"{at}.self_attn.{p}_proj"
                            for p in ("k", "v", "q", "out")),
                          f"{at}.layer_norm1", f"{at}.layer_norm2",
                          f"{at}.mlp.fc1", f"{at}.mlp.fc2")
        names += both(*(f"{tower}.{norm}" for norm in norms))
    names += [f"temporal_extractor.clip_vit.model.vision_model.embeddings.{x}"
              for x in ("class_embedding", "patch_embedding.weight")]
    names += ["text_encoder.text_encoder.text_model.embeddings."
              "token_embedding.weight"]
    at = "temporal_extractor.temporal_attention.attn"
    names += [f"{at}.in_proj_weight", f"{at}.in_proj_bias",
              *both(f"{at}.out_proj")]
    parts = [f"auxiliary_encoder.{x}" for x in (
        "geo_encoder", "terrain_encoder", "soil_encoder", "bio_encoder",
        "fusion")] + ["image_projection", "aux_projection", "fusion"]
    return names + both(*(f"{x}.{i}" for x in parts for i in (0, 1)))


@pytest.fixture(scope="module")
def full_state():
    """Names and shapes at the release's size; no memory is taken."""
    with torch.device("meta"):
        full = GeoTreeClip()
    assert sum(p.numel() for p in full.parameters()) == 153_880_321
    return checkpoint.release_names(
        {k: x for k, x in full.state_dict().items() if k not in OWN})


def test_the_names_are_those_of_the_release(full_state):
    assert len(full_state) == len(expected_names()) == 433
    assert set(full_state) == set(expected_names())


def test_names_and_shapes_are_those_of_the_published_file(full_state):
    if not TABLE.is_file():
        pytest.skip("the list of the published checkpoint is not at hand")
    rows = [line.split("\t") for line in TABLE.read_text().splitlines()]
    published = {row[0]: (json.loads(row[1]), row[2])
                 for row in rows if len(row) == 4}
    ours = {name: (list(x.shape), str(x.dtype).removeprefix("torch."))
            for name, x in full_state.items()}
    assert ours == published


# The published computation ---------------------------------------------------


@pytest.fixture(scope="module")
def published(model, vocabulary):
    state = checkpoint.release_names(
        {k: x for k, x in model.state_dict().items() if k not in OWN},
        text_positions=40)
    return Published(state, SMALL, vocabulary)


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_features_agree_with_the_published_computation(model, published,
                                                       batch, classes):
    inputs = as_release(batch, classes)
    for one, other in zip(model(*inputs), published(*inputs), strict=True):
        assert one.shape == (8, 16) and one.abs().max() > 0.1
        close(one, other)


@torch.no_grad()
def test_each_stage_agrees(model, published, batch, classes):
    images, text, auxiliary, image_mask, aux_mask = as_release(batch, classes)
    pixels = own_way.pixels(images, image_mask, "cpu")
    bands = own_way.band_range(pixels[0])
    assert (bands[0] == 0).all()  # missing months count as zero
    patches = own_way.scaled(*pixels, *bands[:, :, None, None])
    close(patches, published.images(images, image_mask))
    values = own_way.auxiliary(auxiliary, aux_mask, "cpu")
    others = own_way.scaled(*values, *own_way.variable_range(*values))
    close(others, published.auxiliary(auxiliary, aux_mask))
    close(model.temporal_extractor(patches, image_mask),
          published.year(patches, image_mask))
    close(model.auxiliary_encoder(others), published.place(others))
    close(model.text_encoder(text), published.text(text))


@torch.no_grad()
def test_what_the_release_feeds_and_what_we_store_agree(model, batch,
                                                        classes):
    combined, text = model(*as_release(batch, classes))
    close(model.encode_images(batch.images, batch.environment),
          torch.nn.functional.normalize(combined, dim=-1))
    close(model.encode_taxa(classes)[torch.as_tensor(batch.labels)],
          torch.nn.functional.normalize(text, dim=-1))


@torch.no_grad()
def test_padding_is_of_no_influence(model, classes):
    one = torch.cat([model.encode_taxa(classes.iloc[[i]]) for i in range(3)])
    close(one, model.encode_taxa(classes))


@torch.no_grad()
def test_equal_names_are_encoded_once_and_a_forward_is_one_pass(
        model, batch, classes):
    seen = []  # tokens
    hooks = [part.register_forward_hook(
        lambda module, args, kwargs, out: seen.append(
            out.last_hidden_state[..., 0].numel()), with_kwargs=True)
        for part in (model.text_encoder.text_encoder,
                     model.temporal_extractor.clip_vit.model)]
    inputs = as_release(batch, classes)
    model(*inputs)
    model.encode_taxa(classes.iloc[np.unique(batch.labels)])
    for hook in hooks:
        hook.remove()
    assert seen == [2 * int(inputs[3].sum()), seen[2], seen[2]]


def test_beginnings_that_texts_share_are_in_a_row_once():
    tokens, place, sees, ends = prefixes.share(
        np.array([[1, 2, 3], [1, 5, 0], [1, 2, 4], [1, 2, 3]]),
        np.array([3, 2, 3, 3]), 9)
    assert tokens.tolist() == [[1, 2, 3, 3, 4, 5]]
    assert place.tolist() == [[0, 1, 2, 2, 2, 1]]
    assert [np.flatnonzero(row).tolist() for row in sees[0]] == [
        [0], [0, 1], [0, 1, 2], [0, 1, 3], [0, 1, 4], [0, 5]]
    assert sorted(ends[[0, 3]]) == [2, 3]
    assert ends[1:3].tolist() == [5, 4]
    tokens, _, _, ends = prefixes.share(
        np.array([[1, 2, 3], [1, 2, 4]]), np.array([3, 3]), 3)
    assert tokens.tolist() == [[1, 2, 3], [1, 2, 4]]
    assert ends.tolist() == [2, 5]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_shared_beginnings_change_no_value_and_no_gradient(vocabulary,
                                                           attention):
    model = make(vocabulary)
    tower = model.text_encoder.text_encoder
    tower.config._attn_implementation = attention
    texts = [f"{kind} / {genus} {word}" for kind in ("Broadleaf", "Conifer")
             for genus in ("Acer", "Acerina", "Ulmus")
             for word in ("", "rubrum", "rubrumque", "nigra")]
    texts.append("nigra " * 40)  # is cut
    weights, sizes = [*tower.parameters()], []
    hook = tower.register_forward_hook(lambda module, args, out: sizes.append(
        out.last_hidden_state[..., 0].numel()))
    ids, mask = model.text_encoder.tokens(texts, "cpu")
    plain = tower(input_ids=ids, attention_mask=mask).last_hidden_state[
        torch.arange(len(ids)), mask.sum(dim=1) - 1]
    shared = model.text_encoder.tokens.ends(tower, texts, "cpu")
    hook.remove()
    assert sizes[1] < 0.5 * sizes[0]
    close(shared, plain)
    weight = torch.rand_like(plain)
    for one, other in zip(*(
            torch.autograd.grad((weight * found).sum(), weights)
            for found in (shared, plain)), strict=True):
        close(one, other)


@torch.no_grad()
def test_the_faults_of_the_release_are_kept_and_can_be_seen(model, batch):
    """Order of months, and dependence on the batch; see the book's page."""
    mixed = batch.images[:, ::-1]
    close(model.encode_images(mixed, batch.environment),
          model.encode_images(batch.images, batch.environment))
    alone = model.encode_images(batch.images[:1], batch.environment[:1])
    whole = model.encode_images(batch.images, batch.environment)[:1]
    assert (alone - whole).abs().max() > 0.01
    values = own_way.auxiliary(batch.environment[:1], None, "cpu")
    scaled = own_way.scaled(*values, *own_way.variable_range(*values))
    close(scaled[values[1]], torch.full((int(values[1].sum()),), -1.0))


@torch.no_grad()
def test_without_any_pixel_it_is_finite(model, batch):
    empty = np.full_like(batch.images, variables.NODATA)
    assert model.encode_images(empty, batch.environment).isfinite().all()


# Normalisation ---------------------------------------------------------------


@torch.no_grad()
def test_with_constants_a_prediction_is_alone(vocabulary, classes):
    data = samples(512)
    model = make(vocabulary, normalization="fixed")
    model.fit_normalisation(data)
    whole = evaluation.predict(model, data, classes, batch_size=512)
    for size in (1, 7):
        parts = evaluation.predict(model, data, classes, batch_size=size)
        np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_constants_are_the_mean_extremes_of_batches(vocabulary):
    data = samples(20)
    model = make(vocabulary)
    model.fit_normalisation(data, batch_size=10)
    dn = np.where(data.images == variables.NODATA, 0, data.images)
    high = np.mean([dn[i::2, :, 3].max() for i in (0, 1)])
    assert model.image_range[1, 3].item() == pytest.approx(high)
    low = np.mean([np.nanmin(data.environment[i::2, 4]) for i in (0, 1)])
    assert model.aux_range[0, 4].item() == pytest.approx(low, rel=1e-5)


def test_scaling_by_the_batch_is_warned_of_and_fixed_needs_constants(
        vocabulary, batch):
    model = make(vocabulary)
    with pytest.warns(UserWarning, match="fit_normalisation"):
        model.encode_images(batch.images, batch.environment)
    model.normalization = "fixed"
    with pytest.raises(ValueError, match="has no constants"):
        model.encode_images(batch.images, batch.environment)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.normalization = "batch"
        model.encode_images(batch.images, batch.environment)
        model.normalization = None
        model.fit_normalisation(batch)
        model.encode_images(batch.images, batch.environment)
    with pytest.raises(ValueError, match="expected one of None, 'batch'"):
        GeoTreeClip(SMALL, tokenizer=vocabulary, normalization="none")


# Files --------------------------------------------------------------------


@pytest.fixture
def pth(model, tmp_path):
    return model.to_release(tmp_path / "GGT_6M.pth", transformers="4.24.0")


def read(path, vocabulary, **options):
    return GeoTreeClip.from_pretrained(path, tokenizer=vocabulary,
                                       config=SMALL, **options)


def same(one, other, batch, classes):
    inputs = as_release(batch, classes)
    with torch.no_grad():
        for a, b in zip(one(*inputs), other(*inputs), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_checkpoint_of_the_release_is_read_and_written(
        model, pth, vocabulary, batch, classes):
    content = torch.load(pth, weights_only=True)
    assert list(content) == ["epoch", "model_state_dict",
                             "optimizer_state_dict", "scheduler_state_dict",
                             "train_loss"]
    names = set(content["model_state_dict"])
    depth = {name for name in expected_names()
             if not any(f"layers.{i}." in name for i in range(2, 12))}
    assert names == depth
    again = read(pth, vocabulary, normalization="batch")
    same(model, again, batch, classes)
    assert again.scale().item() == pytest.approx(100)  # as it is scored
    assert not again.training


def published_state(model, positions=40):
    return checkpoint.release_names(
        {k: x for k, x in model.state_dict().items() if k not in OWN},
        text_positions=positions)


@pytest.mark.parametrize("towers", [True, False], ids=["v4", "v5"])
@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("added", ["", "module.", "_orig_mod.",
                                   "module._orig_mod.", "_orig_mod.module.",
                                   "model.", "_fsdp_wrapped_module."])
def test_names_of_all_ways_to_train_load(model, vocabulary, batch, classes,
                                         tmp_path, towers, positions, added):
    state = published_state(model, 40 if positions else None)
    if not towers:
        state = {k.replace("vision_model.", "").replace("text_model.", ""): x
                 for k, x in state.items()}
    state = {added + name: value for name, value in state.items()}
    path = tmp_path / "model.pth"
    torch.save({"model_state_dict": state}, path)
    same(model, read(path, vocabulary, normalization="batch"), batch, classes)
    fresh = make(vocabulary, seed=1, normalization="batch")
    fresh.load_state_dict(state)  # as the release's README does
    same(model, fresh, batch, classes)
    assert fresh.scale().item() == pytest.approx(100)


@pytest.mark.parametrize("under", ["state_dict", "model", None, "lone"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16,
                                  torch.bfloat16])
def test_other_places_types_and_files_load(model, vocabulary, batch, classes,
                                           tmp_path, under, kind):
    state = {name: value.to(kind) if value.is_floating_point() else value
             for name, value in published_state(model).items()}
    path = tmp_path / "model.pth"
    if under == "lone":
        path = path.with_suffix(".safetensors")
        save_file(state, path)
    else:
        torch.save({under: state, "epoch": 3} if under else state, path)
    found = read(path, vocabulary, normalization="batch")
    expected = make(vocabulary, seed=1, normalization="batch")
    expected.load_state_dict({name: value.float() if value.is_floating_point()
                              else value for name, value in state.items()})
    same(expected, found, batch, classes)


def test_a_part_of_a_state_leaves_the_rest_as_it_was(model, vocabulary):
    fresh = make(vocabulary, seed=1, temperature=0.2)
    before = {name: x.clone() for name, x in fresh.state_dict().items()}
    assert fresh.scale().item() == pytest.approx(5)
    assert fresh.temperature == 1  # that of answers is another
    part = {name: x for name, x in published_state(model).items()
            if name.startswith("text_encoder")}
    left = fresh.load_state_dict(part, strict=False)
    assert not left.unexpected_keys and "fusion.0.bias" in left.missing_keys
    ours = checkpoint.our_names(part)
    for name, value in fresh.state_dict().items():
        torch.testing.assert_close(value, ours.get(name, before[name]),
                                   rtol=0, atol=0, equal_nan=True)
    wrapped = torch.nn.ModuleDict({"module": fresh})  # as DDP has it
    wrapped.load_state_dict({f"module.{name}": x for name, x
                             in published_state(model).items()})
    torch.testing.assert_close(fresh.fusion[0].bias, model.fusion[0].bias)


def test_two_entries_for_one_weight_are_refused(pth, vocabulary):
    content = torch.load(pth, weights_only=True)
    content["model_state_dict"]["module.fusion.0.bias"] = torch.ones(16)
    torch.save(content, pth)
    with pytest.raises(ValueError, match="fusion.0.bias, which is there"):
        read(pth, vocabulary)


def test_what_claims_more_than_it_holds_takes_no_memory(pth, vocabulary):
    content = torch.load(pth, weights_only=True)
    content["model_state_dict"]["fusion.0.bias"] = torch.zeros(1).expand(
        100_000, 100_000)  # 40 GB
    torch.save(content, pth)
    with pytest.raises(ValueError, match=r"fusion.0.bias, \(100000, 100000"):
        read(pth, vocabulary)
    content["model_state_dict"]["fusion.0.bias"] = torch.full((16,), math.nan)
    torch.save(content, pth)
    with pytest.raises(ValueError, match="not finite: fusion.0.bias"):
        read(pth, vocabulary)


@pytest.mark.parametrize("kind", ["checkpoint", "folder"])
def test_a_flipped_bit_is_found_or_of_no_effect(kind, vocabulary, tmp_path):
    """500 of each; in the folder, of both files."""
    tiny = ReleaseConfig(8, 1, 2, 2, 8, 1, 2, 4, 700, 40)
    torch.manual_seed(0)
    model = GeoTreeClip(tiny, tokenizer=vocabulary)
    before, rng = model.state_dict(), np.random.default_rng(0)
    if kind == "checkpoint":
        source = model.to_release(tmp_path / "a.pth")
        paths = [source]
    else:
        source = model.save_pretrained(tmp_path / "a")
        paths = sorted(source.iterdir())
    found = 0
    for number in range(500):
        path = paths[number % len(paths)]
        whole = path.read_bytes()
        data = bytearray(whole)
        # Half of the flips beside the weights, where the structure is.
        place = int(rng.integers(len(data)) if number % 4 < 2 else
                    len(data) - 1 - rng.integers(min(len(data), 20_000)))
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            again = GeoTreeClip.from_pretrained(source, tokenizer=vocabulary,
                                                config=tiny).state_dict()
        except (ValueError, FileNotFoundError):
            found += 1
        else:
            assert all(torch.equal(again[name], value) for name, value
                       in before.items() if name not in OWN), place
        path.write_bytes(whole)
    assert found > 400


# Types and devices ----------------------------------------------------------


class No64(TorchDispatchMode):
    """A device without numbers of 64 bits, as Apple's."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, torch.Tensor) and x.dtype == torch.float64:
                raise TypeError(f"{function} makes float64")
        return out


def test_no_step_needs_float64(vocabulary, batch, classes):
    model = make(vocabulary, normalization="batch")
    inputs = as_release(batch, classes)
    with No64():
        combined, text = model(*inputs)
        CLIPContrastiveLoss()(combined, text).backward()
        model.fit_normalisation(batch)
        model(batch.images, batch.environment, classes).sum().backward()
    with No64(), pytest.raises(TypeError, match="makes float64"):
        torch.zeros(1, dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "least"), [
    (torch.float16, 0.99), (torch.bfloat16, 0.85)])  # 11 and 8 bits
def test_half_the_bits_give_nearly_the_same(model, vocabulary, batch, classes,
                                            kind, least):
    inputs = as_release(batch, classes)
    half = make(vocabulary, normalization="batch").to(kind)
    with torch.autocast("cpu", dtype=kind):
        cast = model(*inputs)
    for found in (half(*inputs), cast):
        for one, other in zip(found, model(*inputs), strict=True):
            near = torch.nn.functional.cosine_similarity(
                one.float(), other, dim=-1)
            assert one.isfinite().all() and near.min() > least
    half.fit_normalisation(batch)
    half.normalization = "fixed"
    assert half(batch.images, batch.environment, classes).isfinite().all()


@torch.no_grad()
def test_it_can_be_compiled(model, batch, classes):
    """Names are read outside of the graph, the towers are within."""
    inputs = as_release(batch, classes)
    compiled = torch.compile(model, backend="aot_eager")
    for one, other in zip(compiled(*inputs), model(*inputs), strict=True):
        close(one, other)
    torch._dynamo.reset()


@pytest.mark.parametrize(("options", "count"), [
    ({"transformers": "4.24.0"}, 2), ({"transformers": "4.30.2"}, 2),
    ({"transformers": "4.31.0"}, 1), ({"transformers": "5.0.0"}, 1), ({}, 1)])
def test_a_checkpoint_suits_the_version_that_reads_it(model, tmp_path,
                                                      options, count):
    """The text tower has its positions in the state until 4.31."""
    path = model.to_release(tmp_path / "new.pth", **options)
    names = [name for name in torch.load(path, weights_only=True)[
        "model_state_dict"] if name.endswith("position_ids")]
    assert len(names) == count and "clip_vit" in names[0]


def test_our_folder_keeps_constants_and_card(vocabulary, batch, classes,
                                             tmp_path):
    model = make(vocabulary, normalization="fixed")
    model.fit_normalisation(batch)
    folder = model.save_pretrained(tmp_path / "model", card={"data": "test"})
    again = GeoTreeClip.from_pretrained(folder, tokenizer=vocabulary)
    assert again.card["data"] == "test" and again.normalization == "fixed"
    same(model, again, batch, classes)
    weights = sum(x.numel() for x in model.state_dict().values()) * 4
    size = (folder / "model.safetensors").stat().st_size
    assert weights < size < weights + 20_000


@pytest.mark.parametrize(("change", "message"), [
    (lambda s: s.pop("fusion.0.bias"), "Missing key.*fusion.0.bias"),
    (lambda s: s.update(extra=torch.ones(1)), "Unexpected key.*extra"),
    (lambda s: s.update({"fusion.0.bias": torch.ones(3)}),
     r"size mismatch for fusion.0.bias.*\[3\].*\[16\]")])
def test_what_does_not_fit_is_listed(pth, vocabulary, change, message):
    content = torch.load(pth, weights_only=True)
    change(content["model_state_dict"])
    torch.save(content, pth)
    with pytest.raises(ValueError, match=message):
        read(pth, vocabulary)


class Trap:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return io.open, (self.path, "w")


@pytest.mark.parametrize("kind", ["text", "empty", "pickle", "zip", "bomb",
                                  "cut", "other"])
def test_a_file_that_is_no_checkpoint_is_refused_and_never_run(
        pth, vocabulary, tmp_path, kind):
    trapped, whole = tmp_path / "trapped", pth.read_bytes()
    if kind == "text":
        pth.write_text("<!doctype html>\n<html>not found</html>\n")
    elif kind == "empty":
        pth.write_bytes(b"")
    elif kind == "pickle":
        pth.write_bytes(pickle.dumps({"model_state_dict": Trap(trapped)}))
    elif kind == "zip":
        torch.save({"model_state_dict": Trap(trapped)}, pth)
    elif kind == "bomb":
        with (zipfile.ZipFile(io.BytesIO(whole)) as old,
              zipfile.ZipFile(pth, "w", zipfile.ZIP_DEFLATED) as new):
            for name in old.namelist():
                new.writestr(name, old.read(name))
            new.writestr("archive/data/big", bytes(50_000_000))
        assert pth.stat().st_size < 1_000_000
    elif kind == "cut":
        pth.write_bytes(whole[:len(whole) // 2])
    else:
        torch.save([1, 2, 3], pth)
    with pytest.raises(ValueError, match=r"GGT_6M\.pth.*(checkpoint|holds)"):
        read(pth, vocabulary)
    assert not trapped.exists()


def test_nothing_there(vocabulary, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoint.read(tmp_path / "GGT_6M.pth")
    with pytest.raises(OSError, match=r"vocab\.json"):
        make(tmp_path).encode_taxa(pd.DataFrame(
            {"leafType": ["a"], "family": ["b"], "genus": ["c"],
             "species": ["d"]}))


def test_wrong_inputs_are_errors(model, batch, classes):
    images, text, auxiliary, image_mask, aux_mask = as_release(batch, classes)
    with pytest.raises(ValueError, match="10 bands"):
        model(images[:, :, :9], text, auxiliary, image_mask, aux_mask)
    with pytest.raises(ValueError, match="lacks elevation"):
        model(images, text, [{k: x for k, x in row.items()
                              if k != "elevation"} for row in auxiliary],
              image_mask, aux_mask)
    with pytest.raises(ValueError, match="image_mask has shape"):
        model(images, text, auxiliary, image_mask[:, :3], aux_mask)
    with pytest.raises(ValueError, match="Multiply reflectance by 10,000"):
        model(images / 10_000, text, auxiliary, image_mask, aux_mask)
    for sign in (-9999, 65535, math.inf):
        with pytest.raises(ValueError, match="expected digital numbers"):
            model(images.nan_to_num(sign), text, auxiliary, image_mask,
                  aux_mask)
    with pytest.raises(ValueError, match="int16"):
        model.encode_images(batch.images.astype(np.int16), batch.environment)
    with pytest.raises(ValueError, match="level1_family"):
        model(images, [{"level0": "Plantae"}], auxiliary, image_mask,
              aux_mask)


def test_a_vocabulary_too_large_is_refused(vocabulary, classes):
    small = ReleaseConfig(**{**vars(SMALL), "vocabulary": 520})
    with pytest.raises(ValueError, match="do not belong together"):
        GeoTreeClip(small, tokenizer=vocabulary).encode_taxa(classes)


def test_inputs_stay_as_they_are(model, batch):
    before = batch.images.copy(), batch.environment.copy()
    model.encode_images(batch.images, batch.environment)
    np.testing.assert_array_equal(before[0], batch.images)
    np.testing.assert_array_equal(before[1], batch.environment)


def test_a_trained_vocabulary_reads_as_it_was_trained(vocabulary):
    reader = towers.TextReader(vocabulary, 700, 40)
    ids, mask = reader(["Pinus nigra", "Acer  RUBRUM ž"], "cpu")
    again, _ = reader(["acer rubrum ž"], "cpu")
    assert ids[1, :mask[1].sum()].tolist() == again[0].tolist()
    assert mask.shape == ids.shape and mask.min() == 0


def test_the_text_tower_starts_from_the_weights_of_clip(vocabulary, tmp_path,
                                                        classes):
    from transformers import CLIPTextModel

    model, other = make(vocabulary, 1), make(vocabulary, 2)
    tower = other.text_encoder.text_encoder
    whole = CLIPTextModel(tower.config)
    bare(whole).load_state_dict(tower.state_dict())
    whole.save_pretrained(tmp_path)
    assert not torch.allclose(model.encode_taxa(classes),
                              other.encode_taxa(classes), atol=1e-3)
    before = model.fusion[0].weight.clone()
    model.load_text_tower(tmp_path)
    torch.testing.assert_close(model.encode_taxa(classes),
                               other.encode_taxa(classes))
    assert torch.equal(before, model.fusion[0].weight)
