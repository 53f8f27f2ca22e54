"""The autoencoder between pixels and the latents of a diffusion model."""

from typing import Any

import torch
from torch import Tensor

from lidar_lightning.backbones.base import fingerprint
from lidar_lightning.chunks import in_chunks


def vae_fingerprint(vae: Any) -> str:
    """Identifies the latent space of a VAE: eight hexadecimal digits of its weights and scale."""
    return fingerprint(f"{vae.config.scaling_factor}", vae.state_dict())[:8]


def offset(vae: Any) -> float:
    return getattr(vae.config, "shift_factor", None) or 0.0


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Diffusion latents (B, C, h, w) to pixels (B, 3, H, W) float32 in [0, 1]; gradients flow where they are on.

    A float16 VAE that overflows (`force_upcast`) decodes in float32, and stays so if a gradient has to pass it.
    """
    upcast = vae.dtype == torch.float16 and vae.config.force_upcast
    if upcast:
        vae.float()
    scaled = latents / vae.config.scaling_factor + offset(vae)
    try:
        parts = in_chunks(
            lambda start, stop: vae.decode(scaled[start:stop].to(vae.device, vae.dtype), return_dict=False)[0].float(),
            len(latents),
        )
    finally:
        if upcast and not (torch.is_grad_enabled() and latents.requires_grad):
            vae.half()
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def encode(vae: Any, pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) in [0, 1] to the mode of their diffusion latents (B, C, h, w) float32."""
    latents = vae.encode((pixels * 2 - 1).to(vae.device, vae.dtype)).latent_dist.mode()
    return (latents.float() - offset(vae)) * vae.config.scaling_factor
