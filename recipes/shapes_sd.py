"""Train a small Stable Diffusion on the shapes task: `python -m recipes.shapes_sd`, after `recipes.shapes_vae`."""

from pathlib import Path
from typing import Any

from lidar_lightning.pretraining.latents import StableDiffusionPretrain
from lidar_lightning.shapes.networks import stable_diffusion
from recipes.training import pretrain


def main(
    out: str = "outputs/shapes/sd",
    widths: tuple[int, int, int] = (64, 96, 128),
    prediction: str = "v_prediction",
    **settings: Any,
) -> Path:
    """Fits a StableDiffusionPipeline and writes `out`/pipeline, in half precision, for its `from_pretrained`.

    Run it again to go on where it stopped. Returns that folder.

    Args:
        widths, prediction: size of the UNet and what it predicts, see `stable_diffusion`.
        settings: further arguments of `recipes.training.pretrain`.
    """
    return pretrain(
        lambda vae: stable_diffusion(vae, widths, prediction=prediction), StableDiffusionPretrain, out, **settings
    )


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
