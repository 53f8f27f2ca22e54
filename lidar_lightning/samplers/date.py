"""DATE: the text embedding is moved along the gradient of the reward while a sample is drawn."""

from copy import copy
from typing import Self

import torch
from torch import Tensor

from lidar_lightning.samplers.base import Sampler
from lidar_lightning.samplers.budget import Grid, check_budget, equal_times, spending
from lidar_lightning.samplers.task import Task

Condition = dict[str, Tensor]


class DATE(Sampler):
    """c <- c + rho g / |g| with g = grad_c [lambda r(x0_hat(x_t, c)) - anchor mean((c - c_0)^2)].

    Each sample has its own c. It is updated before every `every`-th step, and stays so in the steps that follow. c
    holds all floating tensors of the conditional half of the condition, as one vector. The tensors of classifier-free
    guidance ("negative_...") and the sizes that SDXL is told ("time_ids") are left as they are. Source: Na et al.,
    arXiv 2510.23974, with the defaults of its README.

    Args:
        rho: length of an update, above 0.
        every: number of steps from one update to the next, at least 1.
        inner: number of updates at a time, at least 1; each takes a network call.
        anchor: weight of the term that ties c to the prompt's own embedding c_0, at least 0.

    Raises:
        ValueError: if a setting is out of range, or, when samples are drawn, if the model takes no condition.
    """

    gradients = True
    keep = "best"

    def __init__(self, rho: float = 0.5, every: int = 10, inner: int = 1, anchor: float = 0.0):
        if rho <= 0 or every < 1 or inner < 1 or anchor < 0:
            raise ValueError(
                f"DATE needs rho > 0, every and inner >= 1 and anchor >= 0, got {rho}, {every}, {inner} and {anchor}"
            )
        self.rho, self.every, self.inner, self.anchor = rho, every, inner, anchor

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        return count * (steps + self.inner * -(-steps // self.every))

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        """Updates as often as the budget allows; if that is before every step, `inner` rises as well."""
        check_budget("DATE", calls, steps + self.inner, "one pass of the solver and one update")
        most = max(self.inner, (calls - steps) // steps)
        rates = [(1, inner) for inner in range(most, self.inner, -1)]
        rates += [(every, self.inner) for every in range(1, steps + 1)]
        return spending((self.at(*rate) for rate in rates), calls, steps, count, times)

    def at(self, every: int, inner: int) -> Self:
        """A copy of this sampler with updates at another rate."""
        other = copy(self)
        other.every, other.inner = every, inner
        return other

    def draw(self, task: Task, count: int) -> Tensor:
        if task.condition is None:
            raise ValueError(
                f"DATE updates the embedding of the prompt, and {task.backbone.name!r} takes none: use a sampler that "
                "moves the sample, such as UniversalGuidance or DAS"
            )
        first = {key: value.expand(count, *value.shape[1:]) for key, value in task.condition.items()}
        condition = dict(first)
        generators = task.generators(count)
        x = task.start(generators)
        for i, (t, s) in enumerate(task.steps):
            for _ in range(self.inner if i % self.every == 0 else 0):
                condition |= self.updated(task, x, t, condition, first)
            x = task.solver.step(task.predict(x, t, condition), x, t, s, generators)
        return x

    def updated(self, task: Task, x_t: Tensor, t: float, condition: Condition, first: Condition) -> Condition:
        """The embeddings after one update."""
        task.meter.backward += len(x_t)
        parts = []
        for begin in range(0, len(x_t), task.batch_size):
            rows = slice(begin, begin + task.batch_size)
            given, origin = ({key: value[rows] for key, value in c.items()} for c in (condition, first))
            parts.append(self._updated(task, x_t[rows], t, given, origin))
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    def _updated(self, task: Task, x_t: Tensor, t: float, condition: Condition, first: Condition) -> Condition:
        fixed = ("negative_", "time_ids")
        names = [key for key, value in condition.items() if value.is_floating_point() and not key.startswith(fixed)]
        with torch.enable_grad():
            moved = {name: condition[name].detach().requires_grad_() for name in names}
            x0_hat = task.predict(x_t, t, condition | moved)
            objective = task.value(task.solver.estimate(x0_hat, x_t, t))
            if self.anchor:
                gap = torch.cat([(moved[name] - first[name]).double().flatten(1) for name in names], 1)
                objective = objective - self.anchor * gap.square().mean(1)
            gradients = torch.autograd.grad(objective.sum(), list(moved.values()))
        norm = torch.cat([g.double().flatten(1) for g in gradients], 1).norm(dim=1).clamp_min(1e-12)
        return {
            name: (value + self.rho * g / norm.view(-1, *[1] * (g.ndim - 1))).to(value.dtype).detach()
            for (name, value), g in zip(moved.items(), gradients, strict=True)
        }
