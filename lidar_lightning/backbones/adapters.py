"""LoRA adapters on a backbone, by peft: injected in place, switched off for the reference, and saved on their own."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.utils.sizes import check_memory
from lidar_lightning.utils.weights import gathered, weights_at_hand


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters (Hu et al., arXiv 2106.09685).

    Args:
        rank: the rank of each layer's update, at least 1.
        alpha: the update is scaled by alpha / rank.
        dropout: the dropout rate of the adapters' input, in [0, 1).
    """

    rank: int = 16
    alpha: int = 16
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"LoRA needs rank >= 1 and dropout in [0, 1), got {self.rank} and {self.dropout}")


TRAINED = 16
"""Bytes that training takes per parameter: float32, its gradient and two moments of Adam."""
OWN = "default"
"""The name of the adapter that `add_lora` makes; all others came with the pipeline."""


def layers(model: nn.Module) -> list[LoraLayer]:
    """All layers of a network that hold LoRA adapters."""
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def adapter_names(model: nn.Module) -> set[str]:
    """The names of all adapters that a model holds."""
    return {name for layer in layers(model) for name in layer.r}


@contextmanager
def flags_kept(model: nn.Module) -> Iterator[None]:
    """Restores which parameters are trainable at the end of the block; switching adapters changes that."""
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        yield
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


def active_scales(model: nn.Module) -> dict[str, float]:
    """The scales of the adapters that are on, without the one trained here and without fused ones, by name.

    Raises:
        ValueError: if an adapter has different scales in different layers.
    """
    scales: dict[str, float] = {}
    for layer in layers(model):
        on = [] if layer.disable_adapters else layer.active_adapters
        for name in set(on) & set(layer.r) - {OWN, *layer.merged_adapters}:
            now = layer.scaling[name]
            layer.set_scale(name, 1.0)
            scale, layer.scaling[name] = round(now / layer.scaling[name], 6), now
            if scales.setdefault(name, scale) != scale:
                raise ValueError(
                    f"the LoRA {name!r} has different scales in different layers, {scales[name]} and {scale}: give it "
                    "one by `pipe.set_adapters`, or make it part of the weights by `pipe.fuse_lora`"
                )
    return dict(sorted(scales.items()))


def switch_on(model: nn.Module, scales: dict[str, float]) -> None:
    """Switches these adapters on at these scales, the one trained here too, and all others off.

    Raises:
        ValueError: if fused adapters keep others from acting.
    """
    with flags_kept(model):
        for layer in layers(model):
            if layer.merged_adapters and set(scales) & set(layer.r):
                raise ValueError(
                    f"the LoRA {layer.merged_adapters} is fused, and a layer with fused adapters runs no others: call "
                    "`pipe.unfuse_lora()`, or save the fused pipeline and load that"
                )
            layer.enable_adapters(True)
            layer.set_adapter([name for name in (OWN, *scales) if name in layer.r], inference_mode=True)
            for name, scale in scales.items():
                layer.set_scale(name, scale)


@contextmanager
def adapters_kept(model: nn.Module) -> Iterator[None]:
    """At the end of the block, switches on the adapters that were on before it, and all others off."""
    before = {layer: (layer.active_adapters, layer.disable_adapters, dict(layer.scaling)) for layer in layers(model)}
    with flags_kept(model):
        try:
            yield
        finally:
            with flags_kept(model):
                for layer in layers(model):
                    active, disabled, scaling = before.get(layer, ([], False, {}))
                    layer.enable_adapters(not disabled)
                    layer.set_adapter(active, inference_mode=True)
                    layer.scaling.update(scaling)


@contextmanager
def adapters_on(model: nn.Module, scales: dict[str, float]) -> Iterator[None]:
    """While the block runs, these adapters are on at these scales, and the one trained here, and no others."""
    with adapters_kept(model):
        switch_on(model, scales)
        yield


def add_lora(backbone: Backbone, lora: LoRA) -> None:
    """Freezes the backbone and gives its `lora_targets` trainable adapters that change nothing yet.

    Other adapters that are on stay on. The new ones are float32 whatever the backbone is, since half precision would
    round small steps of an optimizer away.
    """
    backbone.requires_grad_(False)
    layers = [m.weight.shape for name, m in backbone.named_modules() if re.fullmatch(backbone.lora_targets, name)]
    entries = sum(shape[0] + shape[1:].numel() for shape in layers)
    check_memory(f"LoRA of rank {lora.rank} on {len(layers)} layers", lora.rank * entries, TRAINED)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=backbone.lora_targets,
    )
    others = active_scales(backbone)
    inject_adapter_in_model(config, backbone, adapter_name=OWN)
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    switch_on(backbone, others)


@contextmanager
def adapters_off(backbone: Backbone) -> Iterator[None]:
    """While the block runs, trained adapters are off, as the reference of DPO needs. Use it under no_grad only."""
    with adapters_kept(backbone):
        with flags_kept(backbone):  # FSDP asks once, in the first forward pass, what has a gradient
            for layer in layers(backbone):
                layer.set_adapter([name for name in layer.active_adapters if name != OWN], inference_mode=True)
        yield


def weights_in_force(model: nn.Module, on: Iterable[str]) -> dict[str, Tensor]:
    """The state dict without adapters that are off, named as if no layer were wrapped."""
    off = adapter_names(model) - set(on)
    return {
        key.replace(".base_layer.", "."): value
        for key, value in weights_at_hand(model).items()
        if not any(f".{name}." in key for name in off)
    }


def own_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of `add_lora`'s adapters as `<layer>.lora_A.weight` (r, in) and `<layer>.lora_B.weight` (out, r), for
    a scale of 1.

    Raises:
        ValueError: if the model holds no such adapters.
    """
    state: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer) and OWN in layer.lora_A:
            down, up = (gathered(getattr(layer, part)[OWN].weight.detach()) for part in ("lora_A", "lora_B"))
            state |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up * layer.scaling[OWN]}
    if not state:
        raise ValueError(f"the {type(model).__name__} holds no adapters that were trained here")
    return state
