"""Diffusion posterior sampling: after each step, the sample is moved along the gradient of the reward."""

import math
from copy import copy
from typing import Any, Literal, Self

import torch
from torch import Tensor

from lidar_lightning.rewards.base import utility
from lidar_lightning.samplers.budget import Grid, check_budget, equal_times, spending
from lidar_lightning.samplers.gradient import GradientSampler, reward_slope
from lidar_lightning.samplers.task import Task


class DPS(GradientSampler):
    """x_s' = x_s + scale g / n with x_s from the plain step, g = grad_{x_t} lambda r(x0_hat(x_t)), and a norm n.

    In the paper the reward is r = -|y - A(x0)|^2 and n is the residual |y - A(x0_hat)|, so that steps become shorter as
    the residual does. For other rewards the residual is how far they fall short of the best value that they can have:
    norm="loss" takes n = sqrt(lambda (best - r)). Where no best value is known, norm="gradient" takes n = |g|: each
    step then has the length `scale`, in units of the data, whatever the reward has reached. Source: Chung et al., arXiv
    2209.14687, algorithm 1.

    Args:
        scale: zeta' of the paper, at least 0; published 0.3 to 1.
        norm: "loss" or "gradient".
        best: the best value that the reward can have, which is 0 for minus a squared error.
        settings: the other arguments of `GradientSampler`.

    Raises:
        ValueError: if a setting is out of range or unknown, or, when samples are drawn, if a reward is better than
            best.
    """

    keep = "best"

    def __init__(
        self, scale: float = 0.3, norm: Literal["gradient", "loss"] = "loss", best: float = 0.0, **settings: Any
    ):
        super().__init__(scale, **settings)
        if norm not in ("gradient", "loss") or not math.isfinite(best):
            raise ValueError(f"norm must be 'loss' or 'gradient' and best finite, got {norm!r} and {best}")
        self.norm, self.best = norm, best

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        return steps * count

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """Takes as many solver steps as the budget pays for: no other setting changes the cost."""
        check_budget("DPS", calls, steps, "one pass of the solver")
        return spending([copy(self)], calls, steps, count, times)

    def draw(self, task: Task, count: int) -> Tensor:
        generators = task.generators(count)
        x = task.start(generators)
        for t, s in task.steps:
            if not self.guides(t):
                x = task.solver.step(task.predict(x, t), x, t, s, generators)
                continue
            slope = reward_slope(task, x, t)
            gradient = slope.gradient.flatten(1)
            norm = gradient.norm(dim=1) if self.norm == "gradient" else self.residual(task, slope.value).to(gradient)
            move = self.strength(task, t) * gradient / norm.clamp_min(1e-12)[:, None]
            x = task.solver.step(slope.x0_hat, x, t, s, generators) + move.view_as(x)
        return x

    def residual(self, task: Task, values: Tensor) -> Tensor:
        """The residuals sqrt(lambda (best - r)) (B,), from lambda r (B,).

        Raises:
            ValueError: if a reward is better than `best`.
        """
        best = task.tilt * utility(task.reward, torch.tensor(self.best, dtype=values.dtype))
        short = best - values
        if (short < -1e-6 * (1 + best.abs())).any():
            excess = -short.min().item() / task.tilt
            raise ValueError(
                f"DPS measures how far the reward falls short of best={self.best:g}, and {task.reward.name!r} is "
                f"better by {excess:.3g}: give the best value that it can have, or norm='gradient'"
            )
        return short.clamp_min(0).sqrt()
