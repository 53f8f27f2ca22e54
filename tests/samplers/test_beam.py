"""Beam search: its law by enumeration where that is small, and its choice of children as it is defined."""

from functools import partial

import numpy as np
import pytest
import torch

from lidar_lightning.samplers import SVDD, BeamSearch, BestOfN
from lidar_lightning.samplers.beam import best
from tests.exact import FIVE, FIVE_FLOW, TABLE, TOKENS, Quadratic, task
from tests.token_laws import CHAIN, REWARD, Chain, best_of, has_law, matrix, tokens_task

QUADRATIC = Quadratic(FIVE.means[0])
own_beams = partial(BeamSearch, pooled=False)
"""That keep the best of each sample's own, as published."""


def best_first(pairs, values, n):
    """The law of y of the best of n pairs (y, z), by the value of z."""
    below, mass = (pairs.sum(0) @ compare(values[:, None], values) for compare in (np.less, np.equal))
    top = np.divide((below + mass) ** n - below**n, mass, out=np.zeros_like(mass), where=mass > 0)
    return pairs @ top


def test_one_beam_that_looks_one_step_ahead_is_greedy():
    rows = [np.array([best_of(row, v, 3) for row in m]) for m, v in zip(CHAIN.matrices, CHAIN.values[1:], strict=True)]
    assert has_law(own_beams(1, 3, 1)(tokens_task(), 2000), CHAIN.law(rows))
    assert has_law(SVDD(3, "best", pooled=False)(tokens_task(), 2000), CHAIN.law(rows))


def test_two_steps_ahead_have_their_law():
    """Four steps: children are at 3/4, 1/2 and 1/4, and judged at 1/2, 1/4 and 1/4 itself, where one step is left."""
    chain = Chain(4)
    ahead = [matrix(0.75, 0.5), matrix(0.5, 0.25), np.eye(64), np.eye(64)]
    values = [chain.values[2], chain.values[3], chain.values[3], chain.values[4]]
    rows = [
        np.array([best_first(row[:, None] * step, value, 2) for row in one])
        for one, step, value in zip(chain.matrices, ahead, values, strict=True)
    ]
    assert has_law(own_beams(1, 2, 2)(tokens_task(4), 2000), chain.law(rows))


def test_the_best_of_all_children_of_all_beams_is_the_sample():
    """With one step, P(best <= v) = E[P(child <= v | noise)^K]^B."""
    chain, x = Chain(1), own_beams(3, 2)(tokens_task(1), 2000)
    order = REWARD.argsort()
    found = (chain.matrices[0][:, order].cumsum(1) ** 2).mean(0) ** 3
    law = np.empty(64)
    law[order] = np.diff(found, prepend=0)
    assert has_law(x, law)


@pytest.mark.parametrize(("model", "reward"), [(TOKENS, TABLE), (FIVE, QUADRATIC), (FIVE_FLOW, QUADRATIC)])
def test_the_best_of_all_children_go_on(model, reward, monkeypatch):
    given, seen, scores = task(model, reward, 1.0, 5), [], []
    transition, utility = given.solver.transition, given.utility

    def step(x0_hat, x, t, s):
        seen.append(x)
        return transition(x0_hat, x, t, s)

    monkeypatch.setattr(given.solver, "transition", step)
    monkeypatch.setattr(given, "utility", lambda x: scores.append(utility(x)) or scores[-1])
    predicted, predict = [], given.predict
    monkeypatch.setattr(given, "predict", lambda x, t: predicted.append(x) or predict(x, t))
    BeamSearch(2, 3, 1)(given, 4)
    seen = [x for x in seen if len(x) == 4 * 6]
    assert len(seen) == len(scores) == 5
    for parents, children, values in zip(seen[1:], predicted[1:], scores, strict=False):
        assert parents.shape[0] == children.shape[0] == 4 * 6
        kept = parents.view(4, 2, 3, -1)
        assert (kept == kept[:, :, :1]).all()
        for group, states, value in zip(kept[:, :, 0], children.view(4, 6, -1), values.view(4, 6), strict=True):
            wanted = states[value.argsort(descending=True, stable=True)[:2].sort().values]
            assert torch.equal(group, wanted)


@pytest.mark.parametrize(("model", "reward"), [(TOKENS, TABLE), (FIVE, QUADRATIC), (FIVE_FLOW, QUADRATIC)])
def test_without_choice_it_is_the_plain_sampler(model, reward):
    def drawn(sampler):
        given = task(model, reward, 1.0, 6)
        return sampler(given, 4), given.meter.network, given.meter.rewards

    for one, other in (
        (BeamSearch(1, 1), BestOfN(1)),
        (BeamSearch(3, 1), BestOfN(3)),
        (own_beams(3, 1), BestOfN(3, pooled=False)),
    ):
        (x, *spent), (y, *expected) = drawn(one), drawn(other)
        assert torch.equal(x, y) and spent == expected


@pytest.mark.parametrize("settings", [(1, 2, 1), (2, 3, 2), (3, 2, 9), (2, 1, 4)])
def test_the_meter_counts_what_it_costs(settings):
    sampler = own_beams(*settings)
    for model, reward in ((TOKENS, TABLE), (FIVE, QUADRATIC)):
        given, whole = task(model, reward, 1.0, 7), task(model, reward, 1.0, 7)
        given.batch_size = 5
        few, many = sampler(given, 2), sampler(whole, 5)
        assert torch.equal(few, many[:2])
        assert given.meter.network == sampler.cost(7, 2) and whole.meter.network == sampler.cost(7, 5)
    assert BeamSearch(2, 3, 2).cost(4, 1) == 2 * (1 + 3 * (2 + 2 + 1))


def test_reward_rises_with_beams_and_with_steps_ahead():
    def mean(*settings):
        return QUADRATIC(own_beams(*settings)(task(FIVE, QUADRATIC, 1.0, 6), 200), []).mean().item()

    assert mean(1, 2, 1) < mean(3, 2, 1) < mean(9, 2, 1)
    assert mean(2, 2, 1) < mean(2, 2, 4)


def test_the_best_of_each_group_stand_in_their_order():
    values = torch.tensor([3.0, 1.0, 5.0, 5.0, 2.0, 9.0, 9.0, 9.0])
    assert best(values, 2, 2).tolist() == [2, 3, 5, 6]
    assert best(values, 1, 1).tolist() == [5]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BeamSearch(0), "at least 1, got 0, 2 and 6"),
        (lambda: BeamSearch(4, 0), "at least 1, got 4, 0 and 6"),
        (lambda: BeamSearch(ahead_steps=0), "at least 1, got 4, 2 and 0"),
        (lambda: BeamSearch(4, 3, 2).within(15, 4, 1), "needs at least 16 .*one beam of 3 children, 2 steps ahead"),
    ],
)
def test_bad_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
