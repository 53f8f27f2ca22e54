"""Stable Diffusion 1.x and 2.x, SDXL and SD3 as backbones."""

from typing import Any, ClassVar

import torch
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from lidar_lightning.backbones.flow_shift import flow_grid
from lidar_lightning.backbones.latent import Condition, LatentBackbone


class StableDiffusion(LatentBackbone):
    """Stable Diffusion 1.x or 2.x (Rombach et al., arXiv 2112.10752)."""

    pipeline_class: ClassVar[Any] = StableDiffusionPipeline
    network_name = "unet"

    def _encode(self, prompts: list[str]) -> Condition:
        embeds, negative = self.pipe.encode_prompt(
            prompts, self.device, 1, self.guided, negative_prompt=[self.negative_prompt] * len(prompts)
        )
        return {"embeds": embeds, "negative_embeds": negative} if self.guided else {"embeds": embeds}

    def _network(self, x: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        return self.network(
            x,
            timestep,
            encoder_hidden_states=condition["embeds"],
            timestep_cond=self.guidance_embedding(x),
            added_cond_kwargs=self._added(condition),
            return_dict=False,
        )[0]

    def _added(self, condition: Condition) -> dict[str, Tensor] | None:
        return None

    def guidance_embedding(self, x: Tensor) -> Tensor | None:
        """The embedding (B, dim) of the guidance scale that guidance-distilled (LCM) networks take; None for others."""
        dim = self.network.config.time_cond_proj_dim
        if dim is None:
            return None
        scale = torch.full((len(x),), self.guidance_scale - 1)
        return self.pipe.get_guidance_scale_embedding(scale, embedding_dim=dim).to(x)

    @property
    def guided(self) -> bool:
        return super().guided and self.network.config.time_cond_proj_dim is None


class StableDiffusionXL(StableDiffusion):
    """SDXL base (Podell et al., arXiv 2307.01952)."""

    pipeline_class: ClassVar[Any] = StableDiffusionXLPipeline

    def _encode(self, prompts: list[str]) -> Condition:
        # An empty negative prompt is zeros, not the encoding of "", where the pipeline says so; None asks for that.
        negative = [self.negative_prompt] * len(prompts) if self.negative_prompt else None
        embeds, negative_embeds, pooled, negative_pooled = self.pipe.encode_prompt(
            prompts, device=self.device, do_classifier_free_guidance=self.guided, negative_prompt=negative
        )
        size = (self.height, self.width)
        projected = self.pipe.text_encoder_2.config.projection_dim
        ids = self.pipe._get_add_time_ids(size, (0, 0), size, embeds.dtype, projected).to(self.device)
        condition = {"embeds": embeds, "text_embeds": pooled, "time_ids": ids.repeat(len(prompts), 1)}
        if self.guided:
            condition |= {"negative_embeds": negative_embeds, "negative_text_embeds": negative_pooled}
        return condition

    def _added(self, condition: Condition) -> dict[str, Tensor]:
        return {key: condition[key] for key in ("text_embeds", "time_ids")}


class StableDiffusion3(LatentBackbone):
    """Stable Diffusion 3 (Esser et al., arXiv 2403.03206)."""

    pipeline_class: ClassVar[Any] = StableDiffusion3Pipeline
    network_name = "transformer"

    @property
    def patch(self) -> int:  # type: ignore[override]
        return self.network.config.patch_size

    def _encode(self, prompts: list[str]) -> Condition:
        embeds, negative_embeds, pooled, negative_pooled = self.pipe.encode_prompt(
            prompts, None, None, device=self.device, do_classifier_free_guidance=self.guided,
            negative_prompt=[self.negative_prompt] * len(prompts),
        )  # fmt: skip
        condition = {"embeds": embeds, "pooled": pooled}
        if self.guided:
            condition |= {"negative_embeds": negative_embeds, "negative_pooled": negative_pooled}
        return condition

    def _network(self, x: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        return self.network(
            hidden_states=x,
            timestep=timestep,
            encoder_hidden_states=condition["embeds"],
            pooled_projections=condition["pooled"],
            return_dict=False,
        )[0]

    def spacing(self, steps: int) -> dict[str, Any]:
        tokens = self.height * self.width // (self.pipe.vae_scale_factor * self.patch) ** 2
        return dict(flow_grid(self.scheduler, tokens, 1.16))
