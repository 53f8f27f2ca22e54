"""Pipelines, LoRA files and schedulers of diffusers, loaded with messages that say what was looked for."""

from pathlib import Path
from typing import Any

import diffusers
import torch

from lidar_lightning.solvers.scheduler import check_scheduler

DTYPES = ("float32", "bfloat16", "float16")


def load_pipeline(cls: Any, source: str, dtype: str = "float32", variant: str | None = None) -> Any:
    """A pipeline of that class from a local folder or a hub repository, without a safety checker.

    Raises:
        ValueError: if the dtype is unknown, or the pipeline cannot be found or loaded.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}: use one of {', '.join(DTYPES)}")
    unused = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    known = cls._get_signature_types()
    try:
        return cls.from_pretrained(
            source,
            torch_dtype=getattr(torch, dtype),
            variant=variant,
            **{k: v for k, v in unused.items() if k in known},
        )
    except (OSError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"no {cls.__name__} at {source!r}: it is neither a folder that save_pretrained wrote nor a hub repository "
            f"within reach ({error})"
        ) from error


def load_lora(pipe: Any, path: str, name: str) -> None:
    """Loads a LoRA file, folder or repository into the network of a pipeline as an adapter of that name.

    Raises:
        ValueError: if it cannot be found, or belongs to another architecture.
    """
    file = Path(path)
    source, options = (str(file.parent), {"weight_name": file.name}) if file.is_file() else (path, {})
    try:
        pipe.load_lora_weights(source, adapter_name=name, **options)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"the LoRA at {path!r} does not load into a {type(pipe).__name__}: {error}") from error


def make_scheduler(own: Any, name: str | None = None, options: dict[str, Any] | None = None) -> Any:
    """A supported scheduler with the configuration of `own`, changed by options; of another class if one is named."""
    cls = getattr(diffusers, name, None) if name else type(own)
    if cls is None:
        raise ValueError(f"diffusers has no scheduler {name!r}")
    scheduler = cls.from_config(own.config, **(options or {}))
    check_scheduler(scheduler)
    return scheduler
