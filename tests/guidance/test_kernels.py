"""Noise kernels: precision, layout and the leave-one-out posterior of a bank."""

import numpy as np
import pytest
import torch

from lidar_lightning.guidance.kernels import BLOCK, GaussianKernel, TokenKernel, exact_products, per_row
from tests import reference


@pytest.mark.parametrize("spread", [0.05, 0.005])
def test_logits_of_the_largest_size_are_exact_to_a_hundredth(spread):
    """D = 262144, 1 / sigma^2 = 400, similar members, float32: the logits span up to 3e5."""
    size, alpha, sigma = 262_144, 0.95, 0.05
    g = torch.Generator().manual_seed(0)
    samples = torch.randn(size, generator=g) + spread * torch.randn(24, size, generator=g)
    x_t = alpha * samples[:8] + sigma * torch.randn(8, size, generator=g)
    got = GaussianKernel(samples[None]).logits(x_t[None], alpha, sigma)[0].numpy()
    exact = [
        reference.gaussian_logits(x_t.double().numpy(), alpha, sigma, row[None].double().numpy())[:, 0]
        for row in samples
    ]
    error = got - np.stack(exact, 1)
    assert np.abs(error - error.mean(1, keepdims=True)).max() < 1e-2


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
@pytest.mark.parametrize("chunk", [None, 2])
def test_blocks_and_chunks_cover_every_coordinate(size, chunk):
    g = torch.Generator().manual_seed(1)
    samples, x_t = (torch.randn(2, rows, size, generator=g).double() for rows in (5, 3))
    bank = GaussianKernel(samples, chunk)
    logits = bank.logits(x_t, 0.6, 0.8).numpy()
    change = torch.randn(2, 3, 5, generator=g).double()
    change = change - change.mean(-1, keepdim=True)
    torch.testing.assert_close(bank.change(x_t, 0.6, change, torch.zeros_like(change)), change @ samples)
    for p in range(2):
        gap = logits[p] - reference.gaussian_logits(x_t[p].numpy(), 0.6, 0.8, samples[p].numpy())
        np.testing.assert_allclose(gap - gap[:, :1], 0, atol=1e-10)


def test_storage_follows_the_dtype_of_the_samples():
    for dtype, stored in [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64,) * 2]:
        bank = GaussianKernel(torch.randn(1, 3, 4).to(dtype))
        none = torch.zeros(1, 2, 3)
        assert bank.members.dtype == bank.change(torch.zeros(1, 2, 4), 0.5, none, none).dtype == stored
        assert bank.logits(torch.randn(1, 2, 4), 0.5, 0.5).dtype == torch.float64


@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.5, 0.95])
def test_leave_one_out_is_its_definition(alpha):
    """Weights of all matches, corrected, are the weights of the matches outside of each position."""
    g = torch.Generator().manual_seed(2)
    samples, x_t = torch.randint(3, (1, 8, 4), generator=g), torch.randint(3, (1, 5, 4), generator=g)
    bank, prior = TokenKernel(samples, 3), torch.rand(8, generator=g).double()
    weights = (bank.logits(x_t, alpha) + prior.log()).softmax(-1)
    got = bank.leave_one_out(weights, x_t, alpha)[0]
    expected = reference.leave_one_out(x_t[0].numpy(), alpha, samples[0].numpy(), prior.numpy(), 3)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    marginal = bank.log_marginal(weights, x_t, alpha)[0].exp()
    np.testing.assert_allclose(marginal, alpha * expected + (1 - alpha) / 3, atol=1e-6)


def test_token_logits_are_the_log_likelihood():
    g = torch.Generator().manual_seed(3)
    samples, x_t = torch.randint(4, (1, 6, 5), generator=g), torch.randint(4, (1, 3, 5), generator=g)
    got = TokenKernel(samples, 4).logits(x_t, 0.3)[0].log_softmax(-1).numpy()
    table = [[np.prod([reference.kernel(a, b, 0.3, 4) for a, b in zip(x, s, strict=True)]) for s in samples[0].tolist()]
             for x in x_t[0].tolist()]  # fmt: skip
    np.testing.assert_allclose(np.exp(got), np.array(table) / np.sum(table, 1, keepdims=True), atol=1e-12)


def test_per_row():
    like = torch.zeros(2, 3, 5)
    assert per_row(0.5, like).shape == (2, 3, 1)
    assert per_row(torch.arange(3), like)[1, :, 0].tolist() == [0, 1, 2]
    assert per_row(torch.arange(6).view(2, 3), like)[1, :, 0].tolist() == [3, 4, 5]


def test_exact_products_restores_the_precision():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with exact_products("cpu"), torch.autocast("cpu", enabled=False):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
