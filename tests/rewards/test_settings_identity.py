"""Rewards are told apart by what they were made with, their base classes and their parts."""

import copy
import functools
import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch

from lidar_lightning.rewards import QED, CallableReward, Combined, Reward, RingCount
from lidar_lightning.utils.describe import describe


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
