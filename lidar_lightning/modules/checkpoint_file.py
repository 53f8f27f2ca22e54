"""Checkpoints of Lightning, read without running any code that they hold, and checked before anything else is done."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

VERSION = "pytorch-lightning_version"
OF_A_RUN = ("epoch", "global_step", "loops", "optimizer_states", "lr_schedulers")
"""The entries of a checkpoint, beside the weights, that a training needs to go on from it."""


def read_checkpoint(path: str | Path, resume: bool = False) -> dict[str, Any]:
    """Reads a checkpoint; its tensors are on the CPU.

    Args:
        path: the file; ~ is the home folder.
        resume: whether a training is to go on from it.

    Raises:
        ValueError: if the file is missing or damaged, if it holds more than tensors and settings, or if it lacks the
            weights or, where a training is to go on from it, the state of that training. The message names the file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no file"
        raise ValueError(f"no checkpoint at {path}: that is {found}; give the .ckpt file that `lidar fit` wrote")
    if not path.stat().st_size:
        raise ValueError(f"the checkpoint {path} is empty: use another one, or train again")
    try:
        zipped = zipfile.is_zipfile(path)
        if zipped and (damaged := zipfile.ZipFile(path).testzip()):
            raise ValueError(f"the checksum of {damaged} does not match")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # Damaged bytes may end in any exception at all.
        raise ValueError(
            f"the checkpoint {path} cannot be read ({type(error).__name__}): it is damaged, no file of PyTorch, or "
            "holds objects that would run code, which are never loaded; use another one, or train again"
        ) from error
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        held = ", ".join(map(str, list(checkpoint)[:5])) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise ValueError(
            f"{path} is no checkpoint of `lidar fit`: it holds no weights under state_dict, but {held or 'nothing'}; "
            "weights of another library are the backbone's, or its lora"
        )
    if VERSION not in checkpoint:
        raise ValueError(f"{path} is no checkpoint of `lidar fit`: it does not say which {VERSION} wrote it")
    if resume and (missing := [key for key in OF_A_RUN if key not in checkpoint]):
        raise ValueError(f"no training can go on from {path}: it lacks {', '.join(missing)}; start without --ckpt_path")
    return checkpoint
