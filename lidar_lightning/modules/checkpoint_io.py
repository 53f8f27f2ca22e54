"""Checkpoints that are written whole or not at all, in their own folder."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from lidar_lightning.utils.files import sweep, write_atomically


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes each checkpoint under a temporary name in its own folder, and renames it once it is whole.

    Lightning itself writes to the temporary folder of the system, where a killed run leaves its file behind. If that is
    another disk, it then copies the file, so that a kill can leave half a checkpoint. URLs are still left to Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if "://" in str(path):
            return super().save_checkpoint(checkpoint, path, storage_options)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        sweep(Path(path).parent)
        write_atomically(Path(path), buffer.getvalue())
