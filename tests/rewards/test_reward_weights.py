"""Weights of image rewards that are missing, damaged, hostile or of something else."""

import pytest
import torch
from safetensors.torch import save_file

from lidar_lightning.rewards import Aesthetic, CLIPScore, HPSv21, ImageReward, PickScore, score
from lidar_lightning.rewards.weights import linear_head
from tests.image_models import save_clip
from tests.rewards.networks import PROMPTS, images, weights

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
