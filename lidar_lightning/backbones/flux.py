"""FLUX.1 as a backbone."""

from typing import Any

import numpy as np
import torch
from diffusers import FluxPipeline
from torch import Tensor

from lidar_lightning.backbones.flow_shift import flow_grid
from lidar_lightning.backbones.latent import Condition, LatentBackbone
from lidar_lightning.solvers.scheduler import is_flow
from lidar_lightning.utils.seeding import Generators


class Flux(LatentBackbone):
    """FLUX.1 (Black Forest Labs, 2024), a rectified-flow transformer over 2x2 latent patches.

    Its latents are packed: (B, H W / 4, 4 C) float32, as its transformer and stock pipeline have them. A
    guidance-distilled network (dev) receives the guidance scale as an input; other networks (schnell) ignore it.

    Args:
        pipe: a FluxPipeline.
        true_cfg_scale: strength of classifier-free guidance, for networks that are not distilled; 1 or less turns it
            off.
        max_sequence_length: number of tokens for T5; published models take 512 (dev) or 256 (schnell).
        settings: the other arguments of `LatentBackbone`.
    """

    pipeline_class = FluxPipeline
    network_name = "transformer"
    patch = 2

    def __init__(self, pipe: Any, true_cfg_scale: float = 1.0, max_sequence_length: int = 512, **settings: Any):
        super().__init__(pipe, **settings)
        self.true_cfg_scale, self.max_sequence_length = true_cfg_scale, max_sequence_length
        self.settings |= {"true_cfg_scale": true_cfg_scale, "max_sequence_length": max_sequence_length}

    @property
    def cfg_scale(self) -> float:
        return self.true_cfg_scale

    @property
    def latent_shape(self) -> tuple[int, ...]:
        unit = self.pipe.vae_scale_factor
        return (self.network.config.in_channels // 4, self.height // unit, self.width // unit)

    def _token_limit(self, tokenizer: object) -> int:
        return self.max_sequence_length if tokenizer is self.pipe.tokenizer_2 else self.pipe.tokenizer.model_max_length

    def _encode(self, prompts: list[str]) -> Condition:
        def encoded(texts: list[str]) -> tuple[Tensor, Tensor]:
            length = self.max_sequence_length
            return self.pipe.encode_prompt(texts, None, self.device, max_sequence_length=length)[:2]

        embeds, pooled = encoded(prompts)
        condition = {"embeds": embeds, "pooled": pooled}
        if self.guided:
            embeds, pooled = encoded([self.negative_prompt] * len(prompts))
            condition |= {"negative_embeds": embeds, "negative_pooled": pooled}
        return condition

    def _network(self, x: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        scale = torch.full((len(x),), self.guidance_scale, device=x.device)
        _, rows, columns = self.latent_shape
        embeds = condition["embeds"]
        return self.network(
            hidden_states=x,
            timestep=timestep.to(x.dtype) / 1000,
            guidance=scale if self.network.config.guidance_embeds else None,
            pooled_projections=condition["pooled"],
            encoder_hidden_states=embeds,
            txt_ids=torch.zeros(embeds.shape[1], 3, device=x.device, dtype=x.dtype),
            img_ids=self.pipe._prepare_latent_image_ids(len(x), rows // 2, columns // 2, x.device, x.dtype),
            return_dict=False,
        )[0]

    def prior(self, generators: Generators) -> Tensor:
        """Standard normal latents, packed (B, H W / 4, 4 C) float32."""
        return self.pack(super().prior(generators))

    def pack(self, latents: Tensor) -> Tensor:
        return self.pipe._pack_latents(latents, *latents.shape)

    def unpack(self, x: Tensor) -> Tensor:
        return self.pipe._unpack_latents(x, self.height, self.width, self.pipe.vae_scale_factor)

    def spacing(self, steps: int) -> dict[str, Any]:
        _, rows, columns = self.latent_shape
        own = is_flow(self.scheduler) and not self.scheduler.config.get("use_flow_sigmas")
        sigmas = {"sigmas": np.linspace(1.0, 1 / steps, steps).tolist()} if own else {}
        return sigmas | flow_grid(self.scheduler, rows * columns // 4)
