"""Training losses of uniform-noise token diffusion, per sequence.

`log_x` is the log of the denoiser's leave-one-out prediction p(x0^l = v | x_t without l). Both losses are smallest at
exactly that posterior, so that either trains the same model.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_TIME = 1e-3
"""The earliest time of a draw of the NELBO, whose rate has no bound at t = 0."""


def nelbo(log_x: Tensor, x_t: Tensor, x0: Tensor, alpha: Tensor, slope: float) -> Tensor:
    """One-sample estimate in nats of the continuous-time negative evidence bound, summed over positions: (B,).

    With x_bar = V alpha x + 1 - alpha for the clean one-hot x and likewise for the prediction, and i the token x_t:
    -slope / (V alpha) * [ Sum_j (x_bar_j / x_bar_i) (log x_bar_j / x_bar_i - log xp_bar_j / xp_bar_i)
                           - V / x_bar_i + V / xp_bar_i ].

    Args:
        log_x: predicted log-probabilities (B, L, V).
        x_t, x0: noised and clean tokens (B, L) int64.
        alpha: (B,) in (0, 1); slope: d alpha / dt, negative.

    Source: Schiff et al., arXiv 2412.10193, eq. 18.
    """
    vocab_size = log_x.shape[-1]
    alpha = alpha[:, None, None]
    x_bar = vocab_size * alpha * F.one_hot(x0, vocab_size) + 1 - alpha
    xp_bar = vocab_size * alpha * log_x.exp() + 1 - alpha
    own, own_p = x_bar.gather(-1, x_t[..., None]), xp_bar.gather(-1, x_t[..., None])
    divergence = (x_bar / own * ((x_bar / own).log() - (xp_bar / own_p).log())).sum(-1, keepdim=True)
    rate = divergence - vocab_size / own + vocab_size / own_p
    return (-slope / (vocab_size * alpha) * rate).sum((-2, -1))


def posterior_cross_entropy(log_x: Tensor, x_t: Tensor, x0: Tensor, alpha: Tensor) -> Tensor:
    """-log p(x0 | x_t) in nats, summed over positions: (B,).

    Bayes' rule turns the leave-one-out prediction into the full posterior by one logit: p(x0^l = v | x_t) is
    proportional to x_v exp(kappa 1[v = x_t^l]), kappa = log(1 + V alpha / (1 - alpha)). The cross-entropy of that is
    a proper score with a much lower variance than the NELBO estimate; weighted by 1 / (1 - alpha), which gives every
    noised token the same weight as in the NELBO, it also reaches a lower NELBO for the same compute.

    The arguments are those of `nelbo`.
    """
    vocab_size = log_x.shape[-1]
    kappa = torch.log1p(vocab_size * alpha / (1 - alpha))
    posterior = (log_x + kappa[:, None, None] * F.one_hot(x_t, vocab_size)).log_softmax(-1)
    return -posterior.gather(-1, x0[..., None]).sum((-2, -1))
