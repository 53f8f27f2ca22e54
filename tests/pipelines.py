"""Tiny random pipelines of the published classes, built in memory: 32x32 pixels, latents of 4x16x16 or alike."""

from collections.abc import Callable

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

LENGTH = 16
LETTERS = [chr(c) for c in range(97, 123)]


def tokenizer() -> CLIPTokenizer:
    pieces = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=LENGTH)


def t5_tokenizer() -> T5TokenizerFast:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *((letter, -2.0) for letter in LETTERS)]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=LENGTH)


def clip(kind: type = CLIPTextModel, width: int = 16) -> torch.nn.Module:
    config = CLIPTextConfig(
        vocab_size=54, hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=LENGTH, projection_dim=width, bos_token_id=52, eos_token_id=53, pad_token_id=53,
    )  # fmt: skip
    return kind(config)


def t5(width: int = 16) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=32, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2))


def vae(channels: int = 4, shift: float | None = None) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=channels, shift_factor=shift,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=32,
    )  # fmt: skip


def unet(cross: int, **changes: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, cross_attention_dim=cross,
        attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **changes,
    )  # fmt: skip


def ddim(**changes: object) -> DDIMScheduler:
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    return DDIMScheduler(**{**settings, "clip_sample": False, "set_alpha_to_one": False, **changes})


def stable_diffusion() -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae(), clip(), tokenizer(), unet(16), ddim(), None, None, requires_safety_checker=False
    )


def stable_diffusion_xl() -> StableDiffusionXLPipeline:
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    network = unet(32, projection_class_embeddings_input_dim=6 * 8 + 16, **added)
    second = clip(CLIPTextModelWithProjection)
    return StableDiffusionXLPipeline(
        vae(), clip(), second, tokenizer(), tokenizer(), network, ddim(), add_watermarker=False
    )


def stable_diffusion_3() -> StableDiffusion3Pipeline:
    network = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=8, out_channels=8, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32,
        pos_embed_max_size=16,
    )  # fmt: skip
    first, second = clip(CLIPTextModelWithProjection), clip(CLIPTextModelWithProjection)
    return StableDiffusion3Pipeline(
        network, FlowMatchEulerDiscreteScheduler(shift=3.0), vae(8, 0.1), first, tokenizer(), second, tokenizer(),
        t5(32), t5_tokenizer(),
    )  # fmt: skip


def flux(guidance: bool = True) -> FluxPipeline:
    network = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(2, 2, 4), guidance_embeds=guidance,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return FluxPipeline(scheduler, vae(4, 0.1), clip(), tokenizer(), t5(), t5_tokenizer(), network)


BUILDERS = {
    "StableDiffusion": stable_diffusion,
    "StableDiffusionXL": stable_diffusion_xl,
    "StableDiffusion3": stable_diffusion_3,
    "Flux": flux,
}


def filled(builder: Callable[[], DiffusionPipeline], seed: int = 0) -> DiffusionPipeline:
    """What a builder makes, but without zero layers, so that everything has an effect."""
    torch.manual_seed(seed)
    pipe = builder()
    for module in (v for v in pipe.components.values() if isinstance(v, torch.nn.Module)):
        for parameter in module.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def build(name: str, seed: int = 0) -> DiffusionPipeline:
    """A pipeline whose networks have no zero layers, so that everything has an effect."""
    return filled(BUILDERS[name], seed)
