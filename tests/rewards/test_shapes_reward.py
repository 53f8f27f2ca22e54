import math
from pathlib import Path

import lightning as L
import pytest
import torch

from datamodules import ShapesDataModule
from datamodules.shapes import Claims, Scenes
from lidar_lightning.pretraining.matching import MatchingModule
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


def test_scores_are_standardised_log_odds(tmp_path):
    model, (images, prompts) = small().eval(), some()
    model.mean.fill_(0.5)
    model.std.fill_(2.0)
    reward = reward_of(tmp_path, model)
    scores = score(reward, images, prompts)
    table = model.similarities(images, prompts)
    assert table.shape == (4, 4)
    assert torch.allclose(scores, (table.diag() - 0.5) / 2, atol=1e-4)
    # Neither the company nor the padding changes a score.
    assert torch.allclose(reward(images[2:3], prompts[2:3]), scores[2:3], atol=1e-4)
    words, padding = model.embed_prompts(["A  red CIRCLE"])
    assert torch.equal(words, model.embed_prompts(["a red circle"])[0]) and (~padding).sum() == 3
    assert torch.isfinite(model.similarities(images, ["", "an unheard-of word " * 30])).all()


def test_a_caption_is_as_true_as_its_least_true_words():
    model, (images, prompts) = small().eval(), some(1)
    seen: list[torch.Tensor] = []
    model.head.register_forward_hook(lambda module, args, out: seen.append(out[0, :, 0]))
    odds = model.similarities(images, prompts)[0, 0]
    assert len(seen[0]) == len(prompts[0].split())
    assert odds.item() == pytest.approx(-seen[0].double().neg().exp().sum().log().item(), abs=1e-5)
    assert odds < seen[0].min()


def test_words_of_either_order_are_told_apart():
    model, (images, _) = small().eval(), some()
    one, other = model.similarities(images, ["a circle left of a square", "a square left of a circle"]).T
    assert (one - other).abs().max() > 1e-3
    model.positions.data.zero_()
    model.neighbours.weight.data[:, :, [0, 1, 3, 4]] = 0
    one, other = model.similarities(images, ["a circle left of a square", "a square left of a circle"]).T
    assert torch.allclose(one, other, atol=1e-5)


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


def test_loss_is_the_cross_entropy_of_claims():
    module, batch = MatchingModule(small(), noise=0.0), Claims(3).__getitems__(range(3))
    module.disturb = lambda images: images
    module.log = lambda *args, **settings: None
    odds = torch.stack(
        [
            module.model.similarities(image[None], claims)[0]
            for image, claims in zip(batch["image"], batch["claims"], strict=True)
        ]
    )
    expected = [
        math.log1p(math.exp(-o if t else o))
        for o, t in zip(odds.flatten().tolist(), batch["true"].flatten(), strict=True)
    ]
    assert module.training_step(batch, 0).item() == pytest.approx(sum(expected) / 24, rel=1e-4)
    twins = Scenes(4, twins=True).__getitems__(range(4))
    table = module.model.similarities(twins["image"], twins["prompt"])
    found, rows = module.own_and_near(twins), torch.arange(8)
    assert torch.allclose(found, torch.stack((table[rows, rows], table[rows, rows ^ 1]), 1), atol=1e-5)
    with pytest.raises(ValueError, match="noise"):
        MatchingModule(small(), noise=-1.0)


def test_training_tells_captions_from_their_twins():
    torch.manual_seed(0)
    data = ShapesDataModule(count=16, validation=36, batch_size=16, claims=True)
    module = MatchingModule(small(), lr=1e-2, noise=0.0)
    trainer = L.Trainer(
        max_steps=80, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(module, data.train_dataloader())
    batch, model = data.training.__getitems__(range(16)), module.model.eval()
    with torch.no_grad():
        odds = module.log_odds(batch["image"], batch["claims"])[::2]
    assert (odds[:, 0] > odds[:, 1]).float().mean() > 0.7  # a coin gives 0.5; these are the training scenes
    twins = data.held_out.__getitems__(range(36))
    module.standardise(twins)
    with torch.no_grad():
        own = model(twins["image"], twins["prompt"])
        near = model(twins["image"], [twins["prompt"][row ^ 1] for row in range(72)])
    both = torch.cat((own, near))
    assert both.mean().item() == pytest.approx(0, abs=1e-3) and both.std().item() == pytest.approx(1, abs=1e-2)
