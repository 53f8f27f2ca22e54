"""The kernel of absorbing noise, where a masked position says nothing, and which kernel a model's noise has.

A token that is revealed is that of the clean sample, so that log q(x_t | x0_i) is 0 (up to a constant) for the members
that agree with all revealed tokens, and minus infinity for all others. After a few of them no member of a finite bank
agrees any more. So a bank stands for the law that its members have when each token is, with a small chance e, any of
the K = V - 1 tokens that are no mask:

    p(x0) = mean_i prod_l [(1 - e) 1[x0^l = x0_i^l] + e / K]

whose kernel counts matches, at revealed positions alone, and whose prediction is that of the members, smoothed:

    l_i = kappa * matches,  kappa = log(1 + K (1 - e) / e),      b[l, v] = (1 - e) Sum_i w_i 1[x0_i^l = v] + e / K .

As e falls to 0, the weight goes to the members that agree the most: to those that agree with all, if there are any. The
derivation, and what is exact, stand in docs/mdlm.md.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lidar_lightning.guidance.kernels import GaussianKernel, Kernel, TokenKernel

SMOOTHING = 0.02
"""e of a bank that is told none."""


class MaskKernel:
    """Token samples (P, n, L) int64 under absorbing noise, kept one-hot.

    Args:
        samples: clean tokens in [0, V).
        vocab_size: V.
        mask: the token that stands for noise; members have none.
        smoothing: e in (0, 1), the chance that a token of a member is any token.
    """

    def __init__(self, samples: Tensor, vocab_size: int, mask: int, smoothing: float = SMOOTHING):
        self.vocab_size, self.mask, self.smoothing = vocab_size, mask, smoothing
        self.kappa = math.log1p((vocab_size - 1) * (1 - smoothing) / smoothing)
        self.one_hot = F.one_hot(samples, vocab_size).flatten(2).float()

    def time(self, t: float, s: float) -> float:
        """Any time: what a mask hides depends on the revealed tokens alone."""
        return t

    def logits(self, x_t: Tensor, alpha: Tensor | float = 0.0, sigma: Tensor | float = 0.0) -> Tensor:
        """log p(revealed tokens of x_t | x0_i) up to a constant: (P, B, n) float64, for x_t (P, B, L)."""
        revealed = F.one_hot(x_t, self.vocab_size) * (x_t != self.mask).unsqueeze(-1)
        return self.kappa * (revealed.flatten(2).to(self.one_hot) @ self.one_hot.mT).double()

    def log_prediction(self, weights: Tensor, x_t: Tensor) -> Tensor:
        """log b, the law of every token under the members, given all others: (P, B, L, V) float64.

        At a revealed position, the members that match there are weighed without it: their mass is that of the entry
        x_t^l, divided by exp(kappa).

        Args:
            weights: (P, B, n), of x_t (P, B, L).
        """
        mass = (weights.to(self.one_hot) @ self.one_hot).to(weights).unflatten(-1, (x_t.shape[-1], self.vocab_size))
        revealed = F.one_hot(x_t, self.vocab_size) * (x_t != self.mask).unsqueeze(-1)
        mass = torch.where(revealed.bool(), mass * math.exp(-self.kappa), mass)
        mass = mass / mass.sum(-1, keepdim=True)
        return torch.log((1 - self.smoothing) * mass + self.smoothing / (self.vocab_size - 1))

    def change(self, x_t: Tensor, alpha: Tensor | float, rewarded: Tensor, plain: Tensor) -> Tensor:
        """log b^r - log b: (P, B, L, V). Where a revealed token stays, it has no effect."""
        return self.log_prediction(rewarded, x_t) - self.log_prediction(plain, x_t)

    def edit(self, x0_hat: Tensor, change: Tensor, alpha: float, scale: float) -> Tensor:
        """The prediction x' proportional to x0_hat exp(scale * change): (P * B, L, V) float64, which sums to one."""
        return (x0_hat.double().log() + scale * change.view(x0_hat.shape)).softmax(-1)


def kernel_of(
    vocab_size: int | None, mask: int | None = None, smoothing: float | None = None
) -> Callable[[Tensor], Kernel]:
    """What prepares the samples (P, n, *S) of a model with that vocabulary, None for continuous data.

    Args:
        mask: the token that stands for noise; None for uniform noise.
        smoothing: e in [0, 1), the chance that a token of a member is any token; None is 0 for uniform noise, where
            matches count the less the more noise there is, and `SMOOTHING` for masks.

    Raises:
        ValueError: if continuous data are to be smoothed, or masks have no smoothing.
    """
    if vocab_size is None:
        if smoothing:
            raise ValueError(f"smoothing is of banks of tokens, got {smoothing} for continuous data: leave it out")
        return GaussianKernel
    if mask is None:
        return partial(TokenKernel, vocab_size=vocab_size, smoothing=smoothing or 0.0)
    smoothing = SMOOTHING if smoothing is None else smoothing
    if smoothing == 0:
        raise ValueError(
            "a bank guides masks by the members that agree with all revealed tokens, and soon none does: give a small "
            "smoothing above 0, such as 1e-6"
        )
    return partial(MaskKernel, vocab_size=vocab_size, mask=mask, smoothing=smoothing)
