"""What a reward may answer: numbers of any kind, one per sample, and nothing else."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lidar_lightning.rewards import CallableReward, Reward, score
from tests.rewards.test_reward_contract import PROMPTS, SAMPLES

# What it returns


@pytest.mark.parametrize(
    "answer",
    [
        [1, 2, 4],
        (1.0, 2.0, 4.0),
        np.array([1, 2, 4], dtype=np.uint8),
        np.array([4.0, 2.0, 1.0])[::-1],
        pd.Series([1, 2, 4]),
        pd.Series([1, 2, 4], dtype="Int64"),
        torch.tensor([1, 2, 4], dtype=torch.bfloat16),
        [torch.tensor(1.0), torch.tensor(2.0), torch.tensor([4.0])],
        [np.float64(1), np.int8(2), 4],
    ],
)
def test_numbers_of_any_kind_are_scores(answer):
    scores = score(CallableReward(lambda samples, prompts: answer), SAMPLES, PROMPTS)
    assert scores.tolist() == [1, 2, 4] and scores.dtype == torch.float32


def test_yes_and_no_are_one_and_zero():
    assert score(CallableReward(lambda s, p: [True, False, True]), SAMPLES, PROMPTS).tolist() == [1, 0, 1]


def test_gradients_pass_a_list_of_scores():
    pixels = torch.ones(2, 3, requires_grad=True)
    each = CallableReward(lambda samples, prompts: [sample.square().sum() for sample in samples], differentiable=True)
    score(each, pixels, ["", ""]).sum().backward()
    assert pixels.grad.tolist() == [[2.0] * 3] * 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.ones(3, dtype=torch.complex64), r"returned complex numbers \(Tensor\)"),
        ([1 + 2j, 1, 1], r"returned complex numbers \(list\)"),
        (np.ones(3) * 1j, r"returned complex numbers \(ndarray\)"),
        (pd.Series([1.0, 2.0, 3.0], index=[2, 1, 0]), r"Series whose index is not 0, 1, ..., 2 but \[2, 1, 0\]"),
        (pd.Series([1.0, 2.0, 3.0], index=SAMPLES), "Series whose index is not 0, 1, ..., 2 but .*'C'"),
        (pd.Series([1, None, 2], dtype="Int64"), "1 of 3 scores are NaN"),
        (np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]), "1 of 3 scores are NaN"),
        (pd.DataFrame({"a": [1.0, 2.0, 3.0]}), "returned DataFrame, which is not a sequence of numbers"),
        ({"a": 1, "b": 2, "c": 3}, "returned dict, which is not"),
        ({1.0, 2.0, 3.0}, "returned set, which is not"),
        (b"abc", "returned bytes, which is not"),
        (["1", "2", "3"], "returned list, which is not"),
        (np.array(["1", "2", "3"]), "returned ndarray, which is not"),
        ((float(i) for i in range(3)), "returned generator, which is not"),
        (None, "returned NoneType, which is not"),
        (np.ones((3, 1)), r"scores of shape \(3, 1\)"),
        ([[1.0], [2.0], [3.0]], r"scores of shape \(3, 1\)"),
        (np.array([1e300, 0, 0]), "1 of 3 scores are NaN or infinite"),
    ],
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_anything_else_is_refused(answer, message, wrapped):
    class Own(Reward):
        name = "odd"

        def __call__(self, samples, prompts):
            return answer

    reward = CallableReward(lambda samples, prompts: answer, name="odd") if wrapped else Own()
    with pytest.raises(ValueError, match=f"'odd'.*{message}"):
        score(reward, SAMPLES, PROMPTS)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, pd.Series, tuple])
def test_a_bank_takes_scores_of_any_kind(bank, kind):
    made = replace(bank, rewards={"carbons": kind([float(i) for i in range(40)])})
    assert torch.equal(made.rewards["carbons"], torch.arange(40.0))
    with pytest.raises(ValueError, match="'carbons' needs one finite score for each of 40"):
        replace(bank, rewards={"carbons": kind([0.0])})
    with pytest.raises(ValueError, match="'carbons' returned str, which is not"):
        replace(bank, rewards={"carbons": "many"})
