"""The planner: what it costs, keeps and refuses."""

import json
import logging
from dataclasses import replace
from itertools import product

import pytest
import torch

from lidar_lightning import Lookahead
from lidar_lightning.rewards.combine import Combined
from lidar_lightning.samplers import DPS, SMC, BestOfN, LiDAR, Meter, Planned
from lidar_lightning.samplers.pilot import Pilot
from lidar_lightning.solvers import GaussianAncestral
from tests.exact import DIFFUSION, FIVE, TABLE, TOKENS, Quadratic, task
from tests.token_laws import tokens_task

QUADRATIC = Quadratic(FIVE.means[0])
TASKS = {
    "mixture": lambda **given: task(FIVE, QUADRATIC, 0.2, **given),
    "tokens": lambda **given: task(TOKENS, TABLE, **given),
}


def splits(lookaheads=(2, 8), targets=(2, 8, 32), **settings):
    """LiDAR with other numbers of lookahead and target steps, by name."""
    pairs = product(lookaheads, targets)
    return {f"{delta} {tau}": LiDAR(Lookahead(delta), steps=tau, **settings) for delta, tau in pairs}


def small(calls=20, choices=None, **settings):
    given = {"prompts": ["pilot"], "repetitions": 1, "references": 8, **settings}
    return Planned(choices or splits((2, 4), (4, 8)), calls=calls, **given)


@pytest.mark.parametrize("name", TASKS)
def test_budgets_are_kept_and_the_pilot_is_counted(name, monkeypatch):
    model, rows = TASKS[name]().backbone, []
    predict = model.predict
    monkeypatch.setattr(model, "predict", lambda x, t, condition: rows.append(len(x)) or predict(x, t, condition))
    choices = splits((2, 4), (4, 8)) | {"best": BestOfN(steps=2), "restart": LiDAR(Lookahead(2), restart=0.5, rounds=2)}
    for calls in (6, 12, 20):
        sampler, problem = small(choices=choices).within(calls, 10, 3), TASKS[name](steps=10, meter=Meter(calls * 3))
        plan = sampler.plan(problem, 3)
        assert sum(rows) == plan.pilot.network > 0 and problem.meter.network == 0
        rows.clear()
        assert len(sampler(problem, 3)) == 3
        assert sum(rows) == problem.meter.network and 0.95 * calls * 3 <= sum(rows) <= calls * 3
        assert problem.meter.row(3)["pilot"] == plan.pilot.network
        rows.clear()


def test_it_is_the_choice_itself():
    problem, sampler = TASKS["mixture"](seed=3), small(choices={**splits((2, 4), (4, 8)), "smc": SMC(steps=4)})
    fitted = sampler.choices[sampler.plan(problem, 5).choice].within(20, 40, 5)
    assert torch.equal(sampler(problem, 5), fitted(TASKS["mixture"](seed=3), 5))


def test_every_prompt_and_seed_has_the_same_plan():
    plans = []
    for prompt, seed in (("a", 0), ("b", 5)):
        problem = replace(TASKS["mixture"](), prompt=prompt, seed=seed, banks=lambda *_: pytest.fail("not its own"))
        plans.append(small().plan(problem, 3))
    assert plans[0].tried == plans[1].tried and plans[0].choice == plans[1].choice
    assert small(seed=1).plan(TASKS["mixture"](), 3).tried != plans[0].tried


def test_stored_plans_need_no_pilot(tmp_path, monkeypatch):
    def given(**settings):
        return small(folder=str(tmp_path), **settings)

    first = given().plan(TASKS["mixture"](), 3)
    with monkeypatch.context() as patch:
        patch.setattr(Pilot, "__call__", lambda *_: pytest.fail("planned again"))
        again = TASKS["mixture"](seed=1)
        assert given().plan(replace(again, prompt="new"), 3) == first
        given()(again, 3)
        assert again.meter.pilot == first.pilot.network
    for changed in (
        {"choices": splits((2, 4), (4, 8), scale=2.0)},
        {"choices": splits((2, 4), (4, 16))},
        {"choices": {f"{name}!": choice for name, choice in splits((2, 4), (4, 8)).items()}},
        {"calls": 21},
        {"objective": "reward"},
        {"prompts": ["other"]},
        {"seed": 1},
    ):
        given(**changed).plan(TASKS["mixture"](), 3)
    given().plan(replace(TASKS["mixture"](), temperature=0.1), 3)
    given().plan(replace(TASKS["mixture"](), reward=Quadratic([0.0, 0.0])), 3)
    given().plan(TASKS["mixture"](steps=30), 3)
    given().plan(TASKS["mixture"](), 4)
    paths = list(tmp_path.glob("*.json"))
    assert len(paths) == 1 + 7 + 4


@pytest.mark.parametrize("change", [lambda text: "{}", lambda text: text[:-9], lambda text: text.replace("4 8", "5 8")])
def test_a_damaged_plan_is_named(tmp_path, change):
    planner = small(choices={"4 8": splits()["8 8"], "2 8": splits()["2 8"]}, folder=str(tmp_path))
    planner.plan(TASKS["mixture"](), 3)
    (path,) = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    path.write_text(change(json.dumps({**content, "choice": "4 8"})))
    again = small(choices=planner.choices, folder=str(tmp_path))
    with pytest.raises(ValueError, match=r"the plan .*\.json is damaged .*: delete it"):
        again.plan(TASKS["mixture"](), 3)


def test_what_cannot_spend_the_budget_is_left_out_and_named(caplog):
    choices = {"plain": BestOfN(1), "best": BestOfN()}
    with caplog.at_level(logging.WARNING):
        plan = small(11, {"long": SMC(2, steps=8), **choices}).plan(tokens_task(), 2)
    assert "leaves out long: SMC needs at least 16 network calls per sample" in caplog.text
    assert plan.choice in choices and plan.tried.keys() == choices.keys()
    alone = small(11, {"long": SMC(2, steps=8), "best": BestOfN()}).plan(tokens_task(), 2)
    assert alone.choice == "best" and alone.tried == {} and alone.pilot == Meter()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(4).within(4, 10, 8), "no choice .* can spend 4 .*2 4: LiDAR needs at least 5 network calls"),
        (lambda: small(choices={"smc": SMC(steps=9)}).within(8, 10, 3), "no choice .*smc: SMC needs at least 18"),
        (lambda: small()(TASKS["mixture"](), 0), "at least 1 sample, got 0"),
        (lambda: Planned({}, ["pilot"]), "at least 1 sampler among its choices, got none"),
        (lambda: small(choices={"a": BestOfN(), "b": 3}), "choices must be Samplers, but 'b' is of type int"),
        (lambda: small(prompts=[]), "a pilot needs prompts, and"),
        (lambda: small(repetitions=0), "at least 1 of repetitions and of references"),
        (lambda: small(objective="best"), "objective is 'target' .* or 'reward' .* got 'best'"),
        (
            lambda: small()(replace(TASKS["mixture"](), solver=GaussianAncestral(DIFFUSION, 9, eta=0.5)), 3),
            "model's own GaussianAncestral.eta=1, .* the task has GaussianAncestral.eta=0.5",
        ),
        (lambda: small()(task(FIVE, Combined([QUADRATIC])), 3), "relative to one: use a reward that scores each"),
        (lambda: small(choices={"dps": DPS()})(tokens_task(), 3), "DPS differentiates the reward, and 'table' is not"),
        (lambda: small()(replace(tokens_task(), temperature=None), 3), "give a temperature, which is lambda"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
