"""CLIP as a baseline: true colour that does not wrap, weights that fit."""

import math
from pathlib import Path

import jupytext
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPConfig

from geotree import baselines, checks, evaluation, taxonomy
from geotree.release import clip, towers
from geotree.release.clip import ClipBaseline
from geotree.shards import Batch
from geotree.variables import BAND_NAMES, NODATA

ROOT = Path(__file__).parents[1]
WIDTH, HEAD, PATCH, GRID, DEPTH, SHARED = 32, 16, 4, 3, 2, 24


@pytest.fixture
def classes(three_classes):
    return three_classes


@pytest.fixture(scope="module")
def vocabulary(three_classes, tmp_path_factory):
    return towers.train_tokens(taxonomy.prompts(three_classes),
                        tmp_path_factory.mktemp("tokens"), size=590)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 6000, (9, 12, 10, 5, 5)).astype(np.uint16)
    images[rng.random((9, 12)) < 0.4] = NODATA
    return Batch(images, np.zeros((9, 27), np.float32),
                 rng.integers(0, 3, 9), np.arange(9))


def block(at, width):
    shapes = {"ln_1.weight": (width,), "ln_1.bias": (width,),
              "ln_2.weight": (width,), "ln_2.bias": (width,),
              "attn.in_proj_weight": (3 * width, width),
              "attn.in_proj_bias": (3 * width,),
              "attn.out_proj.weight": (width, width),
              "attn.out_proj.bias": (width,),
              "mlp.c_fc.weight": (4 * width, width),
              "mlp.c_fc.bias": (4 * width,),
              "mlp.c_proj.weight": (width, 4 * width),
              "mlp.c_proj.bias": (width,)}
    return {f"{at}.{name}": shape for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def state():
    """Random weights with the names that open_clip gives."""
    shapes = {"positional_embedding": (40, WIDTH),
              "text_projection": (WIDTH, SHARED),
              "token_embedding.weight": (600, WIDTH),
              "ln_final.weight": (WIDTH,), "ln_final.bias": (WIDTH,),
              "visual.class_embedding": (48,),
              "visual.positional_embedding": (GRID ** 2 + 1, 48),
              "visual.proj": (48, SHARED),
              "visual.conv1.weight": (48, 3, PATCH, PATCH)}
    for name in ("ln_pre", "ln_post"):
        shapes |= {f"visual.{name}.weight": (48,),
                   f"visual.{name}.bias": (48,)}
    for i in range(DEPTH):
        shapes |= block(f"transformer.resblocks.{i}", WIDTH)
        shapes |= block(f"visual.transformer.resblocks.{i}", 48)
    generator = torch.Generator().manual_seed(0)
    found = {name: 0.3 * torch.randn(shape, generator=generator)
             for name, shape in shapes.items()}
    return found | {"logit_scale": torch.tensor(math.log(20.0))}


@pytest.fixture(scope="module")
def path(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("remote") / "RemoteCLIP-ViT-B-32.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def model(path, vocabulary):
    return ClipBaseline.from_open_clip(path, tokenizer=vocabulary,
                                       config=small())


def small():
    """The configuration of ``state``."""
    def tower(width, **sizes):
        return {"hidden_size": width, "intermediate_size": 4 * width,
                "num_attention_heads": width // HEAD,
                "num_hidden_layers": DEPTH, "hidden_act": "gelu", **sizes}

    return CLIPConfig(
        projection_dim=SHARED, text_config=tower(
            WIDTH, vocab_size=600, max_position_embeddings=40,
            bos_token_id=598, eos_token_id=599),
        vision_config=tower(48, patch_size=PATCH, image_size=GRID * PATCH))


class OpenClip:
    """open_clip's forward, written out."""

    def __init__(self, state):
        self.w = state

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"],
                            self.w[f"{name}.bias"])

    def blocks(self, x, at, mask=None):
        for i in range(DEPTH):
            name = f"{at}transformer.resblocks.{i}"
            part = {key.removeprefix(f"{name}."): value
                    for key, value in self.w.items() if key.startswith(name)}
            y = self.norm(x, f"{name}.ln_1").transpose(0, 1)
            y, _ = F.multi_head_attention_forward(
                y, y, y, x.shape[-1], x.shape[-1] // HEAD,
                part["attn.in_proj_weight"], part["attn.in_proj_bias"], None,
                None, False, 0.0, part["attn.out_proj.weight"],
                part["attn.out_proj.bias"], attn_mask=mask)
            x = x + y.transpose(0, 1)
            y = F.linear(self.norm(x, f"{name}.ln_2"),
                         part["mlp.c_fc.weight"], part["mlp.c_fc.bias"])
            x = x + F.linear(F.gelu(y), part["mlp.c_proj.weight"],
                             part["mlp.c_proj.bias"])
        return x

    def image(self, pixels):
        x = F.conv2d(pixels, self.w["visual.conv1.weight"], stride=PATCH)
        x = x.flatten(2).transpose(1, 2)
        first = self.w["visual.class_embedding"].expand(len(x), 1, -1)
        x = torch.cat([first, x], dim=1)
        x = self.norm(x + self.w["visual.positional_embedding"],
                      "visual.ln_pre")
        x = self.blocks(x, "visual.")[:, 0]
        return self.norm(x, "visual.ln_post") @ self.w["visual.proj"]

    def text(self, ids):
        size = ids.shape[1]
        x = (self.w["token_embedding.weight"][ids]
             + self.w["positional_embedding"][:size])
        mask = torch.full((size, size), -math.inf).triu(1)
        x = self.norm(self.blocks(x, "", mask), "ln_final")
        return x[torch.arange(len(ids)), ids.argmax(dim=-1)
                 ] @ self.w["text_projection"]


def by_hand(images, sample, month):
    """Three bands of one month as open_clip would be shown them."""
    bands = [BAND_NAMES.index(name) for name in ("B4", "B3", "B2")]
    rgb = torch.from_numpy(images[sample, month, bands] / 10_000 / 0.3)
    x = F.interpolate(rgb.clamp(0, 1).float()[None], (GRID * PATCH,) * 2,
                      mode="bicubic").clamp(0, 1)[0]
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    return (x - mean[:, None, None]) / std[:, None, None]


@torch.no_grad()
def test_images_agree_with_open_clip(model, state, batch):
    found = model.encode_images(batch.images)
    for i in range(9):
        months = [t for t in range(12)
                  if (batch.images[i, t] != NODATA).any()]
        pixels = torch.stack([by_hand(batch.images, i, t) for t in months])
        each = F.normalize(OpenClip(state).image(pixels), dim=-1)
        torch.testing.assert_close(found[i],
                                   F.normalize(each.sum(dim=0), dim=-1),
                                   rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_texts_agree_with_open_clip(model, state, classes):
    ids, _ = model.tokens(taxonomy.prompts(classes), "cpu")
    text = F.normalize(OpenClip(state).text(ids), dim=-1)
    torch.testing.assert_close(model.encode_taxa(classes), text, rtol=1e-4,
                               atol=1e-5)
    assert model.scale().item() == pytest.approx(20)


def test_true_colour_by_hand_and_without_a_wrap():
    images = np.full((1, 12, 10, 5, 5), 300, np.uint16)
    images[0, 0, BAND_NAMES.index("B4"), 1, 2] = 1500
    images[0, 0, BAND_NAMES.index("B3"), 0, 4] = 9000  # cloud
    images[0, 0, BAND_NAMES.index("B2"), 3, 3] = NODATA
    images[0, 5] = NODATA
    pixels, present = clip.true_color(images)
    assert pixels.shape == (1, 12, 3, 5, 5)
    assert pixels[0, 0, 0, 1, 2].item() == pytest.approx(0.5)
    assert pixels[0, 0, 1, 0, 4].item() == 1.0
    assert pixels[0, 0, 2, 3, 3].item() == pytest.approx(0.1)
    assert present[0].tolist() == [t != 5 for t in range(12)]
    # Brighter is never darker; a conversion to 8 bits would wrap.
    ramp = np.broadcast_to(np.arange(0, 5000, 200, dtype=np.uint16
                                     ).reshape(5, 5), images.shape)
    red = clip.true_color(ramp)[0][0, 0, 0].flatten()
    assert (red.diff() >= 0).all()
    assert (np.diff(ramp[0, 0, 0].ravel().astype(np.uint8).astype(int))
            < 0).any()


def test_it_is_scored_like_any_model(model, batch, classes):
    odds = evaluation.predict(model, batch, classes)
    checks.probabilities(odds, k=len(classes), n=len(batch.labels))
    parts = np.concatenate([evaluation.predict(
        model, Batch(*(x[i:i + 1] for x in batch)), classes)
        for i in range(9)])
    np.testing.assert_allclose(parts, odds, atol=1e-5)


def test_without_any_pixel_it_is_finite(model, batch):
    empty = np.full_like(batch.images, NODATA)
    assert model.encode_images(empty).isfinite().all()


def test_a_folder_of_transformers_is_read(model, batch, classes, vocabulary,
                                          tmp_path):
    model.clip.save_pretrained(tmp_path)
    again = ClipBaseline.from_pretrained(tmp_path, tokenizer=vocabulary)
    np.testing.assert_array_equal(evaluation.predict(again, batch, classes),
                                  evaluation.predict(model, batch, classes))


def test_with_weights_both_stand_in_the_table(planet_halves, model, tmp_path):
    """A folder for the one, a model made from a file for the other."""
    model.clip.save_pretrained(tmp_path)
    train, test = planet_halves
    classes = test.classes
    towers.train_tokens(taxonomy.prompts(classes), tmp_path, size=590)
    names = ["most frequent", "frequency by country"]
    answers = baselines.answers(train, test, classes, names=names, weights={
        "CLIP": tmp_path, "RemoteCLIP": model})
    assert list(answers) == [*names, "CLIP", "RemoteCLIP"]
    np.testing.assert_array_equal(
        answers["RemoteCLIP"], evaluation.predict(model, test, classes))
    labels = taxonomy.labels(test.table, classes)
    board = evaluation.leaderboard(
        answers, labels, classes, reference="most frequent",
        optimum=answers["frequency by country"]).set_index("model")
    assert list(board.index) == list(answers)
    assert board["value"].notna().all() and (board["n"] == len(test)).all()
    assert board.loc["frequency by country", "of_optimum"] == 1


def test_its_space_stands_beside_the_model_s_in_chapter_08(
        planet_halves, model, tmp_path, capsys):
    """The chapter's own cell, with weights in the place of none."""
    model.clip.save_pretrained(tmp_path)
    test, drawn = planet_halves[1], []
    cell, = [cell.source for cell in jupytext.read(
        ROOT / "notebooks/08-t-sne.py").cells if "WEIGHTS =" in cell.source]
    names = {"features": None, "plain": None, "evaluation": evaluation,
             "test": test, "draw_map": lambda space, rank: drawn.append(
                 (space, rank)) or plt.figure().gca()}
    exec(cell.replace('"CLIP": None', f'"CLIP": {str(tmp_path)!r}'), names)
    (space, rank), = drawn
    assert rank == "family" and list(names["spaces"]) == [
        "model", "statistics", "CLIP"]
    np.testing.assert_allclose(space, evaluation.embed(model, test),
                               atol=1e-6)
    assert "RemoteCLIP: no weights at hand" in capsys.readouterr().out


def test_without_weights_what_is_missing_is_said(planet_halves):
    train, test = planet_halves
    classes = test.classes
    answers = baselines.answers(train, test, classes, names=["most frequent"],
                                weights={"CLIP": None, "RemoteCLIP": ""})
    told = baselines.left_out(answers)
    assert told["CLIP"] == told["RemoteCLIP"] == "no weights at hand"
    assert told["forest, all"] == "not asked for"
    assert {*told, *answers} == set(baselines.READS)
    with pytest.raises(ValueError, match="CLIP need weights: give"):
        baselines.answers(train, test, classes, names=["CLIP"])
    with pytest.raises(FileNotFoundError, match="no weights at 'x.pt'"):
        baselines.answers(train, test, classes,
                          weights={"RemoteCLIP": "x.pt"})
    with pytest.raises(ValueError, match="no baseline DINO; there are"):
        baselines.answers(train, test, classes, weights={"DINO": "x.pt"})


@pytest.mark.parametrize(("change", "message"), [
    (lambda s: s.pop("text_projection"), "Missing key.*text_projection"),
    (lambda s: s.pop("visual.ln_post.bias"), "Missing key.*vision_model.post"),
    (lambda s: s.update(extra=torch.ones(1)),
     "Unexpected key.*text_model.extra")])
def test_weights_of_something_else_are_refused(state, tmp_path, change,
                                               message):
    other = dict(state)
    change(other)
    torch.save(other, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=message):
        ClipBaseline.from_open_clip(tmp_path / "x.pt", config=small())
