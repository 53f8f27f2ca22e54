import json
import logging
import random

import lightning as L
import pytest
import torch
from diffusers import AutoencoderKL, FluxPipeline, StableDiffusionPipeline
from torch.optim import Muon

from datamodules.latents import Latents, LatentsDataModule
from datamodules.shapes import Scenes
from lidar_lightning.backbones.vae import latents_of
from lidar_lightning.pretraining.autoencoder import AutoencoderModule
from lidar_lightning.pretraining.latents import FluxPretrain, StableDiffusionPretrain
from lidar_lightning.pretraining.optim import FoldedMuon, rise_and_fall
from lidar_lightning.rewards import ShapesReward
from lidar_lightning.shapes import render, verdicts
from lidar_lightning.shapes.grammar import CATEGORIES, by_text, words
from lidar_lightning.shapes.networks import autoencoder, flux, save_half, stable_diffusion, standardise
from lidar_lightning.shapes.tokens import clip_tokenizer, t5_tokenizer
from recipes import shapes_flux, shapes_reward, shapes_sd, shapes_vae

SMALL_VAE = (16, 16, 16)


def vae(seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    return autoencoder(SMALL_VAE).eval().requires_grad_(False)


def sd(prediction: str = "v_prediction") -> StableDiffusionPipeline:
    return stable_diffusion(vae(), (16, 32, 32), text_width=32, prediction=prediction)


def small_flux() -> FluxPipeline:
    return flux(vae(), width=32, double=1, single=1, text_width=32)


def size(folder) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_every_word_is_one_token():
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    for word in words():
        assert len(clip(word).input_ids) == 3 and len(t5(word).input_ids) == 2, word
    texts = random.Random(0).sample(sorted(by_text()), 300)
    for text in texts:
        assert clip.decode(clip(text).input_ids, skip_special_tokens=True).strip() == text
        assert t5.decode(t5(text).input_ids, skip_special_tokens=True) == text
        assert len(clip(text).input_ids) == len(text.split()) + 2 <= 12
    assert len(clip("a purple elephant").input_ids) > 5  # unknown words fall into letters


def test_shipped_sizes_fit_thirty_megabytes(tmp_path):
    network = autoencoder()
    folders = {"sd": stable_diffusion(network), "flux": flux(network)}
    for name, pipe in folders.items():
        save_half(pipe, tmp_path / name)
    assert size(tmp_path / "sd") < 15e6 and size(tmp_path / "sd" / "vae") < 3e6
    assert size(tmp_path) + 3e6 < 30e6


def test_standardised_autoencoder_restores_the_same():
    network, images = vae(), Scenes(16).__getitems__(range(16))["image"]
    before = network.decode(latents_of(network, images)).sample
    standardise(network, latents_of(network, images))
    latents = latents_of(network, images)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-4 and (latents.std((0, 2, 3)) - 1).abs().max() < 1e-3
    assert torch.allclose(network.decode(latents).sample, before, atol=1e-4)
    with pytest.raises(ValueError, match="channel 0 of the latents is constant"):
        standardise(network, torch.zeros(2, 4, 16, 16))


def test_spread_of_the_posterior_is_standardised_too():
    network, images = vae(), Scenes(4).__getitems__(range(4))["image"]
    old = network.encode(2 * images - 1).latent_dist
    std = old.mean.std((0, 2, 3), keepdim=True)
    standardise(network, old.mean)
    new = network.encode(2 * images - 1).latent_dist
    assert torch.allclose(new.std, old.std / std, rtol=1e-3)


@pytest.mark.parametrize("kind", ["sd", "flux"])
def test_saved_pipelines_load_as_the_stock_class(tmp_path, kind):
    pipe = sd() if kind == "sd" else small_flux()
    pipe.vae.register_to_config(_name_or_path="/somebody/at/home")
    save_half(pipe, tmp_path)
    assert not any("somebody" in path.read_text() for path in tmp_path.rglob("*.json"))
    assert next(pipe.vae.parameters()).dtype == torch.float32
    loaded = type(pipe).from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    extra = {} if kind == "sd" else {"height": 64, "width": 64, "max_sequence_length": 16}
    image = loaded(["a red circle", "two stars"], num_inference_steps=2, output_type="pt", **extra).images
    assert image.shape == (2, 3, 64, 64) and image.isfinite().all()
    assert {p.dtype for c in ("vae", "text_encoder") for p in getattr(loaded, c).parameters()} == {torch.float32}


def test_stock_pipeline_parts_are_named():
    with pytest.raises(ValueError, match="predicts 'v_prediction' or 'epsilon', got 'sample'"):
        sd("sample")


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_stable_diffusion_error_is_that_of_its_prediction(prediction, monkeypatch):
    """With a denoiser that answers zero, the error is the mean square of what is to be predicted."""
    module = StableDiffusionPretrain(sd(prediction))
    monkeypatch.setattr(module.denoiser, "forward", lambda x, t, **_: type("Out", (), {"sample": torch.zeros_like(x)}))
    latents, noise = torch.randn(2, 3, 4, 16, 16)
    u = torch.tensor([0.0, 0.5, 0.999])
    alpha = module.pipe.scheduler.alphas_cumprod[[0, 500, 999]].view(3, 1, 1, 1)
    target = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents if prediction == "v_prediction" else noise
    found = module.error(latents, ["a circle"] * 3, u, noise)
    assert torch.allclose(found, target.square().mean((1, 2, 3)), rtol=1e-4)


def test_flux_error_is_that_of_its_velocity(monkeypatch):
    module = FluxPretrain(small_flux())
    seen = {}

    def forward(**inputs):
        seen.update(inputs)
        return type("Out", (), {"sample": torch.zeros_like(inputs["hidden_states"])})

    monkeypatch.setattr(module.denoiser, "forward", forward)
    latents, noise = torch.randn(2, 2, 4, 16, 16)
    found = module.error(latents, ["a circle", "two stars"], torch.tensor([0.5, 0.9]), noise)
    assert torch.allclose(found, (noise - latents).square().mean((1, 2, 3)), rtol=1e-4)
    assert seen["timestep"][0].item() == pytest.approx(0.5) and 0.75 < seen["timestep"][1] < 0.8
    mixed = module.pipe._unpack_latents(seen["hidden_states"], 64, 64, 4)
    assert torch.allclose(mixed[0], (latents[0] + noise[0]) / 2, atol=1e-6)


@pytest.mark.parametrize("make", [lambda: StableDiffusionPretrain(sd()), lambda: FluxPretrain(small_flux())])
def test_training_reaches_denoiser_and_text_encoders(make):
    module = make()
    torch.manual_seed(0)
    latents, noise = torch.randn(2, 4, 4, 16, 16)
    prompts = ["a circle", "", "two red stars", "a ring above a cross"]
    for p in module.parameters():  # FLUX starts from zero gates
        torch.nn.init.normal_(p, std=0.1)
    module.error(latents, prompts, torch.rand(4), noise).mean().backward()
    without = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert all("text.0" in name and ("embedding" in name or "bias" in name) for name in without), without
    assert not any(name.startswith("pipe") or "vae" in name for name in module.state_dict())


def test_training_lowers_the_loss_and_validates(tmp_path):
    torch.manual_seed(0)
    network = vae()
    data = LatentsDataModule(network, str(tmp_path), count=64, validation=8, batch_size=16)
    module = StableDiffusionPretrain(
        stable_diffusion(network, (16, 32, 32), text_width=32), lr=4e-3, per_category=1, steps=2
    )
    trainer = L.Trainer(
        max_steps=40, val_check_interval=40, check_val_every_n_epoch=None, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, data)
    found = trainer.callback_metrics
    assert found["val/loss"] < 0.9  # a network that answers zero has 1 or more
    assert {f"val/{category}" for category in CATEGORIES} <= found.keys() and 0 <= found["val/accuracy"] <= 1


def test_accuracy_is_the_share_of_right_pictures(monkeypatch):
    module = StableDiffusionPretrain(sd())
    scenes = [Scenes(60, split="validation").scenes(i)[0] for i in range(12)]
    images = render(scenes)
    images[0] = 0.95
    monkeypatch.setattr(module, "draw", lambda prompts, generators: images)
    found = module.accuracy([scene.prompt.text for scene in scenes])
    assert found["accuracy"] == pytest.approx(11 / 12)
    assert found["single_object"] == 0.5 and found["position"] == 1 and len(found) == 7


def test_latents_are_encoded_once(tmp_path, monkeypatch, caplog):
    network = vae()
    data = LatentsDataModule(network, str(tmp_path), count=12, validation=6, batch_size=4)
    with pytest.raises(ValueError, match="no latents at .*call prepare_data first"):
        data.setup()
    data.prepare_data()
    data.setup()
    batch = data.training.__getitems__([3, 7])
    scenes = Scenes(12).__getitems__([3, 7])
    assert batch["prompt"] == scenes["prompt"]
    assert (batch["latent"] - latents_of(network, scenes["image"])).abs().max() < 0.05
    assert sum(len(batch["prompt"]) for batch in data.val_dataloader()) == 6
    monkeypatch.setattr(LatentsDataModule, "write", lambda *_: pytest.fail("encoded again"))
    LatentsDataModule(network, str(tmp_path), count=12, validation=6).prepare_data()
    monkeypatch.undo()
    data.path("train").write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        data.prepare_data()
    assert "is damaged and will be written anew" in caplog.text
    data.setup()
    assert isinstance(data.training, Latents) and torch.equal(data.training[3]["latent"], batch["latent"][:1])
    assert LatentsDataModule(vae(1), str(tmp_path), count=12).path("train") != data.path("train")
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        LatentsDataModule(network, str(tmp_path), batch_size=0)


def test_folded_muon_is_muon_on_flattened_kernels():
    torch.manual_seed(0)
    kernel = torch.nn.Parameter(torch.randn(6, 4, 3, 3))
    matrix = torch.nn.Parameter(kernel.detach().flatten(1).clone())
    gradient = torch.randn(3, 6, 36)
    folded = FoldedMuon([kernel], 0.01)
    plain = Muon([matrix], lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for step in gradient:
        kernel.grad, matrix.grad = step.view_as(kernel), step
        folded.step()
        plain.step()
    assert torch.equal(kernel.flatten(1), matrix)
    with pytest.raises(ValueError, match=r"two or more dimensions, got one of shape \(3,\)"):
        FoldedMuon([torch.nn.Parameter(torch.zeros(3))], 0.01)
    with pytest.raises(ValueError, match="fractions of one run"):
        rise_and_fall(FoldedMuon([kernel], 0.01), 10, 0.6, 0.6)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="dropout is a fraction"):
        StableDiffusionPretrain(sd(), dropout=1.5)
    with pytest.raises(ValueError, match="kl"):
        AutoencoderModule(vae(), kl=-1.0)
    with pytest.raises(ValueError, match="fractions of one run"):
        AutoencoderModule(vae(), warmup_fraction=0.6)


def test_recipes_run_in_turn_resume_and_export(tmp_path):
    common = {"batch_size": 4, "validation": 4, "precision": "32-true"}
    folder = shapes_vae.main(out=str(tmp_path / "vae"), steps=2, widths=SMALL_VAE, save_every=1, **common)
    network = AutoencoderKL.from_pretrained(folder)
    assert network.config.scaling_factor == 1.0 and network.config.shift_factor == 0.0
    shared = {"vae": str(folder), "cache": str(tmp_path / "latents"), "count": 16, "per_category": 1, **common}
    sd_settings = {"out": str(tmp_path / "sd"), "widths": (16, 16, 32), **shared}
    shapes_sd.main(steps=1, **sd_settings)
    saved = shapes_sd.main(steps=2, **sd_settings)
    assert torch.load(tmp_path / "sd" / "last.ckpt", weights_only=True)["global_step"] == 2
    assert json.loads((saved / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"
    saved = shapes_flux.main(out=str(tmp_path / "flux"), steps=1, width=32, double=1, single=1, **shared)
    assert json.loads((saved / "model_index.json").read_text())["_class_name"] == "FluxPipeline"
    assert len(list((tmp_path / "latents").glob("*.safetensors"))) == 2  # encoded once, for both
    reward = shapes_reward.main(out=str(tmp_path / "reward"), steps=2, width=32, layers=1, **common)
    images = Scenes(2).__getitems__([0, 1])
    assert ShapesReward(reward)(images["image"], images["prompt"]).isfinite().all()
    assert verdicts(images["image"], images["prompt"])[0].correct
