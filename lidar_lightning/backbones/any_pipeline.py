"""Any text-to-image pipeline of diffusers as a backbone, by running the pipeline itself."""

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import diffusers
import torch
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor, nn

from lidar_lightning.assets import asset_path
from lidar_lightning.backbones.loading import load_pipeline, make_scheduler
from lidar_lightning.backbones.pipeline import own_name
from lidar_lightning.backbones.vae import vae_fingerprint
from lidar_lightning.backbones.whole import WholeRuns, WholeSteps, refuse
from lidar_lightning.solvers.scheduler import digest, schedule_of
from lidar_lightning.solvers.stock import Change, edited, recorded, replaced
from lidar_lightning.utils.hub import at_revision
from lidar_lightning.utils.seeding import Generators
from lidar_lightning.utils.weights import fingerprint

NEEDED = ("prompt", "generator", "num_inference_steps", "output_type")
OWN = (*NEEDED, "num_images_per_prompt", "prompt_embeds", "latents", "return_dict", "timesteps", "sigmas")
"""What a run itself tells the pipeline, or what would not fit it."""
REMEMBERED = 2**30
"""Bytes of pictures that are kept for when their latents are decoded."""


class AnyPipeline(WholeRuns):
    """A text-to-image pipeline of diffusers that steps latents with one supported scheduler, run as it is.

    Clean samples are what its scheduler gave in the last step, in the space that its network works in; their pictures
    are those that the pipeline made of them. Other latents are decoded by a run of one step whose scheduler answers
    with them. Lookaheads are runs of fewer steps, if need be of another `AnyPipeline` around the same pipeline with
    another scheduler.

    Args:
        pipe: the pipeline; its modules are used, not copied.
        call: what else it is called with, such as height, width and guidance_scale.
        scheduler: diffusers scheduler class (its name) in place of the pipeline's.
        scheduler_options: changes of the scheduler's configuration.
        name: in reports and provenance; None takes where the pipeline came from.

    Raises:
        ValueError: for a pipeline without an autoencoder or that is not called with prompts, steps and generators, an
            unsupported scheduler, or a `call` that the pipeline does not take or that the run decides.
    """

    modality = "image"

    def __init__(
        self,
        pipe: Any,
        call: dict[str, Any] | None = None,
        scheduler: str | None = None,
        scheduler_options: dict[str, Any] | None = None,
        name: str | None = None,
    ):
        super().__init__()
        check_call(pipe, call or {})
        # In a tuple, so that the modules below are its only submodules.
        self._pipe, self.call = (pipe,), call or {}
        self.scheduler = make_scheduler(pipe.scheduler, scheduler, scheduler_options)
        self.schedule, self.name = schedule_of(self.scheduler), name or own_name(pipe)
        parts = {key: part for key, part in pipe.components.items() if isinstance(part, nn.Module)}
        self.parts = nn.ModuleDict(parts).requires_grad_(False).eval()
        self._shape: tuple[int, ...] = ()
        self._size = (0, 0)
        self._pictures: dict[str, Tensor] = {}

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        dtype: str = "float32",
        variant: str | None = None,
        call: dict[str, Any] | None = None,
        scheduler: str | None = None,
        scheduler_options: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> "AnyPipeline":  # Not Self, which jsonargparse does not resolve.
        """Loads a pipeline of whatever class from a local folder or a hub repository.

        Args:
            pretrained_model_name_or_path: a folder, a hub repository (OWNER/REPOSITORY, or with @REVISION), or a
                shipped name such as "shapes-sd".
            dtype: type of all weights: "float32", "bfloat16" or "float16".
            variant: which of the published weight files to load, e.g. "fp16".
            call, scheduler, scheduler_options, name: see the class.

        Raises:
            ValueError: if it cannot be found or loaded.
        """
        source = str(pretrained_model_name_or_path)
        source = str(asset_path(source) or source)
        pipe = load_pipeline(pipeline_class(source), source, dtype, variant)
        return cls(pipe, call, scheduler, scheduler_options, name)

    @property
    def pipe(self) -> Any:
        return self._pipe[0]

    def variant(self, **changes: Any) -> Self:
        """The same weights called in another way, e.g. with another scheduler for lookaheads."""
        settings = {"call": self.call, "scheduler": type(self.scheduler).__name__, "name": self.name}
        settings["scheduler_options"] = {k: v for k, v in self.scheduler.config.items() if not k.startswith("_")}
        if "scheduler" in changes:
            settings.pop("scheduler_options")
        return type(self)(self.pipe, **{**settings, **changes})

    def solver(self, steps: int) -> WholeSteps:
        told = digest(dict(self.scheduler.config), self.call)
        return WholeSteps(f"{type(self.pipe).__name__}({type(self.scheduler).__name__}, config={told})", steps)

    def run(
        self, solver: WholeSteps, generators: Generators, prompts: Sequence[str], change: Change | None = None
    ) -> Tensor:
        rows = [prompt for prompt in prompts for _ in range(len(generators) // len(prompts))]
        with ExitStack() as stack:
            found = stack.enter_context(recorded(self.scheduler))
            if change is not None:
                stack.enter_context(edited(self.scheduler, change))
            pictures = self._called(rows, solver.steps, generators.streams)
        if not found:
            raise ValueError(f"the {type(self.pipe).__name__} took no step of its scheduler: it cannot be run here")
        x0 = found[0].detach().float()
        self._shape, self._size = tuple(x0.shape[1:]), (pictures.shape[-2], pictures.shape[-1])
        self._remember(x0, pictures)
        return x0

    @torch.no_grad()
    def _called(self, prompts: list[str], steps: int, streams: list[torch.Generator]) -> Tensor:
        """The pipeline's pictures (B, 3, H, W) float32 in [0, 1], made with our scheduler."""
        told = {"prompt": prompts, "num_inference_steps": steps, "generator": streams, "output_type": "pt"}
        with replaced(self.pipe, "scheduler", self.scheduler):
            pictures = self.pipe(**told, **self.call)[0]
        if not isinstance(pictures, Tensor) or pictures.ndim != 4:
            raise ValueError(f"a {type(self.pipe).__name__} makes no pictures: guide() steers it, AnyPipeline does not")
        return pictures.float().clamp(0, 1)

    def _remember(self, x0: Tensor, pictures: Tensor) -> None:
        for one, picture in zip(x0, pictures.cpu(), strict=True):
            self._pictures[hash_of(one)] = picture
        for key in list(self._pictures)[: -max(len(x0), REMEMBERED // (4 * pictures[0].numel()))]:
            del self._pictures[key]

    def decode(self, x0: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) float32 in [0, 1], on the device of the latents."""
        keys = [hash_of(one) for one in x0]
        if all(key in self._pictures for key in keys):
            return torch.stack([self._pictures[key] for key in keys]).to(x0.device)

        def answer(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> SchedulerOutput:
            return SchedulerOutput(prev_sample=x0.to(sample))

        with replaced(self.scheduler, "step", answer):
            return self._called(["a picture"] * len(x0), 1, Generators(range(len(x0))).streams).to(x0.device)

    def x0_of(self, samples: Any) -> Tensor:
        refuse(self, "encoding pictures")

    def prior(self, generators: Generators) -> Tensor:
        """Standard normal noise in the shape of its clean samples (B, *S) float32, which one short run finds out."""
        if not self._shape:
            self.run(self.solver(1), Generators([0], self.device), ["a picture"])
        return generators.randn(*self._shape)

    @property
    def space(self) -> str:
        """As that of the model's own backbone where latents are not packed: packed ones by their rows and columns."""
        own = tuple(self.prior(Generators([0])).shape[1:])
        if len(own) == 2:
            rows = round(math.sqrt(own[0] * self._size[0] / self._size[1]))
            own = (own[1], rows, own[0] // rows)
        return f"{vae_fingerprint(self.pipe.vae)}-{'x'.join(map(str, own))}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._pictures.clear()
        return super()._apply(fn, recurse)

    def origin(self) -> str:
        return self.name

    def fingerprint(self) -> str:
        """Hash of all weights and of what the pipeline is called with."""
        told = json.dumps(self.call, sort_keys=True, default=str)
        return fingerprint(f"{self.name} {told}", *(part.state_dict() for part in self.parts.values()))


def hash_of(x: Tensor) -> str:
    """Of the bytes of a tensor."""
    return hashlib.sha256(x.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def check_call(pipe: Any, call: dict[str, Any]) -> None:
    """Raises ValueError unless a pipeline has an autoencoder and takes what it will be called with."""
    kind, taken = type(pipe).__name__, inspect.signature(type(pipe).__call__).parameters
    if getattr(pipe, "vae", None) is None:
        raise ValueError(f"AnyPipeline runs pipelines with a VAE, and this {kind} has none")
    if missing := [name for name in NEEDED if name not in taken]:
        raise ValueError(f"AnyPipeline runs text-to-image pipelines, and a {kind} is not called with {missing}")
    if wrong := sorted(key for key in call if key in OWN or key not in taken):
        free = sorted(set(taken) - set(OWN) - {"self"})
        raise ValueError(f"call={{{', '.join(wrong)}}} is not taken, or is for the run to say: choose from {free}")


def pipeline_class(source: str) -> Any:
    """The class of the pipeline in a folder or a hub repository. Raises ValueError if there is none."""
    repository, revision = at_revision(source)
    try:
        name = diffusers.DiffusionPipeline.load_config(repository, revision=revision).get("_class_name")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no pipeline at {source!r}: it is neither a folder that save_pretrained wrote nor a hub repository within "
            f"reach ({error})"
        ) from error
    found = getattr(diffusers, str(name), None)
    if found is None:
        raise ValueError(f"the pipeline at {source!r} is a {name!r}, which diffusers {diffusers.__version__} lacks")
    return found
