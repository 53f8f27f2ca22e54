"""RBF, against its own definition written out over the states."""

from collections import defaultdict

import numpy as np
import pytest
import torch

from lidar_lightning.samplers.rbf import RBF
from tests.exact import FIVE, TABLE, TOKENS, task
from tests.samplers.test_search import LINEAR
from tests.token_laws import Chain, best_of, has_law, tokens_task


@pytest.mark.parametrize(("calls", "starts"), [(14, 2), (9, 1), (25, 4)])
def test_rbf_is_its_own_definition(calls, starts):
    """Four steps, followed over all (state, best value, calls left, calls rolled over)."""
    chain, quota = Chain(4), (calls - starts) // 4
    first = best_of(np.full(64, 1 / 64), chain.values[0], starts)
    law = {(x, chain.values[0][x], calls - starts, 0): first[x] for x in range(64)}
    for i in range(3):
        values, after = chain.values[i + 1], defaultdict(float)
        for (x, best, left, rolled), chance in law.items():
            row, limit = chain.matrices[i][x], left if i == 2 else quota + rolled
            beats = (values > best) & (i < 2)
            missed = np.where(beats, 0, row)
            for drawn in range(1, limit + 1):
                for y in beats.nonzero()[0]:
                    key = (y, values[y], left - drawn, limit - drawn)
                    after[key] += chance * missed.sum() ** (drawn - 1) * row[y]
            for y, mass in enumerate(best_of(missed, values, limit)):
                after[y, best, left - limit, 0] += chance * mass
        law = {key: chance for key, chance in after.items() if chance > 1e-9}
    states = np.zeros(64)
    for (x, *_), chance in law.items():
        states[x] += chance
    x = RBF(calls, starts)(tokens_task(4), 2000)
    assert has_law(x, states @ chain.matrices[3])


@pytest.mark.parametrize(
    ("calls", "values", "expected"),
    [
        (16, [0.0, 1.0, *[0.5] * 5, 0.8, 0.7, 0.6, *[2.0] * 6], [1, 1, 5, 3, 6]),
        (17, [0.0, *[-1.0] * 16], [1, 3, 3, 3, 7]),
    ],
)
def test_rbf_rolls_over_what_is_left(calls, values, expected, monkeypatch):
    """Quota 3: the first child beats the start and leaves 2; 5 and then 3 children fail to beat it; the end takes 6.
    Where none beats the start every step takes 3, and the end what is left."""
    given, values = tokens_task(5), iter(values)
    times, predict = [], given.predict
    monkeypatch.setattr(given, "predict", lambda x, t: times.append(t) or predict(x, t))
    monkeypatch.setattr(given, "value", lambda x0: torch.tensor([next(values)], dtype=torch.float64))
    RBF(calls, 1)(given, 1)
    assert [times.count(t) for t, _ in given.steps] == expected


def test_rbf_spends_its_budget_and_gains_by_it():
    for model, reward in ((TOKENS, TABLE), (FIVE, LINEAR)):
        mean = []
        for calls in (16, 40, 80):
            given = task(model, reward, 1.0, 8)
            mean.append(reward(RBF(calls, 4)(given, 200), []).mean().item())
            assert given.meter.network == given.meter.rewards == 200 * calls
        assert mean[0] + 0.1 < mean[1] < mean[2]
