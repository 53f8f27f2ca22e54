"""Diffusion alignment as sampling: tempered particles whose proposals follow the gradient of the reward."""

from typing import Any

from torch import Tensor

from lidar_lightning.samplers.gradient import reward_slope
from lidar_lightning.samplers.smc import ParticleSampler
from lidar_lightning.samplers.task import Task
from lidar_lightning.solvers import Normal, Transition


class DAS(ParticleSampler):
    """Particles with twist lambda_i r(x0_hat), lambda_i = lambda min((1 + gamma)^i - 1, 1) in step i = 0, 1, ...

    The proposal moves the mean of each step by std^2 grad_{x_t} lambda_{i+1} r(x0_hat(x_t)), and the weights correct
    for it, so that more particles come closer to p(x0) exp(lambda r(x0)). Source: Kim, Kim, Park, arXiv 2501.05803.

    Args:
        particles, resampling: see `ParticleSampler`.
        gamma: speed of tempering, above 0; None lets it reach 1 at the end of the last step; published 0.008 for 100.
        derivative_free: propose from the model itself, so that neither reward nor network need a gradient.
        settings: of `ParticleSampler`.

    Raises:
        ValueError: if a setting is out of range or unknown.
    """

    def __init__(
        self,
        particles: int = 4,
        *,
        resampling: str = "ssp",
        gamma: float | None = None,
        derivative_free: bool = False,
        **settings: Any,
    ):
        super().__init__(particles, resampling=resampling, **settings)
        if gamma is not None and gamma <= 0:
            raise ValueError(f"gamma must be above 0, or None to reach 1 at the last step, got {gamma}")
        self.gamma, self.gradients = gamma, not derivative_free

    def tempering(self, i: int, steps: int) -> float:
        """lambda_i / lambda, in [0, 1]."""
        growth = 2 ** (1 / steps) if self.gamma is None else 1 + self.gamma
        return min(growth**i - 1, 1.0)

    def predict(self, task: Task, x_t: Tensor, t: float) -> Tensor:
        if not self.gradients:
            x0_hat = super().predict(task, x_t, t)
            self.value = task.value(task.solver.estimate(x0_hat, x_t, t))
            return x0_hat
        x0_hat, self.value, self.gradient = reward_slope(task, x_t, t)
        return x0_hat

    def twist(self, task: Task, x_t: Tensor, x0_hat: Tensor, i: int) -> Tensor:
        return self.tempering(i, len(task.steps)) * self.value

    def propose(self, task: Task, x_t: Tensor, x0_hat: Tensor, i: int, model: Transition) -> Transition:
        if not self.gradients:
            return model
        if not isinstance(model, Normal):
            raise ValueError(
                f"DAS moves the mean of Normal steps, got {type(model).__name__}: use derivative_free=True"
            )
        weight = self.tempering(i + 1, len(task.steps)) * model.std**2
        return Normal(model.mean + weight * self.gradient, model.std)

    def follow(self, rows: Tensor) -> None:
        if self.gradients:
            self.gradient = self.gradient[rows]
