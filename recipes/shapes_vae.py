"""Train the autoencoder of the shapes task: `python -m recipes.shapes_vae`. Run it again to go on where it stopped."""

import copy
from pathlib import Path

import torch

from datamodules import ShapesDataModule
from lidar_lightning.backbones.vae import latents_of
from lidar_lightning.pretraining.autoencoder import AutoencoderModule
from lidar_lightning.shapes.networks import autoencoder, standardise
from lidar_lightning.utils.files import expand
from recipes.training import fit


def main(
    out: str = "outputs/shapes/vae",
    steps: int = 4000,
    widths: tuple[int, int, int] = (32, 48, 64),
    batch_size: int = 32,
    lr: float = 2e-3,
    decay: float = 0.5,
    validation: int = 432,
    precision: str = "bf16-mixed",
    save_every: int = 250,
    seed: int = 0,
) -> Path:
    """Fits an AutoencoderKL and writes `out`/vae, in half precision; returns that folder.

    Validation logs `val/read`, the fraction of reconstructions whose shapes are still recognised: train until it is
    0.97. The latents of the autoencoder that is written have mean 0 and standard deviation 1 in each channel.
    """
    folder = expand(out)
    torch.manual_seed(seed)
    vae = autoencoder(widths)
    data = ShapesDataModule(batch_size=batch_size, validation=validation, seed=seed)
    fit(AutoencoderModule(vae, lr=lr, decay=decay), data, folder, steps, precision, save_every)
    vae = copy.deepcopy(vae).eval()
    pictures = (data.training.__getitems__(range(i, i + 64))["image"] for i in range(0, 512, 64))
    standardise(vae, torch.cat([latents_of(vae, images) for images in pictures]))
    vae.half().save_pretrained(folder / "vae")
    return folder / "vae"


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
