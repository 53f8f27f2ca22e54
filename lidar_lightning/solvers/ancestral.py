"""Ancestral sampling of tokens under uniform noise."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lidar_lightning.schedules import Schedule
from lidar_lightning.solvers.tokens import TokenSolver, check_redraw, least_likely, power_times

FINAL_TIME = 1e-5


class Ancestral(TokenSolver):
    """Draws x_s from the posterior q(x_s | x_t, x0_hat) of the uniform-noise process, each token by itself.

    By Bayes' rule p(x_s = v | x_t) is proportional to (a 1[v = x_t] + (1 - a) / V) m_v with a = alpha_t / alpha_s and
    the marginal m = alpha_s x0_hat + (1 - alpha_s) / V. Source: Schiff et al., arXiv 2412.10193, eq. 14.

    Where tokens are fixed, each step also draws one of the free tokens anew from its marginal m, and the steps take the
    free tokens in turn. Such a Gibbs update leaves p(x_t | fixed tokens) as it is. It mends an error of the steps,
    whose predictions take a fixed token for a noised one (see docs/how-to/constraints.md), and costs no network call.

    Args:
        schedule: token schedule.
        steps: network calls, at least 1.
        power: times are (1 - i / steps)^power, down to 1e-5. 1 spaces them equally, as published; 2 puts more of them
            near the data, where one step must not change two tokens that depend on each other.
        redraw: in steps from times below this one, the token that is the least likely given all others is drawn anew
            from its marginal m. That mends errors of the network at no network call, but samples lose some of what the
            network holds for unlikely (see docs/redraw.md). At 0 nothing is redrawn and the law is the published one.
        fixed: see `TokenSolver`.

    Raises:
        ValueError: if there is no step, or redraw is not a time.
    """

    def __init__(
        self,
        schedule: Schedule,
        steps: int = 32,
        power: float = 2.0,
        redraw: float = 0.0,
        fixed: Tensor | None = None,
    ):
        told = f", redraw={redraw:g}" if redraw else ""
        times = power_times(steps, power).clamp_min(FINAL_TIME)
        super().__init__(schedule, times, f"Ancestral(power={power:g}{told})", fixed)
        self.redraw = check_redraw(redraw)

    def probabilities(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float) -> Tensor:
        """The posterior, in which the token that is drawn anew, if any, is forgotten."""
        return self.posterior(x0_hat, x_t, t, s, self.forgotten(x0_hat, x_t, t))

    def posterior(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float, forgotten: Tensor | None = None) -> Tensor:
        """Probabilities (B, L, V) float64 of x_s, from x0_hat (B, L, V) and tokens x_t (B, L).

        Args:
            forgotten: (B, L) bool, tokens of x_t that are ignored, so that those of x_s are draws from m.
        """
        vocab_size = x0_hat.shape[-1]
        (alpha_t, alpha_s), _ = self.schedule(torch.tensor([t, s], dtype=torch.float64))
        kept = (alpha_t / alpha_s).to(x0_hat.device).expand(*x_t.shape, 1)
        if forgotten is not None:
            kept = kept.masked_fill(forgotten[..., None], 0)
        marginal = (alpha_s * x0_hat.double() + (1 - alpha_s) / vocab_size).clamp_min(0)
        weights = marginal * (kept * F.one_hot(x_t, vocab_size) + (1 - kept) / vocab_size)
        return weights / weights.sum(-1, keepdim=True)

    def forgotten(self, x0_hat: Tensor, x_t: Tensor, t: float) -> Tensor | None:
        """The token of each row that a step from time t draws anew: (B, L) bool, or None if there is none."""
        if t < self.redraw:
            return least_likely(x0_hat, x_t, self.free(x_t))
        if self.fixed is None or not len(places := self.free(x_t).nonzero()[:, 0]):
            return None
        number = int((self.times > t).sum())
        return F.one_hot(places[number % len(places)], x_t.shape[1]).bool().expand(x_t.shape)

    def estimate(self, x0_hat: Tensor, x_t: Tensor, t: float) -> Tensor:
        """The likeliest token at each position (B, L), given all of x_t."""
        return self.start(self.posterior(x0_hat, x_t, t, 0.0).argmax(-1))
