"""Verifier threshold: children are drawn one at a time until the reward of one is above a threshold."""

import math
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.rewards.base import utility
from lidar_lightning.samplers.rbf import RBF
from lidar_lightning.samplers.task import Task


class VerifierThreshold(RBF):
    """Goes to the next step as soon as the reward of a child's predicted clean sample is above a threshold.

    Otherwise it is rollover budget forcing: calls that a step does not use go to later steps, a step that never exceeds
    the threshold keeps the best of its children, and the last step with children spends all calls that are left.
    Source: Sundaresha et al., "Verifier Threshold: An Efficient Test-Time Scaling Approach for Image Generation", arXiv
    2512.08985. Only the abstract and the authors' summary were available, but no algorithm or code. They say that a
    step ends when the score is above a threshold, and that the calls saved are used elsewhere. That the threshold is
    the same for all steps, and that each step may take an equal share of the calls that are left, are choices made
    here.

    Args:
        threshold: the reward to exceed, in its own units; if lower is better, rewards below it exceed it.
        settings: the other arguments of `RBF`.

    Raises:
        ValueError: if the threshold is not a finite number, or as `RBF` does.
    """

    def __init__(self, threshold: float, **settings: Any):
        super().__init__(**settings)
        if not math.isfinite(threshold):
            raise ValueError(f"the threshold of the reward must be a finite number, got {threshold}")
        self.threshold = threshold

    def aims(self, task: Task, i: int, left: Tensor, rolled: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
        (goal,) = task.tilt * utility(task.reward, torch.tensor([self.threshold], dtype=torch.float64))
        return left // (len(task.steps) - 1 - i), torch.full_like(best, goal.item())
