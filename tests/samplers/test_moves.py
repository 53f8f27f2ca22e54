"""Moves: noising and denoising is reversible, so that accepting by the reward alone keeps the rewarded law."""

import numpy as np
import pytest
import torch

from lidar_lightning import Lookahead
from lidar_lightning.samplers import LiDAR
from lidar_lightning.samplers.moves import metropolis
from lidar_lightning.samplers.restart import place_of
from lidar_lightning.solvers import Ancestral, GaussianAncestral
from tests import reference
from tests.exact import (
    DATA,
    FIVE,
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
from tests.token_laws import REWARD, alpha, has_law, many_tokens, product


def proposal(t0, steps):
    """K (64, 64): all states noised to t0 and denoised by the exact model, with so many steps in all."""
    times = np.linspace(1, 0, steps + 1).clip(1e-5)
    times = times[times <= t0]
    kernel = product(alpha(times[0]) * np.eye(VOCAB)[STATES] + (1 - alpha(times[0])) / VOCAB)
    for t, s in zip(times, times[1:], strict=False):
        x0_hat = reference.leave_one_out(STATES, alpha(t), STATES, DATA, VOCAB)
        kernel = kernel @ product(reference.udlm_posterior(x0_hat, STATES, alpha(t), alpha(s)))
    return kernel


def moved(kernel):
    """The transition matrix of a move, written out."""
    accepted = kernel * np.minimum(1, np.exp(REWARD - REWARD[:, None]))
    return accepted + np.diag(1 - accepted.sum(1))


@pytest.mark.parametrize("t0", [0.3, 0.6, 1.0])
def test_noising_and_denoising_is_reversible_and_a_move_keeps_the_rewarded_law(t0):
    asymmetry, drift = [], []
    for steps in (40, 160):
        kernel = proposal(t0, steps)
        flow = DATA[:, None] * kernel
        asymmetry.append(abs(flow - flow.T).sum())
        drift.append(total_variation(TOKENS_TILTED @ moved(kernel), TOKENS_TILTED))
    assert asymmetry[1] < 0.3 * asymmetry[0] < 0.02
    assert drift[1] < 0.3 * drift[0] < 0.005
    # Accepting everything forgets the reward.
    assert total_variation(TOKENS_TILTED @ kernel, TOKENS_TILTED) > 20 * drift[1]


@pytest.mark.parametrize("t0", [0.5, 1.0])
def test_the_sampler_moves_by_this_matrix(t0):
    given = many_tokens(24)
    given.solver = Ancestral(TOKENS.schedule, 24)
    states = np.random.default_rng(0).choice(64, 4000, p=DATA)
    x = torch.from_numpy(STATES[states])
    found = metropolis(given, x, given.utility(x), torch.ones(4000).double(), t0, 3)
    law = np.bincount(states, minlength=64) / 4000 @ np.linalg.matrix_power(moved(proposal(t0, 24)), 3)
    assert has_law(found, law)


def test_moves_end_in_the_rewarded_law_from_a_poor_bank():
    """A bank of six samples: at first its own errors, after enough moves none."""
    errors = []
    for moves in (0, 2, 16):
        given = many_tokens(40)
        drawn = LiDAR(Lookahead(40, 6), restart=0.8, moves=moves)(given, 2000)
        errors.append(total_variation(TOKENS.law(drawn), TOKENS_TILTED))
    assert errors[0] > 0.3 and errors[2] < 0.5 * errors[1] < 0.5 * errors[0]
    assert has_law(drawn, TOKENS_TILTED)


@pytest.mark.parametrize("t0", [0.4, 0.8])
def test_moves_reach_the_rewarded_law_of_a_mixture_without_guidance(t0):
    reward, temperature = Linear([0.6, 0.3]), 0.8
    wanted, modes = tilted(FIVE, reward, temperature)
    given = large(FIVE, reward, temperature, steps=40)
    values = temperature * reward(FIVE.draw(20_000, seed=3), [])
    rows = values.softmax(0).multinomial(3000, replacement=True, generator=torch.Generator().manual_seed(0))
    x = FIVE.draw(20_000, seed=3)[rows]
    x = metropolis(given, x, reward(x, []).double(), torch.full((3000,), temperature).double(), t0, 8)
    assert reward(x, []).mean().item() == pytest.approx(wanted, abs=0.1)
    assert total_variation(FIVE.frequencies(x), modes) < 0.05


def test_without_a_tilt_every_move_is_accepted():
    given = task(TOKENS, TABLE, 0.0, 20)
    x = torch.from_numpy(STATES[np.random.default_rng(0).choice(64, 500, p=DATA)])
    once = metropolis(given, x, given.utility(x), torch.zeros(500).double(), 0.5, 1)
    assert torch.equal(once, given.solve_from(x, 0.5, given.generators(500, "moves")))


def test_moves_do_not_depend_on_batches_and_cost_what_they_make():
    lidar = LiDAR(Lookahead(4, 12), restart=0.5, moves=3)
    few = lidar(task(TOKENS, TABLE, 1.0, 8), 3)
    given = task(TOKENS, TABLE, 1.0, 8)
    given.batch_size = 2
    assert torch.equal(lidar(given, 7)[:3], few)
    run = 8 - place_of(given.solver.times, 0.5)
    assert given.meter.network == 4 * 12 + 7 * run * 4 == lidar.cost(8, 7, TOKENS_TIMES)
    assert given.meter.rewards == 12 + 7 + 7 * 3


def TOKENS_TIMES(steps):
    return TOKENS.solver(steps).times


def test_moves_need_a_random_solver():
    given, x = task(FIVE, Linear([0.6, 0.3]), 1.0, 4), FIVE.draw(2)
    given.solver = GaussianAncestral(FIVE.schedule, 4, eta=0.0)
    with pytest.raises(ValueError, match="Moves needs random steps"):
        metropolis(given, x, torch.zeros(2).double(), torch.ones(2).double(), 0.5, 1)


def test_moves_need_no_lambda_of_the_task_where_the_settings_have_one():
    lidar = LiDAR(Lookahead(4, 8), pooled=False, restart=0.5, moves=2, temperature=1.0)
    assert lidar(task(TOKENS, TABLE, None, 6), 4).shape == (4, 3)
