"""Genuine architectures with random weights: the published configurations of SD 1.5, SDXL, FLUX.1-dev and Z-Image.

Sizes are those of the published config.json files, which the numbers of parameters confirm (see the test). Tokenizers
know letters only: what they make is padded to the published length where the model pads. Each model has a tiny form of
the same classes, for tests.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import diffusers
import torch
import transformers
from torch import nn
from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from lidar_lightning import AnyPipeline
from lidar_lightning.backbones import Backbone, Flux, StableDiffusion, StableDiffusionXL
from lidar_lightning.rewards import ImageReward
from lidar_lightning.rewards.image_reward import BLIPScorer
from lidar_lightning.rewards.network import Tokens

Configs = dict[str, dict[str, Any]]
LETTERS = [chr(code) for code in range(97, 123)]
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
FLUX_VAE = VAE | {
    "latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159, "sample_size": 1024,
    "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
TINY_VAE = {"block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 32, "layers_per_block": 1,
            "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}  # fmt: skip
CLIP_L = {"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
          "num_attention_heads": 12, "max_position_embeddings": 77, "projection_dim": 768}  # fmt: skip
CLIP_G = CLIP_L | {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
                   "projection_dim": 1280, "hidden_act": "gelu"}  # fmt: skip
TINY_CLIP = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
             "projection_dim": 16, "vocab_size": 64}  # fmt: skip
T5_XXL = {"d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_heads": 64, "num_layers": 24, "vocab_size": 32128,
          "feed_forward_proj": "gated-gelu"}  # fmt: skip
QWEN3_4B = {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True}  # fmt: skip
SD_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1,
            "clip_sample": False, "set_alpha_to_one": False}  # fmt: skip
TINY_UNET = {"sample_size": 16, "block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1,
             "attention_head_dim": 4, "transformer_layers_per_block": 1,
             "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
             "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}  # fmt: skip


@dataclass(frozen=True)
class FullSize:
    """One model.

    Attributes:
        pipeline: its class in diffusers.
        scheduler, noise: class and configuration of its scheduler.
        full, tiny: by component, the class and configuration; what the tiny form changes.
        steps: of a whole sample, as published.
        settings: of its backbone.
        preset: of its lookaheads; None takes `few` steps of its own solver.
        beta: of DPO.
    """

    pipeline: Any
    backbone: type[Backbone]
    classes: dict[str, Any]
    full: Configs
    tiny: Configs
    scheduler: Any = diffusers.FlowMatchEulerDiscreteScheduler
    noise: dict[str, Any] = field(default_factory=dict)
    steps: int = 50
    settings: dict[str, Any] = field(default_factory=dict)
    preset: str | None = None
    few: int = 8
    beta: float = 100.0

    def configs(self, tiny: bool = False) -> Configs:
        return {key: config | (self.tiny[key] if tiny else {}) for key, config in self.full.items()}

    def modules(self, tiny: bool = False) -> dict[str, nn.Module]:
        """All networks with random weights, on the device and in the dtype that torch has as defaults."""
        return {key: make(self.classes[key], config) for key, config in self.configs(tiny).items()}

    def build(self, device: str, dtype: torch.dtype, tiny: bool = False, size: int | None = None) -> Backbone:
        """The backbone, of square pictures of that many pixels if given."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                parts: dict[str, Any] = self.modules(tiny)
        finally:
            torch.set_default_dtype(before)
        encoders = [key for key in parts if key.startswith("text_encoder")]
        parts |= {key.replace("text_encoder", "tokenizer"): tokenizer(parts[key]) for key in encoders}
        empty = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        extra = empty if self.pipeline is diffusers.StableDiffusionPipeline else {}
        pipe = self.pipeline(scheduler=self.scheduler(**self.noise), **parts, **extra).to(device, dtype)
        pipe.set_progress_bar_config(disable=True)
        pixels = {"height": size or 32, "width": size or 32} if size or tiny else {}
        if self.backbone is AnyPipeline:
            return AnyPipeline(pipe, call={"height": 1024, "width": 1024, **self.settings, **pixels})
        return self.backbone(pipe, **self.settings, **pixels)


def make(kind: Any, config: dict[str, Any]) -> nn.Module:
    """A network of diffusers or transformers, in evaluation."""
    told = getattr(kind, "config_class", None)
    return (kind(told(**config)) if told else kind(**config)).eval()


def tokenizer(encoder: Any) -> Any:
    """Of letters, with as many tokens as the encoder reads."""
    if isinstance(encoder, transformers.CLIPPreTrainedModel):
        pieces = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
        vocab = {piece: number for number, piece in enumerate(pieces)}
        return transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *((letter, -2.0) for letter in LETTERS)]
    made = transformers.T5TokenizerFast(vocab=words, extra_ids=0, model_max_length=512)
    made.chat_template = "{{ messages[0]['content'] }}"
    return made


class RandomImageReward(ImageReward):
    """ImageReward's architecture, BLIP with a ViT-L and a BERT base, with random weights."""

    def __init__(self, tiny: bool = False):
        super().__init__("random", "random")
        self.tiny = tiny

    def load(self) -> nn.Module:
        small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        base = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
        seen, read = (small, small) if self.tiny else (large, base)
        vision = BlipVisionConfig(**seen, image_size=32 if self.tiny else 224, patch_size=16)
        text = BlipTextConfig(
            **read, vocab_size=30524, encoder_hidden_size=seen["hidden_size"], max_position_embeddings=512,
            is_decoder=True,
        )  # fmt: skip
        widths = (read["hidden_size"], 1024, 128, 64, 16, 1)
        head = nn.Sequential(*(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)))
        return BLIPScorer(BlipVisionModel(vision), BlipTextModel(text, add_pooling_layer=False), head)

    @cached_property
    def tokens(self) -> Tokens:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
        return Tokens(self.name, BertTokenizer(vocab={word: i for i, word in enumerate(words)}), self.limit)


MODELS = {
    "sd15": FullSize(
        diffusers.StableDiffusionPipeline, StableDiffusion,
        {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL,
         "text_encoder": transformers.CLIPTextModel},
        {"unet": {"cross_attention_dim": 768, "sample_size": 64, "attention_head_dim": 8},
         "vae": VAE, "text_encoder": CLIP_L},
        {"unet": TINY_UNET | {"cross_attention_dim": 16}, "vae": TINY_VAE, "text_encoder": TINY_CLIP},
        diffusers.DDIMScheduler, SD_NOISE, 100, {"guidance_scale": 7.5, "eta": 1.0}, "dpm-5", beta=5000.0,
    ),
    "sdxl": FullSize(
        diffusers.StableDiffusionXLPipeline, StableDiffusionXL,
        {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL,
         "text_encoder": transformers.CLIPTextModel, "text_encoder_2": transformers.CLIPTextModelWithProjection},
        {"unet": {"cross_attention_dim": 2048, "sample_size": 128, "attention_head_dim": (5, 10, 20),
                  "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10),
                  "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                  "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                  "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
                  "projection_class_embeddings_input_dim": 2816, "use_linear_projection": True},
         "vae": VAE | {"scaling_factor": 0.13025, "sample_size": 1024}, "text_encoder": CLIP_L,
         "text_encoder_2": CLIP_G},
        {"unet": TINY_UNET | {"cross_attention_dim": 32, "addition_time_embed_dim": 8,
                              "projection_class_embeddings_input_dim": 64},
         "vae": TINY_VAE, "text_encoder": TINY_CLIP, "text_encoder_2": TINY_CLIP},
        diffusers.DDIMScheduler, SD_NOISE, 100, {"guidance_scale": 7.5, "eta": 1.0}, "dpm-8-karras", beta=5000.0,
    ),
    "flux": FullSize(
        diffusers.FluxPipeline, Flux,
        {"transformer": diffusers.FluxTransformer2DModel, "vae": diffusers.AutoencoderKL,
         "text_encoder": transformers.CLIPTextModel, "text_encoder_2": transformers.T5EncoderModel},
        {"transformer": {"guidance_embeds": True}, "vae": FLUX_VAE, "text_encoder": CLIP_L, "text_encoder_2": T5_XXL},
        {"transformer": {"in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8,
                         "num_attention_heads": 2, "joint_attention_dim": 16, "pooled_projection_dim": 16,
                         "axes_dims_rope": (2, 2, 4)},
         "vae": TINY_VAE | {"latent_channels": 4}, "text_encoder": TINY_CLIP,
         "text_encoder_2": {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 1, "vocab_size": 64}},
        noise={"shift": 3.0, "use_dynamic_shifting": True}, settings={"guidance_scale": 3.5},
    ),
    "z-image": FullSize(
        diffusers.ZImagePipeline, AnyPipeline,
        {"transformer": diffusers.ZImageTransformer2DModel, "vae": diffusers.AutoencoderKL,
         "text_encoder": transformers.Qwen3ForCausalLM},
        {"transformer": {"axes_lens": [1536, 512, 512]}, "vae": FLUX_VAE, "text_encoder": QWEN3_4B},
        {"transformer": {"in_channels": 4, "dim": 16, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2,
                         "n_kv_heads": 2, "cap_feat_dim": 16, "axes_dims": [2, 2, 4], "axes_lens": [512, 32, 32]},
         "vae": TINY_VAE | {"latent_channels": 4},
         "text_encoder": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
                          "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 64}},
        noise={"shift": 6.0}, settings={"guidance_scale": 4.0},
    ),
}  # fmt: skip
"""By name, in the order of the table."""
