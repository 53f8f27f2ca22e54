"""Restart: members of a bank begin the run. Its law must reach the rewarded one from every time, as the bank grows."""

import math

import numpy as np
import pytest
import torch

from lidar_lightning import LiDARGuidance, LiDARSettings, Lookahead
from lidar_lightning.guidance.mask_kernel import kernel_of
from lidar_lightning.samplers import LiDAR
from lidar_lightning.samplers.restart import members, noised, place_of
from lidar_lightning.solvers import Ancestral
from lidar_lightning.utils.seeding import Generators
from tests import reference
from tests.exact import (
    DATA,
    FIVE,
    LENGTH,
    SCORES,
    STATES,
    TABLE,
    TOKENS,
    TOKENS_TILTED,
    VOCAB,
    Linear,
    large,
    task,
    tilted,
    total_variation,
)  # fmt: skip
from tests.token_laws import product

TIMES = [0.0, 0.2, 0.5, 0.8, 1.0]
DIRECTION, LAMBDA = [0.6, 0.3], 0.8
SOLVER = Ancestral(TOKENS.schedule, 64)


def stream(seed=0):
    return Generators([seed])


def token_law(rows, t0):
    """The exact law of a guided restart from a bank of these states: 64 states, one transition matrix per step."""
    bank, rewards = torch.from_numpy(STATES[rows]), torch.from_numpy(SCORES[rows])
    guidance = LiDARGuidance(bank, rewards, TOKENS.schedule, LiDARSettings(temperature=1.0), kernel_of(VOCAB))
    times = SOLVER.times.tolist()
    place = place_of(SOLVER.times, t0)
    law = np.zeros(64)
    np.add.at(law, rows, reference.softmax(SCORES[rows]))
    if place < len(times) - 1:
        alpha = TOKENS.schedule(SOLVER.times[place])[0].item()
        law = law @ product(alpha * np.eye(VOCAB)[STATES] + (1 - alpha) / VOCAB)
    x = torch.from_numpy(STATES)
    for t, s in zip(times[place:], times[place + 1 :], strict=False):
        x0_hat = guidance(x, t, s, TOKENS.predict(x, torch.tensor([t]), None))
        law = law @ product(SOLVER.posterior(x0_hat, x, t, s).numpy())
    return law


@pytest.mark.parametrize("t0", TIMES)
def test_tokens_reach_the_rewarded_law_from_every_time(t0):
    rng, mean = np.random.default_rng(1), {}
    for n in (125, 500, 2000):
        laws = [token_law(rng.choice(64, n, p=DATA), t0) for _ in range(3)]
        mean[n] = np.mean([total_variation(law, TOKENS_TILTED) for law in laws])
    assert mean[500] < 0.12
    assert mean[2000] < 0.75 * mean[500] < 0.6 * mean[125]


def test_the_sampler_draws_this_law():
    """LiDAR with restart on tokens, against the law computed from its own bank."""
    given, lidar = task(TOKENS, TABLE, 1.0, 64), LiDAR(Lookahead(32, 300), restart=0.5)
    given.solver = SOLVER
    bank = lidar.lookahead.bank(TOKENS, given.prompt, given.seed, [TABLE])
    rows = bank.samples.numpy() @ VOCAB ** np.arange(LENGTH)[::-1]
    law = token_law(rows, 0.5)
    drawn = TOKENS.law(lidar(given, 4000))
    noise = np.mean([total_variation(np.random.default_rng(k).multinomial(4000, law) / 4000, law) for k in range(20)])
    assert total_variation(drawn, law) < 1.4 * noise < 0.5 * total_variation(drawn, DATA)


@pytest.mark.parametrize("t0", TIMES)
def test_a_mixture_reaches_the_rewarded_law_from_every_time(t0):
    reward = Linear(DIRECTION)
    wanted_reward, wanted = tilted(FIVE, reward, LAMBDA)
    bank = FIVE.draw(2000, seed=3)
    values = LAMBDA * reward(bank, [])
    given = large(FIVE, reward, LAMBDA, steps=40)
    guidance = LiDARGuidance(bank, values, FIVE.schedule, LiDARSettings(temperature=1.0))
    rows = members(values, torch.arange(1500), stream())
    generators = given.generators(1500)
    x = given.solve_from(bank[rows], t0, generators, guidance) if t0 < 1 else given.solve(generators, guidance)
    assert total_variation(FIVE.frequencies(x), wanted) < 0.05 < total_variation(FIVE.weights, wanted)
    assert reward(x, []).mean().item() == pytest.approx(wanted_reward, abs=0.12)


def test_a_restart_without_guidance_forgets_the_reward():
    """The guidance below t0 is part of it."""
    reward = Linear(DIRECTION)
    wanted = tilted(FIVE, reward, LAMBDA)[0]
    bank = FIVE.draw(2000, seed=3)
    given = large(FIVE, reward, LAMBDA, steps=40)
    rows = members(LAMBDA * reward(bank, []), torch.arange(3000), stream())
    plain = reward(given.solve_from(bank[rows], 0.8, given.generators(3000)), []).mean().item()
    assert plain < wanted - 0.3


def test_pure_noise_is_lidar_without_restart():
    given = task(FIVE, Linear(DIRECTION), LAMBDA, 10)
    lookahead = Lookahead(4, 50)
    assert torch.equal(LiDAR(lookahead, restart=1.0)(given, 6), LiDAR(lookahead)(given, 6))
    at_zero = LiDAR(lookahead, restart=0.0)(given, 6)
    bank = lookahead.bank(FIVE, given.prompt, given.seed, [given.reward]).samples
    assert all((bank == row).all(1).any() for row in at_zero)


@pytest.mark.parametrize("restart", [None, 0.4])
def test_samples_do_not_depend_on_batches_or_on_how_many_are_asked_for(restart):
    lidar = LiDAR(Lookahead(4, 50), restart=restart)
    few = lidar(task(TOKENS, TABLE, 1.0, 8), 3)
    given = task(TOKENS, TABLE, 1.0, 8)
    given.batch_size = 2
    assert torch.equal(lidar(given, 7)[:3], few)


def test_a_restart_costs_the_steps_that_it_makes():
    given = task(TOKENS, TABLE, 1.0, 10)
    sampler = LiDAR(Lookahead(4, 20), restart=0.5, candidates=1.5)
    sampler(given, 8)
    assert given.meter.network == 20 * 4 + 12 * 5 == sampler.cost(10, 8)
    within = LiDAR(Lookahead(4), restart=0.5).within(20, 10, 8)
    assert within.lookahead.n == (20 - 5) * 8 // 4
    with pytest.raises(ValueError, match="LiDAR needs at least 6 network calls"):
        LiDAR(Lookahead(4), restart=0.5).within(5, 10, 8)


def test_candidates_are_chosen_by_their_reward():
    reward = Linear(DIRECTION)
    one, best = (LiDAR(Lookahead(6, 60), restart=0.5, candidates=k)(task(FIVE, reward, LAMBDA, 12), 40) for k in (1, 3))
    assert reward(best, []).mean() > reward(one, []).mean() + 0.3
    each = LiDAR(Lookahead(6, 60), restart=0.5, candidates=3, pooled=False)(task(FIVE, reward, LAMBDA, 12), 40)
    every = LiDAR(Lookahead(6, 60), restart=0.5)(task(FIVE, reward, LAMBDA, 12), 120)
    torch.testing.assert_close(reward(each, []), reward(every, []).view(40, 3).amax(1))


@pytest.mark.parametrize("count", [10, 1000])
def test_draws_of_members_are_even(count):
    """Each member is drawn n w_i times, within what a low-discrepancy sequence allows: O(log m), not sqrt(m)."""
    tilts = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = members(tilts, torch.arange(count), stream(3))
    often = torch.bincount(rows, minlength=20)
    assert (often - count * tilts.softmax(0)).abs().max() < 1 + math.log2(count)
    assert torch.equal(members(tilts, torch.arange(count).flip(0), stream(3)), rows.flip(0))
    assert not torch.equal(members(tilts, torch.arange(count), stream(4)), rows)


def test_a_sharp_tilt_draws_without_replacement():
    tilts = 5000 * torch.linspace(0, 1, 12, dtype=torch.float64)
    assert members(tilts, torch.arange(5), stream()).tolist() == [11, 10, 9, 8, 7]
    assert sorted(members(tilts, torch.arange(24), stream()).tolist()) == sorted(2 * list(range(12)))
    close = torch.tensor([10.0, 9.0, 0.0, 0.0])
    first = [members(close, torch.arange(1), stream(seed)).item() for seed in range(4000)]
    often = torch.bincount(torch.tensor(first), minlength=4) / 4000
    torch.testing.assert_close(often.double(), close.double().softmax(0), rtol=0, atol=0.03)


def test_noise_is_that_of_the_schedule():
    count = 4000
    x0 = torch.full((count, 2), 3.0, dtype=torch.float64)
    alpha, sigma = (c.item() for c in FIVE.schedule(torch.tensor(0.3, dtype=torch.float64)))
    x = noised(FIVE, x0, 0.3, Generators(list(range(count))))
    torch.testing.assert_close(x.mean(0), 3 * alpha * torch.ones(2).double(), rtol=0, atol=0.05)
    torch.testing.assert_close(x.std(0), sigma * torch.ones(2).double(), rtol=0, atol=0.05)
    tokens = noised(TOKENS, torch.full((count, 3), 2), 0.3, Generators(list(range(count))))
    kept = TOKENS.schedule(torch.tensor(0.3, dtype=torch.float64))[0].item()
    assert (tokens == 2).double().mean().item() == pytest.approx(kept + (1 - kept) / VOCAB, abs=0.02)


@pytest.mark.parametrize(("t0", "place"), [(1.0, 0), (0.99, 1), (0.5, 2), (0.49, 3), (0.0, 4)])
def test_place_is_the_first_time_that_is_no_later(t0, place):
    assert place_of(torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]), t0) == place
    assert place_of(torch.tensor([1.0, 0.75, 0.5, 0.25, 1e-5]), 0.0) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"restart": -0.1}, "got -0.1"), ({"restart": 1.5}, "got 1.5"), ({"candidates": 0.5}, "got 0.5"),
     ({"candidates": 1.5, "pooled": False}, "n=1.5")],
)  # fmt: skip
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        LiDAR(Lookahead(2, 4), **settings)
