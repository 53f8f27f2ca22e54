from pathlib import Path

import lightning as L
import pytest
import torch

from datamodules import ShapesDataModule
from datamodules.shapes import Scenes
from lidar_lightning.pretraining.contrastive import ContrastiveModule
from lidar_lightning.rewards import ShapesReward, ShapesVerdict, score
from lidar_lightning.shapes.scorer import ShapesScorer


def small(seed: int = 0) -> ShapesScorer:
    torch.manual_seed(seed)
    return ShapesScorer(width=32, layers=1)


def reward_of(folder: Path, model: ShapesScorer) -> ShapesReward:
    model.save_pretrained(folder)
    return ShapesReward(str(folder))


def some(count: int = 4) -> tuple[torch.Tensor, list[str]]:
    batch = Scenes(count).__getitems__(range(count))
    return batch["image"], batch["prompt"]


def test_default_size_is_within_two_million():
    assert sum(p.numel() for p in ShapesScorer().parameters()) < 2e6


def test_scores_are_scaled_cosines(tmp_path):
    model, (images, prompts) = small().eval(), some()
    model.mean.fill_(0.5)
    model.std.fill_(2.0)
    reward = reward_of(tmp_path, model)
    scores = score(reward, images, prompts)
    pictures, captions = model.embed_images(images), model.embed_prompts(prompts)
    assert torch.allclose(pictures.norm(dim=1), torch.ones(4)) and torch.allclose(captions.norm(dim=1), torch.ones(4))
    expected = [(10 * (p * c).sum().item() - 0.5) / 2 for p, c in zip(pictures, captions, strict=True)]
    assert torch.allclose(scores, torch.tensor(expected), atol=1e-4)
    assert torch.allclose(model.similarities(images, prompts).diag(), 10 * (pictures * captions).sum(1), atol=1e-4)
    # Neither the company nor the padding changes a score.
    assert torch.allclose(reward(images[2:3], prompts[2:3]), scores[2:3], atol=1e-4)
    assert torch.equal(model.embed_prompts(["A  red CIRCLE"]), model.embed_prompts(["a red circle"]))
    assert torch.isfinite(model.embed_prompts(["", "an unheard-of word " * 30])).all()


def test_gradients_reach_the_pixels(tmp_path):
    reward, (images, prompts) = reward_of(tmp_path, small()), some()
    assert reward.differentiable and reward.modality == "image"
    images = images.double().requires_grad_()
    reward(images, prompts).sum().backward()
    assert images.grad.shape == images.shape and (images.grad.flatten(1).norm(dim=1) > 0).all()
    assert all(p.grad is None for p in reward.network.parameters())
    # Against a finite difference along the gradient.
    step = 1e-2 * images.grad / images.grad.norm()
    with torch.no_grad():
        change = (reward(images + step, prompts) - reward(images - step, prompts)).sum().item()
    assert change == pytest.approx(2 * 1e-2 * images.grad.norm().item(), rel=0.05)


def test_other_sizes_are_resized(tmp_path):
    reward, (images, prompts) = reward_of(tmp_path, small()), some()
    large = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert (reward(large, prompts) - reward(images, prompts)).abs().max() < 0.2


def test_saving_and_loading(tmp_path):
    model, (images, prompts) = small(), some()
    model.mean.fill_(0.3)
    loaded = reward_of(tmp_path / "model", model)
    with torch.no_grad():
        assert torch.equal(loaded(images, prompts), model.eval()(images, prompts))
    same, other = reward_of(tmp_path / "same", model), reward_of(tmp_path / "other", small(seed=1))
    assert loaded.version == same.version != other.version
    with pytest.raises(ValueError, match="no shapes reward at .*nowhere.*recipes.shapes_reward"):
        ShapesReward(str(tmp_path / "nowhere"))
    (tmp_path / "model" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="do not fit"):
        ShapesReward(str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("samples", "prompts", "message"),
    [
        (["CCO"], ["a circle"], "scores images, .* got list"),
        (torch.zeros(1, 64, 64), ["a circle"], r"got shape \(1, 64, 64\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), ["a circle"], "torch.uint8"),
        (torch.zeros(2, 3, 64, 64), ["a circle"], "for each of 2 samples, got 1 prompts"),
        (torch.zeros(8, 3, 64, 64), "a circle", "for each of 8 samples, got 'a circle'"),
    ],
)
def test_bad_input_is_named(tmp_path, samples, prompts, message):
    for reward in (reward_of(tmp_path, small()), ShapesVerdict()):
        with pytest.raises(ValueError, match=message):
            reward(samples, prompts)


def test_verdict_is_a_reward():
    images, prompts = some()
    assert score(ShapesVerdict(), images, prompts).tolist() == [1, 1, 1, 1]
    assert score(ShapesVerdict(), images.flip(0), prompts).sum() < 4
    assert not ShapesVerdict().differentiable


def test_loss_is_cross_entropy_both_ways():
    module = ContrastiveModule(small())
    similarities = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    one = module.loss(similarities, ["a", "b", "c", "d"])
    rows, columns = similarities.log_softmax(1), similarities.log_softmax(0)
    assert one.item() == pytest.approx(-(rows.diag().mean() + columns.diag().mean()).item() / 2, rel=1e-5)
    # Equal captions share the target.
    two = module.loss(similarities, ["a", "a", "c", "d"])
    picks = [(0, 0, 0.5), (0, 1, 0.5), (1, 0, 0.5), (1, 1, 0.5), (2, 2, 1), (3, 3, 1)]
    expected = -sum(weight * (rows[i, j] + columns[j, i]) for i, j, weight in picks).item() / 8
    assert two.item() == pytest.approx(expected, rel=1e-5)
    own, near = module.own_and_near(similarities)
    assert (
        own.tolist() == similarities.diag().tolist() and near[2] == similarities[2, 3] and near[3] == similarities[3, 2]
    )
    with pytest.raises(ValueError, match="noise"):
        ContrastiveModule(small(), noise=-1.0)


def test_training_tells_captions_from_their_twins():
    torch.manual_seed(0)
    data = ShapesDataModule(count=64, validation=36, batch_size=16, twins=True)
    module = ContrastiveModule(small(), lr=4e-3, noise=0.0)
    trainer = L.Trainer(
        max_steps=60, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(module, data.train_dataloader())
    (batch,) = (data.training.__getitems__(range(32)),)
    with torch.no_grad():
        own, near = module.own_and_near(module.model.eval().similarities(batch["image"], batch["prompt"]))
    assert (own > near).float().mean() > 0.7  # a coin gives 0.5; these are the training scenes
    module.standardise(batch)
    with torch.no_grad():
        scores = torch.cat([module.model(batch["image"], batch["prompt"])])
    assert 0 < scores.mean() < 2
