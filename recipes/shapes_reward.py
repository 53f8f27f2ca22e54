"""Train the learned reward of the shapes task: `python -m recipes.shapes_reward`. Run it again to go on."""

import copy
from pathlib import Path

import torch

from datamodules import ShapesDataModule
from lidar_lightning.pretraining.matching import MatchingModule
from lidar_lightning.shapes.scorer import ShapesScorer
from lidar_lightning.utils.files import expand
from recipes.training import fit


def main(
    out: str = "outputs/shapes/reward",
    steps: int = 1600,
    width: int = 96,
    layers: int = 3,
    batch_size: int = 48,
    lr: float = 2e-3,
    decay: float = 0.5,
    validation: int = 432,
    precision: str = "bf16-mixed",
    save_every: int = 250,
    seed: int = 0,
) -> Path:
    """Fits a ShapesScorer and writes `out`/model, in half precision, for `ShapesReward`; returns that folder.

    A batch holds two pictures for each of `batch_size` captions, and four captions for each picture; none comes twice.
    """
    folder = expand(out)
    torch.manual_seed(seed)
    model = ShapesScorer(width, layers)
    data = ShapesDataModule(steps * batch_size, validation, batch_size=batch_size, claims=True, seed=seed)
    module = MatchingModule(model, lr=lr, decay=decay)
    fit(module, data, folder, steps, precision, save_every)
    module.standardise(data.held_out.__getitems__(range(validation)))
    copy.deepcopy(model).half().save_pretrained(folder / "model")
    return folder / "model"


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
