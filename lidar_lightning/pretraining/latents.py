"""Training the denoiser and the text encoders of a latent text-to-image pipeline from scratch with `trainer.fit`."""

import re
from abc import abstractmethod
from collections.abc import Sequence
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from lidar_lightning.pretraining.attention import training_attention
from lidar_lightning.pretraining.muon import MuonModule
from lidar_lightning.shapes.grammar import LENGTH, held_out_prompts
from lidar_lightning.shapes.render import SIZE
from lidar_lightning.shapes.verdict import verdicts
from lidar_lightning.utils.seeding import stream_seed

NOT_HIDDEN = re.compile(r"emb|norm|shared|bias|conv_in|conv_out|^denoiser\.proj_out")
"""Names of weights that are no hidden matrices: embeddings, modulation, input and output layers."""


class LatentPretrainModule(MuonModule):
    """Fits a diffusers pipeline on latents and their captions.

    A fraction `dropout` of the captions is left empty, for classifier-free guidance. Text encoders are trained with
    the denoiser. Batches are {"latent": (B, C, H, W), "prompt": list of B captions}.
    Validation logs `val/loss` and `val/accuracy`, the fraction of pictures drawn for held-out captions by the stock
    pipeline that `verdicts` finds correct, and the same by category.

    Args:
        pipe: the pipeline whose weights are trained in place.
        lr: peak learning rate of Muon and AdamW.
        warmup_fraction, decay: fractions of all steps over which the rate rises and falls, see `rise_and_fall`.
        dropout: fraction of captions that are left empty, in [0, 1].
        per_category: number of held-out captions of each category for which each validation draws one picture; 0 draws
            none.
        steps: network calls of the pipeline's sampler for those pictures.
        guidance: scale of the classifier-free guidance for those pictures.
    """

    def __init__(
        self,
        pipe: Any,
        lr: float = 2e-3,
        warmup_fraction: float = 0.02,
        decay: float = 0.5,
        dropout: float = 0.1,
        per_category: int = 16,
        steps: int = 25,
        guidance: float = 3.0,
    ):
        super().__init__(lr, warmup_fraction, decay)
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a fraction of the captions, got {dropout}")
        if per_category < 0 or steps < 1 or not isfinite(guidance):
            raise ValueError(
                f"validation needs per_category >= 0, steps >= 1 and a finite guidance, got {per_category}, {steps} "
                f"and {guidance}"
            )
        self.pipe, self.dropout, self.per_category = pipe, dropout, per_category
        self.steps, self.guidance = steps, guidance
        parts = pipe.components
        self.denoiser: nn.Module = parts["unet" if "unet" in parts else "transformer"]
        self.text = nn.ModuleList(parts[name] for name in ("text_encoder", "text_encoder_2") if name in parts)

    @abstractmethod
    def error(self, latents: Tensor, prompts: Sequence[str], u: Tensor, noise: Tensor) -> Tensor:
        """Mean squared error (B,) of the prediction, at noise levels u (B,) in [0, 1)."""

    @abstractmethod
    def draw(self, prompts: Sequence[str], generators: list[torch.Generator]) -> Tensor:
        """Pictures (n, 3, 64, 64) in [0, 1] by the stock pipeline, one per prompt."""

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.pipe.to(self.device)
        self.pipe.set_progress_bar_config(disable=True)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        latents = batch["latent"]
        spread = torch.arange(len(latents), device=self.device) / len(latents)
        u = (torch.rand(1, device=self.device) + spread) % 1
        kept = (torch.rand(len(latents)) >= self.dropout).tolist()
        prompts = [prompt if keep else "" for prompt, keep in zip(batch["prompt"], kept, strict=True)]
        with training_attention(self.device):
            loss = self.error(latents, prompts, u, torch.randn_like(latents)).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        latents = batch["latent"]
        generator = torch.Generator().manual_seed(batch_idx)
        u = torch.rand(len(latents), generator=generator).to(self.device)
        noise = torch.randn(latents.shape, generator=generator).to(self.device)
        loss = self.error(latents, batch["prompt"], u, noise).mean()
        self.log("val/loss", loss, batch_size=len(latents), prog_bar=True, sync_dist=True)
        if batch_idx == 0 and self.per_category and not self.trainer.sanity_checking:
            found = self.accuracy(held_out_prompts(self.per_category))
            self.log_dict({f"val/{name}": value for name, value in found.items()}, batch_size=1, sync_dist=True)

    @torch.no_grad()
    def accuracy(self, prompts: Sequence[str]) -> dict[str, float]:
        """The fraction of correct pictures, of one per prompt: under "accuracy" over all, and by category."""
        generators = [torch.Generator().manual_seed(stream_seed(0, prompt, 0)) for prompt in prompts]
        images = self.draw(prompts, generators).float().clamp(0, 1)
        correct: dict[str, list[bool]] = {"accuracy": []}
        for verdict in verdicts(images, prompts):
            for name in ("accuracy", verdict.prompt.category):
                correct.setdefault(name, []).append(verdict.correct)
        return {name: sum(values) / len(values) for name, values in correct.items()}

    def matrices(self) -> list[nn.Parameter]:
        named = ((name, p) for name, p in self.named_parameters() if p.requires_grad)
        return [p for name, p in named if p.ndim >= 2 and not NOT_HIDDEN.search(name)]


class StableDiffusionPretrain(LatentPretrainModule):
    """Fits a StableDiffusionPipeline: its UNet predicts what its scheduler's `prediction_type` says, eps or v.

    Noise levels are drawn evenly from the schedule's timesteps.
    """

    def error(self, latents: Tensor, prompts: Sequence[str], u: Tensor, noise: Tensor) -> Tensor:
        scheduler = self.pipe.scheduler
        t = (u * scheduler.config.num_train_timesteps).long()
        condition = self.pipe.encode_prompt(list(prompts), self.device, 1, False)[0]
        x_t = scheduler.add_noise(latents, noise, t)
        v = scheduler.config.prediction_type == "v_prediction"
        target = scheduler.get_velocity(latents, noise, t) if v else noise
        prediction = self.denoiser(x_t, t, encoder_hidden_states=condition).sample
        return (prediction.float() - target).square().flatten(1).mean(1)

    def draw(self, prompts: Sequence[str], generators: list[torch.Generator]) -> Tensor:
        settings = {"num_inference_steps": self.steps, "guidance_scale": self.guidance, "output_type": "pt"}
        return self.pipe(list(prompts), generator=generators, **settings).images


class FluxPretrain(LatentPretrainModule):
    """Fits a FluxPipeline: its transformer predicts the velocity eps - x0 at x_t = (1 - t) x0 + t eps.

    The noise levels t are logit-normal (Esser et al., arXiv 2403.03206).
    """

    def error(self, latents: Tensor, prompts: Sequence[str], u: Tensor, noise: Tensor) -> Tensor:
        normal = torch.special.ndtri(u.double().clamp(1e-6, 1 - 1e-6)).float()
        t = normal.sigmoid()
        count, channels, height, width = latents.shape
        embeds, pooled, text_ids = self.pipe.encode_prompt(
            list(prompts), None, device=self.device, max_sequence_length=LENGTH
        )
        ids = self.pipe._prepare_latent_image_ids(count, height // 2, width // 2, self.device, latents.dtype)
        level = t.view(-1, 1, 1, 1)
        x_t, target = (
            self.pipe._pack_latents(values, count, channels, height, width)
            for values in ((1 - level) * latents + level * noise, noise - latents)
        )
        prediction = self.denoiser(
            hidden_states=x_t,
            timestep=t,
            pooled_projections=pooled,
            encoder_hidden_states=embeds,
            txt_ids=text_ids,
            img_ids=ids,
        ).sample
        return (prediction.float() - target).square().flatten(1).mean(1)

    def draw(self, prompts: Sequence[str], generators: list[torch.Generator]) -> Tensor:
        return self.pipe(
            list(prompts),
            negative_prompt=[""] * len(prompts),
            true_cfg_scale=self.guidance,
            height=SIZE,
            width=SIZE,
            max_sequence_length=LENGTH,
            num_inference_steps=self.steps,
            generator=generators,
            output_type="pt",
        ).images
