"""SVDD: each step draws several next samples and goes on with one of them, chosen by its value."""

from collections.abc import Callable, Iterator
from copy import copy
from typing import Self

import torch
from torch import Tensor, nn

from lidar_lightning.guidance.tilt import check_finite
from lidar_lightning.samplers.base import Keep, check_keep, check_random
from lidar_lightning.samplers.budget import Grid, check_budget, equal_times, spending
from lidar_lightning.samplers.resampling import pick
from lidar_lightning.samplers.select import PoolingSampler
from lidar_lightning.samplers.task import Task
from lidar_lightning.utils.seeding import Generators

Value = Callable[[Tensor, Tensor], Tensor]
"""A function of x_t (B, *S) and t (B,) that estimates lambda r of what x_t becomes: (B,)."""


class SVDD(PoolingSampler):
    """Draws M children of each sample and goes on with one of them, picked in proportion to exp(v).

    The value v of a child is lambda r at its predicted clean sample (PM of the paper: a step costs M network calls, and
    the prediction of the chosen child serves the next step), or it is what a learned network says (MC of the paper: a
    step costs 1 call). At the end it is lambda r itself. The paper's alpha is 1 / lambda. As M goes to infinity, each
    step samples p(x_s | x_t) exp(v(x_s)). Source: Li et al., "Derivative-Free Guidance in Continuous and Discrete
    Diffusion Models with Soft Value-Based Decoding", arXiv 2408.08252.

    Args:
        children: M, the number of children of each sample, at least 1.
        keep: which child is kept, in each step and at the end: "draw" is the paper's algorithm; "best", the child of
            the highest value, is what the authors' code does.
        value: a learned value (MC), such as `ValueModule.from_checkpoint` returns; None is PM. The network calls that
            its training took are not counted here.
        steps: see `Sampler`.
        pooled: whether keep="best" takes the best different ones of all last children of a prompt; otherwise it takes
            the best of each sample's own.

    Raises:
        ValueError: if a setting is out of range or unknown, or, when samples are drawn, if the solver is deterministic
            or a value is NaN or infinite.
    """

    def __init__(
        self,
        children: int = 20,
        keep: Keep = "draw",
        value: Value | nn.Module | None = None,
        steps: int | None = None,
        pooled: bool = True,
    ):
        super().__init__(steps)
        check_keep(keep)
        if children < 1:
            raise ValueError(f"SVDD takes at least 1 child, got {children}")
        self.children, self.keep, self.value, self.pooled = children, keep, value, pooled

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        return count * (steps if self.value else 1 + self.children * (steps - 1))

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """Draws as many children as the budget pays for, at least two; with a learned value it takes more steps."""
        if self.value:
            check_budget("SVDD", calls, steps, "one pass of the solver")
            return spending([copy(self)], calls, steps, count, times)
        check_budget("SVDD", calls, 1 + 2 * (steps - 1), "two children a step")
        return spending(self.sizes((calls - 1) // max(steps - 1, 1)), calls, steps, count, times)

    def sizes(self, most: int) -> Iterator[Self]:
        """Copies of this sampler with `most` children, and then ever fewer, down to two."""
        for children in range(most, 1, -1):
            other = copy(self)
            other.children = children
            yield other

    def draw(self, task: Task, count: int) -> Tensor:
        children, parents = task.generators(count * self.children), task.generators(count, "parents")
        x, last = task.start(parents), len(task.steps) - 1
        check_random("SVDD", task, x)
        x0_hat = task.predict(x, task.steps[0][0])
        for i, (t, s) in enumerate(task.steps):
            repeated, parent = (tensor.repeat_interleave(self.children, 0) for tensor in (x0_hat, x))
            x = task.solver.transition(repeated, parent, t, s).sample(children)
            if i == last:
                values = task.value(x)
                x = x[self.best(task, x, count, values) if self.keep == "best" else self.chosen(values, parents)]
            elif self.value is None:
                x0_hat = task.predict(x, s)
                rows = self.chosen(task.value(task.solver.estimate(x0_hat, x, s)), parents)
                x, x0_hat = x[rows], x0_hat[rows]
            else:
                times = torch.full((len(x),), s, dtype=torch.float64, device=x.device)
                x = x[self.chosen(self.value(x, times).double(), parents)]
                x0_hat = task.predict(x, s)
        return x

    def chosen(self, values: Tensor, parents: Generators) -> Tensor:
        """The rows (count,) of the chosen children, from the values (count * M,) of all."""
        check_finite(values, "values of children")
        values = values.view(-1, self.children)
        picks = values.argmax(1) if self.keep == "best" else pick(values, parents.rand(1))
        return torch.arange(len(values), device=values.device) * self.children + picks
