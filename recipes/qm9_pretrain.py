"""Train the shipped QM9 checkpoint: `python -m recipes.qm9_pretrain`. Run it again to go on where it stopped."""

import copy
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from datamodules import QM9DataModule
from lidar_lightning.backbones import UDLM
from lidar_lightning.modules.checkpoints import last_checkpoint, save_last
from lidar_lightning.pretraining.udlm import PretrainModule
from lidar_lightning.utils.files import expand


def main(
    out: str = "outputs/qm9/pretrain",
    data: str | None = None,
    init: str | None = None,
    steps: int = 5000,
    width: int = 192,
    layers: int = 6,
    batch_size: int = 256,
    decay: float = 0.55,
    precision: str = "bf16-mixed",
    compile: bool = True,
    save_every: int = 250,
) -> Path:
    """Fits UDLM on QM9 and writes `out`/model, in half precision, for `UDLM.from_pretrained`; returns that folder.

    With `init`, the name or folder of a checkpoint, training goes on from its weights instead of from random ones.
    """
    folder = expand(out)
    if init:
        backbone = UDLM.from_pretrained(init)
    else:
        name = f"udlm-qm9-{width}x{layers}"
        backbone = UDLM(35, 24, hidden_dim=width, n_blocks=layers, n_heads=width // 32, dropout=0.0, name=name)
    data_module = QM9DataModule(path=data, batch_size=batch_size)
    module = PretrainModule(backbone, decay=decay, compile=compile)
    trainer = L.Trainer(
        max_steps=steps,
        val_check_interval=min(500, steps),
        check_val_every_n_epoch=None,
        precision=precision,  # type: ignore[arg-type]
        gradient_clip_val=1.0,
        callbacks=[
            EMAWeightAveraging(decay=0.998),
            save_last(folder, filename="step-{step}", every_n_train_steps=save_every),
        ],
        logger=[CSVLogger(folder, "csv"), TensorBoardLogger(folder, "tensorboard")],
    )
    trainer.fit(module, data_module, ckpt_path=last_checkpoint(folder))
    copy.deepcopy(backbone).half().save_pretrained(folder / "model")
    return folder / "model"


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
