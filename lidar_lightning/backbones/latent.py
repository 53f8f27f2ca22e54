"""Latent image models of diffusers as backbones: what Stable Diffusion, SDXL, SD3 and FLUX share."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.backbones.pipeline import PipelineBackbone
from lidar_lightning.backbones.prompts import check_prompt, text_encoders
from lidar_lightning.backbones.vae import check_pictures, decode, latents_of, vae_fingerprint
from lidar_lightning.parametrisation import slope, to_x0
from lidar_lightning.schedules import coefficients, noised
from lidar_lightning.solvers.gaussian import GaussianAncestral
from lidar_lightning.solvers.scheduler import SchedulerSolver, is_flow
from lidar_lightning.utils.seeding import Generators

Condition = dict[str, Tensor]
"""The inputs of a network beside x and t, one row per sample; those of classifier-free guidance are "negative_..."."""


class LatentBackbone(PipelineBackbone):
    """A diffusers pipeline as a denoiser of its latents; predictions of eps, v or flow velocity become x0 here.

    Latents are float32 whatever precision the network computes in. The arguments are those of `PipelineBackbone`.
    """

    @property
    def space(self) -> str:
        return f"{vae_fingerprint(self.pipe.vae)}-{'x'.join(map(str, self.latent_shape))}"

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape (C, H, W) of one latent as the VAE decodes it."""
        unit = self.pipe.vae_scale_factor
        return (self.pipe.vae.config.latent_channels, self.height // unit, self.width // unit)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Condition:
        """The condition of prompts; each distinct prompt is encoded once."""
        unique = list(dict.fromkeys(prompts))
        for prompt in unique:
            check_prompt(prompt, self.pipe, self._token_limit)
        with self.placed(*text_encoders(self.pipe)), self.active():
            condition = self._encode(unique)
        rows = torch.tensor([unique.index(prompt) for prompt in prompts], device=self.device)
        return {key: value[rows] for key, value in condition.items()}

    def _token_limit(self, tokenizer: Any) -> int:
        return tokenizer.model_max_length

    @abstractmethod
    def _encode(self, prompts: list[str]) -> Condition:
        """The condition of distinct prompts, one row per prompt."""

    @abstractmethod
    def _network(self, x: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """The network's output (B, *S), from x (B, *S) in its dtype and timesteps (B,) float32 in [0, N]."""

    def prior(self, generators: Generators) -> Tensor:
        """Standard normal latents (B, C, H, W) float32."""
        return generators.randn(*self.latent_shape)

    def coefficients(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at t (B,) in shapes that multiply x_t (B, *S)."""
        return coefficients(self.schedule, x_t, t)

    def _predict(self, x_t: Tensor, t: Tensor, condition: Condition, guided: bool) -> Tensor:
        dtype, scale = next(self.network.parameters()).dtype, self.cfg_scale
        positive = {k: v for k, v in condition.items() if not k.startswith("negative_")}
        timestep = (t.double() * self.scheduler.config.num_train_timesteps).float()
        if guided:
            both = {k: torch.cat((condition.get(f"negative_{k}", v), v)) for k, v in positive.items()}
            x = x_t.to(dtype)
            plain, asked = self._network(torch.cat((x, x)), timestep.repeat(2), both).chunk(2)
            output = plain + scale * (asked - plain)
        else:
            output = self._network(x_t.to(dtype), timestep, positive)
        return to_x0(output.to(x_t.dtype), x_t, *self.coefficients(x_t, t), self.kind)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The clean latents (B, *S), with classifier-free guidance."""
        return self._predict(x_t, t, condition, self.guided)

    def decode(self, x0: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) float32 in [0, 1], on the device of the latents.

        If gradients flow through the VAE it stays on that device until pictures are decoded without gradients.
        """
        with self.placed(self.pipe.vae, stay=torch.is_grad_enabled() and x0.requires_grad):
            return decode(self.pipe.vae, self.unpack(x0))

    def x0_of(self, samples: Tensor) -> Tensor:
        """Encodes pixels (B, 3, H, W) in [0, 1] as the mode of their latents (B, *S) float32.

        Raises:
            ValueError: for samples of any other kind, such as bytes, or pictures of another size than the model's.
        """
        check_pictures(self, samples)
        with self.placed(self.pipe.vae):
            return self.pack(latents_of(self.pipe.vae, samples))

    def pack(self, latents: Tensor) -> Tensor:
        """Turns latents (B, C, H, W) into the form (B, *S) that the network takes."""
        return latents

    def unpack(self, x: Tensor) -> Tensor:
        """The inverse of `pack`."""
        return x

    def spacing(self, steps: int) -> dict[str, Any]:
        """What the pipeline passes to its scheduler's `set_timesteps` beside the number of steps."""
        return {}

    def solver(self, steps: int) -> SchedulerSolver:
        placed = "timesteps" in self.grid or "sigmas" in self.grid
        spacing = {k: v for k, v in self.spacing(steps).items() if not (placed and k == "sigmas")} | self.grid
        return SchedulerSolver(self.scheduler, None if placed or "sigmas" in spacing else steps, self.eta, **spacing)

    def random_solver(self, steps: int) -> GaussianAncestral:
        """Random steps along the times of a flow model's own scheduler; of other models, along equally spaced ones."""
        if not is_flow(self.scheduler):
            return GaussianAncestral(self.schedule, steps)
        spacing = self.spacing(steps)
        own = SchedulerSolver(self.scheduler, None if "sigmas" in spacing else steps, **spacing)
        return GaussianAncestral(self.schedule, steps, times=own.times)

    def corrupt(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draws alpha x0 + sigma eps for x0 (B, *S) and t (B,)."""
        return noised(self.schedule, x0, t, generator)

    def error(self, x0: Tensor, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The mean squared error of the network's own prediction (eps, v or velocity), without guidance: (B,)."""
        x0_hat = self._predict(x_t, t, condition, guided=False)
        weight = slope(*self.coefficients(x_t, t), self.kind)
        return (weight * (x0_hat - x0)).square().flatten(1).mean(1)
