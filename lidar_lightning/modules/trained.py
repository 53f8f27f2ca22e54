"""What a checkpoint holds of a backbone: the weights that were trained, and of adapters their settings and base."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from lidar_lightning.backbones.adapters import OWN, LoRA, adapter_names, add_lora
from lidar_lightning.backbones.base import Backbone


def trained_state(module: nn.Module, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The trained part of a module's state dict, which the strategy of its run may have gathered."""
    state = module.state_dict() if state is None else state
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    return {name: value for name, value in state.items() if name in trained}


def to_checkpoint(lora: LoRA | None, base: str) -> dict[str, Any]:
    """What a checkpoint holds about its adapters: their settings, and the fingerprint of the weights under them."""
    return {"lora": asdict(lora) if lora else None, "base": base}


def from_checkpoint(checkpoint: dict[str, Any]) -> tuple[LoRA | None, str | None]:
    """The inverse of `to_checkpoint`: the adapters, or None, and the fingerprint of the weights under them.

    Raises:
        ValueError: if the checkpoint holds this in another form.
    """
    adapters = checkpoint.get("adapters") or {"lora": None, "base": None}
    try:
        return adapters["lora"] and LoRA(**adapters["lora"]), adapters["base"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"the checkpoint describes its adapters as {adapters!r}, not by the settings and the base of `LoRA` "
            f"({error}): use one that this version wrote"
        ) from error


def prepare_for_checkpoint(backbone: Backbone, checkpoint: dict[str, Any], base: str) -> None:
    """Makes the backbone able to load a checkpoint of a fine-tuning or pre-training: adds adapters if it has some.

    Args:
        base: fingerprint of the backbone's own weights.

    Raises:
        ValueError: if the checkpoint is of other weights or of another architecture, or if a part of it is missing.
    """
    lora, trained_on = from_checkpoint(checkpoint)
    if lora:
        if trained_on != base:
            raise ValueError(
                f"the checkpoint's adapters were trained on weights {trained_on}, but the backbone "
                f"{backbone.name!r} has {base}: use the backbone of the fine-tuning run"
            )
        if OWN not in adapter_names(backbone):
            add_lora(backbone, lora)
    own = {f"backbone.{name}": value.shape for name, value in backbone.state_dict().items()}
    state = checkpoint.get("state_dict") or {}
    given = {name: value.shape for name, value in state.items() if name.startswith("backbone.")}
    if not given:
        raise ValueError("the checkpoint holds no weights of a backbone: use one that `lidar fit` wrote")
    wrong = [name for name, shape in given.items() if own.get(name) != shape]
    needed = [name for name in own if f".{OWN}." in name] if lora else own
    missing = [name for name in needed if name not in given]
    if wrong or missing:
        raise ValueError(
            f"the checkpoint is incomplete, or of another architecture than {backbone.name!r}: {len(wrong)} of its "
            f"{len(given)} tensors do not fit and {len(missing)} are missing, e.g. {(wrong + missing)[0]}"
        )
