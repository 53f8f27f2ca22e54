"""The closed forms of LiDAR as pure functions: weights, shift, token log-ratio, and the choice of temperature.

The target is p^r(x0) proportional to p(x0) exp(lambda r(x0)). Given n samples x0_i with rewards r_i, the noise kernel
gives the weights w = softmax(l) of a noised x_t (`guidance.kernels`) and w^r = softmax(l + lambda r) those of the
rewarded bank; their difference is the guidance (`guidance.tilt`, which `LiDARGuidance` runs too). Source: "Lookahead
Sample Reward Guidance for Test-Time Scaling of Diffusion Models", arXiv 2602.03211. All tensors take an optional
leading prompt dimension P, one bank per prompt.
"""

import torch
from torch import Tensor

from lidar_lightning.guidance.kernels import GaussianKernel, exact_products
from lidar_lightning.guidance.mask_kernel import kernel_of
from lidar_lightning.guidance.tilt import (
    check_finite,
    check_tilt,
    effective_sample_size,
    temperature_for_ess,
    tilt,
    tilted_weights,
)


def lidar_weights(
    x_t: Tensor,
    alpha: Tensor | float,
    sigma: Tensor | float,
    samples: Tensor,
    rewards: Tensor,
    temperature: Tensor | float,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Weights of the bank at x_t = alpha x0 + sigma eps: (w^r, w), each (B, n) float64.

    The arguments, and the errors raised, are those of `lidar_shift`.
    """
    x_t, samples, rewards, single = _with_prompts(x_t, samples, rewards)
    check_tilt(temperature, rewards)
    with exact_products(x_t.device.type):
        logits = GaussianKernel(samples, chunk).logits(x_t, alpha, sigma)
        weights = tilted_weights(logits, rewards, temperature)
    return (weights[0][0], weights[1][0]) if single else weights


def lidar_shift(
    x_t: Tensor,
    alpha: Tensor | float,
    sigma: Tensor | float,
    samples: Tensor,
    rewards: Tensor,
    temperature: Tensor | float,
    chunk: int | None = None,
) -> Tensor:
    """What the rewarded bank adds to a prediction of x0: Sum_i (w^r_i - w_i) x0_i, in the shape and dtype of x_t.

    It equals (sigma^2 / alpha) times the gradient at x_t of the lookahead reward log Sum_i w_i exp(lambda r_i).

    Args:
        x_t: noised samples (B, *S), or (P, B, *S) for several prompts.
        alpha, sigma: coefficients of x_t = alpha x0 + sigma eps, floats or (B,) (or (P, B)); alpha may be 0.
        samples: lookahead samples (n, *S), or (P, n, *S).
        rewards: their rewards (n,), or (P, n), finite.
        temperature: lambda >= 0, or one per prompt (P,).
        chunk: bank members per matrix product; None takes all at once. The result does not depend on it.

    Raises:
        ValueError: if the shapes do not fit, a reward is not finite, or lambda is negative.
    """
    shape, dtype = x_t.shape, x_t.dtype
    x_t, samples, rewards, _ = _with_prompts(x_t, samples, rewards)
    check_tilt(temperature, rewards)
    kernel = GaussianKernel(samples, chunk)
    return tilt(kernel, x_t, alpha, sigma, rewards, temperature).change.reshape(shape).to(dtype)


def lidar_log_ratio(
    x_t: Tensor,
    alpha: Tensor | float,
    samples: Tensor,
    rewards: Tensor,
    temperature: Tensor | float,
    vocab_size: int,
    mask: int | None = None,
    smoothing: float | None = None,
) -> Tensor:
    """Change of the lookahead reward for every single-token edit of x_t: (B, L, V) float64.

    log_ratio[l, v] = r(x_t with token l set to v) - r(x_t), which is zero where v = x_t^l. Let a be alpha, and b_v and
    b^r_v the probability of v at position l under the bank and under the rewarded bank, by leave-one-out weights. Under
    uniform noise it is log (V a b^r_v + 1 - a) / (V a b^r_{x_t} + 1 - a), minus the same with b for b^r. Under
    absorbing noise, where only a mask can change, it is log b^r_v / b_v at masked positions, and zero at revealed ones.

    Args:
        x_t: noised tokens (B, L) int64, or (P, B, L).
        alpha: probability in [0, 1) that a token is kept, a float or (B,) (or (P, B)).
        samples: lookahead tokens (n, L) int64 in [0, V), or (P, n, L).
        rewards, temperature: as in `lidar_shift`.
        vocab_size: V.
        mask: the token that stands for absorbing noise; None for uniform noise.
        smoothing: see `LiDARSettings`.

    Raises:
        ValueError: if the shapes do not fit, a reward is not finite, or lambda is negative.
    """
    x_t, samples, rewards, single = _with_prompts(x_t, samples, rewards)
    check_tilt(temperature, rewards)
    kernel, sigma = kernel_of(vocab_size, mask, smoothing)(samples), 1 - torch.as_tensor(alpha)
    change = tilt(kernel, x_t, alpha, sigma, rewards, temperature).change
    change = change - change.gather(-1, x_t.unsqueeze(-1))
    if mask is not None:
        change = change * (x_t == mask).unsqueeze(-1)
    return change[0] if single else change


def _with_prompts(x_t: Tensor, samples: Tensor, rewards: Tensor) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Adds the prompt dimension where there is none, and checks that the shapes fit."""
    single = rewards.ndim == 1
    if single:
        x_t, samples, rewards = x_t[None], samples[None], rewards[None]
    if samples.shape[:2] != rewards.shape or not samples.shape[1]:
        raise ValueError(
            f"a bank needs one reward per sample and at least one sample, "
            f"got samples {tuple(samples.shape)} and rewards {tuple(rewards.shape)} (prompts first)"
        )
    if x_t.shape[0] != samples.shape[0] or x_t.shape[2:] != samples.shape[2:]:
        raise ValueError(f"x_t {tuple(x_t.shape)} does not fit samples {tuple(samples.shape)} (prompts first)")
    check_finite(rewards)
    return x_t, samples, rewards, single


__all__ = [
    "effective_sample_size",
    "lidar_log_ratio",
    "lidar_shift",
    "lidar_weights",
    "temperature_for_ess",
]
