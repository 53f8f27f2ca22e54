"""Backward rollout: particles whose weights follow from the rewards at the ends of several continuations."""

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

    The mean is an unbiased estimate of E[exp(lambda r(x0)) | x_t], the best twist there is; other samplers approximate
    it by a reward at the predicted clean sample. Each remaining step of each continuation costs a network call, so that
    this sampler is a yardstick for small problems.

    Args:
        particles: number of particles per sample.
        rollouts: number of continuations of each particle whenever it is weighed, at least 1.
        every: particles are weighed before every `every`-th step, at least 1.
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
            raise ValueError(f"rollouts and every must be at least 1, got {rollouts} and {every}")
        self.rollouts, self.every = rollouts, every

    def cost(self, steps: int, count: int, times: Grid = equal_times) -> int:
        """One call per particle and step; where particles are weighed, also all steps that each continuation takes."""
        continued = sum(steps - 1 - i for i in range(0, steps, self.every))
        return self.particles * count * (steps + self.rollouts * continued)

    def sized(self, calls: int, steps: int, count: int, times: Grid = equal_times) -> Self:
        one = self.cost(steps, 1, times) // self.particles
        check_budget("backward rollout", calls, 2 * one, f"two particles, {self.rollouts} continuations")
        return spending(self.sizes(calls // one), calls, steps, count, times)

    def prepare(self, task: Task, count: int) -> Generators:
        """The random streams of the continuations."""
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
