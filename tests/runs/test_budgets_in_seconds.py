"""Budgets in seconds, by a clock that network calls and rewards wind on."""

import json

import pytest
import torch

from lidar_lightning.rewards import CallableReward
from lidar_lightning.runs.budgets import read_rates
from lidar_lightning.runs.comparison import Comparison
from lidar_lightning.samplers import BestOfN
from tests.conftest import tiny

NETWORK, REWARD = 0.01, 0.05


class Clock:
    """Seconds that pass by what is done."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("lidar_lightning.samplers.meter.time", clock)
    return clock


def comparison(clock, out, **settings):
    model = tiny()
    predict = model.predict

    def timed(x_t, t, condition):
        clock.now += NETWORK * len(x_t)
        return predict(x_t, t, condition)

    def slow(samples, prompts):
        clock.now += REWARD * len(samples)
        return torch.tensor([float(len(text)) for text in samples])

    model.predict = timed
    reward = CallableReward(slow, name="slow", modality="molecule", version="1")
    given = {
        "samplers": {"full": BestOfN(), "drafts": BestOfN(steps=2)},
        "samples": 4, "steps": 8, "budgets": [2], "budget_unit": "seconds",
    }  # fmt: skip
    return Comparison(model, reward, prompts="molecule", out=str(out), **given | settings)


def test_a_method_makes_as_many_calls_as_its_rewards_leave_time_for(clock, tmp_path):
    """A call takes 0.01 s and a reward 0.05 s: of full passes one in 8 calls is scored, of drafts every other."""
    found = comparison(clock, tmp_path)
    rates = json.loads((tmp_path / "seconds.json").read_text())
    assert rates["full"] == pytest.approx(NETWORK + REWARD / 8)
    assert rates["drafts"] == pytest.approx(NETWORK + REWARD / 2)
    for name, rate in rates.items():
        assert 0.9 * 2 / rate < found.calls[name, 2] <= 2 / rate
    begin = clock.now
    for cell in found.cells[1:]:
        part = found.draw(cell, "molecule")
        assert 0.85 * 2 * 4 <= part.spent["seconds"] <= 2 * 4 * 1.01
    assert clock.now > begin


def test_rates_are_measured_once(clock, tmp_path):
    comparison(clock, tmp_path)
    before = clock.now
    comparison(clock, tmp_path)
    assert clock.now == before


def test_a_budget_that_pays_for_too_little_is_named(clock, tmp_path):
    with pytest.raises(ValueError, match=r"0.05 seconds a sample pay for 3 network calls of full: best-of-N needs"):
        comparison(clock, tmp_path, budgets=[0.05])


def test_damaged_rates_are_named(tmp_path):
    path = tmp_path / "seconds.json"
    for text in ("[", "[1]", '{"full": -1}', '{"full": "x"}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="seconds.json is damaged"):
            read_rates(path)


def test_calls_are_whole_numbers_and_units_known(clock, tmp_path):
    with pytest.raises(ValueError, match="whole numbers of network calls, got 16.5"):
        comparison(clock, tmp_path, budgets=[16.5], budget_unit="calls")
    with pytest.raises(ValueError, match="budget_unit is calls or seconds, got 'hours'"):
        comparison(clock, tmp_path, budget_unit="hours")
