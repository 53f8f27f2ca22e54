"""Best-of-N: plain samples, of which the best are kept."""

from typing import Self

import torch
from torch import Tensor

from lidar_lightning.samplers.base import Sampler, Task, check_budget, check_particles


class BestOfN(Sampler):
    """Draws n plain samples for each one asked for and keeps the best of each n.

    Args:
        n: at least 1.
    """

    def __init__(self, n: int = 4):
        check_particles("best-of-N", n)
        self.n = n

    def within(self, calls: int, steps: int, count: int) -> Self:
        check_budget("best-of-N", calls, steps, "one pass of the solver")
        return type(self)(calls // steps)

    def draw(self, task: Task, count: int) -> Tensor:
        generators = task.generators(count * self.n)
        x = task.start(generators)
        for t, s in task.steps:
            x = task.solver.step(task.predict(x, t), x, t, s, generators)
        best = task.value(x).view(count, self.n).argmax(1)
        return x[torch.arange(count, device=x.device) * self.n + best]
