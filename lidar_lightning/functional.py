"""The closed forms of LiDAR as pure functions: weights, shift, token log-ratio, and the choice of temperature.

The target is p^r(x0) proportional to p(x0) exp(lambda r(x0)). Given n samples x0_i with rewards r_i, the noise kernel
gives the weights w = softmax(l) of a noised x_t (`kernels.py`) and w^r = softmax(l + lambda r) those of the rewarded
bank; their difference is the guidance. Source: "Lookahead Sample Reward Guidance for Test-Time Scaling of Diffusion
Models", arXiv 2602.03211. All tensors take an optional leading prompt dimension P, one bank per prompt.
"""

import math

import torch
from torch import Tensor

from lidar_lightning.kernels import GaussianBank, TokenBank, exact_products, per_row


def tilted_weights(logits: Tensor, rewards: Tensor, temperature: Tensor | float) -> tuple[Tensor, Tensor]:
    """w^r = softmax(l + lambda r) and w = softmax(l), each (P, B, n), for logits (P, B, n) and rewards (P, n).

    temperature: lambda >= 0, a float or one per prompt (P,).
    """
    rewards = rewards.to(logits)
    temperature = torch.as_tensor(temperature, dtype=logits.dtype, device=logits.device).expand(len(rewards))
    return (logits + (temperature[:, None] * rewards)[:, None]).softmax(-1), logits.softmax(-1)


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

    Args: as `lidar_shift`.
    """
    x_t, samples, rewards, single = _with_prompts(x_t, samples, rewards)
    check_tilt(temperature, rewards)
    with exact_products(x_t.device.type):
        weights = tilted_weights(GaussianBank(samples, chunk).logits(x_t, alpha, sigma), rewards, temperature)
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
    with exact_products(x_t.device.type):
        bank = GaussianBank(samples, chunk)
        w_r, w = tilted_weights(bank.logits(x_t, alpha, sigma), rewards, temperature)
        return bank.shift(w_r - w).reshape(shape).to(dtype)


def lidar_log_ratio(
    x_t: Tensor,
    alpha: Tensor | float,
    samples: Tensor,
    rewards: Tensor,
    temperature: Tensor | float,
    vocab_size: int,
) -> Tensor:
    """Change of the lookahead reward for every single-token edit of x_t under uniform noise: (B, L, V) float64.

    log_ratio[l, v] = r(x_t with token l set to v) - r(x_t), zero where v = x_t^l, by leave-one-out weights:
    log (V a b^r_v + 1 - a) / (V a b^r_{x_t} + 1 - a) - log (V a b_v + 1 - a) / (V a b_{x_t} + 1 - a).

    Args:
        x_t: noised tokens (B, L) int64, or (P, B, L).
        alpha: probability in [0, 1) that a token is kept, a float or (B,) (or (P, B)).
        samples: lookahead tokens (n, L) int64 in [0, V), or (P, n, L).
        rewards, temperature: as in `lidar_shift`.
        vocab_size: V.

    Raises:
        ValueError: if the shapes do not fit, a reward is not finite, or lambda is negative.
    """
    x_t, samples, rewards, single = _with_prompts(x_t, samples, rewards)
    check_tilt(temperature, rewards)
    with exact_products(x_t.device.type):
        change = token_log_marginal_change(TokenBank(samples, vocab_size), x_t, alpha, rewards, temperature)
        change = change - change.gather(-1, x_t.unsqueeze(-1))
    return change[0] if single else change


def token_log_marginal_change(
    bank: TokenBank, x_t: Tensor, alpha: Tensor | float, rewards: Tensor, temperature: Tensor | float
) -> Tensor:
    """log m^r - log m: the marginals of a noised token under the rewarded bank and the bank, (P, B, L, V)."""
    w_r, w = tilted_weights(bank.logits(x_t, alpha), rewards, temperature)
    return bank.log_marginal(w_r, x_t, alpha) - bank.log_marginal(w, x_t, alpha)


def effective_sample_size(weights: Tensor) -> Tensor:
    """1 / Sum_i w_i^2 over the last dimension, for weights that sum to one: from 1 (one-hot) to n (uniform)."""
    return 1 / weights.square().sum(-1)


def temperature_for_ess(rewards: Tensor, fraction: float, log_weights: Tensor | None = None) -> float:
    """The lambda at which softmax(lambda r) has an effective sample size of fraction * n, by bisection.

    The effective sample size falls from n at lambda = 0 to the number m of best samples, so the answer has the same
    meaning at every scale of the reward. Constant rewards give 0. Where ties put m above the target, lambda is the
    one that comes within one part in a thousand of m.

    For members that count for w_i, with sum 1, the fraction is (sum w_i exp(lambda r_i))^2 / sum w_i exp(2 lambda r_i).
    It falls from 1 to the weight of the best samples, and is a number of the law that the weighted members stand for,
    however they were drawn.

    Args:
        rewards: (n,), finite.
        fraction: target in (0, 1].
        log_weights: log w (n,) up to a constant; None is even.

    Raises:
        ValueError: if fraction lies outside (0, 1] or a reward is not finite.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the target effective sample size is a fraction in (0, 1], got {fraction}")
    rewards = torch.as_tensor(rewards).double().flatten()
    check_finite(rewards)
    log_w = torch.zeros_like(rewards) if log_weights is None else log_weights.to(rewards).flatten()
    log_w = log_w.log_softmax(0)
    spread = (rewards.max() - rewards.min()).item()
    if spread == 0:
        return 0.0
    ties = log_w[rewards == rewards.max()].exp().sum().item()
    target = max(fraction, 1.001 * ties)
    if target >= 1:
        return 0.0

    def too_flat(log_temperature: float) -> bool:
        tilt = math.exp(log_temperature) / spread * rewards
        return (2 * (log_w + tilt).logsumexp(0) - (log_w + 2 * tilt).logsumexp(0)).item() > math.log(target)

    low, high = -20.0, 1.0
    while too_flat(high):
        high += 5.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if too_flat(middle) else (low, middle)
    return math.exp(high) / spread


def check_tilt(temperature: Tensor | float, rewards: Tensor) -> None:
    """Raises ValueError if lambda, a float or one per prompt (P,), is negative, or too large for rewards (P, n)."""
    each = torch.as_tensor(temperature, dtype=torch.float64, device=rewards.device).reshape(-1, 1)
    if not bool((each >= 0).all()):
        raise ValueError(f"temperature (lambda) must be at least 0, got {temperature}")
    if not bool((each * rewards).isfinite().all()):
        raise ValueError(
            f"a temperature (lambda) of {each.max().item():g} overflows with rewards as large as "
            f"{rewards.abs().max().item():g}: lower it"
        )


def check_finite(values: Tensor, what: str = "rewards") -> None:
    """Raises ValueError, with the count, if a reward, or what else is named, is NaN or infinite."""
    bad = int((~values.isfinite()).sum())
    if bad:
        raise ValueError(f"{bad} of {values.numel()} {what} are NaN or infinite: fix the reward or give it a floor")


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
    "check_finite",
    "check_tilt",
    "effective_sample_size",
    "lidar_log_ratio",
    "lidar_shift",
    "lidar_weights",
    "per_row",
    "temperature_for_ess",
    "tilted_weights",
    "token_log_marginal_change",
]
