"""Combinations of rewards inside samplers: on one scale for a prompt, whatever is scored together."""

import numpy as np
import pytest
import torch

from lidar_lightning import Lookahead
from lidar_lightning.rewards import Combined
from lidar_lightning.samplers import RBF, SMC, SVDD, BestOfN, LiDAR
from lidar_lightning.samplers.lidar import lookahead_members
from lidar_lightning.samplers.task import FIRST
from tests.exact import LENGTH, SCORES, TOKENS, VOCAB, Table, task

OTHER = 10 * np.random.default_rng(8).standard_normal(64) + 40


def parts():
    first, second = Table(SCORES, VOCAB, LENGTH), Table(OTHER, VOCAB, LENGTH)
    second.name, second.higher_is_better = "other", False
    return [first, second]


def combined(how="sum", temperature=1.0, **settings):
    return task(TOKENS, Combined(parts(), how), temperature, 6, **settings)


def written_out(x, scores, how):
    """The combination of samples x on the scale of other scores of the parts."""
    rows = x @ VOCAB ** np.arange(LENGTH)[::-1]
    columns = [(SCORES, scores["table"], 1), (OTHER, scores["other"], -1)]
    z = np.array([s * (v[rows] - np.mean(ref.numpy())) / np.std(ref.numpy()) for v, ref, s in columns])
    return z.sum(0) if how == "sum" else z.min(0)


@pytest.mark.parametrize("how", ["sum", "min"])
def test_a_value_does_not_depend_on_what_is_scored_with_it(how):
    given = combined(how, temperature=2.0)
    x = BestOfN(1)(combined(how), 40)
    whole, alone = given.value(x), torch.cat([given.value(row[None]) for row in x])
    torch.testing.assert_close(whole, alone)
    np.testing.assert_allclose(whole, 2 * written_out(x.numpy(), given.reference, how), rtol=1e-5, atol=1e-5)
    # Once, beside the budget, and the same for every method.
    assert given.meter.pilot == FIRST * 6 and given.meter.network == 0
    other = combined(how)
    other.value(x[:1])
    assert all(torch.equal(given.reference[name], other.reference[name]) for name in given.reference)


ALONE = [RBF(40, 4), SVDD(6, "best", pooled=False), SMC(8, keep="best", pooled=False)]


@pytest.mark.parametrize("sampler", ALONE, ids=lambda s: type(s).__name__)
def test_one_sample_at_a_time_is_as_good_as_many(sampler):
    """By their own scale the rows of RBF for one sample were all 0, and it did not search."""
    singles = [sampler(combined(seed=seed), 1) for seed in range(60)]
    reference = combined()
    reference.freeze()
    alone, many, plain = (
        written_out(x.numpy(), reference.reference, "sum").mean()
        for x in (torch.cat(singles), sampler(combined(), 60), BestOfN(1)(combined(), 60))
    )
    assert alone > plain + 0.8 and alone == pytest.approx(many, abs=0.5)


def test_a_bank_is_the_scale_where_there_is_one():
    given, lookahead = combined(), Lookahead(3, 20)
    LiDAR(lookahead, rounds=2, restart=0.5, candidates=2)(given, 5)
    bank = lookahead.bank(TOKENS, given.prompt, given.seed, parts())
    assert given.meter.pilot == 0
    assert all(torch.equal(given.reference[name], bank.rewards[name]) for name in bank.rewards)


def test_a_given_scale_is_that_of_every_method():
    given, lookahead = combined(), Lookahead(3, 20)
    given.reference = {"table": torch.tensor([0.0, 1.0, 5.0]), "other": torch.tensor([3.0, 9.0, 40.0])}
    members = lookahead_members(given, lookahead)
    np.testing.assert_allclose(
        members.values[0], written_out(members.samples[0].numpy(), given.reference, "sum"), rtol=1e-5, atol=1e-5
    )
    x = members.samples[0, :4]
    torch.testing.assert_close(given.utility(x, together=True), members.values[0, :4])
    assert given.meter.pilot == 0


def test_a_pool_is_its_own_scale():
    for how in ("sum", "min", "pareto"):
        given = combined(how)
        assert len(BestOfN(3)(given, 4)) == 4 and given.meter.pilot == 0
        LiDAR(Lookahead(3, 20))(combined(how), 2)


@pytest.mark.parametrize("sampler", [RBF(40, 4), SVDD(4), SMC(), BestOfN(pooled=False)], ids=lambda s: type(s).__name__)
def test_a_pareto_rank_is_refused(sampler):
    with pytest.raises(ValueError, match="pareto.table,other. ranks samples among each other.* by 'sum' or 'min'"):
        sampler(combined("pareto"), 2)


def test_a_frozen_combination_keeps_its_scale():
    reward = Combined(parts(), weights=[2.0, 0.5])
    scores = {"table": torch.tensor([0.0, 2.0, 4.0]), "other": torch.tensor([5.0, 5.0, 5.0])}
    frozen = reward.frozen(scores)
    assert reward.relative and not frozen.relative and frozen.name == reward.name
    # The second part is constant there: it prefers no sample.
    found = frozen.from_scores({"table": torch.tensor([10.0]), "other": torch.tensor([-3.0])})
    assert found.item() == pytest.approx(2 * (10 - 2) / np.std([0, 2, 4]))
    with pytest.raises(ValueError, match="needs scores of .'other'."):
        reward.frozen({"table": scores["table"]})
