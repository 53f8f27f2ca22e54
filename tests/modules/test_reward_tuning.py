"""DRaFT and ReFL: they raise the reward, truncate the gradient where they say, and refuse what they cannot use."""

import lightning as L
import pytest
import torch

from datamodules import PromptDataModule
from lidar_lightning import LiDARModule, RewardTuningModule
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.rewards import CallableReward
from tests.pictures import BLUNT, BRIGHTNESS, backbone


def fit(module, steps=5, **data):
    trainer = L.Trainer(
        max_steps=steps, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, PromptDataModule(["a cat", "dogs"], **{"samples": 32, "batch_size": 4, **data}))
    return trainer


class TestRewardTuning:
    def reward(self, module):
        with torch.no_grad():
            x = module.backbone.decode(RewardTuningModule.samples(module, ["a cat", "dogs"] * 2, 0))
        return x.mean().item()

    @pytest.mark.parametrize("settings", [{"method": "draft", "truncation": 2}, {"method": "refl", "truncation": 1}])
    def test_raises_the_reward_and_its_checkpoint_predicts(self, settings, tmp_path):
        module = RewardTuningModule(backbone(), BRIGHTNESS, steps=3, lora=LoRA(2), lr=2e-2, warmup=0, **settings)
        before = self.reward(module)
        trainer = fit(module)
        after = self.reward(module)
        assert after > before + 1e-3
        trainer.save_checkpoint(tmp_path / "tuned.ckpt", weights_only=False)
        state = torch.load(tmp_path / "tuned.ckpt", weights_only=False)
        assert state["state_dict"] and all("lora_" in name for name in state["state_dict"])
        lidar = LiDARModule(backbone(), BRIGHTNESS, None, steps=2)
        predictor = L.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
        predictor.predict(lidar, PromptDataModule(["a cat"], 1, 1), ckpt_path=tmp_path / "tuned.ckpt")
        module.backbone = lidar.backbone
        assert self.reward(module) == pytest.approx(after, abs=1e-5)

    @pytest.mark.parametrize(("method", "truncation"), [("draft", 1), ("draft", 2), ("refl", 2), ("refl", 3)])
    def test_gradient_passes_the_last_calls_only(self, method, truncation, monkeypatch):
        module = RewardTuningModule(backbone(), BRIGHTNESS, method, 4, truncation, lora=LoRA(2))
        seen, predict = [], module.backbone.predict
        monkeypatch.setattr(
            module.backbone, "predict", lambda *args: seen.append(torch.is_grad_enabled()) or predict(*args)
        )
        for seed in range(4):
            seen.clear()
            assert module.samples(["a cat"], seed).requires_grad
            if method == "draft":
                assert seen == [False] * (4 - truncation) + [True] * truncation
            else:
                assert seen == [False] * (4 - truncation + seed % truncation) + [True]

    def test_margin(self):
        module = RewardTuningModule(backbone(), BRIGHTNESS, steps=2, margin=-1.0)
        module.log = lambda *args, **kwargs: None
        assert module.training_step({"prompt": ["a cat"]}, 0).item() == 0
        plain = RewardTuningModule(backbone(), BRIGHTNESS, steps=2)
        logged = {}
        plain.log = lambda name, value, **kwargs: logged.update({name: value.item()})
        for margin in (None, 3.0):
            plain.margin = margin
            loss = plain.training_step({"prompt": ["a cat", "dogs"]}, 0).item()
            assert loss == pytest.approx((margin or 0.0) - logged["train/reward"]) and logged["train/reward"] > 0

    def test_what_is_better_when_lower_is_lowered(self):
        dim = CallableReward(
            BRIGHTNESS.function, name="dim", modality="image", differentiable=True, higher_is_better=False
        )
        module = RewardTuningModule(backbone(), dim, steps=2)
        logged = {}
        module.log = lambda name, value, **kwargs: logged.update({name: value.item()})
        loss = module.training_step({"prompt": ["a cat"]}, 0).item()
        assert loss == pytest.approx(logged["train/reward"]) and loss > 0

    def test_every_batch_of_every_epoch_has_its_own_noise(self, monkeypatch):
        module, seeds, samples = RewardTuningModule(backbone(), BRIGHTNESS, steps=2), [], RewardTuningModule.samples
        monkeypatch.setattr(
            RewardTuningModule,
            "samples",
            lambda self, prompts, seed: seeds.append(seed) or samples(self, prompts, seed),
        )
        fit(module, steps=4, samples=4)
        assert len(set(seeds)) == 4

    def test_full_weights(self):
        module = RewardTuningModule(backbone(), BRIGHTNESS, steps=2, lora=None, lr=1e-3, warmup=0)
        before = self.reward(module)
        fit(module, steps=4)
        assert self.reward(module) > before

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"reward": BLUNT}, "use DPOModule"), ({"method": "ppo"}, "'ppo'"), ({"truncation": 5}, "got 5 of 4"),
            ({"lr": 0.0}, "lr > 0"), ({"truncation": 0}, "got 0 of 4"),
        ],
    )  # fmt: skip
    def test_bad_settings_are_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            RewardTuningModule(backbone(), **{"reward": BRIGHTNESS, "steps": 4, **settings})


def test_prompts_to_learn_from():
    batches = list(PromptDataModule(["a", "b"], samples=3, batch_size=4).train_dataloader())
    assert [len(batch["prompt"]) for batch in batches] == [4, 2]
    assert sorted(prompt for batch in batches for prompt in batch["prompt"]) == ["a"] * 3 + ["b"] * 3
