"""Noise kernels: the likelihood q(x_t | x0_i) of every member of a bank at once, as one matrix product.

A bank of n clean samples is itself a denoiser. For both kinds of noise its posterior is a softmax of logits that are
affine in an inner product <x_t, x0_i>, and its prediction is the weighted mean of its members:

    Gaussian     l_i = (alpha <x_t, x0_i> - alpha^2 |x0_i|^2 / 2) / sigma^2      (the |x_t|^2 of the square cancels)
    categorical  l_i = kappa * matches(x_t, x0_i),  kappa = log(1 + V alpha / (1 - alpha))

so the (B, n, *S) tensor of differences is never built. A leading prompt dimension P holds several banks at once.
"""

import contextlib
from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ALPHA = 1 - 1e-6
MIN_SIGMA = 1e-6
BLOCK = 256


class Kernel(Protocol):
    """The members of P banks, prepared for one kind of noise."""

    def time(self, t: float, s: float) -> float:
        """At which time of a step from t to s the closed form holds."""
        ...

    def logits(self, x_t: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """log q(x_t | x0_i) up to a constant: (P, B, n) float64, for x_t (P, B, *S)."""
        ...

    def change(self, x_t: Tensor, alpha: Tensor | float, rewarded: Tensor, plain: Tensor) -> Tensor:
        """What the rewarded bank says beyond the bank, from their weights at x_t, both (P, B, n)."""
        ...

    def edit(self, x0_hat: Tensor, change: Tensor, alpha: float, scale: float) -> Tensor:
        """The prediction x0_hat (P * B, ...) moved by `scale` times that change."""
        ...


@contextlib.contextmanager
def exact_products(device_type: str) -> Iterator[None]:
    """Full float32 matrix products: no autocast, no TF32. The logits are differences of large numbers."""
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(previous)


def per_row(value: Tensor | float, like: Tensor) -> Tensor:
    """A scalar, (B,) or (P, B) coefficient in the shape that multiplies rows (P, B, D)."""
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    return value.expand(like.shape[:2]).unsqueeze(-1)


class GaussianKernel:
    """Continuous samples (P, n, *S), centred once so that the products of similar members keep their digits.

    Rows are taken in K blocks of d <= 256 coordinates: float32 products of a block are summed in float64, so that
    differences of logits are good to 1e-2 at D = 262144, 1 / sigma^2 = 400 and a spread of 0.05.

    Args:
        samples: clean samples, floating point; float64 is kept, anything else is stored as float32.
        chunk: members per product; the bank may then lie on another device than x_t. None takes all at once.

    Raises:
        ValueError: if the samples are no floating-point numbers.
    """

    def __init__(self, samples: Tensor, chunk: int | None = None):
        if not samples.is_floating_point():
            raise ValueError(f"a Gaussian kernel needs floating-point samples, got {samples.dtype}: use TokenKernel")
        flat = samples.flatten(2).to(torch.promote_types(samples.dtype, torch.float32))
        self.size, self.chunk, self.dtype = flat.shape[-1], chunk or flat.shape[1], flat.dtype
        # Any centre gives the same weights, if x_t and members are moved by the same.
        self.centre = flat.mean(dim=1, keepdim=True)
        self.members = self._padded(flat - self.centre)
        norms = torch.linalg.vector_norm(self.members.unflatten(-1, (self._blocks, -1)), dim=-1)
        self.half_norms = norms.double().square().sum(-1).unsqueeze(1) / 2

    @property
    def _blocks(self) -> int:
        return -(-self.size // BLOCK)

    def _padded(self, rows: Tensor) -> Tensor:
        """Rows (P, R, D) with zeros up to a whole number of equal blocks."""
        missing = -self.size % self._blocks
        return F.pad(rows, (0, missing)) if missing else rows

    def _by_block(self, rows: Tensor) -> Tensor:
        """Padded rows as a view (P, K, R, d)."""
        return rows.unflatten(-1, (self._blocks, -1)).transpose(1, 2)

    def time(self, t: float, s: float) -> float:
        """The time of x_t."""
        return t

    def logits(self, x_t: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """log q(x_t | x0_i) up to a constant: (P, B, n) float64, for x_t (P, B, *S)."""
        x = x_t.flatten(2).to(self.dtype)
        x = self._padded(torch.addcmul(x, per_row(alpha, x), self.centre.to(x.device), value=-1))
        x, parts = self._by_block(x), self._by_block(self.members).split(self.chunk, dim=2)
        products = torch.cat([(x @ part.to(x.device).mT).sum(1, dtype=torch.float64) for part in parts], dim=-1)
        alpha, sigma = per_row(alpha, products), per_row(sigma, products)
        exponent = alpha * products - alpha.square() * self.half_norms.to(x.device)
        return exponent / sigma.clamp_min(MIN_SIGMA).square()

    def change(self, x_t: Tensor, alpha: Tensor | float, rewarded: Tensor, plain: Tensor) -> Tensor:
        """The shift Sum_i (w^r_i - w_i) x0_i, like x_t (P, B, *S), in the dtype of the samples."""
        changes = (rewarded - plain).to(self.dtype).split(self.chunk, -1)
        parts = self.members.split(self.chunk, dim=1)
        shifts = [change @ part.to(change.device) for change, part in zip(changes, parts, strict=True)]
        return sum(shifts[1:], shifts[0])[..., : self.size].reshape(x_t.shape)

    def edit(self, x0_hat: Tensor, change: Tensor, alpha: float, scale: float) -> Tensor:
        """x0_hat + scale * shift (P * B, *S)."""
        return x0_hat + (scale * change).reshape(x0_hat.shape).to(x0_hat)


class TokenKernel:
    """Token samples (P, n, L) int64 under uniform noise over a vocabulary of V tokens, kept one-hot.

    Args:
        samples: clean tokens in [0, V).
        vocab_size: V.
        smoothing: e in [0, 1), the chance that a token of a member is any token. Noise does the same to it with chance
            1 - alpha, so that together they are noise of (1 - e) alpha.
    """

    def __init__(self, samples: Tensor, vocab_size: int, smoothing: float = 0.0):
        self.vocab_size, self.kept = vocab_size, 1 - smoothing
        self.one_hot = F.one_hot(samples, vocab_size).flatten(2).float()

    def time(self, t: float, s: float) -> float:
        """The time of the step's result: tokens are guided in their marginal there."""
        return s

    def kappa(self, alpha: Tensor | float, like: Tensor) -> Tensor:
        """log of q(x_t = x0) / q(x_t = v) for any other v: log(1 + V alpha / (1 - alpha)), (P, B, 1)."""
        alpha = (self.kept * per_row(alpha, like.double())).clamp(max=MAX_ALPHA)
        return torch.log1p(self.vocab_size * alpha / (1 - alpha))

    def logits(self, x_t: Tensor, alpha: Tensor | float, sigma: Tensor | float = 0.0) -> Tensor:
        """log q(x_t | x0_i) up to a constant: (P, B, n) float64, for x_t (P, B, L); sigma is 1 - alpha."""
        x = F.one_hot(x_t, self.vocab_size).flatten(2).to(self.one_hot)
        return self.kappa(alpha, x) * (x @ self.one_hot.mT)

    def leave_one_out(self, weights: Tensor, x_t: Tensor, alpha: Tensor | float) -> Tensor:
        """The prediction of the bank for each position from the *other* positions: (P, B, L, V).

        b[l, v] = Sum_i w_i^{-l} 1[x0_i^l = v] with w^{-l} the weights of the matches outside of l. A member that
        matches at l has x0_i^l = x_t^l, so leaving l out divides just the entry v = x_t^l by exp(kappa).
        """
        mass = (weights.to(self.one_hot) @ self.one_hot).to(weights).unflatten(-1, (x_t.shape[-1], self.vocab_size))
        own = F.one_hot(x_t, self.vocab_size).bool()
        mass = torch.where(own, mass * torch.exp(-self.kappa(alpha, weights)).unsqueeze(-1), mass)
        return mass / mass.sum(-1, keepdim=True)

    def log_marginal(self, weights: Tensor, x_t: Tensor, alpha: Tensor | float) -> Tensor:
        """log(V alpha b + 1 - alpha) - log V: the law of a noised token under the bank, (P, B, L, V)."""
        level = (self.kept * per_row(alpha, weights)).clamp(max=MAX_ALPHA).unsqueeze(-1)
        return torch.log(level * self.leave_one_out(weights, x_t, alpha) + (1 - level) / self.vocab_size)

    def change(self, x_t: Tensor, alpha: Tensor | float, rewarded: Tensor, plain: Tensor) -> Tensor:
        """log m^r - log m: the marginals of a noised token under the rewarded bank and the bank, (P, B, L, V)."""
        return self.log_marginal(rewarded, x_t, alpha) - self.log_marginal(plain, x_t, alpha)

    def edit(self, x0_hat: Tensor, change: Tensor, alpha: float, scale: float) -> Tensor:
        """Tilts the marginal m = alpha x0_hat + (1 - alpha) / V of a token: log m' = log m + scale * change.

        m' is handed back as the prediction that has it, (m' - (1 - alpha) / V) / alpha: it sums to one, but an entry
        may be negative. Any solver that steps through the marginal recovers m' exactly.
        """
        floor = (1 - alpha) / self.vocab_size
        marginal = alpha * x0_hat.double() + floor
        return ((marginal.log() + scale * change.view(x0_hat.shape)).softmax(-1) - floor) / alpha
