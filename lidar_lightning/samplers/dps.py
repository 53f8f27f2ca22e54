"""Diffusion posterior sampling: after each step, the sample is moved along the gradient of the reward."""

from copy import copy
from typing import Any, Literal, Self

from torch import Tensor

from lidar_lightning.samplers.base import Task, check_budget
from lidar_lightning.samplers.gradient import GradientSampler, reward_slope


class DPS(GradientSampler):
    """x_s' = x_s + scale g / n with x_s from the plain step, g = grad_{x_t} lambda r(x0_hat(x_t)), and a norm n.

    Published for the reward r = -|y - A(x0)|^2, n is |y - A(x0_hat)|: "loss", the root of |lambda r|. Other rewards
    have no residual: "gradient" takes n = |g|, so that every step goes `scale` far whatever the temperature. Source:
    Chung et al., arXiv 2209.14687, algorithm 1.

    Args:
        scale: zeta', at least 0; published 0.3 to 1.
        norm: "gradient" or "loss".
        settings: of `GradientSampler`.

    Raises:
        ValueError: if a setting is out of range or unknown.
    """

    def __init__(self, scale: float = 0.3, norm: Literal["gradient", "loss"] = "gradient", **settings: Any):
        super().__init__(scale, **settings)
        if norm not in ("gradient", "loss"):
            raise ValueError(f"norm is 'gradient' or 'loss', got {norm!r}")
        self.norm = norm

    def within(self, calls: int, steps: int, count: int) -> Self:
        """It has no free number: what is left of the budget stays unspent."""
        check_budget("DPS", calls, steps, "one pass of the solver")
        return copy(self)

    def draw(self, task: Task, count: int) -> Tensor:
        generators = task.generators(count)
        x = task.start(generators)
        for t, s in task.steps:
            if not self.guides(t):
                x = task.solver.step(task.predict(x, t), x, t, s, generators)
                continue
            slope = reward_slope(task, x, t)
            gradient = slope.gradient.flatten(1)
            norm = gradient.norm(dim=1) if self.norm == "gradient" else slope.value.abs().sqrt().to(gradient)
            move = self.strength(task, t) * gradient / norm.clamp_min(1e-12)[:, None]
            x = task.solver.step(slope.x0_hat, x, t, s, generators) + move.view_as(x)
        return x
