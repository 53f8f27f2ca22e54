"""Resampling of particles: pure functions of log-weights (G, K), for G groups of K particles each.

For each group they return K sorted indices in [0, K), among which particle k appears K w_k times on average. They raise
ValueError if weights cannot be normalised.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Resampler = Callable[[Tensor, Tensor], Tensor]
"""A function of log-weights (G, K) and uniform numbers (G, K) in [0, 1) that returns indices (G, K) int64."""


def normalised(log_weights: Tensor) -> Tensor:
    """Weights (G, K) float64 that sum to one in each group.

    Raises:
        ValueError: if a log-weight is NaN or plus infinity, or if all those of a group are minus infinity.
    """
    weights = log_weights.double().softmax(-1)
    bad = int(weights.isnan().any(-1).sum())
    if bad:
        raise ValueError(
            f"particles cannot be resampled in {bad} of {weights.shape[:-1].numel()} groups: a log-weight is NaN or "
            "infinite, or all weights are 0; look for a reward, gradient or prediction that is not finite"
        )
    return weights


def log_ess(log_weights: Tensor) -> Tensor:
    """The log of the effective sample size (sum w)^2 / sum w^2 over the last dimension, computed in log-space.

    Raises:
        ValueError: as `normalised` does.
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
    """Multinomial resampling: K independent draws."""
    return _at(uniforms.double().sort(-1).values, log_weights)


def stratified(log_weights: Tensor, uniforms: Tensor) -> Tensor:
    """Stratified resampling: one draw in each of K strata of equal weight."""
    count = log_weights.shape[-1]
    return _at((torch.arange(count, device=uniforms.device) + uniforms.double()) / count, log_weights)


def systematic(log_weights: Tensor, uniforms: Tensor) -> Tensor:
    """Systematic resampling: K points 1 / K apart from one offset; particle k appears floor or ceil of K w_k times."""
    return stratified(log_weights, uniforms[..., :1].expand_as(uniforms))


def ssp(log_weights: Tensor, uniforms: Tensor) -> Tensor:
    """Srinivasan's sampling process: the numbers of copies are within one of K w_k and negatively associated.

    Particles are settled in pairs: the two fractional parts move by equal and opposite amounts until one is a whole
    number, with probabilities that keep both means. Source: Gerber, Chopin, Whiteley, "Negative association, ordering
    and convergence of resampling methods", arXiv 1707.01845, algorithm 1.
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
    """Picks one index per group (G,) in proportion to its weight, by log-weights (G, K) and uniform numbers (G, 1)."""
    return _at(uniforms.double(), log_weights)[:, 0]


def perturbed(log_weights: Tensor, uniforms: Tensor) -> Tensor:
    """Log-weights plus Gumbel noise, from uniform numbers of the same shape: (...) float64.

    The highest is a draw in proportion to the weights, and in descending order all are draws without replacement (Kool,
    van Hoof, Welling, "Stochastic beams and where to find them", arXiv 1903.06059).
    """
    return log_weights.double() - (-uniforms.double().clamp_min(torch.finfo(torch.float64).tiny).log()).log()


def highest(values: Tensor, count: int) -> Tensor:
    """Places of the `count` highest values (..., n), in the order of the places and not of the values."""
    return values.argsort(dim=-1, descending=True, stable=True)[..., :count].sort(-1).values


RESAMPLERS: dict[str, Resampler] = {
    "multinomial": multinomial,
    "stratified": stratified,
    "systematic": systematic,
    "ssp": ssp,
}


def resampler(name: str) -> Resampler:
    """Returns the resampler of a name. Raises ValueError, naming all of them, if there is none."""
    if name not in RESAMPLERS:
        raise ValueError(f"unknown resampling {name!r}: use one of {', '.join(RESAMPLERS)}")
    return RESAMPLERS[name]
