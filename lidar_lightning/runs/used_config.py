"""The configuration that a command used, kept beside what the command wrote."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.cli import SaveConfigCallback

from lidar_lightning.utils.files import expand, write_atomically

HEADER = "# The configuration that lidar used, written by it.\n"


def write_config(folder: Path, text: str) -> Path:
    """Writes config.yaml into a folder, or config-used.yaml beside a config.yaml of the user's own."""
    path = folder / "config.yaml"
    if path.exists() and not path.read_bytes().startswith(HEADER.encode()):
        path = folder / "config-used.yaml"
    write_atomically(path, (HEADER + text).encode())
    return path


class SaveUsedConfig(SaveConfigCallback):
    """Writes the configuration when the work begins.

    It goes into `out` of the module, else into the folder of the logger, else into that of the checkpoints; if there is
    none of these, nowhere."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Does nothing yet, because a run of other settings in the same folder is to be refused first."""

    def on_predict_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer, pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer, pl_module)

    def save(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the configuration once."""
        folder = home(trainer, pl_module)
        if trainer.is_global_zero and not self.already_saved and folder:
            write_config(expand(folder), self.parser.dump(self.config, skip_none=False))
        self.already_saved = True


def home(trainer: L.Trainer, module: Any) -> str | Path | None:
    """The folder into which a command writes."""
    if getattr(module, "out", None):
        return module.out
    if trainer.loggers:
        return trainer.log_dir
    return getattr(trainer.checkpoint_callback, "dirpath", None) if trainer.state.fn == "fit" else None
