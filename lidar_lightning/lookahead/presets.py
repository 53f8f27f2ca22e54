"""Published lookahead settings, as data in assets/presets.yaml, made into backbones."""

from dataclasses import dataclass, field
from typing import Any

import yaml

from lidar_lightning.assets import ASSETS
from lidar_lightning.backbones import Backbone


@dataclass(frozen=True)
class Preset:
    """How lookahead samples of an image model are drawn.

    Attributes:
        steps: network calls per sample.
        scheduler, scheduler_options, grid, guidance_scale: see `LatentBackbone`; None keeps those of the model.
        lora: an adapter that is loaded into the model's own network, and is on for lookaheads only.
        lora_scale: the strength of that adapter.
        weights: the weights of another network, which shares the text encoders and the VAE of the model.
    """

    steps: int
    scheduler: str | None = None
    scheduler_options: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, Any] = field(default_factory=dict)
    guidance_scale: float | None = None
    lora: str | None = None
    lora_scale: float = 1.0
    weights: str | None = None


def load_presets() -> dict[str, Preset]:
    """All presets by name."""
    return {name: Preset(**values) for name, values in yaml.safe_load((ASSETS / "presets.yaml").read_text()).items()}


def preset(name: str) -> Preset:
    """The preset of a name. Raises ValueError, naming all presets, if there is none."""
    presets = load_presets()
    if name not in presets:
        raise ValueError(f"no lookahead preset {name!r}: use one of {', '.join(presets)}")
    return presets[name]


def lookahead_backbone(backbone: Backbone, name: str) -> Backbone:
    """The model in the form in which a preset draws its lookaheads.

    Adapters and weights are loaded, at the first use from the hub. Adapters of the model that are on stay on.

    Raises:
        ValueError: if the preset is unknown, if the model is not a latent image model, or if what it needs cannot be
            loaded.
    """
    from lidar_lightning.backbones.adapters import adapter_names, adapters_kept
    from lidar_lightning.backbones.any_pipeline import AnyPipeline
    from lidar_lightning.backbones.latent import LatentBackbone
    from lidar_lightning.backbones.loading import load_lora, load_network

    chosen = preset(name)
    if not isinstance(backbone, LatentBackbone | AnyPipeline):
        raise ValueError(f"the lookahead preset {name!r} is for image models, not for {type(backbone).__name__}")
    changes: dict[str, Any] = {"grid": chosen.grid or None}
    if chosen.scheduler or chosen.scheduler_options:
        changes |= {"scheduler": chosen.scheduler, "scheduler_options": chosen.scheduler_options}
    told: dict[str, Any] = {} if chosen.guidance_scale is None else {"guidance_scale": chosen.guidance_scale}
    if isinstance(backbone, AnyPipeline):
        changes["call"] = {key: value for key, value in backbone.call.items() if key != "eta"} | told
    else:
        changes |= {"eta": 0.0, **told}
    pipe = backbone.pipe
    if chosen.weights:
        pipe = load_network(pipe, backbone.network_name, chosen.weights)
        changes["name"] = f"{backbone.settings['name']}+{name}"
    if chosen.lora:
        if name not in adapter_names(backbone.adaptable):
            with adapters_kept(backbone.adaptable):
                load_lora(pipe, chosen.lora, name)
        changes["lora_scales"] = {**backbone.lora_scales, name: chosen.lora_scale}
    return backbone.around(pipe, **changes)
