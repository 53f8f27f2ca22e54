"""What the recipes of the shapes task share: a run that averages its weights and goes on from its checkpoints."""

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger


def fit(
    module: L.LightningModule,
    data: L.LightningDataModule,
    folder: Path,
    steps: int,
    precision: str = "bf16-mixed",
    save_every: int = 250,
    validate_every: int = 500,
    ema: float = 0.998,
) -> None:
    """Fits a module for `steps` optimizer steps in all, from `folder`/last.ckpt if there is one."""
    checkpoint = ModelCheckpoint(
        folder,
        filename="step-{step}",
        every_n_train_steps=min(save_every, steps),
        save_last=True,
        enable_version_counter=False,  # else a run with another save_every would leave last.ckpt as it was
    )
    trainer = L.Trainer(
        max_steps=steps,
        val_check_interval=min(validate_every, steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        precision=precision,  # type: ignore[arg-type]
        gradient_clip_val=1.0,
        callbacks=[
            EMAWeightAveraging(decay=ema),
            checkpoint,
        ],
        logger=[CSVLogger(folder, "csv"), TensorBoardLogger(folder, "tensorboard")],
    )
    last = folder / "last.ckpt"
    trainer.fit(module, data, ckpt_path=last if last.exists() else None)
