"""What the recipes of the shapes task share: a run that averages its weights and goes on from its checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from diffusers import AutoencoderKL
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from datamodules.latents import LatentsDataModule
from lidar_lightning.modules.checkpoints import last_checkpoint, save_last
from lidar_lightning.pretraining.latents import LatentPretrainModule
from lidar_lightning.shapes.networks import save_half
from lidar_lightning.utils.files import expand


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
    """Fits a module for `steps` optimizer steps in all, going on from `folder`/last.ckpt if there is one."""
    trainer = L.Trainer(
        max_steps=steps,
        val_check_interval=min(validate_every, steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        precision=precision,  # type: ignore[arg-type]
        gradient_clip_val=1.0,
        callbacks=[
            EMAWeightAveraging(decay=ema),
            save_last(folder, filename="step-{step}", every_n_train_steps=min(save_every, steps)),
        ],
        logger=[CSVLogger(folder, "csv"), TensorBoardLogger(folder, "tensorboard")],
    )
    trainer.fit(module, data, ckpt_path=last_checkpoint(folder))


def pretrain(
    build: Callable[[Any], Any],
    module: type[LatentPretrainModule],
    out: str,
    vae: str = "outputs/shapes/vae/vae",
    cache: str = "outputs/shapes/latents",
    steps: int = 8000,
    count: int = 100_000,
    validation: int = 1080,
    batch_size: int = 128,
    lr: float = 2e-3,
    decay: float = 0.5,
    guidance: float = 3.0,
    per_category: int = 16,
    precision: str = "bf16-mixed",
    save_every: int = 250,
    validate_every: int = 1000,
    seed: int = 0,
) -> Path:
    """Fits a new pipeline on the latents of `vae` and writes `out`/pipeline, in half precision; returns that folder.

    Run it again to go on where it stopped.

    Args:
        build: a function that makes an untrained pipeline around an autoencoder.
        module: the class of the Lightning module that trains the pipeline.
        out: the folder of the run.
        vae: the folder of the autoencoder, see `recipes.shapes_vae`.
        cache, count, validation, batch_size: see `LatentsDataModule`.
        steps, precision, save_every, validate_every: see `fit`.
        lr, decay, guidance, per_category: see `LatentPretrainModule`.
        seed: determines the initial weights and the scenes.
    """
    folder = expand(out)
    torch.manual_seed(seed)
    autoencoder: Any = AutoencoderKL.from_pretrained(vae)
    autoencoder.eval().requires_grad_(False)
    pipe = build(autoencoder)
    data = LatentsDataModule(autoencoder, cache, count, validation, batch_size, seed)
    training = module(pipe, lr=lr, decay=decay, guidance=guidance, per_category=per_category)
    fit(training, data, folder, steps, precision, save_every, validate_every)
    save_half(pipe, folder / "pipeline")
    return folder / "pipeline"
