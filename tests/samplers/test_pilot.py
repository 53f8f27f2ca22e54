"""The pilot: its choice against exact laws and measured distances, for both objectives."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from lidar_lightning.samplers import BestOfN, Meter, Planned, Sampler
from lidar_lightning.samplers.pilot import Pilot
from lidar_lightning.samplers.plan import distance
from tests.exact import FIVE, SCORES, TABLE, TOKENS_TILTED, VOCAB, Quadratic, Table, task
from tests.samplers.test_planner import QUADRATIC, TASKS, small, splits
from tests.token_laws import CHAIN, REWARD, best_of, one_of_two, tilt, tokens_task

CALLS, COUNT = 40, 8


def test_distance_is_that_of_scipy():
    rng = torch.Generator().manual_seed(0)
    values, reference, weights = (torch.rand(n, generator=rng, dtype=torch.float64) for n in (7, 12, 12))
    expected = wasserstein_distance(values, reference, v_weights=weights)
    assert distance(values, reference, weights / weights.sum()) == pytest.approx(expected)


PAIRS = {"draw": BestOfN(keep="draw", pooled=False), "best": BestOfN(pooled=False)}
"""With a budget of two plain samples, one of two by its weight and the better of two."""


def scaled(strength):
    """A task of that reward, and the exact laws of `PAIRS` and of the target for it."""
    values, law = strength * REWARD, CHAIN.law()
    laws = {"draw": one_of_two(law, values), "best": best_of(law, values, 2)}
    return replace(tokens_task(), reward=Table(strength * SCORES, VOCAB, 3)), values, laws, tilt(law, values)


@pytest.mark.parametrize(("strength", "nearest"), [(0.25, "draw"), (1.0, "best")])
def test_it_takes_what_is_best_by_the_exact_laws(strength, nearest):
    """At a weak tilt the draw of two is nearest to the target, at a strong one the better of two is."""
    given, values, laws, wanted = scaled(strength)
    gaps = {name: wasserstein_distance(values, values, law, wanted) for name, law in laws.items()}
    assert min(gaps, key=gaps.get) == nearest and max(gaps.values()) > 1.5 * min(gaps.values())
    means = {name: law @ values for name, law in laws.items()}
    assert means["best"] > means["draw"] + 0.03 * strength
    for seed in (0, 1):
        plans = {
            goal: small(12, PAIRS, objective=goal, references=4000, seed=seed).plan(given, 500)
            for goal in ("target", "reward")
        }
        assert {goal: plan.choice for goal, plan in plans.items()} == {"target": nearest, "reward": "best"}
        for name in PAIRS:
            assert plans["target"].tried[name] == pytest.approx(gaps[name], abs=0.06 * strength + 0.02)
    assert [small(objective=goal).keep for goal in plans] == ["draw", "best"]


class Copies(Sampler):
    """The best of all plain samples that the budget pays for, again and again."""

    def sized(self, calls, steps, count, times):
        return self.changed(n=calls // steps)

    def draw(self, given, count):
        x = given.solve(given.generators(self.n * count))
        return x[given.utility(x).argmax()].expand(count, -1)


def test_copies_of_the_best_win_nothing():
    found = {}
    for name, sampler in {"copies": Copies(), "best": BestOfN(steps=6)}.items():
        found[name] = TABLE(sampler.within(12, 6, 8)(tokens_task(), 8), []).mean().item()
    assert found["copies"] > found["best"]
    choices = {"copies": Copies(), "best": BestOfN(steps=6)}
    plan = small(12, choices, objective="reward", references=4000).plan(tokens_task(), 8)
    assert plan.choice == "best"
    # One copy counts, and seven plain samples.
    pilot = Pilot(["pilot"], "reward", 1, 4000)
    x = Copies().within(12, 6, 8).draw(tokens_task(), 8)
    values = pilot.values(tokens_task(), x, 0.25)
    assert values[0] == pytest.approx(TABLE(x[:1], [])[0]) and (values[1:] == 0.25).all()


def target(name):
    """lambda r and weights of the target, exactly or by many exact draws."""
    if name == "tokens":
        return torch.from_numpy(SCORES), torch.from_numpy(TOKENS_TILTED)
    values = 0.2 * QUADRATIC(FIVE.draw(50_000, seed=1), [])
    return values, values.softmax(0)


@cache
def measured(name):
    """Distance to the target and mean of lambda r of every split, from 2,880 samples on 72 banks."""
    reference, found = target(name), {}
    for split, choice in splits().items():
        sampler, values = choice.within(CALLS, 40, COUNT), []
        for seed in range(72):
            problem = TASKS[name](seed=100 + seed)
            values.append(problem.value(sampler(problem, 40)))
        found[split] = distance(torch.cat(values), *reference), torch.cat(values).mean().item()
    return found


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_it_finds_the_best_split(name, seed):
    distances = {split: gap for split, (gap, _) in measured(name).items()}
    plan = Planned(splits(), ["pilot"], calls=CALLS, repetitions=16, seed=seed).plan(TASKS[name](), COUNT)
    assert plan.tried.keys() == distances.keys()
    assert distances[plan.choice] < min(distances.values()) + 0.03
    assert distances[plan.choice] < 0.5 * sorted(distances.values())[1]


def test_the_highest_mean_would_overshoot():
    by_mean = max(measured("mixture"), key=lambda split: measured("mixture")[split][1])
    best = min(measured("mixture"), key=measured("mixture").get)
    values, weights = target("mixture")
    assert int(by_mean.split()[1]) < int(best.split()[1])
    assert measured("mixture")[by_mean][1] > (weights * values).sum() + 0.2
    assert measured("mixture")[by_mean][0] > 2 * measured("mixture")[best][0]


def test_a_target_of_hardly_any_sample_is_told(caplog):
    problem = replace(tokens_task(), temperature=50.0)
    small().plan(problem, 3)
    assert "plain samples represent the target" in caplog.text and "give it more references than 8" in caplog.text


def test_of_equals_the_first_is_taken():
    assert small().plan(task(FIVE, Quadratic([0.0, 0.0]), 0.0), 3).choice == "2 4"


def test_the_plain_law_of_tokens_is_that_of_the_references():
    """What stands for the target is weighted right: its mean of lambda r is the exact one."""
    found = Pilot(["pilot"], references=20_000)
    measure, plain = found.measure(tokens_task(), Meter())
    exact = torch.from_numpy(np.sort(REWARD))
    assert plain["pilot"] == pytest.approx(CHAIN.law() @ REWARD, abs=0.03)
    assert measure(exact) == pytest.approx(
        wasserstein_distance(exact.numpy(), REWARD, None, tilt(CHAIN.law(), REWARD)), abs=0.03
    )
