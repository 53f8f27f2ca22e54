"""Training losses of absorbing-state token diffusion, per sequence.

`log_x` is the log of the denoiser's prediction p(x0^l = v | revealed tokens); at revealed positions it is certain of
the token there, so that only masked ones add to a loss.
"""

from torch import Tensor


def masked_cross_entropy(log_x: Tensor, x0: Tensor) -> Tensor:
    """-Sum over masked positions of log p(x0^l | revealed tokens), in nats: (B,).

    Args:
        log_x: predicted log-probabilities (B, L, V), 0 at the token of a revealed position.
        x0: clean tokens (B, L) int64.
    """
    return -log_x.gather(-1, x0[..., None]).sum((-2, -1))


def nelbo(log_x: Tensor, x0: Tensor, alpha: Tensor, slope: float) -> Tensor:
    """One-sample estimate in nats of the continuous-time negative evidence bound: (B,).

    In a time dt, a token that is masked at t, with probability 1 - alpha, is revealed with probability
    -slope dt / (1 - alpha) on the way back; what it then costs is its cross-entropy:

        E over t and x_t of -slope / (1 - alpha) * masked_cross_entropy .

    Args:
        log_x, x0: as `masked_cross_entropy`.
        alpha: (B,) in [0, 1); slope: d alpha / dt, negative.

    Source: Sahoo et al., arXiv 2406.07524, eq. 10.
    """
    return -slope / (1 - alpha) * masked_cross_entropy(log_x, x0)
