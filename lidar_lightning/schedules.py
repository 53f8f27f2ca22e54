"""Noise schedules: how much of a clean sample is left at time t, where t = 0 is clean and t = 1 is pure noise."""

from typing import Protocol

import torch
from torch import Tensor


class Schedule(Protocol):
    """Maps t in [0, 1], of any shape, to (alpha, sigma) of that shape.

    For continuous data x_t = alpha x0 + sigma eps. For tokens alpha is the probability that a token is kept, and
    sigma = 1 - alpha the probability that it is drawn anew.
    """

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]: ...


class LogLinear:
    """alpha = 1 - (1 - eps) t for tokens, whose total noise -log(alpha) is log-linear in t.

    Source: Sahoo et al., "Simple and Effective Masked Diffusion Language Models", arXiv 2406.07524.
    """

    def __init__(self, eps: float = 1e-3):
        self.eps = eps

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        sigma = (1 - self.eps) * t
        return 1 - sigma, sigma

    def slope(self) -> float:
        """The derivative d alpha / dt, which is constant."""
        return -(1 - self.eps)

    def level(self, t: Tensor) -> Tensor:
        """The total noise -log(alpha), on which published UDLM networks are conditioned."""
        return -torch.log1p(-(1 - self.eps) * t)


class FlowMatching:
    """alpha = 1 - t, sigma = t: straight lines from data to noise (Lipman et al., arXiv 2210.02747)."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t


class VPSDE:
    """alpha = exp(-(beta_0 t + (beta_1 - beta_0) t^2 / 2) / 2), sigma^2 = 1 - alpha^2: diffusion at a rate linear in t.

    Source: Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", arXiv 2011.13456.

    Args:
        first, last: beta_0 and beta_1.
    """

    def __init__(self, first: float = 0.1, last: float = 20.0):
        self.first, self.last = first, last

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        total = self.first * t + (self.last - self.first) * t.square() / 2
        return (-total / 2).exp(), (-torch.expm1(-total)).sqrt()


class VariancePreserving:
    """alpha = sqrt(a), sigma = sqrt(1 - a) of a diffusers table a = alphas_cumprod of N timesteps.

    Time t stands for the timestep t N; between two timesteps a is interpolated linearly. At time 0 it is the first
    entry of the table, so that alpha is slightly below 1; at times past (N - 1) / N it is the last one.

    Args:
        alphas_cumprod: the table (N,), decreasing in [0, 1].
    """

    def __init__(self, alphas_cumprod: Tensor):
        self.alphas_cumprod = alphas_cumprod.double()

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        table = self.alphas_cumprod.to(t.device)
        place = (t.double() * len(table)).clamp(0, len(table) - 1)
        low = place.floor().long()
        kept = torch.lerp(table[low], table[(low + 1).clamp_max(len(table) - 1)], place - low)
        return kept.sqrt().to(t.dtype), (1 - kept).sqrt().to(t.dtype)


def coefficients(schedule: Schedule, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma at t (B,) in shapes that multiply x_t (B, *S)."""
    shape = (-1, *[1] * (x_t.ndim - 1))
    alpha, sigma = (c.to(x_t).view(shape) for c in schedule(t.double()))
    return alpha, sigma


def noised(schedule: Schedule, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """alpha x0 + sigma eps for x0 (B, *S) and t (B,)."""
    alpha, sigma = coefficients(schedule, x0, t)
    device = generator.device if generator else x0.device
    return alpha * x0 + sigma * torch.randn(x0.shape, generator=generator, device=device).to(x0)
