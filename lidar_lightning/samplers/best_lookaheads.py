"""The best lookaheads: the best samples of a bank, as they are."""

from typing import Self

from torch import Tensor

from lidar_lightning.lookahead import Lookahead
from lidar_lightning.samplers.base import Sampler
from lidar_lightning.samplers.budget import Grid, check_budget, check_spent, equal_times
from lidar_lightning.samplers.lidar import lookahead_members
from lidar_lightning.samplers.select import best_of
from lidar_lightning.samplers.task import Task


class BestLookaheads(Sampler):
    """Keeps the samples of a bank that have the highest reward, and draws nothing else.

    This is best-of-N, pooled over the prompt, with the model and the solver of few steps that draw lookaheads in place
    of the task's. A comparison with it shows what guided samples gain over their bank.

    Args:
        lookahead: how the bank is drawn.
    """

    random = False
    stepwise = False
    keep = "best"
    whole = True

    def __init__(self, lookahead: Lookahead):
        super().__init__()
        self.lookahead: Lookahead = lookahead

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        return self.lookahead.n * self.lookahead.steps

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """Draws as many lookaheads as the budget pays for."""
        check_budget("BestLookaheads", calls, self.lookahead.steps, "one lookahead")
        other = self.changed(lookahead=self.lookahead.of_size(calls * count // self.lookahead.steps))
        check_spent("BestLookaheads", other.cost(steps, count), calls, count)
        return other

    def draw(self, task: Task, count: int) -> Tensor:
        if count > self.lookahead.n:
            raise ValueError(
                f"{count} samples cannot be the best of n={self.lookahead.n} lookaheads: draw fewer samples, or "
                "more lookaheads"
            )
        bank = lookahead_members(task, self.lookahead)
        return bank.samples[0, best_of(task.backbone.identities(bank.samples[0]), bank.values[0], count)]
