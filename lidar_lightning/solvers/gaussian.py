"""Random steps of continuous data whose law is known, for diffusion and flow models alike."""

import hashlib
import math

import torch
from torch import Tensor

from lidar_lightning.schedules import Schedule
from lidar_lightning.solvers.transition import Normal
from lidar_lightning.utils.seeding import Generators


class GaussianAncestral:
    """x_s = alpha_s x0_hat + sqrt(sigma_s^2 - v) eps_hat + sqrt(v) noise, eps_hat = (x_t - alpha_t x0_hat) / sigma_t.

    v = eta^2 (sigma_s / sigma_t)^2 (sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2) is, with eta = 1, the variance of the
    posterior q(x_s | x_t, x0). For a diffusion model this is DDIM (Song et al., arXiv 2010.02502, eq. 16). It holds for
    every alpha and sigma, so that it also turns the ordinary differential equation of a flow model into a random walk
    with the same marginals, which particle methods need.

    Args:
        schedule: noise schedule of the model.
        steps: network calls, at least 1.
        eta: amount of noise, from 0 (deterministic) to 1 (ancestral).
        times: decreasing times (steps + 1,) in [0, 1]; None spaces them equally. See `times_of_schedule`.

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(self, schedule: Schedule, steps: int = 50, eta: float = 1.0, times: Tensor | None = None):
        if steps < 1:
            raise ValueError(f"a solver needs at least 1 step, got {steps}")
        if not 0 <= eta <= 1:
            raise ValueError(f"eta lies in [0, 1], got {eta}")
        self.schedule, self.eta = schedule, eta
        self.times = torch.linspace(1, 0, steps + 1, dtype=torch.float64) if times is None else times.double()
        if len(self.times) != steps + 1 or not (self.times.diff() < 0).all():
            raise ValueError(f"{steps} steps need {steps + 1} decreasing times, got {self.times.tolist()}")
        grid = "equal" if times is None else hashlib.sha256(self.times.cpu().numpy().tobytes()).hexdigest()[:8]
        self.name = f"GaussianAncestral(eta={eta:g}, times={grid})"

    def start(self, x: Tensor, place: int = 0) -> Tensor:
        """x itself: (B, *S)."""
        return x

    def transition(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float) -> Normal:
        """The law of x_s (B, *S) for t > s."""
        (alpha_t, alpha_s), (sigma_t, sigma_s) = (
            c.tolist() for c in self.schedule(torch.tensor([t, s], dtype=torch.float64))
        )
        variance = (self.eta * sigma_s / sigma_t) ** 2 * max(sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2, 0.0)
        noise = (x_t - alpha_t * x0_hat) / sigma_t
        mean = alpha_s * x0_hat + math.sqrt(max(sigma_s**2 - variance, 0.0)) * noise
        return Normal(mean, math.sqrt(variance))

    def estimate(self, x0_hat: Tensor, x_t: Tensor, t: float) -> Tensor:
        """The prediction itself."""
        return x0_hat

    def step(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float, generators: Generators) -> Tensor:
        """x_s (B, *S) from x_t (B, *S) and the prediction x0_hat (B, *S)."""
        return self.transition(x0_hat, x_t, t, s).sample(generators)


def times_of_schedule(schedule: Schedule, path: Schedule, steps: int) -> Tensor:
    """The times of `schedule` at which its ratio alpha / sigma is that of `path` at equally spaced times, by bisection.

    Up to the scale of x, steps of `GaussianAncestral` depend on this ratio alone. So a flow model that walks along
    these times does what it would do after its linear interpolant had been converted to the path (Kim et al., arXiv
    2503.19385, sec. 4.2).
    """
    alpha, sigma = path(torch.linspace(1, 0, steps + 1, dtype=torch.float64))
    low, high = torch.zeros(steps + 1, dtype=torch.float64), torch.ones(steps + 1, dtype=torch.float64)
    for _ in range(60):
        middle = (low + high) / 2
        a, s = schedule(middle)
        noisier = a * sigma > alpha * s
        low, high = torch.where(noisier, middle, low), torch.where(noisier, high, middle)
    times = (low + high) / 2
    times[0], times[-1] = 1.0, 0.0
    return times
