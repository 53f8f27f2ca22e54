"""`lidar predict` with a planned sampler: its choice for all samples of a prompt, what it costs, and stored plans."""

import json

import pytest

from lidar_lightning import Lookahead
from lidar_lightning.samplers import BestOfN, LiDAR, Planned, Task
from lidar_lightning.samplers.pilot import Pilot
from tests.modules.test_sampling_module import predict, sampling, strings


def planned(folder=None, **settings):
    choices = {"lidar": LiDAR(Lookahead(3), restart=0.4, **settings), "best": BestOfN(keep="draw")}
    return Planned(choices, ["pilot"], calls=12, repetitions=2, references=64, folder=folder)


def test_a_plan_draws_all_samples_of_a_prompt_by_its_choice(carbon_reward, tmp_path):
    module = sampling(carbon_reward, planned(), temperature=1.0, out=str(tmp_path / "run"))
    parts = predict(module, 6, 6, ["a", "b"])
    task = Task(module.backbone, module.solver, carbon_reward, "a", 1.0, seed=0)
    plan, chosen = planned().chosen(task, 6)
    alone = chosen(task, 6)
    assert list(parts[0].decoded) == module.backbone.decode(alone) and plan.choice == "lidar"
    # Its bank is its own part of a prompt's cost, not one that `bank` gives beforehand.
    assert parts[0].nfe == task.meter.network / 6 and 0.95 * 12 <= parts[0].nfe <= 12
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())["methods"]["samples"]
    assert summary["calls"] == parts[0].nfe
    with pytest.raises(ValueError, match="Planned draws the 6 samples of a prompt together"):
        predict(module, 6, 3)


def test_a_stored_plan_serves_another_run(carbon_reward, tmp_path, monkeypatch):
    first = strings(predict(sampling(carbon_reward, planned(str(tmp_path)), temperature=1.0), 4, 4))
    monkeypatch.setattr(Pilot, "__call__", lambda *_: pytest.fail("planned again"))
    assert strings(predict(sampling(carbon_reward, planned(str(tmp_path)), temperature=1.0), 4, 4)) == first
    assert len(strings(predict(sampling(carbon_reward, planned(str(tmp_path)), temperature=1.0), 4, 4, "new"))) == 4
