"""Own rewards are told apart by what they do: their code, what they use, and what they were made with."""

import pytest

from lidar_lightning.rewards import CallableReward

CARBONS = """
def score(samples, prompts):
    return [{sign}float(text.count("C")) for text in samples]
"""


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
