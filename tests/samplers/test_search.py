"""Samplers without gradients: the laws of what they draw, against laws computed by enumeration, and what they spend.

Tokens (64 states) have every law in closed form: the steps of the solver are one matrix each, and each method is its
own definition written out over the states.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lidar_lightning import Lookahead
from lidar_lightning.modules.value import ValueModule, rollouts
from lidar_lightning.rewards import CallableReward
from lidar_lightning.samplers.beam import BeamSearch
from lidar_lightning.samplers.best_of_n import BestOfN
from lidar_lightning.samplers.das import DAS
from lidar_lightning.samplers.dcbg import DCBG
from lidar_lightning.samplers.lidar_smc import LiDARSMC
from lidar_lightning.samplers.meter import BudgetSpentError, Meter
from lidar_lightning.samplers.rbf import RBF
from lidar_lightning.samplers.rollout import BackwardRollout
from lidar_lightning.samplers.smc import SMC, Look, ParticleSampler
from lidar_lightning.samplers.svdd import SVDD
from lidar_lightning.samplers.task import Task
from lidar_lightning.solvers import FlowSDE, GaussianAncestral, SchedulerSolver
from tests.exact import (
    DATA,
    FIVE,
    FIVE_FLOW,
    LENGTH,
    TABLE,
    TOKENS,
    TOKENS_TILTED,
    VOCAB,
    Linear,
    task,
    total_variation,
)
from tests.token_laws import CHAIN, REWARD, Chain, best_of, has_law, noise, one_of_two, tilt, tokens_task

LINEAR = Linear([0.6, 0.3])


def test_the_chain_is_the_model():
    assert CHAIN.law().sum() == pytest.approx(1)
    assert total_variation(Chain(96).law(), DATA) < 0.02
    assert total_variation(tilt(Chain(96).law(), REWARD), TOKENS_TILTED) < 0.02
    assert has_law(BestOfN(1)(tokens_task(), 2000), CHAIN.law())


def test_best_of_n_is_the_maximum_of_n_draws():
    assert has_law(BestOfN(4, pooled=False)(tokens_task(), 2000), best_of(CHAIN.law(), REWARD, 4))


def test_svdd_is_its_own_definition():
    """Each step draws children from the solver's matrix and picks one by the value at its time."""
    pairs = [
        (SVDD(2), lambda law, values: one_of_two(law, values)),
        (SVDD(3, "best", pooled=False), lambda law, values: best_of(law, values, 3)),
    ]
    for sampler, choose in pairs:
        steps = zip(CHAIN.matrices, CHAIN.values[1:], strict=True)
        law = CHAIN.law([np.array([choose(row, values) for row in matrix]) for matrix, values in steps])
        assert total_variation(law, CHAIN.law()) > 0.2
        assert has_law(sampler(tokens_task(), 2000), law)


def test_svdd_with_the_true_value_samples_the_target():
    soft, powers = CHAIN.soft_values(), torch.tensor(VOCAB ** np.arange(LENGTH)[::-1].copy())
    times = {round(t, 9): i for i, t in enumerate(TOKENS.solver(6).times.tolist())}
    sampler = SVDD(16, value=lambda x, t: torch.from_numpy(soft[times[round(t[0].item(), 9)]])[x @ powers])
    given = tokens_task()
    distance = total_variation(TOKENS.law(sampler(given, 2000)), tilt(CHAIN.law(), REWARD))
    assert distance < 0.05 + noise(tilt(CHAIN.law(), REWARD), 2000)[0]
    assert given.meter.network == 6 * 2000


# Costs and refusals


@pytest.mark.parametrize(
    ("sampler", "network", "rewards"),
    [
        (BestOfN(3), 3 * 6, 3),
        (SMC(5, every=2, start=1.0, stop=0.0), 5 * 6, 5 * (3 + 1)),
        (SMC(5, every=1, start=5 / 6, stop=0.4), 5 * 6, 5 * (3 + 1)),
        (SVDD(4), 1 + 4 * 5, 4 * 6),
        (SVDD(4, "best", value=lambda x, t: t, pooled=False), 6, 4),
        (RBF(23, 3), 23, 23),
        (BackwardRollout(2, rollouts=3, every=2), 2 * (6 + 3 * (5 + 3 + 1)), 2 * (3 * 3 + 1)),
        (DCBG(), 6 * 10, 6 * 10),
        (DCBG(calls=6 + 3 * 9 + 1), 6 + 3 * 9, 3 * 10),
        (DCBG(calls=6 + 3 * 9 + 4), 6 + 3 * 9 + 3, 3 * 10 + 1 + 3),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "draw") else "",
)
def test_the_meter_counts_each_sample(sampler, network, rewards):
    for count in (1, 7):
        given = tokens_task()
        given.batch_size = 3
        assert sampler(given, count).shape == (count, LENGTH)
        meter = given.meter
        assert (meter.network, meter.rewards, meter.decodes) == (network * count, rewards * count, rewards * count)


def test_a_budget_stops_a_sampler():
    given = tokens_task(meter=Meter(budget=50))
    with pytest.raises(BudgetSpentError):
        BestOfN(4)(given, 4)
    assert given.meter.network == 48


@pytest.mark.parametrize(
    "sampler", [BestOfN(), SMC(), SVDD(), RBF(starts=5), BackwardRollout(rollouts=2), DCBG()], ids=lambda s: type(s)
)
def test_budgets_too_small_for_one_step_are_refused(sampler):
    with pytest.raises(ValueError, match="needs at least .* network calls per sample .* got a budget of 5: raise"):
        sampler.within(5, 6, 4)


def test_samples_do_not_depend_on_how_many_are_drawn():
    for sampler in (SVDD(3), RBF(20, 2), BackwardRollout(3, rollouts=2), DCBG()):
        few, many = (sampler(tokens_task(), count) for count in (2, 6))
        assert torch.equal(few, many[:2])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BestOfN(0), "at least 1 particle, got 0"),
        (lambda: SMC(0), "at least 1 particle, got 0"),
        (lambda: BackwardRollout(0), "BackwardRollout needs at least 1 particle, got 0"),
        (lambda: DAS(0), "DAS needs at least 1 particle, got 0"),
        (lambda: LiDARSMC(Lookahead(2, 2), 0), "LiDARSMC needs at least 1 particle, got 0"),
        (lambda: BackwardRollout(rollouts=0), "at least 1, got 0"),
        (lambda: BackwardRollout(every=0), "at least 1, got 4 and 0"),
        (lambda: SVDD(0), "at least 1 child, got 0"),
        (lambda: SVDD(keep="worst"), "keep must be 'draw' .* or 'best' .* got 'worst'"),
        (lambda: BestOfN(2.5, pooled=False), "a whole number for each sample, got n=2.5"),
        (lambda: RBF(starts=0), "at least 1 start, got 0"),
        (lambda: DCBG(-1.0), "at least 0, got -1.0"),
        (lambda: RBF(30, 25)(tokens_task(), 2), "at least 31 network calls .*25 starts .* budget of 30"),
        (lambda: DCBG(calls=8)(tokens_task(), 2), "at least 9 network calls .* neighbours of one .* budget of 8"),
        (lambda: DCBG()(task(FIVE, LINEAR), 2), "samples of 'mixture' are continuous: use SMC, SVDD or LiDAR"),
        (lambda: ValueModule((2,), target="median"), "'soft' or 'mean', got 'median'"),
        (lambda: rollouts(tokens_task(1), 5), "at least 2 steps, got 5 of 1"),
    ],
)
def test_bad_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_deterministic_solvers_are_refused():
    import diffusers

    euler = SchedulerSolver(diffusers.FlowMatchEulerDiscreteScheduler(), 8)
    still = [GaussianAncestral(FIVE_FLOW.schedule, 8, eta=0.0), FlowSDE(FIVE_FLOW.schedule, 8, scale=0.0), euler]
    particles = (SMC(), DAS(), DAS(derivative_free=True), BackwardRollout(), LiDARSMC(Lookahead(4, 3)))
    for sampler in (RBF(60, 4), SVDD(4), BeamSearch(), *particles):
        for solver in still:
            given = Task(FIVE_FLOW, solver, LINEAR)
            with pytest.raises(ValueError, match="deterministic: use the solver GaussianAncestral with eta > 0"):
                sampler(given, 2)
            assert given.meter.network == 0
        for solver in (GaussianAncestral(FIVE_FLOW.schedule, 8), FlowSDE(FIVE_FLOW.schedule, 8)):
            sampler(Task(FIVE_FLOW, solver, LINEAR), 2)
    sure = SimpleNamespace(name="Sure", times=TOKENS.solver(6).times, start=lambda noise: noise)
    for sampler in (SMC(), SVDD(4), DCBG(), BackwardRollout(), RBF(60, 4)):
        given = Task(TOKENS, sure, TABLE)
        with pytest.raises(ValueError, match="those of Sure are deterministic: use the solver Ancestral"):
            sampler(given, 2)
        assert given.meter.network == 0


class Broken(ParticleSampler):
    """Its twists become NaN halfway."""

    def look(self, task, x_t, i, carry):
        twists = torch.full((len(x_t),), torch.nan if i == 3 else 0.0, dtype=torch.float64)
        return Look(task.predict(x_t, task.steps[i][0]), twists)


@pytest.mark.parametrize(
    ("sampler", "reward", "message"),
    [
        (SMC(), CallableReward(lambda samples, _: [math.nan] * len(samples), name="broken"), "'broken': 8 of 8 scores"),
        (SVDD(3), CallableReward(lambda samples, _: [math.inf] * len(samples), name="broken"), "'broken': 6 of 6"),
        (Broken(), TABLE, "resampled in 2 of 2 groups: a log-weight is NaN or infinite"),
        (SVDD(3, value=lambda x, t: t * torch.nan), TABLE, "6 of 6 values of children are NaN or infinite"),
        (SVDD(3, "best", value=lambda x, t: t / 0), TABLE, "6 of 6 values of children are NaN or infinite"),
    ],
)
def test_what_is_not_a_number_is_named(sampler, reward, message):
    with pytest.raises(ValueError, match=message):
        sampler(task(TOKENS, reward, 1.0, 6), 2)
