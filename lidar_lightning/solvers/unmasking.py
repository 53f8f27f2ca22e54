"""Ancestral sampling of tokens under absorbing-state noise: masks are revealed one after the other."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lidar_lightning.schedules import Schedule
from lidar_lightning.solvers.tokens import TokenSolver, check_redraw, least_likely, power_times


class Unmasking(TokenSolver):
    """Draws x_s from the posterior q(x_s | x_t, x0_hat) of the masking process, each token by itself.

    A masked token stays masked with probability (1 - alpha_s) / (1 - alpha_t) and otherwise becomes a draw from x0_hat;
    a revealed token stays. Source: Sahoo et al., arXiv 2406.07524, eq. 6.

    Args:
        schedule: token schedule.
        steps: network calls, at least 1.
        mask: the token that stands for noise.
        power: times are (1 - i / steps)^power. 1 spaces them equally, as published; 2 leaves more of them for the end.
        redraw: in steps from times below this one, the revealed token that x0_hat holds for the least likely is drawn
            anew from x0_hat, at no network call (see docs/redraw.md). At a revealed position x0_hat must then be the
            law of the token given all others. At 0 nothing is redrawn and the law is the published one.
        fixed: see `TokenSolver`; fixed tokens are revealed from the first time on, so that samples follow the law of
            the data given these tokens.

    Raises:
        ValueError: if there is no step, or redraw is not a time.
    """

    def __init__(
        self,
        schedule: Schedule,
        steps: int,
        mask: int,
        power: float = 1.0,
        redraw: float = 0.0,
        fixed: Tensor | None = None,
    ):
        told = f", redraw={redraw:g}" if redraw else ""
        times = power_times(steps, power)
        super().__init__(schedule, times, f"Unmasking(mask={mask}, power={power:g}{told})", fixed)
        self.mask, self.redraw = mask, check_redraw(redraw)

    def posterior(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float) -> Tensor:
        """Probabilities (B, L, V) float64 of x_s, from x0_hat (B, L, V) and tokens x_t (B, L)."""
        _, (sigma_t, sigma_s) = self.schedule(torch.tensor([t, s], dtype=torch.float64))
        stays = torch.where(x_t == self.mask, (sigma_s / sigma_t).item(), 1.0)[..., None]
        return stays * F.one_hot(x_t, x0_hat.shape[-1]) + (1 - stays) * x0_hat.double()

    def probabilities(self, x0_hat: Tensor, x_t: Tensor, t: float, s: float) -> Tensor:
        """The posterior, except at the token that is drawn anew from x0_hat."""
        law = self.posterior(x0_hat, x_t, t, s)
        if t >= self.redraw:
            return law
        drawn = least_likely(x0_hat, x_t, self.free(x_t) & (x_t != self.mask))
        return torch.where(drawn[..., None], x0_hat.double(), law)

    def estimate(self, x0_hat: Tensor, x_t: Tensor, t: float) -> Tensor:
        """The revealed tokens, and the likeliest token at each masked position: (B, L)."""
        return torch.where(x_t == self.mask, x0_hat.argmax(-1), x_t)
