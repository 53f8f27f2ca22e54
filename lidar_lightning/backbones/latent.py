"""Latent image models of diffusers as backbones: what Stable Diffusion, SDXL, SD3 and FLUX share."""

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from lidar_lightning.adapters import OWN, adapter_names, adapters_on, own_weights
from lidar_lightning.assets import asset_path
from lidar_lightning.backbones.base import Backbone, fingerprint
from lidar_lightning.backbones.loading import load_lora, load_pipeline, make_scheduler
from lidar_lightning.backbones.vae import decode, encode, vae_fingerprint
from lidar_lightning.parametrisation import slope, to_x0
from lidar_lightning.seeding import Generators
from lidar_lightning.solvers.gaussian import GaussianAncestral
from lidar_lightning.solvers.scheduler import SchedulerSolver, kind_of, schedule_of

Condition = dict[str, Tensor]
"""What the network is told, one row per sample; keys that begin with "negative_" are for classifier-free guidance."""


class LatentBackbone(Backbone):
    """A diffusers pipeline as a denoiser of its latents; eps, v and flow predictions become x0 here.

    Latents are float32 whatever the network computes in. The network is `network`, which is all that is trained, saved
    and adapted; text encoders and VAE stay frozen.

    Args:
        pipe: a pipeline of `pipeline_class`; its modules are used, not copied.
        guidance_scale: of classifier-free guidance, run in one batch with the conditional network; 1 or less is none.
        negative_prompt: what classifier-free guidance steers away from.
        height, width: of the pictures in pixels; None takes the model's own.
        scheduler: diffusers scheduler class (its name) in place of the pipeline's.
        scheduler_options: changes of the scheduler's configuration.
        eta: noise of DDIM and TCD in [0, 1].
        grid: `timesteps` or `sigmas` of the scheduler, in place of its own spacing of the steps.
        lora_scales: scales of the LoRA adapters of the pipeline that are on, by name; others are off.
        offload: text encoders and VAE wait in CPU memory while they are not in use.
        compile: compile the network.
        name: in reports and provenance; None takes where the pipeline came from.

    Raises:
        ValueError: for another pipeline, an unsupported scheduler, a size the VAE cannot make, or unknown adapters.
    """

    modality = "image"
    pipeline_class: ClassVar[Any]
    network_name: ClassVar[str]
    lora_targets = r"network\..*\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"

    def __init__(
        self,
        pipe: Any,
        guidance_scale: float = 7.5,
        negative_prompt: str = "",
        height: int | None = None,
        width: int | None = None,
        scheduler: str | None = None,
        scheduler_options: dict[str, Any] | None = None,
        eta: float = 0.0,
        grid: dict[str, Any] | None = None,
        lora_scales: dict[str, float] | None = None,
        offload: bool = False,
        compile: bool = False,
        name: str | None = None,
    ):
        super().__init__()
        if not isinstance(pipe, self.pipeline_class):
            raise ValueError(
                f"{type(self).__name__} wraps a {self.pipeline_class.__name__}, got a {type(pipe).__name__}"
            )
        self.settings: dict[str, Any] = {
            "guidance_scale": guidance_scale, "negative_prompt": negative_prompt, "height": height, "width": width,
            "scheduler": scheduler, "scheduler_options": scheduler_options, "eta": eta, "grid": grid,
            "lora_scales": lora_scales, "offload": offload, "name": name or own_name(pipe),
        }  # fmt: skip
        # In a tuple, so that only the network is a submodule.
        self._pipe = (pipe,)
        self.network: Any = getattr(pipe, self.network_name)
        self.guidance_scale, self.negative_prompt, self.offload = guidance_scale, negative_prompt, offload
        self.scheduler = make_scheduler(pipe.scheduler, scheduler, scheduler_options)
        self.schedule, self.kind = schedule_of(self.scheduler), kind_of(self.scheduler)
        self.eta, self.grid = eta, grid or {}
        unit = pipe.vae_scale_factor
        own = (self.network.config.get("sample_size") or pipe.default_sample_size) * unit
        self.height, self.width = height or own, width or own
        if self.height % (multiple := unit * self.patch) or self.width % multiple:
            raise ValueError(f"height and width must be multiples of {multiple}, got {self.height} and {self.width}")
        self.lora_scales = lora_scales or {}
        loaded = adapter_names(self.network)
        if unknown := set(self.lora_scales) - loaded:
            raise ValueError(f"no LoRA adapters {sorted(unknown)} are loaded, only {sorted(loaded)}")
        self.name = "+".join((self.settings["name"], *self.lora_scales))
        for module in self.helpers:
            module.requires_grad_(False).eval()
        self.network.eval()
        if compile:
            self.network.compile()

    patch: ClassVar[int] = 1
    """Latent pixels per token of the network."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        dtype: str = "float32",
        variant: str | None = None,
        lora: dict[str, str] | None = None,
        vae_slicing: bool = False,
        vae_tiling: bool = False,
        **settings: Any,
    ) -> "LatentBackbone":
        """Loads a pipeline from a local folder or a hub repository.

        Args:
            pretrained_model_name_or_path: a folder, a hub repository, or a shipped name such as "shapes-sd".
            dtype: of all weights: "float32", "bfloat16" or "float16".
            variant: of the weight files, e.g. "fp16".
            lora: LoRA files or repositories to load, by the names that `lora_scales` uses; without it all are on at
                scale 1.
            vae_slicing, vae_tiling: decode in pieces, to save memory.
            settings: of the class.

        Raises:
            ValueError: if it cannot be found or loaded.
        """
        source = str(pretrained_model_name_or_path)
        pipe = load_pipeline(cls.pipeline_class, str(asset_path(source) or source), dtype, variant)
        for adapter, path in (lora or {}).items():
            load_lora(pipe, path, adapter)
        settings.setdefault("lora_scales", dict.fromkeys(lora, 1.0) if lora else None)
        if vae_slicing:
            pipe.vae.enable_slicing()
        if vae_tiling:
            pipe.vae.enable_tiling()
        return cls(pipe, **settings)

    def variant(self, **changes: Any) -> Self:
        """The same weights with other settings, e.g. another scheduler for lookaheads."""
        return type(self)(self.pipe, **{**self.settings, **changes})

    @property
    def pipe(self) -> Any:
        return self._pipe[0]

    @property
    def helpers(self) -> list[nn.Module]:
        """Text encoders and VAE."""
        modules = {k: v for k, v in self.pipe.components.items() if isinstance(v, nn.Module)}
        return [module for key, module in modules.items() if key != self.network_name]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        if not self.offload:
            for module in self.helpers:
                module._apply(fn, recurse)
        return self

    @contextmanager
    def placed(self, *modules: nn.Module | None, stay: bool = False) -> Iterator[None]:
        """Has helper modules on the device of the network, and puts offloaded ones back unless they are to stay."""
        used = [module for module in modules if module is not None]
        for module in used:
            module.to(self.device)
        try:
            yield
        finally:
            for module in used if self.offload and not stay else []:
                module.to("cpu")

    @contextmanager
    def active(self) -> Iterator[None]:
        if self.lora_scales or adapter_names(self.network) - {OWN}:
            with adapters_on(self.network, self.lora_scales):
                yield
        else:
            yield

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance runs."""
        return self.cfg_scale > 1

    @property
    def cfg_scale(self) -> float:
        """Of classifier-free guidance."""
        return self.guidance_scale

    @property
    def space(self) -> str:
        return f"{vae_fingerprint(self.pipe.vae)}-{'x'.join(map(str, self.latent_shape))}"

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of one latent as the VAE decodes it: (C, H, W)."""
        unit = self.pipe.vae_scale_factor
        return (self.pipe.vae.config.latent_channels, self.height // unit, self.width // unit)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Condition:
        """Each distinct prompt is encoded once."""
        unique = list(dict.fromkeys(prompts))
        for prompt in unique:
            self._check_length(prompt)
        with self.placed(*(getattr(self.pipe, name, None) for name in text_encoder_names(self.pipe))):
            condition = self._encode(unique)
        rows = torch.tensor([unique.index(prompt) for prompt in prompts], device=self.device)
        return {key: value[rows] for key, value in condition.items()}

    def _check_length(self, prompt: str) -> None:
        if not prompt.strip():
            raise ValueError("the prompt is empty: write what the picture shows")
        for key in ("tokenizer", "tokenizer_2", "tokenizer_3"):
            tokenizer = getattr(self.pipe, key, None)
            if tokenizer is None:
                continue
            count, limit = len(tokenizer(prompt, truncation=False).input_ids), self._token_limit(tokenizer)
            if count > limit:
                warnings.warn(
                    f"the prompt {prompt!r} has {count} tokens, {count - limit} more than {key} takes: its end is cut",
                    stacklevel=4,
                )

    def _token_limit(self, tokenizer: Any) -> int:
        return tokenizer.model_max_length

    @abstractmethod
    def _encode(self, prompts: list[str]) -> Condition:
        """The condition of distinct prompts, one row each."""

    @abstractmethod
    def _network(self, x: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """The network's output (B, *S), from x (B, *S) in its dtype and timesteps (B,) float32 in [0, N]."""

    def prior(self, generators: Generators) -> Tensor:
        """Standard normal latents (B, C, H, W) float32."""
        return generators.randn(*self.latent_shape)

    def coefficients(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at t (B,) in shapes that multiply x_t (B, *S)."""
        shape = (-1, *[1] * (x_t.ndim - 1))
        alpha, sigma = (c.to(x_t).view(shape) for c in self.schedule(t.double()))
        return alpha, sigma

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

        A VAE that a gradient has to pass stays there until the next pictures without one.
        """
        with self.placed(self.pipe.vae, stay=torch.is_grad_enabled() and x0.requires_grad):
            return decode(self.pipe.vae, self.unpack(x0))

    def encode_samples(self, samples: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 1] to the mode of their latents (B, *S) float32."""
        if samples.shape[1:] != (3, self.height, self.width):
            raise ValueError(f"pictures must be (3, {self.height}, {self.width}), got {tuple(samples.shape[1:])}")
        with self.placed(self.pipe.vae):
            return self.pack(encode(self.pipe.vae, samples))

    def pack(self, latents: Tensor) -> Tensor:
        """Latents (B, C, H, W) as the network takes them (B, *S)."""
        return latents

    def unpack(self, x: Tensor) -> Tensor:
        """The inverse of `pack`."""
        return x

    def solver(self, steps: int) -> SchedulerSolver:
        return SchedulerSolver(self.scheduler, None if self.grid else steps, self.eta, **self.grid)

    def random_solver(self, steps: int) -> GaussianAncestral:
        return GaussianAncestral(self.schedule, steps)

    def corrupt(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """alpha x0 + sigma eps for x0 (B, *S) and t (B,)."""
        alpha, sigma = self.coefficients(x0, t)
        device = generator.device if generator else x0.device
        return alpha * x0 + sigma * torch.randn(x0.shape, generator=generator, device=device).to(x0)

    def error(self, x0: Tensor, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Mean squared error of the network's own prediction (eps, v or velocity), without guidance: (B,)."""
        x0_hat = self._predict(x_t, t, condition, guided=False)
        weight = slope(*self.coefficients(x_t, t), self.kind)
        return (weight * (x0_hat - x0)).square().flatten(1).mean(1)

    def frozen_copy(self) -> Self:
        """A second network with the same weights around the same text encoders and VAE."""
        other = self.variant()
        other.network = copy.deepcopy(self.network).requires_grad_(False).eval()
        return other

    def export_lora(self, folder: str | Path) -> None:
        """Writes the trained adapters so that `pipe.load_lora_weights(folder)` of stock diffusers loads them.

        The scale alpha / rank is multiplied into them.

        Raises:
            ValueError: if there are none.
        """
        state = own_weights(self.network)
        self.pipeline_class.save_lora_weights(folder, **{f"{self.network_name}_lora_layers": state})

    def origin(self) -> str:
        """The model's name: adapters trained in one precision are used in another."""
        return self.settings["name"]

    def fingerprint(self) -> str:
        """Hash of all weights in force and of the settings of classifier-free guidance."""
        told = (self.name, self.guidance_scale, self.cfg_scale, self.negative_prompt, self.lora_scales)
        off = adapter_names(self.network) - {OWN, *self.lora_scales}
        weights = {
            key.replace(".base_layer.", "."): value
            for key, value in self.network.state_dict().items()
            if not any(f".{name}." in key for name in off)
        }
        return fingerprint(" ".join(map(str, told)), weights, *(module.state_dict() for module in self.helpers))


def own_name(pipe: Any) -> str:
    """The repository or folder that a pipeline came from; of a folder its last part, so that it can be moved."""
    origin = pipe.name_or_path or type(pipe).__name__
    return Path(origin).name if Path(origin).is_dir() else origin


def text_encoder_names(pipe: Any) -> list[str]:
    return [name for name in pipe.components if name.startswith("text_encoder")]
