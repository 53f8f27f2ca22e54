"""Random steps of a flow model by the stochastic differential equation that has its marginals."""

import math
from typing import Literal

import torch
from torch import Tensor

from lidar_lightning.schedules import FlowMatching, Schedule
from lidar_lightning.solvers.transition import Normal
from lidar_lightning.utils.seeding import Generators


class FlowSDE:
    """x_s = x_t - (u + g^2 / (2 t) eps_hat) (t - s) + g sqrt(t - s) noise, with g = scale t^power.

    u = eps_hat - x0_hat is the velocity and -eps_hat / t the score, eps_hat = (x_t - (1 - t) x0_hat) / t. Every g has
    the marginals of the flow, up to the error of the step; scale 0 is Euler's step of the flow's own equation. The
    step to time 0 returns x0_hat: noise added there would stay. Source: Kim et al., "Inference-Time Scaling for Flow
    Models via Stochastic Generation and Rollover Budget Forcing", arXiv 2503.19385, sec. 4.1.

    `GaussianAncestral` takes the same kind of step, for any schedule and without the error of Euler's step.

    Args:
        schedule: the schedule of the model, which must be FlowMatching.
        steps: network calls, at least 1.
        scale, power: scale and power of the diffusion coefficient g, both at least 0.
        spacing: "circle", t = sqrt(1 - (1 - q)^2) at equally spaced q, as published: most steps are near the noise; or
            "equal".

    Raises:
        ValueError: if the schedule is not FlowMatching, or if a setting is out of range.
    """

    def __init__(
        self,
        schedule: Schedule,
        steps: int = 10,
        scale: float = 3.0,
        power: float = 2.0,
        spacing: Literal["circle", "equal"] = "circle",
    ):
        if not isinstance(schedule, FlowMatching):
            raise ValueError(
                f"FlowSDE needs the schedule FlowMatching, got {type(schedule).__name__}: use GaussianAncestral"
            )
        if steps < 1:
            raise ValueError(f"a solver needs at least 1 step, got {steps}")
        if scale < 0 or power < 0 or spacing not in ("circle", "equal"):
            raise ValueError(
                f"scale and power are at least 0 and spacing is 'circle' or 'equal', got {scale}, {power}, {spacing!r}"
            )
        self.schedule, self.scale, self.power = schedule, scale, power
        q = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        self.times = (1 - (1 - q).square()).sqrt() if spacing == "circle" else q
        self.name = f"FlowSDE(scale={scale:g}, power={power:g}, spacing={spacing})"

    def start(self, x: Tensor, place: int = 0) -> Tensor:
        """x itself: (B, *S)."""
        return x

    def transition(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float) -> Normal:
        """The law of x_s (B, *S) for t > s."""
        if s == 0:
            return Normal(x0_hat, 0.0)
        noise, g = (x_t - (1 - t) * x0_hat) / t, self.scale * t**self.power
        drift = noise - x0_hat + g**2 / (2 * t) * noise
        return Normal(x_t - (t - s) * drift, g * math.sqrt(t - s))

    def estimate(self, x0_hat: Tensor, x_t: Tensor, t: float) -> Tensor:
        """The prediction itself."""
        return x0_hat

    def step(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float, generators: Generators) -> Tensor:
        """x_s (B, *S) from x_t (B, *S) and the prediction x0_hat (B, *S)."""
        return self.transition(x0_hat, x_t, t, s).sample(generators)
