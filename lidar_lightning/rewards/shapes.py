"""Rewards of the shapes task: a learned one to guide by, and the verdict of a program to measure with."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lidar_lightning.rewards.base import Reward
from lidar_lightning.rewards.images import check_images
from lidar_lightning.rewards.network import NetworkReward, Precision, check_prompts
from lidar_lightning.shapes.grammar import parse
from lidar_lightning.shapes.render import SIZE
from lidar_lightning.shapes.scorer import ShapesScorer
from lidar_lightning.shapes.verdict import verdicts
from lidar_lightning.utils.weights import fingerprint


class ShapesReward(NetworkReward):
    """How well a picture suits its caption, by a small contrastive model (see `ShapesScorer`).

    It is not the verdict: it was trained to tell true captions from similar ones, and errs as such models do. Its
    scores have mean 0 and standard deviation 1 over true and similar captions of rendered scenes. Pictures of another
    size are resized to 64 x 64. The weights are part of the version.

    Args:
        model: a shipped name, a folder, or a hub repository.
        batch_size, device, dtype: see `NetworkReward`.

    Raises:
        ValueError: as `NetworkReward`, or if the model cannot be found or read.
    """

    name = "shapes_reward"

    def __init__(
        self,
        model: str = "shapes-reward",
        batch_size: int = 256,
        device: str | None = None,
        dtype: Precision = "float32",
    ):
        super().__init__(model, batch_size, device, dtype)
        weights = fingerprint("", self.network.state_dict())
        self.version = f"{self.revision}, weights={weights}, dtype={dtype}"

    def load(self) -> ShapesScorer:
        return ShapesScorer.from_pretrained(self.model)

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        if images.shape[2:] != (SIZE, SIZE):
            images = functional.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
        return self.network(images.to(self.dtype), prompts)


class ShapesVerdict(Reward):
    """1 if a picture shows just what its caption asks for, else 0, by `lidar_lightning.shapes.verdicts`."""

    name = "shapes_verdict"
    modality = "image"

    def check_prompts(self, prompts: Sequence[str]) -> None:
        for prompt in dict.fromkeys(prompts):
            parse(prompt)

    def __call__(self, samples: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores (n,) float32 of pictures (n, 3, 64, 64) in [0, 1].

        Raises:
            ValueError: if the samples are not such pictures, one per prompt, or a prompt is no caption of this task.
        """
        images = check_images(self.name, samples)
        found = verdicts(images, check_prompts(self.name, prompts, len(images)))
        return torch.tensor([float(verdict.correct) for verdict in found])
