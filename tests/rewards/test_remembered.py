import pytest
import torch

from lidar_lightning.rewards import QED, CallableReward, Combined, LogP, RingCount, score
from lidar_lightning.rewards.remembered import Remembered, calls_of, remembered
from tests.conftest import carbons


class Asked:
    """Counts carbons, and keeps what it was asked."""

    def __init__(self):
        self.samples = []

    def __call__(self, samples, prompts):
        self.samples += list(samples)
        return carbons(samples, prompts)


def test_each_sample_is_asked_for_once_and_the_answers_are_the_rewards():
    asked = Asked()
    reward = Remembered(CallableReward(asked, name="carbons"))
    assert score(reward, ["CC", "C", "CC"], ["a", "a", "a"]).tolist() == [2, 1, 2]
    assert score(reward, ["C", "CCC", "CC"], ["a", "a", "b"]).tolist() == [1, 3, 2]
    assert (
        asked.samples == ["CC", "C", "CCC", "CC"] and reward.calls == 4 and list(reward.asked.values()) == [2, 1, 3, 2]
    )


def test_molecules_are_asked_by_canonical_smiles_and_other_strings_are_not_counted():
    reward = Remembered(RingCount(floor=-1.0))
    strings = ["C1CC1", "C1(C)CC1", "CC1CC1", "C1CC", "", "C1CC1"]
    assert torch.equal(score(reward, strings, ["m"] * 6), score(RingCount(floor=-1.0), strings, ["m"] * 6))
    assert reward.calls == 2 and score(reward, ["C1CC"], ["m"]).tolist() == [-1] and reward.calls == 2


def test_pictures_are_told_apart_by_their_pixels():
    reward = Remembered(CallableReward(lambda samples, prompts: samples.flatten(1).mean(1), name="mean"))
    pictures = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = score(reward, pictures[[0, 1, 0, 2]], ["p"] * 4)
    torch.testing.assert_close(found, pictures[[0, 1, 0, 2]].flatten(1).mean(1))
    assert reward.calls == 3


def test_a_file_remembers_in_order_and_exactly(tmp_path):
    path = tmp_path / "qed.csv"
    first = Remembered(QED(), path)
    values = score(first, ["CCO", "C1CC1", "=C"], ["m"] * 3)
    second = Remembered(QED(), path)
    assert (
        second.asked == first.asked and list(first.asked.values()) == values[:2].double().tolist() and second.calls == 2
    )
    second.reward = CallableReward(lambda samples, prompts: 1 / 0, name="qed")
    assert torch.equal(score(second, ["C1CC1", "OCC"], ["m"] * 2), values[[1, 0]])
    path.write_text("what,else\n1,2\n")
    with pytest.raises(ValueError, match="qed.csv is damaged: it needs the columns"):
        Remembered(QED(), path)


def test_it_stands_for_its_reward_and_for_all_parts_of_a_combination(tmp_path):
    plain = remembered(QED())
    assert (plain.name, plain.identity, plain.described()) == ("qed", QED().identity, QED().described())
    both = Combined([QED(), LogP()], "min")
    other = remembered(both, tmp_path)
    assert other.described() == both.described() and not isinstance(both.parts[0], Remembered)
    strings = ["CCO", "CC", "CCO"]
    assert torch.equal(score(other, strings, ["m"] * 3), score(both, strings, ["m"] * 3))
    assert calls_of(other) == 2 and {path.name for path in tmp_path.iterdir()} == {"qed.csv", "logp.csv"}
