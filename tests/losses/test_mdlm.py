"""The losses of masked diffusion, by enumeration."""

import numpy as np
import pytest
import torch

from lidar_lightning.losses.mdlm import masked_cross_entropy, nelbo
from lidar_lightning.schedules import LogLinear
from tests.exact import DATA, LENGTH, STATES
from tests.masks import MASK, posterior


def expected(loss):
    """The mean of a loss over data and masks, integrated over t, for the exact denoiser."""
    schedule, total = LogLinear(eps=0.0), 0.0
    nodes, weights = np.polynomial.legendre.leggauss(8)  # polynomials in t, but for the rate, which cancels
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        alpha = schedule(torch.tensor([node], dtype=torch.float64))[0]
        for hidden in np.ndindex(*[2] * LENGTH):
            x_t = np.where(np.array(hidden, bool), MASK, STATES)
            chance = np.prod([1 - alpha.item() if one else alpha.item() for one in hidden])
            log_x = torch.from_numpy(posterior(x_t, STATES, DATA)).clamp_min(1e-300).log()
            total += weight * chance * (DATA @ loss(log_x, torch.from_numpy(STATES), alpha).numpy())
    return total


def test_the_nelbo_of_the_exact_denoiser_is_the_entropy_of_the_data():
    """The bound is tight: any order of revealing tokens is a factorisation of the joint law."""
    entropy = -(DATA * np.log(DATA)).sum()
    assert expected(lambda log_x, x0, alpha: nelbo(log_x, x0, alpha, -1.0)) == pytest.approx(entropy, rel=1e-6)


def test_the_nelbo_is_the_rate_times_the_cross_entropy_of_masked_tokens():
    log_x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    x0, alpha = torch.tensor([[1, 2, 3], [0, 0, 4]]), torch.tensor([0.25, 0.5])
    log_x[0, 1] = torch.full((5,), -torch.inf)
    log_x[0, 1, 2] = 0.0  # revealed
    wanted = -(log_x[0, 0, 1] + log_x[0, 2, 3]), -(log_x[1, 0, 0] + log_x[1, 1, 0] + log_x[1, 2, 4])
    torch.testing.assert_close(masked_cross_entropy(log_x, x0), torch.stack(wanted))
    torch.testing.assert_close(nelbo(log_x, x0, alpha, -0.9), 0.9 / (1 - alpha) * torch.stack(wanted))
