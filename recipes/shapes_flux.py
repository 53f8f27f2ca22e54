"""Train a small FLUX on the shapes task: `python -m recipes.shapes_flux`, after `recipes.shapes_vae`."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from datamodules.latents import LatentsDataModule
from lidar_lightning.modules.latent_pretrain import FluxPretrain
from lidar_lightning.shapes.networks import flux, save_half
from recipes.training import fit


def main(
    vae: str = "outputs/shapes/vae/vae",
    out: str = "outputs/shapes/flux",
    cache: str = "outputs/shapes/latents",
    steps: int = 8000,
    width: int = 160,
    double: int = 2,
    single: int = 4,
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
    compile: bool = False,
) -> Path:
    """Fits a FluxPipeline and writes `out`/pipeline, in half precision, for its `from_pretrained`.

    Run it again to go on where it stopped. Returns that folder.

    Args:
        compile: the transformer, by `torch.compile`, which takes a minute and then a quarter off each step on a CPU.
    """
    folder = Path(out)
    torch.manual_seed(seed)
    autoencoder: Any = AutoencoderKL.from_pretrained(vae)
    autoencoder.eval().requires_grad_(False)
    pipe = flux(autoencoder, width, double, single)
    if compile:
        pipe.transformer.compile()
    data = LatentsDataModule(autoencoder, cache, count, validation, batch_size, seed)
    module = FluxPretrain(pipe, lr=lr, decay=decay, guidance=guidance, per_category=per_category)
    fit(module, data, folder, steps, precision, save_every, validate_every)
    save_half(pipe, folder / "pipeline")
    return folder / "pipeline"


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
