"""Small pipelines of diffusers' own classes for 64 x 64 pictures, with random weights.

A factor-4 autoencoder turns a picture into 4 x 16 x 16 latents with mean 0 and standard deviation 1 each, so that its
scaling factor is 1 and its shift 0, and Stable Diffusion's and FLUX's pipelines can share it.
"""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel

from lidar_lightning.shapes.grammar import LENGTH
from lidar_lightning.shapes.render import SIZE
from lidar_lightning.shapes.tokens import clip_tokenizer, t5_tokenizer

FACTOR = 4
CHANNELS = 4


def autoencoder(widths: Sequence[int] = (32, 48, 64)) -> Any:
    """Builds an AutoencoderKL of three levels with these widths, multiples of 16."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=tuple(widths),
        latent_channels=CHANNELS,
        norm_num_groups=16,
        sample_size=SIZE,
        scaling_factor=1.0,
        shift_factor=0.0,
        force_upcast=False,
        mid_block_add_attention=False,
    )


def clip_text_model(tokenizer: CLIPTokenizer, width: int) -> CLIPTextModel:
    """Builds a two-layer CLIP text encoder."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_hidden_layers=2,
            num_attention_heads=max(1, width // 32),
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def stable_diffusion(
    vae: Any,
    widths: Sequence[int] = (64, 96, 128),
    text_width: int = 128,
    prediction: str = "v_prediction",
) -> Any:
    """Builds a StableDiffusionPipeline around the autoencoder, with Stable Diffusion's noise schedule and DDIM.

    Args:
        vae: the autoencoder.
        widths: widths of the UNet's three levels, multiples of 16; the lower two attend to the caption.
        text_width: width of the text encoder, a multiple of 32.
        prediction: what the UNet predicts, "v_prediction" or "epsilon".

    Raises:
        ValueError: if the prediction is neither of these.
    """
    if prediction not in ("v_prediction", "epsilon"):
        raise ValueError(f"the UNet predicts 'v_prediction' or 'epsilon', got {prediction!r}")
    tokenizer = clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=SIZE // FACTOR,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=tuple(widths),
        layers_per_block=1,
        cross_attention_dim=text_width,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=clip_text_model(tokenizer, text_width),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def flux(vae: Any, width: int = 160, double: int = 2, single: int = 4, text_width: int = 128) -> Any:
    """Builds a FluxPipeline around the autoencoder, without guidance distillation.

    Call it with `height=64, width=64, max_sequence_length=16`, since the pipeline's own defaults are FLUX.1's.
    Classifier-free guidance is `true_cfg_scale` with `negative_prompt=""`.

    Args:
        vae: the autoencoder.
        width: width of the transformer, a multiple of 32.
        double, single: numbers of its two kinds of blocks.
        text_width: width of both text encoders, a multiple of 32.
    """
    tokenizer, tokenizer_2 = clip_tokenizer(), t5_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=4 * CHANNELS,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=32,
        num_attention_heads=width // 32,
        joint_attention_dim=text_width,
        pooled_projection_dim=text_width,
        axes_dims_rope=(8, 12, 12),
    )
    text_encoder_2 = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer_2),
            d_model=text_width,
            d_kv=32,
            d_ff=2 * text_width,
            num_layers=2,
            num_heads=text_width // 32,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=clip_text_model(tokenizer, text_width),
        tokenizer=tokenizer,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        transformer=transformer,
    )


@torch.no_grad()
def standardise(vae: Any, latents: Tensor) -> None:
    """Changes the autoencoder so that these latents of it would have mean 0 and standard deviation 1 in each channel.

    The change is made in its 1 x 1 convolutions next to the latents, so that its reconstructions stay the same.

    Args:
        vae: the autoencoder, which is changed in place.
        latents: means of its posterior (n, C, h, w).

    Raises:
        ValueError: if a channel is constant.
    """
    mean, std = latents.float().mean((0, 2, 3)), latents.float().std((0, 2, 3))
    if not (std > 0).all():
        raise ValueError(f"channel {int(std.argmin())} of the latents is constant: train the autoencoder first")
    count = len(mean)
    into, out = vae.quant_conv, vae.post_quant_conv
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= std[:, None, None]
    into.weight[:count] /= std[:, None, None, None]
    into.bias[:count] = (into.bias[:count] - mean) / std
    into.bias[count:] -= 2 * std.log()


def save_half(pipe: Any, folder: str | Path) -> None:
    """Writes a pipeline in half precision, for `from_pretrained`; the pipeline itself stays as it is.

    If no dtype is given on loading, diffusers' parts come in float32, but those of transformers in the dtype that their
    configuration names, so that float32 is written there. The paths that parts were loaded from are left out.
    """
    half = copy.deepcopy(pipe)
    for part in half.components.values():
        if isinstance(part, nn.Module):
            part.half()
    half.save_pretrained(folder)
    for path in Path(folder).glob("*/config.json"):
        config = {key: value for key, value in json.loads(path.read_text()).items() if key != "_name_or_path"}
        if path.parent.name.startswith("text_encoder"):
            config["dtype"] = "float32"
        path.write_text(json.dumps(config, indent=2) + "\n")
