"""Loads pipelines, LoRA files and schedulers of diffusers, with messages that say what was looked for."""

import copy
import inspect
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers.utils import logging as transformers_logging

from lidar_lightning.backbones.adapters import layers
from lidar_lightning.backbones.quantization import Quantization, quantization_of
from lidar_lightning.solvers.scheduler import check_scheduler, is_flow
from lidar_lightning.utils.hub import at_revision
from lidar_lightning.utils.vocabulary import check_vocabulary
from lidar_lightning.utils.weights import check_finite_weights

TRAINED = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)
"""Settings of a scheduler with which its network was trained, and which no other class may replace by defaults."""
UNCLIPPED = {"clip_sample": False, "thresholding": False}
"""Switches off what cuts samples to [-1, 1], which is meant for pixels and on by default in some classes."""
BARS = (diffusers.utils.logging, transformers_logging)
"""The modules in which libraries switch their progress bars."""
DTYPES = ("float32", "bfloat16", "float16")


def load_pipeline(
    cls: Any, source: str, dtype: str = "float32", variant: str | None = None, quantization: Quantization | None = None
) -> Any:
    """Loads a pipeline of class `cls` from a local folder or a hub repository, without a safety checker.

    A repository may be NAME@REVISION.

    Raises:
        ValueError: if the dtype is unknown, or the pipeline cannot be found or loaded, lacks a vocabulary, or has
            weights that are NaN or infinite.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}: use one of {', '.join(DTYPES)}")
    check_components(cls, source)
    quantized = {"quantization_config": quantization_of(quantization, cls)} if quantization else {}
    unused = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    known = cls._get_signature_types()
    repository, revision = at_revision(source)
    try:
        with quietly(repository):
            pipe = cls.from_pretrained(
                repository,
                torch_dtype=getattr(torch, dtype),
                variant=variant,
                revision=revision,
                **{k: v for k, v in unused.items() if k in known},
                **quantized,
            )
    except (OSError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"no {cls.__name__} at {source!r}: it is neither a folder that save_pretrained wrote nor a hub repository "
            f"within reach ({error})"
        ) from error
    check_tokenizers(pipe, source)
    for name, part in pipe.components.items():
        if isinstance(part, nn.Module):
            check_finite_weights(f"the {name} of the {cls.__name__} at {source!r}", part.state_dict())
    return pipe


@contextmanager
def quietly(source: str) -> Iterator[None]:
    """Hides warnings about `torch_dtype`, the only name that old releases know, and bars of loading local folders."""
    bars = [bars for bars in BARS if Path(source).is_dir() and bars.is_progress_bar_enabled()]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch_dtype` is deprecated")
        for bar in bars:
            bar.disable_progress_bar()
        try:
            yield
        finally:
            for bar in bars:
                bar.enable_progress_bar()


def check_tokenizers(pipe: Any, source: str) -> None:
    """Raises ValueError, naming the tokenizer, if a tokenizer of a pipeline lacks its vocabulary."""
    for name, tokenizer in pipe.components.items():
        network = getattr(pipe, name.replace("tokenizer", "text_encoder"), None)
        if name.startswith("tokenizer") and tokenizer is not None and network is not None:
            check_vocabulary(f"the {name} of the {type(pipe).__name__} at {source!r}", tokenizer, network)


def check_components(cls: Any, source: str) -> None:
    """Raises ValueError if the folder of a pipeline holds other networks or tokenizers than its class has.

    A folder of another class does; it might load all the same, and fail only when it draws.
    """
    if not (Path(source) / "model_index.json").is_file():
        return
    held = cls.load_config(source)
    kinds = ("text_encoder", "tokenizer", "unet", "transformer", "vae", "scheduler")
    own, given = ({name for name in names if name.startswith(kinds)} for names in (cls._get_signature_types(), held))
    if own != given:
        raise ValueError(
            f"no {cls.__name__} at {source!r}: the folder holds a {held.get('_class_name')}, whose parts "
            f"{sorted(own ^ given)} differ; use the backbone of that class"
        )


def split_path(path: str) -> tuple[str, str | None]:
    """Splits the path of a local file, or OWNER/REPOSITORY/FILE, into the folder or repository and the file's name.

    The repository may be OWNER/REPOSITORY@REVISION. The name is None for a folder or a whole repository.
    """
    path = os.path.expanduser(path)
    if Path(path).is_file():
        return str(Path(path).parent), Path(path).name
    parts = path.split("/")
    return (path, None) if Path(path).exists() or len(parts) < 3 else ("/".join(parts[:2]), "/".join(parts[2:]))


def load_network(pipe: Any, name: str, path: str) -> Any:
    """A pipeline with the parts of `pipe`, except that the weights of its network `name` come from a file.

    LoRA adapters that the network holds are kept.

    Raises:
        ValueError: if the file cannot be found or is of another architecture, or if adapters are fused into the weights
            that it replaces.
    """
    network = copy.deepcopy(getattr(pipe, name))
    if any(layer.merged for layer in layers(network)):
        raise ValueError(f"a LoRA is fused into the {name}, which the weights at {path!r} replace: unfuse it first")
    wrapped = {key.replace(".base_layer.", "."): key for key in network.state_dict() if ".lora_" not in key}
    source, file = split_path(path)
    try:
        if file is None:
            raise OSError("it names no weight file")
        local = Path(source) / file
        repository, revision = at_revision(source)
        found = str(local) if local.is_file() else hf_hub_download(repository, file, revision=revision)
        weights = load_file(found) if file.endswith(".safetensors") else torch.load(found, weights_only=True)
        lost = network.load_state_dict({wrapped.get(key, key): value for key, value in weights.items()}, strict=False)
        if absent := [*lost.unexpected_keys, *(key for key in lost.missing_keys if key in wrapped.values())]:
            raise ValueError(f"{len(absent)} tensors do not fit, e.g. {absent[0]}")
        check_finite_weights("the file", weights)
    except (OSError, RuntimeError, ValueError, SafetensorError, HfHubHTTPError) as error:
        raise ValueError(f"the weights at {path!r} do not load as a {type(pipe).__name__}'s {name}: {error}") from error
    return type(pipe)(**{**pipe.components, name: network})


def load_lora(pipe: Any, path: str, name: str) -> None:
    """Loads a LoRA file, folder or repository into the network of a pipeline as an adapter of that name.

    Raises:
        ValueError: if it cannot be found or is of another architecture.
    """
    source, file = split_path(path)
    try:
        repository, revision = at_revision(source)
        named = {"weight_name": file} if file else {}
        pipe.load_lora_weights(repository, adapter_name=name, revision=revision, **named)
        for part in pipe.components.values():
            for place, layer in enumerate(layers(part)) if isinstance(part, nn.Module) else ():
                pair = {f"lora_{side} of layer {place}": getattr(layer, f"lora_{side}") for side in "AB"}
                check_finite_weights("it", {key: half[name].weight for key, half in pair.items() if name in half})
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"the LoRA at {path!r} does not load into a {type(pipe).__name__}: {error}") from error


def load_tiny_vae(path: str, backbone: Any) -> Any:
    """Loads an AutoencoderTiny for the latents of an image model, in the precision of its VAE.

    Raises:
        ValueError: if it cannot be found or is for other latents, or if the backbone is no latent image model.
    """
    vae = getattr(getattr(backbone, "pipe", None), "vae", None)
    if vae is None:
        raise ValueError(f"the decoder {path!r} is for latent image models, not for {type(backbone).__name__}")
    repository, revision = at_revision(path)
    try:
        with quietly(repository):
            tiny = diffusers.AutoencoderTiny.from_pretrained(repository, torch_dtype=vae.dtype, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"no AutoencoderTiny at {path!r}: it is neither a folder nor a hub repository within reach ({error})"
        ) from error
    if tiny.config.latent_channels != vae.config.latent_channels:
        raise ValueError(
            f"the decoder {path!r} takes latents of {tiny.config.latent_channels} channels, but those of "
            f"{backbone.name!r} have {vae.config.latent_channels}: use the one made for this model"
        )
    return tiny.requires_grad_(False).eval()


def make_scheduler(own: Any, name: str | None = None, options: dict[str, Any] | None = None) -> Any:
    """A supported scheduler with the configuration of `own`, changed by options, and of another class if one is named.

    Another class keeps the settings with which the network was trained, and cuts latents only if `own` explicitly does.
    A multistep solver gets flow sigmas on a flow-matching model.

    Raises:
        ValueError: if the scheduler is unknown or unsupported, or is for another kind of noise than the model's.
    """
    cls = getattr(diffusers, name, None) if name else type(own)
    if cls is None:
        raise ValueError(f"diffusers has no scheduler {name!r}")
    kept: dict[str, Any] = {}
    if cls is not type(own):
        implied = own.config.get("_use_default_values", [])
        kept = {key: own.config[key] for key in TRAINED if key in own.config}
        kept |= {key: value for key, value in UNCLIPPED.items() if key not in own.config or key in implied}
        if is_flow(own):
            kept |= {"use_flow_sigmas": True, "flow_shift": own.config.get("shift", 1.0)}
        taken = inspect.signature(cls).parameters
        kept = {key: value for key, value in kept.items() if key in taken}
        kept |= {"prediction_type": "flow_prediction"} if "use_flow_sigmas" in kept else {}
    scheduler = cls.from_config(own.config, **{**kept, **(options or {})})
    check_scheduler(scheduler)
    if is_flow(scheduler) != is_flow(own):
        kinds = ("variance-preserving noise", "flow matching")
        raise ValueError(
            f"a {cls.__name__} steps through {kinds[is_flow(scheduler)]}, but the model was trained on "
            f"{kinds[is_flow(own)]}: use another scheduler"
        )
    return scheduler
