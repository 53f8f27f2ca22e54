"""Pipelines of diffusers as backbones: loading, settings, devices, adapters and identity."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from lidar_lightning.assets import asset_path
from lidar_lightning.backbones.adapted import Adapted
from lidar_lightning.backbones.adapters import (
    OWN,
    adapter_names,
    own_weights,
    switch_on,
    weights_in_force,
)
from lidar_lightning.backbones.base import Backbone
from lidar_lightning.backbones.loading import load_lora, load_pipeline, make_scheduler
from lidar_lightning.backbones.prompts import text_encoders
from lidar_lightning.backbones.quantization import Quantization
from lidar_lightning.solvers.scheduler import kind_of, schedule_of
from lidar_lightning.utils.weights import fingerprint


class PipelineBackbone(Adapted, Backbone):  # type: ignore[override]
    """A diffusers pipeline with the settings with which it is used.

    It handles loading, devices, adapters and identity. `network` is all that is trained, saved and adapted; text
    encoders and VAE stay frozen.

    Args:
        pipe: a pipeline of `pipeline_class`; its modules are used, not copied.
        guidance_scale: strength of classifier-free guidance, which is run in one batch with the conditional network; 1
            or less turns it off.
        negative_prompt: the prompt that classifier-free guidance steers away from.
        height, width: size of the pictures in pixels; None takes the model's own.
        scheduler: the name of a scheduler class of diffusers, used in place of the pipeline's.
        scheduler_options: changes to the scheduler's configuration.
        eta: amount of noise of DDIM and TCD, in [0, 1].
        grid: `timesteps` or `sigmas` of the scheduler, in place of its own spacing of the steps.
        lora_scales: from the names of LoRA adapters of the pipeline to their scales; these are on and others off. None
            leaves on what is on in the pipeline, in lookaheads and samples alike.
        offload: whether text encoders and VAE wait in CPU memory while they are not in use.
        compile: whether the network is compiled.
        name: the name in reports and provenance; None takes the folder or repository that the pipeline came from.

    Raises:
        ValueError: if the pipeline is of another class, if the scheduler is not supported, if the VAE cannot make
            pictures of this size, or if an adapter is unknown.
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
        loaded = adapter_names(self.adaptable)
        if unknown := set(self.lora_scales) - loaded:
            raise ValueError(f"no LoRA adapters {sorted(unknown)} are loaded, only {sorted(loaded)}")
        for module in self.helpers:
            module.requires_grad_(False).eval()
        self.network.eval()
        if compile:
            self.network.compile()

    patch: ClassVar[int] = 1
    """The side, in latent pixels, of the patch that is one token of the network."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        dtype: str = "float32",
        variant: str | None = None,
        lora: dict[str, str] | None = None,
        lora_scales: dict[str, float] | None = None,
        vae_slicing: bool = False,
        vae_tiling: bool = False,
        quantization: Quantization | None = None,
        **settings: Any,
    ) -> "PipelineBackbone":  # Not Self, which jsonargparse does not resolve.
        """Loads a pipeline from a local folder or a hub repository.

        Args:
            pretrained_model_name_or_path: a folder, a hub repository, or a shipped name such as "shapes-sd". A
                repository, also that of a LoRA, may be OWNER/REPOSITORY@REVISION, with a branch, a tag or a commit.
            dtype: the type of all weights: "float32", "bfloat16" or "float16".
            variant: which of the published weight files to load, e.g. "fp16".
            lora: from names, which `lora_scales` uses, to the LoRA files or repositories that are loaded.
            lora_scales: see the class; None switches all that are loaded on, at scale 1, in the pipeline itself too.
            vae_slicing, vae_tiling: whether pictures are decoded in pieces, which saves memory.
            quantization: keeps the frozen weights of the network in 8 or 4 bits, see `quantization_of`.
            settings: the other arguments of the class.

        Raises:
            ValueError: if it cannot be found or loaded.
        """
        source = str(pretrained_model_name_or_path)
        pipe = load_pipeline(cls.pipeline_class, str(asset_path(source) or source), dtype, variant, quantization)
        for adapter, path in (lora or {}).items():
            load_lora(pipe, path, adapter)
        if vae_slicing:
            pipe.vae.enable_slicing()
        if vae_tiling:
            pipe.vae.enable_tiling()
        scales = dict.fromkeys(lora, 1.0) if lora and lora_scales is None else lora_scales
        backbone = cls(pipe, lora_scales=scales, **settings)
        switch_on(backbone.adaptable, backbone.lora_scales)
        return backbone

    @property
    def helpers(self) -> list[nn.Module]:
        """The text encoders and the VAE."""
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
        """During the block helper modules are on the network's device; offloaded ones then go back unless `stay`."""
        used = [module for module in modules if module is not None]
        for module in used:
            module.to(self.device)
        try:
            yield
        finally:
            for module in used if self.offload and not stay else []:
                module.to("cpu")

    @property
    def adaptable(self) -> nn.ModuleList:  # type: ignore[override]
        """The modules into which adapters are loaded: the network and the text encoders."""
        return nn.ModuleList([self.network, *filter(None, text_encoders(self.pipe))])

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance runs."""
        return self.cfg_scale > 1

    @property
    def evaluations(self) -> int:
        return 2 if self.guided else 1

    @property
    def cfg_scale(self) -> float:
        """The strength of classifier-free guidance."""
        return self.guidance_scale

    def frozen_copy(self) -> Self:
        """A second network with the same weights around the same text encoders and VAE."""
        other = self.variant()
        other.network = copy.deepcopy(self.network).requires_grad_(False).eval()
        return other

    def export_lora(self, folder: str | Path, write: bool = True) -> None:
        """Writes the trained adapters so that `pipe.load_lora_weights(folder)` of stock diffusers loads them.

        They are multiplied by their scale, alpha / rank.

        Raises:
            ValueError: if there are no trained adapters.
        """
        state = own_weights(self.network)
        if write:
            self.pipeline_class.save_lora_weights(folder, **{f"{self.network_name}_lora_layers": state})

    def fingerprint(self) -> str:
        """A hash of all weights in use and of the settings of classifier-free guidance."""
        told = (self.name, self.guidance_scale, self.cfg_scale, self.negative_prompt, self.lora_scales)
        on = {OWN, *self.lora_scales}
        weights = (weights_in_force(module, on) for module in (self.network, *self.helpers))
        return fingerprint(" ".join(map(str, told)), *weights)


def own_name(pipe: Any) -> str:
    """The repository that a pipeline came from, or the last part of its folder, so that the folder can be moved."""
    origin = pipe.name_or_path or type(pipe).__name__
    return Path(origin).name if Path(origin).is_dir() else origin
