"""LiDAR: the model plus s times the difference between the rewarded bank and the bank, as denoisers.

    guided = model + s * (ideal(bank, tilted by lambda r) - ideal(bank))

in mean space for continuous data and in log-marginal space for tokens. Source: arXiv 2602.03211.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.bank import LookaheadBank, check_space, check_together
from lidar_lightning.functional import (
    check_finite,
    check_tilt,
    effective_sample_size,
    temperature_for_ess,
    tilted_weights,
)
from lidar_lightning.kernels import GaussianBank, TokenBank, exact_products
from lidar_lightning.schedules import Schedule


class Diagnostics(NamedTuple):
    """What one guided step did, averaged over the batch."""

    t: float
    ess: float
    """Effective sample size of the weights w of the bank, from 1 to n."""
    ess_r: float
    """That of the rewarded weights w^r."""
    shift: float
    """Norm of the change of the prediction, per sample."""


class LiDARGuidance:
    """Edits a prediction by the closed form of a scored bank; no gradient, no network call.

    The bank is prepared once: continuous samples are centred, tokens made one-hot. A batch may hold several prompts,
    equally many samples each, in the order of the banks: x_t is then (P * B, *S).

    Args:
        samples: lookahead samples (n, *S) or (P, n, *S); floating point, or int64 tokens with `vocab_size`.
        rewards: what to raise, (n,) or (P, n), finite.
        schedule: noise schedule of the model.
        scale: s; 1 samples the rewarded distribution as n grows, more sharpens.
        temperature: lambda >= 0, the inverse temperature of the reward.
        ess: instead of lambda, the effective sample size of softmax(lambda r) as a fraction of n, in (0, 1]; see
            `temperature_for_ess`, which sees the log_weights.
        start, stop: guide while stop < t <= start, in [0, 1].
        vocab_size: of tokens.
        chunk: bank members per matrix product (continuous data).
        log_weights: what each member counts for, (n,) or (P, n), if they are no even draws of the model; the
            weights are then softmax(l + log_weights), and with the reward softmax(l + log_weights + lambda r).

    Raises:
        ValueError: unless exactly one of temperature and ess is given, and all are in range and fit each other.
    """

    def __init__(
        self,
        samples: Tensor,
        rewards: Tensor,
        schedule: Schedule,
        scale: float = 1.0,
        temperature: float | None = None,
        ess: float | None = None,
        start: float = 1.0,
        stop: float = 0.0,
        vocab_size: int | None = None,
        chunk: int | None = None,
        log_weights: Tensor | None = None,
    ):
        if rewards.ndim == 1:
            samples, rewards = samples[None], rewards[None]
        if samples.shape[:2] != rewards.shape or not rewards.shape[1]:
            raise ValueError(
                f"a bank needs at least one sample and one reward each, got samples {tuple(samples.shape)} "
                f"and rewards {tuple(rewards.shape)}, prompts first"
            )
        check_finite(rewards)
        check_settings(scale, temperature, ess, start, stop)
        even = torch.zeros_like(rewards, dtype=torch.float64)
        self.log_weights = even if log_weights is None else log_weights.to(even).expand_as(even)
        if ess is not None:
            pairs = zip(rewards, self.log_weights, strict=True)
            lambdas = [temperature_for_ess(row, ess, weights) for row, weights in pairs]
        else:
            lambdas = [float(temperature or 0.0)] * len(rewards)
        self.temperature = torch.tensor(lambdas, dtype=torch.float64, device=samples.device)
        check_tilt(self.temperature, rewards)
        self.rewards, self.schedule, self.scale, self.start, self.stop = rewards, schedule, scale, start, stop
        self.sample_shape = samples.shape[2:]
        self.bank: GaussianBank | TokenBank
        if samples.is_floating_point():
            self.bank = GaussianBank(samples, chunk)
        elif vocab_size is None:
            raise ValueError("token samples need the vocab_size of their model")
        else:
            self.bank = TokenBank(samples, vocab_size)
        self.diagnostics: list[Diagnostics] = []

    @classmethod
    def from_banks(
        cls, banks: Sequence[LookaheadBank], rewards: Sequence[Tensor], backbone: Backbone, **settings: Any
    ) -> "LiDARGuidance":
        """The guidance of several prompts: a bank and what to raise (n,) of each, and the settings of the class.

        Raises:
            ValueError: if there are none, they differ in shape, or lie in another space than the backbone works in.
        """
        check_together(banks)
        space = backbone.space
        for bank in banks:
            check_space(bank.provenance, space, repr(backbone.name))
        samples = torch.stack([bank.samples for bank in banks]).to(backbone.device)
        scores = torch.stack(list(rewards)).to(backbone.device)
        return cls(samples, scores, backbone.schedule, vocab_size=getattr(backbone, "vocab_size", None), **settings)

    def take_diagnostics(self) -> list[dict[str, float]]:
        """What each step did since the last call, as rows with a step number."""
        rows = [{"step": step, **row._asdict()} for step, row in enumerate(self.diagnostics)]
        self.diagnostics.clear()
        return rows

    def __call__(self, x_t: Tensor, t: float, s: float, x0_hat: Tensor) -> Tensor:
        """The guided prediction, like x0_hat; tokens are guided in their marginal at time s (see `_edit_tokens`)."""
        if isinstance(self.bank, GaussianBank):
            change = self.change(x_t, t)
            return x0_hat if change is None else x0_hat + change.to(x0_hat)
        if not self.stop < t <= self.start:
            return x0_hat
        x = self._by_prompt(x_t)
        alpha = self.schedule(torch.tensor(s, dtype=torch.float64))[0].item()
        with exact_products(x_t.device.type):
            weights = tilted_weights(self._logits(x, s), self.rewards, self.temperature)
            guided = self._edit_tokens(x, x0_hat, alpha, weights)
        self._record(t, weights, guided - x0_hat)
        return guided

    def change(self, x_t: Tensor, t: float) -> Tensor | None:
        """What guidance adds to the clean prediction of continuous data: s * shift (B, *S), or None if it is off at t.

        Raises:
            ValueError: if x_t does not fit the banks.
        """
        assert isinstance(self.bank, GaussianBank)
        if not self.stop < t <= self.start:
            return None
        x = self._by_prompt(x_t)
        with exact_products(x_t.device.type):
            weights = tilted_weights(self._logits(x, t), self.rewards, self.temperature)
            change = self.bank.shift(self.scale * (weights[0] - weights[1])).reshape(x_t.shape)
        self._record(t, weights, change)
        return change

    def lookahead_reward(self, x_t: Tensor, t: float) -> Tensor:
        """log sum_i w_i exp(lambda r_i), what the bank expects of x_t (B, *S): (B,) float64 (arXiv 2602.03211)."""
        with exact_products(x_t.device.type):
            logits = self._logits(self._by_prompt(x_t), t)
            tilt = (self.temperature[:, None] * self.rewards)[:, None]
            return ((logits + tilt).logsumexp(-1) - logits.logsumexp(-1)).flatten()

    def _logits(self, x: Tensor, t: float) -> Tensor:
        """log of what each member counts for and of q(x | x0_i) at time t: (P, B, n), for x (P, B, *S)."""
        alpha, sigma = (c.item() for c in self.schedule(torch.tensor(t, dtype=torch.float64)))
        gaussian = isinstance(self.bank, GaussianBank)
        logits = self.bank.logits(x, alpha, sigma) if gaussian else self.bank.logits(x, alpha)  # type: ignore[call-arg]
        return logits + self.log_weights[:, None]

    def _by_prompt(self, x_t: Tensor) -> Tensor:
        """x_t (P * B, *S) as (P, B, *S)."""
        prompts = len(self.rewards)
        if x_t.shape[1:] != self.sample_shape or len(x_t) % prompts:
            raise ValueError(
                f"x_t {tuple(x_t.shape)} does not fit the banks of {prompts} prompts, whose samples are "
                f"{tuple(self.sample_shape)}"
            )
        return x_t.unflatten(0, (prompts, -1))

    def _edit_tokens(self, x: Tensor, x0_hat: Tensor, alpha: float, weights: tuple[Tensor, Tensor]) -> Tensor:
        """Tilts the marginal m = alpha x0_hat + (1 - alpha) / V at time s: log m' = log m + s (log m^r - log m^bank).

        m' is handed back as the prediction that has it, (m' - (1 - alpha) / V) / alpha: it sums to one, but an entry
        may be negative. Any solver that steps through the marginal recovers m' exactly.
        """
        assert isinstance(self.bank, TokenBank)
        rewarded, plain = (self.bank.log_marginal(w, x, alpha) for w in weights)
        floor = (1 - alpha) / self.bank.vocab_size
        marginal = alpha * x0_hat.double() + floor
        log_marginal = marginal.log() + self.scale * (rewarded - plain).view(x0_hat.shape)
        return (log_marginal.softmax(-1) - floor) / alpha

    def _record(self, t: float, weights: tuple[Tensor, Tensor], change: Tensor) -> None:
        ess_r, ess = (effective_sample_size(w).mean().item() for w in weights)
        self.diagnostics.append(Diagnostics(t, ess, ess_r, change.flatten(1).norm(dim=1).mean().item()))


def check_settings(scale: float, temperature: float | None, ess: float | None, start: float, stop: float) -> None:
    """Raises ValueError unless the settings of the guidance are complete and in range."""
    if (temperature is None) == (ess is None):
        raise ValueError(f"give either temperature (lambda) or ess, got temperature={temperature} and ess={ess}")
    if temperature is not None and not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature (lambda) must be finite and at least 0, got {temperature}")
    if ess is not None and not 0 < ess <= 1:
        raise ValueError(f"ess is a fraction of the bank in (0, 1], got {ess}")
    if not 0 <= scale < float("inf"):
        raise ValueError(f"scale must be finite and at least 0, got {scale}")
    if not 0 <= stop <= start <= 1:
        raise ValueError(f"guidance runs while stop < t <= start with 0 <= stop <= start <= 1, got {stop} and {start}")


__all__ = ["Diagnostics", "LiDARGuidance", "check_settings"]
