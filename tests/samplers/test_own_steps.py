"""Samplers with their own number of solver steps; best-of-N over few-step drafts, and over lookaheads as they are."""

import pytest
import torch

from lidar_lightning import Lookahead
from lidar_lightning.samplers import (
    DAS,
    RBF,
    SMC,
    SVDD,
    BackwardRollout,
    BeamSearch,
    BestLookaheads,
    BestOfN,
    LiDAR,
    LiDARSMC,
    Meter,
    Task,
    VerifierThreshold,
)
from lidar_lightning.solvers import GaussianAncestral
from tests.exact import FIVE, FIVE_FLOW, TABLE, TOKENS, Quadratic, task
from tests.pictures import BRIGHTNESS, backbone
from tests.token_laws import REWARD, Chain, best_of, has_law, tokens_task

QUADRATIC = Quadratic(FIVE.means[0])
MAKERS = {
    "best-of-n": lambda **own: BestOfN(3, **own),
    "smc": lambda **own: SMC(3, every=2, **own),
    "das": lambda **own: DAS(3, derivative_free=True, **own),
    "svdd": lambda **own: SVDD(3, **own),
    "rbf": lambda **own: RBF(30, 4, **own),
    "beam": lambda **own: BeamSearch(2, 2, 1, **own),
    "threshold": lambda **own: VerifierThreshold(0.3, calls=30, starts=4, **own),
    "rollout": lambda **own: BackwardRollout(2, rollouts=1, **own),
    "lidar": lambda **own: LiDAR(Lookahead(2, 10), **own),
    "lidar+smc": lambda **own: LiDARSMC(Lookahead(2, 10), 3, **own),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("model", "reward"), [(TOKENS, TABLE), (FIVE, QUADRATIC), (FIVE_FLOW, QUADRATIC)])
def test_own_steps_stand_in_for_the_tasks(name, model, reward):
    given, shorter = task(model, reward, 0.5, 7), task(model, reward, 0.5, 4)
    assert torch.equal(MAKERS[name](steps=4)(given, 3), MAKERS[name]()(shorter, 3))
    assert given.meter.network == shorter.meter.network and len(given.steps) == 7


@pytest.mark.parametrize("name", MAKERS)
def test_a_budget_is_spent_on_own_steps(name):
    """More steps than its own are taken only to spend what is left."""
    sampler = MAKERS[name](steps=4).within(60, 15, 3)
    given = tokens_task(15, meter=Meter(60 * 3))
    sampler(given, 3)
    assert 4 <= len(sampler.adapted(given).steps) <= 8
    assert 0.95 * 60 * 3 <= given.meter.network <= 60 * 3


def test_the_best_of_few_step_drafts_have_their_law():
    drawn = BestOfN(4, pooled=False, steps=2)(tokens_task(9), 2000)
    assert has_law(drawn, best_of(Chain(2).law(), REWARD, 4))
    assert not has_law(drawn, best_of(Chain(9).law(), REWARD, 4))


def test_own_steps_are_of_the_solver_that_the_task_has():
    """`lidar predict` takes the default solver, which may be deterministic, and `lidar compare` the random one."""
    model = backbone()
    for make in (model.solver, model.random_solver):
        tasks = [Task(model, make(steps), BRIGHTNESS, "a cat") for steps in (4, 2)]
        assert torch.equal(BestOfN(2, steps=2)(tasks[0], 1), BestOfN(2)(tasks[1], 1))
    assert model.solver(4).name != model.random_solver(4).name


def test_steps_of_another_solver_are_refused():
    other = Task(FIVE, GaussianAncestral(FIVE.schedule, 7, eta=0.5), QUADRATIC)
    with pytest.raises(ValueError, match="asks for 4 steps of the model's own solver, but the task has 7 of Gaussian"):
        BestOfN(2, steps=4)(other, 2)
    with pytest.raises(ValueError, match="BestOfN takes at least 1 solver step, got steps=0"):
        BestOfN(steps=0)


# The best lookaheads


@pytest.mark.parametrize(("model", "reward"), [(TOKENS, TABLE), (FIVE, QUADRATIC)])
def test_the_best_lookaheads_are_those_of_the_bank(model, reward):
    given = task(model, reward, 0.5, 7)
    bank = Lookahead(3, 20).bank(model, "numbers", given.seed, [reward])
    order = bank.rewards[reward.name].argsort(descending=True, stable=True).tolist()
    different = {tuple(bank.samples[place].tolist()): place for place in reversed(order)}
    rows = sorted(different.values(), key=order.index)[:5]
    assert torch.equal(BestLookaheads(Lookahead(3, 20))(given, 5), bank.samples[sorted(rows)])
    assert (given.meter.network, given.meter.lookahead, given.meter.rewards) == (60, 60, 20)


def test_the_best_lookaheads_are_best_of_n_by_the_lookaheads_solver():
    def mean(sampler):
        return TABLE(sampler(tokens_task(9), 400), []).mean().item()

    assert mean(BestLookaheads(Lookahead(3, 1200))) == pytest.approx(mean(BestOfN(3, steps=3)), abs=0.05)


def test_more_samples_than_lookaheads_are_refused():
    with pytest.raises(ValueError, match="8 samples cannot be the best of n=7 lookaheads"):
        BestLookaheads(Lookahead(3, 7))(tokens_task(), 8)
    with pytest.raises(ValueError, match="BestLookaheads needs at least 3 network calls .* got a budget of 2"):
        BestLookaheads(Lookahead(3, 7)).within(2, 6, 4)
