"""The budget planner: splits by brute force, its choice against the measured distance of each, costs and refusals."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from scipy.stats import wasserstein_distance

from lidar_lightning import Lookahead
from lidar_lightning.rewards.combine import Combined
from lidar_lightning.samplers import LiDAR, Meter, PlannedLiDAR
from lidar_lightning.samplers.plan import Allocation, allocations, distance
from lidar_lightning.solvers import GaussianAncestral
from tests.exact import DIFFUSION, FIVE, SCORES, TABLE, TOKENS, TOKENS_TILTED, Quadratic, task

REWARD = Quadratic(FIVE.means[0])
CALLS, COUNT, LOOKAHEADS, TARGETS = 40, 8, (2, 8), (2, 8, 32)
TASKS = {
    "mixture": lambda **given: task(FIVE, REWARD, 0.2, **given),
    "tokens": lambda **given: task(TOKENS, TABLE, **given),
}

pytestmark = pytest.mark.usefixtures("one_thread")


def planned(calls=CALLS, lookaheads=LOOKAHEADS, targets=TARGETS, prompts=("pilot",), **settings):
    return PlannedLiDAR([Lookahead(steps) for steps in lookaheads], list(targets), list(prompts), calls, **settings)


def small(**settings):
    return planned(20, (2, 4), (4, 8), **{"samples": 2, "repetitions": 1, "references": 8, **settings})


@pytest.mark.parametrize(("calls", "count"), [(3, 1), (3, 4), (17, 3), (40, 8)])
def test_splits_are_all_that_fit(calls, count):
    deltas, taus = (7, 1, 3), (1, 2, 16)
    fitting = {}
    for delta in deltas:
        for tau in taus:
            for n in range(1, calls * count + 1):
                if n * delta + tau * count <= calls * count:
                    fitting[delta, tau] = n
    found = allocations(calls, count, deltas, taus)
    assert {(split.lookahead_steps, split.target_steps): split.n for split in found} == fitting


def test_distance_is_that_of_scipy():
    rng = torch.Generator().manual_seed(0)
    values, reference, weights = (torch.rand(n, generator=rng, dtype=torch.float64) for n in (7, 12, 12))
    expected = wasserstein_distance(values, reference, v_weights=weights)
    assert distance(values, reference, weights / weights.sum()) == pytest.approx(expected)


def target(name):
    """lambda r and weights of the target, exactly or by many exact draws."""
    if name == "tokens":
        return torch.from_numpy(SCORES), torch.from_numpy(TOKENS_TILTED)
    values = 0.2 * REWARD(FIVE.draw(50_000, seed=1), [])
    return values, values.softmax(0)


@cache
def measured(name):
    """Distance to the target and mean of lambda r of every split, from 2,880 samples on 72 banks."""
    reference, found = target(name), {}
    for split in allocations(CALLS, COUNT, LOOKAHEADS, TARGETS):
        sampler, values = LiDAR(Lookahead(split.lookahead_steps, split.n)), []
        for seed in range(72):
            problem = TASKS[name](steps=split.target_steps, seed=100 + seed)
            values.append(problem.value(sampler(problem, 40)))
        found[split] = distance(torch.cat(values), *reference), torch.cat(values).mean().item()
    return found


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_it_finds_the_best_split(name, seed):
    distances = {split: gap for split, (gap, _) in measured(name).items()}
    plan = planned(seed=seed, repetitions=8).plan(TASKS[name](), COUNT)
    assert dict(plan.tried).keys() == distances.keys() and 1 < plan.reference_ess < 256
    assert distances[plan.allocation] < min(distances.values()) + 0.03
    assert distances[plan.allocation] < 0.5 * sorted(distances.values())[1]


def test_the_highest_mean_would_overshoot():
    by_mean = max(measured("mixture"), key=lambda split: measured("mixture")[split][1])
    best = min(measured("mixture"), key=measured("mixture").get)
    values, weights = target("mixture")
    assert by_mean.target_steps < best.target_steps
    assert measured("mixture")[by_mean][1] > (weights * values).sum() + 0.2
    assert measured("mixture")[by_mean][0] > 2 * measured("mixture")[best][0]


@pytest.mark.parametrize("name", TASKS)
def test_budgets_are_kept_and_the_pilot_is_counted(name, monkeypatch):
    model, rows = TASKS[name]().backbone, []
    predict = model.predict
    monkeypatch.setattr(model, "predict", lambda x, t, condition: rows.append(len(x)) or predict(x, t, condition))
    for calls in (6, 12, 20):
        sampler, problem = small().within(calls, 10, 3), TASKS[name](steps=10, meter=Meter(calls * 3))
        plan = sampler.plan(problem, 3)
        assert sum(rows) == plan.pilot.network and problem.meter.network == 0
        rows.clear()
        assert len(sampler(problem, 3)) == 3
        spent = plan.allocation.n * plan.allocation.lookahead_steps + 3 * plan.allocation.target_steps
        assert sum(rows) == problem.meter.network == spent and 0.95 * calls * 3 <= spent <= calls * 3
        assert problem.meter.row(3)["pilot"] == plan.pilot.network > 0
        rows.clear()


def test_it_is_lidar_with_that_split():
    problem, sampler = TASKS["mixture"](seed=3), small()
    steps, n, target_steps = sampler.plan(problem, 5).allocation
    alone = LiDAR(Lookahead(steps, n))(TASKS["mixture"](seed=3, steps=target_steps), 5)
    assert torch.equal(sampler(problem, 5), alone)


def test_every_prompt_and_seed_has_the_same_plan():
    plans = []
    for prompt, seed in (("a", 0), ("b", 5)):
        problem = replace(TASKS["mixture"](), prompt=prompt, seed=seed)
        plans.append(small().plan(problem, 3))
    assert plans[0].tried == plans[1].tried and plans[0].allocation == plans[1].allocation
    assert small(seed=1).plan(TASKS["mixture"](), 3).tried != plans[0].tried


def test_stored_plans_need_no_pilot(tmp_path, monkeypatch):
    first = small(folder=str(tmp_path)).plan(TASKS["mixture"](), 3)
    with monkeypatch.context() as patch:
        patch.setattr(PlannedLiDAR, "trial", lambda *_: pytest.fail("planned again"))
        assert small(folder=str(tmp_path)).plan(TASKS["mixture"](seed=1), 3) == first
    small(folder=str(tmp_path), scale=2.0).plan(TASKS["mixture"](), 3)
    small(folder=str(tmp_path)).plan(replace(TASKS["mixture"](), temperature=0.1), 3)
    paths = list(tmp_path.glob("*.json"))
    assert len(paths) == 3
    for path in paths:
        path.write_text("{}")
    with pytest.raises(ValueError, match=r"the plan .*\.json is damaged .*: delete it"):
        small(folder=str(tmp_path)).plan(TASKS["mixture"](), 3)


def test_without_a_goal_the_longest_run_is_taken():
    assert small().plan(task(FIVE, REWARD, 0.0), 3).allocation.target_steps == 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small().within(4, 10, 8), "a plan needs at least 5 network calls .* got a budget of 4"),
        (lambda: small().within(5, 10, 3), "no split spends 95% of 5 network calls per sample, at most 4 are spent"),
        (lambda: small()(TASKS["mixture"](), 0), "at least 1 sample and a choice"),
        (lambda: planned(targets=()).within(9, 10, 8), r"a choice of .* got 8, \[2, 8\] and \[\]"),
        (lambda: planned(lookaheads=()).within(9, 10, 8), r"a choice of .* got 8, \[\] and"),
        (lambda: planned(targets=(0, 4)).within(9, 10, 8), r"at least 1, got .* \[0, 4\]"),
        (lambda: planned(lookaheads=(4, 4)), r"lookaheads take different steps, .* got \[4, 4\]"),
        (lambda: planned(prompts=()), "at least 1 of prompts"),
        (lambda: small(samples=0), "at least 1 of prompts, samples"),
        (
            lambda: small()(replace(TASKS["mixture"](), solver=GaussianAncestral(DIFFUSION, 9, eta=0.5)), 3),
            "model's own GaussianAncestral.eta=1, .* the task has GaussianAncestral.eta=0.5",
        ),
        (lambda: small()(task(FIVE, Combined([REWARD])), 3), "relative to one: use a reward that scores each sample"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_least_budget_is_enough():
    assert allocations(5, 8, (2, 4), (4, 8)) == [Allocation(2, 4, 4), Allocation(4, 2, 4)]
