"""LiDAR as a sampler, alone and with particles, against the exact tilted distributions."""

import math

import pytest
import torch

from lidar_lightning import LiDARGuidance, LiDARSettings, Lookahead
from lidar_lightning.samplers import LiDAR, LiDARSMC
from tests.exact import (
    FIVE,
    FIVE_FLOW,
    TABLE,
    TOKENS,
    TOKENS_TILTED,
    Linear,
    Quadratic,
    large,
    task,
    tilted,
    total_variation,
)  # fmt: skip

REWARD = Quadratic(FIVE.means[0])
LAMBDA = 0.2


def test_closed_form_does_not_overshoot():
    """Plug-in gradients reach E[r] = -0.85 here; the tilted law has -2.18."""
    mean, modes = tilted(FIVE, REWARD, LAMBDA)
    assert mean == pytest.approx(-2.18, abs=0.02)
    found = [LiDAR(Lookahead(40, 50))(task(FIVE, REWARD, LAMBDA, seed=seed), 400) for seed in range(4)]
    assert REWARD(torch.cat(found), []).mean().item() == pytest.approx(mean, abs=0.4)
    assert total_variation(FIVE.frequencies(torch.cat(found)), modes) < 0.05


@pytest.mark.parametrize("model", [FIVE, FIVE_FLOW])
@pytest.mark.parametrize("reward", [REWARD, Linear([0.8, 0.6])])
def test_particles_make_it_exact(model, reward):
    """Errors of a small bank go as the particles grow, for diffusion and for flow matching."""
    mean, modes = tilted(model, reward, LAMBDA)
    errors = {}
    for particles in (1, 32):
        problem = large(model, reward, LAMBDA, steps=60)
        samples = LiDARSMC(Lookahead(20, 12), particles)(problem, 1000)
        errors[particles] = total_variation(model.frequencies(samples), modes)
        assert problem.meter.network == 12 * 20 + 1000 * particles * 60
    assert errors[32] < 0.05
    assert errors[32] < errors[1] or errors[1] < 0.03


def test_the_twist_is_the_lookahead_reward():
    """log sum_i w_i exp(lambda r_i), w = softmax(-|x - alpha x_i|^2 / (2 sigma^2)), written out."""
    given, sampler = task(FIVE, REWARD, LAMBDA, steps=8), LiDARSMC(Lookahead(6, 10), 3)
    t, x = given.steps[3][0], FIVE.draw(3, seed=2)
    bank = Lookahead(6, 10).bank(FIVE, given.prompt, given.seed, [REWARD]).samples
    alpha, sigma = (c.item() for c in FIVE.schedule(torch.tensor(t, dtype=torch.float64)))
    weights = ((x[:, None] - alpha * bank).square().sum(-1) / (-2 * sigma**2)).softmax(-1)
    expected = (weights * (LAMBDA * REWARD(bank, [])).exp()).sum(-1).log()
    torch.testing.assert_close(
        sampler.look(given, x, 3, sampler.prepare(given, 1)).twist, expected, rtol=1e-5, atol=1e-6
    )


def test_particles_make_it_exact_on_tokens():
    errors = []
    for particles in (1, 16):
        drawn = LiDARSMC(Lookahead(40, 30), particles)(large(TOKENS, TABLE, steps=40), 1500)
        errors.append(total_variation(TOKENS.law(drawn), TOKENS_TILTED))
    noise = 0.5 * math.sqrt(2 / math.pi) * sum(math.sqrt(p * (1 - p) / 1500) for p in TOKENS_TILTED)
    assert errors[1] < 0.05 + noise < errors[0]


def test_lookahead_reward_is_what_guidance_climbs():
    """shift = (sigma^2 / alpha) times its gradient."""
    bank = FIVE.draw(20, seed=1)
    guidance = LiDARGuidance(bank, REWARD(bank, []), FIVE.schedule, LiDARSettings(temperature=LAMBDA))
    x_t = FIVE.draw(6, seed=2).requires_grad_()
    (gradient,) = torch.autograd.grad(guidance.lookahead_reward(x_t, 0.3).sum(), x_t)
    alpha, sigma = FIVE.schedule(torch.tensor(0.3, dtype=torch.float64))
    torch.testing.assert_close(guidance.change(x_t.detach(), 0.3), sigma**2 / alpha * gradient, rtol=1e-5, atol=1e-7)


def test_budgets_are_kept():
    for sampler in (LiDAR(Lookahead(5, 1)), LiDARSMC(Lookahead(5, 8))):
        with pytest.raises(ValueError, match="needs at least .* calls per sample .* got a budget of 10"):
            sampler.within(10, 10, 4)
    problem = task(FIVE, REWARD, LAMBDA, steps=10)
    # 45 calls of lookaheads and 4 x 2 particles of 14 steps.
    LiDARSMC(Lookahead(5, 9)).within(41, 10, 4)(problem, 4)
    assert problem.meter.network == 45 + 4 * 2 * 14
    # One particle of 10 steps would leave a third: two of 6 and more steps are guided instead.
    problem = task(FIVE, REWARD, LAMBDA, steps=10)
    LiDARSMC(Lookahead(5, 8)).within(28, 10, 4)(problem, 4)
    assert problem.meter.network == 40 + 4 * 2 * 9
