"""Adapters are trained in float32, with those that the backbone came with, on pairs of its own space."""

import math
from dataclasses import replace

import lightning as L
import pytest
import torch
from peft import LoraConfig

from datamodules import PreferenceDataModule, PromptDataModule
from lidar_lightning import DPOModule, Flux, LiDARModule, Lookahead, RewardTuningModule, StableDiffusion
from lidar_lightning.backbones.adapters import OWN, LoRA
from lidar_lightning.rewards import CallableReward
from lidar_lightning.sampling import sample
from lidar_lightning.utils.seeding import Generators, stream_seed
from tests.conftest import tiny
from tests.pictures import BRIGHTNESS
from tests.pipelines import build

REWARD = CallableReward(lambda samples, prompts: samples.mean((1, 2, 3)), name="brightness", modality="image")
QUIET = {
    "logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
    "limit_val_batches": 0,
}  # fmt: skip


def pairs(model, folder, batch_size=4, **settings):
    """Pairs of a bank that the model draws."""
    bank = Lookahead(2, 8).bank(model, "a cat", 0, [REWARD])
    bank.save(folder / "bank.safetensors")
    return PreferenceDataModule(str(folder), REWARD, pairs=16, batch_size=batch_size, validation=0.0, **settings)


def fit(module, data, steps, **options):
    trainer = L.Trainer(max_steps=steps, enable_checkpointing=False, **{**QUIET, **options})
    trainer.fit(module, data)
    return trainer


def drawn(model):
    with model.active():
        return sample(model, model.solver(2), Generators([0]), model.encode(["a cat"])).samples


def flux(dtype=torch.bfloat16):
    pipe = build("Flux").to(dtype)
    return Flux(pipe, name="tiny-flux", max_sequence_length=16)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_small_steps_move_the_adapters_of_a_bfloat16_base(tmp_path, precision):
    module = DPOModule(flux(), beta=100.0, lora=LoRA(4), lr=1e-5, draws=1, warmup=0)
    before = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
    data = pairs(flux(torch.float32), tmp_path, batch_size=1)  # bfloat16 is slow where a processor lacks it
    trainer = fit(module, data, 2, precision=precision)
    moved = total = 0
    for name, parameter in module.named_parameters():
        if name in before:
            assert parameter.dtype == torch.float32
            moved += (parameter != before[name]).sum().item()
            total += parameter.numel()
        else:
            assert parameter.dtype == torch.bfloat16
    assert moved > 0.99 * total

    trainer.save_checkpoint(tmp_path / "last.ckpt")
    lidar = LiDARModule(flux(), REWARD, None, 2)
    L.Trainer(**QUIET).predict(lidar, PromptDataModule(["a cat"], 1, 1), ckpt_path=tmp_path / "last.ckpt")
    assert torch.equal(drawn(lidar.backbone), drawn(module.backbone))


@pytest.mark.parametrize(("lora", "precision"), [(LoRA(4), "bf16-true"), (None, "32-true")])
def test_training_in_bfloat16_is_refused(tmp_path, lora, precision):
    module = DPOModule(flux(), lora=lora)
    with pytest.raises(ValueError, match=r"trained in float32, got torch.bfloat16.* precision 32-true or bf16-mixed"):
        fit(module, pairs(flux(torch.float32), tmp_path), 1, precision=precision)


def styled(scale=0.7):
    """A Stable Diffusion that the user gave a LoRA."""
    pipe = build("StableDiffusion")
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v", "to_out.0"]), "style")
    torch.manual_seed(3)
    for name, parameter in pipe.unet.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return StableDiffusion(pipe, guidance_scale=3.0, name="tiny", lora_scales=scale and {"style": scale})


def inputs(model):
    x = Generators(range(2)).randn(4, 16, 16)
    return x, x.flip(0), model.encode(["a cat", "dogs"])


def frozen(module):
    return [p for name, p in module.named_parameters() if f".{OWN}." not in name]


@pytest.mark.parametrize("lora", [LoRA(2), None])
def test_dpo_trains_with_the_adapters_of_the_backbone(lora):
    plain, module = styled(), DPOModule(styled(), beta=1.0, lora=lora, draws=2)
    chosen, rejected, condition = inputs(plain)
    terms, policy, fixed = module.terms(chosen, rejected, torch.Generator().manual_seed(1), condition)
    torch.testing.assert_close(policy, fixed)
    torch.testing.assert_close(terms.loss, torch.full((2,), math.log(2)))

    # The reference's errors are those of the untrained model with its adapters, at the same times and noise.
    generator = torch.Generator().manual_seed(1)
    offsets = torch.rand(1, 2, generator=generator)
    t = 1e-3 + (1 - 1e-3) * ((torch.arange(2)[:, None] + offsets).flatten() / 2)
    x0 = torch.cat([chosen] * 2)
    noisy = plain.corrupt(x0, t, generator)
    with torch.no_grad(), plain.active():
        error = plain.error(x0, noisy, t, {name: torch.cat([value] * 2) for name, value in condition.items()})
    torch.testing.assert_close(fixed[0], error.view(2, -1).mean(0))
    off = styled(scale=None)
    off.network.disable_adapters()
    with torch.no_grad():
        without = off.error(x0, noisy, t, {name: torch.cat([value] * 2) for name, value in condition.items()})
    assert (error - without).abs().min() > 1e-3


def test_only_the_new_adapter_learns(tmp_path):
    model = styled()
    data = pairs(styled(), tmp_path)
    before = drawn(model)
    module = DPOModule(model, beta=1.0, lora=LoRA(2), lr=1e-2, warmup=0)
    torch.testing.assert_close(drawn(model), before)
    kept = [p.detach().clone() for p in frozen(module)]
    trainer = fit(module, data, 3)
    assert all(torch.equal(one, other) for one, other in zip(frozen(module), kept, strict=True))
    after = drawn(model)
    assert (after - before).abs().max() > 1e-3

    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert state and all(f".{OWN}." in name for name in state)
    lidar = LiDARModule(styled(), REWARD, None, 2)
    L.Trainer(**QUIET).predict(lidar, PromptDataModule(["a cat"], 1, 1), ckpt_path=tmp_path / "last.ckpt")
    torch.testing.assert_close(drawn(lidar.backbone), after)


def test_reward_tuning_samples_with_the_adapters_of_the_backbone():
    plain, module = styled(), RewardTuningModule(styled(), BRIGHTNESS, "draft", 2, 1, lora=LoRA(2))
    found = module.samples(["a cat"], 0)
    with plain.active():
        generators = Generators([stream_seed(0, "a cat", 0)])
        expected = sample(plain, plain.solver(2), generators, plain.encode(["a cat"])).samples
    torch.testing.assert_close(found.detach(), expected)
    module.backbone.decode(found).mean().backward()
    grads = {name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    assert grads and all(f".{OWN}." in name for name in grads)


def test_pairs_of_another_space_are_refused(tmp_path, bank, carbon_reward):
    other = replace(bank, provenance=replace(bank.provenance, space="smiles-35x24", backbone="larger"))
    other.save(tmp_path / "bank.safetensors")
    data = PreferenceDataModule(str(tmp_path), carbon_reward, pairs=16, batch_size=4)
    with pytest.raises(
        ValueError, match="'larger' lie in the space 'smiles-35x24', but 'tiny' works in 'smiles-35x12'"
    ):
        fit(DPOModule(tiny()), data, 1)
    bank.save(tmp_path / "bank.safetensors")
    fit(DPOModule(tiny()), data, 1)


def test_pictures_of_another_autoencoder_are_refused(tmp_path):
    data = pairs(StableDiffusion(build("StableDiffusion", seed=1), name="other"), tmp_path)
    with pytest.raises(ValueError, match="'other' lie in the space .*, but 'tiny' works in"):
        fit(DPOModule(StableDiffusion(build("StableDiffusion"), name="tiny")), data, 1)
