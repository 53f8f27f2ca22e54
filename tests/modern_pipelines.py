"""Tiny random pipelines of the classes that have no backbone of their own, built in memory, of 32x32 pixels."""

import diffusers
import torch
from transformers import (
    Gemma2Config,
    Gemma2Model,
    GlmConfig,
    GlmModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from tests.pipelines import filled, t5, t5_tokenizer, vae

TEXT = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0, "max_position_embeddings": 512,
}  # fmt: skip
CAUSAL_VAE = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1], "num_res_blocks": 1, "temperal_downsample": [False],
              "latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [1.5, 0.8, 1.2, 1.0]}  # fmt: skip
SHAPE = {"num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}


def chat_tokenizer() -> T5TokenizerFast:
    tokenizer = t5_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    return tokenizer


def flow(**settings: object) -> diffusers.FlowMatchEulerDiscreteScheduler:
    return diffusers.FlowMatchEulerDiscreteScheduler(**settings)


def gemma() -> Gemma2Model:
    return Gemma2Model(Gemma2Config(**TEXT, bos_token_id=1, eos_token_id=1))


def qwen3() -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(Qwen3Config(**TEXT))


def umt5() -> UMT5EncoderModel:
    return UMT5EncoderModel(UMT5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2))


def qwen_image() -> diffusers.QwenImagePipeline:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    seen = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 16}
    text = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={**{k: v for k, v in TEXT.items() if k != "head_dim"}, "rope_parameters": rope},
            vision_config=seen,
        )
    )
    network = diffusers.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, joint_attention_dim=16, axes_dims_rope=(2, 2, 4), **SHAPE
    )
    coder = diffusers.AutoencoderKLQwenImage(**CAUSAL_VAE)
    return diffusers.QwenImagePipeline(flow(shift=1.0, use_dynamic_shifting=True), coder, text, t5_tokenizer(), network)


def z_image() -> diffusers.ZImagePipeline:
    network = diffusers.ZImageTransformer2DModel(
        in_channels=4, dim=16, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[2, 2, 4], axes_lens=[64, 32, 32],
    )  # fmt: skip
    return diffusers.ZImagePipeline(flow(shift=3.0), vae(4, 0.1), qwen3(), chat_tokenizer(), network)


def flux2_klein() -> diffusers.Flux2KleinPipeline:
    network = diffusers.Flux2Transformer2DModel(
        in_channels=16, num_single_layers=1, joint_attention_dim=48, timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2), guidance_embeds=False, **SHAPE,
    )  # fmt: skip
    coder = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    return diffusers.Flux2KleinPipeline(
        flow(shift=3.0, use_dynamic_shifting=True), coder, qwen3(), chat_tokenizer(), network
    )


def sana() -> diffusers.SanaPipeline:
    network = diffusers.SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16,
        caption_channels=16, sample_size=16, **SHAPE,
    )  # fmt: skip
    coder = diffusers.AutoencoderDC(
        latent_channels=4, attention_head_dim=2, scaling_factor=0.4,
        encoder_block_types=("ResBlock", "EfficientViTBlock"), decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return diffusers.SanaPipeline(t5_tokenizer(), gemma(), coder, network, scheduler)


def lumina2() -> diffusers.Lumina2Pipeline:
    network = diffusers.Lumina2Transformer2DModel(
        sample_size=16, in_channels=4, hidden_size=24, num_layers=1, num_refiner_layers=1, num_attention_heads=1,
        num_kv_heads=1, multiple_of=8, cap_feat_dim=16, axes_dim_rope=(8, 8, 8), axes_lens=(300, 32, 32),
    )  # fmt: skip
    return diffusers.Lumina2Pipeline(network, flow(shift=6.0), vae(4, 0.1), gemma(), t5_tokenizer())


def cogview4() -> diffusers.CogView4Pipeline:
    network = diffusers.CogView4Transformer2DModel(
        in_channels=4, out_channels=4, text_embed_dim=16, time_embed_dim=8, condition_dim=4, sample_size=16, **SHAPE
    )
    scheduler = flow(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear")
    return diffusers.CogView4Pipeline(t5_tokenizer(), GlmModel(GlmConfig(**TEXT)), vae(), network, scheduler)


def aura_flow() -> diffusers.AuraFlowPipeline:
    network = diffusers.AuraFlowTransformer2DModel(
        sample_size=16, in_channels=4, out_channels=4, num_mmdit_layers=1, num_single_dit_layers=1,
        attention_head_dim=8, num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16,
        pos_embed_max_size=64,
    )  # fmt: skip
    return diffusers.AuraFlowPipeline(t5_tokenizer(), umt5(), vae(), network, flow(shift=1.73))


def pixart_sigma() -> diffusers.PixArtSigmaPipeline:
    network = diffusers.PixArtTransformer2DModel(
        in_channels=4, out_channels=8, cross_attention_dim=16, caption_channels=16, sample_size=16,
        use_additional_conditions=False, **SHAPE,
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02)
    return diffusers.PixArtSigmaPipeline(t5_tokenizer(), t5(), vae(), network, scheduler)


def wan() -> diffusers.WanPipeline:
    network = diffusers.WanTransformer3DModel(
        in_channels=4, out_channels=4, text_dim=16, freq_dim=16, ffn_dim=32, rope_max_seq_len=32, **SHAPE
    )
    coder = diffusers.AutoencoderKLWan(**CAUSAL_VAE, scale_factor_temporal=4, scale_factor_spatial=2)
    return diffusers.WanPipeline(t5_tokenizer(), umt5(), coder, flow(shift=5.0), network)


BUILDERS = {
    "QwenImage": qwen_image, "ZImage": z_image, "Flux2Klein": flux2_klein, "Sana": sana, "Lumina2": lumina2,
    "CogView4": cogview4, "AuraFlow": aura_flow, "PixArtSigma": pixart_sigma, "Wan": wan,
}  # fmt: skip
SIZE = {"height": 32, "width": 32}
CALLS = {
    "QwenImage": {"negative_prompt": " ", "true_cfg_scale": 3.0},
    "ZImage": {"guidance_scale": 3.0},
    "Flux2Klein": {"guidance_scale": 3.0, "text_encoder_out_layers": (1, 2, 3)},
    "Sana": {"guidance_scale": 3.0, "use_resolution_binning": False, "complex_human_instruction": None},
    "Lumina2": {"guidance_scale": 3.0},
    "CogView4": {"guidance_scale": 3.0},
    "AuraFlow": {"guidance_scale": 3.0},
    "PixArtSigma": {"guidance_scale": 3.0, "use_resolution_binning": False, "clean_caption": False},
    "Wan": {"guidance_scale": 3.0, "num_frames": 1},
}
"""What each is called with, beside `SIZE`: classifier-free guidance runs in all."""


def build(name: str, seed: int = 0) -> diffusers.DiffusionPipeline:
    """A pipeline whose networks have no zero layers, so that everything has an effect, no dropout and small outputs."""
    pipe = filled(BUILDERS[name], seed)
    for module in (v for v in pipe.components.values() if isinstance(v, torch.nn.Module)):
        module.eval()
    last = [layer for layer in pipe.transformer.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(0.1)
    return pipe
