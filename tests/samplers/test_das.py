"""DAS, against its own definition."""

import pytest
import torch

from lidar_lightning.rewards import CallableReward
from lidar_lightning.samplers.das import DAS
from lidar_lightning.samplers.gradient import reward_slope
from lidar_lightning.samplers.smc import Look
from tests.exact import FIVE, TABLE, TOKENS, Linear, large, task, tilted, total_variation
from tests.samplers.test_gradient import LAMBDA, QUADRATIC, outcome


class TestDAS:
    def test_converges_to_the_rewarded_distribution(self):
        exact, _ = tilted(FIVE, QUADRATIC, LAMBDA)
        outcomes = [outcome(DAS(particles), 800) for particles in (1, 4, 16)]
        errors, distances = [abs(reward - exact) for reward, _ in outcomes], [distance for _, distance in outcomes]
        assert errors[0] > 1 and errors[2] < 0.35 and errors[2] < errors[0] / 4
        assert distances[0] > 0.1 and distances[2] < 0.05

    def test_linear_reward(self):
        reward = Linear([1.0, 0.5])
        exact, _ = tilted(FIVE, reward, 0.55)
        found, distance = outcome(DAS(12), 800, reward, 0.55, steps=60)
        assert found == pytest.approx(exact, abs=0.2) and distance < 0.05

    def test_without_derivatives_any_reward_will_do(self):
        blunt = CallableReward(lambda samples, prompts: QUADRATIC(samples, prompts).tolist(), name="blunt")
        given = large(FIVE, blunt, LAMBDA)
        x = DAS(16, derivative_free=True)(given, 700)
        exact, frequencies = tilted(FIVE, QUADRATIC, LAMBDA)
        assert given.meter.backward == 0 and not DAS(derivative_free=True).gradients and DAS().gradients
        assert total_variation(FIVE.frequencies(x), frequencies) < 0.06
        assert QUADRATIC(x, []).mean().item() == pytest.approx(exact, abs=0.5)

    def test_tokens_without_derivatives(self):
        assert DAS(4, derivative_free=True)(task(TOKENS, TABLE, steps=4), 3).shape == (3, 3)

    def test_gradients_follow_resampled_particles(self):
        given, sampler, rows = task(FIVE, QUADRATIC, LAMBDA, steps=10), DAS(), torch.tensor([3, 0, 0, 2])
        t, s = given.steps[4]
        x = FIVE.draw(4, seed=3)
        x0_hat, _, carry = sampler.look(given, x, 4, None)
        seen = Look(x0_hat[rows], None, sampler.follow(carry, rows))
        model = given.solver.transition(seen.x0_hat, x[rows], t, s)
        expected = model.mean + sampler.tempering(5, 10) * model.std**2 * reward_slope(given, x[rows], t).gradient
        torch.testing.assert_close(sampler.propose(given, x[rows], 4, seen, model).mean, expected)

    def test_tempering(self):
        assert DAS().tempering(0, 10) == 0 and DAS().tempering(10, 10) == pytest.approx(1)
        assert DAS(gamma=0.008).tempering(86, 100) < 1 == DAS(gamma=0.008).tempering(88, 100)
        assert DAS(gamma=0.1).tempering(2, 50) == pytest.approx(0.21)

    def test_counts(self):
        given = task(FIVE, QUADRATIC, LAMBDA, steps=5)
        DAS(3)(given, 2)
        meter = given.meter
        assert (meter.network, meter.backward, meter.rewards) == (30, 30, 36)
