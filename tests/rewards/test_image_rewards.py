"""Image rewards on tiny random networks: independent references, golden outputs, gradients, prompts, errors."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers import CLIPImageProcessorPil

from lidar_lightning import rewards
from lidar_lightning.lookahead.bank import LookaheadBank, Provenance
from lidar_lightning.rewards import (
    Aesthetic,
    CallableReward,
    CLIPScore,
    HPSv21,
    ImageReward,
    JPEGCompressibility,
    JPEGIncompressibility,
    PickScore,
    Reward,
    load_reward,
    score,
)
from lidar_lightning.rewards.hps import from_open_clip
from lidar_lightning.rewards.image_reward import build, from_published
from lidar_lightning.rewards.images import normalise, resize_crop, resize_pad
from lidar_lightning.rewards.weights import linear_head
from tests.image_models import CLIP_TOKENS, clip_tokenizer, save_bert_tokenizer, save_clip
from tests.open_clip import OpenCLIP

GOLDEN = Path(__file__).parents[1] / "golden" / "image_reward.safetensors"
PROMPTS = ["a red cat", "two dogs", "a red cat"]
NETWORKS = ["clip_score", "pick_score", "hpsv2.1", "aesthetic", "image_reward"]


class TinyImageReward(ImageReward):
    """Of the golden file's network, whose heads are 8 wide in both towers."""

    head_width = 8


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders and files of every network, as published."""
    folder = tmp_path_factory.mktemp("models")
    save_clip(folder / "clip")
    open_clip = OpenCLIP()
    torch.save({"epoch": 3, "state_dict": open_clip.state_dict()}, folder / HPSv21.filename)
    save_clip(folder / "open_clip", act="gelu")
    layers = nn.Sequential(nn.Linear(24, 9), nn.Dropout(), nn.Linear(9, 4), nn.Dropout(), nn.Linear(4, 1))
    torch.save({f"layers.{key}": value for key, value in layers.state_dict().items()}, folder / Aesthetic.filename)
    torch.save(weights(load_file(GOLDEN)), folder / ImageReward.filename)
    save_bert_tokenizer(folder / "bert")
    return folder


@pytest.fixture
def make(models):
    """A fresh reward by its name, and anything of its constructor."""
    arguments = {
        "clip_score": (CLIPScore, dict(model=models / "clip")),
        "pick_score": (PickScore, dict(model=models / "clip", tokenizer=models / "clip")),
        "hpsv2.1": (HPSv21, dict(model=models, clip=models / "open_clip")),
        "aesthetic": (Aesthetic, dict(model=models, clip=models / "clip")),
        "image_reward": (TinyImageReward, dict(model=models, tokenizer=models / "bert")),
    }

    def one(name, **other):
        kind, known = arguments[name]
        return kind(**{key: str(value) for key, value in known.items()} | other)

    return one


def weights(golden):
    """The state of the package's network in the golden file, in float32."""
    stored = {key.removeprefix("weights."): value for key, value in golden.items() if key.startswith("weights.")}
    return {key: value.float() if value.dtype == torch.float8_e4m3fn else value for key, value in stored.items()}


def images(n=3, height=40, width=48, seed=0, dtype=torch.float32):
    """Smooth enough that resizing stays inside (0, 1), where gradients are smooth."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 0.2 + 0.6 * torch.rand(n, 3, 5, 6, generator=generator, dtype=dtype)
    return functional.interpolate(coarse, (height, width), mode="bilinear")


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


def directional(function, pixels, direction, step=1e-5):
    """The central difference of the sum of the scores."""
    with torch.no_grad():
        return (function(pixels + step * direction) - function(pixels - step * direction)).sum() / (2 * step)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_the_scores(make, name):
    """float32 autograd through `__call__` against float64 differences of the same network."""
    torch.manual_seed(0)
    pixels, direction = images(dtype=torch.float64), torch.randn(3, 3, 40, 48, dtype=torch.float64)
    exact = make(name, dtype="float64")
    prompts = PROMPTS
    if name == "clip_score":  # flat where cosines are negative
        many, prompts = images(32, dtype=torch.float64), ["two dogs"] * 3
        pixels = many[score(exact, many, ["two dogs"] * 32) > 0.1][:3]
        assert len(pixels) == 3
    reward, single = make(name), pixels.float().requires_grad_()
    score(reward, single, prompts).sum().backward()
    assert single.grad.isfinite().all() and (single.grad.flatten(1).abs().amax(1) > 0).all()
    expected = directional(lambda x: exact.forward(x, prompts), pixels, direction)
    torch.testing.assert_close((single.grad * direction).sum(), expected, rtol=1e-3, atol=1e-5)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in reward.network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_is_built_only_for_samples_that_require_gradients(make, name):
    reward, pixels = make(name), images(2)
    assert not score(reward, pixels, PROMPTS[:2]).requires_grad
    pixels.requires_grad_()
    assert score(reward, pixels, PROMPTS[:2]).requires_grad
    with torch.no_grad():
        assert not score(reward, pixels, PROMPTS[:2]).requires_grad


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_do_not_depend_on_the_batch(make, name):
    pixels, prompts = images(5), [*PROMPTS, "a dog", "a cat on grass"]
    whole = score(make(name), pixels, prompts)
    assert whole.shape == (5,) and whole.dtype == torch.float32
    torch.testing.assert_close(score(make(name, batch_size=2), pixels, prompts), whole, atol=1e-5, rtol=1e-5)
    alone = torch.cat([score(make(name), pixels[i : i + 1], prompts[i : i + 1]) for i in (4, 1)])
    torch.testing.assert_close(alone, whole[[4, 1]], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_is_close(make, name):
    single = score(make(name), images(), PROMPTS)
    half = score(make(name, dtype="bfloat16"), images().bfloat16(), PROMPTS)
    assert half.dtype == torch.float32 and half.isfinite().all()
    scale = {"clip_score": 100, "pick_score": 14.3, "hpsv2.1": 1, "aesthetic": 1, "image_reward": 1}[name]
    torch.testing.assert_close(half / scale, single / scale, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(("name", "reads"), [("pick_score", True), ("image_reward", True), ("aesthetic", False)])
def test_prompts_matter_where_they_should(make, name, reads):
    reward = make(name)
    first, second = (score(reward, images(1), [prompt]).item() for prompt in ("a red cat", "two dogs on grass"))
    assert (first != second) == reads


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("name", NETWORKS)
def test_rewards_follow_the_samples(make, name):
    reward = make(name)
    there = score(reward, images().cuda(), PROMPTS)
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), score(reward, images(), PROMPTS), atol=1e-3, rtol=1e-3)


def test_scores_are_stored_per_sample(make):
    """A bank keeps the scores of several image rewards, and scores nothing twice."""
    pixels = images(4)
    bank = LookaheadBank(pixels, {}, Provenance("a red cat", "tiny", "abc", "space", "DDIM", 2, 4, 0))
    parts = [make("clip_score"), make("image_reward"), JPEGCompressibility()]
    scored = bank.scored(parts, decode=lambda samples: samples)
    assert {name: scores.shape for name, scores in scored.rewards.items()} == {part.name: (4,) for part in parts}
    assert scored.versions["clip_score"] == parts[0].identity
    assert scored.scored(parts, decode=None) is scored


def test_version_follows_weights_and_precision(make):
    versions = [make("clip_score"), make("clip_score", dtype="float16"), CLIPScore("elsewhere"), CLIPScore()]
    assert len({reward.version for reward in versions}) == 4
    assert Aesthetic("a").version != Aesthetic("b").version != Aesthetic("b", clip="c").version
    assert JPEGCompressibility(90).version != JPEGCompressibility().version


@pytest.mark.parametrize("name", ["CLIPScore", "PickScore", "HPSv21", "Aesthetic", "ImageReward"])
def test_yaml_builds_a_reward_without_its_weights(name):
    parser = ArgumentParser()
    parser.add_argument("--reward", type=Reward)
    arguments = {"model": "somebody/something", "batch_size": 4, "dtype": "bfloat16"}
    config = {"class_path": f"lidar_lightning.rewards.{name}", "init_args": arguments}
    reward = parser.instantiate_classes(parser.parse_object({"reward": config})).reward
    assert type(reward).__name__ == name and reward.batch_size == 4 and reward.dtype == torch.bfloat16
    assert "somebody/something" in reward.version


# Prompts that are too long


@pytest.mark.parametrize(("name", "limit"), [("pick_score", CLIP_TOKENS), ("image_reward", 35)])
def test_a_long_prompt_is_cut_and_named_once(make, caplog, name, limit):
    reward, short, long = make(name), "a cat", "c a t " * 20
    with caplog.at_level(logging.WARNING):
        score(reward, images(2), [short, long])
        score(reward, images(3), [long, long, short])
    assert caplog.messages == [
        f"reward {name} reads {limit} tokens of a prompt and ignores the other {62 - limit} of {long!r}"
    ]
    cut = "c a t " * ((limit - 2) // 3) + " ".join("cat"[: (limit - 2) % 3])
    torch.testing.assert_close(score(reward, images(1), [long]), score(reward, images(1), [cut]))


# What goes wrong


@pytest.mark.parametrize("kind", [CLIPScore, PickScore, HPSv21, Aesthetic, ImageReward])
def test_loading_is_lazy_and_a_missing_repository_is_named(kind):
    """conftest.py sets the hub offline, and no test ever downloads."""
    reward = kind(model="nobody/nothing-of-the-kind")
    message = f"reward '{reward.name}': .*'nobody/nothing-of-the-kind'.* give the path of a local copy"
    with pytest.raises(ValueError, match=f"(?s){message}") as caught:
        score(reward, images(1), ["a cat"])
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("kind", [HPSv21, Aesthetic, ImageReward])
def test_a_folder_without_the_file_is_named(kind, tmp_path):
    with pytest.raises(ValueError, match=f"reward '{kind.name}': the folder .* has no file {kind.filename}"):
        score(kind(model=str(tmp_path)), images(1), ["a cat"])


def test_weights_in_safetensors_are_read(make, golden, tmp_path):
    save_file(weights(golden), tmp_path / "ImageReward.safetensors")
    expected = score(make("image_reward"), images(), PROMPTS)
    for model in (tmp_path, tmp_path / "ImageReward.safetensors"):
        assert torch.equal(score(make("image_reward", model=str(model)), images(), PROMPTS), expected)


class Evil:
    def __reduce__(self):
        return (print, ("code in a weights file was run",))


@pytest.mark.parametrize("damage", ["code", "bytes", "truncated"])
def test_damaged_or_hostile_weights_are_named(make, models, tmp_path, damage):
    path = tmp_path / "weights.pt"
    if damage == "code":
        torch.save({"mlp": Evil()}, path)
    else:
        path.write_bytes(b"nonsense" if damage == "bytes" else (models / ImageReward.filename).read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"reward 'image_reward': the weights .*weights\.pt cannot be read") as caught:
        score(make("image_reward", model=str(path)), images(1), ["a cat"])
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("name", ["clip_score", "pick_score", "hpsv2.1", "image_reward"])
@pytest.mark.parametrize("place", ["no/where", "empty"])
def test_a_tokenizer_without_vocabulary_is_refused(make, models, tmp_path, name, place):
    """transformers makes an empty one in its place, and every prompt gets the same score."""
    if place == "empty":
        place = str(tmp_path / "empty")
        (tmp_path / "empty").mkdir()
    changes = {"tokenizer": place}
    if name == "hpsv2.1":
        place = str(tmp_path / "clip")
        save_clip(tmp_path / "clip", act="gelu")
        for file in [*(tmp_path / "clip").glob("*token*"), *(tmp_path / "clip").glob("vocab*")]:
            file.unlink()
        changes = {"clip": place}
    tokens, embedded = (5, 40) if name == "image_reward" else (2, 514)
    message = f"'{name}': the .*Tokenizer of '{place}' knows {tokens} tokens, where its network embeds {embedded}"
    with pytest.raises(ValueError, match=message):
        score(make(name, **changes), images(1), ["a cat"])


def test_weights_written_anew_are_another_reward(tmp_path):
    """Where they lie is no identity: stored scores of the old weights were taken for those of the new."""
    layers = {"layers.0.weight": torch.ones(1, 24), "layers.0.bias": torch.zeros(1)}
    before, after = [], []
    for made, value in ((before, 1.0), (after, 2.0)):
        network = save_clip(tmp_path / "clip")
        network.visual_projection.weight.data *= value
        network.save_pretrained(tmp_path / "clip")
        save_file({**layers, "layers.0.bias": torch.full((1,), value)}, tmp_path / "layers.safetensors")
        made += [CLIPScore(str(tmp_path / "clip")), CLIPScore(str(tmp_path / "clip"))]
        made += [Aesthetic(str(tmp_path / "layers.safetensors"), clip=str(tmp_path / "clip"))]
        assert made[0].identity == made[1].identity and made[2].identity
    assert all(
        old.version == new.version and old.identity != new.identity for old, new in zip(before, after, strict=True)
    )
    assert CLIPScore("some/where").identity == CLIPScore("some/where").version


def test_the_tokenizer_is_part_of_the_version(make):
    for name in ("pick_score", "image_reward"):
        assert make(name, tokenizer="a").identity != make(name, tokenizer="b").identity
    assert HPSv21(clip="a").identity != HPSv21(clip="b").identity


def test_weights_of_something_else_are_refused(make, models, golden, tmp_path):
    extra = tmp_path / "extra.pt"
    torch.save(weights(golden) | {"blip.surprise": torch.zeros(2)}, extra)
    with pytest.raises(ValueError, match="'image_reward': the weights do not fit the network: (?s:.*)blip.surprise"):
        score(make("image_reward", model=str(extra)), images(1), [""])
    with pytest.raises(ValueError, match="'image_reward'.* not ImageReward's weights, '.*' is missing"):
        score(make("image_reward", model=str(models / Aesthetic.filename)), images(1), [""])
    with pytest.raises(ValueError, match="'hpsv2.1': the weights do not fit the network: (?s:.*)layers.0.weight"):
        score(make("hpsv2.1", model=str(models / Aesthetic.filename)), images(1), [""])
    torch.save([torch.zeros(2)], extra)
    with pytest.raises(ValueError, match=r"'aesthetic': .*extra\.pt holds list, not a dictionary of tensors"):
        score(make("aesthetic", model=str(extra)), images(1), [""])


def test_layers_of_another_clip_are_refused(make, tmp_path):
    torch.save({"layers.0.weight": torch.zeros(1, 7), "layers.0.bias": torch.zeros(1)}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match="take embeddings of 7 numbers, but .*clip gives 24: choose the CLIP"):
        score(make("aesthetic", model=str(tmp_path / "m.pth")), images(1), [""])


@pytest.mark.parametrize(
    "shapes",
    [{}, {"bias": (1,)}, {"0.weight": (2, 4)}, {"0.weight": (3, 4), "1.weight": (1, 2)}, {"0.weight": (1,)}],
)
def test_a_head_must_be_a_chain(shapes):
    with pytest.raises(ValueError, match="'mine': the head is a chain of linear layers"):
        linear_head("mine", {key: torch.zeros(shape) for key, shape in shapes.items()})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(batch_size=0), "'clip_score' needs a batch_size of at least 1, got 0"),
        (dict(dtype="int8"), "'clip_score' runs in float32, .* got dtype='int8'"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        CLIPScore(**arguments)


@pytest.mark.parametrize("quality", [0, 101])
def test_quality_is_checked(quality):
    with pytest.raises(ValueError, match=f"from 1 to 95, got {quality}"):
        JPEGCompressibility(quality)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (["one"], "'clip_score' needs one prompt, a string, for each of 2 samples, got 1 prompts"),
        ("ab", "for each of 2 samples, got 'ab'"),
        (["one", None], "for each of 2 samples, got a prompt None"),
    ],
)
def test_prompts_are_checked(prompts, message):
    with pytest.raises(ValueError, match=message):
        CLIPScore("never loaded")(images(2), prompts)


@pytest.mark.parametrize("reward", [CLIPScore("never loaded"), JPEGCompressibility()])
def test_samples_are_checked_before_anything_is_loaded(reward):
    with pytest.raises(ValueError, match=f"reward '{reward.name}' scores images .*got values from -0"):
        score(reward, -images(2), ["", ""])


def breaks(samples, prompts):
    raise RuntimeError("out of luck")


def test_a_reward_that_raises_is_named_with_its_cause():
    with pytest.raises(ValueError, match="reward 'breaks' failed on 2 samples: RuntimeError: out of luck") as caught:
        score(CallableReward(breaks, modality="image"), images(2), ["", ""])
    assert isinstance(caught.value.__cause__, RuntimeError)
