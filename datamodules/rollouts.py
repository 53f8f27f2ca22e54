"""What `ValueModule` learns from: the states that plain samples of a model pass through, and their final rewards."""

import lightning as L
from torch.utils.data import DataLoader

from datamodules.order import EpochLoader
from lidar_lightning.backbones import Backbone
from lidar_lightning.modules.value import rollouts
from lidar_lightning.rewards import Reward
from lidar_lightning.samplers.task import Task


class RolloutDataModule(L.LightningDataModule):
    """Batches [x_t (B, *S), t (B,), lambda r(x0) (B,)] of rollouts, which are drawn when `trainer.fit` begins.

    Give it the steps and the temperature with which SVDD will be run.

    Args:
        backbone: the model.
        reward: the reward that scores its samples.
        prompt: the prompt of all samples.
        samples: number of plain samples, at least 1; each of them gives steps - 1 rows.
        steps: network calls per sample, at least 2.
        temperature: lambda.
        seed: determines the samples and the order of training.
        batch_size: rows per batch, and samples per network call.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        backbone: Backbone,
        reward: Reward,
        prompt: str = "molecule",
        samples: int = 1024,
        steps: int = 32,
        temperature: float = 1.0,
        seed: int = 0,
        batch_size: int = 256,
    ):
        super().__init__()
        if min(samples, batch_size) < 1 or steps < 2 or not 0 < temperature < float("inf"):
            raise ValueError(
                "samples and batch_size must be at least 1, steps at least 2 and the temperature above 0 and finite, "
                f"got {samples}, {batch_size}, {steps} and {temperature}"
            )
        self.backbone, self.reward, self.prompt, self.samples = backbone, reward, prompt, samples
        self.steps, self.temperature, self.seed, self.batch_size = steps, temperature, seed, batch_size

    def setup(self, stage: str) -> None:
        backbone = self.backbone.to(self.trainer.strategy.root_device) if self.trainer else self.backbone
        task = Task(
            backbone, backbone.random_solver(self.steps), self.reward, self.prompt, self.temperature, self.seed,
            batch_size=self.batch_size,
        )  # fmt: skip
        self.rollouts = rollouts(task, self.samples)

    def train_dataloader(self) -> DataLoader:
        return EpochLoader(self.rollouts, self.batch_size, self.seed, self.trainer)
