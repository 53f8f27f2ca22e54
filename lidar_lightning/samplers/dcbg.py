"""D-CBG: classifier guidance of tokens, by the reward of every sequence that is one token away."""

from collections.abc import Sequence
from copy import copy
from typing import Self, cast

import torch
from torch import Tensor

from lidar_lightning.samplers.base import Sampler, check_random
from lidar_lightning.samplers.budget import SPENT, Grid, check_budget, equal_times
from lidar_lightning.samplers.task import Task, with_steps
from lidar_lightning.solvers import Categorical


class DCBG(Sampler):
    """p'(x_s^l = v) proportional to p(x_s^l = v | x_t) exp(gamma (f(x_t with token l set to v) - f(x_t))).

    f is lambda r at the predicted clean sample, in place of the log-probability of a noised classifier, so that each of
    the L (V - 1) neighbours of x_t costs a network call. All differences are exact: the published first-order
    approximation, which needs gradients, is not made. Source: Schiff et al., "Simple Guidance Mechanisms for Discrete
    Diffusion Models", arXiv 2412.10193, sec. 3.2.

    Args:
        gamma: strength of the guidance, at least 0.
        calls: number of network calls per sample. They pay for as many guided steps as possible, and for some positions
            of one more; what is left once all steps are guided pays for more steps. None guides all steps.

    Raises:
        ValueError: if gamma is negative, or, when samples are drawn, if the data are not tokens or the calls pay for no
            position.
    """

    def __init__(self, gamma: float = 1.0, calls: int | None = None):
        if gamma < 0:
            raise ValueError(f"gamma must be at least 0, got {gamma}")
        self.gamma, self.calls = gamma, calls

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """A copy of this sampler with these calls, which are divided up once L and V are known."""
        check_budget("D-CBG", calls, steps + 1, "the steps, and the neighbours of one position")
        other = copy(self)
        other.calls = calls
        return other

    def adapted(self, task: Task) -> Task:
        """The task, with more steps if calls would be left over once all of its steps are guided."""
        x = task.start(task.generators(1))
        if x.is_floating_point():
            raise ValueError(
                f"D-CBG edits tokens, but samples of {task.backbone.name!r} are continuous: use SMC, SVDD or LiDAR"
            )
        check_random("D-CBG", task, x)
        if self.calls is None:
            return task
        neighbours = vocab_size(task) - 1
        check_budget("D-CBG", self.calls, len(task.steps) + neighbours, "the steps, and the neighbours of one position")
        steps = max(len(task.steps), -(-self.calls // (1 + x.shape[1] * neighbours)))
        left = (self.calls - steps) % neighbours
        return with_steps(task, steps + left if left > (1 - SPENT) * self.calls else steps)

    def draw(self, task: Task, count: int) -> Tensor:
        generators = task.generators(count)
        x = task.start(generators)
        places = self.places(len(task.steps), x.shape[1], vocab_size(task))
        for (t, s), guided in zip(task.steps, places, strict=True):
            x0_hat = task.predict(x, t)
            law = cast(Categorical, task.solver.transition(x0_hat, x, t, s))
            if guided:
                change = self.values(task, x, x0_hat, t, guided)
                law = Categorical((law.probabilities.log() + self.gamma * change).softmax(-1))
            x = law.sample(generators)
        return x

    def places(self, steps: int, length: int, vocab_size: int) -> list[list[int]]:
        """The guided positions of each step.

        Guided steps lie in the middle of equal stretches of the run, since tokens are settled at its very end, where
        guidance does nothing. The calls that are left guide evenly spaced positions in one more step.
        """
        if self.calls is None:
            return [list(range(length))] * steps
        paid = (self.calls - steps) // (vocab_size - 1)
        numbers = [length] * (paid // length) + [paid % length] * (paid % length > 0)
        numbers = numbers[:steps]
        found: list[list[int]] = [[] for _ in range(steps)]
        for i, number in enumerate(numbers):
            found[(2 * i + 1) * steps // (2 * len(numbers))] = [j * length // number for j in range(number)]
        return found

    def values(self, task: Task, x_t: Tensor, x0_hat: Tensor, t: float, places: Sequence[int]) -> Tensor:
        """f(x_t with token l set to v), one position at a time: (B, L, V) float64; f(x_t) outside of `places`."""
        own = task.value(task.solver.estimate(x0_hat, x_t, t))
        values = own[:, None, None].repeat(1, *x0_hat.shape[1:])
        tokens = torch.arange(x0_hat.shape[-1], device=x_t.device)
        for place in places:
            others = x_t[:, place, None] != tokens
            rows, token = others.nonzero(as_tuple=True)
            edited = x_t[rows]
            edited[:, place] = token
            values[:, place][others] = task.value(task.solver.estimate(task.predict(edited, t), edited, t))
        return values


def vocab_size(task: Task) -> int:
    """The number of tokens that the model of a task knows."""
    return int(task.backbone.vocab_size)  # type: ignore[arg-type]
