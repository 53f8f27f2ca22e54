"""Resampling of particles: pure functions of log-weights (G, K), of G groups of K particles each.

Each returns, per group, K indices in [0, K), sorted, in which particle k stands K w_k times on average, and raises
ValueError where weights cannot be normalised.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Resampler = Callable[[Tensor, Tensor], Tensor]
"""(log-weights (G, K), uniform numbers (G, K) in [0, 1)) to indices (G, K) int64."""


def normalised(log_weights: Tensor) -> Tensor:
    """Weights (G, K) float64 that sum to one in each group.

    Raises:
        ValueError: if a log-weight is NaN or plus infinity, or all of a group are minus infinity.
    """
    weights = log_weights.double().softmax(-1)
    bad = int(weights.isnan().any(-1).sum())
    if bad:
        raise ValueError(
            f"particles cannot be resampled in {bad} of {weights.shape[:-1].numel()} groups: a log-weight is NaN or "
            "infinite, or all weigh nothing; look for a reward, gradient or prediction that is not finite"
        )
    return weights


def log_ess(log_weights: Tensor) -> Tensor:
    """log of the effective sample size (sum w)^2 / sum w^2 over the last dimension, in log-space.

    Raises:
        ValueError: as `normalised`.
    """
    normalised(log_weights)
    log_weights = log_weights - log_weights.amax(-1, keepdim=True)
    return 2 * log_weights.logsumexp(-1) - (2 * log_weights).logsumexp(-1)


def _at(points: Tensor, log_weights: Tensor) -> Tensor:
    """Where points in [0, 1) fall among the cumulated weights."""
    cumulative = normalised(log_weights).cumsum(-1)
    cumulative = cumulative / cumulative[..., -1:]
    return torch.searchsorted(cumulative, points.contiguous(), right=True).clamp_max(log_weights.shape[-1] - 1)


def multinomial(log_weights: Tensor, uniforms: Tensor) -> Tensor:
    """K independent draws."""
    return _at(uniforms.double().sort(-1).values, log_weights)


def stratified(log_weights: Tensor, uniforms: Tensor) -> Tensor:
    """One draw in each of K strata of equal weight."""
    count = log_weights.shape[-1]
    return _at((torch.arange(count, device=uniforms.device) + uniforms.double()) / count, log_weights)


def systematic(log_weights: Tensor, uniforms: Tensor) -> Tensor:
    """K points a distance 1 / K apart, from one random offset: particle k stands floor or ceil of K w_k times."""
    return stratified(log_weights, uniforms[..., :1].expand_as(uniforms))


def ssp(log_weights: Tensor, uniforms: Tensor) -> Tensor:
    """Srinivasan's sampling: numbers of copies within one of K w_k, negatively associated.

    Particles settle in pairs: the two fractional parts move by equal and opposite amounts until one of them is whole,
    with the chances that keep both means. Source: Gerber, Chopin, Whiteley, "Negative association, ordering and
    convergence of resampling methods", arXiv 1707.01845, algorithm 1.
    """
    groups, count = log_weights.shape
    expected = count * normalised(log_weights)
    copies, parts = expected.floor(), expected.frac()
    rows, first = torch.arange(groups, device=log_weights.device), torch.zeros_like(uniforms[:, 0], dtype=torch.long)
    for other in range(1, count):
        p, q = parts[rows, first], parts[:, other]
        up, down = torch.minimum(1 - p, q), torch.minimum(p, 1 - q)
        total = up + down
        rise = uniforms[:, other] * total < down
        new_p = torch.where(rise, p + up, p - down)
        new_q = torch.where(rise, q - up, q + down)
        idle = total <= 0
        new_p, new_q = torch.where(idle, p, new_p), torch.where(idle, q, new_q)
        parts[rows, first], parts[:, other] = new_p, new_q
        settled = (new_p <= 1e-12) | (new_p >= 1 - 1e-12)
        first = torch.where(settled, other, first)
    copies = (copies + parts.round()).long()
    # Rounding may leave a group one copy short or over.
    copies[rows, copies.argmax(-1)] += count - copies.sum(-1)
    order = torch.arange(count, device=copies.device).expand(groups, count)
    return torch.stack([row.repeat_interleave(number) for row, number in zip(order, copies, strict=True)])


def pick(log_weights: Tensor, uniforms: Tensor) -> Tensor:
    """One index per group (G,) by weight, from log-weights (G, K) and uniform numbers (G, 1)."""
    return _at(uniforms.double(), log_weights)[:, 0]


def perturbed(log_weights: Tensor, uniforms: Tensor) -> Tensor:
    """Log-weights plus Gumbel noise, from uniform numbers of the same shape: (...) float64.

    The highest is a draw by weight, and the order of all is one of draws without replacement (Kool, van Hoof, Welling,
    "Stochastic beams and where to find them", arXiv 1903.06059).
    """
    return log_weights.double() - (-uniforms.double().clamp_min(torch.finfo(torch.float64).tiny).log()).log()


def highest(values: Tensor, count: int) -> Tensor:
    """Places of the `count` highest of (..., n), in their own order, so that the first are no better than the last."""
    return values.argsort(dim=-1, descending=True, stable=True)[..., :count].sort(-1).values


RESAMPLERS: dict[str, Resampler] = {
    "multinomial": multinomial,
    "stratified": stratified,
    "systematic": systematic,
    "ssp": ssp,
}


def resampler(name: str) -> Resampler:
    """A resampler by name. Raises ValueError naming all if there is none."""
    if name not in RESAMPLERS:
        raise ValueError(f"no resampler {name!r}: use one of {', '.join(RESAMPLERS)}")
    return RESAMPLERS[name]
