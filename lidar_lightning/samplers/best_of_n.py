"""Best-of-N: plain samples, of which some are kept."""

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from lidar_lightning.samplers.base import Keep, Sampler, Task, check_keep, check_particles
from lidar_lightning.samplers.budget import check_budget, spending
from lidar_lightning.samplers.resampling import highest, pick


class BestOfN(Sampler):
    """Draws n plain samples for each one asked for and keeps one in n.

    Args:
        n: at least 1; a whole number unless they are pooled.
        keep: "best" keeps those of the highest reward; "draw" resamples in proportion to exp(lambda r), so that with n
            to infinity the target is sampled. A pool may then give one of its samples several times.
        pooled: choose among all samples of the prompt together, which is what a method that shares a bank over a prompt
            is to be compared with; otherwise among n of its own for each sample.

    Raises:
        ValueError: if a setting is out of range or unknown.
    """

    def __init__(self, n: float = 4, keep: Keep = "best", pooled: bool = True):
        check_particles("best-of-N", n)
        check_keep(keep)
        if not pooled and n != int(n):
            raise ValueError(f"best-of-N that is not pooled draws a whole number for each sample, got n={n}")
        self.n, self.keep, self.pooled = n, keep, pooled

    def drawn(self, count: int) -> int:
        """How many plain samples are drawn for `count`."""
        return max(count, round(self.n * count))

    def cost(self, steps: int, count: int) -> int:
        return steps * self.drawn(count)

    def within(self, calls: int, steps: int, count: int) -> Self:
        check_budget("best-of-N", calls, steps, "one pass of the solver")
        if self.pooled:
            sizes: Iterator[float] = (drawn / count for drawn in range(calls * count // steps, count - 1, -1))
        else:
            sizes = iter(range(calls // steps, 0, -1))
        return spending((type(self)(n, self.keep, self.pooled) for n in sizes), calls, steps, count)

    def draw(self, task: Task, count: int) -> Tensor:
        generators = task.generators(self.drawn(count))
        x = task.start(generators)
        for t, s in task.steps:
            x = task.solver.step(task.predict(x, t), x, t, s, generators)
        values = task.value(x, together=self.pooled)
        if self.pooled and self.keep == "best":
            return x[highest(values, count)]
        groups = values.expand(count, -1) if self.pooled else values.view(count, -1)
        best = self.keep == "best"
        chosen = groups.argmax(1) if best else pick(groups, task.generators(count, "keep").rand(1))
        first = 0 if self.pooled else torch.arange(count, device=x.device) * groups.shape[1]
        return x[first + chosen]
