"""Methods that differentiate the reward, against exact answers, closed forms and their own definitions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lidar_lightning.rewards import CallableReward
from lidar_lightning.samplers.best_of_n import BestOfN
from lidar_lightning.samplers.das import DAS
from lidar_lightning.samplers.dps import DPS
from lidar_lightning.samplers.gradient import damping
from lidar_lightning.samplers.task import Task
from lidar_lightning.samplers.universal import UniversalGuidance
from lidar_lightning.solvers import GaussianAncestral
from tests.exact import DIFFUSION, FIVE, FIVE_FLOW, ExactMixture, Quadratic, large, task, tilted, total_variation

QUADRATIC, LAMBDA = Quadratic(FIVE.means[0]), 0.2


def outcome(sampler, count, reward=QUADRATIC, temperature=LAMBDA, model=FIVE, **settings):
    """Mean reward, and total variation over the modes from the rewarded distribution."""
    x = sampler(large(model, reward, temperature, **settings), count)
    return reward(x, []).mean().item(), total_variation(
        model.frequencies(x), tilted(model, reward, temperature, 100_000)[1]
    )


class TestOneStep:
    """A step from t = 0.6 to 0.3, whose every part is written down here for FIVE and the quadratic reward."""

    T, S = 0.6, 0.3

    def task(self):
        solver = GaussianAncestral(DIFFUSION, 1, times=torch.tensor([self.T, self.S]))
        return Task(FIVE, solver, QUADRATIC, "numbers", LAMBDA)

    def reference(self):
        """x_t, alpha, sigma, x0_hat, lambda r and its gradient by the covariance of x0 given x_t."""
        (alpha, _), (sigma, _) = (c.numpy() for c in DIFFUSION(torch.tensor([self.T, self.S], dtype=torch.float64)))
        x, means, var = self.task().generators(6).randn(2).double().numpy(), FIVE.means.numpy(), FIVE.std**2
        total = alpha**2 * var + sigma**2
        chance = np.exp(-((x[:, None] - alpha * means) ** 2).sum(-1) / (2 * total))
        chance /= chance.sum(1, keepdims=True)
        each = means + alpha * var / total * (x[:, None] - alpha * means)
        x0_hat = np.einsum("bk,bkd->bd", chance, each)
        gap = each - x0_hat[:, None]
        covariance = np.einsum("bk,bkd,bke->bde", chance, gap, gap) + var * sigma**2 / total * np.eye(2)
        residual = means[0] - x0_hat
        gradient = alpha / sigma**2 * np.einsum("bde,be->bd", covariance, 2 * LAMBDA * residual)
        return x, alpha, sigma, x0_hat, -LAMBDA * (residual**2).sum(1), gradient

    def stepped(self, x0_hat, x, alpha, sigma):
        alpha_s, sigma_s = (c.item() for c in DIFFUSION(torch.tensor(self.S, dtype=torch.float64)))
        variance = sigma_s**2 / sigma**2 * (sigma**2 - (alpha / alpha_s * sigma_s) ** 2)
        noise = self.task().generators(6)
        noise.randn(2)
        mean = alpha_s * x0_hat + np.sqrt(sigma_s**2 - variance) * (x - alpha * x0_hat) / sigma
        return mean + np.sqrt(variance) * noise.randn(2).double().numpy()

    @pytest.mark.parametrize("damped", [False, True])
    def test_universal_guidance(self, damped):
        x, alpha, sigma, x0_hat, _, gradient = self.reference()
        factor = 1 / (1 + 2 * LAMBDA * 1.5**2 * sigma**2 / (1.5**2 * alpha**2 + sigma**2)) if damped else 1
        expected = self.stepped(x0_hat + 0.7 * factor * sigma**2 / alpha * gradient, x, alpha, sigma)
        drawn = UniversalGuidance(0.7, damped=damped, spread=1.5)(self.task(), 6)
        np.testing.assert_allclose(drawn, expected, rtol=1e-6, atol=1e-7)

    def test_a_step_that_recurs_is_noised_back_by_the_forward_process(self):
        given, streams = self.task(), self.task().generators(6)
        times = torch.tensor([self.T, self.S], dtype=torch.float64)
        (alpha, alpha_s), (sigma, sigma_s) = (c.tolist() for c in DIFFUSION(times))
        x, posterior = streams.randn(2).double(), sigma_s**2 / sigma**2 * (sigma**2 - (alpha / alpha_s * sigma_s) ** 2)
        for take in range(3):
            if take:
                forward = sigma**2 - (alpha / alpha_s) ** 2 * sigma_s**2
                x = alpha / alpha_s * x + forward**0.5 * streams.randn(2).double()
            x0_hat = FIVE.predict(x, torch.full((6,), self.T), None)
            mean = alpha_s * x0_hat + (sigma_s**2 - posterior) ** 0.5 * (x - alpha * x0_hat) / sigma
            x = mean + posterior**0.5 * streams.randn(2).double()
        torch.testing.assert_close(UniversalGuidance(0.0, recurrence=3)(given, 6), x, rtol=1e-6, atol=1e-7)

    @pytest.mark.parametrize("norm", ["gradient", "loss"])
    def test_dps(self, norm):
        x, alpha, sigma, x0_hat, value, gradient = self.reference()
        size = np.linalg.norm(gradient, axis=1) if norm == "gradient" else np.sqrt(-value)
        expected = self.stepped(x0_hat, x, alpha, sigma) + 0.3 * gradient / size[:, None]
        np.testing.assert_allclose(DPS(0.3, norm)(self.task(), 6), expected, rtol=1e-6, atol=1e-7)

    def test_dps_takes_the_published_multiple_of_the_residual_wherever_the_reward_is_zero(self):
        """r + 7, whose best is 7, is the same problem: x_s' = x_s - zeta' grad |y - A x0|^2 / |y - A x0|."""
        x, alpha, sigma, x0_hat, value, gradient = self.reference()
        expected = self.stepped(x0_hat, x, alpha, sigma) + 0.3 * gradient / np.sqrt(-value)[:, None]
        raised = CallableReward(
            lambda samples, prompts: QUADRATIC(samples, prompts) + 7, name="raised", differentiable=True
        )
        given = replace(self.task(), reward=raised)
        np.testing.assert_allclose(DPS(best=7.0)(given, 6), expected, rtol=1e-5, atol=1e-6)
        with pytest.raises(ValueError, match="short of best=0, and 'raised' is better by .*: give the best value"):
            DPS()(given, 6)

    def test_das_proposes_the_shifted_step(self):
        x, alpha, sigma, x0_hat, value, gradient = (torch.as_tensor(part) for part in self.reference())
        times = torch.tensor([0.9, 0.8, self.T, self.S], dtype=torch.float64)
        given, sampler = replace(self.task(), solver=GaussianAncestral(DIFFUSION, 3, times=times)), DAS(gamma=0.3)
        model = given.solver.transition(x0_hat, x, self.T, self.S)
        seen = sampler.look(given, x, 2, None)
        proposal = sampler.propose(given, x, 1, seen, model)
        torch.testing.assert_close(proposal.mean, model.mean + 0.69 * model.std**2 * gradient, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(seen.twist, 0.69 * value, rtol=1e-6, atol=1e-7)


def test_damped_gradient_is_that_of_the_exact_expectation():
    """In one dimension, by quadrature over x0 and finite differences in x_t, for data N(1, 1.3^2)."""
    temperature, centre, mean, spread, alpha, sigma = 0.5, 2.0, 1.0, 1.3, 0.6, 0.8
    total = alpha**2 * spread**2 + sigma**2
    grid = np.linspace(-25, 25, 200_001)

    def estimate(x):
        return mean + alpha * spread**2 / total * (x - alpha * mean)

    def log_expectation(x):
        posterior = np.exp(-((grid - mean) ** 2) / (2 * spread**2) - (x - alpha * grid) ** 2 / (2 * sigma**2))
        return np.log((posterior * np.exp(-temperature * (grid - centre) ** 2)).sum() / posterior.sum())

    for x in (-2.0, 0.3, 4.0):
        exact = (log_expectation(x + 1e-4) - log_expectation(x - 1e-4)) / 2e-4
        plug_in = 2 * temperature * (centre - estimate(x)) * alpha * spread**2 / total
        assert exact == pytest.approx(plug_in * damping(temperature, alpha, sigma, spread), rel=1e-6)
        assert abs(plug_in) > 1.3 * abs(exact)


def test_damping_is_exact_for_a_normal_model():
    model, reward = ExactMixture([[1.0, -0.5]], 1.3, [1.0]), Quadratic([2.0, 1.0])
    precision = 1 / 1.3**2 + 2 * 0.5
    mean = (model.means[0] / 1.3**2 + 2 * 0.5 * reward.centre) / precision
    x = UniversalGuidance(damped=True, spread=1.3)(large(model, reward, 0.5, steps=200), 3000)
    plain = UniversalGuidance()(large(model, reward, 0.5, steps=200), 3000)
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.05)
    # The solver's own variance is 2% short at 200 steps, even without guidance.
    torch.testing.assert_close(x.std(0), torch.full((2,), precision**-0.5, dtype=torch.float64), rtol=0.06, atol=0)
    assert (plain.mean(0) - mean).min() > 0.12 and plain.std(0).max() < 0.9 * precision**-0.5


def test_plug_in_guidance_overshoots_and_damping_mends_it():
    exact, _ = tilted(FIVE, QUADRATIC, LAMBDA)
    assert exact == pytest.approx(-2.18, abs=0.02)
    reward, distance = outcome(UniversalGuidance(), 2000)
    assert reward > -1.0 and distance > 0.09
    # The spread is between that of a mode (0.4) and that of all the data (2.2).
    reward, distance = outcome(UniversalGuidance(damped=True, spread=1.5), 2000)
    assert reward == pytest.approx(exact, abs=0.4) and distance < 0.04


def test_flow_models_are_guided_from_where_they_know_something():
    reward, _ = outcome(UniversalGuidance(damped=True, spread=1.5), 500, model=FIVE_FLOW)
    assert reward == pytest.approx(-2.18, abs=0.8)


def test_recurrence_without_guidance_keeps_the_model():
    still = large(FIVE, QUADRATIC, LAMBDA)
    x = UniversalGuidance(scale=0.0, recurrence=3)(still, 2500)
    plain = BestOfN(1)(large(FIVE, QUADRATIC, LAMBDA), 2500)
    assert still.meter.network == still.meter.backward == 3 * 40 * 2500
    torch.testing.assert_close(x.std(0), plain.std(0), rtol=0.05, atol=0)
    assert total_variation(FIVE.frequencies(x), FIVE.weights) < 0.04


def test_dps_raises_the_reward_and_damping_softens_it():
    plain, strong, soft = (
        outcome(sampler, 300)[0] for sampler in (DPS(0.0), DPS(0.3), DPS(0.3, damped=True, spread=2.2))
    )
    assert plain < soft < strong


@pytest.mark.parametrize("make", [UniversalGuidance, DPS])
def test_guiding_between_start_and_stop_only(make):
    given = task(FIVE, QUADRATIC, LAMBDA, steps=10)
    make(start=0.75, stop=0.25)(given, 3)
    assert given.meter.row(3) | {"network": 10, "backward": 5, "rewards": 5, "decodes": 5} == given.meter.row(3)


def test_guiding_includes_the_start_and_not_the_stop():
    sampler = DPS(start=0.75, stop=0.25)
    assert [sampler.guides(t) for t in (0.76, 0.75, 0.26, 0.25)] == [False, True, True, False]


@pytest.mark.parametrize("sampler", [UniversalGuidance(), DPS(), DAS(2)])
def test_batches_change_nothing(sampler):
    whole, parts = task(FIVE, QUADRATIC, LAMBDA, steps=5), task(FIVE, QUADRATIC, LAMBDA, steps=5)
    parts.batch_size = 3
    torch.testing.assert_close(sampler(whole, 4), sampler(parts, 4))
    assert whole.meter.backward == parts.meter.backward
