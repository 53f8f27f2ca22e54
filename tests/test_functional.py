"""The closed forms against their definitions (tests/reference.py) and their limits."""

import math

import numpy as np
import pytest
import torch

from lidar_lightning.functional import (
    effective_sample_size,
    lidar_log_ratio,
    lidar_shift,
    lidar_weights,
    temperature_for_ess,
)
from lidar_lightning.guidance.kernels import GaussianKernel
from tests import reference

ALPHA, SIGMA = 0.8, 0.6


@pytest.fixture
def case():
    """x_t (5, 2, 3), samples (7, 2, 3) and rewards (7,) in float64."""
    rng = np.random.default_rng(0)
    return [torch.from_numpy(rng.standard_normal(shape)) for shape in [(5, 2, 3), (7, 2, 3), (7,)]]


def tokens(seed=0, batch=4, length=5, n=9, vocab=6):
    g = torch.Generator().manual_seed(seed)
    x_t, samples = (torch.randint(vocab, (rows, length), generator=g) for rows in (batch, n))
    return x_t, samples, torch.randn(n, generator=g, dtype=torch.float64), vocab


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("temperature", [0.5, 20.0])
def test_shift_and_weights_agree_with_the_broadcast_form(case, alpha, temperature):
    x_t, samples, rewards = case
    sigma = math.sqrt(1 - alpha**2)
    shift = lidar_shift(x_t, alpha, sigma, samples, rewards, temperature)
    expected = reference.gaussian_shift(x_t.numpy(), alpha, sigma, samples.numpy(), rewards.numpy(), temperature)
    np.testing.assert_allclose(shift, expected, rtol=0, atol=1e-12)
    logits = reference.gaussian_logits(x_t.numpy(), alpha, sigma, samples.numpy())
    w_r, w = lidar_weights(x_t, alpha, sigma, samples, rewards, temperature)
    np.testing.assert_allclose(w, reference.softmax(logits), atol=1e-13)
    np.testing.assert_allclose(w_r, reference.softmax(logits + temperature * rewards.numpy()), atol=1e-13)


def test_shift_is_zero_where_there_is_nothing_to_prefer(case):
    x_t, samples, rewards = case
    assert lidar_shift(x_t, ALPHA, SIGMA, samples, rewards, 0.0).abs().max() == 0
    assert lidar_shift(x_t, ALPHA, SIGMA, samples, torch.full_like(rewards, 3.7), 2.0).abs().max() < 1e-14
    assert lidar_shift(x_t, ALPHA, SIGMA, samples[:1], rewards[:1], 5.0).abs().max() == 0
    for sigma in (1e-3, 0.0):
        near = lidar_shift(samples[:5], 1.0, sigma, samples, rewards, 3.0)
        assert near.abs().max() == 0
    assert lidar_shift(x_t, ALPHA, SIGMA, samples, rewards, 2.0).abs().max() > 0.1


def test_constant_added_to_the_rewards_changes_nothing(case):
    x_t, samples, rewards = case
    args = (x_t, ALPHA, SIGMA, samples)
    torch.testing.assert_close(
        lidar_shift(*args, rewards + 100, 2.0), lidar_shift(*args, rewards, 2.0), rtol=0, atol=1e-12
    )
    x_t, samples, rewards, vocab = tokens()
    changed = lidar_log_ratio(x_t, 0.4, samples, rewards + 100, 2.0, vocab)
    torch.testing.assert_close(changed, lidar_log_ratio(x_t, 0.4, samples, rewards, 2.0, vocab), rtol=0, atol=1e-5)


def test_shift_is_the_gradient_of_the_lookahead_reward(case):
    x_t, samples, rewards = case
    x = x_t.clone().requires_grad_()
    logits = -(x[:, None] - ALPHA * samples).square().sum((-2, -1)) / (2 * SIGMA**2)
    lookahead = (logits.log_softmax(-1) + 1.5 * rewards).logsumexp(-1)
    (gradient,) = torch.autograd.grad(lookahead.sum(), x)
    shift = lidar_shift(x_t, ALPHA, SIGMA, samples, rewards, 1.5)
    torch.testing.assert_close(shift, SIGMA**2 / ALPHA * gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_change_nothing(case, chunk):
    x_t, samples, rewards = case
    args = (x_t, ALPHA, SIGMA, samples, rewards, 2.0)
    torch.testing.assert_close(lidar_shift(*args, chunk=chunk), lidar_shift(*args), rtol=0, atol=1e-13)
    torch.testing.assert_close(lidar_weights(*args, chunk=chunk), lidar_weights(*args), rtol=0, atol=1e-13)


def test_pure_noise_shifts_by_the_mean_of_the_rewarded_bank(case):
    x_t, samples, rewards = case
    expected = ((2 * rewards).softmax(0) - 1 / 7) @ samples.flatten(1)
    shift = lidar_shift(x_t, 0.0, 1.0, samples, rewards, 2.0)
    torch.testing.assert_close(shift.flatten(1), expected.expand(5, -1), rtol=0, atol=1e-13)


def test_prompts_are_independent():
    g = torch.Generator().manual_seed(1)
    x_t, samples, rewards = (torch.randn(s, generator=g).double() for s in [(3, 4, 6), (3, 5, 6), (3, 5)])
    alpha, lam = torch.rand(3, 4, generator=g).double(), torch.tensor([0.0, 1.0, 9.0])
    sigma = (1 - alpha.square()).sqrt()
    shift = lidar_shift(x_t, alpha, sigma, samples, rewards, lam)
    weights = lidar_weights(x_t, alpha, sigma, samples, rewards, lam)
    for p in range(3):
        args = (x_t[p], alpha[p], sigma[p], samples[p], rewards[p], float(lam[p]))
        torch.testing.assert_close(shift[p], lidar_shift(*args))
        torch.testing.assert_close((weights[0][p], weights[1][p]), lidar_weights(*args))
    cases = [tokens(seed) for seed in range(3)]
    x_t, samples, rewards = (torch.stack([c[i] for c in cases]) for i in range(3))
    ratio = lidar_log_ratio(x_t, 0.5, samples, rewards, lam, 6)
    for p in range(3):
        torch.testing.assert_close(ratio[p], lidar_log_ratio(x_t[p], 0.5, samples[p], rewards[p], float(lam[p]), 6))


def test_bank_as_model_gives_the_tilted_posterior_mean(case):
    """Base model = ideal denoiser of the bank, s = 1: the guided prediction is E[x0 | x_t] of the rewarded bank."""
    x_t, samples, rewards = (v.numpy() for v in case)
    logits = reference.gaussian_logits(x_t, ALPHA, SIGMA, samples)
    ideal = np.einsum("bi,ijk->bjk", reference.softmax(logits), samples)
    tilted = np.einsum("bi,ijk->bjk", reference.softmax(logits + 2 * rewards), samples)
    np.testing.assert_allclose(ideal + lidar_shift(case[0], ALPHA, SIGMA, case[1], case[2], 2.0).numpy(), tilted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_and_shape_are_those_of_x_t(case, dtype):
    x_t, samples, rewards = case
    shift = lidar_shift(x_t.to(dtype), ALPHA, SIGMA, samples, rewards, 1.0)
    assert shift.shape == x_t.shape and shift.dtype == dtype


def test_autocast_changes_nothing(case):
    x_t, samples, rewards = (v.float() for v in case)
    expected = lidar_shift(x_t, ALPHA, 0.05, samples, rewards, 1.0)
    ids = torch.arange(7).repeat(7, 3)[:, :6]
    ratio = lidar_log_ratio(ids[:2], 0.5, ids, rewards, 1.0, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(lidar_shift(x_t, ALPHA, 0.05, samples, rewards, 1.0), expected)
        assert torch.equal(lidar_log_ratio(ids[:2], 0.5, ids, rewards, 1.0, 7), ratio)


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 0.7, 0.999, 1 - 1e-5])
def test_log_ratio_is_the_change_of_the_lookahead_reward(alpha):
    x_t, samples, rewards, vocab = tokens()
    x_t[0] = samples[0]
    ratio = lidar_log_ratio(x_t, alpha, samples, rewards, 1.5, vocab)
    expected = reference.log_ratio(x_t.numpy(), alpha, samples.numpy(), rewards.numpy(), 1.5, vocab)
    assert np.abs(expected).max() > (1e-4 if alpha < 0.01 else 0.1)
    np.testing.assert_allclose(ratio, expected, rtol=1e-4, atol=2e-5 * min(1, 10 * alpha))
    assert ratio.gather(-1, x_t[..., None]).abs().max() == 0


def test_log_ratio_is_zero_without_signal_or_preference():
    x_t, samples, rewards, vocab = tokens()
    assert lidar_log_ratio(x_t, 0.0, samples, rewards, 5.0, vocab).abs().max() < 1e-6
    assert lidar_log_ratio(x_t, 0.5, samples, rewards, 0.0, vocab).abs().max() == 0
    assert lidar_log_ratio(x_t, 0.5, samples[:1], rewards[:1], 5.0, vocab).abs().max() == 0
    assert lidar_log_ratio(x_t, 1.0, samples, rewards, 5.0, vocab).isfinite().all()


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5, 0.99])
@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (1.0, -3.0), (1e5, 1e7)])
def test_temperature_hits_the_target(fraction, scale, offset):
    rewards = torch.randn(200, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    lam = temperature_for_ess(scale * rewards + offset, fraction)
    assert effective_sample_size((lam * scale * rewards).softmax(0)).item() == pytest.approx(200 * fraction, rel=1e-3)
    assert lam * scale == pytest.approx(temperature_for_ess(rewards, fraction), rel=1e-4)


def test_temperature_limits():
    rewards = torch.randn(100, generator=torch.Generator().manual_seed(3))
    ladder = [temperature_for_ess(rewards, fraction) for fraction in (1.0, 0.8, 0.4, 0.1, 0.02)]
    assert ladder[0] == 0 and all(a < b for a, b in zip(ladder, ladder[1:], strict=False))
    assert temperature_for_ess(torch.full((5,), 2.0), 0.1) == 0
    assert temperature_for_ess(torch.tensor([4.0]), 0.5) == 0
    tied = torch.tensor([1.0] * 5 + [0.0] * 5)
    lam = temperature_for_ess(tied, 0.2)
    assert math.isfinite(lam) and effective_sample_size((lam * tied).softmax(0)).item() == pytest.approx(5, rel=2e-3)
    binary = torch.tensor([1.0] + [0.0] * 99)
    lam = temperature_for_ess(binary, 0.1)
    assert effective_sample_size((lam * binary.double()).softmax(0)).item() == pytest.approx(10, rel=1e-3)


def test_effective_sample_size():
    assert effective_sample_size(torch.tensor([[0.25] * 4, [1.0, 0, 0, 0]])).tolist() == [4, 1]


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_invalid_fraction_is_named(fraction):
    with pytest.raises(ValueError, match=r"fraction in \(0, 1\], got"):
        temperature_for_ess(torch.arange(3.0), fraction)


def test_errors_name_what_was_received(case):
    x_t, samples, rewards = case
    broken = rewards.clone()
    broken[:2] = float("nan")
    with pytest.raises(ValueError, match="2 of 7 rewards"):
        lidar_shift(x_t, ALPHA, SIGMA, samples, broken, 1.0)
    with pytest.raises(ValueError, match="2 of 7 rewards"):
        temperature_for_ess(broken, 0.5)
    for temperature in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="at least 0, got"):
            lidar_shift(x_t, ALPHA, SIGMA, samples, rewards, temperature)
    with pytest.raises(ValueError, match="one reward per sample"):
        lidar_shift(x_t, ALPHA, SIGMA, samples[:6], rewards, 1.0)
    with pytest.raises(ValueError, match="at least one sample"):
        lidar_shift(x_t, ALPHA, SIGMA, samples[:0], rewards[:0], 1.0)
    with pytest.raises(ValueError, match=r"x_t \(1, 5, 2, 2\) does not fit"):
        lidar_shift(x_t[..., :2], ALPHA, SIGMA, samples, rewards, 1.0)


def test_weights_hold_in_float32_where_the_plain_product_does_not():
    """Similar members far from the origin, close to the end: the broadcast form in float64 is the reference."""
    rng = np.random.default_rng(4)
    samples = 3 + 0.005 * rng.standard_normal((20, 4096))
    x_t = (0.9987 * samples[:3] + 0.05 * rng.standard_normal((3, 4096))).astype(np.float32)
    samples = samples.astype(np.float32)
    logits = reference.gaussian_logits(x_t.astype(float), 0.9987, 0.05, samples.astype(float))
    got = GaussianKernel(torch.from_numpy(samples)[None]).logits(torch.from_numpy(x_t)[None], 0.9987, 0.05)[0]
    np.testing.assert_allclose(got.softmax(-1), reference.softmax(logits), atol=1e-4)
