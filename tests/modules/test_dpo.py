import math

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules import PreferenceDataModule
from lidar_lightning import DPOModule
from lidar_lightning.backbones.adapters import LoRA, adapters_off, layers
from lidar_lightning.losses.dpo import dpo_loss
from tests.conftest import tiny


def pair(seed=0):
    return torch.randint(35, (2, 6, 12), generator=torch.Generator().manual_seed(seed)).unbind()


def generator():
    return torch.Generator().manual_seed(5)


def perturb(module):
    for parameter in module.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)


def test_loss_against_numpy():
    w, lo, w_ref, l_ref = np.random.default_rng(0).uniform(0, 3, (4, 7))
    terms = dpo_loss(*map(torch.tensor, (w, lo, w_ref, l_ref)), beta=1.7)
    margin = -(1.7 / 2) * ((w - w_ref) - (lo - l_ref))
    np.testing.assert_allclose(terms.margin, margin)
    np.testing.assert_allclose(terms.loss, np.log1p(np.exp(-margin)))


@pytest.mark.parametrize("lora", [LoRA(4), None])
def test_policy_equal_to_reference_gives_log_two(lora):
    terms, policy, fixed = DPOModule(tiny(), lora=lora, draws=3).terms(*pair(), generator())
    assert torch.equal(policy, fixed) and torch.equal(terms.loss, torch.full((6,), math.log(2.0)))


@pytest.mark.parametrize("lora", [LoRA(4), None])
def test_swapping_the_pair_flips_the_margin(lora):
    module = DPOModule(tiny(), lora=lora, draws=3)
    perturb(module)
    chosen, rejected = pair()
    one = module.terms(chosen, rejected, generator())[0].margin
    other = module.terms(rejected, chosen, generator())[0].margin
    assert one.abs().min() > 1e-3
    torch.testing.assert_close(one, -other)


def test_both_samples_share_time_and_noise():
    module = DPOModule(tiny(), draws=3)
    perturb(module)
    chosen, _ = pair()
    terms, policy, fixed = module.terms(chosen, chosen, generator())
    torch.testing.assert_close(policy[0], policy[1])
    assert terms.margin.abs().max() < 1e-5 and (policy - fixed).abs().min() > 1e-3


def test_reference_is_the_starting_model():
    start = tiny()
    chosen, rejected = pair()
    plain = DPOModule(tiny(), lora=None, draws=2)
    module = DPOModule(start, lora=LoRA(4), draws=2)
    perturb(module)
    torch.testing.assert_close(
        module.terms(chosen, rejected, generator())[2], plain.terms(chosen, rejected, generator())[2]
    )


def test_adapters_switch_off_and_on():
    backbone, x, t = tiny(), pair()[0], torch.full((6,), 0.5)
    before = backbone.predict(x, t)
    module = DPOModule(backbone)
    perturb(module)
    with adapters_off(backbone), torch.no_grad():
        assert torch.equal(backbone.predict(x, t), before)
    assert not torch.allclose(backbone.predict(x, t), before)
    assert len(layers(backbone)) == 8
    assert all(p.requires_grad == ("lora_" in name) for name, p in module.named_parameters())


def test_gradients_reach_the_adapters_only():
    module = DPOModule(tiny(), draws=2)
    perturb(module)
    module.terms(*pair(), generator())[0].loss.mean().backward()
    for name, parameter in module.named_parameters():
        assert (parameter.grad is not None and parameter.grad.abs().sum() > 0) == ("lora_" in name), name


class Rates(L.Callback):
    """The learning rate of each step."""

    def __init__(self):
        self.rates = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_rate_rises_and_falls(tmp_path, bank, carbon_reward, decay):
    bank.save(tmp_path / "bank.safetensors")
    data = PreferenceDataModule(str(tmp_path / "bank.safetensors"), carbon_reward, pairs=32, batch_size=8)
    module, rates = DPOModule(tiny(), lr=0.5, draws=1, warmup=3, decay=decay), Rates()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    L.Trainer(max_steps=8, callbacks=[rates], enable_model_summary=False, **quiet).fit(module, data)
    fall = {0.0: [8] * 8, 0.5: [8, 8, 8, 8, 8, 6, 4, 2], 1.0: [8, 7, 6, 5, 4, 3, 2, 1]}[decay]
    assert rates.rates == pytest.approx([0.5 * min((k + 1) / 4, fall[k] / 8, 1) for k in range(8)])
    if decay:
        with pytest.raises(ValueError, match="max_steps or max_epochs"):
            L.Trainer(max_epochs=-1, enable_model_summary=False, **quiet).fit(module, data)


def fit(tmp_path, bank, carbon_reward, lora, steps=30, resume=None, draws=2):
    L.seed_everything(0, verbose=False)
    bank.save(tmp_path / "bank.safetensors")
    data = PreferenceDataModule(str(tmp_path / "bank.safetensors"), carbon_reward, pairs=64, batch_size=16)
    module = DPOModule(tiny(), beta=1.0, lora=lora, lr=3e-3, draws=draws, warmup=3)
    trainer = L.Trainer(
        max_steps=steps, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=steps)],
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=resume)
    return module, trainer.callback_metrics


@pytest.mark.parametrize("lora", [LoRA(4), None])
def test_fit_learns_the_preferences(tmp_path, bank, carbon_reward, lora):
    _, metrics = fit(tmp_path, bank, carbon_reward, lora, draws=8)
    assert metrics["train/accuracy"] > 0.8 and metrics["train/loss"] < 0.5
    names = {"loss", "accuracy", "margin"} | {
        f"{who}error_{which}" for who in ("", "reference_") for which in ("chosen", "rejected")
    }
    assert {f"train/{name}" for name in names} | {f"val/{name}" for name in names} <= set(metrics)


def test_checkpoint_holds_adapters_only_and_resumes(tmp_path, bank, carbon_reward):
    module, _ = fit(tmp_path, bank, carbon_reward, LoRA(4), steps=4)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["state_dict"] and all("lora_" in name for name in saved["state_dict"])
    assert "hyper_parameters" not in saved
    resumed, _ = fit(tmp_path, bank, carbon_reward, LoRA(4), steps=4, resume=tmp_path / "last.ckpt")
    for (name, one), other in zip(module.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_adapters_of_other_weights_are_refused(tmp_path, bank, carbon_reward):
    fit(tmp_path, bank, carbon_reward, LoRA(4), steps=2)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    with pytest.raises(ValueError, match="adapters were trained on weights"):
        DPOModule(tiny(seed=1)).on_load_checkpoint(checkpoint)


@pytest.mark.parametrize("setting", [{"beta": 0.0}, {"draws": 0}, {"lr": -1.0}, {"decay": 1.5}])
def test_bad_settings_are_refused(setting):
    with pytest.raises(ValueError, match="DPOModule needs"):
        DPOModule(tiny(), **setting)
    with pytest.raises(ValueError, match="rank >= 1"):
        LoRA(rank=0)
