"""What solvers of tokens share: independent draws of each position, some of which may be fixed."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from lidar_lightning.schedules import Schedule
from lidar_lightning.solvers.transition import Categorical
from lidar_lightning.utils.seeding import Generators

FREE = -1
"""Stands in `fixed` where a position is free."""


def power_times(steps: int, power: float) -> Tensor:
    """The times (1 - i / steps)^power: (steps + 1,) float64. Raises ValueError if there is no step."""
    if steps < 1:
        raise ValueError(f"a solver needs at least 1 step, got {steps}")
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64).pow(power)


class TokenSolver(ABC):
    """A solver that draws each token of a step independently; fixed tokens keep their value at all times.

    Args:
        schedule: token schedule.
        times: the times of the steps (steps + 1,), decreasing.
        name: see `Solver`.
        fixed: (L,) int64, the token that each position keeps, or `FREE`; None leaves all free.
    """

    def __init__(self, schedule: Schedule, times: Tensor, name: str, fixed: Tensor | None = None):
        self.schedule, self.times, self.name, self.fixed = schedule, times, name, fixed

    @abstractmethod
    def posterior(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float) -> Tensor:
        """Probabilities (B, L, V) float64 of x_s, from x0_hat (B, L, V) and tokens x_t (B, L)."""

    def probabilities(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float) -> Tensor:
        """The law that a step draws free positions from: the posterior, unless a solver does more."""
        return self.posterior(x0_hat, x_t, t, s)

    @abstractmethod
    def estimate(self, x0_hat: Tensor, x_t: Tensor, t: float) -> Tensor:
        """The likeliest token at each position (B, L), given all of x_t."""

    def free(self, x_t: Tensor) -> Tensor:
        """Which positions of x_t (B, L) are free: (L,) bool."""
        everywhere = torch.ones(x_t.shape[1], dtype=torch.bool, device=x_t.device)
        return everywhere if self.fixed is None else self.fixed.to(x_t.device) == FREE

    def start(self, x: Tensor, place: int = 0) -> Tensor:
        """x (B, L) int64 with the fixed tokens in their places."""
        return x if self.fixed is None else torch.where(self.free(x), x, self.fixed.to(x.device))

    def transition(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float) -> Categorical:
        """The law of x_s (B, L)."""
        law = self.probabilities(x0_hat, x_t, t, s)
        if self.fixed is not None:
            law = torch.where(self.free(x_t)[:, None], law, F.one_hot(x_t, law.shape[-1]).to(law))
        return Categorical(law)

    def step(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float, generators: Generators) -> Tensor:
        """x_s (B, L) int64, by inversion of one uniform number per token."""
        return self.transition(x0_hat, x_t, t, s).sample(generators)


def check_redraw(redraw: float) -> float:
    """Returns `redraw`. Raises ValueError unless it is a time in [0, 1]."""
    if not 0 <= redraw <= 1:
        raise ValueError(f"redraw is a time from 0, which redraws nothing, to 1, got {redraw}")
    return redraw


def least_likely(x0_hat: Tensor, x_t: Tensor, among: Tensor) -> Tensor:
    """The token of each row of x_t (B, L) that the predictions (B, L, V) hold for the least likely: (B, L) bool.

    Args:
        among: the positions that are compared, (L,) or (B, L) bool; in a row without any, no token is chosen.
    """
    likelihood = x0_hat.gather(-1, x_t.unsqueeze(-1)).squeeze(-1).masked_fill(~among, torch.inf)
    return F.one_hot(likelihood.argmin(1), x_t.shape[1]).bool() & among
