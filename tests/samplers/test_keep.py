"""Both ends of each method: samples of the highest reward, or draws of the target; best-of-N over a whole prompt."""

import numpy as np
import pytest
import torch

from lidar_lightning import Lookahead
from lidar_lightning.samplers import DAS, DATE, DPS, RBF, SMC, SVDD, BestOfN, LiDAR, LiDARSMC, UniversalGuidance
from tests.exact import FIVE, TABLE, TOKENS, Quadratic, task, total_variation
from tests.token_laws import CHAIN, REWARD, Chain, has_law, noise, one_of_two, tilt, tokens_task

QUADRATIC = Quadratic(FIVE.means[0])


@pytest.mark.parametrize(("n", "count"), [(3, 5), (2.4, 5), (1, 4)])
def test_best_of_n_keeps_the_best_of_all_samples_of_the_prompt(n, count):
    drawn = round(n * count)
    plain = BestOfN(1)(tokens_task(), drawn)
    wanted = TABLE(plain if drawn == count else plain.unique(dim=0), []).sort(descending=True).values[:count]
    found = BestOfN(n)(tokens_task(), count)
    torch.testing.assert_close(TABLE(found, []).sort(descending=True).values, wanted)
    rows = [place for place, row in enumerate(plain.tolist()) if row in found.tolist()]
    assert len(found) == count and rows == sorted(rows)


def test_a_pool_has_more_reward_than_groups_of_its_own():
    given, alone = tokens_task(), tokens_task()
    pooled, each = BestOfN(2)(given, 500), BestOfN(2, pooled=False)(alone, 500)
    assert given.meter.network == alone.meter.network
    assert TABLE(pooled, []).mean() > TABLE(each, []).mean() + 0.1


def test_best_of_n_by_draw_resamples_the_target():
    given = BestOfN(2, keep="draw", pooled=False)(tokens_task(), 2000)
    assert has_law(given, one_of_two(CHAIN.law(), REWARD))
    target = tilt(CHAIN.law(), REWARD)
    pooled = TOKENS.law(BestOfN(4, keep="draw")(tokens_task(), 2000))
    best = TOKENS.law(BestOfN(4)(tokens_task(), 2000))
    assert total_variation(pooled, target) < 0.03 + noise(target, 2000)[0]
    assert total_variation(best, target) > 0.3


def test_rbf_by_draw_picks_start_and_last_child_by_their_values():
    one, two = Chain(1), Chain(2)
    start = one_of_two(np.full(64, 1 / 64), one.values[0])
    assert has_law(RBF(2, 2, keep="draw")(tokens_task(1), 2000), start @ one.matrices[0])
    rows = np.array([one_of_two(row, two.values[1]) for row in two.matrices[0]])
    law = np.full(64, 1 / 64) @ rows @ two.matrices[1]
    assert has_law(RBF(3, 1, keep="draw")(tokens_task(2), 2000), law)


def test_lidar_by_best_keeps_the_best_of_its_candidates():
    drawn = LiDAR(Lookahead(4, 10))(task(FIVE, QUADRATIC, 0.2, 6), 12)
    best = LiDAR(Lookahead(4, 10), candidates=3)(task(FIVE, QUADRATIC, 0.2, 6), 4)
    wanted = QUADRATIC(drawn, []).topk(4).indices.sort().values
    torch.testing.assert_close(best, drawn[wanted])


@pytest.mark.parametrize(
    "make",
    [
        lambda keep: SMC(8, keep=keep),
        lambda keep: SVDD(4, keep),
        lambda keep: DAS(8, derivative_free=True, keep=keep),
        lambda keep: RBF(24, 4, keep),
        lambda keep: LiDAR(Lookahead(6, 50), candidates=3 if keep == "best" else 1),
        lambda keep: LiDARSMC(Lookahead(6, 50), 8, keep=keep),
        lambda keep: BestOfN(4, keep),
    ],
    ids=["smc", "svdd", "das", "rbf", "lidar", "lidar+smc", "best-of-n"],
)
def test_the_best_end_has_more_reward(make):
    means = {keep: TABLE(make(keep)(tokens_task(), 400), []).mean().item() for keep in ("draw", "best")}
    assert means["best"] > means["draw"] + 0.05
    assert {keep: make(keep).keep for keep in means} == {"draw": "draw", "best": "best"}


@pytest.mark.parametrize("kind", [SMC, SVDD, RBF, BestOfN])
def test_other_goals_are_refused(kind):
    with pytest.raises(ValueError, match="keep must be 'draw' .* or 'best' .* got 'worst'"):
        kind(keep="worst")


def test_gradient_methods_say_what_they_aim_at():
    assert [kind.keep for kind in (UniversalGuidance, DPS, DATE)] == ["draw", "best", "best"]


def test_the_goal_of_lidar_is_told_by_its_candidates():
    assert [LiDAR(Lookahead(4, 10), candidates=k).keep for k in (1, 3)] == ["draw", "best"]
