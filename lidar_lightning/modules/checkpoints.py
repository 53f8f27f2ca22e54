"""Checkpoints of `trainer.fit`: a folder holds one last.ckpt, whole, which the next run goes on from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from lidar_lightning.modules.checkpoint_file import read_checkpoint
from lidar_lightning.utils.files import expand
from lidar_lightning.utils.weights import check_finite_weights

LAST = "last.ckpt"


def save_last(folder: str | Path, **settings: Any) -> ModelCheckpoint:
    """The callback that keeps the last.ckpt of a folder; further settings are those of ModelCheckpoint."""
    return ModelCheckpoint(expand(folder), save_last=True, enable_version_counter=False, **settings)


def last_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint of a folder that a run goes on from, or None if there is none yet."""
    path = expand(folder) / LAST
    return path if path.exists() else None


def claim_folders(trainer: L.Trainer, ckpt_path: str | None) -> None:
    """Keeps a run from leaving the last.ckpt of another beside its own: each of its folders holds at most one.

    Args:
        trainer: the trainer of the run; its ModelCheckpoints will write over a last.ckpt from now on.
        ckpt_path: the checkpoint that the run goes on from; "last" is the newest one in these folders.

    Raises:
        ValueError: if a folder holds the last.ckpt of another run than the one that goes on, or a damaged one. The
            message names it.
    """
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint) or not callback.save_last or callback.dirpath is None:
            continue
        callback._enable_version_counter = False  # else it would write last-v1.ckpt, which nobody reads
        last = last_checkpoint(callback.dirpath)
        folders = {Path(callback.dirpath).resolve(), Path(ckpt_path or "").resolve().parent}
        if last and ckpt_path != "last" and not (ckpt_path and len(folders) == 1):
            raise ValueError(
                f"{last} is of an earlier run: add `--ckpt_path last` to go on with it, or remove it or name another "
                "dirpath to start anew"
            )
        if last and ckpt_path == "last":
            read_checkpoint(last, resume=True)


def check_checkpoint(module: L.LightningModule, checkpoint: Mapping[str, Any]) -> None:
    """Raises ValueError if the checkpoint that a module is given is damaged, or holds NaN or infinite weights."""
    path = module._trainer.ckpt_path if module._trainer else None
    if path and Path(path).is_file():
        read_checkpoint(path)
    check_finite_weights(f"the checkpoint {path or ''}".rstrip(), checkpoint.get("state_dict") or {})
