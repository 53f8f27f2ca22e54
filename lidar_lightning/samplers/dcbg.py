"""D-CBG: classifier guidance of tokens, by the reward of every sequence that is one token away."""

from copy import copy
from typing import Self, cast

import torch
from torch import Tensor

from lidar_lightning.samplers.base import Sampler, Task, check_budget, check_random
from lidar_lightning.solvers import Categorical


class DCBG(Sampler):
    """p'(x_s^l = v) proportional to p(x_s^l = v | x_t) exp(gamma (f(x_t with token l set to v) - f(x_t))).

    f is lambda r at the predicted clean sample, in place of the log-probability of a noised classifier, so that each
    of the L (V - 1) neighbours of x_t costs a network call. Exact, without the published first-order approximation,
    which needs gradients. Source: Schiff et al., "Simple Guidance Mechanisms for Discrete Diffusion Models", arXiv
    2412.10193, sec. 3.2.

    Args:
        gamma: strength, at least 0.
        calls: network calls per sample: as many steps are guided, at even distances, as they pay for; None guides all.

    Raises:
        ValueError: if gamma is negative; when it draws, if the data are not tokens, or the calls pay for no step.
    """

    def __init__(self, gamma: float = 1.0, calls: int | None = None):
        if gamma < 0:
            raise ValueError(f"gamma is at least 0, got {gamma}")
        self.gamma, self.calls = gamma, calls

    def within(self, calls: int, steps: int, count: int) -> Self:
        """This method with these calls, which are compared with its cost when it knows L and V."""
        check_budget("D-CBG", calls, steps + 1, "the steps, and the neighbours of one sequence")
        other = copy(self)
        other.calls = calls
        return other

    def draw(self, task: Task, count: int) -> Tensor:
        generators, steps = task.generators(count), len(task.steps)
        x = task.start(generators)
        if x.is_floating_point():
            raise ValueError(
                f"D-CBG edits tokens, and samples of {task.backbone.name!r} are continuous: use SMC, SVDD or LiDAR"
            )
        check_random("D-CBG", task, x)
        for i, (t, s) in enumerate(task.steps):
            x0_hat = task.predict(x, t)
            guided = self.guided_steps(steps, x.shape[1] * (x0_hat.shape[-1] - 1))
            law = cast(Categorical, task.solver.transition(x0_hat, x, t, s))
            # A step is guided when the number of guided steps that are due rises.
            if (i + 1) * guided // steps > i * guided // steps:
                change = self.values(task, x, x0_hat, t)
                law = Categorical((law.probabilities.log() + self.gamma * change).softmax(-1))
            x = law.sample(generators)
        return x

    def guided_steps(self, steps: int, neighbours: int) -> int:
        """How many steps the calls pay for."""
        if self.calls is None:
            return steps
        check_budget("D-CBG", self.calls, steps + neighbours, f"{steps} steps and {neighbours} neighbours of one")
        return min(steps, (self.calls - steps) // neighbours)

    def values(self, task: Task, x_t: Tensor, x0_hat: Tensor, t: float) -> Tensor:
        """f(x_t with token l set to v): (B, L, V) float64, one position at a time."""
        own = task.value(task.solver.estimate(x0_hat, x_t, t))
        values = own[:, None, None].repeat(1, *x0_hat.shape[1:])
        tokens = torch.arange(x0_hat.shape[-1], device=x_t.device)
        for place in range(x_t.shape[1]):
            others = x_t[:, place, None] != tokens
            rows, token = others.nonzero(as_tuple=True)
            edited = x_t[rows]
            edited[:, place] = token
            values[:, place][others] = task.value(task.solver.estimate(task.predict(edited, t), edited, t))
        return values
