"""Image rewards on tiny random networks against independent references and golden outputs; their traits."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from lidar_lightning import rewards
from lidar_lightning.rewards import (
    Aesthetic,
    CLIPScore,
    HPSv21,
    ImageReward,
    JPEGCompressibility,
    JPEGIncompressibility,
    PickScore,
    load_reward,
    score,
)
from lidar_lightning.rewards.hps import from_open_clip
from lidar_lightning.rewards.image_reward import build, from_published
from lidar_lightning.rewards.images import normalise, resize_crop, resize_pad
from tests.image_models import CLIP_TOKENS, clip_tokenizer, save_clip
from tests.open_clip import OpenCLIP
from tests.rewards.networks import PROMPTS, images, weights

# Each score against a reference that shares no code with it


def token_ids(prompts):
    """(n, L) int64, padded with 0 as open_clip does, where transformers pads with the end token."""
    rows = [clip_tokenizer()(prompt)["input_ids"] for prompt in prompts]
    return torch.tensor([row + [0] * (CLIP_TOKENS - len(row)) for row in rows])


def test_hps_is_the_cosine_of_an_open_clip_model(make):
    with torch.no_grad():
        expected = OpenCLIP().eval()(normalise(resize_pad(images(), 32)), token_ids(PROMPTS))
    scores = score(make("hpsv2.1"), images(), PROMPTS)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert scores.std() > 1e-3


def test_every_weight_of_open_clip_has_a_place(make):
    published = OpenCLIP().state_dict()
    mapped = from_open_clip(published)
    network = make("hpsv2.1").network
    assert mapped.keys() == network.state_dict().keys()
    dropped = published.pop("attn_mask").numel()
    assert sum(value.numel() for value in mapped.values()) == sum(value.numel() for value in published.values())
    assert dropped == CLIP_TOKENS**2


def bytes_of(pixels):
    return (pixels * 255).round().to(torch.uint8)


def cosines(models, pixels):
    """By transformers' own processor, tokenizer and `logits_per_image`, of images that need no resizing."""
    model = save_clip(models / "again")
    pil = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in bytes_of(pixels)]
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    inputs = dict(clip_tokenizer()(PROMPTS, padding=True, return_tensors="pt"))
    inputs |= processor(pil, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits_per_image.diagonal(), model.logit_scale.exp()


def test_clip_score_and_pick_score_agree_with_transformers(make, models):
    pixels = images(height=32, width=32)
    logits, scale = cosines(models, pixels)
    pixels = bytes_of(pixels) / 255
    torch.testing.assert_close(score(make("pick_score"), pixels, PROMPTS), logits, atol=1e-4, rtol=1e-5)
    expected = 100 * (logits / scale).clamp(min=0)
    torch.testing.assert_close(score(make("clip_score"), pixels, PROMPTS), expected, atol=1e-3, rtol=1e-5)
    assert expected.max() > 0


def test_clip_score_is_never_negative(make):
    many = score(make("clip_score"), images(16), [f"{i} dogs" for i in range(16)])
    cosine = score(make("pick_score"), images(16), [f"{i} dogs" for i in range(16)])
    assert (many == 0).eq(cosine <= 0).all() and many.min() >= 0 and many.max() <= 100


def test_aesthetic_is_affine_in_the_embedding(make, models):
    """Layers without activations are one affine map, here composed in numpy."""
    layers = {key: value.double().numpy() for key, value in torch.load(models / Aesthetic.filename).items()}
    matrix, offset = np.eye(24), np.zeros(24)
    for i in (0, 2, 4):
        w, b = layers[f"layers.{i}.weight"], layers[f"layers.{i}.bias"]
        matrix, offset = w @ matrix, w @ offset + b
    pixels = normalise(resize_crop(images(), 32))
    with torch.no_grad():
        embedded = save_clip(models / "again").get_image_features(pixels)
    embedded = getattr(embedded, "pooler_output", embedded).double().numpy()
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    expected = (embedded @ matrix.T + offset)[:, 0]
    np.testing.assert_allclose(score(make("aesthetic"), images(), ["", "", ""]).numpy(), expected, atol=1e-5)


def test_image_reward_agrees_with_its_own_package(golden):
    network = build("image_reward", weights(golden), head_width=8).eval()
    pixels = golden["images"].requires_grad_()
    encoded = network.vision(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(encoded, golden["encoded"], atol=1e-5, rtol=1e-5)
    scores = network(pixels, golden["input_ids"], golden["attention_mask"])
    torch.testing.assert_close(scores, golden["scores"], atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(scores.sum(), pixels)
    torch.testing.assert_close(gradient, golden["gradient"], atol=1e-5, rtol=1e-4)
    assert golden["scores"].std() > 0.1 and golden["gradient"].abs().max() > 1e-3


def test_every_weight_of_image_reward_has_a_place(golden):
    published = weights(golden)
    mapped = from_published(published)
    assert mapped.keys() == build("image_reward", published, head_width=8).state_dict().keys()
    dropped = {key for key in published if not from_published({key: published[key]})}
    assert len(mapped) + len(dropped) == len(published)
    assert dropped == {
        "blip.text_encoder.embeddings.position_ids",
        *(f"blip.{tower}_proj.{kind}" for tower in ("vision", "text") for kind in ("weight", "bias")),
    }


def test_image_reward_of_pixels_and_prompts(make, golden, models):
    """The reward is the network on prepared pixels and BERT's tokens: [CLS] a red cat [SEP]."""
    network = build("image_reward", weights(golden), head_width=8).eval()
    ids = torch.tensor([[2, 5, 8, 6, 3]])
    with torch.no_grad():
        pixels = normalise(resize_crop(images(1), 16))
        expected = network(pixels, ids, torch.ones_like(ids))
    torch.testing.assert_close(score(make("image_reward"), images(1), ["A red cat"]), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("quality", [95, 30])
def test_jpeg_sizes_are_those_of_pillow(quality):
    noise = torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    pixels = torch.cat([noise, torch.full_like(noise, 0.5), images(1, 64, 48)])
    sizes = []
    for image in pixels:
        file = io.BytesIO()
        array = np.rint(image.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
        Image.fromarray(array).save(file, "JPEG", quality=quality)
        sizes.append(len(file.getvalue()) / 1000)
    large = score(JPEGIncompressibility(quality), pixels, ["", "", ""])
    small = score(JPEGCompressibility(quality), pixels, ["", "", ""])
    torch.testing.assert_close(large, torch.tensor(sizes))
    assert torch.equal(small, -large) and large[0] > large[2] > large[1] > 0


# What every reward declares


@pytest.mark.parametrize(
    ("reward", "name", "differentiable"),
    [
        (CLIPScore(), "clip_score", True),
        (PickScore(), "pick_score", True),
        (HPSv21(), "hpsv2.1", True),
        (Aesthetic(), "aesthetic", True),
        (ImageReward(), "image_reward", True),
        (JPEGCompressibility(), "jpeg_compressibility", False),
        (JPEGIncompressibility(), "jpeg_incompressibility", False),
    ],
)
def test_traits(reward, name, differentiable):
    assert (reward.name, reward.differentiable, reward.modality) == (name, differentiable, "image")
    assert reward.higher_is_better
    assert type(load_reward(f"lidar_lightning.rewards:{type(reward).__name__}")) is type(reward)
    assert type(reward).__name__ in rewards.__all__
