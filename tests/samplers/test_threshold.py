"""Verifier threshold: its law by enumeration, what it spends where, and what it refuses."""

from collections import defaultdict

import numpy as np
import pytest
import torch

from lidar_lightning.rewards import CallableReward
from lidar_lightning.samplers import VerifierThreshold
from tests.exact import FIVE, FIVE_FLOW, TABLE, TOKENS, Quadratic, task
from tests.token_laws import REWARD, Chain, best_of, has_law, tokens_task


@pytest.mark.parametrize(
    ("calls", "starts", "threshold"), [(14, 2, 0.5), (9, 1, 0.0), (20, 3, 1.2), (9, 1, -9.0), (9, 1, 9.0)]
)
def test_it_is_its_own_definition(calls, starts, threshold):
    """Four steps, three of them with children, followed over all (state, calls left)."""
    chain = Chain(4)
    law = {(x, calls - starts): p for x, p in enumerate(best_of(np.full(64, 1 / 64), chain.values[0], starts))}
    for i in range(3):
        values, after = chain.values[i + 1], defaultdict(float)
        for (x, left), chance in law.items():
            row, limit = chain.matrices[i][x], left // (3 - i)
            beats = (values > threshold) & (i < 2)
            missed = np.where(beats, 0, row)
            for drawn in range(1, limit + 1):
                for y in beats.nonzero()[0]:
                    after[y, left - drawn] += chance * missed.sum() ** (drawn - 1) * row[y]
            for y, mass in enumerate(best_of(missed, values, limit)):
                after[y, left - limit] += chance * mass
        law = after
    states = np.zeros(64)
    for (x, left), chance in law.items():
        states[x] += chance
        assert left == 0 or chance < 1e-12
    x = VerifierThreshold(threshold, calls=calls, starts=starts)(tokens_task(4), 2000)
    assert has_law(x, states @ chain.matrices[3])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, *[3.0] * 15], [1, 1, 1, 1, 12]),
        ([0.0, *[-1.0] * 15], [1, 3, 4, 4, 4]),
        ([9.0, 0.0, 2.5, *[1.0] * 4, 2.1, *[0.0] * 8], [1, 2, 4, 1, 8]),
    ],
)
def test_what_a_step_leaves_is_for_those_after_it(values, expected, monkeypatch):
    """15 calls beyond one start, for four steps with children: a quarter, then a third of what is left, a half, all."""
    given, values, times = tokens_task(5), iter(values), []
    predict = given.predict
    monkeypatch.setattr(given, "predict", lambda x, t: times.append(t) or predict(x, t))
    monkeypatch.setattr(given, "value", lambda x0: torch.tensor([next(values)], dtype=torch.float64))
    VerifierThreshold(2.0, calls=16, starts=1)(given, 1)
    assert [times.count(t) for t, _ in given.steps] == expected


@pytest.mark.parametrize("model", [TOKENS, FIVE, FIVE_FLOW])
def test_it_spends_its_calls_whatever_the_threshold(model):
    reward = TABLE if model is TOKENS else Quadratic(FIVE.means[0])
    for threshold in (-100.0, 0.0, 100.0):
        given, whole = task(model, reward, 0.5, 6), task(model, reward, 0.5, 6)
        given.batch_size = 2
        sampler = VerifierThreshold(threshold, starts=3).within(25, 6, 5)
        assert torch.equal(sampler(given, 3), sampler(whole, 5)[:3])
        assert given.meter.network == given.meter.rewards == 3 * 25


def test_the_threshold_is_in_the_units_and_the_direction_of_the_reward():
    def values(samples, _):
        return TABLE(samples, [])

    high = CallableReward(values, name="high", modality="any")
    low = CallableReward(lambda samples, _: -values(samples, _), name="low", modality="any", higher_is_better=False)
    drawn = [
        VerifierThreshold(threshold, calls=14, starts=2)(task(TOKENS, reward, temperature, 4), 50)
        for reward, threshold, temperature in ((high, 0.5, 1.0), (low, -0.5, 1.0), (high, 0.5, 7.0))
    ]
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


def test_reward_rises_with_the_calls():
    def mean(calls):
        return TABLE(VerifierThreshold(1.0, calls=calls, starts=2)(tokens_task(), 300), []).mean().item()

    assert mean(8) + 0.1 < mean(20) < mean(60) < REWARD.max()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VerifierThreshold(float("nan")), "must be a finite number, got nan"),
        (lambda: VerifierThreshold(0.5, starts=0), "VerifierThreshold needs at least 1 start, got 0"),
        (lambda: VerifierThreshold(0.5, starts=4).within(9, 6, 1), "VerifierThreshold needs at least 10 network calls"),
        (lambda: VerifierThreshold(0.5, keep="worst"), "keep must be 'draw'.* got 'worst'"),
    ],
)
def test_bad_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
