"""What all rewards by networks share: gradients, batches, precision, prompts, versions, bad settings."""

import logging

import pytest
import torch
from jsonargparse import ArgumentParser

from lidar_lightning.lookahead.bank import LookaheadBank, Provenance
from lidar_lightning.rewards import Aesthetic, CallableReward, CLIPScore, JPEGCompressibility, Reward, score
from tests.image_models import CLIP_TOKENS
from tests.rewards.networks import NETWORKS, PROMPTS, images


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
def test_rewards_follow_the_samples(make, name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
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
