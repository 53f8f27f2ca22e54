"""Particle methods that keep the best of a whole prompt: what sorting all particles by hand gives."""

from dataclasses import replace

import pytest
import torch

from lidar_lightning import Lookahead
from lidar_lightning.samplers import DAS, SMC, SVDD, BackwardRollout, BeamSearch, LiDARSMC
from tests.exact import FIVE, TABLE, TOKENS, Quadratic, task, total_variation
from tests.token_laws import CHAIN, REWARD, best_of, has_law, noise, tilt, tokens_task

METHODS = {
    "smc": lambda **given: SMC(4, every=2, **given),
    "das": lambda **given: DAS(4, derivative_free=True, **given),
    "rollout": lambda **given: BackwardRollout(4, rollouts=1, every=3, **given),
    "svdd": lambda **given: SVDD(4, **given),
    "svdd, learned value": lambda **given: SVDD(4, value=lambda x, t: -x.double().sum(1), **given),
    "lidar+smc": lambda **given: LiDARSMC(Lookahead(2, 20), 4, **given),
    "beam": lambda keep="best", **given: BeamSearch(2, 2, 1, **given),
}
TASKS = {
    "tokens": tokens_task,
    "mixture": lambda **given: task(FIVE, Quadratic(FIVE.means[0]), 0.2, 6, **given),
}


def ends(given):
    """Records what the task scores, of which the last are all candidates: the list of (samples, utilities)."""
    seen, utility = [], given.utility

    def recorded(x, together=False):
        seen.append((x.clone(), utility(x, together)))
        return seen[-1][1]

    given.utility = recorded
    return seen


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("name", METHODS)
def test_a_pool_keeps_the_best_different_particles_of_all(name, kind):
    given, count = TASKS[kind](), 6
    seen = ends(given)
    found = METHODS[name](keep="best")(given, count)
    x, r = seen[-1]
    assert len(x) == 4 * count
    by_hand = []
    for row in sorted(range(len(x)), key=lambda row: -r[row].item()):
        if all(not torch.equal(x[row], x[other]) for other in by_hand):
            by_hand.append(row)
    assert len(by_hand) >= count
    assert torch.equal(found, x[sorted(by_hand[:count])])


@pytest.mark.parametrize("name", METHODS)
def test_a_pool_has_more_reward_for_the_same_calls(name):
    each, pooled = tokens_task(), tokens_task()
    alone = METHODS[name](keep="best", pooled=False)(each, 12)
    together = METHODS[name](keep="best")(pooled, 12)
    assert each.meter.network == pooled.meter.network and each.meter.rewards == pooled.meter.rewards
    assert len({tuple(row) for row in together.tolist()}) >= len({tuple(row) for row in alone.tolist()})
    # Where the pool holds as many different ones, none outside is better than one that it keeps.
    seen = ends(again := tokens_task())
    METHODS[name](keep="best")(again, 12)
    x, r = seen[-1]
    worst = TABLE(together, []).min()
    left = [value for row, value in zip(x.tolist(), r.tolist(), strict=True) if row not in together.tolist()]
    assert max(left, default=-torch.inf) <= worst + 1e-6


@pytest.mark.parametrize("name", METHODS)
def test_streams_are_the_same_in_any_batch(name):
    found = [METHODS[name](keep="best")(replace(TASKS["mixture"](), batch_size=size), 5) for size in (1, 7, 1000)]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize("name", [name for name in METHODS if name != "beam"])
def test_draws_are_of_each_samples_own(name):
    """The same with and without a pool, which is drawn by its particles alone, and so in parts."""
    given = [METHODS[name](keep="draw", pooled=pooled)(tokens_task(), 5) for pooled in (True, False)]
    assert torch.equal(*given)
    assert not METHODS[name](keep="draw").whole and not METHODS[name](keep="best", pooled=False).whole
    assert METHODS[name](keep="best").whole


def test_a_draw_has_the_law_of_the_target_and_each_best_that_of_the_best():
    target = tilt(CHAIN.law(), REWARD)
    drawn = TOKENS.law(SMC(16, every=2, start=1.0, stop=0.0)(tokens_task(), 800))
    assert total_variation(drawn, target) < 0.05 + noise(target, 800)[0]
    own = SMC(3, threshold=0, keep="best", pooled=False)(tokens_task(), 2000)
    assert has_law(own, best_of(CHAIN.law(), REWARD, 3))
