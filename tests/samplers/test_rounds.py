"""Rounds: candidates of each round join the pool that the next restarts from, and the best different ones are kept."""

from functools import partial

import numpy as np
import pytest
import torch

from lidar_lightning import Lookahead
from lidar_lightning.backbones import Backbone
from lidar_lightning.samplers import LiDAR
from lidar_lightning.samplers.lidar import Members, lookahead_members
from lidar_lightning.samplers.select import Selection, best_of, first_of_each
from tests.conftest import tiny
from tests.exact import FIVE, TABLE, TOKENS, ExactMixture, Linear, task
from tests.token_laws import CHAIN, has_law, one_of_two, tokens_task
from tests.token_laws import REWARD as VALUES

REWARD = Linear([0.6, 0.3])


def test_the_first_of_each_is_as_python_finds_it():
    x = torch.randint(0, 2, (60, 4), generator=torch.Generator().manual_seed(0))
    seen, first = set(), []
    for row in x.tolist():
        first.append(tuple(row) not in seen)
        seen.add(tuple(row))
    for samples in (x, x.view(60, 2, 2), x.double()):
        assert first_of_each(Backbone.identities(None, samples)).tolist() == first
    assert first_of_each(torch.arange(5)).all()


def test_the_best_are_different_while_there_are_enough():
    x = torch.tensor([1, 2, 1, 3, 3, 4])
    values = torch.tensor([9.0, 1.0, 9.0, 5.0, 5.0, 7.0]).double()
    assert best_of(x, values, 2).tolist() == [0, 5]
    assert best_of(x, values, 3).tolist() == [0, 3, 5]
    assert sorted(x[best_of(x, values, 5)].tolist()) == [1, 1, 2, 3, 4]
    assert len(best_of(x, values, 6)) == 6


def test_a_pool_does_not_hold_a_sample_twice():
    pool = Members(torch.tensor([[[1, 2], [3, 4]]]), torch.tensor([[0.5, 1.0]]).double())
    same = partial(Backbone.identities, None)
    more = pool.joined(torch.tensor([[3, 4], [5, 6], [5, 6]]), torch.tensor([1.0, 2.0, 2.0]).double(), same)
    assert more.samples.tolist() == [[[1, 2], [3, 4], [5, 6]]] and more.values.tolist() == [[0.5, 1.0, 2.0]]


def test_the_reward_climbs_with_the_rounds_at_the_same_calls():
    """Modes on a line, each e times rarer than the one before and better by 1: a bank of 40 holds the first few."""
    places = np.arange(8.0)
    line = ExactMixture(np.stack([places, np.zeros(8)], 1), 0.3, np.exp(-places))
    reward, means = Linear([1.0, 0.0]), []
    for rounds in (1, 4):
        lidar = LiDAR(Lookahead(6, 40), restart=0.3, candidates=6, rounds=rounds)
        drawn = [lidar(task(line, reward, 2.0, 20, seed=seed), 10) for seed in range(6)]
        given = task(line, reward, 2.0, 20)
        lidar(given, 10)
        assert given.meter.network == lidar.cost(20, 10) == 6 * 40 + 60 * 5
        means.append(reward(torch.cat(drawn), []).mean().item())
    assert means[1] > means[0] + 1


def test_each_round_restarts_from_all_before_it(monkeypatch):
    seen, beginnings = [], LiDAR.beginnings
    monkeypatch.setattr(
        LiDAR, "beginnings", lambda self, task, pool, *rest: seen.append(pool) or beginnings(self, task, pool, *rest)
    )
    given = task(FIVE, REWARD, 1.0, 10)
    kept = LiDAR(Lookahead(4, 6), restart=0.5, candidates=3.5, rounds=3)(given, 4)
    assert [pool.samples.shape[1] for pool in seen] == [6, 10, 15]
    for pool in seen:
        torch.testing.assert_close(pool.values[0], REWARD(pool.samples[0], []).double())
    assert given.meter.rewards == 6 + 14
    last = REWARD(kept, []).min()
    joined = seen[-1].samples[0, 6:]
    assert sum((joined == row).all(1).any().item() for row in kept) < 4
    assert (REWARD(joined, []) > last).sum() <= 4


def test_rounds_do_not_depend_on_batches():
    lidar = LiDAR(Lookahead(4, 20), restart=0.5, candidates=2, rounds=3)
    one = lidar(task(TOKENS, TABLE, 1.0, 8), 6)
    given = task(TOKENS, TABLE, 1.0, 8)
    given.batch_size = 2
    assert torch.equal(lidar(given, 6), one)


@pytest.mark.parametrize("calls", [12, 24, 40, 100])
def test_a_budget_is_shared_equally_by_the_lookaheads_and_the_rounds(calls):
    lidar = LiDAR(Lookahead(4), restart=0.5, rounds=3, moves=1).within(calls, 8, 16)
    lookaheads, candidates = 4 * lidar.lookahead.n, 4 * lidar.selection.drawn(16)
    assert 0.95 * calls * 16 <= lookaheads + candidates + 16 * 4 <= calls * 16
    assert candidates / 3 == pytest.approx(lookaheads, rel=0.1, abs=8)
    given = task(TOKENS, TABLE, 1.0, 8)
    lidar(given, 16)
    assert given.meter.network == lidar.cost(8, 16)


def test_best_of_n_keeps_different_samples():
    given = task(TOKENS, TABLE, 1.0, 6)
    drawn = Selection(8)(given, given.solve(given.generators(200)), 25)
    assert len(drawn.unique(dim=0)) == 25


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"rounds": 0, "restart": 0.3}, "got 0 and 0"), ({"moves": -1, "restart": 0.3}, "got 1 and -1"),
     ({"rounds": 2}, "restart=t0"), ({"moves": 2}, "restart=t0"),
     ({"rounds": 2, "restart": 0.3, "pooled": False}, "2 rounds share their candidates")],
)  # fmt: skip
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        LiDAR(Lookahead(2, 4), **settings)


def test_a_budget_below_one_candidate_each_is_refused():
    with pytest.raises(ValueError, match="LiDAR needs at least 6 network calls"):
        LiDAR(Lookahead(4), restart=0.5, rounds=2).within(5, 8, 16)


@pytest.mark.parametrize("settings", [{"rounds": 2}, {"moves": 1}])
def test_a_restart_that_leaves_no_step_is_named(settings):
    lidar = LiDAR(Lookahead(4, 6), restart=0.0, **settings)
    with pytest.raises(ValueError, match="restart=0.0 is below all times of the solver except its last"):
        lidar(task(TOKENS, TABLE, 1.0, 8), 4)
    with pytest.raises(ValueError, match="would change nothing"):
        lidar.within(40, 8, 4)


def test_a_small_budget_never_draws_less_than_is_kept():
    for calls in range(4, 40):
        for rounds, count in ((2, 1), (4, 1), (2, 3)):
            try:
                found = LiDAR(Lookahead(7), restart=0.5, rounds=rounds).within(calls, 8, count)
            except ValueError as error:
                assert "LiDAR" in str(error)
                continue
            assert found.selection.n >= 1 and found.cost(8, count) <= calls * count


def test_draws_leave_the_rest_of_lambda_to_the_choice():
    """Candidates that nothing tilts are plain samples; the choice among them holds all of lambda."""
    lidar = LiDAR(Lookahead(6, 64), pooled=False, keep="draw", temperature=0.0, candidates=2)
    assert has_law(lidar(tokens_task(), 4000), one_of_two(CHAIN.law(), VALUES))
    assert not has_law(lidar(task(TOKENS, TABLE, 0.0, 6), 4000), one_of_two(CHAIN.law(), VALUES))


def test_pooled_draws_differ_and_follow_the_rest_of_lambda():
    def mean(keep, **settings):
        lidar = LiDAR(Lookahead(8, 64), keep=keep, rounds=2, restart=0.5, temperature=0.2, candidates=6, **settings)
        x = lidar(task(TOKENS, TABLE, 1.0, 8), 8)
        assert len(x.unique(dim=0)) == 8
        return TABLE(TOKENS.decode(x), [""] * 8).mean()

    assert mean("draw") < mean("best")


def test_draws_need_lambda_and_an_unknown_choice_is_named():
    with pytest.raises(ValueError, match="keep must be 'draw' .* or 'best' .* got 'all'"):
        LiDAR(Lookahead(8), keep="all")
    with pytest.raises(ValueError, match="give a temperature, which is lambda"):
        LiDAR(Lookahead(8, 8), keep="draw", candidates=4)(task(TOKENS, TABLE, None, 8), 4)


def test_the_choice_of_several_rounds_holds_all_of_lambda():
    given, r, found = task(TOKENS, TABLE, 1.0, 8), torch.arange(5.0).double(), []
    for rounds in (1, 2):
        lidar = LiDAR(Lookahead(4, 8), keep="draw", restart=0.5, temperature=0.25, candidates=2, rounds=rounds)
        guidance = lidar.guidance(given, lookahead_members(given, lidar.lookahead))
        found.append(lidar.merits(given, guidance, r))
    torch.testing.assert_close(found[1] - found[0], 0.25 * r)


def test_two_spellings_of_a_molecule_are_one_and_strings_that_are_none_stay_apart():
    model = tiny()
    numbers = model.identities(model.x0_of(["CCO", "CCN", "OCC", "C(", "C=", "C("])).tolist()
    assert numbers[0] == numbers[2] and numbers[3] == numbers[5] and len(set(numbers)) == 4
