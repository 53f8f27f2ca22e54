"""The distribution of one step, x_s given x_t, for solvers whose steps are random."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lidar_lightning.utils.seeding import Generators


class Transition(Protocol):
    """A distribution over x_s (B, *S), one for each row."""

    def sample(self, generators: Generators) -> Tensor:
        """One draw per row: (B, *S)."""
        ...

    def log_prob(self, x_s: Tensor) -> Tensor:
        """Log-density of each row (B,) float64, up to a constant that transitions of the same t and s share."""
        ...


class Normal(NamedTuple):
    """Normal distributions with a mean for each entry and one standard deviation for all."""

    mean: Tensor
    std: float

    def sample(self, generators: Generators) -> Tensor:
        return self.mean + self.std * generators.randn(*self.mean.shape[1:]).to(self.mean)

    def log_prob(self, x_s: Tensor) -> Tensor:
        """The log-density -|x_s - mean|^2 / (2 std^2). Raises ValueError if the step is deterministic."""
        if self.std == 0:
            raise ValueError("a step without noise has no density: use eta > 0, and no proposal at the last step")
        return (x_s - self.mean).double().square().flatten(1).sum(1) / (-2 * self.std**2)


class Categorical(NamedTuple):
    """Independent tokens that have the probabilities (B, L, V) float64."""

    probabilities: Tensor

    def sample(self, generators: Generators) -> Tensor:
        """Tokens (B, L) int64, each by inversion of one uniform number."""
        cumulative = self.probabilities.cumsum(-1)
        u = generators.rand(cumulative.shape[1]).unsqueeze(-1) * cumulative[..., -1:]
        return (cumulative <= u).sum(-1).clamp_max(cumulative.shape[-1] - 1)

    def log_prob(self, x_s: Tensor) -> Tensor:
        chosen = self.probabilities.gather(-1, x_s.unsqueeze(-1)).squeeze(-1)
        return chosen.clamp_min(torch.finfo(torch.float64).tiny).log().sum(1)
