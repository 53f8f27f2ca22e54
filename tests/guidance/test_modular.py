"""LiDAR as modular blocks: every modular pipeline draws what `guide` gives in the stock one; blocks are saved."""

import types
from importlib import import_module

import pytest
import torch
from diffusers import ModularPipelineBlocks
from diffusers.guiders import ClassifierFreeGuidance

from lidar_lightning import AnyPipeline, Lookahead, guide
from lidar_lightning.guidance.modular import LiDARBankStep, LiDARStep, add_lidar
from lidar_lightning.rewards import CallableReward
from tests import modern_pipelines, pipelines

BRIGHT = CallableReward(lambda samples, prompts: samples.mean((1, 2, 3)) * 1e2, name="brightness", modality="image")
SIZE = {"height": 32, "width": 32}
LAYERS = {"text_encoder_out_layers": (1, 2, 3)}
CASES = {
    "StableDiffusionXL": ("stable_diffusion_xl", "StableDiffusionXLAutoBlocks", 3.0, {}, {"guidance_scale": 3.0}),
    "StableDiffusion3": ("stable_diffusion_3", "StableDiffusion3AutoBlocks", 1.0, {}, {"guidance_scale": 1.0}),
    "Flux": ("flux", "FluxAutoBlocks", None, {"guidance_scale": 3.5}, {"guidance_scale": 3.5}),
    "Flux2Klein": ("flux2", "Flux2KleinAutoBlocks", None, LAYERS, {"guidance_scale": 1.0, **LAYERS}),
    "QwenImage": (
        "qwenimage",
        "QwenImageAutoBlocks",
        3.0,
        {"negative_prompt": [" ", " "]},
        modern_pipelines.CALLS["QwenImage"],
    ),
    "ZImage": ("z_image", "ZImageAutoBlocks", 3.0, {}, {"guidance_scale": 2.0}),
    "Wan": ("wan", "WanBlocks", 3.0, {"num_frames": 1}, {"guidance_scale": 3.0, "num_frames": 1}),
}
"""Where the blocks are, the scale of their guider, and what the modular and the stock pipeline are called with."""
FILES = {"Flux2Klein": "flux2_klein"}
BANK = {"lidar_rewards": [BRIGHT], "lidar_lookaheads": 3, "lidar_steps": 2, "lidar_batch_size": 2}


@pytest.fixture(autouse=True)
def no_ftfy(monkeypatch):
    """Modular Wan cleans prompts by a package that it only needs for broken ones."""
    clean = types.SimpleNamespace(fix_text=lambda text: text)
    monkeypatch.setattr("diffusers.modular_pipelines.wan.encoders.ftfy", clean, raising=False)


def stock_of(name):
    pipe = pipelines.build(name) if name in pipelines.BUILDERS else modern_pipelines.build(name)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    return pipe


def blocks_of(name):
    folder, kind = CASES[name][:2]
    return getattr(
        import_module(f"diffusers.modular_pipelines.{folder}.modular_blocks_{FILES.get(name, folder)}"), kind
    )()


def modular(name, pipe, blocks):
    """A modular pipeline of the same parts."""
    made, scale = blocks.init_pipeline(), CASES[name][2]
    guider = {} if scale is None else {"guider": ClassifierFreeGuidance(guidance_scale=scale, enabled=scale > 1)}
    made.update_components(**{k: v for k, v in pipe.components.items() if v is not None}, **guider)
    return made


def told(steps=3):
    streams = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    return {"num_inference_steps": steps, "generator": streams, "output_type": "pt", **SIZE}


@pytest.mark.parametrize("name", CASES)
def test_blocks_draw_what_guide_draws(name):
    pipe = stock_of(name)
    ours = modular(name, pipe, add_lidar(blocks_of(name), temperature=50.0))
    state = ours(prompt=["a cat"] * 2, **told(), **CASES[name][3], **BANK)
    bank = state.get("lidar_bank")[0]
    assert state.get("lidar_bank")[1] is bank and len(state.get("lidar_guidance").take_diagnostics()) == 3
    call = CASES[name][4]
    with guide(pipe, bank, temperature=50.0):
        expected = pipe(prompt=["a cat"] * 2, **told(), **call)[0]
    plain = pipe(prompt=["a cat"] * 2, **told(), **call)[0]
    found = state.get("videos" if name == "Wan" else "images")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert not torch.equal(found, plain)
    own = Lookahead(2, 3, batch_size=2).bank(AnyPipeline(pipe, {**call, **SIZE}), "a cat", 0, [BRIGHT])
    torch.testing.assert_close(bank.samples, own.samples, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(bank.rewards["brightness"], own.rewards["brightness"], rtol=1e-4, atol=1e-3)
    assert bank.provenance.space == own.provenance.space


@pytest.fixture(scope="module")
def z_image():
    pipe = stock_of("ZImage")
    bank = Lookahead(2, 3).bank(AnyPipeline(pipe, {"guidance_scale": 2.0, **SIZE}), "a cat", 0, [BRIGHT])
    return pipe, bank


def test_a_block_is_saved_and_loaded_as_remote_code(tmp_path, z_image, monkeypatch):
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    pipe, bank = z_image
    pictures = []
    for folder in (None, tmp_path / "step"):
        step = LiDARStep(temperature=50.0)
        if folder:
            step.save_pretrained(folder)
            step = ModularPipelineBlocks.from_pretrained(str(folder), trust_remote_code=True, temperature=50.0)
        blocks = blocks_of("ZImage")
        loop = blocks.sub_blocks["denoise"].sub_blocks["text2image"].sub_blocks["denoise"]
        loop.sub_blocks.insert("lidar", step, 2)
        pictures.append(modular("ZImage", pipe, blocks)(prompt="a cat", **told(), lidar_bank=bank, output="images"))
    assert torch.equal(*pictures)
    LiDARBankStep().save_pretrained(tmp_path / "bank")
    loaded = ModularPipelineBlocks.from_pretrained(str(tmp_path / "bank"), trust_remote_code=True)
    assert [one.name for one in loaded.inputs] == [one.name for one in LiDARBankStep().inputs]


def test_what_does_not_fit_is_named(z_image):
    pipe, bank = z_image
    ours = modular("ZImage", pipe, add_lidar(blocks_of("ZImage"), bank=False, temperature=50.0, start=0.1))
    with pytest.warns(UserWarning, match="guidance never ran: all 3 steps were at t from 1.00"):
        ours(prompt="a cat", **told(), lidar_bank=bank)
    with pytest.raises(ValueError, match="Required input 'lidar_bank' is missing"):
        ours(prompt="a cat", **told())
    with pytest.raises(ValueError, match="asked for pictures of 32x64 pixels, but the bank"):
        ours(prompt="a cat", **{**told(), "width": 64}, lidar_bank=bank)
    with pytest.raises(ValueError, match="have no loop with an after_denoiser"):
        add_lidar(LiDARBankStep())
