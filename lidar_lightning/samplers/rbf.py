"""Rollover budget forcing: children are drawn one at a time until one is better than all before it."""

from copy import copy
from typing import NamedTuple, Self

import torch
from torch import Tensor

from lidar_lightning.samplers.base import Keep, Sampler, check_keep, check_random
from lidar_lightning.samplers.budget import Grid, check_budget, equal_times
from lidar_lightning.samplers.resampling import pick
from lidar_lightning.samplers.task import Task, has_own_solver
from lidar_lightning.schedules import VPSDE, FlowMatching
from lidar_lightning.solvers import GaussianAncestral, times_of_schedule
from lidar_lightning.utils.seeding import Generators


class Kept(NamedTuple):
    """States with their predictions and their rewards."""

    x: Tensor
    """The states (count, *S)."""
    x0_hat: Tensor
    """The prediction at each state."""
    value: Tensor
    """lambda r of each predicted clean sample (count,)."""


class RBF(Sampler):
    """Starts from the best of several noises, then gives each step a quota of children; unused children roll over.

    The value of a child is lambda r at its predicted clean sample, which takes one network call. The first child that
    beats all values so far is kept, and what is left of the quota goes to the next step. If the quota is spent before,
    the best child of the step is kept, and the next step has the plain quota Q = (calls - starts) // steps. The last
    step with children spends all calls that are left and keeps the best of its children; the step after it, to clean
    data, needs none. So each sample takes exactly `calls` network calls, or `starts` with a solver of one step. Source:
    Kim et al., "Inference-Time Scaling for Flow Models via Stochastic Generation and Rollover Budget Forcing", arXiv
    2503.19385, algorithm 1; the last step is that of the authors' code.

    Args:
        calls: number of network calls per sample, at least starts + steps.
        starts: number of noises per sample, at least 1.
        keep: "best", as published, keeps the best start and the best last child; "draw" picks both in proportion to
            exp(value).
        convert: whether the path of a flow model that its own solver steps is converted to a variance preserving one,
            as published: its steps lie at equal times of that path, so that children differ more.
        steps: see `Sampler`.

    Raises:
        ValueError: if starts is below 1, or, when samples are drawn, if calls are too few or the solver is
            deterministic.
    """

    def __init__(
        self,
        calls: int = 250,
        starts: int = 25,
        keep: Keep = "best",
        convert: bool = True,
        steps: int | None = None,
    ):
        super().__init__(steps)
        if starts < 1:
            raise ValueError(f"{type(self).__name__} needs at least 1 start, got {starts}")
        check_keep(keep)
        self.calls, self.starts, self.keep, self.convert = calls, starts, keep, convert

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """All calls beyond the starts draw children. With a solver of one step all calls are starts."""
        children = steps if steps > 1 else 0
        check_budget(type(self).__name__, calls, self.starts + children, f"{self.starts} starts and a child per step")
        return self.changed(calls=calls, starts=self.starts if children else calls)

    def adapted(self, task: Task) -> Task:
        """The task; that of a flow model has steps along the converted path."""
        task = super().adapted(task)
        schedule = task.backbone.schedule
        if not self.convert or not isinstance(schedule, FlowMatching) or not has_own_solver(task):
            return task
        steps = len(task.steps)
        other = copy(task)
        other.solver = GaussianAncestral(schedule, steps, times=times_of_schedule(schedule, VPSDE(), steps))
        return other

    def draw(self, task: Task, count: int) -> Tensor:
        steps, generators = task.steps, task.generators(count)
        self.sized(self.calls, len(steps), count)
        picks = task.generators(count, "keep") if self.keep == "draw" else None
        kept = self.first(task, count, picks)
        best = kept.value
        left = torch.full((count,), self.calls - self.starts, device=best.device)
        rolled = torch.zeros_like(left)
        for i, (t, s) in enumerate(steps[:-1]):
            final = i == len(steps) - 2
            quotas, goal = (left, torch.full_like(best, torch.inf)) if final else self.aims(task, i, left, rolled, best)
            kept, drawn = self.advance(task, generators, kept, quotas, goal, t, s, picks if final else None)
            rolled = torch.where(kept.value > best, quotas - drawn, 0)
            left, best = left - drawn, torch.maximum(best, kept.value)
        return task.solver.step(kept.x0_hat, kept.x, *steps[-1], generators)

    def aims(self, task: Task, i: int, left: Tensor, rolled: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
        """How many children of each sample step i may draw, and the value above which it ends: (count,) each.

        Args:
            left: the calls that are left (count,).
            rolled: the children among these that the step before did not use (count,).
            best: the best value so far (count,).
        """
        return (self.calls - self.starts) // len(task.steps) + rolled, best

    def first(self, task: Task, count: int, picks: Generators | None) -> Kept:
        """The best start of each sample, or, with streams to pick by, one in proportion to exp(value)."""
        x, t = task.start(task.generators(count * self.starts, "starts")), task.steps[0][0]
        check_random(type(self).__name__, task, x)
        x0_hat = task.predict(x, t)
        values = task.value(task.solver.estimate(x0_hat, x, t)).view(count, -1)
        chosen = values.argmax(1) if picks is None else pick(values, picks.rand(1))
        rows = torch.arange(count, device=x.device) * self.starts + chosen
        return Kept(x[rows], x0_hat[rows], values.flatten()[rows])

    def advance(
        self,
        task: Task,
        generators: Generators,
        parent: Kept,
        quotas: Tensor,
        goal: Tensor,
        t: float,
        s: float,
        picks: Generators | None,
    ) -> tuple[Kept, Tensor]:
        """The best child of each sample, and how many were drawn (count,).

        Children are drawn until one beats goal (count,) or quotas (count,) are spent. With `picks`, streams to pick by,
        a child is taken in proportion to exp(value) instead, as the one with the largest value plus Gumbel noise.
        """
        x, x0_hat = parent.x.clone(), parent.x0_hat.clone()
        values, drawn = torch.full_like(goal, -torch.inf), torch.zeros_like(quotas)
        keys = values.clone()
        rows = torch.arange(len(x), device=x.device)
        while len(rows):
            law = task.solver.transition(parent.x0_hat[rows], parent.x[rows], t, s)
            child = law.sample(generators.take(rows.tolist()))
            prediction = task.predict(child, s)
            value = task.value(task.solver.estimate(prediction, child, s))
            key = value
            if picks is not None:
                key = value - picks.take(rows.tolist()).rand(1)[:, 0].clamp_min(1e-300).log().neg().log()
            better = key > keys[rows]
            chosen = rows[better]
            x[chosen], x0_hat[chosen], values[chosen] = child[better], prediction[better], value[better]
            keys[chosen] = key[better]
            drawn[rows] += 1
            rows = rows[(drawn[rows] < quotas[rows]) & (values[rows] <= goal[rows])]
        return Kept(x, x0_hat, values), drawn
