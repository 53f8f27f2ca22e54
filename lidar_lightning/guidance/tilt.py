"""The tilt of a bank by its rewards: weights, what they change, and the choice of lambda by effective sample size."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lidar_lightning.guidance.kernels import Kernel, exact_products


class Tilt(NamedTuple):
    """The weights of a bank's members as seen from x_t, with and without their rewards, and what they change."""

    change: Tensor
    """What the rewarded bank says beyond the bank: see `Kernel.change`."""
    rewarded: Tensor
    """w^r = softmax(l + lambda r): (P, B, n) float64."""
    plain: Tensor
    """w = softmax(l): (P, B, n) float64."""


def tilt(
    kernel: Kernel,
    x_t: Tensor,
    alpha: Tensor | float,
    sigma: Tensor | float,
    rewards: Tensor,
    temperature: Tensor | float,
) -> Tilt:
    """The closed form of LiDAR at x_t (P, B, *S), from P banks with rewards (P, n); see `lidar_shift`."""
    with exact_products(x_t.device.type):
        rewarded, plain = tilted_weights(kernel.logits(x_t, alpha, sigma), rewards, temperature)
        return Tilt(kernel.change(x_t, alpha, rewarded, plain), rewarded, plain)


def tilted_weights(logits: Tensor, rewards: Tensor, temperature: Tensor | float) -> tuple[Tensor, Tensor]:
    """The weights w^r = softmax(l + lambda r) and w = softmax(l), each (P, B, n).

    Args:
        logits: l (P, B, n).
        rewards: r (P, n).
        temperature: lambda >= 0, a float or one per prompt (P,).
    """
    rewards = rewards.to(logits)
    temperature = torch.as_tensor(temperature, dtype=logits.dtype, device=logits.device).expand(len(rewards))
    return (logits + (temperature[:, None] * rewards)[:, None]).softmax(-1), logits.softmax(-1)


def effective_sample_size(weights: Tensor) -> Tensor:
    """1 / Sum_i w_i^2 over the last dimension of weights that sum to one: from 1 (one-hot) to n (uniform)."""
    return 1 / weights.square().sum(-1)


def temperature_for_ess(rewards: Tensor, fraction: float) -> float:
    """The lambda at which softmax(lambda r) has an effective sample size of fraction * n, by bisection.

    The effective sample size falls from n at lambda = 0 to the number m of samples with the highest reward, so that the
    answer has the same meaning at every scale of the reward. Constant rewards give 0. Where ties put m above the
    target, lambda is the one whose effective sample size comes within one part in a thousand of m.

    Args:
        rewards: (n,), finite.
        fraction: target in (0, 1].

    Raises:
        ValueError: if fraction lies outside (0, 1] or a reward is not finite.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the target effective sample size is a fraction in (0, 1], got {fraction}")
    rewards = torch.as_tensor(rewards).double().flatten()
    check_finite(rewards)
    spread = (rewards.max() - rewards.min()).item()
    if spread == 0:
        return 0.0
    target = max(fraction, 1.001 * (rewards == rewards.max()).double().mean().item())
    if target >= 1:
        return 0.0

    def too_flat(log_temperature: float) -> bool:
        tilt = math.exp(log_temperature) / spread * rewards
        return (2 * tilt.logsumexp(0) - (2 * tilt).logsumexp(0)).item() > math.log(target * len(rewards))

    low, high = -20.0, 1.0
    while too_flat(high):
        high += 5.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if too_flat(middle) else (low, middle)
    return math.exp(high) / spread


def check_tilt(temperature: Tensor | float, rewards: Tensor) -> None:
    """Raises ValueError if lambda, a float or one per prompt (P,), is negative or so large that lambda r overflows."""
    each = torch.as_tensor(temperature, dtype=torch.float64, device=rewards.device).reshape(-1, 1)
    if not bool((each >= 0).all()):
        raise ValueError(f"temperature (lambda) must be at least 0, got {temperature}")
    if not bool((each * rewards).isfinite().all()):
        raise ValueError(
            f"a temperature (lambda) of {each.max().item():g} overflows with rewards as large as "
            f"{rewards.abs().max().item():g}: lower it"
        )


def check_finite(values: Tensor, what: str = "rewards") -> None:
    """Raises ValueError, with their count, if values are NaN or infinite; `what` is their name in the message."""
    bad = int((~values.isfinite()).sum())
    if bad:
        raise ValueError(f"{bad} of {values.numel()} {what} are NaN or infinite: fix the reward or give it a floor")
