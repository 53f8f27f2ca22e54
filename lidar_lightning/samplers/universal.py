"""Universal guidance: the prediction is moved along the gradient of the reward through the network."""

import math
from copy import copy
from typing import Any, Self

from torch import Tensor

from lidar_lightning.samplers.base import Task, check_budget
from lidar_lightning.samplers.gradient import GradientSampler, coefficients, reward_slope


class UniversalGuidance(GradientSampler):
    """x0_hat' = x0_hat + scale (sigma^2 / alpha) grad_{x_t} lambda r(x0_hat(x_t)), each step taken `recurrence` times.

    This is forward universal guidance, eps' = eps + w sigma grad_{x_t} loss with w = scale lambda. Scale 1 is the
    plug-in estimate of exact guidance, in which r(x0_hat) stands for log E[exp(lambda r(x0)) | x_t] / lambda. Between
    two takes of a step, x_s is noised back to t by the forward process. Where alpha is 0 there is no guidance: the
    prediction does not depend on x_t. Source: Bansal et al., arXiv 2302.07121.

    Args:
        scale: see `GradientSampler`.
        recurrence: takes of each guided step, at least 1; published 2 to 10.
        settings: of `GradientSampler`.

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(self, scale: float = 1.0, recurrence: int = 1, **settings: Any):
        super().__init__(scale, **settings)
        if recurrence < 1:
            raise ValueError(f"recurrence must be at least 1, got {recurrence}")
        self.recurrence = recurrence

    def within(self, calls: int, steps: int, count: int) -> Self:
        check_budget("universal guidance", calls, steps, "one pass of the solver")
        other = copy(self)
        other.recurrence = calls // steps
        return other

    def draw(self, task: Task, count: int) -> Tensor:
        generators = task.generators(count)
        x = task.start(generators)
        for t, s in task.steps:
            (alpha_t, sigma_t), (alpha_s, sigma_s) = coefficients(task, t, s)
            if not self.guides(t) or alpha_t == 0:
                x = task.solver.step(task.predict(x, t), x, t, s, generators)
                continue
            kept = alpha_t / alpha_s
            noise = math.sqrt(max(sigma_t**2 - (kept * sigma_s) ** 2, 0.0))
            for take in range(self.recurrence):
                if take:
                    x = kept * x + noise * generators.randn(*x.shape[1:]).to(x)
                slope = reward_slope(task, x, t)
                shift = self.strength(task, t) * sigma_t**2 / alpha_t * slope.gradient
                x = task.solver.step(slope.x0_hat + shift, x, t, s, generators)
        return x
