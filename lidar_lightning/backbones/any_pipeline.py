"""Any text-to-image pipeline of diffusers as a backbone that runs the pipeline itself."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal, Self

import torch
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor, nn

from lidar_lightning.assets import asset_path
from lidar_lightning.backbones.adapted import Adapted
from lidar_lightning.backbones.adapters import OWN, switch_on, weights_in_force
from lidar_lightning.backbones.loading import load_lora, load_pipeline, make_scheduler
from lidar_lightning.backbones.pipeline import own_name
from lidar_lightning.backbones.quantization import NETWORKS, Quantization
from lidar_lightning.backbones.remembered import Pictures
from lidar_lightning.backbones.replayed import ReplayedPipeline
from lidar_lightning.backbones.stock_call import check_call, offload_weights, pipeline_class, without_bar
from lidar_lightning.backbones.vae import latent_space
from lidar_lightning.backbones.whole import RandomWholeSteps, WholeSteps
from lidar_lightning.solvers.scheduler import digest, schedule_of
from lidar_lightning.solvers.stock import Change, edited, recorded, replaced
from lidar_lightning.solvers.whole import Enough, begun, random_steps, spaced
from lidar_lightning.utils.seeding import Generators
from lidar_lightning.utils.weights import fingerprint


class AnyPipeline(Adapted, ReplayedPipeline):  # type: ignore[override,misc]
    """A text-to-image or text-to-video pipeline of diffusers, run as it is.

    The pipeline must step latents with one supported scheduler. Clean samples are what the scheduler returned in the
    last step, in the space of its network; their pictures are those that the pipeline made of them. Other latents are
    decoded by a run of one step in which the scheduler returns them. A restart hides the steps above it from the
    pipeline, and mixes the clean sample into the noise that the pipeline prepares. Lookaheads are runs of fewer steps,
    or runs of another `AnyPipeline` around the same pipeline with another scheduler or other adapters.

    Args:
        pipe: the pipeline; its modules are used, not copied. It keeps its model or sequential CPU offload.
        call: further arguments of each call of the pipeline, such as height, width and guidance_scale.
        scheduler: the name of a scheduler class of diffusers, used in place of the pipeline's.
        scheduler_options: changes to the scheduler's configuration.
        grid: `timesteps` or `sigmas` of all calls, in place of the scheduler's own spacing of the steps.
        lora_scales: from the names of LoRA adapters of the pipeline to their scales; these are on and others off. None
            leaves on what is on in the pipeline.
        name: the name in reports and provenance; None takes the folder or repository that the pipeline came from.

    Raises:
        ValueError: if the pipeline has no autoencoder or is not called with prompts, steps and generators, if the
            scheduler is not supported, or if the pipeline does not take `call`, or the run itself sets a part of it.
    """

    modality = "image"

    def __init__(
        self,
        pipe: Any,
        call: dict[str, Any] | None = None,
        scheduler: str | None = None,
        scheduler_options: dict[str, Any] | None = None,
        grid: dict[str, Any] | None = None,
        lora_scales: dict[str, float] | None = None,
        name: str | None = None,
    ):
        super().__init__()
        check_call(pipe, call or {}, grid or {})
        self.settings = {
            "call": call, "scheduler": scheduler, "scheduler_options": scheduler_options, "grid": grid,
            "lora_scales": lora_scales, "name": name or own_name(pipe),
        }  # fmt: skip
        self._pipe, self.call, self.grid = (pipe,), call or {}, grid or {}
        self.scheduler = make_scheduler(pipe.scheduler, scheduler, scheduler_options)
        self.schedule = schedule_of(self.scheduler)
        self._told = digest(dict(self.scheduler.config), self.call, self.grid)  # Runs change the shift that it has.
        parts = {key: part for key, part in pipe.components.items() if isinstance(part, nn.Module)}
        self.parts = nn.ModuleDict(parts).eval()
        for key in parts.keys() - set(NETWORKS):
            parts[key].requires_grad_(False)
        self._shape: tuple[int, ...] = ()
        self._size = (0, 0)
        self._pictures = Pictures()
        self._times: dict[int, Tensor] = {}
        self._learnt: dict[str, Any] = {}

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        dtype: str = "float32",
        variant: str | None = None,
        lora: dict[str, str] | None = None,
        lora_scales: dict[str, float] | None = None,
        offload: Literal["model", "sequential"] | None = None,
        quantization: Quantization | None = None,
        call: dict[str, Any] | None = None,
        scheduler: str | None = None,
        scheduler_options: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> "AnyPipeline":  # Not Self, which jsonargparse does not resolve.
        """Loads a pipeline of any class from a local folder or a hub repository.

        Args:
            pretrained_model_name_or_path: a folder, a hub repository (OWNER/REPOSITORY, or with @REVISION), or a
                shipped name such as "shapes-sd".
            dtype: the type of all weights: "float32", "bfloat16" or "float16".
            variant: which of the published weight files to load, e.g. "fp16".
            lora: from names, which `lora_scales` uses, to the LoRA files or repositories that are loaded.
            lora_scales: see the class; None switches all that are loaded on, at scale 1.
            offload: keeps all weights in CPU memory except those of the model ("model") or the layers ("sequential")
                that compute.
            quantization: keeps the frozen weights of the network in 8 or 4 bits, see `quantization_of`.
            call, scheduler, scheduler_options, name: see the class.

        Raises:
            ValueError: if it cannot be found or loaded.
        """
        source = str(pretrained_model_name_or_path)
        source = str(asset_path(source) or source)
        pipe = load_pipeline(pipeline_class(source), source, dtype, variant, quantization)
        for adapter, path in (lora or {}).items():
            load_lora(pipe, path, adapter)
        scales = dict.fromkeys(lora, 1.0) if lora and lora_scales is None else lora_scales
        backbone = cls(pipe, call, scheduler, scheduler_options, lora_scales=scales, name=name)
        switch_on(backbone.adaptable, backbone.lora_scales)
        if offload:
            offload_weights(pipe, offload)
        return backbone

    def around(self, pipe: Any, **changes: Any) -> Self:
        """Another pipeline with these settings except for the changes; another scheduler takes no options from them."""
        cleared = {"scheduler_options": None} if changes.get("scheduler") else {}
        return super().around(pipe, **{**cleared, **changes})

    @property
    def network_name(self) -> str:
        """The name of the part that is called at each step."""
        return "transformer" if "transformer" in self.parts else "unet"

    @property
    def adaptable(self) -> nn.ModuleList:  # type: ignore[override]
        return nn.ModuleList(self.parts.values())

    def _named(self, steps: str) -> str:
        return f"{type(self.pipe).__name__}({steps}, config={self._told})"

    def solver(self, steps: int) -> WholeSteps:
        return WholeSteps(self._named(type(self.scheduler).__name__), steps, self.times)

    def random_solver(self, steps: int) -> RandomWholeSteps:
        """Draws from the law of `GaussianAncestral`, at the times of the pipeline's own steps."""
        name = self._named(f"{type(self.scheduler).__name__}, ancestral")
        return RandomWholeSteps(self.schedule, name, steps, self.times)

    def times(self, steps: int) -> Tensor:
        """The times of `steps` steps, then 0: (steps + 1,) float64. The pipeline is called until it has set them."""
        if steps not in self._times:
            with spaced(self.scheduler, ends=True) as found, suppress(Enough):
                self._called(["a picture"], steps, Generators([0]).streams)
            self._times[steps] = found[0]
        return self._times[steps]

    def run(
        self,
        solver: WholeSteps,
        generators: Generators,
        prompts: Sequence[str],
        change: Change | None = None,
        x0: Tensor | None = None,
        place: int = 0,
    ) -> Tensor:
        rows = [prompt for prompt in prompts for _ in range(len(generators) // len(prompts))]
        law = solver.law if isinstance(solver, RandomWholeSteps) else None
        with ExitStack() as stack:
            into = stack.enter_context
            into(spaced(self.scheduler))
            if x0 is not None:
                into(begun(self.pipe, self.scheduler, x0, place, *self.schedule(solver.times[place])))
            if law is not None:
                into(random_steps(self.scheduler, law, generators, place))
            found = into(recorded(self.scheduler))
            if change is not None:
                into(edited(self.scheduler, change))
            pictures = self._called(rows, solver.steps, generators.streams)
        if not found:
            raise ValueError(f"the {type(self.pipe).__name__} took no step of its scheduler: AnyPipeline cannot run it")
        x0 = found[0].detach().float()
        self._shape, self._size = tuple(x0.shape[1:]), (pictures.shape[-2], pictures.shape[-1])
        self._pictures.put(x0, pictures)
        return x0

    @torch.no_grad()
    def _called(self, prompts: list[str], steps: int, streams: list[torch.Generator]) -> Tensor:
        """Pictures (B, 3, H, W) or videos (B, F, 3, H, W), float32 in [0, 1], made with our scheduler."""
        told = {"prompt": prompts, "num_inference_steps": steps, "generator": streams, "output_type": "pt"}
        with replaced(self.pipe, "scheduler", self.scheduler), without_bar(self.pipe), self.active():
            pictures = self.pipe(**told, **self.call, **self.grid)[0]
        if not isinstance(pictures, Tensor) or pictures.ndim not in (4, 5) or pictures.shape[-3] != 3:
            raise ValueError(f"a {type(self.pipe).__name__} makes no pictures: use guide() and not AnyPipeline")
        return pictures.float().clamp(0, 1)

    def decode(self, x0: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), or (B, F, 3, H, W) for videos, float32 in [0, 1], on the device of the latents."""
        if (made := self._pictures.get(x0)) is not None:
            return made

        def answer(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> SchedulerOutput:
            return SchedulerOutput(prev_sample=x0.to(sample))

        with spaced(self.scheduler), replaced(self.scheduler, "step", answer):
            return self._called(["a picture"] * len(x0), 1, Generators(range(len(x0))).streams).to(x0.device)

    def prior(self, generators: Generators) -> Tensor:
        """Standard normal noise (B, *S) float32 in the shape of the clean samples, which one short run finds out."""
        if not self._shape:
            self.run(self.solver(1), Generators([0], self.device), ["a picture"])
        return generators.randn(*self._shape)

    @property
    def space(self) -> str:
        """The space of the model's own backbone, unless latents are packed: of these it holds rows and columns."""
        shape = tuple(self.prior(Generators([0])).shape[1:])
        return latent_space(self.pipe.vae, shape, *self._size)

    @property
    def device(self) -> torch.device:
        """The device on which the pipeline computes; offloaded weights are elsewhere."""
        return self.pipe._execution_device

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._pictures.clear()
        offloaded = any(hasattr(module, "_hf_hook") for module in self.parts.modules())
        return self if offloaded else super()._apply(fn, recurse)

    def fingerprint(self) -> str:
        """A hash of all weights in use and of the arguments with which the pipeline is called."""
        told = json.dumps([self.call, self.lora_scales], sort_keys=True, default=str)
        on = {OWN, *self.lora_scales}
        return fingerprint(f"{self.name} {told}", *(weights_in_force(part, on) for part in self.parts.values()))
