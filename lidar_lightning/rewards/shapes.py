"""Rewards of pictures of the shapes task: a learned one to guide by, and the verdict of a program to measure with."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lidar_lightning.rewards.base import Reward
from lidar_lightning.shapes.render import SIZE
from lidar_lightning.shapes.scorer import ShapesScorer
from lidar_lightning.shapes.verdict import verdicts


def check_pictures(name: str, samples: Any, prompts: Sequence[str]) -> Tensor:
    """The pictures, if they are a float tensor (n, 3, H, W) for n prompts. Raises ValueError otherwise."""
    if not isinstance(samples, Tensor) or samples.ndim != 4 or samples.shape[1] != 3 or not samples.is_floating_point():
        got = f"{samples.dtype} {tuple(samples.shape)}" if isinstance(samples, Tensor) else type(samples).__name__
        raise ValueError(f"reward {name!r} scores pictures, a float tensor (n, 3, H, W) in [0, 1], got {got}")
    if isinstance(prompts, str) or len(samples) != len(prompts):
        raise ValueError(f"reward {name!r} got {len(samples)} pictures and {len(prompts)} prompts: one prompt each")
    return samples


class ShapesReward(Reward):
    """How well a picture suits its caption, by a small contrastive model (see `ShapesScorer`).

    It is not the verdict: it was trained to tell true captions from near ones, and errs as such models do. Scores have
    mean 0 and standard deviation 1 over true and near captions of rendered scenes. Pictures of another size are
    resized to 64 x 64.

    Args:
        model: a shipped name, a folder, a hub repository, or the model itself.
    """

    name = "shapes_reward"
    differentiable = True
    modality = "image"

    def __init__(self, model: str | Path | ShapesScorer = "shapes-reward"):
        self.model = model if isinstance(model, ShapesScorer) else ShapesScorer.from_pretrained(model)
        self.model.eval().requires_grad_(False)
        digest = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(key.encode() + value.float().cpu().numpy().tobytes())
        self.version = digest.hexdigest()[:16]

    def __call__(self, samples: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores (n,) float32 of pictures (n, 3, H, W) in [0, 1]; gradients flow to the pixels.

        Raises:
            ValueError: if the samples are not such pictures, one per prompt.
        """
        images = check_pictures(self.name, samples, prompts)
        self.model.to(images.device)
        images = images.float()
        if images.shape[2:] != (SIZE, SIZE):
            images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
        return self.model(images, prompts)


class ShapesVerdict(Reward):
    """1 if a picture shows just what its caption asks for, else 0, by `lidar_lightning.shapes.verdicts`."""

    name = "shapes_verdict"
    modality = "image"

    def __call__(self, samples: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores (n,) float32 of pictures (n, 3, 64, 64) in [0, 1].

        Raises:
            ValueError: if the samples are not such pictures, one per prompt, or a prompt is no caption of this task.
        """
        images = check_pictures(self.name, samples, prompts)
        return torch.tensor([float(verdict.correct) for verdict in verdicts(images, prompts)])
