"""Train a small FLUX on the shapes task: `python -m recipes.shapes_flux`, after `recipes.shapes_vae`."""

from pathlib import Path
from typing import Any

from lidar_lightning.pretraining.latents import FluxPretrain
from lidar_lightning.shapes.networks import flux
from recipes.training import pretrain


def main(
    out: str = "outputs/shapes/flux",
    width: int = 160,
    double: int = 2,
    single: int = 4,
    compile: bool = False,
    **settings: Any,
) -> Path:
    """Fits a FluxPipeline and writes `out`/pipeline, in half precision, for its `from_pretrained`.

    Run it again to go on where it stopped. Returns that folder.

    Args:
        width, double, single: size of the transformer, see `flux`.
        compile: whether `torch.compile` compiles the transformer, which takes a minute at first and then saves a
            quarter of each step on a CPU.
        settings: further arguments of `recipes.training.pretrain`.
    """

    def build(vae: Any) -> Any:
        pipe = flux(vae, width, double, single)
        if compile:
            pipe.transformer.compile()
        return pipe

    return pretrain(build, FluxPretrain, out, **settings)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
