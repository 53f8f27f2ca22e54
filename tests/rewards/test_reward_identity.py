"""Own rewards are told apart by what they do: their code, what they use, and what they were made with."""

import copy
import functools
import importlib
import json
import logging
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lidar_lightning.rewards import QED, CallableReward, Combined, Reward, RingCount
from lidar_lightning.runs.comparison import compare
from lidar_lightning.samplers import BestOfN
from lidar_lightning.utils.describe import describe
from tests.conftest import tiny
from tests.modules.test_lidar_module import module, predict

CARBONS = """
def score(samples, prompts):
    return [{sign}float(text.count("C")) for text in samples]
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Writes a module of that source and imports it, afresh."""
    monkeypatch.syspath_prepend(tmp_path / "modules")
    (tmp_path / "modules").mkdir()

    def load(name, source):
        (tmp_path / "modules" / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return load


def from_source(load, source, name="mine"):
    return CallableReward(load(name, source).score)


def test_the_same_function_is_the_same_reward(modules):
    source = CARBONS.format(sign="")
    first, again = from_source(modules, source), from_source(modules, source)
    assert first.identity == again.identity == CallableReward("mine:score").identity
    assert first.identity.startswith("1, mine:score ")


HELPER = """
def helper(text):
    return {body}

def score(samples, prompts):
    return [helper(text) for text in samples]
"""
CONSTANT = """
import math
SCALE = {value}

def score(samples, prompts):
    return [SCALE * len(text) for text in samples]
"""
CLOSURE = """
def make(k):
    def score(samples, prompts):
        return [k] * len(samples)
    return score

score = make({k})
"""
LAMBDA = "score = lambda samples, prompts: [{k} * len(s) for s in samples]\n"
PARTIAL = """
import functools

def scaled(samples, prompts, scale):
    return [scale] * len(samples)

score = functools.partial(scaled, scale={scale})
"""
CALLED = """
class Scorer:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, samples, prompts):
        return [{sign}self.scale] * len(samples)

score = Scorer({scale})
"""
WRAPPED = """
import functools

def scaled(scale):
    def wrap(function):
        @functools.wraps(function)
        def inner(samples, prompts):
            return [{sign}scale * value for value in function(samples, prompts)]
        return inner
    return wrap

@scaled({scale})
def score(samples, prompts):
    return [1.0] * len(samples)
"""
MODULE = """
import a_helper

def score(samples, prompts):
    return [a_helper.one(s) for s in samples]
"""
CACHED = """
import functools

@functools.lru_cache
def one(text):
    return {body}

def score(samples, prompts):
    return [one(s) for s in samples]
"""


@pytest.mark.parametrize(
    ("source", "first", "second"),
    [
        (CARBONS, {"sign": ""}, {"sign": "-"}),
        (HELPER, {"body": "len(text)"}, {"body": "-len(text)"}),
        (CONSTANT, {"value": 2}, {"value": 3}),
        (CONSTANT, {"value": "math.exp(2)"}, {"value": "math.exp(3)"}),
        (CLOSURE, {"k": 1.0}, {"k": 2.0}),
        (LAMBDA, {"k": 1.0}, {"k": 2.0}),
        (PARTIAL, {"scale": 1.0}, {"scale": 2.0}),
        (CALLED, {"scale": 1.0, "sign": ""}, {"scale": 2.0, "sign": ""}),
        (CALLED, {"scale": 1.0, "sign": ""}, {"scale": 1.0, "sign": "-"}),
        (WRAPPED, {"scale": 1.0, "sign": ""}, {"scale": 2.0, "sign": ""}),
        (WRAPPED, {"scale": 1.0, "sign": ""}, {"scale": 1.0, "sign": "-"}),
        (CACHED, {"body": "len(text)"}, {"body": "-len(text)"}),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value.split("(")[0].split()[-1],
)
def test_a_changed_function_is_another_reward(modules, source, first, second):
    one, same, other = (from_source(modules, source.format(**values)) for values in (first, first, second))
    assert one.identity == same.identity != other.identity
    assert one.name == other.name and one.version == other.version


def test_what_a_function_uses_of_another_own_module_counts(modules):
    made = []
    for body, other in (("len(text)", 1), ("len(text)", 2), ("-len(text)", 1)):
        modules("a_helper", f"OTHER = {other}\n\ndef one(text):\n    return {body}\n")
        made.append(from_source(modules, MODULE).identity)
    assert made[0] == made[1] != made[2]


def test_a_file_edited_after_its_import_does_not_count(modules, tmp_path):
    """What runs is the code that was imported."""
    reward = from_source(modules, CARBONS.format(sign=""))
    (tmp_path / "modules" / "mine.py").write_text(CARBONS.format(sign="-"))
    assert CallableReward(reward.function).identity == reward.identity


def test_what_a_function_does_not_use_does_not_count(modules):
    source = CARBONS.format(sign="")
    more = source + "\nOTHER = 3\n\ndef other():\n    return OTHER\n"
    assert from_source(modules, source).identity == from_source(modules, more).identity


def test_a_function_without_source_is_told_apart_by_its_code():
    made = []
    for sign in ("", "", "-"):
        scope = {"__name__": "typed"}
        exec(CARBONS.format(sign=sign), scope)
        made.append(CallableReward(scope["score"]).identity)
    assert made[0] == made[1] != made[2]


def test_functions_of_one_name_in_two_modules(modules):
    first, second = (from_source(modules, CARBONS.format(sign=""), name) for name in ("moda", "modb"))
    assert first.identity != second.identity


class Configured(Reward):
    """Keeps its settings as it likes."""

    name = "configured"

    def __init__(self, scale=1.0, words=(), network=None):
        self._scale, self.words, self._network, self._calls = scale, list(words), network, 0

    def __call__(self, samples, prompts):
        self._calls += 1
        return torch.full((len(samples),), float(self._scale))


def linear(seed):
    torch.manual_seed(seed)
    return torch.nn.Linear(2, 2)


@pytest.mark.parametrize(
    "changed",
    [
        {"scale": 2.0},
        {"words": ("a",)},
        {"network": linear(1)},
        {"network": np.ones(2)},
        {"scale": torch.ones(())},
        {"scale": functools.partial(max, 1)},
        {"words": pd.DataFrame({"a": [1]})},
    ],
)
def test_a_class_is_told_apart_by_what_it_was_made_with(changed):
    plain = {"scale": 1.0, "words": (), "network": linear(0)}
    first, again, other = Configured(**plain), Configured(**plain), Configured(**plain | changed)
    assert first.identity == again.identity != other.identity
    assert copy.deepcopy(other).identity == other.identity
    first(["C"], [""])
    assert first.identity == again.identity, "what it counts is private"
    again.words = ["later"]
    assert first.identity != again.identity


def test_own_subclass_of_a_shipped_reward(modules):
    source = "from lidar_lightning.rewards import RingCount\n\nclass Mine(RingCount):\n    def value(self, mol):\n"
    first, second = (modules("own_class", source + f"        return {k}\n").Mine() for k in (1, 2))
    assert first.identity != second.identity
    assert RingCount().identity == RingCount().version and QED(floor=-1).identity == QED(floor=-1).version


def test_a_base_class_counts(modules):
    source = """
from lidar_lightning.rewards import Reward

class Base(Reward):
    name = "based"

    def __call__(self, samples, prompts):
        return [{value}] * len(samples)

class Mine(Base):
    pass
"""
    first, second = (modules("own_base", source.format(value=value)).Mine() for value in (1, 2))
    assert first.identity != second.identity


def test_a_class_without_arguments_takes_none():
    class Plain(Configured):
        __init__ = object.__init__

    with pytest.raises(TypeError, match="takes no arguments"):
        Plain(3)


def test_what_cannot_be_told_apart_is_named(caplog):
    def make(stream):
        return lambda samples, prompts: [float(next(stream))] * len(samples)

    with caplog.at_level(logging.WARNING):
        CallableReward(make(iter(x for x in [1])))
    assert "a generator cannot be told apart from another" in caplog.text


def test_combined_knows_parts_weights_and_directions():
    def lengths(samples, prompts):
        return [float(len(s)) for s in samples]

    up, down = (CallableReward(lengths, higher_is_better=higher) for higher in (True, False))
    made = [
        Combined([up, QED()]),
        Combined([down, QED()]),
        Combined([up, QED()], "min"),
        Combined([up, QED()], weights=[1.0, 1.0]),
        Combined([up, QED()], weights=[1.0, 1.0 + 1e-9]),
        Combined([up, QED(floor=-1)]),
    ]
    assert len({reward.identity for reward in made}) == len({json.dumps(describe(reward)) for reward in made}) == 6
    assert made[3].name == made[4].name, "the name alone would not do"


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
