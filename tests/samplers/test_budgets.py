"""Every method spends what `within` is given, or refuses; over a grid of budgets, steps and counts."""

import pytest
import torch

from lidar_lightning import Lookahead
from lidar_lightning.samplers import (
    DAS,
    DATE,
    DCBG,
    DPS,
    RBF,
    SMC,
    SVDD,
    BackwardRollout,
    BeamSearch,
    BestLookaheads,
    BestOfN,
    DraftThenFinish,
    LiDAR,
    LiDARSMC,
    Meter,
    Planned,
    Task,
    UniversalGuidance,
    VerifierThreshold,
)
from lidar_lightning.samplers.budget import SPENT
from lidar_lightning.solvers import GaussianAncestral
from tests.exact import DIFFUSION, FIVE, FIVE_FLOW, TABLE, TOKENS, Quadratic, task
from tests.pictures import BRIGHTNESS, backbone

QUADRATIC = Quadratic(FIVE.means[0])


def tokens(steps, **settings):
    return task(TOKENS, TABLE, 1.0, steps, **settings)


def mixture(steps, **settings):
    return task(FIVE, QUADRATIC, 0.2, steps, **settings)


def flow(steps, **settings):
    return task(FIVE_FLOW, QUADRATIC, 0.2, steps, **settings)


def planned():
    choices = {f"{delta} {tau}": LiDAR(Lookahead(delta), steps=tau) for delta in (2, 3) for tau in (4, 8)}
    return Planned(choices | {"best": BestOfN()}, ["pilot"], repetitions=1, references=4)


CASES = {
    "best-of-n": (BestOfN(), tokens),
    "best-of-n, each": (BestOfN(pooled=False), tokens),
    "best-of-n, draw": (BestOfN(keep="draw"), tokens),
    "best-of-n, own steps": (BestOfN(steps=3), tokens),
    "best lookaheads": (BestLookaheads(Lookahead(2)), mixture),
    "draft": (DraftThenFinish(draft_steps=1), tokens),
    "draft, later": (DraftThenFinish(draft_steps=2, at=0.7), mixture),
    "smc": (SMC(), tokens),
    "smc, own steps": (SMC(steps=3), tokens),
    "smc, best": (SMC(keep="best"), mixture),
    "das": (DAS(derivative_free=True), tokens),
    "das, gradients": (DAS(), mixture),
    "svdd": (SVDD(), tokens),
    "svdd, learned value": (SVDD(3, value=lambda x, t: t), tokens),
    "rbf": (RBF(starts=3), tokens),
    "rbf, flow": (RBF(starts=3, keep="draw"), flow),
    "beam": (BeamSearch(children=2, ahead_steps=1), tokens),
    "beam, two steps ahead": (BeamSearch(children=2, ahead_steps=2, steps=3), mixture),
    "verifier-threshold": (VerifierThreshold(0.5, starts=3), tokens),
    "verifier-threshold, own steps": (VerifierThreshold(-1.0, starts=2, steps=3), flow),
    "rollout": (BackwardRollout(rollouts=1, every=3), tokens),
    "d-cbg": (DCBG(), tokens),
    "universal": (UniversalGuidance(), mixture),
    "universal, a part": (UniversalGuidance(start=0.9, stop=0.3), mixture),
    "universal, flow": (UniversalGuidance(), flow),
    "dps": (DPS(), mixture),
    "dps, a part": (DPS(stop=0.5), mixture),
    "lidar": (LiDAR(Lookahead(3)), mixture),
    "lidar, tokens": (LiDAR(Lookahead(3)), tokens),
    "lidar-rounds": (LiDAR(Lookahead(3), rounds=2, restart=0.5), mixture),
    "lidar-moves": (LiDAR(Lookahead(3), moves=1, restart=0.5), tokens),
    "lidar, best": (LiDAR(Lookahead(3), candidates=2), mixture),
    "lidar+smc": (LiDARSMC(Lookahead(3, 4)), mixture),
    "lidar+smc, own steps": (LiDARSMC(Lookahead(3, 4), steps=4), mixture),
    "planned": (planned(), mixture),
}
BUDGETS = [*range(5, 40, 3), 64, 100]
REFUSED = {"rollout": 8}
"""How many of the budgets that are large enough may still be refused, where methods move in large strides."""


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("steps", "count"), [(5, 1), (6, 3)])
def test_every_budget_that_is_accepted_is_spent(name, steps, count):
    sampler, problem = CASES[name]
    refused, accepted = 0, 0
    for calls in BUDGETS:
        given = problem(steps, meter=Meter(calls * count))
        try:
            assert len(sampler.within(calls, steps, count)(given, count)) == count
        except ValueError as error:
            assert "needs at least" in str(error) or "give" in str(error)
            refused += "needs at least" not in str(error)
            continue
        accepted += 1
        assert SPENT * calls * count <= given.meter.network <= calls * count, (calls, given.meter.network)
    assert accepted > 1 and refused <= REFUSED.get(name, 4), (accepted, refused)


@pytest.mark.parametrize("calls", [5, 6, 7, 8, 10, 13, 20])
def test_date_spends_its_budget(calls):
    model = backbone()
    given = Task(model, model.random_solver(4), BRIGHTNESS, "a cat", meter=Meter(calls))
    DATE().within(calls, 4, 1)(given, 1)
    assert SPENT * calls <= given.meter.network <= calls


def test_what_was_left_unspent_is_spent():
    """At 100 calls for 25 steps DATE made 50 and DPS 25."""
    assert DPS().within(100, 25, 4).steps == 100
    date = DATE().within(100, 25, 4)
    assert (date.every, date.inner, date.steps) == (1, 3, 25)
    smc = LiDARSMC(Lookahead(8, 200)).within(64, 32, 128)
    assert (smc.particles, smc.steps) == (2, 25)


def test_cost_is_what_is_counted():
    for sampler in (
        BestOfN(2.5),
        BestLookaheads(Lookahead(2, 9)),
        DraftThenFinish(2.5, 3, 0.7),
        SMC(3),
        SVDD(3),
        BackwardRollout(2, every=2),
        LiDAR(Lookahead(2, 5), rounds=2, restart=0.5, candidates=2),
        LiDAR(Lookahead(2, 5), restart=0.5, moves=2),
    ):
        given = tokens(6)
        sampler(given, 3)
        assert given.meter.network == sampler.cost(6, 3)


def test_steps_follow_the_budget_on_the_models_own_solver_alone():
    fitted = DPS().within(20, 5, 2)
    own = task(FIVE, QUADRATIC, 0.2, 5)
    assert torch.equal(fitted(own, 2), DPS()(task(FIVE, QUADRATIC, 0.2, 20), 2))
    other = Task(FIVE, GaussianAncestral(DIFFUSION, 5, eta=0.5), QUADRATIC)
    with pytest.raises(ValueError, match="20 steps of the model's own solver, but the task has 5 of Gaussian.*eta=0.5"):
        fitted(other, 2)
    DPS()(other, 2)


@pytest.mark.parametrize("sampler", [SMC(), DAS(), BackwardRollout(rollouts=1), LiDARSMC(Lookahead(3, 4))])
def test_one_particle_is_no_filter(sampler):
    with pytest.raises(ValueError, match="needs at least .*two particles.* got a budget of 11"):
        sampler.within(11, 20, 1)


def test_guidance_of_no_step_cannot_spend_a_budget():
    with pytest.raises(ValueError, match="guides none of 5 steps with start=0.1 and stop=0.1; change these"):
        UniversalGuidance(start=0.1, stop=0.1).within(12, 5, 1)(mixture(5), 1)
