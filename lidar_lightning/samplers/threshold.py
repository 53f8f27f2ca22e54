"""Verifier threshold: children one at a time, until the reward of one of them is above a threshold."""

import math
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.rewards.base import utility
from lidar_lightning.samplers.rbf import RBF
from lidar_lightning.samplers.task import Task


class VerifierThreshold(RBF):
    """Goes to the next step as soon as the reward of a child's predicted clean sample is above a threshold.

    All else is rollover budget forcing: what a step leaves is for those after it, a step that never comes above the
    threshold keeps the best of its children, and the last step with children spends all calls that are left. Source:
    Sundaresha et al., "Verifier Threshold: An Efficient Test-Time Scaling Approach for Image Generation", arXiv
    2512.08985, of which the abstract and the authors' summary were at hand, but no algorithm or code. They say that a
    step is left when the score is above a threshold, and that the calls so saved go elsewhere. That the threshold is
    one number for all steps, and that a step may take an equal share of the calls that are left, is ours.

    Args:
        threshold: the reward to reach, in its own units; where lower is better, rewards below it are beyond it.
        settings: the other arguments of `RBF`.

    Raises:
        ValueError: if the threshold is not a finite number, or as `RBF`.
    """

    def __init__(self, threshold: float, **settings: Any):
        super().__init__(**settings)
        if not math.isfinite(threshold):
            raise ValueError(f"the threshold of the reward must be a finite number, got {threshold}")
        self.threshold = threshold

    def aims(self, task: Task, i: int, left: Tensor, rolled: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
        (goal,) = task.tilt * utility(task.reward, torch.tensor([self.threshold], dtype=torch.float64))
        return left // (len(task.steps) - 1 - i), torch.full_like(best, goal.item())
