"""Checks which pipelines of diffusers can be run as they are, and with which arguments."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers

from lidar_lightning.utils.hub import at_revision

NEEDED = ("prompt", "generator", "num_inference_steps", "output_type")
GRID = ("timesteps", "sigmas")
"""Arguments that place the steps of a call, instead of the scheduler's own spacing."""
OWN = (*NEEDED, *GRID, "num_images_per_prompt", "num_videos_per_prompt", "prompt_embeds", "latents", "return_dict")
"""Arguments that a run itself passes to the pipeline, or that would not fit it."""


def check_call(pipe: Any, call: dict[str, Any], grid: dict[str, Any]) -> None:
    """Raises ValueError unless a pipeline has an autoencoder and takes the arguments of its calls."""
    kind, taken = type(pipe).__name__, inspect.signature(type(pipe).__call__).parameters
    if getattr(pipe, "vae", None) is None:
        raise ValueError(f"AnyPipeline runs pipelines with a VAE, and this {kind} has none")
    if missing := [name for name in NEEDED if name not in taken]:
        raise ValueError(f"AnyPipeline runs text-to-image pipelines, and a {kind} is not called with {missing}")
    if wrong := sorted(key for key in call if key in OWN or key not in taken):
        free = sorted(set(taken) - set(OWN) - {"self"})
        raise ValueError(f"call={{{', '.join(wrong)}}} is not taken, or is set by the run: choose from {free}")
    if wrong := sorted(key for key in grid if key not in GRID or key not in taken):
        raise ValueError(f"grid={{{', '.join(wrong)}}} is none of {GRID}, or a {kind} does not take it: leave it out")


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


def offload_weights(pipe: Any, offload: str) -> None:
    """Makes a pipeline keep its weights in CPU memory, except for the model or (if "sequential") layer that computes.

    Raises:
        ValueError: if `offload` is another word, or if there is no accelerator.
    """
    if offload not in ("model", "sequential"):
        raise ValueError(f"offload is 'model', 'sequential' or None, got {offload!r}")
    try:
        getattr(pipe, f"enable_{offload}_cpu_offload")()
    except RuntimeError as error:
        raise ValueError(f"offload={offload!r} needs an accelerator ({error}): leave it out") from error


@contextmanager
def without_bar(pipe: Any) -> Iterator[None]:
    """While the block runs, a pipeline shows no progress bar of its own."""
    before = getattr(pipe, "_progress_bar_config", {})
    pipe.set_progress_bar_config(**{**before, "disable": True})
    try:
        yield
    finally:
        pipe.set_progress_bar_config(**before)
