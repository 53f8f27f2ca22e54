"""LiDARGuidance: exact posteriors, for continuous data and for tokens, through the solver that will use them."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from lidar_lightning import functional
from lidar_lightning.guidance import LiDARGuidance, LiDARSettings
from lidar_lightning.guidance.kernels import GaussianKernel
from lidar_lightning.guidance.mask_kernel import kernel_of
from lidar_lightning.schedules import LogLinear
from lidar_lightning.solvers import Ancestral
from tests import reference


def cosine(t):
    """A variance-preserving schedule."""
    return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)


@pytest.fixture
def case():
    g = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=g, dtype=torch.float64) for shape in [(4, 2, 3), (6, 2, 3), (6,), (4, 2, 3)]]


def token_case(seed=0, prompts=1, batch=3, length=4, n=7, vocab=5):
    g = torch.Generator().manual_seed(seed)
    x_t = torch.randint(vocab, (prompts * batch, length), generator=g)
    samples = torch.randint(vocab, (prompts, n, length), generator=g)
    rewards = torch.randn(prompts, n, generator=g, dtype=torch.float64)
    x0_hat = torch.randn(*x_t.shape, vocab, generator=g, dtype=torch.float64).softmax(-1)
    return x_t, samples, rewards, x0_hat


@pytest.mark.parametrize("scale", [1.0, 12.5])
def test_guided_prediction_is_the_model_plus_the_shift(case, scale):
    x_t, samples, rewards, x0_hat = case
    guided = LiDARGuidance(samples, rewards, cosine, LiDARSettings(scale, temperature=2.0))(x_t, 0.4, 0.3, x0_hat)
    alpha, sigma = math.cos(0.2 * math.pi), math.sin(0.2 * math.pi)
    shift = reference.gaussian_shift(x_t.numpy(), alpha, sigma, samples.numpy(), rewards.numpy(), 2.0)
    np.testing.assert_allclose(guided, x0_hat.numpy() + scale * shift, atol=1e-12)


def test_bank_as_model_gives_the_tilted_posterior_mean(case):
    x_t, samples, rewards, _ = case
    logits = reference.gaussian_logits(x_t.numpy(), math.cos(0.25 * math.pi), math.sin(0.25 * math.pi), samples.numpy())
    ideal, tilted = (
        np.einsum("bi,ijk->bjk", reference.softmax(logits + lam * rewards.numpy()), samples.numpy()) for lam in (0, 1.5)
    )
    guided = LiDARGuidance(samples, rewards, cosine, LiDARSettings(temperature=1.5))(
        x_t, 0.5, 0.4, torch.from_numpy(ideal)
    )
    np.testing.assert_allclose(guided, tilted, atol=1e-12)


def test_pure_noise(case):
    x_t, samples, rewards, x0_hat = case
    guided = LiDARGuidance(samples, rewards, lambda t: (1 - t, t), LiDARSettings(temperature=2.0))(
        x_t, 1.0, 0.9, x0_hat
    )
    shift = torch.einsum("i,ijk->jk", (2 * rewards).softmax(0) - 1 / 6, samples)
    torch.testing.assert_close(guided, x0_hat + shift)


@pytest.mark.parametrize("eps", [1e-3, 1e-6])
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.999), (1.0, 0.9), (0.5, 0.4), (0.1, 1e-3), (2e-3, 1e-5)])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_guided_token_posterior_is_the_model_times_the_exponential_of_the_log_ratio(eps, t, s, scale):
    """The edited prediction, stepped by a solver that knows nothing, against p_theta * exp(s * log_ratio at time s)."""
    x_t, samples, rewards, x0_hat = token_case()
    schedule = LogLinear(eps)
    alpha_t, alpha_s = (float(schedule(torch.tensor(time, dtype=torch.float64))[0]) for time in (t, s))
    model = reference.udlm_posterior(x0_hat.numpy(), x_t.numpy(), alpha_t, alpha_s)
    ratio = reference.log_ratio(x_t.numpy(), alpha_s, samples[0].numpy(), rewards[0].numpy(), 1.5, 5)
    expected = model * np.exp(scale * ratio)
    expected /= expected.sum(-1, keepdims=True)
    guidance = LiDARGuidance(samples, rewards, schedule, LiDARSettings(scale, temperature=1.5), kernel=kernel_of(5))
    guided = guidance(x_t, t, s, x0_hat)
    np.testing.assert_allclose(guided.sum(-1), 1, atol=1e-9)
    np.testing.assert_allclose(Ancestral(schedule).posterior(guided, x_t, t, s), expected, rtol=1e-4, atol=1e-7)


def test_float32_predictions_are_stepped_as_exactly():
    x_t, samples, rewards, x0_hat = token_case()
    guidance = LiDARGuidance(samples, rewards, LogLinear(), LiDARSettings(temperature=1.0), kernel=kernel_of(5))
    solver = Ancestral(LogLinear())
    for t, s in [(1.0, 0.99), (0.5, 0.4), (0.1, 1e-5)]:
        single, double = (solver.posterior(guidance(x_t, t, s, x), x_t, t, s) for x in (x0_hat.float(), x0_hat))
        torch.testing.assert_close(single, double, rtol=1e-5, atol=1e-7)


def test_prompts_in_a_batch_are_independent(case):
    x_t, samples, rewards, x0_hat = token_case(prompts=2)
    both = LiDARGuidance(samples, rewards, LogLinear(), LiDARSettings(ess=0.4), kernel=kernel_of(5))
    for p, rows in enumerate((slice(0, 3), slice(3, 6))):
        alone = LiDARGuidance(samples[p], rewards[p], LogLinear(), LiDARSettings(ess=0.4), kernel=kernel_of(5))
        torch.testing.assert_close(both(x_t, 0.5, 0.4, x0_hat)[rows], alone(x_t[rows], 0.5, 0.4, x0_hat[rows]))
    x_t, samples, rewards, x0_hat = case
    banks, scores = torch.stack((samples, samples.flip(0) + 1)), torch.stack((rewards, rewards.square()))
    both = LiDARGuidance(banks, scores, cosine, LiDARSettings(temperature=1.0))(x_t, 0.5, 0.4, x0_hat)
    for p, rows in enumerate((slice(0, 2), slice(2, 4))):
        alone = LiDARGuidance(
            banks[p], scores[p], cosine, LiDARSettings(temperature=1.0), kernel=partial(GaussianKernel, chunk=4)
        )
        torch.testing.assert_close(both[rows], alone(x_t[rows], 0.5, 0.4, x0_hat[rows]))


def test_unguided_outside_of_its_interval(case):
    x_t, samples, rewards, x0_hat = case
    guidance = LiDARGuidance(samples, rewards, cosine, LiDARSettings(temperature=1.0, start=0.8, stop=0.3))
    for t, guided in [(0.9, False), (0.8, True), (0.31, True), (0.3, False), (0.1, False)]:
        assert torch.equal(guidance(x_t, t, t / 2, x0_hat), x0_hat) is not guided
    assert [d.t for d in guidance.diagnostics] == [0.8, 0.31]


def test_settings_that_do_nothing(case):
    x_t, samples, rewards, x0_hat = case
    for settings in [{"scale": 0.0, "temperature": 3.0}, {"temperature": 0.0}, {"ess": 1.0}]:
        assert torch.equal(
            LiDARGuidance(samples, rewards, cosine, LiDARSettings(**settings))(x_t, 0.5, 0.4, x0_hat), x0_hat
        )
    flat = LiDARGuidance(samples, torch.ones(6), cosine, LiDARSettings(ess=0.1))
    assert flat.temperature.tolist() == [0.0]


def test_ess_sets_the_temperature_of_every_prompt(case):
    _, samples, rewards, _ = case
    guidance = LiDARGuidance(
        torch.stack((samples,) * 2), torch.stack((rewards, 10000.0 * rewards)), cosine, LiDARSettings(ess=0.5)
    )
    for lam, row in zip(guidance.temperature, guidance.rewards, strict=True):
        assert functional.effective_sample_size((lam * row).softmax(0)).item() == pytest.approx(3, rel=1e-3)


def test_diagnostics(case):
    x_t, samples, rewards, x0_hat = case
    guidance = LiDARGuidance(samples, rewards, cosine, LiDARSettings(scale=2.0, temperature=1.0))
    guided = guidance(x_t, 0.5, 0.4, x0_hat)
    (step,) = guidance.diagnostics
    logits = reference.gaussian_logits(x_t.numpy(), math.cos(0.25 * math.pi), math.sin(0.25 * math.pi), samples.numpy())
    assert step.ess == pytest.approx((1 / (reference.softmax(logits) ** 2).sum(-1)).mean())
    assert step.ess_r == pytest.approx((1 / (reference.softmax(logits + rewards.numpy()) ** 2).sum(-1)).mean())
    assert step.shift == pytest.approx((guided - x0_hat).flatten(1).norm(dim=1).mean().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_and_dtype(case, dtype):
    x_t, samples, rewards, x0_hat = (v.to(dtype) for v in case)
    guidance = LiDARGuidance(samples, rewards, cosine, LiDARSettings(temperature=1.0))
    expected = guidance(x_t, 0.1, 0.05, x0_hat)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(guidance(x_t, 0.1, 0.05, x0_hat), expected)
    assert expected.dtype == dtype and expected.shape == x0_hat.shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 1.0, "ess": 0.5}, "temperature=1.0 and ess=0.5"),
        ({"temperature": -1.0}, "got -1.0"),
        ({"temperature": float("inf")}, "got inf"),
        ({"ess": 0.0}, "got 0.0"),
        ({"ess": 1.5}, "got 1.5"),
        ({"ess": 0.5, "scale": -2.0}, "got -2.0"),
        ({"ess": 0.5, "start": 0.2, "stop": 0.4}, "got 0.4 and 0.2"),
    ],
)
def test_invalid_settings_are_named(case, settings, message):
    with pytest.raises(ValueError, match=message):
        LiDARGuidance(case[1], case[2], cosine, LiDARSettings(**settings))


def test_lambda_is_given_by_temperature_or_ess_or_the_task_or_a_tenth_of_the_bank(case):
    rewards = case[2]
    tenth, half = (functional.temperature_for_ess(rewards, fraction) for fraction in (0.1, 0.5))
    assert LiDARSettings().lambda_of(rewards) == LiDARSettings().of_task(None).lambda_of(rewards) == tenth
    for task in (None, 3.0):
        assert LiDARSettings(temperature=2.0).of_task(task).lambda_of(rewards) == 2
        assert LiDARSettings(ess=0.5).of_task(task).lambda_of(rewards) == half
    assert LiDARSettings().of_task(3.0).lambda_of(rewards) == 3


def test_banks_that_do_not_fit_are_named(case):
    x_t, samples, rewards, x0_hat = case
    with pytest.raises(ValueError, match=r"rewards \(1, 5\)"):
        LiDARGuidance(samples, rewards[:5], cosine, LiDARSettings(temperature=1.0))
    with pytest.raises(ValueError, match="TokenKernel"):
        LiDARGuidance(samples.long(), rewards, cosine, LiDARSettings(temperature=1.0))
    with pytest.raises(ValueError, match=r"\(4, 2, 2\) does not fit"):
        LiDARGuidance(samples, rewards, cosine, LiDARSettings(temperature=1.0))(x_t[..., :2], 0.5, 0.4, x0_hat[..., :2])
    with pytest.raises(ValueError, match="banks of 3 prompts"):
        banks = LiDARGuidance(
            torch.stack((samples,) * 3), torch.stack((rewards,) * 3), cosine, LiDARSettings(temperature=1.0)
        )
        banks(x_t, 0.5, 0.4, x0_hat)
    broken = torch.where(rewards == rewards.max(), torch.nan, rewards)
    for settings in ({"ess": 0.5}, {"temperature": 1.0}):
        with pytest.raises(ValueError, match="1 of 6 rewards"):
            LiDARGuidance(samples, broken, cosine, LiDARSettings(**settings))
