"""Rollover budget forcing: children one at a time, until one of them is better than all before."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from lidar_lightning.samplers.base import Sampler, Task, check_budget, check_random
from lidar_lightning.seeding import Generators


class Kept(NamedTuple):
    x: Tensor
    """(count, *S)."""
    x0_hat: Tensor
    """Its predictions."""
    value: Tensor
    """lambda r of these, (count,)."""


class RBF(Sampler):
    """Starts from the best of several noises, then gives each step a quota of children, of which the unused roll over.

    Children are valued by lambda r at their predicted clean sample, for one network call each. The first that beats
    all that came before is kept, and what is left of the quota goes to the next step; when the quota is spent, the
    best child of this step is kept, and the next starts with the plain quota Q = (calls - starts) // steps. The last
    step with children spends all calls that are left and keeps the best of its children; the step after it, to clean
    data, needs none. So each sample takes exactly `calls` network calls, but for a solver of one step. Source: Kim et
    al., "Inference-Time Scaling for Flow Models via Stochastic Generation and Rollover Budget Forcing", arXiv
    2503.19385, algorithm 1, with the end as the authors run it.

    Args:
        calls: network calls per sample, at least starts + steps.
        starts: noises, at least 1.

    Raises:
        ValueError: if there is no start, or, when it draws, if calls are too few or the solver is deterministic.
    """

    def __init__(self, calls: int = 250, starts: int = 25):
        if starts < 1:
            raise ValueError(f"RBF needs at least 1 start, got {starts}")
        self.calls, self.starts = calls, starts

    def within(self, calls: int, steps: int, count: int) -> Self:
        check_budget("RBF", calls, self.starts + steps, f"{self.starts} starts and a child per step")
        return type(self)(calls, self.starts)

    def draw(self, task: Task, count: int) -> Tensor:
        steps, generators = task.steps, task.generators(count)
        self.within(self.calls, len(steps), count)
        kept = self.begin(task, count)
        best, quota = kept.value, (self.calls - self.starts) // len(steps)
        left = torch.full((count,), self.calls - self.starts, device=best.device)
        rolled = torch.zeros_like(left)
        for i, (t, s) in enumerate(steps[:-1]):
            final = i == len(steps) - 2
            quotas, goal = (left, torch.full_like(best, torch.inf)) if final else (quota + rolled, best)
            kept, drawn = self.advance(task, generators, kept, quotas, goal, t, s)
            rolled = torch.where(kept.value > best, quotas - drawn, 0)
            left, best = left - drawn, torch.maximum(best, kept.value)
        return task.solver.step(kept.x0_hat, kept.x, *steps[-1], generators)

    def begin(self, task: Task, count: int) -> Kept:
        """The best start of each sample."""
        x, t = task.start(task.generators(count * self.starts, "starts")), task.steps[0][0]
        check_random("RBF", task, x)
        x0_hat = task.predict(x, t)
        values = task.value(task.solver.estimate(x0_hat, x, t)).view(count, -1)
        rows = torch.arange(count, device=x.device) * self.starts + values.argmax(1)
        return Kept(x[rows], x0_hat[rows], values.amax(1))

    def advance(
        self, task: Task, generators: Generators, parent: Kept, quotas: Tensor, goal: Tensor, t: float, s: float
    ) -> tuple[Kept, Tensor]:
        """The best child of each sample, among quotas (count,) of them or until one beats goal (count,); and how many
        were drawn (count,)."""
        x, x0_hat = parent.x.clone(), parent.x0_hat.clone()
        values, drawn = torch.full_like(goal, -torch.inf), torch.zeros_like(quotas)
        rows = torch.arange(len(x), device=x.device)
        while len(rows):
            law = task.solver.transition(parent.x0_hat[rows], parent.x[rows], t, s)
            child = law.sample(generators.take(rows.tolist()))
            prediction = task.predict(child, s)
            value = task.value(task.solver.estimate(prediction, child, s))
            better = value > values[rows]
            chosen = rows[better]
            x[chosen], x0_hat[chosen], values[chosen] = child[better], prediction[better], value[better]
            drawn[rows] += 1
            rows = rows[(drawn[rows] < quotas[rows]) & (values[rows] <= goal[rows])]
        return Kept(x, x0_hat, values), drawn
