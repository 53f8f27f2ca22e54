"""The autoencoder between pixels and the latents of a diffusion model."""

import hashlib
import json
import math
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.utils.chunks import in_chunks
from lidar_lightning.utils.pictures import check_pixels
from lidar_lightning.utils.weights import weights_at_hand

LATENTS = ("latent_channels", "z_dim", "scaling_factor", "shift_factor", "latents_mean", "latents_std")
"""Settings of a VAE that concern the latents that a network sees."""


def vae_fingerprint(vae: Any) -> str:
    """Identifies the latent space of a VAE, whatever its precision, by eight hexadecimal digits.

    They depend on the settings that scale latents, and on the weights, but not on how these are rounded: on the signs
    of about 4096 evenly spaced weights per tensor, and on the average size of all, to a quarter of an octave.
    """
    told = {key: vae.config[key] for key in LATENTS if vae.config.get(key) is not None}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    sizes = []
    for key, value in sorted(weights_at_hand(vae).items()):
        flat = value.detach().flatten()[:: max(1, value.numel() // 4096)].float().cpu()
        digest.update(f"{key}{tuple(value.shape)}".encode() + flat.signbit().numpy().tobytes())
        sizes += [flat.square().mean().sqrt().log2()] if flat.any() else []
    size = torch.stack(sizes or [torch.zeros(())]).mean()
    digest.update(str(round(4 * float(size))).encode())
    return digest.hexdigest()[:8]


def latent_space(vae: Any, shape: tuple[int, ...], height: int, width: int) -> str:
    """Identifies a latent space and its size: (C, H, W), (C, F, H, W) for videos, or (L, C) for packed latents.

    Args:
        shape: the shape of one sample, as the network takes it.
        height, width: the size of its picture in pixels.
    """
    if len(shape) == 2:
        rows = round(math.sqrt(shape[0] * height / width))
        shape = (shape[1], rows, shape[0] // rows)
    return f"{vae_fingerprint(vae)}-{'x'.join(map(str, shape))}"


def offset(vae: Any) -> float:
    """The number that is subtracted from latents before they are scaled."""
    return getattr(vae.config, "shift_factor", None) or 0.0


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Decodes latents (B, C, h, w) to pixels (B, 3, H, W) float32 in [0, 1]; gradients flow if they are on.

    A float16 VAE that overflows (`force_upcast`) decodes in float32, and stays in float32 if gradients flow through it.
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


def modes(vae: Any, pixels: Tensor, dimensions: int = 4) -> Tensor:
    """Encodes pictures (B, 3, H, W) in [0, 1] as the mode of what the autoencoder makes of them.

    Args:
        dimensions: 4, or 5 for an autoencoder of videos, to which each picture is a video of one frame.
    """
    given = (pixels * 2 - 1).to(vae.device, vae.dtype)
    encoded = vae.encode(given.unsqueeze(2) if dimensions == 5 else given)
    return encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latent


@torch.no_grad()
def latents_of(vae: Any, pixels: Tensor) -> Tensor:
    """Encodes pixels (B, 3, H, W) in [0, 1] as the mode of their diffusion latents (B, C, h, w) float32."""
    return (modes(vae, pixels).float() - offset(vae)) * vae.config.scaling_factor


def check_pictures(model: Any, pixels: Tensor) -> None:
    """Raises ValueError unless these are pictures (B, 3, H, W) in [0, 1] of the model's height and width."""
    check_pixels(f"{type(model).__name__} encodes", pixels)
    if pixels.shape[1:] != (3, model.height, model.width):
        raise ValueError(f"pictures must be (3, {model.height}, {model.width}), got {tuple(pixels.shape[1:])}")
