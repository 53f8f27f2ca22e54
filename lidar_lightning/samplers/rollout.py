"""Backward rollout: particles that are weighted by where they end, found by going there many times."""

import math
from typing import Any, Self

import torch
from torch import Tensor

from lidar_lightning.samplers.budget import Grid, check_budget, equal_times, spending
from lidar_lightning.samplers.smc import Look, ParticleSampler
from lidar_lightning.samplers.task import Task
from lidar_lightning.sampling import last, trajectory
from lidar_lightning.utils.seeding import Generators


class BackwardRollout(ParticleSampler):
    """The twist is log mean exp(lambda r(x0)) over full continuations x0 ~ p(x0 | x_t) by the solver itself.

    That is an unbiased estimate of the best twist there is, E[exp(lambda r(x0)) | x_t], which others approximate by a
    reward at the predicted clean sample. It costs a network call for each remaining step of each continuation: a
    yardstick for small problems.

    Args:
        particles: per sample.
        rollouts: continuations per particle and weighing, at least 1.
        every: weigh at each so many steps, at least 1.
        settings: the other arguments of `ParticleSampler`.

    Raises:
        ValueError: if a setting is out of range or unknown.
    """

    def __init__(
        self,
        particles: int = 4,
        *,
        rollouts: int = 4,
        every: int = 1,
        **settings: Any,
    ):
        super().__init__(particles, **settings)
        if rollouts < 1 or every < 1:
            raise ValueError(f"rollouts and every are at least 1, got {rollouts} and {every}")
        self.rollouts, self.every = rollouts, every

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        """Of each particle a step itself, and where it weighs, all steps after it of each continuation."""
        continued = sum(steps - 1 - i for i in range(0, steps, self.every))
        return self.particles * count * (steps + self.rollouts * continued)

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        one = self.cost(steps, 1, times) // self.particles
        check_budget("backward rollout", calls, 2 * one, f"two particles, {self.rollouts} continuations")
        return spending(self.sizes(calls // one), calls, steps, count, times)

    def prepare(self, task: Task, count: int) -> Generators:
        """The streams of the continuations."""
        return task.generators(count * self.particles * self.rollouts, "rollout")

    def look(self, task: Task, x_t: Tensor, i: int, carry: Generators) -> Look:
        t, s = task.steps[i]
        x0_hat = task.predict(x_t, t)
        if i % self.every:
            return Look(x0_hat, None, carry)
        x, prediction = (tensor.repeat_interleave(self.rollouts, 0) for tensor in (x_t, x0_hat))
        x = task.solver.step(prediction, x, t, s, carry)
        x = last(x, trajectory(task.predict, task.solver, x, carry, place=i + 1))
        return Look(x0_hat, torch.logsumexp(task.value(x).view(-1, self.rollouts), 1) - math.log(self.rollouts), carry)
