"""Restart: the second use of a bank. Runs of the solver begin at members that are drawn by their rewards and noised.

    i ~ softmax(lambda r),   x_t0 = alpha x0_i + sigma eps   (tokens: kept with probability alpha, else uniform)

For an ideal bank x_t0 is a sample of the rewarded law at t0, for every t0, so that guided steps from there on are
exact. t0 = 1 is LiDAR from pure noise, and t0 = 0 resamples the lookaheads; between them the model repairs what the few
steps of the lookaheads got wrong. The network calls of the steps above t0 are saved, and can draw more lookaheads. See
docs/restart.md.
"""

import math

import torch
from torch import Tensor

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.guidance.tilt import effective_sample_size
from lidar_lightning.samplers.resampling import perturbed
from lidar_lightning.utils.seeding import Generators

GOLDEN = (1 + math.sqrt(5)) / 2
SHARP = 2.0
"""A tilted bank of fewer effective members than this is drawn without replacement."""


def place_of(times: Tensor, t0: float) -> int:
    """The place of the first of a solver's decreasing times (steps + 1,) that is at most t0; the last if none is."""
    return min(int((times > t0).sum()), len(times) - 1)


def members(tilts: Tensor, draws: Tensor, stream: Generators) -> Tensor:
    """The member of a bank that each draw takes, in proportion to exp(tilts): places (m,) int64 among n members.

    Draw j takes the quantile frac(u + j / golden ratio), with u from the stream. So any number of draws is spread about
    as evenly as by systematic resampling, and no draw depends on the number or the order of the others. A bank of fewer
    than two effective members is drawn without replacement, in descending order of tilt + Gumbel noise, so that several
    samples do not copy one member; after n draws it begins again.

    Args:
        tilts: lambda r of the members, (n,).
        draws: the numbers j >= 0 of the draws, (m,) int64.
        stream: one random stream, which belongs to the prompt.
    """
    tilts, n = tilts.double(), len(tilts)
    uniforms = stream.rand(n + 1)[0].to(tilts)
    weights, order = tilts.softmax(0).sort(stable=True)
    if effective_sample_size(weights) < SHARP:
        return perturbed(tilts, uniforms[1:]).argsort(descending=True, stable=True)[draws % n]
    quantiles = (uniforms[0] + draws / GOLDEN).frac()
    ends = weights.cumsum(0) / weights.sum()
    return order[torch.searchsorted(ends, quantiles, right=True).clamp_max(n - 1)]


def noised(backbone: Backbone, x0: Tensor, t: float, generators: Generators) -> Tensor:
    """x_t (B, *S) of clean samples (B, *S), with a stream of noise for each."""
    noise = backbone.prior(generators).to(x0.device)
    alpha, sigma = (c.item() for c in backbone.schedule(torch.tensor(t, dtype=torch.float64)))
    if backbone.vocab_size is None:
        return alpha * x0 + sigma * noise.to(x0)
    kept = generators.rand(*x0.shape[1:]).to(x0.device) < alpha
    return torch.where(kept, x0, noise)
