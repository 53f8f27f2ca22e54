"""Rewards: known molecules, declared traits, error messages, and combinations against plain numpy and loops."""

import logging
import math

import pytest
import torch
from rdkit import Chem

from lidar_lightning.rewards import (
    QED,
    CallableReward,
    ElementCount,
    HeavyAtoms,
    LogP,
    Reward,
    RingCount,
    SyntheticAccessibility,
    Validity,
    load_reward,
    score,
    utility,
)
from lidar_lightning.rewards.molecules import parse

BENZENE, CUBANE, SPIROPENTANE, ALANINE = "c1ccccc1", "C12C3C4C1C5C2C3C45", "C1CC12CC2", "CC(N)C(=O)O"
INVALID = ["", "C1CC", "C(C)(C)(C)(C)C", "<mask>C"]


class Wrong(Reward):
    """Returns whatever it is told to."""

    name = "wrong"

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, samples, prompts):
        return self.answer


@pytest.mark.parametrize(
    ("reward", "smiles", "expected"),
    [
        (RingCount(), BENZENE, 1),
        (RingCount(), CUBANE, 6),  # all faces: symmetrised, where the plain smallest set has 12 - 8 + 1 = 5
        (RingCount(), SPIROPENTANE, 2),
        (RingCount(), "CCO", 0),
        (HeavyAtoms(), ALANINE, 6),
        (HeavyAtoms(), CUBANE, 8),
        (ElementCount("N"), ALANINE, 1),
        (ElementCount("O"), ALANINE, 2),
        (ElementCount("C"), BENZENE, 6),
        (ElementCount("H"), ALANINE, 7),
        (Validity(), "C", 1),
    ],
)
def test_counts_of_known_molecules(reward, smiles, expected):
    assert score(reward, [smiles], [""]).tolist() == [expected]


def test_order_of_known_molecules():
    """Facts of chemistry, not of RDKit: hexane is oilier than glycerol, aspirin more drug-like than methane, and
    cubane harder to make than ethanol."""
    oily, watery = score(LogP(), ["CCCCCC", "OCC(O)CO"], ["", ""]).tolist()
    assert oily > 2 and watery < -1
    aspirin, methane = score(QED(), ["CC(=O)Oc1ccccc1C(=O)O", "C"], ["", ""]).tolist()
    assert 0 < methane < aspirin < 1
    cubane, ethanol = score(SyntheticAccessibility(), [CUBANE, "CCO"], ["", ""]).tolist()
    assert 1 <= ethanol < cubane <= 10


@pytest.mark.parametrize(
    ("reward", "name", "higher", "floor"),
    [
        (RingCount(), "ring_count", True, 0),
        (QED(), "qed", True, 0),
        (LogP(), "logp", True, -5),
        (SyntheticAccessibility(), "sa", False, 10),
        (HeavyAtoms(), "heavy_atoms", True, 0),
        (ElementCount("N"), "count_N", True, 0),
        (Validity(), "validity", True, 0),
    ],
)
def test_traits_and_floor(reward, name, higher, floor):
    assert (reward.name, reward.higher_is_better, reward.modality) == (name, higher, "molecule")
    scores = score(reward, [*INVALID, BENZENE], [""] * 5)
    assert scores.dtype == torch.float32 and not scores.requires_grad and not reward.differentiable
    assert scores[:4].tolist() == [floor] * 4
    assert utility(reward, scores)[4] >= utility(reward, scores).max(), "no invalid string may be preferred to benzene"
    assert type(reward)(floor=-7).version != reward.version, "stored scores depend on the floor"
    assert score(type(reward)(floor=-7), [""], [""]).tolist() == [-7]


def test_invalid_molecules_are_logged_with_their_number(caplog):
    with caplog.at_level(logging.DEBUG, logger="lidar_lightning"):
        score(RingCount(), [*INVALID, BENZENE], [""] * 5)
    assert "reward ring_count: 4 of 5 molecules are invalid, scored floor=0.0" in caplog.messages


def test_parse_is_quiet_and_leaves_rdkits_log_on(capfd):
    assert all(parse(text) is None for text in INVALID) and parse("C").GetNumAtoms() == 1
    assert capfd.readouterr().err == ""
    Chem.MolFromSmiles("C1CC")
    assert "C1CC" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.zeros(3), "reward 'wrong' returned 3 scores for 8 samples"),
        (torch.zeros(8, 1), r"'wrong' returned scores of shape \(8, 1\) for 8 samples"),
        (1.0, r"'wrong' returned scores of shape \(\) for 8 samples"),
        ([1.0] * 7 + [None], "'wrong' returned list, which is not a sequence of numbers"),
        ("a string", "'wrong' returned str, which is not a sequence of numbers"),
        (
            [0, 0, 0, math.nan, 0, 0, math.inf, 0],
            "'wrong': 2 of 8 scores are NaN or infinite, the first for sample 3: 'CCO'; give .* a floor",
        ),
    ],
)
def test_score_refuses_wrong_answers(answer, message):
    with pytest.raises(ValueError, match=message):
        score(Wrong(answer), ["C", "C", "C", "CCO", "C", "C", "C", "C"], [""] * 8)


def test_score_shows_no_pixels():
    with pytest.raises(ValueError, match="for sample 1; give"):
        score(Wrong([0.0, math.nan]), torch.zeros(2, 3, 4, 4), ["a", "b"])


@pytest.mark.parametrize("samples", ["CCO", torch.zeros(2, 3), [1, 2]])
def test_molecule_rewards_refuse_other_samples(samples):
    with pytest.raises(ValueError, match="'qed' scores molecules.* got (str|Tensor|list)"):
        QED()(samples, ["", ""])


@pytest.mark.parametrize("floor", [math.nan, math.inf])
def test_floor_must_be_finite(floor):
    with pytest.raises(ValueError, match=f"must be finite, got {floor}"):
        QED(floor=floor)


def test_unknown_element():
    with pytest.raises(ValueError, match="no chemical element 'Xx'"):
        ElementCount("Xx")


def lengths(samples, prompts):
    return [len(text) + len(prompt) for text, prompt in zip(samples, prompts, strict=True)]


@pytest.mark.parametrize("path", [f"{__name__}:lengths", f"{__name__}.lengths", lengths])
def test_callable_reward(path):
    reward = CallableReward(path, higher_is_better=False, version="7", modality="molecule")
    traits = (reward.name, reward.version, reward.higher_is_better, reward.modality, reward.differentiable)
    assert traits == ("lengths", "7", False, "molecule", False)
    scores = score(reward, ["C", "CCO"], ["", "ab"])
    assert scores.tolist() == [1, 5] and scores.dtype == torch.float32
    assert utility(reward, scores).tolist() == [-1, -5]
    assert CallableReward(path, name="mine").name == "mine"


def test_callable_reward_keeps_the_graph_it_declares():
    pixels = torch.ones(2, 3, requires_grad=True)
    reward = CallableReward(lambda samples, prompts: samples.square().sum(1), differentiable=True, modality="image")
    score(reward, pixels, ["", ""]).sum().backward()
    assert reward.differentiable and pixels.grad.tolist() == [[2.0] * 3] * 2


@pytest.mark.parametrize("path", ["no_such_module:f", "math:no_such_function", "math.no_such_function", "plain", ":f"])
def test_unknown_import_path_is_named(path):
    with pytest.raises(ValueError, match=f"'{path}'"):
        CallableReward(path)


def test_import_path_of_something_else():
    with pytest.raises(ValueError, match="'math:pi' is a float, not a callable"):
        CallableReward("math:pi")


def test_load_reward():
    qed = QED()
    assert load_reward(qed) is qed
    assert isinstance(load_reward("lidar_lightning.rewards:RingCount"), RingCount)
    assert isinstance(load_reward(RingCount), RingCount)
    assert load_reward(f"{__name__}:lengths").name == load_reward(lengths).name == "lengths"
