"""Banks, runs and comparisons do not go on with a reward or a sampler that does something else."""

from dataclasses import replace

import pytest
import torch

from lidar_lightning.rewards import QED, CallableReward
from lidar_lightning.runs.comparison import compare
from lidar_lightning.samplers import BestOfN
from lidar_lightning.utils.describe import describe
from tests.conftest import tiny
from tests.modules.test_lidar_module import module, predict
from tests.rewards.test_reward_identity import CARBONS, from_source


def test_a_bank_is_scored_again_by_another_function_of_the_same_name(bank, modules):
    first, second = (from_source(modules, CARBONS.format(sign=sign), f"mod{sign and 'b'}") for sign in ("", "-"))
    decode = lambda samples: ["C" * int(row[0]) for row in samples]  # noqa: E731
    scored = replace(bank, rewards={}, versions={}).scored([first], decode)
    again = scored.scored([second], decode)
    assert torch.equal(again.rewards["score"], -scored.rewards["score"]) and scored.rewards["score"].any()


@pytest.mark.parametrize("change", ["function", "direction", "metric"])
def test_a_run_does_not_go_on_with_another_reward(tmp_path, modules, change):
    first, second = (from_source(modules, CARBONS.format(sign=sign), f"mod{sign and 'b'}") for sign in ("", "-"))
    runs = {
        "function": [{"carbon_reward": first}, {"carbon_reward": second}],
        "direction": [
            {"carbon_reward": CallableReward("mod:score", higher_is_better=higher)} for higher in (True, False)
        ],
        "metric": [{"carbon_reward": QED(), "metrics": [metric]} for metric in (first, second)],
    }
    (tmp_path / "known.smi").write_text("C\n")
    shared = {"out": tmp_path / "out", "training_data": str(tmp_path / "known.smi")}
    begun, other = runs[change]
    predict(module(**begun, **shared))
    kept = (tmp_path / "out" / "samples.csv").read_text()
    with pytest.raises(ValueError, match="holds a run of other settings"):
        predict(module(**other, **shared))
    predict(module(**begun, **shared))
    assert (tmp_path / "out" / "samples.csv").read_text() == kept


@pytest.mark.parametrize("change", ["function", "direction"])
def test_a_comparison_does_not_go_on_with_another_reward(tmp_path, modules, change):
    modules("mod", CARBONS.format(sign=""))
    modules("modb", CARBONS.format(sign="-"))
    (tmp_path / "known.smi").write_text("C\n")
    changes = {"function": {"path": "modb:score"}, "direction": {"higher_is_better": False}}
    settings = dict(
        backbone=tiny(), samplers={"best": BestOfN()}, prompts=["m"], out=str(tmp_path), samples=2, steps=2,
        budgets=[4], training_data=str(tmp_path / "known.smi"),
    )  # fmt: skip
    compare(**settings, reward=CallableReward("mod:score"))
    with pytest.raises(ValueError, match="holds a run of other settings"):
        compare(**settings, reward=CallableReward(**{"path": "mod:score"} | changes[change]))


def test_functions_in_settings_are_described_by_what_they_do(modules):
    first, second = (modules("steered", f"def pick(x):\n    return {k} * x\n").pick for k in (1, 2))
    assert describe({"choose": first}) != describe({"choose": second})


def test_an_own_sampler_is_described_by_what_it_does(modules):
    source = """
from lidar_lightning.samplers import BestOfN

class Own(BestOfN):
    def draw(self, task, count):
        return {k} * super().draw(task, count)
"""
    first, again, other = (modules("own_sampler", source.format(k=k)).Own(4) for k in (1, 1, 2))
    assert describe(first) == describe(again) != describe(other) and describe(BestOfN(4))["class"] == "BestOfN"
