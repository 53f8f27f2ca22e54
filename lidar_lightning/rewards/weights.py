"""Published weights of reward networks, found on disk or on the Hugging Face hub, and read without running any code.

Every failure is a ValueError that names the reward and the file or repository.
"""

import pickle
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lidar_lightning.utils.hub import at_revision
from lidar_lightning.utils.vocabulary import check_vocabulary


def find_file(reward: str, model: str, filename: str) -> Path:
    """The file of weights that `model` names.

    Args:
        reward: the name of the reward, for messages.
        model: a file, a folder that holds `filename` (or the same with .safetensors), or a repository on the hub, with
            a certain revision as OWNER/REPOSITORY@REVISION.
        filename: the name of the file in the folder or repository.

    Raises:
        ValueError: if there is no such file, or the repository can be neither reached nor found in the cache.
    """
    path = Path(model).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        for candidate in (path / filename, (path / filename).with_suffix(".safetensors")):
            if candidate.is_file():
                return candidate
        raise ValueError(f"reward {reward!r}: the folder {model} has no file {filename}: put it there or name a file")
    try:
        repository, revision = at_revision(model)
        return Path(hf_hub_download(repository, filename, revision=revision))
    except (OSError, ValueError) as error:
        raise ValueError(_unavailable(reward, f"{filename} of {model!r}", error)) from error


def read_weights(reward: str, path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a .safetensors file or of a PyTorch file, where they may lie under "state_dict".

    Raises:
        ValueError: if the file cannot be read, or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"reward {reward!r}: the weights {path} cannot be read: {error}; download or copy the file again"
        ) from error
    weights = stored.get("state_dict", stored) if isinstance(stored, dict) else stored
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"reward {reward!r}: {path} holds {type(weights).__name__}, not a dictionary of tensors")
    return weights


def pretrained(reward: str, kind: Any, model: str) -> Any:
    """Loads a model of a transformers class from a folder or the hub (OWNER/REPOSITORY, perhaps @REVISION).

    Raises:
        ValueError: if the folder or repository cannot be found or read.
    """
    try:
        repository, revision = at_revision(model)
        return kind.from_pretrained(repository, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise ValueError(_unavailable(reward, f"the {kind.__name__} of {model!r}", error)) from error


def pretrained_tokenizer(reward: str, kind: Any, model: str, network: Any) -> Any:
    """Loads the tokenizer of a text network from a folder or the hub.

    Raises:
        ValueError: as `pretrained`, or if its vocabulary is not there.
    """
    tokenizer = pretrained(reward, kind, model)
    check_vocabulary(f"reward {reward!r}: the {kind.__name__} of {model!r}", tokenizer, network)
    return tokenizer


def fill(reward: str, network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Puts weights into a network, whose names and shapes must all be the network's own.

    Raises:
        ValueError: if weights are missing, unknown, or of another shape; the message names them.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"reward {reward!r}: the weights do not fit the network: {error}") from error
    return network


def linear_head(reward: str, weights: Mapping[str, Tensor]) -> nn.Sequential:
    """Builds linear layers one after another, without activations, as LAION aesthetic and ImageReward published them.

    Args:
        reward: the name of the reward, for messages.
        weights: "<i>.weight" (out, in) and "<i>.bias" (out,), applied by growing i; dropout left gaps between the i.

    Raises:
        ValueError: if there are no such layers, one does not fit the next, or the last has not one output.
    """
    shapes = {
        int(key.removesuffix(".weight")): w.shape for key, w in weights.items() if re.fullmatch(r"\d+\.weight", key)
    }
    sizes = [tuple(shapes[i]) for i in sorted(shapes)]
    chained = all(len(size) == 2 for size in sizes) and all(a[0] == b[1] for a, b in pairwise(sizes))
    if not sizes or not chained or sizes[-1][0] != 1:
        raise ValueError(
            f"reward {reward!r}: the head is a chain of linear layers '<i>.weight' from an embedding to 1 number, "
            f"got (out, in) {sizes} among {sorted(weights)[:8]}"
        )
    layers = [nn.Linear(shapes[i][1], shapes[i][0]) if i in shapes else nn.Identity() for i in range(max(shapes) + 1)]
    head = nn.Sequential(*layers)
    fill(reward, head, weights)
    return head


def _unavailable(reward: str, what: str, error: Exception) -> str:
    return (
        f"reward {reward!r}: {what} is neither in a local folder nor available from the Hugging Face hub "
        f"({type(error).__name__}: {error}); connect once to download it, or give the path of a local copy"
    )
