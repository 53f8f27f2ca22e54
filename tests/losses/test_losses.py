"""Losses of token diffusion against explicit sums and by enumeration."""

import math

import numpy as np
import pytest
import torch

from lidar_lightning.losses.udlm import nelbo, posterior_cross_entropy
from lidar_lightning.schedules import LogLinear
from tests import reference


def random_case(alpha, vocab=5):
    g = torch.Generator().manual_seed(0)
    x_t, x0 = (torch.randint(vocab, (4, 3), generator=g) for _ in range(2))
    x_t[0] = x0[0]
    return (
        torch.randn(4, 3, vocab, generator=g).double().log_softmax(-1),
        x_t,
        x0,
        torch.full((4,), alpha, dtype=torch.float64),
    )


@pytest.mark.parametrize("alpha", [0.01, 0.3, 0.7, 0.99])
def test_nelbo_is_the_published_sum(alpha):
    log_x, x_t, x0, level = random_case(alpha)
    got = nelbo(log_x, x_t, x0, level, -0.999)
    expected = reference.udlm_nelbo(log_x.exp().numpy(), x_t.numpy(), x0.numpy(), level.numpy(), -0.999)
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    assert (got > 0).all()


def test_nelbo_of_a_certain_prediction_is_zero():
    _, x_t, x0, level = random_case(0.4)
    certain = torch.nn.functional.one_hot(x0, 5).double().log()
    torch.testing.assert_close(nelbo(certain, x_t, x0, level, -1.0), torch.zeros(4).double(), rtol=0, atol=1e-12)


def test_nelbo_of_independent_tokens_is_their_entropy():
    """The leave-one-out posterior of one token is its prior; the integral over t of the expected NELBO its entropy."""
    prior = torch.tensor([0.6, 0.3, 0.1]).double()
    schedule = LogLinear(eps=0.0)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    total = 0.0
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        alpha = schedule(torch.tensor([node], dtype=torch.float64))[0]
        for i in range(3):
            for j in range(3):
                value = nelbo(prior.log().view(1, 1, 3), torch.tensor([[j]]), torch.tensor([[i]]), alpha, -1.0)
                total += weight * prior[i].item() * reference.kernel(j, i, alpha.item(), 3) * value.item()
    assert total == pytest.approx(-(prior * prior.log()).sum().item(), rel=1e-3)


def test_cross_entropy_is_bayes_rule():
    log_x, x_t, x0, level = random_case(0.3)
    likelihood = 0.3 * np.eye(5)[x_t] + 0.7 / 5
    posterior = log_x.exp().numpy() * likelihood
    posterior /= posterior.sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(posterior, x0.numpy()[..., None], -1)).sum((1, 2))
    np.testing.assert_allclose(posterior_cross_entropy(log_x, x_t, x0, level), expected, rtol=1e-10)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("loss", ["nelbo", "posterior_cross_entropy"])
def test_losses_are_smallest_at_the_leave_one_out_posterior(loss, alpha):
    """L = 2, V = 3, everything enumerated: the expected gradient in the logits is zero there, and only there."""
    states = reference.every_sequence(2, 3)
    data = np.random.default_rng(0).dirichlet(np.ones(9))
    chance = data[:, None] * reference.corruption(alpha, states, 3)
    exact = torch.from_numpy(reference.leave_one_out(states, alpha, states, data, 3)).log()
    x0, x_t = (torch.from_numpy(states)[k] for k in np.meshgrid(range(9), range(9), indexing="ij"))
    x0, x_t, row = x0.flatten(0, 1), x_t.flatten(0, 1), torch.arange(9).repeat(9)

    def expected(logits):
        args = (logits.log_softmax(-1)[row], x_t, x0, torch.full((81,), alpha, dtype=torch.float64))
        values = nelbo(*args, -1.0) if loss == "nelbo" else posterior_cross_entropy(*args)
        return (torch.from_numpy(chance).flatten() * values).sum()

    logits = exact.clone().requires_grad_()
    smallest = expected(logits)
    (gradient,) = torch.autograd.grad(smallest, logits)
    assert gradient.abs().max() < 1e-12
    g = torch.Generator().manual_seed(1)
    for size in (0.05, 1.0):
        assert expected(exact + size * torch.randn(exact.shape, generator=g)) > smallest
    if loss == "posterior_cross_entropy":
        conditional = chance / chance.sum(0)
        tokens = [sum(conditional[i] * (states[i, k] == v) for i in range(9) if states[i, k] == v)
                  for k in range(2) for v in range(3)]  # fmt: skip
        entropy = -sum((chance.sum(0) * p * np.log(p)).sum() for p in map(np.array, tokens))
        assert math.isclose(smallest.item(), entropy, rel_tol=1e-9)
