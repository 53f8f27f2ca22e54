"""Tensors and the facts that belong to them, in one safetensors file with a checksum over both."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lidar_lightning.utils.files import write_atomically


def checksum(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """A hash, of 16 hexadecimal digits, of every bit of named tensors on the CPU and of a text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Writes tensors and facts, which must be JSON, whole or not at all; OSError names the path."""
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(dict(facts), sort_keys=True)
    write_atomically(path, save(stored, {"facts": text, "checksum": checksum(stored, text)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads the tensors and the facts of a file. Raises ValueError if it cannot be read or if a bit of it changed."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if checksum(tensors, header["facts"]) != header["checksum"]:
            raise ValueError("its checksum does not match")
        return tensors, json.loads(header["facts"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
