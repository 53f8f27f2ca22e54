"""`lidar fit` on pairs of pictures, then `lidar predict` from its checkpoint, of pipelines that run as a whole."""

import lightning as L
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from datamodules import PreferenceDataModule, PromptDataModule
from lidar_lightning import DPOModule, LiDARModule, Lookahead, cli
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.rewards import CallableReward
from lidar_lightning.solvers.scheduler import is_flow
from lidar_lightning.utils.pictures import save_png
from lidar_lightning.utils.seeding import Generators, stream_seed
from tests.backbones.test_any_pipeline import brightness, make
from tests.modules.test_lora_training import styled

NAMES = [
    "StableDiffusion3", "QwenImage", "ZImage", "Flux2Klein", "Sana", "Lumina2", "AuraFlow", "StableDiffusion",
    "StableDiffusionXL", "Flux", "PixArtSigma",
]  # fmt: skip
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
    "enable_checkpointing": False, "limit_val_batches": 0,
}  # fmt: skip


@pytest.fixture
def pairs(tmp_path):
    """Bright pictures are preferred to dark ones, of prompts of different lengths."""
    for i in range(4):
        save_png(tmp_path / "pairs" / f"{i}.png", torch.full((3, 32, 32), i / 3))
    sides = [{"chosen": f"{i}.png", "rejected": f"{3 - i}.png"} for i in (2, 3)]
    rows = [{"prompt": prompt, **side} for side in sides for prompt in ("a cat", "dog")]
    pd.DataFrame(rows).to_csv(tmp_path / "pairs" / "pairs.csv", index=False)
    return tmp_path / "pairs"


def fit(name, pairs, folder):
    """A checkpoint and an exported LoRA of three steps."""
    torch.manual_seed(0)
    settings = {"lr": 0.3, "draws": 1, "warmup": 0, "checkpointing": True}
    settings |= {"export": None if name == "PixArtSigma" else str(folder / "lora")}
    module = DPOModule(make(name), 100.0, LoRA(2), **settings)
    trainer = L.Trainer(max_steps=3, **QUIET)
    trainer.fit(module, PreferenceDataModule(str(pairs), batch_size=2, validation=0.0))
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


def predict(name, lookahead=None, checkpoint=None):
    """Clean samples and their pictures, of two steps, guided if there are lookaheads."""
    reward = CallableReward(brightness, name="brightness", modality="image")
    lidar = LiDARModule(make(name), reward, lookahead, steps=2, temperature=0.5)
    data = PromptDataModule(["a cat"], samples=1, batch_size=1)
    (part,) = L.Trainer(**QUIET).predict(lidar, data, ckpt_path=checkpoint)
    return part.samples, part.decoded


@pytest.mark.parametrize("name", NAMES)
def test_fit_then_predict_then_stock(name, pairs, tmp_path):
    checkpoint = fit(name, pairs, tmp_path)
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert state and {key.rpartition(".lora_")[0].split(".")[2] for key in state} <= {"unet", "transformer"}
    (plain, _), (tuned, pictures) = predict(name), predict(name, checkpoint=checkpoint)
    both, _ = predict(name, Lookahead(2, 4), checkpoint)
    assert (tuned - plain).abs().max() > 1e-3
    assert (both - tuned).abs().max() > 1e-3 or not is_flow(make(name).scheduler)  # two steps of DDIM begin at t = 0.5

    if name == "PixArtSigma":
        return
    stock = make(name)
    stock.pipe.load_lora_weights(tmp_path / "lora")
    stream = [torch.Generator().manual_seed(stream_seed(0, "a cat", 0))]
    found = stock.pipe(prompt=["a cat"], num_inference_steps=2, generator=stream, output_type="pt", **stock.call)[0]
    torch.testing.assert_close(found.clamp(0, 1), pictures, rtol=0, atol=1e-4)


def test_the_command_fits_and_predicts(pairs, tmp_path):
    backbone = make("ZImage")
    backbone.pipe.save_pretrained(tmp_path / "z-image")
    source = {
        "class_path": "lidar_lightning.AnyPipeline.from_pretrained",
        "init_args": {"pretrained_model_name_or_path": str(tmp_path / "z-image"), "call": backbone.call},
    }
    lora = {"class_path": "lidar_lightning.backbones.LoRA", "init_args": {"rank": 2}}
    saved = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"dirpath": str(tmp_path / "dpo"), "save_last": True},
    }
    reward = {"path": f"{brightness.__module__}:brightness", "name": "brightness", "modality": "image"}
    lidar = {
        "backbone": source, "steps": 2, "temperature": 0.5, "out": str(tmp_path / "run"),
        "lookahead": {"class_path": "lidar_lightning.Lookahead", "init_args": {"steps": 2, "n": 4}},
        "reward": {"class_path": "lidar_lightning.rewards.CallableReward", "init_args": reward},
    }  # fmt: skip
    preferences = {"path": str(pairs), "batch_size": 2, "validation": 0.0}
    configs = {
        "fit": {
            "model": {
                "class_path": "lidar_lightning.DPOModule",
                "init_args": {"backbone": source, "lora": lora, "draws": 1, "export": str(tmp_path / "lora")},
            },
            "data": {"class_path": "datamodules.PreferenceDataModule", "init_args": preferences},
            "trainer": {**QUIET, "enable_checkpointing": True, "max_steps": 1, "callbacks": [saved]},
        },
        "predict": {
            "model": {"class_path": "lidar_lightning.LiDARModule", "init_args": lidar},
            "data": {"class_path": "datamodules.PromptDataModule", "init_args": {"prompts": ["a cat"], "samples": 1}},
            "trainer": {key: QUIET[key] for key in ("accelerator", "logger", "enable_progress_bar")},
        },
    }
    checkpoint = {"predict": ["--ckpt_path", str(tmp_path / "dpo" / "last.ckpt")], "fit": []}
    for command, config in configs.items():
        (tmp_path / f"{command}.yaml").write_text(yaml.safe_dump(config))
        assert cli.main([command, "-c", str(tmp_path / f"{command}.yaml"), *checkpoint[command]]) == 0
    assert len(list((tmp_path / "run" / "images").iterdir())) == 1
    assert cli.main(["push", str(tmp_path / "lora"), "me/mine", "--dry-run"]) == 0
    assert "by DPO of LiDAR-Lightning" in (tmp_path / "lora" / "README.md").read_text()


def test_conditions_of_other_lengths_are_cached_and_used(pairs, monkeypatch):
    data = {"batch_size": 2, "validation": 0.5}
    for attempt in range(2):
        torch.manual_seed(0)
        module = DPOModule(make("QwenImage"), lora=LoRA(2), draws=1)
        if attempt:
            monkeypatch.setattr(module.backbone, "x0_of", lambda _: pytest.fail("encoded again"))
            monkeypatch.setattr(module.backbone, "told", lambda _: pytest.fail("encoded again"))
        trainer = L.Trainer(max_steps=1, **{**QUIET, "limit_val_batches": 1})
        trainer.fit(module, PreferenceDataModule(str(pairs), **data))
    (cache,) = pairs.glob("latents-*")
    shapes = {load_file(file)[key].shape for file in cache.iterdir() for key in load_file(file) if key != "latents"}
    assert len(shapes) == 2


def gradients(model, checkpointing):
    torch.manual_seed(0)
    module = DPOModule(model, lora=LoRA(2), draws=1, checkpointing=checkpointing)
    own = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for place, parameter in enumerate(own):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(place)) / 3)
    x0 = torch.randn(2, *model.prior(Generators([0])).shape[1:], generator=torch.Generator().manual_seed(0))
    module._training.enter_context(model.active())
    terms, _, _ = module.terms(x0, x0.flip(0), torch.Generator().manual_seed(1), model.told(["a cat", "dog"]))
    terms.loss.sum().backward()
    return [parameter.grad for parameter in own]


@pytest.mark.parametrize("name", ["StableDiffusion", "ZImage", "QwenImage"])
def test_checkpointing_changes_no_gradient(name):
    for one, other in zip(gradients(make(name), True), gradients(make(name), False), strict=True):
        torch.testing.assert_close(one, other)


def test_checkpointing_keeps_the_adapters_that_the_backbone_runs_with():
    """The backward pass computes again with what was on in the forward pass, not with what is on outside of it."""
    for one, other in zip(gradients(styled(), True), gradients(styled(), False), strict=True):
        torch.testing.assert_close(one, other)


def test_networks_without_checkpointing_are_named(udlm):
    with pytest.raises(ValueError, match="a UDLM has no gradient checkpointing"):
        DPOModule(udlm, checkpointing=True)
