"""Best-of-N: plain samples, of which some are kept."""

from typing import Self

from torch import Tensor

from lidar_lightning.samplers.base import Keep, check_particles
from lidar_lightning.samplers.budget import Grid, check_budget, equal_times, spending
from lidar_lightning.samplers.select import SelectingSampler, Selection
from lidar_lightning.samplers.task import Task


class BestOfN(SelectingSampler):
    """Draws n plain samples for each one asked for and keeps one in n.

    Args:
        n, keep, pooled: see `Selection`. With keep="draw" the target is sampled as n goes to infinity. Compare a method
            that shares a bank over a prompt with best-of-N that is pooled.
        steps: see `Sampler`. Fewer steps make samples cheaper, so that a budget pays for more of them to choose from.

    Raises:
        ValueError: if a setting is out of range or unknown.
    """

    random = False
    stepwise = False

    def __init__(self, n: float = 4, keep: Keep = "best", pooled: bool = True, steps: int | None = None):
        super().__init__(steps)
        check_particles("best-of-N", n)
        self.selection, self.keep = Selection(n, keep, pooled), keep

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        return steps * self.selection.drawn(count)

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        check_budget("best-of-N", calls, steps, "one pass of the solver")
        sizes = self.selection.sizes(calls * count // steps, count)
        return spending((self.changed(selection=size) for size in sizes), calls, steps, count, times)

    def draw(self, task: Task, count: int) -> Tensor:
        return self.selection(task, task.solve(task.generators(self.selection.drawn(count))), count)
