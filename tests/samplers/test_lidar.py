"""LiDAR as a sampler, in rounds and with particles, against the exact tilted distributions."""

import math

import pytest
import torch

from lidar_lightning import LiDARGuidance, LiDARSettings, Lookahead
from lidar_lightning.functional import temperature_for_ess
from lidar_lightning.samplers import LiDAR, LiDARSMC
from lidar_lightning.samplers.lidar import balanced
from tests.exact import FIVE, FIVE_FLOW, TABLE, TOKENS, TOKENS_TILTED, Linear, Quadratic, task, tilted, total_variation

REWARD = Quadratic(FIVE.means[0])
LAMBDA = 0.2

pytestmark = pytest.mark.usefixtures("one_thread")


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
        problem = task(model, reward, LAMBDA, steps=60)
        samples = LiDARSMC(Lookahead(20, 12), particles)(problem, 600)
        errors[particles] = total_variation(model.frequencies(samples), modes)
        assert problem.meter.network == 12 * 20 + 600 * particles * 60
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
        drawn = LiDARSMC(Lookahead(40, 30), particles)(task(TOKENS, TABLE, steps=40), 1500)
        errors.append(total_variation(TOKENS.law(drawn), TOKENS_TILTED))
    noise = 0.5 * math.sqrt(2 / math.pi) * sum(math.sqrt(p * (1 - p) / 1500) for p in TOKENS_TILTED)
    assert errors[1] < 0.05 + noise < errors[0]


def test_rounds_grow_the_bank_where_the_reward_is_high():
    mean, modes = tilted(FIVE, REWARD, LAMBDA)
    errors = {1: [], 3: []}
    for rounds, found in errors.items():
        for seed in range(6):
            problem = task(FIVE, REWARD, LAMBDA, seed=seed)
            samples = LiDAR(Lookahead(40, 12), rounds=rounds, joining=20)(problem, 200)
            found.append(abs(REWARD(samples, []).mean().item() - mean))
            assert problem.meter.network == 12 * 40 + (rounds - 1) * 20 * 40 + 200 * 40
            assert problem.meter.rewards == 12 + (rounds - 1) * 20
    assert sum(errors[3]) < sum(errors[1])


def test_joined_members_are_weighted_by_the_balance_heuristic(monkeypatch):
    """1 / (n + m exp(lambda r) / Z) after m members have joined, Z the mean of exp(lambda r) over the lookaheads."""
    seen, guidance = [], LiDAR.guidance
    monkeypatch.setattr(
        LiDAR, "guidance", lambda self, task, members: seen.append(members) or guidance(self, task, members)
    )
    LiDAR(Lookahead(4, 6), rounds=3, joining=5)(task(FIVE, REWARD, LAMBDA, steps=4), 2)
    assert [members.samples.shape[1] for members in seen] == [6, 11, 16]
    for joined, members in zip((0, 5, 10), seen, strict=True):
        tilt = (LAMBDA * members.values[0]).exp()
        torch.testing.assert_close(members.values[0], REWARD(members.samples[0], []), rtol=1e-5, atol=1e-6)
        share = 1 / (6 + joined * tilt / tilt[:6].mean())
        torch.testing.assert_close(members.log_weights[0].softmax(0), share / share.sum())


def test_the_temperature_of_an_ess_sees_what_members_count_for():
    """Guided members that join are more of the best ones, but stand for no more: the law is the same, and so is lambda.

    Seen as even draws they flatten the tilt less and less: E[r] ran away from -2.95 to -0.79 in three rounds.
    """
    settings = {"ess": 0.3, "joining": 200}
    means, found = [], []
    for rounds in (1, 3):
        samples = [
            LiDAR(Lookahead(40, 100), rounds=rounds, **settings)(task(FIVE, REWARD, LAMBDA, seed=seed), 150)
            for seed in range(4)
        ]
        means.append(REWARD(torch.cat(samples), []).mean().item())
    assert means[1] == pytest.approx(means[0], abs=0.35)
    # The weighted members of a mixture of p and p exp(v) / Z give the lambda of p.
    plain, spread = FIVE.draw(4000, seed=1), FIVE.draw(4000, seed=2)
    tilted_rows = (
        (LAMBDA * REWARD(spread, []))
        .softmax(0)
        .multinomial(4000, replacement=True, generator=torch.Generator().manual_seed(0))
    )
    values = LAMBDA * REWARD(torch.cat((plain, spread[tilted_rows])), [])
    for fraction in (0.1, 0.5):
        found = temperature_for_ess(values, fraction, balanced(values, 4000, 4000, [1.0]))
        assert found == pytest.approx(temperature_for_ess(values[:4000], fraction), rel=0.1)
        assert temperature_for_ess(values, fraction) > 1.2 * found


def test_a_member_that_counts_twice_is_two_members_to_the_temperature():
    rewards = torch.randn(6, generator=torch.Generator().manual_seed(3))
    counts = torch.tensor([2.0, 1, 1, 1, 1, 1]).log()
    twice = torch.cat((rewards, rewards[:1]))
    for fraction in (0.2, 0.5, 0.9):
        assert temperature_for_ess(rewards, fraction, counts + 3) == pytest.approx(temperature_for_ess(twice, fraction))
    guided = LiDARGuidance(FIVE.draw(6), rewards, FIVE.schedule, LiDARSettings(ess=0.5), log_weights=counts)
    assert guided.temperature.item() == pytest.approx(temperature_for_ess(twice, 0.5))


def test_members_count_for_what_they_are():
    """A member that counts twice is the same as the member twice."""
    samples, rewards = FIVE.draw(5, seed=3), torch.randn(5, generator=torch.Generator().manual_seed(0)).double()
    twice = torch.cat((samples, samples[:1])), torch.cat((rewards, rewards[:1]))
    counts = torch.tensor([2.0, 1, 1, 1, 1]).log()
    x_t = FIVE.draw(7, seed=4)
    settings = FIVE.schedule, LiDARSettings(temperature=0.7)
    one = LiDARGuidance(samples, rewards, *settings, log_weights=counts)
    other = LiDARGuidance(*twice, *settings)
    torch.testing.assert_close(one(x_t, 0.4, 0.3, x_t), other(x_t, 0.4, 0.3, x_t))
    torch.testing.assert_close(one.lookahead_reward(x_t, 0.4), other.lookahead_reward(x_t, 0.4))


def test_lookahead_reward_is_what_guidance_climbs():
    """shift = (sigma^2 / alpha) times its gradient."""
    bank = FIVE.draw(20, seed=1)
    guidance = LiDARGuidance(bank, REWARD(bank, []), FIVE.schedule, LiDARSettings(temperature=LAMBDA))
    x_t = FIVE.draw(6, seed=2).requires_grad_()
    (gradient,) = torch.autograd.grad(guidance.lookahead_reward(x_t, 0.3).sum(), x_t)
    alpha, sigma = FIVE.schedule(torch.tensor(0.3, dtype=torch.float64))
    torch.testing.assert_close(guidance.change(x_t.detach(), 0.3), sigma**2 / alpha * gradient, rtol=1e-5, atol=1e-7)


def test_budgets_are_kept():
    for sampler in (LiDAR(Lookahead(5, 1)), LiDAR(Lookahead(5, 1), rounds=2, joining=2), LiDARSMC(Lookahead(5, 8))):
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
    with pytest.raises(ValueError, match="rounds and joining must be at least 1, got 0"):
        LiDAR(Lookahead(5, 8), rounds=0)
