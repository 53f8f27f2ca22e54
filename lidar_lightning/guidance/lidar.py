"""LiDAR: the model's prediction plus s times the difference between those of the rewarded bank and of the bank.

    guided = model + s * (ideal(bank, tilted by lambda r) - ideal(bank))

in mean space for continuous data and in log-marginal space for tokens. Source: arXiv 2602.03211.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lidar_lightning.backbones.base import Backbone
from lidar_lightning.guidance.kernels import GaussianKernel, Kernel, exact_products
from lidar_lightning.guidance.mask_kernel import kernel_of
from lidar_lightning.guidance.settings import LiDARSettings
from lidar_lightning.guidance.tilt import Tilt, check_finite, check_tilt, effective_sample_size, tilt
from lidar_lightning.lookahead.bank import LookaheadBank, check_space, check_together
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
        samples: lookahead samples (n, *S) or (P, n, *S).
        rewards: what to raise, (n,) or (P, n), finite.
        schedule: noise schedule of the model.
        settings: strength, lambda, and when to guide.
        kernel: makes the noise kernel of samples (P, n, *S), see `kernel_of`.

    Raises:
        ValueError: if samples, rewards and kernel do not fit each other.
    """

    def __init__(
        self,
        samples: Tensor,
        rewards: Tensor,
        schedule: Schedule,
        settings: LiDARSettings = LiDARSettings(),  # noqa: B008
        kernel: Callable[[Tensor], Kernel] = GaussianKernel,
    ):
        if rewards.ndim == 1:
            samples, rewards = samples[None], rewards[None]
        if samples.shape[:2] != rewards.shape or not rewards.shape[1]:
            raise ValueError(
                f"a bank needs at least one sample and one reward each, got samples {tuple(samples.shape)} "
                f"and rewards {tuple(rewards.shape)}, prompts first"
            )
        check_finite(rewards)
        lambdas = [settings.lambda_of(row) for row in rewards]
        self.temperature = torch.tensor(lambdas, dtype=torch.float64, device=samples.device)
        check_tilt(self.temperature, rewards)
        self.rewards, self.schedule, self.settings = rewards, schedule, settings
        self.sample_shape, self.kernel = samples.shape[2:], kernel(samples)
        self.diagnostics: list[Diagnostics] = []

    @classmethod
    def from_banks(
        cls,
        banks: Sequence[LookaheadBank],
        rewards: Sequence[Tensor],
        backbone: Backbone,
        settings: LiDARSettings = LiDARSettings(),  # noqa: B008
    ) -> "LiDARGuidance":
        """The guidance of several prompts, from the bank of each and the utilities (n,) of its samples.

        Raises:
            ValueError: if there are no banks, if they differ in shape, or if they lie in another space than the
                backbone's.
        """
        check_together(banks)
        space = backbone.space
        for bank in banks:
            check_space(bank.provenance, space, repr(backbone.name))
        samples = torch.stack([bank.samples for bank in banks]).to(backbone.device)
        scores = torch.stack(list(rewards)).to(backbone.device)
        kernel = kernel_of(backbone.vocab_size, backbone.mask, settings.smoothing)
        return cls(samples, scores, backbone.schedule, settings, kernel)

    def take_diagnostics(self) -> list[dict[str, float]]:
        """What each guided step since the last call did, as rows with the number of the step."""
        rows = [{"step": step, **row._asdict()} for step, row in enumerate(self.diagnostics)]
        self.diagnostics.clear()
        return rows

    def __call__(self, x_t: Tensor, t: float, s: float, x0_hat: Tensor) -> Tensor:
        """The guided prediction, like x0_hat, for a step from time t to s."""
        if not self.settings.guides(t):
            return x0_hat
        alpha, tilted = self.tilt(x_t, self.kernel.time(t, s))
        guided = self.kernel.edit(x0_hat, tilted.change, alpha, self.settings.scale)
        self._record(t, tilted, guided - x0_hat)
        return guided

    def change(self, x_t: Tensor, t: float) -> Tensor | None:
        """What guidance adds to the clean prediction of continuous data: s * shift (B, *S), or None if it rests at t.

        Raises:
            ValueError: if x_t does not fit the banks.
        """
        if not self.settings.guides(t):
            return None
        tilted = self.tilt(x_t, t)[1]
        change = self.settings.scale * tilted.change.reshape(x_t.shape)
        self._record(t, tilted, change)
        return change

    def tilt(self, x_t: Tensor, t: float) -> tuple[float, Tilt]:
        """alpha at time t, and the weights of the banks there, as seen from x_t (P * B, *S)."""
        alpha, sigma = self._coefficients(t)
        return alpha, tilt(self.kernel, self._by_prompt(x_t), alpha, sigma, self.rewards, self.temperature)

    def lookahead_reward(self, x_t: Tensor, t: float) -> Tensor:
        """The reward that the bank expects of x_t (B, *S), log sum_i w_i exp(lambda r_i): (B,) float64 (2602.03211)."""
        with exact_products(x_t.device.type):
            logits = self.kernel.logits(self._by_prompt(x_t), *self._coefficients(t))
        values = (self.temperature[:, None] * self.rewards)[:, None]
        return ((logits + values).logsumexp(-1) - logits.logsumexp(-1)).flatten()

    def _coefficients(self, t: float) -> tuple[float, float]:
        alpha, sigma = self.schedule(torch.tensor(t, dtype=torch.float64))
        return alpha.item(), sigma.item()

    def _by_prompt(self, x_t: Tensor) -> Tensor:
        """x_t (P * B, *S) as (P, B, *S)."""
        prompts = len(self.rewards)
        if x_t.shape[1:] != self.sample_shape or len(x_t) % prompts:
            raise ValueError(
                f"x_t {tuple(x_t.shape)} does not fit the banks of {prompts} prompts, whose samples are "
                f"{tuple(self.sample_shape)}"
            )
        return x_t.unflatten(0, (prompts, -1))

    def _record(self, t: float, tilted: Tilt, change: Tensor) -> None:
        ess, ess_r = (effective_sample_size(w).mean().item() for w in (tilted.plain, tilted.rewarded))
        self.diagnostics.append(Diagnostics(t, ess, ess_r, change.flatten(1).norm(dim=1).mean().item()))


__all__ = ["Diagnostics", "LiDARGuidance"]
