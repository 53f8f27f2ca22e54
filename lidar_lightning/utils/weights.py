"""Weights: a hash that tells them apart, and the check that they are finite and those that were saved."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lidar_lightning.utils.tensor_files import checksum


def dequantized(value: Tensor) -> Tensor:
    """A weight as plain numbers, also where torchao keeps it in a form of its own."""
    return value.dequantize() if type(value).__module__.startswith("torchao") else value


def check_finite_weights(what: str, state: Mapping[str, Tensor]) -> None:
    """Raises ValueError, naming `what` and a tensor, if a weight is NaN or infinite."""
    broken = [
        name
        for name, value in ((name, dequantized(value)) for name, value in state.items())
        if value.is_floating_point() and value.numel() and not torch.stack(torch.aminmax(value)).isfinite().all()
    ]
    if broken:
        raise ValueError(
            f"{what} holds NaN or infinite weights in {len(broken)} of {len(state)} tensors, e.g. {broken[0]}: it is "
            "damaged or its training diverged; use another copy, or an earlier checkpoint"
        )


def save_weights(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file that holds its own checksum."""
    stored = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(stored, path, {"format": "pt", "checksum": checksum(stored)})


def check_weights(path: str | Path) -> None:
    """Raises ValueError, naming the file, if a weight in it is not finite or is not what `save_weights` wrote."""
    with safe_open(path, framework="pt") as file:
        expected = (file.metadata() or {}).get("checksum")
    state = load_file(path)
    if expected and checksum(state) != expected:
        raise ValueError(f"the weights {path} are damaged, their checksum does not match: use another copy")
    check_finite_weights(f"the weights {path}", state)


def gathered(value: Tensor) -> Tensor:
    """A tensor in one piece: of one that is spread over processes (FSDP), all of them must ask for it together."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def fingerprint(name: str, *weights: Mapping[str, Tensor]) -> str:
    """A hash, of 16 hexadecimal digits, of a name and of the tensors of one or more state dicts.

    Each tensor enters with its name, its shape and about 4096 evenly spaced values.
    """
    digest = hashlib.sha256(name.encode())
    for tensors in weights:
        for key, value in sorted(tensors.items()):
            digest.update(f"{key}{tuple(value.shape)}".encode())
            flat = dequantized(value.detach()).flatten()
            digest.update(flat[:: max(1, len(flat) // 4096)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def weights_at_hand(module: Any) -> dict[str, Tensor]:
    """The state dict of a network; of one that sequential CPU offload has taken apart, what it will compute with."""
    state = module.state_dict()
    if any(value.is_meta for value in state.values()):
        from accelerate.utils.modeling import get_state_dict_offloaded_model

        found = get_state_dict_offloaded_model(module)  # It leaves out what belongs to no submodule.
        hooks = getattr(module._hf_hook, "hooks", [module._hf_hook])
        kept = [hook.weights_map for hook in hooks if getattr(hook, "weights_map", None) is not None]
        return {key: found[key] if key in found else kept[0][key] for key in state}
    return state
