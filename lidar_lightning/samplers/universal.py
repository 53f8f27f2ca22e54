"""Universal guidance: the prediction is moved along the gradient of the reward through the network."""

import math
from copy import copy
from typing import Any, Self

from torch import Tensor

from lidar_lightning.samplers.budget import Grid, check_budget, equal_times
from lidar_lightning.samplers.gradient import GradientSampler, coefficients, reward_slope
from lidar_lightning.samplers.task import Task


class UniversalGuidance(GradientSampler):
    """x0_hat' = x0_hat + scale (sigma^2 / alpha) grad_{x_t} lambda r(x0_hat(x_t)), each step taken `recurrence` times.

    This is forward universal guidance, eps' = eps + w sigma grad_{x_t} loss with w = scale lambda. Scale 1 is the
    plug-in estimate of exact guidance, with r(x0_hat) in place of log E[exp(lambda r(x0)) | x_t] / lambda. Before a
    step is repeated, x_s is noised back to t by the forward process. Steps at which alpha is 0 are not guided, since
    the prediction does not depend on x_t there. Source: Bansal et al., arXiv 2302.07121.

    Args:
        scale: see `GradientSampler`.
        recurrence: how often each guided step is taken, at least 1; published 2 to 10.
        calls: number of network calls per sample, in place of the recurrence: steps are repeated as often as the calls
            pay for, evenly over the guided steps.
        settings: the other arguments of `GradientSampler`.

    Raises:
        ValueError: if a setting is out of range, or, when samples are drawn, if the calls are too few or there is no
            guided step to spend them.
    """

    def __init__(self, scale: float = 1.0, recurrence: int = 1, *, calls: int | None = None, **settings: Any):
        super().__init__(scale, **settings)
        if recurrence < 1:
            raise ValueError(f"recurrence must be at least 1, got {recurrence}")
        self.recurrence, self.calls = recurrence, calls

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """A copy of this sampler with these calls, which are divided up once the guided steps are known."""
        check_budget("universal guidance", calls, steps, "one pass of the solver")
        other = copy(self)
        other.calls = calls
        return other

    def takes(self, task: Task) -> list[int]:
        """How often each step is taken; 0 stands for once, without guidance."""
        times = [t for t, _ in task.steps]
        guided = [self.guides(t) and alpha > 0 for t, (alpha, _) in zip(times, coefficients(task, *times), strict=True)]
        if self.calls is None:
            return [self.recurrence * one for one in guided]
        check_budget("universal guidance", self.calls, len(times), "one pass of the solver")
        number, extra = sum(guided), self.calls - len(times)
        if extra and not number:
            raise ValueError(
                f"universal guidance cannot spend {self.calls} network calls per sample: it guides none "
                f"of {len(times)} steps with start={self.start} and stop={self.stop}; change these"
            )
        shares = iter([1 + (i + 1) * extra // number - i * extra // number for i in range(number)])
        return [next(shares) if one else 0 for one in guided]

    def draw(self, task: Task, count: int) -> Tensor:
        generators = task.generators(count)
        x = task.start(generators)
        for (t, s), takes in zip(task.steps, self.takes(task), strict=True):
            (alpha_t, sigma_t), (alpha_s, sigma_s) = coefficients(task, t, s)
            if not takes:
                x = task.solver.step(task.predict(x, t), x, t, s, generators)
                continue
            kept = alpha_t / alpha_s
            noise = math.sqrt(max(sigma_t**2 - (kept * sigma_s) ** 2, 0.0))
            for take in range(takes):
                if take:
                    x = kept * x + noise * generators.randn(*x.shape[1:]).to(x)
                slope = reward_slope(task, x, t)
                shift = self.strength(task, t) * sigma_t**2 / alpha_t * slope.gradient
                x = task.solver.step(slope.x0_hat + shift, x, t, s, generators)
        return x
