"""Diffusion alignment as sampling: tempered particles whose proposals follow the gradient of the reward."""

from typing import Any

from torch import Tensor

from lidar_lightning.samplers.gradient import reward_slope
from lidar_lightning.samplers.smc import Look, ParticleSampler
from lidar_lightning.samplers.task import Task
from lidar_lightning.solvers import Normal, Transition


class DAS(ParticleSampler):
    """Particles with twist lambda_i r(x0_hat), lambda_i = lambda min((1 + gamma)^i - 1, 1) in step i = 0, 1, ...

    The proposal moves the mean of each step by std^2 grad_{x_t} lambda_{i+1} r(x0_hat(x_t)), and the weights correct
    for it, so that more particles come closer to p(x0) exp(lambda r(x0)). Source: Kim, Kim, Park, arXiv 2501.05803.

    Args:
        particles, resampling: see `ParticleSampler`.
        gamma: speed of the tempering, above 0; published 0.008 for 100 steps. With None the tempering ends with the
            last step.
        derivative_free: whether the model itself is the proposal, so that neither reward nor network needs a gradient.
        settings: the other arguments of `ParticleSampler`.

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
        """The ratio lambda_i / lambda, in [0, 1]."""
        growth = 2 ** (1 / steps) if self.gamma is None else 1 + self.gamma
        return min(growth**i - 1, 1.0)

    def look(self, task: Task, x_t: Tensor, i: int, carry: Tensor | None) -> Look:
        """See `ParticleSampler`; what is carried is the gradient (B, *S) of lambda r(x0_hat), if that is used."""
        t, share = task.steps[i][0], self.tempering(i, len(task.steps))
        if self.gradients:
            x0_hat, value, gradient = reward_slope(task, x_t, t)
            return Look(x0_hat, share * value, gradient)
        x0_hat = task.predict(x_t, t)
        return Look(x0_hat, share * task.value(task.solver.estimate(x0_hat, x_t, t)))

    def follow(self, carry: Tensor | None, rows: Tensor) -> Tensor | None:
        return None if carry is None else carry[rows]

    def propose(self, task: Task, x_t: Tensor, i: int, seen: Look, model: Transition) -> Transition:
        if seen.carry is None:
            return model
        if not isinstance(model, Normal):
            raise ValueError(
                f"DAS moves the mean of Normal steps, got {type(model).__name__}: use derivative_free=True"
            )
        weight = self.tempering(i + 1, len(task.steps)) * model.std**2
        return Normal(model.mean + weight * seen.carry, model.std)
